//! The bench's rows, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// One thing measured, beside what limits it and what was promised.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// What was measured.
    pub(super) metric: &'static str,
    /// What postbell did.
    pub(super) figure: f64,
    /// In what.
    pub(super) unit: &'static str,
    /// What the bare thing did in the same run, if there is one.
    pub(super) probe: Option<Probe>,
    /// The figure held against the target: a ratio to the probe, or the figure itself.
    pub(super) judged: f64,
    /// What was promised; `None` where a row is only for information.
    pub(super) target: Option<Target>,
    /// Anything a reader should know, such as percentiles.
    pub(super) note: String,
}

/// What the bare thing did in the same run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Probe {
    /// What it is.
    pub(super) name: &'static str,
    /// What it did, in the row's unit.
    pub(super) figure: f64,
}

/// The least (or most) that is acceptable, and what we want.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Target {
    /// On which side of the bounds one should be.
    pub(super) side: Side,
    /// What must be reached.
    pub(super) must: f64,
    /// What is aimed at.
    pub(super) aim: f64,
}

/// On which side of a bound one should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Side {
    /// At least this.
    AtLeast,
    /// At most this.
    AtMost,
}

/// What a row comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// What we want is reached.
    Aim,
    /// What must be reached is.
    Must,
    /// It is not.
    Missed,
    /// Nothing was promised.
    Information,
}

impl Target {
    /// More is better.
    pub(super) const fn at_least(must: f64, aim: f64) -> Self {
        Self { side: Side::AtLeast, must, aim }
    }

    /// Less is better.
    pub(super) const fn at_most(must: f64, aim: f64) -> Self {
        Self { side: Side::AtMost, must, aim }
    }

    fn is_met(self, bound: f64, value: f64) -> bool {
        match self.side {
            Side::AtLeast => value >= bound,
            Side::AtMost => value <= bound,
        }
    }

    fn text(self, bound: f64) -> String {
        match self.side {
            Side::AtLeast => format!("≥ {}", short(bound)),
            Side::AtMost => format!("≤ {}", short(bound)),
        }
    }
}

impl Row {
    /// What the row comes to.
    pub(super) fn verdict(&self) -> Verdict {
        match self.target {
            None => Verdict::Information,
            Some(target) if target.is_met(target.aim, self.judged) => Verdict::Aim,
            Some(target) if target.is_met(target.must, self.judged) => Verdict::Must,
            Some(_) => Verdict::Missed,
        }
    }

    /// The row as two lines of a table, the second with what a reader should know.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let figure = format!("{} {}", short(self.figure), self.unit);
        let probe = self.probe.map_or_else(String::new, |probe| short(probe.figure));
        let (judged, must, aim) = self.target.map_or_else(Default::default, |target| {
            (short(self.judged), target.text(target.must), target.text(target.aim))
        });
        let (colour, word) = match self.verdict() {
            Verdict::Aim => (anstyle::AnsiColor::Green, "aim reached"),
            Verdict::Must => (anstyle::AnsiColor::Yellow, "must reached"),
            Verdict::Missed => (anstyle::AnsiColor::Red, "MISSED"),
            Verdict::Information => (anstyle::AnsiColor::White, ""),
        };
        let style = colour.on_default();
        let written = writeln!(
            out,
            "{:<31} {figure:>16} {probe:>8} {judged:>7} {must:>8} {aim:>8}  {style}{word}{style:#}",
            self.metric
        );
        // Writing into a text does not fail.
        written.unwrap_or_default();
        let dim = anstyle::Style::new().dimmed();
        let beside = self.probe.map(|probe| format!("beside {}", probe.name));
        let notes = [beside, Some(self.note.clone()).filter(|note| !note.is_empty())];
        let notes = notes.into_iter().flatten().collect::<Vec<_>>().join("; ");
        if !notes.is_empty() {
            writeln!(out, "  {dim}{notes}{dim:#}").unwrap_or_default();
        }
        out
    }
}

/// The first line of the table.
pub(super) fn head() -> String {
    format!(
        "{:<31} {:>16} {:>8} {:>7} {:>8} {:>8}",
        "", "postbell", "probe", "judged", "must", "aim"
    )
}

/// A number with three digits that matter.
pub(super) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 999_500.0 {
        format!("{:.2} M", value / 1_000_000.0)
    } else if magnitude >= 9_999.5 {
        format!("{:.0} k", value / 1_000.0)
    } else if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(judged: f64) -> Row {
        Row {
            metric: "durable append, groups of 256",
            figure: 500_000.0,
            unit: "events/s",
            probe: Some(Probe { name: "a growing file", figure: 840_000.0 }),
            judged,
            target: Some(Target::at_least(0.5, 0.9)),
            note: String::new(),
        }
    }

    #[test]
    fn a_row_is_judged_by_must_and_aim() {
        assert_eq!(row(0.95).verdict(), Verdict::Aim);
        assert_eq!(row(0.6).verdict(), Verdict::Must);
        assert_eq!(row(0.4).verdict(), Verdict::Missed);
        let most = Row { target: Some(Target::at_most(3.0, 1.5)), ..row(1.4) };
        assert_eq!(most.verdict(), Verdict::Aim);
        let nothing = Row { target: None, ..row(0.0) };
        assert_eq!(nothing.verdict(), Verdict::Information);
    }

    #[test]
    fn a_table_line_holds_figure_probe_and_verdict() {
        let text = row(0.6).text();
        let line = text.lines().next().unwrap();
        for part in ["500 k events/s", "840 k", "0.60", "≥ 0.50", "must reached"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(text.contains("beside a growing file"));
    }

    #[test]
    fn numbers_keep_three_digits_that_matter() {
        let shown: Vec<_> =
            [0.0, 0.0123, 0.5, 9.99, 12.34, 123.4, 12_345.0, 1_234_567.0].map(short).into();
        assert_eq!(shown, ["0.00", "0.012", "0.50", "9.99", "12.3", "123", "12 k", "1.23 M"]);
    }
}
