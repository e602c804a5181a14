//! `postbell top`: sources, subscriptions, rates and lag, as they are now.

mod picture;
mod screen;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Call, Client};
use crate::connection::ConnectionArgs;
use crate::ending::Ending;
use crate::out::{self, Out};
use crate::when;
use picture::{Look, Picture, Sorting};
use screen::{Key, Screen};

/// Watch sources, subscriptions, rates and lag live.
///
/// Rates are of the time since the look before. In a pipe, or with --once, it looks twice, prints
/// once and ends. Keys: q ends, space holds, s sorts by lag or by name, + and - change how often it
/// looks, r looks at once.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell top
  postbell top --interval 5s
  postbell top --once
  postbell top --once --json | jq '.subscriptions[] | select(.lag > 1000) | .name'")]
pub(crate) struct TopArgs {
    /// How often to look.
    #[arg(short, long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print once and end.
    #[arg(long)]
    once: bool,
    /// Print what the hub said as JSON, a line for each look.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = when::duration(text).map_err(str::to_owned)?;
    if interval < INTERVAL_MIN {
        return Err("is less than 200ms, at which the hub would mostly answer us".to_owned());
    }
    Ok(interval)
}

/// Runs the command.
pub(crate) async fn run(args: TopArgs) -> anyhow::Result<Ending> {
    let mut client = args.connection.client()?;
    // A hub that isn't there is told at once, before the screen is taken.
    let first = look(&mut client).await?;
    if args.json {
        return lines(&mut client, &args, first).await;
    }
    if args.once || !std::io::stdout().is_terminal() {
        tokio::time::sleep(args.interval).await;
        let second = look(&mut client).await?;
        let mut picture = Picture::new(client.url(), args.interval);
        picture.take(first);
        picture.take(second);
        out::print(picture.lines(None).join("\n"))?;
        return Ok(Ending::Done);
    }
    watch(&mut client, args.interval, first).await
}

/// What the hub says of itself.
async fn look(client: &mut Client) -> anyhow::Result<Look> {
    let status = client.json(Call::get("/v1/status")).await?;
    let sources = client.json(Call::get("/v1/sources")).await?;
    let subscriptions = client.json(Call::get("/v1/subscriptions")).await?;
    let metrics = client.ask(Call::get("/metrics")).await?;
    metrics.refusal()?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    Ok(Look { at: Instant::now(), status, sources, subscriptions, metrics })
}

/// Looks as JSON, on a line each.
async fn lines(client: &mut Client, args: &TopArgs, first: Look) -> anyhow::Result<Ending> {
    let mut out = Out::raw();
    let mut look_now = first;
    loop {
        out.line(as_json(&look_now))?;
        out.flush()?;
        if args.once {
            return Ok(Ending::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(args.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Ending::Done),
        }
        look_now = look(client).await?;
    }
}

fn as_json(look: &Look) -> Value {
    json!({
        "at": jiff::Timestamp::now().to_string(),
        "status": look.status,
        "sources": look.sources.get("sources"),
        "subscriptions": look.subscriptions.get("subscriptions"),
    })
}

/// The screen, until somebody has seen enough.
async fn watch(client: &mut Client, interval: Duration, first: Look) -> anyhow::Result<Ending> {
    let mut picture = Picture::new(client.url(), interval);
    picture.take(first);
    let mut screen = Screen::take()?;
    let mut next = tokio::time::Instant::now() + interval;
    loop {
        screen.show(&picture.lines(Some(screen.size())))?;
        let key = tokio::select! {
            () = tokio::time::sleep_until(next), if !picture.is_held => None,
            key = screen.key() => Some(key?),
        };
        match key {
            Some(Key::Quit) => return Ok(Ending::Done),
            Some(Key::Hold) => picture.is_held = !picture.is_held,
            Some(Key::Sort) => {
                picture.sorting = match picture.sorting {
                    Sorting::Lag => Sorting::Name,
                    Sorting::Name => Sorting::Lag,
                }
            }
            Some(Key::Slower) => picture.interval = (picture.interval * 2).min(INTERVAL_MAX),
            Some(Key::Faster) => picture.interval = (picture.interval / 2).max(INTERVAL_MIN),
            Some(Key::Resized) => continue,
            Some(Key::Look) | None => match look(client).await {
                Ok(look) => picture.take(look),
                Err(error) => picture.away = Some(format!("{error:#}")),
            },
        }
        next = tokio::time::Instant::now() + picture.interval;
    }
}

/// Faster, and the hub would mostly answer us.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Slower, and one would not call it live.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
