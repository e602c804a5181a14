//! Quotas: Cyrus names the quota root in `uri`, and its owner as the user.
//!
//! A limit of −1 is none (R106). QuotaWithin comes before the expunge that caused it; what is told
//! keeps that order.

use postbell_engine::{Quota, What};

use super::{Memory, Telling, Told, Untold};

pub(super) fn told(telling: &Telling<'_>, memory: &Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let uri = said.uri.as_ref().ok_or(Untold::Mailbox)?;
    let (owner, _) = telling.mailbox()?;
    let quota = Quota {
        root: uri.mailbox().unwrap_or_default().to_owned(),
        disk_limit_kib: said.disk_quota,
        disk_used_kib: said.disk_used,
        messages_limit: said.max_messages,
        messages_used: said.messages,
    };
    let what = match said.event.as_str() {
        "QuotaExceed" => What::QuotaRefused { quota, mailbox: None },
        "QuotaWithin" => What::QuotaWithin(quota),
        _ => What::QuotaChanged(quota),
    };
    let mut seen = telling.observation(memory, "", owner, what);
    if seen.owner.is_some() {
        // It isn't who acted; the owner is told as the user where nobody else is (R47).
        seen.actor.user = None;
    }
    Ok(Box::new(std::iter::once(seen)))
}
