//! Accepts connections for whoever reads, keeps them open, and answers them.
//!
//! A connection that only its reader holds ends with it, and Cyrus doesn't ask again. So whoever
//! holds the listening socket accepts, hands each connection to the reader over a socket between the
//! two, is told the answer over the same, and hands those without one to the next reader.
//!
//! A notification may be too long to wait in the kernel until it is whole. Where a reader finds it
//! so, the porter takes what comes, keeps it, and passes it on: to the next reader as well.
//!
//! Where the listening socket outlives the porter, the connections don't. Which are open is then
//! noted, so that the porter after it knows what was under way ([`Porter::start_for`]).
//!
//! Told to end, the porter lets nobody else in, waits until those whom it has are answered, and only
//! then has the reader end ([`Porter::end`]).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tracing::warn;

use super::super::record::NOTIFICATION_OCTETS_MAX;
use super::entrance::{Entrance, Whose};
use super::open_list::OpenList;
use super::queue::now_ns;
use super::wire::{END, PART, PART_OCTETS, TAKE, TOLD, hand_over, is_gone, say};

/// Accepts Cyrus's connections, on a thread of its own, for as long as the process lives. All clones
/// are the same.
#[derive(Clone, Debug)]
pub struct Porter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reader: Mutex<Reader>,
    /// What a porter before left open, until a reader has told it.
    left: Mutex<Vec<u64>>,
    /// Until when those who are there are waited for, once nobody else is to be let in.
    until: OnceLock<Instant>,
    /// Nobody is waited for any more: the reader is to end.
    is_over: AtomicBool,
    /// Readable when there is another reader, or nobody else is to be let in.
    changed: OwnedFd,
}

/// Who reads now.
#[derive(Clone, Debug, Default)]
struct Reader {
    end: Option<Arc<UnixDatagram>>,
    number: u64,
}

/// A connection without an answer.
#[derive(Debug)]
struct Kept {
    stream: UnixStream,
    /// When it was accepted: a moment no other has.
    ns: u64,
    /// The number of the reader that has it.
    reader: u64,
    /// What came over it, where that had to be taken.
    taken: Option<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    octets: Vec<u8>,
    /// How many of them the reader has.
    passed_on: usize,
    /// No more comes.
    is_over: bool,
    /// The reader knows that no more comes.
    is_end_told: bool,
}

impl Porter {
    /// Accepts on `listener` from now on.
    ///
    /// # Errors
    ///
    /// Where the listener can't be asked without waiting, or there is no thread.
    pub fn start(listener: UnixListener) -> io::Result<Self> {
        Self::start_with(Entrance::new(listener, Whose::Ours)?, None)
    }

    /// Accepts nobody, where there are datagrams alone: only has the reader end.
    ///
    /// # Errors
    ///
    /// Where there is no thread.
    pub fn start_without() -> io::Result<Self> {
        Self::start_with(Entrance::none(), None)
    }

    /// The same for a listener that outlives this process: what is open is noted in `spool`. Where it
    /// can't be, that is logged, and what is lost with this process isn't told: the mail server must
    /// not stand still for it.
    ///
    /// # Errors
    ///
    /// As [`Porter::start`].
    pub fn start_for(listener: UnixListener, spool: &Path) -> io::Result<Self> {
        let open = OpenList::open(spool);
        if let Err(error) = &open {
            warn!(%error, "open connections can't be noted: what is lost with this process is not told");
        }
        Self::start_with(Entrance::new(listener, Whose::Anothers)?, open.ok())
    }

    /// The moments at which connections were accepted that a porter before left open, as long as no
    /// reader has told which of them were not written down ([`Notifyd::run_after`]).
    ///
    /// [`Notifyd::run_after`]: super::Notifyd::run_after
    #[must_use]
    pub fn left_open(&self) -> Vec<u64> {
        self.0.left().clone()
    }

    fn start_with(entrance: Entrance, open: Option<OpenList>) -> io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let left = open.as_ref().map(|open| open.left().to_vec()).unwrap_or_default();
        let shared = Arc::new(Shared {
            reader: Mutex::default(),
            left: Mutex::new(left),
            until: OnceLock::new(),
            is_over: AtomicBool::new(false),
            changed,
        });
        let porter = Arc::clone(&shared);
        let work = move || porter.work(entrance, open);
        std::thread::Builder::new().name("porter".to_owned()).spawn(work)?;
        Ok(Self(shared))
    }

    /// The end for another reader: connections come over it, and at first those that the reader
    /// before left without an answer.
    ///
    /// # Errors
    ///
    /// Where there is no file descriptor left.
    pub fn hand(&self) -> io::Result<UnixDatagram> {
        let (ours, theirs) = UnixDatagram::pair()?;
        let mut reader = self.0.reader();
        *reader = Reader { end: Some(Arc::new(ours)), number: reader.number + 1 };
        self.0.wake();
        Ok(theirs)
    }

    /// Lets nobody else in. Those who are there, and of a socket that goes with this process those
    /// who have come, are answered, as long as that takes no longer than `limit`; then the reader is
    /// told to end, and any reader after it. Returns at once.
    pub fn end(&self, limit: Duration) {
        // The first who says so says until when.
        self.0.until.get_or_init(|| Instant::now() + limit);
        self.0.wake();
    }

    /// Whether nobody is waited for any more: after a reader that has ended there need be no other.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn reader(&self) -> MutexGuard<'_, Reader> {
        // What is in it is whole whoever died.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<u64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A counter that is full wakes as well.
        let _woken = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn work(&self, mut entrance: Entrance, mut open: Option<OpenList>) {
        let (mut kept, mut last_ns, mut gone, mut told) = (Vec::<Kept>::new(), 0, 0, 0);
        loop {
            let reader = self.reader().clone();
            // One that is gone gets nothing; the next has another number.
            let end = reader.end.as_deref().filter(|_| reader.number != gone);
            if self.until.get().is_some() {
                entrance.shut();
                accept(&mut entrance, &mut kept, &mut last_ns, open.as_mut());
            }
            self.look_whether_over(&entrance, &kept);
            let is_to_end = self.is_over.load(Ordering::SeqCst) && told != reader.number;
            let has_more = is_to_end || kept.iter().any(|one| one.is_ahead_of(reader.number));
            let room = if has_more { PollFlags::OUT } else { PollFlags::empty() };
            let has_come = self.wait(&entrance, &kept, end.map(|end| (end, room)), reader.number);
            if has_come {
                accept(&mut entrance, &mut kept, &mut last_ns, open.as_mut());
            }
            kept.iter_mut().for_each(Kept::take);
            let Some(end) = end else { continue };
            let is_told = answer(end, &mut kept);
            if let Some(open) = &mut open {
                if is_told {
                    open.forget_left();
                    self.left().clear();
                }
                open.note(kept.iter().map(|one| one.ns));
            }
            let mut passed_on = pass_on(&mut kept, end, reader.number);
            if is_to_end && passed_on.is_ok() {
                passed_on = say(end, END, 0, &[]);
                told = if passed_on.is_ok() { reader.number } else { told };
            }
            match passed_on {
                Ok(()) | Err(Errno::AGAIN) => {}
                Err(error) if is_gone(error) => gone = reader.number,
                Err(error) => {
                    // Such as no memory left; whoever waits goes on waiting.
                    warn!(%error, "a connection of Cyrus's can't be handed over");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Whether all who are to be answered are, or were waited for long enough.
    fn look_whether_over(&self, entrance: &Entrance, kept: &[Kept]) {
        let Some(until) = self.until.get().filter(|_| !self.is_over.load(Ordering::SeqCst)) else {
            return;
        };
        let is_done = entrance.is_empty() && kept.is_empty();
        if !is_done && Instant::now() < *until {
            return;
        }
        if !is_done {
            warn!(count = kept.len(), "connections of Cyrus's are cut: no answer came in time");
        }
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Waits until somebody comes, is to be answered, can be handed on, there is another reader, or
    /// it is over. Says whether somebody came.
    fn wait(
        &self,
        entrance: &Entrance,
        kept: &[Kept],
        end: Option<(&UnixDatagram, PollFlags)>,
        reader: u64,
    ) -> bool {
        let mut fds = vec![PollFd::new(&self.changed, PollFlags::IN)];
        let entrance = entrance.to_wait_for().filter(|_| kept.len() < KEPT_MAX);
        fds.extend(entrance.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let at = entrance.map(|_| fds.len() - 1);
        fds.extend(end.map(|(end, room)| PollFd::new(end, PollFlags::IN | room)));
        // Until it is passed on, what came is let wait, so that no reader is needed to go on.
        let taking = kept.iter().filter(|one| one.is_to_be_taken() && !one.is_ahead_of(reader));
        fds.extend(taking.map(|one| PollFd::new(&one.stream, PollFlags::IN)));
        let until = self.until.get().filter(|_| !self.is_over.load(Ordering::SeqCst));
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        if poll(&mut fds, limit.as_ref()).is_err() {
            // Interrupted, or refused for want of memory: be late rather than spin.
            std::thread::sleep(Duration::from_millis(1));
            return false;
        }
        let has_come = at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
        let mut count = [0; 8];
        let _drained = rustix::io::read(&self.changed, &mut count);
        has_come
    }
}

/// Hands a reader those whom it hasn't yet, as many as there is room for.
fn pass_on(kept: &mut [Kept], end: &UnixDatagram, reader: u64) -> Result<(), Errno> {
    let ahead = kept.iter_mut().filter(|one| one.is_ahead_of(reader));
    ahead.into_iter().try_for_each(|one| one.pass_on(end, reader))
}

impl Kept {
    /// Whether the reader doesn't have all of it yet.
    fn is_ahead_of(&self, reader: u64) -> bool {
        self.reader != reader || self.taken.as_ref().is_some_and(Taken::has_more)
    }

    /// Hands it to a reader, and what was taken of it, as much as there is room for.
    fn pass_on(&mut self, end: &UnixDatagram, reader: u64) -> Result<(), Errno> {
        if self.reader != reader {
            hand_over(end, self.stream.as_fd(), self.ns, self.taken.is_some())?;
            self.reader = reader;
            if let Some(taken) = &mut self.taken {
                (taken.passed_on, taken.is_end_told) = (0, false);
            }
        }
        match &mut self.taken {
            Some(taken) => taken.pass_on(end, self.ns),
            None => Ok(()),
        }
    }

    /// Whether what comes is to be taken.
    fn is_to_be_taken(&self) -> bool {
        let fits = |taken: &Taken| taken.octets.len() <= NOTIFICATION_OCTETS_MAX;
        self.taken.as_ref().is_some_and(|taken| !taken.is_over && fits(taken))
    }

    /// Takes what is there, where that is to be.
    fn take(&mut self) {
        if !self.is_to_be_taken() {
            return;
        }
        let mut part = vec![0; PART_OCTETS];
        while self.is_to_be_taken()
            && let Some(taken) = &mut self.taken
        {
            match recv(&self.stream, &mut part[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => taken.is_over = true,
                Ok((_, count)) => taken.octets.extend(part.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => taken.is_over = true,
            }
        }
    }
}

impl Taken {
    fn has_more(&self) -> bool {
        self.passed_on < self.octets.len() || self.is_over != self.is_end_told
    }

    fn pass_on(&mut self, end: &UnixDatagram, ns: u64) -> Result<(), Errno> {
        while self.has_more() {
            let rest = self.octets.get(self.passed_on..).unwrap_or_default();
            // Nothing, where no more comes.
            let part = rest.get(..PART_OCTETS).unwrap_or(rest);
            say(end, PART, ns, part)?;
            self.passed_on += part.len();
            self.is_end_told = part.is_empty();
        }
        Ok(())
    }
}

/// Accepts who came. Where it is noted who is open, that is done before, and for one at a time: one
/// who waits is there.
fn accept(
    entrance: &mut Entrance,
    kept: &mut Vec<Kept>,
    last_ns: &mut u64,
    mut open: Option<&mut OpenList>,
) {
    while kept.len() < KEPT_MAX && !entrance.is_empty() {
        *last_ns = now_ns().max(last_ns.saturating_add(1));
        let ns = *last_ns;
        if let Some(open) = &mut open {
            open.note(kept.iter().map(|one| one.ns).chain([ns]));
        }
        match entrance.accept() {
            Ok(Some(stream)) => {
                kept.push(Kept { stream, ns, reader: 0, taken: None });
                if open.is_some() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                // Such as no file descriptor left; whoever waits goes on waiting.
                warn!(%error, "a connection of Cyrus's can't be accepted");
                std::thread::sleep(PAUSE);
                return;
            }
        }
    }
}

/// Answers those whom the reader has an answer for, and lets go of them. Nobody else says when:
/// whoever went may have left a notification that only the next reader reads. Says whether the
/// reader has told what was left open.
fn answer(end: &UnixDatagram, kept: &mut Vec<Kept>) -> bool {
    let mut octets = [0; ANSWER_OCTETS_MAX];
    let mut is_told = false;
    while let Ok((_, length)) = recv(end, &mut octets[..], RecvFlags::DONTWAIT) {
        let Some((ns, said)) = octets.get(..length).and_then(<[u8]>::split_first_chunk) else {
            continue;
        };
        let ns = u64::from_be_bytes(*ns);
        is_told |= said == TOLD;
        let Some(at) = kept.iter().position(|one| one.ns == ns) else { continue };
        if said == TAKE {
            if let Some(one) = kept.get_mut(at) {
                one.taken.get_or_insert_default();
            }
            continue;
        }
        let Kept { stream, .. } = kept.swap_remove(at);
        // Who doesn't wait for the answer doesn't want it.
        let _sent = send(&stream, said, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        // What was only looked at is taken: else the end would look like an error.
        let mut rest = vec![0; REST_OCTETS];
        for _ in 0..REST_MAX {
            match recv(&stream, &mut rest[..], RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                _ => break,
            }
        }
    }
    is_told
}

/// Octets of an answer, with whom it is for.
const ANSWER_OCTETS_MAX: usize = 64;

/// How much that was only looked at is taken at once, and how often: all the kernel has room for.
const REST_OCTETS: usize = 64 * 1024;
const REST_MAX: usize = 16;

/// Connections kept at once; more wait in the kernel. Each of Cyrus's processes has one.
const KEPT_MAX: usize = 256;

/// Before it is tried again to accept, or to hand over.
const PAUSE: Duration = Duration::from_millis(100);
