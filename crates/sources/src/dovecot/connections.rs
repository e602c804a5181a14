//! Which TCP connections this machine has.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The open ones, by this machine's address and the other's.
#[derive(Debug, Default)]
pub(super) struct Connections(HashSet<(SocketAddr, SocketAddr)>);

impl Connections {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Where it doesn't say.
    pub(super) fn now() -> Result<Self, procfs::ProcError> {
        let mut entries = procfs::net::tcp()?;
        // A kernel without IPv6 has none of these.
        entries.extend(procfs::net::tcp6().unwrap_or_default());
        let open =
            entries.into_iter().filter(|one| one.state == procfs::net::TcpState::Established);
        Ok(Self(open.map(|one| (plain(one.local_address), plain(one.remote_address))).collect()))
    }

    /// Whether `server` is connected to `client`.
    pub(super) fn has(&self, server: SocketAddr, client: SocketAddr) -> bool {
        self.0.contains(&(plain(server), plain(client)))
    }
}

/// Without IPv6's clothes around an IPv4 address.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_there_until_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (here, there) = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            assert!(Connections::now().unwrap().has(here, there), "{address}");
            let nobody = SocketAddr::new(there.ip(), 9);
            assert!(!Connections::now().unwrap().has(here, nobody));
            drop(client);
            assert!(!Connections::now().unwrap().has(here, there), "{address}");
        }
    }
}
