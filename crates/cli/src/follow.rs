//! The hub's stream, followed over restarts of the hub.

use std::time::Duration;

use anyhow::anyhow;
use bytes::BytesMut;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::{Call, Client, Refused, Unreachable, encode};
use crate::connection::ConnectionArgs;
use crate::ending::note;
use crate::selection::{FormArgs, WhichArgs};
use crate::{show, when};

/// Which events, and from where on.
#[derive(Args, Clone, Debug)]
pub(crate) struct FollowArgs {
    /// Begin after the record of this number; 0 for the oldest there is.
    #[arg(long, value_name = "SEQ", conflicts_with = "since_time", value_parser = when::seq)]
    pub(crate) since: Option<u64>,
    /// Begin with what was recorded since: a time such as 2026-08-20T13:34:14+02:00, or 2h for
    /// two hours ago.
    #[arg(long, value_name = "TIME", value_parser = when::time)]
    pub(crate) since_time: Option<jiff::Timestamp>,
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    #[command(flatten)]
    form: FormArgs,
    /// End after so many events.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = when::count)]
    limit: Option<u64>,
    /// End when everything there is has been told.
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Where we are in the stream.
pub(crate) struct Follow {
    client: Client,
    args: FollowArgs,
    events: Vec<String>,
    body: Option<Incoming>,
    blocks: Blocks,
    /// The last record heard, or the one to begin after.
    last: Option<u64>,
    told: u64,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Told {
    /// Its number.
    pub(crate) seq: Option<u64>,
    /// As JSON, on one line.
    pub(crate) json: String,
}

impl Follow {
    /// A stream of these events or groups; of all where there are none.
    pub(crate) fn new(args: FollowArgs, events: Vec<String>) -> anyhow::Result<Self> {
        let client = args.connection.client()?;
        let last = args.since;
        Ok(Self { client, args, events, body: None, blocks: Blocks::default(), last, told: 0 })
    }

    /// The hub, for messages about it.
    pub(crate) fn url(&self) -> String {
        self.client.url()
    }

    /// An event that was received already.
    pub(crate) fn ready(&mut self) -> anyhow::Result<Option<Told>> {
        while self.left() != Some(0) {
            let Some(message) = self.blocks.next() else { break };
            if let Some(why) = message.failure {
                // Asked again the hub would only come upon the same.
                return Err(anyhow!("the hub can't go on: {}", show::clean(&why)));
            }
            if !message.data.is_empty() {
                self.last = message.id.or(self.last);
                self.told += 1;
                return Ok(Some(Told { seq: message.id, json: message.data }));
            }
        }
        Ok(None)
    }

    /// The next event, waited for as long as it takes; nothing where no more is wanted.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        loop {
            if let Some(told) = self.ready()? {
                return Ok(Some(told));
            }
            if self.left() == Some(0) {
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                self.begin().await?;
                continue;
            };
            match hear(body).await {
                Ok(Some(data)) => self.blocks.push(&data)?,
                Ok(None) if self.args.no_follow => return Ok(None),
                Ok(None) => self.reopen("the hub ended the stream; waiting for it").await?,
                Err(error) => self.reopen(&format!("{error}; waiting for the hub")).await?,
            }
        }
    }

    /// How many events are still to be told, where that was said.
    fn left(&self) -> Option<u64> {
        self.args.limit.map(|limit| limit.saturating_sub(self.told))
    }

    /// Opens the stream, and gives the record it begins behind, where that is known.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<Option<u64>> {
        if self.last.is_none() && self.args.since_time.is_none() {
            // Told where "now" is, nothing is missed even if the hub goes before the first event.
            let answer = self.client.ask(Call::get("/v1/status")).await?;
            // A token that may not see how the hub is begins with what comes after it asked.
            if answer.status != StatusCode::FORBIDDEN {
                self.last = answer.json()?.pointer("/journal/last").and_then(Value::as_u64);
            }
        }
        self.open().await?;
        Ok(self.last)
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        let path = self.path();
        let call = Call {
            accept: "text/event-stream",
            last_event_id: self.last.filter(|_| self.told > 0),
            ..Call::get(&path)
        };
        self.body = Some(self.client.open(call).await?);
        // What was not received whole was not told.
        self.blocks = Blocks::default();
        Ok(())
    }

    /// Tries until the hub is there, or says that it won't.
    async fn reopen(&mut self, why: &str) -> anyhow::Result<()> {
        note(why);
        self.body = None;
        let mut pause = PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            // It may have come back at another address or with another token.
            if let Ok(client) = self.args.connection.client() {
                self.client = client;
            }
            match self.open().await {
                Ok(()) => break,
                Err(error) if error.is::<Unreachable>() || is_for_now(&error) => {}
                Err(error) => return Err(error),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        note(&match self.last {
            Some(seq) => format!("the hub is back; going on after #{seq}"),
            None => "the hub is back".to_owned(),
        });
        Ok(())
    }

    fn path(&self) -> String {
        let mut path = format!("/v1/events?follow={}", !self.args.no_follow);
        if let Some(seq) = self.last {
            path.push_str(&format!("&since={seq}"));
        } else if let Some(time) = self.args.since_time {
            path.push_str(&format!("&sinceTime={}", encode(&rfc3339(time))));
        }
        for (name, values) in [
            ("events", &self.events),
            ("users", &self.args.which.user),
            ("mailboxes", &self.args.which.mailbox),
            ("parameters", &self.args.which.parameter),
        ] {
            if !values.is_empty() {
                path.push_str(&format!("&{name}={}", encode(&listed(values, name))));
            }
        }
        if let Some(condition) = &self.args.which.condition {
            path.push_str(&format!("&where={}", encode(condition)));
        }
        for (name, form) in
            [("seenForm", &self.args.form.seen_form), ("deletedForm", &self.args.form.deleted_form)]
        {
            if let Some(form) = form {
                path.push_str(&format!("&{name}={form}"));
            }
        }
        if let Some(left) = self.left() {
            path.push_str(&format!("&limit={left}"));
        }
        path
    }
}

/// More of the stream; nothing at its end.
async fn hear(body: &mut Incoming) -> Result<Option<bytes::Bytes>, Unreachable> {
    loop {
        match timeout(SILENCE_MAX, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(Unreachable::new("the connection to the hub broke off"));
            }
            Err(_) => return Err(Unreachable::new("the hub has gone silent")),
        }
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
