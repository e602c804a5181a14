//! The real Dovecot, asked.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mail_event::{Flags, ImapUrl, Timestamp, UidSet};
use postbell_engine::{Observation, What};
use postbell_testkit::{
    ADMIN, ALICE, BOB, Dovecot, Error, Extent, Fetched, MASTER, Options, Quota, mail, password,
};

use super::{
    AskError, Asker, Authorised, Authoriser, Master, NamingScope as _, Redeemed, SharedError, Want,
    content,
};
use crate::dovecot::names::Names;
use crate::reconcile::{Naming, Reconcile};
use crate::{Ends, Place, Secret};

fn master(dovecot: &Dovecot) -> Master {
    Master {
        address: dovecot.imap_address(),
        user: MASTER.to_owned(),
        password: Secret::new(password(MASTER).into_bytes()),
        separator: Some('*'),
        ends: Ends::default(),
    }
}

fn whole() -> Result<Option<(Dovecot, Asker)>, Error> {
    let quota = Some(Quota { storage_kib: 1000, messages: 100 });
    let options = Options { extent: Extent::Whole, quota, ..Options::default() };
    let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(None) };
    let asker = Asker::new(&master(&dovecot)).unwrap();
    Ok(Some((dovecot, asker)))
}

fn names() -> Names {
    Names::new('/', &["shared/%u/".to_owned()])
}

const EVERYTHING: Want = Want { body_structure: true, content_max_octets: Some(1_000_000) };

/// In another form than any of ours, and with what a reader may stumble over.
const ODD: &[u8] = b"From: \"a \\\"b\\\" (c)\" <a@x.test>\r\nSubject: =?utf-8?q?=28=22?= \xe4\r\n\
Content-Type: multipart/mixed; boundary=\"--(x)\"\r\nMIME-Version: 1.0\r\n\r\n\
----(x)\r\nContent-Type: text/plain; name=\"a\\\"b)\"\r\nContent-Description: {3}\r\n\r\nhello\r\n\
----(x)\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nworld\r\n\
----(x)--\r\n";

#[test]
fn r102_r121_r125_what_is_asked_of_a_message_is_what_fetch_answers() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("Entw&APw-rfe")?;
    let messages =
        [mail::plain("one"), ODD.to_vec(), b"no header at all".to_vec(), b"\r\n".to_vec()];
    for message in &messages {
        imap.append("Entw&APw-rfe", "\\Seen $Work", message)?;
    }
    let val = imap.select("Entw&APw-rfe")?.uid_validity;
    let fetched = imap.fetch("1:4")?;
    let uids: UidSet = "1:9".parse().unwrap();
    let asked = asker.messages(ALICE, "Entwürfe", Some(val), &uids, EVERYTHING).unwrap();
    assert_eq!(asked.len(), messages.len());
    for (fetched, (uid, asked)) in fetched.iter().zip(&asked) {
        let Fetched { uid: expected, size_octets, body_structure, content, .. } = fetched;
        assert_eq!(uid, expected);
        assert_eq!(asked.size_octets, Some(*size_octets));
        assert_eq!(asked.body_structure.as_ref(), Some(body_structure));
        assert_eq!(asked.content.as_ref().unwrap().as_bytes(), content);
        assert_eq!(content.len() as u64, *size_octets);
        assert_eq!(asked.flags.to_string(), r"\Seen $Work");
    }
    let modseq = imap.status_items("Entw&APw-rfe", "HIGHESTMODSEQ")?[0].1;
    assert_eq!(asked[&4].modseq.unwrap().get(), modseq);

    // A message that came meanwhile is seen over the same connection, and it isn't marked read.
    imap.append("Entw&APw-rfe", "", &messages[0])?;
    let uids: UidSet = "5:6".parse().unwrap();
    let news = asker.messages(ALICE, "Entwürfe", Some(val), &uids, EVERYTHING).unwrap();
    assert!(news[&5].flags.is_empty() && news[&5].content.is_some() && news.len() == 1);
    let flags = imap.fetch("5")?.remove(0).flags;
    assert!(!flags.contains("Seen"), "{flags}");
    Ok(())
}

#[test]
fn r119_content_over_the_limit_is_not_fetched() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let message = mail::plain("one");
    dovecot.imap(ALICE)?.append("INBOX", "", &message)?;
    let size = message.len() as u64;
    for (max, is_there) in [(size - 1, false), (size, true)] {
        let want = Want { content_max_octets: Some(max), ..Want::default() };
        let asked = asker.messages(ALICE, "INBOX", None, &UidSet::single(1), want).unwrap();
        let asked = &asked[&1];
        assert_eq!((asked.size_octets, asked.content.is_some()), (Some(size), is_there));
        assert_eq!(asked.body_structure, None);
    }
    Ok(())
}

#[test]
fn r45_r119_one_message_is_asked_for_again_and_what_is_not_it_is_nothing() -> Result<(), Error> {
    let Some((dovecot, _)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    let message = mail::plain("one");
    imap.append("INBOX", "", &message)?;
    let uid_validity = imap.select("INBOX")?.uid_validity;
    let max = message.len() as u64;
    let place = Place { owner: ALICE, mailbox: "INBOX", uid_validity, uid: 1 };
    let master = master(&dovecot);
    let asked = |place: Place<'_>, max| content(&master, &place, place.mailbox, max);
    let told = asked(place, max).unwrap().unwrap();
    assert_eq!(told.as_bytes(), message);
    assert_eq!(asked(place, max - 1), Ok(None));
    for other in [
        Place { uid: 2, ..place },
        Place { uid_validity: uid_validity + 1, ..place },
        Place { mailbox: "Nowhere", ..place },
    ] {
        assert_eq!(asked(other, max), Ok(None), "{other:?}");
    }
    drop(imap);
    drop(dovecot);
    assert!(asked(place, max).is_err());
    Ok(())
}

#[test]
fn r45_a_store_authorises_a_message_for_its_owner_who_gets_the_same_octets() -> Result<(), Error> {
    let options = Options { extent: Extent::Whole, url_auth: true, ..Options::default() };
    let Some(mut dovecot) = Dovecot::start_with(options)? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("Entw&APw-rfe/a b")?;
    imap.append("Entw&APw-rfe/a b", "", ODD)?;
    let uid_validity = imap.select("Entw&APw-rfe/a b")?.uid_validity;
    let url = |uid| {
        let server = ImapUrl::server("mail.example.org", None).unwrap().with_user(ALICE);
        server.with_mailbox("Entwürfe/a b", Some(uid_validity)).with_uid(uid)
    };
    let names = names();
    let mut authoriser =
        Authoriser::new(&master(&dovecot), Redeemed::ByOwners, move |name| names.told(name))
            .unwrap();
    let soon = jiff::Timestamp::now() + Duration::from_secs(600);
    let Authorised::Url(token) = authoriser.authorise(&url(1), ALICE, soon) else {
        panic!("{authoriser:?}");
    };
    assert_eq!(format!("{token:?}"), "…");
    assert!(token.reveal().contains(";EXPIRE="));
    assert_eq!(imap.url_fetch(token.reveal())?.as_deref(), Some(ODD));
    // Of which nothing may be changed. What came meanwhile is one, too.
    let other = token.reveal().replace("/;UID=1;", "/;UID=2;");
    imap.append("Entw&APw-rfe/a b", "", ODD)?;
    assert_eq!(imap.url_fetch(&other)?, None);
    // Another's would crash Dovecot's worker when redeemed; and a message that isn't there.
    for (url, user) in [(url(1), BOB), (url(1).without_message(), ALICE)] {
        let answer = authoriser.authorise(&url, user, soon);
        assert!(matches!(answer, Authorised::Unfit), "{answer:?}");
    }
    // Which says nothing of the store: it doesn't refuse whatever it is asked to.
    let server = ImapUrl::server("mail.example.org", None).unwrap();
    let theirs = |user, mailbox, uid_validity| {
        server.clone().with_user(user).with_mailbox(mailbox, Some(uid_validity)).with_uid(1)
    };
    for absent in [
        url(9),
        theirs(ALICE, "Nowhere", uid_validity),
        theirs(ALICE, "Entwürfe/a b", uid_validity + 1),
        theirs("nobody@example.org", "INBOX", 1),
        // Not let in, they aren't tried again for a while.
        theirs("nobody@example.org", "INBOX", 1),
    ] {
        let user = absent.user().unwrap().to_owned();
        let answer = authoriser.authorise(&absent, &user, soon);
        assert!(matches!(answer, Authorised::Unfit), "{absent}: {answer:?}");
    }
    let elsewhere = ImapUrl::server("elsewhere.example.org", None).unwrap().with_user(ALICE);
    let elsewhere = elsewhere.with_mailbox("Entwürfe/a b", Some(uid_validity)).with_uid(1);
    let answer = authoriser.authorise(&elsewhere, ALICE, soon);
    assert!(matches!(answer, Authorised::Refused), "{answer:?}");
    let past = jiff::Timestamp::now() + Duration::from_secs(2);
    let Authorised::Url(short) = authoriser.authorise(&url(2), ALICE, past) else {
        panic!("{authoriser:?}");
    };
    let begun = Instant::now();
    while imap.url_fetch(short.reveal())?.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(imap.url_fetch(token.reveal())?.is_some());
    imap.reset_key("Entw&APw-rfe/a b")?;
    assert_eq!(imap.url_fetch(token.reveal())?, None);

    // A store that offers it no more is not asked for it.
    drop(imap);
    dovecot.restart_with(|options| options.url_auth = false)?;
    let answer = authoriser.authorise(&url(1), ALICE, soon);
    assert!(matches!(&answer, Authorised::Never(why) if why.contains("URLAUTH")), "{answer:?}");
    dovecot.restart_with(|options| options.url_auth = true)?;
    let answer = authoriser.authorise(&url(1), ALICE, soon);
    assert!(matches!(answer, Authorised::Url(_)), "{answer:?}");
    Ok(())
}

#[test]
fn r108_r122_the_quota_is_what_getquotaroot_answers() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    for _ in 0..3 {
        imap.append("INBOX", "", &vec![b'x'; 5000])?;
    }
    let [quota] = &asker.quota(ALICE, "INBOX", Instant::now()).unwrap()[..] else {
        panic!("one root")
    };
    assert_eq!(quota.root, "User quota");
    assert_eq!((quota.disk_limit_kib, quota.messages_limit), (Some(1000), Some(100)));
    assert_eq!(quota.messages_used, Some(3));
    let told = imap.quota("INBOX")?;
    let storage = told.iter().find(|resource| resource.name == "STORAGE").unwrap();
    assert_eq!(quota.disk_used_kib, Some(storage.usage));
    Ok(())
}

#[test]
fn r53_a_limit_is_the_one_in_force_and_not_that_of_an_older_login() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut limit = |since| asker.quota(ALICE, "INBOX", since).unwrap()[0].messages_limit;
    let before = Instant::now();
    assert_eq!(limit(before), Some(100));
    dovecot.set_quota(ALICE, Quota { storage_kib: 1000, messages: 3 })?;
    // What happened before the login is told by it: many changes cost one login.
    assert_eq!(limit(before), Some(100));
    assert_eq!(limit(Instant::now()), Some(3));
    Ok(())
}

#[test]
fn how_mailboxes_stand_and_who_may_see_them() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("a/&AOQ-")?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    imap.set_acl("INBOX", BOB, "lrs")?;
    let status = asker.status(ALICE, "INBOX").unwrap();
    let told = imap.status("INBOX")?;
    assert_eq!(status.uid_validity, told.uid_validity);
    assert_eq!((status.messages, status.uidnext), (1, 2));
    assert!(status.modseq > 0);
    assert_eq!(asker.status(ALICE, "none"), None);
    // Of a mailbox that is open, too, it says how it stands now.
    let one = UidSet::single(1);
    assert!(asker.messages(ALICE, "INBOX", None, &one, Want::default()).is_some());
    imap.append("INBOX", "", &mail::plain("two"))?;
    assert_eq!(asker.status(ALICE, "INBOX").unwrap().messages, 2);
    let look = asker.mailboxes(ALICE, &names()).unwrap()["INBOX"].unwrap();
    assert_eq!((look.messages, look.uidnext), (2, 3));

    assert_eq!(asker.rights(BOB, &format!("shared/{ALICE}")).as_deref(), Some("lrs"));
    assert!(asker.rights(ALICE, "INBOX").unwrap().contains('a'));
    // Taken away while a connection stands on which they were seen.
    asker.mailboxes(BOB, &names()).unwrap();
    imap.delete_acl("INBOX", BOB)?;
    assert_eq!(asker.rights(BOB, &format!("shared/{ALICE}")), None);

    let shared = names();
    let own = |asker: &mut Asker, user| -> Vec<String> {
        asker.mailboxes(user, &shared).unwrap().into_keys().collect()
    };
    // Trash is made by itself at login.
    assert_eq!(own(&mut asker, ALICE), ["INBOX", "Trash", "a/ä"]);
    assert_eq!(own(&mut asker, BOB), ["INBOX", "Trash"]);
    Ok(())
}

#[test]
fn r162_what_others_share_is_what_the_store_gives_both_rights_on() -> Result<(), Error> {
    let Some((dovecot, _)) = whole()? else { return Ok(()) };
    let (names, master) = (names(), master(&dovecot));
    let asked = |user: &str| {
        super::shared(&master, user, &names, |name| {
            let (owner, rest) = names.place(user, name);
            Some((Some(owner), names.told(&rest)))
        })
    };
    let seen = |user: &str| asked(user).unwrap();
    assert!(seen(BOB).is_empty());
    let mut imap = dovecot.imap(ALICE)?;
    for (mailbox, rights) in [("Plans", "lr"), ("Looked", "l"), ("Hidden", "r"), ("a/&AOQ-", "lrs")]
    {
        imap.create(mailbox)?;
        imap.set_acl(mailbox, BOB, rights)?;
    }
    let shared = seen(BOB);
    let has = ["Plans", "Looked", "Hidden", "a/ä", "INBOX"].map(|name| shared.has(ALICE, name));
    assert_eq!(has, [true, false, false, true, false], "{shared:?}");
    assert!(seen(ALICE).is_empty());
    let nobody = asked("nobody@example.org");
    assert!(matches!(nobody, Err(SharedError::NotLetIn(_))), "{nobody:?}");
    imap.delete_acl("Plans", BOB)?;
    imap.set_acl("a/&AOQ-", BOB, "l")?;
    assert!(seen(BOB).is_empty());
    let away = Master { address: "127.0.0.1:1".parse().unwrap(), ..master.clone() };
    let told = super::shared(&away, BOB, &names, |_| None);
    assert!(matches!(told, Err(SharedError::Away(_))), "{told:?}");
    Ok(())
}

#[test]
fn a_server_that_was_restarted_is_asked_anew() -> Result<(), Error> {
    let Some((mut dovecot, mut asker)) = whole()? else { return Ok(()) };
    assert!(asker.status(ALICE, "INBOX").is_some());
    dovecot.stop();
    dovecot.start_again()?;
    assert!(asker.status(ALICE, "INBOX").is_some(), "{:?}", asker.last_error());
    assert!(!asker.is_resting());
    Ok(())
}

#[test]
fn a_master_user_the_server_does_not_know_is_refused_and_not_tried_at_once_again()
-> Result<(), Error> {
    let Some((dovecot, _)) = whole()? else { return Ok(()) };
    let wrong = Master { password: Secret::new(*b"wrong"), ..master(&dovecot) };
    let mut asker = Asker::new(&wrong).unwrap();
    assert_eq!(asker.status(ALICE, "INBOX"), None);
    let error = asker.last_error().unwrap().to_owned();
    assert!(!error.contains("wrong"), "{error}");
    // Whoever asked now would find nobody.
    drop(dovecot);
    assert_eq!(asker.status(ALICE, "INBOX"), None);
    assert_eq!(asker.last_error(), Some(&*error));
    Ok(())
}

#[test]
fn one_who_may_not_see_a_mailbox_does_not_say_that_it_is_gone() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut memory = Reconcile::default();
    memory.want_user(ALICE);
    assert!(pass(&mut memory, &mut asker).is_empty());
    // Helpdesk has no rights of its own in alice's mailboxes, and ACL is in use.
    let password = Secret::new(password(ADMIN).into_bytes());
    let mut other =
        Asker::new(&Master { user: ADMIN.to_owned(), password, ..master(&dovecot) }).unwrap();
    assert_eq!(other.mailboxes(ALICE, &names()), None);
    let error = other.last_error().unwrap().to_owned();
    assert!(error.contains("acl_user"), "{error}");
    memory.want_everything();
    assert!(memory.look(&mut other, &names()).is_none());
    memory.want(ALICE, "INBOX");
    assert!(memory.look(&mut other, &names()).is_none());
    memory.want_everything();
    assert!(pass(&mut memory, &mut asker).is_empty(), "nothing was forgotten");
    Ok(())
}

#[test]
fn a_server_that_greets_nobody_is_away_and_what_waits_waits_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.write_all(b"* BYE too many connections\r\n").unwrap();
        }
    });
    let password = Secret::new(*b"secret");
    let master =
        Master { address, user: "m".to_owned(), password, separator: None, ends: Ends::default() };
    let mut asker = Asker::new(&master).unwrap();
    let mut memory = Reconcile::default();
    memory.want_user(ALICE);
    memory.want_user(BOB);
    assert_eq!(asker.connect(ALICE), None);
    assert!(asker.last_error().unwrap().contains("too many connections"));
    assert!(asker.is_resting());
    for is_resting in [true, false] {
        asker.rest_until = asker.rest_until.filter(|_| is_resting);
        assert!(memory.look(&mut asker, &names()).is_none());
        assert_eq!((memory.progress(), memory.take_refused().len()), ((2, 0), 0));
    }
}

/// A server that greets, and then says `rest` to whatever it is told; and how many came.
fn hostile(rest: Vec<u8>, pause: Duration) -> (Master, Arc<AtomicUsize>) {
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut stream, rest) = (stream, rest.clone());
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                stream.write_all(b"* OK ready\r\n").ok()?;
                let mut heard = [0; 1000];
                let length = stream.read(&mut heard).ok()?;
                assert!(heard[..length].ends_with(b"AUTHENTICATE PLAIN\r\n"));
                for answer in [&b"+ \r\n"[..], b"p1 OK in\r\n"] {
                    stream.write_all(answer).ok()?;
                    assert!(stream.read(&mut heard).ok()? > 0);
                }
                for octet in rest.chunks(if pause.is_zero() { 65_536 } else { 1 }) {
                    stream.write_all(octet).ok()?;
                    std::thread::sleep(pause);
                }
                // Says no more, and stays.
                std::thread::sleep(Duration::from_secs(3600));
                Some(())
            });
        }
    });
    let (password, separator) = (Secret::new(*b"secret"), Some('*'));
    let user = "m".to_owned();
    (Master { address, user, password, separator, ends: Ends::default() }, came)
}

#[test]
fn r157_a_hostile_server_costs_a_second_in_ten_and_no_memory() {
    let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
    assert_eq!((super::PATIENCE, super::REST), (second, ten));
    let endless = b"* 1 FETCH (FLAGS ())\r\n".repeat(100_000);
    let literal = b"* 1 FETCH (BODY[] {4294967295}\r\n".to_vec();
    let long = vec![b'x'; 1_000_000];
    let silent = Vec::new();
    for (rest, pause) in [
        (endless, Duration::ZERO),
        (literal, Duration::ZERO),
        (long, Duration::ZERO),
        (silent, Duration::ZERO),
        (b"* OK still here\r\n".repeat(1000), Duration::from_millis(50)),
    ] {
        let shown = rest.len();
        let (master, came) = hostile(rest, pause);
        let mut asker = Asker::new(&master).unwrap();
        // It would go on for many minutes.
        let begun = Instant::now();
        assert_eq!(asker.status(ALICE, "INBOX"), None);
        assert!(begun.elapsed() < Duration::from_secs(60), "{shown} {:?}", begun.elapsed());
        assert!(asker.rest_until.is_some_and(|until| until >= begun + ten), "{shown}");
        // From now on, however long that took.
        asker.rest_until = Some(Instant::now() + ten);
        let before = came.load(Ordering::SeqCst);
        assert_eq!(asker.quota(BOB, "INBOX", Instant::now()), None);
        assert_eq!(came.load(Ordering::SeqCst), before, "{shown}");
    }
}

#[test]
fn another_machine_is_not_asked() {
    let address = "192.0.2.1:143".parse().unwrap();
    let password = Secret::new(*b"secret");
    let master = Master {
        address,
        user: "m".to_owned(),
        password,
        separator: Some('*'),
        ends: Ends::default(),
    };
    assert!(matches!(Asker::new(&master), Err(AskError::NotLoopback { .. })));
}

fn told(seen: Vec<Observation>) -> Vec<String> {
    let told = |one: Observation| match one.what {
        What::Appended(message) => format!(
            "append {} {} ({}) {} octets, {:?}",
            message.mailbox.name,
            message.uid,
            message.flags,
            message.size_octets.unwrap(),
            message.modseq.map(|_| message.status.messages.unwrap()).unwrap(),
        ),
        What::Expunged { mailbox, uids, .. } => format!("expunge {} {uids}", mailbox.name),
        What::FlagsChanged { mailbox, uids, set, cleared, .. } => {
            format!("flags {} {uids} +({set}) -({cleared})", mailbox.name)
        }
        What::MailboxCreated(mailbox) => format!("create {}", mailbox.name),
        What::MailboxDeleted(mailbox) => format!("delete {}", mailbox.name),
        What::MailboxRenamed { from, to, .. } => format!("rename {} {}", from.name, to.name),
        What::Missed { mailbox, reason } => format!("missed {} {reason}", mailbox.unwrap().name),
        other => panic!("{other:?}"),
    };
    seen.into_iter().map(told).collect()
}

/// Looks at everything that waits, and settles it at once.
fn pass(memory: &mut Reconcile, asker: &mut Asker) -> Vec<String> {
    let names = names();
    let naming = Naming { scope: &names, server_fqdn: None };
    let now: Timestamp = "2026-11-25T12:00:00+01:00".parse().unwrap();
    let mut seen = Vec::new();
    while memory.progress().0 > 0 {
        let looked = memory.look(asker, &names);
        let looked = looked.unwrap_or_else(|| panic!("{:?}", asker.last_error()));
        seen.extend(memory.settle(looked, false, now, &naming));
    }
    told(seen)
}

#[test]
fn what_happened_unseen_is_found_by_qresync() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    for subject in ["one", "two", "three", "four"] {
        imap.append("INBOX", "", &mail::plain(subject))?;
    }
    for name in ["a", "a/b", "c", "Entw&APw-rfe"] {
        imap.create(name)?;
    }
    let mut memory = Reconcile::default();
    memory.want_user(ALICE);
    assert!(pass(&mut memory, &mut asker).is_empty(), "the first look is remembered, not told");
    memory.want_everything();
    assert!(pass(&mut memory, &mut asker).is_empty(), "nothing happened");

    // All of this nobody writes down, but for the flags of 1 and that 5 came.
    imap.select("INBOX")?;
    imap.store("1", "+FLAGS", "\\Seen")?;
    memory.flagged(ALICE, "INBOX", &UidSet::single(1));
    imap.store("2", "+FLAGS", "\\Flagged")?;
    imap.store("3", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    let message = mail::plain("five");
    imap.append("INBOX", "\\Seen", &message)?;
    let came_with = Flags::parse("\\Seen").expect("a flag");
    memory.added(ALICE, "INBOX", (&UidSet::single(5), &came_with), Default::default());
    imap.command("NOOP")?;
    imap.store("5", "+FLAGS", "\\Answered")?;
    imap.append("INBOX", "\\Seen $Work", &message)?;
    imap.append("INBOX", "\\Deleted", &message)?;
    imap.command("NOOP")?;
    imap.expunge()?;
    imap.append("Entw&APw-rfe", "", &message)?;
    imap.delete("c")?;
    imap.rename("a/b", "a/z")?;
    imap.create("d")?;
    imap.append("d", "", &message)?;
    memory.want_everything();
    let size = message.len();
    let mut seen = pass(&mut memory, &mut asker);
    seen.sort();
    let mut wanted = vec![
        "create d".to_owned(),
        "delete c".to_owned(),
        "rename a/b a/z".to_owned(),
        format!("append Entwürfe 1 () {size} octets, 1"),
        format!("append INBOX 6 (\\Seen $Work) {size} octets, 5"),
        format!("append d 1 () {size} octets, 1"),
        "expunge INBOX 3".to_owned(),
        "flags INBOX 5 +(\\Answered) -()".to_owned(),
        "missed INBOX flags changed, which ones nobody knows: UID 2".to_owned(),
        "missed INBOX messages came and went: UID 7".to_owned(),
    ];
    wanted.sort();
    assert_eq!(seen, wanted);
    memory.want_everything();
    assert!(pass(&mut memory, &mut asker).is_empty(), "once");
    Ok(())
}

#[test]
fn a_mailbox_made_anew_under_its_old_name_is_a_gap() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.create("a")?;
    let mut memory = Reconcile::default();
    memory.want_user(ALICE);
    pass(&mut memory, &mut asker);
    // Dovecot's UIDVALIDITY is the second.
    std::thread::sleep(Duration::from_millis(1100));
    imap.delete("a")?;
    imap.create("a")?;
    memory.want(ALICE, "a");
    let [seen] = &pass(&mut memory, &mut asker)[..] else { panic!("one") };
    assert!(seen.starts_with("missed a UIDVALIDITY changed from"), "{seen}");
    imap.delete("a")?;
    memory.want(ALICE, "a");
    assert_eq!(pass(&mut memory, &mut asker), ["delete a"]);
    Ok(())
}

#[test]
fn sixteen_connections_at_most_are_kept_and_idle_ones_are_closed() -> Result<(), Error> {
    let Some((dovecot, mut asker)) = whole()? else { return Ok(()) };
    assert!(asker.status(ALICE, "INBOX").is_some() && asker.status(BOB, "INBOX").is_some());
    assert_eq!(asker.open.len(), 2);
    asker.tidy(Instant::now());
    assert_eq!(asker.open.len(), 2);
    asker.tidy(Instant::now() + super::IDLE_MAX);
    assert_eq!(asker.open.len(), 0);
    drop(dovecot);
    Ok(())
}
