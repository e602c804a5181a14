//! Rights that changed. Cyrus tells AclChange; where somebody gains or loses sight of a mailbox by
//! it, the RFC wants MailboxCreate or MailboxDelete for them (R79, R85; A6).

use postbell_engine::{Mailbox, Observation, What};

use super::{Memory, Telling, Told, Untold, others, push};

pub(super) fn changed(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let (owner, mailbox) = telling.mailbox()?;
    let mut told = Vec::new();
    told.extend(affected(telling, memory, owner.as_deref()));
    if let Some(name) = others::vendor("AclChange") {
        let what = What::Other { name, mailbox: Some(mailbox), uids: None };
        told.push(telling.observation(memory, "acl", owner, what));
    }
    Ok(Box::new(told.into_iter()))
}

/// What it means for the one whose rights changed, as they see the mailbox.
fn affected(
    telling: &Telling<'_>,
    memory: &mut Memory,
    owner: Option<&str>,
) -> Option<Observation> {
    let said = telling.said;
    let subject = said.acl_subject.as_deref().and_then(person)?;
    if Some(subject) == owner {
        return None;
    }
    let uri = said.uri.as_ref()?;
    let name = uri.mailbox()?;
    let is_visible = match &said.acl {
        Some(acl) => may_look_up(acl, subject),
        // Cyrus leaves out whether they were added or taken away.
        None => said.acl_rights.as_deref().is_some_and(|rights| rights.contains('l')),
    };
    let key = said.unique_id.as_deref().unwrap_or(name);
    if !memory.access.note(&[key, subject], is_visible) {
        return None;
    }
    let seen_as = telling.options().namespace.seen_by(subject, name)?;
    let mailbox = Mailbox { name: seen_as, uid_validity: uri.uid_validity() };
    let what = match is_visible {
        true => What::MailboxCreated(mailbox),
        false => What::MailboxDeleted(mailbox),
    };
    let mut seen = telling.observation(memory, "", Some(subject.to_owned()), what);
    push(&mut seen.extras, "vnd.postbell.affectedUser", Some(subject));
    Some(seen)
}

/// The one person an identifier stands for; groups stand for many, and nobody says whom (R80).
fn person(identifier: &str) -> Option<&str> {
    let one = identifier.strip_prefix('-').unwrap_or(identifier);
    let is_many = matches!(one, "" | "anyone" | "anonymous") || one.starts_with("group:");
    (!is_many).then_some(one)
}

/// Whether somebody may look a mailbox up (`l`), by name or because anyone may.
fn may_look_up(acl: &str, user: &str) -> bool {
    let mut words = acl.split('\t');
    let (mut given, mut denied) = (false, false);
    while let (Some(identifier), Some(rights)) = (words.next(), words.next()) {
        let (one, is_negative) = match identifier.strip_prefix('-') {
            Some(one) => (one, true),
            None => (identifier, false),
        };
        if rights.contains('l') && (one == user || one == "anyone") {
            if is_negative { denied = true } else { given = true }
        }
    }
    given && !denied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r79_r80_who_may_look_up_is_read_from_the_whole_list() {
        assert!(may_look_up("alice\tlrs\tbob\tl\t", "bob"));
        assert!(!may_look_up("alice\tlrs\tbob\trs\t", "bob"));
        assert!(!may_look_up("alice\tlrs\t", "bob"));
        assert!(may_look_up("anyone\tl\tbob\trs\t", "bob"));
        assert!(!may_look_up("anyone\tl\t-bob\tl\t", "bob"));
        assert_eq!(person("-bob"), Some("bob"));
        for many in ["anyone", "anonymous", "group:staff", "-anyone", ""] {
            assert_eq!(person(many), None, "{many}");
        }
    }
}
