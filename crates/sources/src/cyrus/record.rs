//! One line of the spool between the process in notifyd's place and the source.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::recent::RecordIdentity;

/// What was received, or what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Record {
    /// When, in nanoseconds since 1970: for a datagram when it was sent, by the kernel's clock.
    pub(super) ns: u64,
    /// The process that sent it; 0 where the kernel didn't say.
    pub(super) pid: u32,
    /// What it is.
    pub(super) what: Received,
}

/// What came, or didn't.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// A datagram as it came.
    Datagram(Vec<u8>),
    /// A notification over the stream as it came, with its line ends.
    Stream(Vec<u8>),
    /// Something a permitted user sent that was not kept, and why.
    Refused(String),
    /// The sockets were made anew: nobody listened before.
    Began,
    /// So many that could not be written down, for want of room or because of the disk.
    Lost {
        /// How many.
        count: u64,
        /// When the first of them came, in nanoseconds since 1970.
        since_ns: u64,
    },
}

impl Record {
    /// What makes it this one and no other: looked at twice, because the reader died between
    /// writing it down and taking it, a datagram is still the same. The kernel stamps each when it
    /// is sent, and no process sends two in one nanosecond.
    pub(super) fn identity(&self) -> RecordIdentity {
        let (kind, octets): (u8, &[u8]) = match &self.what {
            Received::Datagram(octets) => (1, octets),
            Received::Stream(octets) => (2, octets),
            Received::Refused(why) => (3, why.as_bytes()),
            Received::Began => (4, &[]),
            Received::Lost { .. } => (5, &[]),
        };
        let mut hasher = Sha256::new();
        hasher.update(self.ns.to_be_bytes());
        hasher.update(self.pid.to_be_bytes());
        hasher.update([kind]);
        hasher.update(octets);
        hasher.finalize().into()
    }

    /// Adds it to `out`, with its line end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut raw = Raw { v: VERSION, ns: self.ns, pid: self.pid, ..Raw::default() };
        match &self.what {
            Received::Datagram(octets) | Received::Stream(octets) => {
                let is_stream = matches!(self.what, Received::Stream(_));
                raw.by = Some(if is_stream { By::Stream } else { By::Datagram });
                match std::str::from_utf8(octets) {
                    // Text where it can be read with the eye, and doesn't grow by it.
                    Ok(text) if escaped_octets(octets) <= octets.len() * 4 / 3 => {
                        raw.said = Some(text.to_owned());
                    }
                    _ => raw.base64 = Some(STANDARD.encode(octets)),
                }
            }
            Received::Refused(why) => raw.refused = Some(why.clone()),
            Received::Began => raw.began = true,
            Received::Lost { count, since_ns } => {
                (raw.lost, raw.since) = (Some(*count), Some(*since_ns));
            }
        }
        // Writing a struct of texts and numbers into memory can't fail.
        if let Ok(line) = serde_json::to_vec(&raw) {
            out.extend_from_slice(&line);
            out.push(b'\n');
        }
    }

    /// Reads a line; its end may be there or not.
    ///
    /// # Errors
    ///
    /// Where it is none that [`Record::write`] made.
    pub(super) fn read(line: &[u8]) -> Result<Self, InvalidRecord> {
        // The version first, so that a later one is called by its name.
        let Version { v } = serde_json::from_slice(line)?;
        if v != VERSION {
            return Err(InvalidRecord::Version(v));
        }
        let raw: Raw = serde_json::from_slice(line)?;
        let octets = match (raw.said, raw.base64) {
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => Some(STANDARD.decode(text).map_err(|_| InvalidRecord::Shape)?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(InvalidRecord::Shape),
        };
        let what = match (octets, raw.by, raw.refused, raw.lost.zip(raw.since), raw.began) {
            (Some(octets), Some(By::Datagram), None, None, false) => Received::Datagram(octets),
            (Some(octets), Some(By::Stream), None, None, false) => Received::Stream(octets),
            (None, None, Some(why), None, false) => Received::Refused(why),
            (None, None, None, Some((count, since_ns)), false) => {
                Received::Lost { count, since_ns }
            }
            (None, None, None, None, true) => Received::Began,
            _ => return Err(InvalidRecord::Shape),
        };
        Ok(Self { ns: raw.ns, pid: raw.pid, what })
    }
}

/// Why a line is none of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidRecord {
    /// No JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Written by a postbell of another age.
    #[error("a line of version {0}, where {VERSION} is known")]
    Version(u64),
    /// Not in the shape agreed on.
    #[error("a line that says neither one thing nor another")]
    Shape,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Default, Deserialize, Serialize)]
struct Raw {
    v: u64,
    ns: u64,
    pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    began: bool,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Datagram,
    Stream,
}

/// About how long a text gets as JSON.
fn escaped_octets(octets: &[u8]) -> usize {
    let one = |octet: &u8| match octet {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..=31 => 6,
        _ => 1,
    };
    octets.iter().map(one).sum()
}

/// The one form there is.
const VERSION: u64 = 1;

/// How every line begins.
pub(super) const BEGINS: &[u8] = br#"{"v":1,"ns":"#;

/// The longest line: the longest notification, a third longer in base64, and what stands around.
pub(super) const LINE_OCTETS_MAX: usize = NOTIFICATION_OCTETS_MAX / 3 * 4 + 1024;

/// The longest notification that is read. Datagrams end at 64 KiB; over the stream Cyrus sets no
/// limit, and `bodyStructure` or `messageContent` may make one long.
pub(super) const NOTIFICATION_OCTETS_MAX: usize = 3 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let octets = || {
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..100),
                "[ -~]{0,100}".prop_map(String::into_bytes)
            ]
        };
        let what = prop_oneof![
            octets().prop_map(Received::Datagram),
            octets().prop_map(Received::Stream),
            any::<String>().prop_map(Received::Refused),
            Just(Received::Began),
            (any::<u64>(), any::<u64>())
                .prop_map(|(count, since_ns)| Received::Lost { count, since_ns }),
        ];
        (any::<u64>(), any::<u32>(), what).prop_map(|(ns, pid, what)| Record { ns, pid, what })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record()) {
            let mut line = Vec::new();
            record.write(&mut line);
            prop_assert!(line.starts_with(BEGINS) && line.ends_with(b"\n"));
            prop_assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
            prop_assert_eq!(Record::read(&line).unwrap(), record);
        }
    }

    #[test]
    fn the_longest_notification_makes_no_line_that_is_too_long() {
        for octets in [vec![0; NOTIFICATION_OCTETS_MAX], vec![b'"'; NOTIFICATION_OCTETS_MAX]] {
            let what = Received::Stream(octets);
            let mut line = Vec::new();
            Record { ns: u64::MAX, pid: u32::MAX, what }.write(&mut line);
            assert!(line.len() <= LINE_OCTETS_MAX, "{}", line.len());
        }
    }

    #[test]
    fn two_equal_datagrams_are_told_apart_by_the_moment_and_the_process() {
        let record = |ns, pid| Record { ns, pid, what: Received::Datagram(b"x".to_vec()) };
        assert_eq!(record(1, 2).identity(), record(1, 2).identity());
        assert_ne!(record(1, 2).identity(), record(2, 2).identity());
        assert_ne!(record(1, 2).identity(), record(1, 3).identity());
    }

    #[test]
    fn a_line_of_another_age_is_called_by_its_version() {
        let error = Record::read(br#"{"v":2,"ns":1,"pid":0,"new":true}"#).unwrap_err();
        assert_eq!(error.to_string(), "a line of version 2, where 1 is known");
        assert!(Record::read(br#"{"v":1,"ns":1,"pid":0}"#).is_err());
    }
}
