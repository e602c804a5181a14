//! Subscriptions changed: held, let go on, given another secret, begun anew, forgotten.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use postbell_sinks::webhook::Secret;
use tracing::debug;

use super::entry::{Entry, Stop};
use super::kept::{Kept, Owner, Previous};
use super::make::{CreateError, invalid, made};
use super::worker::Cursors;
use super::{Begin, Rotation, Shown, Signature, SubscriptionState, Subscriptions, stop};
use crate::access::Grant;
use crate::state::StateError;

impl Subscriptions {
    /// Holds one; `None` where there is none. Nothing is attempted any more once this returns;
    /// one that has ended stays so.
    pub(crate) async fn pause(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, CreateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        stop(&entry, Stop::Gently).await;
        let is_over =
            matches!(entry.kept().state, SubscriptionState::Disabled | SubscriptionState::Ended);
        let as_it_is = entry.kept().clone();
        if !is_over && let Err(error) = self.keep(&entry, as_it_is, SubscriptionState::Paused).await
        {
            // It isn't held, so it goes on.
            self.start(&entry).await;
            return Err(error.into());
        }
        Ok(Some(self.shown(&entry)))
    }

    /// Lets one go on where it stood, also one that had ended.
    pub(crate) async fn resume(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, CreateError> {
        self.prepare(grant, name_or_id, Owner::of(grant).as_ref()).await;
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        let kept = entry.kept().clone();
        if kept.is_expired(jiff::Timestamp::now()) {
            return Err(CreateError::Expired(kept.expires().unwrap_or_default()));
        }
        if kept.state != kept.awake() || self.grant(&kept).is_none() {
            stop(&entry, Stop::Gently).await;
            let mut changed = entry.kept().clone();
            // Whoever else resumes it lends no token: it stays its owner's.
            changed.owner = Owner::of(grant).or(changed.owner);
            let ready = self.ready(&entry, &changed.selection, self.role(&changed)).await;
            let held = self.0.demands.hold(ready.demand).await;
            let awake = changed.awake();
            self.keep(&entry, changed, awake).await?;
            entry.wants(held);
            self.start(&entry).await;
        }
        Ok(Some(self.shown(&entry)))
    }

    /// Gives one another secret, which the answer alone holds; deliveries are signed with the one
    /// before as well for a while. `None` where there is none such.
    pub(crate) async fn rotate(
        &self,
        grant: &Grant,
        name_or_id: &str,
        rotation: Rotation,
    ) -> Result<Option<Shown>, CreateError> {
        let overlap = rotation.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
        if overlap > OVERLAP_SECONDS_MAX {
            let message = format!("at most {OVERLAP_SECONDS_MAX} seconds");
            return Err(invalid("/overlapSeconds", message));
        }
        let given = rotation.secret.map(|text| Secret::parse(&text)).transpose();
        let given = given.map_err(|error| invalid("/secret", error))?;
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        // What its worker has to say of it comes first.
        stop(&entry, Stop::Gently).await;
        let mut changed = entry.kept().clone();
        let is_pair = Secret::parse(&changed.secret).is_ok_and(|secret| secret.public().is_some());
        let secret = match given {
            Some(secret) => Ok(secret),
            None => made(if is_pair { Signature::V1a } else { Signature::V1 }),
        };
        let rotated = match secret {
            Ok(secret) => {
                let until = jiff::Timestamp::now().as_second().saturating_add_unsigned(overlap);
                let previous = std::mem::replace(&mut changed.secret, secret.reveal());
                changed.previous = (overlap > 0).then_some(Previous { secret: previous, until });
                self.store(&entry, changed).await.map(|()| secret)
            }
            Err(error) => Err(error),
        };
        self.start(&entry).await;
        let secret = rotated?;
        let mut shown = self.shown(&entry);
        shown.sink.tell(&secret);
        Ok(Some(shown))
    }

    /// Has one deliver anew from there on, or leave out what it hadn't come to; `None` where there is
    /// none such. One that is held or has ended stays so.
    pub(crate) async fn replay(
        &self,
        grant: &Grant,
        name_or_id: &str,
        begin: Begin,
    ) -> Result<Option<Shown>, CreateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        let start = self.start_of(&begin).await?;
        stop(&entry, Stop::Gently).await;
        let before = entry.cursors();
        let mut changed = entry.kept().clone();
        (changed.begin, changed.start) = (begin, start);
        changed.begun_anew = changed.begun_anew.wrapping_add(1);
        if let Some(grant) = self.grant(&changed) {
            changed.losses = self.0.sharing.of(grant.principal()).losses();
        }
        // With this it begins there, whatever becomes of the cursors.
        let begun = self.store(&entry, changed).await;
        if begun.is_ok() {
            self.forget_cursors(&before);
            let live = &entry.live;
            live.cursor.store(start, Ordering::Relaxed);
            live.is_fresh.store(true, Ordering::Relaxed);
            live.last_delivered.store(0, Ordering::Relaxed);
            live.set_last_error(None);
        }
        self.start(&entry).await;
        begun?;
        Ok(Some(self.shown(&entry)))
    }

    /// Forgets one and its dead letters; the answer is how it stood. What can't be forgotten goes on.
    pub(crate) async fn remove(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, CreateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        let shown = self.shown(&entry);
        self.forget(&entry).await?;
        Ok(Some(shown))
    }

    /// Stops one and forgets it, or has it go on; for whoever holds `changing`.
    pub(super) async fn forget(&self, entry: &Arc<Entry>) -> Result<(), StateError> {
        stop(entry, Stop::AtOnce).await;
        let id = entry.id.clone();
        if let Err(error) = self.0.context.blocking(move |db| db.remove(&id)).await {
            self.start(entry).await;
            return Err(error);
        }
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|one| one.id != entry.id);
        drop(entries);
        self.forget_cursors(&entry.cursors());
        Ok(())
    }

    /// Forgets cursors that are of no use any more.
    fn forget_cursors(&self, cursors: &Cursors) {
        if let Err(error) = cursors.forget(self.0.context.feed.journal().as_ref()) {
            // Their names never come again, so what is left of them costs a few octets and no more.
            debug!(%error, "cursors of no use any more were left");
        }
    }

    async fn keep(
        &self,
        entry: &Entry,
        mut changed: Kept,
        state: SubscriptionState,
    ) -> Result<(), StateError> {
        changed.state = state;
        changed.detail = None;
        // Who lets it go on believes that its receiver is back.
        if state != SubscriptionState::Paused {
            changed.failing_since_unix_millis = None;
        }
        self.store(entry, changed).await?;
        entry.live.set_trouble(None);
        Ok(())
    }

    pub(super) async fn store(&self, entry: &Entry, changed: Kept) -> Result<(), StateError> {
        let (id, body) = (entry.id.clone(), changed.body());
        self.0.context.blocking(move |db| db.update(&id, &body)).await?;
        // Only what is stored is shown.
        *entry.kept() = changed;
        Ok(())
    }
}

/// How long the secret before holds: a day, for a receiver that is told by hand.
const OVERLAP_SECONDS: u64 = 24 * 3600;

/// A secret that is to be replaced shouldn't hold for ever.
const OVERLAP_SECONDS_MAX: u64 = 30 * 24 * 3600;
