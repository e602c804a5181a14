//! What is outside the registry: told under a vendor's name (R152, R153).

use mail_event::OtherName;
use postbell_engine::{Mailbox, What};

use super::{Memory, Telling, Told, Untold};

pub(super) fn told(telling: &Telling<'_>, memory: &Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let (owner, mailbox) = match said.mailbox(telling.options()) {
        Some((place, uid_validity)) => {
            (place.owner, Some(Mailbox { name: place.name, uid_validity }))
        }
        None => (None, None),
    };
    let Some(name) = vendor(&said.event) else { return telling.none() };
    let what = What::Other { name, mailbox, uids: said.uids.clone() };
    telling.one(memory, owner, what)
}

/// A name as Cyrus's, unless it is a vendor's already.
pub(super) fn vendor(name: &str) -> Option<OtherName> {
    match name.starts_with("vnd.") {
        true => OtherName::new(name).ok(),
        false => OtherName::new(&format!("vnd.cmu.{name}")).ok(),
    }
}
