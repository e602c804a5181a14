//! One mailbox read and held against what is remembered of it.

use std::io;

use super::folder::{Facts, Folder, Kind};
use super::known::{Mailbox, Message};
use super::layout::{FileName, Keywords, Letters};

/// How a mailbox differs from what is remembered.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files not known yet.
    pub(super) arrivals: Vec<Arrival>,
    /// Known messages whose letters are now these.
    pub(super) flagged: Vec<(Box<str>, Letters)>,
    /// Known messages that are gone, already taken out of the mailbox.
    pub(super) gone: Vec<(Box<str>, Message)>,
    /// When `new` and `cur` changed last.
    pub(super) modified: (i128, i128),
    /// Nothing changed while they were read, nor so shortly before that the clock could hide it.
    pub(super) is_steady: bool,
}

/// A file not known yet.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its whole name.
    name: Box<str>,
    unique_octets: usize,
    pub(super) letters: Letters,
    pub(super) is_in_new: bool,
    pub(super) uid: Option<u32>,
    pub(super) facts: Option<Facts>,
}

impl Arrival {
    pub(super) fn unique(&self) -> &str {
        self.name.get(..self.unique_octets).unwrap_or(&self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The two folders of a mailbox that hold messages.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) new: Option<Folder>,
    pub(super) cur: Folder,
}

impl Places {
    pub(super) fn open(folder: &Folder) -> io::Result<Self> {
        let new = match folder.sub("new") {
            Ok(new) => Some(new),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { new, cur: folder.sub("cur")? })
    }

    /// When the two changed last.
    pub(super) fn modified(&self) -> io::Result<(i128, i128)> {
        let new = self.new.as_ref().map(Folder::facts).transpose()?;
        Ok((new.map_or(0, |facts| facts.modified), self.cur.facts()?.modified))
    }

    pub(super) fn of(&self, is_in_new: bool) -> &Folder {
        self.new.as_ref().filter(|_| is_in_new).unwrap_or(&self.cur)
    }
}

/// Reads the mailbox until it stood still, or three times.
///
/// A file renamed while its folder is read may be missing from what is read. So a known message
/// counts as gone only if nothing changed meanwhile, or if it is missing three times over.
pub(super) fn list(
    places: &Places,
    mailbox: &mut Mailbox,
    keywords: &Keywords,
    complain: &mut dyn FnMut(&str, &str),
) -> io::Result<Listing> {
    mailbox.mark = !mailbox.mark;
    let mut listing = Listing::default();
    let mut seen = 0;
    for round in 1..=ROUNDS {
        let (before, begun) = (places.modified()?, now());
        listing = Listing::default();
        let both = (places.new.as_ref(), Some(&places.cur));
        pass(both, mailbox, keywords, &mut listing, &mut seen, complain)?;
        listing.modified = places.modified()?;
        let rested = begun - before.0.max(before.1) > CLOCK_GRAIN_NANOS;
        listing.is_steady = rested && before == listing.modified;
        let is_complete = seen >= mailbox.messages.len();
        if listing.is_steady || is_complete || round == ROUNDS {
            break;
        }
        std::thread::sleep(BETWEEN_ROUNDS);
    }
    dedupe(&mut listing.arrivals);
    let mark = mailbox.mark;
    listing.gone = mailbox.messages.extract_if(|_, message| !message.is_marked(mark)).collect();
    let octets: u64 = listing.gone.iter().map(|(_, message)| u64::from(message.octets())).sum();
    mailbox.octets = mailbox.octets.saturating_sub(octets);
    Ok(listing)
}

/// Reads `new` alone: what came into it, and nothing that went.
pub(super) fn list_new(
    places: &Places,
    mailbox: &mut Mailbox,
    keywords: &Keywords,
    complain: &mut dyn FnMut(&str, &str),
) -> io::Result<Listing> {
    let mut listing = Listing::default();
    pass((places.new.as_ref(), None), mailbox, keywords, &mut listing, &mut 0, complain)?;
    listing.modified = places.modified()?;
    Ok(listing)
}

/// One reading of `new`, then of `cur`: what moves on meanwhile is then seen there, not missed.
fn pass(
    (new, cur): (Option<&Folder>, Option<&Folder>),
    mailbox: &mut Mailbox,
    keywords: &Keywords,
    listing: &mut Listing,
    seen: &mut usize,
    complain: &mut dyn FnMut(&str, &str),
) -> io::Result<()> {
    let mark = mailbox.mark;
    for (folder, is_in_new) in [(new, true), (cur, false)] {
        let Some(folder) = folder else { continue };
        let mut complain =
            |name: &str, why: &str| complain(&format!("{}/{name}", place(is_in_new)), why);
        folder.each(|name, kind| {
            let Some(text) = name.to_str() else {
                return complain(&name.to_string_lossy(), "its name is not UTF-8");
            };
            let Some(parsed) = FileName::parse(text) else {
                if !text.starts_with('.') {
                    complain(text, "its name is no message's");
                }
                return;
            };
            if kind != Kind::File {
                return complain(text, super::folder::NOT_REGULAR);
            }
            let letters = parsed.letters.named_by(keywords);
            match mailbox.messages.get_mut(parsed.unique) {
                Some(message) => {
                    *seen += usize::from(!message.is_marked(mark));
                    message.mark(mark);
                    if message.letters != letters {
                        listing.flagged.push((parsed.unique.into(), letters));
                    }
                }
                None => listing.arrivals.push(Arrival {
                    name: text.into(),
                    unique_octets: parsed.unique.len(),
                    letters,
                    is_in_new,
                    uid: None,
                    facts: None,
                }),
            }
        })?;
    }
    Ok(())
}

/// The name of the folder a message is in.
pub(super) fn place(is_in_new: bool) -> &'static str {
    if is_in_new { "new" } else { "cur" }
}

/// A file that moved from `new` to `cur` meanwhile was seen in both: the later place counts.
fn dedupe(arrivals: &mut Vec<Arrival>) {
    arrivals.sort_by(|a, b| a.unique().cmp(b.unique()).then(a.is_in_new.cmp(&b.is_in_new)));
    arrivals.dedup_by(|later, first| later.unique() == first.unique());
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

const ROUNDS: u32 = 3;

/// Longer than a tick of the clock that folders are stamped with.
const CLOCK_GRAIN_NANOS: i128 = 20_000_000;

const BETWEEN_ROUNDS: std::time::Duration = std::time::Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_passed_over_is_named_by_the_folder_it_is_in() {
        let top = tempfile::tempdir().unwrap();
        for (place, name) in [("new", "a\nb"), ("cur", "c\u{1b}d:2,S")] {
            fs::create_dir(top.path().join(place)).unwrap();
            fs::write(top.path().join(place).join(name), "").unwrap();
        }
        fs::create_dir(top.path().join("cur/folder")).unwrap();
        let places = Places::open(&Folder::open(top.path()).unwrap()).unwrap();
        let mut named = Vec::new();
        let mut complain = |name: &str, _: &str| named.push(name.to_owned());
        list_new(&places, &mut Mailbox::default(), &Keywords::default(), &mut complain).unwrap();
        assert_eq!(named, ["new/a\nb"]);
        let mut complain = |name: &str, _: &str| named.push(name.to_owned());
        list(&places, &mut Mailbox::default(), &Keywords::default(), &mut complain).unwrap();
        named.sort();
        named.dedup();
        assert_eq!(named, ["cur/c\u{1b}d:2,S", "cur/folder", "new/a\nb"]);
    }
}
