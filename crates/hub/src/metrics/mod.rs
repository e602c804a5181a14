//! What Prometheus scrapes: one registry per hub, names `postbell_…` with their unit last.
//!
//! Labels are names the operator chose (source, subscription) and the registry's event names:
//! never a user, a mailbox or a name a publisher made up, which anyone could make more of.

mod table;
mod told;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail_event::{EventGroup, EventName};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use postbell_engine::Suppressed;

use crate::url_auth::Outcome;

use table::Kind;
pub use table::markdown;
pub(crate) use told::{Figures, SUBSCRIPTIONS_TOLD_MAX, SourceFigures, SubscriptionFigures};

/// A hub's metrics.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    /// Commits already told to `commit_seconds`.
    commits_seen: AtomicU64,
    pub(crate) journal: JournalMetrics,
    pub(crate) streams: Gauge,
    pub(crate) streams_refused: Counter,
    pub(crate) streams_slow: Counter,
    pub(crate) streamed: Counter,
    pub(crate) stream_unclear: Counter,
    pub(crate) unauthorised: Counter,
    pub(crate) denied: Counter,
    /// In the order of [`Outcome::ALL`].
    url_auth: Vec<Counter>,
    tls: TlsMetrics,
    spans: SpanMetrics,
}

/// The journal's figures, set when scraped.
#[derive(Debug)]
pub(crate) struct JournalMetrics {
    pub(crate) seq: Gauge,
    pub(crate) first_seq: Gauge,
    pub(crate) octets: Gauge,
    pub(crate) queued_entries: Gauge,
    pub(crate) queued_octets: Gauge,
    pub(crate) accepting: Gauge,
    commit_seconds: Histogram,
}

/// The counters of one source.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    /// By the registry's order, then one for all other names.
    accepted: Vec<Counter>,
    pub(crate) repeated: Counter,
    pub(crate) rejected: Counter,
    /// In the order of [`Suppressed::ALL`].
    suppressed: Vec<Counter>,
    /// In the order of [`EventGroup::ALL`].
    unwanted: Vec<Counter>,
    pub(crate) repaired: Counter,
}

/// What is told of TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsMetrics {
    ends: Gauge,
    refused: Counter,
    kept_out: Counter,
}

/// What became of spans.
#[derive(Clone, Debug)]
pub(crate) struct SpanMetrics {
    pub(crate) told: Counter,
    pub(crate) lost: Counter,
}

impl TlsMetrics {
    /// Notes when the certificate in use ends.
    pub(crate) fn ends(&self, at: jiff::Timestamp) {
        // Seconds since 1970 are far from where a real number loses digits.
        self.ends.set(at.as_duration().as_secs_f64());
    }

    /// Counts a handshake that failed.
    pub(crate) fn refused(&self) {
        self.refused.increment(1);
    }

    /// Counts a new certificate that was no good.
    pub(crate) fn kept_out(&self) {
        self.kept_out.increment(1);
    }
}

impl Metrics {
    /// An empty registry.
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&COMMIT_BUCKETS)
            // Fails only for an empty list, and then the default does as well.
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        describe(&recorder);
        let gauge = |name| gauge(&recorder, name, Vec::new());
        let counter = |name| counter(&recorder, name, Vec::new());
        let journal = JournalMetrics {
            seq: gauge("postbell_journal_seq"),
            first_seq: gauge("postbell_journal_first_seq"),
            octets: gauge("postbell_journal_octets"),
            queued_entries: gauge("postbell_journal_queue_entries"),
            queued_octets: gauge("postbell_journal_queue_octets"),
            accepting: gauge("postbell_journal_accepting"),
            commit_seconds: recorder
                .register_histogram(&Key::from_name("postbell_journal_commit_seconds"), &METADATA),
        };
        Self {
            journal,
            streams: gauge("postbell_stream_clients"),
            streams_refused: counter("postbell_stream_refused_total"),
            streams_slow: counter("postbell_stream_slow_total"),
            streamed: counter("postbell_stream_deliveries_total"),
            stream_unclear: counter("postbell_stream_unclear_total"),
            unauthorised: counter("postbell_http_unauthorised_total"),
            denied: counter("postbell_http_denied_total"),
            url_auth: Outcome::ALL
                .iter()
                .map(|outcome| vec![Label::new("outcome", outcome.as_str())])
                .map(|labels| self::counter(&recorder, "postbell_url_auth_total", labels))
                .collect(),
            tls: TlsMetrics {
                ends: gauge("postbell_tls_certificate_ends_seconds"),
                refused: counter("postbell_tls_handshakes_failed_total"),
                kept_out: counter("postbell_tls_reloads_failed_total"),
            },
            spans: SpanMetrics {
                told: counter("postbell_spans_told_total"),
                lost: counter("postbell_spans_lost_total"),
            },
            commits_seen: AtomicU64::new(0),
            recorder,
        }
    }

    /// The counters of the source called `name`.
    pub(crate) fn source(&self, name: &str) -> SourceMetrics {
        let label = |label| Label::new("source", label);
        let accepted = EventName::REGISTERED
            .iter()
            .map(|event| event.as_str().to_owned())
            .chain([OTHER_EVENT.to_owned()])
            .map(|event| {
                let labels = vec![label(name.to_owned()), Label::new("event", event)];
                counter(&self.recorder, "postbell_events_total", labels)
            })
            .collect();
        let suppressed = Suppressed::ALL
            .iter()
            .map(|what| vec![label(name.to_owned()), Label::new("what", what.as_str())])
            .map(|labels| counter(&self.recorder, "postbell_suppressed_total", labels))
            .collect();
        let unwanted = EventGroup::ALL
            .iter()
            .map(|group| vec![label(name.to_owned()), Label::new("group", group.as_str())])
            .map(|labels| counter(&self.recorder, "postbell_unwanted_total", labels))
            .collect();
        let one = |metric| counter(&self.recorder, metric, vec![label(name.to_owned())]);
        SourceMetrics {
            accepted,
            repeated: one("postbell_events_repeated_total"),
            rejected: one("postbell_events_rejected_total"),
            suppressed,
            unwanted,
            repaired: one("postbell_events_repaired_total"),
        }
    }

    /// Counts what became of a URL by the store that was wanted.
    pub(crate) fn url_auth(&self, outcome: Outcome) {
        let place = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(counter) = place.and_then(|place| self.url_auth.get(place)) {
            counter.increment(1);
        }
    }

    /// What is told of TLS.
    pub(crate) fn tls(&self) -> TlsMetrics {
        self.tls.clone()
    }

    /// What became of spans.
    pub(crate) fn spans(&self) -> SpanMetrics {
        self.spans.clone()
    }

    /// Notes the latest commit, unless it was noted already.
    pub(crate) fn committed(&self, commits: u64, took: Duration) {
        if self.commits_seen.swap(commits, Ordering::Relaxed) != commits {
            self.journal.commit_seconds.record(took);
        }
    }

    /// The text Prometheus reads.
    pub(crate) fn render(&self, figures: &Figures) -> String {
        let handle = self.recorder.handle();
        handle.run_upkeep();
        let mut text = handle.render();
        // Writing into a text does not fail.
        figures.write(&mut text).unwrap_or_default();
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl SourceMetrics {
    /// Counts an event that became a record.
    pub(crate) fn accept(&self, event: EventIndex) {
        if let Some(counter) = self.accepted.get(usize::from(event.0)) {
            counter.increment(1);
        }
    }

    /// Counts what policy kept from being made.
    pub(crate) fn suppress(&self, what: Suppressed) {
        let place = Suppressed::ALL.iter().position(|known| *known == what);
        if let Some(counter) = place.and_then(|place| self.suppressed.get(place)) {
            counter.increment(1);
        }
    }

    /// Counts what nobody wanted.
    pub(crate) fn unwanted(&self, group: Option<EventGroup>) {
        let place = group.and_then(|group| EventGroup::ALL.iter().position(|one| *one == group));
        if let Some(counter) = place.and_then(|place| self.unwanted.get(place)) {
            counter.increment(1);
        }
    }

    /// Counts many.
    pub(crate) fn accept_all(&self, tally: &Tally) {
        for (counter, count) in self.accepted.iter().zip(tally.0).filter(|(_, count)| *count > 0) {
            counter.increment(count);
        }
    }
}

/// An event's place among the counters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EventIndex(u8);

impl EventIndex {
    /// The event at this place of the registry; one outside it where there is none.
    pub(crate) fn at(place: Option<u8>) -> Self {
        Self(place.unwrap_or(OTHER_PLACE))
    }

    /// The event's name as the registry has it; one word for all others, which anyone could make up.
    pub(crate) fn word(self) -> &'static str {
        KNOWN.get(usize::from(self.0)).map_or(OTHER_EVENT, EventName::as_str)
    }

    /// The place of the event called `name`.
    pub(crate) fn of(name: &str) -> Self {
        let place = KNOWN.iter().position(|known| known.as_str() == name);
        Self::at(place.and_then(|place| u8::try_from(place).ok()))
    }
}

/// Events counted before they are told, since a counter is shared by all threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally([u64; EventName::REGISTERED.len() + 1]);

impl Tally {
    /// Counts one.
    pub(crate) fn add(&mut self, event: EventIndex) {
        if let Some(count) = self.0.get_mut(usize::from(event.0)) {
            *count += 1;
        }
    }
}

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Gauge {
    recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
}

/// The help texts.
fn describe(recorder: &PrometheusRecorder) {
    for metric in table::METRICS {
        let (name, unit, about) = (metric.name.into(), Some(metric.unit), metric.about.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, unit, about),
            Kind::Gauge => recorder.describe_gauge(name, unit, about),
            Kind::Histogram => recorder.describe_histogram(name, unit, about),
        }
    }
}

/// The place of all names outside the registry.
const OTHER_PLACE: u8 = 18;
const _: () = assert!(EventName::REGISTERED.len() == 18);

/// Once, since a constant is made anew wherever it is used.
static KNOWN: [EventName; EventName::REGISTERED.len()] = EventName::REGISTERED;

/// What the label says for names outside the registry.
const OTHER_EVENT: &str = "other";

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// From a fast disk's fsync to a stuck one's.
const COMMIT_BUCKETS: [f64; 10] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_told_as_long_as_it_exists() {
        let metrics = Metrics::new();
        let phone = SubscriptionFigures {
            name: "phone".to_owned(),
            matched: 11,
            accepted: 7,
            retried: 3,
            given_up: 1,
            dead_letters: 5,
            redriven: 6,
            batches: 2,
            unclear: 4,
            lag: 2,
            next: 9,
            lag_seconds: 1.5,
        };
        let figures = Figures { subscriptions: vec![phone], ..Figures::default() };
        let text = metrics.render(&figures);
        let told: Vec<_> = text.lines().filter(|line| line.contains("phone")).collect();
        assert_eq!(
            told,
            [
                r#"postbell_deliveries_total{subscription="phone",outcome="accepted"} 7"#,
                r#"postbell_deliveries_total{subscription="phone",outcome="given_up"} 1"#,
                r#"postbell_deliveries_total{subscription="phone",outcome="retried"} 3"#,
                r#"postbell_subscription_matched_total{subscription="phone"} 11"#,
                r#"postbell_subscription_unclear_total{subscription="phone"} 4"#,
                r#"postbell_subscription_dead_letters{subscription="phone"} 5"#,
                r#"postbell_subscription_redriven_total{subscription="phone"} 6"#,
                r#"postbell_subscription_batches_total{subscription="phone"} 2"#,
                r#"postbell_subscription_lag_records{subscription="phone"} 2"#,
                r#"postbell_subscription_lag_seconds{subscription="phone"} 1.5"#,
            ]
        );
        assert_eq!(text.matches("# TYPE postbell_deliveries_total counter\n").count(), 1);
        assert!(!metrics.render(&Figures::default()).contains("subscription="));
    }
}
