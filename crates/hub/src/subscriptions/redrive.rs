//! Dead letters delivered again, because a person asked for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mail_event::EventId;
use postbell_engine::{Keys, Lanes, Next, Turn, in_words};
use postbell_journal::{ReadError, Seq};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::attempts::{Attempts, Concluded, Ended, Held, Whose};
use super::entry::{Entry, Stop};
use super::make::{CreateError, invalid};
use super::worker::{Job, TROUBLE_PAUSE};
use super::{Redrive, Shown, SubscriptionState, Subscriptions, disabled, stop};
use crate::access::Grant;
use crate::state::DeadLetter;

impl Subscriptions {
    /// Has dead letters of one delivered again, in order of their numbers and within each mailbox
    /// one at a time. Each is one until it is accepted, and stays one where it is given up anew. One
    /// that is held or has ended does it once it goes on. `None` where there is none such.
    pub(crate) async fn redrive(
        &self,
        grant: &Grant,
        name_or_id: &str,
        which: Redrive,
    ) -> Result<Option<Shown>, CreateError> {
        if which.all != which.seqs.is_empty() {
            return Err(invalid("/seqs", "either numbers of dead letters, or all of them"));
        }
        if which.seqs.len() > SEQS_MAX {
            return Err(invalid("/seqs", format!("at most {SEQS_MAX} numbers")));
        }
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        stop(&entry, Stop::Gently).await;
        let (id, seqs) = (entry.id.clone(), (!which.all).then_some(which.seqs.clone()));
        let marked = self.0.context.blocking(move |db| {
            let missing = db.mark_for_redrive(&id, seqs.as_deref())?;
            Ok((missing, db.dead_letter_counts(&id)?))
        });
        let marked = marked.await;
        if let Ok((_, counts)) = &marked {
            entry.live.count_letters(*counts);
        }
        self.start(&entry).await;
        if let (Some(missing), _) = marked? {
            let at = which.seqs.iter().position(|seq| *seq == missing).unwrap_or(0);
            let why = format!("there is no dead letter {missing}");
            return Err(invalid(&format!("/seqs/{at}"), why));
        }
        Ok(Some(self.shown(&entry)))
    }
}

/// Delivers again what is marked, until all of it is settled or the subscription is told to stop:
/// what is under way then is dropped, and comes again.
pub(super) async fn run(job: Arc<Job>, stop: watch::Sender<Stop>) {
    let mut told = stop.subscribe();
    let redriven = Redriver::new(&job).work();
    let over = job.grant.ended();
    let ended = tokio::select! {
        biased;
        // Whoever could say it being gone is as good as being told.
        _ = told.wait_for(|stop| *stop != Stop::No) => return,
        () = over => return,
        ended = redriven => ended,
    };
    if let Err(Over) = ended {
        stop.send_replace(Stop::Gently);
    }
}

/// The subscription delivers nothing any more.
struct Over;

/// Dead letters on their way once more.
struct Redriver<'a> {
    job: &'a Arc<Job>,
    attempts: Attempts<'a>,
    letters: HashMap<u64, DeadLetter>,
    /// The last one taken up.
    upto: u64,
    /// Whether there are none behind it.
    is_last: bool,
    /// Before the first that was left for later.
    aside: Option<u64>,
}

/// A letter as it was found.
enum Found {
    Whole(DeadLetter, Box<Held>),
    /// It can't be delivered, and why not.
    Not(DeadLetter),
    /// Nobody knows yet whether its owner may have it.
    Later,
}

impl<'a> Redriver<'a> {
    fn new(job: &'a Arc<Job>) -> Self {
        let context = &job.context;
        let lanes = Lanes::new(context.schedule.clone(), 0, None, job.lanes, LETTERS_HELD);
        let (attempts, letters) = (Attempts::new(job, lanes, None), HashMap::new());
        Self { job, attempts, letters, upto: 0, is_last: false, aside: None }
    }

    async fn work(mut self) -> Result<(), Over> {
        loop {
            self.take_up().await;
            // The worker beside it may have learnt that the receiver is gone.
            if self.job.entry.kept().state == SubscriptionState::Active {
                self.attempts.start();
            }
            if self.is_last && self.attempts.lanes.is_idle() {
                if let Some(before) = self.aside {
                    self.tell("the store can't be asked what others share".to_owned()).await;
                    self = Self { upto: before, ..Self::new(self.job) };
                    continue;
                }
                info!(subscription = %self.job.entry.label(), "all dead letters that were to be delivered again are settled");
                return Ok(());
            }
            let state = self.job.entry.kept().state;
            let is_over = matches!(state, SubscriptionState::Ended | SubscriptionState::Disabled);
            if is_over && self.attempts.is_empty() {
                return Err(Over);
            }
            let due = self.attempts.due().filter(|_| state == SubscriptionState::Active);
            let ended = tokio::select! {
                Some(ended) = self.attempts.next() => ended,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
                else => {
                    // A grant that is over starts nothing, and ends this at once.
                    tokio::time::sleep(TROUBLE_PAUSE).await;
                    continue;
                }
            };
            self.conclude(ended).await?;
        }
    }

    /// Reads more, where there is room.
    async fn take_up(&mut self) {
        while !self.is_last
            && self.attempts.has_room(usize::MAX)
            && self.letters.len() < LETTERS_HELD / 2
        {
            let (id, after) = (self.job.entry.id.clone(), self.upto);
            let letters = self
                .job
                .context
                .blocking(move |db| db.letters_to_redrive(&id, after, LETTERS_READ));
            let letters = match letters.await {
                Ok(letters) => letters,
                Err(error) => {
                    self.tell(in_words(&error)).await;
                    continue;
                }
            };
            self.is_last = letters.is_empty();
            let mut lost = Vec::new();
            for letter in letters {
                self.upto = letter.seq;
                match self.find(letter).await {
                    Found::Whole(letter, held) => {
                        let view = Keys::from_head(&held.head).view(&held.body);
                        let lane: Box<[u8]> = view.lane().into();
                        self.attempts.push(letter.seq, &lane, *held);
                        self.letters.insert(letter.seq, letter);
                    }
                    Found::Not(letter) => lost.push(letter),
                    Found::Later => {
                        self.aside.get_or_insert_with(|| self.upto.saturating_sub(1));
                    }
                }
            }
            self.settle(Vec::new(), lost).await;
        }
    }

    /// Looks for a letter's record, until the disk can be read.
    async fn find(&mut self, letter: DeadLetter) -> Found {
        loop {
            let journal = Arc::clone(self.job.context.feed.journal());
            let seq = Seq(letter.seq);
            let read = tokio::task::spawn_blocking(move || journal.read(seq, 1)).await;
            let read = read.unwrap_or_else(|error| {
                Err(ReadError::Unreadable { file: "journal".into(), source: Box::new(error) })
            });
            let records = match read {
                Ok(records) => records,
                Err(error @ ReadError::Unreadable { .. }) => {
                    self.tell(in_words(&error)).await;
                    continue;
                }
                Err(error) => return Found::Not(undeliverable(letter, in_words(&error))),
            };
            let Some(record) = records.iter().find(|record| record.seq == seq) else {
                return Found::Not(undeliverable(letter, "its record is not there".to_owned()));
            };
            let view = Keys::from_head(record.head).view(record.body);
            let id = EventId::from_u128(record.id.0);
            // A gap was told under the number of its last record, and is no record itself.
            if id.to_string() != letter.event_id {
                return Found::Not(undeliverable(letter, "it told of a gap: replay it".to_owned()));
            }
            let principal = self.job.grant.principal();
            let whose = match principal.may(&view, record.body) {
                true => Whose::Own,
                false => Whose::Others,
            };
            if whose == Whose::Others {
                let upto = self.job.context.feed.last();
                // All behind one that is left for later are: they go in order.
                let settled = match self.aside {
                    Some(_) => return Found::Later,
                    None => self.job.reads.settled(upto).await,
                };
                let Ok(settled) = settled else { return Found::Later };
                if !principal.may_with(&view, record.body, &settled.shared) {
                    let why = "its owner may not see it any more".to_owned();
                    return Found::Not(undeliverable(letter, why));
                }
            }
            let (head, body, prev_seq) = (*record.head, record.body.into(), letter.prev_seq);
            let held = Held { id, head, body, prev_seq, whose };
            return Found::Whole(letter, Box::new(held));
        }
    }

    async fn conclude(&mut self, ended: Ended) -> Result<(), Over> {
        let Concluded { attempt, next, turn, reason, .. } = self.attempts.conclude(ended);
        if turn != Turn::Same || next == Next::End {
            self.job.keep().await;
        }
        if turn == Turn::Hopeless {
            disabled::tell(self.job).await;
            return Err(Over);
        }
        let seq = attempt.seq;
        match next {
            Next::Done => {
                self.job.entry.live.redriven.fetch_add(1, Ordering::Relaxed);
                self.attempts.let_go(seq);
                self.letters.remove(&seq);
                self.settle(vec![seq], Vec::new()).await;
            }
            Next::TryAt(_) => {}
            Next::GiveUp => {
                warn!(subscription = %self.job.entry.label(), seq, %reason, "a dead letter was given up once more");
                self.attempts.let_go(seq);
                if let Some(letter) = self.letters.remove(&seq) {
                    let attempts = letter.attempts.saturating_add(attempt.number);
                    let letter = DeadLetter { attempts, ..letter };
                    self.settle(Vec::new(), vec![undeliverable(letter, reason)]).await;
                }
            }
            Next::End => return Err(Over),
        }
        Ok(())
    }

    /// Keeps how it ended with some, however long the disk takes no writing.
    async fn settle(&mut self, delivered: Vec<u64>, failed: Vec<DeadLetter>) {
        if delivered.is_empty() && failed.is_empty() {
            return;
        }
        let settled = Arc::new((delivered, failed));
        loop {
            let (id, all) = (self.job.entry.id.clone(), Arc::clone(&settled));
            let counts = self.job.context.blocking(move |db| {
                db.settle(&id, &all.0, &all.1)?;
                db.dead_letter_counts(&id)
            });
            match counts.await {
                Ok(counts) => {
                    self.job.entry.live.count_letters(counts);
                    self.job.entry.live.set_trouble(None);
                    return;
                }
                Err(error) => self.tell(in_words(&error)).await,
            }
        }
    }

    /// Says what is wrong, once, and waits before the next try.
    async fn tell(&mut self, why: String) {
        let entry: &Entry = &self.job.entry;
        if entry.live.set_trouble(Some(why.clone())) {
            error!(subscription = %entry.label(), error = %why, "dead letters can't be delivered again; it is tried again and again");
        }
        tokio::time::sleep(TROUBLE_PAUSE).await;
    }
}

/// A letter as it stays one, for this reason.
fn undeliverable(letter: DeadLetter, reason: String) -> DeadLetter {
    let at_unix_millis = jiff::Timestamp::now().as_millisecond();
    DeadLetter { at_unix_millis, reason, ..letter }
}

/// Numbers in one request at most; who means more means all.
const SEQS_MAX: usize = 1_000;

/// Letters held with their records at once: enough for all lanes, and little memory.
const LETTERS_HELD: usize = 64;

/// Letters read at once.
const LETTERS_READ: u32 = 16;
