//! How the server stands, and how it would have to stand by what was told.

use std::collections::{BTreeMap, BTreeSet};

use mail_event::EventName;
use postbell_testkit::{Dovecot, Error, Imap, MASTER};

use crate::bench::{Told, USERS};
use crate::facts::named;

/// Messages by owner and mailbox; of INBOX, too, where it is empty.
type Mailboxes = BTreeMap<(String, String), BTreeSet<u32>>;

/// How the server stands.
#[derive(Default)]
pub(crate) struct Standing {
    mailboxes: Mailboxes,
    /// Those it lists and can't open, as after it was killed while it made one or took one away: what
    /// they hold nobody can say.
    broken: BTreeSet<(String, String)>,
}

impl Standing {
    /// Whether what was told since `before` comes to this.
    pub(crate) fn is_told(&self, before: &Self, told: &[Told]) -> bool {
        let mut replayed = replayed(before.mailboxes.clone(), told);
        replayed.retain(|place, _| !self.broken.contains(place));
        replayed == self.mailboxes
    }
}

/// How the server stands now. Told of to nobody: the master user is postbell's own.
pub(crate) fn now(dovecot: &Dovecot) -> Result<Standing, Error> {
    let mut found = Standing::default();
    for user in USERS {
        let mut imap = dovecot.imap_as(user, MASTER)?;
        for mailbox in names(&mut imap)? {
            match imap.command(&format!("EXAMINE \"{mailbox}\"")) {
                Ok(_) => {}
                Err(Error::Refused { answer, .. }) if answer.contains(DELETED_UNDER_US) => {
                    found.broken.insert((user.to_owned(), mailbox));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let answer = imap.command("UID SEARCH ALL")?;
            let uids = answer.untagged.iter().find_map(|line| {
                let text = String::from_utf8_lossy(line);
                let uids = text.strip_prefix("* SEARCH")?.split_ascii_whitespace();
                uids.map(|uid| uid.parse().ok()).collect::<Option<BTreeSet<u32>>>()
            });
            found.mailboxes.insert((user.to_owned(), mailbox), uids.unwrap_or_default());
        }
        imap.logout()?;
    }
    Ok(found)
}

/// What Dovecot says of a mailbox of which a part is gone.
const DELETED_UNDER_US: &str = "Mailbox was deleted under us";

/// A user's own mailboxes that hold messages.
fn names(imap: &mut Imap) -> Result<Vec<String>, Error> {
    let answer = imap.command("LIST \"\" \"*\"")?;
    let name = |line: &Vec<u8>| {
        let text = String::from_utf8_lossy(line).into_owned();
        let (attributes, rest) = text.strip_prefix("* LIST (")?.split_once(") ")?;
        let (_, name) = rest.split_once(' ')?;
        let name = name.trim_matches('"').to_owned();
        let attributes = attributes.to_ascii_lowercase();
        let holds = !attributes.contains("\\noselect") && !attributes.contains("\\nonexistent");
        (holds && !name.starts_with("shared")).then_some(name)
    };
    Ok(answer.untagged.iter().filter_map(name).collect())
}

/// Goes along with what was told since the server stood as `before`.
fn replayed(before: Mailboxes, told: &[Told]) -> Mailboxes {
    let mut known = before;
    for Told { event, .. } in told {
        let place = |uri| {
            let (owner, name) = named(uri);
            (owner.to_owned(), name.to_owned())
        };
        let target = event.mailbox_id().map(place);
        match (event.name(), target) {
            (EventName::MessageAppend | EventName::MessageNew, _) => {
                let uid = crate::facts::uid(event.uri());
                known.entry(place(event.uri())).or_default().insert(uid);
            }
            (EventName::MessageExpunge | EventName::MessageExpire, _) => {
                let messages = known.entry(place(event.uri())).or_default();
                messages.retain(|uid| !event.uidset().is_some_and(|gone| gone.contains(*uid)));
            }
            (EventName::MailboxCreate, Some(to)) => drop(known.insert(to, BTreeSet::new())),
            (EventName::MailboxDelete, Some(to)) => drop(known.remove(&to)),
            (EventName::MailboxRename, Some(to)) => {
                let from = event.old_mailbox_id().map(place).unwrap_or_default();
                // Children are implied (R89).
                let below = format!("{}/", from.1);
                let moving: Vec<_> = known
                    .keys()
                    .filter(|(owner, name)| {
                        *owner == from.0 && (*name == from.1 || name.starts_with(&below))
                    })
                    .cloned()
                    .collect();
                for place in moving {
                    let messages = known.remove(&place).unwrap_or_default();
                    let rest = place.1.strip_prefix(&from.1).unwrap_or_default();
                    known.insert((place.0, format!("{}{rest}", to.1)), messages);
                }
            }
            _ => {}
        }
    }
    known
}
