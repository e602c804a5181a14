//! Reads events as stores send them, one a line, and shows what had to be repaired.
//!
//!     cargo run -p mail-event --example lenient < events.jsonl

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use mail_event::json::{self, JsonError};

/// What two well-known stores send: another spelling, joined lists, `Z`, a raw `@`, an own
/// identifier where a URI is due, −1 for “no limit”.
const SAMPLES: &str = r#"
{"event":"FlagsSet","uri":"imap://hub.example.test/user/alice;UIDVALIDITY=7","uidset":"1:3","modseq":9,"flagNames":"\\Flagged $Junk","user":"alice","service":"imaps","timestamp":"2026-11-25T01:43:44.899Z"}
{"event":"messageNew","uri":"imap://john@example.org@h/INBOX;UIDVALIDITY=1;UID=2","timestamp":"2023-02-19T14:03:31+0100","messageSize":"976"}
{"event":"QuotaChange","uri":"imap://hub.example.test/user/quo","diskQuota":10,"maxMessages":-1,"user":"quo","timestamp":"2026-11-25T01:43:44+00:00"}
{"event":"MessageExpunge","uri":"imap://h/INBOX;UIDVALIDITY=1","timestamp":"2026-11-25T01:43:44+00:00"}
"#;

fn main() -> io::Result<()> {
    let lines: Vec<String> = if io::stdin().is_terminal() {
        SAMPLES.lines().map(str::to_owned).collect()
    } else {
        io::stdin().lock().lines().collect::<io::Result<_>>()?
    };
    let mut out = io::stdout().lock();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        match json::from_slice(line.as_bytes()) {
            Ok(parsed) => {
                writeln!(out, "{}", json::to_string(&parsed.event))?;
                for repair in &parsed.repairs {
                    writeln!(out, "    {repair}")?;
                }
            }
            Err(error) => writeln!(out, "refused: {}", told(&error))?,
        }
    }
    Ok(())
}

/// The error with the parameter at fault and the requirement broken, where they are known.
fn told(error: &JsonError) -> String {
    match (error.parameter(), error.rule()) {
        (Some(parameter), Some(rule)) => format!("{error} [{parameter}, {rule}]"),
        _ => error.to_string(),
    }
}
