//! Messages of one happening, asked about some at a time.

use std::collections::BTreeMap;

use mail_event::UidSet;

use super::{Asked, Asker, Want};

/// What the server said of the messages of one happening.
#[derive(Debug, Default)]
pub(in super::super) struct InTurn {
    /// Up to which UID they were asked about.
    until: u32,
    found: BTreeMap<u32, Asked>,
}

/// A mailbox of a user's, and its UIDVALIDITY where that is known.
pub(in super::super) type Where<'a> = (&'a str, &'a str, Option<u32>);

impl InTurn {
    /// What the server says of one of `uids`; they are to be taken in order.
    pub(in super::super) fn take(
        &mut self,
        asker: &mut Asker,
        (user, mailbox, uid_validity): Where<'_>,
        (uids, uid): (&UidSet, u32),
        want: Want,
    ) -> Option<Asked> {
        if uid > self.until {
            let many = if want.content_max_octets.is_some() { ASKED_WITH_CONTENT } else { ASKED };
            let wanted = UidSet::from_uids(uids.iter().skip_while(|one| *one < uid).take(many));
            self.found =
                asker.messages(user, mailbox, uid_validity, &wanted, want).unwrap_or_default();
            self.until = wanted.last().unwrap_or(u32::MAX);
        }
        self.found.remove(&uid)
    }
}

/// Messages asked for at once.
const ASKED: usize = 100;

/// Messages asked for at once where they come whole.
const ASKED_WITH_CONTENT: usize = 8;
