//! `postbell sources`: what watches the stores, and how it is.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{Call, encode};
use crate::connection::ConnectionArgs;
use crate::ending::{Ending, note};
use crate::out::{self, print};
use crate::subscriptions::word;
use crate::wanted::Told;

/// Look at what watches the stores.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell sources list
  postbell sources show mail
  postbell sources list --json | jq '.sources[] | select(.state != \"running\")'")]
pub(crate) struct SourcesArgs {
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
    /// List every source with its state.
    List,
    /// Show one source whole, with the checkpoint it last committed.
    Show {
        /// The source's name in the configuration.
        name: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: SourcesArgs) -> anyhow::Result<Ending> {
    let mut client = args.connection.client()?;
    let answer = match &args.command {
        Command::List => client.json(Call::get("/v1/sources")).await?,
        Command::Show { name } => {
            client.json(Call::get(&format!("/v1/sources/{}", encode(name)))).await?
        }
    };
    if args.json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    match args.command {
        Command::List => list(&answer)?,
        Command::Show { .. } => describe(&answer)?,
    }
    Ok(Ending::Done)
}

fn list(answer: &Value) -> anyhow::Result<()> {
    let all = answer.get("sources").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .flatten()
        .map(|source| {
            let said = |pointer: &str| word(source, pointer).unwrap_or_default();
            let [name, kind, state] = ["/name", "/kind", "/state"].map(said);
            let [mailboxes, messages, gaps] = ["/mailboxes", "/messages", "/gaps"].map(said);
            let wanted = Told::of(source).map(|told| told.short).unwrap_or_default();
            vec![name, kind, state, mailboxes, messages, gaps, wanted, said("/detail")]
        })
        .collect();
    if rows.is_empty() {
        note("there are no sources (name one in the configuration: [sources.mail])");
        return Ok(());
    }
    let head = ["NAME", "KIND", "STATE", "MAILBOXES", "MESSAGES", "GAPS", "WANTED", "DETAIL"];
    Ok(print(out::columns(&head, &rows))?)
}

/// Every member on a line, whatever kind of source it is.
fn describe(source: &Value) -> anyhow::Result<()> {
    const FIRST: [&str; 5] = ["name", "kind", "state", "detail", "lastError"];
    let mut text = Vec::new();
    let members = source.as_object();
    let rest = members.into_iter().flatten().map(|(name, _)| name.as_str());
    let rest = rest.filter(|name| !FIRST.contains(name));
    for name in FIRST.into_iter().chain(rest) {
        let value = match name {
            "demand" => Told::of(source).map(|told| told.long),
            _ => word(source, &format!("/{}", name.replace('~', "~0").replace('/', "~1"))),
        };
        if let Some(value) = value {
            text.push(format!("{:<13} {value}", in_words(name)));
        }
    }
    Ok(print(text.join("\n"))?)
}

/// `lastError` as `last error`.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
