//! Which events a subscription wants.

use crate::View;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {}

impl Filter {
    /// Whether the event is wanted.
    #[must_use]
    pub fn matches(&self, view: &View<'_>) -> bool {
        !view.name().is_empty()
    }
}
