//! In notifyd's place: takes Cyrus's notifications and writes them down, and nothing else.
//!
//! Cyrus blocks with the mailbox locked while nobody takes its datagrams. So this runs in a process
//! of its own, which does nothing that waits for anything but the disk; what the notifications mean
//! is read from the spool by the source. A datagram is looked at, made durable, and only then taken;
//! a notification over the stream is answered only when it is durable. Whoever holds the sockets and
//! connections meanwhile (systemd, or the process that started this one: [`Porter`]) lets it be
//! killed at any moment.

mod open_list;
mod porter;
mod queue;
mod socket;
mod streams;
mod torn;
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
pub use open_list::OPEN_FOLDER;
pub use porter::Porter;
use queue::{DATAGRAM_OCTETS_MAX, Queue, Queued, Sender};
pub use socket::{SocketError, bind_datagram, bind_stream};
use streams::Streams;
use writer::{Writer, Written};

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
    /// For `notifysocket: dlist:/path`: where a [`Porter`] hands connections over.
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
    /// Takes notifications until told to stop. Blocks: it wants a process of its own.
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
        let lost = before.lost(left_open);
        let mut receiver = Receiver {
            users: self.users.clone(),
            writer: Writer::new(&self.spool),
            recent: before.recent,
            complaints: BTreeSet::new(),
        };
        let began = self.began.map(|ns| Record { ns, pid: 0, what: Received::Began });
        if let Some(began) = began.filter(|began| receiver.recent.add(began.identity())) {
            receiver.writer.append(&[began]);
        }
        if let Some(lost) = lost.filter(|lost| receiver.recent.add(lost.identity())) {
            warn!(lost = ?lost.what, "notifications were lost with the process that held their connections");
            receiver.writer.append(&[lost]);
        }
        if let Some(door) = sockets.stream.as_ref().filter(|_| !left_open.is_empty()) {
            // Unheard, the next reader tells the same, which is told once.
            let _heard = porter::tell(door.as_fd(), 0, porter::TOLD);
        }
        let mut queue =
            sockets.datagram.map(Queue::new).transpose().map_err(NotifydError::Socket)?;
        let mut streams = sockets.stream.map(Streams::new);
        while !stop.is_set() {
            if let Some(queue) = &mut queue {
                receiver.serve(queue).map_err(NotifydError::Socket)?;
            }
            if let Some(streams) = &mut streams {
                receiver.hear(streams);
            }
            let ends = queue.iter().map(|queue| queue.as_fd());
            let ends: Vec<_> = ends.chain(streams.iter().flat_map(Streams::ends)).collect();
            let is_busy = streams.as_ref().is_some_and(Streams::is_busy);
            stop.wait_beside(&ends, if is_busy { BUSY_LIMIT } else { IDLE_LIMIT });
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
    /// Writes down what waits, and takes it.
    fn serve(&mut self, queue: &mut Queue) -> io::Result<()> {
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
            if let Some(taken) = queue.take()? {
                self.keep(&[taken]);
            }
            return Ok(());
        }
        for expected in &seen {
            loop {
                let Some(taken) = queue.take()? else { return Ok(()) };
                if taken == *expected {
                    break;
                }
                // Nobody else takes from here; an empty one may come up that no look shows.
                self.keep(&[taken]);
            }
        }
        Ok(())
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
    /// When it was received.
    moments: HashSet<u64>,
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
                before.moments.insert(record.ns);
                before.recent.add(record.identity());
            }
        }
        before
    }

    /// What is to be told of connections that were left open, by when they were accepted: that those
    /// were lost of which nothing was written down.
    fn lost(&self, left_open: &[u64]) -> Option<Record> {
        let lost = left_open.iter().filter(|ns| !self.moments.contains(ns));
        let since_ns = lost.clone().min().copied()?;
        let count = u64::try_from(lost.count()).unwrap_or(u64::MAX);
        // Whoever reads it again makes the same of it.
        Some(Record { ns: since_ns, pid: 0, what: Received::Lost { count, since_ns } })
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

/// How much of the spool's end is read at the start: more than one group has, in its longest form.
const TAIL_OCTETS: u64 = 4 << 20;

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
