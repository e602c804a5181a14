//! Delivery agents and a synchroniser at work on a plain Maildir.

use postbell_engine::What;
use postbell_testkit::{ALICE, Agent, Dovecot, Error, Mbsync, mail};

use crate::rig::{Rig, options, shown, wait_until};

fn deliver_two(agent: &Agent) -> Result<(), Error> {
    let rig = Rig::start(options(&agent.maildir()));
    let message = mail::with_attachment("one");
    for count in 0..2 {
        agent.deliver(&mail::with_bare_lf(&message))?;
        rig.hear(count, 1);
    }
    assert_eq!(
        rig.hear_out(0),
        ["new INBOX 1 () messages=1 uidnext=2", "new INBOX 2 () messages=2 uidnext=3"]
    );
    let What::Delivered { message: told, .. } = &rig.kept.told()[0].what else { panic!() };
    assert!(told.size_octets >= Some(message.len() as u64), "an agent may add fields");
    Ok(())
}

#[test]
fn each_delivery_by_maildrop_is_a_new_message() -> Result<(), Error> {
    Agent::maildrop()?.as_ref().map_or(Ok(()), deliver_two)
}

#[test]
fn each_delivery_by_procmail_is_a_new_message() -> Result<(), Error> {
    Agent::procmail()?.as_ref().map_or(Ok(()), deliver_two)
}

#[test]
fn what_mbsync_brings_is_told() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let Some(mbsync) = Mbsync::prepare(&dovecot, ALICE)? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let rig = Rig::start(options(&mbsync.maildir()));
    let hear = |from, expected: &[&str]| assert_eq!(rig.hear(from, expected.len()), expected);

    imap.append("INBOX", "", &mail::plain("unread"))?;
    imap.append("INBOX", "\\Seen \\Flagged", &mail::plain("read"))?;
    mbsync.run()?;
    hear(
        0,
        &[
            "new INBOX 1 () messages=1 uidnext=2",
            "append INBOX 2 (\\Flagged \\Seen) messages=2 uidnext=3",
        ],
    );
    imap.store("1", "+FLAGS", "\\Seen \\Answered")?;
    mbsync.run()?;
    hear(2, &["flags INBOX 1 +(\\Answered \\Seen) -()"]);
    imap.create("Lists")?;
    imap.append("Lists", "", &mail::plain("on-a-list"))?;
    mbsync.run()?;
    hear(3, &["create Lists", "new Lists 1 () messages=1 uidnext=2"]);
    imap.store("2", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    mbsync.run()?;
    let gone = "expunge INBOX 2 messages=1";
    let is_told = || rig.kept.told().iter().any(|told| shown(&told.what) == gone);
    wait_until("the expunge", is_told);
    let told = rig.hear_out(5);
    assert_eq!(told.last().map(String::as_str), Some(gone), "{told:?}");
    Ok(())
}
