//! The thread of a Dovecot source: reads the spool, has each line wait for what belongs to it, and
//! tells it.

mod logins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::Offset;
use mail_event::{Timestamp, UidSet};
use postbell_engine::{Identity, Observation, What};
use tracing::warn;

use super::exporter::{
    Access, Annotation, Annotations, Beside as ExportedBeside, Ending, Login, beside,
};
use super::holes::{self, Hole, Lost, Runs, Turn, process_began};
use super::names::Names;
use super::open_holes::{self, OpenHoles};
use super::record::{Act, Transaction};
use super::sessions::{self, Sessions, Sleepers};
use super::tell::{self, Beside, End, Teller};
use super::{DovecotError, Options};
use crate::ask::{Asker, InTurn, Want};
use crate::reconcile::{EVERYTHING_INTERVAL, HearingTurn, Naming, Next, Reconcile, Round};
use crate::spool::{self, Bell, Ident, Line, Mishap, Place, Scanned, Spool};
use crate::{Batch, Count, Health, Intake, State, Stop, Stopped};

/// What a source holds while it runs.
#[derive(Debug)]
pub(super) struct Source<'a> {
    options: &'a Options,
    intake: &'a dyn Intake,
    health: &'a Health,
    names: Arc<Names>,
    teller: Teller<'a>,
    bell: Bell,
    spool: Spool<Transaction>,
    runs: Runs,
    open_holes: OpenHoles,
    sessions: Sessions,
    annotations: Annotations,
    access: Access,
    asker: Option<Asker>,
    /// What was found for the first lines of files, while they wait.
    heads: BTreeMap<Ident, Found>,
    /// First halves of moves, by run.
    halves: BTreeMap<String, Transaction>,
    /// Whose quota is to be looked at: of which mailbox, for which line, and since when.
    quotas_due: BTreeMap<String, (String, Transaction, Instant)>,
    pending: Pending,
    reconcile: Reconcile,
    /// What the server said of a mailbox, until all that was written before is told.
    round: Round,
    /// Processes were gone, and what they wrote last is still to be told.
    wake: Option<Marks>,
    /// UIDVALIDITY as it was seen last, by owner and name, for a DELETE that doesn't say it.
    validities: BTreeMap<(String, String), u32>,
    has_warned_of_ports: bool,
    /// The spool couldn't be written to when it was looked at last.
    is_unwritable: bool,
    /// Sessions that ended unless they hibernate, and when that is known.
    closing: VecDeque<(Instant, String)>,
    /// Sessions began to hibernate, and their connections are to be found.
    has_new_sleepers: bool,
    /// Not before.
    new_sleepers_at: Instant,
    /// When everything is looked at next, since a process may have died before its first line.
    everything_at: Instant,
}

/// Where files ended at some moment.
type Marks = Vec<(Ident, u64)>;

/// What belongs to a line and is not in it.
#[derive(Debug, Default)]
struct Found {
    annotation: Option<Annotation>,
    ending: Option<Ending>,
    login: Option<Login>,
    /// Lines before it are missing for good.
    is_forced: bool,
}

/// What is told and not yet handed over.
#[derive(Debug, Default)]
struct Pending {
    observations: Vec<Observation>,
    octets: usize,
    files: BTreeMap<Ident, Place>,
    runs: BTreeSet<String>,
    sessions: BTreeSet<String>,
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What is to be done with the first line of a file.
enum Verdict {
    Go,
    WaitUntil(Instant),
    /// Lines of its run before it haven't come.
    Early,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        options: &'a Options,
        intake: &'a dyn Intake,
        health: &'a Health,
    ) -> Result<Self, DovecotError> {
        let saved = intake.checkpoint(spool::KEY)?;
        let asker = options.master.as_ref().map(Asker::new).transpose();
        let asker = asker.map_err(|error| DovecotError::Master(error.to_string()))?;
        let mut reconcile = Reconcile::default();
        if asker.is_some() {
            reconcile = Reconcile::restore(intake.checkpoint(Reconcile::PREFIX)?);
            reconcile.restore_hearing(&intake.checkpoint(Reconcile::HEARING)?);
            // While nobody listened anything may have happened.
            reconcile.want_everything();
        }
        let sessions = Sessions::restore(&intake.checkpoint(sessions::KEY)?);
        let closing = sessions.all_closing().into_iter().map(|id| (Instant::now(), id)).collect();
        let names = Arc::new(Names::new(options.separator, &options.shared));
        Ok(Self {
            options,
            intake,
            health,
            teller: Teller::new(options, Arc::clone(&names)),
            names,
            bell: Bell::new(&options.spool),
            spool: Spool::new(&options.spool, saved, health),
            runs: Runs::restore(&intake.checkpoint(holes::KEY)?),
            open_holes: OpenHoles::restore(&intake.checkpoint(open_holes::KEY)?),
            sessions,
            annotations: Annotations::default(),
            access: Access::restore(intake.checkpoint(Access::PREFIX)?),
            asker,
            heads: BTreeMap::new(),
            halves: BTreeMap::new(),
            quotas_due: BTreeMap::new(),
            pending: Pending::default(),
            reconcile,
            round: Round::default(),
            wake: None,
            validities: BTreeMap::new(),
            has_warned_of_ports: false,
            is_unwritable: false,
            closing,
            has_new_sleepers: false,
            new_sleepers_at: Instant::now(),
            everything_at: Instant::now() + EVERYTHING_INTERVAL,
        })
    }

    pub(super) fn run(&mut self, stop: &Stop) -> Result<(), DovecotError> {
        self.health.set_state(State::Scanning, "the first look");
        let (mut scan_at, mut look_at) = (Instant::now(), Instant::now() + LOOK_INTERVAL);
        while !stop.is_set() {
            let now = Instant::now();
            let rung = self.bell.listen();
            if rung.anything || now >= scan_at {
                self.scan();
                scan_at = now + SCAN_INTERVAL;
            } else {
                for name in &rung.written {
                    if let Some(ident) = self.spool.named(name) {
                        self.read(ident);
                    }
                }
            }
            self.hear();
            self.hear_flags();
            let wait = self.advance(stop)?;
            if self.has_new_sleepers && now >= self.new_sleepers_at {
                self.look_at_sleepers(Sleepers::New);
            }
            if now >= look_at {
                let begun = Instant::now();
                self.look()?;
                // However many processes there are, looking at them stays a small part of the work.
                look_at = begun + LOOK_INTERVAL.max(begun.elapsed() * 50);
            }
            let look_on = self.look_at_mailboxes();
            let closing = self.close();
            self.flush()?;
            let new_sleepers = self.has_new_sleepers.then_some(self.new_sleepers_at);
            let until = [wait, look_on, closing, new_sleepers]
                .into_iter()
                .flatten()
                .fold(scan_at, Instant::min);
            let limit = until.saturating_duration_since(Instant::now());
            self.bell.wait(stop, self.options.exporter.wake_fd(), limit);
        }
        self.flush()?;
        self.health.set_state(State::Stopped, "");
        Ok(())
    }

    /// Looks which files there are, and reads on in all of them.
    fn scan(&mut self) {
        self.bell.watch();
        let scanned = self.spool.scan();
        self.note_writable(scanned.as_ref().err());
        match scanned {
            Ok(found) => {
                self.note_scan(found);
                let detail = self.detail();
                self.health.set(Count::Unread, self.spool.unread_octets());
                self.health.set_state(State::Running, detail);
            }
            Err(error) => {
                let path = self.options.spool.display();
                self.health.set_error(&format!("{path}: {error}"));
                let detail = format!(
                    "{path}: {error} (postbell setup dovecot makes the folder; Dovecot's postbell_spool names it)"
                );
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

    /// Where the spool can't be written to any more, what is missing can't be known: that is told,
    /// and everything looked at when it can be again.
    fn note_writable(&mut self, error: Option<&std::io::Error>) {
        let why = match error {
            Some(error) if self.spool.was_there() => {
                Some(format!("{}: {error}", self.options.spool.display()))
            }
            Some(_) => None,
            None => self.spool.unwritable(),
        };
        let was = std::mem::replace(&mut self.is_unwritable, why.is_some());
        match (was, why) {
            (false, Some(why)) => {
                self.health.set_error(&why);
                let what = Lost::Anything { since: now_seconds(), why };
                self.hole(Hole { what, users: Vec::new(), since: None }, now());
            }
            (true, None) if self.asker.is_some() => {
                self.reconcile.want_everything_if_few();
            }
            _ => {}
        }
    }

    /// How the source is, for a person.
    fn detail(&self) -> String {
        let exporter = match self.options.exporter.silent_for() {
            None => "its exporter was not heard yet".to_owned(),
            Some(since) => format!("its exporter was heard {} s ago", since.as_secs()),
        };
        let mut waiting = match self.reconcile.progress() {
            (0, _) => String::new(),
            (many, _) => format!("; {many} looks for what was missed wait"),
        };
        match self.open_holes.len() {
            0 => {}
            1 => waiting += "; a hole is open",
            many => waiting += &format!("; {many} holes are open"),
        }
        format!(
            "{}; {} processes and {} sessions of Dovecot's; {exporter}{waiting}",
            self.options.spool.display(),
            self.runs.len(),
            self.sessions.len(),
        )
    }

    fn read(&mut self, ident: Ident) -> bool {
        let (has_new, mishap) = self.spool.read(ident);
        self.mishaps(mishap);
        has_new
    }

    fn mishaps(&mut self, mishaps: impl IntoIterator<Item = Mishap>) {
        for mishap in mishaps {
            let missed = self.teller.mishap(&mishap, now());
            self.push(missed);
        }
    }

    /// Where nobody wants flags, the script doesn't write of them, and looks are not to take them for
    /// missed. From when on it does again, everything is looked at, so that there is a base.
    fn hear_flags(&mut self) {
        let is_asked = self.asker.is_some();
        let at = now();
        match self.reconcile.hear_flags(self.intake.demand().wants_flags(), at) {
            HearingTurn::Begins if is_asked => {
                self.reconcile.want_everything_if_few();
            }
            // What flags they hide looks tell no more.
            HearingTurn::Ends => self.tell_holes_older_than(0, at),
            HearingTurn::Begins | HearingTurn::None => {}
        }
    }

    /// Takes what the exporter said.
    fn hear(&mut self) {
        let waiting = self.options.exporter.drain();
        let since = Instant::now();
        for exported in waiting {
            self.annotations.add(&exported, Instant::now());
            self.heard_of_sleep(&exported);
            let mut with = ExportedBeside {
                names: &self.names,
                server_fqdn: self.options.server_fqdn.as_deref(),
                access: &mut self.access,
                asker: self.asker.as_mut(),
                since,
            };
            for seen in beside(&exported, &mut with) {
                self.push(seen);
            }
        }
    }

    /// Tells lines until none is left or all wait; gives until when.
    ///
    /// Lines of one file are told in order. Between files only lines of one run have an order, and
    /// the run's numbers tell it: a line that came early lets the others go first.
    fn advance(&mut self, stop: &Stop) -> Result<Option<Instant>, Stopped> {
        loop {
            let (mut progressed, mut wait, mut early) = (false, None::<Instant>, Vec::new());
            for ident in self.spool.idents() {
                if self.spool.head(ident).is_none() && !self.spool.is_read_out(ident) {
                    self.read(ident);
                }
                while self.spool.head(ident).is_some() {
                    if stop.is_set() {
                        return Ok(None);
                    }
                    match self.judge(ident) {
                        Verdict::Go => {
                            self.handle(ident)?;
                            progressed = true;
                        }
                        Verdict::WaitUntil(until) => {
                            wait = Some(wait.map_or(until, |wait| wait.min(until)));
                            break;
                        }
                        Verdict::Early => {
                            early.push(ident);
                            break;
                        }
                    }
                }
            }
            if progressed {
                continue;
            }
            if early.is_empty() {
                return Ok(wait);
            }
            // Whoever wrote a line had written those before it: they are there by now, if at all.
            if self.read_on() {
                continue;
            }
            if wait.is_some() && !self.spool.is_full() {
                return Ok(wait);
            }
            let oldest = early.into_iter().filter_map(|ident| {
                let said = self.spool.head(ident)?.said.as_ref().ok()?;
                Some((said.at.unix_millis(), said.seq, ident))
            });
            let Some((_, _, ident)) = oldest.min() else { return Ok(wait) };
            self.heads.entry(ident).or_default().is_forced = true;
        }
    }

    /// Reads on in all files, those that came since among them; says whether there was anything.
    fn read_on(&mut self) -> bool {
        if let Ok(found) = self.spool.scan() {
            self.note_scan(found);
        }
        let mut has_new = false;
        for ident in self.spool.idents() {
            has_new |= self.read(ident);
        }
        has_new
    }

    fn note_scan(&mut self, found: Scanned) {
        self.pending.changes.extend(found.changes);
        self.mishaps(found.mishaps);
    }

    /// Whether the first line of a file can be told, finding what belongs to it.
    fn judge(&mut self, ident: Ident) -> Verdict {
        let now = Instant::now();
        // The line that says what this one means may be there, and not read yet.
        while self.spool.lines(ident).nth(NEXT_AMONG).is_none()
            && !self.spool.is_read_out(ident)
            && !self.spool.is_full()
            && self.read(ident)
        {}
        let Some(Line { read_at, said: Ok(line), .. }) = self.spool.head(ident) else {
            return Verdict::Go;
        };
        let found = self.heads.entry(ident).or_default();
        match self.runs.turn(line) {
            Turn::Repeated => return Verdict::Go,
            Turn::Early if !found.is_forced && !self.spool.is_full() => return Verdict::Early,
            Turn::Early | Turn::Next | Turn::Late => {}
        }
        let deadline = *read_at + self.options.annotation_window;
        let age = now_seconds().saturating_sub(line.at.instant().as_second());
        let is_old = u64::try_from(age).unwrap_or(0) > self.options.annotation_window.as_secs() + 2;
        let may_wait = now < deadline && !is_old && !self.spool.is_full();
        let wants_annotation = tell::wants_annotation(line);
        let wants_login = tell::wants_login(line);
        let ends = line.acts.iter().any(|act| matches!(act, Act::LoggedOut { .. }))
            && self.sessions.has(&Sessions::id(line));
        let lacks = |found: &Found| {
            (wants_annotation && found.annotation.is_none())
                || (ends && found.ending.is_none())
                || (wants_login && found.login.is_none())
        };
        if lacks(found) {
            if found.annotation.is_none() {
                found.annotation = self.annotations.take(&line.run, line.seq);
            }
            if let Some(session) = line.session.as_deref() {
                if ends && found.ending.is_none() {
                    found.ending = self.annotations.take_ending(session);
                }
                if wants_login && found.login.is_none() {
                    found.login = self.annotations.take_login(session);
                }
            }
            if lacks(found) && self.annotations.is_alive(now) {
                if may_wait {
                    return Verdict::WaitUntil(deadline);
                }
                if !is_old {
                    self.annotations.give_up();
                }
            }
        }
        let annotation = found.annotation.as_ref();
        let wants_next = tell::wants_next(line, annotation)
            || (tell::is_move(annotation)
                && line.acts.iter().any(|act| matches!(act, Act::Added { .. })));
        let has_next = || {
            let mut after = self.spool.lines(ident).skip(1).take(NEXT_AMONG);
            after.any(|next| is_next(line, next))
        };
        if wants_next && may_wait && !has_next() {
            return Verdict::WaitUntil(deadline);
        }
        Verdict::Go
    }

    /// Tells the first line of a file.
    fn handle(&mut self, ident: Ident) -> Result<(), Stopped> {
        let Some(line) = self.spool.pop(ident) else { return Ok(()) };
        let found = self.heads.remove(&ident).unwrap_or_default();
        let place = Place { offset: line.end, part: None };
        match line.said {
            Ok(mut said) => {
                tell::complete(&mut said, found.annotation.as_ref(), found.login.as_ref());
                self.transaction(ident, line.start, &said, &found)?;
                self.pending.runs.insert(said.run);
            }
            Err(why) => {
                let identity = format!("damaged {ident} {}", line.start);
                let name = self.spool.name(ident);
                warn!(file = %name, offset = line.start, why, "a damaged line of the spool is passed over");
                self.health.add(Count::Skipped, 1);
                let reason = format!("a line of {name} was damaged at octet {}: {why}", line.start);
                let missed = self.teller.missed(identity, now(), None, reason);
                self.push(missed);
            }
        }
        self.pending.files.insert(ident, place);
        if self.pending.is_full() { self.flush() } else { Ok(()) }
    }

    fn transaction(
        &mut self,
        ident: Ident,
        start: u64,
        line: &Transaction,
        found: &Found,
    ) -> Result<(), Stopped> {
        let taken_up = Instant::now();
        if self.runs.turn(line) == Turn::Repeated {
            return Ok(());
        }
        let half = self.halves.remove(&line.run);
        if let Some(hole) = self.runs.take(line, process_began) {
            self.hole(hole, line.at);
        }
        while let Some((run, hole)) = self.runs.take_excess() {
            self.died(run, hole);
        }
        let annotation = found.annotation.as_ref();
        let is_move = tell::is_move(annotation);
        let wants_next = is_move || tell::wants_next(line, annotation);
        let next = wants_next.then(|| self.after(ident, line)).flatten();
        let other_half = match &half {
            Some(half) if tell::are_halves(half, line) => Some(half),
            _ => next.as_ref().filter(|next| is_move && tell::are_halves(line, next)),
        };
        let beside = Beside { annotation, other_half, next: next.as_ref() };
        let told_by_look = self.note(line);
        if self.teller.is_suppressed(line, beside) {
            return Ok(());
        }
        if self.sessions.wake(line) {
            self.pending.sessions.insert(Sessions::id(line));
        }
        for act in &line.acts {
            if *act == Act::LoggedIn {
                self.logged_in(line);
            }
        }
        let told_before = self.spool.place(ident);
        let told_before = told_before.part.filter(|_| told_before.offset == start);
        let teller = self.teller.clone();
        let (mut asked, mut by_policy) = (Answers::default(), false);
        for (place, mut seen) in teller.tell(line, beside) {
            if told_before.is_some_and(|before| place <= before) {
                continue;
            }
            if !self.amend(line, told_by_look.get(index(place.0)), place, &mut seen) {
                continue;
            }
            self.give_validity(line, place.0, &mut seen);
            self.ask(line, place, &mut seen, &mut asked);
            by_policy |= matches!(seen.what, What::Expired { .. });
            self.push(seen);
            if self.pending.is_full() {
                // The rest of the line follows; should it not, it is told from here.
                self.pending.files.insert(ident, Place { offset: start, part: Some(place) });
                self.flush()?;
            }
        }
        for act in &line.acts {
            if let Act::LoggedOut { secs } = act {
                self.said_to_end(line, *secs, found.ending.as_ref());
            }
        }
        if is_move && half.is_none() {
            self.halves.insert(line.run.clone(), line.clone());
        }
        self.note_quota(line, by_policy, taken_up);
        Ok(())
    }

    /// Takes out what a look told of before, and adds the UIDVALIDITY of a mailbox that went.
    /// Says whether anything is left.
    fn amend(
        &self,
        line: &Transaction,
        told: Option<&UidSet>,
        (act, uid): (u32, u32),
        seen: &mut Observation,
    ) -> bool {
        let told = told.filter(|told| !told.is_empty());
        match &mut seen.what {
            What::Delivered { .. } | What::Appended(_) => {
                !told.is_some_and(|told| told.contains(uid))
            }
            What::Expunged { uids, .. } | What::Expired { uids, .. } => {
                if let Some(told) = told {
                    *uids = UidSet::from_uids(uids.iter().filter(|uid| !told.contains(*uid)));
                }
                !uids.is_empty()
            }
            What::MailboxDeleted(mailbox) if mailbox.uid_validity.is_none() => {
                let name = line.acts.get(index(act)).and_then(Act::mailbox).unwrap_or_default();
                let place = self.names.place(&line.user, name);
                mailbox.uid_validity = self.validities.get(&place).copied();
                true
            }
            _ => true,
        }
    }

    /// Gives a mailbox that was made its UIDVALIDITY, without which it can't be told (R82), where
    /// the script couldn't look: others may have been at it in that instant. Where the server doesn't
    /// say it either, that something is missing is told.
    fn give_validity(&mut self, line: &Transaction, act: u32, seen: &mut Observation) {
        let What::MailboxCreated(made) = &mut seen.what else { return };
        if made.uid_validity.is_some() {
            return;
        }
        let name = line.acts.get(index(act)).and_then(Act::mailbox).unwrap_or_default();
        let (owner, name) = self.names.place(&line.user, name);
        let look = self.asker.as_mut().and_then(|asker| asker.stands(&owner, &name)).flatten();
        made.uid_validity = look.map(|look| look.uid_validity);
        if made.uid_validity.is_some() {
            self.reconcile.created(&owner, &name, made.uid_validity);
        } else {
            let reason = "it was made, and nobody says with which UIDVALIDITY".to_owned();
            seen.what = What::Missed { mailbox: Some(made.clone()), reason };
        }
    }

    /// The line of the same run that comes next, if it is read already.
    fn after(&self, ident: Ident, line: &Transaction) -> Option<Transaction> {
        let mut lines = self.spool.lines(ident).take(NEXT_AMONG);
        lines.find(|next| is_next(line, next))?.said.as_ref().ok().cloned()
    }

    /// Something that no line tells of: the server will say what it was, if it said how things
    /// stood before; else the hole is told.
    fn hole(&mut self, hole: Hole, at: Timestamp) {
        warn!(what = hole.reason(), "a hole in the spool");
        if self.asker.is_some() {
            // Somebody may have come to want them since they were asked for last.
            self.hear_flags();
            let shows_flags = self.reconcile.shows_flags(&hole.users, hole.since);
            let is_findable = match hole.users.as_slice() {
                [] => {
                    let are_few = self.reconcile.want_everything_if_few();
                    // Those who were never seen may have done something, too.
                    let is_of_known = !matches!(hole.what, Lost::Anything { .. });
                    is_of_known && are_few && self.reconcile.mailboxes() > 0
                }
                users => {
                    users.iter().for_each(|user| self.reconcile.want_user(user));
                    // Where one couldn't write, others couldn't either, and left no trace of it.
                    if matches!(hole.what, Lost::Lines { .. }) {
                        self.reconcile.want_everything_if_few();
                    }
                    users.iter().all(|user| self.reconcile.knows(user))
                }
            };
            if is_findable && shows_flags {
                if let Some(oldest) = self.open_holes.add(hole, at) {
                    self.tell_hole(&oldest, at);
                }
                return;
            }
        }
        self.tell_hole(&hole, at);
    }

    fn tell_hole(&mut self, hole: &Hole, at: Timestamp) {
        self.tell_of(hole, &hole.reason(), at);
    }

    fn tell_of(&mut self, hole: &Hole, reason: &str, at: Timestamp) {
        for missed in self.teller.hole(hole, reason, at) {
            self.push(missed);
        }
    }

    /// Tells holes that the server doesn't fill, and lets go of those it has filled.
    fn tend_holes(&mut self) {
        let at = now();
        for owner in self.reconcile.take_refused() {
            for hole in self.open_holes.refuse(&owner) {
                self.tell_hole(&hole, at);
            }
        }
        let reconcile = &self.reconcile;
        for hole in self.open_holes.fill(|users| reconcile.has_looked_at(users)) {
            if let Some(rest) = hole.rest() {
                self.tell_of(&hole, &rest, at);
            }
        }
        let window = i64::try_from(self.options.hole_window.as_millis()).unwrap_or(i64::MAX);
        self.tell_holes_older_than(window, at);
    }

    fn tell_holes_older_than(&mut self, window_millis: i64, at: Timestamp) {
        while let Some(hole) = self.open_holes.take_due(at, window_millis) {
            self.tell_hole(&hole, at);
        }
    }

    /// Whose process died is logged out, and may have done something nobody wrote down.
    fn died(&mut self, run: String, hole: Hole) {
        self.halves.remove(&run);
        for id in self.sessions.of_run(&run) {
            self.logged_out(&id, End::Died { at: now() });
        }
        self.pending.runs.insert(run);
        self.hole(hole, now());
    }

    /// Looks which processes are still there. Of one that is gone, what it wrote last is told
    /// first; had it ended as it should, its last line says so.
    fn look(&mut self) -> Result<(), Stopped> {
        if let Some(marks) =
            self.wake.take_if(|marks| marks.iter().all(|mark| self.spool.has_passed(*mark)))
        {
            drop(marks);
            while let Some((run, hole)) = self.runs.take_dead() {
                self.died(run, hole);
                if self.pending.is_full() {
                    self.flush()?;
                }
            }
        }
        if self.wake.is_none() && self.runs.look(process_began) {
            self.wake = Some(self.spool.ends());
        }
        if let Some(asker) = &mut self.asker {
            asker.tidy(Instant::now());
            if Instant::now() >= self.everything_at {
                self.everything_at = Instant::now() + EVERYTHING_INTERVAL;
                self.reconcile.want_everything_if_few();
            }
        }
        self.look_at_sleepers(Sleepers::All);
        self.tend_holes();
        Ok(())
    }

    /// Takes one step in finding what nobody wrote down: asks about a mailbox, or tells what the
    /// answers have that the spool hadn't. Gives when there is more to do.
    fn look_at_mailboxes(&mut self) -> Option<Instant> {
        let asker = self.asker.as_mut()?;
        let next = self.round.ask(&mut self.reconcile, asker, &*self.names, (now(), GRACE));
        asker.show_error(self.health);
        match next {
            Next::Rest => return None,
            Next::At(moment) => return Some(moment),
            Next::Settle => {}
        }
        if !self.round.is_marked() {
            self.read_on();
        }
        let looked = self.round.take(&self.spool)?;
        let server_fqdn = self.options.server_fqdn.as_deref();
        let names = Arc::clone(&self.names);
        let naming = Naming { scope: &*names, server_fqdn };
        for looked in looked {
            let is_holed = self.open_holes.concern(looked.owner());
            for seen in self.reconcile.settle(looked, is_holed, now(), &naming) {
                self.push(seen);
            }
        }
        self.tend_holes();
        Some(Instant::now())
    }

    /// Has what a line says remembered, so that a look finds nothing in it. Gives the messages
    /// of each act that a look told of before.
    fn note(&mut self, line: &Transaction) -> Vec<UidSet> {
        let mut told = vec![UidSet::new(); line.acts.len()];
        for (act, told) in line.acts.iter().zip(&mut told) {
            let (Some(name), val) = (act.mailbox(), act.val()) else { continue };
            let status = line.stands(name);
            let place = self.names.place(&line.user, name);
            if let Some(val) = val.or(status.val) {
                if self.validities.len() >= VALIDITIES_MAX {
                    self.validities.clear();
                }
                self.validities.insert(place.clone(), val);
            }
            if self.asker.is_none() {
                continue;
            }
            let (owner, name) = (&*place.0, &*place.1);
            match act {
                Act::Added { uids, flags, .. } => {
                    *told = self.reconcile.added(owner, name, (uids, flags), status);
                }
                Act::Expunged { uids, .. } => {
                    *told = self.reconcile.gone(owner, name, uids, status);
                }
                Act::Set { uids, .. } | Act::Cleared { uids, .. } => {
                    self.reconcile.flagged(owner, name, uids);
                }
                Act::Created { .. } => self.reconcile.created(owner, name, val.or(status.val)),
                Act::Deleted { .. } => self.reconcile.deleted(owner, name),
                Act::Renamed { old, .. } => {
                    let (from_owner, from) = self.names.place(&line.user, old);
                    if from_owner == owner {
                        self.reconcile.renamed(owner, &from, name, self.names.separator());
                    }
                }
                Act::Subscribed { .. }
                | Act::Unsubscribed { .. }
                | Act::LoggedIn
                | Act::LoggedOut { .. }
                | Act::Bye => {}
            }
        }
        if self.asker.is_some() && !line.user.is_empty() && !self.reconcile.knows(&line.user) {
            self.reconcile.want_user(&line.user);
        }
        told
    }

    /// Asks the server what it alone knows of a message.
    fn ask(
        &mut self,
        line: &Transaction,
        (act, uid): (u32, u32),
        seen: &mut Observation,
        answers: &mut Answers,
    ) {
        let demand = self.intake.demand();
        let Some(asker) = self.asker.as_mut().filter(|_| demand.may_come_of(&seen.what)) else {
            return;
        };
        let (What::Delivered { message, .. } | What::Appended(message)) = &mut seen.what else {
            return;
        };
        let Some(Act::Added { mailbox, uids, .. }) = line.acts.get(index(act)) else { return };
        if answers.act != act {
            *answers = Answers { act, ..Answers::default() };
        }
        let want = Want {
            body_structure: self.options.body_structure,
            content_max_octets: self.options.content_max_octets,
        };
        let want = want.by(demand);
        let (owner, name) = self.names.place(&line.user, mailbox);
        let whose = (&*owner, &*name, message.mailbox.uid_validity);
        if let Some(told) = answers.messages.take(asker, whose, (uids, uid), want) {
            message.size_octets = told.size_octets;
            message.modseq = told.modseq;
            message.body_structure = told.body_structure;
            message.content = told.content;
        }
    }

    /// Has the quota looked at of whoever's mail grew or shrank.
    fn note_quota(&mut self, line: &Transaction, by_policy: bool, taken_up: Instant) {
        if self.asker.is_none() {
            return;
        }
        let mut occasion = line.head();
        if by_policy && occasion.client.is_some() {
            // Dovecot took the occasion of a session; whoever's it was did nothing (R103).
            (occasion.client, occasion.auth) = (None, None);
            (occasion.service, occasion.server_ip) = (None, None);
        }
        for act in &line.acts {
            if let Act::Added { mailbox, .. } | Act::Expunged { mailbox, .. } = act {
                let (owner, name) = self.names.place(&line.user, mailbox);
                self.quotas_due.insert(owner, (name, occasion.clone(), taken_up));
            }
        }
    }

    fn look_at_quotas(&mut self) {
        for (owner, (mailbox, line, since)) in std::mem::take(&mut self.quotas_due) {
            let Some(asker) = &mut self.asker else { return };
            let quotas = asker.quota(&owner, &mailbox, since).unwrap_or_default();
            for (place, quota) in (0_u32..).zip(quotas) {
                let seen = self.teller.quota(&line, &owner, place, quota);
                self.pending.push(seen);
            }
        }
    }

    /// What is missed of mailboxes of which too much was told to remember it.
    fn tell_blinded(&mut self) {
        let names = Arc::clone(&self.names);
        let server_fqdn = self.options.server_fqdn.as_deref();
        let naming = Naming { scope: &*names, server_fqdn };
        let open_holes = &self.open_holes;
        let is_holed = |owner: &str| open_holes.concern(owner);
        for seen in self.reconcile.take_blinded(is_holed, now(), &naming) {
            self.push(seen);
        }
    }

    fn push(&mut self, seen: Observation) {
        if matches!(seen.what, What::Missed { .. }) {
            self.health.add(Count::Gaps, 1);
        }
        self.pending.push(seen);
    }

    /// Hands over what is told, and returns when it is durable.
    fn flush(&mut self) -> Result<(), Stopped> {
        self.look_at_quotas();
        self.tell_blinded();
        let Pending { observations, files, runs, sessions, mut changes, .. } =
            std::mem::take(&mut self.pending);
        changes
            .extend(files.into_iter().filter_map(|(ident, place)| self.spool.done(ident, place)));
        changes.extend(runs.iter().map(|run| self.runs.change(run)));
        changes.extend(sessions.iter().map(|id| self.sessions.change(id)));
        changes.extend(self.reconcile.drain_changes());
        changes.extend(self.open_holes.drain_changes());
        changes.extend(self.access.drain_changes());
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

/// What the server said of the messages of one act.
#[derive(Debug, Default)]
struct Answers {
    act: u32,
    messages: InTurn,
}

impl Pending {
    fn push(&mut self, seen: Observation) {
        self.octets += octets(&seen);
        self.observations.push(seen);
    }

    fn is_full(&self) -> bool {
        self.observations.len() >= OBSERVATIONS_MAX
            || self.octets >= OCTETS_MAX
            || self.runs.len() >= RUNS_MAX
    }
}

/// Where an act stands among its line's: they are counted from 1.
fn index(act: u32) -> usize {
    usize::try_from(act).unwrap_or(0).saturating_sub(1)
}

fn is_next(line: &Transaction, next: &Line<Transaction>) -> bool {
    next.said.as_ref().is_ok_and(|next| Runs::follows(line, next))
}

fn now() -> Timestamp {
    let millis = jiff::Timestamp::now().as_millisecond();
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Timestamp::new(instant, Offset::UTC)
}

fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// About how much memory an observation takes.
fn octets(seen: &Observation) -> usize {
    let Observation { identity: Identity(identity), what, .. } = seen;
    let more = match what {
        What::Delivered { message, .. } | What::Appended(message) => {
            let content = message.content.as_ref().map_or(0, |content| content.as_bytes().len());
            content + message.body_structure.as_ref().map_or(0, String::len)
        }
        What::Expunged { uids, .. }
        | What::Expired { uids, .. }
        | What::FlagsChanged { uids, .. } => uids.ranges().len() * 8,
        What::FlagsSet { groups, .. } => {
            groups.iter().map(|(uids, _)| 64 + uids.ranges().len() * 8).sum()
        }
        _ => 0,
    };
    identity.len() + more + 512
}

/// How often the folder is looked at beside inotify.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked which of Dovecot's processes are there.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Observations in one batch: enough that a commit to disk costs little for each.
const OBSERVATIONS_MAX: usize = 1_000;

/// Octets of observations in one batch, plus one observation's.
const OCTETS_MAX: usize = 1 << 20;

/// Among how many lines the one that follows in the same run is looked for: other processes write
/// between the two, but not many.
const NEXT_AMONG: usize = 256;

/// Runs touched in one batch, whether or not anything is told of them.
const RUNS_MAX: usize = 10_000;

/// How long a transaction may take from its commit to its line in the spool.
const GRACE: Duration = Duration::from_millis(300);

/// Mailboxes whose UIDVALIDITY is remembered, to be told when they go.
const VALIDITIES_MAX: usize = 50_000;
