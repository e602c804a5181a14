//! Subscriptions made: checked, counted, kept, and started.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use mail_event::{EventId, Timestamp};
use postbell_journal::ReadError;
use postbell_sinks::webhook::{Secret, Target};

use super::batch::Batching;
use super::entry::Entry;
use super::foretold::faults;
use super::kept::{Handshake, Kept, Owner};
use super::life::expiry;
use super::ready::Ready;
use super::{
    Begin, NewSink, NewSubscription, Shown, Signature, SubscriptionState, Subscriptions, time,
};
use crate::access::Grant;
use crate::state::{Row, StateError};
use crate::token::fill_random;

/// Why a subscription can't be made or changed.
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
    /// All of them together are as many as there may be.
    #[error("no more subscriptions are taken")]
    Full,
    /// It is not as whoever changes it knows it.
    #[error(
        "{0:?} is not as If-Match or If-None-Match says: it was changed meanwhile, or made or removed"
    )]
    Changed(String),
    /// It has expired.
    #[error("it expired at {0}: renew it, and it goes on where it stood")]
    Expired(String),
    /// It is a command of the configuration's.
    #[error("{0:?} is made by the hub's configuration ([commands.{0}]), and changed there")]
    Configured(String),
    /// It can't be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A subscription to be made, in which nothing is wrong.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) ready: Arc<Ready>,
    pub(super) begin: Begin,
    pub(super) url: String,
    pub(super) signature: Signature,
    /// One to be made where there is none.
    pub(super) secret: Option<Secret>,
    /// Whether it was said that the receiver is to be asked.
    pub(super) verify: Option<bool>,
    /// What it has to pass.
    pub(super) handshake: Option<Handshake>,
    pub(super) batch: Option<Batching>,
    pub(super) client_certificate: Option<String>,
    /// In milliseconds since 1970.
    pub(super) expires: Option<i64>,
}

impl Subscriptions {
    /// Makes a subscription of whoever is let in by `grant`; the answer alone holds its secret.
    pub(crate) async fn create(
        &self,
        new: NewSubscription,
        grant: &Grant,
    ) -> Result<Shown, CreateError> {
        let checked = self.checked(new, grant).await?;
        let _changing = self.0.changing.lock().await;
        self.make(checked, grant).await
    }

    /// A subscription that whoever is let in by `grant` may have, whatever others there are.
    pub(super) async fn checked(
        &self,
        new: NewSubscription,
        grant: &Grant,
    ) -> Result<Checked, CreateError> {
        let shared = &self.0;
        let selection = new.selection();
        check_name(&new.name)?;
        let ready = self.ready_new(&new.name, selection, grant).await;
        let ready = ready.map_err(|error| CreateError::Invalid {
            pointer: error.pointer,
            message: error.message,
        })?;
        let role = grant.principal().role();
        let wrong = faults(&new.sink, shared.reach, &shared.webhooks, role);
        wrong.into_iter().next().map_or(Ok(()), Err)?;
        let NewSink::Webhook { url, signature, secret, verify, batch, client_certificate } =
            new.sink;
        let target = Target::parse(&url, shared.reach);
        let target = target.map_err(|error| invalid("/sink/url", error))?;
        let is_asked = verify.unwrap_or_else(|| shared.webhooks.verify && !target.is_here());
        let handshake = is_asked.then(Handshake::default);
        if let Some(name) = &client_certificate {
            self.client_certificate(name, Owner::of(grant).as_ref())
                .map_err(|why| invalid("/sink/clientCertificate", why))?;
        }
        let secret = secret.map(|text| Secret::parse(&text)).transpose();
        let secret = secret.map_err(|error| invalid("/sink/secret", error))?;
        let expires = match &new.expires {
            Some(text) => {
                expiry(text, jiff::Timestamp::now()).map_err(|error| invalid("/expires", error))?
            }
            None => None,
        };
        let (name, begin) = (new.name, new.begin);
        Ok(Checked {
            name,
            ready,
            begin,
            url,
            signature,
            secret,
            verify,
            handshake,
            batch,
            client_certificate,
            expires,
        })
    }

    /// Those of whoever is let in by `grant`.
    pub(super) fn own(&self, owner: Option<&Owner>) -> Vec<Arc<Entry>> {
        let is_own = |entry: &Arc<Entry>| match owner {
            Some(_) => entry.is_seen_by(owner),
            None => entry.is_the_hubs(),
        };
        self.entries().into_iter().filter(is_own).collect()
    }

    /// How many count against the limits of this owner.
    fn counted(&self, owner: Option<&Owner>) -> usize {
        let counts = |entry: &&Arc<Entry>| {
            owner
                .zip(entry.kept().owner.as_ref())
                .is_some_and(|(one, other)| one.counts_with(other))
        };
        self.entries().iter().filter(counts).count()
    }

    /// Makes a subscription; for whoever holds `changing`.
    pub(super) async fn make(&self, new: Checked, grant: &Grant) -> Result<Shown, CreateError> {
        let shared = &self.0;
        let secret = match new.secret {
            Some(secret) => secret,
            None => made(new.signature)?,
        };
        let start = self.start_of(&new.begin).await?;
        let owner = Owner::of(grant);
        let own = self.own(owner.as_ref());
        if own.iter().any(|entry| entry.name == new.name) {
            return Err(CreateError::NameTaken(new.name));
        }
        let count = self.count();
        let policy = shared.policy.for_role(grant.principal().role());
        let counted = self.counted(owner.as_ref());
        if policy.ceiling().is_some_and(|ceiling| counted >= ceiling.subscriptions) {
            return Err(CreateError::TooMany(counted));
        }
        if count >= SUBSCRIPTIONS_MAX {
            // How many others have is nobody's business.
            return Err(if owner.is_some() {
                CreateError::Full
            } else {
                CreateError::TooMany(count)
            });
        }
        let mut kept = Kept {
            selection: new.ready.selection.clone(),
            begin: new.begin,
            start,
            begun_anew: 0,
            losses: shared.sharing.of(grant.principal()).losses(),
            url: new.url,
            secret: secret.reveal(),
            previous: None,
            state: SubscriptionState::Active,
            detail: None,
            created: time(jiff::Timestamp::now()),
            owner,
            expires_unix_millis: new.expires,
            handshake: new.handshake,
            batch: new.batch,
            client_certificate: new.client_certificate,
            failing_since_unix_millis: None,
            command: None,
        };
        kept.state = kept.awake();
        // From before the answer on everything is there.
        let held = shared.demands.hold(new.ready.demand).await;
        let qualified = kept
            .owner
            .as_ref()
            .map_or_else(|| new.name.clone(), |owner| owner.qualified(&new.name));
        let id = format!("sub_{}", EventId::from_u128(u128::from_be_bytes(random()?)));
        let id = id.to_ascii_lowercase();
        let row = Row { id: id.clone(), name: qualified, body: kept.body() };
        if !shared.context.blocking(move |db| db.add(&row)).await? {
            return Err(CreateError::NameTaken(new.name));
        }
        let entry = Arc::new(Entry::new(id, new.name, kept));
        entry.live.is_fresh.store(true, Ordering::Relaxed);
        entry.wants(held);
        entry.set_ready(new.ready);
        shared.entries.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        self.start(&entry).await;
        shared.house.look();
        let mut shown = self.shown(&entry);
        shown.sink.tell(&secret);
        Ok(shown)
    }

    /// The number before the first record wanted.
    pub(super) async fn start_of(&self, begin: &Begin) -> Result<u64, CreateError> {
        let feed = &self.0.context.feed;
        let bounds = feed.journal().bounds();
        match begin {
            Begin::Now => Ok(bounds.last.0),
            Begin::Seq(0) => Ok(bounds.first.0.saturating_sub(1)),
            Begin::Seq(seq) if *seq > bounds.last.0 + 1 => Err(invalid(
                "/begin/seq",
                format!("there is no record {seq} yet; the newest is {}", bounds.last.0),
            )),
            Begin::Seq(seq) if *seq < bounds.first.0 => Err(invalid(
                "/begin/seq",
                format!("record {seq} is no longer kept; the oldest is {}", bounds.first.0),
            )),
            Begin::Seq(seq) => Ok(seq - 1),
            Begin::Time(text) => {
                let (time, _) = Timestamp::parse_lenient(text)
                    .map_err(|error| invalid("/begin/time", error))?;
                let millis = u64::try_from(time.unix_millis()).unwrap_or(0);
                let journal = Arc::clone(feed.journal());
                let first = tokio::task::spawn_blocking(move || journal.first_since(millis)).await;
                let first = first.map_err(|error| ReadError::Unreadable {
                    file: "journal".into(),
                    source: Box::new(error),
                });
                match first.and_then(|first| first) {
                    Ok(first) => Ok(first.0.saturating_sub(1)),
                    Err(error) => Err(CreateError::State(StateError::Journal { source: error })),
                }
            }
        }
    }
}

/// Whether a subscription, or a command, may be called so.
pub(crate) fn check_name(name: &str) -> Result<(), CreateError> {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_OCTETS_MAX || !name.chars().all(fine) {
        let message = format!(
            "{:?} is not a name: 1 to {NAME_OCTETS_MAX} letters, digits, \".\", \"_\" and \"-\"",
            name.chars().take(NAME_OCTETS_MAX).collect::<String>()
        );
        return Err(invalid("/name", message));
    }
    // In a path these two go up or nowhere: many clients take them out before they ask.
    if name == "." || name == ".." {
        return Err(invalid("/name", format!("{name:?} is no name that can stand in a path")));
    }
    if name.starts_with("sub_") {
        return Err(invalid("/name", format!("{name:?} looks like an id")));
    }
    Ok(())
}

pub(super) fn invalid(pointer: &str, message: impl ToString) -> CreateError {
    CreateError::Invalid { pointer: pointer.to_owned(), message: message.to_string() }
}

pub(super) fn made(signature: Signature) -> Result<Secret, StateError> {
    Ok(match signature {
        Signature::V1 => Secret::new(random()?),
        Signature::V1a => Secret::pair(random()?),
    })
}

pub(super) fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], StateError> {
    let mut octets = [0; OCTETS];
    fill_random(&mut octets).map_err(|source| StateError::Random { source })?;
    Ok(octets)
}

/// Subscriptions at most. Each has a worker, and may hold some megabytes while its receiver
/// fails.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Octets of a name: it is a label of metrics and a part of paths.
const NAME_OCTETS_MAX: usize = 64;
