//! Limits, kept by Dovecot or set for the source.

use std::fs;

use postbell_acceptance::{Bench, Script};
use postbell_testkit::{ALICE, Agent, Dovecot, Error, Options, Quota, mail};

#[test]
fn r46_r52_a_configured_limit_exceeded_and_kept_again_is_told_once_each() -> Result<(), Error> {
    let Some(told) = passed("quota_messages = 2\n")? else { return Ok(()) };
    insta::assert_snapshot!(told);
    Ok(())
}

#[test]
fn r105_r107_a_configured_limit_of_storage_is_told_in_kibibytes() -> Result<(), Error> {
    let Some(told) = passed("quota_storage = \"1KiB\"\n")? else { return Ok(()) };
    insta::assert_snapshot!(told);
    Ok(())
}

#[test]
fn r53_a_limit_that_dovecot_keeps_is_followed() -> Result<(), Error> {
    let quota = Some(Quota { storage_kib: 512, messages: 3 });
    let Some(dovecot) = Dovecot::start_with(Options { quota, ..Options::default() })? else {
        return Ok(());
    };
    let mut imap = dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    let mut bench = Bench::start(&dovecot.mail())?;
    bench.hear_out()?;
    let mut script = Script::new(&mut bench);
    script
        .step("APPEND INBOX ()", 1, || imap.append("INBOX", "", &mail::plain("two")).map(drop))?;
    let sizes = dovecot.maildir(ALICE).join("maildirsize");
    script.step("the limit is lowered below what is used", 2, || {
        let text = fs::read_to_string(&sizes).map_err(Error::io("read maildirsize"))?;
        fs::write(&sizes, text.replace("3C", "1C")).map_err(Error::io("write maildirsize"))
    })?;
    insta::assert_snapshot!(script.finish()?);
    Ok(())
}

/// What is told where messages come, one after the other, and the first two go again.
fn passed(limit: &str) -> Result<Option<String>, Error> {
    let Some(agent) = Agent::maildrop()? else { return Ok(None) };
    let mut bench = Bench::start_with(&agent.mail(), limit)?;
    bench.hear_out()?;
    let mut script = Script::new(&mut bench);
    for (marker, events) in [("one", 1), ("two", 1), ("three", 2), ("four", 1)] {
        script.step(&format!("maildrop delivers {marker}"), events, || {
            agent.deliver(&mail::plain(marker))
        })?;
    }
    script.settle("two messages are removed", || remove(&agent, 2))?;
    script.finish().map(Some)
}

/// Removes the oldest messages as a mail program without a server does. A name tells no age:
/// maildrop writes microseconds without leading zeros.
fn remove(agent: &Agent, count: usize) -> Result<(), Error> {
    let doing = || Error::io("remove messages");
    let folder = fs::read_dir(agent.maildir().join("new")).map_err(doing())?;
    let aged = folder.map(|entry| {
        let entry = entry?;
        Ok((entry.metadata()?.modified()?, entry.path()))
    });
    let mut files = aged.collect::<Result<Vec<_>, _>>().map_err(doing())?;
    files.sort();
    files.iter().take(count).try_for_each(|(_, file)| fs::remove_file(file).map_err(doing()))
}
