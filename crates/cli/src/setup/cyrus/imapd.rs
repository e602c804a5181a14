//! `imapd.conf`, read as Cyrus does: which setting stands where, and what its value means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use postbell_hub::Virtdomains;

use crate::lines::plain;

/// Every setting of a file and of those it includes, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Conf {
    /// The settings.
    pub(crate) settings: Vec<Setting>,
}

/// One line `key: value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Setting {
    /// In small letters, as Cyrus takes it.
    pub(crate) key: String,
    /// Without the blanks around it.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) file: PathBuf,
    /// Counted from 1; where a line goes on over several, its first.
    pub(crate) line: usize,
}

impl Conf {
    /// Reads a file and what it includes.
    pub(crate) fn load(main: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(main).map_err(|error| unread((main.to_owned(), error)))?;
        Self::load_with(main, &text)
    }

    /// The same of a file that holds `text`, whatever is on the disk.
    pub(crate) fn load_with(main: &Path, text: &str) -> anyhow::Result<Self> {
        Self::read(main, &|path| match path == main {
            true => Ok(text.to_owned()),
            false => fs::read_to_string(path),
        })
        .map_err(unread)
    }

    /// Reads a file with `text`, which knows every file.
    ///
    /// # Errors
    ///
    /// With the file that can't be read: Cyrus doesn't start then either.
    pub(crate) fn read(
        main: &Path,
        text: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let mut conf = Self::default();
        conf.add(main, text, 0)?;
        Ok(conf)
    }

    fn add(
        &mut self,
        file: &Path,
        text: &dyn Fn(&Path) -> io::Result<String>,
        depth: usize,
    ) -> Result<(), (PathBuf, io::Error)> {
        let failed = |error| (file.to_owned(), error);
        if depth > DEPTH_MAX {
            return Err(failed(io::Error::other("includes itself")));
        }
        for (line, key, value) in lines(&text(file).map_err(failed)?) {
            if key == "@include" {
                self.add(Path::new(&value), text, depth + 1)?;
            } else {
                self.settings.push(Setting { key, value, file: file.to_owned(), line });
            }
        }
        Ok(())
    }

    /// The setting of that name. Cyrus refuses one that is there twice.
    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// The same for one service or another: `event_groups` and `imap_event_groups`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.settings.iter().filter(move |setting| {
            setting.key.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        })
    }

    /// The account Cyrus runs under.
    pub(crate) fn user(&self) -> &str {
        self.get("cyrus_user").map_or("cyrus", |setting| &setting.value)
    }

    /// Without what one file says.
    pub(crate) fn without(mut self, file: &Path) -> Self {
        self.settings.retain(|setting| setting.file != file);
        self
    }
}

impl Setting {
    /// For a message: `/etc/imapd.conf line 7`.
    pub(crate) fn place(&self) -> String {
        format!("{} line {}", self.file.display(), self.line)
    }

    /// Whether one of the words of its value is that.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.value.split_whitespace().any(|one| one.eq_ignore_ascii_case(word))
    }
}

/// Whether a switch of that value is on.
pub(crate) fn is_on(value: &str) -> bool {
    matches!(&*value.to_ascii_lowercase(), "yes" | "on" | "t" | "true" | "1")
}

/// What that value of `virtdomains` is.
pub(crate) fn virtdomains(value: &str) -> Virtdomains {
    match &*value.to_ascii_lowercase() {
        "" | "off" | "no" | "f" | "false" | "0" => Virtdomains::Off,
        "userid" => Virtdomains::Userid,
        _ => Virtdomains::On,
    }
}

/// The socket that a `notifysocket` names, and whether Cyrus connects to it for each event.
pub(crate) fn notified(value: &str) -> (&Path, bool) {
    match value.strip_prefix("dlist:") {
        Some(path) => (Path::new(path), true),
        None => (Path::new(value), false),
    }
}

fn unread((path, error): (PathBuf, io::Error)) -> anyhow::Error {
    anyhow!("{}: {}", path.display(), plain(&error))
}

/// Number, key and value of each line that sets something.
fn lines(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let (begin, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            open = Some((begin, whole));
            continue;
        }
        whole.push_str(line);
        let whole = whole.trim();
        if let Some((key, value)) = whole.split_once(':').filter(|_| !whole.starts_with('#')) {
            found.push((begin, key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

/// More than anybody nests.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_with_where_it_stands() {
        let files = |path: &Path| {
            match path.to_str() {
            Some("/etc/imapd.conf") => Ok("# x: y\nAdmins: cyrus\n\nevent_groups:message \\\n  quota\n@include: /etc/more\nlast: 1".to_owned()),
            Some("/etc/more") => Ok("imap_event_groups: flags\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
        };
        let conf = Conf::read(Path::new("/etc/imapd.conf"), &files).unwrap();
        let shown: Vec<String> = conf
            .settings
            .iter()
            .map(|one| format!("{}: {}={}", one.place(), one.key, one.value))
            .collect();
        assert_eq!(
            shown,
            [
                "/etc/imapd.conf line 2: admins=cyrus",
                "/etc/imapd.conf line 4: event_groups=message   quota",
                "/etc/more line 1: imap_event_groups=flags",
                "/etc/imapd.conf line 7: last=1",
            ]
        );
        assert_eq!(conf.all("event_groups").count(), 2);
        assert!(conf.get("event_groups").unwrap().has("Quota"));
        assert!(conf.clone().without(Path::new("/etc/more")).all("event_groups").count() == 1);
    }

    #[test]
    fn a_missing_or_circular_include_is_named() {
        let files = |path: &Path| match path.to_str() {
            Some("/a") => Ok("@include: /b\n".to_owned()),
            Some("/c") => Ok("@include: /c\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        assert_eq!(Conf::read(Path::new("/a"), &files).unwrap_err().0, Path::new("/b"));
        assert_eq!(Conf::read(Path::new("/c"), &files).unwrap_err().0, Path::new("/c"));
    }

    #[test]
    fn a_value_means_what_it_means_to_cyrus() {
        assert!(["yes", "On", "t", "TRUE", "1"].into_iter().all(is_on));
        assert!(!["", "no", "off", "f", "false", "0"].into_iter().any(is_on));
        for (value, means) in [("", "off"), ("No", "off"), ("userid", "userid"), ("yes", "on")] {
            assert_eq!(virtdomains(value).as_str(), means, "{value:?}");
        }
        assert_eq!(notified("/run/notify"), (Path::new("/run/notify"), false));
        assert_eq!(notified("dlist:/run/notify"), (Path::new("/run/notify"), true));
    }
}
