//! What is done over HTTP: mail by JMAP, calendars by CalDAV.

use std::net::SocketAddr;

use postbell_testkit::http::{self, Answer, Basic};
use postbell_testkit::{ALICE, Error, password};
use serde_json::{Value, json};

use super::truth::odd;
use crate::scenario::Stage;

/// A message is put in, flagged, copied, moved and destroyed by JMAP (R27, R35, R56, R133).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn jmap(stage: &mut Stage<'_>) -> Result<(), Error> {
    let address = address(stage)?;
    let call = |method: &str, arguments: Value| call(address, method, arguments);
    let boxes = call("Mailbox/get", json!({"properties": ["role"]}))?;
    let inbox = text(&boxes, "/list/0/id")?;
    stage.aside(|| Ok(()))?;
    let mut id = String::new();
    stage.step("Email/set creates a message in the inbox, seen", 1, || {
        let body = json!({"1": {"value": "hello"}});
        let email = json!({
            "mailboxIds": {&inbox: true}, "keywords": {"$seen": true}, "subject": "draft",
            "from": [{"email": ALICE}], "to": [{"email": "bob@example.org"}],
            "bodyValues": body, "textBody": [{"partId": "1", "type": "text/plain"}],
        });
        let made = call("Email/set", json!({"create": {"new": email}}))?;
        id = text(&made, "/created/new/id")?;
        Ok(())
    })?;
    let update = |patch: Value| call("Email/set", json!({"update": {&id: patch}})).map(drop);
    stage.step("Email/set: no longer seen", 1, || update(json!({"keywords/$seen": null})))?;
    stage.step("Email/set: flagged and seen", 2, || {
        update(json!({"keywords/$flagged": true, "keywords/$seen": true}))
    })?;
    let mut later = String::new();
    stage.step("Mailbox/set creates Later", 0, || {
        let made = call("Mailbox/set", json!({"create": {"new": {"name": "Later"}}}))?;
        later = text(&made, "/created/new/id")?;
        Ok(())
    })?;
    // One after the other: Cyrus tells of two mailboxes in no certain order.
    stage.step("Email/set: in Later as well", 1, || {
        update(json!({"mailboxIds": {&inbox: true, &later: true}}))
    })?;
    stage.step("Email/set: in Later alone", 1, || update(json!({"mailboxIds": {&later: true}})))?;
    stage.step("Email/set destroys it", 1, || {
        call("Email/set", json!({"destroy": [&id]})).map(drop)
    })?;
    Ok(())
}

/// A calendar is made, and an appointment put in, changed and deleted by CalDAV (R27, R35, R133).
/// The calendar stays: Cyrus 3.6.1 answers a DELETE of it with 404.
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn caldav(stage: &mut Stage<'_>) -> Result<(), Error> {
    let address = address(stage)?;
    let home = format!("/dav/calendars/user/{ALICE}");
    let dav = |method: &str, path: &str, kind: &str, body: &str| {
        send(address, method, &format!("{home}/{path}"), kind, body).map(drop)
    };
    // Her calendars are made when she first asks for them.
    dav("PROPFIND", "", "application/xml", "")?;
    stage.aside(|| Ok(()))?;
    stage.step("MKCALENDAR Team", 0, || dav("MKCALENDAR", "Team/", "application/xml", ""))?;
    stage.step("PUT an appointment", 1, || {
        dav("PUT", "Team/1.ics", "text/calendar", &appointment("meeting"))
    })?;
    stage.step("PUT it again, changed: another message", 1, || {
        dav("PUT", "Team/1.ics", "text/calendar", &appointment("party"))
    })?;
    stage.step("DELETE it", 1, || dav("DELETE", "Team/1.ics", "text/plain", ""))?;
    Ok(())
}

/// What one method of JMAP answers (RFC 8620, section 3.3).
fn call(address: SocketAddr, method: &str, mut arguments: Value) -> Result<Value, Error> {
    if let Value::Object(arguments) = &mut arguments {
        arguments.insert("accountId".to_owned(), ALICE.into());
    }
    let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];
    let body = json!({"using": using, "methodCalls": [[method, arguments, "0"]]}).to_string();
    let text = send(address, "POST", "/jmap/", "application/json", &body)?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = answer.pointer("/methodResponses/0/1").cloned().unwrap_or_default();
    let is_refused = |key: &str| said.get(key).is_some_and(|value| !value.is_null());
    if ["notCreated", "notUpdated", "notDestroyed", "type"].into_iter().any(is_refused) {
        return Err(Error::Refused { command: method.to_owned(), answer: text });
    }
    Ok(said)
}

/// Does something as Alice; gives the body of an answer that is no refusal.
fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> Result<String, Error> {
    let alice = Basic { user: ALICE, password: &password(ALICE) };
    let Answer { status, body } = http::send_as(address, method, path, alice, kind, body)?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let (command, answer) = (format!("{method} {path}"), format!("{status} {body}"));
    Err(Error::Refused { command, answer })
}

fn text(json: &Value, pointer: &str) -> Result<String, Error> {
    let text = json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| odd(pointer, json.to_string()))
}

fn address(stage: &Stage<'_>) -> Result<SocketAddr, Error> {
    let store = stage.store();
    store.http_address().ok_or_else(|| odd("an HTTP service", store.name().to_owned()))
}

fn appointment(summary: &str) -> String {
    let lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//example.org//plays//EN",
        "BEGIN:VEVENT",
        "UID:1@example.org",
        "DTSTAMP:20261125T090000Z",
        "DTSTART:20261126T090000Z",
        "DTEND:20261126T100000Z",
        &format!("SUMMARY:{summary}"),
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ];
    lines.join("\r\n")
}
