//! `postbell subscriptions explain`: a subscription in words, without a hub.

use std::path::Path;

use anyhow::anyhow;
use clap::ValueEnum;
use postbell_engine::{Policy, Role, Selection};
use serde_json::{Map, Value};

use crate::connection::load;
use crate::ending::Ending;
use crate::lines::plain;
use crate::out::{self, Out, print};
use crate::show::clean;

/// Explains the subscription in `file` under the policy of a configuration.
pub(super) fn explain(
    file: &Path,
    role: ForRole,
    config: Option<&Path>,
    json: bool,
) -> anyhow::Result<Ending> {
    let (name, text) = read(file)?;
    let policy = load(config)?.map_or_else(Policy::default, |it| postbell_hub::policy(&it.policy));
    let policy = policy.for_role(role.into());
    let wrong = |why: String| {
        let mut out = Out::new();
        out.line(clean(&format!("{name}: {why}")))?;
        out.flush()?;
        Ok(Ending::No)
    };
    let selection = match selection(&text) {
        Ok(selection) => selection,
        Err(why) => return wrong(why),
    };
    let explanation = match selection.explain(&policy) {
        Ok(explanation) => explanation,
        Err(error) => return wrong(format!("{}: {error}", error.pointer)),
    };
    if json {
        out::json(&serde_json::to_value(&explanation)?)?;
        return Ok(Ending::Done);
    }
    let mut lines = Vec::new();
    for (head, all) in [
        ("An event is delivered where all of this holds", &explanation.wanted),
        ("With it goes", &explanation.told),
        ("What doesn't", &explanation.kept),
    ] {
        lines.push(format!("{head}:"));
        lines.extend(all.iter().map(|line| format!("  {}", clean(line))));
    }
    if let Some(together) = together(&text) {
        lines.push(together);
    }
    print(lines.join("\n"))?;
    Ok(Ending::Done)
}

/// How events go together, where they do; the hub alone knows what it lets be asked for.
fn together(text: &str) -> Option<String> {
    let subscription: Value = serde_json::from_str(text).ok()?;
    let batch = subscription.pointer("/sink/batch")?.as_object()?;
    let of = |name: &str, usual: &str| {
        batch.get(name).map_or_else(
            || usual.to_owned(),
            |value| clean(value.as_str().unwrap_or(&value.to_string())),
        )
    };
    let (events, octets) = (of("maxEvents", "100"), of("maxOctets", "262144"));
    let delay = of("maxDelay", "1s");
    Some(format!(
        "Events go together, up to {events} or {octets} octets in one request, and wait up to {delay} for each other."
    ))
}

/// Whose token a subscription is to be made with.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum ForRole {
    /// That of whoever runs the hub.
    #[default]
    Admin,
    /// A program's.
    Service,
    /// A person's.
    User,
}

impl From<ForRole> for Role {
    fn from(role: ForRole) -> Self {
        match role {
            ForRole::Admin => Self::Admin,
            ForRole::Service => Self::Service,
            ForRole::User => Self::User,
        }
    }
}

fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let is_stdin = file == Path::new("-");
    let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
    let text = match is_stdin {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| anyhow!("{name}: {}", plain(&error)))?;
    Ok((name, text))
}

/// What of a subscription says what it selects; nothing unknown stands beside it.
fn selection(text: &str) -> Result<Selection, String> {
    let mut members: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a subscription: {error}"))?;
    for beside in BESIDE {
        members.remove(beside);
    }
    if let Some(unknown) = members.keys().find(|name| !SELECTED.contains(&name.as_str())) {
        let known: Vec<_> = SELECTED.into_iter().chain(BESIDE).collect();
        return Err(format!("/{unknown}: unknown; there are {}", known.join(", ")));
    }
    for (name, value) in &members {
        if let Err(error) = one(name, value) {
            return Err(format!("/{name}: {error}"));
        }
    }
    serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())
}

/// A selection with one member, for an error that names it.
fn one(name: &str, value: &Value) -> Result<Selection, serde_json::Error> {
    serde_json::from_value(Value::Object([(name.to_owned(), value.clone())].into_iter().collect()))
}

const SELECTED: [&str; 8] =
    ["events", "users", "mailboxes", "where", "parameters", "parametersOf", "tags", "flagForms"];

/// What a subscription has besides.
const BESIDE: [&str; 4] = ["name", "begin", "expires", "sink"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_events_go_together_is_said_where_they_do() {
        assert_eq!(together(r#"{"events": []}"#), None);
        let said = together(r#"{"sink": {"batch": {"maxEvents": 9}}}"#).unwrap();
        assert_eq!(
            said,
            "Events go together, up to 9 or 262144 octets in one request, and wait up to 1s for each other."
        );
    }
}
