//! Who is still there: processes, and clients' connections, as the kernel shows them.

use std::collections::HashSet;
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
