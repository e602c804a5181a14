//! When an event occurred: an instant and the local offset it was told in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use jiff::tz::Offset;

use crate::Repair;

/// An instant in local time with its offset from UTC (RFC 5423, section 5, timestamp).
///
/// Written as RFC 3339 with a numeric offset: UTC is `+00:00`, never `Z` or `-00:00` (A15). The
/// fraction has the digits it needs, at most nine, and the zeros behind them that it was read with:
/// they are told on as they came, and make no other time of it.
///
/// ```
/// use mail_event::Timestamp;
///
/// let time: Timestamp = "2026-08-20T13:34:14.966+05:45".parse()?;
/// assert_eq!(time.to_string(), "2026-08-20T13:34:14.966+05:45");
/// # Ok::<(), mail_event::InvalidTimestamp>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    instant: jiff::Timestamp,
    offset: Offset,
    /// Digits of the fraction as it was read, where zeros end it that it doesn't need; 0 elsewhere.
    padded: u8,
}

impl Timestamp {
    /// An instant as told at `offset`. RFC 3339 has no seconds of an offset, which are dropped, no
    /// offset of a day or more, which becomes UTC, and no time before the year 0, which becomes
    /// its second day.
    #[must_use]
    pub fn new(instant: jiff::Timestamp, offset: Offset) -> Self {
        let minutes = offset.seconds() / 60;
        let offset = Offset::from_seconds(minutes * 60).unwrap_or(Offset::UTC);
        let offset = if minutes.abs() < 24 * 60 { offset } else { Offset::UTC };
        let earliest = jiff::Timestamp::from_second(EARLIEST).unwrap_or(instant);
        Self { instant: instant.max(earliest), offset, padded: 0 }
    }

    /// The instant and offset of a time with a zone.
    #[must_use]
    pub fn from_zoned(zoned: &jiff::ZonedDateTime) -> Self {
        Self::new(zoned.timestamp(), zoned.offset())
    }

    /// The instant, without the offset.
    #[must_use]
    pub fn instant(self) -> jiff::Timestamp {
        self.instant
    }

    /// The offset from UTC.
    #[must_use]
    pub fn offset(self) -> Offset {
        self.offset
    }

    /// Milliseconds since 1970, rounded down.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.instant.as_millisecond()
    }

    /// The same without zeros at the end of its fraction.
    pub(crate) fn canonical(self) -> Self {
        Self { padded: 0, ..self }
    }

    /// Whether no needless zero ends its fraction.
    pub(crate) fn is_canonical(self) -> bool {
        self.padded == 0
    }

    /// Reads what stores send besides RFC 3339: `Z`, `-00:00`, and offsets without a colon.
    ///
    /// # Errors
    ///
    /// Where it is no date and time with an offset.
    pub fn parse_lenient(text: &str) -> Result<(Self, Option<Repair>), InvalidTimestamp> {
        if let Ok(strict) = text.parse() {
            return Ok((strict, None));
        }
        let time = read(text, Reading::Lenient).ok_or_else(|| InvalidTimestamp::new(text))?;
        Ok((time, Some(Repair::rewritten("timestamp"))))
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        (self.instant, self.offset) == (other.instant, other.offset)
    }
}

impl Eq for Timestamp {}

impl Hash for Timestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.instant, self.offset).hash(state);
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text, Reading::Strict).ok_or_else(|| InvalidTimestamp::new(text))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.offset.to_datetime(self.instant);
        let seconds = self.offset.seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.unsigned_abs() / 60;
        match usize::from(self.padded) {
            0 => write!(f, "{local}")?,
            digits => write!(f, "{local:.digits$}")?,
        }
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// The second day of the year 0, so that no offset leads before that year.
const EARLIEST: i64 = -62_167_132_800;

/// Why a text is not a timestamp.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time with a numeric offset")]
pub struct InvalidTimestamp(String);

impl InvalidTimestamp {
    fn new(text: &str) -> Self {
        Self(text.chars().take(64).collect())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Strict,
    Lenient,
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.fraction]±HH:MM` by hand: it is read once for every event.
fn read(text: &str, reading: Reading) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (fixed, rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let stands = |(at, wanted): (usize, u8)| fixed.get(at).is_some_and(|byte| *byte == wanted);
    let lower =
        reading == Reading::Lenient && fixed.get(10).is_some_and(|b| *b == b't' || *b == b' ');
    if !separators.into_iter().all(|pair| stands(pair) || (pair.0 == 10 && lower)) {
        return None;
    }
    let field = |from: usize, to: usize| digits(fixed.get(from..to)?);
    let mut second = field(17, 19)?;
    if second == 60 && reading == Reading::Lenient {
        // A leap second is told as the last moment before it, as the calendar here has none.
        second = 59;
    }
    let (nanos, padded, rest) = fraction(rest)?;
    let minutes = offset(rest, reading)?;
    let local = jiff::civil::DateTime::new(
        i16::try_from(field(0, 4)?).ok()?,
        i8::try_from(field(5, 7)?).ok()?,
        i8::try_from(field(8, 10)?).ok()?,
        i8::try_from(field(11, 13)?).ok()?,
        i8::try_from(field(14, 16)?).ok()?,
        i8::try_from(second).ok()?,
        nanos,
    )
    .ok()?;
    let offset = Offset::from_seconds(minutes * 60).ok()?;
    Some(Timestamp { instant: offset.to_timestamp(local).ok()?, offset, padded })
}

/// The fraction in nanoseconds, how many digits it has if zeros end it, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i32, u8, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else { return Some((0, 0, rest)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at_checked(count)?;
    if !(1..=9).contains(&count) {
        return None;
    }
    let scale = 10_i32.pow(u32::try_from(9 - count).ok()?);
    let padded = if fraction.ends_with(b"0") { u8::try_from(count).ok()? } else { 0 };
    Some((digits(fraction)? * scale, padded, rest))
}

/// The offset in minutes; it must be all that is left.
fn offset(rest: &[u8], reading: Reading) -> Option<i32> {
    let (sign, hours, minutes) = match (rest, reading) {
        ([sign, h1, h2, b':', m1, m2], _) => (*sign, [*h1, *h2], [*m1, *m2]),
        ([sign, h1, h2, m1, m2], Reading::Lenient) => (*sign, [*h1, *h2], [*m1, *m2]),
        ([b'Z' | b'z'], Reading::Lenient) => return Some(0),
        _ => return None,
    };
    let (hours, minutes) = (digits(&hours)?, digits(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let total = hours * 60 + minutes;
    match sign {
        b'+' => Some(total),
        // -00:00 says that the offset is unknown; strictly it is never written.
        b'-' if total == 0 && reading == Reading::Strict => None,
        b'-' => Some(-total),
        _ => None,
    }
}

/// A number of at most nine digits.
fn digits(bytes: &[u8]) -> Option<i32> {
    bytes.iter().try_fold(0_i32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some(number * 10 + i32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str) {
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
    }

    #[test]
    fn r139_odd_offsets_are_kept() {
        there_and_back("2026-08-20T13:34:14+05:45");
        there_and_back("2026-08-20T13:34:14.966-09:30");
        there_and_back("2026-08-20T13:34:14.000000001+00:00");
    }

    #[test]
    fn zeros_that_end_a_fraction_are_kept_and_make_no_other_time() {
        let zeros = ["", ".0", ".000", ".000000000"];
        let times = zeros.map(|zeros| format!("2026-08-20T13:34:14{zeros}+02:00"));
        times.iter().for_each(|text| there_and_back(text));
        there_and_back("2026-08-20T13:34:14.9660+02:00");
        let times = times.map(|text| text.parse::<Timestamp>().unwrap());
        for time in times {
            assert_eq!(time, times[0]);
            assert_eq!(time.canonical().to_string(), "2026-08-20T13:34:14+02:00");
        }
        assert!(times[0].is_canonical() && !times[1].is_canonical());
    }

    #[test]
    fn r140_what_is_not_strict_is_read_and_told() {
        for (text, strict) in [
            ("2026-08-20T13:34:14Z", "2026-08-20T13:34:14+00:00"),
            ("2026-08-20T13:34:14-00:00", "2026-08-20T13:34:14+00:00"),
            ("2026-08-20T13:34:14+0100", "2026-08-20T13:34:14+01:00"),
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
            let (time, repair) = Timestamp::parse_lenient(text).unwrap();
            assert_eq!(time.to_string(), strict);
            assert!(repair.is_some());
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "2026-02-30T00:00:00+00:00", "2026-08-20", "2026-08-20T25:00:00+01:00"] {
            assert!(Timestamp::parse_lenient(text).is_err(), "{text}");
        }
    }

    fn told_in(zone: &str, instant: &str) -> String {
        let zone = jiff::tz::TimeZone::get(zone).unwrap();
        let instant: jiff::Timestamp = instant.parse().unwrap();
        Timestamp::from_zoned(&instant.to_zoned_datetime(zone)).to_string()
    }

    #[test]
    fn r139_local_time_in_kathmandu_and_at_utc() {
        let noon = "2026-08-20T12:00:00Z";
        assert_eq!(told_in("Asia/Kathmandu", noon), "2026-08-20T17:45:00+05:45");
        assert_eq!(told_in("Etc/UTC", noon), "2026-08-20T12:00:00+00:00");
        assert_eq!(told_in("Pacific/Marquesas", noon), "2026-08-20T02:30:00-09:30");
        // Monrovia was then 44 minutes and 30 seconds behind; the seconds are dropped.
        assert_eq!(told_in("Africa/Monrovia", "1960-01-01T12:00:00Z"), "1960-01-01T11:16:00-00:44");
    }

    #[test]
    fn r139_the_hour_that_is_left_out_is_never_told() {
        assert_eq!(told_in("Europe/Berlin", "2026-03-29T00:59:59Z"), "2026-03-29T01:59:59+01:00");
        assert_eq!(told_in("Europe/Berlin", "2026-03-29T01:00:00Z"), "2026-03-29T03:00:00+02:00");
    }

    #[test]
    fn r140_what_rfc_3339_has_no_form_for_becomes_what_it_has() {
        let noon: jiff::Timestamp = "2026-08-20T12:00:00Z".parse().unwrap();
        let far = Timestamp::new(noon, Offset::from_seconds(25 * 3600).unwrap());
        assert_eq!(far.to_string(), "2026-08-20T12:00:00+00:00");
        let early = Timestamp::new(jiff::Timestamp::MIN, Offset::from_seconds(-3600).unwrap());
        assert_eq!(early.to_string(), "0000-01-01T23:00:00-01:00");
        let late = Timestamp::new(jiff::Timestamp::MAX, Offset::from_seconds(3600).unwrap());
        assert_eq!(late.to_string().parse::<Timestamp>(), Ok(late));
        let (leap, _) = Timestamp::parse_lenient("2016-12-31T23:59:60Z").unwrap();
        assert_eq!(leap.to_string(), "2016-12-31T23:59:59+00:00");
    }

    #[test]
    fn r139_the_hour_that_comes_twice_keeps_its_offset() {
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let first: jiff::Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
        let second: jiff::Timestamp = "2026-10-25T01:30:00Z".parse().unwrap();
        let told = |instant: jiff::Timestamp| {
            Timestamp::from_zoned(&instant.to_zoned_datetime(zone.clone())).to_string()
        };
        assert_eq!(told(first), "2026-10-25T02:30:00+02:00");
        assert_eq!(told(second), "2026-10-25T02:30:00+01:00");
    }
}
