//! What happens while the hub is down is told when it is back.

use postbell_acceptance::{Bench, Script, Told};
use postbell_testkit::{ALICE, Dovecot, Error, mail};

#[test]
fn nothing_is_lost_while_the_hub_is_down() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("Old")?;
    imap.create("Kept")?;
    for marker in ["one", "two", "three"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    imap.select("INBOX")?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    let before = bench.heard().len();
    bench.stop();

    imap.store("1", "+FLAGS", "\\Seen \\Flagged")?;
    imap.store("2", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    imap.move_to("3", "Kept")?;
    imap.create("New")?;
    imap.delete("Old")?;
    imap.rename("Kept", "Moved")?;
    dovecot.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("meanwhile"))?;
    imap.subscribe("New")?;

    let mut script = Script::new(&mut bench);
    script.settle_with("the hub is back", Bench::resume)?;
    insta::assert_snapshot!(script.finish()?);
    let told = &bench.heard()[before..];
    assert!(told.iter().all(Told::is_inferred), "{told:#?}");
    for pair in bench.heard().windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq + 1, "numbers have no gap");
    }
    Ok(())
}

#[test]
fn a_restart_with_nothing_to_tell_tells_nothing() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    dovecot.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("before"))?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    for _ in 0..3 {
        bench.stop();
        bench.resume()?;
        let told = bench.hear_out()?;
        assert!(told.is_empty(), "{told:#?}");
    }
    Ok(())
}
