//! Who is concerned by a record: asked once, on all readers' behalf.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt as _;
use postbell_engine::{Filter, Index, Keys, View};
use postbell_journal::Records;
use slab::Slab;
use tracing::error;

use super::trail::{Look, Trail};
use super::{Reader, Step};
use crate::lock::locked;

/// Reads each record once, asks an index which readers it may concern, and notes it for those.
///
/// Readers whom nothing concerns are neither asked nor woken, however many they are. Whoever has
/// fallen behind, or joins, reads the journal itself until it has come to where its trail is
/// whole; so nobody waits for anybody.
#[derive(Debug)]
pub(super) struct Guide {
    book: Mutex<Book>,
    /// The last record looked at. It moves while the book is held, so that who joins knows from
    /// where on its trail is whole.
    upto: Arc<AtomicU64>,
}

/// Who reads, and what.
#[derive(Debug, Default)]
struct Book {
    index: Index,
    trails: Slab<Arc<Trail>>,
}

/// A reader's place with the guide, as long as it is held.
#[derive(Debug)]
pub(crate) struct Seat {
    guide: Arc<Guide>,
    /// Its filters as they stand in the index, by their keys.
    places: Mutex<Vec<(usize, Filter)>>,
    trail: Arc<Trail>,
}

impl Guide {
    /// One that will look at what comes after `upto`.
    pub(super) fn new(upto: u64) -> Arc<Self> {
        Arc::new(Self { book: Mutex::default(), upto: Arc::new(AtomicU64::new(upto)) })
    }

    /// Has it begin after another record; nobody may have joined yet.
    pub(super) fn stand_at(&self, upto: u64) {
        self.upto.store(upto, Ordering::Release);
    }

    /// The last record looked at.
    pub(super) fn upto(&self) -> u64 {
        self.upto.load(Ordering::Acquire)
    }

    /// Whether nobody has a place.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let book = self.book();
        book.trails.is_empty() && book.index.is_empty()
    }

    /// Gives a place to a reader whom what one of the filters lets through may concern, conditions
    /// aside, and who wants nothing up to `done`.
    pub(super) fn join(self: &Arc<Self>, filters: Vec<Filter>, done: u64) -> Seat {
        let mut book = self.book();
        let trail = Arc::new(Trail::new(self.upto().max(done), Arc::clone(&self.upto)));
        let places = Mutex::new(book.insert(filters, &trail));
        drop(book);
        Seat { guide: Arc::clone(self), places, trail }
    }

    /// Looks at whatever comes, for ever.
    pub(super) async fn lead(self: Arc<Self>, reader: impl Fn(u64) -> Reader) {
        let mut known = None;
        loop {
            let reader = reader(self.upto() + 1);
            let led = AssertUnwindSafe(self.follow(reader)).catch_unwind().await;
            // Everybody is to see for themselves, and tells whoever runs the hub.
            let next = self.upto() + 1;
            let (why, upto) = match led {
                Ok(why) => (why, self.upto()),
                // What is behind it can still be looked at.
                Err(_) => ("looking at a record panicked".to_owned(), next),
            };
            if known.as_ref() != Some(&why) {
                error!(seq = next, error = %why, "whom a record concerns can't be found out; each reader looks itself");
                known = Some(why);
            }
            self.note_for_all(next, upto);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks at what comes; the answer is why it can't go on.
    async fn follow(&self, mut reader: Reader) -> String {
        loop {
            reader.more().await;
            if self.pass_over(reader.newest()) {
                reader.seek(self.upto() + 1);
                continue;
            }
            match reader.try_next().await {
                Ok(None) => {}
                Ok(Some(Step::Records(records))) => self.records(&records).await,
                // Reading it, each finds the gap.
                Ok(Some(Step::Gap(gap))) => self.note_for_all(gap.from, gap.to),
                Err(error) => return postbell_engine::in_words(&error),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Goes on to `last` where nobody has joined; whether that is so.
    fn pass_over(&self, last: u64) -> bool {
        let book = self.book();
        let is_empty = book.trails.is_empty();
        if is_empty {
            self.upto.fetch_max(last, Ordering::AcqRel);
        }
        drop(book);
        is_empty
    }

    /// Notes records for whom they may concern.
    async fn records(&self, records: &Records) {
        let mut records = records.iter().peekable();
        let (mut views, mut wakers) = (Vec::new(), Vec::new());
        while let Some(first) = records.peek().map(|first| first.seq.0) {
            views.clear();
            let some = records.by_ref().take(VIEWS_AT_ONCE);
            views.extend(some.map(|record| Keys::from_head(record.head).view(record.body)));
            let mut done = 0;
            while let Some(rest) = views.get(done..).filter(|rest| !rest.is_empty()) {
                let (looked, told) = self.views(first + done as u64, rest, &mut wakers);
                done += looked.max(1);
                // Not while the book is held: nobody knows what a waker does.
                wakers.drain(..).for_each(Waker::wake);
                if told >= TOLD_AT_ONCE {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Notes consecutive records, the first of which is `first`, until many are told; `wakers` are
    /// then to be woken. The answer is how many records that were, and how many notes.
    fn views(&self, first: u64, views: &[View<'_>], wakers: &mut Vec<Waker>) -> (usize, usize) {
        let told = Cell::new(0);
        let book = self.book();
        let tell = |place, id| {
            told.set(told.get() + 1);
            let trail = usize::try_from(id).ok().and_then(|key| book.trails.get(key));
            wakers.extend(trail.and_then(|trail| trail.note(first + place as u64)));
        };
        let go_on = || told.get() < TOLD_AT_ONCE;
        let looked = book.index.for_each_match_while(views, tell, go_on);
        self.upto.store((first + looked as u64).saturating_sub(1), Ordering::Release);
        (looked, told.get())
    }

    /// Has everybody look at record `seq`, and counts as having looked up to `upto` itself.
    fn note_for_all(&self, seq: u64, upto: u64) {
        let book = self.book();
        let trails = book.trails.iter();
        let wakers: Vec<_> = trails.filter_map(|(_, trail)| trail.note(seq)).collect();
        self.upto.fetch_max(upto, Ordering::AcqRel);
        drop(book);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What is guarded is whole between any two steps.
    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }
}

impl Book {
    fn insert(&mut self, filters: Vec<Filter>, trail: &Arc<Trail>) -> Vec<(usize, Filter)> {
        let insert = |filter| {
            let key = self.trails.insert(Arc::clone(trail));
            self.index.insert(id(key), &filter);
            (key, filter)
        };
        filters.into_iter().map(insert).collect()
    }

    fn remove(&mut self, places: &mut Vec<(usize, Filter)>) {
        for (key, filter) in places.drain(..) {
            self.index.remove(id(key), &filter);
            self.trails.try_remove(key);
        }
    }
}

impl Seat {
    /// How far a reader has got that has nothing to do behind `done`.
    pub(crate) fn reached(&self, done: u64) -> u64 {
        self.trail.reached(done)
    }

    /// Up to where the guide has looked.
    pub(crate) fn led_upto(&self) -> u64 {
        self.guide.upto()
    }

    /// Is told from here on of what other filters let through.
    pub(crate) fn refilter(&self, filters: Vec<Filter>) {
        self.exchange(&mut self.guide.book(), filters);
    }

    /// The same for filters that let through more: what came since the reader last took a step it
    /// looks at once more itself.
    pub(crate) fn widen(&self, filters: Vec<Filter>) {
        let mut book = self.guide.book();
        self.exchange(&mut book, filters);
        let waker = self.trail.forget(self.guide.upto());
        drop(book);
        waker.into_iter().for_each(Waker::wake);
    }

    fn exchange(&self, book: &mut Book, filters: Vec<Filter>) {
        let mut places = locked(&self.places);
        book.remove(&mut places);
        *places = book.insert(filters, &self.trail);
    }

    pub(super) fn look(&self, next: u64) -> Look {
        self.trail.look(next)
    }

    pub(super) async fn more(&self, next: u64) {
        self.trail.more(next).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut book = self.guide.book();
        let mut places = locked(&self.places);
        book.remove(&mut places);
    }
}

/// A place's number in the index: nobody has four milliards of them.
fn id(key: usize) -> u32 {
    u32::try_from(key).unwrap_or(u32::MAX)
}

/// After so many notes others have their turn: a quarter of a millisecond's work or so.
const TOLD_AT_ONCE: usize = 2_048;

/// Records looked at together, as long as few are told of them.
const VIEWS_AT_ONCE: usize = 64;

/// How long after a trouble it is tried again.
const PAUSE: Duration = Duration::from_secs(5);
