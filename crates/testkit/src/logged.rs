//! What a program logs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what this process logs, above debug.
#[derive(Clone, Debug, Default)]
pub struct Logged(Arc<Mutex<Vec<(Level, String)>>>);

impl Logged {
    /// Listens from now on, to all threads; only the first one in a process hears anything.
    #[must_use]
    pub fn listen() -> Self {
        let logged = Self::default();
        tracing::subscriber::set_global_default(logged.clone()).unwrap_or_default();
        logged
    }

    /// The warnings until now, in order: each with its fields, one after the other.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let warnings = all.iter().filter(|(level, _)| *level == Level::WARN);
        warnings.map(|(_, text)| text.clone()).collect()
    }
}

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() < Level::DEBUG
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = (*event.metadata().level(), text.0);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(&format!("{field}={value:?}"));
    }
}
