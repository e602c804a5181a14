//! `postbell publish`: events from a file or a pipe to the hub.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::client::{Answer, Call, Client, Unreachable};
use crate::connection::ConnectionArgs;
use crate::ending::{Ending, note};
use crate::lines::{FileArg, Lines, Text, finding};
use crate::out::Out;
use crate::validate::counted;

/// Send events to the hub.
///
/// They are acknowledged when they are on its disk. Each one refused is told on a line: FILE:LINE:
/// parameter: why (rule); the good ones are kept. Sending the same events again does no harm:
/// the hub recognises them. Exit code 1 where any was refused.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell publish events.ndjson
  my-store --events | postbell publish
  postbell publish --json < events.ndjson | jq .accepted")]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    file: FileArg,
    /// Tell what was refused, and the sum at the end, as JSON, an object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<Ending> {
    let client = args.connection.client()?;
    let mut lines = Lines::open(args.file.file.as_deref())?;
    let mut publisher = Publisher::new(client, &args, &lines);
    let mut batch = Batch::default();
    while let Some(line) = lines.next()? {
        match line.text {
            Text::Octets(text) => {
                if batch.is_full_with(text.len()) {
                    publisher.send(std::mem::take(&mut batch), &lines).await?;
                }
                batch.push(line.number, &text);
            }
            Text::TooLong { octets } => {
                let error = format!("an event of {octets} octets is over the limit");
                publisher.refused(line.number, &json!({ "error": error }))?;
            }
        }
    }
    publisher.send(batch, &lines).await?;
    publisher.end()
}

/// Events on their way in one request.
#[derive(Clone, Debug, Default)]
struct Batch {
    body: Vec<u8>,
    /// Line number and length of each event in `body`, its line end included.
    lines: Vec<(u64, usize)>,
}

impl Batch {
    fn is_full_with(&self, more: usize) -> bool {
        !self.lines.is_empty()
            && (self.lines.len() >= BATCH_EVENTS_MAX || self.body.len() + more > BATCH_OCTETS_MAX)
    }

    fn push(&mut self, number: u64, text: &[u8]) {
        self.body.extend_from_slice(text);
        self.body.push(b'\n');
        self.lines.push((number, text.len() + 1));
    }

    /// Two halves, for a hub that takes less at once.
    fn halves(mut self) -> [Self; 2] {
        let lines = self.lines.split_off(self.lines.len() / 2);
        let octets = self.lines.iter().map(|(_, octets)| octets).sum();
        let body = self.body.split_off(octets);
        [self, Self { body, lines }]
    }

    fn first_line(&self) -> u64 {
        self.lines.first().map_or(0, |(number, _)| *number)
    }
}

/// Sends batches and keeps count.
struct Publisher {
    client: Client,
    connection: ConnectionArgs,
    file: String,
    json: bool,
    out: Out,
    bar: ProgressBar,
    sums: Sums,
    has_spoken: bool,
}

#[derive(Debug, Default)]
struct Sums {
    accepted: u64,
    repeated: u64,
    rejected: u64,
    repaired: u64,
}

impl Publisher {
    fn new(client: Client, args: &PublishArgs, lines: &Lines) -> Self {
        Self {
            client,
            connection: args.connection.clone(),
            file: lines.name().to_owned(),
            json: args.json,
            // `| head` must not end the publishing.
            out: if args.json { Out::raw() } else { Out::new() }.going_on(),
            bar: bar(lines.total_octets()),
            sums: Sums::default(),
            has_spoken: false,
        }
    }

    async fn send(&mut self, batch: Batch, lines: &Lines) -> anyhow::Result<()> {
        let mut waiting = VecDeque::from([batch]);
        while let Some(batch) = waiting.pop_front() {
            if batch.lines.is_empty() {
                continue;
            }
            let answer = self.ask(&batch).await?;
            if answer.status == StatusCode::PAYLOAD_TOO_LARGE && batch.lines.len() > 1 {
                batch.halves().into_iter().rev().for_each(|half| waiting.push_front(half));
                continue;
            }
            self.verdicts(&batch, &answer)?;
        }
        self.bar.set_position(lines.octets());
        self.bar.set_message(counted(self.sums.accepted + self.sums.repeated, "event"));
        Ok(())
    }

    /// Sends until there is an answer: a full disk is waited for, a restart of the hub as well.
    async fn ask(&mut self, batch: &Batch) -> anyhow::Result<Answer> {
        let body = Bytes::copy_from_slice(&batch.body);
        let mut away_since: Option<Instant> = None;
        let mut told = false;
        loop {
            let body = Some(("application/x-ndjson", body.clone()));
            let call = Call { body, ..Call::new(hyper::Method::POST, "/v1/events") };
            let (why, pause) = match self.client.ask(call).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    let why = answer.refusal().err().map_or_else(String::new, |e| e.to_string());
                    (why, answer.retry_after.unwrap_or(PAUSE).min(PAUSE_MAX))
                }
                Ok(answer) => {
                    if told {
                        self.note("the hub takes events again");
                    }
                    self.has_spoken = true;
                    return Ok(answer);
                }
                Err(error) if self.has_spoken && error.is::<Unreachable>() => {
                    if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX {
                        let line = batch.first_line();
                        return Err(error.context(format!(
                            "{}:{line}: not acknowledged from here on",
                            self.file
                        )));
                    }
                    (error.to_string(), PAUSE)
                }
                Err(error) => return Err(error),
            };
            if !told {
                told = true;
                self.note(&format!("{why}; trying again until the hub takes events"));
            }
            tokio::time::sleep(pause).await;
            // It may come back at another address or with another token.
            if away_since.is_some()
                && let Ok(client) = self.connection.client()
            {
                self.client = client;
            }
        }
    }

    fn verdicts(&mut self, batch: &Batch, answer: &Answer) -> anyhow::Result<()> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(verdicts) = body.get("verdicts").and_then(Value::as_array) else {
            answer.refusal()?;
            anyhow::bail!("{}: the hub's answer has no verdicts", self.client.url());
        };
        anyhow::ensure!(
            verdicts.len() == batch.lines.len(),
            "{}: {} for {}",
            self.client.url(),
            counted(count(verdicts.len()), "verdict"),
            counted(count(batch.lines.len()), "event")
        );
        for ((number, _), verdict) in batch.lines.iter().zip(verdicts) {
            let repairs = verdict.get("repairs").and_then(Value::as_array);
            match verdict.get("verdict").and_then(Value::as_str) {
                Some("accepted") => {
                    self.sums.accepted += 1;
                    self.sums.repaired += u64::from(repairs.is_some_and(|all| !all.is_empty()));
                }
                Some("repeated") => self.sums.repeated += 1,
                _ => self.refused(*number, verdict)?,
            }
        }
        Ok(())
    }

    fn refused(&mut self, number: u64, verdict: &Value) -> anyhow::Result<()> {
        self.sums.rejected += 1;
        let member = |name: &str| verdict.get(name).and_then(Value::as_str);
        if self.json {
            let mut told = json!({ "file": self.file, "line": number });
            for name in ["parameter", "rule", "error"] {
                if let (Some(value), Some(told)) = (member(name), told.as_object_mut()) {
                    told.insert(name.to_owned(), value.into());
                }
            }
            self.out.line(told)?;
            return Ok(());
        }
        let bold = anstyle::Style::new().bold();
        let line = format!(
            "{bold}{}:{number}:{bold:#} {}",
            self.file,
            finding(member("parameter"), member("rule"), member("error").unwrap_or("refused"))
        );
        self.bar.suspend(|| self.out.line(line).and_then(|()| self.out.flush()))?;
        Ok(())
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    fn end(mut self) -> anyhow::Result<Ending> {
        self.bar.finish_and_clear();
        let Sums { accepted, repeated, rejected, repaired } = self.sums;
        if self.json {
            self.out.line(json!({
                "accepted": accepted, "repeated": repeated, "rejected": rejected,
                "repaired": repaired,
            }))?;
        }
        self.out.flush()?;
        if !self.json {
            let mut sum = format!("{}: {accepted} accepted", self.file);
            for (count, what) in
                [(repaired, "of them repaired"), (repeated, "known already"), (rejected, "refused")]
            {
                if count > 0 {
                    sum.push_str(&format!(", {count} {what}"));
                }
            }
            note(&sum);
        }
        Ok(if rejected == 0 { Ending::Done } else { Ending::No })
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A bar on a terminal, nothing in a pipe; a pipe that comes in has no end to measure by.
fn bar(total_octets: Option<u64>) -> ProgressBar {
    let bar = match total_octets {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    let template = match total_octets {
        Some(_) => "{bar:24} {percent:>3} %  {msg}  {elapsed}, {eta} left",
        None => "{spinner} {msg}  {elapsed}",
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Half the default of `http.max_body` would do; less makes the wait for each answer shorter.
const BATCH_OCTETS_MAX: usize = 1 << 20;

/// So that a slow hub is seen to move.
const BATCH_EVENTS_MAX: usize = 2000;

/// Between two tries where the hub names no pause.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause a hub may ask for here: somebody is watching.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A restart takes seconds; a hub away for longer needs a person.
const AWAY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_falls_in_two_between_events() {
        let mut batch = Batch::default();
        for (number, text) in [(1, "a"), (3, "bb"), (4, "ccc")] {
            batch.push(number, text.as_bytes());
        }
        let [first, second] = batch.halves();
        assert_eq!((first.body.as_slice(), first.lines), (&b"a\n"[..], vec![(1, 2)]));
        assert_eq!(
            (second.body.as_slice(), second.lines),
            (&b"bb\nccc\n"[..], vec![(3, 3), (4, 4)])
        );
    }

    #[test]
    fn a_batch_is_bounded_but_takes_one_event_of_any_size() {
        let mut batch = Batch::default();
        assert!(!batch.is_full_with(BATCH_OCTETS_MAX * 2));
        batch.push(1, b"{}");
        assert!(batch.is_full_with(BATCH_OCTETS_MAX));
        assert!(!batch.is_full_with(10));
    }
}
