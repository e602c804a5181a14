//! A person's mail program at work on Dovecot, as the source sees it.

use postbell_engine::{Message, What};
use postbell_sources::maildir::Options;
use postbell_testkit::{ALICE, BOB, Dovecot, Error, Imap, mail};

use crate::rig::{Rig, options, wait_until};

fn watching(dovecot: &Dovecot) -> Options {
    let root = dovecot.mail().join("%u/Maildir");
    Options { user: None, body_structure: true, ..options(&root) }
}

/// Does one thing after the other, and holds what is told of each against what is expected.
struct Play {
    rig: Rig,
    told: usize,
}

impl Play {
    fn step(&mut self, what: &str, act: Result<(), Error>, expected: &[&str]) {
        act.unwrap_or_else(|error| panic!("{what}: {error}"));
        let told = self.rig.hear(self.told, expected.len());
        assert_eq!(told, expected, "{what}");
        self.told += told.len();
    }
}

#[test]
fn a_session_on_dovecot_is_told_step_by_step() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let mut play = Play { rig: Rig::start(watching(&dovecot)), told: 0 };

    let delivered = dovecot.lmtp()?.deliver("s@example.net", ALICE, &mail::plain("one"));
    play.step("LMTP", delivered, &["new INBOX 1 () messages=1 uidnext=2"]);
    let appended = imap.append("INBOX", "\\Seen \\Flagged $Work", &mail::plain("two"));
    play.step(
        "APPEND",
        appended.map(drop),
        &["append INBOX 2 (\\Flagged \\Seen $Work) messages=2 uidnext=3"],
    );
    play.step("STORE", imap.store("1", "+FLAGS", "\\Seen"), &["flags INBOX 1 +(\\Seen) -()"]);
    play.step(
        "STORE a new keyword",
        imap.store("1", "+FLAGS", "\\Flagged $Important"),
        &["flags INBOX 1 +(\\Flagged $Important) -()"],
    );
    play.step(
        "STORE two",
        imap.store("1:2", "-FLAGS", "\\Flagged"),
        &["flags INBOX 1:2 +() -(\\Flagged)"],
    );
    // Dovecot gives a UIDVALIDITY at CREATE or when the mailbox is first opened.
    let created = imap.create("a/b/c").and_then(|()| imap.status("a/b/c").map(drop));
    play.step("CREATE", created, &["create a/b/c"]);
    play.step(
        "COPY",
        imap.copy("1", "a/b/c"),
        &["append a/b/c 1 (\\Seen $Important) messages=1 uidnext=2 from INBOX 1"],
    );
    play.step(
        "MOVE",
        imap.move_to("2", "a/b/c"),
        &[
            "append a/b/c 2 (\\Seen $Work) messages=2 uidnext=3 from INBOX 2",
            "expunge INBOX 2 messages=1 to a/b/c 2",
        ],
    );
    play.step(
        "STORE \\Deleted",
        imap.store("1", "+FLAGS", "\\Deleted"),
        &["flags INBOX 1 +(\\Deleted) -()"],
    );
    play.step("EXPUNGE", imap.expunge(), &["expunge INBOX 1 messages=0"]);
    play.step("SUBSCRIBE", imap.subscribe("a/b/c"), &["subscribe a/b/c"]);
    play.step("UNSUBSCRIBE", imap.unsubscribe("a/b/c"), &["unsubscribe a/b/c"]);
    let created = imap.create("a/b/d").and_then(|()| imap.status("a/b/d").map(drop));
    play.step("CREATE", created, &["create a/b/d"]);
    let created = imap.create("a").and_then(|()| imap.status("a").map(drop));
    play.step("CREATE a parent", created, &["create a"]);
    play.step("RENAME a parent", imap.rename("a", "x"), &["rename a x"]);
    play.step("RENAME a child", imap.rename("x/b/d", "new/place"), &["rename x/b/d new/place"]);
    play.step("DELETE", imap.delete("new/place"), &["delete new/place"]);
    let created = imap.create("Gr&APYA3w-e/&kK5O9g-");
    let created = created.and_then(|()| imap.status("Gr&APYA3w-e/&kK5O9g-").map(drop));
    play.step("CREATE", created, &["create Größe/邮件"]);
    Ok(())
}

/// What is told of messages is what Dovecot says of them, to the octet.
fn compare(imap: &mut Imap, told: &[Message]) -> Result<(), Error> {
    let opened = imap.select("INBOX")?;
    let fetched = imap.fetch("1:*")?;
    assert_eq!(fetched.len(), told.len());
    for (told, message) in told.iter().zip(&fetched) {
        assert_eq!(told.uid, message.uid);
        assert_eq!(told.mailbox.uid_validity, Some(opened.uid_validity));
        assert_eq!(told.size_octets, Some(message.size_octets));
        assert_eq!(told.body_structure.as_ref(), Some(&message.body_structure));
        let content = told.content.as_ref().map(|content| content.as_bytes());
        assert_eq!(content, Some(message.content.as_slice()));
    }
    let status = imap.status("INBOX")?;
    let last = told.last().map(|told| told.status).unwrap();
    assert_eq!(last.messages, Some(u64::from(status.messages)));
    assert_eq!(last.uidnext, Some(status.uidnext));
    Ok(())
}

#[test]
fn r39_r41_r102_r121_r123_r142_messages_are_told_as_dovecot_tells_them() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let options = Options { content_max_octets: Some(1 << 20), ..watching(&dovecot) };
    let rig = Rig::start(options);
    let messages = odd_messages();
    let mut lmtp = dovecot.lmtp()?;
    for (count, message) in messages.iter().enumerate() {
        match count % 2 {
            // Dovecot adds fields of its own to what is delivered.
            0 => lmtp.deliver("s@example.net", ALICE, message)?,
            _ => drop(imap.append("INBOX", "\\Seen", message)?),
        }
        rig.hear(count, 1);
    }
    let told: Vec<Message> = rig
        .kept
        .told()
        .into_iter()
        .filter_map(|told| match told.what {
            What::Delivered { message, .. } | What::Appended(message) => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), messages.len());
    compare(&mut imap, &told)
}

/// Messages as people and programs make them, and some as they shouldn't.
fn odd_messages() -> Vec<Vec<u8>> {
    let mut messages = vec![
        mail::plain("plain"),
        mail::with_attachment("attached"),
        mail::forwarded("forwarded"),
        mail::with_bare_lf(&mail::with_attachment("bare")),
    ];
    let texts = [
        "From: a@example.org\n\nNo MIME at all.\n",
        "Content-Type: TEXT/Plain; Charset=\"utf-8\"; format=flowed\nContent-Transfer-Encoding: Quoted-Printable\n\nx\n",
        "Content-Type: text/plain; name*0=\"a long \"; name*1=\"name.txt\"\n\nx\n",
        "Content-Type: text/html\nContent-ID: <one@example.org>\nContent-Description: a \"page\"\nContent-Language: en, de\nContent-Location: http://example.org/\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\n\n<p>\n",
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\n1\n--b\nContent-Type: text/plain\n\n2\n--b--\nafter\n",
        "Content-Type: multipart/mixed; boundary=\"x y\"\n\nnothing here\n",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/pdf; name=\"a b.pdf\"\nContent-Disposition: attachment; filename=\"a b.pdf\"; size=3\nContent-Transfer-Encoding: base64\n\nAAAA\n--b\nContent-Type: message/rfc822\n\nFrom: \"Last, First\" <f@example.org>, g@example.org (Gus)\nSender: s@example.org\nReply-To: r@example.org\nTo: undisclosed:;\nCc: Team: a@example.org, b@example.org;\nIn-Reply-To: <zero@example.org>\nMessage-ID: <one@example.org>\nSubject: =?utf-8?q?=E2=9C=89?=\nDate: Tue, 1 Sep 2026 08:15:00 +0200\n\nbody\nof two lines\n--b--\n",
    ];
    messages.extend(texts.iter().map(|text| text.replace('\n', "\r\n").into_bytes()));
    messages
}

#[test]
fn what_happens_while_the_source_is_down_is_told_at_the_next_start() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("Old")?;
    imap.create("Kept")?;
    imap.status("Old")?;
    imap.status("Kept")?;
    for marker in ["one", "two", "three"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    imap.select("INBOX")?;
    let mut rig = Rig::start(watching(&dovecot));
    rig.stop();
    imap.store("1", "+FLAGS", "\\Seen \\Flagged")?;
    imap.store("2", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    imap.move_to("3", "Kept")?;
    imap.create("New")?;
    imap.delete("Old")?;
    imap.rename("Kept", "Moved")?;
    dovecot.lmtp()?.deliver("s@example.net", ALICE, &mail::plain("meanwhile"))?;
    imap.subscribe("New")?;
    rig.resume();
    assert_eq!(
        rig.hear(0, 9),
        [
            "rename Kept Moved",
            "create New",
            "new INBOX 4 () messages=4 uidnext=5",
            "append Moved 1 () messages=1 uidnext=2 from INBOX 3",
            "flags INBOX 1 +(\\Flagged \\Seen) -()",
            "expunge INBOX 2 messages=3",
            "expunge INBOX 3 messages=2 to Moved 1",
            "delete Old",
            "subscribe New",
        ]
    );
    Ok(())
}

#[test]
fn r8_another_uidvalidity_is_a_gap_and_not_an_expunge() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    imap.select("INBOX")?;
    let rig = Rig::start(watching(&dovecot));
    let list = dovecot.maildir(ALICE).join("dovecot-uidlist");
    let text = std::fs::read_to_string(&list).unwrap();
    let (_, rest) = text.split_once(" N").unwrap();
    std::fs::write(list.with_extension("tmp"), format!("3 V77 N{rest}")).unwrap();
    std::fs::rename(list.with_extension("tmp"), &list).unwrap();
    assert_eq!(rig.hear(0, 1), ["gap INBOX"]);
    assert_eq!(rig.health.snapshot().gaps, 1);
    Ok(())
}

#[test]
fn a_foreign_delivery_waits_for_dovecots_uid_and_is_told_with_it() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let rig = Rig::start(watching(&dovecot));
    let root = dovecot.maildir(ALICE);
    std::fs::write(root.join("tmp/1.foreign.h"), mail::plain("foreign")).unwrap();
    std::fs::rename(root.join("tmp/1.foreign.h"), root.join("new/1.foreign.h")).unwrap();
    let waits = || rig.health.snapshot().detail.contains("wait for Dovecot");
    wait_until("the message to be seen", waits);
    assert!(rig.hear_out(0).is_empty());
    dovecot.imap(ALICE)?.select("INBOX")?;
    assert_eq!(rig.hear(0, 1), ["new INBOX 1 () messages=1 uidnext=2"]);
    Ok(())
}

#[test]
fn users_are_kept_apart_and_one_who_comes_later_is_followed() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    dovecot.imap(ALICE)?.select("INBOX")?;
    let rig = Rig::start(watching(&dovecot));
    dovecot.imap(BOB)?.select("INBOX")?;
    // What is there at the first look at a user is not told.
    wait_until("the other user", || rig.health.snapshot().users == 2);
    rig.hear_out(0);
    let mut owners = Vec::new();
    for (count, user) in [BOB, ALICE].into_iter().enumerate() {
        dovecot.lmtp()?.deliver("s@example.net", user, &mail::plain("for-one"))?;
        rig.hear(count, 1);
        owners.extend(rig.kept.told().get(count).and_then(|told| told.owner.clone()));
    }
    assert_eq!(owners, [BOB, ALICE]);
    assert_eq!(rig.health.snapshot().users, 2);
    Ok(())
}
