//! A folder that others write lines to, and what is in it: Dovecot's script, or our process in
//! Cyrus's notifyd's place.
//!
//! Whoever writes opens `UID.ndjson` in it for adding, and opens it again when it was renamed. Files
//! are opened for each reading and known by what the file system calls them, so that one renamed is
//! still the same. Nothing is let go of here by itself: [`Spool::done`] is told how far what a file
//! said is journalled.

mod bell;
mod demand;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, RenameFlags};
use tracing::warn;

use crate::{Count, Health, Pair};
pub(crate) use bell::Bell;
pub use demand::{DEMAND_FILE, is_misleading, is_told, remove_unfinished, tell_demand};

/// What a line of a spool says.
pub(crate) trait Said: Sized {
    /// The longest line, in octets without its end; a longer one is passed over and told.
    const LINE_OCTETS_MAX: usize;

    /// How every line begins, so that one is found behind the beginning of another.
    const BEGINS: &'static [u8];

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// Why nothing can be made of it, for a person.
    fn read(line: &[u8]) -> Result<Self, String>;
}

/// The files of the spool, whose lines say `T`.
#[derive(Debug)]
pub(crate) struct Spool<T> {
    folder: PathBuf,
    files: BTreeMap<Ident, Followed<T>>,
    /// Their order: a file that was put aside comes before the one written now.
    order: BTreeMap<Name, Ident>,
    /// What the checkpoint says of files not found yet.
    saved: BTreeMap<Ident, Place>,
    /// Octets of lines read and not handled.
    waiting_octets: usize,
    /// Who could ever write to the folder; nothing where it was never there.
    write_bits: Option<u32>,
    /// A file that its owner took the right to write from.
    closed: Option<Name>,
    complaints: Complaints,
}

/// What the file system calls a file: its number, and when it was made, since numbers come again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ident {
    inode: u64,
    born_nanos: u128,
}

/// A file's name: whose it is, and which turn it had, the last for the one written now.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Name {
    uid: u32,
    turn: u64,
}

/// How far a file is journalled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    /// Octets of whole lines.
    pub(crate) offset: u64,
    /// Of the line after them, the act and the message told last, both counted from 1.
    pub(crate) part: Option<(u32, u32)>,
}

/// A line, or what stands in its place.
#[derive(Debug)]
pub(crate) struct Line<T> {
    /// Where it begins in its file.
    pub(crate) start: u64,
    /// Where it ends.
    pub(crate) end: u64,
    /// Its length, about.
    octets: usize,
    /// When it was read.
    pub(crate) read_at: Instant,
    /// What it says, or why nothing can be made of it.
    pub(crate) said: Result<T, String>,
}

#[derive(Debug)]
struct Followed<T> {
    name: Name,
    done: Place,
    /// How far it is read.
    read: u64,
    /// How long it was when it was looked at last.
    len: u64,
    /// Inside a line of more than [`Said::LINE_OCTETS_MAX`].
    is_skipping: bool,
    lines: VecDeque<Line<T>>,
    /// All of it was read when it was looked at last, but for the beginning of a line.
    is_read_out: bool,
}

/// A change of the checkpoint.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a look at the folder found beside the files.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// What happened to files that were followed.
    pub(crate) mishaps: Vec<Mishap>,
    /// Keys of the checkpoint that no file stands behind any more.
    pub(crate) changes: Vec<Change>,
}

/// Something that happened to a file, by no doing of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mishap {
    /// What makes it this one and no other.
    pub(crate) identity: String,
    /// What happened, for a person.
    pub(crate) what: String,
}

impl<T: Said> Spool<T> {
    /// A spool in `folder`, of which `saved` is known.
    pub(crate) fn new(folder: &Path, saved: Vec<Pair>, health: &Health) -> Self {
        let saved = saved.iter().filter_map(|(key, value)| {
            Some((Ident::parse(key.strip_prefix(KEY)?)?, Place::parse(value)?))
        });
        Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            order: BTreeMap::new(),
            saved: saved.collect(),
            waiting_octets: 0,
            write_bits: None,
            closed: None,
            complaints: Complaints::new(health),
        }
    }

    /// Looks which files there are; what was known of the folder and is no longer so is told.
    ///
    /// # Errors
    ///
    /// Where the folder can't be read.
    pub(crate) fn scan(&mut self) -> io::Result<Scanned> {
        let mut found = BTreeMap::new();
        self.closed = None;
        for entry in std::fs::read_dir(&self.folder)? {
            let Ok(entry) = entry else { continue };
            let Some(name) = Name::parse(&entry.file_name()) else { continue };
            match self.open(name) {
                Ok((_, meta)) => {
                    if name.turn == TURN_NOW && meta.mode() & WRITE_BITS == 0 {
                        self.closed = Some(name);
                    }
                    found.insert(Ident::of(&meta), name);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.complaints.add(&self.path(name), &error.to_string());
                    // One that can't be read for the moment isn't gone.
                    found.extend(self.order.get(&name).map(|ident| (*ident, name)));
                }
            }
        }
        let (mut mishaps, mut changes) = (Vec::new(), Vec::new());
        for (ident, place) in std::mem::take(&mut self.saved) {
            if !found.contains_key(&ident) {
                // It was removed as done with, just before the end of the last run.
                changes.push((ident.key(), None));
                continue;
            }
            self.files.insert(ident, Followed::new(Name { uid: 0, turn: 0 }, place));
        }
        let gone: Vec<_> =
            self.files.keys().filter(|id| !found.contains_key(id)).copied().collect();
        for ident in gone {
            if let Some(file) = self.files.remove(&ident) {
                self.waiting_octets -= file.octets();
                changes.push((ident.key(), None));
                let path = self.path(file.name);
                warn!(path = ?path, "a file of the spool was taken away before it was done with");
                mishaps.push(Mishap {
                    identity: format!("gone {ident}"),
                    what: format!(
                        "{} was taken away; what it held beyond octet {} may be lost",
                        path.display(),
                        file.done.offset
                    ),
                });
            }
        }
        self.order.clear();
        for (ident, name) in found {
            let file =
                self.files.entry(ident).or_insert_with(|| Followed::new(name, Place::default()));
            file.name = name;
            self.order.insert(name, ident);
        }
        Ok(Scanned { mishaps, changes })
    }

    /// Whether the folder was ever read.
    pub(crate) fn was_there(&self) -> bool {
        self.write_bits.is_some()
    }

    /// Why not all who could write to the spool can write to it now, as far as its reader can see.
    pub(crate) fn unwritable(&mut self) -> Option<String> {
        let path = self.folder.display();
        let bits = std::fs::metadata(&self.folder).ok()?.mode() & WRITE_BITS;
        let before = self.write_bits.unwrap_or_default();
        self.write_bits = Some(before | bits);
        if before & !bits != 0 {
            return Some(format!("{path}: not all may write there who might before"));
        }
        if let Ok(room) = rustix::fs::statvfs(&self.folder)
            && (room.f_bavail == 0 || (room.f_files != 0 && room.f_favail == 0))
        {
            return Some(format!("{path}: the disk is full"));
        }
        self.closed.map(|name| format!("{}: may not be written to", self.path(name).display()))
    }

    /// The files in order.
    pub(crate) fn idents(&self) -> Vec<Ident> {
        self.order.values().copied().collect()
    }

    /// The file of that name, if it is followed.
    pub(crate) fn named(&self, name: &OsStr) -> Option<Ident> {
        self.order.get(&Name::parse(name)?).copied()
    }

    /// The next line of a file, unless it is still to be read.
    pub(crate) fn head(&self, ident: Ident) -> Option<&Line<T>> {
        self.files.get(&ident)?.lines.front()
    }

    /// The lines of a file that are read and not handled.
    pub(crate) fn lines(&self, ident: Ident) -> impl Iterator<Item = &Line<T>> {
        self.files.get(&ident).into_iter().flat_map(|file| &file.lines)
    }

    /// Takes the next line out of its file's queue.
    pub(crate) fn pop(&mut self, ident: Ident) -> Option<Line<T>> {
        let line = self.files.get_mut(&ident)?.lines.pop_front()?;
        self.waiting_octets -= line.octets;
        Some(line)
    }

    /// Octets that are there and not done with.
    pub(crate) fn unread_octets(&self) -> u64 {
        let unread = |file: &Followed<T>| file.len.saturating_sub(file.done.offset);
        self.files.values().map(unread).sum()
    }

    /// Whether so much waits that nothing may wait any longer.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting_octets >= WAITING_OCTETS_MAX
    }

    /// How far the first line of a file was told before, if in part.
    pub(crate) fn place(&self, ident: Ident) -> Place {
        self.files.get(&ident).map(|file| file.done).unwrap_or_default()
    }

    /// Remembers how far a file is done with, and gives the change of the checkpoint; none where
    /// the file is gone.
    pub(crate) fn done(&mut self, ident: Ident, place: Place) -> Option<Change> {
        self.files.get_mut(&ident)?.done = place;
        Some((ident.key(), Some(place.to_string().into_bytes())))
    }

    /// A file's name, for a person.
    pub(crate) fn name(&self, ident: Ident) -> String {
        self.files.get(&ident).map_or_else(String::new, |file| file.name.to_string())
    }

    /// Reads on in a file; says whether there was anything new, and what happened to it else.
    pub(crate) fn read(&mut self, ident: Ident) -> (bool, Option<Mishap>) {
        let Some(file) = self.files.get(&ident) else { return (false, None) };
        let name = file.name;
        let opened = self.open(name);
        let (handle, meta) = match opened {
            Ok(opened) => opened,
            // The next scan finds out what became of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (false, None),
            Err(error) => {
                self.complaints.add(&self.path(name), &error.to_string());
                return (false, None);
            }
        };
        if Ident::of(&meta) != ident {
            return (false, None);
        }
        let path = self.path(name);
        let Some(file) = self.files.get_mut(&ident) else { return (false, None) };
        let mut mishap = None;
        if meta.len() < file.read {
            let (had, has) = (file.read, meta.len());
            warn!(path = ?path, had, has, "a file of the spool was cut short");
            mishap = Some(Mishap {
                identity: format!("cut {ident} {had} {has}"),
                what: format!("{} was cut from {had} octets to {has}", path.display()),
            });
            self.waiting_octets -= file.octets();
            *file = Followed::new(name, Place::default());
        }
        file.len = meta.len();
        let before = file.octets();
        let result = file.read_on(&handle, meta.len());
        self.waiting_octets = self.waiting_octets + file.octets() - before;
        let has_new = file.octets() > before;
        if let Err(error) = result {
            self.complaints.add(&path, &error.to_string());
        }
        (has_new, mishap)
    }

    /// Whether all of a file was read when it was looked at last.
    pub(crate) fn is_read_out(&self, ident: Ident) -> bool {
        self.files.get(&ident).is_none_or(|file| file.is_read_out)
    }

    /// Where the whole lines of each file end now: what was written before is told when
    /// [`Spool::has_passed`] says so.
    pub(crate) fn ends(&self) -> Vec<(Ident, u64)> {
        let end = |(name, ident): (&Name, &Ident)| {
            let (file, meta) = self.open(*name).ok()?;
            let whole = whole_octets(&file, meta.len(), T::LINE_OCTETS_MAX).ok().flatten();
            let end = whole.unwrap_or(meta.len());
            (Ident::of(&meta) == *ident).then_some((*ident, end))
        };
        self.order.iter().filter_map(end).collect()
    }

    /// Whether everything up to `end` is done with.
    pub(crate) fn has_passed(&self, (ident, end): (Ident, u64)) -> bool {
        self.files.get(&ident).is_none_or(|file| {
            let is_idle = file.lines.is_empty() && file.read >= end;
            is_idle || file.done.offset >= end
        })
    }

    /// Puts a large file aside, so that whoever writes begins a new one.
    pub(crate) fn turn(&mut self, ident: Ident) {
        let Some(file) = self.files.get(&ident) else { return };
        let name = file.name;
        // Whoever was interrupted in a line may go on with it, or take its beginning away.
        if name.turn != TURN_NOW || file.len < ROTATE_OCTETS || file.read < file.len {
            return;
        }
        let last = self.order.range(Name { uid: name.uid, turn: 0 }..name).next_back();
        let aside = Name { uid: name.uid, turn: last.map_or(0, |(name, _)| name.turn) + 1 };
        let (from, to) = (self.path(name), self.path(aside));
        match rustix::fs::renameat_with(
            rustix::fs::CWD,
            &from,
            rustix::fs::CWD,
            &to,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {
                self.order.remove(&name);
                self.order.insert(aside, ident);
                if let Some(file) = self.files.get_mut(&ident) {
                    file.name = aside;
                }
            }
            Err(error) => {
                self.complaints.add(&from, &format!("can't be put aside: {error}"));
            }
        }
    }

    /// Removes a file that was put aside, is done with and has been quiet for a while. Gives the
    /// change of the checkpoint, and what was lost of it, if it ends within a line.
    pub(crate) fn sweep(&mut self, ident: Ident) -> Option<(Vec<u8>, Option<Mishap>)> {
        let file = self.files.get(&ident)?;
        if file.name.turn == TURN_NOW || !file.lines.is_empty() || !file.is_read_out {
            return None;
        }
        let path = self.path(file.name);
        let (_, meta) = self.open(file.name).ok()?;
        let quiet = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let rest = meta.len().checked_sub(file.done.offset)?;
        if Ident::of(&meta) != ident || quiet? < QUIET_BEFORE_REMOVAL {
            return None;
        }
        if let Err(error) = std::fs::remove_file(&path) {
            self.complaints.add(&path, &format!("can't be removed: {error}"));
            return None;
        }
        let mishap = (rest > 0).then(|| Mishap {
            identity: format!("torn {ident}"),
            what: format!("{} ended within a line", path.display()),
        });
        self.order.remove(&file.name);
        self.files.remove(&ident);
        Some((ident.key(), mishap))
    }

    fn path(&self, name: Name) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// Opens a file that is what it should be.
    fn open(&self, name: Name) -> io::Result<(File, Metadata)> {
        // Neither a link nor a pipe: anybody may put things here.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(self.path(name), flags, Mode::empty())?);
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a file"));
        }
        if meta.uid() != name.uid {
            let why = format!("belongs to uid {}, not to the one it is named for", meta.uid());
            return Err(io::Error::other(why));
        }
        Ok((file, meta))
    }
}

impl<T: Said> Followed<T> {
    fn new(name: Name, done: Place) -> Self {
        Self {
            name,
            done,
            read: done.offset,
            len: 0,
            is_skipping: false,
            lines: VecDeque::new(),
            is_read_out: false,
        }
    }

    fn octets(&self) -> usize {
        self.lines.iter().map(|line| line.octets).sum()
    }

    /// Reads whole lines, [`CHUNK_OCTETS`] of them or one, if there is more than is read.
    fn read_on(&mut self, handle: &File, len: u64) -> io::Result<()> {
        self.is_read_out = false;
        let mut size = CHUNK_OCTETS;
        while self.read < len {
            let rest = usize::try_from(len - self.read).unwrap_or(usize::MAX);
            let mut buffer = vec![0; rest.min(size)];
            let filled = read_at(handle, &mut buffer, self.read)?;
            buffer.truncate(filled);
            let Some(end) = memchr::memrchr(b'\n', &buffer) else {
                if filled < rest && filled >= size && size <= T::LINE_OCTETS_MAX {
                    // A line longer than the chunk.
                    size = T::LINE_OCTETS_MAX + 1;
                    continue;
                }
                if filled > T::LINE_OCTETS_MAX || self.is_skipping {
                    self.is_skipping = true;
                    self.read += filled as u64;
                    continue;
                }
                break;
            };
            buffer.truncate(end + 1);
            self.take(&buffer);
            if self.lines.len() >= LINES_MAX || self.read < len {
                return Ok(());
            }
        }
        self.is_read_out = true;
        Ok(())
    }

    fn take(&mut self, whole: &[u8]) {
        let read_at = Instant::now();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            let start = self.read;
            self.read += line.len() as u64;
            let end = self.read;
            let mut push = |start, end, octets: usize, said| {
                // An empty place in the queue costs something, too.
                let octets = octets + 256;
                self.lines.push_back(Line { start, end, octets, read_at, said });
            };
            if std::mem::take(&mut self.is_skipping) {
                push(start, end, 0, Err("a line longer than any that is written".to_owned()));
                continue;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match T::read(line) {
                Ok(said) => push(start, end, line.len(), Ok(said)),
                Err(why) => {
                    let mut from = start;
                    for part in glued::<T>(line) {
                        let to = from + part.len() as u64;
                        let said = T::read(part).map_err(|_| match part.len() == line.len() {
                            true => why.clone(),
                            false => "nothing but a part of one".to_owned(),
                        });
                        let octets = if said.is_ok() { part.len() } else { 0 };
                        push(from, to, octets, said);
                        from = to;
                    }
                }
            }
        }
    }
}

/// What is glued together in one line. A disk that was full, or a death, left the beginning of a
/// line there, or all of it but its end; and whoever wrote next didn't look.
///
/// A line begins with what can't stand within one: quotes within a text are escaped.
fn glued<T: Said>(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let after_first = rest.get(1..)?;
        let mut end = memchr::memmem::find(after_first, T::BEGINS).map_or(rest.len(), |at| at + 1);
        // A beginning too short to be known as one may follow what is whole but for its end.
        let part = rest.get(..end)?;
        let brace = part.iter().rposition(|octet| *octet == b'}').map_or(0, |at| at + 1);
        let (whole, more) = part.split_at_checked(brace)?;
        if !more.trim_ascii().is_empty() && T::read(whole).is_ok() {
            end = brace;
        }
        let (part, others) = rest.split_at_checked(end)?;
        rest = others;
        Some(part)
    })
}

/// How much of a file's first `length` octets is whole lines; nothing where its last line has no end
/// and is longer than any that is written.
pub(crate) fn whole_octets(
    file: &File,
    length: u64,
    line_octets_max: usize,
) -> io::Result<Option<u64>> {
    // Mostly the last octet says it.
    for octets in [1, line_octets_max as u64 + 1] {
        let octets = octets.min(length);
        let mut buffer = vec![0; usize::try_from(octets).unwrap_or_default()];
        file.read_exact_at(&mut buffer, length - octets)?;
        let end = memchr::memrchr(b'\n', &buffer).map(|at| length - octets + at as u64 + 1);
        if end.is_some() || octets == length {
            return Ok(end.or(Some(0)));
        }
    }
    Ok(None)
}

fn read_at(handle: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match handle.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(octets) => filled += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Ident {
    fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: meta.ino(), born_nanos: born.map_or(0, |born| born.as_nanos()) }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (inode, born) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { inode: inode.parse().ok()?, born_nanos: born.parse().ok()? })
    }

    fn key(self) -> Vec<u8> {
        [KEY, self.to_string().as_bytes()].concat()
    }
}

impl std::fmt::Display for Ident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.inode, self.born_nanos)
    }
}

impl Name {
    /// The name of a file in a spool, if it is one.
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let (uid, rest) = name.to_str()?.split_once(".ndjson")?;
        // One spelling for each number.
        let is_plain = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'))
        };
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| is_plain(text));
        let turn = match rest.strip_prefix('.') {
            Some(turn) => number(turn).filter(|turn| *turn < TURN_NOW)?,
            None if rest.is_empty() => TURN_NOW,
            None => return None,
        };
        Some(Self { uid: u32::try_from(number(uid)?).ok()?, turn })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.turn {
            TURN_NOW => write!(f, "{}.ndjson", self.uid),
            turn => write!(f, "{}.ndjson.{turn}", self.uid),
        }
    }
}

impl Place {
    fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let offset = words.next()?.parse().ok()?;
        let part = match (words.next(), words.next()) {
            (Some(act), Some(uid)) => Some((act.parse().ok()?, uid.parse().ok()?)),
            _ => None,
        };
        Some(Self { offset, part })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.offset)?;
        self.part.map_or(Ok(()), |(act, uid)| write!(f, " {act} {uid}"))
    }
}

/// What was complained of, so that each is logged once.
#[derive(Debug)]
struct Complaints {
    said: HashSet<(PathBuf, String)>,
    health: Health,
}

impl Complaints {
    fn new(health: &Health) -> Self {
        Self { said: HashSet::new(), health: health.clone() }
    }

    fn add(&mut self, path: &Path, why: &str) {
        if self.said.len() >= COMPLAINTS_MAX || !self.said.insert((path.to_owned(), why.to_owned()))
        {
            return;
        }
        self.health.add(Count::Skipped, 1);
        self.health.set_error(&format!("{}: {why}", path.display()));
        warn!(path = ?path, why, "a file of the spool is not followed as it should be");
    }
}

/// Where a file's place is in the checkpoint.
pub(crate) const KEY: &[u8] = b"spool/";

/// Who may write, in a mode.
const WRITE_BITS: u32 = 0o222;

/// The turn of the file that is written now.
const TURN_NOW: u64 = u64::MAX;

/// A file larger than this is put aside: small enough to be removed soon, large enough that it is
/// seldom.
const ROTATE_OCTETS: u64 = 8 << 20;

/// How long a file put aside must have been left alone: far longer than anybody who writes takes from
/// opening it to closing it.
const QUIET_BEFORE_REMOVAL: Duration = Duration::from_secs(60);

/// How much is read at once.
const CHUNK_OCTETS: usize = 256 << 10;

/// Lines of one file that may wait; the rest is read when they are handled.
const LINES_MAX: usize = 10_000;

/// Octets of lines that may wait for others that must come first.
const WAITING_OCTETS_MAX: usize = 64 << 20;

/// Complaints remembered; a hostile user could give reason for endless ones.
const COMPLAINTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Text {
        seq: u64,
    }

    impl Said for Text {
        const LINE_OCTETS_MAX: usize = 1_000;
        const BEGINS: &'static [u8] = br#"{"v":1,"run":""#;

        fn read(line: &[u8]) -> Result<Self, String> {
            serde_json::from_slice(line).map_err(|error| error.to_string())
        }
    }

    fn line(seq: u64, name: &str) -> String {
        let name = serde_json::to_string(name).unwrap();
        format!(r#"{{"v":1,"run":"aaaa","seq":{seq},"events":[{{"e":"sub","box":{name}}}]}}"#)
    }

    /// The numbers of the lines that are told, and how many parts can't be.
    fn read(text: &str) -> (Vec<u64>, usize) {
        let mut file = Followed::<Text>::new(Name { uid: 0, turn: TURN_NOW }, Place::default());
        file.take(text.as_bytes());
        let mut at = 0;
        for line in &file.lines {
            assert_eq!((line.start, line.end > at), (at, true));
            at = line.end;
        }
        let said = file.lines.iter().filter_map(|line| line.said.as_ref().ok());
        let seqs: Vec<_> = said.map(|line| line.seq).collect();
        let torn = file.lines.len() - seqs.len();
        (seqs, torn)
    }

    proptest! {
        #[test]
        fn a_line_cut_anywhere_costs_no_other(
            cuts in proptest::collection::vec(0_usize..100, 1..6), name in "[\"\\\\{v:1,run}ä]{0,20}",
        ) {
            let (mut text, mut whole, mut torn) = (String::new(), Vec::new(), 0);
            for (seq, cut) in (1_u64..).zip(cuts) {
                let line = line(seq, &name);
                // Whole but for its end, it is told as well.
                let cut = (cut..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
                text += line.get(..cut).unwrap();
                if cut == line.len() { whole.push(seq) } else { torn += usize::from(cut > 0) }
            }
            text += &line(99, &name);
            text.push('\n');
            whole.push(99);
            let (told, parts) = read(&text);
            prop_assert_eq!(told, whole);
            // Two beginnings too short to be known for such count as one.
            prop_assert!(parts <= torn && (parts > 0) == (torn > 0));
        }
    }

    #[test]
    fn what_is_written_is_told_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let path = folder.path().join(format!("{uid}.ndjson"));
        let mut spool = Spool::<Text>::new(folder.path(), Vec::new(), &Health::new());
        let told = |spool: &mut Spool<Text>| {
            spool.scan().unwrap();
            for ident in spool.idents() {
                assert_eq!(spool.read(ident).1, None);
                while spool.pop(ident).is_some() {}
            }
        };
        let (first, second) = (format!("{}\n", line(1, "")), format!("{}\n", line(2, "")));
        std::fs::write(&path, [&first, second.get(..20).unwrap()].concat()).unwrap();
        spool.scan().unwrap();
        let end = spool.ends()[0];
        assert!(!spool.has_passed(end));
        told(&mut spool);
        // Whoever wrote it takes the beginning of a line away again.
        File::options().write(true).open(&path).unwrap().set_len(first.len() as u64).unwrap();
        assert!(spool.has_passed(end) && spool.has_passed(spool.ends()[0]));
        std::fs::write(&path, [first, second].concat()).unwrap();
        let end = spool.ends()[0];
        assert!(!spool.has_passed(end));
        told(&mut spool);
        assert!(spool.has_passed(end));
    }
}
