//! A person's mail program at work on Dovecot.

use postbell_acceptance::{Bench, Script, Told};
use postbell_testkit::{ALICE, BOB, Dovecot, Error, Imap, mail};

/// One of each thing a mail program does, in an order in which each can be told from the others.
#[test]
fn a_session_on_dovecot_is_told_as_rfc_5423_has_it() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    let mut script = Script::new(&mut bench);

    script.step("LMTP delivers", 1, || {
        dovecot.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))
    })?;
    script.step("APPEND INBOX (\\Seen \\Flagged $Work)", 1, || {
        imap.append("INBOX", "\\Seen \\Flagged $Work", &mail::plain("two")).map(drop)
    })?;
    script.step("STORE 1 +FLAGS (\\Seen)", 1, || imap.store("1", "+FLAGS", "\\Seen"))?;
    script.step("STORE 1 +FLAGS (\\Flagged $Important)", 1, || {
        imap.store("1", "+FLAGS", "\\Flagged $Important")
    })?;
    script.step("STORE 1:2 -FLAGS (\\Flagged)", 1, || imap.store("1:2", "-FLAGS", "\\Flagged"))?;
    script.step("CREATE a/b/c", 1, || imap.create("a/b/c"))?;
    script.step("COPY 1 a/b/c", 1, || imap.copy("1", "a/b/c"))?;
    script.step("MOVE 2 a/b/c", 2, || imap.move_to("2", "a/b/c"))?;
    script.step("STORE 1 +FLAGS (\\Deleted)", 1, || imap.store("1", "+FLAGS", "\\Deleted"))?;
    script.step("EXPUNGE", 1, || imap.expunge())?;
    script.step("SUBSCRIBE a/b/c", 1, || imap.subscribe("a/b/c"))?;
    script.step("UNSUBSCRIBE a/b/c", 1, || imap.unsubscribe("a/b/c"))?;
    script.step("CREATE a/b/d", 1, || imap.create("a/b/d"))?;
    // Dovecot gives it a UIDVALIDITY when somebody asks for it, and not before.
    script.step("CREATE a, STATUS a", 1, || {
        imap.create("a")?;
        imap.status("a").map(drop)
    })?;
    script.step("RENAME a x", 1, || imap.rename("a", "x"))?;
    script.step("RENAME x/b/d new/place", 1, || imap.rename("x/b/d", "new/place"))?;
    script.step("DELETE new/place", 1, || imap.delete("new/place"))?;
    script.step("CREATE Größe/邮件", 1, || imap.create("Gr&APYA3w-e/&kK5O9g-"))?;

    insta::assert_snapshot!(script.finish()?);
    Ok(())
}

/// What events say of a message is what Dovecot says of it, to the octet.
fn compare_with_dovecot(dovecot: &Dovecot, mailbox: &str, told: &[Told]) -> Result<(), Error> {
    let mut imap: Imap = dovecot.imap(ALICE)?;
    let opened = imap.select(mailbox)?;
    let fetched = imap.fetch("1:*")?;
    assert_eq!(fetched.len(), told.len());
    for (event, message) in told.iter().zip(&fetched) {
        assert_eq!(event.uid(), Some(message.uid), "{event}");
        assert_eq!(event.uid_validity(), Some(opened.uid_validity), "{event}");
        assert_eq!(event.event.message_size(), Some(message.size_octets), "{event}");
        assert_eq!(message.size_octets, message.content.len() as u64, "BODY[]'s length");
        assert_eq!(event.event.body_structure(), Some(&*message.body_structure), "{event}");
    }
    let status = imap.status(mailbox)?;
    let last = &told.last().ok_or_else(|| Error::Answer {
        expected: "an event".to_owned(),
        answer: "none".to_owned(),
    })?;
    assert_eq!(last.event.messages(), Some(u64::from(status.messages)));
    assert_eq!(last.event.uidnext(), Some(status.uidnext));
    Ok(())
}

/// A message of each kind, delivered and appended; what is told of each.
fn a_few_messages(dovecot: &Dovecot) -> Result<Vec<Told>, Error> {
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    let mut told = Vec::new();
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver("sender@example.net", ALICE, &mail::plain("plain"))?;
    told.extend(bench.hear(1)?);
    lmtp.deliver("sender@example.net", ALICE, &mail::with_attachment("attached"))?;
    told.extend(bench.hear(1)?);
    imap.append("INBOX", "", &mail::with_attachment("appended"))?;
    told.extend(bench.hear(1)?);
    imap.append("INBOX", "\\Seen", &mail::forwarded("forwarded"))?;
    told.extend(bench.hear(1)?);
    Ok(told)
}

#[test]
fn r39_r102_r121_r123_r142_what_is_told_of_messages_is_what_dovecot_says() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let told = a_few_messages(&dovecot)?;
    compare_with_dovecot(&dovecot, "INBOX", &told)
}

#[test]
fn r112_flags_a_message_comes_with_are_told_with_it_and_not_again() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    imap.append("INBOX", "\\Seen \\Answered", &mail::plain("read"))?;
    let told = bench.hear_out()?;
    let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["MessageAppend       INBOX uid=1 flags=(\\Answered \\Seen) messages=1 uidnext=2"]
    );
    Ok(())
}

#[test]
fn r81_parents_made_along_the_way_are_implied() -> Result<(), Error> {
    told_by("r81", &["p/q/r"], |imap| imap.create("p/q/r"))
}

#[test]
fn r91_children_are_renamed_in_silence() -> Result<(), Error> {
    let before = |imap: &mut Imap| {
        ["parent", "parent/1", "parent/2", "parent/3"].iter().try_for_each(|name| imap.create(name))
    };
    told_after("r91", before, &["other"], |imap| imap.rename("parent", "other"))
}

#[test]
fn r92_parents_of_a_new_name_are_implied() -> Result<(), Error> {
    told_after(
        "r92",
        |imap| imap.create("flat"),
        &["deep/er/est"],
        |imap| imap.rename("flat", "deep/er/est"),
    )
}

#[test]
fn r97_subscribing_again_is_no_event() -> Result<(), Error> {
    let before = |imap: &mut Imap| {
        imap.create("list")?;
        imap.subscribe("list")
    };
    told_after("r97", before, &[], |imap| imap.subscribe("list"))
}

fn told_by(
    requirement: &str,
    mailboxes: &[&str],
    act: impl FnOnce(&mut Imap) -> Result<(), Error>,
) -> Result<(), Error> {
    told_after(requirement, |_| Ok(()), mailboxes, act)
}

/// Does one thing and expects one event for each of `mailboxes`, and no other.
fn told_after(
    requirement: &str,
    before: impl FnOnce(&mut Imap) -> Result<(), Error>,
    mailboxes: &[&str],
    act: impl FnOnce(&mut Imap) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    before(&mut imap)?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    act(&mut imap)?;
    let told = bench.hear_out()?;
    let named: Vec<&str> = told.iter().map(Told::mailbox).collect();
    assert_eq!(named, mailboxes, "{requirement}: {told:#?}\n{}", dovecot.log());
    Ok(())
}

#[test]
fn two_users_are_kept_apart() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    for user in [ALICE, BOB] {
        dovecot.imap(user)?.select("INBOX")?;
    }
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    let mut lmtp = dovecot.lmtp()?;
    let mut users = Vec::new();
    for user in [BOB, ALICE] {
        lmtp.deliver("sender@example.net", user, &mail::plain("for-one"))?;
        for told in bench.hear(1)? {
            users.push(told.owner().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(users, [BOB, ALICE]);
    assert_eq!(bench.hear_out()?.len(), 0);
    Ok(())
}
