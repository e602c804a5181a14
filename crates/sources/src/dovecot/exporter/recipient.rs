//! Recipients of LMTP whose mailbox is full, and who are refused before there is a message.
//!
//! Dovecot says it in two halves, in either order. `smtp_server_command_finished` says that it was
//! RCPT, and not whom the recipient is; `smtp_server_transaction_rcpt_finished` says whom, and
//! comes just the same of a message that was refused when it was there, which
//! `mail_delivery_finished` tells already.

use super::annotations::Kept;
use super::decode::Fields;
use super::{Exported, Whence};

/// Halves that wait for the other one; bounded.
#[derive(Debug, Default)]
pub(super) struct Recipients(Kept<(String, String), Half>);

/// One half.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Half {
    of: Of,
    connection: String,
    address: String,
    exported: Exported,
}

/// Which half it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    /// The command.
    Command,
    /// The recipient.
    Recipient,
}

impl Recipients {
    /// Gives what names the user, once both halves are there.
    pub(super) fn join(&mut self, half: Half) -> Option<Exported> {
        let place = (half.connection.clone(), half.address.clone());
        let is_other =
            |kept: &Half| kept.of != half.of && is_near(at(&kept.exported), at(&half.exported));
        if !self.0.get(&place).is_some_and(is_other) {
            self.0.insert(place, half);
            return None;
        }
        let other = self.0.remove(&place)?;
        Some(if half.of == Of::Recipient { half.exported } else { other.exported })
    }
}

/// The half that an event is; nothing where nobody's mailbox was full (RFC 3463, section 3.3).
pub(super) fn half(name: &str, whence: Whence, fields: &Fields<'_>) -> Option<Half> {
    let is_full = matches!(fields.text("enhanced_code"), Some("5.2.2" | "4.2.2"));
    // Dovecot's submission service has recipients, too.
    if !is_full || whence.service.as_deref() != Some("lmtp") {
        return None;
    }
    let (of, address) = match name {
        "smtp_server_command_finished" if fields.text("cmd_name") == Some("RCPT") => {
            let (_, rest) = fields.text("cmd_args")?.split_once('<')?;
            (Of::Command, rest.split_once('>')?.0)
        }
        "smtp_server_transaction_rcpt_finished" => (Of::Recipient, fields.text("rcpt_to")?),
        _ => return None,
    };
    let size_octets = fields.number("mail_param_size");
    Some(Half {
        of,
        connection: fields.text("connection_id")?.to_owned(),
        address: address.to_owned(),
        exported: Exported::Recipient { whence, size_octets },
    })
}

fn at(exported: &Exported) -> Option<i64> {
    match exported {
        Exported::Recipient { whence, .. } => whence.at.map(|at| at.unix_millis()),
        _ => None,
    }
}

fn is_near(one: Option<i64>, other: Option<i64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one.abs_diff(other) <= APART_MAX_MS)
}

/// Milliseconds between the two halves, which Dovecot ends one right after the other. What is
/// further apart belongs to another message for the same recipient.
const APART_MAX_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::super::{Exporter, Whence};
    use super::*;

    fn event(name: &str, at: &str, fields: &str) -> String {
        format!(
            r#"{{"event":"{name}","end_time":"2026-11-27T09:27:{at}Z","categories":["service:lmtp"],"fields":{{"connection_id":"c",{fields}}}}}"#
        )
    }

    fn command(at: &str) -> String {
        let fields = r#""cmd_name":"RCPT","cmd_args":"TO:<alice+x@example.org> ORCPT=rfc822;<a>","enhanced_code":"5.2.2""#;
        event("smtp_server_command_finished", at, fields)
    }

    fn recipient(at: &str) -> String {
        let fields = r#""rcpt_to":"alice+x@example.org","user":"alice","mail_param_size":9,"enhanced_code":"5.2.2""#;
        event("smtp_server_transaction_rcpt_finished", at, fields)
    }

    /// The users told, and how much was refused.
    fn told(bodies: &[String]) -> Vec<(Option<String>, Option<u64>)> {
        let exporter = Exporter::new();
        for body in bodies {
            exporter.take(body.as_bytes()).unwrap();
        }
        let one = |exported| match exported {
            Exported::Recipient { whence: Whence { user, .. }, size_octets } => (user, size_octets),
            other => panic!("{other:?}"),
        };
        exporter.drain().into_iter().map(one).collect()
    }

    #[test]
    fn r46_a_refusal_at_rcpt_is_told_once_in_whichever_order_its_halves_come() {
        let alice = [(Some("alice".to_owned()), Some(9))];
        assert_eq!(told(&[recipient("26.689"), command("26.690")]), alice);
        assert_eq!(told(&[command("26.690"), recipient("26.689")]), alice);
    }

    #[test]
    fn r46_a_message_refused_when_it_was_there_is_no_refusal_at_rcpt() {
        assert_eq!(told(&[recipient("26.689")]), []);
        assert_eq!(told(&[recipient("26.689"), recipient("28")]), []);
        // The one of before is not taken for the one that belongs to the command.
        let halves = [recipient("26.689"), command("30.001"), recipient("30.000")];
        assert_eq!(told(&halves).len(), 1);
    }

    #[test]
    fn other_refusals_and_other_services_are_passed_over() {
        let other = |from: &str, to: &str| {
            [recipient("26.689"), command("26.690")].map(|body| body.replace(from, to))
        };
        assert_eq!(told(&other("5.2.2", "5.1.1")), []);
        assert_eq!(told(&other("service:lmtp", "service:submission")), []);
        assert_eq!(told(&other(r#""RCPT""#, r#""MAIL""#)), []);
        assert_eq!(told(&other("5.2.2", "4.2.2")).len(), 1);
    }
}
