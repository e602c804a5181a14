//! What nobody wants to hear of is not written, and leaves no hole.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use postbell_testkit::{ALICE, BOB, CAROL, Dovecot, Error, Extent, Options, mail};
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
        end_one(first, 6)
        -- When a session ends, Dovecot looks for a hook that there is none of.
        demand('')
        local none = rawget(_G, 'mail_user_deinit_pre')
        demand(wants)
        end_one(begin_one(), 7)";
    let Some((bench, _)) = script::run(lua)? else { return Ok(()) };
    let told: Vec<_> = told(&bench).into_iter().filter(|(_, acts)| !acts.contains("log")).collect();
    let expected = [(2, ""), (3, "set"), (4, "set"), (5, "set"), (7, ""), (9, "")];
    assert_eq!(told[..6], expected.map(|(seq, acts)| (seq, acts.to_owned())), "{told:?}");
    Ok(())
}

/// What is wanted changes all the time while sessions set flags. Of each STORE that fell into a time
/// in which it didn't, it is known whether it has to be told.
#[test]
fn r24_each_store_is_told_that_begins_once_somebody_wants_it_and_none_that_nobody_wants()
-> Result<(), Error> {
    let options =
        |notify| Options { notify: Some(notify), extent: Extent::Plain, ..Options::default() };
    let Some(mut bench) = Bench::start(options)? else { return Ok(()) };
    let spool = bench.spool();
    want(&spool, &wanting(&[]));
    let (time, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let (dovecot, now, done) = (&bench.dovecot, &time, &done);
    let stores = thread::scope(|scope| {
        let sessions: Vec<_> = [ALICE, BOB, CAROL]
            .map(|user| scope.spawn(move || Ok((user, flag_each(dovecot, user, now, done)?))))
            .into();
        let mut wanted = [&[][..], &["FlagsSet"]].map(wanting).into_iter().cycle().skip(1);
        let mut next = 0;
        while !sessions.iter().all(ScopedJoinHandle::is_finished) {
            // So many that some session's began and ended within.
            if done.load(Ordering::SeqCst) < next {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            now.fetch_add(1, Ordering::SeqCst);
            want(&spool, &wanted.next().unwrap());
            now.fetch_add(1, Ordering::SeqCst);
            next = done.load(Ordering::SeqCst) + 12;
        }
        sessions
            .into_iter()
            .map(|session| session.join().unwrap())
            .collect::<Result<Vec<_>, Error>>()
    })?;
    bench.dovecot.stop();
    let lines: Vec<Value> =
        bench.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut told, mut untold) = (0, 0);
    for (user, stores) in stores {
        let acts = lines.iter().filter(|line| line["user"] == user);
        let acts = acts.flat_map(|line| line["events"].as_array().unwrap());
        let sets: Vec<_> = acts.filter(|act| act["e"] == "set").map(|act| &act["uids"]).collect();
        for (uid, (begun, ended)) in (1..).zip(stores) {
            if begun != ended || begun % 2 == 1 {
                continue;
            }
            let (uid, is_wanted) = (i32::to_string(&uid), begun / 2 % 2 == 1);
            let is_told = sets.iter().any(|uids| **uids == uid);
            assert_eq!(is_told, is_wanted, "{user}, message {uid}, in time {begun}");
            told += usize::from(is_told);
            untold += usize::from(!is_told);
        }
    }
    assert!(told > 0 && untold > 0, "{told} told, {untold} not");
    Ok(())
}

/// Flags one message after another, and says in which times each STORE began and had ended: in odd
/// ones it changes what is wanted, and in each second of the even ones flags are.
fn flag_each(
    dovecot: &Dovecot,
    user: &str,
    now: &AtomicU64,
    done: &AtomicUsize,
) -> Result<Vec<(u64, u64)>, Error> {
    const STORES: usize = 300;
    let mut imap = dovecot.imap(user)?;
    let one = mail::plain("one");
    let many: Vec<(&str, &[u8])> = vec![("", &one); STORES];
    imap.append_many("INBOX", &many)?;
    imap.select("INBOX")?;
    let store = |uid: usize| {
        let begun = now.load(Ordering::SeqCst);
        imap.store(&uid.to_string(), "+FLAGS", "\\Flagged")?;
        done.fetch_add(1, Ordering::SeqCst);
        Ok((begun, now.load(Ordering::SeqCst)))
    };
    let times = (1..=STORES).map(store).collect::<Result<_, Error>>()?;
    imap.logout()?;
    Ok(times)
}
