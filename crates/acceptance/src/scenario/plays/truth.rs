//! What is told of a mailbox is what the server says of it afterwards.

use postbell_testkit::{ALICE, Error, mail};

use crate::scenario::Stage;

/// messages, uidnext, modseq, messageSize against STATUS and FETCH (R102, R121–R124, R142).
///
/// # Errors
/// Where the store says one thing and the events another.
pub fn figures(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    let mut told = Vec::new();
    let mut lmtp = store.lmtp()?;
    told.extend(stage.step("LMTP delivers", 1, || {
        lmtp.deliver("sender@example.net", ALICE, &mail::with_attachment("one"))
    })?);
    told.extend(stage.step("APPEND INBOX (\\Seen)", 1, || {
        imap.append("INBOX", "\\Seen", &mail::plain("two")).map(drop)
    })?);
    // Some stores say more, under names of their own.
    told.retain(|told| !told.name().starts_with("vnd."));
    let [first, second] = &told[..] else {
        return Err(odd("two events", format!("{told:?}")));
    };
    imap.command("NOOP")?;
    let fetched = imap.fetch("1:*")?;
    for (event, message) in [first, second].into_iter().zip(&fetched) {
        equal("UID", event.uid(), Some(message.uid))?;
        equal("messageSize", event.event.message_size(), Some(message.size_octets))?;
        let modseq = modseq(&mut imap, message.uid)?;
        equal("modseq", event.event.modseq().map(|modseq| modseq.to_string()), Some(modseq))?;
    }
    let status = imap.status("INBOX")?;
    equal("messages", second.event.messages(), Some(u64::from(status.messages)))?;
    equal("uidnext", second.event.uidnext(), Some(status.uidnext))?;
    equal("UIDVALIDITY", second.uid_validity(), Some(status.uid_validity))?;
    let gone = stage.step("UID STORE 1 \\Deleted, EXPUNGE", 2, || {
        imap.store("1", "+FLAGS", "\\Deleted")?;
        imap.expunge()
    })?;
    let status = imap.status("INBOX")?;
    let last = gone.iter().rfind(|told| !told.name().starts_with("vnd."));
    let last = last.ok_or_else(|| odd("an event", String::new()))?;
    equal("messages", last.event.messages(), Some(u64::from(status.messages)))?;
    equal("uidnext", last.event.uidnext(), Some(status.uidnext))
}

fn modseq(imap: &mut postbell_testkit::Imap, uid: u32) -> Result<String, Error> {
    let answer = imap.command(&format!("UID FETCH {uid} MODSEQ"))?;
    let lines: Vec<_> =
        answer.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let text = lines.join("\n");
    let digits = text.split_once("MODSEQ (").and_then(|(_, rest)| rest.split_once(')'));
    digits.map(|(digits, _)| digits.to_owned()).ok_or_else(|| odd("MODSEQ", text.clone()))
}

pub(super) fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    told: T,
    said: T,
) -> Result<(), Error> {
    if told == said {
        return Ok(());
    }
    Err(odd(&format!("{what} {said:?}, as the server says"), format!("{told:?}")))
}

pub(super) fn odd(expected: &str, answer: String) -> Error {
    Error::Answer { expected: expected.to_owned(), answer }
}
