//! One message asked for again, for whoever was told that there is more than its event carries.

use mail_event::{MessageContent, UidSet};

use super::{Asker, Master, Want};
use crate::Place;

/// The content of one message, where it is still there and has at most `max_octets`; `name` is
/// what the server calls its mailbox. Opens a connection of its own, for this alone.
///
/// # Errors
///
/// What keeps the server from being asked, in words.
pub(crate) fn content(
    master: &Master,
    place: &Place<'_>,
    name: &str,
    max_octets: u64,
) -> Result<Option<MessageContent>, String> {
    let mut asker = Asker::new(master).map_err(|error| error.to_string())?;
    let want = Want { body_structure: false, content_max_octets: Some(max_octets) };
    let uids = UidSet::single(place.uid);
    let told = asker.messages(place.owner, name, Some(place.uid_validity), &uids, want);
    match told {
        Some(mut told) => Ok(told.remove(&place.uid).and_then(|message| message.content)),
        None if asker.is_resting() => Err(asker.last_error.clone().unwrap_or_default()),
        // It answered: there is no such mailbox any more, or it isn't let in there.
        None => Ok(None),
    }
}
