//! Many at once.

use std::collections::BTreeMap;
use std::thread;

use postbell_testkit::{ALICE, BOB, CAROL, Error, Extent, Options, mail};
use serde_json::Value;

use crate::spool::Bench;

/// What each session does after its login.
const ROUNDS: usize = 60;
const SESSIONS: usize = 16;

#[test]
fn sixteen_sessions_leave_whole_lines_and_no_hole() -> Result<(), Error> {
    let options =
        |notify| Options { notify: Some(notify), extent: Extent::Plain, ..Options::default() };
    let Some(mut bench) = Bench::start(options)? else { return Ok(()) };
    let dovecot = &bench.dovecot;
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|number| {
                scope.spawn(move || -> Result<(), Error> {
                    let mut imap = dovecot.imap([ALICE, BOB, CAROL][number % 3])?;
                    let mailbox = format!("of {number} ä");
                    imap.create(&format!("of {number} &AOQ-"))?;
                    imap.select(&format!("of {number} &AOQ-"))?;
                    for round in 0..ROUNDS / 2 {
                        let marker = format!("{mailbox} {round}");
                        let flags = "\\Seen $LabelOfSomeLength";
                        let name = format!("of {number} &AOQ-");
                        let uid = imap.append(&name, flags, &mail::plain(&marker))?;
                        imap.store(&uid.to_string(), "FLAGS", "\\Flagged")?;
                    }
                    imap.logout()
                })
            })
            .collect();
        sessions.into_iter().try_for_each(|session| session.join().unwrap())
    })?;
    bench.dovecot.stop();

    let mut runs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in bench.lines() {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("torn: {line}"));
        runs.entry(value["run"].as_str().unwrap().to_owned()).or_default().push(value);
    }
    assert_eq!(runs.len(), SESSIONS);
    for lines in runs.values() {
        let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        let acts: Vec<&Value> =
            lines.iter().flat_map(|line| line["events"].as_array().unwrap()).collect();
        let count = |name: &str| acts.iter().filter(|act| act["e"] == name).count();
        assert_eq!(
            ["login", "append", "set", "clear", "logout", "bye"].map(count),
            [1, ROUNDS / 2, ROUNDS / 2, ROUNDS / 2, 1, 1],
        );
        let uids: Vec<&str> = acts
            .iter()
            .filter(|act| act["e"] == "append")
            .map(|act| act["uids"].as_str().unwrap())
            .collect();
        let expected: Vec<String> = (1..=ROUNDS / 2).map(|uid| uid.to_string()).collect();
        assert_eq!(uids, expected);
    }
    Ok(())
}
