//! What the running hub says of itself.

use hyper::StatusCode;
use postbell_hub::Config;
use serde_json::Value;

use super::{Report, checks, cyrus, dovecot};
use crate::client::{Call, Client, Refused};
use crate::connection::ConnectionArgs;
use crate::subscriptions::word;
use crate::wanted::{self, Told};

/// Asks everything worth asking; stops where no more can come. `config` is the hub's, where it is on
/// this machine.
pub(super) async fn ask(connection: &ConnectionArgs, config: Option<&Config>, report: &mut Report) {
    let mut open = match connection.stranger() {
        Ok(client) => client,
        Err(error) => return report.wrong("hub", format!("{error:#}"), ""),
    };
    if !answers(&mut open, report).await {
        return;
    }
    match connection.client() {
        Ok(mut client) => look(&mut client, config, report).await,
        Err(error) => {
            let remedy = "run this as the hub's user, or set POSTBELL_TOKEN";
            report.wrong("access", format!("{error:#}"), remedy);
        }
    }
}

async fn answers(client: &mut Client, report: &mut Report) -> bool {
    const NAME: &str = "hub";
    let url = client.url();
    let health = client.ask(Call::get("/healthz")).await;
    if let Err(error) = health.and_then(|answer| answer.refusal()) {
        let remedy = "look at the hub's log; if it listens elsewhere, give its address with --url";
        report.wrong(NAME, format!("{error:#}"), remedy);
        return false;
    }
    match client.ask(Call::get("/readyz")).await {
        Ok(answer) if answer.status.is_success() => report.right(NAME, format!("{url}: ready")),
        Ok(answer) => {
            let why = answer.refusal().err().map_or_else(String::new, |error| error.to_string());
            report.wrong(
                NAME,
                format!("{url}: not ready: {why}"),
                "it goes on by itself once that is set right",
            );
        }
        Err(error) => report.wrong(NAME, format!("{error:#}"), "look at the hub's log"),
    }
    true
}

async fn look(client: &mut Client, config: Option<&Config>, report: &mut Report) {
    match client.json(Call::get("/v1/status")).await {
        Ok(status) => {
            show_status(&status, report);
            show_demand(&status, report);
        }
        Err(error) => {
            let remedy = match status_of(&error) {
                Some(StatusCode::FORBIDDEN) => "this needs a token with the scope monitor",
                Some(StatusCode::UNAUTHORIZED) => {
                    "the token is another hub's: check --data, --config, --token-file and --url"
                }
                _ => "look at the hub's log",
            };
            return report.wrong("access", format!("{error:#}"), remedy);
        }
    }
    match client.json(Call::get("/v1/sources")).await {
        Ok(answer) => show_sources(&answer, config, report),
        Err(error) => report.wrong("sources", format!("{error:#}"), "look at the hub's log"),
    }
    match client.json(Call::get("/v1/subscriptions")).await {
        Ok(answer) => show_subscriptions(&answer, report),
        Err(error) if status_of(&error) == Some(StatusCode::FORBIDDEN) => report.notice(
            "subscriptions",
            format!("not looked at: {error:#}"),
            "these need a token with the scope subscribe as well",
        ),
        Err(error) => report.wrong("subscriptions", format!("{error:#}"), "look at the hub's log"),
    }
}

/// With what the hub refused, where it answered.
fn status_of(error: &anyhow::Error) -> Option<StatusCode> {
    error.downcast_ref::<Refused>().map(|refused| refused.status)
}

fn show_status(status: &Value, report: &mut Report) {
    let version = word(status, "/version").unwrap_or_default();
    let detail = format!(
        "the token opens it; version {version}, up for {} s",
        word(status, "/uptimeSeconds").unwrap_or_default()
    );
    if version == env!("CARGO_PKG_VERSION") {
        report.right("access", detail);
    } else {
        let ours =
            concat!("this command is version ", env!("CARGO_PKG_VERSION"), ": restart the hub");
        report.notice("access", detail, ours);
    }
    let at = |name: &str| word(status, &format!("/journal/{name}"));
    let state = at("state").unwrap_or_default();
    let octets = status.pointer("/journal/octets").and_then(Value::as_u64).unwrap_or(0);
    let octets = crate::show::size(octets);
    let records = match (at("first"), at("last")) {
        (Some(first), Some(last)) if last != "0" => format!("{first} to {last}, {octets}"),
        _ => format!("none yet, {octets}"),
    };
    let damage = status.pointer("/journal/damage").and_then(Value::as_array);
    for one in damage.into_iter().flatten().filter_map(Value::as_str) {
        report.wrong(
            "records",
            one,
            "stop the hub and restore the file from a backup; without one: postbell doctor --accept-loss",
        );
    }
    if status.get("journalLost").and_then(Value::as_bool) == Some(true) {
        report.notice(
            "records",
            "the journal was missing at the hub's start: numbers have begun at 1 again, and what was not delivered is lost",
            "stop the hub and restore the folder from a backup, or tell whoever keeps numbers to begin anew",
        );
    }
    if status.get("subscriptionsLost").and_then(Value::as_bool) == Some(true) {
        report.notice(
            "subscriptions",
            "hub.db was missing at the hub's start: who subscribed before is forgotten",
            "stop the hub and restore the file from a backup, or make the subscriptions anew",
        );
    }
    match state.as_str() {
        "accepting" => report.right("records", records),
        "full" => {
            let detail = format!("{records}; {}", at("detail").unwrap_or(state));
            report.wrong("records", detail, "make room: the hub goes on by itself");
        }
        _ => {
            let detail = format!("{records}; {state}: {}", at("detail").unwrap_or_default());
            report.wrong("records", detail, "look at the hub's log, then restart it");
        }
    }
}

/// What is recorded; and how far it has been told.
fn show_demand(status: &Value, report: &mut Report) {
    if let Some(recorded) = wanted::recorded(status) {
        report.right("demand", format!("recorded is {recorded}"));
    }
}

/// How far what makes a source's events has been told what is wanted.
fn show_told(source: &Value, report: &mut Report) {
    let Some(told) = Told::of(source) else { return };
    let check = format!("demand of {}", word(source, "/name").unwrap_or_default());
    if told.is_told {
        return report.right(&check, told.long);
    }
    let remedy = match word(source, "/kind").as_deref() {
        Some("publish") => {
            "a gap is told whenever somebody joins: a publisher has to confirm (docs/publish.md)"
        }
        // What follows from it the hub says.
        _ => "let the hub write there: the folder's owner, mode and disk (docs/dovecot.md)",
    };
    report.notice(&check, told.long, remedy);
}

fn show_sources(answer: &Value, config: Option<&Config>, report: &mut Report) {
    let none = Config::default();
    let mut mailboxes = 0_u64;
    for source in answer.get("sources").and_then(Value::as_array).into_iter().flatten() {
        let text = |pointer: &str| word(source, pointer).unwrap_or_default();
        let count = |pointer: &str| source.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        mailboxes = mailboxes.saturating_add(count("/mailboxes"));
        let name = format!("source {}", text("/name"));
        let (state, said) = (text("/state"), text("/detail"));
        let mut detail = if said.is_empty() { state.clone() } else { format!("{state}: {said}") };
        if let Some(error) = word(source, "/lastError") {
            detail.push_str(&format!("; last error: {error}"));
        }
        match state.as_str() {
            "failed" => report.wrong(&name, detail, "set it right, then restart the hub"),
            "waiting" => report.wrong(&name, detail, "it goes on by itself once that is set right"),
            _ if count("/gaps") > 0 => {
                let detail = format!("{detail}; {} told of what could not be seen", count("/gaps"));
                report.notice(
                    &name,
                    detail,
                    "see them: postbell tail --since 0 --event vnd.postbell.Gap --no-follow",
                );
            }
            // What publishers hand in and is refused, they are told of.
            _ if count("/skipped") > 0 && text("/kind") != "publish" => {
                let detail = format!("{detail}; {} things left aside", count("/skipped"));
                report.notice(&name, detail, "the hub's log names them");
            }
            _ => report.right(&name, detail),
        }
        show_told(source, report);
        if text("/kind") == "dovecot" {
            dovecot::followed(source, config.unwrap_or(&none), report);
        }
        if text("/kind") == "cyrus" {
            cyrus::followed(source, config.unwrap_or(&none), report);
        }
    }
    if config.is_some() {
        checks::watches(mailboxes, report);
    }
}

fn show_subscriptions(answer: &Value, report: &mut Report) {
    let all = answer.get("subscriptions").and_then(Value::as_array);
    if all.is_none_or(Vec::is_empty) {
        return report.right("subscriptions", "none");
    }
    for one in all.into_iter().flatten() {
        let text = |pointer: &str| word(one, pointer).unwrap_or_default();
        let count = |pointer: &str| one.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        // Whoever runs the hub means others' by their ids.
        let (plain_name, name) = match word(one, "/owner") {
            None => (text("/name"), format!("subscription {}", text("/name"))),
            Some(owner) => (text("/id"), format!("subscription {} of {owner}", text("/name"))),
        };
        let (state, lag, dead) = (text("/state"), count("/lag"), count("/deadLetters"));
        let mut detail = format!("{state}, {lag} to come");
        if let Some(why) = word(one, "/detail") {
            detail.push_str(&format!("; {why}"));
        }
        if let Some(error) = word(one, "/lastError") {
            detail.push_str(&format!("; last error: {error}"));
        }
        match state.as_str() {
            "disabled" => {
                let remedy = format!(
                    "when its receiver is mended: postbell subscriptions resume {plain_name}"
                );
                report.wrong(&name, detail, &remedy);
            }
            "ended" => {
                let remedy = format!(
                    "where it is not to go on (resume, or renew): postbell subscriptions remove {plain_name}"
                );
                report.wrong(&name, detail, &remedy);
            }
            "unverified" => {
                let remedy = "its receiver has to agree before the first delivery";
                report.notice(&name, detail, remedy);
            }
            "paused" => {
                let remedy =
                    format!("when it may go on: postbell subscriptions resume {plain_name}");
                report.notice(&name, detail, &remedy);
            }
            _ if word(one, "/lastError").is_some() && lag > 0 => {
                report.wrong(
                    &name,
                    detail,
                    "its receiver does not take deliveries; they are tried again",
                );
            }
            _ if dead > 0 => {
                let remedy = format!("see them: postbell subscriptions dead-letters {plain_name}");
                report.notice(&name, format!("{detail}; {dead} given up"), &remedy);
            }
            _ if lag > LAG_MAX => {
                report.notice(&name, detail, "its receiver is slower than events come");
            }
            _ => report.right(&name, detail),
        }
    }
}

/// Beyond this a subscription is behind, not merely under way.
const LAG_MAX: u64 = 10_000;
