//! `postbell subscriptions explain`: a subscription in words, without a hub.

use std::path::Path;

use anyhow::anyhow;
use clap::ValueEnum;
use postbell_engine::{Role, Selection};
use serde_json::{Map, Value};

use crate::connection::load;
use crate::ending::Ending;
use crate::lines::plain;
use crate::out::{self, Out, print};
use crate::show::clean;

/// Explains the subscription in `file` under a configuration, or says all that a hub would refuse.
pub(super) fn explain(
    file: &Path,
    role: ForRole,
    config: Option<&Path>,
    json: bool,
) -> anyhow::Result<Ending> {
    let (name, text) = read(file)?;
    let config = load(config)?.unwrap_or_default();
    let policy = postbell_hub::policy(&config.policy).for_role(role.into());
    let wrong = |all: &[String]| {
        let mut out = Out::new();
        for why in all {
            out.line(clean(&format!("{name}: {why}")))?;
        }
        out.flush()?;
        Ok(Ending::No)
    };
    let members = match serde_json::from_str::<Map<String, Value>>(&text) {
        Ok(members) => members,
        Err(error) => return wrong(&[format!("not a subscription: {error}")]),
    };
    let explained = selection(&members).and_then(|selection| {
        selection.explain(&policy).map_err(|error| format!("{}: {error}", error.pointer))
    });
    let refused = postbell_hub::refusals(&members, &config, role.into());
    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
    let explanation = match explained {
        Ok(explanation) if refused.is_empty() => explanation,
        Ok(_) => return wrong(&refused),
        Err(why) => return wrong(&[vec![why], refused].concat()),
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
    if let Some(together) = together(&members) {
        lines.push(together);
    }
    print(lines.join("\n"))?;
    Ok(Ending::Done)
}

/// How events go together, where they do.
fn together(members: &Map<String, Value>) -> Option<String> {
    let batch = members.get("sink")?.get("batch")?.as_object()?;
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
fn selection(members: &Map<String, Value>) -> Result<Selection, String> {
    let mut members = members.clone();
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
        let together = |text: &str| together(&serde_json::from_str(text).unwrap());
        assert_eq!(together(r#"{"events": []}"#), None);
        let said = together(r#"{"sink": {"batch": {"maxEvents": 9}}}"#).unwrap();
        assert_eq!(
            said,
            "Events go together, up to 9 or 262144 octets in one request, and wait up to 1s for each other."
        );
    }
}
