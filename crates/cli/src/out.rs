//! Standard output: coloured on a terminal, plain in a pipe.

use std::io::{self, BufWriter, Write};

/// Standard output with a buffer of its own; flush it before waiting for anything.
///
/// A reader that has gone is [`io::ErrorKind::BrokenPipe`], which ends the command well (see
/// [`crate::ending`]).
pub(crate) struct Out {
    to: BufWriter<Box<dyn Write>>,
    /// What is told is a by-product: a reader that has gone ends nothing.
    goes_on: bool,
}

impl Out {
    /// For people: coloured where that can be seen.
    pub(crate) fn new() -> Self {
        Self::to(Box::new(anstream::stdout()))
    }

    /// For programs: octets as they are.
    pub(crate) fn raw() -> Self {
        Self::to(Box::new(io::stdout()))
    }

    fn to(to: Box<dyn Write>) -> Self {
        Self { to: BufWriter::with_capacity(BUFFER_OCTETS, to), goes_on: false }
    }

    /// For a command whose work must be done and judged whether or not anybody reads of it.
    pub(crate) fn going_on(self) -> Self {
        Self { goes_on: true, ..self }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        let written = writeln!(self.to, "{line}");
        self.settle(written)
    }

    /// Writes octets and a line end.
    pub(crate) fn octets(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line).and_then(|()| self.to.write_all(b"\n"));
        self.settle(written)
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = self.to.flush();
        self.settle(written)
    }

    fn settle(&mut self, written: io::Result<()>) -> io::Result<()> {
        match written {
            Err(error) if self.goes_on && error.kind() == io::ErrorKind::BrokenPipe => {
                self.to = BufWriter::new(Box::new(io::sink()));
                Ok(())
            }
            other => other,
        }
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

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_ends_only_what_was_done_for_it() {
        let mut out = Out::to(Box::new(Gone));
        out.line("told").unwrap();
        assert_eq!(out.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut out = Out::to(Box::new(Gone)).going_on();
        for _ in 0..3 {
            out.line("told").unwrap();
            out.octets(&[b'x'; 2 * BUFFER_OCTETS]).unwrap();
            out.flush().unwrap();
        }
    }

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
