//! IMAP URLs: written strictly, read leniently (RFC 5092, RFC 4467).

use std::fmt;
use std::str::FromStr;

use crate::limits::URI_OCTETS_MAX;
use crate::percent;
use crate::uri::Shape;

/// A reference to an IMAP server, to a mailbox on it, or to a message or part in one.
///
/// Mailbox names and users are held decoded, as UTF-8. The owner of the mailbox is the user of
/// the URL: mailbox names stand in that user's naming scope.
///
/// ```
/// use mail_event::ImapUrl;
///
/// let url = ImapUrl::server("imap.example.org", None)?
///     .with_user("john@example.org")
///     .with_mailbox("Entwürfe", Some(1411487714))
///     .with_uid(6);
/// assert_eq!(
///     url.to_string(),
///     "imap://john%40example.org@imap.example.org/Entw%C3%BCrfe;UIDVALIDITY=1411487714/;UID=6"
/// );
/// # Ok::<(), mail_event::InvalidImapUrl>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ImapUrl {
    host: Box<str>,
    port: Option<u16>,
    user: Option<Box<str>>,
    auth: Option<Box<str>>,
    mailbox: Option<Box<str>>,
    uid_validity: Option<u32>,
    search: Option<Box<str>>,
    uid: Option<u32>,
    section: Option<Box<str>>,
    partial: Option<Box<str>>,
    expire: Option<Box<str>>,
    url_auth: Option<Box<str>>,
}

impl ImapUrl {
    /// A server, by domain name or address (an IPv6 address without brackets), and its port
    /// where that is not 143.
    ///
    /// # Errors
    ///
    /// Where `host` is neither.
    pub fn server(host: &str, port: Option<u16>) -> Result<Self, InvalidImapUrl> {
        let host = match host.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host.to_owned(),
        };
        if !is_host(&host) || port == Some(0) {
            return Err(InvalidImapUrl::Host(clip(&host)));
        }
        Ok(Self::at(&host, port))
    }

    fn at(host: &str, port: Option<u16>) -> Self {
        Self {
            host: host.into(),
            port,
            user: None,
            auth: None,
            mailbox: None,
            uid_validity: None,
            search: None,
            uid: None,
            section: None,
            partial: None,
            expire: None,
            url_auth: None,
        }
    }

    /// The same, in the naming scope of `user`; an empty name is none. A NUL, which no user's
    /// name holds, is left out.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = without_nul(user);
        self
    }

    /// The same, at a mailbox; an empty name is none, and so is a UIDVALIDITY of 0. A NUL, which
    /// no mailbox's name holds, is left out.
    #[must_use]
    pub fn with_mailbox(mut self, name: &str, uid_validity: Option<u32>) -> Self {
        self.mailbox = without_nul(name);
        self.uid_validity = uid_validity.filter(|v| *v != 0 && self.mailbox.is_some());
        self
    }

    /// The same, at a message of its mailbox; without a mailbox, or for UID 0, unchanged.
    #[must_use]
    pub fn with_uid(mut self, uid: u32) -> Self {
        if self.mailbox.is_some() && uid != 0 {
            self.uid = Some(uid);
        }
        self
    }

    /// The same, to be authorised for `user` alone and until `until`, to the second: what a store
    /// completes on GENURLAUTH (RFC 4467, section 7). Without a message, or with an empty name,
    /// unchanged.
    #[must_use]
    pub fn for_user_until(mut self, user: &str, until: jiff::Timestamp) -> Self {
        if self.uid.is_some() && !user.is_empty() {
            self.expire = Some(format!("{until:.0}").into());
            self.url_auth = Some(format!("user+{}", percent::encoded(user)).into());
        }
        self
    }

    /// The same without UID, section and what follows: the mailbox it is in.
    #[must_use]
    pub fn without_message(&self) -> Self {
        Self {
            search: None,
            uid: None,
            section: None,
            partial: None,
            expire: None,
            url_auth: None,
            ..self.clone()
        }
    }

    /// The same without mailbox and what follows: the server, in the naming scope of its user.
    #[must_use]
    pub fn without_mailbox(&self) -> Self {
        Self { mailbox: None, uid_validity: None, ..self.without_message() }
    }

    /// The server, IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it is told.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The user in whose naming scope the mailbox stands.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The mailbox's name in UTF-8.
    #[must_use]
    pub fn mailbox(&self) -> Option<&str> {
        self.mailbox.as_deref()
    }

    /// The mailbox's UIDVALIDITY.
    #[must_use]
    pub fn uid_validity(&self) -> Option<u32> {
        self.uid_validity
    }

    /// The message's UID.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// The part of the message, as it stands in the URL.
    #[must_use]
    pub fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// The range of octets, as it stands in the URL.
    #[must_use]
    pub fn partial(&self) -> Option<&str> {
        self.partial.as_deref()
    }

    /// When the authorization ends (RFC 4467), as it stands in the URL.
    #[must_use]
    pub fn expire(&self) -> Option<&str> {
        self.expire.as_deref()
    }

    /// The authorization (RFC 4467), as it stands in the URL.
    #[must_use]
    pub fn url_auth(&self) -> Option<&str> {
        self.url_auth.as_deref()
    }

    /// How many octets it takes when written, without writing short ones.
    pub(crate) fn written_octets(&self) -> usize {
        let texts = [&self.user, &self.auth, &self.mailbox, &self.search, &self.section];
        let more = [&self.partial, &self.expire, &self.url_auth];
        let octets = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let held: usize = texts.into_iter().chain(more).map(octets).sum();
        // An octet takes at most 3 when encoded; what stands between fits in 100.
        let at_most = 3 * held + self.host.len() + 100;
        if at_most <= URI_OCTETS_MAX { at_most } else { self.to_string().len() }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape {
            is_imap: true,
            has_mailbox: self.mailbox.is_some(),
            uid_validity: self.uid_validity,
            uid: self.uid,
        }
    }

    /// Reads what stores send besides strict URLs, and says whether it was strict: a raw `@` in
    /// the user, `;UID=` without the slash, tokens and hexadecimals in any case, octets that
    /// needed no encoding, or needed it.
    ///
    /// # Errors
    ///
    /// Where it can't be made sense of.
    pub fn parse_lenient(text: &str) -> Result<(Self, bool), InvalidImapUrl> {
        if text.len() > URI_OCTETS_MAX {
            return Err(InvalidImapUrl::TooLong { octets: text.len() });
        }
        if !has_scheme(text) {
            return Err(InvalidImapUrl::Scheme(clip(text)));
        }
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        let mut url = read_authority(authority)?;
        url.read_path(path.strip_prefix('/').unwrap_or_default())?;
        let strict = url.to_string();
        let is_strict = strict == text || strict.strip_suffix('/').is_some_and(|bare| bare == text);
        Ok((url, is_strict))
    }

    fn read_path(&mut self, path: &str) -> Result<(), InvalidImapUrl> {
        let head_end = path.find([';', '?']).unwrap_or(path.len());
        let (head, mut tail) = path.split_at_checked(head_end).unwrap_or((path, ""));
        let names_message = tail.get(..5).is_some_and(|token| token.eq_ignore_ascii_case(";UID="));
        let name = if names_message { head.strip_suffix('/').unwrap_or(head) } else { head };
        self.mailbox = Some(decode(name)?).filter(|name| !name.is_empty()).map(Into::into);
        if let Some(at) = tail.find('?') {
            let (before, after) = tail.split_at_checked(at).unwrap_or((tail, ""));
            self.search = Some(raw(after.get(1..).unwrap_or_default())?);
            tail = before;
        }
        for part in tail.split(';').skip(1) {
            let (key, value) = part.split_once('=').ok_or_else(|| unknown(part))?;
            // The slash before the next token belongs to it.
            self.read_token(key, value.strip_suffix('/').unwrap_or(value))?;
        }
        self.check_order()
    }

    fn read_token(&mut self, key: &str, value: &str) -> Result<(), InvalidImapUrl> {
        let again = match key.to_ascii_uppercase().as_str() {
            "UIDVALIDITY" => self.uid_validity.replace(number(value)?).is_some(),
            "UID" => self.uid.replace(number(value)?).is_some(),
            "SECTION" => self.section.replace(raw(value)?).is_some(),
            "PARTIAL" => self.partial.replace(raw(value)?).is_some(),
            "EXPIRE" => self.expire.replace(raw(value)?).is_some(),
            "URLAUTH" => self.url_auth.replace(raw(value)?).is_some(),
            _ => true,
        };
        if again { Err(unknown(key)) } else { Ok(()) }
    }

    /// What may only follow something else follows it (RFC 5092, section 11).
    fn check_order(&self) -> Result<(), InvalidImapUrl> {
        let in_mailbox = self.uid_validity.is_some() || self.uid.is_some() || self.search.is_some();
        if self.mailbox.is_none() && in_mailbox {
            return Err(InvalidImapUrl::NoMailbox);
        }
        let of_message = [
            ("SECTION", &self.section),
            ("PARTIAL", &self.partial),
            ("EXPIRE", &self.expire),
            ("URLAUTH", &self.url_auth),
        ];
        let of_message = of_message.into_iter().find(|(_, value)| value.is_some());
        match of_message {
            Some((token, _)) if self.uid.is_none() => Err(unknown(token)),
            // A search gives a list of messages, where a UID names one.
            _ if self.uid.is_some() && self.search.is_some() => Err(unknown("?")),
            _ => Ok(()),
        }
    }
}

impl FromStr for ImapUrl {
    type Err = InvalidImapUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::parse_lenient(text)? {
            (url, true) => Ok(url),
            (_, false) => Err(InvalidImapUrl::NotStrict),
        }
    }
}

impl fmt::Display for ImapUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        if let Some(user) = &self.user {
            percent::write(f, user, percent::USER)?;
        }
        if let Some(auth) = &self.auth {
            write!(f, ";AUTH={auth}")?;
        }
        if self.user.is_some() || self.auth.is_some() {
            f.write_str("@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str("/")?;
        if let Some(mailbox) = &self.mailbox {
            percent::write(f, mailbox, percent::MAILBOX)?;
        }
        if let Some(value) = self.uid_validity {
            write!(f, ";UIDVALIDITY={value}")?;
        }
        if let Some(uid) = self.uid {
            write!(f, "/;UID={uid}")?;
        }
        let tokens = [
            ("/;SECTION=", &self.section),
            ("/;PARTIAL=", &self.partial),
            ("?", &self.search),
            (";EXPIRE=", &self.expire),
            (";URLAUTH=", &self.url_auth),
        ];
        for (token, value) in tokens {
            if let Some(value) = value {
                write!(f, "{token}{value}")?;
            }
        }
        Ok(())
    }
}

pub(crate) fn has_scheme(text: &str) -> bool {
    text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// Checks a strict IMAP URL; the usual forms without allocating.
pub(crate) fn check_strict(text: &str) -> Option<Shape> {
    if let Some(shape) = check_usual(text) {
        return Some(shape);
    }
    text.parse::<ImapUrl>().ok().map(|url| url.shape())
}

/// The forms `imap://[user@]host[:port][/mailbox[;UIDVALIDITY=n][/;UID=n]]` with nothing beyond
/// ASCII encoded; of any other form it says nothing.
fn check_usual(text: &str) -> Option<Shape> {
    let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= URI_OCTETS_MAX)?;
    let bytes = rest.as_bytes();
    let slash = memchr::memchr(b'/', bytes).unwrap_or(bytes.len());
    let (authority, path) = bytes.split_at_checked(slash)?;
    let server = match memchr::memrchr(b'@', authority) {
        Some(at) => {
            let (user, server) = authority.split_at_checked(at)?;
            if !percent::is_canonical_ascii(user, percent::USER) {
                return None;
            }
            server.get(1..)?
        }
        None => authority,
    };
    check_server(server)?;
    let mut shape = Shape { is_imap: true, ..Shape::default() };
    let Some(path) = path.get(1..).filter(|path| !path.is_empty()) else { return Some(shape) };
    let end = memchr::memchr(b';', path).unwrap_or(path.len());
    let (name, mut tail) = path.split_at_checked(end)?;
    shape.has_mailbox = true;
    let name = if tail.starts_with(b";UID=") { name.strip_suffix(b"/")? } else { name };
    if !percent::is_canonical_ascii(name, percent::MAILBOX) {
        return None;
    }
    if let Some(after) = tail.strip_prefix(b";UIDVALIDITY=") {
        let (value, after) = leading_number(after)?;
        shape.uid_validity = Some(value);
        tail = after.strip_prefix(b"/").unwrap_or(after);
        if after.len() == tail.len() && !tail.is_empty() {
            return None;
        }
    }
    if let Some(after) = tail.strip_prefix(b";UID=") {
        let (value, after) = leading_number(after)?;
        shape.uid = Some(value);
        tail = after;
    } else if path.ends_with(b"/") && shape.uid_validity.is_some() {
        return None;
    }
    tail.is_empty().then_some(shape)
}

fn check_server(server: &[u8]) -> Option<()> {
    let server = std::str::from_utf8(server).ok()?;
    let (host, port) = split_port(server);
    let port_is_fine = port.is_none_or(|port| {
        !port.starts_with('0')
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    });
    (is_host(host) && port_is_fine).then_some(())
}

/// A number from 1 without leading zeros, and what follows it.
fn leading_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at_checked(count)?;
    if !(1..=10).contains(&count) || digits.first() == Some(&b'0') {
        return None;
    }
    let value = digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some((u32::try_from(value).ok()?, rest))
}

fn read_authority(authority: &str) -> Result<ImapUrl, InvalidImapUrl> {
    // Some stores leave the `@` of a user raw, so the last one separates.
    let (userinfo, server) = match authority.rsplit_once('@') {
        Some((userinfo, server)) => (Some(userinfo), server),
        None => (None, authority),
    };
    let (host, port) = split_port(server);
    if !is_host(host) {
        return Err(InvalidImapUrl::Host(clip(host)));
    }
    let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port != 0));
    let Some(port) = port.map_or(Some(None), |port| port.map(Some)) else {
        return Err(InvalidImapUrl::Port(clip(server)));
    };
    let mut url = ImapUrl::at(host, port);
    if let Some(userinfo) = userinfo {
        let at = userinfo.to_ascii_uppercase().find(";AUTH=");
        let (user, auth) =
            userinfo.split_at_checked(at.unwrap_or(userinfo.len())).unwrap_or_default();
        url = url.with_user(&decode(user)?);
        url.auth = auth.get(6..).filter(|auth| !auth.is_empty()).map(auth_type).transpose()?;
    }
    Ok(url)
}

/// What is kept encoded, as it stands in the URL: `enc-section` and the like.
fn raw(text: &str) -> Result<Box<str>, InvalidImapUrl> {
    // A slash at the end would read as that of the next token.
    let is_fine = percent::is_encoded(text.as_bytes(), percent::MAILBOX) && !text.ends_with('/');
    is_fine.then(|| text.into()).ok_or_else(|| unknown(text))
}

/// `enc-auth-type` or `*`.
fn auth_type(text: &str) -> Result<Box<str>, InvalidImapUrl> {
    let is_fine = percent::is_encoded(text.as_bytes(), percent::USER);
    is_fine.then(|| text.into()).ok_or_else(|| unknown(text))
}

fn without_nul(name: &str) -> Option<Box<str>> {
    let name: Box<str> =
        if name.contains('\0') { name.replace('\0', "").into() } else { name.into() };
    Some(name).filter(|name| !name.is_empty())
}

fn split_port(server: &str) -> (&str, Option<&str>) {
    match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

fn decode(text: &str) -> Result<String, InvalidImapUrl> {
    let decoded = percent::decode(text).ok_or_else(|| InvalidImapUrl::Encoding(clip(text)))?;
    // No name may hold what would end a line or a string elsewhere.
    if decoded.contains('\0') { Err(InvalidImapUrl::Encoding(clip(text))) } else { Ok(decoded) }
}

fn number(text: &str) -> Result<u32, InvalidImapUrl> {
    let value = text.parse::<u32>().ok().filter(|value| *value != 0);
    value.ok_or_else(|| InvalidImapUrl::Number(clip(text)))
}

fn unknown(text: &str) -> InvalidImapUrl {
    InvalidImapUrl::Token(clip(text))
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

const SCHEME: &str = "imap://";

/// Why a text is not an IMAP URL.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidImapUrl {
    /// Percent-encoding that is broken, or does not give UTF-8.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
    /// No domain name or address.
    #[error("{0:?} is not a host")]
    Host(String),
    /// A UID or UIDVALIDITY without a mailbox.
    #[error("an IMAP URL with a UID or UIDVALIDITY names a mailbox")]
    NoMailbox,
    /// It can be read, but is not written as the standard says.
    #[error("the IMAP URL is not in its strict form (RFC 5092)")]
    NotStrict,
    /// No UID or UIDVALIDITY.
    #[error("{0:?} is not a number from 1 to 4294967295")]
    Number(String),
    /// No port.
    #[error("{0:?} has no valid port")]
    Port(String),
    /// Another scheme.
    #[error("{0:?} does not begin with imap://")]
    Scheme(String),
    /// Something after a semicolon that the standard does not know.
    #[error("{0:?} is not a part of an IMAP URL")]
    Token(String),
    /// Longer than [`URI_OCTETS_MAX`].
    #[error("a URL of {octets} octets is over the limit of {URI_OCTETS_MAX}")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strict(text: &str) -> ImapUrl {
        let url: ImapUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), text);
        url
    }

    fn lenient(text: &str, as_strict: &str) {
        assert!(text.parse::<ImapUrl>().is_err(), "{text}");
        let (url, is_strict) = ImapUrl::parse_lenient(text).unwrap();
        assert!(!is_strict);
        assert_eq!(url.to_string(), as_strict);
    }

    #[test]
    fn r147_the_examples_of_rfc_5092_section_6() {
        strict(
            "imap://minbari.example.org/gray-council;UIDVALIDITY=385759045/;UID=20/;PARTIAL=0.1024",
        );
        let url = strict(
            "imap://psicorp.example.org/~peter/%E6%97%A5%E6%9C%AC%E8%AA%9E/%E5%8F%B0%E5%8C%97",
        );
        assert_eq!(url.mailbox(), Some("~peter/日本語/台北"));
        strict(
            "imap://;AUTH=GSSAPI@minbari.example.org/gray-council/;uid=20"
                .replace("uid", "UID")
                .as_str(),
        );
    }

    #[test]
    fn r45_an_authorised_url_keeps_its_expiry_and_token() {
        let url = strict(
            "imap://joe@example.com/INBOX/;UID=20/;SECTION=1.2;EXPIRE=2026-12-31T23:59:59Z;\
             URLAUTH=submit+fred:internal:91354a473744909de610943775f92038",
        );
        assert_eq!(url.section(), Some("1.2"));
        assert_eq!(url.expire(), Some("2026-12-31T23:59:59Z"));
        assert!(url.url_auth().unwrap().starts_with("submit+fred:internal:"));
    }

    #[test]
    fn r45_what_a_store_is_to_authorise_says_for_whom_and_until_when() {
        let until: jiff::Timestamp = "2026-12-31T23:59:59.75Z".parse().unwrap();
        let message = strict("imap://joe@example.com/INBOX;UIDVALIDITY=3/;UID=20");
        let rump = message.clone().for_user_until("fred:;@b", until);
        assert_eq!(
            rump.to_string(),
            "imap://joe@example.com/INBOX;UIDVALIDITY=3/;UID=20;EXPIRE=2026-12-31T23:59:59Z;\
             URLAUTH=user+fred%3A%3B%40b"
        );
        assert_eq!(strict(&rump.to_string()), rump);
        assert_eq!(message.clone().for_user_until("", until), message);
        let mailbox = message.without_message();
        assert_eq!(mailbox.clone().for_user_until("fred", until), mailbox);
    }

    #[test]
    fn r4_the_same_mailbox_on_two_servers_is_two_mailboxes() {
        let at = |host| {
            let url = ImapUrl::server(host, Some(1143)).unwrap();
            url.with_user("a").with_mailbox("INBOX", Some(1)).to_string()
        };
        assert_ne!(at("one.example.org"), at("two.example.org"));
        let url = strict(&at("one.example.org"));
        let parts = (url.host(), url.port(), url.user(), url.mailbox());
        assert_eq!(parts, ("one.example.org", Some(1143), Some("a"), Some("INBOX")));
    }

    #[test]
    fn r150_the_owner_of_the_mailbox_stands_in_the_url() {
        let url = strict("imap://alice@imap.example.org/Shared;UIDVALIDITY=3");
        assert_eq!(url.user(), Some("alice"));
    }

    #[test]
    fn r147_a_modified_utf_7_name_is_written_in_utf_8() {
        let name = crate::mutf7::decode(b"Entw&APw-rfe/&ZeVnLIqe-").unwrap();
        let url = ImapUrl::server("h", None).unwrap().with_mailbox(&name, None);
        assert_eq!(url.to_string(), "imap://h/Entw%C3%BCrfe/%E6%97%A5%E6%9C%AC%E8%AA%9E");
    }

    #[test]
    fn a_search_is_kept_and_stands_for_no_single_message() {
        let url = strict("imap://minbari.example.org/gray-council?SUBJECT%20shadows");
        assert_eq!(url.without_message().to_string(), "imap://minbari.example.org/gray-council");
        assert!(ImapUrl::parse_lenient("imap://h/a/;UID=1?ALL").is_err());
    }

    #[test]
    fn a_nul_in_a_name_is_left_out() {
        let url = ImapUrl::server("h", None).unwrap().with_user("a\0b").with_mailbox("\0", Some(1));
        assert_eq!(url.to_string(), "imap://ab@h/");
    }

    #[test]
    fn r147_what_deployed_servers_send_is_understood() {
        lenient(
            "imap://john@example.org@imap.example.org/INBOX;UIDVALIDITY=1/;UID=2",
            "imap://john%40example.org@imap.example.org/INBOX;UIDVALIDITY=1/;UID=2",
        );
        lenient(
            "imap://john@imap.example.org/INBOX;uidvalidity=1;UID=2",
            "imap://john@imap.example.org/INBOX;UIDVALIDITY=1/;UID=2",
        );
        lenient("imap://h/Entw%c3%bcrfe", "imap://h/Entw%C3%BCrfe");
        lenient("IMAP://h/a b", "imap://h/a%20b");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "imap://",
            "imap:///INBOX",
            "imap://h:0/",
            "imap://h:99999/",
            "imap://h/%ff",
            "imap://h/%zz",
            "imap://h/%00",
            "imap://h/;UID=1",
            "imap://h/a;UIDVALIDITY=0",
            "imap://h/a;FOO=1",
            "imap://h/a;UIDVALIDITY=1;UIDVALIDITY=2",
            "imap://h/a/;SECTION=1",
            "imap://h/a;EXPIRE=2026-12-31T23:59:59Z;URLAUTH=anonymous:internal:00",
            "imap://h/a?with space",
            "imap://h/a?line\nend",
            "imap://h/a/;UID=1/;SECTION=1//",
            "imap://h/a?",
            "imap://h/?ALL",
            "imap://;AUTH=a b@h/",
            "imap://[::1/a",
            "http://h/a",
        ] {
            assert!(ImapUrl::parse_lenient(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_may_be_an_address() {
        assert_eq!(ImapUrl::server("::1", Some(1143)).unwrap().to_string(), "imap://[::1]:1143/");
        strict("imap://[2001:db8::1]:993/INBOX");
        assert!("imap://imap.example.org".parse::<ImapUrl>().is_ok());
    }

    proptest! {
        #[test]
        fn r147_every_name_survives_the_round_trip(
            user in "[^\\x00]{1,20}", mailbox in "[^\\x00]{1,30}",
            validity in prop::option::of(1_u32..), uid in prop::option::of(1_u32..),
        ) {
            // A name that ends in a slash names a child without a name: no store has it.
            prop_assume!(!mailbox.ends_with('/') && !mailbox.starts_with('/'));
            let mut url = ImapUrl::server("h.example", None).unwrap()
                .with_user(&user).with_mailbox(&mailbox, validity);
            if let Some(uid) = uid {
                url = url.with_uid(uid);
            }
            let text = url.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(text.parse::<ImapUrl>().unwrap(), url.clone());
            prop_assert_eq!(check_strict(&text), Some(url.shape()));
        }

        #[test]
        fn checking_and_reading_agree(text in "imap://[a%40@:]{0,6}h(:[0-9]{1,3})?/?[a-b%2CFc/]{0,6}(;UIDVALIDITY=[0-9]{1,2})?/?(;UID=[0-9]{1,2})?") {
            let read = text.parse::<ImapUrl>().ok().map(|url| url.shape());
            prop_assert_eq!(check_strict(&text), read);
        }

        #[test]
        fn reading_twice_changes_nothing_more(text in "imap://\\PC{0,40}") {
            if let Ok((url, _)) = ImapUrl::parse_lenient(&text) {
                prop_assert_eq!(url.to_string().parse::<ImapUrl>(), Ok(url));
            }
        }
    }
}
