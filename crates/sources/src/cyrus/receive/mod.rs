//! In notifyd's place: takes Cyrus's notifications and writes them down, and nothing else.
//!
//! Cyrus blocks with the mailbox locked while nobody takes its datagrams. So this runs in a process
//! of its own, which does nothing that waits for anything but the disk; what the notifications mean
//! is read from the spool by the source. A datagram is looked at, made durable, and only then taken;
//! a notification over the stream is answered only when it is durable. Whoever holds the sockets and
//! connections meanwhile (systemd, or the process that started this one: [`Porter`]) lets it be
//! killed at any moment.

mod porter;
mod queue;
mod socket;
mod streams;
mod writer;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tracing::{debug, warn};

use super::entry::Entry;
use super::record::{Received, Record};
use super::{datagram, dlist};
use crate::Stop;
use crate::spool::glued;
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
        let mut receiver = Receiver {
            users: self.users.clone(),
            writer: Writer::new(&self.spool),
            recent: Recent::read(&self.spool),
            complaints: BTreeSet::new(),
        };
        let began = self.began.map(|ns| Record { ns, pid: 0, what: Received::Began });
        if let Some(began) = began.filter(|began| receiver.recent.add(began)) {
            receiver.writer.append(&[began]);
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
        let fresh: Vec<_> = records.into_iter().filter(|one| self.recent.add(one)).collect();
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
        let fresh: Vec<_> = heard.records.into_iter().filter(|one| self.recent.add(one)).collect();
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

/// What was written down last: what may still wait in the kernel, because whoever wrote it died
/// before it took it.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<[u8; 32]>,
    known: HashSet<[u8; 32]>,
}

impl Recent {
    /// From the last lines of the spool.
    fn read(folder: &Path) -> Self {
        let mut recent = Self::default();
        let Ok(entries) = std::fs::read_dir(folder) else { return recent };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some((meta.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        // The file written now may be new, and what was written before have been put aside.
        let last = files.iter().rev().take(2).rev();
        for (_, path) in last {
            for line in tail(path).unwrap_or_default().split(|octet| *octet == b'\n') {
                for record in glued::<Entry>(line).filter_map(|part| Record::read(part).ok()) {
                    recent.add(&record);
                }
            }
        }
        recent
    }

    /// Notes a record; says whether it is new.
    fn add(&mut self, record: &Record) -> bool {
        let identity = record.identity();
        if !self.known.insert(identity) {
            return false;
        }
        self.order.push_back(identity);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The last octets of a file, from the beginning of a line.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_OCTETS)))?;
    let mut octets = Vec::new();
    file.take(TAIL_OCTETS).read_to_end(&mut octets)?;
    Ok(octets)
}

/// Records remembered: more than one group has.
const RECENT_MAX: usize = 1024;

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
