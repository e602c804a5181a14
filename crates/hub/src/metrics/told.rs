//! Figures that are told as they are when somebody asks. They are not in the registry, which
//! forgets no label: a subscription can be removed.

use std::fmt::{self, Write as _};

use super::table;

/// The figures of one subscription, as they are now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SubscriptionFigures {
    /// Its name, which needs no escaping.
    pub(crate) name: String,
    pub(crate) matched: u64,
    pub(crate) accepted: u64,
    pub(crate) retried: u64,
    pub(crate) given_up: u64,
    pub(crate) unclear: u64,
    pub(crate) dead_letters: u64,
    pub(crate) redriven: u64,
    /// Requests accepted that held several.
    pub(crate) batches: u64,
    pub(crate) lag: u64,
    /// The first record it has yet to pass.
    pub(crate) next: u64,
    /// The age of that.
    pub(crate) lag_seconds: f64,
}

/// The figures of one source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct SourceFigures {
    /// Its name, which needs no escaping.
    pub(crate) name: String,
    pub(crate) is_up: bool,
    pub(crate) observations: u64,
    pub(crate) rescans: u64,
    pub(crate) skipped: u64,
    pub(crate) gaps: u64,
    pub(crate) unread: u64,
    pub(crate) users: u64,
    pub(crate) mailboxes: u64,
    pub(crate) messages: u64,
}

/// All that is told so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) sources: Vec<SourceFigures>,
    /// At most [`SUBSCRIPTIONS_TOLD_MAX`].
    pub(crate) subscriptions: Vec<SubscriptionFigures>,
    /// How many there are in each state.
    pub(crate) states: Vec<(&'static str, usize)>,
    /// How many want each event.
    pub(crate) demand: Vec<(&'static str, usize)>,
    /// How many subjects and single JWTs are denied.
    pub(crate) denials: u64,
    pub(crate) commits: u64,
    pub(crate) damaged: u64,
    pub(crate) signed_seq: u64,
    pub(crate) start_seconds: f64,
}

impl Figures {
    /// Appends them in Prometheus' text form.
    pub(super) fn write(&self, text: &mut String) -> fmt::Result {
        let of = |name: &str| format!(r#"source="{name}""#);
        let each: [Told<SourceFigures>; 9] = [
            ("postbell_source_up", |one| u64::from(one.is_up)),
            ("postbell_source_observations_total", |one| one.observations),
            ("postbell_source_rescans_total", |one| one.rescans),
            ("postbell_source_skipped_total", |one| one.skipped),
            ("postbell_source_gaps_total", |one| one.gaps),
            ("postbell_source_unread_octets", |one| one.unread),
            ("postbell_source_users", |one| one.users),
            ("postbell_source_mailboxes", |one| one.mailboxes),
            ("postbell_source_messages", |one| one.messages),
        ];
        for (name, figure) in each {
            family(text, name, self.sources.iter().map(|one| (of(&one.name), figure(one))))?;
        }
        let demand =
            self.demand.iter().map(|(event, count)| (format!(r#"event="{event}""#), count));
        family(text, "postbell_demand", demand)?;
        family(text, "postbell_denials", [(String::new(), self.denials)])?;
        family(text, "postbell_journal_commits_total", [(String::new(), self.commits)])?;
        family(text, "postbell_journal_damaged_records", [(String::new(), self.damaged)])?;
        family(text, "postbell_journal_signed_seq", [(String::new(), self.signed_seq)])?;
        let states =
            self.states.iter().map(|(state, count)| (format!(r#"state="{state}""#), count));
        family(text, "postbell_subscriptions", states)?;
        self.write_subscriptions(text)?;
        family(text, "postbell_start_time_seconds", [(String::new(), self.start_seconds)])?;
        let version = format!(r#"version="{}""#, env!("CARGO_PKG_VERSION"));
        family(text, "postbell_build_info", [(version, 1)])
    }

    fn write_subscriptions(&self, text: &mut String) -> fmt::Result {
        let of = |one: &SubscriptionFigures| format!(r#"subscription="{}""#, one.name);
        let outcomes = self.subscriptions.iter().flat_map(|one| {
            let outcomes =
                [("accepted", one.accepted), ("given_up", one.given_up), ("retried", one.retried)];
            outcomes.map(|(word, count)| (format!(r#"{},outcome="{word}""#, of(one)), count))
        });
        family(text, "postbell_deliveries_total", outcomes)?;
        let each: [Told<SubscriptionFigures>; 6] = [
            ("postbell_subscription_matched_total", |one| one.matched),
            ("postbell_subscription_unclear_total", |one| one.unclear),
            ("postbell_subscription_dead_letters", |one| one.dead_letters),
            ("postbell_subscription_redriven_total", |one| one.redriven),
            ("postbell_subscription_batches_total", |one| one.batches),
            ("postbell_subscription_lag_records", |one| one.lag),
        ];
        for (name, figure) in each {
            family(text, name, self.subscriptions.iter().map(|one| (of(one), figure(one))))?;
        }
        let seconds = self.subscriptions.iter().map(|one| (of(one), one.lag_seconds));
        family(text, "postbell_subscription_lag_seconds", seconds)
    }
}

/// A metric's name, and its figure among those of one thing.
type Told<T> = (&'static str, fn(&T) -> u64);

/// One metric with its help, its kind and a line for each of its labels; nothing where there is
/// no line.
fn family<T: fmt::Display>(
    text: &mut String,
    name: &str,
    lines: impl IntoIterator<Item = (String, T)>,
) -> fmt::Result {
    let mut lines = lines.into_iter().peekable();
    let Some(metric) = table::find(name).filter(|_| lines.peek().is_some()) else { return Ok(()) };
    writeln!(text, "# HELP {name} {}", metric.about)?;
    writeln!(text, "# TYPE {name} {}", metric.kind.as_str())?;
    for (labels, figure) in lines {
        match labels.is_empty() {
            true => writeln!(text, "{name} {figure}")?,
            false => writeln!(text, "{name}{{{labels}}} {figure}")?,
        }
    }
    writeln!(text)
}

/// Subscriptions whose figures are told one by one: a scrape stays within some 300 KiB, and nobody
/// looks at more.
pub(crate) const SUBSCRIPTIONS_TOLD_MAX: usize = 500;
