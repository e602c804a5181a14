//! Our ends of connections over which a store is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// By these a source knows the logins for its own that whoever else asks the same store opens; cheap
/// to clone.
#[derive(Clone, Debug, Default)]
pub struct Ends(Arc<Mutex<VecDeque<(SocketAddr, i64)>>>);

impl Ends {
    /// Notes one, before the login that the store tells of.
    pub(super) fn note(&self, end: SocketAddr) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((end, Timestamp::now().as_millisecond()));
    }

    /// When a connection with this end was opened last, in milliseconds since 1970.
    pub(crate) fn opened(&self, end: SocketAddr) -> Option<i64> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().rev().find(|(one, _)| *one == end).map(|(_, opened)| *opened)
    }
}

/// Those remembered: more than are opened within the seconds in which a login is told.
const ENDS_MAX: usize = 1_024;
