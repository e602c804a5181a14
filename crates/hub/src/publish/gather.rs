//! Many small requests become few journal batches.
//!
//! A request that journalled its one event for itself would cost a batch in the journal and a
//! wake-up from the journal's thread. Here whatever has come by the time the journal can take
//! more goes together: no timer, and nobody waits for company.

use std::collections::VecDeque;
use std::sync::Arc;

use postbell_journal::{AppendError, Appended, Entry, Verdict};
use tokio::sync::{mpsc, oneshot};

use super::{Pending, Publishers};

/// What the journal says to the entries of one request: a verdict each, or why none was taken.
type Answer = Result<Appended, AppendError>;

/// Takes the entries of requests; cheap to clone. Its task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Gatherer(mpsc::Sender<Asked>);

/// One request's entries, and who waits for what becomes of them. Most requests have one.
#[derive(Debug)]
enum Asked {
    One(Entry, oneshot::Sender<Result<Verdict, AppendError>>),
    Many(Vec<Entry>, oneshot::Sender<Answer>),
}

/// Who waits for a verdict, or for that many.
#[derive(Debug)]
enum Waiting {
    One(oneshot::Sender<Result<Verdict, AppendError>>),
    Many(usize, oneshot::Sender<Answer>),
}

/// A batch on its way, and who waits for it in the order of its entries.
struct InFlight {
    waiting: Vec<Waiting>,
    pending: Pending,
}

impl Gatherer {
    /// Starts gathering for `publishers`.
    pub(crate) fn start(publishers: Arc<Publishers>) -> Self {
        let (sender, receiver) = mpsc::channel(ASKED_MAX);
        tokio::spawn(gather(publishers, receiver));
        Self(sender)
    }

    /// Journals a request's entries, all or none, and says what became of each.
    pub(crate) async fn append(&self, entries: Vec<Entry>) -> Answer {
        let (answer, told) = oneshot::channel();
        self.ask(Asked::Many(entries, answer)).await?;
        told.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Journals a request's only entry and says what became of it.
    pub(crate) async fn append_one(&self, entry: Entry) -> Result<Verdict, AppendError> {
        let (answer, told) = oneshot::channel();
        self.ask(Asked::One(entry, answer)).await?;
        told.await.unwrap_or(Err(AppendError::Closed))
    }

    async fn ask(&self, asked: Asked) -> Result<(), AppendError> {
        self.0.send(asked).await.map_err(|_| AppendError::Closed)
    }
}

async fn gather(publishers: Arc<Publishers>, mut receiver: mpsc::Receiver<Asked>) {
    let mut asked = Vec::new();
    let mut octets = 0;
    let mut in_flight = VecDeque::new();
    loop {
        // What is less than a block may yet grow while the journal is busy anyway.
        let is_due =
            in_flight.is_empty() || (is_block(&asked, octets) && in_flight.len() < IN_FLIGHT_MAX);
        if is_due && !asked.is_empty() {
            gather_more(&mut receiver, &mut asked, octets).await;
            in_flight.push_back(hand_over(&publishers, &mut asked).await);
            octets = asked.iter().map(Asked::octets).sum();
            continue;
        }
        let before = asked.len();
        let room = ASKED_MAX.saturating_sub(before);
        tokio::select! {
            biased;
            result = answered(&mut in_flight) => {
                if let Some(batch) = in_flight.pop_front() {
                    tell(batch.waiting, result);
                }
            }
            count = receiver.recv_many(&mut asked, room), if room > 0 => {
                if count == 0 {
                    break;
                }
                octets += asked.iter().skip(before).map(Asked::octets).sum::<usize>();
            }
        }
    }
    // Nobody asks any more, and nobody waits for what is still under way.
}

/// Whether there is so much that more would make a commit no cheaper.
fn is_block(asked: &[Asked], octets: usize) -> bool {
    asked.len() >= BLOCK_REQUESTS || octets >= BLOCK_OCTETS
}

/// Takes in what connections that are ready ask meanwhile: turn by turn, until one brings
/// nothing or there is enough. A commit costs the same for one and for hundreds.
async fn gather_more(
    receiver: &mut mpsc::Receiver<Asked>,
    asked: &mut Vec<Asked>,
    mut octets: usize,
) {
    for _ in 0..TURNS_MAX {
        if is_block(asked, octets) {
            return;
        }
        let before = asked.len();
        tokio::task::yield_now().await;
        while asked.len() < ASKED_MAX
            && let Ok(one) = receiver.try_recv()
        {
            octets += one.octets();
            asked.push(one);
        }
        if asked.len() == before {
            return;
        }
    }
}

/// What the journal says to the oldest batch; nothing, ever, where there is none.
async fn answered(in_flight: &mut VecDeque<InFlight>) -> Answer {
    match in_flight.front_mut() {
        Some(batch) => (&mut batch.pending).await.unwrap_or(Err(AppendError::Closed)),
        None => std::future::pending().await,
    }
}

/// Hands as much as one batch may hold to the journal, in the order it came.
async fn hand_over(publishers: &Publishers, asked: &mut Vec<Asked>) -> InFlight {
    let mut octets = 0;
    let fitting = asked.iter().take_while(|one| {
        let before = octets;
        octets += one.octets();
        before < BATCH_OCTETS
    });
    let fitting = fitting.count();
    let mut entries = Vec::with_capacity(fitting);
    let mut waiting = Vec::with_capacity(fitting);
    for one in asked.drain(..fitting) {
        match one {
            Asked::One(entry, answer) => {
                entries.push(entry);
                waiting.push(Waiting::One(answer));
            }
            Asked::Many(many, answer) => {
                waiting.push(Waiting::Many(many.len(), answer));
                entries.extend(many);
            }
        }
    }
    InFlight { waiting, pending: publishers.submit(entries).await }
}

impl Asked {
    fn octets(&self) -> usize {
        match self {
            Self::One(entry, _) => entry.body.len(),
            Self::Many(entries, _) => entries.iter().map(|entry| entry.body.len()).sum(),
        }
    }
}

/// Gives everybody their part. Who has gone away is not waiting for it.
fn tell(waiting: Vec<Waiting>, result: Answer) {
    match result {
        Ok(appended) => {
            let mut verdicts = appended.verdicts.into_iter();
            for one in waiting {
                match one {
                    Waiting::One(answer) => {
                        drop(answer.send(verdicts.next().ok_or(AppendError::Closed)));
                    }
                    Waiting::Many(count, answer) => {
                        let verdicts = verdicts.by_ref().take(count).collect();
                        drop(answer.send(Ok(Appended { verdicts })));
                    }
                }
            }
        }
        Err(error) => {
            for one in waiting {
                match one {
                    Waiting::One(answer) => drop(answer.send(Err(error.clone()))),
                    Waiting::Many(_, answer) => drop(answer.send(Err(error.clone()))),
                }
            }
        }
    }
}

/// Requests waiting to be handed over; beyond, the next ones wait where they are.
const ASKED_MAX: usize = 1_024;

/// Requests that are worth a batch of their own while another is being written: what the journal
/// puts in a block.
const BLOCK_REQUESTS: usize = 256;

/// Octets of events that are.
const BLOCK_OCTETS: usize = 256 * 1024;

/// Turns that connections have at most before what they asked is handed over, so that a steady
/// trickle holds nobody up.
const TURNS_MAX: usize = 64;

/// Octets after which a batch is closed. Larger ones compress no better, and a request among
/// large ones would wait for all of them.
const BATCH_OCTETS: usize = 1024 * 1024;

/// Batches the journal has at once: one being written, one being made ready meanwhile.
const IN_FLIGHT_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::pretend::{PretendJournal, full};
    use postbell_engine::{Policy, Stores};
    use postbell_journal::{Journal as _, Options, Seq, SqliteJournal, Verdict};
    use postbell_sources::Health;

    fn publishers(journal: Arc<dyn postbell_journal::Journal>) -> Arc<Publishers> {
        let metrics = Metrics::new().source("publish");
        Arc::new(Publishers::new(journal, Policy::default(), metrics, Health::new()))
    }

    fn entries(publishers: &Publishers, uids: std::ops::Range<u32>) -> Vec<Entry> {
        uids.map(|uid| {
            let json = format!(
                r#"{{"event":"MessageAppend","uri":"imap://a@h/B;UIDVALIDITY=1/;UID={}","timestamp":"2026-08-20T12:00:00+00:00","user":"a"}}"#,
                uid + 1
            );
            publishers.admit(&Stores::any(), json.into(), None).unwrap().entry
        })
        .collect()
    }

    #[tokio::test]
    async fn everyone_gets_the_verdicts_on_their_own_entries() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteJournal::open(folder.path(), Options::default()).unwrap());
        let publishers = publishers(Arc::clone(&journal) as _);
        let gatherer = Gatherer::start(Arc::clone(&publishers));
        let asking: Vec<_> = (0..200_u32)
            .map(|at| {
                let own = entries(&publishers, at * 3..at * 3 + 1 + at % 3);
                let gatherer = gatherer.clone();
                tokio::spawn(
                    async move { (own.clone(), gatherer.append(own).await.unwrap().verdicts) },
                )
            })
            .collect();
        let mut seen = 0;
        for asking in asking {
            let (own, verdicts) = asking.await.unwrap();
            assert_eq!(own.len(), verdicts.len());
            for (entry, verdict) in own.iter().zip(&verdicts) {
                let Verdict::New(seq) = *verdict else { panic!("{verdict:?}") };
                let records = journal.read(seq, 1).unwrap();
                assert_eq!(records.iter().next().unwrap().body, &entry.body[..]);
                seen += 1;
            }
        }
        assert_eq!(journal.bounds().last, Seq(seen));
    }

    #[tokio::test]
    async fn what_refuses_a_batch_refuses_everyone_in_it_and_nobody_after() {
        let publishers = publishers(Arc::new(PretendJournal::refusing(vec![full()])));
        let gatherer = Gatherer::start(Arc::clone(&publishers));
        let (one, other) = (entries(&publishers, 0..1), entries(&publishers, 1..3));
        let (one, other) = tokio::join!(gatherer.append(one), gatherer.append(other));
        assert_eq!((one, other), (Err(full()), Err(full())));
        let again = gatherer.append(entries(&publishers, 0..1)).await;
        assert_eq!(again.map(|appended| appended.verdicts.len()), Ok(1));
    }

    #[tokio::test]
    async fn who_goes_away_takes_nobodys_answer_along() {
        let publishers = publishers(Arc::new(PretendJournal::refusing(Vec::new())));
        let gatherer = Gatherer::start(Arc::clone(&publishers));
        let gone = entries(&publishers, 0..1);
        let leaving = tokio::spawn({
            let gatherer = gatherer.clone();
            async move { gatherer.append(gone).await }
        });
        tokio::task::yield_now().await;
        leaving.abort();
        let stays = gatherer.append(entries(&publishers, 1..3)).await;
        assert_eq!(stays.map(|appended| appended.verdicts.len()), Ok(2));
    }
}
