//! `postbell bench`: what this machine does, against a raw probe in the same run.
//!
//! Machines differ and are noisy. A figure is therefore held, wherever that is possible, against
//! what the bare thing does in the same minute: a file and `fdatasync`, a server that takes the
//! same bodies and looks at none, a client that only signs and sends. Hub and probe take turns.

mod attack;
mod attackers;
mod crowd;
mod events;
mod fanout;
mod fixture;
mod ingest;
mod isolation;
mod journal;
mod machine;
mod matching;
mod path;
mod probe;
mod processor;
mod publisher;
mod table;
mod webhooks;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::ending::Ending;
use machine::Machine;
use table::{Row, Verdict};

/// How the bench runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Print machine and rows as JSON
    #[arg(long)]
    json: bool,
    /// Take a minute instead of several; the figures are rougher
    #[arg(long)]
    quick: bool,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Part>,
    /// Write to a new folder in this one [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Part {
    /// Matching among a million subscriptions, beside a bare hash table
    Match,
    /// Durable append in groups, beside a growing file
    Append,
    /// A lone event until it is acknowledged, beside fdatasync
    Lone,
    /// The whole path, written in batches
    Path,
    /// The whole path, one event per write
    Single,
    /// Events over HTTP, beside a bare axum server
    Http,
    /// Webhook deliveries, beside a bare hyper client
    Webhooks,
    /// One event to 1, 100 and 10,000 clients of the stream
    Fanout,
    /// A thousand webhooks of which one hangs, beside the same while it is paused
    Isolation,
    /// Ten webhooks while the hub is attacked, beside the same while another server is, and while nobody is
    Attack,
    /// What an event takes on disk
    Octets,
    /// Opening a journal of ten million records
    Start,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    matched_events: usize,
    append_events: usize,
    lone_rounds: usize,
    path_rounds: usize,
    single_events: usize,
    requests: usize,
    large_requests: usize,
    deliveries: usize,
    fan_out: usize,
    isolated_events: usize,
    attacked_events: usize,
    octets_events: usize,
    start_records: usize,
}

/// Runs the bench: [`Ending::No`] where something that must be reached was not.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<Ending> {
    let place = args.folder.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("postbell-bench-")
        .tempdir_in(&place)
        .with_context(|| place.display().to_string())?;
    clear_up_when_interrupted(folder.path().to_owned())?;
    let machine = Machine::look(folder.path())?;
    let scale = if args.quick { QUICK } else { FULL };
    let mut out = anstream::stdout().lock();
    if !args.json {
        writeln!(out, "{}\n\n{}", machine.text(), table::head())?;
    }
    let parts = if args.only.is_empty() { ALL } else { &args.only };
    let mut rows = Vec::new();
    for part in parts {
        let progress = spinner(*part);
        let fresh = measure(*part, folder.path(), scale)
            .with_context(|| format!("bench: {}", part.about()))?;
        progress.finish_and_clear();
        if !args.json {
            for row in &fresh {
                write!(out, "{}", row.text())?;
                out.flush()?;
            }
        }
        rows.extend(fresh);
    }
    let missed = rows.iter().filter(|row| row.verdict() == Verdict::Missed).count();
    if args.json {
        let report = Report::new(&machine, &rows);
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        let memory = machine::peak_memory_mib().unwrap_or_default();
        writeln!(out, "\nat most {memory} MiB of memory, the load's own included")?;
    }
    Ok(if missed == 0 { Ending::Done } else { Ending::No })
}

fn measure(part: Part, folder: &Path, scale: Scale) -> anyhow::Result<Vec<Row>> {
    Ok(match part {
        Part::Match => matching::matching(scale.matched_events)?,
        Part::Append => vec![journal::append(folder, scale.append_events)?],
        Part::Lone => vec![journal::lone(folder, scale.lone_rounds)?],
        Part::Path => vec![path::batches(folder, scale.path_rounds)?],
        Part::Single => path::single(folder, scale.single_events)?,
        Part::Http => vec![
            ingest::single(folder, scale.requests)?,
            ingest::hundreds(folder, scale.large_requests)?,
        ],
        Part::Webhooks => webhooks::deliver(folder, scale.deliveries)?,
        Part::Fanout => fanout::fan_out(folder, scale.fan_out)?,
        Part::Isolation => {
            vec![isolation::isolation(folder, ISOLATED, scale.isolated_events)?]
        }
        Part::Attack => attack::attack(folder, scale.attacked_events)?,
        Part::Octets => vec![journal::octets(folder, scale.octets_events)?],
        Part::Start => vec![journal::opening(folder, scale.start_records)?],
    })
}

impl Part {
    /// What is being measured, for whoever waits.
    fn about(self) -> &'static str {
        match self {
            Self::Match => "matching",
            Self::Append => "appending in groups",
            Self::Lone => "appending one by one",
            Self::Path => "the whole path, in batches",
            Self::Single => "the whole path, one by one",
            Self::Http => "events over HTTP",
            Self::Webhooks => "webhook deliveries",
            Self::Fanout => "fan-out",
            Self::Isolation => "isolation",
            Self::Attack => "an attack",
            Self::Octets => "what an event takes on disk",
            Self::Start => "filling a journal and opening it",
        }
    }
}

/// The bench for a program.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: &'static str,
    machine: &'a Machine,
    rows: Vec<JudgedRow<'a>>,
}

#[derive(Debug, Serialize)]
struct JudgedRow<'a> {
    #[serde(flatten)]
    row: &'a Row,
    verdict: Verdict,
}

impl<'a> Report<'a> {
    fn new(machine: &'a Machine, rows: &'a [Row]) -> Self {
        let rows = rows.iter().map(|row| JudgedRow { row, verdict: row.verdict() }).collect();
        Self { version: env!("CARGO_PKG_VERSION"), machine, rows }
    }
}

/// Says what is being measured, on a terminal only.
fn spinner(part: Part) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.set_message(format!("measuring {} …", part.about()));
    // No steady tick: a thread that draws would be measured with the rest.
    spinner.tick();
    spinner
}

/// A bench that is interrupted leaves no gigabyte behind.
fn clear_up_when_interrupted(folder: PathBuf) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // What still writes there goes with the process.
            std::fs::remove_dir_all(&folder).unwrap_or_default();
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// Everything, in the order it is measured: what is held against memory before others leave some.
const ALL: &[Part] = &[
    Part::Match,
    Part::Append,
    Part::Lone,
    Part::Path,
    Part::Single,
    Part::Http,
    Part::Webhooks,
    Part::Fanout,
    Part::Isolation,
    Part::Attack,
    Part::Octets,
    Part::Start,
];

/// Some minutes.
const FULL: Scale = Scale {
    matched_events: 100_000,
    append_events: 256 * 2_000,
    lone_rounds: 5_000,
    path_rounds: 30,
    single_events: 500_000,
    requests: 40_000,
    large_requests: 500,
    deliveries: 60_000,
    fan_out: 400_000,
    isolated_events: 100,
    attacked_events: 10_000,
    octets_events: 500_000,
    start_records: 10_000_000,
};

/// About a minute.
const QUICK: Scale = Scale {
    matched_events: 20_000,
    append_events: 256 * 400,
    lone_rounds: 500,
    path_rounds: 5,
    single_events: 100_000,
    requests: 5_000,
    large_requests: 60,
    deliveries: 10_000,
    fan_out: 100_000,
    isolated_events: 20,
    attacked_events: 2_000,
    octets_events: 100_000,
    start_records: 1_000_000,
};

/// Webhooks of which one hangs.
const ISOLATED: usize = 1_000;

/// What a shell expects of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Users the made-up events are about.
const USERS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_asked_for_by_name() {
        use clap::ValueEnum as _;
        let names: Vec<_> = Part::value_variants()
            .iter()
            .filter_map(|part| Some(part.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(
            names,
            [
                "match",
                "append",
                "lone",
                "path",
                "single",
                "http",
                "webhooks",
                "fanout",
                "isolation",
                "attack",
                "octets",
                "start"
            ]
        );
        assert_eq!(ALL, Part::value_variants());
    }
}
