//! What senders of our own see, and what becomes of what they send.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use postbell_engine::What;
use postbell_testkit::{Logged, Tmpfs};

use crate::rig::{Rig, UNSAID, ask, ask_and_end, datagram, dlist, flagged, send, wait_until};

/// The UIDs that are told, in order.
fn uids(rig: &Rig) -> Vec<u32> {
    let uid = |what| match what {
        What::FlagsChanged { uids, .. } => uids.only(),
        _ => None,
    };
    rig.kept.told().into_iter().filter_map(|seen| uid(seen.what)).collect()
}

#[test]
fn a_burst_is_told_whole_and_in_order() {
    let mut rig = Rig::started();
    let path = rig.datagrams();
    for uid in 1..=2_000 {
        send(&path, &datagram(&flagged(uid)));
    }
    wait_until(|| rig.kept.count() >= 2_000);
    assert_eq!(uids(&rig), (1..=2_000).collect::<Vec<_>>());
    rig.stop_source();
    rig.start_source();
    rig.stop_notifyd();
    rig.start_notifyd();
    send(&path, &datagram(&flagged(2_001)));
    wait_until(|| rig.kept.count() >= 2_001);
    assert_eq!(uids(&rig).last(), Some(&2_001));
    assert_eq!(rig.kept.count(), 2_001);
}

#[test]
fn two_equal_notifications_are_two_happenings() {
    let rig = Rig::started();
    for _ in 0..2 {
        send(&rig.datagrams(), &datagram(&flagged(1)));
    }
    rig.hear(2);
    let told = rig.kept.told();
    let identities: BTreeSet<_> = told.iter().map(|seen| seen.identity.0.clone()).collect();
    assert_eq!((told.len(), identities.len()), (2, 2));
}

#[test]
fn what_waited_while_nobody_read_is_told() {
    let mut rig = Rig::new();
    for uid in 1..=5 {
        send(&rig.datagrams(), &datagram(&flagged(uid)));
    }
    rig.start_source();
    rig.start_notifyd();
    wait_until(|| rig.kept.count() >= 5);
    assert_eq!(uids(&rig), [1, 2, 3, 4, 5]);
}

#[test]
fn what_a_reader_began_to_write_when_it_was_killed_is_no_loss() {
    let mut rig = Rig::new();
    rig.began = Some(1_000_000_000);
    rig.start_notifyd();
    rig.start_source();
    // So many that the next reader doesn't know of the beginning, and tells of it again.
    let many = 1_200;
    for uid in 1..=many {
        send(&rig.datagrams(), &datagram(&flagged(uid)));
    }
    wait_until(|| uids(&rig).len() >= many as usize);
    rig.stop_notifyd();
    // As far as it came with a notification that it didn't take.
    let text = rig.written();
    let line = text.lines().last().unwrap().replace(r#"\"uidset\":\"1200"#, r#"\"uidset\":\"1201"#);
    let begun = line.get(..line.len() - 9).unwrap();
    assert!(begun.contains("1201"), "{begun}");
    let spool = std::fs::read_dir(&rig.options.spool).unwrap().next().unwrap().unwrap().path();
    let mut file = std::fs::OpenOptions::new().append(true).open(spool).unwrap();
    file.write_all(begun.as_bytes()).unwrap();
    send(&rig.datagrams(), &datagram(&flagged(many + 1)));
    rig.start_notifyd();
    wait_until(|| uids(&rig).len() > many as usize);
    assert_eq!(rig.written().matches("began").count(), 2, "told again");
    assert_eq!((uids(&rig), missed(&rig)), ((1..=many + 1).collect(), vec![]));
}

#[test]
fn a_line_that_stands_there_twice_is_told_once_and_is_no_sign_of_a_loss() {
    let mut rig = Rig::started();
    let changed = flagged(1).replace("FlagsSet", "MailboxModseq");
    for said in [&flagged(1), &changed] {
        send(&rig.datagrams(), &datagram(said));
    }
    wait_until(|| rig.written().lines().count() == 2);
    rig.stop_notifyd();
    let spool = std::fs::read_dir(&rig.options.spool).unwrap().next().unwrap().unwrap().path();
    let text = rig.written();
    let twice = format!("{}\n", text.lines().last().unwrap());
    let mut file = std::fs::OpenOptions::new().append(true).open(spool).unwrap();
    file.write_all(twice.as_bytes()).unwrap();
    rig.start_notifyd();
    // A sign that nothing is said of, of another mailbox, is told when that of this one would be.
    let other = changed.replace("alice", "bob");
    send(&rig.datagrams(), &datagram(&other));
    wait_until(|| !missed(&rig).is_empty());
    let told: Vec<_> = rig.kept.told().iter().map(crate::rig::shown).collect();
    assert_eq!(
        told,
        [
            "alice@example.org flags INBOX 1 +(\\Flagged) -()".to_owned(),
            "alice@example.org vnd.cmu.MailboxModseq".to_owned(),
            "bob@example.org vnd.cmu.MailboxModseq".to_owned(),
            format!("bob@example.org missed INBOX: {UNSAID}"),
        ]
    );
}

#[test]
fn a_change_told_of_in_a_way_that_says_nothing_is_a_gap_of_its_mailbox() {
    let rig = Rig::started();
    let without_uids = flagged(1).replace(r#""uidset":"1","#, "");
    let changed = flagged(1).replace("FlagsSet", "MailboxModseq");
    for said in [flagged(1), changed.clone(), without_uids, changed] {
        send(&rig.datagrams(), &datagram(&said));
    }
    wait_until(|| !missed(&rig).is_empty());
    assert_eq!((uids(&rig), missed(&rig)), (vec![1], vec![UNSAID.to_owned()]));
}

#[test]
fn hostile_datagrams_lose_nothing_else_and_each_kind_is_logged_and_told_once() {
    let logged = Logged::listen();
    let rig = Rig::started();
    let path = rig.datagrams();
    let large = vec![b'x'; 100_000];
    let deep = datagram(&format!("{{\"event\":{}", "[".repeat(10_000)));
    // A name in an old character set, in a notification that is right otherwise.
    let mut latin = datagram(&flagged(1).replace("alice%40", "ren\u{1}%40"));
    latin.iter_mut().filter(|octet| **octet == 1).for_each(|octet| *octet = 0xe9);
    let hostile: [&[u8]; 10] = [
        b"",
        b"\0\0\0\0\0\0\0\0",
        b"nothing",
        &large,
        &deep,
        b"log\0EVENT\0\0\0\x000\0\xff\xfe{\0",
        &datagram("{\"event\":\"FlagsSet\"}"),
        &datagram("{\"event\":17}"),
        &datagram(&flagged(1))[..60],
        &latin,
    ];
    for (uid, octets) in (1_u32..).zip(hostile.iter().cycle().take(100)) {
        send(&path, octets);
        send(&path, &datagram(&flagged(uid)));
    }
    wait_until(|| uids(&rig).len() >= 100);
    assert_eq!(uids(&rig), (1..=100).collect::<Vec<_>>());
    let (mut missed, mut warnings) = (missed(&rig), logged.warnings());
    missed.sort();
    insta::assert_snapshot!(missed.join("\n"), @r#"
    a notification could not be read: a datagram of … octets or more
    a notification could not be read: a datagram with no sensible number of options
    a notification could not be read: a datagram without its class
    a notification could not be read: a message that is no JSON object: EOF while parsing a string at line … column …
    a notification could not be read: a message that is no JSON object: expected value at line … column …
    a notification could not be read: a message that is no JSON object: invalid unicode code point at line … column …
    a notification could not be read: a message that is no JSON object: recursion limit exceeded at line … column …
    a notification could not be read: a message that names no event
    "#);
    warnings.sort();
    insta::assert_snapshot!(warnings.join("\n"), @r#"
    message=a notification is not kept; the next of this kind are passed over in silence why="a datagram of 65537 octets or more"
    message=a notification is not kept; the next of this kind are passed over in silence why="a datagram with no sensible number of options"
    message=a notification is not kept; the next of this kind are passed over in silence why="a datagram without its class"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="FlagsSet: it doesn't say which mailbox"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a datagram of 65537 octets or more"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a datagram with no sensible number of options"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a datagram without its class"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that is no JSON object: EOF while parsing a string at line 1 column 45"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that is no JSON object: expected value at line 1 column 1"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that is no JSON object: invalid unicode code point at line 1 column 116"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that is no JSON object: recursion limit exceeded at line 1 column 136"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that names no event"
    "#);
    assert!(rig.health.snapshot().skipped >= 90);
}

/// Why something is told to be missed, as often as it is.
fn missed(rig: &Rig) -> Vec<String> {
    let told = rig.kept.told().into_iter();
    told.filter_map(|seen| match seen.what {
        What::Missed { reason, .. } => Some(reason),
        _ => None,
    })
    .collect()
}

#[test]
fn a_hostile_stream_is_answered_no_and_each_kind_is_logged_and_told_once() {
    let logged = Logged::listen();
    let rig = Rig::started();
    let path = rig.streams();
    let padded = |octets: usize| {
        let padding = format!("{{\"x\":\"{}\",\"event\"", "y".repeat(octets));
        dlist(&flagged(1).replace("{\"event\"", &padding))
    };
    let hostile: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n",
        b"NOTIFY %(METHOD log CLASS EVENT MESSAGE {99999999999+}\r\n",
        &padded(4 << 20),
        &dlist("[]")[..40],
        &[&dlist("{}")[..], b"more\n"].concat(),
    ];
    for (uid, octets) in (1_u32..).zip(hostile.iter().cycle().take(10)) {
        assert_eq!(ask_and_end(&path, octets), "NO ()\r\n", "{uid}");
        assert_eq!(ask(&path, &dlist(&flagged(uid))), "OK ()\r\n");
    }
    // Whole, so it is written down before anybody sees that it says nothing.
    for octets in [b"NOTIFY %(METHOD log)\r\n", &dlist("[]")[..]] {
        assert_eq!(ask(&path, octets), "OK ()\r\n");
    }
    assert_eq!(ask(&path, &dlist(&flagged(11))), "OK ()\r\n");
    assert_eq!(ask(&path, &dlist(&flagged(12))), "OK ()\r\n");
    wait_until(|| uids(&rig).len() >= 12);
    assert_eq!(uids(&rig), (1..=12).collect::<Vec<_>>());
    let (mut missed, mut warnings) = (missed(&rig), logged.warnings());
    missed.sort();
    insta::assert_snapshot!(missed.join("\n"), @r#"
    a notification could not be read: a message that is no JSON object: invalid type: sequence, expected a map at line … column …
    a notification could not be read: a notification of more than … octets
    a notification could not be read: a notification that ends within itself
    a notification could not be read: a notification that is no event
    a notification could not be read: more than one notification
    a notification could not be read: octets that are no notification
    "#);
    warnings.sort();
    insta::assert_snapshot!(warnings.join("\n"), @r#"
    message=a notification is not kept; the next of this kind are passed over in silence why="a notification of more than 3145728 octets"
    message=a notification is not kept; the next of this kind are passed over in silence why="a notification that ends within itself"
    message=a notification is not kept; the next of this kind are passed over in silence why="more than one notification"
    message=a notification is not kept; the next of this kind are passed over in silence why="octets that are no notification"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a message that is no JSON object: invalid type: sequence, expected a map at line 1 column 0"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a notification of more than 3145728 octets"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a notification that ends within itself"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="a notification that is no event"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="more than one notification"
    message=a notification of Cyrus's is not told; the next of this kind are only counted why="octets that are no notification"
    "#);
}

#[test]
fn a_full_disk_holds_nobody_up_for_long_and_what_was_lost_is_counted_and_told() {
    let Some(disk) = Tmpfs::mount(64 * 1024).unwrap() else { return };
    let mut rig = Rig::new();
    rig.options.spool = disk.path().to_owned();
    rig.start_notifyd();
    rig.start_source();
    send(&rig.datagrams(), &datagram(&flagged(1)));
    wait_until(|| rig.kept.count() == 1);
    let ballast = disk.fill().unwrap();
    for uid in 2..=100 {
        send(&rig.datagrams(), &datagram(&flagged(uid)));
    }
    std::fs::remove_file(ballast).unwrap();
    send(&rig.datagrams(), &datagram(&flagged(101)));
    wait_until(|| uids(&rig).last() == Some(&101));
    let missed = missed(&rig);
    let counted = |why: &String| {
        let (count, rest) = why.split_once(' ')?;
        let is_count = rest.starts_with("notifications of Cyrus's could not be written down");
        count.parse::<usize>().ok().filter(|_| is_count)
    };
    let lost: usize = missed.iter().filter_map(counted).sum();
    let told: BTreeSet<_> = uids(&rig).into_iter().collect();
    assert!(lost > 0, "{missed:?}");
    // Where the disk ended within a line, that is no further loss.
    assert!(missed.iter().all(|why| counted(why).is_some()), "{missed:?}");
    assert_eq!(told.len() + lost, 101, "{missed:?}");
}

/// Sends what the test below, run by itself as another user, is told to; whether it was.
fn sent_as_a_stranger() -> bool {
    let path = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    if let Some(path) = path("STRANGER_DATAGRAM") {
        send(&path, &datagram(&flagged(1)));
        return true;
    }
    let Some(path) = path("STRANGER_STREAM") else { return false };
    // Refused unread: the connection may be closed while it still writes.
    assert_eq!(ask_and_end(&path, &dlist(&flagged(1))), "NO ()\r\n");
    true
}

#[test]
fn r157_whoever_is_not_permitted_is_not_heard_even_where_the_sockets_let_everybody_in() {
    if sent_as_a_stranger() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        // Nobody else can be had. What becomes of another's number is tested beside the code.
        return;
    }
    let logged = Logged::listen();
    let rig = Rig::started();
    let program = rig.folder().join("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let stranger = |socket: &str, path: &Path| {
        let mut command = std::process::Command::new(&program);
        let this = "notifyd::r157_whoever_is_not_permitted_is_not_heard_even_where_the_sockets_let_everybody_in";
        command.args(["--exact", this]).env(socket, path);
        command.current_dir("/").uid(STRANGER).gid(STRANGER);
        command.output().unwrap()
    };
    // The sockets' modes alone keep them out.
    for (socket, path) in
        [("STRANGER_DATAGRAM", rig.datagrams()), ("STRANGER_STREAM", rig.streams())]
    {
        let refused = stranger(socket, &path);
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert!(said.contains("PermissionDenied"), "{said}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let heard = stranger(socket, &path);
        assert!(heard.status.success(), "{}", String::from_utf8_lossy(&heard.stdout));
    }
    send(&rig.datagrams(), &datagram(&flagged(2)));
    assert_eq!(ask(&rig.streams(), &dlist(&flagged(3))), "OK ()\r\n");
    wait_until(|| rig.kept.count() >= 2);
    assert_eq!(uids(&rig), [2, 3]);
    let warnings = logged.warnings();
    for kind in ["a datagram of uid 4242", "a connection of uid 4242"] {
        assert_eq!(warnings.iter().filter(|one| one.contains(kind)).count(), 1, "{warnings:?}");
    }
}

/// A user id that nobody has.
const STRANGER: u32 = 4242;

#[test]
fn a_notification_over_the_stream_is_answered_when_it_is_written_down() {
    let rig = Rig::started();
    for uid in 1..=20 {
        assert_eq!(ask(&rig.streams(), &dlist(&flagged(uid))), "OK ()\r\n");
        assert!(rig.written().contains(&format!(r#"\"uidset\":\"{uid}\""#)), "{uid}");
    }
    wait_until(|| rig.kept.count() >= 20);
    assert_eq!(uids(&rig), (1..=20).collect::<Vec<_>>());
    assert_eq!(ask(&rig.streams(), b"GET / HTTP/1.1\r\n"), "NO ()\r\n");
    assert_eq!(ask(&rig.streams(), &[&dlist("{}")[..], b"more\n"].concat()), "NO ()\r\n");
    // A large one, beyond any datagram.
    let large = flagged(21)
        .replace("{\"event\"", &format!("{{\"x\":\"{}\",\"event\"", "y".repeat(1 << 20)));
    assert_eq!(ask(&rig.streams(), &dlist(&large)), "OK ()\r\n");
    wait_until(|| uids(&rig).last() == Some(&21));
}

#[test]
fn who_waits_for_an_answer_gets_it_from_the_next_reader() {
    let mut rig = Rig::new();
    rig.start_source();
    let path = rig.streams();
    let asked: Vec<_> = (1..=40)
        .map(|uid| {
            let path = path.clone();
            std::thread::spawn(move || ask(&path, &dlist(&flagged(uid))))
        })
        .collect();
    // Readers that got some of them, and died.
    for _ in 0..3 {
        let dead = rig.porter.hand().unwrap();
        dead.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        for _ in 0..5 {
            // What is not taken out of the message is closed, as by the death of a process.
            assert_eq!(dead.recv(&mut [0; 8]).unwrap(), 8);
        }
    }
    rig.start_notifyd();
    for answer in asked {
        assert_eq!(answer.join().unwrap(), "OK ()\r\n");
    }
    wait_until(|| rig.kept.count() >= 40);
    let mut told = uids(&rig);
    told.sort_unstable();
    assert_eq!(told, (1..=40).collect::<Vec<_>>());
}

#[test]
fn what_somebody_said_who_went_without_an_answer_is_told_by_the_next_reader() {
    let mut rig = Rig::new();
    rig.start_source();
    let dead = rig.porter.hand().unwrap();
    dead.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut stream = UnixStream::connect(rig.streams()).unwrap();
    stream.write_all(&dlist(&flagged(1))).unwrap();
    assert_eq!(dead.recv(&mut [0; 8]).unwrap(), 8);
    drop(stream);
    // By then whoever accepts has seen that the first one went.
    drop(UnixStream::connect(rig.streams()).unwrap());
    assert_eq!(dead.recv(&mut [0; 8]).unwrap(), 8);
    drop(dead);
    rig.start_notifyd();
    wait_until(|| rig.kept.count() >= 1);
    assert_eq!(uids(&rig), [1]);
}

#[test]
fn a_long_notification_that_is_half_read_is_read_on_by_the_next_reader() {
    let mut rig = Rig::new();
    rig.start_source();
    // Both begin alike again and again.
    let long =
        flagged(1).replace("{\"event\"", &format!("{{\"x\":\"{}\",\"event\"", "y".repeat(500_000)));
    let octets = dlist(&long);
    let mut stream = UnixStream::connect(rig.streams()).unwrap();
    for part in octets.chunks(octets.len() / 3 + 1) {
        rig.start_notifyd();
        // More than waits in the kernel: it is read while it is written.
        let (most, rest) = part.split_at(part.len() - 10_000);
        stream.write_all(most).unwrap();
        stream.write_all(rest).unwrap();
        if part.as_ptr_range().end != octets.as_ptr_range().end {
            rig.stop_notifyd();
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "OK ()\r\n");
    wait_until(|| rig.kept.count() >= 1);
    assert_eq!(uids(&rig), [1]);
    assert!(rig.written().lines().count() == 1, "written down once");
}

#[test]
fn who_says_nothing_is_let_go_of() {
    let rig = Rig::started();
    // More than are kept at once.
    for _ in 0..600 {
        drop(UnixStream::connect(rig.streams()).unwrap());
    }
    assert_eq!(ask(&rig.streams(), &dlist(&flagged(1))), "OK ()\r\n");
}

#[test]
fn several_streams_at_once_are_all_answered() {
    let rig = Rig::started();
    std::thread::scope(|scope| {
        for client in 0..8_u32 {
            let path = rig.streams();
            scope.spawn(move || {
                for uid in 1..=25 {
                    let octets = dlist(&flagged(client * 100 + uid));
                    assert_eq!(ask(&path, &octets), "OK ()\r\n");
                }
            });
        }
    });
    wait_until(|| rig.kept.count() >= 200);
    assert_eq!(uids(&rig).into_iter().collect::<BTreeSet<_>>().len(), 200);
}

#[test]
fn a_sender_waits_no_longer_than_the_reader_is_away() {
    let mut rig = Rig::new();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let octets = datagram(&flagged(1));
    let mut count = 0;
    while sender.send_to(&octets, rig.datagrams()).is_ok() {
        count += 1;
        assert!(count < 10_000);
    }
    // The source may be away, stopped, or never there: that holds nobody up.
    rig.start_notifyd();
    for _ in 0..100 {
        send(&rig.datagrams(), &octets);
    }
    rig.start_source();
    wait_until(|| rig.kept.count() >= count + 100);
}

#[test]
fn r81_a_mailbox_made_by_the_way_is_not_told() {
    let mut rig = Rig::new();
    rig.start_notifyd();
    let create = |name: &str, ms: u32| {
        datagram(&format!(
            r#"{{"event":"MailboxCreate","timestamp":"2026-11-27T07:41:07.{ms:03}Z","service":"imap","uri":"imap://h/user/alice/{name}%40example.org;UIDVALIDITY=5","pid":7,"user":"alice@example.org"}}"#
        ))
    };
    for octets in [
        create("a", 1),
        create("a/b", 20),
        datagram(&flagged(1).replace("\"pid\":7", "\"pid\":8")),
        create("a/b/c", 90),
        create("p", 300),
        create("p/one", 700),
    ] {
        send(&rig.datagrams(), &octets);
    }
    // One waits half a second for the next, and a loaded machine may take longer to send it.
    wait_until(|| rig.written().lines().count() == 6);
    rig.start_source();
    let told = rig.hear(4);
    assert_eq!(
        told,
        [
            "alice@example.org flags INBOX 1 +(\\Flagged) -()",
            "alice@example.org created a/b/c",
            "alice@example.org created p",
            "alice@example.org created p/one",
        ]
    );
}

#[test]
fn r74_a_login_of_the_same_process_ends_the_session_before() {
    let rig = Rig::started();
    let access = |event: &str, user: &str, session: &str| {
        datagram(&format!(
            r#"{{"event":"{event}","timestamp":"2026-11-27T07:41:07.884Z","service":"imap","serverDomain":"127.0.0.1","serverPort":143,"clientIP":"192.0.2.1","clientPort":9,"uri":"imap://h","pid":7,"user":"{user}","vnd.cmu.sessionId":"{session}"}}"#
        ))
    };
    for octets in [
        access("Login", "a", "s1"),
        access("Login", "b", "s2"),
        access("Logout", "b", "s2"),
        access("Logout", "a", "s1"),
        access("Login", "c", "s3"),
        access("Logout", "c", "s3"),
    ] {
        send(&rig.datagrams(), &octets);
    }
    let told = rig.hear(6);
    assert_eq!(told, ["login a", "logout a", "login b", "logout b", "login c", "logout c"]);
}

#[test]
fn r103_addresses_are_those_of_the_session() {
    let rig = Rig::started();
    let login = r#"{"event":"Login","timestamp":"2026-11-27T07:41:07.884Z","service":"imap","serverDomain":"127.0.0.1","serverPort":143,"clientIP":"192.0.2.1","clientPort":9,"uri":"imap://h","pid":7,"user":"alice@example.org","vnd.cmu.sessionId":"s"}"#;
    send(&rig.datagrams(), &datagram(login));
    let flagged = flagged(1).replace("\"pid\":7", "\"pid\":7,\"vnd.cmu.sessionId\":\"s\"");
    send(&rig.datagrams(), &datagram(&flagged));
    rig.hear(2);
    let seen = rig.kept.told().remove(1);
    assert_eq!(seen.actor.client.unwrap().to_string(), "192.0.2.1:9");
    assert_eq!(seen.origin.server_port, Some(143));
    assert_eq!(seen.actor.session.as_deref(), Some("s"));
}
