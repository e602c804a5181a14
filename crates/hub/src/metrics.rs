//! What Prometheus scrapes: one registry per hub, names `postbell_…` with their unit last.
//!
//! Labels are names the operator chose (source, subscription) and the registry's event names:
//! never a user, a mailbox or a name a publisher made up, which anyone could make more of.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail_event::EventName;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use postbell_engine::Suppressed;

/// A hub's metrics.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    /// Commits already told to `commit_seconds`.
    commits_seen: AtomicU64,
    pub(crate) journal: JournalMetrics,
    pub(crate) streams: Gauge,
    pub(crate) streams_refused: Counter,
    pub(crate) streamed: Counter,
    pub(crate) stream_unclear: Counter,
    pub(crate) unauthorised: Counter,
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
}

/// The figures of one subscription, as they are now.
///
/// They are not in the registry, which forgets no label: a subscription can be removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SubscriptionFigures {
    /// Its name, which needs no escaping.
    pub(crate) name: String,
    pub(crate) accepted: u64,
    pub(crate) retried: u64,
    pub(crate) given_up: u64,
    pub(crate) dead_letters: u64,
    pub(crate) redriven: u64,
    pub(crate) unclear: u64,
    pub(crate) lag: u64,
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
            streamed: counter("postbell_stream_deliveries_total"),
            stream_unclear: counter("postbell_stream_unclear_total"),
            unauthorised: counter("postbell_http_unauthorised_total"),
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
        let one = |metric| counter(&self.recorder, metric, vec![label(name.to_owned())]);
        SourceMetrics {
            accepted,
            repeated: one("postbell_events_repeated_total"),
            rejected: one("postbell_events_rejected_total"),
            suppressed,
        }
    }

    /// Notes the latest commit, unless it was noted already.
    pub(crate) fn committed(&self, commits: u64, took: Duration) {
        if self.commits_seen.swap(commits, Ordering::Relaxed) != commits {
            self.journal.commit_seconds.record(took);
        }
    }

    /// The text Prometheus reads.
    pub(crate) fn render(&self, subscriptions: &[SubscriptionFigures]) -> String {
        let handle = self.recorder.handle();
        handle.run_upkeep();
        let mut text = handle.render();
        // Writing into a text does not fail.
        write_subscriptions(&mut text, subscriptions).unwrap_or_default();
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

/// Appends what is told of subscriptions.
fn write_subscriptions(text: &mut String, all: &[SubscriptionFigures]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    let deliveries = "postbell_deliveries_total";
    writeln!(text, "# HELP {deliveries} Attempts, by subscription and outcome")?;
    writeln!(text, "# TYPE {deliveries} counter")?;
    for one in all {
        let outcomes =
            [("accepted", one.accepted), ("given_up", one.given_up), ("retried", one.retried)];
        for (outcome, count) in outcomes {
            let name = &one.name;
            writeln!(text, r#"{deliveries}{{subscription="{name}",outcome="{outcome}"}} {count}"#)?;
        }
    }
    let lag = "postbell_subscription_lag_records";
    writeln!(text, "\n# HELP {lag} Records a subscription has yet to pass")?;
    writeln!(text, "# TYPE {lag} gauge")?;
    for one in all {
        writeln!(text, r#"{lag}{{subscription="{}"}} {}"#, one.name, one.lag)?;
    }
    let letters = "postbell_subscription_dead_letters";
    writeln!(text, "\n# HELP {letters} Deliveries given up and kept")?;
    writeln!(text, "# TYPE {letters} gauge")?;
    for one in all {
        writeln!(text, r#"{letters}{{subscription="{}"}} {}"#, one.name, one.dead_letters)?;
    }
    let redriven = "postbell_subscription_redriven_total";
    writeln!(text, "\n# HELP {redriven} Dead letters that were delivered after all")?;
    writeln!(text, "# TYPE {redriven} counter")?;
    for one in all {
        writeln!(text, r#"{redriven}{{subscription="{}"}} {}"#, one.name, one.redriven)?;
    }
    let unclear = "postbell_subscription_unclear_total";
    writeln!(text, "\n# HELP {unclear} Events whose condition could not be judged")?;
    writeln!(text, "# TYPE {unclear} counter")?;
    for one in all {
        writeln!(text, r#"{unclear}{{subscription="{}"}} {}"#, one.name, one.unclear)?;
    }
    writeln!(text)
}

/// The help texts.
fn describe(recorder: &PrometheusRecorder) {
    for (name, unit, text) in COUNTERS {
        recorder.describe_counter((*name).into(), Some(*unit), (*text).into());
    }
    for (name, unit, text) in GAUGES {
        recorder.describe_gauge((*name).into(), Some(*unit), (*text).into());
    }
    recorder.describe_histogram(
        "postbell_journal_commit_seconds".into(),
        Some(Unit::Seconds),
        "How long commits took, sampled".into(),
    );
}

const COUNTERS: &[(&str, Unit, &str)] = &[
    ("postbell_events_total", Unit::Count, "Events that became records, by source and name"),
    ("postbell_events_repeated_total", Unit::Count, "Events that were there already, by source"),
    ("postbell_events_rejected_total", Unit::Count, "Events refused, by source"),
    (
        "postbell_suppressed_total",
        Unit::Count,
        "What policy kept from being made, by source: happenings of a group that is off, parameters of messages",
    ),
    ("postbell_stream_deliveries_total", Unit::Count, "Events written to streams"),
    (
        "postbell_stream_unclear_total",
        Unit::Count,
        "Events not streamed because a stream's condition could not be judged",
    ),
    ("postbell_stream_refused_total", Unit::Count, "Streams refused because there were enough"),
    ("postbell_http_unauthorised_total", Unit::Count, "Requests without the right token"),
];

const GAUGES: &[(&str, Unit, &str)] = &[
    ("postbell_journal_seq", Unit::Count, "Number of the newest durable record"),
    ("postbell_journal_first_seq", Unit::Count, "Number of the oldest record kept"),
    ("postbell_journal_octets", Unit::Bytes, "Octets the journal has on disk"),
    ("postbell_journal_queue_entries", Unit::Count, "Events waiting to be written"),
    ("postbell_journal_queue_octets", Unit::Bytes, "Octets waiting to be written"),
    ("postbell_journal_accepting", Unit::Count, "1 while the journal takes events"),
    ("postbell_stream_clients", Unit::Count, "Streams being followed"),
];

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
            accepted: 7,
            retried: 3,
            given_up: 1,
            dead_letters: 5,
            redriven: 6,
            unclear: 4,
            lag: 2,
        };
        let text = metrics.render(std::slice::from_ref(&phone));
        let told: Vec<_> = text.lines().filter(|line| line.contains("phone")).collect();
        assert_eq!(
            told,
            [
                r#"postbell_deliveries_total{subscription="phone",outcome="accepted"} 7"#,
                r#"postbell_deliveries_total{subscription="phone",outcome="given_up"} 1"#,
                r#"postbell_deliveries_total{subscription="phone",outcome="retried"} 3"#,
                r#"postbell_subscription_lag_records{subscription="phone"} 2"#,
                r#"postbell_subscription_dead_letters{subscription="phone"} 5"#,
                r#"postbell_subscription_redriven_total{subscription="phone"} 6"#,
                r#"postbell_subscription_unclear_total{subscription="phone"} 4"#,
            ]
        );
        assert_eq!(text.matches("# TYPE postbell_deliveries_total counter\n").count(), 1);
        assert!(!metrics.render(&[]).contains("subscription"));
    }
}
