//! The thread of a Cyrus source: reads the spool and tells what is in it, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::tz::Offset;
use mail_event::Timestamp;
use postbell_engine::{Identity, Mailbox, Observation, What};
use tracing::{debug, warn};

use super::alive::{Connections, Listeners, is_process};
use super::asking::{Answers, Asking};
use super::entry::{Content, Entry};
use super::notification::Notification;
use super::recent::Recent;
use super::signs::{self, Sign, Signs};
use super::tell::{Memory, Teller, is_implied};
use super::{CyrusError, Options};
use crate::reconcile::Next;
use crate::spool::{self, Bell, Change, Ident, Mishap, Place, Spool};
use crate::{Batch, Count, Health, Intake, State, Stop, Stopped};

/// What a source holds while it runs.
#[derive(Debug)]
pub(super) struct Source<'a> {
    options: &'a Options,
    intake: &'a dyn Intake,
    health: &'a Health,
    teller: Teller<'a>,
    memory: Memory,
    asking: Option<Asking<'a>>,
    signs: Signs,
    bell: Bell,
    spool: Spool<Entry>,
    /// What was handled last: who writes to the spool may have written it twice, as its disk failed.
    recent: Recent,
    pending: Pending,
    watched: Watched,
    /// Kinds of what can't be told, each logged once.
    complaints: BTreeSet<String>,
    /// In which hour what says nothing was told last, by kind.
    garbled: BTreeMap<String, i64>,
    /// When the sockets were made last, as far as told.
    began: Option<Vec<u8>>,
}

/// What is told and not yet handed over.
#[derive(Debug, Default)]
struct Pending {
    observations: Vec<Observation>,
    octets: usize,
    files: BTreeMap<Ident, Place>,
    changes: Vec<Change>,
}

/// What was seen of the sessions that are open.
#[derive(Debug, Default)]
struct Watched {
    /// Whether any process was ever found where Cyrus said it was; in another container none is.
    sees_processes: bool,
    /// Sessions whose connection was seen, and since when it isn't any more.
    connections: BTreeMap<String, Option<Instant>>,
    listeners: Listeners,
}

/// What is to be done with the first line of a file.
enum Verdict {
    Go,
    /// It is implied by what follows it.
    PassOver,
    WaitUntil(Instant),
}

impl<'a> Source<'a> {
    pub(super) fn new(
        options: &'a Options,
        intake: &'a dyn Intake,
        health: &'a Health,
    ) -> Result<Self, CyrusError> {
        let [a, b, c, d] = Memory::PREFIXES;
        let kept = [
            intake.checkpoint(a)?,
            intake.checkpoint(b)?,
            intake.checkpoint(c)?,
            intake.checkpoint(d)?,
        ];
        let asking = options.master.as_ref();
        let asking = asking.map(|master| Asking::new(options, master, intake)).transpose()?;
        Ok(Self {
            options,
            intake,
            health,
            asking,
            signs: Signs::restore(&intake.checkpoint(signs::KEY)?, Instant::now()),
            teller: Teller::new(options),
            memory: Memory::restore(kept),
            bell: Bell::new(&options.spool),
            spool: Spool::new(&options.spool, intake.checkpoint(spool::KEY)?, health),
            recent: Recent::default(),
            pending: Pending::default(),
            watched: Watched::default(),
            complaints: BTreeSet::new(),
            garbled: BTreeMap::new(),
            began: intake.checkpoint(BEGAN_KEY)?.into_iter().next().map(|(_, value)| value),
        })
    }

    pub(super) fn run(&mut self, stop: &Stop) -> Result<(), CyrusError> {
        self.health.set_state(State::Scanning, "the first look");
        let (mut scan_at, mut look_at) = (Instant::now(), Instant::now() + LOOK_INTERVAL);
        while !stop.is_set() {
            let now = Instant::now();
            let rung = self.bell.listen();
            if rung.anything || now >= scan_at {
                self.scan();
                scan_at = now + SCAN_INTERVAL;
            } else {
                let written = rung.written.iter().filter_map(|name| self.spool.named(name));
                for ident in written.collect::<Vec<_>>() {
                    self.read(ident);
                }
            }
            let wait = self.advance(stop)?;
            if now >= look_at && wait.is_none() {
                let begun = Instant::now();
                self.look(now);
                // However many sessions there are, looking at them stays a small part of the work.
                look_at = begun + LOOK_INTERVAL.max(begun.elapsed() * 50);
            }
            let look_on = self.look_at_mailboxes();
            self.flush()?;
            let quotas_on = self.look_at_quotas(stop)?;
            let until =
                [wait, look_on, quotas_on].into_iter().flatten().fold(scan_at, Instant::min);
            self.bell.wait(stop, None, until.saturating_duration_since(Instant::now()));
        }
        self.flush()?;
        self.health.set_state(State::Stopped, "");
        Ok(())
    }

    /// Looks which files there are, and reads on in all of them.
    fn scan(&mut self) {
        self.bell.watch();
        match self.spool.scan() {
            Ok(found) => {
                self.pending.changes.extend(found.changes);
                self.mishaps(found.mishaps);
                self.health.set(Count::Unread, self.spool.unread_octets());
                self.health.set_state(State::Running, self.detail());
            }
            Err(error) => {
                let path = self.options.spool.display();
                self.health.set_error(&format!("{path}: {error}"));
                let detail = format!("{path}: {error} (postbell notifyd writes there)");
                self.health.set_state(State::Waiting, detail);
            }
        }
        for ident in self.spool.idents() {
            self.read(ident);
            self.spool.turn(ident);
            if let Some((change, mishap)) = self.spool.sweep(ident) {
                self.pending.changes.push((change, None));
                self.mishaps(mishap);
            }
        }
    }

    /// How the source is, for a person.
    fn detail(&self) -> String {
        let waiting = match self.asking.as_ref().map_or(0, Asking::waiting) {
            0 => String::new(),
            many => format!("; {many} looks for what was missed wait"),
        };
        let sessions = self.memory.sessions.len();
        format!("{}; {sessions} sessions{waiting}", self.options.spool.display())
    }

    fn read(&mut self, ident: Ident) {
        let (_, mishap) = self.spool.read(ident);
        self.mishaps(mishap);
    }

    fn mishaps(&mut self, mishaps: impl IntoIterator<Item = Mishap>) {
        for mishap in mishaps {
            let missed = self.teller.missed(&mishap.identity, now(), mishap.what);
            self.lost(missed);
        }
    }

    /// Tells lines in order until none is left or one has to wait; gives until when.
    fn advance(&mut self, stop: &Stop) -> Result<Option<Instant>, Stopped> {
        for ident in self.spool.idents() {
            loop {
                if self.spool.head(ident).is_none() && !self.spool.is_read_out(ident) {
                    self.read(ident);
                }
                if self.spool.head(ident).is_none() {
                    break;
                }
                if stop.is_set() {
                    return Ok(None);
                }
                match self.judge(ident) {
                    Verdict::WaitUntil(until) => return Ok(Some(until)),
                    Verdict::Go => self.handle(ident)?,
                    Verdict::PassOver => {
                        if let Some(line) = self.spool.pop(ident) {
                            if let Ok(entry) = &line.said {
                                self.recent.add(entry.whence.identity);
                            }
                            let place = Place { offset: line.end, part: None };
                            self.pending.files.insert(ident, place);
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the first line of a file can be told: a mailbox may have been made for another's
    /// sake, and only what follows says so.
    fn judge(&self, ident: Ident) -> Verdict {
        let Some(line) = self.spool.head(ident) else { return Verdict::Go };
        let Some((received, made)) = created(&line.said) else { return Verdict::Go };
        let mut after = self.spool.lines(ident).skip(1).take(NEXT_AMONG);
        let next = after.find_map(|line| match &line.said {
            Ok(Entry { what: Content::Notification(said), .. })
                if said.pid == made.pid && said.event != "MailboxModseq" =>
            {
                Some(said)
            }
            _ => None,
        });
        match next {
            Some(next) if is_implied(made, next, self.options) => Verdict::PassOver,
            Some(_) => Verdict::Go,
            None => {
                let deadline = line.read_at + CREATE_WAIT;
                let is_old = now().unix_millis() - received.unix_millis() > CREATE_WAIT_MS * 2;
                let may_wait = Instant::now() < deadline && !is_old && !self.spool.is_full();
                if may_wait { Verdict::WaitUntil(deadline) } else { Verdict::Go }
            }
        }
    }

    /// Tells the first line of a file.
    fn handle(&mut self, ident: Ident) -> Result<(), Stopped> {
        let before = self.spool.place(ident);
        let Some(line) = self.spool.pop(ident) else { return Ok(()) };
        if let Ok(entry) = &line.said
            && !self.recent.add(entry.whence.identity)
        {
            self.pending.files.insert(ident, Place { offset: line.end, part: None });
            return Ok(());
        }
        match line.said {
            Ok(Entry { whence, what: Content::Notification(said) }) => {
                let told = self.teller.tell(&mut self.memory, &said, whence);
                // What can't be told explains no change.
                let is_told = told.is_ok();
                let told = match told {
                    Ok(told) => told,
                    Err(why) => {
                        let why = format!("{}: {why}", said.event);
                        self.complain(&why, &said.event);
                        Box::new(std::iter::empty())
                    }
                };
                for repair in &said.repairs {
                    debug!(event = %said.event, %repair, "a parameter was changed");
                }
                // What was told of it before, if it was cut by the end of a run.
                let done = before.part.filter(|_| before.offset == line.start);
                let done = done.map_or(0, |(_, count)| count);
                let from = usize::try_from(done).unwrap_or(usize::MAX);
                if from == 0 && is_told {
                    let when = (whence.received, Instant::now());
                    self.signs.note(&said, &self.options.namespace, when);
                }
                if let Some(asking) = &mut self.asking {
                    asking.hear(&said, whence.received);
                }
                let mut answers = Answers::default();
                for (count, mut seen) in (done.saturating_add(1)..).zip(told.skip(from)) {
                    let asking = self.asking.as_mut();
                    if asking.is_none_or(|asking| asking.note(&said, &mut seen, &mut answers)) {
                        self.push(seen);
                    }
                    if self.pending.is_full() {
                        let place = Place { offset: line.start, part: Some((0, count)) };
                        self.pending.files.insert(ident, place);
                        self.flush()?;
                    }
                }
            }
            Ok(Entry { whence, what: Content::Garbled(why) }) => {
                self.garbled(&why, whence.received);
            }
            Ok(Entry { whence, what: Content::Began }) => {
                let identity = hexadecimal(&whence.identity);
                let before = self.began.replace(identity.clone().into_bytes());
                // Before the very first start nothing was to be told.
                if before.is_some_and(|before| before != identity.as_bytes()) {
                    let reason = "nobody listened to Cyrus for a while: what it said is lost";
                    let missed = self.teller.missed(&identity, whence.received, reason.to_owned());
                    self.lost(missed);
                }
                self.pending.changes.push((BEGAN_KEY.to_vec(), Some(identity.into_bytes())));
            }
            Ok(Entry { whence, what: Content::Lost { count, since } }) => {
                let reason = format!(
                    "{count} notifications of Cyrus's could not be written down, from {since} on"
                );
                let identity = hexadecimal(&whence.identity);
                let missed = self.teller.missed(&identity, whence.received, reason);
                self.lost(missed);
            }
            Err(why) => {
                let name = self.spool.name(ident);
                warn!(file = %name, offset = line.start, why, "a damaged line of the spool is passed over");
                self.health.add(Count::Skipped, 1);
                let identity = format!("damaged {ident} {}", line.start);
                let reason = format!("a line of {name} was damaged at octet {}: {why}", line.start);
                let missed = self.teller.missed(&identity, now(), reason);
                self.lost(missed);
            }
        }
        self.pending.files.insert(ident, Place { offset: line.end, part: None });
        if self.pending.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    /// Something was sent that says nothing. It may have been an event: that is told, but of each
    /// kind once an hour, lest somebody fill the journal with it.
    fn garbled(&mut self, why: &str, at: Timestamp) {
        let kind = kind(why);
        self.complain(why, &kind);
        // Whatever it said, each time.
        self.memory.lost();
        let hour = at.instant().as_second() / 3600;
        if self.garbled.len() >= KINDS_MAX || self.garbled.insert(kind.clone(), hour) == Some(hour)
        {
            return;
        }
        let identity = format!("garbled\0{kind}\0{hour}");
        let reason = format!("a notification could not be read: {kind}");
        let at = jiff::Timestamp::from_second(hour * 3600);
        let at = at.map_or_else(|_| now(), |at| Timestamp::new(at, Offset::UTC));
        let missed = self.teller.missed(&identity, at, reason);
        self.lost(missed);
    }

    /// Tells that something was lost, and has what changed by it looked for.
    fn lost(&mut self, missed: Observation) {
        self.push(missed);
        self.memory.lost();
        if let Some(asking) = &mut self.asking {
            asking.look_at_everything();
        }
    }

    /// Takes one step in finding what nobody said: asks about a mailbox, or tells what the answers
    /// have that the spool hadn't. Gives when there is more to do.
    fn look_at_mailboxes(&mut self) -> Option<Instant> {
        let asking = self.asking.as_mut()?;
        let next = asking.step(now());
        for (user, names, at) in asking.take_subscribed() {
            self.memory.listed(&user, &names, at);
        }
        asking.show_error(self.health);
        match next {
            Next::Rest => return None,
            Next::At(moment) => return Some(moment),
            Next::Settle => {}
        }
        if !asking.is_marked() {
            self.scan();
        }
        for seen in self.asking.as_mut()?.settle(&self.spool, now())? {
            self.push(seen);
        }
        Some(Instant::now())
    }

    /// Looks at some quotas, when all that is told is handed over: whoever waits for it waits for
    /// no answer of Cyrus's. Gives when there is more to do.
    fn look_at_quotas(&mut self, stop: &Stop) -> Result<Option<Instant>, Stopped> {
        let Some(asking) = &mut self.asking else { return Ok(None) };
        if !asking.has_quotas_to_look_at() {
            return Ok(None);
        }
        let seen = asking.look_at_quotas(now(), stop);
        asking.show_error(self.health);
        let has_more = asking.has_quotas_to_look_at();
        seen.into_iter().for_each(|seen| self.push(seen));
        self.flush()?;
        Ok(has_more.then(Instant::now))
    }

    /// Counts what can't be told, and logs the first of its kind.
    fn complain(&mut self, why: &str, kind: &str) {
        self.health.add(Count::Skipped, 1);
        self.health.set_error(&why);
        if self.complaints.len() < KINDS_MAX && self.complaints.insert(kind.to_owned()) {
            warn!(
                why,
                "a notification of Cyrus's is not told; the next of this kind are only counted"
            );
        }
    }

    /// Looks whose process or connection is gone: whoever was cut off is logged out, though Cyrus
    /// doesn't say so. What it says takes a moment to come, so nobody is called gone at once.
    fn look(&mut self, heard: Instant) {
        let connections = Connections::now();
        let at = now();
        let mut gone = Vec::new();
        for (id, session) in self.memory.sessions.open() {
            let has_process = session.pid.is_some_and(is_process);
            self.watched.sees_processes |= has_process;
            let ends = session.server_port.zip(session.client);
            let is_connected = ends.is_some_and(|(port, client)| connections.has(port, client));
            let since = self.watched.connections.get(id).copied();
            let lost_process = session.pid.is_some() && self.watched.sees_processes && !has_process;
            let is_seen = since.is_some() || self.watched.listeners.has(session.server());
            let lost_connection = is_seen && !is_connected;
            if is_connected {
                self.watched.listeners.note(session.server());
                self.watched.connections.insert(id.to_owned(), None);
            } else if lost_process || lost_connection {
                let first = since.flatten().unwrap_or_else(Instant::now);
                self.watched.connections.insert(id.to_owned(), Some(first));
                if first.elapsed() >= GRACE {
                    gone.push(id.to_owned());
                }
            } else if since.is_none() && at.unix_millis() - session.began > UNSEEN_MAX_MS {
                gone.push(id.to_owned());
            }
        }
        for id in gone {
            self.watched.connections.remove(&id);
            if let Some(session) = self.memory.sessions.end(&id) {
                let ended = self.teller.ended(&session, at);
                self.push(ended);
            }
        }
        let is_open: BTreeSet<_> =
            self.memory.sessions.open().map(|(id, _)| id.to_owned()).collect();
        self.watched.connections.retain(|id, _| is_open.contains(id));
        self.memory.sessions.tidy(at.unix_millis());
        let lost = self.asking.as_mut().map(|asking| asking.tend(at)).unwrap_or_default();
        for owner in lost {
            let identity = format!("unfound {owner} {}", at.unix_millis());
            let missed = self.teller.missed(&identity, at, UNSAID.to_owned());
            self.push(Observation { owner: Some(owner), ..missed });
        }
        self.judge_signs(at, heard);
    }

    /// Has what was not heard looked for, where somebody may ask; else it is told as missed of its
    /// mailbox.
    fn judge_signs(&mut self, at: Timestamp, heard: Instant) {
        let namespace = &self.options.namespace;
        // As whom to ask: shared mailboxes have no owner, and calendars are on no list.
        let asked_as = |sign: &Sign| {
            let place = namespace.place(&sign.mailbox);
            place.owner.filter(|_| sign.is_mail && !place.is_deleted)
        };
        let missed = self.signs.take(heard, |sign| {
            let asking = self.asking.as_ref().zip(asked_as(sign));
            let is_asked = asking.is_some_and(|(asking, owner)| asking.can_find(&owner));
            if is_asked { signs::TOGETHER } else { signs::CERTAIN }
        });
        for sign in missed {
            let owner = asked_as(&sign);
            let asking = self.asking.as_mut();
            if asking.zip(owner).is_some_and(|(asking, owner)| asking.missed(&owner)) {
                continue;
            }
            let place = namespace.place(&sign.mailbox);
            // What is deleted is told already.
            if place.is_deleted {
                continue;
            }
            let identity = format!("unsaid {} {}", sign.mailbox, at.unix_millis());
            let missed = self.teller.missed(&identity, at, UNSAID.to_owned());
            let name = Some(place.name).filter(|_| sign.mailbox != USERS);
            let mailbox = name.map(|name| Mailbox { name, uid_validity: sign.uid_validity });
            let what = What::Missed { mailbox, reason: UNSAID.to_owned() };
            self.push(Observation { owner: place.owner, what, ..missed });
        }
        if self.signs.take_overfull() {
            let identity = format!("unsaid {}", at.unix_millis());
            let reason = "Cyrus told of more changes at once than can be judged".to_owned();
            let missed = self.teller.missed(&identity, at, reason);
            self.lost(missed);
        }
    }

    fn push(&mut self, seen: Observation) {
        if self.asking.as_mut().is_some_and(|asking| asking.is_own(&seen)) {
            return;
        }
        if matches!(seen.what, What::Missed { .. }) {
            self.health.add(Count::Gaps, 1);
        }
        self.pending.octets += octets(&seen);
        self.pending.observations.push(seen);
    }

    /// Hands over what is told, and returns when it is durable.
    fn flush(&mut self) -> Result<(), Stopped> {
        if let Some(asking) = &mut self.asking {
            let seen = asking.take_blinded(now());
            self.pending.changes.extend(asking.drain_changes());
            seen.into_iter().for_each(|seen| self.push(seen));
        }
        let Pending { observations, files, mut changes, .. } = std::mem::take(&mut self.pending);
        changes.extend(self.signs.drain_changes());
        let done = files.into_iter().filter_map(|(ident, place)| self.spool.done(ident, place));
        changes.extend(done);
        changes.extend(self.memory.drain_changes());
        let batch = Batch { observations, changes };
        if batch.is_empty() {
            return Ok(());
        }
        let told = batch.observations.len() as u64;
        self.intake.take(batch)?;
        self.health.add(Count::Observations, told);
        Ok(())
    }
}

impl Pending {
    fn is_full(&self) -> bool {
        self.observations.len() >= OBSERVATIONS_MAX || self.octets >= OCTETS_MAX
    }
}

/// A mailbox that was made, if that is what a line says.
fn created(said: &Result<Entry, String>) -> Option<(Timestamp, &Notification)> {
    match said {
        Ok(Entry { whence, what: Content::Notification(said) })
            if said.event == "MailboxCreate" =>
        {
            Some((whence.received, said))
        }
        _ => None,
    }
}

fn now() -> Timestamp {
    let millis = jiff::Timestamp::now().as_millisecond();
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Timestamp::new(instant, Offset::UTC)
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// About how much memory an observation takes.
fn octets(seen: &Observation) -> usize {
    let Observation { identity: Identity(identity), what, extras, .. } = seen;
    let extras: usize = extras.iter().map(|(_, value)| value.to_string().len() + 64).sum();
    let more = match what {
        What::Delivered { message, .. } | What::Appended(message) => {
            let content = message.content.as_ref().map_or(0, |content| content.as_bytes().len());
            content + message.body_structure.as_ref().map_or(0, String::len)
        }
        What::Expunged { uids, .. }
        | What::Expired { uids, .. }
        | What::FlagsChanged { uids, .. } => uids.ranges().len() * 8,
        _ => 0,
    };
    identity.len() + extras + more + 512
}

/// Why something is missed of which there was only a sign.
const UNSAID: &str = "Cyrus told of a change, and not of what, and it can't be found";

/// What all users' mailboxes are below, and no mailbox: Cyrus's `unexpunge` cuts names down to it.
const USERS: &str = "user";

/// When the sockets were made last: the first time is no gap.
const BEGAN_KEY: &[u8] = b"began";

/// How often the folder is looked at beside inotify.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked who is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long after a session's process or connection is gone its Logout may still come.
const GRACE: Duration = Duration::from_secs(15);

/// When a session ends of which neither process nor connection was ever seen.
const UNSEEN_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// What goes for all complaints that differ in a number alone.
fn kind(why: &str) -> String {
    let mut kind = String::new();
    for letter in why.chars().map(|letter| if letter.is_ascii_digit() { '…' } else { letter }) {
        if letter != '…' || !kind.ends_with('…') {
            kind.push(letter);
        }
    }
    kind
}

/// How long a mailbox that was made waits for one below it that it may have been made for.
const CREATE_WAIT: Duration = Duration::from_millis(CREATE_WAIT_MS.unsigned_abs());

const CREATE_WAIT_MS: i64 = 500;

/// Among how many lines what the same process says next is looked for.
const NEXT_AMONG: usize = 256;

/// Observations in one batch: enough that a commit to disk costs little for each.
const OBSERVATIONS_MAX: usize = 1_000;

/// Octets of observations in one batch, plus one observation's.
const OCTETS_MAX: usize = 1 << 20;

/// Kinds of complaints remembered.
const KINDS_MAX: usize = 100;
