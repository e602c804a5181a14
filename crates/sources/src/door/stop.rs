//! A flag that also wakes whoever waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Asks a source to end. Cheap to clone; all clones are the same request.
///
/// Its file descriptor ([`AsFd`]) becomes readable once, and stays so, so that a thread that
/// polls other descriptors too can wait for both. Never read from it.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: AtomicBool,
    wake: OwnedFd,
}

impl Stop {
    /// A request nobody has made yet.
    ///
    /// # Errors
    ///
    /// Where the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { set: AtomicBool::new(false), wake })))
    }

    /// Makes the request, once and for all.
    pub fn set(&self) {
        if self.0.set.swap(true, Ordering::SeqCst) {
            return;
        }
        // Writing 1 to a counter that nobody else writes can't fail for want of room, and any
        // other failure means the descriptor is gone; the flag is set in any case.
        if let Err(error) = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes()) {
            tracing::error!(%error, "a source could not be woken to stop");
        }
    }

    /// Whether the request was made.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Waits until the request is made or `pause` has passed; says whether it was made.
    #[must_use]
    pub fn wait_timeout(&self, pause: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if self.is_set() {
                return true;
            }
            let Some(rest) = pause.checked_sub(begun.elapsed()).filter(|rest| !rest.is_zero())
            else {
                return false;
            };
            self.wait_beside(&[], rest);
        }
    }

    /// Waits until the request is made, one of `others` is readable, or `limit` has passed; it may
    /// also return for nothing.
    pub(crate) fn wait_beside(&self, others: &[BorrowedFd<'_>], limit: Duration) {
        let ends = std::iter::once(self.as_fd()).chain(others.iter().copied());
        let mut fds: Vec<_> =
            ends.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)).collect();
        match poll(&mut fds, Timespec::try_from(limit).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Poll itself is refused (no memory): be late rather than spin.
            Err(_) => std::thread::sleep(limit.min(Duration::from_millis(50))),
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_is_woken_at_once() {
        let stop = Stop::new().unwrap();
        let waiting = stop.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            (waiting.wait_timeout(Duration::from_secs(60)), begun.elapsed())
        });
        stop.set();
        let (set, elapsed) = thread.join().unwrap();
        assert!(set);
        assert!(elapsed < Duration::from_secs(30));
    }

    #[test]
    fn without_a_request_the_pause_passes() {
        let stop = Stop::new().unwrap();
        assert!(!stop.wait_timeout(Duration::from_millis(5)));
        stop.set();
        stop.set();
        assert!(stop.wait_timeout(Duration::ZERO));
        assert!(stop.clone().is_set());
    }
}
