//! Whether files have changed, and stand as they now are.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The files a certificate is read from.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    taken: Vec<State>,
    /// How they were at the last look, where that was otherwise.
    before: Option<Vec<State>>,
}

/// How a file is: device, inode, mode and size, and when it was written, and anything of it changed, to
/// the nanosecond: who takes away everybody's right to read a key changes nothing else. None where
/// it isn't there.
type State = Option<[i128; 8]>;

impl Watched {
    /// The files as they are now.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
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
    let [mode, seconds, nanos] =
        [facts.mode().into(), facts.mtime().into(), facts.mtime_nsec().into()];
    let [changed_seconds, changed_nanos] = [facts.ctime().into(), facts.ctime_nsec().into()];
    let [dev, ino, size] = [facts.dev(), facts.ino(), facts.size()].map(i128::from);
    Some([dev, ino, mode, size, seconds, nanos, changed_seconds, changed_nanos])
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
        let mut files = Watched::new(vec![certificate.clone(), key.clone()]);
        assert!(!files.have_changed());
        std::fs::write(&certificate, "ab").unwrap();
        assert!(!files.have_changed());
        std::fs::write(&key, "ab").unwrap();
        assert!(!files.have_changed());
        assert!(files.have_changed());
        assert!(!files.have_changed());
        // Its mode alone is a change too: the key was refused for it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, mode).unwrap();
        assert!(!files.have_changed() && files.have_changed() && !files.have_changed());
        // A link that leads elsewhere is a change too, and so is a file that went.
        std::fs::remove_file(&certificate).unwrap();
        std::os::unix::fs::symlink(&key, &certificate).unwrap();
        assert!(!files.have_changed() && files.have_changed());
        std::fs::remove_file(&key).unwrap();
        assert!(!files.have_changed() && files.have_changed() && !files.have_changed());
    }
}
