//! Files that something is read from, and read anew from when they change.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::files::Watched;
use super::{TlsError, in_full};

/// One pair of files, looked at for as long as what was read from them is used.
#[derive(Debug)]
pub(super) struct Watch {
    files: Watched,
    failed: Option<Failed>,
}

/// What was kept out, and when to try again.
#[derive(Debug)]
struct Failed {
    why: String,
    again: Instant,
}

impl Watch {
    /// Made before the files are read: what is replaced while they are is a change.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { files: Watched::new(paths), failed: None }
    }

    /// Has the files taken by `take` where they have changed, `is_asked` says so, or what kept them
    /// out may be over though no file changed by that. Why they were kept out, where that is to be
    /// told: it isn't what kept them out before.
    pub(super) fn look(
        &mut self,
        is_asked: bool,
        now: Instant,
        take: impl FnOnce() -> Result<(), TlsError>,
    ) -> Option<String> {
        let before = match self.failed.take() {
            _ if self.files.have_changed() || is_asked => None,
            Some(failed) if failed.again <= now => Some(failed.why),
            failed => {
                self.failed = failed;
                return None;
            }
        };
        let why = in_full(&take().err()?);
        self.failed = Some(Failed { why: why.clone(), again: now + AGAIN });
        (before.as_ref() != Some(&why)).then_some(why)
    }
}

/// How often the files are looked at. A change is taken when it has stood for as long: who replaces
/// both files does it within that.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After which what was kept out is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_pair_out_is_told_once_until_somebody_asks_or_it_is_something_else() {
        let refused = |why: &str| {
            let (key, path) = ("tls.key".to_owned(), PathBuf::from("/key"));
            Err(TlsError::Malformed { key, path, why: why.to_owned() })
        };
        let mut watch = Watch::new(Vec::new());
        let mut now = Instant::now();
        assert_eq!(watch.look(false, now, || panic!("nothing changed")), None);
        assert!(watch.look(true, now, || refused("a")).is_some());
        assert_eq!(watch.look(false, now, || panic!("not at once")), None);
        now += AGAIN;
        assert_eq!(watch.look(false, now, || refused("a")), None);
        now += AGAIN;
        assert!(watch.look(false, now, || refused("b")).is_some());
        assert!(watch.look(true, now, || refused("b")).is_some());
        now += AGAIN;
        assert_eq!(watch.look(false, now, || Ok(())), None);
        now += AGAIN;
        assert_eq!(watch.look(false, now, || panic!("it was taken")), None);
    }
}
