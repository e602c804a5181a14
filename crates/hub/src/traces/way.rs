//! The way in: one span for what is handed in together, and one for each stage.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Status};
use opentelemetry_sdk::trace::Span;
use postbell_journal::Verdict;

use super::On;

/// One batch on its way in. Dropped it is told as far as it has come; where it is not traced, nothing
/// of it costs anything.
#[derive(Debug, Default)]
pub(crate) struct WayIn(Option<Box<Traced>>);

#[derive(Debug)]
struct Traced {
    on: Arc<On>,
    whole: Span,
    stage: Option<Span>,
}

impl WayIn {
    /// The way that `whole` is, if it is to be told.
    pub(super) fn new(on: &Arc<On>, whole: Span) -> Self {
        // The span knows what the share and the publisher say.
        let is_told = whole.is_recording();
        Self(is_told.then(|| Box::new(Traced { on: Arc::clone(on), whole, stage: None })))
    }

    /// Notes that the events are being looked at.
    pub(crate) fn admitting(&mut self) {
        self.stage("admit", None);
    }

    /// Notes that observations were looked at, from `begun` until now.
    pub(super) fn normalised(&mut self, begun: SystemTime) {
        self.stage("normalise", Some(begun));
    }

    /// Notes that events go to the journal: their ids, and how many were refused before. What they
    /// lead to will belong to the same trace, of the first [`FOLLOWED_OF_BATCH_MAX`].
    pub(crate) fn journalling(&mut self, ids: impl ExactSizeIterator<Item = u128>, refused: usize) {
        let Some(traced) = &mut self.0 else { return };
        traced.whole.set_attribute(number("postbell.events", ids.len() + refused));
        traced.whole.set_attribute(number("postbell.rejected", refused));
        let trace = traced.whole.span_context().clone();
        traced.on.follow(ids.take(FOLLOWED_OF_BATCH_MAX), &trace);
        self.stage("journal", None);
    }

    /// Notes what the journal said of them; nothing where it took none.
    pub(crate) fn journalled(&mut self, verdicts: Option<&[Verdict]>) {
        let Some(traced) = &mut self.0 else { return };
        let Some(mut stage) = traced.stage.take() else { return };
        let Some(verdicts) = verdicts else {
            stage.set_status(Status::error("not taken"));
            traced.whole.set_status(Status::error("not taken"));
            return;
        };
        let seqs = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::New(seq) => Some(seq.0),
            Verdict::Repeated(_) => None,
        });
        let (first, last) = (seqs.clone().next(), seqs.clone().next_back());
        let accepted = seqs.count();
        traced.whole.set_attribute(number("postbell.accepted", accepted));
        traced.whole.set_attribute(number("postbell.repeated", verdicts.len() - accepted));
        if let (Some(first), Some(last)) = (first, last) {
            stage.set_attribute(seq("postbell.seq.first", first));
            stage.set_attribute(seq("postbell.seq.last", last));
        }
    }

    /// Ends the stage before and begins another, or tells one that was from `begun` until now.
    fn stage(&mut self, name: &'static str, begun: Option<SystemTime>) {
        let Some(traced) = &mut self.0 else { return };
        // The one before ends first.
        drop(traced.stage.take());
        let parent = traced.whole.span_context();
        let stage = traced.on.span(name, SpanKind::Internal, Some(parent), begun, Vec::new());
        traced.stage = begun.is_none().then_some(stage);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // The stage ends no later than the whole.
        drop(self.stage.take());
    }
}

/// An attribute that is a number.
pub(super) fn number(key: &'static str, value: usize) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

/// An attribute that is a record's number.
pub(super) fn seq(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

/// Events of a batch whose deliveries belong to its trace. A trace of more is no longer looked at by
/// anybody, and a full body would have a hundred thousand.
pub(super) const FOLLOWED_OF_BATCH_MAX: usize = 64;
