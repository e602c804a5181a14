//! What takes a processor for long, for one request: done beside everything else, and after it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;
use std::thread;

use postbell_engine::{Filter, InvalidSelection, Policy, Projection, Selection};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

/// Does `work` on the one thread that has less priority than all others of the hub, and waits for
/// it: one piece after the other, so that whoever asks for much waits for each other, while
/// deliveries and whoever publishes have the processors.
///
/// # Panics
///
/// Where `work` does.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tells, told) = oneshot::channel();
    let work: Work = Box::new(move || {
        // Who asked for it may be gone.
        drop(tells.send(catch_unwind(AssertUnwindSafe(work))));
    });
    match &*THREAD {
        Some(thread) => drop(thread.send(work).await),
        None => work(),
    }
    match told.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => resume_unwind(panic),
        // The thread ends with the process alone.
        Err(_) => std::future::pending().await,
    }
}

/// A selection checked and made ready for use; one with a condition takes a while.
pub(crate) async fn compiled(
    selection: &Selection,
    policy: &Policy,
) -> Result<(Filter, Projection), InvalidSelection> {
    if selection.condition.is_none() {
        return selection.compile(policy);
    }
    let (selection, policy) = (selection.clone(), policy.clone());
    aside(move || selection.compile(&policy)).await
}

type Work = Box<dyn FnOnce() + Send>;

/// None where the system gives no thread.
static THREAD: LazyLock<Option<mpsc::Sender<Work>>> = LazyLock::new(|| {
    let (sender, mut waiting) = mpsc::channel::<Work>(WAITING_MAX);
    let thread = thread::Builder::new().name("aside".to_owned()).spawn(move || {
        // In Linux each thread has a priority of its own.
        let own = rustix::process::getpriority_process(None);
        let less = own.and_then(|own| rustix::process::setpriority_process(None, own + NICER));
        if let Err(error) = less {
            debug!(%error, "what takes long has the priority of all else");
        }
        while let Some(work) = waiting.blocking_recv() {
            work();
        }
    });
    thread.is_ok().then_some(sender)
});

/// How much nicer than the hub it is.
const NICER: i32 = 10;

/// Pieces that wait, each of which holds a request's body at most; who comes then waits before.
const WAITING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r157_what_takes_long_is_done_on_a_thread_that_gives_way_to_the_others() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let there = || {
            (
                thread::current().name().map(str::to_owned),
                rustix::process::getpriority_process(None),
            )
        };
        let (name, priority) = aside(there).await;
        assert_eq!(name.as_deref(), Some("aside"));
        assert_eq!(priority.unwrap(), (own + NICER).min(19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
    }

    #[tokio::test]
    async fn a_piece_that_panics_does_so_for_whoever_asked_and_the_next_is_done() {
        let panics = tokio::spawn(aside(|| panic!("no")));
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(aside(|| 1).await, 1);
    }

    #[tokio::test]
    async fn who_asks_and_goes_away_keeps_nobody_else_waiting() {
        drop(tokio::spawn(aside(|| ())));
        let many = (0..100).map(|number| tokio::spawn(aside(move || number)));
        for (number, one) in many.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), number);
        }
    }
}
