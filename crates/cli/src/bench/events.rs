//! Made-up events of the kind a busy store sends: valid, varied, about 600 octets each.

use std::fmt::Write as _;

/// Writes one event after another, the same ones for the same seed.
///
/// Users follow no even spread: a few are busy, most are quiet, as in a real store. A figure
/// measured with events all alike would flatter the compressor.
#[derive(Debug)]
pub(super) struct Generator {
    dice: fastrand::Rng,
    host: &'static str,
    tick_millis: i64,
    users: u32,
}

impl Generator {
    /// A generator over `users` users.
    pub(super) fn new(seed: u64, users: u32) -> Self {
        Self {
            dice: fastrand::Rng::with_seed(seed),
            host: "imap.example.org",
            tick_millis: 1_780_000_000_000,
            users,
        }
    }

    /// Appends the next event to `out` as one flat JSON object.
    pub(super) fn write(&mut self, out: &mut String) {
        self.tick_millis += self.dice.i64(0..40);
        let kind = self.dice.u32(0..100);
        match kind {
            0..30 => self.message(out, "MessageNew", "lmtp"),
            30..36 => self.message(out, "MessageAppend", "imap"),
            36..58 => self.set(out, "MessageRead"),
            58..66 => self.set(out, "MessageTrash"),
            66..78 => self.flags(out, "FlagsSet"),
            78..83 => self.flags(out, "FlagsClear"),
            83..91 => self.set(out, "MessageExpunge"),
            91..95 => self.access(out, "Login"),
            95..99 => self.access(out, "Logout"),
            _ => self.quota(out),
        }
    }

    /// A list of `count` events.
    pub(super) fn list(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let mut one = String::with_capacity(EVENT_OCTETS);
                self.write(&mut one);
                one
            })
            .collect()
    }

    fn message(&mut self, out: &mut String, name: &str, service: &str) {
        let place = self.place();
        let uid = self.dice.u32(1..2_000_000);
        self.open(out, name, &place, Some(uid));
        if service != "lmtp" {
            self.actor(out, &place.user);
        }
        let size = 900 + u64::from(self.dice.u32(0..400)).pow(2);
        let messages = self.dice.u32(1..40_000);
        self.text(out, "mailboxID", &place.uri(self.host));
        self.number(out, "messageSize", size);
        self.number(out, "messages", u64::from(messages));
        let modseq = u64::from(uid) * 3 + u64::from(self.dice.u32(0..100_000));
        self.number(out, "modseq", modseq);
        self.text(out, "service", service);
        self.number(out, "uidnext", u64::from(uid) + 1);
        let message = self.dice.u64(..);
        self.text(out, "vnd.example.messageId", &format!("<{message:016x}@mx.example.net>"));
        self.close(out, service);
    }

    fn set(&mut self, out: &mut String, name: &str) {
        let place = self.place();
        self.open(out, name, &place, None);
        self.actor(out, &place.user);
        self.text(out, "mailboxID", &place.uri(self.host));
        let messages = self.dice.u32(1..40_000);
        self.number(out, "messages", u64::from(messages));
        self.text(out, "service", "imap");
        let uids = self.uids();
        self.text(out, "uidset", &uids);
        self.close(out, "imap");
    }

    fn flags(&mut self, out: &mut String, name: &str) {
        let place = self.place();
        self.open(out, name, &place, None);
        self.actor(out, &place.user);
        let flag = self.dice.choice(FLAGS).unwrap_or("$Junk");
        out.push_str(r#","flagNames":[""#);
        out.push_str(flag);
        out.push_str(r#""]"#);
        self.text(out, "mailboxID", &place.uri(self.host));
        self.text(out, "service", "imap");
        let uids = self.uids();
        self.text(out, "uidset", &uids);
        self.close(out, "imap");
    }

    fn access(&mut self, out: &mut String, name: &str) {
        let user = self.user();
        self.head(out, name);
        out.push_str(r#","uri":"imap://"#);
        out.push_str(self.host);
        out.push_str("/\"");
        self.stamp(out);
        self.actor(out, &user);
        self.text(out, "serverDomain", self.host);
        self.number(out, "serverPort", 993);
        self.text(out, "service", "imap");
        self.close(out, "imap-login");
    }

    fn quota(&mut self, out: &mut String) {
        let user = self.user();
        self.head(out, "QuotaExceed");
        out.push_str(r#","uri":"imap://"#);
        out.push_str(&user.replace('@', "%40"));
        out.push('@');
        out.push_str(self.host);
        out.push_str("/INBOX\"");
        self.stamp(out);
        self.text(out, "user", &user);
        let limit = 1_048_576 * u64::from(self.dice.u32(1..8));
        self.number(out, "diskQuota", limit);
        let used = limit - u64::from(self.dice.u32(0..4096));
        self.number(out, "diskUsed", used);
        self.text(out, "service", "lmtp");
        self.close(out, "lmtp");
    }

    fn place(&mut self) -> Place {
        let user = self.user();
        let mailbox = match self.dice.u32(0..10) {
            0..7 => "INBOX".to_owned(),
            7 => "Sent".to_owned(),
            8 => format!("Lists/project-{}", self.dice.u32(0..60)),
            _ => format!("Archive/{}", 2010 + self.dice.u32(0..16)),
        };
        let uid_validity = 1_400_000_000 + self.dice.u32(0..300_000_000);
        Place { user, mailbox, uid_validity }
    }

    fn user(&mut self) -> String {
        // The lower of two even throws favours the low numbers: the busy few.
        let number = self.dice.u32(..self.users).min(self.dice.u32(..self.users));
        format!("user{number:05}@example.org")
    }

    fn uids(&mut self) -> String {
        let first = self.dice.u32(1..2_000_000);
        let mut text = first.to_string();
        if self.dice.u32(0..5) == 0 {
            let second = first + 2 + self.dice.u32(0..50);
            let third = second + 1 + self.dice.u32(0..9);
            write!(text, ",{second}:{third}").unwrap_or_default();
        }
        text
    }

    fn open(&mut self, out: &mut String, name: &str, place: &Place, uid: Option<u32>) {
        self.head(out, name);
        out.push_str(r#","uri":""#);
        out.push_str(&place.uri(self.host));
        if let Some(uid) = uid {
            write!(out, "/;UID={uid}").unwrap_or_default();
        }
        out.push('"');
        self.stamp(out);
    }

    fn head(&self, out: &mut String, name: &str) {
        out.push_str(r#"{"event":""#);
        out.push_str(name);
        out.push('"');
    }

    fn stamp(&self, out: &mut String) {
        let instant = jiff::Timestamp::from_millisecond(self.tick_millis).unwrap_or_default();
        let local = jiff::tz::Offset::constant(2).to_datetime(instant);
        write!(out, r#","timestamp":"{local:.3}+02:00""#).unwrap_or_default();
    }

    fn actor(&mut self, out: &mut String, user: &str) {
        self.text(out, "user", user);
        let (a, b) = (self.dice.u8(..), self.dice.u8(1..));
        self.text(out, "clientIP", &format!("198.51.{a}.{b}"));
        let port = self.dice.u16(1024..);
        self.number(out, "clientPort", u64::from(port));
    }

    fn close(&mut self, out: &mut String, process: &str) {
        let pid = self.dice.u32(300..60_000);
        self.number(out, "pid", u64::from(pid));
        self.text(out, "process", process);
        self.text(out, "serverFQDN", "backend-07.mail.example.org");
        let session = self.dice.u64(..);
        self.text(out, "vnd.example.cluster", "mail-eu-central");
        self.text(out, "vnd.example.session", &format!("{session:016x}"));
        self.text(out, "vnd.example.software", "examplemail 4.2.1 (build 20260514)");
        out.push('}');
    }

    fn text(&self, out: &mut String, name: &str, value: &str) {
        write!(out, r#","{name}":"{value}""#).unwrap_or_default();
    }

    fn number(&self, out: &mut String, name: &str, value: u64) {
        write!(out, r#","{name}":{value}"#).unwrap_or_default();
    }
}

#[derive(Debug)]
struct Place {
    user: String,
    mailbox: String,
    uid_validity: u32,
}

impl Place {
    fn uri(&self, host: &str) -> String {
        format!(
            "imap://{}@{host}/{};UIDVALIDITY={}",
            self.user.replace('@', "%40"),
            self.mailbox,
            self.uid_validity
        )
    }
}

/// About what one event takes, so that buffers grow once.
const EVENT_OCTETS: usize = 640;

/// As they stand inside a JSON string.
const FLAGS: [&str; 6] =
    [r"\\Flagged", r"\\Answered", r"\\Draft", "$Forwarded", "$Junk", "project-x"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_made_up_event_is_strict() {
        let mut generator = Generator::new(7, 10_000);
        for text in generator.list(2_000) {
            let verdict = mail_event::json::check(text.as_bytes());
            assert!(verdict.is_ok(), "{verdict:?} {text}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_events() {
        assert_eq!(Generator::new(3, 100).list(50), Generator::new(3, 100).list(50));
    }

    #[test]
    fn an_event_takes_about_600_octets() {
        let list = Generator::new(11, 10_000).list(2_000);
        let mean = list.iter().map(String::len).sum::<usize>() / list.len();
        assert!((580..620).contains(&mean), "{mean}");
    }
}
