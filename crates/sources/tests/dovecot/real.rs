//! The real Dovecot with our script in it, followed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postbell_engine::{Certainty, Memory, Policy, Store, What, normalise};
use postbell_sources::{Ends, Master, Secret};
use postbell_testkit::{
    ADMIN, ALICE, BOB, Dovecot, Error, Extent, MASTER, Notify, Options, Receiver, mail, password,
};

use crate::rig::{Rig, wait_until};

/// What of Dovecot is used beside the spool.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum With {
    SpoolAlone,
    Exporter,
    ExporterAndMaster,
}

/// A Dovecot that is followed.
pub(crate) struct Bench {
    pub(crate) rig: Rig,
    pub(crate) dovecot: Dovecot,
    feeding: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
}

impl Bench {
    pub(crate) fn start(with: With) -> Result<Option<Self>, Error> {
        Self::start_as(with, |_| {})
    }

    /// One whose source is told something else than usual.
    pub(crate) fn start_as(
        with: With,
        change: impl FnOnce(&mut postbell_sources::dovecot::Options),
    ) -> Result<Option<Self>, Error> {
        let mut rig = Rig::new();
        std::fs::remove_dir(&rig.options.spool).unwrap();
        let receiver = Receiver::start()?;
        let notify = Notify {
            spool: rig.options.spool.clone(),
            spool_max_octets: None,
            exporter: Some(receiver.url()).filter(|_| with != With::SpoolAlone),
        };
        let options = Options { extent: Extent::Whole, notify: Some(notify), ..Options::default() };
        let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(None) };
        rig.options.shared = vec!["shared/%u/".to_owned()];
        rig.options.annotation_window = Duration::from_secs(2);
        if with == With::ExporterAndMaster {
            rig.options.master = Some(Master {
                address: dovecot.imap_address(),
                user: MASTER.to_owned(),
                password: Secret::new(password(MASTER).into_bytes()),
                separator: Some('*'),
                ends: Ends::default(),
            });
        }
        change(&mut rig.options);
        let feeding = Arc::new(AtomicBool::new(true));
        let (go_on, exporter) = (Arc::clone(&feeding), rig.options.exporter.clone());
        let feeder = std::thread::spawn(move || {
            let mut heard = 0;
            while go_on.load(Ordering::SeqCst) {
                for taken in receiver.taken().iter().skip(heard) {
                    heard += 1;
                    exporter.take(taken.body.as_bytes()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        rig.start();
        Ok(Some(Self { rig, dovecot, feeding, feeder: Some(feeder) }))
    }

    /// What is told beyond the first `from`, in a few words, once `last` is.
    pub(crate) fn told(&self, from: usize, last: &str) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let told = self.rig.hear_out();
            if told.iter().skip(from).any(|text| text.contains(last)) {
                self.check();
                return told.into_iter().skip(from).collect();
            }
            let log = self.dovecot.log();
            assert!(begun.elapsed() < Duration::from_secs(60), "{last}: {told:#?}\n{log}");
        }
    }

    /// Whether all that is told makes valid events.
    fn check(&self) {
        let store = Store::new("mail.example.org", None).unwrap();
        let mut memory = Memory::default();
        for seen in self.rig.kept.told() {
            let meaning = normalise(&mut memory, &store, &Policy::default(), "d", seen);
            assert!(meaning.refused.is_empty(), "{:?}", meaning.refused);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.rig.stop();
        self.feeding.store(false, Ordering::SeqCst);
        if let Some(feeder) = self.feeder.take() {
            drop(feeder.join());
        }
    }
}

/// The same with and without the exporter.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn session(bench: &Bench) -> Result<(), Error> {
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.create("a/b/c")?;
    imap.append("INBOX", "\\Flagged", &mail::plain("one"))?;
    imap.append("INBOX", "", &mail::plain("two"))?;
    imap.select("INBOX")?;
    imap.store("1:2", "+FLAGS", "\\Seen")?;
    imap.move_to("1:2", "a/b/c")?;
    imap.delete("a/b/c")?;
    imap.logout()
}

#[test]
fn a_session_is_told_with_all_that_the_exporter_adds() -> Result<(), Error> {
    let _one = ONE_AT_A_TIME.lock();
    let Some(bench) = Bench::start(With::Exporter)? else { return Ok(()) };
    session(&bench)?;
    let told = bench.told(0, "logout");
    let told: Vec<_> = told.iter().map(|text| text.replace(ALICE, "alice")).collect();
    let wanted = [
        "login alice",
        "alice created a/b/c",
        "alice appended INBOX 1",
        "alice appended INBOX 2",
        "flags",
        "alice appended a/b/c 1 from INBOX 1",
        "alice appended a/b/c 2 from INBOX 2",
        "alice expunged INBOX 1:2 to a/b/c 1:2",
        "alice deleted a/b/c Some(",
        "logout alice sessionDuration=",
    ];
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
    for (told, wanted) in told.iter().zip(wanted) {
        let is_flags = wanted == "flags" && told.contains("FlagsChanged");
        assert!(is_flags || told.starts_with(wanted), "{told}, where {wanted} was expected");
    }
    Ok(())
}

#[test]
fn a_session_is_told_without_the_exporter_too() -> Result<(), Error> {
    let _one = ONE_AT_A_TIME.lock();
    let Some(bench) = Bench::start(With::SpoolAlone)? else { return Ok(()) };
    session(&bench)?;
    let told = bench.told(0, "logout");
    assert!(told.iter().any(|text| text.contains("deleted a/b/c")), "{told:#?}");
    assert!(!told.iter().any(|text| text.contains("expunged a/b/c")), "{told:#?}");
    assert_eq!(told.iter().filter(|text| text.contains("appended")).count(), 4, "{told:#?}");
    Ok(())
}

#[test]
fn r71_deliveries_masters_and_shared_mailboxes_are_told() -> Result<(), Error> {
    let _one = ONE_AT_A_TIME.lock();
    let Some(bench) = Bench::start(With::ExporterAndMaster)? else { return Ok(()) };
    let mut lmtp = bench.dovecot.lmtp()?;
    lmtp.deliver("a@example.net", ALICE, &mail::plain("one"))?;
    lmtp.quit()?;
    bench.told(0, "delivered INBOX 1 with envelope");
    let told = bench.rig.kept.told();
    let delivered = told.iter().find_map(|seen| match &seen.what {
        What::Delivered { message, .. } => Some(message),
        _ => None,
    });
    let delivered = delivered.unwrap();
    assert!(delivered.size_octets.is_some() && delivered.modseq.is_some(), "{delivered:?}");

    bench.dovecot.imap_as(ALICE, ADMIN)?.logout()?;
    bench.told(0, "logout");
    let mut alice = bench.dovecot.imap(ALICE)?;
    alice.set_acl("INBOX", BOB, "lrswipkxte")?;
    alice.logout()?;
    let mut bob = bench.dovecot.imap(BOB)?;
    bob.append(&format!("shared/{ALICE}"), "", &mail::plain("two"))?;
    bob.logout()?;
    let told = bench.told(0, &format!("logout {BOB}"));
    assert!(told.contains(&format!("{ALICE} appended INBOX 2")), "{told:#?}");
    let logins: Vec<_> = bench
        .rig
        .kept
        .told()
        .iter()
        .filter(|seen| matches!(seen.what, What::LoggedIn))
        .map(|seen| (seen.actor.user.clone().unwrap(), seen.actor.admin.clone()))
        .collect();
    let wanted = [
        (ALICE.to_owned(), Some(ADMIN.to_owned())),
        (ALICE.to_owned(), None),
        (BOB.to_owned(), None),
    ];
    assert_eq!(logins, wanted);
    Ok(())
}

#[test]
fn a_process_killed_within_a_session_is_looked_after() -> Result<(), Error> {
    let _one = ONE_AT_A_TIME.lock();
    let Some(mut bench) = Bench::start(With::ExporterAndMaster)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    bench.told(0, "appended INBOX 1");
    wait_until(|| bench.rig.health.snapshot().detail.contains("1 sessions"));
    // What goes past the script nobody writes down.
    let spool = bench.rig.options.spool.clone();
    let aside = spool.with_extension("aside");
    bench.rig.stop();
    std::fs::rename(&spool, &aside).unwrap();
    imap.append("INBOX", "", &mail::plain("two"))?;
    std::fs::rename(&aside, &spool).unwrap();
    bench.rig.start();
    for pid in bench.dovecot.processes("imap") {
        bench.dovecot.kill_process(pid)?;
    }
    bench.told(0, "appended INBOX 2");
    let told = bench.told(0, "disconnect=\"abort\"");
    assert_eq!(told.iter().filter(|text| text.starts_with("logout")).count(), 1, "{told:#?}");
    let inferred = bench.rig.kept.told().iter().any(|seen| {
        seen.certainty == Certainty::Inferred && matches!(seen.what, What::Appended(_))
    });
    assert!(inferred, "{told:#?}");
    Ok(())
}

#[test]
fn r102_r119_r121_size_structure_and_content_come_with_a_message_where_policy_asks()
-> Result<(), Error> {
    let _one = ONE_AT_A_TIME.lock();
    let (small, large) = (mail::plain("one"), mail::plain(&"long ".repeat(2_000)));
    let max = small.len() as u64;
    for (body_structure, content_max_octets) in [(true, Some(max)), (false, None)] {
        let bench = Bench::start_as(With::ExporterAndMaster, |options| {
            (options.body_structure, options.content_max_octets) =
                (body_structure, content_max_octets);
        })?;
        let Some(bench) = bench else { return Ok(()) };
        let mut lmtp = bench.dovecot.lmtp()?;
        lmtp.deliver("a@example.net", ALICE, &small)?;
        lmtp.quit()?;
        let mut imap = bench.dovecot.imap(ALICE)?;
        imap.append("INBOX", "", &small)?;
        imap.append("INBOX", "", &large)?;
        bench.told(0, "appended INBOX 3");
        let opened = imap.select("INBOX")?;
        let fetched = imap.fetch("1:3")?;
        let told = bench.rig.kept.told();
        let told = told.into_iter().filter_map(|seen| match seen.what {
            What::Delivered { message, .. } | What::Appended(message) => Some(message),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), fetched.len(), "{told:?}");
        for (told, fetched) in told.iter().zip(&fetched) {
            assert_eq!(
                (told.uid, told.mailbox.uid_validity),
                (fetched.uid, Some(opened.uid_validity))
            );
            assert_eq!(told.size_octets, Some(fetched.size_octets));
            let structure = Some(&fetched.body_structure).filter(|_| body_structure);
            assert_eq!(told.body_structure.as_ref(), structure);
            // Larger than policy says, it isn't handed on.
            let is_wanted = content_max_octets.is_some_and(|max| fetched.size_octets <= max);
            let content = Some(&fetched.content[..]).filter(|_| is_wanted);
            assert_eq!(told.content.as_ref().map(|content| content.as_bytes()), content);
        }
    }
    Ok(())
}
