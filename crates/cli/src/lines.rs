//! Events one per line, from a file or standard input, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use mail_event::EventName;
use mail_event::limits::EVENT_OCTETS_MAX;
use postbell_engine::in_words;

use crate::show;

/// The lines of a file that are not blank.
pub(crate) struct Lines {
    reader: Box<dyn BufRead>,
    name: String,
    number: u64,
    octets: u64,
    total_octets: Option<u64>,
}

/// A line and its number, from 1.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) text: Text,
}

/// What a line holds.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Text {
    /// Its octets, without the line end.
    Octets(Vec<u8>),
    /// More than an event may have; passed over.
    TooLong {
        /// How many.
        octets: u64,
    },
}

impl Lines {
    /// Opens `file`, or standard input for none or `-`.
    pub(crate) fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::new(Box::new(BufReader::new(io::stdin())), "stdin".to_owned(), None));
        };
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| anyhow!("{name}: {}", plain(&error)))?;
        let meta = file.metadata().with_context(|| name.clone())?;
        if meta.is_dir() {
            return Err(anyhow!("{name}: is a folder, where a file of events is wanted"));
        }
        let total = meta.is_file().then_some(meta.len());
        Ok(Self::new(Box::new(BufReader::with_capacity(READ_OCTETS, file)), name, total))
    }

    fn new(reader: Box<dyn BufRead>, name: String, total_octets: Option<u64>) -> Self {
        Self { reader, name, number: 0, octets: 0, total_octets }
    }

    /// What the file is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Octets read so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Octets there are, where that is known.
    pub(crate) fn total_octets(&self) -> Option<u64> {
        self.total_octets
    }

    /// The next line that is not blank; nothing at the end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let mut text = Vec::new();
            let limit = u64::try_from(EVENT_OCTETS_MAX).unwrap_or(u64::MAX).saturating_add(2);
            let mut bounded = self.reader.by_ref().take(limit);
            let read = bounded.read_until(b'\n', &mut text).with_context(|| self.name.clone())?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let mut octets = u64::try_from(read).unwrap_or(u64::MAX);
            let is_whole = text.last() == Some(&b'\n');
            if !is_whole && octets == limit {
                octets += self.skip_line()?;
                self.octets += octets;
                return Ok(Some(Line { number: self.number, text: Text::TooLong { octets } }));
            }
            self.octets += octets;
            while text.last().is_some_and(u8::is_ascii_whitespace) {
                text.pop();
            }
            // What Windows' editors put first says nothing.
            if self.number == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Line { number: self.number, text: Text::Octets(text) }));
            }
        }
    }

    fn skip_line(&mut self) -> anyhow::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.reader.fill_buf().with_context(|| self.name.clone())?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            skipped += u64::try_from(used).unwrap_or(u64::MAX);
            if end.is_some() || used == 0 {
                return Ok(skipped);
            }
        }
    }
}

/// `parameter: what is wrong (rule)`, saying nothing twice, with a hint for a file that holds JSON
/// laid out over several lines.
pub(crate) fn finding(parameter: Option<&str>, rule: Option<&str>, error: &str) -> String {
    let rule = rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
    let error = error.strip_suffix(&rule).unwrap_or(error);
    let text = match parameter {
        Some(parameter) => format!("{parameter}: {}", after(parameter, error)),
        None if LAID_OUT.iter().any(|sign| error.contains(sign)) => {
            format!("{error} (one event a line is wanted; try: jq -c .)")
        }
        None => error.to_owned(),
    };
    show::clean(&format!("{text}{rule}"))
}

/// What an error says of `parameter`, without naming it again.
fn after<'a>(parameter: &str, error: &'a str) -> &'a str {
    if let Some(rest) = error.strip_prefix(&format!("{parameter:?}: ")) {
        return rest;
    }
    // The event's name stands before what is wrong with it: that is in the file.
    let error = match error.split_once(": ") {
        Some((name, rest)) if is_registered(name) => rest,
        _ => error,
    };
    let at = error.find(&format!("{parameter}: ")).map(|at| at + parameter.len() + 2);
    let at = at.or_else(|| {
        [" is ", " may ", " was "].iter().find_map(|verb| {
            error.find(&format!("{parameter}{verb}")).map(|at| at + parameter.len() + 1)
        })
    });
    at.and_then(|at| error.get(at..)).unwrap_or(error)
}

fn is_registered(name: &str) -> bool {
    name.parse::<EventName>().is_ok_and(|name| !matches!(name, EventName::Other(_)))
}

/// How a line sounds that is only the beginning of a JSON text.
const LAID_OUT: [&str; 3] = ["EOF while parsing", "invalid type: sequence", "invalid type: string"];

/// The file as it is named in messages, for arguments that may be absent.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct FileArg {
    /// The events, one JSON object per line; standard input without it.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// The system's words without its error number.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "is no folder".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder, where a file is wanted".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => in_words(error),
    }
}

/// Octets read from a file at once.
const READ_OCTETS: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &'static [u8]) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::new(Box::new(text), "test".to_owned(), None);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(match line.text {
                Text::Octets(text) => (line.number, Ok(text)),
                Text::TooLong { octets } => (line.number, Err(octets)),
            });
        }
        assert_eq!(lines.octets(), u64::try_from(text.len()).unwrap());
        found
    }

    #[test]
    fn blank_lines_count_but_are_not_events() {
        let lines = all(b"\xef\xbb\xbf{}\r\n\n  \t\n{\"a\":1}");
        assert_eq!(lines, [(1, Ok(b"{}".to_vec())), (4, Ok(b"{\"a\":1}".to_vec()))]);
    }

    #[test]
    fn a_finding_says_nothing_twice() {
        for (parameter, rule, error, told) in [
            (Some("uri"), Some("R145"), "uri: missing", "uri: missing (R145)"),
            (
                Some("uidset"),
                Some("R36"),
                "MessageExpunge: uidset is missing (R36)",
                "uidset: is missing (R36)",
            ),
            (Some("uidset"), None, "no set", "uidset: no set"),
            (
                Some("diskQuota"),
                Some("R48"),
                "diskQuota or maxMessages is missing",
                "diskQuota: diskQuota or maxMessages is missing (R48)",
            ),
            (
                Some("diskQuota"),
                Some("R48"),
                "QuotaExceed: diskQuota or maxMessages is missing (R48)",
                "diskQuota: diskQuota or maxMessages is missing (R48)",
            ),
            (
                Some("flagNames"),
                Some("R61"),
                r"FlagsSet: flagNames: only \Recent is named, which is no event (R61)",
                r"flagNames: only \Recent is named, which is no event (R61)",
            ),
            (
                Some("event"),
                Some("R17"),
                "event: \"Mes sage\": byte 3 may not stand in a name",
                "event: \"Mes sage\": byte 3 may not stand in a name (R17)",
            ),
            (Some("a b"), Some("R17"), "\"a b\": byte 1 is bad", "a b: byte 1 is bad (R17)"),
            (None, Some("R17"), "bad (R17)", "bad (R17)"),
        ] {
            assert_eq!(finding(parameter, rule, error), told);
        }
        assert!(finding(None, None, "EOF while parsing an object").contains("jq -c"));
    }

    #[test]
    fn a_line_over_the_limit_is_passed_over_in_bounded_memory() {
        let mut text = vec![b'x'; EVENT_OCTETS_MAX + 100];
        text.extend_from_slice(b"\n{}\n");
        let lines = all(Box::leak(text.into_boxed_slice()));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].1, Err(u64::try_from(EVENT_OCTETS_MAX + 101).unwrap()));
        assert_eq!(lines[1], (2, Ok(b"{}".to_vec())));
    }
}
