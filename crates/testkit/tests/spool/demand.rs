//! What nobody wants to hear of is not written, and leaves no hole.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use postbell_testkit::{ALICE, Error, Options, mail};
use serde_json::Value;

use crate::script;
use crate::spool::Bench;

/// Puts what is wanted in its place, as the hub does.
fn want(spool: &Path, text: &str) {
    let new = spool.join("demand.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, spool.join("demand")).unwrap();
}

/// These events and no others.
fn wanting(events: &[&str]) -> String {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    format!("postbell-demand 1\n{lines}end\n")
}

/// The numbers of all lines, and the acts of each.
fn told(bench: &Bench) -> Vec<(u64, String)> {
    let read = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        let acts = line["events"].as_array().unwrap().iter();
        let acts: Vec<_> = acts.map(|act| act["e"].as_str().unwrap().to_owned()).collect();
        (line["seq"].as_u64().unwrap(), acts.join(" "))
    };
    bench.lines().iter().map(read).collect()
}

fn some(bench: &Bench, count: usize) -> Result<postbell_testkit::Imap, Error> {
    let one = mail::plain("one");
    let mut imap = bench.dovecot.imap(ALICE)?;
    let many: Vec<(&str, &[u8])> = vec![("", &one); count];
    imap.append_many("INBOX", &many)?;
    imap.select("INBOX")?;
    Ok(imap)
}

#[test]
fn r24_flags_nobody_wants_are_not_written_and_leave_no_hole() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let mut imap = some(&bench, 400)?;
    bench.step("login, APPEND", 2, |_| Ok(()))?;
    let spool = bench.spool();
    want(&spool, &wanting(&["MessageAppend", "vendor"]));
    bench.step("nobody wants flags", 0, |_| {
        imap.store("1:400", "+FLAGS", "\\Flagged")?;
        imap.store("7", "+FLAGS", "\\Seen $Work")?;
        imap.store("1:20", "FLAGS", "$Other")
    })?;
    bench.step("somebody clears", 1, |_| {
        want(&spool, &wanting(&["FlagsClear"]));
        imap.store("7", "FLAGS", "$Third")
    })?;
    bench.step("somebody reads", 1, |_| {
        want(&spool, &wanting(&["MessageRead"]));
        imap.store("7", "FLAGS", "\\Seen")
    })?;
    bench.step("UID EXPUNGE is told whoever wants it", 1, |_| {
        want(&spool, &wanting(&[]));
        imap.store("9", "+FLAGS", "\\Deleted")?;
        imap.expunge_uids("9")
    })?;
    let told = told(&bench);
    let numbers: Vec<u64> = told.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=u64::try_from(told.len()).unwrap()).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn what_can_not_be_understood_counts_as_everything() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let mut imap = some(&bench, 1)?;
    bench.step("login, APPEND", 2, |_| Ok(()))?;
    let spool = bench.spool();
    let nothing = wanting(&[]);
    let long = wanting(&["vnd.example.Snooze"; 300]);
    let texts = ["", "postbell-demand 1\n", "postbell-demand 2\nend\n", nothing.trim_end(), &long];
    for (round, text) in texts.into_iter().enumerate() {
        want(&spool, text);
        let sign = if round % 2 == 0 { "+FLAGS" } else { "-FLAGS" };
        bench.step(&format!("{round}"), 1, |_| imap.store("1", sign, "\\Flagged"))?;
    }
    want(&spool, &nothing);
    bench.step("nothing is wanted", 0, |_| imap.store("1", "+FLAGS", "$Work"))?;
    fs::remove_file(spool.join("demand")).unwrap();
    bench.step("nobody says anything", 1, |_| imap.store("1", "+FLAGS", "$Other"))
}

/// With hooks for flags that fail, so that Dovecot's log tells of each call.
#[test]
fn r24_for_flags_nobody_wants_dovecot_does_not_call_the_script() -> Result<(), Error> {
    let fails = "\nfor _, act in ipairs({ 'set', 'clear' }) do\n\
                 globals['dovecot_lua_notify_event_flags_' .. act] = function() error('called') end\n\
                 end\n";
    let script = format!("{}{fails}", script::SCRIPT);
    let options = |notify| Options { script: Some(script), ..Options::whole(notify) };
    let Some(mut bench) = Bench::start(options)? else { return Ok(()) };
    let mut imap = some(&bench, 20)?;
    let calls = |bench: &Bench| bench.dovecot.log().matches("called").count();
    bench.step("login, APPEND", 2, |_| Ok(()))?;
    want(&bench.spool(), &wanting(&["MessageAppend"]));
    bench.step("nobody wants flags", 0, |_| {
        imap.store("1:20", "+FLAGS", "\\Flagged")?;
        imap.store("7", "-FLAGS", "\\Flagged")
    })?;
    assert_eq!(calls(&bench), 0);
    want(&bench.spool(), &wanting(&["FlagsSet"]));
    imap.store("8:10", "-FLAGS", "\\Flagged")?;
    // What Dovecot logs goes by way of another process.
    let begun = Instant::now();
    while calls(&bench) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", bench.dovecot.log());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A transaction takes a while. Who begins to want flags while one is under way whose flags nobody
/// wanted is told that something is missing. Called as Dovecot calls it, which can't be made to take
/// long enough.
#[test]
fn r24_who_joins_while_a_transaction_is_under_way_finds_it_or_a_hole() -> Result<(), Error> {
    let lua = "
        local function demand(events)
          local file = open(user:plugin_getenv('postbell_spool') .. '/demand', 'w')
          file:write('postbell-demand 1\\n' .. events .. 'end\\n')
          file:close()
        end
        local function look(hook) return rawget(_G, 'dovecot_lua_notify_' .. hook) end
        local function begin_one()
          look('begin_txn')
          local hears = look('event_flags_set')
          return { dovecot_lua_notify_begin_txn(user), hears }
        end
        local function end_one(one, uid)
          local event = { mailbox = 'a', uid = uid + 0.0, flags = { 'x' } }
          if one[2] then one[2](one[1], event) end
          look('end_txn')(one[1], true)
        end
        local wants = 'FlagsSet\\n'
        has_looked = false
        describe(user)
        for uid, says in ipairs({ {'', ''}, {'', wants}, {wants, ''}, {wants, wants} }) do
          demand(says[1])
          local one = begin_one()
          demand(says[2])
          end_one(one, uid)
        end
        demand('')
        local first = begin_one()
        demand(wants)
        end_one(begin_one(), 5)
        end_one(first, 6)";
    let Some((bench, _)) = script::run(lua)? else { return Ok(()) };
    let told: Vec<_> = told(&bench).into_iter().filter(|(_, acts)| !acts.contains("log")).collect();
    let expected = [(2, ""), (3, "set"), (4, "set"), (5, "set"), (7, "")];
    assert_eq!(told[..5], expected.map(|(seq, acts)| (seq, acts.to_owned())), "{told:?}");
    Ok(())
}
