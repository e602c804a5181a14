//! `postbell demo`: everything at once on this machine.
//!
//! A Maildir in a temporary folder, the hub on it, a subscriber on the stream and a receiver of
//! webhooks, and a short morning of real operations. Nothing here is pretended: events come
//! through the hub's HTTP API as they would to anybody, and the end says whether both ways told
//! the same.

mod ledger;
mod letters;
mod maildir;
mod morning;
mod receiver;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use postbell_hub::{Config, Hub};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use crate::client::{Call, Client, Place, Secret};
use crate::connection;
use crate::ending::Ending;
use crate::out::Out;
use crate::show;
use ledger::Ledger;
use maildir::Maildir;
use morning::{STEPS, Step};
use receiver::{Received, Receiver};

/// How the demo runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// End by itself after the morning, with exit code 0 only if every event came and every
    /// signature was right.
    #[arg(long)]
    once: bool,
}

/// Runs the demo.
pub(crate) fn run(args: DemoArgs) -> anyhow::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::Builder::new().prefix("postbell-demo-").tempdir()?;
        let mut demo = Demo::start(folder).await?;
        let interrupted = interruption()?;
        let ending = tokio::select! {
            ending = demo.play(args.once) => ending,
            () = interrupted => demo.interrupted(args.once),
        };
        demo.stop().await?;
        ending
    })
}

/// Ctrl-C, or a polite kill.
fn interruption() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Everything that runs.
struct Demo {
    begun: Instant,
    events: UnboundedReceiver<anyhow::Result<Value>>,
    deliveries: UnboundedReceiver<Received>,
    ledger: Ledger,
    maildir: Maildir,
    out: Out,
    places: Places,
    hub: Hub,
    // Last, so that nothing writes there any more when it goes.
    folder: TempDir,
}

/// Where everything is.
struct Places {
    api: SocketAddr,
    config: PathBuf,
    data: PathBuf,
    maildir: PathBuf,
    token: PathBuf,
    webhook: SocketAddr,
}

impl Demo {
    async fn start(folder: TempDir) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let root = folder.path().join("Maildir");
        let mut maildir =
            Maildir::make(&root, QUOTA_OCTETS).with_context(|| root.display().to_string())?;
        morning::before(&mut maildir)?;
        let path = folder.path().join("postbell.toml");
        std::fs::write(&path, config_text(folder.path())).context("writing the configuration")?;
        let config = Config::load(&path)?;
        let (data, token) = (config.data.clone(), config.token_file());
        let hub = Hub::start(config).await?;
        let api = hub.local_addr();
        connection::announce(&data, api, None)?;
        let mut client = client(&hub)?;
        until_looked_at(&mut client).await?;
        let (heard, deliveries) = mpsc::unbounded_channel();
        let receiver = Receiver::start(heard).await?;
        subscribe(&mut client, &receiver).await?;
        let events = follow(&hub).await?;
        let places =
            Places { api, config: path, data, maildir: root, token, webhook: receiver.address };
        let (ledger, out) = (Ledger::default(), Out::new());
        Ok(Self { begun, events, deliveries, ledger, maildir, out, places, hub, folder })
    }

    /// The morning, and then what the visitor does.
    async fn play(&mut self, once: bool) -> anyhow::Result<Ending> {
        self.out.line(self.places.text())?;
        for step in STEPS {
            self.step(step).await?;
        }
        self.even_out().await;
        if once {
            return self.conclude();
        }
        self.out.line(self.places.invitation())?;
        self.out.flush()?;
        loop {
            tokio::select! {
                event = self.events.recv() => drop(self.event(event)?),
                Some(received) = self.deliveries.recv() => self.ledger.delivery(received),
                reason = self.hub.failed() => bail!("the hub has stopped: {reason}"),
            }
        }
    }

    /// Does one thing and waits for what must come of it.
    async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        let bold = anstyle::Style::new().bold();
        self.out.line(format_args!("\n{bold}· {}{bold:#}", step.told))?;
        self.out.flush()?;
        (step.act)(&mut self.maildir)
            .with_context(|| format!("{}: {}", self.places.maildir.display(), step.told))?;
        let mut awaited: VecDeque<&str> = step.events.iter().copied().collect();
        let until = tokio::time::Instant::now() + PATIENCE;
        while !awaited.is_empty() {
            tokio::select! {
                event = self.events.recv() => {
                    let name = self.event(event)?;
                    if let Some(place) = awaited.iter().position(|wanted| *wanted == name) {
                        awaited.remove(place);
                    }
                }
                Some(received) = self.deliveries.recv() => self.ledger.delivery(received),
                () = tokio::time::sleep_until(until) => {
                    for name in awaited.drain(..) {
                        self.ledger.fault(format!("no {name} came when {}", step.told));
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows and notes an event of the stream; gives its name.
    fn event(&mut self, event: Option<anyhow::Result<Value>>) -> anyhow::Result<String> {
        let mut event = event.ok_or_else(|| anyhow!("the stream has ended"))??;
        let name = self.ledger.stream(&event);
        // All that a Maildir tells is inferred: not worth a word on every line.
        if let Some(members) = event.as_object_mut() {
            members.remove("vnd.postbell.inferred");
        }
        self.out.line(fitting(&mut event))?;
        self.out.flush()?;
        Ok(name)
    }

    /// Waits until the webhook has had all that the stream has; what doesn't come is a fault.
    async fn even_out(&mut self) {
        let (ledger, deliveries) = (&mut self.ledger, &mut self.deliveries);
        let all = async {
            while !ledger.is_even() {
                let Some(received) = deliveries.recv().await else { return };
                ledger.delivery(received);
            }
        };
        // Where the time is up, the ledger knows what is missing.
        timeout(PATIENCE, all).await.unwrap_or_default();
    }

    /// Tells what came of it all.
    fn conclude(&mut self) -> anyhow::Result<Ending> {
        let faults = self.ledger.faults();
        self.out.line(summary(&self.ledger, &faults, self.begun.elapsed()))?;
        self.out.flush()?;
        Ok(if faults.is_empty() { Ending::Done } else { Ending::No })
    }

    /// The visitor has seen enough.
    fn interrupted(&mut self, once: bool) -> anyhow::Result<Ending> {
        while let Ok(received) = self.deliveries.try_recv() {
            self.ledger.delivery(received);
        }
        let (events, deliveries, _) = self.ledger.counts();
        self.out.line(format_args!(
            "\n{events} events seen, {deliveries} deliveries verified; {} is gone",
            self.folder.path().display()
        ))?;
        self.out.flush()?;
        Ok(if once { Ending::No } else { Ending::Done })
    }

    /// Ends the hub and leaves nothing behind.
    async fn stop(self) -> anyhow::Result<()> {
        let Self { hub, folder, events, deliveries, .. } = self;
        // The stream is ours: its end is no news.
        drop((events, deliveries));
        hub.shutdown().await;
        let path = folder.path().to_owned();
        folder.close().with_context(|| path.display().to_string())
    }
}

impl Places {
    fn text(&self) -> String {
        let bold = anstyle::Style::new().bold();
        let rows = [
            ("Maildir", self.maildir.display().to_string()),
            ("hub", format!("http://{}", self.api)),
            ("its data", self.data.display().to_string()),
            ("its settings", self.config.display().to_string()),
            ("webhook", format!("http://{}/ (each signature is checked)", self.webhook)),
        ];
        let rows: String =
            rows.iter().map(|(what, place)| format!("\n  {what:<13} {place}")).collect();
        format!("{bold}A mail store's morning, told as it happens{bold:#}\n{rows}")
    }

    fn invitation(&self) -> String {
        let bold = anstyle::Style::new().bold();
        let dim = anstyle::Style::new().dimmed();
        let (maildir, token) = (self.maildir.display(), self.token.display());
        let program = std::env::args().next().unwrap_or_else(|| "postbell".to_owned());
        format!(
            "\n{bold}Now you.{bold:#} Drop a message in, and its event shows up here:\n\n  \
             M={maildir}\n  \
             printf 'Subject: hello\\n\\nhello\\n' > $M/tmp/hi && mv $M/tmp/hi $M/new/hi.$$\n\n\
             Or listen yourself, in another terminal:\n\n  \
             {program} tail --data {data}\n  \
             curl -sN 'http://{api}/v1/events?since=0' \\\n    \
             -H \"Authorization: Bearer $(cat {token})\"\n\n\
             {dim}Ctrl-C ends the demo and removes its folder.{dim:#}\n",
            data = self.data.display(),
            api = self.api,
        )
    }
}

/// The event as a line that a terminal of 80 columns does not wrap, where leaving out how many
/// messages there are now is enough for that.
fn fitting(event: &mut Value) -> String {
    let line = format!("  {}", show::line(event));
    let columns = anstream::adapter::strip_str(&line).to_string().chars().count();
    if columns > COLUMNS
        && let Some(members) = event.as_object_mut()
    {
        members.remove("messages");
        return format!("  {}", show::line(event));
    }
    line
}

/// As wide as terminals are at least.
const COLUMNS: usize = 80;

/// What came, and whether all is well.
fn summary(ledger: &Ledger, faults: &[String], took: Duration) -> String {
    let bold = anstyle::Style::new().bold();
    let mut text = format!("\n{bold}What came{bold:#}\n");
    for (name, count) in ledger.names() {
        text.push_str(&format!("\n  {name:<19} {count}"));
    }
    let (events, deliveries, repeated) = ledger.counts();
    text.push_str(&format!(
        "\n\n  {events} events on the stream, {deliveries} deliveries to the webhook"
    ));
    if repeated > 0 {
        text.push_str(&format!(" ({repeated} of them repeats)"));
    }
    let (colour, words) = if faults.is_empty() {
        let words = "every signature right, every id the same both ways, no number missing";
        (anstyle::AnsiColor::Green, words.to_owned())
    } else {
        (anstyle::AnsiColor::Red, faults.join("\n  "))
    };
    let style = colour.on_default();
    let seconds = took.as_secs_f64();
    text.push_str(&format!("\n  {style}{words}{style:#}\n  {seconds:.1} s"));
    text
}

/// A configuration to begin with; `postbell serve --config` takes it as well.
fn config_text(folder: &Path) -> String {
    // As TOML strings: a path of the system's choice may hold anything.
    let text = |path: PathBuf| toml_text(&path.display().to_string());
    format!(
        "# Written by postbell demo.\n\
         data = {data}\n\
         listen = \"127.0.0.1:0\"\n\n\
         [sources.home]\n\
         kind = \"maildir\"\n\
         root = {root}\n\
         user = \"alice\"\n\
         # inotify says when to look; this is for a notice that got lost.\n\
         scan_interval = \"5s\"\n\n\
         [webhooks]\n\
         # The demo's receiver is on this machine.\n\
         reach = \"loopback\"\n",
        data = text(folder.join("data")),
        root = text(folder.join("Maildir")),
    )
}

/// A basic string of TOML, whose escapes are JSON's.
fn toml_text(text: &str) -> String {
    Value::from(text).to_string()
}

fn client(hub: &Hub) -> anyhow::Result<Client> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", hub.token().reveal()))?;
    header.set_sensitive(true);
    let token = Secret { header, origin: "the demo's hub".to_owned() };
    Ok(Client::new(Place::plain(hub.local_addr().to_string()), Some(token)))
}

/// Waits for the first look, which is remembered and not told.
async fn until_looked_at(client: &mut Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let source = client.json(Call::get("/v1/sources/home")).await?;
        if source.get("messages").and_then(Value::as_u64) == Some(1) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the hub has not looked at the Maildir within {} s", PATIENCE.as_secs())
}

/// Subscribes the receiver to everything.
async fn subscribe(client: &mut Client, receiver: &Receiver) -> anyhow::Result<()> {
    let wanted = json!({
        "name": "demo",
        "begin": "now",
        "sink": {"kind": "webhook", "url": format!("http://{}/", receiver.address)},
    });
    let made = client.json(Call::post("/v1/subscriptions", &wanted)).await?;
    let secret = made.get("secret").or_else(|| made.get("sink")?.get("secret"));
    receiver.trust(secret.and_then(Value::as_str).context("the subscription has no secret")?)
}

/// Follows the stream; it is open when this returns.
async fn follow(hub: &Hub) -> anyhow::Result<UnboundedReceiver<anyhow::Result<Value>>> {
    let call = Call { accept: "application/x-ndjson", ..Call::get("/v1/events") };
    let body = client(hub)?.open(call).await?;
    let (told, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        if let Err(error) = read_lines(body, &told).await {
            // Where nobody listens any more, nobody wants to know.
            told.send(Err(error)).unwrap_or_default();
        }
    });
    Ok(events)
}

async fn read_lines(
    mut body: Incoming,
    told: &UnboundedSender<anyhow::Result<Value>>,
) -> anyhow::Result<()> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        held.extend_from_slice(&data);
        while let Some(end) = memchr::memchr(b'\n', &held) {
            let line = held.split_to(end + 1);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let event = serde_json::from_slice(&line).context("a line of the stream")?;
            told.send(Ok(event))?;
        }
    }
    bail!("the hub ended the stream")
}

/// How long a thing may take on a slow machine before the demo goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at whether the hub is ready.
const PAUSE: Duration = Duration::from_millis(20);

/// What Alice may keep at first: enough.
const QUOTA_OCTETS: u64 = 10 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_the_hub_takes() {
        let text = config_text(Path::new("/tmp/a \"folder\""));
        let config = Config::parse("postbell.toml", &text).unwrap();
        assert_eq!(config.data, Path::new("/tmp/a \"folder\"/data"));
        assert_eq!(config.sources.len(), 1);
    }

    #[test]
    fn a_summary_tells_faults_where_there_are_any() {
        let mut ledger = Ledger::default();
        ledger.fault("no MessageNew came".to_owned());
        let text = summary(&ledger, &ledger.faults(), Duration::from_millis(1_234));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("no MessageNew came") && text.ends_with("1.2 s"), "{text}");
        assert!(!text.contains("every signature right"));
    }

    #[test]
    fn a_long_line_is_not_wrapped() {
        let mut event = json!({
            "event": "MessageAppend", "timestamp": "2026-08-20T13:34:14.966+02:00",
            "uri": "imap://alice@localhost/Boat;UIDVALIDITY=1/;UID=1", "messageSize": 316,
            "flagNames": ["\\Answered", "\\Seen"], "messages": 1, "vnd.postbell.seq": 13,
        });
        let line = anstream::adapter::strip_str(&fitting(&mut event)).to_string();
        assert_eq!(
            line,
            "  13:34:14 MessageAppend      alice Boat uid 1 \\Answered \\Seen 316 octets #13"
        );
        event["messages"] = 1.into();
        event["flagNames"] = json!([]);
        assert!(fitting(&mut event).contains("1 message"), "one that fits is left as it is");
        for wide in [COLUMNS, COLUMNS + 1] {
            event["messages"] = 1.into();
            let mut flag = String::new();
            let whole = loop {
                flag.push('x');
                event["flagNames"] = json!([flag]);
                let line = anstream::adapter::strip_str(&show::line(&event)).to_string();
                if line.chars().count() + 2 >= wide {
                    break line;
                }
            };
            assert_eq!(whole.chars().count() + 2, wide);
            assert_eq!(fitting(&mut event).contains("1 message"), wide == COLUMNS, "{whole}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_whole_morning_comes_through_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = Demo::start(folder).await.unwrap();
        let ending = demo.play(true).await.unwrap();
        assert_eq!(demo.ledger.faults(), Vec::<String>::new());
        assert_eq!(ending, Ending::Done);
        demo.stop().await.unwrap();
    }
}
