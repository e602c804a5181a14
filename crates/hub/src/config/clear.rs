//! What would cross a network in clear: tokens, passwords, and links that open by themselves.

use std::net::{IpAddr, SocketAddr};

use super::Config;

/// What of a configuration would have a secret cross a network in clear, each by its key and with the
/// reason.
pub(crate) fn in_clear(config: &Config) -> Vec<(&'static str, String)> {
    let elsewhere = |address: &SocketAddr| !address.ip().is_loopback();
    let mut found = Vec::new();
    if elsewhere(&config.listen) && !config.tls.is_on() {
        let address = config.listen;
        found.push(("listen", format!("\"{address}\" is not a loopback address; without TLS the token would cross the network in clear (set tls.certificate and tls.key, or try \"127.0.0.1:5423\" behind a TLS proxy)")));
    }
    if let Some(address) = config.tls.local_listen.filter(elsewhere) {
        found.push(("tls.local_listen", format!("\"{address}\" is not a loopback address, and without TLS the token would cross the network in clear (try \"127.0.0.1:5424\")")));
    }
    if let Some(address) = config.login.imap.filter(elsewhere)
        && config.login.host.is_empty()
    {
        found.push(("login.host", format!("missing, as \"{address}\" is not this machine, and passwords would cross the network in clear (try \"mail.example.org\")")));
    }
    let url = &config.http.public_url;
    if url.strip_prefix("http://").is_some_and(|rest| !is_here(rest)) {
        found.push(("http.public_url", format!("{url:?} is not this machine's, and a link, which opens by itself, would cross the network in clear, and so would the content (try \"https://postbell.example.org\")")));
    }
    found
}

/// Whether what follows a URL's scheme begins with a host that is this machine whoever asks.
fn is_here(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next(),
        // What stands before a colon may be a user, and the host behind it.
        None => authority.split(':').next().filter(|_| !authority.contains('@')),
    };
    let host = host.unwrap_or_default();
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r163_nothing_that_opens_something_crosses_a_network_in_clear() {
        let keys = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            in_clear(&config).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert!(keys(|_| {}).is_empty());
        let all = keys(|config| {
            config.listen = "0.0.0.0:1".parse().unwrap();
            config.tls.local_listen = "[::]:1".parse().ok();
            config.login.imap = "192.0.2.1:143".parse().ok();
            config.http.public_url = "http://hub.example.org".to_owned();
        });
        assert_eq!(all, ["listen", "tls.local_listen", "login.host", "http.public_url"]);
        let protected = keys(|config| {
            config.listen = "0.0.0.0:1".parse().unwrap();
            config.tls.certificate = "/a".into();
            config.tls.local_listen = "[::1]:1".parse().ok();
            config.login.imap = "192.0.2.1:993".parse().ok();
            config.login.host = "mail.example.org".to_owned();
            config.http.public_url = "https://hub.example.org".to_owned();
        });
        assert!(protected.is_empty(), "{protected:?}");
    }

    #[test]
    fn r163_a_plain_url_is_this_machines_whoever_asks() {
        for (rest, here) in [
            ("localhost", true),
            ("LocalHost:5423/hub", true),
            ("127.0.0.1", true),
            ("127.8.9.1:80/", true),
            ("[::1]:80", true),
            ("", false),
            ("[::2]", false),
            ("10.0.0.1", false),
            ("localhost.example.org", false),
            ("localhost@evil.example", false),
            ("localhost:80@evil.example/", false),
            ("evil.example/localhost", false),
            ("evil.example#@localhost", false),
        ] {
            assert_eq!(is_here(rest), here, "{rest}");
        }
    }
}
