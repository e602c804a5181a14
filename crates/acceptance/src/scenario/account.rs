//! What was told, parameter by parameter, with what no file can foretell put aside.

use std::collections::BTreeMap;
use std::fmt::Write;

use mail_event::{ParameterName, Timestamp};
use serde_json::Value;

use crate::Told;

/// Writes events down so that two runs give the same text.
///
/// Process ids, client ports, MODSEQs, UIDVALIDITYs and times become signs; sessions and the
/// store's ports get names.
#[derive(Debug)]
pub(crate) struct Account {
    ports: Vec<(u16, &'static str)>,
    sessions: BTreeMap<String, usize>,
}

impl Account {
    pub(crate) fn new(ports: Vec<(u16, &'static str)>) -> Self {
        Self { ports, sessions: BTreeMap::new() }
    }

    /// One event: its name and place on the first line, its parameters below.
    pub(crate) fn of(&mut self, told: &Told) -> String {
        let mut text = format!("{} {}\n", told.name(), place(&text_of(told.json.get("uri"))));
        let Value::Object(members) = &told.json else { return text };
        let registered = ParameterName::REGISTERED.iter().map(ParameterName::as_str);
        let vendors = members.keys().filter(|name| name.starts_with("vnd.")).map(String::as_str);
        let mut line = String::new();
        for name in registered.chain(vendors) {
            let Some(value) = members.get(name) else { continue };
            let Some(shown) = self.shown(name, value) else { continue };
            if line.len() + name.len() + shown.len() > WIDTH && !line.is_empty() {
                // Writing to a string can't fail.
                let _written = writeln!(text, "   {line}");
                line.clear();
            }
            let _written = write!(line, " {}={shown}", name.trim_start_matches("vnd.postbell."));
        }
        if !line.is_empty() {
            let _written = writeln!(text, "   {line}");
        }
        text
    }

    /// A value as it is written down; nothing where it can't be foretold and says nothing.
    fn shown(&mut self, name: &str, value: &Value) -> Option<String> {
        let text = text_of(Some(value));
        Some(match name {
            "uri" | "vnd.postbell.eventId" | "vnd.postbell.seq" | "vnd.postbell.prevSeq" => {
                return None;
            }
            // Said where the store is heard in time, and absent else.
            "vnd.postbell.disconnect" if text == "graceful" => return None,
            "timestamp" => match sound(&text) {
                Ok(()) => return None,
                Err(why) => why,
            },
            "pid"
            | "clientPort"
            | "modseq"
            | "vnd.postbell.sessionDuration"
            | "vnd.postbell.timeAccuracy" => {
                let may_be_none = name.starts_with("vnd.");
                if text.parse::<u64>().is_ok_and(|number| number > 0 || may_be_none) {
                    "#".to_owned()
                } else {
                    format!("{text}?!")
                }
            }
            "serverPort" => {
                let port = self.ports.iter().find(|(port, _)| port.to_string() == text);
                port.map_or_else(|| format!("{text}?!"), |(_, service)| (*service).to_owned())
            }
            "vnd.postbell.sessionId" => {
                let next = self.sessions.len() + 1;
                format!("S{}", self.sessions.entry(text).or_insert(next))
            }
            name if name.ends_with("MailboxID") || name == "mailboxID" => place(&text),
            "vnd.cmu.mailboxUniqueId" => "#".to_owned(),
            "vnd.cmu.mailboxACL" => text.replace('\t', "⇥"),
            "envelope" => text.replace("\r\n", "⏎"),
            _ => text,
        })
    }
}

/// A URI without the server's name, and a sign for its UIDVALIDITY.
fn place(uri: &str) -> String {
    let short = uri.strip_prefix("imap://").unwrap_or(uri).replace("@mail.example.org", "");
    let Some((before, rest)) = short.split_once(";UIDVALIDITY=") else { return short };
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    format!("{before};V{}", rest.get(digits..).unwrap_or_default())
}

/// Whether a timestamp is RFC 3339 with a numeric offset and about now (R138).
fn sound(text: &str) -> Result<(), String> {
    let at: Timestamp = text.parse().map_err(|error| format!("{text}?! ({error})"))?;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let then = u64::try_from(at.unix_millis() / 1000).unwrap_or(0);
    if then.abs_diff(now) > 600 { Err(format!("{text}?! (not about now)")) } else { Ok(()) }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| text_of(Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// How wide a line of parameters gets.
const WIDTH: usize = 110;
