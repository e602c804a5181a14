//! Every metric there is: one table, from which the help texts, `docs/metrics.md` and the checks
//! are made.

use metrics::Unit;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) labels: &'static [&'static str],
    pub(crate) about: &'static str,
}

/// What Prometheus makes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    about: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, about }
}

/// The metric called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// `docs/metrics.md`, made from the table of metrics.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(PREFACE);
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.about
        ));
    }
    out
}

const PREFACE: &str = "# Metrics

`GET /metrics` tells these in Prometheus' text form, to whoever has a token with the scope `monitor`
(`postbell tokens add prometheus --role service --scope monitor`). `integrations/grafana/postbell.json` is a dashboard of
them. An event's way goes down the table: it comes in at a source, becomes a record, is matched, delivered, tried again or
given up.

Labels are bounded: names of sources, names of the operator's subscriptions and ids of others', the 18 registered events and
`other`. No label is a user, a mailbox, or a name a publisher made up. Of more than 500 subscriptions those that lag most are
told, and `postbell_subscriptions` tells how many there are.

Counters begin at 0 when the hub starts.

| metric | kind | labels | what it tells |
|---|---|---|---|
";

use Kind::{Counter, Gauge, Histogram};

/// All there are, in the order of an event's way.
pub(crate) const METRICS: &[Metric] = &[
    metric(
        "postbell_events_total",
        Counter,
        Unit::Count,
        &["source", "event"],
        "Events that became records, by source and name",
    ),
    metric(
        "postbell_events_repeated_total",
        Counter,
        Unit::Count,
        &["source"],
        "Events that were there already",
    ),
    metric("postbell_events_rejected_total", Counter, Unit::Count, &["source"], "Events refused"),
    metric(
        "postbell_events_repaired_total",
        Counter,
        Unit::Count,
        &["source"],
        "Events that were changed on their way in so that they are strict",
    ),
    metric(
        "postbell_suppressed_total",
        Counter,
        Unit::Count,
        &["source", "what"],
        "What was kept from being made: happenings of a group that is off (policy.groups_off), parameters of messages that policy keeps or nobody wants; of what publishers hand in, events of such a group, which are refused as well, and parameters that policy keeps out",
    ),
    metric(
        "postbell_unwanted_total",
        Counter,
        Unit::Count,
        &["source", "group"],
        "What a source saw that nobody wanted and was not recorded (policy.record), by group; nothing of a group that is off",
    ),
    metric(
        "postbell_demand",
        Gauge,
        Unit::Count,
        &["event"],
        "How many subscriptions, commands and streams want an event, those that have just gone among them",
    ),
    metric(
        "postbell_source_up",
        Gauge,
        Unit::Count,
        &["source"],
        "1 while a source runs or scans; 0 while it starts, waits, has failed or was stopped",
    ),
    metric(
        "postbell_source_observations_total",
        Counter,
        Unit::Count,
        &["source"],
        "What a source saw, or was handed",
    ),
    metric(
        "postbell_source_rescans_total",
        Counter,
        Unit::Count,
        &["source"],
        "Full looks taken because a notice may have been missed",
    ),
    metric(
        "postbell_source_skipped_total",
        Counter,
        Unit::Count,
        &["source"],
        "Things left aside as unreadable, invalid or beyond a limit",
    ),
    metric(
        "postbell_source_gaps_total",
        Counter,
        Unit::Count,
        &["source"],
        "Holes told as vnd.postbell.Gap",
    ),
    metric(
        "postbell_source_unread_octets",
        Gauge,
        Unit::Bytes,
        &["source"],
        "Octets of a spool that are not in the journal yet",
    ),
    metric("postbell_source_users", Gauge, Unit::Count, &["source"], "Users watched"),
    metric("postbell_source_mailboxes", Gauge, Unit::Count, &["source"], "Mailboxes watched"),
    metric("postbell_source_messages", Gauge, Unit::Count, &["source"], "Messages known"),
    metric(
        "postbell_journal_accepting",
        Gauge,
        Unit::Count,
        &[],
        "1 while the journal takes events",
    ),
    metric("postbell_journal_seq", Gauge, Unit::Count, &[], "Number of the newest durable record"),
    metric(
        "postbell_journal_first_seq",
        Gauge,
        Unit::Count,
        &[],
        "Number of the oldest record kept",
    ),
    metric("postbell_journal_octets", Gauge, Unit::Bytes, &[], "Octets the journal has on disk"),
    metric(
        "postbell_journal_queue_entries",
        Gauge,
        Unit::Count,
        &[],
        "Events waiting to be written",
    ),
    metric(
        "postbell_journal_queue_octets",
        Gauge,
        Unit::Bytes,
        &[],
        "Octets waiting to be written",
    ),
    metric("postbell_journal_commits_total", Counter, Unit::Count, &[], "Commits"),
    metric(
        "postbell_journal_commit_seconds",
        Histogram,
        Unit::Seconds,
        &[],
        "How long commits took; of those since the last scrape the newest",
    ),
    metric(
        "postbell_journal_damaged_records",
        Gauge,
        Unit::Count,
        &[],
        "Records met since the start that can't be read",
    ),
    metric(
        "postbell_journal_signed_seq",
        Gauge,
        Unit::Count,
        &[],
        "Number of the record up to which the last signed checkpoint vouches; 0 without one",
    ),
    metric(
        "postbell_subscriptions",
        Gauge,
        Unit::Count,
        &["state"],
        "Subscriptions there are, by state",
    ),
    metric(
        "postbell_subscription_matched_total",
        Counter,
        Unit::Count,
        &["subscription"],
        "Records a subscription wanted",
    ),
    metric(
        "postbell_subscription_unclear_total",
        Counter,
        Unit::Count,
        &["subscription"],
        "Events whose condition could not be judged",
    ),
    metric(
        "postbell_deliveries_total",
        Counter,
        Unit::Count,
        &["subscription", "outcome"],
        "Deliveries attempted, by outcome: accepted, retried, or given_up; each one of a batch counts",
    ),
    metric(
        "postbell_subscription_dead_letters",
        Gauge,
        Unit::Count,
        &["subscription"],
        "Deliveries given up that are kept",
    ),
    metric(
        "postbell_subscription_redriven_total",
        Counter,
        Unit::Count,
        &["subscription"],
        "Dead letters that were delivered after all",
    ),
    metric(
        "postbell_subscription_batches_total",
        Counter,
        Unit::Count,
        &["subscription"],
        "Requests accepted in which deliveries went together",
    ),
    metric(
        "postbell_subscription_lag_records",
        Gauge,
        Unit::Count,
        &["subscription"],
        "Records a subscription has yet to pass",
    ),
    metric(
        "postbell_subscription_lag_seconds",
        Gauge,
        Unit::Seconds,
        &["subscription"],
        "Age of the oldest record it has yet to pass; 0 where there is none",
    ),
    metric("postbell_stream_clients", Gauge, Unit::Count, &[], "Streams being followed"),
    metric(
        "postbell_stream_refused_total",
        Counter,
        Unit::Count,
        &[],
        "Streams refused because there were enough",
    ),
    metric(
        "postbell_stream_deliveries_total",
        Counter,
        Unit::Count,
        &[],
        "Events written to streams",
    ),
    metric(
        "postbell_stream_unclear_total",
        Counter,
        Unit::Count,
        &[],
        "Events not streamed because a stream's condition could not be judged",
    ),
    metric(
        "postbell_stream_slow_total",
        Counter,
        Unit::Count,
        &[],
        "Streams cut off because their client took nothing for http.stall_timeout",
    ),
    metric(
        "postbell_http_unauthorised_total",
        Counter,
        Unit::Count,
        &[],
        "Requests without the right token",
    ),
    metric(
        "postbell_http_denied_total",
        Counter,
        Unit::Count,
        &[],
        "Those among them with a JWT that would let in, were it not denied",
    ),
    metric(
        "postbell_denials",
        Gauge,
        Unit::Count,
        &[],
        "Subjects and single JWTs of the issuer that are denied",
    ),
    metric(
        "postbell_url_auth_total",
        Counter,
        Unit::Count,
        &["outcome"],
        "URLs by the store that were wanted for content, by outcome: made, or known from before; or, with a link in its place, away (nobody can be asked), unfit (no such message), refused, late, or crowded (no place to ask in)",
    ),
    metric(
        "postbell_tls_certificate_ends_seconds",
        Gauge,
        Unit::Seconds,
        &[],
        "When the certificate in use ends, in seconds since 1970; 0 without TLS",
    ),
    metric(
        "postbell_tls_handshakes_failed_total",
        Counter,
        Unit::Count,
        &[],
        "TLS handshakes that failed",
    ),
    metric(
        "postbell_tls_reloads_failed_total",
        Counter,
        Unit::Count,
        &[],
        "New certificates, of the listener or for webhooks' receivers, that were no good and were kept out",
    ),
    metric(
        "postbell_spans_told_total",
        Counter,
        Unit::Count,
        &[],
        "Spans that OpenTelemetry's collector has taken",
    ),
    metric(
        "postbell_spans_lost_total",
        Counter,
        Unit::Count,
        &[],
        "Spans that it did not take, or that were too many to wait for it",
    ),
    metric(
        "postbell_start_time_seconds",
        Gauge,
        Unit::Seconds,
        &[],
        "When the hub was started, in seconds since 1970",
    ),
    metric("postbell_build_info", Gauge, Unit::Count, &["version"], "1, by version"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `POSTBELL_WRITE_DOCS=1` writes the page anew.
    #[test]
    fn the_page_of_metrics_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("POSTBELL_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/metrics.md is old: run with POSTBELL_WRITE_DOCS=1");
    }

    #[test]
    fn names_say_what_prometheus_expects_of_them() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("postbell_"), "{name}");
            assert_eq!(metric.kind == Counter, name.ends_with("_total"), "{name}");
            let suffix = match metric.unit {
                Unit::Seconds => name.ends_with("_seconds"),
                Unit::Bytes => name.ends_with("_octets"),
                _ => !name.ends_with("_seconds") && !name.ends_with("_octets"),
            };
            assert!(suffix, "{name}");
            assert_eq!(METRICS.iter().filter(|other| other.name == name).count(), 1, "{name}");
        }
    }

    /// What the panels of the dashboard ask for.
    fn queries() -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integrations/grafana/postbell.json");
        let board: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let panels = board["panels"].as_array().unwrap().iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    }

    /// The metrics a query names.
    fn named(query: &str) -> impl Iterator<Item = &str> {
        let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("postbell_"))
    }

    /// Every metric a panel of the dashboard asks for is one of these.
    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let queries = queries();
        let asked: Vec<_> = queries.iter().flat_map(|query| named(query)).collect();
        assert!(asked.len() > 20, "{asked:?}");
        for name in asked {
            let plain = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|plain| find(plain).is_some_and(|metric| metric.kind == Histogram))
                .unwrap_or(name);
            assert!(find(plain).is_some(), "{name}");
        }
    }

    #[test]
    fn the_dashboard_shows_each_stage_of_an_events_way() {
        let queries = queries();
        for (stage, metric) in [
            ("seen", "postbell_source_observations_total"),
            ("in", "postbell_events_total"),
            ("repeated", "postbell_events_repeated_total"),
            ("refused", "postbell_events_rejected_total"),
            ("repaired", "postbell_events_repaired_total"),
            ("demand", "postbell_demand"),
            ("suppressed", "postbell_suppressed_total"),
            ("unwanted", "postbell_unwanted_total"),
            ("journalled", "postbell_journal_commits_total"),
            ("matched", "postbell_subscription_matched_total"),
            ("dead", "postbell_subscription_dead_letters"),
            ("lag in records", "postbell_subscription_lag_records"),
            ("lag in seconds", "postbell_subscription_lag_seconds"),
            ("streamed", "postbell_stream_deliveries_total"),
            ("not let in", "postbell_http_unauthorised_total"),
            ("denied", "postbell_http_denied_total"),
            ("who is denied", "postbell_denials"),
        ] {
            let is_shown = queries.iter().any(|query| named(query).any(|name| name == metric));
            assert!(is_shown, "{stage}: no panel asks for {metric}");
        }
        // Delivered and retried are one metric, told apart by its label.
        let attempts = |how: &str| {
            let mut asking =
                queries.iter().filter(|query| named(query).any(|name| name == ATTEMPTS));
            asking.any(|query| query.contains(how))
        };
        assert!(attempts("sum by (outcome)") && attempts("outcome!=\"accepted\""));
    }

    const ATTEMPTS: &str = "postbell_deliveries_total";
}
