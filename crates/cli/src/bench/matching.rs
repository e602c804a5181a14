//! Matching: a million subscriptions, and what an event, one of them and a change cost.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postbell_engine::{Filter, Index, Keys, Policy, Selection};

use super::events::Generator;
use super::machine::memory_octets;
use super::probe::{self, as_f64, millis};
use super::processor;
use super::table::{Probe, Row, Target};

/// A million subscriptions of which so many name neither a user nor a mailbox, beside looking an
/// event's user up in a bare hash table of the same users.
///
/// All indexes are kept to the end, so that none takes up memory another has left.
pub(super) fn matching(events: usize) -> anyhow::Result<Vec<Row>> {
    let bare: HashMap<Box<str>, u32> = (0..SUBSCRIPTIONS).map(|id| (user(id).into(), id)).collect();
    let events = prepared(events)?;
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut rows = Vec::new();
    for share in SHARES {
        let one = Loaded::load(share)?;
        rows.extend(one.rows(&events, &bare));
        loaded.push(one);
    }
    Ok(rows)
}

/// How many are unbound, and what the rows are called.
#[derive(Clone, Copy, Debug)]
struct Share {
    per_mille: u32,
    matched: &'static str,
    octets: &'static str,
    change: &'static str,
}

/// An event, its keys and, for the bare table, its owner.
#[derive(Debug)]
struct Prepared {
    json: String,
    keys: Keys,
    owner: Box<str>,
}

fn prepared(count: usize) -> anyhow::Result<Vec<Prepared>> {
    let list = Generator::new(SEED, SUBSCRIPTIONS).list(count);
    let prepared = list.into_iter().map(|json| {
        let keys = Keys::find(json.as_bytes()).context("a made-up event has no keys")?;
        let view = keys.view(json.as_bytes());
        let owner = view.owner().or_else(|| view.user()).unwrap_or_default().as_ref().into();
        Ok(Prepared { keys, owner, json })
    });
    prepared.collect()
}

#[derive(Debug)]
struct Loaded {
    share: Share,
    index: Index,
    octets_each: f64,
    took: Duration,
    /// The longest time one change took.
    longest: Duration,
}

impl Loaded {
    fn load(share: Share) -> anyhow::Result<Self> {
        let mut dice = fastrand::Rng::with_seed(SEED);
        let before = memory_octets().context("no memory figure in /proc")?;
        let mut index = Index::new();
        let (mut took, mut longest) = (Duration::ZERO, Duration::ZERO);
        for id in 0..SUBSCRIPTIONS {
            let filter = filter(id, share, &mut dice)?;
            let begun = processor::thread();
            index.insert(id, &filter);
            let spent = processor::thread().saturating_sub(begun);
            took += spent;
            longest = longest.max(spent);
        }
        let octets = memory_octets().context("no memory figure in /proc")?.saturating_sub(before);
        for id in (0..SUBSCRIPTIONS).step_by(CHANGED) {
            let filter = filter(id, share, &mut fastrand::Rng::with_seed(u64::from(id)))?;
            let begun = processor::thread();
            index.insert(SUBSCRIPTIONS + id, &filter);
            if !index.remove(SUBSCRIPTIONS + id, &filter) {
                bail!("a subscription was not where it was put");
            }
            longest = longest.max(processor::thread().saturating_sub(begun));
        }
        let octets_each = as_f64(octets) / f64::from(SUBSCRIPTIONS);
        Ok(Self { share, index, octets_each, took, longest })
    }

    fn rows(&self, events: &[Prepared], bare: &HashMap<Box<str>, u32>) -> Vec<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut told = 0_usize;
        for _ in 0..TURNS {
            theirs.push(timed(events, |some| {
                for event in some {
                    black_box(bare.contains_key(&event.owner));
                }
            }));
            told = 0;
            ours.push(timed(events, |some| {
                let views = some.iter().map(|event| event.keys.view(event.json.as_bytes()));
                self.index.for_each_match_of(&views.collect::<Vec<_>>(), |_, id| {
                    black_box(id);
                    told += 1;
                });
            }));
        }
        let each = |mut times: Vec<Duration>| {
            probe::median(&mut times).as_secs_f64() * 1e9 / as_f64(events.len())
        };
        let (ours, theirs) = (each(ours), each(theirs));
        let told = as_f64(told) / as_f64(events.len());
        let Share { per_mille, matched, octets, change } = self.share;
        // Where nearly everybody is bound an event is what is paid for; elsewhere it is each of
        // the many that are told.
        let (judged, of) = match per_mille {
            0..10 => (ours, "event"),
            _ => (ours / told.max(1.0), "subscription told"),
        };
        // Machines differ in their memory more than in anything else, and a look in a table is that.
        let judged = judged / theirs * BARE_NANOS;
        vec![
            Row {
                metric: matched,
                figure: ours,
                unit: "ns",
                probe: Some(Probe { name: "a bare hash table of users", figure: theirs }),
                judged,
                target: Some(Target::at_most(200.0, 60.0)),
                note: format!(
                    "{told:.1} subscriptions told of each event, {:.1} ns each; judged by {of}, as where a bare look takes {BARE_NANOS} ns",
                    ours / told.max(1.0)
                ),
            },
            Row {
                metric: octets,
                figure: self.octets_each,
                unit: "octets",
                probe: None,
                judged: self.octets_each,
                target: Some(Target::at_most(100.0, 40.0)),
                note: format!("resident memory; loaded in {:.2} s", self.took.as_secs_f64()),
            },
            Row {
                metric: change,
                figure: millis(self.longest),
                unit: "ms",
                probe: None,
                judged: millis(self.longest),
                target: Some(Target::at_most(10.0, 1.0)),
                note: "processor time; a million additions, and some more together with a removal"
                    .to_owned(),
            },
        ]
    }
}

/// The time of doing something with all events, some at a time, whose octets are at hand as they are in a hub that
/// has just read them; where its users are in the index is not.
fn timed(events: &[Prepared], mut with: impl FnMut(&[Prepared])) -> Duration {
    let mut spent = Duration::ZERO;
    for some in events.chunks(READ_AT_ONCE) {
        for event in some {
            black_box(event.json.bytes().fold(0, u8::wrapping_add));
            black_box(event.owner.bytes().fold(0, u8::wrapping_add));
        }
        let begun = Instant::now();
        with(some);
        spent += begun.elapsed();
    }
    spent
}

/// One subscription's filter: bound to a user of its own, or to none.
fn filter(id: u32, share: Share, dice: &mut fastrand::Rng) -> anyhow::Result<Filter> {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let mut selection = Selection::default();
    let n = |dice: &mut fastrand::Rng, below: u32| dice.u32(0..below);
    if dice.u32(0..1_000) >= share.per_mille {
        selection.users = vec![user(id)];
        selection.events = texts(dice.choice(EVENTS).copied().unwrap_or_default());
        selection.mailboxes = texts(dice.choice(MAILBOXES).copied().unwrap_or_default());
    } else {
        selection.events = texts(dice.choice(EVENTS).copied().unwrap_or_default());
        match dice.u32(0..5) {
            0 => selection.mailboxes = vec![format!("Lists/project-{}", n(dice, 5_000))],
            1 => selection.mailboxes = vec![format!("Lists/project-{}*", n(dice, 5_000))],
            2 => selection.mailboxes = vec![format!("%/project-{}", n(dice, 5_000))],
            3 => selection.events = vec![format!("vnd.example.app{}", n(dice, 5_000))],
            _ => selection.events = texts(dice.choice(RARE).copied().unwrap_or_default()),
        }
    }
    Ok(selection.compile(&Policy::default())?.0)
}

/// A user as the made-up events have them.
fn user(number: u32) -> String {
    format!("user{number:05}@example.org")
}

const SHARES: [Share; 3] = [
    Share {
        per_mille: 2,
        matched: "match, 0.2 % of 1 M unbound",
        octets: "  memory of one subscription",
        change: "  longest change",
    },
    Share {
        per_mille: 50,
        matched: "match, 5 % of 1 M unbound",
        octets: "  memory of one subscription",
        change: "  longest change",
    },
    Share {
        per_mille: 500,
        matched: "match, 50 % of 1 M unbound",
        octets: "  memory of one subscription",
        change: "  longest change",
    },
];

/// What bound ones, and those that ask for a mailbox, ask for.
const EVENTS: &[&[&str]] = &[
    &[],
    &["message"],
    &["MessageNew"],
    &["message", "flags"],
    &["MessageNew", "MessageAppend", "MessageExpunge"],
    &["message", "flags", "mailbox"],
    &["access"],
    &["quota", "vnd.example.Snooze"],
];

/// Where bound ones look.
const MAILBOXES: &[&[&str]] = &[&[], &[], &[], &["INBOX"], &["INBOX", "Lists/*"]];

/// What those that ask for no place ask for: what a service of the operator's watches.
const RARE: &[&[&str]] = &[
    &["QuotaExceed"],
    &["quota"],
    &["Login"],
    &["access"],
    &["MailboxCreate"],
    &["MessageExpire"],
];

/// What a look in a bare table took where the targets were set, in nanoseconds.
const BARE_NANOS: f64 = 115.0;

/// As many as the target says.
const SUBSCRIPTIONS: u32 = 1_000_000;

/// One in so many is put in once more and taken out again.
const CHANGED: usize = 100;

/// Events of one block or so.
const READ_AT_ONCE: usize = 64;

/// Probe and index take turns.
const TURNS: usize = 5;

const SEED: u64 = 5;
