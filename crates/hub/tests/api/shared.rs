//! Mailboxes that others share, by the ACL of a real store. The events are handed in, so that what
//! is told and when is the test's to say.

use std::path::Path;

use postbell_hub::{Config, Reach, SourceConfig, SourceKind, Virtdomains};
use postbell_testkit::cyrus::{self, Cyrus};
use postbell_testkit::http::EventStream;
use postbell_testkit::{
    ALICE, BOB, Dovecot, Extent, Imap, MASTER, Options, Receiver, password, private_file,
};
use serde_json::json;

use crate::world::{PATIENCE, World, wait_until};

fn store(folder: &Path, source: SourceConfig) -> impl FnOnce(&mut Config) + use<> {
    let file = folder.join("master");
    private_file(&file, &password(MASTER)).unwrap();
    let source = SourceConfig {
        master_user: MASTER.to_owned(),
        master_password_file: file,
        spool: folder.join("spool"),
        notify_spool: folder.join("notify"),
        ..source
    };
    |config| {
        config.store.host = "mail.example.org".to_owned();
        config.access.shared_mailboxes = true;
        config.webhooks.reach = Reach::Loopback;
        config.sources.insert("mail".to_owned(), source);
    }
}

fn event(name: &str, owner: &str, mailbox: &str, number: u32, rest: &str) -> String {
    let owner = owner.replace('@', "%40");
    let place = format!("imap://{owner}@mail.example.org/{mailbox};UIDVALIDITY=7");
    let (uri, more) = match name {
        "MessageNew" => (format!("{place}/;UID={number}"), r#","messageSize":5"#.to_owned()),
        _ => (place.clone(), format!(r#","mailboxID":"{place}""#)),
    };
    format!(
        r#"{{"event":"{name}","uri":"{uri}","timestamp":"2026-08-20T13:34:14+02:00"{more}{rest}}}"#
    )
}

impl World {
    fn happens(&self, event: &str) {
        let answer = self.publish("application/json", event);
        assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(1)), "{event}");
    }

    fn comes(&self, owner: &str, mailbox: &str, number: u32) {
        self.happens(&event("MessageNew", owner, mailbox, number, ""));
    }

    /// Says, as the sources do, that bob got or lost sight of alice's mailbox.
    fn rights_change(&self, name: &str) {
        // No two are the same event.
        let at = self.seen_by(&self.token, "").len();
        let rest = format!(r#","pid":{at},"vnd.postbell.affectedUser":"{BOB}""#);
        self.happens(&event(name, BOB, "shared/alice/Plans", 0, &rest));
    }

    /// Has messages delivered to a receiver, for whoever has this token.
    fn subscribe(&self, token: &str, receiver: &Receiver) {
        let sink = json!({ "kind": "webhook", "url": receiver.url() });
        let new = json!({ "name": "phone", "events": ["MessageNew"], "sink": sink });
        let made = self.as_one(token, "POST", "/v1/subscriptions", &new.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
    }

    /// Mailbox and UID of each message bob may see.
    fn messages(&self, token: &str) -> Vec<String> {
        let seen = self.seen_by(token, "&events=MessageNew");
        seen.iter().map(|event| short(event["uri"].as_str().unwrap())).collect()
    }
}

fn short(uri: &str) -> String {
    let (owner, rest) = uri.trim_start_matches("imap://").split_once("%40").unwrap();
    let mailbox = rest.split('/').nth(1).unwrap().split(';').next().unwrap();
    format!("{owner} {mailbox} {}", uri.rsplit('=').next().unwrap())
}

/// What a receiver took, in the order it was taken: mailboxes go side by side.
fn delivered(receiver: &Receiver) -> Vec<String> {
    let told = receiver.taken().into_iter().map(|one| {
        let event: serde_json::Value = serde_json::from_str(&one.body).unwrap();
        short(event["data"]["uri"].as_str().unwrap())
    });
    told.collect()
}

/// Reads the next message of a stream.
fn next(stream: &mut EventStream) -> String {
    loop {
        let told = stream.next(PATIENCE).unwrap().expect("an event in time");
        let event: serde_json::Value = serde_json::from_str(&told.data).unwrap();
        if event["event"] == "MessageNew" {
            return short(event["uri"].as_str().unwrap());
        }
    }
}

async fn bob_reads_what_alice_shares_and_no_longer(world: World, mut alice: Imap) {
    alice.create("Plans").unwrap();
    alice.create("Secret").unwrap();
    alice.set_acl("Secret", BOB, "l").unwrap();
    for (owner, mailbox) in [(ALICE, "Plans"), (ALICE, "Secret"), (ALICE, "INBOX"), (BOB, "INBOX")]
    {
        world.comes(owner, mailbox, 1);
    }
    let bob = world.token(&json!({ "name": "bob", "role": "user", "users": [BOB] }));
    assert_eq!(world.messages(&bob), ["bob INBOX 1"]);
    let receiver = Receiver::start().unwrap();
    world.subscribe(&bob, &receiver);

    alice.set_acl("Plans", BOB, "lr").unwrap();
    world.rights_change("MailboxCreate");
    wait_until(|| world.messages(&bob) == ["alice Plans 1", "bob INBOX 1"]).await;
    let mut stream = EventStream::open(world.address(), "/v1/events", &bob).unwrap();
    // One that was opened before hears of it as well.
    for (owner, mailbox) in [(ALICE, "Secret"), (ALICE, "Plans"), (BOB, "INBOX")] {
        world.comes(owner, mailbox, 2);
    }
    assert_eq!([next(&mut stream), next(&mut stream)], ["alice Plans 2", "bob INBOX 2"]);
    wait_until(|| delivered(&receiver).len() == 2).await;

    // From the moment on at which it is said, whatever came before it and is still unread.
    alice.delete_acl("Plans", BOB).unwrap();
    world.rights_change("MailboxDelete");
    for (owner, mailbox) in [(ALICE, "Plans"), (BOB, "INBOX")] {
        world.comes(owner, mailbox, 3);
    }
    assert_eq!(next(&mut stream), "bob INBOX 3");
    assert_eq!(world.messages(&bob), ["bob INBOX 1", "bob INBOX 2", "bob INBOX 3"]);
    wait_until(|| delivered(&receiver).len() == 3).await;

    // And given once more, to whoever reads already.
    alice.set_acl("Plans", BOB, "lr").unwrap();
    world.rights_change("MailboxCreate");
    wait_until(|| world.messages(&bob).len() == 6).await;
    world.comes(ALICE, "Plans", 4);
    assert_eq!(next(&mut stream), "alice Plans 4");
    wait_until(|| delivered(&receiver).len() == 4).await;
    let mut all = delivered(&receiver);
    all[..2].sort();
    assert_eq!(all, ["alice Plans 2", "bob INBOX 2", "bob INBOX 3", "alice Plans 4"]);
    // A service for some users has no rights of its own in the store.
    let service = json!({ "name": "s", "role": "service", "scope": ["read"], "users": [BOB] });
    assert_eq!(world.messages(&world.token(&service)).len(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_on_dovecot_a_shared_mailbox_is_seen_as_long_as_the_acl_gives_l_and_r() {
    let options = Options { extent: Extent::Whole, ..Options::default() };
    let Some(dovecot) = Dovecot::start_with(options).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = SourceConfig {
        kind: SourceKind::Dovecot,
        shared: vec!["shared/%u/".to_owned()],
        master_address: dovecot.imap_address(),
        ..SourceConfig::default()
    };
    let world = World::start_with(store(folder.path(), source)).await;
    bob_reads_what_alice_shares_and_no_longer(world, dovecot.imap(ALICE).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_on_cyrus_a_shared_mailbox_is_seen_as_long_as_the_acl_gives_l_and_r() {
    let Some(cyrus) = Cyrus::start().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = SourceConfig {
        kind: SourceKind::Cyrus,
        virtdomains: Virtdomains::Userid,
        userprefix: cyrus::OTHERS.to_owned(),
        master_address: cyrus.imap_address(),
        ..SourceConfig::default()
    };
    let world = World::start_with(store(folder.path(), source)).await;
    bob_reads_what_alice_shares_and_no_longer(world, cyrus.imap(ALICE).unwrap()).await;
}

/// Those that an administrator of Cyrus makes outside of everybody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_on_cyrus_a_mailbox_that_is_nobodys_is_seen_as_long_as_the_acl_gives_l_and_r() {
    let options = cyrus::Options { virtdomains: false, ..cyrus::Options::default() };
    let Some(cyrus) = Cyrus::start_with(options).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = SourceConfig {
        kind: SourceKind::Cyrus,
        userprefix: cyrus::OTHERS.to_owned(),
        master_address: cyrus.imap_address(),
        ..SourceConfig::default()
    };
    let world = World::start_with(store(folder.path(), source)).await;
    let (bob, mut manager) = (cyrus.login_name(BOB), cyrus.silent().unwrap());
    for (mailbox, rights) in [("team", "lr"), ("hidden", "l"), ("other", "lr")] {
        manager.create(mailbox).unwrap();
        // Anyone may, by default.
        manager.delete_acl(mailbox, "anyone").unwrap();
        manager.set_acl(mailbox, &bob, rights).unwrap();
    }
    manager.delete_acl("other", &bob).unwrap();
    let comes = |mailbox: &str, number: u32| {
        let time = "2026-08-20T13:34:14+02:00";
        let place = format!("imap://mail.example.org/{mailbox};UIDVALIDITY=7");
        world.happens(&format!(
            r#"{{"event":"MessageNew","uri":"{place}/;UID={number}","timestamp":"{time}","messageSize":5}}"#
        ));
    };
    let at = |event: &serde_json::Value| {
        let uri = event["uri"].as_str().unwrap();
        uri.trim_start_matches("imap://mail.example.org/").to_owned()
    };
    let of = |mailbox: &str, number: u32| format!("{mailbox};UIDVALIDITY=7/;UID={number}");
    let token = world.token(&json!({ "name": "bob", "role": "user", "users": [bob] }));
    let receiver = Receiver::start().unwrap();
    world.subscribe(&token, &receiver);
    let seen = || world.seen_by(&token, "").iter().map(at).collect::<Vec<_>>();
    let took = || {
        let told = receiver.taken().into_iter().map(|one| {
            let event: serde_json::Value = serde_json::from_str(&one.body).unwrap();
            at(&event["data"])
        });
        told.collect::<Vec<_>>()
    };
    let both = |number| ["hidden", "other", "team"].map(|mailbox| comes(mailbox, number));
    both(1);
    wait_until(|| seen() == [of("team", 1)] && took() == [of("team", 1)]).await;

    manager.delete_acl("team", &bob).unwrap();
    manager.set_acl("other", &bob, "lr").unwrap();
    let time = "2026-08-20T13:34:14+02:00";
    let changed = |uri: &str| {
        world.happens(&format!(
            r#"{{"event":"vnd.cmu.AclChange","uri":"imap://mail.example.org/{uri}","timestamp":"{time}"}}"#
        ));
    };
    changed("team");
    both(2);
    let expected = [of("other", 1), of("other", 2)];
    wait_until(|| seen() == expected && took() == [of("team", 1), of("other", 2)]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_where_the_store_can_not_be_asked_nothing_shared_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let source = SourceConfig {
        kind: SourceKind::Cyrus,
        master_address: "127.0.0.1:1".parse().unwrap(),
        ..SourceConfig::default()
    };
    let world = World::start_with(store(folder.path(), source)).await;
    for owner in [ALICE, BOB] {
        world.comes(owner, "INBOX", 1);
    }
    let bob = world.token(&json!({ "name": "bob", "role": "user", "users": [BOB] }));
    assert_eq!(world.messages(&bob), ["bob INBOX 1"]);
    world.stop().await;
}
