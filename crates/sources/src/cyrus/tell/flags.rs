//! Flags that were set and cleared.
//!
//! Cyrus tells one STORE as up to three notifications (MessageTrash, MessageRead, FlagsSet), always
//! in the simple form; which form is told is policy's to say (R62, R63), and `normalise` does.
//!
//! Of several messages it tells all that got a flag, and all flags that any of them got, in each of
//! these. Which flag came to which message it doesn't say; where it isn't sure that each came to all,
//! the event says so.

use mail_event::{Flag, Flags};
use postbell_engine::What;

use super::{Memory, Telling, Told, Untold, push};

pub(super) fn changed(telling: &Telling<'_>, memory: &Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let (owner, mailbox) = telling.mailbox()?;
    let (set, cleared) = match said.event.as_str() {
        "MessageRead" => (Flags::from_iter([Flag::seen()]), Flags::new()),
        "MessageTrash" => (Flags::from_iter([Flag::deleted()]), Flags::new()),
        "FlagsSet" => (said.flags.clone(), Flags::new()),
        _ => (Flags::new(), said.flags.clone()),
    };
    if set.is_empty() && cleared.is_empty() {
        return Err(Untold::Flags);
    }
    // Flags that are cleared come in one notification: a single one was cleared of all.
    let is_of_some = said.is_about_many() && (!set.is_empty() || cleared.iter().count() > 1);
    let what = What::FlagsChanged {
        mailbox,
        uids: said.uids.clone().filter(|uids| !uids.is_empty()).ok_or(Untold::Messages)?,
        set,
        cleared,
        // The builder takes a MODSEQ for one message alone; of many it is the mailbox's (A4).
        modseq: said.modseq.filter(|_| !said.is_about_many()),
        status: telling.status(),
    };
    let mut seen = telling.observation(memory, "", owner, what);
    push(&mut seen.extras, "vnd.postbell.flagsOfSome", is_of_some.then_some(true));
    Ok(Box::new(std::iter::once(seen)))
}
