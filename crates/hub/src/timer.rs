//! The timer of one HTTP connection: set anew for each request, and nearly free.
//!
//! Between requests hyper sets an alarm and drops it again when the next head is there. With
//! tokio's timers that is an entry and a removal in a wheel all threads share, for each request.
//! Here the entry stays, at the first deadline; only when that comes is the latest looked at, and
//! the entry moved there.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::lock::locked;

/// Tells hyper when a deadline of one connection has come. Of its alarms only one is awaited at
/// a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionTimer(Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

/// An alarm.
#[derive(Debug)]
struct Alarm {
    deadline: tokio::time::Instant,
    timer: ConnectionTimer,
}

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm { deadline: deadline.into(), timer: self.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Sleep for Alarm {}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut entry = locked(&self.timer.0);
        let entry = entry.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.deadline)));
        if entry.deadline() > self.deadline {
            entry.as_mut().reset(self.deadline);
        }
        while entry.as_mut().poll(context).is_ready() {
            if entry.deadline() == self.deadline {
                return Poll::Ready(());
            }
            // It stood at the deadline of an alarm that was dropped since.
            entry.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    async fn waited(alarm: Pin<Box<dyn Sleep>>) -> Duration {
        let begun = Instant::now();
        alarm.await;
        begun.elapsed()
    }

    /// Awaits an alarm, but not until it rings.
    fn set_and_drop(alarm: Pin<Box<dyn Sleep>>) {
        assert_eq!(alarm.now_or_never(), None);
    }

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn an_alarm_never_rings_at_the_deadline_of_an_earlier_one() {
        let timer = ConnectionTimer::default();
        set_and_drop(timer.sleep(SHORT));
        assert!(waited(timer.sleep(SHORT * 3)).await >= SHORT * 3);
        assert!(waited(timer.sleep(SHORT)).await >= SHORT);
    }

    #[tokio::test]
    async fn a_deadline_before_that_of_an_earlier_alarm_is_not_missed() {
        let timer = ConnectionTimer::default();
        set_and_drop(timer.sleep(LONG));
        let waited = waited(timer.sleep(SHORT)).await;
        assert!(waited >= SHORT && waited < LONG, "{waited:?}");
    }
}
