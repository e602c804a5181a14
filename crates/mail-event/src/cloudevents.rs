//! CloudEvents 1.0: the envelope events travel in between systems.
//!
//! `type` is `org.ietf.rfc5423.` and the event's name, `source` the store without a user,
//! `subject` the percent-encoded user and mailbox, `time` the event's timestamp, `data` the flat
//! JSON as it is. Numbers that do not fit CloudEvents' 32-bit integers (UID, UIDVALIDITY, MODSEQ)
//! stay in `data`; `sequence` and `prevsequence` are texts of 20 digits, so that they sort.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::write_string;
use crate::{EventId, EventName};

/// What stands around one event.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// The event's id.
    pub id: EventId,
    /// The store, without a user: `imap://imap.example.org/`.
    pub source: &'a str,
    /// The event's name.
    pub name: &'a str,
    /// User and mailbox, percent-encoded, for routing; absent where neither is known.
    pub subject: Option<&'a str>,
    /// The timestamp as it stands in the event.
    pub time: &'a str,
    /// The record's number.
    pub sequence: Option<u64>,
    /// The number of the delivery before it on the same subscription.
    pub previous: Option<u64>,
    /// What must stay in order: deliveries of the same key do.
    pub partition: Option<&'a str>,
}

/// The media type of one event.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The media type of several events.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// What `type` begins with.
pub const TYPE_PREFIX: &str = "org.ietf.rfc5423.";

/// Appends one event in structured form; `json` is its flat form, kept as it is.
pub fn write(out: &mut Vec<u8>, json: &[u8], attributes: &Attributes<'_>) {
    let mut head = String::with_capacity(512);
    head.push_str(r#"{"specversion":"1.0","id":""#);
    head.push_str(std::str::from_utf8(&attributes.id.to_bytes()).unwrap_or_default());
    head.push_str(r#"","source":"#);
    write_string(&mut head, attributes.source);
    head.push_str(r#","type":"#);
    write_string(&mut head, &format!("{TYPE_PREFIX}{}", attributes.name));
    if let Some(subject) = attributes.subject {
        head.push_str(r#","subject":"#);
        write_string(&mut head, subject);
    }
    head.push_str(r#","time":"#);
    write_string(&mut head, attributes.time);
    for (name, number) in [("sequence", attributes.sequence), ("prevsequence", attributes.previous)]
    {
        if let Some(number) = number {
            head.push_str(&format!(r#","{name}":"{number:020}""#));
        }
    }
    if let Some(partition) = attributes.partition {
        head.push_str(r#","partitionkey":"#);
        write_string(&mut head, partition);
    }
    head.push_str(r#","datacontenttype":"application/json","data":"#);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(json);
    out.push(b'}');
}

/// One event in structured form.
#[must_use]
pub fn structured(json: &[u8], attributes: &Attributes<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 512);
    write(&mut out, json, attributes);
    out
}

/// Several events in batch form.
#[must_use]
pub fn batch<'a>(events: impl IntoIterator<Item = (&'a [u8], Attributes<'a>)>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (json, attributes) in events {
        if out.len() > 1 {
            out.push(b',');
        }
        write(&mut out, json, &attributes);
    }
    out.push(b']');
    out
}

/// One event as it came in a CloudEvent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received<'a> {
    /// The flat JSON, as it stood in `data`.
    pub json: &'a str,
    /// The CloudEvent's `id`.
    pub id: String,
    /// The CloudEvent's `source`: with `id` it makes the event's identity.
    pub source: String,
}

/// Reads a structured event or a batch; each event of a batch stands or falls for itself.
///
/// # Errors
///
/// Where the whole is neither an object nor a list of JSON.
pub fn parse(
    body: &[u8],
) -> Result<Vec<Result<Received<'_>, InvalidCloudEvent>>, InvalidCloudEvent> {
    let syntax = |error: serde_json::Error| InvalidCloudEvent::Syntax(error.to_string());
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(syntax)?;
        let list = (1_usize..).zip(list);
        return Ok(list.map(|(place, one)| received(one.get(), Some(place))).collect());
    }
    Ok(vec![parse_one(body)])
}

/// Reads one structured event; a list is none, whatever is in it.
///
/// # Errors
///
/// Where it is no CloudEvent that carries an event.
pub fn parse_one(body: &[u8]) -> Result<Received<'_>, InvalidCloudEvent> {
    let syntax = |error: serde_json::Error| InvalidCloudEvent::Syntax(error.to_string());
    let one: &RawValue = serde_json::from_slice(body).map_err(syntax)?;
    received(one.get(), None)
}

fn received(text: &str, place: Option<usize>) -> Result<Received<'_>, InvalidCloudEvent> {
    use InvalidCloudEvent as E;
    if let Some(found) = other_than_object(text) {
        return Err(E::NotAnObject { found, place });
    }
    let shape: Shape<'_> =
        serde_json::from_str(text).map_err(|error| E::Syntax(error.to_string()))?;
    if string(shape.specversion).as_deref() != Some("1.0") {
        return Err(E::Attribute { name: "specversion", wanted: r#""1.0""# });
    }
    let id = string(shape.id).filter(|id| !id.is_empty());
    let id = id.ok_or(E::Attribute { name: "id", wanted: "a text" })?;
    let source = string(shape.source).filter(|source| !source.is_empty());
    let source = source.ok_or(E::Attribute { name: "source", wanted: "a URI reference" })?;
    let kind = string(shape.kind).unwrap_or_default();
    let name = kind.strip_prefix(TYPE_PREFIX).filter(|name| name.parse::<EventName>().is_ok());
    let name =
        name.ok_or(E::Attribute { name: "type", wanted: "org.ietf.rfc5423. and an event's name" })?;
    let data =
        shape.data.ok_or(E::Attribute { name: "data", wanted: "the event as a JSON object" })?;
    let wrong_data = || E::Attribute { name: "data", wanted: "the event as a JSON object" };
    if other_than_object(data.get()).is_some() {
        return Err(wrong_data());
    }
    let inner: Inner = serde_json::from_str(data.get()).map_err(|_| wrong_data())?;
    if inner.event.is_none_or(|event| !event.eq_ignore_ascii_case(name)) {
        return Err(E::Attribute { name: "type", wanted: "the same event as in data" });
    }
    Ok(Received { json: data.get(), id, source })
}

#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// An attribute that is a text.
fn string(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// What a JSON value is, where it is no object.
fn other_than_object(text: &str) -> Option<&'static str> {
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => None,
        Some(b'[') => Some("a list"),
        Some(b'"') => Some("a text"),
        Some(b't' | b'f') => Some("a truth value"),
        Some(b'n') => Some("null"),
        _ => Some("a number"),
    }
}

#[derive(Deserialize)]
struct Inner {
    event: Option<String>,
}

/// Why a text is not a CloudEvent that carries an event.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidCloudEvent {
    /// An attribute is missing or wrong.
    #[error("{name}: must be {wanted}")]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// JSON, but no object.
    #[error("a CloudEvent is a JSON object, and {} is {found}", subject(*place))]
    NotAnObject {
        /// What it is.
        found: &'static str,
        /// Which of a list it is, counted from 1.
        place: Option<usize>,
    },
    /// Not JSON, or of another shape.
    #[error("not a CloudEvent: {0}")]
    Syntax(String),
}

fn subject(place: Option<usize>) -> String {
    place.map_or_else(|| "this".to_owned(), |place| format!("element {place} of the list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: &str =
        r#"{"event":"Login","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00"}"#;

    fn attributes() -> Attributes<'static> {
        Attributes {
            id: EventId::new(1_787_225_654_000, 7),
            source: "imap://h/",
            name: "Login",
            subject: Some("a%40b/INBOX"),
            time: "2026-08-20T13:34:14+02:00",
            sequence: Some(42),
            previous: Some(40),
            partition: Some("a@b/INBOX"),
        }
    }

    #[test]
    fn a_structured_event_comes_back_as_it_went() {
        let text = structured(FLAT.as_bytes(), &attributes());
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["type"], "org.ietf.rfc5423.Login");
        assert_eq!(value["sequence"], "00000000000000000042");
        let read = parse(&text).unwrap().remove(0).unwrap();
        assert_eq!(read.json, FLAT);
        assert_eq!(read.id, attributes().id.to_string());
    }

    #[test]
    fn one_bad_event_does_not_take_the_batch_with_it() {
        let good = String::from_utf8(structured(FLAT.as_bytes(), &attributes())).unwrap();
        let batch = format!(r#"[{good},{{"id":"1"}},{good}]"#);
        let read = parse(batch.as_bytes()).unwrap();
        let fine: Vec<_> = read.iter().map(Result::is_ok).collect();
        assert_eq!(fine, [true, false, true]);
    }

    #[test]
    fn what_is_no_object_is_named_with_its_place() {
        let told = |text: &str| parse(text.as_bytes()).unwrap().remove(0).unwrap_err().to_string();
        let wanted = "a CloudEvent is a JSON object, and element 1 of the list is a number";
        assert_eq!(told("[5]"), wanted);
        assert_eq!(told("null"), "a CloudEvent is a JSON object, and this is null");
        assert_eq!(told("{\"specversion\":1}"), "specversion: must be \"1.0\"");
        assert!(parse_one(b"[{}]").unwrap_err().to_string().ends_with("this is a list"));
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        let text = batch([(FLAT.as_bytes(), attributes()), (FLAT.as_bytes(), attributes())]);
        assert_eq!(parse(&text).unwrap().len(), 2);
        assert!(parse(&batch([])).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = String::from_utf8(structured(FLAT.as_bytes(), &attributes())).unwrap();
        for (from, to, name) in [
            ("1.0", "0.3", "specversion"),
            ("rfc5423.Login", "rfc5423.Logout", "type"),
            ("org.ietf", "com.example", "type"),
            (r#""source":"imap://h/""#, r#""source":"""#, "source"),
        ] {
            let error =
                parse(text.replacen(from, to, 1).as_bytes()).unwrap().remove(0).unwrap_err();
            assert!(
                matches!(error, InvalidCloudEvent::Attribute { name: at, .. } if at == name),
                "{error}"
            );
        }
    }
}
