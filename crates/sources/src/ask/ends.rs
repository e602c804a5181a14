//! Our ends of connections over which a store is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// By these a source knows the logins for its own that whoever else asks the same store opens; cheap
/// to clone.
#[derive(Clone, Debug, Default)]
pub struct Ends(Arc<Mutex<VecDeque<(SocketAddr, i64)>>>);

impl Ends {
    /// Notes one, before the login that the store tells of.
    pub(crate) fn note(&self, end: SocketAddr) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((end, Timestamp::now().as_millisecond()));
    }

    /// Whether a connection with this end was opened then, in milliseconds since 1970; says so once,
    /// as there is one login over each, and whoever has that port next is somebody else.
    pub(crate) fn take(&self, end: SocketAddr, then: &RangeInclusive<i64>) -> bool {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(one, opened): &(SocketAddr, i64)| *one == end && then.contains(opened);
        let at = ends.iter().position(is_it);
        at.and_then(|at| ends.remove(at)).is_some()
    }
}

/// Those remembered: more than are opened within the seconds in which a login is told.
const ENDS_MAX: usize = 1_024;
