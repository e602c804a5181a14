//! What Cyrus says in one notification, read leniently.

use std::net::{IpAddr, SocketAddr};

use mail_event::{Flag, Flags, ImapUrl, Modseq, Timestamp, UidSet, Value};
use serde_json::Map;

/// One notification, in Cyrus's terms.
///
/// What a parameter of the registry says is held in its own type, or not at all where it can't be
/// read; all else is kept as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Notification {
    /// The event's name as Cyrus has it.
    pub(super) event: String,
    pub(super) at: Option<Timestamp>,
    pub(super) service: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) server_fqdn: Option<String>,
    pub(super) server_domain: Option<String>,
    pub(super) server_port: Option<u16>,
    pub(super) client: Option<SocketAddr>,
    pub(super) session: Option<String>,
    /// The mailbox or message, named as an admin names it.
    pub(super) uri: Option<ImapUrl>,
    /// Where it was before (MailboxRename), or came from (copies).
    pub(super) old: Option<ImapUrl>,
    /// Cyrus's own name for the mailbox, which outlives renaming.
    pub(super) unique_id: Option<String>,
    pub(super) uids: Option<UidSet>,
    pub(super) old_uids: Option<UidSet>,
    pub(super) messages: Option<u64>,
    pub(super) uidnext: Option<u32>,
    pub(super) modseq: Option<Modseq>,
    pub(super) size_octets: Option<u64>,
    pub(super) flags: Flags,
    pub(super) body_structure: Option<String>,
    pub(super) content: Option<String>,
    pub(super) disk_quota: Option<u64>,
    pub(super) disk_used: Option<u64>,
    pub(super) max_messages: Option<u64>,
    /// Whose rights changed, and to what.
    pub(super) acl_subject: Option<String>,
    pub(super) acl_rights: Option<String>,
    /// All rights after it, Cyrus's way: identifier, tab, rights, tab, and so on.
    pub(super) acl: Option<String>,
    /// Parameters outside the registry, under Cyrus's names, in the order of those.
    pub(super) others: Vec<(String, Value)>,
    /// What could not be kept as it came: parameter by parameter.
    pub(super) repairs: Vec<Repair>,
    /// The JSON as it came; nothing where that is longer than [`RAW_OCTETS_MAX`].
    pub(super) raw: Option<String>,
}

impl Notification {
    /// Whether it is about a mailbox that holds mail. Calendars and the like are on no list.
    pub(super) fn is_mail(&self) -> bool {
        self.others.iter().all(|(name, value)| {
            name != "vnd.cmu.mbtype" || value.as_str().is_some_and(|kind| MAIL.contains(&kind))
        })
    }
}

impl std::fmt::Display for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.parameter, self.what)
    }
}

/// Something that was said otherwise than RFC 5423 has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Repair {
    /// The parameter, as Cyrus calls it.
    pub(super) parameter: String,
    /// What was done about it.
    pub(super) what: &'static str,
}

/// Reads the JSON of a notification.
///
/// # Errors
///
/// Where it is no JSON object, or names no event.
pub(super) fn parse(json: &[u8]) -> Result<Notification, InvalidNotification> {
    let mut members: Map<String, Value> = serde_json::from_slice(json)?;
    let Some(Value::String(event)) = members.remove("event") else {
        return Err(InvalidNotification::Nameless);
    };
    let mut reader = Reader { members, repairs: Vec::new() };
    let client = reader.parsed::<IpAddr>("clientIP");
    let client_port = reader.number("clientPort");
    let session = reader.text("vnd.cmu.sessionId");
    let acl = match reader.members.get("vnd.cmu.mailboxACL") {
        Some(Value::String(acl)) => Some(acl.clone()),
        _ => None,
    };
    let mut found = Notification {
        event,
        at: reader.read("timestamp", |text| {
            let (at, repair) = Timestamp::parse_lenient(text).ok()?;
            Some((at, repair.is_none()))
        }),
        service: reader.text("service"),
        pid: reader.number("pid"),
        user: reader.text("user"),
        server_fqdn: reader.text("serverFQDN"),
        server_domain: reader.text("serverDomain"),
        server_port: reader.number("serverPort").filter(|port| *port != 0),
        client: client.map(|ip| SocketAddr::new(ip, client_port.unwrap_or(0))),
        session,
        uri: reader.read("uri", |text| ImapUrl::parse_lenient(text).ok()),
        old: reader.read("oldMailboxID", |text| ImapUrl::parse_lenient(text).ok()),
        unique_id: reader.text("mailboxID").or_else(|| reader.text("mailboxUniqueId")),
        uids: reader.uids("uidset"),
        old_uids: reader.uids("vnd.cmu.oldUidset"),
        messages: reader.number("messages"),
        uidnext: reader.number("uidnext").filter(|uid| *uid != 0),
        modseq: reader.number("modseq").and_then(Modseq::new),
        size_octets: reader.number("messageSize"),
        flags: Flags::new(),
        body_structure: reader.text("bodyStructure"),
        content: reader.text("messageContent"),
        disk_quota: reader.limit("diskQuota"),
        disk_used: reader.number("diskUsed"),
        max_messages: reader.limit("maxMessages"),
        acl_subject: reader.text("aclSubject"),
        acl_rights: reader.text("aclRights"),
        acl,
        others: Vec::new(),
        repairs: Vec::new(),
        raw: std::str::from_utf8(json)
            .ok()
            .filter(|raw| raw.len() <= RAW_OCTETS_MAX)
            .map(str::to_owned),
    };
    found.flags = reader.flags();
    let Reader { members, mut repairs } = reader;
    for (name, value) in members {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if is_empty {
            repairs.push(Repair { parameter: name, what: "empty, left out" });
        } else {
            found.others.push((name, value));
        }
    }
    found.repairs = repairs;
    Ok(found)
}

/// Why a notification's message says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidNotification {
    /// No JSON object, or one nested too deep.
    #[error("a message that is no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// No event's name.
    #[error("a message that names no event")]
    Nameless,
}

/// Takes members out of the object, one after the other.
struct Reader {
    members: Map<String, Value>,
    repairs: Vec<Repair>,
}

impl Reader {
    fn repaired(&mut self, name: &str, what: &'static str) {
        self.repairs.push(Repair { parameter: name.to_owned(), what });
    }

    /// A text; an empty one is none.
    fn text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name)? {
            Value::String(text) if text.is_empty() => {
                self.repaired(name, "empty, left out");
                None
            }
            Value::String(text) => Some(text),
            Value::Number(number) => {
                self.repaired(name, "a number, read as text");
                Some(number.to_string())
            }
            _ => {
                self.repaired(name, "no text, left out");
                None
            }
        }
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        self.read(name, |text| Some((text.parse().ok()?, true)))
    }

    /// Reads a text with `read`, which says whether it was strict.
    fn read<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<(T, bool)>) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Some((value, true)) => Some(value),
            Some((value, false)) => {
                self.repaired(name, "written strictly");
                Some(value)
            }
            None => {
                self.repaired(name, "can't be read, left out");
                None
            }
        }
    }

    /// A number, also one written as text.
    fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        let value = self.members.remove(name)?;
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.repaired(name, "no such number, left out");
        }
        number
    }

    /// A limit; below zero there is none (R106).
    fn limit(&mut self, name: &str) -> Option<u64> {
        let is_none = self.members.get(name).and_then(Value::as_i64).is_some_and(|limit| limit < 0);
        if is_none {
            self.members.remove(name);
            self.repaired(name, "no limit, left out");
            return None;
        }
        self.number(name)
    }

    fn uids(&mut self, name: &str) -> Option<UidSet> {
        self.read(name, |text| UidSet::parse_lenient(text).ok())
    }

    /// Flags, parted by blanks or in a list; one that can't be, and `\Recent`, is left out (R61).
    fn flags(&mut self) -> Flags {
        let name = "flagNames";
        let texts: Vec<String> = match self.members.remove(name) {
            None => return Flags::new(),
            Some(Value::String(text)) => text.split(' ').map(str::to_owned).collect(),
            Some(Value::Array(list)) => {
                list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
            }
            Some(_) => Vec::new(),
        };
        let mut flags = Vec::new();
        for text in texts.iter().filter(|text| !text.is_empty()).take(FLAGS_MAX) {
            match text.parse::<Flag>() {
                Ok(flag) if flag.as_str() == text => flags.push(flag),
                Ok(flag) => {
                    self.repaired(name, "written in the standard's spelling");
                    flags.push(flag);
                }
                Err(_) => self.repaired(name, "one that can't be named, left out"),
            }
        }
        flags.into_iter().collect()
    }
}

/// The longest that is shown as it came: whatever Cyrus sends as a datagram.
const RAW_OCTETS_MAX: usize = 64 * 1024;

const FLAGS_MAX: usize = mail_event::limits::FLAGS_MAX;

/// What Cyrus calls a mailbox that holds mail (`vnd.cmu.mbtype`).
const MAIL: [&str; 2] = ["", "e"];
