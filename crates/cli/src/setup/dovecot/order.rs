//! In which order Dovecot reads its files, and where a snippet of ours would stand among the lines
//! that set `mail_plugins`.
//!
//! Dovecot fills in `$mail_plugins` as it reads: a later line takes over what stands before it and
//! nothing else. So it is the order that decides over which protocols our plugins are loaded.

use std::path::{Path, PathBuf};

/// What is asked of the disk.
pub(super) trait Files {
    /// A file's text; `None` where it can't be read.
    fn text(&self, file: &Path) -> Option<String>;
    /// The names in a folder; empty where it can't be read.
    fn names(&self, folder: &Path) -> Vec<String>;
}

/// A line that sets `mail_plugins`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// The file.
    pub(super) file: PathBuf,
    /// Counted from 1.
    pub(super) number: usize,
    /// The section it stands in, such as `protocol imap`; empty outside all.
    pub(super) section: String,
    /// Whether it begins with what was set before.
    pub(super) takes_over: bool,
}

/// Where a snippet is to stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Placement {
    /// The snippet.
    pub(super) snippet: PathBuf,
    /// Sections that set `mail_plugins` before it, and so have to be told once more.
    pub(super) sections: Vec<String>,
}

/// Why there is no place for a snippet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum NoPlace {
    /// Nothing includes it.
    NotIncluded,
    /// These lines take nothing over.
    Unseen(Vec<Line>),
}

/// The first of `candidates` that every protocol takes over, one that needs no sections before one
/// that does.
pub(super) fn place(
    files: &dyn Files,
    main: &Path,
    candidates: &[PathBuf],
) -> Result<Placement, NoPlace> {
    let mut second_best = None;
    let mut why = NoPlace::NotIncluded;
    for snippet in candidates {
        let mut walk = Walk { files, ours: candidates, snippet, found: Found::default() };
        walk.file(main, 0);
        let Found { before, after, is_included } = walk.found;
        if !is_included {
            continue;
        }
        let (protocols, others): (Vec<_>, Vec<_>) = before
            .into_iter()
            .filter(|line| !line.section.is_empty())
            .partition(|line| line.section.starts_with("protocol "));
        let mut unseen: Vec<Line> = after.into_iter().filter(|line| !line.takes_over).collect();
        unseen.extend(others);
        if !unseen.is_empty() {
            why = NoPlace::Unseen(unseen);
            continue;
        }
        let mut sections: Vec<String> = protocols.into_iter().map(|line| line.section).collect();
        sections.sort_unstable();
        sections.dedup();
        let placement = Placement { snippet: snippet.clone(), sections };
        if placement.sections.is_empty() {
            return Ok(placement);
        }
        second_best.get_or_insert(placement);
    }
    second_best.ok_or(why)
}

#[derive(Default)]
struct Found {
    before: Vec<Line>,
    after: Vec<Line>,
    is_included: bool,
}

struct Walk<'a> {
    files: &'a dyn Files,
    /// What earlier runs may have left: not the operator's.
    ours: &'a [PathBuf],
    snippet: &'a Path,
    found: Found,
}

impl Walk<'_> {
    fn file(&mut self, file: &Path, depth: usize) {
        if file == self.snippet {
            self.found.is_included = true;
        }
        if depth > DEPTH_MAX || self.ours.iter().any(|ours| ours == file) {
            return;
        }
        let Some(text) = self.files.text(file) else { return };
        let folder = file.parent().unwrap_or_else(|| Path::new("/"));
        let mut open: Vec<String> = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(pattern) = included(line) {
                for included in self.matching(&folder.join(pattern)) {
                    self.file(&included, depth + 1);
                }
            } else if line.starts_with('}') {
                open.pop();
            } else if let Some(value) = plugins(line) {
                let line = Line {
                    file: file.to_owned(),
                    number,
                    section: open.join(" "),
                    takes_over: value.contains("$mail_plugins"),
                };
                let list = if self.found.is_included {
                    &mut self.found.after
                } else {
                    &mut self.found.before
                };
                list.push(line);
            } else if let Some(head) = uncommented(line).strip_suffix('{') {
                open.push(head.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }

    /// The files a pattern names, our snippet among them as though it were there.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let letters: Vec<char> = part.as_os_str().to_string_lossy().chars().collect();
            if !letters.iter().any(|letter| "*?".contains(*letter)) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            found = found.iter().flat_map(|folder| self.names(folder, &letters)).collect();
        }
        found
    }

    fn names(&self, folder: &Path, pattern: &[char]) -> Vec<PathBuf> {
        let mut names = self.files.names(folder);
        if self.snippet.parent() == Some(folder)
            && let Some(name) = self.snippet.file_name()
        {
            names.push(name.to_string_lossy().into_owned());
        }
        names.retain(|name| {
            !name.starts_with('.') && fits(pattern, &name.chars().collect::<Vec<_>>())
        });
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| folder.join(name)).collect()
    }
}

/// The pattern of an `!include`.
fn included(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("!include_try").or_else(|| line.strip_prefix("!include"))?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

/// What a line sets `mail_plugins` to.
fn plugins(line: &str) -> Option<&str> {
    line.strip_prefix("mail_plugins")?.trim_start().strip_prefix('=')
}

/// Without what follows a `#` that stands alone.
fn uncommented(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(before, _)| before).trim_end()
}

/// Whether a name fits a pattern of `*` and `?`.
fn fits(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => {
            (0..=name.len()).any(|skipped| name.get(skipped..).is_some_and(|name| fits(rest, name)))
        }
        Some((letter, rest)) => name
            .split_first()
            .is_some_and(|(first, name)| (letter == first || *letter == '?') && fits(rest, name)),
    }
}

/// Files that include each other end somewhere.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Disk(BTreeMap<PathBuf, String>);

    impl Files for Disk {
        fn text(&self, file: &Path) -> Option<String> {
            self.0.get(file).cloned()
        }

        fn names(&self, folder: &Path) -> Vec<String> {
            let below = self.0.keys().filter_map(|file| file.strip_prefix(folder).ok());
            below.filter_map(|path| Some(path.iter().next()?.to_string_lossy().into())).collect()
        }
    }

    const MAIN: &str = "/etc/dovecot/dovecot.conf";

    fn candidates() -> [PathBuf; 2] {
        ["11", "99"].map(|number| format!("/etc/dovecot/conf.d/{number}-postbell.conf").into())
    }

    /// Each file by its name below `/etc/dovecot`.
    fn placed(files: &[(&str, &str)]) -> Result<Placement, NoPlace> {
        let files = files
            .iter()
            .map(|(name, text)| (Path::new("/etc/dovecot").join(name), (*text).to_owned()));
        place(&Disk(files.collect()), Path::new(MAIN), &candidates())
    }

    const USUAL: (&str, &str) =
        ("dovecot.conf", "protocols = imap\n!include conf.d/*.conf\n!include_try local.conf\n");

    #[test]
    fn a_snippet_stands_between_the_global_line_and_the_protocols() {
        let placement = placed(&[
            USUAL,
            ("conf.d/10-mail.conf", "mail_plugins = quota\nprotocol !indexer-worker {\n}\n"),
            (
                "conf.d/20-imap.conf",
                "protocol imap { # all of it\n  mail_plugins = $mail_plugins imap_quota\n}\n",
            ),
            ("conf.d/90-quota.conf", "#mail_plugins = none\n"),
        ]);
        let snippet = "/etc/dovecot/conf.d/11-postbell.conf".into();
        assert_eq!(placement, Ok(Placement { snippet, sections: Vec::new() }));
    }

    #[test]
    fn a_protocol_that_takes_nothing_over_is_told_once_more() {
        let placement = placed(&[
            USUAL,
            ("conf.d/20-imap.conf", "protocol imap {\n mail_plugins=imap_quota\n}\n"),
            ("conf.d/20-lmtp.conf", "protocol lmtp {\nmail_plugins = $mail_plugins sieve\n}\n"),
        ])
        .unwrap();
        assert!(placement.snippet.ends_with("99-postbell.conf"));
        assert_eq!(placement.sections, ["protocol imap", "protocol lmtp"]);
    }

    #[test]
    fn what_is_set_anew_after_every_place_is_named() {
        let Err(NoPlace::Unseen(lines)) =
            placed(&[USUAL, ("local.conf", "a = b\nprotocol imap {\n  mail_plugins = acl\n}\n")])
        else {
            panic!("it has a place");
        };
        let [line] = &*lines else { panic!("{lines:?}") };
        assert_eq!((line.number, line.section.as_str()), (3, "protocol imap"));
        assert!(line.file.ends_with("local.conf"));
    }

    #[test]
    fn a_snippet_that_nothing_includes_has_no_place() {
        for main in
            ["", "# !include conf.d/*.conf\n", "!include conf.d/*.ext\n", "!include conf.d\n"]
        {
            assert_eq!(placed(&[("dovecot.conf", main)]), Err(NoPlace::NotIncluded), "{main:?}");
        }
    }

    #[test]
    fn every_way_to_include_is_followed() {
        for main in [
            "!include conf.d/*.conf",
            "  !include_try\t/etc/dovecot/conf.d/11-*.conf ",
            "!include_try /etc/dovecot/conf.d/11-postbell.conf",
            "!include /etc/*/conf.d/??-postbell.*",
        ] {
            assert!(placed(&[("dovecot.conf", main)]).is_ok(), "{main:?}");
        }
        let nested = [
            ("dovecot.conf", "!include more"),
            ("more", "!include conf.d/*.conf\n!include more\n"),
        ];
        assert!(placed(&nested).is_ok());
    }

    #[test]
    fn what_an_earlier_run_left_is_not_the_operators() {
        let placement = placed(&[
            USUAL,
            ("conf.d/11-postbell.conf", "mail_plugins = $mail_plugins notify\n"),
            ("conf.d/99-postbell.conf", "protocol imap {\nmail_plugins = notify\n}\n"),
        ]);
        assert!(placement.unwrap().snippet.ends_with("11-postbell.conf"));
    }

    #[test]
    fn a_line_for_some_addresses_only_is_named() {
        let placement = placed(&[(
            "dovecot.conf",
            "remote 10.0.0.0/8 {\n protocol imap {\n mail_plugins = x\n}\n}\n!include conf.d/*.conf",
        )]);
        let Err(NoPlace::Unseen(lines)) = placement else { panic!("{placement:?}") };
        assert_eq!(lines[0].section, "remote 10.0.0.0/8 protocol imap");
    }
}
