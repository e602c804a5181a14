//! The questions, and how their answers are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use imap_codec::imap_types::extensions::quota::Resource;
use imap_codec::imap_types::fetch::MessageDataItem;
use imap_codec::imap_types::flag::{FlagFetch, FlagNameAttribute};
use imap_codec::imap_types::mailbox::Mailbox;
use imap_codec::imap_types::response::{Code, Data};
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};
use imap_codec::imap_types::status::StatusDataItem;
use mail_event::limits::RANGES_MAX;
use mail_event::{Flag, MessageContent, Modseq, UidSet, mutf7};
use postbell_engine::Quota;

use super::session::{LINE_OCTETS_MAX, Reply, Session, quoted_mailbox};
use super::{AskError, Asked, BoxLook, Changes, NamingScope, PATIENCE, Want};
use crate::words::{Word, word, words};

/// Size, MODSEQ and flags of messages, and what else is wanted of them.
pub(super) fn messages(
    session: &mut Session,
    mailbox: &str,
    uid_validity: Option<u32>,
    uids: &UidSet,
    want: Want,
) -> Result<BTreeMap<u32, Asked>, AskError> {
    open(session, mailbox, uid_validity)?;
    let mut found = fetch(session, uids, PATIENCE)?;
    found.retain(|uid, _| uids.contains(*uid));
    if want.body_structure {
        // Alone, so that one in an odd form costs nothing but itself.
        let command = format!("UID FETCH {uids} (UID BODYSTRUCTURE)");
        session.command(&command, STRUCTURE_OCTETS_MAX, PATIENCE, &mut |reply| {
            let octets = match reply {
                Reply::Data(_, octets) | Reply::Other(octets) => octets,
                Reply::Code(_) => return,
            };
            if let Some((uid, structure)) = structure(octets)
                && let Some(asked) = found.get_mut(&uid)
            {
                asked.body_structure = Some(structure);
            }
        })?;
    }
    if let Some(max) = want.content_max_octets {
        contents(session, &mut found, max)?;
    }
    Ok(found)
}

/// One message after the other, and no more of them than one answer may hold.
fn contents(
    session: &mut Session,
    found: &mut BTreeMap<u32, Asked>,
    max: u64,
) -> Result<(), AskError> {
    let mut octets_left = CONTENTS_OCTETS_MAX;
    for (uid, asked) in found {
        let Some(size) = asked.size_octets.filter(|size| *size <= max) else { continue };
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= octets_left) else {
            continue;
        };
        octets_left -= size;
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
        session.command(&command, size + LINE_OCTETS_MAX, PATIENCE, &mut |reply| {
            let Reply::Data(Data::Fetch { items, .. }, _) = reply else { return };
            let is_it = items
                .as_ref()
                .iter()
                .any(|item| matches!(item, MessageDataItem::Uid(found) if found.get() == *uid));
            for item in items.into_iter().filter(|_| is_it) {
                if let MessageDataItem::BodyExt { section: None, origin: None, data } = item
                    && let Some(text) = data.0
                {
                    asked.content = Some(MessageContent::new(text.as_ref().to_vec()));
                }
            }
        })?;
    }
    Ok(())
}

/// The limits and usages of each quota root; a root without limits has none.
pub(super) fn quota(session: &mut Session, mailbox: &str) -> Result<Vec<Quota>, AskError> {
    let mut found: BTreeMap<String, Quota> = BTreeMap::new();
    let command = format!("GETQUOTAROOT {}", quoted_mailbox(mailbox));
    session.command(&command, LINE_OCTETS_MAX, PATIENCE, &mut |reply| match reply {
        Reply::Data(Data::QuotaRoot { roots, .. }, _) => {
            for root in roots {
                of_root(&mut found, root.as_ref());
            }
        }
        Reply::Data(Data::Quota { root, quotas }, _) => {
            let quota = of_root(&mut found, root.as_ref());
            for one in quotas.as_ref() {
                match one.resource {
                    Resource::Storage => {
                        quota.disk_limit_kib = Some(one.limit);
                        quota.disk_used_kib = Some(one.usage);
                    }
                    Resource::Message => {
                        quota.messages_limit = Some(one.limit);
                        quota.messages_used = Some(one.usage);
                    }
                    _ => {}
                }
            }
        }
        Reply::Data(..) | Reply::Code(_) | Reply::Other(_) => {}
    })?;
    Ok(found.into_values().take(ROOTS_MAX).collect())
}

/// What is known of a root, begun where nothing is.
fn of_root<'f>(found: &'f mut BTreeMap<String, Quota>, root: &[u8]) -> &'f mut Quota {
    let root = String::from_utf8_lossy(root).into_owned();
    found.entry(root.clone()).or_insert_with(|| Quota { root, ..Quota::default() })
}

/// How a mailbox stands, unopened.
pub(super) fn status(session: &mut Session, mailbox: &str) -> Result<BoxLook, AskError> {
    refresh(session)?;
    let mut found = None;
    let command = format!("STATUS {} ({STATUS_ITEMS})", quoted_mailbox(mailbox));
    session.command(&command, LINE_OCTETS_MAX, PATIENCE, &mut |reply| {
        if let Reply::Data(Data::Status { items, .. }, _) = reply {
            found = look(&items);
        }
    })?;
    found.ok_or(AskError::Lacking("STATUS"))
}

/// The letters of MYRIGHTS.
pub(super) fn rights(
    session: &mut Session,
    mailbox: &str,
    patience: Duration,
) -> Result<String, AskError> {
    let mut found = None;
    let command = format!("MYRIGHTS {}", quoted_mailbox(mailbox));
    session.command(&command, LINE_OCTETS_MAX, patience, &mut |reply| {
        let Reply::Other(octets) = reply else { return };
        let mut words = untagged(octets, "MYRIGHTS").skip(1);
        found = words.next().and_then(|word| word.text().map(std::borrow::Cow::into_owned));
    })?;
    found.ok_or(AskError::Lacking("MYRIGHTS"))
}

/// All mailboxes of a user's own that can be opened, and how they stand (RFC 5819).
pub(super) fn mailboxes(
    session: &mut Session,
    scope: &dyn NamingScope,
) -> Result<BTreeMap<String, Option<BoxLook>>, AskError> {
    let mut found = list(session, "\"*\"")?;
    found.retain(|name, _| !scope.is_of_others(name));
    Ok(found)
}

/// The names of mailboxes that others share, as far as they can be opened.
pub(super) fn others(
    session: &mut Session,
    scope: &dyn NamingScope,
) -> Result<Vec<String>, AskError> {
    let mut found = Vec::new();
    session.command("LIST \"\" \"*\"", LINE_OCTETS_MAX, LONG_PATIENCE, &mut |reply| {
        if let Reply::Data(Data::List { items, mailbox, .. }, _) = reply
            && can_open(&items)
            && let Some(name) = name(&mailbox)
            && scope.is_of_others(&name)
            && found.len() < MAILBOXES_MAX
        {
            found.push(name);
        }
    })?;
    Ok(found)
}

/// The names of all mailboxes the user is subscribed to, others' and those that are gone as well (RFC
/// 5258).
pub(super) fn subscribed(session: &mut Session) -> Result<BTreeSet<String>, AskError> {
    let (mut found, mut is_whole) = (BTreeSet::new(), true);
    let command = "LIST (SUBSCRIBED) \"\" \"*\"";
    session.command(command, LINE_OCTETS_MAX, LONG_PATIENCE, &mut |reply| match reply {
        Reply::Data(Data::List { mailbox, .. }, _) => match name(&mailbox) {
            Some(name) if found.len() < MAILBOXES_MAX => {
                found.insert(name);
            }
            Some(_) | None => is_whole = false,
        },
        Reply::Other(_) => is_whole = false,
        Reply::Data(..) | Reply::Code(_) => {}
    })?;
    if is_whole { Ok(found) } else { Err(AskError::Lacking("whole list of subscriptions")) }
}

/// Whether a mailbox with these attributes is one, and no mere level of names.
fn can_open(attributes: &[FlagNameAttribute<'_>]) -> bool {
    !attributes.iter().any(|attribute| {
        let attribute = attribute.to_string();
        ["\\Noselect", "\\NonExistent"].iter().any(|closed| attribute.eq_ignore_ascii_case(closed))
    })
}

/// Whether a mailbox is there and can be opened.
pub(super) fn is_there(session: &mut Session, mailbox: &str) -> Result<bool, AskError> {
    let names = format!("(INBOX {})", quoted_mailbox(mailbox));
    Ok(list(session, &names)?.contains_key(mailbox))
}

/// What LIST says. INBOX must be among it, as it always is: where it isn't, whoever asks may not
/// see it, and of what they may not see it can't be said that it is gone.
fn list(session: &mut Session, names: &str) -> Result<BTreeMap<String, Option<BoxLook>>, AskError> {
    refresh(session)?;
    let mut found = BTreeMap::new();
    let mut is_whole = true;
    let command = format!("LIST \"\" {names} RETURN (STATUS ({STATUS_ITEMS}))");
    session.command(&command, LINE_OCTETS_MAX, LONG_PATIENCE, &mut |reply| match reply {
        Reply::Data(Data::List { items, mailbox, .. }, _) => match name(&mailbox) {
            Some(_) if !can_open(&items) => {}
            Some(name) if found.len() < MAILBOXES_MAX => {
                found.entry(name).or_insert(None);
            }
            Some(_) | None => is_whole = false,
        },
        Reply::Data(Data::Status { mailbox, items }, _) => {
            let kept = name(&mailbox).and_then(|name| found.get_mut(&name));
            if let Some(kept) = kept {
                *kept = look(&items);
            }
        }
        Reply::Other(_) => is_whole = false,
        Reply::Data(..) | Reply::Code(_) => {}
    })?;
    if !is_whole {
        return Err(AskError::Lacking("whole list of mailboxes"));
    }
    // One they may not open is on the list, but nothing is said of it.
    if !matches!(found.get("INBOX"), Some(Some(_))) {
        return Err(AskError::NoInbox);
    }
    Ok(found)
}

/// What changed since (RFC 7162): the mailbox is opened with what was known of it, and the server
/// says what vanished and what has a higher MODSEQ; what came since is among the latter.
pub(super) fn changes(
    session: &mut Session,
    mailbox: &str,
    since: BoxLook,
) -> Result<Changes, AskError> {
    if !session.has_qresync {
        session.command("ENABLE QRESYNC", LINE_OCTETS_MAX, PATIENCE, &mut |_| {})?;
        session.has_qresync = true;
    }
    let BoxLook { uid_validity, modseq, .. } = since;
    // Both are at least 1 (RFC 7162, section 7).
    let known = format!("(QRESYNC ({} {}))", uid_validity.max(1), modseq.max(1));
    let command = format!("EXAMINE {} {known}", quoted_mailbox(mailbox));
    let mut opened = Opened::default();
    session.selected = None;
    session.command(&command, CHANGES_OCTETS_MAX, LONG_PATIENCE, &mut |reply| {
        opened.hear(reply);
    })?;
    session.selected = Some(mailbox.to_owned());
    let look = opened.look()?;
    let Opened { vanished, mut changed, .. } = opened;
    if look.uid_validity == uid_validity {
        // Their sizes, too.
        let came: Vec<u32> = changed.range(since.uidnext.max(1)..).map(|(uid, _)| *uid).collect();
        if !came.is_empty() {
            changed.extend(fetch(session, &UidSet::from_uids(came), LONG_PATIENCE)?);
        }
    }
    Ok(Changes { look, vanished, changed })
}

/// Opens a mailbox for reading, or has the open one tell its news.
fn open(session: &mut Session, mailbox: &str, uid_validity: Option<u32>) -> Result<(), AskError> {
    if session.selected.as_deref() == Some(mailbox) {
        return refresh(session);
    }
    let command = format!("EXAMINE {}", quoted_mailbox(mailbox));
    let mut opened = Opened::default();
    session.selected = None;
    session.command(&command, CHANGES_OCTETS_MAX, PATIENCE, &mut |reply| opened.hear(reply))?;
    if uid_validity.is_some_and(|wanted| opened.uid_validity != wanted) {
        return Err(AskError::Lacking("mailbox of that UIDVALIDITY"));
    }
    session.selected = Some(mailbox.to_owned());
    Ok(())
}

/// Has an open mailbox looked at anew: until then the server answers, STATUS too, from what was
/// there when it looked last.
fn refresh(session: &mut Session) -> Result<(), AskError> {
    match session.selected {
        Some(_) => session.command("NOOP", CHANGES_OCTETS_MAX, PATIENCE, &mut |_| {}),
        None => Ok(()),
    }
}

/// What opening a mailbox tells.
#[derive(Default)]
struct Opened {
    uid_validity: u32,
    uidnext: u32,
    messages: u64,
    modseq: u64,
    vanished: UidSet,
    changed: BTreeMap<u32, Asked>,
}

impl Opened {
    fn hear(&mut self, reply: Reply<'_>) {
        match reply {
            Reply::Code(Code::UidValidity(number)) => self.uid_validity = number.get(),
            Reply::Code(Code::UidNext(number)) => self.uidnext = number.get(),
            Reply::Code(Code::HighestModSeq(number)) => self.modseq = number.get(),
            // Until here it was about the mailbox that was open before.
            Reply::Code(Code::Closed) => *self = Self::default(),
            Reply::Data(Data::Exists(number), _) => self.messages = u64::from(number),
            Reply::Data(Data::Vanished { known_uids, .. }, _) => {
                self.vanished = union(&self.vanished, &uids(&known_uids));
            }
            Reply::Data(Data::Fetch { items, .. }, _) => {
                if let Some((uid, asked)) = asked(items)
                    && self.changed.len() < MESSAGES_MAX
                {
                    self.changed.insert(uid, asked);
                }
            }
            Reply::Code(_) | Reply::Data(..) | Reply::Other(_) => {}
        }
    }

    fn look(&self) -> Result<BoxLook, AskError> {
        let Self { uid_validity, uidnext, messages, modseq, .. } = *self;
        if uid_validity == 0 || uidnext == 0 {
            return Err(AskError::Lacking("UIDVALIDITY or UIDNEXT"));
        }
        Ok(BoxLook { uid_validity, uidnext, messages, modseq })
    }
}

fn fetch(
    session: &mut Session,
    uids: &UidSet,
    patience: Duration,
) -> Result<BTreeMap<u32, Asked>, AskError> {
    let mut found = BTreeMap::new();
    let command = format!("UID FETCH {uids} (UID FLAGS RFC822.SIZE MODSEQ)");
    session.command(&command, LINE_OCTETS_MAX, patience, &mut |reply| {
        if let Reply::Data(Data::Fetch { items, .. }, _) = reply
            && let Some((uid, asked)) = asked(items)
            && found.len() < MESSAGES_MAX
        {
            found.insert(uid, asked);
        }
    })?;
    Ok(found)
}

fn asked<'a>(items: impl IntoIterator<Item = MessageDataItem<'a>>) -> Option<(u32, Asked)> {
    let (mut uid, mut asked) = (None, Asked::default());
    for item in items {
        match item {
            MessageDataItem::Uid(number) => uid = Some(number.get()),
            MessageDataItem::Rfc822Size(octets) => asked.size_octets = Some(u64::from(octets)),
            MessageDataItem::ModSeq(number) => asked.modseq = Modseq::new(number.get()),
            MessageDataItem::Flags(flags) => {
                for flag in flags {
                    if let FlagFetch::Flag(flag) = flag
                        && let Ok(flag) = flag.to_string().parse::<Flag>()
                    {
                        asked.flags.insert(flag);
                    }
                }
            }
            _ => {}
        }
    }
    uid.map(|uid| (uid, asked))
}

/// UID and BODYSTRUCTURE of a FETCH response, the latter as it stands.
fn structure(response: &[u8]) -> Option<(u32, String)> {
    let mut outer = words(response).skip(2);
    if !matches!(outer.next()?, Word::Atom(atom) if atom.eq_ignore_ascii_case(b"FETCH")) {
        return None;
    }
    let Word::List(list) = outer.next()? else { return None };
    let mut rest = list.get(1..list.len().checked_sub(1)?)?;
    let (mut uid, mut structure) = (None, None);
    while let Some((name, after)) = word(rest) {
        let (value, after) = word(after)?;
        match (&name, &value) {
            (Word::Atom(name), value) if name.eq_ignore_ascii_case(b"UID") => {
                uid = value.text()?.parse().ok();
            }
            (Word::Atom(name), Word::List(list)) if name.eq_ignore_ascii_case(b"BODYSTRUCTURE") => {
                structure = String::from_utf8(list.to_vec()).ok();
            }
            _ => {}
        }
        rest = after;
    }
    uid.zip(structure)
}

/// The words of an untagged response after its name, where that is its name.
pub(super) fn untagged<'r>(response: &'r [u8], name: &str) -> impl Iterator<Item = Word<'r>> {
    let mut words = words(response).peekable();
    let is_untagged = words.next() == Some(Word::Atom(b"*"));
    let is_named = matches!(words.next(), Some(Word::Atom(atom)) if atom.eq_ignore_ascii_case(name.as_bytes()));
    words.filter(move |_| is_untagged && is_named)
}

fn look(items: &[StatusDataItem]) -> Option<BoxLook> {
    let mut look = BoxLook::default();
    for item in items {
        match item {
            StatusDataItem::UidValidity(number) => look.uid_validity = number.get(),
            StatusDataItem::UidNext(number) => look.uidnext = number.get(),
            StatusDataItem::Messages(number) => look.messages = u64::from(*number),
            StatusDataItem::HighestModSeq(number) => look.modseq = *number,
            _ => {}
        }
    }
    (look.uid_validity != 0 && look.uidnext != 0).then_some(look)
}

/// The mailbox that one response to LIST names.
#[cfg(test)]
pub(in super::super) fn listed(response: &[u8]) -> Option<String> {
    use imap_codec::decode::Decoder as _;
    use imap_codec::imap_types::response::Response;

    match imap_codec::ResponseCodec::default().decode(response) {
        Ok((_, Response::Data(Data::List { mailbox, .. }))) => name(&mailbox),
        other => panic!("{other:?}"),
    }
}

fn name(mailbox: &Mailbox<'_>) -> Option<String> {
    match mailbox {
        Mailbox::Inbox => Some("INBOX".to_owned()),
        Mailbox::Other(other) => mutf7::decode(other.as_ref()).ok(),
    }
}

fn uids(set: &SequenceSet) -> UidSet {
    // Through text, since a set is made of UIDs or of text, and a range may be long.
    let number = |one: &SeqOrUid| match one {
        SeqOrUid::Value(number) => number.get(),
        SeqOrUid::Asterisk => u32::MAX,
    };
    let part = |part: &Sequence| match part {
        Sequence::Single(one) => number(one).to_string(),
        Sequence::Range(first, last) => format!("{}:{}", number(first), number(last)),
    };
    let text: Vec<_> = set.0.as_ref().iter().map(part).collect();
    UidSet::parse_lenient(&text.join(",")).map(|(set, _)| set).unwrap_or_default()
}

/// The UIDs of both; none where both have them in more ranges than a set may have.
pub(in super::super) fn union(one: &UidSet, other: &UidSet) -> UidSet {
    let both = one.union(other);
    let is_too_large = both.ranges().len() > RANGES_MAX && !one.is_empty() && !other.is_empty();
    if is_too_large { UidSet::new() } else { both }
}

const STATUS_ITEMS: &str = "UIDVALIDITY UIDNEXT MESSAGES HIGHESTMODSEQ";

/// For all that takes the server longer: opening a large mailbox, listing many.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Octets of one BODYSTRUCTURE: some thousand parts.
const STRUCTURE_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of one response that names messages: VANISHED of every second one of a million.
const CHANGES_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Octets of content of one question's messages together.
const CONTENTS_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Messages of one answer.
const MESSAGES_MAX: usize = 100_000;

/// Mailboxes of one user.
const MAILBOXES_MAX: usize = 10_000;

/// Quota roots of one mailbox.
const ROOTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use imap_codec::decode::Decoder as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r102_a_structure_is_cut_out_as_it_stands() {
        let response = b"* 3 FETCH (UID 7 FLAGS (\\Seen) BODYSTRUCTURE (\"text\" \"plain\" (\"charset\" \"a)b\") NIL {1}\r\n( \"7bit\" 5 1))\r\n";
        let (uid, found) = structure(response).unwrap();
        assert_eq!(uid, 7);
        assert_eq!(found, "(\"text\" \"plain\" (\"charset\" \"a)b\") NIL {1}\r\n( \"7bit\" 5 1)");
        assert_eq!(structure(b"* 3 EXISTS\r\n"), None);
        assert_eq!(structure(b"* 3 FETCH (UID 7)\r\n"), None);
    }

    #[test]
    fn r84_rights_are_read() {
        let texts = |response: &[u8], name| -> Vec<String> {
            untagged(response, name).filter_map(|word| Some(word.text()?.into_owned())).collect()
        };
        assert!(texts(b"* ACL \"Entw&APw-rfe\" bob lrs\r\n", "MYRIGHTS").is_empty());
        assert_eq!(texts(b"* myrights INBOX lrsk\r\n", "MYRIGHTS"), ["INBOX", "lrsk"]);
    }

    #[test]
    fn sets_join_whatever_their_order() {
        let set = |text: &str| text.parse::<UidSet>().unwrap();
        assert_eq!(union(&set("1:4,9"), &set("3:7")), set("1:7,9"));
        assert_eq!(union(&UidSet::new(), &set("3")), set("3"));
    }

    #[test]
    fn r157_what_nests_without_end_ends_nothing() {
        for begin in [
            "* THREAD ",
            "* 1 FETCH (BODYSTRUCTURE ",
            "* 1 FETCH (ENVELOPE ",
            "* LIST ",
            "* QUOTA a ",
        ] {
            for inside in ["(", "((\"a\" ", "((1 "] {
                let response = format!("{begin}{}\r\n", inside.repeat(CHANGES_OCTETS_MAX / 16));
                structure(response.as_bytes());
                drop(imap_codec::ResponseCodec::default().decode(response.as_bytes()));
            }
        }
    }

    proptest! {
        #[test]
        fn r157_no_answer_is_too_odd_to_be_passed_over(
            response in "\\* ([0-9]{1,12} )?(FETCH|VANISHED|MYRIGHTS|STATUS) [ ()\"{}a-zA-Z0-9:,*\\\\]{0,60}\r\n",
        ) {
            structure(response.as_bytes());
            untagged(response.as_bytes(), "MYRIGHTS").count();
            drop(imap_codec::ResponseCodec::default().decode(response.as_bytes()));
        }
    }
}
