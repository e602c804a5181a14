//! Messages that come, change and go in a plain Maildir.

use std::fs;
use std::path::Path;
use std::time::Instant;

use mail_event::EventGroup;
use postbell_engine::{Certainty, Demand, Groups, Policy, Selection, What};
use postbell_sources::maildir::Options;
use postbell_testkit::Opened;

use crate::rig::{Rig, maildir, options, wait_until};

fn deliver(root: &Path, name: &str, text: &str) {
    fs::write(root.join("tmp").join(name), text).unwrap();
    fs::rename(root.join("tmp").join(name), root.join("new").join(name)).unwrap();
}

#[test]
fn a_message_is_told_from_its_coming_to_its_going() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    deliver(&root, "1.old.h", "old\n");
    let mut rig = Rig::start(options(&root));
    assert!(rig.hear_out(0).is_empty(), "the first look is remembered, not told");

    deliver(&root, "2.a.h", "Subject: a\n\nb\n");
    assert_eq!(rig.hear(0, 1), ["new INBOX 2 () messages=2 uidnext=3"]);
    let What::Delivered { message, .. } = &rig.kept.told()[0].what else { panic!() };
    assert_eq!(message.size_octets, Some(17), "with CRLF (R121)");
    assert_eq!(rig.kept.told()[0].certainty, Certainty::Inferred);
    assert_eq!(rig.kept.told()[0].actor.user, None, "an agent's doing");

    fs::rename(root.join("new/2.a.h"), root.join("cur/2.a.h:2,")).unwrap();
    assert!(rig.hear_out(1).is_empty(), "going on to cur is nothing");
    fs::rename(root.join("cur/2.a.h:2,"), root.join("cur/2.a.h:2,FS")).unwrap();
    assert_eq!(rig.hear(1, 1), ["flags INBOX 2 +(\\Flagged \\Seen) -()"]);
    assert_eq!(rig.kept.told()[1].actor.user.as_deref(), Some("alice"));
    fs::write(root.join("cur/3.b.h:2,D"), "x").unwrap();
    assert_eq!(rig.hear(2, 1), ["append INBOX 3 (\\Draft) messages=3 uidnext=4"]);
    rig.stop();
    fs::remove_file(root.join("cur/2.a.h:2,FS")).unwrap();
    fs::remove_file(root.join("new/1.old.h")).unwrap();
    rig.resume();
    assert_eq!(rig.hear(3, 1), ["expunge INBOX 1:2 messages=1"], "what happened while it was down");
    rig.stop();
    rig.resume();
    assert!(rig.hear_out(4).is_empty());
}

/// Since when, in milliseconds since 1970, what was told may have happened, where that is told.
fn since(rig: &Rig, place: usize) -> Option<i64> {
    let seen = rig.kept.told().swap_remove(place);
    let accuracy =
        seen.extras.iter().find(|(name, _)| name.as_str() == "vnd.postbell.timeAccuracy");
    accuracy.map(|(_, millis)| seen.at.unix_millis() - millis.as_i64().unwrap())
}

#[test]
fn r138_what_no_notice_told_of_is_told_with_how_long_before_it_may_have_happened() {
    let now = || jiff::Timestamp::now().as_millisecond();
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let began = now();
    let mut rig = Rig::start(options(&root));
    let looked = now();
    deliver(&root, "1.a.h", "x");
    assert_eq!(rig.hear(0, 1).len(), 1);
    assert_eq!(since(&rig, 0), None, "noticed as it happened");
    // What came while it was down came after the last look at everything, which was the first.
    rig.stop();
    deliver(&root, "2.a.h", "x");
    fs::rename(root.join("new/1.a.h"), root.join("cur/1.a.h:2,S")).unwrap();
    rig.resume();
    assert_eq!(rig.hear(1, 2).len(), 2);
    for place in [1, 2] {
        let since = since(&rig, place).unwrap();
        assert!((began..=looked).contains(&since), "{began} {since} {looked}");
    }
    // Nobody knows when a version that kept no times looked last.
    rig.stop();
    rig.kept.change("user\0alice\0u", |record| {
        let (older, _) = record.rsplit_once(' ').unwrap();
        older.to_owned()
    });
    deliver(&root, "3.a.h", "x");
    rig.resume();
    assert_eq!(rig.hear(3, 1).len(), 1);
    assert_eq!(since(&rig, 3), None);
}

#[test]
fn mailboxes_come_go_and_are_renamed() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let rig = Rig::start(options(&root));
    // What is one act to a person is several on disk, and a loaded machine may take its time
    // between them.
    let held = rig.held_up(&root);
    for name in [".a", ".a.b", ".a.b.c"] {
        maildir(&root.join(name));
    }
    drop(held);
    assert_eq!(rig.hear(1, 1), ["create a/b/c"]);
    fs::write(root.join(".a.b/cur/1.x.h:2,S"), "x").unwrap();
    assert_eq!(rig.hear(2, 1), ["append a/b 1 (\\Seen) messages=1 uidnext=2"]);
    let held = rig.held_up(&root);
    for (old, new) in [(".a", ".z"), (".a.b", ".z.b"), (".a.b.c", ".z.b.c")] {
        fs::rename(root.join(old), root.join(new)).unwrap();
    }
    drop(held);
    assert_eq!(rig.hear(4, 1), ["rename a z"]);
    fs::rename(root.join(".z.b/cur/1.x.h:2,S"), root.join("cur/1.x.h:2,S")).unwrap();
    assert_eq!(
        rig.hear(5, 2),
        [
            "append INBOX 3 (\\Seen) messages=3 uidnext=4 from z/b 1",
            "expunge z/b 1 messages=0 to INBOX 3"
        ]
    );
    fs::hard_link(root.join("cur/1.x.h:2,S"), root.join(".z/cur/9.y.h:2,S")).unwrap();
    assert_eq!(rig.hear(7, 1), ["append z 1 (\\Seen) messages=1 uidnext=2 from INBOX 3"]);
    fs::write(root.join("subscriptions"), "V\t2\n\nz\tb\n").unwrap();
    assert_eq!(rig.hear(8, 1), ["subscribe z/b"]);
    let held = rig.held_up(&root);
    fs::remove_dir_all(root.join(".z")).unwrap();
    drop(held);
    assert_eq!(rig.hear(10, 1), ["delete z"], "no expunge (R86)");
}

#[test]
fn a_delivery_is_told_within_a_tenth_of_a_second() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let rig = Rig::start(options(&root));
    let mut times = Vec::new();
    for number in 0..20 {
        let before = rig.kept.count();
        let begun = Instant::now();
        deliver(&root, &format!("{number}.m.h"), "x");
        wait_until("the delivery", || rig.kept.count() > before);
        times.push(begun.elapsed());
    }
    times.sort();
    println!("deliveries told after {:?} (median), {:?} (worst)", times[10], times[19]);
    // Not the slowest: a loaded machine is no defect.
    assert!(times[5].as_millis() < 100, "{times:?}");
}

#[test]
fn r24_what_somebody_comes_to_want_during_a_look_is_read_of_what_is_read_after() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let mut rig = Rig::start(Options {
        body_structure: true,
        content_max_octets: Some(1024),
        ..options(&root)
    });
    rig.stop();
    for name in ["1.a.h", "2.b.h", "3.c.h"] {
        deliver(&root, name, "Subject: a\n\nb\n");
    }
    let wants = [Demand::nothing(), Demand::everything(), Demand::nothing()];
    rig.kept.wants.lock().unwrap().extend(wants);
    rig.look();
    let told = rig.kept.told();
    let read = told.iter().map(|seen| match &seen.what {
        What::Delivered { message, .. } => {
            (message.size_octets, message.body_structure.is_some(), message.content.is_some())
        }
        _ => panic!("{seen:?}"),
    });
    let nothing = (None, false, false);
    assert_eq!(read.collect::<Vec<_>>(), [nothing, (Some(17), true, true), nothing]);
}

/// What somebody wants who asks for these events and nothing private.
fn wanting(event: &str) -> Demand {
    let selection = Selection { events: vec![event.to_owned()], ..Selection::default() };
    let (filter, projection) = selection.compile(&Policy::default()).unwrap();
    Demand::of(&filter, &projection)
}

/// The size that was told of an arrival.
fn size(rig: &Rig, place: usize) -> Option<u64> {
    match &rig.kept.told()[place].what {
        What::Delivered { message, .. } | What::Appended(message) => message.size_octets,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r21_r22_r24_a_message_is_opened_only_where_somebody_wants_what_becomes_of_it() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let rig = Rig::start(Options {
        body_structure: true,
        content_max_octets: Some(1024),
        ..options(&root)
    });
    let [mut new, mut cur] =
        ["new", "cur"].map(|folder| Opened::watch(&root.join(folder)).unwrap());
    let mut opened = || [new.names().unwrap(), cur.names().unwrap()].concat();
    let text = "Subject: a\n\nb\n";
    let append = |name: &str| {
        fs::write(root.join("tmp").join(name), text).unwrap();
        fs::rename(root.join("tmp").join(name), root.join("cur").join(name)).unwrap();
    };

    let off = Policy { groups: Groups::all().without(EventGroup::Message), ..Policy::default() };
    for (at, wanted) in [Demand::nothing(), Demand::everything().under(&off), wanting("flags")]
        .into_iter()
        .enumerate()
    {
        *rig.kept.wants_then.lock().unwrap() = wanted;
        deliver(&root, &format!("{at}.a.h"), text);
        assert_eq!(rig.hear(at, 1).len(), 1);
        assert_eq!((size(&rig, at), opened()), (None, Vec::new()), "{wanted:?}");
    }
    // Whoever wants deliveries doesn't want what is put there otherwise, and the other way round.
    *rig.kept.wants_then.lock().unwrap() = wanting("MessageNew");
    append("3.b.h:2,S");
    assert_eq!(rig.hear(3, 1).len(), 1);
    assert_eq!((size(&rig, 3), opened()), (None, Vec::new()));
    deliver(&root, "4.c.h,S=14,W=17", text);
    assert_eq!(rig.hear(4, 1).len(), 1);
    assert_eq!((size(&rig, 4), opened()), (Some(17), Vec::new()), "its name tells the size");
    deliver(&root, "5.d.h", text);
    assert_eq!(rig.hear(5, 1).len(), 1);
    assert_eq!((size(&rig, 5), opened()), (Some(17), vec!["5.d.h".to_owned()]));
    *rig.kept.wants_then.lock().unwrap() = wanting("MessageAppend");
    deliver(&root, "6.e.h", text);
    assert_eq!(rig.hear(6, 1).len(), 1);
    assert_eq!((size(&rig, 6), opened()), (None, Vec::new()));
    append("7.f.h:2,S");
    assert_eq!(rig.hear(7, 1).len(), 1);
    assert_eq!((size(&rig, 7), opened()), (Some(17), vec!["7.f.h:2,S".to_owned()]));

    // What is told of it later doesn't need it read.
    fs::rename(root.join("new/0.a.h"), root.join("cur/0.a.h:2,F")).unwrap();
    assert_eq!(rig.hear(8, 1), ["flags INBOX 1 +(\\Flagged) -()"]);
    fs::remove_file(root.join("cur/0.a.h:2,F")).unwrap();
    assert_eq!(rig.hear(9, 1), ["expunge INBOX 1 messages=7"]);
    assert!(opened().is_empty());
    let shown = rig.health.snapshot();
    assert_eq!(shown.skipped, 0, "nothing to complain of: {shown:?}");
}
