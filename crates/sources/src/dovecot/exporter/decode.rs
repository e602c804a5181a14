//! From the JSON of Dovecot's event exporter (`format=json`, `time_format=rfc3339`).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::tz::TimeZone;
use mail_event::{Timestamp, Value};
use serde::Deserialize;

use super::envelope::envelope;
use super::recipient::{Half, half};
use super::{Annotation, BODY_OCTETS_MAX, ExportError, Exported, Login, Whence};

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// All there is.
    Whole(Exported),
    /// One of two that belong together.
    Half(Half),
}

/// Reads one exported event; nothing for one that nobody here wants.
pub(super) fn decode(body: &[u8]) -> Result<Option<Said>, ExportError> {
    if body.len() > BODY_OCTETS_MAX {
        return Err(ExportError::TooLarge { octets: body.len() });
    }
    // Dovecot passes on what clients sent, octets that are no UTF-8 among it.
    let text = String::from_utf8_lossy(body);
    let event: Event<'_> = serde_json::from_str(&text)
        .map_err(|error| ExportError::Malformed { reason: error.to_string() })?;
    let fields = Fields::parse(&event.fields);
    Ok(match &*event.event {
        "postbell_transaction" => Some(transaction(&fields)?),
        "mail_user_session_finished" => {
            let duration = Duration::from_micros(fields.number("duration").unwrap_or(0));
            Some(Exported::Session { whence: whence(&event, &fields), duration })
        }
        // One that failed says why, and its process goes on.
        "imap_client_hibernated" if fields.text("error").is_none() => {
            Some(Exported::Hibernated { whence: whence(&event, &fields) })
        }
        "imap_command_finished" => command(&event, &fields),
        "mail_delivery_finished" => Some(Exported::Delivery {
            whence: whence(&event, &fields),
            envelope: envelope(&fields),
            error: fields.owned("error"),
            size_octets: fields.number("message_size"),
        }),
        "auth_request_finished" => auth(&event, &fields),
        name @ ("smtp_server_command_finished" | "smtp_server_transaction_rcpt_finished") => {
            return Ok(half(name, whence(&event, &fields), &fields).map(Said::Half));
        }
        _ => None,
    }
    .map(Said::Whole))
}

fn transaction(fields: &Fields<'_>) -> Result<Exported, ExportError> {
    let malformed = |reason: &str| ExportError::Malformed { reason: reason.to_owned() };
    let run = fields.owned("postbell_run").ok_or_else(|| malformed("postbell_run is missing"))?;
    let seq = fields.number("postbell_seq").ok_or_else(|| malformed("postbell_seq is missing"))?;
    let annotation = Annotation {
        reasons: fields.texts("reason_code"),
        command: fields.owned("cmd_name"),
        envelope: envelope(fields),
        client: fields.address("remote_ip", "remote_port"),
        server: fields.address("local_ip", "local_port"),
    };
    Ok(Exported::Transaction { run, seq, annotation })
}

/// Only of commands that may mean something by themselves: most are FETCH and NOOP.
fn command(event: &Event<'_>, fields: &Fields<'_>) -> Option<Exported> {
    let name = fields.text("cmd_name")?.to_ascii_uppercase();
    let reply = fields.text("tagged_reply").unwrap_or_default();
    let is_wanted = match name.as_str() {
        "SETACL" | "DELETEACL" | "SETQUOTA" => reply.starts_with("OK"),
        "LOGOUT" => true,
        _ => is_over_quota(reply),
    };
    is_wanted.then(|| Exported::Command {
        whence: whence(event, fields),
        tag: fields.owned("cmd_tag").unwrap_or_default(),
        arguments: fields.owned("cmd_args").unwrap_or_default(),
        reply: reply.to_owned(),
        name,
    })
}

/// Whether an answer says that it was for want of quota (RFC 9208, section 4.3.1).
pub(super) fn is_over_quota(reply: &str) -> bool {
    reply.starts_with("NO [OVERQUOTA]")
}

fn auth(event: &Event<'_>, fields: &Fields<'_>) -> Option<Exported> {
    (fields.text("success") == Some("yes")).then(|| Exported::Auth {
        whence: whence(event, fields),
        login: Login {
            mechanism: fields.owned("mechanism"),
            transport: fields.owned("transport"),
            client: fields.address("remote_ip", "remote_port"),
            server: fields.address("local_ip", "local_port"),
        },
    })
}

fn whence(event: &Event<'_>, fields: &Fields<'_>) -> Whence {
    let service = || {
        let named = event.categories.iter().find_map(|name| name.strip_prefix("service:"));
        named.map(str::to_owned)
    };
    Whence {
        at: event.end_time.as_deref().and_then(time),
        began: event.start_time.as_deref().unwrap_or_default().to_owned(),
        user: fields.owned("user"),
        session: fields.owned("session"),
        service: service().or_else(|| fields.owned("service")).or_else(|| fields.owned("protocol")),
        client: fields.address("remote_ip", "remote_port"),
        server: fields.address("local_ip", "local_port"),
        reasons: fields.texts("reason_code"),
    }
}

/// In local time, as RFC 5423 wants it.
fn time(text: &str) -> Option<Timestamp> {
    let (told, _) = Timestamp::parse_lenient(text).ok()?;
    let millis = jiff::Timestamp::from_millisecond(told.unix_millis()).ok()?;
    Some(Timestamp::from_zoned(&millis.to_zoned_datetime(TimeZone::system())))
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    start_time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    end_time: Option<Cow<'a, str>>,
    #[serde(default)]
    categories: Vec<String>,
    /// Any JSON here, so that one field in an unknown form does no harm to the others.
    #[serde(default)]
    fields: Value,
}

/// What an event says, by name.
#[derive(Debug)]
pub(super) struct Fields<'a>(Option<&'a serde_json::Map<String, Value>>);

impl<'a> Fields<'a> {
    /// None where there are none.
    pub(super) fn parse(value: &'a Value) -> Self {
        Self(value.as_object())
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0?.get(name)?.as_str()
    }

    /// A number that isn't negative.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0?.get(name)?.as_u64()
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A list of texts; one alone is a list of one.
    fn texts(&self, name: &str) -> Vec<String> {
        match self.0.and_then(|fields| fields.get(name)) {
            Some(Value::Array(many)) => {
                let texts = many.iter().filter_map(Value::as_str).map(str::to_owned);
                texts.take(REASONS_MAX).collect()
            }
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        }
    }

    /// An address, with port 0 where only the address is known.
    fn address(&self, ip: &str, port: &str) -> Option<SocketAddr> {
        let ip: IpAddr = self.text(ip)?.parse().ok()?;
        let port = self.number(port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        Some(SocketAddr::new(ip, port))
    }
}

/// Reasons of one event; Dovecot nests them a few deep.
const REASONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(body: &[u8]) -> Result<Option<Exported>, ExportError> {
        Ok(super::decode(body)?.map(|said| match said {
            Said::Whole(exported) => exported,
            Said::Half(half) => panic!("{half:?}"),
        }))
    }

    /// What Dovecot 2.3.19.1 posted, with our names for our own event.
    const SAMPLES: &str = include_str!("../../../../../fuzz/seeds/dovecot_exported/samples");

    fn samples() -> Vec<Exported> {
        let read = |line: &str| decode(line.as_bytes()).unwrap().unwrap();
        SAMPLES.lines().map(read).collect()
    }

    #[test]
    fn what_dovecot_posted_is_understood() {
        let samples = samples();
        let [auth, transaction, logout, delivery, session, hibernated] = &samples[..] else {
            panic!("{samples:?}")
        };
        let Exported::Auth { whence, login } = auth else { panic!() };
        assert_eq!(whence.user.as_deref(), Some("alice"));
        assert_eq!(whence.client, Some("127.0.0.1:52046".parse().unwrap()));
        assert_eq!(whence.server, Some("127.0.0.1:21143".parse().unwrap()));
        assert_eq!(whence.session.as_deref(), Some("iOgmixBhTst/AAAB"));
        let how = (login.mechanism.as_deref(), login.transport.as_deref());
        assert_eq!(how, (Some("PLAIN"), Some("trusted")));
        assert_eq!((login.client, login.server), (whence.client, whence.server));

        let Exported::Transaction { run, seq, annotation } = transaction else { panic!() };
        assert_eq!((run.as_str(), *seq), ("5f1d0c2b9a8e47d6b3c4a5968778695a", 2));
        assert_eq!(annotation.reasons, ["imap:cmd_create", "mailbox:create"]);
        assert_eq!(annotation.command.as_deref(), Some("CREATE"));

        let Exported::Command { whence, name, tag, reply, .. } = logout else { panic!() };
        assert_eq!((name.as_str(), tag.as_str()), ("LOGOUT", "MCNE26"));
        assert_eq!(reply, "OK Logout completed.");
        assert_eq!(whence.session.as_deref(), Some("iOgmixBhTst/AAAB"));
        assert_eq!(whence.service.as_deref(), Some("imap"));
        assert_eq!(whence.at.unwrap().unix_millis(), 1_795_573_557_337);

        let Exported::Delivery { whence, envelope, error, size_octets } = delivery else {
            panic!()
        };
        let lines = "MAIL FROM:<ann@x.test> BODY=8BITMIME\r\nRCPT TO:<alice>\r\n";
        assert_eq!(envelope.as_ref().unwrap().as_str(), lines);
        assert_eq!((whence.service.as_deref(), error), (Some("lmtp"), &None));
        assert_eq!(*size_octets, Some(359));

        let Exported::Session { duration, .. } = session else { panic!() };
        assert_eq!(*duration, Duration::from_micros(15_113_361));

        let Exported::Hibernated { whence } = hibernated else { panic!() };
        assert_eq!(whence.session.as_deref(), Some("t5eiVFlhSLh/AAAB"));
    }

    #[test]
    fn a_session_that_could_not_hibernate_goes_on() {
        let body = br#"{"event":"imap_client_hibernated","fields":{"error":"output pending","session":"s"}}"#;
        assert_eq!(decode(body).unwrap(), None);
    }

    #[test]
    fn of_commands_only_those_that_mean_something_are_kept() {
        let kept = |name: &str, reply: &str| {
            let body = format!(
                r#"{{"event":"imap_command_finished","fields":{{"cmd_name":"{name}","tagged_reply":"{reply}"}}}}"#
            );
            decode(body.as_bytes()).unwrap().is_some()
        };
        assert!(kept("UID COPY", "NO [OVERQUOTA] Quota exceeded (mailbox for user is full)"));
        assert!(kept("SETACL", "OK Setacl complete.") && kept("LOGOUT", "OK Logout completed."));
        assert!(!kept("UID COPY", "OK [COPYUID 1 1 1] Copy completed."));
        assert!(!kept("SETACL", "NO Permission denied") && !kept("FETCH", "OK"));
    }

    #[test]
    fn a_login_that_failed_is_no_login() {
        let body = br#"{"event":"auth_request_finished","fields":{"error":"authentication failed","user":"alice"}}"#;
        assert_eq!(decode(body).unwrap(), None);
    }

    #[test]
    fn octets_that_are_no_utf8_and_fields_of_odd_types_do_no_harm() {
        let body = b"{\"event\":\"mail_user_session_finished\",\"fields\":{\"user\":\"al\xffice\",\"remote_ip\":[1],\"duration\":\"x\",\"session\":{}}}";
        let Some(Exported::Session { whence, .. }) = decode(body).unwrap() else { panic!() };
        assert_eq!(whence.user.as_deref(), Some("al\u{fffd}ice"));
        assert_eq!((whence.session, whence.client), (None, None));
    }

    #[test]
    fn what_nests_too_deep_is_refused() {
        let deep = format!(r#"{{"event":"x","fields":{}"#, "[".repeat(100_000));
        assert!(decode(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn a_sample_cut_or_changed_anywhere_is_read_or_refused(
            which in 0_usize..6, at in 0_usize..900, octet: u8,
        ) {
            let mut body = SAMPLES.lines().nth(which).unwrap().as_bytes().to_vec();
            let at = at % body.len();
            body[at] = octet;
            drop(decode(&body));
            drop(decode(&body[..at]));
        }
    }
}
