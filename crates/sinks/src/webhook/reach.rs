//! Where a webhook may lead: the guard against requests into the operator's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a webhook's URL may lead.
///
/// Whoever may make subscriptions can make the hub send requests. Without this they could reach
/// what only the hub's network can: a cloud's metadata service, a printer, a database.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reach {
    /// Only addresses of the public Internet.
    #[default]
    Public,
    /// Those, and this machine.
    Loopback,
    /// No restriction.
    Anywhere,
}

impl Reach {
    /// The word for it in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Anywhere => "anywhere",
        }
    }

    /// Whether a connection to `address` is allowed.
    ///
    /// ```
    /// use postbell_sinks::webhook::Reach;
    ///
    /// assert!(Reach::Public.allows("1.1.1.1".parse()?));
    /// assert!(!Reach::Public.allows("169.254.169.254".parse()?));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Public => is_public(address),
            Self::Loopback => address.is_loopback() || is_public(address),
            Self::Anywhere => true,
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Per the IANA IPv4 special-purpose registry (RFC 6890), and neither multicast nor reserved.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, private use, loopback.
        [0 | 10 | 127, ..] => true,
        // Shared by carriers (RFC 6598).
        [100, 64..=127, ..] => true,
        // Link-local; there live the metadata services of clouds.
        [169, 254, ..] => true,
        [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocol assignments, documentation, the old 6to4 relays.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Benchmarking.
        [198, 18 | 19, ..] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

/// Global unicast alone (2000::/3), less what of it is special; and what NAT64 leads to.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            let [.., a, b, c, d] = address.octets();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments, Teredo among them.
        [0x2001, 0..=0x1ff, ..] => false,
        // Documentation; 6to4, which hides an IPv4 address.
        [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [&str; 6] = [
        "1.1.1.1",
        "100.63.255.255",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ];

    const SPECIAL: [&str; 36] = [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:a00:1::",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
    ];

    const HERE: [&str; 4] = ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"];

    #[test]
    fn r165_only_public_addresses_are_in_reach_unless_the_operator_says_so() {
        let check = |reach: Reach, texts: &[&str], allowed: bool| {
            for text in texts {
                assert_eq!(reach.allows(text.parse().unwrap()), allowed, "{text} {reach:?}");
            }
        };
        for reach in [Reach::Public, Reach::Loopback, Reach::Anywhere] {
            check(reach, &PUBLIC, true);
            check(reach, &SPECIAL, reach == Reach::Anywhere);
            check(reach, &HERE, reach != Reach::Public);
        }
    }
}
