//! Where servers of a test listen, and where nobody does.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

use crate::Error;

/// Addresses on loopback that nobody holds just now, each another.
///
/// They are none that the system gives to whoever asks for any, or connects: a server that is
/// stopped and started again would else find that somebody has its port meanwhile.
pub(crate) fn free<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Error> {
    // All held at once, or two might be one.
    let mut held = Vec::with_capacity(COUNT);
    let mut found = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    let dice = RandomState::new();
    let mut ports = (0..ATTEMPTS).map(|attempt| {
        let above = dice.hash_one(attempt) % u64::from(LAST - FIRST + 1);
        FIRST + u16::try_from(above).unwrap_or(0)
    });
    for address in &mut found {
        let listener = ports
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AddrInUse))
            .map_err(Error::io("find a free port"))?;
        *address = listener.local_addr().map_err(Error::io("find a free port"))?;
        held.push(listener);
    }
    Ok(found)
}

/// An address on loopback that nobody holds just now, and that is given to nobody who asks for any.
///
/// # Errors
/// [`Error::Io`] where there is none.
pub fn free_address() -> Result<SocketAddr, Error> {
    free().map(|[address]| address)
}

/// An address on loopback at which nobody answers, nor anybody can come to as long as this is kept.
#[derive(Debug)]
pub struct Nobody {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Nobody {
    /// Holds a port, and doesn't listen.
    ///
    /// # Errors
    /// [`Error::Io`] where none is to be had.
    pub fn listens() -> Result<Self, Error> {
        let doing = |error: rustix::io::Errno| Error::io("hold a port")(error.into());
        let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(doing)?;
        bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(doing)?;
        let address = getsockname(&held).and_then(SocketAddr::try_from).map_err(doing)?;
        Ok(Self { address, _held: held })
    }

    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The first port that is taken. Below are those that services are known by.
const FIRST: u16 = 10_000;
/// The last: Linux gives out those from 32,768 on.
const LAST: u16 = 32_000;
/// Ports tried; hardly any is held by anybody.
const ATTEMPTS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn free_ports_are_none_that_are_given_to_whoever_connects() {
        let found = free::<20>().unwrap();
        assert!(found.iter().all(|address| (FIRST..=LAST).contains(&address.port())), "{found:?}");
        let others: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!(others.len(), found.len(), "each another");
    }

    #[test]
    fn where_nobody_listens_nobody_else_can() {
        let nobody = Nobody::listens().unwrap();
        let refused = TcpStream::connect(nobody.address()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(TcpListener::bind(nobody.address()).is_err());
    }
}
