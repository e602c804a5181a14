//! An event as the stream told it.

use std::fmt;

use mail_event::{Event, Flags, Uri};
use postbell_testkit::Error;
use postbell_testkit::http::ServerSent;
use serde_json::Value;

/// One event that came out of the hub, and its place in the stream.
#[derive(Clone, Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// Its number.
    pub seq: u64,
    /// The number of the one before it on this stream.
    pub prev_seq: Option<u64>,
    /// Its id.
    pub id: String,
    /// As it came.
    pub json: Value,
}

impl Told {
    pub(crate) fn read(sent: &ServerSent) -> Result<Self, Error> {
        let odd = |expected: String| Error::Answer { expected, answer: sent.data.clone() };
        let json: Value =
            serde_json::from_str(&sent.data).map_err(|e| odd(format!("JSON ({e})")))?;
        let parsed = mail_event::json::from_slice(sent.data.as_bytes())
            .map_err(|error| odd(format!("a valid event ({error})")))?;
        if !parsed.repairs.is_empty() {
            return Err(odd(format!("strict JSON ({:?})", parsed.repairs)));
        }
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        Ok(Self {
            event: parsed.event,
            seq: number("vnd.postbell.seq").ok_or_else(|| odd("vnd.postbell.seq".to_owned()))?,
            prev_seq: number("vnd.postbell.prevSeq"),
            id: json
                .get("vnd.postbell.eventId")
                .and_then(Value::as_str)
                .ok_or_else(|| odd("vnd.postbell.eventId".to_owned()))?
                .to_owned(),
            json,
        })
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.event.name().as_str()
    }

    /// The mailbox in its URI, or nothing.
    #[must_use]
    pub fn mailbox(&self) -> &str {
        mailbox(self.event.uri())
    }

    /// The user in its URI.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match self.event.uri() {
            Uri::Imap(url) => url.user(),
            Uri::Other(_) => None,
        }
    }

    /// The UID in its URI.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self.event.uri() {
            Uri::Imap(url) => url.uid(),
            Uri::Other(_) => None,
        }
    }

    /// The UIDVALIDITY in its URI.
    #[must_use]
    pub fn uid_validity(&self) -> Option<u32> {
        match self.event.uri() {
            Uri::Imap(url) => url.uid_validity(),
            Uri::Other(_) => None,
        }
    }

    /// Whether the hub worked it out afterwards.
    #[must_use]
    pub fn is_inferred(&self) -> bool {
        self.event.vendor("vnd.postbell.inferred").is_some()
    }
}

/// One line for a person: the name, the mailbox, then what it carries and can be foretold.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<19}", self.name())?;
        if !self.mailbox().is_empty() {
            write!(f, " {}", self.mailbox())?;
        }
        if let Some(uid) = self.uid() {
            write!(f, " uid={uid}")?;
        }
        if let Some(uids) = self.event.uidset() {
            write!(f, " uids={uids}")?;
        }
        if let Some(old) = self.event.old_mailbox_id() {
            write!(f, " from={}", mailbox(old))?;
        }
        if let Some(flags) = self.event.flag_names() {
            write!(f, " flags=({})", listed(flags))?;
        }
        if let Some(messages) = self.event.messages() {
            write!(f, " messages={messages}")?;
        }
        if let Some(limit) = self.event.max_messages() {
            write!(f, " maxMessages={limit}")?;
        }
        if let Some(uidnext) = self.event.uidnext() {
            write!(f, " uidnext={uidnext}")?;
        }
        Ok(())
    }
}

fn mailbox(uri: &Uri) -> &str {
    match uri {
        Uri::Imap(url) => url.mailbox().unwrap_or_default(),
        Uri::Other(_) => "",
    }
}

fn listed(flags: &Flags) -> String {
    let mut names: Vec<String> = flags.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(" ")
}
