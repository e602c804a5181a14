//! What is wanted, and how far it has been told, in words.

use serde_json::Value;

use crate::show::size;
use crate::subscriptions::word;

/// What the hub records, from its status; nothing where it doesn't say.
pub(crate) fn recorded(status: &Value) -> Option<String> {
    let recording = status.get("recording")?;
    if word(recording, "/record")? == "everything" {
        return Some("everything that policy lets be made".to_owned());
    }
    let age = number(recording, "/ageSeconds").unwrap_or(0);
    let events = word(recording, "/events").unwrap_or_else(|| "nothing".to_owned());
    let mut words = format!("what is wanted, for {} now: {events}", duration(age));
    if let Some(octets) = number(recording, "/contentMaxOctets") {
        words.push_str(&format!(", messageContent up to {}", size(octets)));
    }
    for name in ["bodyStructure", "envelope"] {
        if recording.get(name).and_then(Value::as_bool) == Some(true) {
            words.push_str(&format!(", {name}"));
        }
    }
    Some(words)
}

/// How far what makes a source's events has been told; nothing where nobody need be.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) is_told: bool,
    /// In a word or two.
    pub(crate) short: String,
    /// In a few more.
    pub(crate) long: String,
}

impl Told {
    /// From what the hub says of the source.
    pub(crate) fn of(source: &Value) -> Option<Self> {
        let demand = source.get("demand")?;
        let is_told = demand.get("told").and_then(Value::as_bool)?;
        let age = number(demand, "/ageSeconds").map(duration);
        let (short, long) = match number(demand, "/connected") {
            Some(0) => ("-".to_owned(), "no publisher is connected that is told".to_owned()),
            Some(connected) => {
                let confirmed = number(demand, "/confirmed").unwrap_or(0);
                let mut long =
                    format!("{confirmed} of {connected} publishers have confirmed what is wanted");
                if let Some(age) = &age {
                    long.push_str(&format!(", the last {age} ago"));
                }
                (format!("{confirmed} of {connected}"), long)
            }
            None => match (is_told, age) {
                (true, Some(age)) => (
                    format!("told {age}"),
                    format!("what is wanted has stood in the spool for {age}"),
                ),
                _ => {
                    let why = word(demand, "/detail").unwrap_or_else(|| "not yet".to_owned());
                    ("not told".to_owned(), format!("what is wanted is not in the spool: {why}"))
                }
            },
        };
        Some(Self { is_told, short, long })
    }
}

/// Seconds in the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_recorded_is_said_in_words() {
        let said = |recording: Value| recorded(&json!({ "recording": recording }));
        let everything = json!({ "record": "everything", "events": ["Login"] });
        assert_eq!(said(everything).unwrap(), "everything that policy lets be made");
        let wanted = json!({
            "record": "wanted", "events": ["MessageNew", "vendor"], "ageSeconds": 723,
            "contentMaxOctets": 2048, "bodyStructure": true, "envelope": false,
        });
        assert_eq!(
            said(wanted).unwrap(),
            "what is wanted, for 12m 03s now: MessageNew, vendor, messageContent up to 2.0 KiB, \
             bodyStructure"
        );
        let nothing = json!({ "record": "wanted", "events": [] });
        assert_eq!(said(nothing).unwrap(), "what is wanted, for 0s now: nothing");
        assert_eq!(recorded(&json!({})), None);
    }

    #[test]
    fn how_far_it_is_told_is_said_in_words() {
        let said = |demand: Value| {
            let Told { is_told, short, long } = Told::of(&json!({ "demand": demand })).unwrap();
            format!("{is_told}; {short}; {long}")
        };
        let all = [
            json!({ "told": true, "ageSeconds": 60 }),
            json!({ "told": false }),
            json!({ "told": false, "detail": "/spool/demand: Permission denied" }),
            json!({ "told": true, "connected": 0, "confirmed": 0 }),
            json!({ "told": true, "ageSeconds": 3, "connected": 2, "confirmed": 2 }),
            json!({ "told": false, "connected": 3, "confirmed": 2 }),
        ];
        insta::assert_snapshot!(all.map(said).join("\n"), @r"
        true; told 1m 00s; what is wanted has stood in the spool for 1m 00s
        false; not told; what is wanted is not in the spool: not yet
        false; not told; what is wanted is not in the spool: /spool/demand: Permission denied
        true; -; no publisher is connected that is told
        true; 2 of 2; 2 of 2 publishers have confirmed what is wanted, the last 3s ago
        false; 2 of 3; 2 of 3 publishers have confirmed what is wanted
        ");
        assert_eq!(Told::of(&json!({ "name": "mail" })), None);
    }
}
