//! What is remembered of a user's Maildir, in memory and in the source's checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use postbell_engine::{Mailbox as Named, Quota, Status};

use super::layout::Letters;
use super::uid_list;

/// What is remembered of one user's store.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) record: Record,
    /// By name.
    pub(super) mailboxes: BTreeMap<String, Mailbox>,
    pub(super) subscriptions: BTreeSet<String>,
    /// The quota as last told. Not kept: telling it once more changes nothing.
    pub(super) quota: Option<Quota>,
    /// Mailboxes that Dovecot has given no UIDVALIDITY yet.
    pub(super) waiting: usize,
    /// Numbers of mailboxes whose messages are still to be forgotten in the checkpoint.
    pub(super) discarded: Vec<u32>,
}

/// What is kept once per user.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    /// How many batches have been handed over; part of every observation's identity.
    pub(super) generation: u64,
    /// The last UIDVALIDITY given, so that none is given twice.
    pub(super) uid_validity: u32,
    /// Mailboxes numbered so far.
    pub(super) mailboxes: u32,
    /// The first look is over: what differs from now on is told.
    pub(super) is_followed: bool,
    /// When the last look that missed nothing began, in milliseconds since 1970; 0 for never.
    pub(super) looked_at: i64,
}

/// One mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Its number in the checkpoint, so that a rename leaves its messages' keys alone.
    pub(super) id: u32,
    /// Its folder's name; empty for INBOX.
    pub(super) folder: String,
    /// What tells its folder from others.
    pub(super) print: u64,
    pub(super) keeper: Keeper,
    pub(super) uid_validity: u32,
    pub(super) uidnext: u32,
    /// By the unique part of the file's name.
    pub(super) messages: HashMap<Box<str>, Message>,
    /// The sum of the messages' sizes.
    pub(super) octets: u64,
    /// Which of the two marks messages seen in the last look carry.
    pub(super) mark: bool,
    /// What the last look left; nothing of it is kept.
    pub(super) seen: Seen,
}

/// Who gives a mailbox's UIDs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Keeper {
    /// postbell does, and keeps them in the checkpoint.
    #[default]
    Postbell,
    /// Dovecot does, in `dovecot-uidlist`.
    Dovecot,
}

/// How a mailbox's folders looked after the last look, so that an unchanged one need not be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// It was read at all in this run.
    pub(super) was_read: bool,
    /// When `new` and `cur` changed last, if it is sure that nothing has since.
    pub(super) folders: Option<(i128, i128)>,
    /// When the list of keywords changed last.
    pub(super) keywords: i128,
    pub(super) list: uid_list::Mark,
    /// Files that wait for a UID.
    pub(super) waiting: usize,
    /// Those of them that lay in `new`: Dovecot moves them on as it gives the UID.
    pub(super) waiting_in_new: HashSet<Box<str>>,
}

/// One message, small because there may be a million.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) uid: u32,
    pub(super) letters: Letters,
    /// What tells its file from others, together with its size.
    pub(super) print: u32,
    /// The file's size, at most 2 GiB; the highest bit is the mark.
    size: u32,
}

impl Message {
    pub(super) fn new(uid: u32, letters: Letters, print: u32, octets: u64) -> Self {
        Self { uid, letters, print, size: Self::capped(octets) }
    }

    /// A size as it is remembered.
    pub(super) fn capped(octets: u64) -> u32 {
        u32::try_from(octets).unwrap_or(u32::MAX).min(!MARK)
    }

    pub(super) fn octets(self) -> u32 {
        self.size & !MARK
    }

    pub(super) fn mark(&mut self, mark: bool) {
        self.size = self.octets() | if mark { MARK } else { 0 };
    }

    pub(super) fn is_marked(self, mark: bool) -> bool {
        (self.size & MARK != 0) == mark
    }
}

const MARK: u32 = 1 << 31;

impl Mailbox {
    /// Its name and UIDVALIDITY, as told.
    pub(super) fn named(&self, name: &str) -> Named {
        Named { name: name.to_owned(), uid_validity: Some(self.uid_validity) }
    }

    pub(super) fn status(&self) -> Status {
        Status { messages: Some(self.messages.len() as u64), uidnext: Some(self.uidnext) }
    }

    pub(super) fn insert(&mut self, unique: Box<str>, mut message: Message) {
        message.mark(self.mark);
        self.octets += u64::from(message.octets());
        self.uidnext = self.uidnext.max(message.uid.saturating_add(1));
        self.messages.insert(unique, message);
    }
}

impl Known {
    /// A UIDVALIDITY that was never given before: the time, which grows past any number of
    /// deletions and restores.
    pub(super) fn fresh_uid_validity(&mut self, unix_seconds: i64) -> u32 {
        let now = u32::try_from(unix_seconds).unwrap_or(1);
        self.record.uid_validity = now.max(self.record.uid_validity.saturating_add(1));
        self.record.uid_validity
    }

    pub(super) fn fresh_id(&mut self) -> u32 {
        self.record.mailboxes = self.record.mailboxes.saturating_add(1);
        self.record.mailboxes
    }

    /// Reads what is kept below `prefix`; `ask` fetches the pairs whose keys begin as given.
    pub(super) fn restore<E>(
        prefix: &[u8],
        ask: impl Fn(&[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, E>,
    ) -> Result<Self, E> {
        let mut known = Self::default();
        for (_, value) in ask(&key(prefix, "u"))? {
            known.record = Record::decode(&value).unwrap_or_default();
        }
        for (name, _) in ask(&key(prefix, "s"))? {
            let name = name.get(prefix.len() + 1..).unwrap_or_default();
            known.subscriptions.insert(String::from_utf8_lossy(name).into_owned());
        }
        for (name, _) in ask(&key(prefix, "d"))? {
            known.discarded.extend(number(name.get(prefix.len() + 1..).unwrap_or_default()));
        }
        for (id, value) in ask(&key(prefix, "b"))? {
            let Some((name, mut mailbox)) = mailbox(prefix, &id, &value) else { continue };
            for start in shards(prefix, mailbox.id, mailbox.uidnext) {
                for (key, value) in ask(&start)? {
                    let uid = key.len().checked_sub(8).and_then(|at| number(key.get(at..)?));
                    if let Some((unique, message)) = uid.and_then(|uid| decode(uid, &value)) {
                        let uidnext = mailbox.uidnext;
                        mailbox.insert(unique, message);
                        mailbox.uidnext = uidnext;
                    }
                }
            }
            known.mailboxes.insert(name, mailbox);
        }
        Ok(known)
    }
}

/// A mailbox and its name, without its messages, from one pair of the checkpoint.
pub(super) fn mailbox(prefix: &[u8], key: &[u8], value: &[u8]) -> Option<(String, Mailbox)> {
    decode_mailbox(number(key.get(prefix.len() + 1..)?)?, value)
}

/// The unique part of a message's name, from what is kept of it.
pub(super) fn unique(uid: u32, value: &[u8]) -> Option<Box<str>> {
    decode(uid, value).map(|(unique, _)| unique)
}

/// A key of the checkpoint.
pub(super) fn key(prefix: &[u8], rest: &str) -> Vec<u8> {
    [prefix, rest.as_bytes()].concat()
}

pub(super) fn mailbox_key(prefix: &[u8], id: u32) -> Vec<u8> {
    key(prefix, &format!("b{id:08x}"))
}

pub(super) fn discarded_key(prefix: &[u8], id: u32) -> Vec<u8> {
    key(prefix, &format!("d{id:08x}"))
}

pub(super) fn message_key(prefix: &[u8], id: u32, uid: u32) -> Vec<u8> {
    key(prefix, &format!("m{id:08x}{:02x}{uid:08x}", uid & 0xff))
}

/// Beginnings of the keys of a mailbox's messages. A large mailbox is read in 256 parts, lest all
/// its pairs be in memory at once.
pub(super) fn shards(prefix: &[u8], id: u32, uidnext: u32) -> Vec<Vec<u8>> {
    match uidnext > SHARDED_MESSAGES {
        true => (0..256).map(|part| key(prefix, &format!("m{id:08x}{part:02x}"))).collect(),
        false => vec![key(prefix, &format!("m{id:08x}"))],
    }
}

const SHARDED_MESSAGES: u32 = 16_384;

fn number(hex: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

impl Record {
    pub(super) fn encode(self) -> Vec<u8> {
        let Self { generation, uid_validity, mailboxes, is_followed, looked_at } = self;
        let is_followed = u8::from(is_followed);
        format!("{generation} {uid_validity} {mailboxes} {is_followed} {looked_at}").into_bytes()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        Some(Self {
            generation: words.next()?.parse().ok()?,
            uid_validity: words.next()?.parse().ok()?,
            mailboxes: words.next()?.parse().ok()?,
            is_followed: words.next()? == "1",
            looked_at: words.next().and_then(|at| at.parse().ok()).unwrap_or(0),
        })
    }
}

/// What is kept of a mailbox, without its messages.
pub(super) fn encode_mailbox(name: &str, mailbox: &Mailbox) -> Vec<u8> {
    let Mailbox { folder, print, keeper, uid_validity, uidnext, .. } = mailbox;
    let keeper = match keeper {
        Keeper::Postbell => 'p',
        Keeper::Dovecot => 'd',
    };
    // Neither name holds control characters.
    format!("{keeper} {uid_validity} {uidnext} {print:x} {folder}\n{name}").into_bytes()
}

fn decode_mailbox(id: u32, value: &[u8]) -> Option<(String, Mailbox)> {
    let (head, name) = std::str::from_utf8(value).ok()?.split_once('\n')?;
    let mut words = head.splitn(5, ' ');
    let keeper = match words.next()? {
        "p" => Keeper::Postbell,
        "d" => Keeper::Dovecot,
        _ => return None,
    };
    let mailbox = Mailbox {
        id,
        keeper,
        uid_validity: words.next()?.parse().ok()?,
        uidnext: words.next()?.parse().ok()?,
        print: u64::from_str_radix(words.next()?, 16).ok()?,
        folder: words.next()?.to_owned(),
        ..Mailbox::default()
    };
    Some((name.to_owned(), mailbox))
}

/// What is kept of a message.
pub(super) fn encode(unique: &str, message: Message) -> Vec<u8> {
    let Message { letters, print, .. } = message;
    format!("{:x} {print:x} {:x} {unique}", letters.0, message.octets()).into_bytes()
}

fn decode(uid: u32, value: &[u8]) -> Option<(Box<str>, Message)> {
    let mut words = std::str::from_utf8(value).ok()?.splitn(4, ' ');
    let mut number = || u32::from_str_radix(words.next()?, 16).ok();
    let (letters, print, octets) = (number()?, number()?, number()?);
    Some((words.next()?.into(), Message::new(uid, Letters(letters), print, u64::from(octets))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_restored() {
        let prefix = b"user\0a\0";
        let message = Message::new(8, Letters::parse("FSa"), 77, 1234);
        let mut inbox = Mailbox { id: 3, uid_validity: 5, print: 9, ..Mailbox::default() };
        inbox.insert("1.M2.h with a space".into(), message);
        inbox.folder = ".Has a space".into();
        let record = Record {
            generation: 7,
            uid_validity: 5,
            mailboxes: 3,
            is_followed: true,
            looked_at: 1_795_600_000_000,
        };
        let kept = BTreeMap::from([
            (key(prefix, "u"), record.encode()),
            (key(prefix, "sLists/rust"), Vec::new()),
            (discarded_key(prefix, 2), Vec::new()),
            (mailbox_key(prefix, 3), encode_mailbox("Has a space", &inbox)),
            (message_key(prefix, 3, 8), encode("1.M2.h with a space", message)),
        ]);
        let ask = |start: &[u8]| {
            let fits = kept.iter().filter(|(key, _)| key.starts_with(start));
            Ok::<_, ()>(fits.map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        let known = Known::restore(prefix, ask).unwrap();
        assert_eq!(known.record, record);
        assert!(known.subscriptions.contains("Lists/rust"));
        assert_eq!(known.discarded, [2]);
        let mailbox = &known.mailboxes["Has a space"];
        assert_eq!((mailbox.uidnext, mailbox.octets, mailbox.print), (9, 1234, 9));
        assert_eq!(mailbox.folder, ".Has a space");
        assert_eq!(mailbox.messages["1.M2.h with a space"].letters, Letters::parse("FSa"));
    }

    #[test]
    fn a_mark_leaves_the_size_alone_and_a_huge_size_the_mark() {
        let mut message = Message::new(1, Letters::default(), 0, u64::MAX);
        assert!(message.is_marked(false));
        message.mark(true);
        assert!(message.is_marked(true));
        assert_eq!(message.octets(), Message::capped(u64::MAX));
    }

    #[test]
    fn a_uid_validity_is_never_given_twice() {
        let mut known = Known::default();
        let given: Vec<_> = [100, 100, 50, 101].map(|now| known.fresh_uid_validity(now)).into();
        assert_eq!(given, [100, 101, 102, 103]);
    }
}
