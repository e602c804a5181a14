//! Standard output: coloured on a terminal, plain in a pipe.

use std::io::{self, BufWriter, Write};

/// Standard output with a buffer of its own; flush it before waiting for anything.
///
/// A reader that has gone is [`io::ErrorKind::BrokenPipe`], which ends the command well (see
/// [`crate::ending`]).
pub(crate) struct Out(BufWriter<Box<dyn Write>>);

impl Out {
    /// For people: coloured where that can be seen.
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(BUFFER_OCTETS, Box::new(anstream::stdout())))
    }

    /// For programs: octets as they are.
    pub(crate) fn raw() -> Self {
        Self(BufWriter::with_capacity(BUFFER_OCTETS, Box::new(io::stdout())))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// Writes octets and a line end.
    pub(crate) fn octets(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)?;
        self.0.write_all(b"\n")
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a few lines and is done.
pub(crate) fn print(text: impl std::fmt::Display) -> io::Result<()> {
    let mut out = Out::new();
    out.line(text)?;
    out.flush()
}

/// A value as JSON, indented, for programs and for reading.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = Out::raw();
    out.line(serde_json::to_string_pretty(value)?)?;
    Ok(out.flush()?)
}

/// Words in columns as wide as their widest, two spaces between; the last is as long as it is.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let bold = anstyle::Style::new().bold();
    let mut lines = vec![format!("{bold}{}{bold:#}", row(head.iter().copied(), &width))];
    lines.extend(rows.iter().map(|cells| row(cells.iter().map(String::as_str), &width)));
    lines.join("\n")
}

fn row<'a>(cells: impl Iterator<Item = &'a str>, width: &dyn Fn(usize) -> usize) -> String {
    let mut line = String::new();
    for (column, cell) in cells.enumerate() {
        let width = width(column) + 2;
        line.push_str(&format!("{cell:<width$}"));
    }
    line.trim_end().to_owned()
}

/// Enough for some hundred events between two writes.
const BUFFER_OCTETS: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["phone".to_owned(), "active".to_owned(), "3".to_owned()],
            vec!["a-longer-name".to_owned(), "paused".to_owned(), String::new()],
        ];
        let text = columns(&["name", "state", "lag"], &rows);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "name           state   lag\nphone          active  3\na-longer-name  paused"
        );
    }
}
