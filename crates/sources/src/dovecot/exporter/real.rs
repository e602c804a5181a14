//! The real Dovecot's exporter, heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mail_event::json;
use postbell_engine::{Mailbox, Memory, Observation, Policy, Store, What, normalise};
use postbell_testkit::{
    ALICE, BOB, Dovecot, Error, Extent, MASTER, Notify, Options, Quota, Receiver, mail, password,
};

use super::super::names::Names;
use super::{Access, Annotations, Beside, Exported, Exporter, beside};
use crate::ask::Asker;
use crate::{Ends, Master, Secret};

/// A Dovecot that exports, and what was heard of it.
struct Bench {
    dovecot: Dovecot,
    receiver: Receiver,
    exporter: Exporter,
    heard: usize,
    waiting: VecDeque<Exported>,
    all: Vec<Exported>,
    access: Access,
    asker: Option<Asker>,
    /// Before it goes.
    _spool: tempfile::TempDir,
}

impl Bench {
    fn start(quota: Option<Quota>) -> Result<Option<Self>, Error> {
        let spool = tempfile::tempdir().unwrap();
        let receiver = Receiver::start()?;
        let notify = Notify {
            spool: spool.path().join("spool"),
            spool_max_octets: None,
            exporter: Some(receiver.url()),
        };
        let options =
            Options { quota, extent: Extent::Whole, notify: Some(notify), ..Options::default() };
        let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(None) };
        let master = Master {
            address: dovecot.imap_address(),
            user: MASTER.to_owned(),
            password: Secret::new(password(MASTER).into_bytes()),
            separator: Some('*'),
            ends: Ends::default(),
        };
        Ok(Some(Self {
            dovecot,
            receiver,
            exporter: Exporter::new(),
            heard: 0,
            waiting: VecDeque::new(),
            all: Vec::new(),
            access: Access::default(),
            asker: Some(Asker::new(&master).unwrap()),
            _spool: spool,
        }))
    }

    /// Hears on until `wanted` finds what it wants.
    fn hear<T>(&mut self, wanted: impl Fn(&Exported) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            for taken in self.receiver.taken().iter().skip(self.heard) {
                self.heard += 1;
                self.exporter.take(taken.body.as_bytes()).unwrap();
            }
            self.waiting.extend(self.exporter.drain());
            while let Some(exported) = self.waiting.pop_front() {
                let found = wanted(&exported);
                self.all.push(exported);
                if let Some(found) = found {
                    return found;
                }
            }
            let all = &self.all;
            assert!(begun.elapsed() < Duration::from_secs(60), "{all:#?}\n{}", self.dovecot.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The observations of the next exported event that means something by itself.
    fn tell(&mut self) -> Vec<Observation> {
        let names = Names::new('/', &["shared/%u/".to_owned()]);
        let (mut access, mut asker) = (std::mem::take(&mut self.access), self.asker.take());
        let cell = std::cell::RefCell::new((&mut access, &mut asker));
        let seen = self.hear(|exported| {
            let (access, asker) = &mut *cell.borrow_mut();
            let asker = asker.as_mut();
            let since = Instant::now();
            let mut with = Beside { names: &names, server_fqdn: None, access, asker, since };
            Some(beside(exported, &mut with)).filter(|seen| !seen.is_empty())
        });
        (self.access, self.asker) = (access, asker);
        seen
    }
}

fn events(seen: Vec<Observation>) -> Vec<String> {
    let store = Store::new("mail.example.org", None).unwrap();
    let mut memory = Memory::default();
    seen.into_iter()
        .map(|one| normalise(&mut memory, &store, &Policy::default(), "d", one))
        .inspect(|meaning| assert_eq!(meaning.refused, []))
        .flat_map(|meaning| meaning.events)
        .map(|one| json::to_string(&one.event))
        .collect()
}

fn is_transaction(exported: &Exported, reason: &str) -> Option<super::Annotation> {
    match exported {
        Exported::Transaction { annotation, .. } => {
            let is_it = annotation.reasons.iter().any(|one| one == reason);
            is_it.then(|| annotation.clone())
        }
        _ => None,
    }
}

#[test]
fn r109_r110_a_delivery_is_annotated_with_its_own_envelope() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(None)? else { return Ok(()) };
    let message = mail::plain("one");
    let mut session = bench.dovecot.lmtp()?;
    let to = [format!("<{ALICE}> ORCPT=rfc822;al+2Bice@example.org"), format!("<{BOB}>")];
    let to = [to[0].as_str(), to[1].as_str()];
    session.transact("<sender@example.net> BODY=8BITMIME", &to, &message)?;
    // The first of each is the INBOX made for it.
    let is_made = |reasons: &[String]| reasons.iter().any(|reason| reason == "mailbox:create");
    let envelope = |exported: &Exported| match exported {
        Exported::Transaction { annotation, .. } if !is_made(&annotation.reasons) => {
            annotation.envelope.clone()
        }
        _ => None,
    };
    let sender = "MAIL FROM:<sender@example.net> BODY=8BITMIME\r\n";
    for recipient in [
        format!("RCPT TO:<{ALICE}> ORCPT=rfc822;al+2Bice@example.org\r\n"),
        format!("RCPT TO:<{BOB}>\r\n"),
    ] {
        assert_eq!(bench.hear(envelope).as_str(), format!("{sender}{recipient}"));
    }
    Ok(())
}

#[test]
fn a_command_is_told_by_its_reason() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(None)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.create("a")?;
    bench.hear(|exported| is_transaction(exported, "imap:cmd_create"));
    imap.append("INBOX", "", &mail::plain("one"))?;
    let annotation = bench.hear(|exported| is_transaction(exported, "imap:cmd_append"));
    assert_eq!(annotation.command.as_deref(), Some("APPEND"));
    assert!(annotation.client.is_some_and(|client| client.port() != 0));
    assert_eq!(annotation.server, Some(bench.dovecot.imap_address()));
    imap.select("INBOX")?;
    imap.move_to("1", "a")?;
    bench.hear(|exported| is_transaction(exported, "imap:cmd_uid_move"));
    Ok(())
}

#[test]
fn r77_r78_how_a_session_ended_is_told() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(None)? else { return Ok(()) };
    for is_graceful in [true, false] {
        let begun = Instant::now();
        let mut imap = bench.dovecot.imap(ALICE)?;
        std::thread::sleep(Duration::from_millis(200));
        if is_graceful {
            imap.command("LOGOUT")?;
        }
        drop(imap);
        bench.all.clear();
        let ended = |exported: &Exported| match exported {
            Exported::Session { whence, .. } if whence.user.as_deref() == Some(ALICE) => {
                whence.session.clone()
            }
            _ => None,
        };
        let session = bench.hear(ended);
        // What is exported comes in no order.
        let logout = |exported: &Exported| {
            matches!(exported, Exported::Command { name, .. } if name == "LOGOUT").then_some(())
        };
        if is_graceful && !bench.all.iter().any(|exported| logout(exported).is_some()) {
            bench.hear(logout);
        }
        let mut kept = Annotations::default();
        for exported in &bench.all {
            kept.add(exported, Instant::now());
        }
        let ending = kept.take_ending(&session).unwrap();
        assert_eq!(ending.is_graceful, is_graceful);
        let duration = ending.duration.unwrap();
        assert!((Duration::from_millis(200)..begun.elapsed()).contains(&duration));
    }
    Ok(())
}

#[test]
fn r79_r80_r85_access_granted_and_taken_is_told_to_the_one_affected() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(None)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.create("Entw&APw-rfe \\\"x")?;
    let name = "Entw&APw-rfe \\\"x";
    let val = imap.select(name)?.uid_validity;
    imap.set_acl(name, BOB, "lrs")?;
    let mailbox =
        Mailbox { name: format!("shared/{ALICE}/Entwürfe \\\"x"), uid_validity: Some(val) };
    let [seen] = &bench.tell()[..] else { panic!("one") };
    assert_eq!(seen.what, What::MailboxCreated(mailbox.clone()));
    assert_eq!((seen.owner.as_deref(), seen.actor.user.as_deref()), (Some(BOB), Some(ALICE)));
    // Once more changes nothing.
    imap.set_acl(name, BOB, "+s")?;
    imap.set_acl(name, BOB, "lr")?;
    imap.delete_acl(name, BOB)?;
    let [seen] = &bench.tell()[..] else { panic!("one") };
    assert_eq!(seen.what, What::MailboxDeleted(mailbox));
    let [event] = &events(vec![seen.clone()])[..] else { panic!("one") };
    assert!(event.contains(r#""vnd.postbell.affectedUser":"bob@example.org""#), "{event}");
    Ok(())
}

#[test]
fn r46_r48_r50_what_is_refused_for_quota_is_told_with_limit_and_usage() -> Result<(), Error> {
    let quota = Quota { storage_kib: 1000, messages: 2 };
    let Some(mut bench) = Bench::start(Some(quota))? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    let message = mail::plain("one");
    imap.create("a b")?;
    imap.append("INBOX", "", &message)?;
    imap.append("INBOX", "", &message)?;

    assert!(imap.append("a b", "\\Seen", &message).is_err());
    let seen = bench.tell();
    let What::QuotaRefused { mailbox: Some(mailbox), .. } = &seen[0].what else { panic!() };
    assert_eq!(mailbox.name, "a b");
    let [event] = &events(seen)[..] else { panic!("one") };
    for part in [
        r#""event":"QuotaExceed""#,
        r#""user":"alice@example.org""#,
        r#""maxMessages":2"#,
        r#""messages":2"#,
        r#""service":"imap""#,
        r#""vnd.postbell.quotaRoot":"User quota""#,
    ] {
        assert!(event.contains(part), "{part} in {event}");
    }

    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    assert!(imap.copy("1:2", "a b").is_err());
    let seen = bench.tell();
    let What::QuotaRefused { mailbox: Some(mailbox), .. } = &seen[0].what else { panic!() };
    assert_eq!(mailbox.name, "a b");

    assert!(bench.dovecot.lmtp()?.deliver("s@example.net", ALICE, &message).is_err());
    let [event] = &events(bench.tell())[..] else { panic!("one") };
    for part in [r#""service":"lmtp""#, r#""user":"alice@example.org""#, r#""maxMessages":2"#] {
        assert!(event.contains(part), "{part} in {event}");
    }
    Ok(())
}

#[test]
fn how_somebody_logged_in_is_told() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(None)? else { return Ok(()) };
    drop(bench.dovecot.imap(ALICE)?);
    let (whence, login) = bench.hear(|exported| match exported {
        Exported::Auth { whence, login } => Some((whence.clone(), login.clone())),
        _ => None,
    });
    assert!(whence.user.as_deref() == Some(ALICE) && whence.session.is_some());
    assert_eq!(login.mechanism.as_deref(), Some("PLAIN"));
    assert_eq!(login.server, Some(bench.dovecot.imap_address()));
    Ok(())
}
