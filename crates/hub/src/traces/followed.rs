//! Which traces the events on their way to subscribers belong to.

use std::collections::{HashMap, VecDeque};

use opentelemetry::trace::SpanContext;

/// Events whose deliveries go on with the trace in which they were handed in, by id. Of too many the
/// oldest are forgotten, and their deliveries aren't traced any more.
#[derive(Debug, Default)]
pub(super) struct Followed {
    traces: HashMap<u128, SpanContext>,
    /// In the order they came.
    ids: VecDeque<u128>,
}

impl Followed {
    /// Has an event's deliveries go on with a trace. One that is followed already keeps its own:
    /// what is handed in again is not delivered again.
    pub(super) fn add(&mut self, id: u128, trace: &SpanContext) {
        if self.traces.contains_key(&id) {
            return;
        }
        if self.ids.len() >= FOLLOWED_MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            self.traces.remove(&oldest);
        }
        self.traces.insert(id, trace.clone());
        self.ids.push_back(id);
    }

    /// The trace that an event's deliveries go on with, if any.
    pub(super) fn trace(&self, id: u128) -> Option<&SpanContext> {
        self.traces.get(&id)
    }
}

/// Events followed at once: some 2 MiB.
pub(super) const FOLLOWED_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn trace(number: u128) -> SpanContext {
        let (trace, span) = (TraceId::from(number), SpanId::from(1));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    #[test]
    fn of_too_many_events_the_oldest_are_forgotten() {
        let mut followed = Followed::default();
        let count = FOLLOWED_MAX as u128 + 3;
        (0..count).for_each(|id| followed.add(id, &trace(id + 1)));
        assert_eq!((followed.traces.len(), followed.ids.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
        assert_eq!(followed.trace(2), None);
        for id in [3, count - 1] {
            assert_eq!(followed.trace(id), Some(&trace(id + 1)));
        }
    }

    #[test]
    fn an_event_handed_in_again_stays_in_its_first_trace() {
        let mut followed = Followed::default();
        followed.add(7, &trace(1));
        followed.add(7, &trace(2));
        assert_eq!(followed.trace(7), Some(&trace(1)));
        assert_eq!(followed.ids.len(), 1);
    }
}
