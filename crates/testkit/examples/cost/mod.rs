//! What the same commands take on servers that stand beside each other.

use std::time::{Duration, Instant};

use postbell_testkit::{Error, Imap, Lmtp, mail};

/// A server's open sessions of one user, and a way to have another.
pub(crate) struct Open<'a> {
    pub(crate) imap: Imap,
    pub(crate) lmtp: Lmtp,
    pub(crate) login: Box<dyn Fn() -> Result<Imap, Error> + 'a>,
}

/// How often what is done.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Commands of a kind on each server.
    pub(crate) rounds: usize,
    /// How many of them on one server before it is the next one's turn: where a server has work
    /// that goes on after its answer, that meets its own next command.
    pub(crate) in_a_row: usize,
}

/// The same commands on each, from the first login to the last delivery: prints a table of the
/// servers in order, with how much more each takes than the first.
pub(crate) fn compare(
    title: &str,
    servers: &[&str],
    open: &mut [Open<'_>],
    user: &str,
    plan: Plan,
) -> Result<(), Error> {
    let rows = measure(open, user, plan)?;
    println!("\n{title}, {} rounds, milliseconds\n", plan.rounds);
    let names: String = servers.iter().map(|name| format!("{name:^22}")).collect();
    println!("{:<14}{names}", "");
    println!("{:<14}{}", "", "       p50        p99  ".repeat(servers.len()));
    rows.iter().for_each(print);
    Ok(())
}

/// How many rounds are asked for.
pub(crate) fn rounds(argument: Option<String>) -> usize {
    argument.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// One kind of command, with the times of each server.
struct Row {
    name: &'static str,
    times: Vec<Vec<Duration>>,
}

fn print(row: &Row) {
    let mut line = format!("{:<14}", row.name);
    let first = row.times.first().map(|times| quantile(times, 0.5)).unwrap_or_default();
    for times in &row.times {
        let (half, most) = (quantile(times, 0.5), quantile(times, 0.99));
        let more = (half / first - 1.0) * 100.0;
        line.push_str(&format!("{half:>7.3}{more:>+5.0}%{most:>8.3}  "));
    }
    println!("{line}");
}

fn measure(open: &mut [Open<'_>], user: &str, plan: Plan) -> Result<[Row; 6], Error> {
    // Cyrus takes but a few that are the same.
    let message = |number: usize| {
        mail::plain(&format!("{number}, a message of usual length, with words that nobody reads"))
    };
    let texts: Vec<_> = (0..400).map(message).collect();
    let first: Vec<(&str, &[u8])> = texts.iter().map(|text| ("", &**text)).collect();
    for one in &mut *open {
        one.imap.append_many("INBOX", &first)?;
        one.imap.create("Other")?;
        one.imap.select("INBOX")?;
    }
    let sign = |round: usize| if round.is_multiple_of(2) { "+FLAGS" } else { "-FLAGS" };
    let many = |most: usize| Plan { rounds: (plan.rounds / 10).clamp(1, most), ..plan };
    Ok([
        // The way out isn't waited for: the next login is on another server.
        row("login", many(usize::MAX), open, |_, one| (one.login)().map(drop))?,
        row("APPEND", plan, open, |round, one| {
            one.imap.append("Other", "\\Seen", &message(1_000 + round)).map(drop)
        })?,
        row("STORE 1", plan, open, |round, one| one.imap.store("7", sign(round), "\\Flagged"))?,
        row("STORE 1:400", many(usize::MAX), open, |round, one| {
            one.imap.store("1:400", sign(round), "\\Flagged")
        })?,
        row("UID MOVE 1", many(390), open, |round, one| {
            one.imap.move_to(&(round + 8).to_string(), "Other")
        })?,
        row("LMTP", plan, open, |round, one| {
            one.lmtp.deliver("sender@example.net", user, &message(1_000_000 + round))
        })?,
    ])
}

fn row(
    name: &'static str,
    Plan { rounds, in_a_row }: Plan,
    open: &mut [Open<'_>],
    mut act: impl FnMut(usize, &mut Open<'_>) -> Result<(), Error>,
) -> Result<Row, Error> {
    let mut times = vec![Vec::new(); open.len()];
    for first in (0..rounds).step_by(in_a_row) {
        // Who goes first changes, or the first would always find the caches cold.
        for turn in 0..open.len() {
            let server = (first / in_a_row + turn) % open.len();
            let (Some(one), Some(times)) = (open.get_mut(server), times.get_mut(server)) else {
                continue;
            };
            for round in first..rounds.min(first + in_a_row) {
                let begun = Instant::now();
                act(round, one)?;
                times.push(begun.elapsed());
            }
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

const ROUNDS: usize = 1000;
