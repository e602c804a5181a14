//! Points in time as people write them on a command line.

use std::time::Duration;

/// Where to begin: a record's number or a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begin {
    /// With what happens from now on.
    Now,
    /// With this record.
    Seq(u64),
    /// With what was recorded since.
    Time(jiff::Timestamp),
}

/// Reads `now`, a record's number, or a time (see [`time`]).
pub(crate) fn begin(text: &str) -> Result<Begin, String> {
    if text == "now" {
        return Ok(Begin::Now);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return text.parse().map(Begin::Seq).map_err(|_| "is over the largest number".to_owned());
    }
    time(text).map(Begin::Time).map_err(|_| {
        "is not \"now\", a record's number or a time (try 17, 2h or 2026-08-20T13:34:14+02:00)"
            .to_owned()
    })
}

/// Reads a record's number, or 0.
pub(crate) fn seq(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "is not a record's number (try 17, or 0 for the oldest)")
}

/// Reads how many, at least one.
pub(crate) fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("is not how many (try 10)")
}

/// Reads an RFC 3339 time, or how long ago: `90s`, `10m`, `2h`, `1d`.
pub(crate) fn time(text: &str) -> Result<jiff::Timestamp, String> {
    if let Some(ago) = ago(text) {
        let now = jiff::Timestamp::now();
        return now.checked_sub(ago).map_err(|_| "is before all time".to_owned());
    }
    text.parse().map_err(|_| {
        "is not a time (try 2026-08-20T13:34:14+02:00, or 2h for two hours ago)".to_owned()
    })
}

/// Reads how long something may take: `90s`, `10m`, `2h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    ago(text).filter(|time| !time.is_zero()).ok_or("is not a length of time (try 60s or 5m)")
}

/// Reads how long from now, or a time.
pub(crate) fn expiry(text: &str) -> Result<jiff::Timestamp, String> {
    let now = jiff::Timestamp::now();
    if let Ok(long) = duration(text) {
        return now.checked_add(long).map_err(|_| "is after all time".to_owned());
    }
    text.parse().map_err(|_| "is not a time (try 30d, or 2027-01-01T00:00:00Z)".to_owned())
}

fn ago(text: &str) -> Option<Duration> {
    let at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_how_long_or_when() {
        let left = expiry("30d").unwrap().duration_since(jiff::Timestamp::now());
        assert!((2_591_990..=2_592_000).contains(&left.as_secs()), "{left}");
        assert_eq!(expiry("2027-01-01T00:00:00Z").unwrap().to_string(), "2027-01-01T00:00:00Z");
        for wrong in ["0d", "soon", "30", "999999999999d"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_not_how_many() {
        assert_eq!(count("10"), Ok(10));
        for text in ["0", "-1", "", "x", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_beginning_is_now_a_number_or_a_time() {
        assert_eq!(begin("now"), Ok(Begin::Now));
        assert_eq!(begin("17"), Ok(Begin::Seq(17)));
        let Ok(Begin::Time(time)) = begin("2026-08-20T13:34:14+02:00") else { panic!() };
        assert_eq!(time.to_string(), "2026-08-20T11:34:14Z");
        let Ok(Begin::Time(time)) = begin("2h") else { panic!() };
        let ago = jiff::Timestamp::now().as_second() - time.as_second();
        assert!((7199..7210).contains(&ago), "{ago}");
        for text in
            ["", "later", "-1", "99999999999999999999", "2w", "2026-08-20", "99999999999999d"]
        {
            assert!(begin(text).is_err(), "{text}");
        }
    }
}
