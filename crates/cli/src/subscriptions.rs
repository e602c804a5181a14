//! `postbell subscriptions`: who is told what, and how that goes.

mod add;
mod explain;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Call, Client, encode};
use crate::connection::ConnectionArgs;
use crate::ending::{Ending, Misuse, note};
use crate::lines::plain;
use crate::out::{self, print};
use crate::show::clean;
use crate::when::{self, Begin};

/// Add, look at and end subscriptions.
#[derive(Args, Debug)]
pub(crate) struct SubscriptionsArgs {
    #[command(subcommand)]
    command: Command,
    /// Print the hub's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Box<add::AddArgs>),
    DeadLetters(DeadLettersArgs),
    Explain(ExplainArgs),
    /// List every subscription with its state.
    List,
    /// Hold a subscription where it stands.
    Pause(NameArg),
    Redrive(RedriveArgs),
    Remove(RemoveArgs),
    Renew(RenewArgs),
    Replay(ReplayArgs),
    /// Let a subscription go on where it stood, also one that ended.
    Resume(NameArg),
    Rotate(RotateArgs),
    /// Show one subscription whole.
    Show(NameArg),
}

/// Say in words what a subscription will match, and what policy takes away.
///
/// Asks no hub: the policy is the configuration's. Exit code 1 where the subscription can't be, and
/// why.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell subscriptions explain phone.json
  postbell subscriptions explain --config postbell.toml phone.json
  echo '{\"events\": [\"flags\"]}' | postbell subscriptions explain -")]
struct ExplainArgs {
    /// A subscription as the API takes it, in JSON; name and sink may be left out; - for standard
    /// input.
    file: PathBuf,
    /// For whose token: what policy takes away differs by role.
    #[arg(long, value_enum, default_value_t)]
    role: explain::ForRole,
}

/// Show what was given up after its last attempt, newest first.
#[derive(Args, Debug)]
struct DeadLettersArgs {
    /// The subscription's name or id.
    name: String,
    /// At most so many.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
}

/// Deliver again what was given up.
///
/// In order, and with the same ids as before. What the receiver takes is no dead letter any more; what
/// it does not take by the last attempt stays one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell subscriptions redrive phone --all
  postbell subscriptions redrive phone --seq 17 --seq 19")]
struct RedriveArgs {
    /// The subscription's name or id.
    name: String,
    /// The number of a dead letter; may be given several times.
    #[arg(long, value_name = "N", required_unless_present = "all")]
    seq: Vec<u64>,
    /// Every one there is.
    #[arg(long, conflicts_with = "seq")]
    all: bool,
}

/// End a subscription and forget where it was.
#[derive(Args, Debug)]
struct RemoveArgs {
    /// The subscription's name or id.
    name: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Have a subscription go on until another time, also one that has expired.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell subscriptions renew phone --expires 30d
  postbell subscriptions renew phone --never")]
struct RenewArgs {
    /// The subscription's name or id.
    name: String,
    /// When it ends: after so long (12h, 30d), or at a time such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = when::expiry, required_unless_present = "never")]
    expires: Option<jiff::Timestamp>,
    /// Let it go on for good.
    #[arg(long, conflicts_with = "expires")]
    never: bool,
}

/// Have a subscription deliver anew from a record or a time on.
///
/// What comes again has the same id as before, and the receiver knows it by that. With --from now
/// what the subscription has not come to yet is left out.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell subscriptions replay phone --from 17
  postbell subscriptions replay phone --from 2h
  postbell subscriptions replay phone --from now")]
struct ReplayArgs {
    /// The subscription's name or id.
    name: String,
    /// A record's number (1 for the oldest there is), a time, or now.
    #[arg(long, value_name = "now|SEQ|TIME", value_parser = when::begin)]
    from: Begin,
}

/// Give a subscription another secret.
///
/// Prints it; it is shown this once. Deliveries are signed with the one before as well for a while,
/// so that the receiver need not change over in the same moment.
#[derive(Args, Debug)]
struct RotateArgs {
    /// The subscription's name or id.
    name: String,
    /// A file with the secret (whsec_… or whsk_…), where it is not for the hub to make one.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How long the secret before holds, up to 30d; not at all with --at-once.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = when::duration)]
    overlap: Duration,
    /// Let the secret before hold no longer, because others have it.
    #[arg(long, conflicts_with = "overlap")]
    at_once: bool,
}

#[derive(Args, Debug)]
struct NameArg {
    /// The subscription's name or id.
    name: String,
}

/// Runs the command.
pub(crate) async fn run(args: SubscriptionsArgs) -> anyhow::Result<Ending> {
    if let Command::Explain(explain) = &args.command {
        return explain::explain(
            &explain.file,
            explain.role,
            args.connection.config_file().as_deref(),
            args.json,
        );
    }
    let mut client = args.connection.client()?;
    match args.command {
        Command::Add(add) => add::run(&mut client, &add, args.json).await,
        Command::DeadLetters(which) => dead_letters(&mut client, &which, args.json).await,
        // Asks nobody.
        Command::Explain(_) => Ok(Ending::Done),
        Command::List => list(&mut client, args.json).await,
        Command::Pause(which) => change(&mut client, &which.name, "pause", args.json).await,
        Command::Remove(which) => remove(&mut client, &which, args.json).await,
        Command::Resume(which) => change(&mut client, &which.name, "resume", args.json).await,
        Command::Redrive(which) => {
            let path = format!("{}/redrive", path(&which.name));
            let request = match which.all {
                true => json!({ "all": true }),
                false => json!({ "seqs": which.seq }),
            };
            let shown = client.json(Call::post(&path, &request)).await?;
            tell(&shown, args.json)
        }
        Command::Renew(which) => {
            let path = format!("{}/renew", path(&which.name));
            let expires = which.expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
            let shown = client.json(Call::post(&path, &json!({ "expires": expires }))).await?;
            tell(&shown, args.json)
        }
        Command::Replay(which) => {
            let path = format!("{}/replay", path(&which.name));
            let request = json!({ "begin": begin(which.from) });
            let shown = client.json(Call::post(&path, &request)).await?;
            tell(&shown, args.json)
        }
        Command::Rotate(which) => rotate(&mut client, &which, args.json).await,
        Command::Show(which) => {
            let shown = client.json(Call::get(&path(&which.name))).await?;
            tell(&shown, args.json)
        }
    }
}

fn begin(begin: Begin) -> Value {
    match begin {
        Begin::Now => json!("now"),
        Begin::Seq(seq) => json!({ "seq": seq }),
        Begin::Time(time) => json!({ "time": time.to_string() }),
    }
}

fn path(name: &str) -> String {
    format!("/v1/subscriptions/{}", encode(name))
}

async fn rotate(client: &mut Client, which: &RotateArgs, as_json: bool) -> anyhow::Result<Ending> {
    let overlap = if which.at_once { Duration::ZERO } else { which.overlap };
    let mut request = json!({ "overlapSeconds": overlap.as_secs() });
    if let (Some(file), Some(request)) = (&which.secret_file, request.as_object_mut()) {
        request.insert("secret".to_owned(), secret(file)?.into());
    }
    let path = format!("{}/rotate", path(&which.name));
    let answer = client.json(Call::post(&path, &request)).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    describe(&answer)?;
    tell_secret(&answer)?;
    Ok(Ending::Done)
}

/// What is told this once.
fn tell_secret(answer: &Value) -> anyhow::Result<()> {
    if let Some(secret) = word(answer, "/sink/secret") {
        print(format!("secret      {secret}"))?;
        note(
            "keep the secret: the receiver needs it to check signatures, and it is not shown again",
        );
    }
    Ok(())
}

fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow!("{}: {}", file.display(), plain(&error)))?;
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "{}: holds no secret", file.display());
    Ok(text.to_owned())
}

async fn list(client: &mut Client, as_json: bool) -> anyhow::Result<Ending> {
    let answer = client.json(Call::get("/v1/subscriptions")).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    let all = answer.get("subscriptions").and_then(Value::as_array);
    let all: Vec<&Value> = all.into_iter().flatten().collect();
    // Whoever runs the hub sees others', which are meant by their ids.
    let (columns, pointers): (&[&str], &[&str]) =
        if all.iter().any(|one| one.get("owner").is_some()) {
            (
                &["NAME", "OWNER", "ID", "STATE", "LAG", "DEAD", "TO"],
                &["/name", "/owner", "/id", "/state", "/lag", "/deadLetters"],
            )
        } else {
            (&["NAME", "STATE", "LAG", "DEAD", "TO"], &["/name", "/state", "/lag", "/deadLetters"])
        };
    let rows: Vec<Vec<String>> = all.into_iter().map(|one| row(one, pointers)).collect();
    if rows.is_empty() {
        note("there are no subscriptions (make one with: postbell subscriptions add)");
    } else {
        print(out::columns(columns, &rows))?;
    }
    Ok(Ending::Done)
}

fn row(one: &Value, pointers: &[&str]) -> Vec<String> {
    let words = pointers.iter().map(|pointer| word(one, pointer));
    let words = words.chain([to(one)]);
    words.map(|word| word.unwrap_or_else(|| "–".to_owned())).collect()
}

/// Where deliveries go: a URL, or a program with its arguments.
fn to(one: &Value) -> Option<String> {
    if let Some(url) = word(one, "/sink/url") {
        return Some(url);
    }
    let run = one.pointer("/sink/run")?.as_array()?;
    let words: Vec<_> = run.iter().filter_map(Value::as_str).map(clean).collect();
    Some(words.join(" "))
}

async fn change(client: &mut Client, name: &str, what: &str, json: bool) -> anyhow::Result<Ending> {
    let path = format!("{}/{what}", path(name));
    let shown = client.json(Call::new(Method::POST, &path)).await?;
    tell(&shown, json)
}

async fn remove(client: &mut Client, which: &RemoveArgs, json: bool) -> anyhow::Result<Ending> {
    let path = path(&which.name);
    if !which.yes {
        let shown = client.json(Call::get(&path)).await?;
        if !confirmed(&which.name, &shown)? {
            note("nothing was removed");
            return Ok(Ending::No);
        }
    }
    let answer = client.ask(Call::new(Method::DELETE, &path)).await?;
    answer.refusal()?;
    if json {
        out::json(&json!({ "removed": which.name }))?;
    } else {
        note(&format!("{}: removed", clean(&which.name)));
    }
    Ok(Ending::Done)
}

/// Asks on a terminal; elsewhere nobody can answer.
fn confirmed(name: &str, shown: &Value) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Misuse(format!("{name}: --yes is needed where nobody can be asked")).into());
    }
    let to = to(shown).unwrap_or_default();
    let lag = word(shown, "/lag").unwrap_or_default();
    let mut stderr = anstream::stderr();
    write!(stderr, "remove {} (to {to}, {lag} not delivered yet)? [y/N] ", clean(name))?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn dead_letters(
    client: &mut Client,
    which: &DeadLettersArgs,
    as_json: bool,
) -> anyhow::Result<Ending> {
    let path = format!("{}/dead-letters?limit={}", path(&which.name), which.limit);
    let answer = client.json(Call::get(&path)).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    let letters = answer.get("deadLetters").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = letters
        .into_iter()
        .flatten()
        .map(|letter| {
            ["/seq", "/at", "/attempts", "/eventId", "/reason"]
                .iter()
                .map(|pointer| word(letter, pointer).unwrap_or_else(|| "–".to_owned()))
                .collect()
        })
        .collect();
    if rows.is_empty() {
        note(&format!("{}: nothing was given up", clean(&which.name)));
    } else {
        print(out::columns(&["SEQ", "GIVEN UP", "ATTEMPTS", "EVENT", "REASON"], &rows))?;
    }
    Ok(Ending::Done)
}

fn tell(shown: &Value, as_json: bool) -> anyhow::Result<Ending> {
    if as_json {
        out::json(shown)?;
    } else {
        describe(shown)?;
    }
    Ok(Ending::Done)
}

/// One member a line, in an order of interest; what is not there is not shown.
fn describe(shown: &Value) -> anyhow::Result<()> {
    let members = [
        ("name", "/name"),
        ("owner", "/owner"),
        ("id", "/id"),
        ("state", "/state"),
        ("because", "/detail"),
        ("to", "/sink/url"),
        ("runs", "/sink/run"),
        ("jobs", "/sink/jobs"),
        ("public key", "/sink/publicKey"),
        ("before till", "/sink/previousUntil"),
        ("a minute", "/sink/perMinute"),
        ("together", "/sink/batch"),
        ("certificate", "/sink/clientCertificate"),
        ("events", "/events"),
        ("users", "/users"),
        ("mailboxes", "/mailboxes"),
        ("where", "/where"),
        ("parameters", "/parameters"),
        ("by event", "/parametersOf"),
        ("tags", "/tags"),
        ("flag forms", "/flagForms"),
        ("begin", "/begin"),
        ("done up to", "/cursor"),
        ("to come", "/lag"),
        ("delivered", "/lastDelivered"),
        ("attempts", "/attempts"),
        ("last error", "/lastError"),
        ("given up", "/deadLetters"),
        ("redriving", "/redriving"),
        ("unclear", "/lastUnclear"),
        ("created", "/created"),
        ("expires", "/expires"),
    ];
    let mut text = Vec::new();
    for (name, pointer) in members {
        if let Some(value) = word(shown, pointer) {
            text.push(format!("{name:<11} {value}"));
        }
    }
    Ok(print(text.join("\n"))?)
}

/// What stands at a JSON Pointer, in words; nothing for null and for an empty list.
pub(crate) fn word(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::Null => None,
        Value::String(text) => Some(clean(text)),
        Value::Array(all) if all.is_empty() => None,
        Value::Array(all) => {
            let words: Vec<String> = all.iter().filter_map(|one| word(one, "")).collect();
            Some(words.join(", "))
        }
        Value::Object(members) => {
            let words: Vec<String> = members
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", word(value, "")?)))
                .collect();
            Some(words.join(", "))
        }
        other => Some(other.to_string()),
    }
}
