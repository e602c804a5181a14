//! What postbell's script costs a Dovecot: the same commands to one with it and to one without.
//!
//! `scripts/dovecot-cost [ROUNDS]` runs it. Three servers stand beside each other, and each command
//! goes to one after the other, so that whatever the machine does meets all of them.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use postbell_testkit::{ALICE, Dovecot, Error, Format, Imap, Lmtp, Notify, Options, mail};

fn main() -> Result<(), Error> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let exporter = listen()?;
    for format in [Format::Maildir, Format::Sdbox] {
        let folder = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        open_up(folder.path())?;
        let away = Notify::into_spool(folder.path().join("away"));
        let heard = Notify {
            exporter: Some(exporter.clone()),
            ..Notify::into_spool(folder.path().join("heard"))
        };
        let mut servers = Vec::new();
        for notify in [None, Some(away), Some(heard)] {
            let options = Options { format, notify, ..Options::default() };
            let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(()) };
            servers.push(dovecot);
        }
        let rows = measure(&servers, rounds)?;
        println!("\n{format:?}, {rounds} rounds, milliseconds\n");
        println!("{:<22}{:^22}{:^22}{:^22}", "", "bare", "script", "script + exporter");
        println!("{:<22}{}", "", "       p50        p99  ".repeat(3));
        for row in &rows {
            print(row);
        }
    }
    Ok(())
}

/// One kind of command, with the times of each server.
struct Row {
    name: &'static str,
    times: [Vec<Duration>; 3],
}

fn print(row: &Row) {
    let mut line = format!("{:<22}", row.name);
    let bare = row.times.first().map(|times| quantile(times, 0.5)).unwrap_or_default();
    for times in &row.times {
        let (half, most) = (quantile(times, 0.5), quantile(times, 0.99));
        let more = (half / bare - 1.0) * 100.0;
        line.push_str(&format!("{half:>7.3}{more:>+5.0}%{most:>8.3}  "));
    }
    println!("{line}");
}

fn measure(servers: &[Dovecot], rounds: usize) -> Result<[Row; 6], Error> {
    let message = mail::plain("a message of usual length, with words in it that nobody reads");
    let mut open = Vec::new();
    for dovecot in servers {
        let mut imap = dovecot.imap(ALICE)?;
        let many: Vec<(&str, &[u8])> = vec![("", &message); 400];
        imap.append_many("INBOX", &many)?;
        imap.create("Other")?;
        imap.select("INBOX")?;
        open.push((imap, dovecot.lmtp()?));
    }
    let sign = |round: usize| if round.is_multiple_of(2) { "+FLAGS" } else { "-FLAGS" };
    let many = (rounds / 10).max(1);
    Ok([
        row("login", many, &mut open, |_, (_, _), server| {
            let Some(dovecot) = servers.get(server) else { return Ok(()) };
            // The way out isn't waited for: the next login is on another server.
            dovecot.imap(ALICE).map(drop)
        })?,
        row("APPEND", rounds, &mut open, |_, (imap, _), _| {
            imap.append("Other", "\\Seen", &message).map(drop)
        })?,
        row("STORE 1", rounds, &mut open, |round, (imap, _), _| {
            imap.store("7", sign(round), "\\Flagged")
        })?,
        row("STORE 1:400", many, &mut open, |round, (imap, _), _| {
            imap.store("1:400", sign(round), "\\Flagged")
        })?,
        row("UID MOVE 1", many.min(390), &mut open, |round, (imap, _), _| {
            imap.move_to(&(round + 8).to_string(), "Other")
        })?,
        row("LMTP", rounds, &mut open, |_, (_, lmtp), _| {
            lmtp.deliver("sender@example.net", ALICE, &message)
        })?,
    ])
}

fn row(
    name: &'static str,
    rounds: usize,
    open: &mut [(Imap, Lmtp)],
    mut act: impl FnMut(usize, &mut (Imap, Lmtp), usize) -> Result<(), Error>,
) -> Result<Row, Error> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        // Who goes first changes, or the first would always find the caches cold.
        for turn in 0..open.len() {
            let server = (round + turn) % open.len();
            let (Some(sessions), Some(times)) = (open.get_mut(server), times.get_mut(server))
            else {
                continue;
            };
            let begun = Instant::now();
            act(round, sessions, server)?;
            times.push(begun.elapsed());
        }
    }
    Ok(Row { name, times })
}

/// In milliseconds.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a few thousand"
    )]
    let at = (part * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Somebody who hears the exporter, and thanks it.
fn listen() -> Result<String, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("listen"))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || thank(stream));
        }
    });
    Ok(format!("http://{address}/v1/dovecot/cost/secret"))
}

fn thank(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("content-length:") {
            length = digits.trim().parse().ok()?;
        } else if line.trim().is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        }
    }
}

fn open_up(folder: &Path) -> Result<(), Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, mode).map_err(Error::io("open up a folder"))
}

const ROUNDS: usize = 1000;
