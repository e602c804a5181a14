//! Processor time, so that a server is charged for its own work and not for its client's.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What this whole process has spent so far.
pub(super) fn process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// What this process has spent since it had spent `before`, without what `others` are charged for,
/// some of which they may have spent earlier.
pub(super) fn since(before: Duration, others: Duration) -> Duration {
    process().saturating_sub(before).saturating_sub(others)
}

/// What this thread has spent so far.
pub(super) fn thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Runs `work` on a thread of its own and says what it spent beside what it gives.
pub(super) fn charged<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Charged<T> {
    Charged(std::thread::spawn(move || work().map(|value| (value, thread()))))
}

/// Work under way on a thread of its own.
#[derive(Debug)]
pub(super) struct Charged<T>(std::thread::JoinHandle<anyhow::Result<(T, Duration)>>);

impl<T> Charged<T> {
    /// Waits for its end: what it gave, and the processor time it took.
    pub(super) fn join(self) -> anyhow::Result<(T, Duration)> {
        self.0.join().map_err(|_| anyhow::anyhow!("a thread of the bench panicked"))?
    }
}

fn read(clock: ClockId) -> Duration {
    // Both clocks count up from zero; a negative one can't be.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_charged_for_its_own_work_only() {
        let busy = charged(|| {
            let until = thread() + Duration::from_millis(20);
            while thread() < until {}
            Ok(7)
        });
        let (value, spent) = busy.join().unwrap();
        assert_eq!(value, 7);
        assert!(spent >= Duration::from_millis(20), "{spent:?}");
        assert!(process() >= spent);
    }
}
