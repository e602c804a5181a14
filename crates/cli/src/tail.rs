//! `postbell tail`: events as they happen.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::BytesMut;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::{Call, Client, Refused, Unreachable, encode};
use crate::connection::ConnectionArgs;
use crate::ending::{Ending, note};
use crate::out::Out;
use crate::{show, when};

/// Show events as they happen.
///
/// Goes on until Ctrl-C, over restarts of the hub as well, and misses nothing meanwhile. Each
/// line: time, event, owner, mailbox, and what is worth knowing; all of it with --json.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell tail
  postbell tail --event MessageNew --user john@example.org
  postbell tail --event flags --mailbox 'Archive/*'
  postbell tail --since 0 --no-follow --json > all.ndjson
  postbell tail --since-time 2h
  postbell tail --raw --user john@example.org")]
pub(crate) struct TailArgs {
    /// Begin after the record of this number; 0 for the oldest there is.
    #[arg(long, value_name = "SEQ", conflicts_with = "since_time", value_parser = when::seq)]
    since: Option<u64>,
    /// Begin with what was recorded since: a time such as 2026-08-20T13:34:14+02:00, or 2h for
    /// two hours ago.
    #[arg(long, value_name = "TIME", value_parser = when::time)]
    since_time: Option<jiff::Timestamp>,
    /// Only these events or groups (message, flags, quota, access, mailbox, subscription, vendor);
    /// may be given several times.
    #[arg(short, long, value_name = "NAME")]
    event: Vec<String>,
    /// Only this user's: the mailbox's owner or who acted; may be given several times.
    #[arg(short, long, value_name = "USER")]
    user: Vec<String>,
    /// Only mailboxes of this name; * and % as in IMAP's LIST; may be given several times.
    #[arg(short, long, value_name = "PATTERN")]
    mailbox: Vec<String>,
    /// Only these parameters, besides the mandatory ones; may be given several times.
    #[arg(short, long, alias = "parameters", value_name = "NAME")]
    parameter: Vec<String>,
    /// Show what the store said as well, and what was changed of it; a source that reads what its
    /// store says keeps that where it is configured to (notify_raw of a Cyrus).
    #[arg(long)]
    raw: bool,
    /// End after so many events.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = when::count)]
    limit: Option<u64>,
    /// End when everything there is has been shown.
    #[arg(long)]
    no_follow: bool,
    /// Print each event as JSON, one per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(crate) async fn run(args: TailArgs) -> anyhow::Result<Ending> {
    let client = args.connection.client()?;
    tokio::select! {
        ending = Tail::new(client, args).run() => ending,
        // To stop looking is not to fail.
        _ = tokio::signal::ctrl_c() => Ok(Ending::Done),
        () = reader_gone() => Ok(Ending::Done),
    }
}

/// Where we are in the stream.
struct Tail {
    client: Client,
    args: TailArgs,
    out: Out,
    /// The last record heard, or the one to begin after.
    last: Option<u64>,
    shown: u64,
}

impl Tail {
    fn new(client: Client, args: TailArgs) -> Self {
        let out = if args.json { Out::raw() } else { Out::new() };
        let last = args.since;
        Self { client, args, out, last, shown: 0 }
    }

    async fn run(mut self) -> anyhow::Result<Ending> {
        if self.last.is_none() && self.args.since_time.is_none() {
            // Told where "now" is, nothing is missed even if the hub goes before the first event.
            let status = self.client.json(Call::get("/v1/status")).await?;
            self.last = status.pointer("/journal/last").and_then(Value::as_u64);
        }
        let mut body = self.open().await?;
        loop {
            match self.read(body).await {
                Ok(()) if self.is_done() => return Ok(Ending::Done),
                Ok(()) => note("the hub ended the stream; waiting for it"),
                Err(error) if error.is::<Unreachable>() => {
                    note(&format!("{error}; waiting for the hub"));
                }
                Err(error) => return Err(error),
            }
            body = self.reopen().await?;
            note(&match self.last {
                Some(seq) => format!("the hub is back; going on after #{seq}"),
                None => "the hub is back".to_owned(),
            });
        }
    }

    /// Whether an end of the stream is what was asked for.
    fn is_done(&self) -> bool {
        self.args.no_follow || self.left() == Some(0)
    }

    /// How many events are still to be shown, where that was said.
    fn left(&self) -> Option<u64> {
        self.args.limit.map(|limit| limit.saturating_sub(self.shown))
    }

    async fn open(&mut self) -> anyhow::Result<Incoming> {
        let path = self.path();
        let call = Call {
            accept: "text/event-stream",
            last_event_id: self.last.filter(|_| self.shown > 0),
            ..Call::get(&path)
        };
        self.client.open(call).await
    }

    /// Tries until the hub is there, or says that it won't.
    async fn reopen(&mut self) -> anyhow::Result<Incoming> {
        let mut pause = PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            // It may have come back at another address or with another token.
            if let Ok(client) = self.args.connection.client() {
                self.client = client;
            }
            match self.open().await {
                Ok(body) => return Ok(body),
                Err(error) if error.is::<Unreachable>() || is_for_now(&error) => {}
                Err(error) => return Err(error),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// What is asked for: what the store said is private, and so only comes by name.
    fn parameters(&self) -> Vec<String> {
        let mut parameters = self.args.parameter.clone();
        if self.args.raw {
            if parameters.is_empty() {
                parameters.push("*".to_owned());
            }
            parameters.extend([show::RAW, show::REPAIRS].map(str::to_owned));
        }
        parameters
    }

    fn path(&self) -> String {
        let mut path = format!("/v1/events?follow={}", !self.args.no_follow);
        if let Some(seq) = self.last {
            path.push_str(&format!("&since={seq}"));
        } else if let Some(time) = self.args.since_time {
            path.push_str(&format!("&sinceTime={}", encode(&rfc3339(time))));
        }
        for (name, values) in [
            ("events", &self.args.event),
            ("users", &self.args.user),
            ("mailboxes", &self.args.mailbox),
            ("parameters", &self.parameters()),
        ] {
            if !values.is_empty() {
                path.push_str(&format!("&{name}={}", encode(&listed(values, name))));
            }
        }
        if let Some(left) = self.left() {
            path.push_str(&format!("&limit={left}"));
        }
        path
    }

    async fn read(&mut self, mut body: Incoming) -> anyhow::Result<()> {
        let mut blocks = Blocks::default();
        loop {
            while let Some(message) = blocks.next() {
                self.show(&message)?;
                if self.left() == Some(0) {
                    self.out.flush()?;
                    return Ok(());
                }
            }
            self.out.flush()?;
            let frame = match timeout(SILENCE_MAX, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(()),
                Ok(Some(Err(_))) => {
                    return Err(Unreachable::new("the connection to the hub broke off").into());
                }
                Err(_) => return Err(Unreachable::new("the hub has gone silent").into()),
            };
            if let Some(data) = frame.data_ref() {
                blocks.push(data)?;
            }
        }
    }

    fn show(&mut self, message: &Message) -> anyhow::Result<()> {
        if let Some(why) = &message.failure {
            // Asked again the hub would only come upon the same.
            self.out.flush()?;
            return Err(anyhow!("the hub can't go on: {}", show::clean(why)));
        }
        if message.data.is_empty() {
            return Ok(());
        }
        if self.args.json {
            self.out.octets(message.data.as_bytes())?;
        } else {
            let event: Value = serde_json::from_str(&message.data)
                .with_context(|| format!("{}: an event is not JSON", self.client.url()))?;
            self.out.line(show::line(&event))?;
            if self.args.raw {
                self.out.line(show::raw(event))?;
            }
        }
        self.last = message.id.or(self.last);
        self.shown += 1;
        Ok(())
    }
}

/// Values as a list of the API's. A user or a mailbox may have a comma in its name, and then has a
/// backslash before it; no event or parameter has one, so that there a list between commas works.
fn listed(values: &[String], name: &str) -> String {
    if !matches!(name, "users" | "mailboxes") {
        return values.join(",");
    }
    let escaped = values.iter().map(|value| value.replace('\\', r"\\").replace(',', r"\,"));
    escaped.collect::<Vec<_>>().join(",")
}

/// 503: as many streams as the hub holds, or it is only just starting.
fn is_for_now(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.status == StatusCode::SERVICE_UNAVAILABLE)
}

fn rfc3339(time: jiff::Timestamp) -> String {
    mail_event::Timestamp::new(time, jiff::tz::Offset::UTC).to_string()
}

/// One message of the stream.
#[derive(Debug, Default, Eq, PartialEq)]
struct Message {
    id: Option<u64>,
    data: String,
    /// Why the hub cuts the stream: a comment that only we read.
    failure: Option<String>,
}

/// Cuts the octets of a stream into its messages (the HTML standard, "server-sent events").
#[derive(Debug, Default)]
struct Blocks {
    pending: BytesMut,
    /// Up to here no end of a message was found.
    looked: usize,
}

impl Blocks {
    fn push(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        self.pending.extend_from_slice(octets);
        anyhow::ensure!(
            self.pending.len() <= MESSAGE_OCTETS_MAX,
            "the hub sent a message of over {MESSAGE_OCTETS_MAX} octets"
        );
        Ok(())
    }

    fn next(&mut self) -> Option<Message> {
        let fresh = self.pending.get(self.looked..)?;
        let Some(at) = fresh.windows(2).position(|pair| pair == b"\n\n") else {
            self.looked = self.pending.len().saturating_sub(1);
            return None;
        };
        let block = self.pending.split_to(self.looked + at + 2);
        self.looked = 0;
        Some(message(&String::from_utf8_lossy(&block)))
    }
}

fn message(block: &str) -> Message {
    let mut message = Message::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => {
                let failure = value.strip_prefix("error ").map(str::to_owned);
                message.failure = failure.or(message.failure);
            }
            "id" => message.id = value.parse().ok(),
            "data" => {
                if !message.data.is_empty() {
                    message.data.push('\n');
                }
                message.data.push_str(value);
            }
            _ => {}
        }
    }
    message
}

/// Resolves when nobody reads standard output any more, as after `| head`; else only the next
/// event, which may be long in coming, would tell.
async fn reader_gone() {
    let (told, gone) = tokio::sync::oneshot::channel();
    // A thread of its own, since it waits for as long as the command runs.
    let watch = move || {
        use rustix::event::{PollFd, PollFlags, poll};
        let stdout = std::io::stdout();
        loop {
            let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let [fd] = &fds;
            if fd.revents().intersects(PollFlags::ERR) {
                // Nobody listens where the command ends just now.
                told.send(()).ok();
            }
            return;
        }
    };
    drop(std::thread::Builder::new().name("reader".to_owned()).spawn(watch));
    if gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The hub says something every 15 s, if only that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The largest event with room for what SSE adds.
const MESSAGE_OCTETS_MAX: usize = 2 * mail_event::limits::EVENT_OCTETS_MAX;

/// A restart is over in less than a second.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Somebody is watching.
const PAUSE_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_mailboxs_name_does_not_cut_it() {
        let listed = |name| listed(&["a,b".to_owned(), r"c\d".to_owned()], name);
        assert_eq!(listed("mailboxes"), r"a\,b,c\\d");
        assert_eq!(listed("events"), r"a,b,c\d");
    }

    #[test]
    fn why_a_stream_is_cut_is_read_from_its_comment() {
        assert_eq!(message(": error record 3: damaged\n\n").failure.unwrap(), "record 3: damaged");
        assert_eq!(message(":\n\n"), Message::default());
    }

    #[test]
    fn messages_are_found_however_the_octets_are_cut() {
        let stream =
            b": hello\n\nid: 7\nevent: MessageNew\ndata: {}\n\nid:8\ndata:{\"a\":1}\n\nid: 9\n";
        for size in 1..stream.len() {
            let mut blocks = Blocks::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                blocks.push(piece).unwrap();
                while let Some(message) = blocks.next() {
                    found.push((message.id, message.data));
                }
            }
            assert_eq!(
                found,
                [
                    (None, String::new()),
                    (Some(7), "{}".to_owned()),
                    (Some(8), "{\"a\":1}".to_owned())
                ],
                "{size}"
            );
        }
    }
}
