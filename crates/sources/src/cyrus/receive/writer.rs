//! Writes what came down, so that it outlives everything.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use tracing::{error, info};

use super::super::record::{Received, Record};
use super::queue::now_ns;

/// The spool's file that is written now.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    path: PathBuf,
    failing_since: Option<Instant>,
    lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    count: u64,
    since_ns: u64,
}

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
        }
    }

    /// Writes records down with one fsync. While the disk fails, tries for [`PATIENCE`], once.
    pub(super) fn append(&mut self, records: &[Record]) -> Written {
        if records.is_empty() {
            return Written::Durable;
        }
        let mut lines = Vec::new();
        if let Some(Lost { count, since_ns }) = self.lost {
            let what = Received::Lost { count, since_ns };
            Record { ns: now_ns(), pid: 0, what }.write(&mut lines);
        }
        records.iter().for_each(|record| record.write(&mut lines));
        loop {
            let why = match self.write(&lines) {
                Ok(()) => {
                    if let Some(Lost { count, .. }) = self.lost.take() {
                        info!(count, "the spool is written again; what was lost is told");
                    }
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
            let first = records.first().map_or(0, |record| record.ns);
            if self.lost.is_none() {
                error!(path = ?self.path, error = %why, "the spool can't be written: notifications are lost, lest the mail server stand still");
            }
            let lost = self.lost.get_or_insert(Lost { count: 0, since_ns: first });
            lost.count += records.len() as u64;
            return Written::Lost;
        }
    }

    fn write(&self, lines: &[u8]) -> io::Result<()> {
        // Opened each time: whoever follows the spool puts large files aside.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::open(&self.path, flags, Mode::from(0o640))?);
        let length = file.metadata()?.len();
        if length + lines.len() as u64 > SPOOL_OCTETS_MAX {
            return Err(io::Error::other("the spool is full, because nobody reads it"));
        }
        file.write_all(lines)?;
        file.sync_data()?;
        if length == 0 {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }
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
    use super::*;

    fn record(ns: u64) -> Record {
        Record { ns, pid: 1, what: Received::Datagram(b"x".to_vec()) }
    }

    fn read(writer: &Writer) -> Vec<Record> {
        let text = std::fs::read(&writer.path).unwrap();
        text.split_inclusive(|octet| *octet == b'\n').map(|l| Record::read(l).unwrap()).collect()
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
