//! Events out: strict, or as Cyrus writes them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Profile;
use crate::{Event, MessageContent, Modseq, Timestamp};

/// Writes an event in its strict form.
///
/// Order: `event`, `uri`, `timestamp`, `user`, the other registered parameters in the registry's
/// order, then the rest in the order they came. Everything stands on one line.
#[must_use]
pub fn to_string(event: &Event) -> String {
    write(event, Profile::Strict)
}

/// Writes an event in the form of `profile`.
#[must_use]
pub fn to_vec(event: &Event, profile: Profile) -> Vec<u8> {
    write(event, profile).into_bytes()
}

/// Writes an event in the one spelling that all its spellings have in common: strict, parameters
/// outside the registry in the order of their names, and no needless zero in `timestamp`.
///
/// What an event is recognised by when it is handed in again. The values of parameters outside the
/// registry are as they came, but for spaces: nobody here knows which of their forms are the same.
///
/// ```
/// use mail_event::json;
///
/// let one = br#"{"event":"vnd.x","uri":"imap://h/","timestamp":"2026-08-20T11:34:14.000+00:00"}"#;
/// let other = br#"{"timestamp":"2026-08-20T11:34:14Z", "URI":"imap://h", "event":"vnd.x"}"#;
/// let [one, other] = [json::from_slice(one)?, json::from_slice(other)?];
/// assert_eq!(json::canonical(&one.event), json::canonical(&other.event));
/// # Ok::<(), json::JsonError>(())
/// ```
#[must_use]
pub fn canonical(event: &Event) -> Vec<u8> {
    let mut vendors: Vec<_> = event.vendors().collect();
    vendors.sort_unstable();
    spelled(event, event.timestamp().canonical(), vendors.into_iter(), Profile::Strict).into_bytes()
}

fn write(event: &Event, profile: Profile) -> String {
    spelled(event, event.timestamp(), event.vendors(), profile)
}

fn spelled<'a>(
    event: &Event,
    timestamp: Timestamp,
    vendors: impl Iterator<Item = (&'a str, &'a str)>,
    profile: Profile,
) -> String {
    let mut out = Object::begin();
    out.text("event", event.name().as_str());
    out.display("uri", event.uri());
    out.display("timestamp", timestamp);
    out.text_if("user", event.user());
    out.text_if("admin", event.admin());
    out.text_if("bodyStructure", event.body_structure());
    out.display_if("clientIP", event.client_ip());
    out.number_if("clientPort", event.client_port().map(u64::from));
    out.number_if("diskQuota", event.disk_quota());
    out.number_if("diskUsed", event.disk_used());
    out.text_if("envelope", event.envelope().map(crate::Envelope::as_str));
    if let Some(flags) = event.flag_names() {
        let names = flags.iter().map(crate::Flag::as_str);
        out.list("flagNames", names, " ", profile);
    }
    out.display_if("mailboxID", event.mailbox_id());
    out.number_if("maxMessages", event.max_messages());
    out.content(event.message_content());
    out.number_if("messageSize", event.message_size());
    out.number_if("messages", event.messages());
    out.modseq(event.modseq(), profile);
    out.display_if("oldMailboxID", event.old_mailbox_id());
    out.number_if("pid", event.pid());
    out.text_if("process", event.process());
    out.text_if("serverDomain", event.server_domain());
    out.number_if("serverPort", event.server_port().map(u64::from));
    out.text_if("serverFQDN", event.server_fqdn());
    out.text_if("service", event.service());
    if event.tags().next().is_some() {
        out.list("tags", event.tags(), ",", profile);
    }
    out.number_if("uidnext", event.uidnext().map(u64::from));
    out.display_if("uidset", event.uidset());
    for (name, json) in vendors {
        out.raw(name, json);
    }
    out.end()
}

/// A JSON object being written.
struct Object(String);

impl Object {
    fn begin() -> Self {
        let mut text = String::with_capacity(USUAL_OCTETS);
        text.push('{');
        Self(text)
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        string(&mut self.0, name);
        self.0.push(':');
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.push_str(json);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        string(&mut self.0, value);
    }

    fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// What needs no escaping: URIs, times, addresses and UID sets are plain ASCII.
    fn display(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        self.0.push('"');
        let before = self.0.len();
        write!(self.0, "{value}").unwrap_or_default();
        let needs_escaping = self.0.bytes().skip(before).any(|byte| byte == b'"' || byte == b'\\');
        if needs_escaping {
            let value = self.0.split_off(before);
            self.0.pop();
            string(&mut self.0, &value);
        } else {
            self.0.push('"');
        }
    }

    fn display_if(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.display(name, value);
        }
    }

    fn number_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            write!(self.0, "{value}").unwrap_or_default();
        }
    }

    fn modseq(&mut self, modseq: Option<Modseq>, profile: Profile) {
        let Some(value) = modseq.map(Modseq::get) else { return };
        if value > crate::builder::NUMBER_MAX && profile == Profile::Strict {
            self.text("modseq", &value.to_string());
        } else {
            self.number_if("modseq", Some(value));
        }
    }

    fn list<'a>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = &'a str>,
        separator: &str,
        profile: Profile,
    ) {
        if profile == Profile::Cyrus {
            // A tag with a comma in it would read as two, so it is left out here (R134).
            let values: Vec<_> = values.filter(|value| !value.contains(separator)).collect();
            if !values.is_empty() {
                self.text(name, &values.join(separator));
            }
            return;
        }
        self.name(name);
        self.0.push('[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            string(&mut self.0, value);
        }
        self.0.push(']');
    }

    fn content(&mut self, content: Option<&MessageContent>) {
        let Some(content) = content else { return };
        if let Some(text) = content.as_text() {
            self.text("messageContent", text);
            return;
        }
        self.name("messageContent");
        self.0.push_str(r#"{"base64":""#);
        STANDARD.encode_string(content.as_bytes(), &mut self.0);
        self.0.push_str(r#""}"#);
    }
}

/// Writes a JSON string, quotes and all.
pub(crate) fn string(out: &mut String, value: &str) {
    out.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        let (clear, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(clear);
        let mut characters = tail.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(control) => write!(out, "\\u{:04x}", u32::from(control)).unwrap_or_default(),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// About what one event takes, so that the text grows once.
const USUAL_OCTETS: usize = 768;
