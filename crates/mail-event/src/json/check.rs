//! The hot path: is this text a strict event already, and where do its keys stand?

use std::net::IpAddr;

use super::read::service_alias;
use super::spelling::{self, Order, Spelled, Spelling};
use crate::binding::Facts;
use crate::limits::{
    DEPTH_MAX, EVENT_OCTETS_MAX, FLAGS_MAX, TAGS_MAX, TEXT_OCTETS_MAX, VENDOR_PARAMETERS_MAX,
};
use crate::uri::{self, Shape};
use crate::{EventId, EventName, ParameterName, Timestamp, envelope, flags, name, uid_set};

/// A stretch of a JSON text: the inside of a string, its escapes as they are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Span {
    /// Where it begins, in octets from the start of the text.
    pub start: u32,
    /// How many octets it takes.
    pub len: u16,
}

impl Span {
    /// What stands there; nothing where `json` is not the text it was made for.
    #[must_use]
    pub fn of(self, json: &[u8]) -> &[u8] {
        let start = self.start as usize;
        json.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// What one pass over a strict event found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The event's name; free of escapes.
    pub name: Span,
    /// Its `uri`; free of escapes.
    pub uri: Span,
    /// Its `user`, as it stands in the JSON.
    pub user: Option<Span>,
    /// Its `vnd.postbell.eventId`, if it has a well-formed one.
    pub event_id: Option<EventId>,
    /// Its time, in milliseconds since 1970.
    pub unix_millis: i64,
    /// Whether it holds a parameter of [`ParameterName::PRIVATE`] or
    /// [`ParameterName::PRIVATE_VENDORS`].
    pub private: bool,
    /// Whether it holds what only a hub says, of its deliveries (`vnd.postbell.seq`, `prevSeq`,
    /// `signature`, `suppressed`, `contentUrl`), of its records (`gapFrom`, `gapTo`) or of what it
    /// made (`contentSuppressed`), or a `vnd.postbell.eventId` that is none.
    pub stamped: bool,
}

/// What only a hub says, without the prefix.
const OF_HUBS: [&str; 8] = [
    "seq",
    "prevSeq",
    "signature",
    "suppressed",
    "contentUrl",
    "contentSuppressed",
    "gapFrom",
    "gapTo",
];

/// The text is not a strict event on one line; [`super::from_slice`] tells why, or mends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a strict event")]
pub struct NotStrict;

/// Checks that a text is a strict event, in one pass and without allocating for ordinary ones.
///
/// Where this succeeds, [`super::from_slice`] succeeds without repairs, and the text holds no
/// line end, so that it can be stored and sent as it is.
///
/// # Errors
///
/// Where it is not, or holds something so unusual (escapes in a URI, content as base64) that
/// only [`super::from_slice`] looks closely enough.
pub fn check(json: &[u8]) -> Result<Checked, NotStrict> {
    check_spelled(json).map(|spelled| spelled.checked)
}

/// As [`check`], and the way to the event's canonical spelling.
///
/// # Errors
///
/// As [`check`].
pub fn check_spelled(json: &[u8]) -> Result<Spelled<'_>, NotStrict> {
    Scan::new(json).and_then(Scan::run).ok_or(NotStrict)
}

/// A string of the text: its inside, and whether a backslash stands in it.
#[derive(Clone, Copy)]
struct Text<'a> {
    inside: &'a str,
    start: usize,
    escaped: bool,
}

impl<'a> Text<'a> {
    fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.inside)
    }

    fn span(self) -> Option<Span> {
        Some(Span {
            start: u32::try_from(self.start).ok()?,
            len: u16::try_from(self.inside.len()).ok()?,
        })
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Spaces passed over.
    spaces: usize,
    spelling: Spelling,
    order: Order<'a>,
    present: u32,
    name: Option<Text<'a>>,
    uri: Option<(Text<'a>, Shape)>,
    user: Option<Text<'a>>,
    admin: Option<Text<'a>>,
    mailbox_id: Option<&'a str>,
    mailbox_shape: Shape,
    old_mailbox_id: Option<&'a str>,
    service: Option<&'a str>,
    uid_count: Option<u64>,
    unix_millis: i64,
    event_id: Option<EventId>,
    stamped: bool,
    private_vendor: bool,
    vendors: Vendors<'a>,
}

impl<'a> Scan<'a> {
    fn new(json: &'a [u8]) -> Option<Self> {
        if json.len() > EVENT_OCTETS_MAX {
            return None;
        }
        Some(Self {
            text: std::str::from_utf8(json).ok()?,
            at: 0,
            spaces: 0,
            spelling: Spelling::Canonical,
            order: Order::default(),
            present: 0,
            name: None,
            uri: None,
            user: None,
            admin: None,
            mailbox_id: None,
            mailbox_shape: Shape::default(),
            old_mailbox_id: None,
            service: None,
            uid_count: None,
            unix_millis: 0,
            event_id: None,
            stamped: false,
            private_vendor: false,
            vendors: Vendors::default(),
        })
    }

    fn run(mut self) -> Option<Spelled<'a>> {
        self.eat(b'{')?;
        loop {
            let key = self.string()?.plain()?;
            self.eat(b':')?;
            self.space();
            let spaces = self.spaces;
            self.member(key)?;
            self.order.end(self.at);
            if self.spaces != spaces {
                self.spelling = Spelling::Free;
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.space();
        if self.at != self.text.len() {
            return None;
        }
        if self.spaces != 0 {
            self.spelled(Spelling::Scattered);
        }
        self.finish()
    }

    fn finish(self) -> Option<Spelled<'a>> {
        let name = self.name?;
        let (uri, uri_shape) = self.uri?;
        let index = name.inside.parse::<EventName>().ok()?.index();
        // With escapes in either one the comparison is left to the careful reader.
        let admin_is_user = match (self.admin, self.user) {
            (Some(admin), Some(user)) if admin.escaped || user.escaped => return None,
            (Some(admin), Some(user)) => admin.inside == user.inside,
            _ => false,
        };
        let facts = Facts {
            name: name.inside,
            index,
            present: self.present,
            uri: uri_shape,
            mailbox_id: self.mailbox_shape,
            uid_count: self.uid_count.or_else(|| Some(uri_shape.uid.map_or(0, |_| 1))),
            service: self.service,
            admin_is_user,
            old_is_new: self.old_mailbox_id.is_some() && self.old_mailbox_id == self.mailbox_id,
        };
        facts.check().ok()?;
        let timestamp = ParameterName::Timestamp.index()?;
        if self.present & (1 << timestamp) == 0 {
            return None;
        }
        let user = match self.user {
            Some(user) => Some(user.span()?),
            None => None,
        };
        let checked = Checked {
            name: name.span()?,
            uri: uri.span()?,
            user,
            event_id: self.event_id,
            unix_millis: self.unix_millis,
            private: self.present & PRIVATE != 0 || self.private_vendor,
            stamped: self.stamped,
        };
        Some(Spelled { checked, spelling: self.spelling, text: self.text, order: self.order })
    }

    /// Notes that the text is no nearer to its canonical spelling than this.
    fn spelled(&mut self, spelling: Spelling) {
        self.spelling = self.spelling.max(spelling);
    }

    /// Notes where a member stands in the canonical order.
    fn placed(&mut self, parameter: Option<&ParameterName>, key: &'a str) {
        if !self.order.begin(spelling::place(parameter, key), key, self.at) {
            self.spelled(Spelling::Scattered);
        }
    }

    fn member(&mut self, key: &'a str) -> Option<()> {
        use ParameterName as P;
        if key == "event" {
            self.placed(None, key);
            let text = self.string()?;
            name::check_name(text.plain()?).ok()?;
            return self.name.replace(text).map_or(Some(()), |_| None);
        }
        let parameter = known(key);
        self.placed(parameter.as_ref(), key);
        let Some(parameter) = parameter else { return self.vendor(key) };
        let bit = 1 << parameter.index()?;
        if self.present & bit != 0 {
            return None;
        }
        self.present |= bit;
        match parameter {
            P::User => self.user = Some(self.short_text()?),
            P::Admin => self.admin = Some(self.short_text()?),
            P::Process | P::ServerDomain | P::ServerFqdn => self.short_text().map(|_| ())?,
            P::BodyStructure => self.string().filter(|text| !text.inside.is_empty()).map(|_| ())?,
            P::MessageContent => self.string().map(|_| ())?,
            P::Service => {
                let service = self.short_text()?.plain()?;
                let fine = service.bytes().all(|byte| byte.is_ascii_graphic());
                self.service = Some(service).filter(|_| fine && service_alias(service).is_none());
                self.service?;
            }
            P::Uri => {
                let text = self.string()?;
                self.uri = Some((text, uri::check_strict(text.plain()?)?));
            }
            P::MailboxId => {
                let text = self.string()?.plain()?;
                self.mailbox_shape = uri::check_strict(text)?;
                self.mailbox_id = Some(text);
            }
            P::OldMailboxId => {
                let text = self.string()?.plain()?;
                uri::check_strict(text)?;
                self.old_mailbox_id = Some(text);
            }
            P::Timestamp => {
                let time: Timestamp = self.string()?.plain()?.parse().ok()?;
                self.unix_millis = time.unix_millis();
                if !time.is_canonical() {
                    self.order.padded = true;
                    self.spelled(Spelling::Scattered);
                }
            }
            P::ClientIp => {
                let text = self.string()?.plain()?;
                let address: IpAddr = text.parse().ok()?;
                spelling::is_canonical_address(text, address).then_some(())?;
            }
            P::ClientPort | P::ServerPort => self.skip_number(1, u64::from(u16::MAX))?,
            P::Uidnext => self.skip_number(1, u64::from(u32::MAX))?,
            P::Modseq => self.modseq()?,
            P::Uidset => {
                let text = self.string()?.plain()?;
                self.uid_count = Some(uid_set::check_canonical(text).ok()?);
            }
            P::FlagNames => self.flag_names()?,
            P::Tags => self.tags()?,
            P::Envelope => {
                envelope::check_envelope(&unescape_line_ends(self.string()?.inside)?).ok()?;
            }
            P::DiskQuota | P::DiskUsed | P::MaxMessages | P::MessageSize | P::Messages | P::Pid => {
                self.skip_number(0, crate::builder::NUMBER_MAX)?;
            }
            P::Other(_) => return None,
        }
        Some(())
    }

    fn vendor(&mut self, key: &'a str) -> Option<()> {
        if !name::is_vendor(key) || name::check_name(key).is_err() {
            return None;
        }
        self.vendors.insert(key)?;
        let start = self.at;
        self.value()?;
        self.private_vendor |= ParameterName::PRIVATE_VENDORS.contains(&key);
        match key.strip_prefix(POSTBELL) {
            Some("eventId") => {
                let text = self.text.get(start..self.at)?;
                self.event_id = text.trim_matches('"').parse().ok();
                self.stamped |= self.event_id.is_none();
            }
            Some(name) if OF_HUBS.contains(&name) => self.stamped = true,
            _ => {}
        }
        Some(())
    }

    fn short_text(&mut self) -> Option<Text<'a>> {
        self.string().filter(|text| (1..=TEXT_OCTETS_MAX).contains(&text.inside.len()))
    }

    fn modseq(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            self.number(1, crate::builder::NUMBER_MAX)?;
            return Some(());
        }
        let text = self.string()?.plain()?;
        let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse::<u64>().ok().filter(|_| canonical)?;
        (value > crate::builder::NUMBER_MAX && crate::Modseq::new(value).is_some()).then_some(())
    }

    fn flag_names(&mut self) -> Option<()> {
        let mut seen = [""; FEW];
        self.list(FLAGS_MAX, |at, text| {
            // A flag's one backslash is written as two.
            let bare = text.inside.strip_prefix(r"\\").unwrap_or(text.inside);
            if bare.contains('\\') {
                return None;
            }
            let fine = if bare.len() == text.inside.len() {
                flags::check_flag(bare).is_ok()
            } else {
                let flag = text.inside.get(1..)?;
                flags::check_flag(flag).is_ok() && flags::is_canonical(flag)
            };
            let again = seen.iter().take(at).any(|one| one.eq_ignore_ascii_case(text.inside));
            *seen.get_mut(at)? = text.inside;
            (fine && !again).then_some(())
        })
    }

    fn tags(&mut self) -> Option<()> {
        let mut seen = [""; FEW];
        self.list(TAGS_MAX, |at, text| {
            let tag = text.plain()?;
            let again = seen.iter().take(at).any(|one| *one == tag);
            *seen.get_mut(at)? = tag;
            (!tag.is_empty() && !again).then_some(())
        })
    }

    /// A list of at least one text; `check` is told each one's place.
    fn list(
        &mut self,
        max: usize,
        mut check: impl FnMut(usize, Text<'a>) -> Option<()>,
    ) -> Option<()> {
        self.eat(b'[')?;
        for at in 0..max {
            check(at, self.string()?)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
        None
    }

    /// A whole number without sign, fraction or leading zeros.
    fn number(&mut self, min: u64, max: u64) -> Option<u64> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = rest.get(..count)?;
        if count == 0 || count > 16 || (count > 1 && digits.first() == Some(&b'0')) {
            return None;
        }
        self.at += count;
        let value = digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        (min..=max).contains(&value).then_some(value)
    }

    fn skip_number(&mut self, min: u64, max: u64) -> Option<()> {
        self.number(min, max).map(|_| ())
    }

    /// Any value, passed over.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        let mut closers = 0_u64;
        loop {
            self.space();
            match self.peek()? {
                b'"' => self.string().map(|_| ())?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    // One bit a level tells which bracket must close it.
                    if depth == DEPTH_MAX {
                        return None;
                    }
                    depth += 1;
                    closers = (closers << 1) | u64::from(open == b'{');
                    self.space();
                    let closer = if open == b'{' { b'}' } else { b']' };
                    if self.peek()? != closer {
                        if open == b'{' {
                            self.string()?;
                            self.eat(b':')?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = closers & 1 == 1;
                match self.next()? {
                    b',' => {
                        if is_object {
                            self.space();
                            self.string()?;
                            self.eat(b':')?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                closers >>= 1;
            }
        }
    }

    /// `true`, `false`, `null` or a number.
    fn scalar(&mut self) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let count = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
            .count();
        let word = rest.get(..count)?;
        self.at += count;
        (matches!(word, b"true" | b"false" | b"null") || is_number(word)).then_some(())
    }

    /// A string; leaves the cursor behind its closing quote.
    fn string(&mut self) -> Option<Text<'a>> {
        self.eat(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            self.at += plain_prefix(rest);
            match self.text.as_bytes().get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return None,
            }
        }
        let inside = self.text.get(start..self.at)?;
        self.at += 1;
        Some(Text { inside, start, escaped })
    }

    fn escape(&mut self) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        match rest.get(1)? {
            b'"' | b'\\' | b'n' | b'r' | b't' => self.at += 2,
            b'/' | b'b' | b'f' => {
                self.at += 2;
                self.spelled(Spelling::Free);
            }
            // Code points written as numbers may be half of a pair; the careful reader knows.
            _ => return None,
        }
        Some(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Spaces alone: a line end would break streams that send one event a line.
    fn space(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
            self.spaces += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        self.space();
        Some(byte)
    }

    fn eat(&mut self, wanted: u8) -> Option<()> {
        self.space();
        if self.peek()? != wanted {
            return None;
        }
        self.at += 1;
        Some(())
    }
}

/// Names outside the registry seen so far; few, so looking through them is quick.
#[derive(Default)]
struct Vendors<'a> {
    few: [&'a str; FEW],
    count: usize,
}

impl<'a> Vendors<'a> {
    fn insert(&mut self, key: &'a str) -> Option<()> {
        if self.few.iter().take(self.count).any(|known| *known == key) {
            return None;
        }
        // More than a few is unusual, and left to the careful reader.
        *self.few.get_mut(self.count)? = key;
        self.count += 1;
        Some(())
    }
}

const FEW: usize = 16;
const _: () = assert!(FEW <= VENDOR_PARAMETERS_MAX);

/// The private parameters, a bit each.
const PRIVATE: u32 = {
    let mut bits = 0;
    let mut rest: &[ParameterName] = &ParameterName::PRIVATE;
    while let [first, after @ ..] = rest {
        if let Some(index) = first.index() {
            bits |= 1 << index;
        }
        rest = after;
    }
    bits
};

/// The registered parameter spelled exactly so.
fn known(key: &str) -> Option<ParameterName> {
    use ParameterName as P;
    Some(match key {
        "admin" => P::Admin,
        "bodyStructure" => P::BodyStructure,
        "clientIP" => P::ClientIp,
        "clientPort" => P::ClientPort,
        "diskQuota" => P::DiskQuota,
        "diskUsed" => P::DiskUsed,
        "envelope" => P::Envelope,
        "flagNames" => P::FlagNames,
        "mailboxID" => P::MailboxId,
        "maxMessages" => P::MaxMessages,
        "messageContent" => P::MessageContent,
        "messageSize" => P::MessageSize,
        "messages" => P::Messages,
        "modseq" => P::Modseq,
        "oldMailboxID" => P::OldMailboxId,
        "pid" => P::Pid,
        "process" => P::Process,
        "serverDomain" => P::ServerDomain,
        "serverPort" => P::ServerPort,
        "serverFQDN" => P::ServerFqdn,
        "service" => P::Service,
        "tags" => P::Tags,
        "timestamp" => P::Timestamp,
        "uidnext" => P::Uidnext,
        "uidset" => P::Uidset,
        "uri" => P::Uri,
        "user" => P::User,
        _ => return None,
    })
}

/// How many octets come before a quote, a backslash or a control character; eight at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut count = 0;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        let hits = has_byte(word, b'"') | has_byte(word, b'\\') | (below_space(word));
        if hits != 0 {
            return count + (hits.trailing_zeros() / 8) as usize;
        }
        count += 8;
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let rest = chunks.remainder();
    count + rest.iter().position(special).unwrap_or(rest.len())
}

/// The top bit of the lowest octet equal to `byte` is set; higher octets may be set wrongly.
const fn has_byte(word: u64, byte: u8) -> u64 {
    let differing = word ^ (ONES * byte as u64);
    differing.wrapping_sub(ONES) & !differing & TOPS
}

/// The top bit of the lowest octet below 0x20 is set; higher octets may be set wrongly.
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & TOPS
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES * 0x80;

fn is_number(word: &[u8]) -> bool {
    let word = word.strip_prefix(b"-").unwrap_or(word);
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(word);
    if whole == 0 || (whole > 1 && word.first() == Some(&b'0')) {
        return false;
    }
    let mut rest = word.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or_default();
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent =
            exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

/// An envelope's text, where its only escapes are `\r\n`.
fn unescape_line_ends(inside: &str) -> Option<String> {
    let text = inside.replace(r"\r\n", "\r\n");
    (!text.contains('\\')).then_some(text)
}

/// What the names of postbell's own parameters begin with: the event's identity, and the stamps
/// of a delivery.
const POSTBELL: &str = "vnd.postbell.";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &str = r#"{"event":"MessageRead","uri":"imap://a%40b@h/INBOX;UIDVALIDITY=1","timestamp":"2026-08-20T13:34:14.966+02:00","user":"a@b","uidset":"3,5:9","vnd.postbell.eventId":"01J9ZK00000000000000000000","vnd.x":{"a":[1,-2.5e3,true,null,"ü\n"],"b":{}}}"#;

    #[test]
    fn the_keys_are_found_where_they_stand() {
        let checked = check(PLAIN.as_bytes()).unwrap();
        assert_eq!(checked.name.of(PLAIN.as_bytes()), b"MessageRead");
        assert_eq!(checked.uri.of(PLAIN.as_bytes()), b"imap://a%40b@h/INBOX;UIDVALIDITY=1");
        assert_eq!(checked.user.unwrap().of(PLAIN.as_bytes()), b"a@b");
        assert_eq!(checked.event_id.unwrap().to_string(), "01J9ZK00000000000000000000");
        assert_eq!(checked.unix_millis, 1_787_225_654_966);
        assert!(!checked.private && !checked.stamped);
    }

    #[test]
    fn the_stamps_of_a_delivery_are_seen() {
        let id = r#""vnd.postbell.eventId":"01J9ZK00000000000000000000""#;
        for (stamp, stamped) in [
            (r#""vnd.postbell.seq":1"#, true),
            (r#""vnd.postbell.prevSeq":1"#, true),
            (r#""vnd.postbell.contentSuppressed":"size""#, true),
            (r#""vnd.example.seq":1"#, false),
            (r#""vnd.postbell.sessionId":"seq""#, false),
            (r#""vnd.postbell.eventId":"mine""#, true),
            (r#""vnd.postbell.inferred":{"vnd.postbell.seq":1}"#, false),
        ] {
            let text = PLAIN.replace(id, stamp);
            assert_eq!(
                check(text.as_bytes()).map(|checked| checked.stamped),
                Ok(stamped),
                "{text}"
            );
        }
    }

    #[test]
    fn what_needs_a_repair_is_not_strict() {
        for (from, to) in [
            (r#""event":"MessageRead""#, r#""event":"messageread""#),
            (r#"+02:00""#, r#"Z""#),
            (r#""3,5:9""#, r#""5:9,3""#),
            (r#""user":"a@b""#, r#""user":"""#),
            (r#""user":"a@b""#, r#""user":"a@b","user":"c""#),
            (r#""user":"a@b""#, r#""user":"a@b","admin":"a@b""#),
            (r#""user":"a@b""#, r#""user":"a@b","clientPort":5"#),
            (r#""user":"a@b""#, r#""user":"a@b","service":"imaps""#),
            (r#""user":"a@b""#, r#""user":"a@b","modseq":7"#),
            (r#""user":"a@b""#, r#""user":"a@b","flagNames":["\\Seen"]"#),
            (r#""user":"a@b""#, r#""user":"a@b","foo":1"#),
            (r#""user":"a@b","#, "\"user\":\"a@b\",\n"),
            (r#"{"a":[1"#, r#"{"a":[01"#),
            (r#""b":{}}"#, r#""b":{}]"#),
        ] {
            assert!(PLAIN.contains(from), "{from}");
            let text = PLAIN.replacen(from, to, 1);
            assert_eq!(check(text.as_bytes()), Err(NotStrict), "{text}");
        }
    }

    #[test]
    fn every_cut_of_an_event_is_refused() {
        for end in 0..PLAIN.len() {
            assert!(check(&PLAIN.as_bytes()[..end]).is_err());
        }
    }

    proptest! {
        #[test]
        fn specials_are_found_wherever_they_stand(bytes in prop::collection::vec(prop_oneof![Just(b'a'), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()], 0..40)) {
            let slow = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(plain_prefix(&bytes), slow);
        }

        #[test]
        fn what_is_strict_is_read_without_repair(at in 0..PLAIN.len(), byte: u8) {
            let mut text = PLAIN.as_bytes().to_vec();
            text[at] = byte;
            if let Ok(checked) = check(&text) {
                let parsed = super::super::from_slice(&text).unwrap();
                prop_assert!(parsed.repairs.is_empty(), "{:?}", parsed.repairs);
                prop_assert_eq!(parsed.event.timestamp().unix_millis(), checked.unix_millis);
                prop_assert_eq!(parsed.event.name().as_str().as_bytes(), checked.name.of(&text));
                let again = super::super::to_string(&parsed.event);
                prop_assert!(check(again.as_bytes()).is_ok(), "{}", again);
            }
        }
    }
}
