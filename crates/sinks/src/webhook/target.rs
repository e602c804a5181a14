//! A webhook's URL, checked.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

use super::Reach;

/// A URL that deliveries may be sent to.
///
/// What its name leads to is checked anew at each connection; what can be told from the URL
/// alone is checked here.
#[derive(Clone, Eq, PartialEq)]
pub struct Target {
    uri: Uri,
    reach: Reach,
}

impl Target {
    /// Checks a URL.
    ///
    /// # Errors
    ///
    /// Where it is not one, isn't `https` (or `http` on this machine), holds a user or a
    /// password, names a host or a port that can't be, or leads where `reach` does not.
    ///
    /// ```
    /// use postbell_sinks::webhook::{Reach, Target};
    ///
    /// assert!(Target::parse("https://example.org/hook", Reach::Public).is_ok());
    /// let error = Target::parse("https://10.0.0.1/", Reach::Public).unwrap_err();
    /// assert!(error.to_string().contains("webhooks.reach"));
    /// ```
    pub fn parse(url: &str, reach: Reach) -> Result<Self, InvalidTarget> {
        if url.len() > URL_OCTETS_MAX {
            return Err(InvalidTarget::TooLong);
        }
        if url.contains('#') {
            return Err(InvalidTarget::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| InvalidTarget::NotAUrl)?;
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            Some(other) => return Err(InvalidTarget::Scheme(other.to_owned())),
            None => return Err(InvalidTarget::NotAUrl),
        };
        let authority = uri.authority().ok_or(InvalidTarget::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(InvalidTarget::Userinfo);
        }
        if authority.host().is_empty() || authority.as_str().ends_with(':') {
            return Err(InvalidTarget::NotAUrl);
        }
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host).unwrap_or_default();
        if let Some(port) = port.strip_prefix(':').filter(|port| !is_port(port)) {
            return Err(InvalidTarget::Port(port.to_owned()));
        }
        let place = Place::of(host);
        if matches!(place, Place::Name | Place::ThisMachine) && !is_name(host) {
            return Err(InvalidTarget::Host(host.to_owned()));
        }
        let target = Self { uri, reach };
        let fine = match place {
            Place::Address(address) => reach.allows(address),
            Place::ThisMachine => reach != Reach::Public,
            Place::Name => true,
        };
        if !fine {
            let host = target.uri.host().unwrap_or_default().to_owned();
            return Err(InvalidTarget::OutOfReach { host, reach });
        }
        if plain && !place.is_here() && reach != Reach::Anywhere {
            return Err(InvalidTarget::Plain);
        }
        Ok(target)
    }

    /// The URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it says of itself that it leads to this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.uri.host().is_some_and(|host| Place::of(host).is_here())
    }

    /// Takes a URL without checking it, as if its name had been an innocent one.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, url: &str, reach: Reach) {
        self.uri = url.parse().unwrap();
        self.reach = reach;
    }

    /// Whether a connection may be made to an address that the host's name led to.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let plain = self.uri.scheme_str() == Some("http");
        let here = address.to_canonical().is_loopback();
        self.reach.allows(address) && (!plain || here || self.reach == Reach::Anywhere)
    }
}

impl fmt::Debug for Target {
    // Path and query often hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}://{}/…)", self.uri.scheme_str().unwrap_or_default(), self)
    }
}

/// Host and port, without what may hold a token.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

/// What a URL's host is.
#[derive(Clone, Copy)]
enum Place {
    Address(IpAddr),
    ThisMachine,
    Name,
}

impl Place {
    fn of(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Self::Address(address);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Self::ThisMachine;
        }
        Self::Name
    }

    fn is_here(self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::ThisMachine => true,
            Self::Name => false,
        }
    }
}

/// Whether a connection can be made to it.
fn is_port(text: &str) -> bool {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    is_number && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Whether the DNS can hold it (RFC 1123, section 2.1). A last label that is a number, as in
/// `0x7f.1`, is no name: some libraries take it for an address, and what it leads to would depend
/// on who looks.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=LABEL_OCTETS_MAX).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_number = last.starts_with("0x") || last.bytes().all(|octet| octet.is_ascii_digit());
    host.len() <= NAME_OCTETS_MAX && host.split('.').all(is_label) && !is_number
}

/// Why a URL can't be delivered to.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTarget {
    /// It has a `#` part, which would never be sent.
    #[error("a webhook's URL has no \"#\" part")]
    Fragment,
    /// Its host is neither an address nor a name.
    #[error("{0:?} is not a host name or an IP address (write \"https://example.org/hook\")")]
    Host(String),
    /// It can't be read.
    #[error("not a URL (write \"https://example.org/hook\")")]
    NotAUrl,
    /// It leads where the operator does not let it.
    #[error("{host} is out of reach (webhooks.reach is {:?})", reach.as_str())]
    OutOfReach {
        /// Its host.
        host: String,
        /// What the operator allows.
        reach: Reach,
    },
    /// It would leave this machine unencrypted.
    #[error("http is for this machine alone; use https")]
    Plain,
    /// Nothing can listen there.
    #[error("{0:?} is not a port from 1 to 65535")]
    Port(String),
    /// It is for something else.
    #[error("{0:?} is not https or http")]
    Scheme(String),
    /// It is over [`URL_OCTETS_MAX`].
    #[error("longer than {URL_OCTETS_MAX} octets")]
    TooLong,
    /// It holds a user or a password.
    #[error("a webhook's URL holds no user or password; deliveries are signed instead")]
    Userinfo,
}

/// Octets of a URL at most: what servers take in a request's first line.
pub const URL_OCTETS_MAX: usize = 2_048;

/// Octets of a name and of one of its labels at most (RFC 1035, section 2.3.4).
const NAME_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str, reach: Reach) -> String {
        Target::parse(url, reach).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_url_is_told_what_is_wrong() {
        for (url, message) in [
            ("", r#"not a URL (write "https://example.org/hook")"#),
            ("/hook", r#"not a URL (write "https://example.org/hook")"#),
            ("https://exa mple.org", r#"not a URL (write "https://example.org/hook")"#),
            ("ftp://example.org", r#""ftp" is not https or http"#),
            (
                "https://a:b@example.org",
                "a webhook's URL holds no user or password; deliveries are signed instead",
            ),
            ("https://example.org/#x", "a webhook's URL has no \"#\" part"),
            ("http://example.org/", "http is for this machine alone; use https"),
            ("https://localhost/", "localhost is out of reach (webhooks.reach is \"public\")"),
            (
                "https://169.254.169.254/",
                "169.254.169.254 is out of reach (webhooks.reach is \"public\")",
            ),
            (
                "https://[::ffff:10.0.0.1]/",
                "[::ffff:10.0.0.1] is out of reach (webhooks.reach is \"public\")",
            ),
        ] {
            assert_eq!(error(url, Reach::Public), message, "{url}");
        }
        let long = format!("https://example.org/{}", "x".repeat(URL_OCTETS_MAX));
        assert_eq!(error(&long, Reach::Public), "longer than 2048 octets");
    }

    #[test]
    fn a_host_or_a_port_that_cannot_be_is_named() {
        for port in ["65536", "99999", "0", "+443", "00", "-1", "4x"] {
            let url = format!("http://127.0.0.1:{port}/");
            let told = error(&url, Reach::Anywhere);
            let wanted = format!("{port:?} is not a port from 1 to 65535");
            assert!(told == wanted || told.starts_with("not a URL"), "{url}: {told}");
        }
        assert_eq!(
            error("http://127.0.0.1:65536/", Reach::Loopback),
            "\"65536\" is not a port from 1 to 65535"
        );
        let long = "x".repeat(70);
        for host in [
            "999.1.1.1",
            "x..org",
            "-",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "a-.org",
            "a_b.org",
            "x.0X7F",
            "..",
            &long,
        ] {
            let told = error(&format!("https://{host}/"), Reach::Anywhere);
            let wanted = format!("{host:?} is not a host name or an IP address");
            assert!(told.starts_with(&wanted), "{told}");
        }
        for host in ["example.org.", "xn--bcher-kva.example", "1.example", "a", "[2001:db8::1]:1"] {
            assert!(Target::parse(&format!("https://{host}/"), Reach::Anywhere).is_ok(), "{host}");
        }
        let most = Target::parse("https://example.org:65535/", Reach::Public).unwrap();
        assert_eq!(most.to_string(), "example.org:65535");
    }

    #[test]
    fn http_stays_on_this_machine_unless_anywhere_is_allowed() {
        for url in ["http://127.0.0.1:80/x", "http://[::1]/", "http://localhost:8080/"] {
            assert!(Target::parse(url, Reach::Loopback).is_ok(), "{url}");
        }
        assert_eq!(
            error("http://1.1.1.1/", Reach::Loopback),
            "http is for this machine alone; use https"
        );
        assert!(Target::parse("http://10.0.0.1/", Reach::Anywhere).is_ok());
        let here = Target::parse("http://localhost/", Reach::Loopback).unwrap();
        assert!(here.allows("127.0.0.1".parse().unwrap()));
        assert!(!here.allows("1.1.1.1".parse().unwrap()), "a name can't lead plain text away");
    }

    #[test]
    fn r165_a_name_is_held_to_where_it_leads() {
        let target = Target::parse("https://example.org/", Reach::Public).unwrap();
        assert!(target.allows("1.1.1.1".parse().unwrap()));
        assert!(!target.allows("10.0.0.1".parse().unwrap()));
        assert!(!target.allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_may_hold_a_token_is_not_printed() {
        let target = Target::parse("https://example.org/t0ken?k=t0ken", Reach::Public).unwrap();
        assert_eq!(format!("{target:?} {target}"), "Target(https://example.org/…) example.org");
    }
}
