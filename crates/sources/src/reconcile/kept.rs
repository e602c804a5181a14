//! What is remembered of a mailbox.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mail_event::{Flags, UidSet};

use super::BoxStatus;
use crate::ask::{BoxLook, union};

/// What is remembered of a mailbox.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    pub(super) base: Option<BoxLook>,
    /// When that look was begun, in milliseconds since 1970; nothing where a line said it.
    pub(super) looked_at: Option<i64>,
    /// What the spool told since.
    pub(super) told: Sets,
    /// What the spool told since the look that isn't settled yet; none where there is none such.
    pub(super) since: Option<Sets>,
    /// What the last look inferred: should the spool tell it after all, it was told.
    pub(super) inferred: Sets,
    /// More was told since than is remembered: until the next look nothing is known of it but
    /// that it is there, and what nobody wrote down can't be found.
    pub(super) is_blind: bool,
    /// It was first heard of when all of its owner's mailboxes were known, and not when it was made:
    /// that is still to be told.
    pub(super) is_new: bool,
}

/// Messages, by what happened to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Sets {
    pub(super) added: UidSet,
    pub(super) gone: UidSet,
    pub(super) flagged: UidSet,
    /// Of those added the ones that came with flags, by these.
    pub(super) came_with: BTreeMap<String, UidSet>,
}

/// What happened to messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum News<'a> {
    /// They came, with these flags.
    Added(&'a Flags),
    /// They went.
    Gone,
    /// Their flags changed.
    Flagged,
}

impl BoxLook {
    /// How a mailbox stands when it has just been made.
    pub(super) fn empty(uid_validity: u32) -> Self {
        Self { uid_validity, uidnext: 1, messages: 0, modseq: 1 }
    }

    /// Nothing where a look could not begin from it.
    pub(super) fn of(status: BoxStatus) -> Option<Self> {
        let BoxStatus { val, messages, uidnext, modseq } = status;
        let (uid_validity, uidnext) = (val?, uidnext?);
        Some(Self { uid_validity, uidnext, messages: messages?, modseq: modseq? })
    }
}
impl Sets {
    /// How much they take to remember: about ten octets each.
    pub(super) fn ranges(&self) -> usize {
        let sets = [&self.added, &self.gone, &self.flagged].into_iter();
        sets.chain(self.came_with.values()).map(|set| set.ranges().len()).sum()
    }

    pub(super) fn note(&mut self, news: News<'_>, uids: &UidSet) {
        let set = match news {
            News::Added(_) => &mut self.added,
            News::Gone => &mut self.gone,
            News::Flagged => &mut self.flagged,
        };
        *set = union(set, uids);
        if let News::Added(flags) = news
            && !flags.is_empty()
        {
            let set = self.came_with.entry(flags.to_string()).or_default();
            *set = union(set, uids);
        }
    }

    /// Adds what others hold.
    pub(super) fn join(&mut self, others: Self) {
        let Self { added, gone, flagged, came_with } = others;
        self.added = union(&self.added, &added);
        self.gone = union(&self.gone, &gone);
        self.flagged = union(&self.flagged, &flagged);
        for (flags, uids) in came_with {
            let set = self.came_with.entry(flags).or_default();
            *set = union(set, &uids);
        }
    }

    /// Those to which it happened.
    pub(super) fn of(&self, news: News<'_>) -> &UidSet {
        match news {
            News::Added(_) => &self.added,
            News::Gone => &self.gone,
            News::Flagged => &self.flagged,
        }
    }

    /// The flags that a message came with, if it is one that was added.
    pub(super) fn came_with(&self, uid: u32) -> Option<Flags> {
        let marked = self.came_with.iter().find(|(_, uids)| uids.contains(uid));
        let flags = marked.map(|(flags, _)| Flags::parse(flags).unwrap_or_default());
        self.added.contains(uid).then(|| flags.unwrap_or_default())
    }
}

impl Kept {
    /// One of which nothing is known any more.
    pub(super) fn blind() -> Self {
        Self { is_blind: true, ..Self::default() }
    }

    /// Where what the spool tells is noted.
    pub(super) fn sets(&mut self) -> impl Iterator<Item = &mut Sets> {
        let told = (!self.is_blind).then_some(&mut self.told);
        told.into_iter().chain(self.since.as_mut())
    }

    /// How much it takes to remember.
    pub(super) fn ranges(&self) -> usize {
        let since = self.since.as_ref().map_or(0, Sets::ranges);
        self.told.ranges() + since + self.inferred.ranges()
    }

    pub(super) fn encode(&self) -> String {
        let unknown = match (self.is_blind, self.is_new) {
            (true, _) => "!",
            (false, true) => "+",
            (false, false) => "-",
        };
        let base = self.base.map_or_else(
            || unknown.to_owned(),
            |base| {
                let BoxLook { uid_validity, uidnext, messages, modseq } = base;
                format!("{uid_validity} {uidnext} {messages} {modseq}")
            },
        );
        let Sets { added, gone, flagged, came_with } = &self.told;
        let Sets { added: came, gone: went, .. } = &self.inferred;
        let looked_at = self.looked_at.map(|at| at.to_string()).unwrap_or_default();
        let mut text = format!("{base}|{added}|{gone}|{flagged}|{came}|{went}|{looked_at}|");
        // Last, as a keyword may have any sign that parts the others; it can't have these.
        for (flags, uids) in came_with {
            let _never_fails = write!(text, "{uids} {flags}){{");
        }
        text
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(8, '|');
        let base = parts.next()?;
        let (is_blind, is_new) = (base == "!", base == "+");
        let base = match base {
            "-" | "!" | "+" => None,
            base => {
                let mut numbers = base.split(' ');
                Some(BoxLook {
                    uid_validity: numbers.next()?.parse().ok()?,
                    uidnext: numbers.next()?.parse().ok()?,
                    messages: numbers.next()?.parse().ok()?,
                    modseq: numbers.next()?.parse().ok()?,
                })
            }
        };
        let mut set = || match parts.next()? {
            "" => Some(UidSet::new()),
            text => text.parse().ok(),
        };
        let mut told = Sets { added: set()?, gone: set()?, flagged: set()?, ..Sets::default() };
        let inferred = Sets { added: set()?, gone: set()?, ..Sets::default() };
        let looked_at = parts.next().and_then(|at| at.parse().ok());
        for one in parts.next().unwrap_or_default().split_terminator("){") {
            let (uids, flags) = one.split_once(' ')?;
            told.came_with.insert(flags.to_owned(), uids.parse().ok()?);
        }
        Some(Self { base, looked_at, told, since: None, inferred, is_blind, is_new })
    }
}
