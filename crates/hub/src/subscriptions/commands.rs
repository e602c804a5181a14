//! Commands: subscriptions that the configuration makes, and that run a program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use postbell_sinks::command::Command;
use serde::{Deserialize, Serialize};

use super::carrier::Runs;
use super::entry::Entry;
use super::kept::Kept;
use super::{Begin, Context, SubscriptionState, time};
use crate::CommandConfig;
use crate::state::{Row, StateDb, StateError};

/// An entry for each command. One seen for the first time begins with what happens from now on;
/// any other goes on where it stood. `rows` are what was kept of commands.
pub(super) async fn entries(
    context: &Context,
    commands: &BTreeMap<String, CommandConfig>,
    rows: &[Row],
) -> Result<Vec<Arc<Entry>>, StateError> {
    let mut entries = Vec::new();
    for (name, command) in commands {
        let id = format!("{PREFIX}{name}");
        let row = rows.iter().find(|row| row.id == id);
        let begun = row.and_then(|row| serde_json::from_str::<Begun>(&row.body).ok());
        let start = match begun {
            Some(begun) => begun.start,
            None => begin(context, &id, name).await?,
        };
        let entry = Entry::new(id, name.clone(), kept(command, start));
        let id = entry.id.clone();
        let counts = context.blocking(move |db: &StateDb| db.dead_letter_counts(&id)).await?;
        entry.live.count_letters(counts);
        entry.stand(context.feed.journal().as_ref());
        entries.push(Arc::new(entry));
    }
    Ok(entries)
}

/// What is kept of a command in `hub.db`: a cursor alone, not yet written when the hub is killed,
/// would have it begin later the next time.
#[derive(Deserialize, Serialize)]
struct Begun {
    /// The number before the first one wanted.
    start: u64,
}

/// Has a command begin with what happens from now on.
async fn begin(context: &Context, id: &str, name: &str) -> Result<u64, StateError> {
    let start = context.feed.last();
    let body = serde_json::to_string(&Begun { start }).unwrap_or_default();
    // No subscription's name has an "@" in it.
    let row = Row { id: id.to_owned(), name: format!("{name}@command"), body };
    context.blocking(move |db| db.add(&row)).await?;
    Ok(start)
}

/// Whether a row is one of a command.
pub(super) fn is_one(row: &Row) -> bool {
    row.id.starts_with(PREFIX)
}

fn kept(command: &CommandConfig, start: u64) -> Kept {
    Kept {
        selection: command.selection(),
        begin: Begin::Now,
        start,
        begun_anew: 0,
        losses: 0,
        url: String::new(),
        secret: String::new(),
        previous: None,
        state: SubscriptionState::Active,
        detail: None,
        created: time(jiff::Timestamp::now()),
        owner: None,
        expires_unix_millis: None,
        handshake: None,
        batch: None,
        client_certificate: None,
        failing_since_unix_millis: None,
        command: Some(Box::new(command.clone())),
    }
}

/// The program of a command.
pub(super) fn runs(command: &CommandConfig) -> Runs {
    let mut words = command.run.iter().map(OsString::from);
    let program = words.next().unwrap_or_default();
    Runs::new(Command::new(program, words.collect(), command.timeout))
}

/// Begins the id of every command; subscriptions' ids begin otherwise.
const PREFIX: &str = "cmd_";
