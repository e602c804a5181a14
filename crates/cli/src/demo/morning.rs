//! What happens in the demo: every event that a Maildir can tell of, in a short morning.

use std::io;

use super::letters::{self, BEN, NEWSLETTER};
use super::maildir::Maildir;

/// Something that happens, and the events it must lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// In words.
    pub(super) told: &'static str,
    /// How it is done.
    pub(super) act: fn(&mut Maildir) -> io::Result<()>,
    /// The events that must come of it, in any order.
    pub(super) events: &'static [&'static str],
}

/// What is there before the hub looks for the first time.
pub(super) fn before(maildir: &mut Maildir) -> io::Result<()> {
    let text = "This was here before postbell looked, and so it is not told.\n";
    maildir.deliver("old", &letters::note(BEN, "An old letter", text)?)
}

/// The morning, in order.
pub(super) const STEPS: &[Step] = &[
    Step {
        told: "a letter from Ben is delivered",
        act: |maildir| {
            maildir.deliver("lunch", &letters::note(BEN, "Lunch?", "At noon, at the pier?\n")?)
        },
        events: &["MessageNew"],
    },
    Step {
        told: "and one nobody asked for",
        act: |maildir| {
            maildir.deliver("offer", &letters::note(NEWSLETTER, "70% off!!", "Buy two boats.\n")?)
        },
        events: &["MessageNew"],
    },
    Step {
        told: "Alice reads Ben's letter",
        act: |maildir| maildir.flag("lunch", "S"),
        events: &["MessageRead"],
    },
    Step {
        told: "she makes a mailbox for what she sends",
        act: |maildir| maildir.create("Sent"),
        events: &["MailboxCreate"],
    },
    Step {
        told: "and subscribes to it",
        act: |maildir| maildir.subscribe(&["Sent"]),
        events: &["MailboxSubscribe"],
    },
    Step {
        told: "she answers, and keeps a copy",
        act: |maildir| {
            let answer = letters::answer(BEN, "Re: Lunch?", "Gladly. Bring the plans.\n")?;
            maildir.append("answer", "Sent", "S", &answer)
        },
        events: &["MessageAppend"],
    },
    Step {
        told: "Ben's letter is marked as answered, and as important",
        act: |maildir| maildir.flag("lunch", "FRS"),
        events: &["FlagsSet"],
    },
    Step {
        told: "it is not that important after all",
        act: |maildir| maildir.flag("lunch", "RS"),
        events: &["FlagsClear"],
    },
    Step {
        told: "the offer goes to the trash",
        act: |maildir| maildir.flag("offer", "ST"),
        events: &["MessageRead", "MessageTrash"],
    },
    Step {
        told: "and from there to nowhere",
        act: |maildir| maildir.expunge("offer"),
        events: &["MessageExpunge"],
    },
    Step {
        told: "the boat gets a mailbox of its own",
        act: |maildir| maildir.create("Boat"),
        events: &["MailboxCreate"],
    },
    Step {
        told: "Ben's letter moves there",
        act: |maildir| maildir.transfer("lunch", "Boat"),
        events: &["MessageAppend", "MessageExpunge"],
    },
    Step {
        told: "the mailbox gets a better name",
        act: |maildir| maildir.rename("Boat", "Projects/Boat"),
        events: &["MailboxRename"],
    },
    Step {
        told: "the administrator lowers the quota to 64 KiB",
        act: |maildir| maildir.limit(64 * 1024),
        events: &["QuotaChange"],
    },
    Step {
        told: "Ben sends a photo of 80 KiB",
        act: |maildir| maildir.deliver("photo", &letters::photo(BEN, 60_000)?),
        events: &["MessageNew", "QuotaExceed"],
    },
    Step {
        told: "Alice has seen it, and removes it",
        act: |maildir| maildir.expunge("photo"),
        events: &["MessageExpunge", "QuotaWithin"],
    },
    Step {
        told: "she gives up her subscription",
        act: |maildir| maildir.subscribe(&[]),
        events: &["MailboxUnSubscribe"],
    },
    Step {
        told: "and the boat",
        act: |maildir| maildir.delete("Projects/Boat"),
        events: &["MailboxDelete"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_morning_has_every_event_a_maildir_can_tell_of() {
        let seen: BTreeSet<_> = STEPS.iter().flat_map(|step| step.events).copied().collect();
        let wanted = BTreeSet::from([
            "FlagsClear",
            "FlagsSet",
            "MailboxCreate",
            "MailboxDelete",
            "MailboxRename",
            "MailboxSubscribe",
            "MailboxUnSubscribe",
            "MessageAppend",
            "MessageExpunge",
            "MessageNew",
            "MessageRead",
            "MessageTrash",
            "QuotaChange",
            "QuotaExceed",
            "QuotaWithin",
        ]);
        assert_eq!(seen, wanted);
    }

    #[test]
    fn every_step_can_be_done_after_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut maildir = Maildir::make(folder.path(), 1 << 30).unwrap();
        before(&mut maildir).unwrap();
        for step in STEPS {
            (step.act)(&mut maildir).unwrap_or_else(|error| panic!("{}: {error}", step.told));
        }
    }
}
