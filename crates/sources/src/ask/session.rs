//! One login: commands, and what is answered.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder as _;
use imap_codec::imap_types::response::{Code, Data, Response, Status, StatusKind, Tagged};

use super::wire::Wire;
use super::{AskError, Master};

/// A logged-in session of one user.
#[derive(Debug)]
pub(super) struct Session {
    wire: Wire,
    commands: u32,
    /// The mailbox that is open.
    pub(super) selected: Option<String>,
    /// Whether ENABLE QRESYNC was said.
    pub(super) has_qresync: bool,
    /// Whether the server offers URLAUTH, once it was asked.
    pub(super) has_url_auth: Option<bool>,
    /// What the server calls the session, where it says so.
    pub(super) name: Option<String>,
}

/// One response on the way to an answer.
pub(super) enum Reply<'a> {
    /// What a server tells of mailboxes and messages, and its octets.
    Data(Data<'a>, &'a [u8]),
    /// A response code of an untagged OK.
    Code(Code<'a>),
    /// Anything this version of the parser doesn't know, such as ACL.
    Other(&'a [u8]),
}

/// A connection on which nobody is logged in yet.
#[derive(Debug)]
pub(super) struct Greeted(Wire);

impl Greeted {
    /// Connects, and waits for the greeting.
    pub(super) fn connect(master: &Master, patience: Duration) -> Result<Self, AskError> {
        let mut wire = Wire::connect(check_address(master.address)?, patience)?;
        let greeting = wire.response(LINE_OCTETS_MAX)?;
        match greeting.starts_with(b"* OK") {
            true => Ok(Self(wire)),
            false => Err(AskError::Away { answer: shown(&greeting) }),
        }
    }

    /// Our end of it.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.0.local()
    }
}

impl Session {
    /// Logs in as `user` with the master user's password (RFC 4616).
    pub(super) fn login(
        Greeted(mut wire): Greeted,
        master: &Master,
        user: &str,
        patience: Duration,
    ) -> Result<Self, AskError> {
        wire.allow(patience);
        let mut session = Self {
            wire,
            commands: 0,
            selected: None,
            has_qresync: false,
            has_url_auth: None,
            name: None,
        };
        let mut message = Vec::new();
        match master.separator {
            Some(separator) => {
                message.push(0);
                message.extend_from_slice(user.as_bytes());
                message.extend_from_slice(separator.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => {
                message.extend_from_slice(user.as_bytes());
                message.push(0);
            }
        }
        message.extend_from_slice(master.user.as_bytes());
        message.push(0);
        message.extend_from_slice(master.password.reveal());
        let tag = session.tag();
        session.wire.send(format!("{tag} AUTHENTICATE PLAIN\r\n").as_bytes())?;
        let invitation = session.wire.response(LINE_OCTETS_MAX)?;
        if !invitation.starts_with(b"+") {
            return Err(AskError::Refused { answer: shown(&invitation) });
        }
        session.wire.send(format!("{}\r\n", STANDARD.encode(message)).as_bytes())?;
        let welcome = session.answer(&tag, LINE_OCTETS_MAX, &mut |_| {})?;
        session.name = name(&welcome);
        Ok(session)
    }

    /// Sends a command and hands on what is answered, response by response.
    ///
    /// No response may be larger than `octets_max`, nor all together than a good many of them.
    pub(super) fn command(
        &mut self,
        command: &str,
        octets_max: usize,
        patience: Duration,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), AskError> {
        self.wire.allow(patience);
        let tag = self.tag();
        self.wire.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.answer(&tag, octets_max, each).map(drop)
    }

    /// Says goodbye and doesn't wait for the answer.
    pub(super) fn leave(mut self) {
        self.wire.allow(FAREWELL);
        let tag = self.tag();
        // Whether it is heard makes no difference to us.
        if let Err(error) = self.wire.send(format!("{tag} LOGOUT\r\n").as_bytes()) {
            tracing::debug!(%error, "left without a goodbye");
        }
    }

    /// Gives how the answer ended, where it is OK.
    fn answer(
        &mut self,
        tag: &str,
        octets_max: usize,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<Vec<u8>, AskError> {
        let mut octets = 0_usize;
        loop {
            let response = self.wire.response(octets_max)?;
            octets = octets.saturating_add(response.len());
            if octets > ANSWER_OCTETS_MAX.max(octets_max.saturating_mul(2)) {
                return Err(AskError::TooLarge);
            }
            if let Some(rest) = after_tag(&response, tag) {
                return if rest.starts_with(b"OK") {
                    Ok(rest.to_vec())
                } else {
                    Err(AskError::Refused { answer: shown(rest) })
                };
            }
            match ResponseCodec::default().decode(&response) {
                Ok((_, Response::Data(data))) => each(Reply::Data(data, &response)),
                Ok((_, Response::Status(Status::Untagged(body)))) => {
                    if let (StatusKind::Ok, Some(code)) = (body.kind, body.code) {
                        each(Reply::Code(code));
                    }
                }
                Ok((_, Response::Status(Status::Bye(_)))) => return Err(AskError::Closed),
                Ok((_, Response::Status(Status::Tagged(Tagged { .. })))) => {}
                Ok((_, Response::CommandContinuationRequest(_))) => {
                    return Err(AskError::Refused { answer: shown(&response) });
                }
                Err(_) => each(Reply::Other(&response)),
            }
        }
    }

    fn tag(&mut self) -> String {
        self.commands = self.commands.wrapping_add(1);
        format!("p{}", self.commands)
    }
}

/// Nobody but this machine may hear the password: TLS isn't offered yet.
pub(super) fn check_address(address: SocketAddr) -> Result<SocketAddr, AskError> {
    if address.ip().to_canonical().is_loopback() {
        Ok(address)
    } else {
        Err(AskError::NotLoopback { address })
    }
}

/// A mailbox name as a command holds it.
pub(super) fn quoted_mailbox(name: &str) -> String {
    let encoded = mail_event::mutf7::encode(name);
    format!("\"{}\"", encoded.replace('\\', "\\\\").replace('"', "\\\""))
}

fn after_tag<'r>(response: &'r [u8], tag: &str) -> Option<&'r [u8]> {
    response.strip_prefix(tag.as_bytes())?.strip_prefix(b" ")
}

/// What Cyrus calls a session that it lets in: `OK … SESSIONID=<…>`.
fn name(welcome: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(welcome).ok()?;
    let (name, _) = text.split_once("SESSIONID=<")?.1.split_once('>')?;
    Some(name.to_owned())
}

/// The beginning of an answer, for a person.
fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.chars().filter(|one| !one.is_control()).take(200).collect()
}

/// Octets of a response that holds no mail: an ACL or a LIST.
pub(super) const LINE_OCTETS_MAX: usize = 64 * 1024;

/// Octets of all responses to one command.
const ANSWER_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// For a goodbye.
const FAREWELL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leaves_its_quotes_no_more_than_its_line() {
        assert_eq!(quoted_mailbox("Entwürfe"), "\"Entw&APw-rfe\"");
        assert_eq!(quoted_mailbox("a\"b\\c&d"), "\"a\\\"b\\\\c&-d\"");
        assert!(!quoted_mailbox("a\r\nb LOGOUT").contains(['\r', '\n']));
    }

    #[test]
    fn a_session_has_the_name_it_is_welcomed_with() {
        let welcome = b"OK [CAPABILITY X] Success (no protection) SESSIONID=<host-1-2-3>\r\n";
        assert_eq!(name(welcome).as_deref(), Some("host-1-2-3"));
        assert_eq!(name(b"OK Logged in SESSIONID=<\r\n"), None);
        assert_eq!(name(b"OK \xffSESSIONID=<a>"), None);
    }

    #[test]
    fn an_address_that_is_not_this_machine_is_refused() {
        for address in ["192.0.2.1:143", "[2001:db8::1]:143", "0.0.0.0:143"] {
            let error = check_address(address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("TLS"), "{error}");
        }
        for address in ["127.0.0.1:143", "[::1]:143", "[::ffff:127.0.0.1]:143"] {
            assert!(check_address(address.parse().unwrap()).is_ok());
        }
    }
}
