//! Where servers of a test listen.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::Error;

/// Addresses on loopback that nobody holds just now, each another.
pub(crate) fn free<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Error> {
    let doing = || Error::io("find a free port");
    // All held at once, or two might be one.
    let mut held = Vec::with_capacity(COUNT);
    let mut found = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for address in &mut found {
        let listener = TcpListener::bind(*address).map_err(doing())?;
        *address = listener.local_addr().map_err(doing())?;
        held.push(listener);
    }
    Ok(found)
}
