//! Whether files have changed, and stand as they now are.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::config::TlsConfig;

/// The files a certificate is read from.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    taken: Vec<State>,
    /// How they were at the last look, where that was otherwise.
    before: Option<Vec<State>>,
}

/// How a file is: device, inode, size, and when it was written, to the nanosecond. None where it
/// isn't there.
type State = Option<(u64, u64, u64, i64, i64)>;

impl Watched {
    /// The files as they are now.
    pub(super) fn new(config: &TlsConfig) -> Self {
        let mut paths = vec![config.certificate.clone(), config.key.clone()];
        if !config.client_ca.as_os_str().is_empty() {
            paths.push(config.client_ca.clone());
        }
        let taken = paths.iter().map(state).collect();
        Self { paths, taken, before: None }
    }

    /// Whether they are otherwise than at the change before, and as they were at the last look: who
    /// replaces several is not interrupted.
    pub(super) fn have_changed(&mut self) -> bool {
        let now: Vec<_> = self.paths.iter().map(state).collect();
        if now == self.taken {
            self.before = None;
            return false;
        }
        if self.before.as_ref() != Some(&now) {
            self.before = Some(now);
            return false;
        }
        self.before = None;
        self.taken = now;
        true
    }
}

/// Through links: who renews a certificate often replaces a link alone.
fn state(path: &PathBuf) -> State {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["certificate", "key"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, "a").unwrap();
        std::fs::write(&key, "a").unwrap();
        let config = TlsConfig { certificate, key, ..TlsConfig::default() };
        let mut files = Watched::new(&config);
        assert!(!files.have_changed());
        std::fs::write(&config.certificate, "ab").unwrap();
        assert!(!files.have_changed());
        std::fs::write(&config.key, "ab").unwrap();
        assert!(!files.have_changed());
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // A link that leads elsewhere is a change too, and so is a file that went.
        std::fs::remove_file(&config.certificate).unwrap();
        std::os::unix::fs::symlink(&config.key, &config.certificate).unwrap();
        assert!(!files.have_changed() && files.have_changed());
        std::fs::remove_file(&config.key).unwrap();
        assert!(!files.have_changed() && files.have_changed() && !files.have_changed());
    }
}
