//! In notifyd's place: takes Cyrus's notifications and writes them down, and nothing else.
//!
//! Cyrus blocks with the mailbox locked while nobody takes its datagrams. So this runs in a process
//! of its own, which does nothing that waits for anything but the disk; what the notifications mean
//! is read from the spool by the source. A datagram is looked at, made durable, and only then taken;
//! a notification over the stream is answered only when it is durable. Whoever holds the sockets and
//! connections meanwhile (systemd, or the process that started this one: [`Porter`]) lets it be
//! killed at any moment.

mod entrance;
mod numbers;
mod open_list;
mod porter;
mod queue;
mod socket;
mod streams;
mod torn;
mod wire;
mod writer;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tracing::{debug, warn};

use super::recent::Recent;
use super::record::{Received, Record};
use super::{datagram, dlist};
use crate::Stop;
use crate::spool::Name;
pub use numbers::OPEN_FOLDER;
pub use porter::Porter;
use queue::{DATAGRAM_OCTETS_MAX, Queue, Queued, Sender};
pub use socket::{SocketError, bind_datagram, bind_stream};
use streams::Streams;
use writer::{Lost, Writer, Written};

/// What the process in notifyd's place is told.
#[derive(Clone, Debug)]
pub struct Notifyd {
    /// The folder that is written to.
    pub spool: PathBuf,
    /// User ids that may send, besides this process's own and root.
    pub users: Vec<u32>,
    /// When the sockets were made, in nanoseconds since 1970, if anybody made them: what was sent
    /// before is lost, and that is told, once for each such moment.
    pub began: Option<u64>,
}

/// The sockets Cyrus sends to; either may be absent.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For `notifysocket: /path`.
    pub datagram: Option<UnixDatagram>,
    /// Where a [`Porter`] hands connections over, for `notifysocket: dlist:/path`, and says when to
    /// end.
    pub stream: Option<UnixDatagram>,
}

/// Why it ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum NotifydError {
    /// No folder to write to.
    #[error("{}: the spool can't be used", path.display())]
    Spool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket can't be read.
    #[error("the socket can't be read")]
    Socket(#[source] io::Error),
}

impl Notifyd {
    /// Takes notifications until told to stop, or until the [`Porter`] says that it is over. In the
    /// latter case, what waits in a socket for datagrams that goes with the process that made it is
    /// taken and written down, and whoever sends to it from then on is refused; what waits elsewhere
    /// is left there. Blocks: it wants a process of its own.
    ///
    /// Waits while another one writes to the same spool.
    ///
    /// # Errors
    ///
    /// Where the spool can't be used, or a socket can't be read.
    pub fn run(&self, sockets: Sockets, stop: &Stop) -> Result<(), NotifydError> {
        self.run_after(sockets, &[], stop)
    }

    /// The same after a process that was killed with connections open, by the moments at which they
    /// were accepted: those of which nothing was written down are told as lost, once.
    ///
    /// # Errors
    ///
    /// As [`Notifyd::run`].
    pub fn run_after(
        &self,
        sockets: Sockets,
        left_open: &[u64],
        stop: &Stop,
    ) -> Result<(), NotifydError> {
        let spool = |source| NotifydError::Spool { path: self.spool.clone(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.spool, flags, Mode::empty());
        let folder = File::from(folder.map_err(|error| spool(error.into()))?);
        // Two readers would take what the other one looked at.
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if !stop.wait_timeout(LOCK_PAUSE) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(spool(error.into())),
            }
        }
        let before = Before::read(&self.spool, File::sync_all);
        let mut left_open = before.lost(left_open);
        let mut writer = Writer::new(&self.spool);
        writer.remember(|lost| before.told.contains(&lost));
        let mut receiver = Receiver {
            users: self.users.clone(),
            writer,
            recent: before.recent,
            complaints: BTreeSet::new(),
        };
        let began = self.began.map(|ns| Record { ns, pid: 0, what: Received::Began });
        if let Some(began) = began.filter(|began| receiver.recent.add(began.identity())) {
            receiver.writer.append(&[began]);
        }
        if let LeftOpen::Lost(lost) = &left_open {
            warn!(lost = ?lost.what, "notifications were lost with the process that held their connections");
        }
        let mut queue =
            sockets.datagram.map(Queue::new).transpose().map_err(NotifydError::Socket)?;
        let door = sockets.stream.as_ref().and_then(|door| door.try_clone().ok());
        let mut streams = sockets.stream.map(Streams::new);
        while !stop.is_set() {
            // Not before the disk has it: unheard, the next reader tells the same.
            let is_told = match &left_open {
                LeftOpen::Nothing => false,
                LeftOpen::Told => true,
                LeftOpen::Lost(lost) => receiver.writer.try_append(lost),
            };
            if is_told && let Some(door) = &door {
                let _heard = wire::tell(door.as_fd(), 0, wire::TOLD);
                left_open = LeftOpen::Nothing;
            }
            if let Some(queue) = &mut queue {
                receiver.serve(queue).map_err(NotifydError::Socket)?;
            }
            if let Some(streams) = &mut streams {
                receiver.hear(streams);
                if streams.is_over() {
                    break;
                }
            }
            let ends = queue.iter().map(|queue| queue.as_fd());
            let ends: Vec<_> = ends.chain(streams.iter().flat_map(Streams::ends)).collect();
            let is_busy = streams.as_ref().is_some_and(Streams::is_busy);
            stop.wait_beside(&ends, if is_busy { BUSY_LIMIT } else { IDLE_LIMIT });
        }
        let goes_with_us = self.began.is_some() && !stop.is_set();
        if let Some(queue) = queue.as_mut().filter(|_| goes_with_us) {
            receiver.serve_last(queue).map_err(NotifydError::Socket)?;
        }
        Ok(())
    }
}

/// What takes notifications holds.
#[derive(Debug)]
struct Receiver {
    users: Vec<u32>,
    writer: Writer,
    /// What was written down last: what may still wait in the kernel, because whoever wrote it died
    /// before it took it.
    recent: Recent,
    /// What was complained of: each kind once.
    complaints: BTreeSet<String>,
}

impl Receiver {
    /// Has nobody send any more, and takes all that waits.
    fn serve_last(&mut self, queue: &mut Queue) -> io::Result<()> {
        queue.shut()?;
        while self.serve(queue)? {}
        Ok(())
    }

    /// Writes down what waits, and takes it; says whether anything did.
    fn serve(&mut self, queue: &mut Queue) -> io::Result<bool> {
        let mut seen = queue.look()?;
        for pause in GATHER_PAUSES {
            if !(1..GATHERED_MIN).contains(&seen.len()) {
                break;
            }
            std::thread::sleep(pause);
            seen = queue.look()?;
        }
        self.keep(&seen);
        if seen.is_empty() {
            // An empty one that was looked at before is passed over by a look, and still there.
            let taken = queue.take()?;
            self.keep(taken.as_slice());
            return Ok(taken.is_some());
        }
        for expected in &seen {
            loop {
                let Some(taken) = queue.take()? else { return Ok(true) };
                if taken == *expected {
                    break;
                }
                // Nobody else takes from here; an empty one may come up that no look shows.
                self.keep(&[taken]);
            }
        }
        Ok(true)
    }

    /// Makes datagrams durable, but for those that are.
    fn keep(&mut self, seen: &[Queued]) {
        let records: Vec<_> = seen.iter().filter_map(|queued| self.record(queued)).collect();
        let fresh: Vec<_> =
            records.into_iter().filter(|one| self.recent.add(one.identity())).collect();
        self.writer.append(&fresh);
    }

    /// What is to be written down of a datagram; nothing where its sender may not send.
    fn record(&mut self, queued: &Queued) -> Option<Record> {
        let pid = match queued.sender {
            Sender::Named { pid, uid } if self.is_permitted(uid) => pid,
            Sender::Named { uid, .. } => {
                self.complain(&format!("a datagram of uid {uid}, who is not permitted"));
                return None;
            }
            // Sent before anybody asked who sends: the socket's mode alone let them.
            Sender::Unsaid => 0,
            Sender::Hidden => {
                self.complain("a datagram with open files");
                return None;
            }
        };
        let refused = if queued.is_cut {
            Some(format!("a datagram of {DATAGRAM_OCTETS_MAX} octets or more"))
        } else {
            datagram::message(&queued.octets).err().map(|error| error.to_string())
        };
        let what = match refused {
            Some(why) => {
                self.complain(&why);
                Received::Refused(why)
            }
            None => Received::Datagram(queued.octets.clone()),
        };
        Some(Record { ns: queued.ns, pid, what })
    }

    /// Writes down what came over streams, and answers it.
    fn hear(&mut self, streams: &mut Streams) {
        let heard = streams.hear(|uid| self.is_permitted(uid));
        heard.refused.iter().for_each(|why| self.complain(why));
        // Whoever read before may have died before it answered.
        let fresh: Vec<_> =
            heard.records.into_iter().filter(|one| self.recent.add(one.identity())).collect();
        let answer = match self.writer.append(&fresh) {
            Written::Durable => dlist::OK,
            Written::Lost => dlist::NO,
        };
        streams.answer(answer);
    }

    fn is_permitted(&self, uid: u32) -> bool {
        uid == 0 || uid == rustix::process::geteuid().as_raw() || self.users.contains(&uid)
    }

    fn complain(&mut self, why: &str) {
        debug!(why, "a notification is not kept");
        if self.complaints.len() < COMPLAINTS_MAX && self.complaints.insert(why.to_owned()) {
            warn!(
                why,
                "a notification is not kept; the next of this kind are passed over in silence"
            );
        }
    }
}

/// What was written down before the start.
#[derive(Debug, Default)]
struct Before {
    recent: Recent,
    /// When what was heard was received.
    moments: HashSet<u64>,
    /// What was told of as lost.
    told: Vec<Lost>,
}

/// What is to be told of connections that another process left open.
#[derive(Debug, Eq, PartialEq)]
enum LeftOpen {
    /// There were none, or whoever holds them now knows what became of them.
    Nothing,
    /// All of it is written down.
    Told,
    /// Of some nothing is, and that is to be.
    Lost(Record),
}

impl Before {
    /// What the spool's last lines say, each of them whole, and durable by `sync`: whoever wrote them
    /// may have died before that, and what they say won't be written again.
    fn read(folder: &Path, sync: impl Fn(&File) -> io::Result<()>) -> Self {
        let mut before = Self::default();
        // A file in it may be as new as its lines.
        let entries = File::open(folder).and_then(|opened| sync(&opened));
        let Ok(entries) = entries.and_then(|()| std::fs::read_dir(folder)) else { return before };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Name::parse(&entry.file_name())?;
                let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some((meta.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        // The file written now may be new, and what was written before have been put aside.
        let last = files.iter().rev().take(2).rev();
        for (_, path) in last {
            // What can't be made durable there is written again.
            let text = last_lines(path, &sync).unwrap_or_else(|error| {
                debug!(path = ?path, %error, "what was written before may be written again");
                Vec::new()
            });
            let lines = text.split(|octet| *octet == b'\n');
            for record in lines.filter_map(|line| Record::read(line).ok()) {
                before.recent.add(record.identity());
                match record.what {
                    Received::Lost { count, since_ns } => {
                        before.told.push(Lost { count, since_ns });
                    }
                    Received::Began => {}
                    Received::Datagram(_) | Received::Stream(_) | Received::Refused(_) => {
                        before.moments.insert(record.ns);
                    }
                }
            }
        }
        before
    }

    /// What is to be told of connections that were left open, by when they were accepted: that those
    /// were lost of which nothing was written down, unless that was told.
    fn lost(&self, left_open: &[u64]) -> LeftOpen {
        let is_missing = |ns: &u64| !self.moments.contains(ns);
        let mut lost: Vec<u64> = left_open.iter().copied().filter(is_missing).collect();
        lost.sort_unstable();
        for told in &self.told {
            // Told by a reader that was killed before it was heard; more may be left open since.
            if let Some(at) = lost.iter().position(|ns| *ns == told.since_ns) {
                let count = usize::try_from(told.count).unwrap_or(usize::MAX);
                lost.drain(at..at.saturating_add(count).min(lost.len()));
            }
        }
        match (lost.first(), left_open) {
            (None, []) => LeftOpen::Nothing,
            (None, [_, ..]) => LeftOpen::Told,
            (Some(since_ns), _) => {
                let what = Received::Lost { count: lost.len() as u64, since_ns: *since_ns };
                LeftOpen::Lost(Record { ns: *since_ns, pid: 0, what })
            }
        }
    }
}

/// The last octets of a file, which ends with a whole line from here on and is durable.
fn last_lines(path: &Path, sync: impl Fn(&File) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let open = |access| {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        rustix::fs::open(path, flags, Mode::empty()).map(File::from)
    };
    // That of an account under which notifyd ran before may be there to be read alone.
    let file = open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY))?;
    let end = torn::mend(&file, torn::Writer::Died)
        .or_else(|_| file.metadata().map(|meta| meta.len()))?;
    sync(&file)?;
    let octets = end.min(TAIL_OCTETS);
    let mut text = vec![0; usize::try_from(octets).unwrap_or_default()];
    file.read_exact_at(&mut text, end - octets)?;
    // What is not whole is taken away by whoever writes next.
    text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1));
    Ok(text)
}

/// How much of the spool's end is read at the start: more than one group has, unless several of its
/// notifications have megabytes.
const TAIL_OCTETS: u64 = 16 << 20;

/// How long more datagrams are waited for where few wait: each fsync of ours holds up those of Cyrus
/// itself, and Cyrus doesn't wait for ours while there is room. Few looks, as each takes a processor
/// from somebody; and none so late that eleven could have come at the rate of a busy server.
const GATHER_PAUSES: [Duration; 3] =
    [Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(4)];

/// So many that wait are written down at once, lest the room gets short: the kernel has some for
/// eleven.
const GATHERED_MIN: usize = 6;

/// Kinds complained of; a hostile user could give reason for endless ones.
const COMPLAINTS_MAX: usize = 100;

/// How often it is asked whether the other reader is gone.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The longest wait while connections are open, so that one that takes too long is seen.
const BUSY_LIMIT: Duration = Duration::from_secs(1);

/// The longest wait else; whatever comes ends it.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;

    fn record(ns: u64) -> Record {
        Record { ns, pid: 1, what: Received::Datagram(b"said".to_vec()) }
    }

    /// What stands in a file; every line must be whole.
    fn read(path: &Path) -> Vec<Record> {
        let text = std::fs::read(path).unwrap_or_default();
        text.split_inclusive(|octet| *octet == b'\n').map(|l| Record::read(l).unwrap()).collect()
    }

    #[test]
    fn connections_left_open_are_told_of_once_by_whoever_is_heard() {
        let before = |records: &[Record]| {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(Writer::new(folder.path()).append(records), Written::Durable);
            Before::read(folder.path(), File::sync_all)
        };
        let lost = |count, since_ns| Record {
            ns: since_ns,
            pid: 0,
            what: Received::Lost { count, since_ns },
        };
        let heard = || record(3);
        assert_eq!(before(&[heard()]).lost(&[]), LeftOpen::Nothing);
        assert_eq!(before(&[heard()]).lost(&[3]), LeftOpen::Told);
        assert_eq!(before(&[heard()]).lost(&[3, 7, 5]), LeftOpen::Lost(lost(2, 5)));
        // Who told it was killed before that was heard.
        assert_eq!(before(&[heard(), lost(2, 5)]).lost(&[3, 5, 7]), LeftOpen::Told);
        let more = before(&[heard(), lost(2, 5)]).lost(&[3, 5, 7, 8, 9]);
        assert_eq!(more, LeftOpen::Lost(lost(2, 8)));
    }

    #[test]
    fn what_was_lost_before_a_reader_was_killed_is_told_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let told = |lost: Lost| move |one: Lost| one == lost;
        let never = |_: Lost| false;
        let mut first = Writer::new(folder.path());
        first.remember(never);
        // No file can be made there while the spool is full of itself.
        let path = folder.path().join(format!("{}.ndjson", rustix::process::geteuid().as_raw()));
        std::fs::create_dir(&path).unwrap();
        assert_eq!(first.append(&[record(5), record(6)]), Written::Lost);
        assert_eq!(first.append(&[record(7)]), Written::Lost);
        drop(first);
        std::fs::remove_dir(&path).unwrap();
        let lost = Lost { count: 3, since_ns: 5 };
        let mut second = Writer::new(folder.path());
        second.remember(never);
        assert_eq!(second.append(&[record(8)]), Written::Durable);
        let records = read(&path);
        assert_eq!(records[0].what, Received::Lost { count: 3, since_ns: 5 });
        assert_eq!(records[1..], [record(8)]);
        let mut third = Writer::new(folder.path());
        third.remember(never);
        assert_eq!(third.append(&[record(9)]), Written::Durable);
        assert_eq!(read(&path).len(), 3, "once");
        // Killed between telling it and noting that.
        let mut fourth = Writer::new(folder.path());
        fourth.remember(never);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(fourth.append(&[record(5), record(6), record(7)]), Written::Lost);
        std::fs::remove_dir(&path).unwrap();
        let mut fifth = Writer::new(folder.path());
        fifth.remember(told(lost));
        assert_eq!(fifth.append(&[record(10)]), Written::Durable);
        assert_eq!(read(&path), [record(10)]);
    }

    #[test]
    fn what_was_written_before_counts_once_it_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path());
        assert_eq!(writer.append(&[record(1)]), Written::Durable);
        let entry = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        let synced = RefCell::new(BTreeSet::new());
        let mut recent = Before::read(folder.path(), |file| {
            synced.borrow_mut().insert(file.metadata()?.ino());
            Ok(())
        })
        .recent;
        assert!(!recent.add(record(1).identity()));
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let wanted = BTreeSet::from([inode(folder.path()), inode(&entry.path())]);
        assert_eq!(synced.into_inner(), wanted);
        let fails = |which| {
            move |file: &File| {
                let is_it = file.metadata()?.is_dir() == which;
                if is_it { Err(io::Error::other("the disk")) } else { Ok(()) }
            }
        };
        for is_folder in [false, true] {
            let mut recent = Before::read(folder.path(), fails(is_folder)).recent;
            assert!(recent.add(record(1).identity()), "it is written again");
        }
    }

    proptest! {
        // Each waits for a disk.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_reader_killed_anywhere_in_what_it_writes_loses_nothing_and_damages_nothing(
            before in 0_u64..3, many in 1_u64..6, cut in any::<proptest::sample::Index>(),
            turned: bool, has_begun: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let records = |range: std::ops::RangeInclusive<u64>| range.map(record);
            let all: Vec<_> = records(1..=before + many).collect();
            let waiting = records(before + 1..=before + many);
            assert_eq!(Writer::new(folder.path()).append(&all), Written::Durable);
            let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
            let text = std::fs::read(&path).unwrap();
            let lines = text.split_inclusive(|octet| *octet == b'\n');
            let kept = usize::try_from(before).unwrap();
            let durable: usize = lines.take(kept).map(<[u8]>::len).sum();
            let left = durable + cut.index(text.len() - durable + 1);
            std::fs::write(&path, &text[..left]).unwrap();
            let aside = path.with_extension("ndjson.1");
            if turned {
                std::fs::rename(&path, &aside).unwrap();
            }
            // What the next one does; it may not know any more that it told of the beginning.
            let mut recent = Before::read(folder.path(), File::sync_all).recent;
            let began = has_begun.then_some(Record { ns: 9, pid: 0, what: Received::Began });
            let waiting = waiting.filter(|record| recent.add(record.identity()));
            let fresh: Vec<_> = began.into_iter().chain(waiting).collect();
            assert_eq!(Writer::new(folder.path()).append(&fresh), Written::Durable);
            let mut told = [read(&aside), read(&path)].concat();
            told.retain(|record| record.what != Received::Began);
            prop_assert_eq!(told, all);
        }
    }
}
