//! What the same commands take on servers that stand beside each other.

use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;
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
pub(crate) struct Plan<'a> {
    /// Commands of a kind on each server, each time servers are started.
    pub(crate) rounds: usize,
    /// How many of them on one server before it is the next one's turn: where a server has work
    /// that goes on after its answer, that meets its own next command.
    pub(crate) in_a_row: usize,
    /// The only kind that is measured, by its name in the table; all where absent.
    pub(crate) only: Option<&'a str>,
}

/// What commands took, by kind and server.
pub(crate) struct Table<'a> {
    servers: &'a [&'a str],
    plan: Plan<'a>,
    rows: Vec<Row>,
}

impl<'a> Table<'a> {
    /// An empty one of servers by what is special about them.
    pub(crate) fn new(servers: &'a [&'a str], plan: Plan<'a>) -> Self {
        Self { servers, plan, rows: Vec::new() }
    }

    /// Adds the same commands on each of the servers, which are new and in the table's order, from
    /// the first login to the last delivery.
    pub(crate) fn measure(&mut self, open: &mut [Open<'_>], user: &str) -> Result<(), Error> {
        let measured = measure(open, user, self.plan)?;
        if self.rows.is_empty() {
            self.rows.extend(measured.iter().map(|row| Row::empty(row.name, self.servers.len())));
        }
        for (row, more) in self.rows.iter_mut().zip(measured) {
            for (starts, times) in row.starts.iter_mut().zip(more.starts) {
                starts.extend(times);
            }
        }
        Ok(())
    }

    /// Prints it, with how much more each takes than the first; and where servers were started more than
    /// once, the least, the middle and the greatest 99th of a hundred: one bad start decides those of all.
    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}, {} rounds, milliseconds\n", self.plan.rounds);
        let names: String = self.servers.iter().map(|name| format!("{name:^37}")).collect();
        println!("{:<14}{names}", "");
        let heads = "    p50         p99                   ".repeat(self.servers.len());
        println!("{:<14}{heads}", "");
        let is_measured = |row: &&Row| row.starts.iter().any(|starts| !starts.is_empty());
        self.rows.iter().filter(is_measured).for_each(Row::print);
    }
}

/// Keeps the processors from sleeping, as long as it lives.
///
/// A command wakes one process after the other, and where the processors are virtual each wake takes
/// as long as the machine's owner likes: with two of them, a third of the time was stolen so, and
/// what a command took was three times as long, mostly by chance. What keeps them awake runs only
/// where nobody else would (`SCHED_IDLE`).
pub(crate) struct Awake(Vec<Child>);

impl Awake {
    /// Begins, one for each processor.
    pub(crate) fn begin() -> Result<Self, Error> {
        let processors = available_parallelism().map_or(1, usize::from);
        let mut awake = Self(Vec::new());
        for _ in 0..processors {
            let spinner = Command::new("chrt")
                .args(["--idle", "0", "sh", "-c", SPIN])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(Error::io("run chrt, which keeps the processors awake"))?;
            awake.0.push(spinner);
        }
        Ok(awake)
    }
}

/// A second or so at a time, for as long as there is somebody to do it for.
const SPIN: &str =
    "while kill -0 $PPID; do i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; done";

impl Drop for Awake {
    fn drop(&mut self) {
        for spinner in &mut self.0 {
            let _ended = (spinner.kill(), spinner.wait());
        }
    }
}

/// How many rounds, or starts, are asked for.
pub(crate) fn number(argument: Option<String>, default: usize) -> usize {
    argument.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One kind of command, with the times of each server, by its starts.
struct Row {
    name: &'static str,
    starts: Vec<Vec<Vec<Duration>>>,
}

impl Row {
    fn empty(name: &'static str, servers: usize) -> Self {
        Self { name, starts: vec![Vec::new(); servers] }
    }

    fn print(&self) {
        let mut line = format!("{:<14}", self.name);
        let mut first = None;
        for starts in &self.starts {
            let all = starts.concat();
            let (half, most) = (quantile(&all, 0.5), quantile(&all, 0.99));
            let more = (half / *first.get_or_insert(half) - 1.0) * 100.0;
            let mut each: Vec<_> = starts.iter().map(|times| quantile(times, 0.99)).collect();
            each.sort_by(f64::total_cmp);
            let between = match (each.first(), each.get(each.len() / 2), each.last()) {
                (Some(least), Some(middle), Some(greatest)) if each.len() > 1 => {
                    format!("({least:.1} {middle:.2} {greatest:.1})")
                }
                _ => String::new(),
            };
            line.push_str(&format!("{half:>7.3}{more:>+5.0}%{most:>8.3} {between:<16}"));
        }
        println!("{line}");
    }
}

fn measure(open: &mut [Open<'_>], user: &str, plan: Plan<'_>) -> Result<[Row; 6], Error> {
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
    Plan { rounds, in_a_row, only }: Plan<'_>,
    open: &mut [Open<'_>],
    mut act: impl FnMut(usize, &mut Open<'_>) -> Result<(), Error>,
) -> Result<Row, Error> {
    if only.is_some_and(|only| only != name) {
        return Ok(Row::empty(name, open.len()));
    }
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
    Ok(Row { name, starts: times.into_iter().map(|times| vec![times]).collect() })
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
