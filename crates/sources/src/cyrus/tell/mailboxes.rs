//! Mailboxes that came, went and got other names, and who is subscribed to them.

use mail_event::Timestamp;
use postbell_engine::What;

use super::super::Options;
use super::super::notification::Notification;
use super::{Memory, Telling, Told, Untold};

pub(super) fn changed(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let (owner, mailbox) = telling.mailbox()?;
    let said = telling.said;
    if let (Some(old), Some(user)) =
        (said.old.as_ref().and_then(mail_event::ImapUrl::mailbox), &said.user)
    {
        // With `delete_unsubscribe` what went with it is on no list any more, of which nothing is said.
        let namespace = &telling.options().namespace;
        memory.subscribed.forget(&[user], |name, _| namespace.is_below(name, old));
    }
    let gone = match said.event.as_str() {
        "MailboxDelete" => Some((owner.clone(), mailbox.name.clone())),
        "MailboxRename" => telling.old_mailbox().map(|(owner, old)| (owner, old.name)),
        _ => None,
    };
    if let Some((Some(user), name)) = gone
        && name == "INBOX"
    {
        // A user's list goes with them.
        memory.subscribed.forget(&[&user], |_, _| true);
    }
    match said.event.as_str() {
        "MailboxCreate" => telling.one(memory, owner, What::MailboxCreated(mailbox)),
        "MailboxDelete" => telling.one(memory, owner, What::MailboxDeleted(mailbox)),
        _ => {
            let (from_owner, from) = telling.old_mailbox().ok_or(Untold::Mailbox)?;
            let is_deleted = |uri: &mail_event::ImapUrl| {
                uri.mailbox().is_some_and(|name| telling.options().namespace.place(name).is_deleted)
            };
            // What is kept for a while under DELETED is seen by nobody.
            match (
                said.old.as_ref().is_some_and(is_deleted),
                said.uri.as_ref().is_some_and(is_deleted),
            ) {
                (true, true) => telling.none(),
                (true, false) => telling.one(memory, owner, What::MailboxCreated(mailbox)),
                (false, true) => telling.one(memory, from_owner, What::MailboxDeleted(from)),
                (false, false) => telling.one(
                    memory,
                    owner,
                    What::MailboxRenamed { from_owner, from, to: mailbox },
                ),
            }
        }
    }
}

/// Cyrus tells a SUBSCRIBE of what is on the list already, and an UNSUBSCRIBE of what isn't; only
/// a change is told (R97, R99). What was on the list before anybody heard is known where it was asked
/// for.
pub(super) fn subscribed(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let (owner, mailbox) = telling.mailbox()?;
    let said = telling.said;
    let user = said.user.as_deref().or(owner.as_deref()).ok_or(Untold::Session)?;
    let name = said.uri.as_ref().and_then(mail_event::ImapUrl::mailbox).unwrap_or_default();
    let is_subscribed = said.event == "MailboxSubscribe";
    let at = said.at.unwrap_or(telling.whence.received).unix_millis();
    if !memory.subscribed.note_at(&[user, name], is_subscribed, at) {
        return telling.none();
    }
    let what = match is_subscribed {
        true => What::Subscribed(mailbox),
        false => What::Unsubscribed(mailbox),
    };
    telling.one(memory, owner, what)
}

/// Whether a mailbox came to be because `next`, below it, was wanted: CREATE a/b/c makes a and a/b
/// as well, and Cyrus tells all three (R81). Nothing says that it was one command; that the same
/// process made the child right after the parent is as near as one can get.
pub(in super::super) fn is_implied(
    made: &Notification,
    next: &Notification,
    options: &Options,
) -> bool {
    let is_create = |said: &Notification| said.event == "MailboxCreate";
    if !is_create(made) || !is_create(next) || made.pid != next.pid || made.user != next.user {
        return false;
    }
    let (Some((parent, _)), Some((child, _))) = (made.mailbox(options), next.mailbox(options))
    else {
        return false;
    };
    let below = child.name.strip_prefix(&parent.name).and_then(|rest| rest.strip_prefix('/'));
    // INBOX is never made by the way.
    let is_inbox = parent.name == "INBOX" && parent.owner.is_some();
    let is_child = below.is_some_and(|rest| !rest.contains('/'));
    let apart = |a: Timestamp, b: Timestamp| b.unix_millis() - a.unix_millis();
    let is_soon =
        made.at.zip(next.at).is_none_or(|(a, b)| (0..=TOGETHER_MS).contains(&apart(a, b)));
    parent.owner == child.owner && is_child && !is_inbox && is_soon
}

/// Between a parent and its child made by one command: Cyrus takes some 10 to 80 ms for each, and
/// more where the disk is busy.
const TOGETHER_MS: i64 = 250;
