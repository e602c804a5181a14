//! What was measured on: figures without it say little.

use std::path::Path;

use serde::Serialize;

use super::probe::{self, millis};

/// The machine, and the disk under the folder the bench writes to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    cores: usize,
    /// The processor's name for itself.
    processor: String,
    kernel: String,
    memory_mib: u64,
    folder: String,
    file_system: String,
    /// 4 KiB appended and `fdatasync`, median, in milliseconds.
    sync_p50_ms: f64,
}

impl Machine {
    /// Looks around.
    pub(super) fn look(folder: &Path) -> anyhow::Result<Self> {
        let system = rustix::system::uname();
        let kernel = format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        );
        let sync = probe::sync(folder, SYNCS)?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel,
            memory_mib: memory_mib(),
            folder: folder.display().to_string(),
            file_system: file_system(folder),
            sync_p50_ms: millis(sync),
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        format!(
            "{} cores of {}, {} MiB, {}\n{} on {}: 4 KiB and fdatasync p50 {:.3} ms",
            self.cores,
            self.processor,
            self.memory_mib,
            self.kernel,
            self.folder,
            self.file_system,
            self.sync_p50_ms
        )
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_mib() -> u64 {
    let system = rustix::system::sysinfo();
    let octets = u128::from(system.totalram) * u128::from(system.mem_unit);
    u64::try_from(octets / (1024 * 1024)).unwrap_or(u64::MAX)
}

/// The type of the file system that holds `folder`.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(place, _)| folder.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}

/// The most memory this process has held so far, in MiB.
pub(super) fn peak_memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// The memory this process holds now, in octets.
pub(super) fn memory_octets() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

/// Enough for a median.
const SYNCS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described_in_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::look(folder.path()).unwrap();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && machine.sync_p50_ms > 0.0);
        assert_eq!(machine.text().lines().count(), 2, "{}", machine.text());
        assert!(peak_memory_mib().unwrap() > 0);
        assert!(memory_octets().unwrap() > 1_000);
    }
}
