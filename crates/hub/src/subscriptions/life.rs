//! How long subscriptions live: they expire, are renewed, and are forgotten some time after.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{error, info};

use super::api::Renewal;
use super::entry::{Entry, Stop};
use super::make::{CreateError, invalid};
use super::{Condition, Shared, Shown, SubscriptionState, Subscriptions, joined, stop};
use crate::access::Grant;
use crate::config::parse_duration;
use crate::lock::locked;

/// The task that ends what has expired.
#[derive(Debug, Default)]
pub(super) struct House {
    task: OnceLock<AbortHandle>,
    /// When something ends may have changed.
    look: Arc<Notify>,
}

impl House {
    /// Has it look when something ends.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// Ends the task; for whoever holds `changing`, so that it is not in the middle of anything.
    pub(super) fn close(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Subscriptions {
    /// Has one go on until another time, also one that has expired: that goes on where it stood.
    /// `None` where there is none such.
    pub(crate) async fn renew(
        &self,
        grant: &Grant,
        name_or_id: &str,
        renewal: Renewal,
    ) -> Result<Option<Shown>, CreateError> {
        self.prepare(grant, name_or_id, None).await;
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry_to_change(grant, name_or_id)? else { return Ok(None) };
        let now = Timestamp::now();
        let expires = expiry(&renewal.expires, now).map_err(|error| invalid("/expires", error))?;
        // What its worker has to say of it comes first.
        stop(&entry, Stop::Gently).await;
        let mut changed = entry.kept().clone();
        if changed.is_expired(now) {
            changed.state = changed.awake();
            changed.detail = None;
        }
        changed.expires_unix_millis = expires;
        let ready = self.ready(&entry, &changed.selection, self.role(&changed)).await;
        let held = self.0.demands.hold(ready.demand).await;
        let stored = self.store(&entry, changed).await;
        entry.wants(held);
        self.start(&entry).await;
        self.0.house.look();
        stored?;
        Ok(Some(self.shown(&entry)))
    }

    /// Ends what has expired, now and from now on.
    pub(super) fn keep_house(&self) {
        let task = tokio::spawn(keep_house(Arc::downgrade(&self.0)));
        // Only the first is kept, and there is but one.
        self.0.house.task.get_or_init(|| task.abort_handle());
    }

    /// Ends what has expired by `now`, and forgets what has long ago; says when something comes
    /// next.
    pub(super) async fn expire(&self, now: Timestamp) -> Option<i64> {
        if self.due(now).next().is_some() {
            let _changing = self.0.changing.lock().await;
            let due: Vec<_> = self.due(now).collect();
            // All of them first, so that they wind down side by side.
            for entry in &due {
                if let Some(running) = &*locked(&entry.running) {
                    running.stop.send_replace(Stop::Gently);
                }
            }
            for entry in due {
                self.end_expired(&entry, now).await;
            }
        }
        let entries = self.entries();
        // Also those that came to their end by themselves.
        entries.iter().for_each(|entry| entry.let_go_if_ended());
        entries.iter().filter_map(|entry| next(entry)).min()
    }

    /// Those of which something has come to an end.
    fn due(&self, now: Timestamp) -> impl Iterator<Item = Arc<Entry>> {
        let is_due =
            move |entry: &Arc<Entry>| next(entry).is_some_and(|at| at <= now.as_millisecond());
        self.entries().into_iter().filter(is_due)
    }

    async fn end_expired(&self, entry: &Arc<Entry>, now: Timestamp) {
        let running = locked(&entry.running).take();
        if let Some(running) = running {
            joined(running).await;
        }
        // Winding down it may have come to its end by itself, and has its remains for a while.
        if next(entry).is_some_and(|at| at > now.as_millisecond()) {
            return;
        }
        let mut changed = entry.kept().clone();
        let done = if changed.state == SubscriptionState::Ended {
            info!(subscription = %entry.label(), "a subscription expired long ago and is removed");
            self.forget(entry).await
        } else {
            info!(subscription = %entry.label(), "a subscription has expired");
            let why = format!(
                "it expired at {}; unless it is renewed it is removed {} days later",
                changed.expires().unwrap_or_default(),
                KEPT_AFTER.as_secs() / 86_400
            );
            changed.end(why);
            self.store(entry, changed).await
        };
        if let Err(error) = done {
            // It delivers nothing all the same, also after a restart.
            let why = format!("it has expired at {now}, which can't be kept: {error}");
            if entry.live.set_trouble(Some(why)) {
                error!(subscription = %entry.label(), %error, "that a subscription has expired can't be kept");
            }
        }
    }
}

/// When something of a subscription comes to an end, in milliseconds since 1970: its time, and
/// once it has ended, its remains.
fn next(entry: &Entry) -> Option<i64> {
    let kept = entry.kept();
    let at = kept.expires_unix_millis?;
    match kept.state {
        SubscriptionState::Ended => {
            Some(at.saturating_add(i64::try_from(KEPT_AFTER.as_millis()).unwrap_or(i64::MAX)))
        }
        SubscriptionState::Active
        | SubscriptionState::Disabled
        | SubscriptionState::Paused
        | SubscriptionState::Unverified => Some(at),
    }
}

async fn keep_house(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let look = Arc::clone(&shared.house.look);
        let subscriptions = Subscriptions(shared, Condition::default());
        let now = Timestamp::now();
        let next = subscriptions.expire(now).await;
        drop(subscriptions);
        // What can't be kept is due still, and not tried again at once.
        let left = next.map(|at| at.saturating_sub(now.as_millisecond()));
        let left = left.filter(|left| *left > 0).and_then(|left| u64::try_from(left).ok());
        let pause = left.map_or(LOOK_EVERY, Duration::from_millis).min(LOOK_EVERY);
        drop(tokio::time::timeout(pause, look.notified()).await);
    }
}

/// Reads when something ends, in milliseconds since 1970: a time, how long from `now`, or `never`.
pub(super) fn expiry(text: &str, now: Timestamp) -> Result<Option<i64>, String> {
    if text == "never" {
        return Ok(None);
    }
    let at = match parse_duration(text) {
        Some(long) => now.checked_add(long).map_err(|_| format!("{text:?} is after all time"))?,
        None => text.parse().map_err(|_| {
            format!("{text:?} is not a time (try 30d, or 2027-01-01T00:00:00Z, or never)")
        })?,
    };
    if at <= now {
        return Err(format!("{text:?} is past"));
    }
    Ok(Some(at.as_millisecond()))
}

/// How long one that has expired is kept for whoever forgot to renew it: a week has a working day
/// in it.
const KEPT_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often the clock is looked at, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_so_long_from_now_or_never() {
        let now: Timestamp = "2026-08-20T12:00:00Z".parse().unwrap();
        let at = |text: &str| {
            let millis = expiry(text, now).unwrap();
            millis.map(|millis| Timestamp::from_millisecond(millis).unwrap().to_string())
        };
        assert_eq!(at("30d").as_deref(), Some("2026-09-19T12:00:00Z"));
        assert_eq!(at("2026-08-20T14:00:01+02:00").as_deref(), Some("2026-08-20T12:00:01Z"));
        assert_eq!(at("never"), None);
        for (wrong, why) in [
            ("soon", "\"soon\" is not a time (try 30d, or 2027-01-01T00:00:00Z, or never)"),
            ("", "\"\" is not a time (try 30d, or 2027-01-01T00:00:00Z, or never)"),
            ("0s", "\"0s\" is past"),
            ("2026-08-20T12:00:00Z", "\"2026-08-20T12:00:00Z\" is past"),
            ("99999999999d", "\"99999999999d\" is after all time"),
        ] {
            assert_eq!(expiry(wrong, now).unwrap_err(), why);
        }
    }
}
