//! An event as variables of an environment.

use std::ffi::OsString;

use postbell_engine::Keys;
use serde_json::{Map, Value};

/// The parameters of an event, one variable each: `POSTBELL_` and the parameter's name in capitals,
/// with `_` between its words and for whatever is no letter or digit.
///
/// `messageSize` is `POSTBELL_MESSAGE_SIZE`, `vnd.postbell.seq` is `POSTBELL_VND_POSTBELL_SEQ`. The
/// members of a list have a space between them. `POSTBELL_OWNER` and `POSTBELL_MAILBOX` are what the
/// URI names, decoded.
///
/// Left out are values that hold a NUL, that are over [`VALUE_OCTETS_MAX`], or that come when all
/// together are [`VALUES_OCTETS_MAX`]: the JSON has them. Where two parameters would share a name, the
/// first in the alphabet has it.
pub fn variables(json: &[u8]) -> impl Iterator<Item = (OsString, OsString)> {
    let event: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let keys = Keys::find(json);
    let view = keys.map(|keys| keys.view(json));
    let owner = view.as_ref().and_then(|view| view.owner()).map(|text| text.into_owned());
    let mailbox = view.as_ref().and_then(|view| view.mailbox()).map(|text| text.into_owned());
    let ours = [("owner", owner), ("mailbox", mailbox)];
    let ours = ours.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
    let all = ours.chain(event.into_iter().map(|(name, value)| (name, text(&value))));
    let mut names = std::collections::BTreeSet::new();
    let mut octets = 0;
    all.filter_map(move |(name, text)| {
        let fits = text.len() <= VALUE_OCTETS_MAX && !text.contains('\0');
        let name = variable(&name);
        if !fits || octets + text.len() > VALUES_OCTETS_MAX || !names.insert(name.clone()) {
            return None;
        }
        octets += text.len();
        Some((name.into(), text.into()))
    })
}

fn variable(parameter: &str) -> String {
    let mut name = PREFIX.to_owned();
    let mut after_small = false;
    for letter in parameter.chars() {
        if letter.is_ascii_uppercase() && after_small {
            name.push('_');
        }
        after_small = letter.is_ascii_lowercase();
        name.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    }
    name
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Before each name.
pub(super) const PREFIX: &str = "POSTBELL_";

/// Octets of one value. Linux lets one variable have 128 KiB.
pub const VALUE_OCTETS_MAX: usize = 32 * 1024;

/// Octets of all values: well below what Linux lets an environment have.
pub const VALUES_OCTETS_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Vec<String> {
        let text =
            |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        variables(json.as_bytes()).map(text).collect()
    }

    #[test]
    fn each_parameter_is_a_variable() {
        let json = r#"{"event":"FlagsSet","uri":"imap://j%40x.org@h/Entw%C3%BCrfe;UIDVALIDITY=7","timestamp":"2026-08-20T13:34:14+02:00","clientIP":"::1","flagNames":["\\Seen","$Work"],"messageSize":9,"serverFQDN":"h","vnd.postbell.seq":4}"#;
        assert_eq!(
            told(json),
            [
                "POSTBELL_OWNER=j@x.org",
                "POSTBELL_MAILBOX=Entwürfe",
                "POSTBELL_CLIENT_IP=::1",
                "POSTBELL_EVENT=FlagsSet",
                "POSTBELL_FLAG_NAMES=\\Seen $Work",
                "POSTBELL_MESSAGE_SIZE=9",
                "POSTBELL_SERVER_FQDN=h",
                "POSTBELL_TIMESTAMP=2026-08-20T13:34:14+02:00",
                "POSTBELL_URI=imap://j%40x.org@h/Entw%C3%BCrfe;UIDVALIDITY=7",
                "POSTBELL_VND_POSTBELL_SEQ=4",
            ]
        );
    }

    #[test]
    fn what_no_environment_can_hold_is_left_out() {
        let long = "x".repeat(VALUE_OCTETS_MAX + 1);
        let json = format!(r#"{{"event":"a\u0000b","vnd.a.b":"{long}","vnd.a-b":"1","user":"u"}}"#);
        assert_eq!(told(&json), ["POSTBELL_USER=u", "POSTBELL_VND_A_B=1"]);
        let many: Vec<String> =
            (0..20).map(|at| format!(r#""vnd.{at}":"{}""#, "y".repeat(VALUE_OCTETS_MAX))).collect();
        assert_eq!(told(&format!("{{{}}}", many.join(","))).len(), 8);
        assert!(told("[]").is_empty() && told("").is_empty());
    }
}
