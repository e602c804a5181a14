//! An event as one line for a person: when, what, whose, where, and what is worth knowing of it.

use anstyle::{AnsiColor, Color, Effects, Style};
use mail_event::{EventGroup, EventName, Uri};
use serde_json::Value;

/// One line with terminal colours, without a line end. Print it through `anstream`, which takes
/// the colours out where nobody would see them.
///
/// Text from outside is shown with its control characters made visible, so that a mailbox's name
/// can't take over the terminal.
pub(crate) fn line(event: &Value) -> String {
    let name = text(event, "event").unwrap_or("?");
    let style = style_of(name);
    let mut out = format!(
        "{DIM}{time}{DIM:#} {style}{name:<18}{style:#}",
        time = time_of(event),
        name = clean(name)
    );
    for part in parts(event, name) {
        let style = part.style;
        let text = clean(&part.text);
        out.push_str(&format!(" {style}{text}{style:#}"));
    }
    out
}

/// What the store said, what is told, and what was changed in between, below its line.
pub(crate) fn raw(mut event: Value) -> String {
    let mut take = |name| event.as_object_mut().and_then(|members| members.remove(name));
    let (came, repairs) = (take(RAW), take(REPAIRS));
    let came = match &came {
        Some(Value::String(came)) => clean(came),
        _ => "(not kept)".into(),
    };
    let told = clean(&event.to_string());
    let mut out = format!("  {DIM}came{DIM:#} {came}\n  {DIM}told{DIM:#} {told}");
    for repair in repairs.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        out.push_str(&format!("\n  {DIM}changed{DIM:#} {}", clean(repair)));
    }
    out
}

/// What the store said.
pub(crate) const RAW: &str = "vnd.postbell.raw";

/// What was changed of it.
pub(crate) const REPAIRS: &str = "vnd.postbell.repairs";

/// A piece of the line.
struct Part {
    text: String,
    style: Style,
}

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().effects(Effects::BOLD);
const DIM: Style = Style::new().effects(Effects::DIMMED);

/// What follows the name, in order.
fn parts(event: &Value, name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut put = |style: Style, text: String| parts.push(Part { text, style });
    let uri = place(event, "uri");
    let mailbox = place(event, "mailboxID").or_else(|| uri.clone());
    let owner = uri.as_ref().or(mailbox.as_ref()).and_then(|place| place.user.clone());
    let user = text(event, "user").map(str::to_owned);
    if let Some(who) = owner.clone().or_else(|| user.clone()) {
        put(BOLD, who);
    }
    match (place(event, "oldMailboxID").and_then(|old| old.mailbox), mailbox) {
        (Some(old), Some(Place { mailbox: Some(new), .. })) => put(PLAIN, format!("{old} → {new}")),
        (_, Some(Place { mailbox: Some(mailbox), .. })) => put(PLAIN, mailbox),
        (_, Some(Place { other: Some(other), .. })) => put(PLAIN, other),
        _ => {}
    }
    if let Some(uids) = text(event, "uidset") {
        put(PLAIN, format!("uid {}", short(uids)));
    } else if let Some(uid) = uri.and_then(|place| place.uid) {
        put(PLAIN, format!("uid {uid}"));
    }
    if let Some(flags) = event.get("flagNames").and_then(Value::as_array) {
        let flags: Vec<_> = flags.iter().filter_map(Value::as_str).collect();
        put(Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan))), short(&flags.join(" ")));
    }
    if let Some(octets) = number(event, "messageSize") {
        put(PLAIN, size(octets));
    }
    for detail in details(event, name, owner.as_deref(), user.as_deref()) {
        put(DIM, detail);
    }
    parts
}

/// What is less often looked for.
fn details(event: &Value, name: &str, owner: Option<&str>, user: Option<&str>) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(quota) = number(event, "diskQuota") {
        let used =
            number(event, "diskUsed").map_or_else(|| "?".to_owned(), |used| used.to_string());
        details.push(format!("{used} of {quota} KiB"));
    }
    match (number(event, "messages"), number(event, "maxMessages")) {
        (Some(have), Some(most)) => details.push(format!("{have} of {most} messages")),
        (None, Some(most)) => details.push(format!("at most {most} messages")),
        (Some(1), None) => details.push("1 message".to_owned()),
        (Some(have), None) => details.push(format!("{have} messages")),
        (None, None) => {}
    }
    if let Some(user) = user.filter(|user| owner.is_some_and(|owner| owner != *user)) {
        details.push(format!("by {user}"));
    }
    if let Some(client) = text(event, "clientIP") {
        details.push(format!("from {client}"));
    }
    if name.starts_with("vnd.") {
        details.extend(vendors(event));
    }
    if let Some(seq) = number(event, "vnd.postbell.seq") {
        details.push(format!("#{seq}"));
    }
    details
}

/// What an event outside the registry says in its own words: all there is to show of it.
fn vendors(event: &Value) -> Vec<String> {
    let members = event.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| !SHOWN_OTHERWISE.contains(&name.as_str()))
        .filter_map(|(name, value)| {
            let last = name.strip_prefix("vnd.")?.rsplit('.').next()?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(short(&format!("{last}={value}")))
        })
        .take(VENDORS_SHOWN_MAX)
        .collect()
}

/// These stand on every delivery and have their own place on the line, or none.
const SHOWN_OTHERWISE: [&str; 4] =
    ["vnd.postbell.eventId", "vnd.postbell.inferred", "vnd.postbell.prevSeq", "vnd.postbell.seq"];

/// A line is for glancing at; `--json` shows everything.
const VENDORS_SHOWN_MAX: usize = 4;

/// What a URI leads to.
#[derive(Clone, Debug, Default)]
struct Place {
    user: Option<String>,
    mailbox: Option<String>,
    uid: Option<u32>,
    other: Option<String>,
}

fn place(event: &Value, parameter: &str) -> Option<Place> {
    let text = text(event, parameter)?;
    let Ok((uri, _)) = Uri::parse_lenient(text) else {
        return Some(Place { other: Some(short(text)), ..Place::default() });
    };
    Some(match uri.as_imap() {
        None => Place { other: Some(uri.to_string()), ..Place::default() },
        Some(url) => Place {
            user: url.user().map(str::to_owned),
            mailbox: url.mailbox().map(str::to_owned),
            uid: url.uid(),
            other: None,
        },
    })
}

fn text<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event.get(name).and_then(Value::as_str)
}

fn number(event: &Value, name: &str) -> Option<u64> {
    event.get(name).and_then(Value::as_u64)
}

/// The time of day where it happened; the day is on the line of `--json`.
fn time_of(event: &Value) -> &str {
    text(event, "timestamp").and_then(|time| time.get(11..19)).unwrap_or("--:--:--")
}

/// Octets with a unit that leaves three or four digits.
pub(crate) fn size(octets: u64) -> String {
    let (unit, shift) = match octets {
        0..1024 => return format!("{octets} octets"),
        1024..1_048_576 => ("KiB", 10),
        1_048_576..1_073_741_824 => ("MiB", 20),
        _ => ("GiB", 30),
    };
    let tenths = octets.saturating_mul(10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Cut where a line would get too long to be one.
fn short(text: &str) -> String {
    if text.chars().count() <= LETTERS_MAX {
        return text.to_owned();
    }
    text.chars().take(LETTERS_MAX).chain(['…']).collect()
}

/// A UID set of a busy hour goes on for pages.
const LETTERS_MAX: usize = 40;

/// The text with everything that moves a cursor, changes direction or hides made visible.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let hidden = letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if hidden {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Each group has its colour; what is lost has its own.
fn style_of(name: &str) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(Color::Ansi(colour)));
    if name == "vnd.postbell.Gap" {
        return colour(AnsiColor::Red).effects(Effects::BOLD);
    }
    let group = name.parse::<EventName>().map_or(EventGroup::Vendor, |name| name.group());
    match group {
        EventGroup::Message => colour(AnsiColor::Green),
        EventGroup::Flags => colour(AnsiColor::Cyan),
        EventGroup::Quota => colour(AnsiColor::Yellow),
        EventGroup::Access => colour(AnsiColor::Magenta),
        EventGroup::Mailbox => colour(AnsiColor::Blue),
        EventGroup::Subscription => colour(AnsiColor::BrightBlue),
        EventGroup::Vendor => colour(AnsiColor::BrightMagenta),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(event: &Value) -> String {
        anstream::adapter::strip_str(&line(event)).to_string()
    }

    #[test]
    fn a_line_for_each_kind_of_event() {
        let at = "2026-08-20T13:34:14.966+02:00";
        let inbox = "imap://john%40example.org@imap.example.org/INBOX;UIDVALIDITY=1411487714";
        let lines: Vec<String> = [
            json!({"event": "MessageNew", "uri": format!("{inbox}/;UID=6"), "timestamp": at,
                "messageSize": 976, "messages": 6, "vnd.postbell.seq": 17}),
            json!({"event": "FlagsSet", "uri": inbox, "uidset": "3,5:9", "timestamp": at,
                "flagNames": ["\\Flagged", "$Junk"], "user": "john@example.org"}),
            json!({"event": "MessageRead", "uri": inbox, "uidset": "1", "timestamp": at,
                "user": "secretary", "clientIP": "192.0.2.7", "vnd.postbell.inferred": true}),
            json!({"event": "MailboxRename", "uri": "imap://a@h/B;UIDVALIDITY=2",
                "mailboxID": "imap://a@h/B;UIDVALIDITY=2", "oldMailboxID": "imap://a@h/A",
                "timestamp": at}),
            json!({"event": "QuotaExceed", "uri": "imap://a@h/INBOX", "timestamp": at,
                "diskQuota": 100, "diskUsed": 101}),
            json!({"event": "Login", "uri": "imap://h", "user": "alice", "timestamp": at,
                "clientIP": "192.0.2.7"}),
            json!({"event": "vnd.postbell.Gap", "uri": "imap://h", "timestamp": at,
                "vnd.postbell.from": 3, "vnd.postbell.to": 9}),
            json!({"event": "vnd.example.Snooze", "uri": "https://example.org/m/1"}),
        ]
        .iter()
        .map(plain)
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_came_stands_beside_what_is_told_with_what_was_changed() {
        let event = json!({"event": "MessageRead", "uidset": "1",
            "vnd.postbell.raw": "{\"event\":\"MessageRead\",\"user\":\"\"}\u{1b}",
            "vnd.postbell.repairs": ["user: empty, left out"]});
        let shown = raw(event);
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "  came {\"event\":\"MessageRead\",\"user\":\"\"}\\u{1b}\n  \
             told {\"event\":\"MessageRead\",\"uidset\":\"1\"}\n  changed user: empty, left out"
        );
        assert!(raw(json!({"event": "Login"})).contains("(not kept)"));
    }

    #[test]
    fn a_name_from_outside_can_not_take_over_the_terminal() {
        let shown = line(&json!({
            "event": "MailboxCreate\u{1b}[2J",
            "uri": "imap://a@h/x%E2%80%AEy;UIDVALIDITY=1",
            "timestamp": "2026-08-20T13:34:14+02:00",
        }));
        let stripped = anstream::adapter::strip_str(&shown).to_string();
        assert!(!stripped.chars().any(char::is_control), "{stripped:?}");
        assert!(!shown.contains("\u{1b}[2J"), "{shown:?}");
        assert!(shown.contains("\\u{202e}"), "{shown:?}");
    }

    #[test]
    fn sizes_have_a_unit_people_know() {
        for (octets, shown) in
            [(0, "0 octets"), (1023, "1023 octets"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(size(octets), shown);
        }
    }

    #[test]
    fn what_is_no_event_still_gets_a_line() {
        assert!(plain(&json!({})).contains('?'));
        assert!(plain(&json!([1])).contains('?'));
    }
}
