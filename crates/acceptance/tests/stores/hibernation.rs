//! Sessions that Dovecot keeps without a process while their clients idle.

use postbell_acceptance::scenario::Stage;
use postbell_testkit::{ALICE, BOB, Dovecot, Error, Imap, mail};

/// Whatever Dovecot does with its processes, a session begins once and ends once, however it ends.
pub(crate) fn play(stage: &mut Stage<'_>, dovecot: &Dovecot) -> Result<(), Error> {
    let sleep = |imap: &mut Imap, user| {
        imap.idle()?;
        dovecot.wait_until_asleep(user)
    };
    let mut imap = logged_in(stage, dovecot, ALICE)?;
    stage.aside(|| imap.append("INBOX", "", &mail::plain("one")).map(drop))?;
    stage.step("it idles, and hibernates", 0, || sleep(&mut imap, ALICE))?;
    stage.step("it wakes, and sets a flag", 1, || {
        imap.done()?;
        imap.store("1", "+FLAGS", "\\Flagged")
    })?;
    stage.step("it hibernates again", 0, || sleep(&mut imap, ALICE))?;
    let told = stage.step("it wakes, and logs out", 1, || {
        imap.done()?;
        imap.logout()
    })?;
    let seconds = told.iter().find_map(|one| one.event.vendor("vnd.postbell.sessionDuration"));
    // It idled for a second twice, in two processes that are gone.
    if seconds.as_ref().and_then(serde_json::Value::as_u64).is_none_or(|seconds| seconds < 2) {
        let expected = "the length of the whole session".to_owned();
        return Err(Error::Answer { expected, answer: format!("{seconds:?}") });
    }

    let mut imap = logged_in(stage, dovecot, BOB)?;
    stage.step("it idles, and hibernates", 0, || sleep(&mut imap, BOB))?;
    stage.step("mail comes: it wakes, tells its client, and hibernates again", 1, || {
        dovecot.lmtp()?.deliver("ann@example.org", BOB, &mail::plain("two"))?;
        let news = imap.news()?;
        if !news.ends_with(" EXISTS") {
            return Err(Error::Answer { expected: "EXISTS".to_owned(), answer: news });
        }
        dovecot.wait_until_asleep(BOB)
    })?;
    stage.step("its connection is dropped", 1, || {
        drop(imap);
        Ok(())
    })?;

    let mut imap = logged_in(stage, dovecot, BOB)?;
    stage.step("it idles, and hibernates", 0, || sleep(&mut imap, BOB))?;
    stage.step("the process that holds it is killed", 1, || {
        let holding = dovecot.processes("imap-hibernate");
        holding.into_iter().try_for_each(|pid| dovecot.kill_process(pid))
    })?;
    drop(imap);
    Ok(())
}

fn logged_in(stage: &mut Stage<'_>, dovecot: &Dovecot, user: &str) -> Result<Imap, Error> {
    let mut imap = None;
    stage.step("IMAP login", 1, || {
        imap = Some(dovecot.imap(user)?);
        Ok(())
    })?;
    let mut imap = imap.ok_or_else(|| Error::Answer {
        expected: "a session".to_owned(),
        answer: "none".to_owned(),
    })?;
    imap.select("INBOX")?;
    Ok(imap)
}
