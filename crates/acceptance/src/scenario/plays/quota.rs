//! Limits.

use mail_event::EventGroup;
use postbell_testkit::{ALICE, BOB, Error, Imap, mail};

use super::truth::{equal, odd};
use crate::Told;
use crate::scenario::{Deed, Stage};

/// Refused for want of room for one more message, and within again (R46–R50, R52).
///
/// # Errors
/// Where the store refuses or doesn't tell, or tells other figures than it answers.
pub fn messages(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    limit(stage, ALICE, 10_000, 3)?;
    let mut imap = store.imap(ALICE)?;
    imap.create("Kept")?;
    for marker in ["one", "two"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    stage.step("APPEND the third of three", 1, || {
        imap.append("INBOX", "", &mail::plain("three")).map(drop)
    })?;
    let (shown, refusal) = refusals(stage);
    let told = stage.step("APPEND a fourth: refused", refusal, || {
        refused(imap.append("INBOX", "", &mail::plain("four")))
    })?;
    as_answered(&mut imap, &told, shown)?;
    let told = stage.step("UID COPY: refused", refusal, || refused(imap.copy("1", "Kept")))?;
    as_answered(&mut imap, &told, shown)?;
    let mut lmtp = store.lmtp()?;
    let told = stage.step("LMTP delivers: refused", refusal, || {
        refused(lmtp.deliver("sender@example.net", ALICE, &mail::plain("five")))
    })?;
    as_answered(&mut imap, &told, shown)?;
    let told = stage
        .step("two are removed: within again, once", 2 + refusal, || remove(&mut imap, "1:2"))?;
    as_answered(&mut imap, &told, shown)?;
    stage.step("one more is removed: it was within", 2, || remove(&mut imap, "3"))?;
    Ok(())
}

/// A store that asks at RCPT TO whether there is room refuses before there is a message, and
/// tells it all the same, once (R46).
///
/// # Errors
/// As [`messages`].
pub fn recipient(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    limit(stage, ALICE, 20, 1)?;
    limit(stage, BOB, 20, 1000)?;
    let mut imap = store.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    // A session that was refused has a transaction open.
    let deliver = |to: &str, message: &[u8]| {
        let mut lmtp = store.lmtp()?;
        lmtp.deliver("sender@example.net", to, message)
    };
    deliver(BOB, &large())?;
    stage.aside(|| Ok(()))?;
    let (shown, refusal) = refusals(stage);
    let told =
        stage.step("LMTP: there is no room for one more, whatever it is", refusal, || {
            refused(deliver(ALICE, &mail::plain("two")))
        })?;
    as_answered(&mut imap, &told, shown)?;
    stage.step("LMTP: there is room, but not for so much", refusal, || {
        refused(deliver(BOB, &large()))
    })?;
    stage.step("LMTP: there is no such user", 0, || {
        refused(deliver("nobody@example.org", &mail::plain("three")))
    })?;
    Ok(())
}

/// A storage limit, met by deliveries (R47, R106, R108).
///
/// # Errors
/// As [`messages`].
pub fn storage(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    limit(stage, BOB, 20, 1000)?;
    let mut imap = store.imap(BOB)?;
    imap.create("Kept")?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    let mut lmtp = store.lmtp()?;
    let large = large();
    stage.step("LMTP delivers 12 KiB into 20", 1, || {
        lmtp.deliver("sender@example.net", BOB, &large)
    })?;
    let (shown, refusal) = refusals(stage);
    let told = stage.step("LMTP delivers 12 KiB more: refused", refusal, || {
        refused(lmtp.deliver("sender@example.net", BOB, &large))
    })?;
    as_answered(&mut imap, &told, shown)?;
    let told = stage.step("APPEND 12 KiB more: refused", refusal, || {
        refused(imap.append("Kept", "", &large))
    })?;
    as_answered(&mut imap, &told, shown)?;
    imap.command("NOOP")?;
    let told = stage.step("UID COPY: refused", refusal, || refused(imap.copy("1", "Kept")))?;
    as_answered(&mut imap, &told, shown)?;
    let told = stage
        .step("the first is removed: within again, once", 2 + refusal, || remove(&mut imap, "1"))?;
    as_answered(&mut imap, &told, shown)
}

/// Limits that are lowered and raised, which is seen at the next change of mail or refusal
/// (R52, R53).
///
/// # Errors
/// As [`messages`].
pub fn limits(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    limit(stage, ALICE, 10_000, 3)?;
    // A session that was refused has a transaction open.
    let deliver = |marker: &str| {
        let mut lmtp = store.lmtp()?;
        lmtp.deliver("sender@example.net", ALICE, &mail::plain(marker))
    };
    stage.step("LMTP delivers the first of three", 1, || deliver("one"))?;
    // A store that is asked how its quotas stand is asked after that is told.
    stage.aside(|| Ok(()))?;
    // Stay open, lest their ends be told: a session goes by the limits that it began under.
    let mut sessions = Vec::new();
    let session = |stage: &mut Stage<'_>| -> Result<Imap, Error> {
        let mut imap = store.imap(ALICE)?;
        imap.select("INBOX")?;
        stage.aside(|| Ok(()))?;
        Ok(imap)
    };

    let (shown, refusal) = refusals(stage);
    limit(stage, ALICE, 10_000, 5)?;
    let told = stage.step("the limit was raised; LMTP delivers", 2, || deliver("two"))?;
    let mut imap = session(stage)?;
    as_answered(&mut imap, &told, Shown::Always)?;
    imap.create("Kept")?;
    sessions.push(imap);
    stage.aside(|| Ok(()))?;

    limit(stage, ALICE, 10_000, 1)?;
    let told = stage.step("the limit was lowered; LMTP delivers: refused", 2 * refusal, || {
        refused(deliver("three"))
    })?;
    let mut imap = session(stage)?;
    as_answered(&mut imap, &told, shown)?;
    sessions.push(imap);

    limit(stage, ALICE, 10_000, 4)?;
    let told =
        stage.step("the limit was raised; LMTP delivers: within again", 2 + refusal, || {
            deliver("three")
        })?;
    let mut imap = session(stage)?;
    as_answered(&mut imap, &told, Shown::Always)?;
    sessions.push(imap);

    limit(stage, ALICE, 10_000, 2)?;
    let mut imap = session(stage)?;
    let told = stage.step("the limit was lowered; UID COPY: refused", 2 * refusal, || {
        refused(imap.copy("1", "Kept"))
    })?;
    as_answered(&mut imap, &told, shown)?;
    sessions.push(imap);

    limit(stage, ALICE, 20_000, 1)?;
    let mut imap = session(stage)?;
    let told =
        stage.step("both were changed; one of three is removed", 4, || remove(&mut imap, "1"))?;
    as_answered(&mut imap, &told, Shown::Always)?;
    let told = stage.step("one of two is removed: within again", 3, || remove(&mut imap, "2"))?;
    as_answered(&mut imap, &told, Shown::Always)
}

/// More octets in use than a lowered limit lets in, which is seen at the next change of mail, and
/// within again (R52, R107).
///
/// # Errors
/// As [`messages`].
pub fn above(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    limit(stage, ALICE, 100, 1000)?;
    // Both stay open, lest their ends be told: a session goes by the limits that it began under.
    let mut before = store.imap(ALICE)?;
    for _ in 0..3 {
        before.append("INBOX", "", &large())?;
    }
    stage.aside(|| Ok(()))?;
    limit(stage, ALICE, 20, 1000)?;
    let mut imap = store.imap(ALICE)?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    let told =
        stage.step("the limit was lowered; one of three is removed: still above", 4, || {
            remove(&mut imap, "1")
        })?;
    as_answered(&mut imap, &told, Shown::Always)?;
    let told = stage.step("one of two is removed: within again", 3, || remove(&mut imap, "2"))?;
    as_answered(&mut imap, &told, Shown::Always)
}

fn limit(stage: &Stage<'_>, user: &str, storage_kib: u64, messages: u64) -> Result<(), Error> {
    stage.store().operate(Deed::Limit { user, storage_kib, messages })
}

/// Whether a step must tell of a quota.
#[derive(Clone, Copy)]
enum Shown {
    Always,
    /// It is about a refusal, which this store shows to nobody but the client.
    Never,
}

/// Whether refusals are shown, and how many events one of them makes at least.
fn refusals(stage: &Stage<'_>) -> (Shown, usize) {
    match stage.store().shows_refusals() {
        true => (Shown::Always, 1),
        false => (Shown::Never, 0),
    }
}

/// Holds the quota events of one step against what GETQUOTAROOT answers now (R50, R108, R122).
fn as_answered(imap: &mut Imap, told: &[Told], shown: Shown) -> Result<(), Error> {
    let answered = imap.quota("INBOX")?;
    let events = || told.iter().filter(|one| one.event.name().group() == EventGroup::Quota);
    if events().next().is_none() {
        if let Shown::Never = shown {
            return Ok(());
        }
        return Err(odd("a quota event", format!("{told:?}")));
    }
    for Told { event, .. } in events() {
        let figures = [
            ("STORAGE", event.disk_quota(), event.disk_used()),
            ("MESSAGE", event.max_messages(), event.messages()),
        ];
        let limited: Vec<_> = figures.iter().filter(|(_, limit, _)| limit.is_some()).collect();
        if limited.is_empty() {
            return Err(odd("a limit", format!("{event:?}")));
        }
        for (of, limit, used) in limited {
            let said = answered.iter().find(|resource| resource.name == *of);
            equal(&format!("limit on {of}"), *limit, said.map(|said| said.limit))?;
            equal(&format!("usage of {of}"), *used, said.map(|said| said.usage))?;
        }
    }
    Ok(())
}

fn remove(imap: &mut Imap, uids: &str) -> Result<(), Error> {
    imap.store(uids, "+FLAGS", "\\Deleted")?;
    imap.expunge()
}

fn refused<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Refused { .. }) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(odd("a refusal", "it was taken".to_owned())),
    }
}

/// A message of 12 KiB.
fn large() -> Vec<u8> {
    let mut large = mail::plain("large");
    large.extend(b"0123456789abcdef0123456789abcdef0123456789abcdef012345678901\r\n".repeat(200));
    large
}
