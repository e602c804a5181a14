//! What is asked of a Cyrus that lets nobody in.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use mail_event::Flags;
use postbell_engine::{Actor, Certainty, Identity, Origin, Status};

use super::*;
use crate::{Ends, Pair, Secret, Stopped};

/// Takes everything, and once listed alice's mailboxes; remembers these of somebody who ran before.
#[derive(Debug, Default)]
struct Taking(Vec<Pair>);

impl Intake for Taking {
    fn take(&self, _: Batch) -> Result<(), Stopped> {
        Ok(())
    }

    fn checkpoint(&self, prefix: &[u8]) -> Result<Vec<Pair>, Stopped> {
        let listed = (b"box/alice\0".to_vec(), Vec::new());
        let known = self.0.iter().chain(std::iter::once(&listed));
        Ok(known.filter(|(key, _)| key.starts_with(prefix)).cloned().collect())
    }
}

fn options() -> Options {
    Options {
        spool: "/none".into(),
        namespace: crate::cyrus::Namespace::default(),
        envelope: false,
        raw: false,
        server_fqdn: None,
        master: None,
        body_structure: false,
        content_max_octets: None,
    }
}

fn refusing() -> Master {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.write_all(b"* OK ready\r\n").unwrap();
            assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
            stream.write_all(b"p1 NO not you\r\n").unwrap();
        }
    });
    Master {
        address,
        user: "m".to_owned(),
        password: Secret::new(*b"secret"),
        separator: None,
        ends: Ends::default(),
    }
}

fn noon() -> Timestamp {
    "2026-11-25T12:00:00+01:00".parse().unwrap()
}

fn look_at_all(asking: &mut Asking<'_>) {
    while asking.waiting() > 0 {
        assert!(matches!(asking.step(noon()), Next::At(_) | Next::Rest));
    }
}

#[test]
fn what_was_missed_and_cannot_be_found_is_said_once() {
    let (options, intake) = (options(), Taking::default());
    let mut asking = Asking::new(&options, &refusing(), &intake).unwrap();
    look_at_all(&mut asking);
    assert!(asking.tend(noon()).is_empty(), "nothing was missed");

    assert!(asking.missed("alice"), "it may still be found");
    assert!(!asking.missed("bob"), "nobody knows what bob had");
    assert!(asking.tend(noon()).is_empty(), "nobody looked yet");
    look_at_all(&mut asking);
    assert_eq!(asking.tend(noon()), ["alice".to_owned()].into());
    assert!(asking.tend(noon()).is_empty(), "once");
}

#[test]
fn what_was_missed_and_not_looked_for_before_the_end_is_looked_for_by_the_next_run() {
    let (options, intake) = (options(), Taking::default());
    let mut asking = Asking::new(&options, &refusing(), &intake).unwrap();
    look_at_all(&mut asking);
    assert!(asking.tend(noon()).is_empty());
    assert!(asking.missed("alice"));
    let saved = asking.drain_changes().into_iter();
    let saved = saved.filter_map(|(key, value)| Some((key, value?))).collect();

    let intake = Taking(saved);
    let mut asking = Asking::new(&options, &refusing(), &intake).unwrap();
    let kept = |asking: &mut Asking<'_>| {
        let changes = asking.drain_changes().into_iter();
        changes.filter(|(key, _)| key.starts_with(suspects::KEY)).collect::<Vec<_>>()
    };
    assert!(kept(&mut asking).is_empty(), "it stays until it is clear");
    assert!(asking.tend(noon()).is_empty());
    look_at_all(&mut asking);
    assert_eq!(asking.tend(noon()), ["alice".to_owned()].into());
    let gone = kept(&mut asking);
    assert_eq!(gone.iter().filter(|(_, value)| value.is_none()).count(), 1, "{gone:?}");
}

fn seen(what: What) -> Observation {
    Observation {
        identity: Identity(b"one".to_vec()),
        at: noon(),
        certainty: Certainty::Seen,
        owner: Some("alice".to_owned()),
        actor: Actor::default(),
        origin: Origin::default(),
        what,
        extras: Vec::new(),
    }
}

#[test]
fn a_mailbox_that_comes_from_another_user_may_come_with_mail() {
    let (options, intake) = (options(), Taking::default());
    let mut asking = Asking::new(&options, &refusing(), &intake).unwrap();
    look_at_all(&mut asking);
    let mailbox = |name: &str| Mailbox { name: name.to_owned(), uid_validity: Some(7) };
    let (from, to) = (mailbox("Theirs"), mailbox("Mine"));
    let renamed = What::MailboxRenamed { from_owner: Some("bob".to_owned()), from, to };
    assert!(asking.remember("alice", &mut seen(renamed), false));
    assert!(asking.reconcile.has("alice", "Mine"));
    assert!(!asking.reconcile.stood("alice", "Mine", Some(7)), "how it stands, nobody said");
    assert_eq!(asking.waiting(), 1, "that is looked at");
}

fn appended(uid: u32, flags: &str) -> Observation {
    seen(What::Appended(Message {
        mailbox: Mailbox { name: INBOX.to_owned(), uid_validity: Some(7) },
        uid,
        status: Status::default(),
        flags: Flags::parse(flags).unwrap(),
        size_octets: Some(1),
        body_structure: None,
        content: None,
        modseq: None,
        copied_from: None,
    }))
}

#[test]
fn a_message_came_without_flags_where_cyrus_is_known_to_name_them() {
    let (options, intake) = (options(), Taking::default());
    let mut asking = Asking::new(&options, &refusing(), &intake).unwrap();
    for (uid, flags) in [(1, ""), (2, "\\Seen"), (3, "")] {
        let json = format!(
            r#"{{"event":"MessageAppend","uri":"imap://host/user/alice","flagNames":"{flags}"}}"#
        );
        let said =
            super::super::notification::parse(json.replace('\\', "\\\\").as_bytes()).unwrap();
        asking.hear(&said, noon());
        asking.remember("alice", &mut appended(uid, flags), false);
    }
    let mut known = Reconcile::restore(intake.checkpoint(Reconcile::PREFIX).unwrap());
    known = known.hearing_creations();
    for (uid, flags) in [(1, ""), (2, "\\Seen"), (3, "")] {
        let flags = Flags::parse(flags).unwrap();
        known.added("alice", INBOX, (&UidSet::single(uid), &flags), BoxStatus::default());
    }
    known.flagged("alice", INBOX, &UidSet::single(1));
    let changes = asking.drain_changes();
    let is_of_boxes = |change: &&Change| change.0.starts_with(Reconcile::PREFIX);
    let remembered: Vec<_> = changes.iter().filter(is_of_boxes).cloned().collect();
    assert_eq!(remembered, known.drain_changes());
    assert!(changes.iter().any(|(key, _)| key == flag_naming::KEY), "over restarts, too");
}

#[test]
fn a_login_is_ours_by_its_connection_once_and_shortly_after_that_was_opened() {
    let (options, intake, master) = (options(), Taking::default(), refusing());
    let mut asking = Asking::new(&options, &master, &intake).unwrap();
    let end: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let is_own = |asking: &mut Asking<'_>, what, name: &str, after: Duration| {
        let at = Timestamp::new(jiff::Timestamp::now() + after, jiff::tz::Offset::UTC);
        let actor = Actor { session: Some(name.to_owned()), client: Some(end), ..Actor::default() };
        asking.is_own(&Observation { at, actor, ..seen(what) })
    };
    let (now, later) = (Duration::ZERO, Duration::from_secs(60));
    for is_announced in [false, true] {
        master.ends.note(end);
        if is_announced {
            asking.own_session(end.to_string());
        }
        assert!(!is_own(&mut asking, What::LoggedIn, "much later", later));
        assert!(is_own(&mut asking, What::LoggedIn, "ours", now));
        assert!(is_own(&mut asking, What::LoggedIn, "ours", now), "told again");
        // Whoever has that port next, within the same seconds.
        assert!(!is_own(&mut asking, What::LoggedIn, "theirs", now));
        assert!(!is_own(&mut asking, What::LoggedOut, "theirs", now));
        assert!(is_own(&mut asking, What::LoggedOut, "ours", now));
        assert!(!is_own(&mut asking, What::LoggedOut, "ours", now));
    }
}
