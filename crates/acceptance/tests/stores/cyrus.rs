//! The scenarios on Cyrus, and what Cyrus itself says of an operator's deeds.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use postbell_acceptance::Bench;
use postbell_acceptance::scenario::{Deed, MARKER, MailStore, Stage, plays};
use postbell_sources::Stop;
use postbell_sources::cyrus::{Notifyd, Sockets, bind_datagram};
use postbell_testkit::account::Account;
use postbell_testkit::cyrus::{Cyrus, Listener, Notify, OTHERS, Options};
use postbell_testkit::{
    ADMIN, ALICE, BOB, Error, Imap, Lmtp, MASTER, Pop3, Quota, mail, password, private_file,
};
use tempfile::TempDir;

use crate::expected;
use crate::shared::Store;

/// A Cyrus that tells.
#[derive(Debug)]
struct Whole {
    cyrus: Cyrus,
    // Kept for its removal.
    _place: TempDir,
}

impl MailStore for Whole {
    fn name(&self) -> &'static str {
        "cyrus"
    }

    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap(user)
    }

    fn imap_as_admin(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap_as(user, ADMIN)
    }

    fn pop3(&self, user: &str) -> Result<Pop3, Error> {
        self.cyrus.pop3(user)
    }

    fn lmtp(&self) -> Result<Lmtp, Error> {
        self.cyrus.lmtp()
    }

    fn http_address(&self) -> Option<SocketAddr> {
        Some(self.cyrus.http_address())
    }

    fn operate(&self, deed: Deed<'_>) -> Result<(), Error> {
        match deed {
            Deed::Expire { user, mailbox } => {
                // All mail of the plays is older than a day by its Date, which is what counts.
                self.cyrus.set_expiry(user, mailbox, 1)?;
                let user = self.cyrus.login_name(user);
                self.cyrus.tool("cyr_expire", &["-E", "3", "-u", &user]).map(drop)
            }
            Deed::Limit { user, storage_kib, messages } => {
                self.cyrus.set_quota(user, Quota { storage_kib, messages })
            }
            Deed::Kill { user } => self.cyrus.kill_process(self.cyrus.process_of(user)?),
            Deed::Sieve { user, script } => self.cyrus.set_sieve(user, script),
        }
    }

    fn shows_refusals(&self) -> bool {
        // Its own event aborts the process (docs/cyrus.md).
        false
    }

    fn shared(&self, owner: &str, mailbox: &str) -> String {
        // Users of one domain don't see it.
        let (local, _) = owner.split_once('@').unwrap_or((owner, ""));
        format!("{OTHERS}/{local}/{mailbox}")
    }

    fn ports(&self) -> Vec<(u16, &'static str)> {
        vec![
            (self.cyrus.imap_address().port(), "imap"),
            (self.cyrus.pop3_address().port(), "pop3"),
            (self.cyrus.lmtp_address().port(), "lmtp"),
        ]
    }

    fn log(&self) -> String {
        self.cyrus.log()
    }
}

/// One that tells a listener in datagrams.
fn heard() -> Result<Option<(Whole, Listener)>, Error> {
    let place = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    // Cyrus runs as somebody else where root tests.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("open up a temporary folder"))?;
    let path = place.path().join("notify");
    let listener = Listener::datagrams(&path)?;
    let cyrus = Cyrus::start_with(Options::telling(Notify::Datagrams(path)))?;
    Ok(cyrus.map(|cyrus| (Whole { cyrus, _place: place }, listener)))
}

/// The names of the events told until the marker subscribed to a mailbox, which it does now; its
/// own are left out, and so are mere changes of MODSEQ.
fn told(store: &dyn MailStore, listener: &Listener) -> Result<Vec<String>, Error> {
    store.imap(MARKER)?.subscribe("INBOX")?;
    let mut names = Vec::new();
    loop {
        let Some(event) = listener.next(PATIENCE) else {
            let answer = format!("{names:?}\n{}", store.log());
            return Err(Error::Answer { expected: "the marker's event".to_owned(), answer });
        };
        let event = String::from_utf8_lossy(&event).into_owned();
        let name = event.split('"').nth(3).unwrap_or_default();
        if !event.contains(&format!("\"user\":\"{MARKER}\"")) {
            if name != "MailboxModseq" {
                names.push(name.to_owned());
            }
        } else if name == "MailboxSubscribe" {
            return Ok(names);
        }
    }
}

#[test]
fn what_expires_is_told_as_that() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    imap.create("Old")?;
    imap.append("Old", "", &mail::plain("one"))?;
    told(&store, &listener)?;
    store.operate(Deed::Expire { user: ALICE, mailbox: "Old" })?;
    assert_eq!(told(&store, &listener)?, ["MessageExpire"]);
    assert_eq!(imap.status("Old")?.messages, 0);
    Ok(())
}

#[test]
fn a_limit_is_kept_and_not_told() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    told(&store, &listener)?;
    store.operate(Deed::Limit { user: ALICE, storage_kib: 1000, messages: 1 })?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    assert!(imap.append("INBOX", "", &mail::plain("two")).is_err());
    assert_eq!(told(&store, &listener)?, ["MessageAppend"]);
    Ok(())
}

#[test]
fn a_killed_process_ends_its_session_in_silence() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(BOB)?;
    store.operate(Deed::Kill { user: BOB })?;
    assert!(imap.command("NOOP").is_err());
    assert_eq!(told(&store, &listener)?, ["Login"]);
    Ok(())
}

#[test]
fn a_script_sorts_with_flags() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    imap.create("Lists")?;
    told(&store, &listener)?;
    let script =
        "require [\"fileinto\", \"imap4flags\"];\naddflag \"$List\";\nfileinto \"Lists\";\n";
    store.operate(Deed::Sieve { user: ALICE, script })?;
    assert!(told(&store, &listener)?.is_empty(), "what the operator does is no part of a play");
    store.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    assert_eq!(told(&store, &listener)?, ["MessageNew"]);
    imap.select("Lists")?;
    assert!(imap.fetch("1")?[0].flags.contains("$List"), "{}", store.log());
    Ok(())
}

#[test]
fn anothers_mailbox_is_reached_by_its_shared_name() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut bob = store.imap(BOB)?;
    bob.create("Team")?;
    bob.set_acl("Team", ALICE, "lrs")?;
    assert_eq!(told(&store, &listener)?, ["Login", "MailboxCreate", "AclChange"]);
    store.imap_as_admin(ALICE)?.select(&store.shared(BOB, "Team")).map(drop)
}

/// In notifyd's place, as the process of that name is; ends when dropped.
#[derive(Debug)]
struct Taker {
    stop: Stop,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Taker {
    fn start(socket: &std::path::Path, spool: &std::path::Path) -> Result<Self, Error> {
        let datagram = bind_datagram(socket).map_err(|error| odd(&error))?;
        Account::current().own(socket)?;
        let sockets = Sockets { datagram: Some(datagram), stream: None };
        let users = vec![Account::current().uid()];
        let notifyd = Notifyd { spool: spool.to_owned(), users, began: None };
        let stop = Stop::new().map_err(Error::io("make a stop"))?;
        let asked = stop.clone();
        let thread = std::thread::spawn(move || notifyd.run(sockets, &asked).unwrap());
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ended = thread.join();
        }
    }
}

fn odd(error: &dyn std::error::Error) -> Error {
    Error::Answer { expected: "a socket".to_owned(), answer: error.to_string() }
}

/// Plays one scenario on a Cyrus that is asked, and holds what is told against its file.
fn play(
    scenario: &str,
    acts: impl FnOnce(&mut Stage<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    play_with(scenario, acts, ASKED)
}

/// The same with further keys of the source.
fn play_with(
    scenario: &str,
    acts: impl FnOnce(&mut Stage<'_>) -> Result<(), Error>,
    keys: &str,
) -> Result<(), Error> {
    let place = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711))
        .map_err(Error::io("open up a temporary folder"))?;
    let (socket, spool) = (place.path().join("notify"), place.path().join("spool"));
    std::fs::create_dir(&spool).map_err(Error::io("make a spool"))?;
    let _taker = Taker::start(&socket, &spool)?;
    let settings = vec![("lmtp_strict_quota".to_owned(), "yes".to_owned())];
    let server_name = SERVER.to_owned();
    let options = Options { server_name, settings, ..Options::telling(Notify::Datagrams(socket)) };
    let Some(cyrus) = Cyrus::start_with(options)? else { return Ok(()) };
    let (door, _) = Bench::door()?;
    let key = place.path().join("master");
    private_file(&key, &password(MASTER))?;
    let source = format!("{SOURCE}{keys}")
        .replace("@SPOOL@", &spool.display().to_string())
        .replace("@IMAP@", &cyrus.imap_address().to_string())
        .replace("@MASTER@", MASTER)
        .replace("@PASSWORD@", &key.display().to_string());
    let mut bench = Bench::start_behind(door, &source)?;
    let store = Whole { cyrus, _place: place };
    let mut stage = Stage::new(&store, &mut bench)?;
    let outcome = acts(&mut stage);
    // What was told until it went wrong is what a person wants to see.
    let told = stage.finish()?;
    outcome.map_err(|error| Error::Answer { expected: error.to_string(), answer: told.clone() })?;
    expected::hold(Store::Cyrus, scenario, &without_sizes(&without_signs(&told)));
    Ok(())
}

/// A change that left only a sign is told as missed at a moment that no play can foretell;
/// `postbell-sources` tries that.
fn without_signs(told: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for line in told.split_inclusive('\n') {
        match blocks.last_mut().filter(|_| line.starts_with(' ')) {
            Some(block) => block.push_str(line),
            None => blocks.push(line.to_owned()),
        }
    }
    blocks.retain(|block| {
        let words: Vec<_> = block.split_whitespace().collect();
        !(block.starts_with("vnd.postbell.Gap ") && words.join(" ").contains("and not of what"))
    });
    // Nothing else may have been told at the end.
    let _last = blocks.pop_if(|block| block == "> nothing more\n");
    blocks.concat()
}

/// Cyrus' own header lines are not always of one length; sizes are held against FETCH elsewhere.
fn without_sizes(told: &str) -> String {
    let mut parts = told.split("messageSize=");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("messageSize=#");
        text.push_str(part.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    }
    text
}

macro_rules! played {
    ($($test:ident: $scenario:ident::$act:ident;)*) => {$(
        #[test]
        fn $test() -> Result<(), Error> {
            play(concat!(stringify!($scenario), "_", stringify!($act)), plays::$scenario::$act)
        }
    )*};
}

played! {
    r38_r39_deliveries_are_told_each: delivery::deliveries;
    a_message_is_told_where_sieve_put_it: delivery::sorted;
    r27_r35_appends_copies_and_moves_are_told_each: messages::appends;
    r54_r59_r62_only_real_changes_of_flags_are_told: flags::stores;
    r60_r139_one_command_on_many_messages_is_one_event: flags::many;
    r35_r36_each_way_to_expunge_is_told_once: removal::expunges;
    r55_r56_pop3_reads_in_silence_and_removes_at_quit: removal::pop3;
    r31_r34_what_policy_takes_is_expired_by_name: removal::expiry;
    r81_r91_r92_the_tree_changes_with_parents_and_children_implied: mailboxes::tree;
    r97_r99_only_real_changes_of_subscriptions_are_told: mailboxes::subscriptions;
    room_for_messages_ends_and_comes_back_unseen: quota::messages;
    what_is_refused_at_rcpt_to_is_told_by_nobody: quota::recipient;
    room_for_octets_ends_and_comes_back_unseen: quota::storage;
    r52_r53_changed_limits_are_seen_at_the_next_change: quota::limits;
    r107_more_octets_than_the_limit_lets_in_are_told_with_what_is_used: quota::above;
    r79_r85_r150_access_comes_and_goes_and_names_actor_and_owner: sharing::access;
    r74_r77_r78_each_login_has_one_logout: sessions::sessions;
    r121_r124_r142_figures_are_the_servers_own: truth::figures;
    r27_r35_what_caldav_does_is_told: web::caldav;
}

#[test]
fn r27_r35_r56_what_jmap_does_is_told() -> Result<(), Error> {
    // Where it is asked, a mailbox that JMAP makes is found, at a moment that no play can foretell.
    play_with("web_jmap", plays::web::jmap, "")
}

const SOURCE: &str = r#"
[sources.mail]
kind = "cyrus"
notify_spool = "@SPOOL@"
virtdomains = "userid"
userprefix = "shared"
"#;

const ASKED: &str = r#"
master_address = "@IMAP@"
master_user = "@MASTER@"
master_password_file = "@PASSWORD@"
"#;

/// As the hub is told by `store.fqdn`; its URIs have another name.
const SERVER: &str = "mail1.example.org";
/// A loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
