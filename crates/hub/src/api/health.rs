//! Whether the hub is well, for machines that watch it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use postbell_engine::in_words;
use postbell_journal::{Journal as _, State as JournalState};
use postbell_sources::State as SourceState;

use super::App;
use super::query::NoQuery;
use crate::metrics::{Figures, SourceFigures};
use crate::sources::Source;

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, description = "The process lives", body = String, content_type = "text/plain"),
))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Events are taken and streams served, or why not.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Events are taken and streams served", body = String, content_type = "text/plain"),
    (status = 503, description = "They are not, and why", body = String, content_type = "text/plain"),
))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let why = match *app.stopping.borrow() {
        true => Some("the hub is stopping".to_owned()),
        false => not_ready(app.journal.state(), &app.journal_folder),
    };
    match why {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Why nothing is taken, if so.
fn not_ready(journal: JournalState, folder: &Path) -> Option<String> {
    match journal {
        JournalState::Accepting => None,
        JournalState::Full { .. } => {
            Some(format!("the journal's disk is full: {}", folder.display()))
        }
        JournalState::Stopped { reason } => {
            Some(format!("the journal has stopped: {}", in_words(&reason)))
        }
        JournalState::Closed => Some("the journal is closed".to_owned()),
    }
}

/// Figures in Prometheus' text form.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Figures in Prometheus' text form", body = String, content_type = "text/plain"),
))]
pub(super) async fn metrics(State(app): State<Arc<App>>, _: NoQuery) -> impl IntoResponse {
    let stats = app.journal.stats();
    let bounds = app.journal.bounds();
    let figures = &app.metrics.journal;
    figures.seq.set(real(bounds.last.0));
    figures.first_seq.set(real(bounds.first.0));
    figures.octets.set(real(stats.octets));
    figures.queued_entries.set(real(stats.queued_entries as u64));
    figures.queued_octets.set(real(stats.queued_octets as u64));
    figures.accepting.set(match app.journal.state() {
        JournalState::Accepting => 1.0,
        JournalState::Full { .. } | JournalState::Stopped { .. } | JournalState::Closed => 0.0,
    });
    app.metrics.committed(stats.commits, stats.last_commit);
    let mut told = Figures {
        sources: app.sources.iter().map(source_figures).collect(),
        states: app.subscriptions.states(),
        demand: app.demands.counts(),
        denials: app.denials.count() as u64,
        commits: stats.commits,
        damaged: app.feed.damage().len() as u64,
        signed_seq: app.signed_seq(),
        start_seconds: start_seconds(app.started.elapsed()),
        ..Figures::default()
    };
    let subscriptions = app.subscriptions.clone();
    // The age of a record may have to be read from the disk.
    match tokio::task::spawn_blocking(move || subscriptions.figures()).await {
        Ok(figures) => told.subscriptions = figures,
        Err(error) => tracing::error!(%error, "the figures of subscriptions panicked"),
    }
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.metrics.render(&told),
    )
}

fn source_figures(source: &Source) -> SourceFigures {
    let now = source.health.snapshot();
    SourceFigures {
        name: source.name.clone(),
        is_up: matches!(now.state, SourceState::Running | SourceState::Scanning),
        observations: now.observations,
        rescans: now.rescans,
        skipped: now.skipped,
        gaps: now.gaps,
        unread: now.unread,
        users: now.users,
        mailboxes: now.mailboxes,
        messages: now.messages,
    }
}

/// When it was, so long ago, in seconds since 1970.
fn start_seconds(uptime: Duration) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(uptime).as_secs_f64()
}

/// Prometheus knows only real numbers; beyond 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "a gauge of 2^53 events may be off by one")]
fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_events_out_is_told() {
        let told = |state| not_ready(state, Path::new("/data/journal"));
        assert_eq!(told(JournalState::Accepting), None);
        assert_eq!(
            told(JournalState::Full { since: SystemTime::UNIX_EPOCH }).as_deref(),
            Some("the journal's disk is full: /data/journal")
        );
        assert_eq!(
            told(JournalState::Stopped { reason: "fsync failed".into() }).as_deref(),
            Some("the journal has stopped: fsync failed")
        );
    }
}
