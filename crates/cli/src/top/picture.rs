//! What is shown: looks in, lines out.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use postbell_engine::in_words;
use serde_json::Value;

use crate::show::{clean, size};
use crate::subscriptions::word;
use crate::wanted::{Told, duration, recorded};

/// What the hub said at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: Value,
    pub(super) sources: Value,
    pub(super) subscriptions: Value,
    /// In Prometheus' text form.
    pub(super) metrics: String,
}

/// What subscriptions are in order of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sorting {
    Lag,
    Name,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Picture {
    url: String,
    pub(super) interval: Duration,
    pub(super) sorting: Sorting,
    pub(super) is_held: bool,
    /// Why the hub didn't answer, if it didn't.
    pub(super) away: Option<String>,
    before: Option<Look>,
    now: Option<Look>,
}

impl Picture {
    /// Nothing yet of the hub at `url`.
    pub(super) fn new(url: String, interval: Duration) -> Self {
        let sorting = Sorting::Lag;
        Self { url, interval, sorting, is_held: false, away: None, before: None, now: None }
    }

    /// Another look.
    pub(super) fn take(&mut self, look: Look) {
        self.away = None;
        self.before = self.now.replace(look);
    }

    /// The lines for a window of so many columns and rows; all there are, without keys, for none.
    pub(super) fn lines(&self, window: Option<(usize, usize)>) -> Vec<String> {
        let width = window.map_or(usize::MAX, |(columns, _)| columns);
        let Some(now) = &self.now else { return Vec::new() };
        let mut lines = self.head(now);
        let sources = self.sources(now);
        let subscriptions = self.subscriptions(now);
        let keys = window.map(|_| self.keys());
        let room = window.map_or(usize::MAX, |(_, rows)| {
            rows.saturating_sub(lines.len() + 3 + usize::from(keys.is_some()))
        });
        // A third for sources where both are long; what one doesn't need the other has.
        let (wanted, other) = (sources.rows.len() + 1, subscriptions.rows.len() + 1);
        let mine = wanted.min((room / 3).max(room.saturating_sub(other)));
        lines.push(String::new());
        lines.extend(sources.lines(mine));
        lines.push(String::new());
        lines.extend(subscriptions.lines(room.saturating_sub(mine)));
        let mut lines: Vec<_> = lines.iter().map(|line| cut(line, width)).collect();
        if let (Some((_, rows)), Some(keys)) = (window, keys) {
            lines.truncate(rows.saturating_sub(1));
            lines.resize(rows.saturating_sub(1), String::new());
            lines.push(cut(&keys, width));
        }
        lines
    }

    fn head(&self, now: &Look) -> Vec<String> {
        let bold = Style::new().bold();
        let version = word(&now.status, "/version").unwrap_or_default();
        let up = duration(number(&now.status, "/uptimeSeconds"));
        let journal = |name: &str| format!("/journal/{name}");
        let state = word(&now.status, &journal("state")).unwrap_or_default();
        let style = state_style(&state);
        let (first, last) =
            (number(&now.status, &journal("first")), number(&now.status, &journal("last")));
        let records = match last < first {
            true => "no records".to_owned(),
            false => format!("records {} to {}", grouped(first), grouped(last)),
        };
        let rate = self.rate(|look| number(&look.status, "/journal/last"));
        let octets = size(number(&now.status, &journal("octets")));
        let streams = number(&now.status, "/streams");
        let mut lines = vec![
            format!("{bold}postbell {version}{bold:#}  {}  up {up}", self.url),
            format!(
                "journal {style}{state}{style:#}  {records}  {rate} a second  {octets}  \
                 {streams} {}",
                if streams == 1 { "stream" } else { "streams" }
            ),
        ];
        lines.extend(recorded(&now.status).map(|recorded| format!("recorded {recorded}")));
        let trouble = word(&now.status, "/journal/detail");
        let damage = word(&now.status, "/journal/damage/0");
        let away = self.away.as_ref().map(|why| format!("not there: {}; trying on", in_words(why)));
        let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
        for told in [trouble, damage, away].into_iter().flatten() {
            lines.push(format!("{red}{}{red:#}", clean(&told)));
        }
        lines
    }

    fn sources(&self, now: &Look) -> Table {
        let columns = ["SOURCE", "KIND", "STATE", "SEEN/s", "SEEN", "MAILBOXES", "SKIPPED", "GAPS"];
        // Where everything is recorded, nobody can miss what is wanted.
        let is_wanted = word(&now.status, "/recording/record").as_deref() == Some("wanted");
        let columns: Vec<_> = columns.into_iter().chain(is_wanted.then_some("WANTED")).collect();
        let mut table = Table::new(&columns, "there are no sources");
        for source in list(&now.sources, "sources") {
            let name = word(source, "/name").unwrap_or_default();
            let seen = |look: &Look| {
                let sources = list(&look.sources, "sources");
                let same = |one: &&Value| word(one, "/name").as_deref() == Some(&*name);
                sources.iter().find(same).map_or(0, |one| number(one, "/observations"))
            };
            let state = word(source, "/state").unwrap_or_default();
            let skipped = number(source, "/skipped");
            let gaps = number(source, "/gaps");
            let mut row = vec![
                Cell::text(&name),
                Cell::text(&word(source, "/kind").unwrap_or_default()),
                Cell::styled(&state, state_style(&state)),
                Cell::number(&self.rate(seen)),
                Cell::number(&grouped(number(source, "/observations"))),
                Cell::number(&grouped(number(source, "/mailboxes"))),
                Cell::warned(skipped),
                Cell::warned(gaps),
            ];
            row.extend(is_wanted.then(|| told(source)));
            row.push(Cell::text(&trouble(source, "/lastError", &["running", "scanning"])));
            table.rows.push(row);
        }
        table
    }

    fn subscriptions(&self, now: &Look) -> Table {
        let columns =
            ["SUBSCRIPTION", "STATE", "PASSED/s", "LAG", "BEHIND", "ATTEMPTS", "DEAD LETTERS"];
        let mut table = Table::new(&columns, "there are no subscriptions");
        let mut all = list(&now.subscriptions, "subscriptions").to_vec();
        match self.sorting {
            Sorting::Lag => all.sort_by_key(|one| std::cmp::Reverse(number(one, "/lag"))),
            Sorting::Name => all.sort_by_key(|one| word(one, "/name")),
        }
        for one in &all {
            let id = word(one, "/id").unwrap_or_default();
            let name = word(one, "/name").unwrap_or_default();
            let passed = |look: &Look| {
                let all = list(&look.subscriptions, "subscriptions");
                let same = |one: &&Value| word(one, "/id").as_deref() == Some(&*id);
                all.iter().find(same).map_or(0, |one| number(one, "/cursor"))
            };
            let state = word(one, "/state").unwrap_or_default();
            let lag = number(one, "/lag");
            let owner = word(one, "/owner");
            // Names of others' choosing may meet; the metrics know them by their ids.
            let behind = behind(&now.metrics, if owner.is_some() { &id } else { &name });
            let late =
                if behind >= LATE_SECONDS { AnsiColor::Yellow.on_default() } else { Style::new() };
            table.rows.push(vec![
                Cell::text(
                    &owner.map_or_else(|| name.clone(), |owner| format!("{name} of {owner}")),
                ),
                Cell::styled(&state, state_style(&state)),
                Cell::number(&self.rate(passed)),
                Cell { right: true, ..Cell::styled(&grouped(lag), late) },
                Cell { right: true, ..Cell::styled(&duration(behind), late) },
                Cell::number(&grouped(number(one, "/attempts"))),
                Cell::warned(number(one, "/deadLetters")),
                Cell::text(&trouble(one, "/lastError", &[])),
            ]);
        }
        table
    }

    fn keys(&self) -> String {
        let dim = Style::new().dimmed();
        let order = match self.sorting {
            Sorting::Lag => "name",
            Sorting::Name => "lag",
        };
        let hold = if self.is_held { "space go on (held)" } else { "space hold" };
        let every = self.interval.as_secs_f64();
        format!("{dim}q quit  {hold}  s sort by {order}  r look  +/- every {every} s{dim:#}")
    }

    /// How much a figure grew in a second since the look before.
    fn rate(&self, figure: impl Fn(&Look) -> u64) -> String {
        let (Some(before), Some(now)) = (&self.before, &self.now) else { return "-".to_owned() };
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let Some(grown) = figure(now).checked_sub(figure(before)).filter(|_| seconds > 0.0) else {
            return "-".to_owned();
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate has a few digits")]
        let rate = grown as f64 / seconds;
        format!("{rate:.*}", usize::from(rate < 100.0))
    }
}

/// Cells in columns.
struct Table {
    head: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    /// What is said where there are no rows.
    empty: &'static str,
}

/// One cell.
#[derive(Clone)]
struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    fn text(text: &str) -> Self {
        Self::styled(text, Style::new())
    }

    fn styled(text: &str, style: Style) -> Self {
        Self { text: clean(text), style, right: false }
    }

    fn number(text: &str) -> Self {
        Self { right: true, ..Self::text(text) }
    }

    /// A figure that should be 0.
    fn warned(figure: u64) -> Self {
        let style = if figure > 0 { AnsiColor::Yellow.on_default() } else { Style::new() };
        Self { right: true, ..Self::styled(&grouped(figure), style) }
    }
}

impl Table {
    fn new(head: &[&str], empty: &'static str) -> Self {
        let bold = Style::new().bold();
        let head = head.iter().map(|name| Cell::styled(name, bold)).collect();
        Self { head, rows: Vec::new(), empty }
    }

    /// At most so many lines, and on the last how many rows were left out.
    fn lines(&self, most: usize) -> Vec<String> {
        if self.rows.is_empty() {
            return vec![self.empty.to_owned()];
        }
        let fits = self.rows.len() < most;
        let shown = if fits { self.rows.len() } else { most.saturating_sub(2) };
        let shown = self.rows.get(..shown).unwrap_or_default();
        let width = |column: usize| {
            let rows = shown.iter().chain([&self.head]);
            let cells = rows.filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let is_right = |column: usize| {
            self.rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right)
        };
        let line = |row: &Vec<Cell>| {
            let mut line = String::new();
            for (column, Cell { text, style, .. }) in row.iter().enumerate() {
                let gap = if column > 0 { "  " } else { "" };
                let space = " ".repeat(width(column).saturating_sub(text.chars().count()));
                // Writing into a text does not fail.
                let written = match is_right(column) {
                    true => write!(line, "{gap}{space}{style}{text}{style:#}"),
                    false if column + 1 == row.len() => write!(line, "{gap}{style}{text}{style:#}"),
                    false => write!(line, "{gap}{style}{text}{style:#}{space}"),
                };
                written.unwrap_or_default();
            }
            line.trim_end().to_owned()
        };
        let mut lines: Vec<_> = [&self.head].into_iter().chain(shown).map(line).collect();
        if !fits {
            lines.push(format!("and {} more", self.rows.len() - shown.len()));
        }
        lines
    }
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// How far what is wanted has been told there.
fn told(source: &Value) -> Cell {
    let Some(told) = Told::of(source) else { return Cell::text("") };
    let style = if told.is_told { Style::new() } else { AnsiColor::Yellow.on_default() };
    Cell::styled(&told.short, style)
}

/// What is wrong with something, unless it is in one of the states in which that is over.
fn trouble(value: &Value, error: &str, well: &[&str]) -> String {
    let state = word(value, "/state").unwrap_or_default();
    if well.contains(&state.as_str()) {
        return String::new();
    }
    let told = word(value, error).or_else(|| word(value, "/detail"));
    told.map(|told| in_words(&told)).unwrap_or_default()
}

/// Seconds a subscription is behind, by any of the labels it may have.
fn behind(metrics: &str, label: &str) -> u64 {
    let line = format!("postbell_subscription_lag_seconds{{subscription=\"{label}\"}} ");
    let of = |found: &str| found.strip_prefix(&line)?.parse::<f64>().ok();
    let seconds = metrics.lines().find_map(of).unwrap_or_default();
    Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs()
}

fn state_style(state: &str) -> Style {
    match state {
        "running" | "active" | "accepting" | "scanning" => AnsiColor::Green.on_default(),
        "failed" | "stopped" | "ended" | "disabled" | "closed" => AnsiColor::Red.on_default(),
        _ => AnsiColor::Yellow.on_default(),
    }
}

/// 51904 as `51,904`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A line cut to what a window has room for, its colours ended.
fn cut(line: &str, width: usize) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    if plain.chars().count() <= width {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    let mut is_escape = false;
    for letter in line.chars() {
        if letter == '\x1b' || is_escape {
            is_escape = !(is_escape && letter.is_ascii_alphabetic());
            out.push(letter);
        } else if left > 0 {
            left -= 1;
            out.push(letter);
        }
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Behind by this, a subscriber would notice.
const LATE_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(at: Instant, last: u64) -> Look {
        let subscription = |name: &str, state: &str, lag: u64, error: Option<&str>| {
            json!({
                "id": format!("sub_{name}"), "name": name, "state": state, "cursor": last - lag,
                "lag": lag, "attempts": 3 * last, "deadLetters": lag / 1_000, "lastError": error,
            })
        };
        Look {
            at,
            status: json!({
                "version": "0.1.0", "uptimeSeconds": 273_600, "streams": 3,
                "journal": {"state": "accepting", "first": 1, "last": last, "octets": 1_300_000_000},
                "recording": {
                    "record": "wanted", "ageSeconds": 3_725, "events": ["MessageNew", "FlagsSet"],
                    "contentMaxOctets": 2_048, "bodyStructure": false, "envelope": true,
                },
            }),
            sources: json!({"sources": [
                {"name": "mail", "kind": "maildir", "state": "running", "observations": last,
                 "mailboxes": 1_204, "skipped": 0, "gaps": 0, "lastError": "long over"},
                {"name": "store2", "kind": "dovecot", "state": "waiting", "observations": 17,
                 "mailboxes": 3, "skipped": 2, "gaps": 1, "demand": {"told": true, "ageSeconds": 3_725},
                 "lastError": "/var/spool/postbell/dovecot: may not be read by this user"},
                {"name": "publish", "kind": "publish", "state": "running", "observations": 0,
                 "demand": {"told": false, "connected": 3, "confirmed": 2}},
            ]}),
            subscriptions: json!({"subscriptions": [
                subscription("phone", "active", 0, None),
                subscription("audit", "active", 4_711, Some("503 from https://hooks.example.org")),
                subscription("crm", "paused", 12, None),
            ]}),
            metrics: "postbell_subscription_lag_seconds{subscription=\"audit\"} 734.2\n\
                      postbell_subscription_lag_seconds{subscription=\"crm\"} 3.9\n"
                .to_owned(),
        }
    }

    fn picture() -> Picture {
        let mut picture = Picture::new("http://127.0.0.1:5423".to_owned(), Duration::from_secs(2));
        let now = Instant::now();
        picture.take(look(now, 51_880));
        picture.take(look(now + Duration::from_secs(2), 51_904));
        picture
    }

    fn plain(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn a_pipe_gets_everything_once() {
        insta::assert_snapshot!(plain(&picture().lines(None)));
    }

    #[test]
    fn a_window_gets_what_fits_and_the_keys() {
        let mut picture = picture();
        insta::assert_snapshot!(plain(&picture.lines(Some((80, 24)))));
        picture.sorting = Sorting::Name;
        picture.is_held = true;
        picture.away = Some("http://127.0.0.1:5423: connection refused".to_owned());
        insta::assert_snapshot!(plain(&picture.lines(Some((60, 12)))));
    }

    #[test]
    fn no_window_is_too_small() {
        let picture = picture();
        for columns in [0, 1, 2, 10, 79, 200] {
            for rows in [0, 1, 2, 5, 9, 13, 50] {
                let lines = picture.lines(Some((columns, rows)));
                assert_eq!(lines.len(), rows.max(1), "{columns} x {rows}");
                let widest = lines
                    .iter()
                    .map(|line| anstream::adapter::strip_str(line).to_string().chars().count());
                assert!(widest.max() <= Some(columns), "{columns} x {rows}");
            }
        }
    }

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(["999", "1,000", "1,234,567"], [999, 1_000, 1_234_567].map(grouped)[..]);
        let told = [0, 59, 60, 3_599, 3_600, 90_000].map(duration);
        assert_eq!(told, ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "1d 01h"]);
    }
}
