//! Which files anybody opens.

use std::io;
use std::path::Path;

use inotify::{EventMask, Inotify, WatchMask};

/// Notes which files of one folder are opened, by whichever process.
///
/// What is never opened was not read: also root, whom no mode keeps out, is noticed.
#[derive(Debug)]
pub struct Opened(Inotify);

impl Opened {
    /// Notes from now on what is opened in `folder`.
    ///
    /// # Errors
    /// Where the system doesn't let it be watched.
    pub fn watch(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify.watches().add(folder, WatchMask::OPEN)?;
        Ok(Self(inotify))
    }

    /// The names of the files opened since it was asked last, in order; a folder is none.
    ///
    /// # Errors
    /// Where the system doesn't say.
    pub fn names(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut buffer = vec![0; NOTICES_OCTETS];
        loop {
            let events = match self.0.read_events(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(names),
                events => events?,
            };
            let files = events.filter(|event| !event.mask.contains(EventMask::ISDIR));
            names.extend(files.filter_map(|event| Some(event.name?.to_str()?.to_owned())));
        }
    }
}

/// Room for some hundred notices at once.
const NOTICES_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_noticed_when_it_is_opened_and_not_when_it_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        std::fs::write(&path, "x").unwrap();
        let mut opened = Opened::watch(folder.path()).unwrap();
        std::fs::metadata(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(opened.names().unwrap().is_empty());
        std::fs::read(&path).unwrap();
        assert_eq!(opened.names().unwrap(), ["one"]);
        assert!(opened.names().unwrap().is_empty());
    }
}
