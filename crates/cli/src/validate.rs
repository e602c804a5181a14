//! `postbell validate`: are these events what RFC 5423 says they should be? Asks no hub.

use std::io;

use clap::Args;
use mail_event::json::{self, JsonError};
use serde_json::json;

use crate::ending::Ending;
use crate::lines::{FileArg, Line, Lines, Text, finding};
use crate::out::Out;

/// Check events against the binding, without a hub.
///
/// Each event that can't be is told on a line: FILE:LINE: parameter: what is wrong (rule). What is
/// only spelled otherwise than the strict form is accepted, as the hub accepts it, and counted.
/// Exit code 1 where any event is wrong.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell validate events.ndjson
  postbell validate --strict events.ndjson
  postbell tail --since 0 --no-follow --json | postbell validate --strict
  postbell validate --repair old.ndjson > strict.ndjson")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    file: FileArg,
    /// Only the strict form will do: what would be repaired is wrong.
    #[arg(long, conflicts_with = "repair")]
    strict: bool,
    /// Print the strict form of every event that is one; what is wrong goes to standard error.
    #[arg(long)]
    repair: bool,
    /// Tell what is wrong as JSON, an object per line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<Ending> {
    let mut lines = Lines::open(args.file.file.as_deref())?;
    let name = lines.name().to_owned();
    let mut told = Told::new(args, &name);
    while let Some(line) = lines.next()? {
        told.line(&line)?;
    }
    told.end()
}

/// Something wrong with a line.
struct Fault {
    parameter: Option<String>,
    rule: Option<&'static str>,
    message: String,
}

/// What was found so far, and where it is told.
struct Told<'a> {
    args: &'a ValidateArgs,
    file: &'a str,
    out: Out,
    events: u64,
    wrong: u64,
    repaired: u64,
}

impl<'a> Told<'a> {
    fn new(args: &'a ValidateArgs, file: &'a str) -> Self {
        let out = if args.repair || args.json { Out::raw() } else { Out::new() };
        // The exit code speaks for the whole file, whoever reads of it; what is repaired is
        // wanted by a reader or not at all.
        let out = if args.repair { out } else { out.going_on() };
        Self { args, file, out, events: 0, wrong: 0, repaired: 0 }
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        self.events += 1;
        let text = match &line.text {
            Text::Octets(text) => text,
            Text::TooLong { octets } => {
                let message = format!("an event of {octets} octets is over the limit");
                return self.wrong(line.number, &[Fault { parameter: None, rule: None, message }]);
            }
        };
        if json::check(text).is_ok() {
            return self.strict(text);
        }
        match json::from_slice(text) {
            Ok(parsed) if parsed.repairs.is_empty() => {
                self.strict(json::to_string(&parsed.event).as_bytes())
            }
            Ok(parsed) if self.args.strict => {
                let faults: Vec<Fault> = parsed
                    .repairs
                    .iter()
                    .map(|repair| Fault {
                        parameter: Some(repair.parameter().to_owned()),
                        rule: None,
                        message: repair.to_string(),
                    })
                    .collect();
                self.wrong(line.number, &faults)
            }
            Ok(parsed) => {
                self.repaired += 1;
                self.strict(json::to_string(&parsed.event).as_bytes())
            }
            Err(error) => self.wrong(line.number, &[fault(&error)]),
        }
    }

    fn strict(&mut self, text: &[u8]) -> anyhow::Result<()> {
        if self.args.repair {
            self.out.octets(text)?;
        }
        Ok(())
    }

    fn wrong(&mut self, number: u64, faults: &[Fault]) -> anyhow::Result<()> {
        self.wrong += 1;
        for fault in faults {
            let line = if self.args.json {
                json!({
                    "file": self.file, "line": number, "parameter": fault.parameter,
                    "rule": fault.rule, "error": fault.message,
                })
                .to_string()
            } else {
                describe(self.file, number, fault)
            };
            self.tell(&line)?;
        }
        Ok(())
    }

    /// Where the strict events go to standard output, the rest may not.
    fn tell(&mut self, line: &str) -> io::Result<()> {
        use std::io::Write as _;
        if self.args.repair { writeln!(anstream::stderr(), "{line}") } else { self.out.line(line) }
    }

    fn end(mut self) -> anyhow::Result<Ending> {
        self.out.flush()?;
        if !self.args.json {
            let mut summary =
                format!("{}: {}, {} wrong", self.file, counted(self.events, "event"), self.wrong);
            if self.repaired > 0 {
                summary.push_str(&format!(", {} accepted after repair", self.repaired));
            }
            crate::ending::note(&summary);
        }
        Ok(if self.wrong == 0 { Ending::Done } else { Ending::No })
    }
}

fn fault(error: &JsonError) -> Fault {
    let message = match error {
        JsonError::Binding(error) => error.message().to_owned(),
        JsonError::Invalid { message, .. } => message.clone(),
        JsonError::Duplicate { .. } => "given twice".to_owned(),
        JsonError::Missing { .. } => "missing".to_owned(),
        JsonError::EventName { name, source } => format!("{name:?}: {source}"),
        JsonError::Name { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    Fault { parameter: error.parameter().map(str::to_owned), rule: error.rule(), message }
}

/// `FILE:LINE: parameter: what is wrong (rule)`.
fn describe(file: &str, number: u64, fault: &Fault) -> String {
    let bold = anstyle::Style::new().bold();
    let what = finding(fault.parameter.as_deref(), fault.rule, &fault.message);
    format!("{bold}{file}:{number}:{bold:#} {what}")
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
