//! What the hub says of itself and of its sources.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use postbell_engine::in_words;
use postbell_journal::{Bounds, Journal, State as JournalState};
use postbell_sources::dovecot::Exporter;
use serde::Serialize;
use utoipa::ToSchema;

use super::demand::ShownDemand;
use super::query::{Name, NoQuery, clipped};
use super::{App, Problem};
use crate::demand::{Demands, PublishersReached, Reached};
use crate::intake::LastCheckpoint;
use crate::publish;
use crate::sources::Source;

/// The hub at a glance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// postbell's version.
    version: &'static str,
    /// The store told of.
    store: StoreStatus,
    /// The journal.
    journal: JournalStatus,
    /// Whether there was no journal at the start, though there was a `hub.db`: numbers have begun at 1
    /// again, and what was not delivered is lost.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    journal_lost: bool,
    /// How many subscriptions there are.
    subscriptions: usize,
    /// Whether there was no `hub.db` at the start, though the journal had records: who subscribed
    /// before is forgotten.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    subscriptions_lost: bool,
    /// How many streams are being followed.
    streams: usize,
    /// What is recorded at this moment.
    recording: Recording,
    /// Seconds since the start.
    uptime_seconds: u64,
}

/// What is recorded of what sources see.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Recording {
    /// `everything` that policy lets be made, or what is `wanted`.
    record: &'static str,
    /// What that is now.
    #[serde(flatten)]
    now: ShownDemand,
    /// Seconds since that changed, or since the start.
    age_seconds: u64,
}

/// The store told of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoreStatus {
    /// Its host as it stands in every URI.
    host: String,
}

/// The journal.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JournalStatus {
    /// Whether it takes events: `accepting`, `full`, `stopped` or `closed`.
    state: &'static str,
    /// The oldest record kept; one past `last` where none is.
    first: u64,
    /// The newest record; 0 where there never was one.
    last: u64,
    /// Octets on disk.
    octets: u64,
    /// Why it takes none, where it doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Records met since the start that can't be read, and what is wrong with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damage: Vec<String>,
}

/// The hub at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "hub", responses(
    (status = 200, description = "The hub at a glance", body = Status),
))]
pub(super) async fn status(State(app): State<Arc<App>>, _: NoQuery) -> Json<Status> {
    let Bounds { first, last } = app.journal.bounds();
    let (state, detail) = match app.journal.state() {
        JournalState::Accepting => ("accepting", None),
        JournalState::Full { .. } => {
            ("full", Some(format!("{}: no room left on the disk", app.journal_folder.display())))
        }
        JournalState::Stopped { reason } => ("stopped", Some(in_words(&reason))),
        JournalState::Closed => ("closed", None),
    };
    let octets = app.journal.stats().octets;
    let damage = app.feed.damage();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        store: StoreStatus { host: app.store.host().to_owned() },
        journal: JournalStatus { state, first: first.0, last: last.0, octets, detail, damage },
        journal_lost: app.lost.journal,
        subscriptions: app.subscriptions.count(),
        subscriptions_lost: app.lost.subscriptions,
        streams: app.streams_open(),
        recording: Recording {
            record: app.demands.record().as_str(),
            now: ShownDemand::from(app.demands.now()),
            age_seconds: app.demands.age().as_secs(),
        },
        uptime_seconds: app.started.elapsed().as_secs(),
    })
}

/// All sources.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SourceList {
    sources: Vec<ShownSource>,
}

/// A source and how it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownSource {
    /// Its name in the configuration; `publish` for what publishers hand in.
    name: String,
    /// What kind it is: `maildir`, `dovecot`, `cyrus` or `publish`.
    kind: &'static str,
    /// What it is doing: `starting`, `scanning`, `running`, `waiting`, `failed` or `stopped`.
    #[schema(value_type = String)]
    state: postbell_sources::State,
    /// The same in a few words.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What went wrong last, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Why the last question to a store that is asked over IMAP had no answer, if it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    asking_error: Option<String>,
    /// Why the store authorises no URLs, where it was to and couldn't last.
    #[serde(skip_serializing_if = "Option::is_none")]
    url_auth_error: Option<String>,
    /// Users watched now.
    users: u64,
    /// Mailboxes watched now.
    mailboxes: u64,
    /// Messages known now.
    messages: u64,
    /// Observations made, or events handed in, since the start.
    observations: u64,
    /// Full looks taken because a notice may have been missed.
    rescans: u64,
    /// Things left aside as unreadable, invalid or beyond a limit.
    skipped: u64,
    /// Holes told as `vnd.postbell.Gap`.
    gaps: u64,
    /// Octets of a spool that are not in the journal yet.
    unread: u64,
    /// How far what makes its events has been told what is wanted: the script in a Dovecot, and
    /// publishers on the Unix stream. Absent where nobody needs to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    demand: Option<ShownReach>,
    /// What a Dovecot's exporter posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    exporter: Option<ShownExporter>,
    /// What the source remembers of how far it has got; absent for `publish`, which needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<ShownCheckpoint>,
}

/// How far what makes a source's events has been told what is wanted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownReach {
    /// Whether it stands in the spool, or all publishers have confirmed it.
    told: bool,
    /// Seconds since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    /// What is wrong with the spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Publishers that are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<usize>,
    /// Those that have confirmed what is wanted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<usize>,
}

impl ShownReach {
    fn of(source: &Source, demands: &Demands) -> Option<Self> {
        if source.kind == publish::NAME {
            let PublishersReached { connected, confirmed, age } = demands.publishers();
            return Some(Self {
                told: confirmed == connected,
                age_seconds: age.map(|age| age.as_secs()),
                detail: None,
                connected: Some(connected),
                confirmed: Some(confirmed),
            });
        }
        let (age, detail) = match demands.spool(&source.name)? {
            Reached::Told(age) => (Some(age.as_secs()), None),
            Reached::Not => (None, None),
            Reached::Trouble(why) => (None, Some(why)),
        };
        let told = age.is_some();
        Some(Self { told, age_seconds: age, detail, connected: None, confirmed: None })
    }
}

/// A source's memory of how far it has got, durable together with the events it led to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownCheckpoint {
    /// What is remembered: about one for each message in a Maildir, and for each mailbox elsewhere.
    /// Absent where it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<u64>,
    /// The record it was last committed with; absent where nothing was to be remembered since the
    /// start.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Seconds since that.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
}

impl ShownCheckpoint {
    fn of(source: &str, last: &LastCheckpoint, journal: &dyn Journal) -> Self {
        let keys = journal.checkpoint_keys(source).inspect_err(|error| {
            tracing::error!(%error, %source, "the keys of a checkpoint can't be counted");
        });
        let last = last.get();
        Self {
            keys: keys.ok(),
            seq: last.map(|(seq, _)| seq),
            age_seconds: last.map(|(_, age)| age.as_secs()),
        }
    }
}

/// What a Dovecot's exporter posted since the start.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownExporter {
    /// Understood and kept.
    taken: u64,
    /// About what nobody here wants.
    ignored: u64,
    /// No event of Dovecot's.
    malformed: u64,
    /// Refused, because the source had not kept up.
    refused: u64,
    /// Seconds since anything was posted; absent where nothing was yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_seconds: Option<u64>,
}

impl From<&Exporter> for ShownExporter {
    fn from(exporter: &Exporter) -> Self {
        let counts = exporter.counts();
        Self {
            taken: counts.taken,
            ignored: counts.ignored,
            malformed: counts.malformed,
            refused: counts.refused,
            silent_seconds: exporter.silent_for().map(|silence| silence.as_secs()),
        }
    }
}

impl ShownSource {
    /// May take a while where a source remembers much.
    fn of(source: &Source, app: &App) -> Self {
        let now = source.health.snapshot();
        let checkpoint = source.checkpoint.as_ref();
        Self {
            name: source.name.clone(),
            kind: source.kind,
            state: now.state,
            detail: now.detail,
            last_error: now.last_error,
            asking_error: now.asking_error,
            url_auth_error: app.links.url_auth().trouble(&source.name),
            users: now.users,
            mailboxes: now.mailboxes,
            messages: now.messages,
            observations: now.observations,
            rescans: now.rescans,
            skipped: now.skipped,
            gaps: now.gaps,
            unread: now.unread,
            demand: ShownReach::of(source, &app.demands),
            exporter: source.exporter.as_ref().map(ShownExporter::from),
            checkpoint: checkpoint
                .map(|last| ShownCheckpoint::of(&source.name, last, &*app.journal)),
        }
    }
}

/// Some sources as they are shown, on a thread that may wait for the disk.
async fn shown(
    app: &Arc<App>,
    is_wanted: impl Fn(&Source) -> bool + Send + 'static,
) -> Result<Vec<ShownSource>, Problem> {
    let app = Arc::clone(app);
    let show = move || {
        let wanted = app.sources.iter().filter(|source| is_wanted(source));
        wanted.map(|source| ShownSource::of(source, &app)).collect()
    };
    tokio::task::spawn_blocking(show).await.map_err(|error| {
        tracing::error!(%error, "showing a source panicked");
        Problem::internal()
    })
}

/// All sources and how they are.
#[utoipa::path(get, path = "/v1/sources", tag = "hub", responses(
    (status = 200, description = "All sources and how they are", body = SourceList),
))]
pub(super) async fn sources(
    State(app): State<Arc<App>>,
    _: NoQuery,
) -> Result<Json<SourceList>, Problem> {
    Ok(Json(SourceList { sources: shown(&app, |_| true).await? }))
}

/// One source and how it is.
#[utoipa::path(get, path = "/v1/sources/{name}", tag = "hub",
    params(("name" = String, Path, description = "Its name in the configuration, or `publish`")),
    responses(
        (status = 200, description = "The source and how it is", body = ShownSource),
        (status = 404, description = "No such source", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn source(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Name(name): Name,
) -> Result<Json<ShownSource>, Problem> {
    let wanted = name.clone();
    let found = shown(&app, move |source| source.name == wanted).await?.pop();
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("{:?}: no such source", clipped(&name))))
}
