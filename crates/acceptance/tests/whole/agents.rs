//! Delivery agents and a synchroniser at work on a plain Maildir.

use postbell_acceptance::{Bench, Script, Told};
use postbell_testkit::{ALICE, Agent, Dovecot, Error, Mbsync, mail};

fn delivered_by(agent: &Agent) -> Result<Vec<Told>, Error> {
    let mut bench = Bench::start(&agent.mail())?;
    bench.hear_out()?;
    for marker in ["one", "two"] {
        agent.deliver(&mail::with_bare_lf(&mail::with_attachment(marker)))?;
        bench.hear(1)?;
    }
    bench.hear_out()?;
    Ok(bench.heard().to_vec())
}

fn described(told: &[Told]) -> Vec<String> {
    told.iter().map(ToString::to_string).collect()
}

const TWO_DELIVERIES: [&str; 2] = [
    "MessageNew          INBOX uid=1 messages=1 uidnext=2",
    "MessageNew          INBOX uid=2 messages=2 uidnext=3",
];

#[test]
fn each_delivery_by_maildrop_is_a_new_message() -> Result<(), Error> {
    let Some(agent) = Agent::maildrop()? else { return Ok(()) };
    assert_eq!(described(&delivered_by(&agent)?), TWO_DELIVERIES);
    Ok(())
}

#[test]
fn each_delivery_by_procmail_is_a_new_message() -> Result<(), Error> {
    let Some(agent) = Agent::procmail()? else { return Ok(()) };
    assert_eq!(described(&delivered_by(&agent)?), TWO_DELIVERIES);
    Ok(())
}

#[test]
fn what_mbsync_brings_is_told() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let Some(mbsync) = Mbsync::prepare(&dovecot, ALICE)? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let mut bench = Bench::start(&mbsync.mail())?;
    bench.hear_out()?;
    let mut script = Script::new(&mut bench);

    imap.append("INBOX", "", &mail::plain("unread"))?;
    imap.append("INBOX", "\\Seen \\Flagged", &mail::plain("read"))?;
    script.step("mbsync brings an unread and a read message", 2, || mbsync.run().map(drop))?;
    imap.store("1", "+FLAGS", "\\Seen \\Answered")?;
    script.step("mbsync brings flags", 2, || mbsync.run().map(drop))?;
    imap.create("Lists")?;
    imap.append("Lists", "", &mail::plain("on-a-list"))?;
    script.step("mbsync brings a mailbox with a message", 2, || mbsync.run().map(drop))?;
    imap.store("2", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    script.settle("mbsync removes a message", || mbsync.run().map(drop))?;

    insta::assert_snapshot!(script.finish()?);
    Ok(())
}
