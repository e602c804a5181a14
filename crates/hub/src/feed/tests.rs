//! Readers of a real journal, led and not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postbell_engine::{Keys, Policy, Principal, Scope, Selection, Stores};
use postbell_journal::{Batch, Entry, Options, RecordId, SqliteJournal};

use super::*;

fn append(journal: &SqliteJournal, events: &[(&str, &str, &str)]) {
    let entries = events.iter().map(|(event, user, mailbox)| {
        let json = format!(
            r#"{{"event":"{event}","uri":"imap://{user}@h/{mailbox}","timestamp":"2026-08-20T13:34:14+02:00","uidset":"1","flagNames":["x"]}}"#,
        );
        let (keys, json) = (Keys::find(json.as_bytes()).unwrap(), json);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Entry { id: RecordId(number.into()), head: keys.to_head(), body: json.into() }
    });
    let batch = Batch { entries: entries.collect(), checkpoint: None };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    journal.append(batch, Box::new(move |result| tell.send(result).unwrap_or_default()));
    told.recv().unwrap().unwrap();
}

/// An id is of one record alone.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn filter(events: &[&str], users: &[&str], mailboxes: &[&str]) -> Filter {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let selection = Selection {
        events: texts(events),
        users: texts(users),
        mailboxes: texts(mailboxes),
        ..Selection::default()
    };
    selection.compile(&Policy::default()).unwrap().0
}

/// Reads up to `end`, and gives what the filter lets through of what it came upon; takes its
/// place anew after every `stay` reads.
async fn wanted(feed: Feed, filter: Filter, from: u64, end: u64, stay: usize) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut next = from;
    while next <= end {
        let seat = feed.join(vec![filter.of_users(None)], next - 1);
        let mut reader = feed.reader(next).reading(2_000).led(seat);
        for _ in 0..stay {
            match reader.try_next().await.unwrap() {
                Some(Step::Records(records)) => {
                    for record in &records {
                        if filter.matches(&Keys::from_head(record.head).view(record.body)) {
                            assert!(found.insert(record.seq.0), "nothing is found twice");
                        }
                    }
                }
                Some(Step::Gap(gap)) => panic!("{gap:?}"),
                // Nobody wakes it for what doesn't concern it, such as the last record.
                None => drop(tokio::time::timeout(Duration::from_millis(5), reader.more()).await),
            }
            next = reader.next_seq();
            if next > end {
                break;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_are_led_find_what_asking_of_every_record_finds() {
    const BATCHES: usize = 120;
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path(), Options::default()).unwrap());
    let batch: Vec<_> = (0..25)
        .map(|at| {
            let event = ["MessageRead", "FlagsSet", "MessageExpunge"][at % 3];
            (event, ["ann", "bob", "eve", "zoe"][at % 4], ["INBOX", "Work", "Work/a"][at / 3 % 3])
        })
        .collect();
    let end = (BATCHES * batch.len()) as u64;
    append(&journal, &batch);
    let feed = Feed::new(Arc::clone(&journal) as _);
    feed.lead();
    let filters = [
        filter(&[], &[], &[]),
        filter(&["FlagsSet"], &[], &[]),
        filter(&[], &["zoe"], &[]),
        filter(&["message"], &["ann", "bob"], &["Work*"]),
        filter(&[], &[], &["%ork"]),
        filter(&["Login"], &[], &[]),
    ];
    let mut readers = Vec::new();
    for count in 1..BATCHES {
        if count % 20 == 1 {
            let last = journal.bounds().last.0;
            for (at, filter) in filters.iter().enumerate() {
                let from = if at % 2 == 0 { last + 1 } else { 1 };
                for stay in [3, usize::MAX] {
                    let led = wanted(feed.clone(), filter.clone(), from, end, stay);
                    readers.push((filter.clone(), from, tokio::spawn(led)));
                }
            }
        }
        let (journal, batch) = (Arc::clone(&journal), batch.clone());
        tokio::task::spawn_blocking(move || append(&journal, &batch)).await.unwrap();
    }
    let all = journal.read(Seq(1), usize::MAX).unwrap();
    assert_eq!(all.len() as u64, end);
    for (filter, from, reader) in readers {
        let naive: BTreeSet<_> = all
            .iter()
            .filter(|record| record.seq.0 >= from)
            .filter(|record| filter.matches(&Keys::from_head(record.head).view(record.body)))
            .map(|record| record.seq.0)
            .collect();
        assert_eq!(reader.await.unwrap(), naive);
    }
    assert!(feed.led.guide.is_empty(), "whoever leaves leaves nothing behind");
}

#[tokio::test]
async fn where_nobody_reads_the_guide_keeps_up_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(folder.path(), Options::default()).unwrap());
    let feed = Feed::new(Arc::clone(&journal) as _);
    feed.lead();
    append(&journal, &[("MessageRead", "ann", "INBOX"); 3]);
    while feed.led.guide.upto() < 3 {
        tokio::task::yield_now().await;
    }
    let seat = feed.join(vec![filter(&[], &["ann"], &[])], 0);
    let mut reader = feed.reader(4).led(Arc::clone(&seat));
    assert!(reader.try_next().await.unwrap().is_none());
    append(&journal, &[("MessageRead", "bob", "INBOX"), ("MessageRead", "ann", "INBOX")]);
    reader.more().await;
    assert_eq!(seat.reached(3), 4);
    let Some(Step::Records(records)) = reader.try_next().await.unwrap() else { panic!() };
    assert_eq!((records.first(), records.len()), (Some(Seq(5)), 1));
}

#[test]
fn r162_of_users_lets_through_all_that_they_may_have_of_what_is_wanted() {
    let wanted = |users: &[&str]| filter(&[], users, &[]);
    let principal = Principal::user(Scope::ALL, "zoe", Stores::any());
    let events = ["MessageRead", "Login", "vnd.postbell.Gap"].map(|event| {
        ["imap://zoe@h/INBOX", "imap://bob@h/INBOX", "imap://h/"]
            .map(|uri| [None, Some("zoe"), Some("bob")].map(|user| {
                let user = user.map(|user| format!(r#","user":"{user}""#)).unwrap_or_default();
                format!(r#"{{"event":"{event}","uri":"{uri}","timestamp":"2026-08-20T13:34:14+02:00"{user}}}"#)
            }))
    });
    let mut less = 0;
    for (filter, json) in [wanted(&[]), wanted(&["bob"])]
        .iter()
        .flat_map(|one| events.iter().flatten().flatten().map(move |json| (one, json)))
    {
        let narrowed = filter.of_users(principal.users());
        let keys = Keys::find(json.as_bytes()).unwrap();
        let view = keys.view(json.as_bytes());
        let is_theirs = filter.matches(&view) && principal.may(&view, json.as_bytes());
        assert!(narrowed.matches(&view) || !is_theirs, "{json}");
        less += usize::from(filter.matches(&view) && !narrowed.matches(&view));
    }
    assert!(less > 0, "and not all of others'");
}
