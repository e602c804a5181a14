//! Writes what came down, so that it outlives everything.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tracing::{debug, error, info};

use super::super::record::{Received, Record};
use super::numbers::Numbers;
use super::queue::now_ns;
use super::torn;

/// The spool's file that is written now.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    path: PathBuf,
    failing_since: Option<Instant>,
    lost: Option<Lost>,
    count: Count,
}

/// Notifications that are not written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lost {
    pub(super) count: u64,
    pub(super) since_ns: u64,
}

/// How many were lost and aren't told yet, where it outlives this process.
#[derive(Debug, Default)]
struct Count(Option<Numbers>);

/// What became of records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    /// They are on the disk.
    Durable,
    /// They are not, and the wait was long enough: the mail server must go on. How many were lost
    /// is told as soon as the disk takes anything.
    Lost,
}

impl Writer {
    /// One for the spool in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            folder: folder.to_owned(),
            path: folder.join(format!("{uid}.ndjson")),
            failing_since: None,
            lost: None,
            count: Count::default(),
        }
    }

    /// Goes on counting what is lost where another writer, who was killed, had got, unless that
    /// `is_told`.
    pub(super) fn remember(&mut self, is_told: impl Fn(Lost) -> bool) {
        match Count::open(&self.folder) {
            Ok((count, lost)) => {
                self.lost = lost.filter(|lost| !is_told(*lost));
                count.write(self.lost);
                self.count = count;
            }
            Err(error) => debug!(%error, "how many notifications are lost is kept in memory alone"),
        }
    }

    /// Writes a record down, if the disk takes it at once; it doesn't count as lost where it doesn't.
    pub(super) fn try_append(&mut self, record: &Record) -> bool {
        let mut line = Vec::new();
        record.write(&mut line);
        let mut batch = Batch::new(line);
        batch.write(&self.folder, &self.path).is_ok() || batch.leave(&self.folder) > 0
    }

    /// Writes records down with one fsync. While the disk fails, tries for [`PATIENCE`], once.
    pub(super) fn append(&mut self, records: &[Record]) -> Written {
        if records.is_empty() {
            return Written::Durable;
        }
        let told = self.lost.map(|Lost { count, since_ns }| {
            let what = Received::Lost { count, since_ns };
            Record { ns: now_ns(), pid: 0, what }
        });
        let mut lines = Vec::new();
        told.iter().chain(records).for_each(|record| record.write(&mut lines));
        let mut batch = Batch::new(lines);
        loop {
            let why = match batch.write(&self.folder, &self.path) {
                Ok(()) => {
                    self.told();
                    self.failing_since = None;
                    return Written::Durable;
                }
                Err(why) => why,
            };
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                std::thread::sleep(PAUSE);
                continue;
            }
            if self.lost.is_none() {
                error!(path = ?self.path, error = %why, "the spool can't be written: notifications are lost, lest the mail server stand still");
            }
            let mut kept = batch.leave(&self.folder);
            if told.is_some() && kept > 0 {
                self.told();
                kept -= 1;
            }
            let rest = records.get(kept..).unwrap_or_default();
            let since_ns = rest.first().map_or(0, |record| record.ns);
            let lost = self.lost.get_or_insert(Lost { count: 0, since_ns });
            lost.count += rest.len() as u64;
            self.count.write(self.lost);
            return Written::Lost;
        }
    }

    /// What was lost is written down.
    fn told(&mut self) {
        if let Some(Lost { count, .. }) = self.lost.take() {
            info!(count, "the spool is written again; what was lost is told");
            self.count.write(None);
        }
    }
}

impl Count {
    /// The one of a spool, and what it says.
    fn open(spool: &Path) -> io::Result<(Self, Option<Lost>)> {
        let (file, said) = Numbers::open(spool, "lost", COUNT_OCTETS)?;
        let lost = match said[..] {
            [count, since_ns] => Some(Lost { count, since_ns }),
            _ => None,
        };
        Ok((Self(Some(file)), lost))
    }

    fn write(&self, lost: Option<Lost>) {
        let Some(file) = &self.0 else { return };
        let numbers = lost.map(|lost| [lost.count, lost.since_ns]);
        if let Err(error) = file.write(numbers.as_ref().map_or(&[], |numbers| &numbers[..])) {
            debug!(%error, "how many notifications are lost is kept in memory alone");
        }
    }
}

/// Of a [`Count`]: that there are two, how many, and since when.
const COUNT_OCTETS: usize = 24;

/// Lines on their way into the file. They have one place in it, however often they are tried: who
/// follows the spool may have read what is whole of them already.
#[derive(Debug)]
struct Batch {
    lines: Vec<u8>,
    /// The file, once it was opened, and where in it they begin.
    place: Option<(File, u64)>,
    /// Octets of them that are written.
    written: usize,
}

impl Batch {
    fn new(lines: Vec<u8>) -> Self {
        Self { lines, place: None, written: 0 }
    }

    /// Writes what isn't there yet, and makes all of it durable. To be called again where that
    /// fails.
    fn write(&mut self, folder: &Path, path: &Path) -> io::Result<()> {
        let (file, at) = match self.place.take().filter(is_there) {
            Some(place) => self.place.insert(place),
            None => {
                self.written = 0;
                self.place.insert(open(path)?)
            }
        };
        if *at + self.lines.len() as u64 > SPOOL_OCTETS_MAX {
            return Err(io::Error::other("the spool is full, because nobody reads it"));
        }
        while let Some(rest) = self.lines.get(self.written..).filter(|rest| !rest.is_empty()) {
            match file.write_at(rest, *at + self.written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => self.written += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = make_durable(file, *at, folder) {
            // The kernel may have dropped what it could not write: once more, over the same.
            self.written = 0;
            return Err(error);
        }
        Ok(())
    }

    /// Leaves it at what is there; gives how many lines are durable.
    fn leave(self, folder: &Path) -> usize {
        let Some((file, at)) = self.place.filter(is_there) else { return 0 };
        // Where this fails, the next who opens the file finds its end torn.
        if let Err(error) =
            torn::mend(&file, torn::Writer::Lives).and_then(|_| make_durable(&file, at, folder))
        {
            debug!(%error, "what was written in part may not last");
            return 0;
        }
        let written = self.lines.get(..self.written).unwrap_or_default();
        memchr::memchr_iter(b'\n', written).count()
    }
}

/// Whether what is written to a file is read: put aside it is, removed it isn't.
fn is_there((file, _): &(File, u64)) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() > 0)
}

/// The file that is written now, and where it ends.
///
/// Opened for each batch: whoever follows the spool puts large files aside.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::from(0o640))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let end = torn::mend(&file, torn::Writer::Lives)?;
    Ok((file, end))
}

/// Makes durable what a file got from `at` on.
fn make_durable(file: &File, at: u64, folder: &Path) -> io::Result<()> {
    file.sync_data()?;
    if at == 0 {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// How long the mail server may be held up by a disk that fails, once: long enough for a file
/// system that is short of room for a moment, and shorter than any client's patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a spool that nobody reads ends: some millions of notifications, a day of a busy server.
const SPOOL_OCTETS_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use postbell_testkit::Tmpfs;

    use super::*;

    fn record(ns: u64) -> Record {
        Record { ns, pid: 1, what: Received::Datagram(b"x".to_vec()) }
    }

    fn read(writer: &Writer) -> Vec<Record> {
        let text = std::fs::read(&writer.path).unwrap();
        text.split_inclusive(|octet| *octet == b'\n').map(|l| Record::read(l).unwrap()).collect()
    }

    /// Records that take more than a page of memory, which is what a full disk may still have.
    fn many() -> Vec<Record> {
        (100..300).map(record).collect()
    }

    /// A disk with one record on it, and no room but behind that, and what keeps the room.
    fn full(disk: &Tmpfs) -> (Writer, PathBuf) {
        let mut writer = Writer::new(disk.path());
        assert_eq!(writer.append(&[record(1)]), Written::Durable);
        (writer, disk.fill().unwrap())
    }

    #[test]
    fn what_a_full_disk_took_the_beginning_of_is_there_once_when_there_is_room() {
        let Some(disk) = Tmpfs::mount(64 * 1024).unwrap() else { return };
        let (mut writer, ballast) = full(&disk);
        let before = std::fs::metadata(&writer.path).unwrap().len();
        // As patient as a loaded machine asks for.
        writer.failing_since = Instant::now().checked_add(Duration::from_secs(60));
        let path = writer.path.clone();
        let seen = std::thread::spawn(move || {
            let octets = || std::fs::read(&path).unwrap();
            while octets().len() as u64 == before {
                std::thread::sleep(Duration::from_millis(1));
            }
            let seen = octets();
            std::fs::remove_file(ballast).unwrap();
            seen
        });
        assert_eq!(writer.append(&many()), Written::Durable);
        let seen = seen.join().unwrap();
        assert!(!seen.ends_with(b"\n") && seen.iter().filter(|octet| **octet == b'\n').count() > 2);
        assert!(std::fs::read(&writer.path).unwrap().starts_with(&seen));
        assert_eq!(read(&writer), [vec![record(1)], many()].concat());
    }

    #[test]
    fn what_a_full_disk_took_whole_is_not_counted_as_lost() {
        let Some(disk) = Tmpfs::mount(64 * 1024).unwrap() else { return };
        let (mut writer, ballast) = full(&disk);
        writer.failing_since = Instant::now().checked_sub(PATIENCE);
        assert_eq!(writer.append(&many()), Written::Lost);
        let kept = read(&writer);
        assert!(kept.len() > 2 && kept.len() < 200, "{}", kept.len());
        assert_eq!(writer.append(&many()), Written::Lost, "now nothing fits");
        assert_eq!(read(&writer), kept);
        std::fs::remove_file(ballast).unwrap();
        assert_eq!(writer.append(&[record(400)]), Written::Durable);
        let all = read(&writer);
        let (before, [lost, last]) = all.split_at(all.len() - 2) else { panic!("{all:?}") };
        assert_eq!((before, last), (&kept[..], &record(400)));
        let rest = 200 - (kept.len() as u64 - 1);
        let since_ns = 300 - rest;
        assert_eq!(lost.what, Received::Lost { count: rest + 200, since_ns });
    }

    #[test]
    fn what_is_said_of_losses_is_said_once_though_nothing_else_fits() {
        let Some(disk) = Tmpfs::mount(64 * 1024).unwrap() else { return };
        let (mut writer, ballast) = full(&disk);
        writer.failing_since = Instant::now().checked_sub(PATIENCE);
        writer.lost = Some(Lost { count: 7, since_ns: 5 });
        assert_eq!(writer.append(&many()), Written::Lost);
        std::fs::remove_file(ballast).unwrap();
        assert_eq!(writer.append(&[record(400)]), Written::Durable);
        let all = read(&writer);
        let lost = |record: &Record| match record.what {
            Received::Lost { count, .. } => Some(count),
            _ => None,
        };
        let counts: Vec<_> = all.iter().filter_map(lost).collect();
        let kept = all.len() as u64 - 4;
        assert_eq!(counts, [7, 200 - kept]);
    }

    #[test]
    fn what_could_not_be_made_durable_is_written_over_itself() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::new(folder.path());
        let mut lines = Vec::new();
        many().iter().for_each(|record| record.write(&mut lines));
        let mut batch = Batch::new(lines);
        batch.write(folder.path(), &writer.path).unwrap();
        // As after an fsync that failed: the kernel may have dropped it.
        batch.written = 0;
        let aside = folder.path().join("aside");
        std::fs::rename(&writer.path, &aside).unwrap();
        batch.write(folder.path(), &writer.path).unwrap();
        std::fs::rename(&aside, &writer.path).unwrap();
        assert_eq!(read(&writer), many());
        std::fs::remove_file(&writer.path).unwrap();
        batch.write(folder.path(), &writer.path).unwrap();
        assert_eq!(read(&writer), many(), "somebody made room");
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told_when_it_can() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("spool");
        let mut writer = Writer::new(&folder);
        // As after a long while without a disk.
        writer.failing_since = Instant::now().checked_sub(PATIENCE);
        assert_eq!(writer.append(&[record(5), record(6)]), Written::Lost);
        assert_eq!(writer.append(&[record(7)]), Written::Lost);
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(writer.append(&[record(8)]), Written::Durable);
        let [lost, kept] = &read(&writer)[..] else { panic!("two lines") };
        assert_eq!(lost.what, Received::Lost { count: 3, since_ns: 5 });
        assert_eq!(kept, &record(8));
        assert_eq!(writer.append(&[record(9)]), Written::Durable);
        assert_eq!(read(&writer).len(), 3);
    }

    #[test]
    fn a_file_put_aside_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path());
        assert_eq!(writer.append(&[record(1)]), Written::Durable);
        std::fs::rename(&writer.path, folder.path().join("aside")).unwrap();
        assert_eq!(writer.append(&[record(2)]), Written::Durable);
        assert_eq!(read(&writer), [record(2)]);
    }
}
