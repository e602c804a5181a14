//! A real Cyrus, asked for what it doesn't say, and for what nobody heard.

mod quotas;
mod subscriptions;

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mail_event::ImapUrl;
use postbell_engine::{Certainty, Observation, What};
use postbell_sources::{Authorised, Ends, Master, Place, Secret, State, cyrus};
use postbell_testkit::cyrus::{Cyrus, MANAGER, Notify, Options};
use postbell_testkit::http::{Basic, send_as};
use postbell_testkit::{ALICE, BOB, Imap, MASTER, Quota, mail, password};

use crate::rig::{Rig, UNSAID, change_too_much, shown, wait_until};

fn master(cyrus: &Cyrus) -> Master {
    Master {
        address: cyrus.imap_address(),
        user: MASTER.to_owned(),
        password: Secret::new(password(MASTER).into_bytes()),
        separator: None,
        ends: Ends::default(),
    }
}

/// A Cyrus that is listened to and asked.
fn asked(settings: Options) -> Option<(Rig, Cyrus)> {
    let mut rig = Rig::new();
    rig.start_notifyd();
    let notify = Notify::Datagrams(rig.datagrams());
    let cyrus = Cyrus::start_with(Options { notify, ..settings }).unwrap()?;
    rig.options.namespace.unix_separator = settings.unixhierarchysep;
    rig.options.namespace.alternative = settings.altnamespace;
    rig.options.master = Some(master(&cyrus));
    rig.start_source();
    Some((rig, cyrus))
}

/// What is told of mail and mailboxes, without looks at quotas; `~` is before what was inferred.
fn told(rig: &Rig) -> Vec<String> {
    let is_meant =
        |seen: &&Observation| !matches!(seen.what, What::QuotaSeen(_) | What::Other { .. });
    let of = |seen: &Observation| match seen.certainty {
        Certainty::Seen => shown(seen),
        Certainty::Inferred => format!("~{}", shown(seen)),
    };
    rig.kept.told().iter().filter(is_meant).map(of).collect()
}

/// Waits until this is told, and nothing more is to be looked at.
fn hear(rig: &Rig, wanted: &str) {
    let is_told = || told(rig).iter().any(|one| one == wanted);
    let begun = std::time::Instant::now();
    while !is_told() || rig.health.snapshot().detail.contains("looks") {
        assert!(begun.elapsed().as_secs() < 60, "{wanted}: {:#?}", told(rig));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has alice's mailboxes looked at a first time.
fn known(rig: &Rig, imap: &mut Imap) {
    known_as(rig, imap, ALICE);
}

/// The same with another's.
fn known_as(rig: &Rig, imap: &mut Imap, user: &str) {
    // By the first is known that Cyrus names flags.
    for (subject, flags) in [("one", "\\Answered"), ("two", ""), ("three", "")] {
        imap.append("INBOX", flags, &mail::plain(subject)).unwrap();
    }
    hear(rig, &format!("{user} appended INBOX 3"));
    wait_until(|| rig.kept.keys().contains(&format!("box/{user}\0")));
}

fn large(octets: usize) -> Vec<u8> {
    [mail::plain("large"), b"0123456789\r\n".repeat(octets / 12)].concat()
}

fn since(rig: &Rig, before: usize) -> Vec<String> {
    let mut told = told(rig).split_off(before);
    told.sort();
    told
}

#[test]
fn what_happened_while_nobody_listened_is_found_and_told_as_inferred() {
    for (unixhierarchysep, altnamespace) in [(true, true), (false, false)] {
        let options = Options { unixhierarchysep, altnamespace, ..Options::default() };
        let Some((mut rig, cyrus)) = asked(options) else { return };
        let below = if altnamespace { "" } else { "INBOX." };
        let name = |name: &str| format!("{below}{name}");
        let shown = |name: &str| format!("{below}{name}").replace('.', "/");
        let mut imap = cyrus.imap(ALICE).unwrap();
        for mailbox in ["Gone", "Old"] {
            imap.create(&name(mailbox)).unwrap();
        }
        known(&rig, &mut imap);
        rig.stop_source();
        rig.stop_notifyd();
        let before = told(&rig).len();
        rig.lose(|| {
            imap.select("INBOX").unwrap();
            imap.store("1", "+FLAGS", "\\Seen $Work").unwrap();
            imap.store("2", "+FLAGS", "\\Deleted").unwrap();
            imap.expunge().unwrap();
            imap.append("INBOX", "\\Flagged", &mail::plain("four")).unwrap();
            imap.copy("3", &name("Old")).unwrap();
            imap.delete(&name("Gone")).unwrap();
            imap.create(&name("New")).unwrap();
            imap.append(&name("New"), "", &mail::plain("five")).unwrap();
        });
        rig.start_notifyd();
        rig.start_source();
        hear(&rig, &format!("~{ALICE} appended {} 1", shown("New")));
        let alice = format!("~{ALICE}");
        let mut wanted = vec![
            format!("{alice} appended INBOX 4"),
            format!("{alice} appended {} 1", shown("New")),
            format!("{alice} appended {} 1", shown("Old")),
            format!("{alice} created {}", shown("New")),
            format!("{alice} deleted {}", shown("Gone")),
            format!("{alice} expunged INBOX 2"),
            format!("{alice} flags INBOX 1 +(\\Seen $Work) -()"),
        ];
        wanted.sort();
        wait_until(|| since(&rig, before).len() >= wanted.len());
        assert_eq!(since(&rig, before), wanted);
        // What comes then is told as ever, and what was found isn't found again.
        imap.append("INBOX", "", &mail::plain("six")).unwrap();
        hear(&rig, &format!("{ALICE} appended INBOX 5"));
        rig.stop_source();
        rig.start_source();
        imap.append("INBOX", "", &mail::plain("seven")).unwrap();
        hear(&rig, &format!("{ALICE} appended INBOX 6"));
        wanted.extend([5, 6].map(|uid| format!("{ALICE} appended INBOX {uid}")));
        wanted.sort();
        assert_eq!(since(&rig, before), wanted);
    }
}

#[test]
fn a_notification_too_long_for_a_datagram_leaves_a_sign_and_is_found() {
    let Some((rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    let before = told(&rig).len();
    change_too_much(&rig, &mut imap, "INBOX");
    wait_until(|| told(&rig).len() > before);
    let told = rig.kept.told();
    let Some((What::FlagsChanged { set, uids, .. }, certainty)) =
        told.last().map(|seen| (&seen.what, seen.certainty))
    else {
        panic!("{told:?}")
    };
    assert_eq!((set.iter().count(), uids.only(), certainty), (100, Some(1), Certainty::Inferred));
}

#[test]
fn what_nobody_heard_of_a_shared_mailbox_is_told_as_missed_of_it() {
    let Some((rig, cyrus)) = asked(Options::default()) else { return };
    let mut manager = cyrus.imap(MANAGER).unwrap();
    let name = "Bulletin@example.org";
    manager.create(name).unwrap();
    manager.set_acl(name, MANAGER, "lrswipkxtecda").unwrap();
    manager.append(name, "", &mail::plain("one")).unwrap();
    change_too_much(&rig, &mut manager, name);
    hear(&rig, &format!("~- missed {name}: {UNSAID}"));
    let missed = told(&rig).into_iter().filter(|one| one.contains("missed"));
    assert_eq!(missed.count(), 1, "{:#?}", told(&rig));
}

#[test]
fn a_sign_that_was_seen_just_before_the_end_is_not_forgotten() {
    let Some((mut rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    change_too_much(&rig, &mut imap, "INBOX");
    wait_until(|| rig.kept.keys().contains(&format!("suspect/{ALICE}")));
    rig.stop_source();
    // Meanwhile Cyrus lets nobody ask any more.
    rig.options.master.as_mut().unwrap().password = Secret::new(*b"not this one");
    rig.start_source();
    hear(&rig, &format!("~{ALICE} missed: {UNSAID}"));
    wait_until(|| !rig.kept.keys().contains(&format!("suspect/{ALICE}")));
}

#[test]
fn r27_r79_a_deleted_mailbox_that_an_admin_brings_back_comes_with_its_mail() {
    let quota = Some(Quota { storage_kib: 1000, messages: 100 });
    let Some((mut rig, cyrus)) = asked(Options { quota, ..Options::default() }) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    imap.create("Box").unwrap();
    for subject in ["four", "five"] {
        imap.append("Box", "", &mail::plain(subject)).unwrap();
    }
    imap.delete("Box").unwrap();
    hear(&rig, &format!("{ALICE} deleted Box"));
    let before = told(&rig).len();

    let mut manager = cyrus.imap(MANAGER).unwrap();
    let list = manager.command("LIST \"\" \"DELETED*\"").unwrap();
    let kept = list.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
    let kept = kept.filter(|line| line.contains("/Box/")).collect::<Vec<_>>();
    let name = kept[0].rsplit(' ').next().unwrap().trim_matches('"').to_owned();
    manager.rename(&name, &cyrus.whole_name(ALICE, "Box")).unwrap();
    hear(&rig, &format!("{ALICE} created Box"));
    imap.append("Box", "", &mail::plain("six")).unwrap();
    hear(&rig, &format!("{ALICE} appended Box 3"));
    let used = || {
        let told = rig.kept.told().into_iter();
        let mut used = told.filter_map(|seen| match seen.what {
            What::QuotaSeen(quota) => quota.messages_used,
            _ => None,
        });
        used.next_back()
    };
    wait_until(|| used() == Some(6));
    // Looked at by then: how it stands is remembered.
    let remembered = || rig.kept.value(&format!("box/{ALICE}\0Box")).unwrap_or_default();
    wait_until(|| remembered().starts_with(|first: char| first.is_ascii_digit()));
    let of_mail = || {
        let since = since(&rig, before).into_iter();
        since.filter(|one| one.contains(ALICE)).collect::<Vec<_>>()
    };
    let mut wanted = vec![format!("{ALICE} created Box"), format!("{ALICE} appended Box 3")];
    wanted.sort();
    assert_eq!(of_mail(), wanted);
    // From then on it is as any other.
    rig.stop_source();
    rig.stop_notifyd();
    rig.lose(|| {
        imap.select("Box").unwrap();
        imap.store("1", "+FLAGS", "\\Deleted").unwrap();
        imap.expunge().unwrap();
    });
    rig.start_notifyd();
    rig.start_source();
    hear(&rig, &format!("~{ALICE} expunged Box 1"));
}

/// One call of JMAP's `Mailbox/set` (RFC 8621), and what is answered.
fn set_mailboxes(cyrus: &Cyrus, change: &str) -> String {
    let name = cyrus.login_name(ALICE);
    let user = Basic { user: &name, password: &password(ALICE) };
    let call = format!(
        r#"{{"using":["urn:ietf:params:jmap:core","urn:ietf:params:jmap:mail"],
        "methodCalls":[["Mailbox/set",{{{change}}},"0"]]}}"#
    );
    let address = cyrus.http_address();
    let answer = send_as(address, "POST", "/jmap/", user, "application/json", &call).unwrap();
    let is_done = ["notCreated", "notUpdated", "notDestroyed"]
        .iter()
        .all(|refused| answer.body.contains(&format!("\"{refused}\":null")));
    assert!(answer.status == 200 && is_done, "{answer:?}");
    answer.body
}

#[test]
fn r79_mailboxes_that_change_over_jmap_leave_a_sign_and_are_found() {
    let Some((rig, cyrus)) = asked(Options::default()) else { return };
    known(&rig, &mut cyrus.imap(ALICE).unwrap());
    let made = set_mailboxes(&cyrus, r#""create":{"a":{"name":"Jay"}}"#);
    hear(&rig, &format!("~{ALICE} created Jay"));
    let id = made.split(r#""id":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    // Used at once, before anybody looked.
    set_mailboxes(&cyrus, r#""create":{"a":{"name":"Elle"}}"#);
    cyrus.imap(ALICE).unwrap().append("Elle", "", &mail::plain("one")).unwrap();
    hear(&rig, &format!("~{ALICE} created Elle"));
    set_mailboxes(&cyrus, &format!(r#""update":{{"{id}":{{"name":"Kay"}}}}"#));
    hear(&rig, &format!("~{ALICE} renamed Jay Kay"));
    set_mailboxes(&cyrus, &format!(r#""destroy":["{id}"]"#));
    hear(&rig, &format!("~{ALICE} deleted Kay"));
}

#[test]
fn r102_r119_r121_what_a_notification_leaves_out_is_asked_for() {
    let Some((mut rig, cyrus)) = asked(Options::default()) else { return };
    rig.stop_source();
    rig.options.body_structure = true;
    rig.options.content_max_octets = Some(10_000);
    rig.start_source();
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    let message = mail::plain("one");
    imap.append("INBOX", "\\Seen $Work", &message).unwrap();
    imap.append("INBOX", "", &large(20_000)).unwrap();
    imap.select("INBOX").unwrap();
    imap.copy("1:2", "Box").unwrap();
    hear(&rig, &format!("{ALICE} appended Box 2 from INBOX 2"));
    let told = rig.kept.told().into_iter();
    let messages: Vec<_> = told
        .filter_map(|seen| match seen.what {
            What::Appended(message) => Some(message),
            _ => None,
        })
        .collect();
    let fetched = imap.fetch("1:2").unwrap();
    for (message, fetched) in messages.iter().zip(fetched.iter().chain(&fetched)) {
        assert_eq!(message.size_octets, Some(fetched.size_octets));
        assert_eq!(message.body_structure.as_ref(), Some(&fetched.body_structure));
        assert!(message.modseq.is_some());
        let is_small = fetched.size_octets <= 10_000;
        let content = message.content.as_ref().map(|content| content.as_bytes());
        assert_eq!(content, is_small.then_some(&fetched.content[..]));
        assert_eq!(message.flags.is_empty(), !is_small, "{message:?}");
    }
    assert_eq!(messages.len(), 4);
}

#[test]
fn a_cyrus_that_does_not_answer_costs_no_event() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                // Hears, and says nothing.
                drop(stream.read_to_end(&mut Vec::new()));
            });
        }
    });
    let password = Secret::new(*b"secret");
    rig.options.master = Some(Master {
        address,
        user: "m".to_owned(),
        password,
        separator: None,
        ends: Ends::default(),
    });
    rig.start_notifyd();
    rig.start_source();
    for uid in 1..=20 {
        crate::rig::send(&rig.datagrams(), &crate::rig::datagram(&crate::rig::flagged(uid)));
    }
    wait_until(|| told(&rig).len() == 20);
    wait_until(|| rig.health.snapshot().last_error.is_some());
    assert_eq!(rig.health.snapshot().state, State::Running);
}

#[test]
fn a_busy_cyrus_that_is_looked_at_again_and_again_has_nothing_that_was_not_heard() {
    let Some((mut rig, cyrus)) = asked(Options::default()) else { return };
    known(&rig, &mut cyrus.imap(ALICE).unwrap());
    let mut bob = cyrus.imap(BOB).unwrap();
    known_as(&rig, &mut bob, BOB);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (cyrus, is_done) = (&cyrus, &is_done);
            scope.spawn(move || {
                let mut imap = cyrus.imap(ALICE).unwrap();
                let name = format!("Box{client}");
                imap.create(&name).unwrap();
                for number in 0.. {
                    if is_done.load(Ordering::SeqCst) {
                        break;
                    }
                    // Too many of one content Cyrus refuses.
                    let message = mail::plain(&format!("{client} {number}"));
                    let uid = imap.append("INBOX", "", &message).unwrap();
                    imap.select("INBOX").unwrap();
                    imap.store(&uid.to_string(), "+FLAGS", "\\Flagged $Work").unwrap();
                    imap.copy(&uid.to_string(), &name).unwrap();
                    imap.store(&uid.to_string(), "+FLAGS", "\\Deleted").unwrap();
                    imap.expunge_uids(&uid.to_string()).unwrap();
                }
            });
        }
        for _ in 0..3 {
            // Everything is looked at from the start on.
            wait_until(|| {
                let now = rig.health.snapshot();
                now.state == State::Running && !now.detail.contains("looks")
            });
            rig.stop_source();
            rig.start_source();
        }
        is_done.store(true, Ordering::SeqCst);
    });
    cyrus.imap(ALICE).unwrap().create("Last").unwrap();
    hear(&rig, &format!("{ALICE} created Last"));
    // What is not heard of bob's leaves a sign that is judged with all that is as old.
    change_too_much(&rig, &mut bob, "INBOX");
    let odd = || told(&rig).into_iter().filter(|one| one.starts_with('~')).collect::<Vec<_>>();
    wait_until(|| odd().iter().any(|one| one.contains(BOB)));
    let of_alice: Vec<_> = odd().into_iter().filter(|one| one.contains(ALICE)).collect();
    assert!(of_alice.is_empty(), "{of_alice:#?} of {}", told(&rig).len());
}

#[test]
fn r45_a_real_cyrus_authorises_a_message_for_one_user_who_gets_the_same_octets() {
    for (unixhierarchysep, altnamespace, virtdomains) in [(true, true, true), (false, false, false)]
    {
        let options = Options { unixhierarchysep, altnamespace, virtdomains, ..Options::default() };
        let Some(cyrus) = Cyrus::start_with(options).unwrap() else { return };
        let mut asked = Rig::new().options.clone();
        asked.namespace.unix_separator = unixhierarchysep;
        asked.namespace.alternative = altnamespace;
        asked.namespace.domains = virtdomains;
        asked.master = Some(master(&cyrus));
        let mut authoriser = cyrus::authoriser(&asked).unwrap().unwrap();
        let below = if altnamespace { "" } else { "INBOX." };
        let (name, told) = (format!("{below}Entw&APw-rfe"), format!("{below}Entwürfe"));
        let mut imap = cyrus.imap(ALICE).unwrap();
        imap.create(&name).unwrap();
        let message = large(5_000);
        imap.append(&name, "", &message).unwrap();
        let uid_validity = imap.select(&name).unwrap().uid_validity;
        let (alice, bob) = (cyrus.login_name(ALICE), cyrus.login_name(BOB));
        let server = ImapUrl::server("mail.example.org", None).unwrap().with_user(&alice);
        let url = server.with_mailbox(&told.replace('.', "/"), Some(uid_validity)).with_uid(1);
        // One that it refuses though the message is there ends nothing.
        let elsewhere = ImapUrl::server("mail.example.org", Some(1143)).unwrap().with_user(&alice);
        let elsewhere = elsewhere.with_mailbox(&told.replace('.', "/"), Some(uid_validity));
        let soon = jiff::Timestamp::now() + Duration::from_secs(600);
        let answer = authoriser.authorise(&elsewhere.with_uid(1), &alice, soon);
        assert!(matches!(answer, Authorised::Refused), "{answer:?}");
        let mut authorised = |user: &str, seconds| {
            let until = jiff::Timestamp::now() + Duration::from_secs(seconds);
            match authoriser.authorise(&url, user, until) {
                Authorised::Url(token) => token.reveal().to_owned(),
                other => panic!("{other:?} {authoriser:?}"),
            }
        };
        // Debian's Cyrus 3.6 ends a session that redeems one in the mailbox it has open.
        let mut imap = cyrus.imap(ALICE).unwrap();
        let (own, others) = (authorised(&alice, 600), authorised(&bob, 600));
        let mut bobs = cyrus.imap(BOB).unwrap();
        assert!(imap.url_fetch(&own).unwrap().as_ref() == Some(&message), "{own}");
        assert!(bobs.url_fetch(&others).unwrap().as_ref() == Some(&message), "{others}");
        assert_eq!(bobs.url_fetch(&own).unwrap(), None);
        assert_eq!(imap.url_fetch(&others).unwrap(), None);
        let short = authorised(&bob, 2);
        let bobs = std::cell::RefCell::new(bobs);
        wait_until(|| bobs.borrow_mut().url_fetch(&short).unwrap().is_none());
        let mut bobs = bobs.into_inner();
        assert!(bobs.url_fetch(&others).unwrap().is_some());
        imap.reset_key(&name).unwrap();
        assert_eq!(bobs.url_fetch(&others).unwrap(), None);
    }
}

#[test]
fn logins_of_whoever_else_asks_cyrus_for_us_are_told_to_nobody() {
    let Some((rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    let uid_validity = imap.select("INBOX").unwrap().uid_validity;
    let before = told(&rig).len();
    let place = Place { owner: ALICE, mailbox: "INBOX", uid_validity, uid: 1 };
    assert!(cyrus::content(&rig.options, &place, 100_000).unwrap().is_some());
    cyrus::shared(&rig.options, ALICE).unwrap();
    let url = ImapUrl::server("mail.example.org", None).unwrap().with_user(ALICE);
    let url = url.with_mailbox("INBOX", Some(uid_validity)).with_uid(1);
    let mut authoriser = cyrus::authoriser(&rig.options).unwrap().unwrap();
    let until = jiff::Timestamp::now() + Duration::from_secs(600);
    let answer = authoriser.authorise(&url, ALICE, until);
    assert!(matches!(answer, Authorised::Url(_)), "{answer:?}");
    drop(authoriser);
    // Anybody else's is.
    cyrus.imap(BOB).unwrap().logout().unwrap();
    let bob = format!("logout {BOB}");
    hear(&rig, &bob);
    let told = since(&rig, before);
    assert_eq!(told, [format!("login {BOB}"), bob], "{told:?}");
}
