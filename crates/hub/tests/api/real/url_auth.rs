//! Content by a URL that a real store authorises. The events are handed in, so that what is told and
//! when is the test's to say.

use std::cell::RefCell;
use std::path::Path;

use postbell_hub::{Config, ContentReference, Reach, SourceConfig, SourceKind, Virtdomains};
use postbell_testkit::cyrus::{self, Cyrus};
use postbell_testkit::{
    ALICE, BOB, Dovecot, Extent, Imap, MASTER, Options, Receiver, mail, password, private_file,
};
use serde_json::{Value, json};

use crate::world::{HOST, World, wait_until};

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
        config.access.shared_mailboxes = true;
        config.policy.content_max_octets = Some(100_000);
        config.policy.user.content_max_octets = Some(50_000);
        config.policy.content_reference = ContentReference::UrlAuth;
        config.webhooks.reach = Reach::Loopback;
        config.sources.insert("mail".to_owned(), source);
    }
}

fn of_dovecot(dovecot: &Dovecot) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Dovecot,
        shared: vec!["shared/%u/".to_owned()],
        master_address: dovecot.imap_address(),
        ..SourceConfig::default()
    }
}

fn of_cyrus(cyrus: &Cyrus) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Cyrus,
        virtdomains: Virtdomains::Userid,
        userprefix: cyrus::OTHERS.to_owned(),
        master_address: cyrus.imap_address(),
        ..SourceConfig::default()
    }
}

fn with_url_auth() -> Option<Dovecot> {
    let options = Options { extent: Extent::Whole, url_auth: true, ..Options::default() };
    Dovecot::start_with(options).unwrap()
}

/// A message too large for its event.
fn large(octets: usize) -> Vec<u8> {
    [mail::plain("large"), b"0123456789\r\n".repeat(octets / 12)].concat()
}

impl World {
    /// A message in a mailbox of alice's, of which the hub is told as its source would tell it.
    fn comes_to_alice(&self, imap: &mut Imap, mailbox: &str, message: &[u8]) {
        self.comes_to(imap, "mail.example.org", mailbox, message);
    }

    /// The same in a store that goes by this name.
    fn comes_to(&self, imap: &mut Imap, host: &str, mailbox: &str, message: &[u8]) {
        self.comes_with(imap, (host, mailbox), message, "");
    }

    /// The same with a parameter that leaves by itself.
    fn comes_with(
        &self,
        imap: &mut Imap,
        (host, mailbox): (&str, &str),
        message: &[u8],
        note: &str,
    ) {
        let uid = imap.append(mailbox, "", message).unwrap();
        let uid_validity = imap.status(mailbox).unwrap().uid_validity;
        let place = format!("imap://{}@{host}/{mailbox}", ALICE.replace('@', "%40"));
        let event = json!({
            "event": "MessageNew", "uri": format!("{place};UIDVALIDITY={uid_validity}/;UID={uid}"),
            "timestamp": "2026-08-20T13:34:14+02:00", "messageSize": message.len(),
            "vnd.postbell.contentSuppressed": "size", "vnd.example.note": note,
        });
        let answer = self.publish("application/json", &event.to_string());
        assert_eq!(answer.json()["accepted"], 1, "{}", answer.body);
    }

    /// How many URLs that were wanted ended so.
    fn ended_as(&self, outcome: &str) -> u64 {
        let name = format!("postbell_url_auth_total{{outcome=\"{outcome}\"}} ");
        let metrics = self.get("/metrics").body;
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    fn token_of(&self, user: &str) -> String {
        self.token(&json!({ "name": user.split('@').next(), "role": "user", "users": [user] }))
    }

    /// The references to content in what may be seen.
    fn references(&self, token: &str) -> Vec<String> {
        let seen = self.seen_by(token, "&events=MessageNew&parameters=*,messageContent");
        seen.iter().map(reference).collect()
    }

    /// Waits until a user gets URLs by the store: a machine that is busy may take its time for the
    /// first login.
    async fn is_authorised(&self, token: &str) {
        wait_until(|| self.references(token).iter().all(|url| url.starts_with("imap://"))).await;
    }

    /// Subscribes with a webhook, in batches or not.
    fn subscribe_to_content(&self, token: &str, name: &str, receiver: &Receiver, batch: Value) {
        let mut body = json!({
            "name": name, "parameters": ["*", "messageContent"], "events": ["MessageNew"],
            "sink": {"kind": "webhook", "url": receiver.url()},
        });
        if batch.is_object() {
            body["sink"]["batch"] = batch;
        }
        let made = self.as_one(token, "POST", "/v1/subscriptions", &body.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
    }
}

fn reference(event: &Value) -> String {
    assert_eq!(event["vnd.postbell.suppressed"]["messageContent"], "size", "{event}");
    event["vnd.postbell.contentUrl"].as_str().unwrap_or_default().to_owned()
}

/// The references in what a receiver took.
fn delivered(receiver: &Receiver) -> Vec<String> {
    let mut found = Vec::new();
    for taken in receiver.taken() {
        match serde_json::from_str(&taken.body).unwrap() {
            Value::Array(all) => found.extend(all.iter().map(|one| reference(&one["data"]))),
            one => found.push(reference(&one["data"])),
        }
    }
    found
}

fn is_authorised_for(reference: &str, user: &str) -> bool {
    let name = reference.split(";URLAUTH=user+").nth(1);
    let name = name.and_then(|rest| rest.split(":internal:").next()).unwrap_or_default();
    reference.starts_with("imap://alice%40") && name.replace("%40", "@") == user
}

fn is_link(reference: &str) -> bool {
    reference.starts_with("http://") && reference.contains("/v1/content/")
}

/// What any user of the store gets to their own mail, by a stream, a webhook and in batches.
async fn alice_gets_the_same_octets(world: &World, imap: &mut Imap) -> String {
    let (plain, batched, theirs) =
        (Receiver::start().unwrap(), Receiver::start().unwrap(), Receiver::start().unwrap());
    let alice = world.token_of(ALICE);
    world.comes_to_alice(imap, "INBOX", &large(5_000));
    world.is_authorised(&alice).await;
    world.subscribe_to_content(&alice, "plain", &plain, Value::Null);
    world.subscribe_to_content(
        &alice,
        "batched",
        &batched,
        json!({"maxEvents": 3, "maxDelay": "1m"}),
    );
    world.subscribe_to_content(&world.token, "theirs", &theirs, Value::Null);
    let messages = [3_000, 10_000, 40_000].map(large);
    for message in &messages {
        world.comes_to_alice(imap, "INBOX", message);
    }
    wait_until(|| {
        let counts = [&plain, &batched, &theirs].map(|receiver| delivered(receiver).len());
        counts == [3, 3, 3]
    })
    .await;
    assert_eq!(batched.taken().len(), 1);
    let mut streamed = world.references(&alice).split_off(1);
    let in_order = |mut all: Vec<String>| {
        all.sort_by_key(|url| url.split(";UID=").nth(1).map(str::to_owned));
        all
    };
    for urls in [&in_order(delivered(&plain)), &in_order(delivered(&batched)), &streamed] {
        for (url, message) in urls.iter().zip(&messages) {
            assert!(is_authorised_for(url, ALICE) && url.contains(";EXPIRE="), "{url}");
            assert!(imap.url_fetch(url).unwrap().as_ref() == Some(message), "{url}");
        }
    }
    // Whoever is no user of the store gets a link of ours, which serves the same.
    let service = json!({
        "name": "s", "role": "service", "scope": ["read"], "users": [ALICE],
    });
    let service = world.token(&service);
    for (links, token) in [
        (delivered(&theirs), &world.token),
        (world.references(&world.token), &world.token),
        (world.references(&service), &service),
    ] {
        assert!(
            [3, 4].contains(&links.len()) && links.iter().all(|link| is_link(link)),
            "{links:?}"
        );
        let path = links[0].split_once("/v1/").unwrap().1;
        let found = world.as_one(token, "GET", &format!("/v1/{path}"), "");
        assert!(found.status == 200, "{}", found.body);
    }
    // What is too large for a user they get neither way.
    world.comes_to_alice(imap, "INBOX", &large(60_000));
    assert_eq!(world.references(&alice)[4], "");
    // And nothing of it is kept on a disk.
    for file in files(&world.data()) {
        let octets = std::fs::read(&file).unwrap();
        assert!(!octets.windows(10).any(|some| some == b":internal:"), "{}", file.display());
    }
    streamed.swap_remove(0)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.metadata().unwrap() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_on_dovecot_an_owner_gets_urls_that_serve_the_same_octets() {
    let Some(dovecot) = with_url_auth() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_with(store(folder.path(), of_dovecot(&dovecot))).await;
    let mut imap = dovecot.imap(ALICE).unwrap();
    let url = alice_gets_the_same_octets(&world, &mut imap).await;
    // Redeemed by another, one would crash Dovecot's worker: they get a link of ours.
    imap.create("Plans").unwrap();
    imap.set_acl("Plans", BOB, "lr").unwrap();
    let bob = world.token_of(BOB);
    world.comes_to_alice(&mut imap, "Plans", &large(5_000));
    wait_until(|| world.references(&bob).len() == 1).await;
    assert!(is_link(&world.references(&bob)[0]));
    imap.reset_key("INBOX").unwrap();
    assert_eq!(imap.url_fetch(&url).unwrap(), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_on_cyrus_whoever_may_read_gets_urls_of_their_own() {
    let Some(cyrus) = Cyrus::start().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_with(store(folder.path(), of_cyrus(&cyrus))).await;
    let mut imap = cyrus.imap(ALICE).unwrap();
    let url = alice_gets_the_same_octets(&world, &mut imap).await;
    let mut bobs = cyrus.imap(BOB).unwrap();
    assert_eq!(bobs.url_fetch(&url).unwrap(), None);
    let bob = world.token_of(BOB);
    imap.create("Plans").unwrap();
    imap.create("Secret").unwrap();
    imap.set_acl("Plans", BOB, "lr").unwrap();
    let message = large(5_000);
    for mailbox in ["Secret", "Plans"] {
        world.comes_to_alice(&mut imap, mailbox, &message);
    }
    wait_until(|| world.references(&bob).len() == 1).await;
    world.is_authorised(&bob).await;
    let shared = world.references(&bob).remove(0);
    assert!(is_authorised_for(&shared, BOB) && shared.contains("/Plans;"), "{shared}");
    assert!(bobs.url_fetch(&shared).unwrap() == Some(message));
    assert_eq!(imap.url_fetch(&shared).unwrap(), None);
    // Nor does he wait for what is his to hear by a webhook.
    let (plain, batched) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    world.subscribe_to_content(&bob, "plain", &plain, Value::Null);
    world.subscribe_to_content(&bob, "batched", &batched, json!({"maxEvents": 2}));
    let message = large(6_000);
    for mailbox in ["Plans", "Secret", "Plans"] {
        world.comes_to_alice(&mut imap, mailbox, &message);
    }
    wait_until(|| [&plain, &batched].map(|receiver| delivered(receiver).len()) == [2, 2]).await;
    for url in [delivered(&plain), delivered(&batched)].concat() {
        assert!(is_authorised_for(&url, BOB) && url.contains("/Plans;"), "{url}");
        assert!(bobs.url_fetch(&url).unwrap().as_ref() == Some(&message), "{url}");
    }
    imap.reset_key("Plans").unwrap();
    assert_eq!(bobs.url_fetch(&shared).unwrap(), None);
    assert!(imap.url_fetch(&url).unwrap().is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_where_a_url_makes_an_event_of_a_stream_too_large_a_link_goes_and_all_else_does() {
    let Some(cyrus) = Cyrus::start().unwrap() else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    let note = "n".repeat(2_000);
    let (mut octets_max, mut last) = (65_536, Value::Null);
    for is_limited in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let change = store(folder.path(), of_cyrus(&cyrus));
        let world = World::start_with(|config| {
            change(config);
            config.policy.user.event_max_octets = octets_max;
        })
        .await;
        let alice = world.token_of(ALICE);
        world.comes_to_alice(&mut imap, "INBOX", &large(5_000));
        world.is_authorised(&alice).await;
        world.comes_with(&mut imap, (HOST, "INBOX"), &large(5_000), &note);
        if !is_limited {
            world.is_authorised(&alice).await;
        }
        let seen = world.seen_by(&alice, "&events=MessageNew&parameters=*,messageContent");
        last = seen[1].clone();
        // A number more may take one less.
        octets_max = last.to_string().len() as u64 - 10;
        world.stop().await;
    }
    assert!(is_link(&reference(&last)), "{last}");
    assert_eq!(last["vnd.example.note"], note, "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_an_authorised_url_ends_when_a_link_would() {
    let Some(cyrus) = Cyrus::start().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let change = store(folder.path(), of_cyrus(&cyrus));
    let world = World::start_with(|config| {
        change(config);
        config.policy.content_link_lifetime = std::time::Duration::from_secs(5);
    })
    .await;
    let mut imap = cyrus.imap(ALICE).unwrap();
    world.comes_to_alice(&mut imap, "INBOX", &large(5_000));
    let alice = world.token_of(ALICE);
    let last = RefCell::new(String::new());
    wait_until(|| {
        last.replace(world.references(&alice).remove(0));
        is_authorised_for(&last.borrow(), ALICE)
    })
    .await;
    let url = last.into_inner();
    let imap = RefCell::new(imap);
    wait_until(|| imap.borrow_mut().url_fetch(&url).unwrap().is_none()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_a_store_that_offers_no_urlauth_is_not_asked_for_it_and_links_go_in_its_place() {
    let settings = vec![("suppress_capabilities".to_owned(), "URLAUTH".to_owned())];
    let options = cyrus::Options { settings, ..cyrus::Options::default() };
    let Some(cyrus) = Cyrus::start_with(options).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_with(store(folder.path(), of_cyrus(&cyrus))).await;
    let mut imap = cyrus.imap(ALICE).unwrap();
    world.comes_to_alice(&mut imap, "INBOX", &large(5_000));
    let references = world.references(&world.token_of(ALICE));
    assert!(references.len() == 1 && is_link(&references[0]), "{references:?}");
    let source = &world.get("/v1/sources").json()["sources"][0];
    assert_eq!(source["urlAuthError"], "it doesn't offer URLAUTH", "{source}");
    assert_eq!(["made", "refused"].map(|outcome| world.ended_as(outcome)), [0, 0]);
    assert_eq!(world.ended_as("away") + world.ended_as("late"), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_a_store_that_goes_by_another_name_refuses_and_that_is_told() {
    let Some(cyrus) = Cyrus::start().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let change = store(folder.path(), of_cyrus(&cyrus));
    let world = World::start_with(|config| {
        change(config);
        // Cyrus knows no port in its URLs.
        config.store.port = 1143;
    })
    .await;
    let mut imap = cyrus.imap(ALICE).unwrap();
    world.comes_to(&mut imap, "mail.example.org:1143", "INBOX", &large(5_000));
    let alice = world.token_of(ALICE);
    let error = || world.get("/v1/sources").json()["sources"][0]["urlAuthError"].clone();
    wait_until(|| {
        assert!(world.references(&alice).iter().all(|link| is_link(link)));
        error().as_str().is_some_and(|error| error.contains("store.host"))
    })
    .await;
    let refused = world.ended_as("refused");
    assert!(refused > 0 && refused + world.ended_as("late") >= 10);
    assert_eq!(world.ended_as("made"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_where_the_store_stops_authorising_or_hangs_links_go_in_the_place_of_urls() {
    let Some(mut dovecot) = with_url_auth() else { return };
    for hangs in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::start_with(store(folder.path(), of_dovecot(&dovecot))).await;
        let receiver = Receiver::start().unwrap();
        let alice = world.token_of(ALICE);
        let mut imap = dovecot.imap(ALICE).unwrap();
        // Within one window the same is wanted of what is told again.
        wait_until(|| jiff::Timestamp::now().as_second() % 600 < 555).await;
        world.comes_to_alice(&mut imap, "INBOX", &large(5_000));
        world.is_authorised(&alice).await;
        let known = world.references(&alice);
        // What was made too late is found the next time.
        assert!(world.ended_as("made") + world.ended_as("late") > 0);
        assert!(world.ended_as("known") > 0);
        world.subscribe_to_content(&alice, "plain", &receiver, Value::Null);
        // Two are there before the store is gone, and told after it.
        let answer = world.as_one(&alice, "POST", "/v1/subscriptions/plain/pause", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        for octets in [6_000, 7_000] {
            world.comes_to_alice(&mut imap, "INBOX", &large(octets));
        }
        drop(imap);
        match hangs {
            false => dovecot.restart_with(|options| options.url_auth = false).unwrap(),
            true => dovecot.stand_still(),
        }
        let answer = world.as_one(&alice, "POST", "/v1/subscriptions/plain/resume", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        wait_until(|| delivered(&receiver).len() == 2).await;
        let links = delivered(&receiver);
        assert!(links.iter().all(|link| is_link(link)), "{links:?}");
        let streamed = world.references(&alice);
        match hangs {
            false => dovecot.restart_with(|options| options.url_auth = true).unwrap(),
            true => dovecot.go_on(),
        }
        // The store's own hanging held nobody up, and the links serve as ever.
        assert_eq!((streamed.len(), &streamed[..1]), (3, &known[..]));
        for link in links {
            let path = link.split_once("/v1/").unwrap().1;
            let found = world.ask_plainly("GET", &format!("/v1/{path}"), &[], b"");
            assert_eq!(found.status, 200, "{}", found.body);
        }
        world.stop().await;
    }
}
