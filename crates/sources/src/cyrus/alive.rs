//! Who is still there: processes, and clients' connections, as the kernel shows them.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The connections of this machine that both ends hold: our port, and the other end.
#[derive(Debug, Default)]
pub(super) struct Connections(HashSet<(u16, SocketAddr)>);

impl Connections {
    /// Those there are now.
    pub(super) fn now() -> Self {
        let mut found = Self::default();
        for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
            // Where the kernel doesn't show them, nothing is known to be gone.
            found.read(&std::fs::read_to_string(path).unwrap_or_default());
        }
        found
    }

    /// Whether the client of a session is still connected.
    pub(super) fn has(&self, port: u16, client: SocketAddr) -> bool {
        self.0.contains(&(port, SocketAddr::new(client.ip().to_canonical(), client.port())))
    }

    fn read(&mut self, table: &str) {
        for line in table.lines().skip(1) {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (local, remote) = (words.next(), words.next());
            // ESTABLISHED, or closed by the client alone.
            let is_held = matches!(words.next(), Some("01" | "08"));
            let ends = local.and_then(address).zip(remote.and_then(address));
            if let Some((local, remote)) = ends.filter(|_| is_held) {
                self.0.insert((local.port(), remote));
            }
        }
    }
}

/// Addresses and ports at which a client's connection was ever seen: who can't be seen there isn't
/// there, be the session ever so short. At others a proxy may have said who the client is, and the
/// same port of another host is another.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeSet<(String, u16)>);

impl Listeners {
    /// Notes where a connection is seen, while there is room.
    pub(super) fn note(&mut self, server: Option<(&str, u16)>) {
        let Some((host, port)) = server else { return };
        if self.0.len() < LISTENERS_MAX {
            self.0.insert((host.to_owned(), port));
        }
    }

    /// Whether a connection was ever seen there.
    pub(super) fn has(&self, server: Option<(&str, u16)>) -> bool {
        server.is_some_and(|(host, port)| self.0.contains(&(host.to_owned(), port)))
    }
}

/// Far more than a machine listens at. At one more, nobody is called gone whose connection was
/// never seen.
const LISTENERS_MAX: usize = 1_000;

/// An address as the kernel writes it: words of 32 bits in the machine's order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let octets = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether a process of that number is there.
pub(super) fn is_process(pid: u32) -> bool {
    std::fs::metadata(format!("/proc/{pid}")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_of_another_host_is_not_the_one_at_the_same_port_here() {
        let mut listeners = Listeners::default();
        listeners.note(Some(("127.0.0.1", 143)));
        assert!(listeners.has(Some(("127.0.0.1", 143))));
        for other in [Some(("192.0.2.1", 143)), Some(("127.0.0.1", 993)), None] {
            assert!(!listeners.has(other), "{other:?}");
        }
    }

    #[test]
    fn a_connection_is_there_until_it_is_closed() {
        for bound in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (ours, theirs) = listener.accept().unwrap();
            assert!(Connections::now().has(port, theirs), "{bound}");
            drop((client, ours));
            assert!(!Connections::now().has(port, theirs), "{bound}");
        }
        assert!(is_process(std::process::id()) && !is_process(u32::MAX));
    }
}
