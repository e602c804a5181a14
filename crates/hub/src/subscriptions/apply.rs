//! Subscriptions by name: made where there is none, changed where it is another, and otherwise left.

use std::sync::Arc;

use postbell_sinks::webhook::Secret;

use super::entry::Stop;
use super::kept::{Kept, Owner};
use super::make::{Checked, CreateError, made};
use super::{NewSubscription, Shown, Signature, SubscriptionState, Subscriptions, stop};
use crate::access::Grant;
use crate::state::StateError;

/// What was done to have a subscription as it is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Applied {
    /// There was none.
    Made,
    /// There was one, which is so now.
    There,
}

impl Subscriptions {
    /// Has a subscription of whoever is let in by `grant` be as `new` says, under the name it says.
    /// Said twice it is said once: where there is one already that is so, nothing happens.
    ///
    /// One that is changed goes on where it stood, and stays held or ended; but one that had
    /// expired goes on. `begin` holds only where one is made, and a secret that isn't given stays,
    /// as long as it is of the kind wanted. A secret that is made is in the answer.
    pub(crate) async fn apply(
        &self,
        new: NewSubscription,
        grant: &Grant,
    ) -> Result<(Applied, Shown), CreateError> {
        let wanted = self.checked(new, grant).await?;
        let _changing = self.0.changing.lock().await;
        let own = self.own(Owner::of(grant).as_ref());
        let entry = own.into_iter().find(|entry| entry.name == wanted.name);
        if entry.as_ref().is_some_and(|entry| entry.kept().command.is_some()) {
            return Err(CreateError::Configured(wanted.name));
        }
        let etag = entry.as_ref().map(|entry| entry.etag());
        if !self.1.is_met(etag.as_deref()) {
            return Err(CreateError::Changed(wanted.name));
        }
        let Some(entry) = entry else {
            return Ok((Applied::Made, self.make(wanted, grant).await?));
        };
        let is_so = {
            let kept = entry.kept();
            wanted.secret_for(&kept).is_none() && wanted.over(&kept, None) == *kept
        };
        if is_so {
            return Ok((Applied::There, self.shown(&entry)));
        }
        // What its worker has to say of it comes first.
        stop(&entry, Stop::Gently).await;
        let kept = entry.kept().clone();
        let held = self.0.demands.hold(wanted.ready.demand).await;
        let secret = wanted.secret_for(&kept).transpose();
        let stored = match &secret {
            Ok(secret) => self.store(&entry, wanted.over(&kept, secret.as_ref())).await,
            Err(_) => Ok(()),
        };
        if secret.is_ok() && stored.is_ok() {
            entry.set_ready(Arc::clone(&wanted.ready));
        }
        self.start(&entry).await;
        self.0.house.look();
        stored?;
        entry.wants(held);
        let mut shown = self.shown(&entry);
        if let Some(secret) = secret?.filter(|_| wanted.secret.is_none()) {
            shown.sink.tell(&secret);
        }
        Ok((Applied::There, shown))
    }
}

impl Checked {
    /// Another secret than the one kept, where one is wanted.
    fn secret_for(&self, kept: &Kept) -> Option<Result<Secret, StateError>> {
        if let Some(secret) = &self.secret {
            return (secret.reveal() != kept.secret).then(|| Ok(secret.clone()));
        }
        let is_pair = Secret::parse(&kept.secret).is_ok_and(|secret| secret.public().is_some());
        let is_fine = is_pair == (self.signature == Signature::V1a);
        (!is_fine).then(|| made(self.signature))
    }

    /// What is kept, with all that is wanted otherwise.
    fn over(&self, kept: &Kept, secret: Option<&Secret>) -> Kept {
        let mut changed = kept.clone();
        changed.selection = self.ready.selection.clone();
        // Another receiver has to agree for itself; the same one has, or needn't.
        let is_same = changed.url == self.url;
        changed.handshake = match (kept.handshake, self.handshake) {
            (Some(before), Some(_)) if is_same => Some(before),
            (None, Some(_)) if is_same && self.verify.is_none() => None,
            (_, wanted) => wanted,
        };
        changed.url = self.url.clone();
        changed.batch = self.batch.clone();
        changed.client_certificate = self.client_certificate.clone();
        if !is_same {
            changed.failing_since_unix_millis = None;
        }
        let is_expired = kept.is_expired(jiff::Timestamp::now());
        if matches!(kept.state, SubscriptionState::Active | SubscriptionState::Unverified)
            || is_expired
        {
            changed.state = changed.awake();
        }
        if is_expired {
            changed.detail = None;
        }
        changed.expires_unix_millis = self.expires;
        if let Some(secret) = secret {
            // Who sets a secret outright has it on both sides; `rotate` lets both hold for a while.
            changed.secret = secret.reveal();
            changed.previous = None;
        }
        changed
    }
}
