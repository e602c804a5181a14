//! The threads that deliveries run on.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Threads of which each runs the workers given to it, and nothing else.
///
/// What a delivery waits for (its receiver's answer, the next record) comes hundreds of times a
/// second, and to have it change threads each time costs more than sending it does. And receivers,
/// however many, hold nobody up that publishes or reads.
#[derive(Debug)]
pub(super) struct DeliveryThreads {
    threads: Vec<DeliveryThread>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct DeliveryThread {
    runtime: Handle,
    /// Dropping it ends the thread.
    _ends: oneshot::Sender<()>,
}

impl DeliveryThreads {
    /// One for every two cores: the others have the journal, the publishers and the readers.
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores.div_ceil(2)).map(|_| DeliveryThread::start());
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, next: AtomicUsize::new(0) })
    }

    /// Runs a worker to its end on one of them, each in its turn.
    pub(super) fn spawn(
        &self,
        worker: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1);
        match self.threads.get(turn) {
            Some(thread) => thread.runtime.spawn(worker),
            None => tokio::spawn(worker),
        }
    }
}

impl DeliveryThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            // An error says that it is to end.
            runtime.block_on(ended).unwrap_or_default();
        })?;
        Ok(Self { runtime: handle, _ends: ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn workers_run_beside_the_hub_and_end_with_their_threads() {
        let threads = DeliveryThreads::start().unwrap();
        let names: Vec<_> = (0..8)
            .map(|_| {
                let (told, name) = oneshot::channel();
                let worker = threads.spawn(async {
                    let name = thread::current().name().map(str::to_owned);
                    told.send(name).unwrap();
                    std::future::pending::<()>().await;
                });
                (worker, name)
            })
            .collect();
        let mut workers = Vec::new();
        for (worker, name) in names {
            assert_eq!(name.await.unwrap().as_deref(), Some("deliveries"));
            workers.push(worker);
        }
        drop(threads);
        for worker in workers {
            assert!(worker.await.unwrap_err().is_cancelled());
        }
    }
}
