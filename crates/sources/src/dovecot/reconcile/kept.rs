//! What is remembered of a mailbox.

use mail_event::UidSet;

use super::super::ask::BoxLook;
use super::super::record::BoxStatus;

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
}

/// Messages, by what happened to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Sets {
    pub(super) added: UidSet,
    pub(super) gone: UidSet,
    pub(super) flagged: UidSet,
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
        [&self.added, &self.gone, &self.flagged].iter().map(|set| set.ranges().len()).sum()
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
        let unknown = if self.is_blind { "!" } else { "-" };
        let base = self.base.map_or_else(
            || unknown.to_owned(),
            |base| {
                let BoxLook { uid_validity, uidnext, messages, modseq } = base;
                format!("{uid_validity} {uidnext} {messages} {modseq}")
            },
        );
        let Sets { added, gone, flagged } = &self.told;
        let Sets { added: came, gone: went, .. } = &self.inferred;
        let looked_at = self.looked_at.map(|at| format!("|{at}")).unwrap_or_default();
        format!("{base}|{added}|{gone}|{flagged}|{came}|{went}{looked_at}")
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let base = parts.next()?;
        let is_blind = base == "!";
        let base = match base {
            "-" | "!" => None,
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
        let told = Sets { added: set()?, gone: set()?, flagged: set()? };
        let inferred = Sets { added: set()?, gone: set()?, flagged: UidSet::new() };
        let looked_at = parts.next().and_then(|at| at.parse().ok());
        Some(Self { base, looked_at, told, since: None, inferred, is_blind })
    }
}
