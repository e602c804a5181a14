//! A line of the spool as the source reads it.

use jiff::tz::Offset;
use mail_event::Timestamp;

use super::notification::{self, Notification};
use super::record::{BEGINS, LINE_OCTETS_MAX, Received, Record};
use super::tell::Whence;
use super::{datagram, dlist};
use crate::spool::Said;

/// What a line says.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) whence: Whence,
    pub(super) what: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Something happened in Cyrus.
    Notification(Box<Notification>),
    /// Something was sent that says nothing, and why.
    Garbled(String),
    /// The sockets were made anew.
    Began,
    /// Notifications were lost.
    Lost { count: u64, since: Timestamp },
}

impl Said for Entry {
    const LINE_OCTETS_MAX: usize = LINE_OCTETS_MAX;

    const BEGINS: &'static [u8] = BEGINS;

    fn read(line: &[u8]) -> Result<Self, String> {
        let record = Record::read(line).map_err(|error| error.to_string())?;
        let whence = Whence { identity: record.identity(), received: moment(record.ns)? };
        let parsed = match record.what {
            Received::Datagram(octets) => datagram::message(&octets)
                .map_err(|error| error.to_string())
                .and_then(|json| notification::parse(json).map_err(|error| error.to_string())),
            Received::Stream(octets) => dlist::message(&octets)
                .map_err(|error| error.to_string())
                .and_then(|json| notification::parse(&json).map_err(|error| error.to_string())),
            Received::Refused(why) => Err(why),
            Received::Began => return Ok(Self { whence, what: Content::Began }),
            Received::Lost { count, since_ns } => {
                let what = Content::Lost { count, since: moment(since_ns)? };
                return Ok(Self { whence, what });
            }
        };
        let what = match parsed {
            Ok(said) => Content::Notification(Box::new(said)),
            Err(why) => Content::Garbled(why),
        };
        Ok(Self { whence, what })
    }
}

/// To the millisecond, as events have it.
fn moment(ns: u64) -> Result<Timestamp, String> {
    let millis = i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(millis);
    let instant = instant.map_err(|_| "a moment that no calendar has".to_owned())?;
    Ok(Timestamp::new(instant, Offset::UTC))
}
