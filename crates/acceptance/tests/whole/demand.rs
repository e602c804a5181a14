//! Nobody wants flags, and then somebody does: a real Dovecot, the script, and a hub.

use std::path::Path;
use std::time::{Duration, Instant};

use postbell_acceptance::Bench;
use postbell_testkit::account::Account;
use postbell_testkit::http::EventStream;
use postbell_testkit::{ALICE, Dovecot, Error, Imap, Notify, Options, mail};
use serde_json::Value;

/// The lines of the script.
fn lines(spool: &Path) -> Vec<String> {
    let file = spool.join(format!("{}.ndjson", Account::current().uid()));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Waits for what the hub does by itself.
fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it didn't come to be");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hears_flags(spool: &Path) -> bool {
    let said = std::fs::read_to_string(spool.join("demand")).unwrap_or_default();
    said.contains("\nFlagsSet\n") || !said.ends_with("\nend\n")
}

/// Follows events of one kind, as one who has been told that they will hear of everything.
fn follow(bench: &Bench, event: &str) -> Result<EventStream, Error> {
    let path = format!("/v1/events?events={event}");
    EventStream::open(bench.address()?, &path, bench.token()?)
}

/// The UIDs of the next event that is called so.
fn next(stream: &mut EventStream, event: &str) -> Result<String, Error> {
    loop {
        let sent = stream.next(PATIENCE)?.ok_or_else(|| Error::Answer {
            expected: format!("an event {event}"),
            answer: "silence".to_owned(),
        })?;
        if sent.name == event {
            let told: Value = serde_json::from_str(&sent.data).unwrap();
            return Ok(told["uidset"].as_str().unwrap_or_default().to_owned());
        }
    }
}

#[test]
fn r24_a_store_writes_nothing_that_nobody_wants_and_the_next_one_is_told_to_who_joins()
-> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    let spool = folder.path().join("spool");
    let notify = Notify::into_spool(&spool);
    let Some(dovecot) = Dovecot::start_with(Options::whole(notify))? else { return Ok(()) };
    let (door, _) = Bench::door()?;
    let bench =
        Bench::start_behind_quiet(door, &SOURCE.replace("@SPOOL@", &spool.display().to_string()))?;
    let mut imap: Imap = dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    imap.select("INBOX")?;
    let mut messages = follow(&bench, "message")?;
    until(|| !hears_flags(&spool));

    let before = lines(&spool).len();
    for round in 0..10 {
        let sign = if round % 2 == 0 { "+FLAGS" } else { "-FLAGS" };
        imap.store("1", sign, "\\Flagged $Work")?;
    }
    assert_eq!(lines(&spool).len(), before, "{:#?}", lines(&spool));

    for round in 0..5 {
        let sign = if round % 2 == 0 { "+FLAGS" } else { "-FLAGS" };
        let event = if round % 2 == 0 { "FlagsSet" } else { "FlagsClear" };
        let mut flags = follow(&bench, event)?;
        // At once: no event is lost between the answer and this.
        imap.store("1", sign, "$Joined")?;
        assert_eq!(next(&mut flags, event)?, "1", "round {round}: {:#?}", lines(&spool));
        drop(flags);
        until(|| !hears_flags(&spool));
        imap.store("1", sign, "$Unheard")?;
    }

    // Nothing is missing from the sequence, and nothing was told as missing.
    imap.append("INBOX", "", &mail::plain("two"))?;
    next(&mut messages, "MessageAppend")?;
    let gaps = bench.get("/v1/sources/mail")?;
    let shown: Value = serde_json::from_str(&gaps.body).unwrap();
    assert_eq!(shown["gaps"], 0, "{shown}");
    let status: Value = serde_json::from_str(&bench.get("/v1/status")?.body).unwrap();
    assert_eq!(status["recording"]["record"], "wanted");
    Ok(())
}

const SOURCE: &str = r#"
[sources.mail]
kind = "dovecot"
spool = "@SPOOL@"
separator = "/"
annotation_window = "0s"
"#;

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
