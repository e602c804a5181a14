//! Whom a request is from where it came through a proxy: whom the proxy says, if the operator named it.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use crate::access::Client;
use crate::config::parse_network;

/// The proxies whose word is taken for whom a request is from.
#[derive(Debug, Default)]
pub(super) struct Proxies(Box<[IpNet]>);

impl Proxies {
    /// Those of the configuration, where each was checked.
    pub(super) fn new(named: &[String]) -> Self {
        Self(named.iter().filter_map(|text| parse_network(text)).collect())
    }

    /// Whom a request is from that came over a connection of `peer`'s.
    ///
    /// Each proxy adds at the end of `X-Forwarded-For` who asked it. So the last address there that
    /// is no such proxy is whom it is from; what stands before that anybody may have made up. Where all
    /// are proxies it is the first. With anything before that address which is none, it is the peer.
    ///
    /// A proxy on this machine that is none of these is known by what it adds: only this machine's own
    /// programs could make it up, to their own loss.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        if !self.0.is_empty() && self.trusts(peer) {
            return Client::At(self.asked_by(peer, headers));
        }
        let is_here = peer.to_canonical().is_loopback();
        match is_here && PROXIES_ADD.iter().any(|name| headers.contains_key(name)) {
            true => Client::Behind(peer),
            false => Client::At(peer),
        }
    }

    /// Whom a proxy that was named says it asks for.
    fn asked_by(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        for line in headers.get_all(FORWARDED_FOR).iter().rev() {
            let Ok(line) = line.to_str() else { return peer };
            for hop in line.rsplit(',') {
                let Some(hop) = address(hop.trim()) else { return peer };
                client = hop;
                if !self.trusts(hop) {
                    return client;
                }
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, as proxies write it: alone, or with the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse::<IpAddr>().ok();
    alone.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).map(|found| found.to_canonical())
}

/// `Forwarded` (RFC 7239) isn't read: a proxy that writes the one passes the other on as its client
/// wrote it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What proxies add to what they hand on, and nobody else does (RFC 7239; RFC 9110, section 7.6.3).
const PROXIES_ADD: [HeaderName; 4] =
    [FORWARDED_FOR, header::FORWARDED, header::VIA, HeaderName::from_static("x-real-ip")];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let named: Vec<_> = trusted.iter().map(|&text| text.to_owned()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        Proxies::new(&named).client(peer.parse().unwrap(), &headers).address().to_string()
    }

    const TRUSTED: &[&str] = &["127.0.0.1", "10.0.0.0/8", "2001:db8::/64"];

    #[test]
    fn r165_the_last_address_that_is_no_proxy_is_whom_a_request_is_from() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["192.0.2.7, 10.1.2.3"], "192.0.2.7"),
            (&["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
            (&["192.0.2.7, 2001:db8::5, 10.1.2.3"], "192.0.2.7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["[2001:db8:1::7]:4711"], "2001:db8:1::7"),
            (&["[2001:db8:1::7]"], "2001:db8:1::7"),
            (&["2001:db8:1::7"], "2001:db8:1::7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            // All of them proxies: a program beside them asks.
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&[], "127.0.0.1"),
        ] {
            assert_eq!(client(TRUSTED, "127.0.0.1", lines), expected, "{lines:?}");
        }
        assert_eq!(client(TRUSTED, "::ffff:127.0.0.1", &["192.0.2.7"]), "192.0.2.7");
    }

    #[test]
    fn r165_what_a_client_makes_up_counts_for_nothing() {
        for lines in [
            // It wrote what stands before its own address.
            &["198.51.100.1, 192.0.2.7"][..],
            &["198.51.100.1", "192.0.2.7"],
            &["127.0.0.1, 192.0.2.7"],
            &["10.0.0.1, 192.0.2.7, 10.0.0.2"],
            &["nonsense, 192.0.2.7"],
            &[", 192.0.2.7"],
        ] {
            assert_eq!(client(TRUSTED, "127.0.0.1", lines), "192.0.2.7", "{lines:?}");
        }
        // It is no proxy that was named, or none was.
        assert_eq!(client(TRUSTED, "192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(client(&[], "127.0.0.1", &["198.51.100.1"]), "127.0.0.1");
    }

    #[test]
    fn r165_where_a_proxy_writes_no_address_it_is_the_proxy() {
        for line in ["", "unknown", "192.0.2.7,", "_hidden", "192.0.2.7 10.0.0.1", "1.2.3"] {
            assert_eq!(client(TRUSTED, "127.0.0.1", &[line]), "127.0.0.1", "{line:?}");
        }
        assert_eq!(client(TRUSTED, "127.0.0.1", &["192.0.2.7, x, 10.0.0.1"]), "127.0.0.1");
    }

    #[test]
    fn r165_a_proxy_here_that_was_not_named_is_known_by_what_it_adds() {
        let client = |trusted: &[&str], peer: &str, header: Option<&'static str>| {
            let named: Vec<_> = trusted.iter().map(|&text| text.to_owned()).collect();
            let lines = header.map(|name| (HeaderName::from_static(name), "x".parse().unwrap()));
            Proxies::new(&named).client(peer.parse().unwrap(), &lines.into_iter().collect())
        };
        let adds = ["x-forwarded-for", "forwarded", "via", "x-real-ip"];
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let at = peer.parse().unwrap();
            for name in adds {
                assert_eq!(client(&[], peer, Some(name)), Client::Behind(at), "{peer} {name}");
                let other = client(&["192.0.2.1"], peer, Some(name));
                assert_eq!(other, Client::Behind(at), "{peer} {name}");
            }
            for name in [None, Some("x-request-id")] {
                assert_eq!(client(&[], peer, name), Client::At(at), "{peer} {name:?}");
            }
        }
        let [named, elsewhere] = ["127.0.0.1", "192.0.2.7"].map(|text| text.parse().unwrap());
        for name in adds {
            assert_eq!(client(TRUSTED, "127.0.0.1", Some(name)), Client::At(named), "{name}");
            // Whoever comes from elsewhere is held to their address, whatever they write.
            assert_eq!(client(&[], "192.0.2.7", Some(name)), Client::At(elsewhere), "{name}");
        }
    }

    proptest! {
        #[test]
        fn r165_whatever_stands_before_it_the_address_a_proxy_added_holds(made_up in "[ -~]{0,60}") {
            let line = format!("{made_up},192.0.2.7");
            prop_assert_eq!(client(TRUSTED, "127.0.0.1", &[&line]), "192.0.2.7");
        }
    }
}
