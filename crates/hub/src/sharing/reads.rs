//! What one principal reads of others.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use postbell_engine::{Filter, Principal, Shared};

use super::user::User;
use super::{Candidates, Inner, Times};
use crate::feed::{Feed, Seat};

/// What one principal reads of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads(Option<Of>);

#[derive(Clone, Debug)]
struct Of {
    inner: Arc<Inner>,
    user: Arc<User>,
    /// Held while a stream is open.
    present: Option<Arc<()>>,
    /// What was lost up to then counts for nothing.
    since: u64,
}

/// What the store has said, and nothing since that it is otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) shared: Arc<Shared>,
    changes: u64,
}

/// The store can't be asked at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unknown;

impl Reads {
    pub(super) fn of(inner: &Arc<Inner>, user: Arc<User>) -> Self {
        Self(Some(Of { inner: Arc::clone(inner), user, present: None, since: 0 }))
    }

    /// The same for a stream: as long as it is held, the store is asked often, so that what it doesn't
    /// say of itself is found before long.
    pub(crate) fn present(mut self) -> Self {
        if let Some(of) = &mut self.0 {
            of.present = Some(Arc::clone(&of.user.present));
            of.user.again.notify_one();
        }
        self
    }

    /// The same for whom nothing was to come out of what was lost [up to then](Self::losses).
    pub(crate) fn since(mut self, losses: u64) -> Self {
        if let Some(of) = &mut self.0 {
            of.since = losses;
        }
        self
    }

    /// The last time by now that anything ceased to be readable, as losses are counted.
    pub(crate) fn losses(&self) -> u64 {
        self.0.as_ref().map_or(0, |of| of.user.known.borrow().lost.last())
    }

    /// What may be read of others, once everything up to this record is taken into account. It waits
    /// for the store, but not for long: where there is no answer, nothing. Who reads nothing of
    /// others waits for nothing.
    pub(crate) async fn up_to(&self, seq: u64) -> Arc<Shared> {
        let Some(of) = &self.0 else { return Arc::clone(&NOTHING) };
        of.looked(seq).await;
        {
            let known = of.user.known.borrow();
            if !known.is_pending && known.shared.is_empty() {
                return Arc::clone(&NOTHING);
            }
        }
        self.whole(seq).await.map_or_else(|Unknown| Arc::clone(&NOTHING), |known| known.shared)
    }

    /// The same for whoever begins to read now.
    pub(crate) async fn begin(&self) -> Arc<Shared> {
        self.up_to(0).await
    }

    /// What may be read of others, once everything up to this record is taken into account, as the
    /// store said it a short while ago: otherwise it is asked.
    pub(crate) async fn settled(&self, seq: u64) -> Result<Settled, Unknown> {
        let Some(of) = &self.0 else {
            return Ok(Settled { shared: Arc::clone(&NOTHING), changes: 0 });
        };
        let patience = of.user.known.borrow().patience();
        let settled = async {
            of.looked(seq).await?;
            let mut known = of.user.known.subscribe();
            if known.borrow().is_stale() {
                of.user.again.notify_one();
            }
            let known = known.wait_for(|known| !known.is_stale()).await.ok()?;
            known
                .counts()
                .then(|| Settled { shared: Arc::clone(&known.shared), changes: known.changes })
        };
        let settled = tokio::time::timeout(patience, settled).await.ok().flatten();
        settled.or_else(|| of.lost()).ok_or(Unknown)
    }

    /// The same for whoever passes over the rest: with what an owner added by then.
    pub(crate) async fn whole(&self, seq: u64) -> Result<Settled, Unknown> {
        if let Some(of) = &self.0
            && of.looked(seq).await.is_some()
            && of.user.ask_for_more()
        {
            let patience = of.user.known.borrow().patience();
            let mut known = of.user.known.subscribe();
            // Without an answer what is known counts all the same. We hold the sender.
            let extended = known.wait_for(|known| !known.has_more);
            drop(tokio::time::timeout(patience, extended).await);
        }
        self.settled(seq).await
    }

    /// Waits until something says that rights may be others than they were.
    pub(crate) async fn doubted(&self, settled: &Settled) {
        let Some(of) = &self.0 else { return std::future::pending().await };
        let mut known = of.user.known.subscribe();
        // We hold the sender.
        drop(known.wait_for(|known| known.changes != settled.changes).await);
    }

    /// What may turn out to be readable of others, once everything up to this record is taken into
    /// account: as the store said it last, however long ago. Before anything of it is told, it is to be
    /// [settled](Self::settled).
    pub(crate) async fn candidates(&self, seq: u64) -> Candidates {
        let Some(of) = &self.0 else { return Candidates::default() };
        of.answered(seq).await;
        self.candidates_now(seq)
    }

    /// The same without waiting for anything.
    pub(crate) fn candidates_now(&self, seq: u64) -> Candidates {
        let Some(of) = &self.0 else { return Candidates::default() };
        of.user.candidates(seq, of.since, |used| of.inner.note_used(&of.user.name, used))
    }

    /// Up to where a reader may pass over what the guide didn't lead it to, of all up to this record:
    /// rights that are being asked about may lead it to more. It waits for that, but not for long.
    pub(crate) async fn passable(&self, seq: u64) -> u64 {
        let Some(of) = &self.0 else { return u64::MAX };
        while of.answered(seq).await {
            // It may have become pending once more.
            if let Some(bound) = self.bound() {
                return bound;
            }
        }
        u64::MAX
    }

    /// Up to where it is led to whatever it may read by now, without waiting; nothing where that is
    /// being asked.
    pub(crate) fn bound(&self) -> Option<u64> {
        let Some(of) = &self.0 else { return Some(u64::MAX) };
        // Before the other: whatever it has come upon makes that pending.
        let looked = *of.inner.looked.borrow();
        (!of.user.known.borrow().is_pending).then_some(looked)
    }

    /// What could be read of others, as the store said it last.
    pub(crate) fn known(&self) -> Arc<Shared> {
        let known = self.0.as_ref().map(|of| Arc::clone(&of.user.known.borrow().shared));
        known.unwrap_or_else(|| Arc::clone(&NOTHING))
    }

    /// After how long it is tried again to send what nobody knows whether it may be had.
    pub(crate) fn retry(&self) -> Duration {
        let times = self.0.as_ref().map_or(Times::STANDARD, |of| of.inner.times);
        times.retry
    }

    /// A place with the guide for a reader, who is woken for what others share as well, also where
    /// they begin or cease to. Nothing up to `done` is wanted.
    pub(crate) fn join(
        &self,
        feed: &Feed,
        filter: &Filter,
        principal: &Principal,
        done: u64,
    ) -> Arc<Seat> {
        match &self.0 {
            None => feed.join(vec![filter.of_users(principal.users())], done),
            Some(of) => of.user.join(filter, feed.led_upto(), |narrowed| feed.join(narrowed, done)),
        }
    }
}

#[cfg(test)]
impl Reads {
    /// Waits until whatever changes rights, of all up to this record, has made them unknown.
    pub(crate) async fn noticed(&self, seq: u64) {
        let Some(of) = &self.0 else { return };
        of.looked(seq).await.unwrap();
    }
}

impl Of {
    /// Waits until what changes rights was looked for up to this record.
    async fn looked(&self, seq: u64) -> Option<()> {
        let mut looked = self.inner.looked.subscribe();
        looked.wait_for(|looked| *looked >= seq).await.ok().map(drop)
    }

    /// Waits until the store has answered, or couldn't be asked, once everything up to this record is
    /// taken into account; whether that is so in time.
    async fn answered(&self, seq: u64) -> bool {
        let mut known = self.user.known.subscribe();
        let patience = known.borrow().patience();
        let answered = async {
            self.looked(seq).await?;
            known.wait_for(|known| !known.is_pending).await.ok().map(drop)
        };
        matches!(tokio::time::timeout(patience, answered).await, Ok(Some(())))
    }

    /// Nothing, where nobody waits for the store any more.
    fn lost(&self) -> Option<Settled> {
        let known = self.user.known.borrow();
        known.is_lost().then(|| Settled { shared: Arc::clone(&NOTHING), changes: known.changes })
    }
}

static NOTHING: LazyLock<Arc<Shared>> = LazyLock::new(Arc::default);
