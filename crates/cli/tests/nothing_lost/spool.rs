//! Nothing can be written to the spool.

use std::os::unix::fs::PermissionsExt;

use postbell_testkit::{ALICE, BOB, Dovecot, Error, Imap, Tmpfs, mail};

use crate::bench::{Bench, Exporter};
use crate::facts::{self, Ledger};
use crate::store;

#[test]
fn a_spool_that_was_shut_costs_no_command_and_what_was_missed_is_found() -> Result<(), Error> {
    let Some(bench) = Bench::start(Exporter::Heard)? else { return Ok(()) };
    let mode = |mode| {
        std::fs::set_permissions(&bench.spool, PermissionsExt::from_mode(mode)).unwrap();
    };
    let missed = Missed { bench: &bench, complaint: "Permission denied" };
    let shut = || {
        mode(0o000);
        Ok(())
    };
    missed.play(shut, |()| mode(0o1733))
}

#[test]
fn a_full_disk_costs_no_command_and_what_was_missed_is_found() -> Result<(), Error> {
    let Some(disk) = Tmpfs::mount(64 * 1024)? else { return Ok(()) };
    let Some(bench) = Bench::start_on(disk.path())? else { return Ok(()) };
    let missed = Missed { bench: &bench, complaint: "No space left on device" };
    missed.play(|| disk.fill(), |ballast| std::fs::remove_file(ballast).unwrap())
}

/// What happens while nothing can be written down.
struct Missed<'a> {
    bench: &'a Bench<Dovecot>,
    /// What Dovecot's log says of it.
    complaint: &'a str,
}

impl Missed<'_> {
    fn play<T>(
        &self,
        shut: impl FnOnce() -> Result<T, Error>,
        open: impl FnOnce(T),
    ) -> Result<(), Error> {
        let bench = self.bench;
        let mut alice = bench.server.imap(ALICE)?;
        for mailbox in ["there", "renamed", "deleted"] {
            alice.create(mailbox)?;
        }
        let before = store::now(&bench.server)?;
        alice.append_many("INBOX", &vec![("", &*mail::plain("old")); 9])?;
        alice.select("INBOX")?;
        bench.wait_for("what was seen", || bench.ledger().count() >= 13 && bench.is_settled());

        let seen = bench.told().len();
        let key = shut()?;
        self.use_up(&mut alice)?;
        bench.wait_for("the gap", || bench.ledger().facts().any(is_gap));
        self.unseen(&mut alice)?;
        open(key);
        alice.append("INBOX", "$After", &mail::plain("after"))?;

        let now = store::now(&bench.server)?;
        // Bob's message was found, though no line of his says that one is missing. His login and
        // subscriptions can't be found by a look: the gap stands for them.
        let wanted: Ledger = FOUND.map(str::to_owned).into_iter().collect();
        let late = || {
            let told = bench.told();
            let late = told.iter().skip(seen).filter(|told| told.is_inferred());
            late.flat_map(|told| facts::of(&told.event)).collect::<Ledger>()
        };
        bench.wait_for("what was told to be what the server has", || {
            now.is_told(&before, &bench.told()) && wanted.without(&late()).is_empty()
        });
        let more = late().without(&wanted);
        assert!(more.facts().all(is_gap), "{more}");
        Ok(())
    }

    /// What is left of the last page of a file may hold some more lines.
    fn use_up(&self, alice: &mut Imap) -> Result<(), Error> {
        for _ in 0..100 {
            if self.bench.server.whole_log().contains(self.complaint) {
                return Ok(());
            }
            alice.subscribe("there")?;
            alice.unsubscribe("there")?;
        }
        panic!("no word of {:?}: {}", self.complaint, self.bench.server.log());
    }

    /// Each command is answered with OK.
    fn unseen(&self, alice: &mut Imap) -> Result<(), Error> {
        let dovecot = &self.bench.server;
        let new = mail::plain("new");
        alice.append("INBOX", "\\Flagged", &new)?;
        alice.store("1:2", "+FLAGS", "\\Seen $Unseen")?;
        alice.copy("3", "there")?;
        alice.move_to("4", "there")?;
        alice.store("5:6", "+FLAGS", "\\Deleted")?;
        alice.expunge_uids("5:6")?;
        alice.create("made")?;
        alice.append("made", "", &new)?;
        alice.rename("renamed", "after all")?;
        alice.delete("deleted")?;
        // A session of which not one line was written.
        let mut bob = dovecot.imap(BOB)?;
        bob.append("INBOX", "", &new)?;
        bob.logout()?;
        // It would write its last line after the answer.
        let of_bob = |line: &str| {
            line.split_once(&format!("imap({BOB})<"))?.1.split('>').next()?.parse().ok()
        };
        let complained = || -> Option<u32> {
            let log = dovecot.whole_log();
            let complaints = log.lines().filter(|line| line.contains(self.complaint));
            complaints.filter_map(of_bob).next_back()
        };
        // Another of Dovecot's processes writes the log.
        self.bench.wait_for("Bob's process to complain", || complained().is_some());
        let pid = complained().unwrap();
        self.bench.wait_for("Bob's process to end", || !dovecot.processes("imap").contains(&pid));
        Ok(())
    }
}

fn is_gap(fact: &str) -> bool {
    fact.contains(" vnd.postbell.Gap ")
}

/// What a look finds of [`Missed::unseen`].
const FOUND: [&str; 15] = [
    "alice@example.org added INBOX 10",
    "alice@example.org added made 1",
    "alice@example.org added there 1",
    "alice@example.org added there 2",
    "alice@example.org created made",
    "alice@example.org deleted deleted",
    "alice@example.org gone INBOX 4",
    "alice@example.org gone INBOX 5",
    "alice@example.org gone INBOX 6",
    "alice@example.org renamed renamed after all",
    "alice@example.org set INBOX 1 $Unseen",
    "alice@example.org set INBOX 1 \\Seen",
    "alice@example.org set INBOX 2 $Unseen",
    "alice@example.org set INBOX 2 \\Seen",
    "bob@example.org added INBOX 1",
];
