//! What the machine itself can do: the bare things postbell is held against.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Appends groups of records to a growing file, one `fdatasync` a group; records a second.
pub(super) fn append(folder: &Path, record: &[u8], groups: usize, group: usize) -> io::Result<f64> {
    let mut file = File::create(folder.join("probe-append"))?;
    let bytes = record.repeat(group);
    let begun = Instant::now();
    for _ in 0..groups {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    let spent = begun.elapsed();
    std::fs::remove_file(folder.join("probe-append"))?;
    Ok(per_second(groups * group, spent))
}

/// The median time of appending 4 KiB and calling `fdatasync`.
pub(super) fn sync(folder: &Path, rounds: usize) -> io::Result<Duration> {
    let mut file = File::create(folder.join("probe-sync"))?;
    let bytes = [0x5a_u8; 4096];
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(folder.join("probe-sync"))?;
    Ok(median(&mut times))
}

/// How many a second.
pub(super) fn per_second(count: usize, spent: Duration) -> f64 {
    as_f64(count) / spent.as_secs_f64().max(f64::EPSILON)
}

/// A count to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub(super) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Milliseconds to show.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Microseconds for each of `count`.
pub(super) fn micros_each(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1_000_000.0 / as_f64(count.max(1))
}

/// The middle one; zero of nothing.
pub(super) fn median(times: &mut [Duration]) -> Duration {
    quantile(times, 50)
}

/// The time that `percent` of all stay below; zero of nothing.
pub(super) fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_of_the_sorted_times() {
        let mut times: Vec<_> = (0..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(median(&mut times), Duration::from_millis(50));
        assert_eq!(quantile(&mut times, 99), Duration::from_millis(99));
        assert_eq!(median(&mut []), Duration::ZERO);
    }

    #[test]
    fn the_append_probe_leaves_no_file_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(append(folder.path(), b"record", 3, 4).unwrap() > 0.0);
        assert!(sync(folder.path(), 3).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
