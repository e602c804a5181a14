//! What may be told to whom, and what is owed to them, said as plainly as can be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::asked::{Asked, Event, Kind, Place, USERS, name, places};

/// What the store gives and when it did, what the hub knows of that, and what was delivered.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Grows with each change of rights: it is when a right is given, and when something says that
    /// one is lost.
    pub(super) epoch: u64,
    /// Since when there is a right, or none.
    rights: BTreeMap<(usize, Place), Vec<(u64, bool)>>,
    /// In which epoch each record came.
    came: BTreeMap<u64, u64>,
    /// Of which epoch the hub has noticed, about each user, that rights changed; and whatever was sent
    /// before that has arrived.
    noticed: [u64; USERS.len()],
    /// The rights that the hub knows of and has kept.
    firm: BTreeSet<(usize, Place)>,
    events: BTreeMap<u64, Event>,
    /// What each user may read all the time since it came, and the rights that this takes.
    owed: [BTreeMap<u64, Vec<Place>>; USERS.len()],
    pub(super) fails: [bool; USERS.len()],
    requests: [u64; USERS.len()],
    pub(super) leaks: Vec<String>,
    /// The numbers that each user's receiver took, but for those of gaps.
    taken: [BTreeSet<u64>; USERS.len()],
    /// The same with those of gaps, and the numbers that were said to be before each.
    before: [BTreeMap<u64, BTreeSet<u64>>; USERS.len()],
    /// From where on each user had it delivered once more: what was still to come before that isn't
    /// to come any more.
    replayed: [u64; USERS.len()],
    /// And in which epoch: nor is what was lost by then, which a dead letter may name all the same.
    replayed_in: [u64; USERS.len()],
    /// Up to which record a hub that was killed may have named what the next one doesn't know of.
    forgotten: [u64; USERS.len()],
}

impl Model {
    pub(super) fn gives(&self, user: usize, place: Place) -> bool {
        user == place.0
            || self.rights.get(&(user, place)).and_then(|all| all.last()).is_some_and(|one| one.1)
    }

    /// Whether the right was there at any time from an epoch on.
    fn gave_since(&self, user: usize, place: Place, from: u64) -> bool {
        let all = self.rights.get(&(user, place)).map_or(&[][..], Vec::as_slice);
        let ends = all.iter().skip(1).map(|one| one.0).chain([u64::MAX]);
        user == place.0 || all.iter().zip(ends).any(|(one, end)| one.1 && end > from)
    }

    /// Takes note that a right is given from now on, or isn't any more.
    pub(super) fn right(&mut self, user: usize, place: Place, given: bool) {
        self.epoch += 1;
        self.rights.entry((user, place)).or_default().push((self.epoch, given));
        // It may just have been learnt of the one before.
        self.unsettle(user, place);
    }

    /// Takes note that nothing is owed any more that takes a right, which changes.
    pub(super) fn unsettle(&mut self, user: usize, place: Place) {
        self.firm.remove(&(user, place));
        self.owed[user].retain(|_, takes| !takes.contains(&place));
    }

    /// Takes note that the hub knows of a right that was given in this epoch, where it was the last
    /// that became of it.
    pub(super) fn settle(&mut self, user: usize, place: Place, epoch: u64) {
        let last = self.rights.get(&(user, place)).and_then(|all| all.last());
        if last == Some(&(epoch, true)) {
            self.firm.insert((user, place));
        }
    }

    /// Takes note that nothing of what was decided before this epoch is on its way to a user.
    pub(super) fn notice(&mut self, user: usize, epoch: u64) {
        self.noticed[user] = self.noticed[user].max(epoch);
    }

    /// Takes note of what is about to be journalled.
    pub(super) fn happens(&mut self, number: u64, event: Event) {
        self.came.insert(number, self.epoch);
        self.events.insert(number, event);
        for user in 0..USERS.len() {
            let takes: Vec<_> = event.names().filter(|place| place.0 != user).collect();
            let is_told = event.place.0 == user || event.kind != Kind::Subscribe;
            if is_told && takes.iter().all(|place| self.firm.contains(&(user, *place))) {
                self.owed[user].insert(number, takes);
            }
        }
    }

    /// Takes note that a user has it all once more from this record on, and nothing before it.
    pub(super) fn replays(&mut self, user: usize, from: u64) {
        self.owed[user].retain(|seq, _| *seq >= from);
        self.replayed[user] = self.replayed[user].max(from);
        self.replayed_in[user] = self.epoch;
    }

    /// Takes note that whatever is delivered to a user from now on comes from one that begins anew: what
    /// was named before is named once more, or was lost meanwhile.
    pub(super) fn starts_over(&mut self, user: usize) {
        self.before[user].values_mut().for_each(BTreeSet::clear);
    }

    /// Takes note that a hub is killed before it was kept how far it had got about a user.
    pub(super) fn forgets(&mut self, user: usize) {
        self.forgotten[user] = self.came.keys().last().copied().unwrap_or(0);
    }

    /// Takes note of a request of these deliveries; whether it is taken. One in four always is: its
    /// receiver isn't to be taken for away.
    pub(super) fn requested(&mut self, user: usize, all: &[Value]) -> bool {
        self.requests[user] += 1;
        let is_taken = !self.fails[user] || self.requests[user].is_multiple_of(4);
        all.iter().for_each(|one| self.delivered(user, &one["data"], is_taken));
        is_taken
    }

    /// How many requests there were to a user.
    pub(super) fn requests(&self, user: usize) -> u64 {
        self.requests[user]
    }

    /// What a delivery tells of could be read since it came, and since the hub noticed last what
    /// can't be any more.
    fn delivered(&mut self, user: usize, data: &Value, is_taken: bool) {
        let seq = data["vnd.postbell.seq"].as_u64().unwrap();
        let from = self.came.get(&seq).copied().unwrap_or(0).max(self.noticed[user]);
        let text = data.to_string();
        let named = places().filter(|place| text.contains(&name(*place)));
        let unread = named.filter(|place| !self.gave_since(user, *place, from)).count();
        let is_beside = data["event"] == "MailboxSubscribe" && data["user"] != USERS[user];
        if unread > 0 || is_beside {
            let (to, epoch) = (USERS[user], self.epoch);
            self.leaks.push(format!("to {to} in epoch {epoch}, from {from}: {text}"));
        }
        if is_taken {
            let before = self.before[user].entry(seq).or_default();
            before.extend(data["vnd.postbell.prevSeq"].as_u64());
            if data["event"] != "vnd.postbell.Gap" {
                self.taken[user].insert(seq);
            }
        }
    }

    /// What a user got of what happened.
    pub(super) fn taken(&self, user: usize) -> BTreeSet<u64> {
        let taken = self.taken[user].iter().copied();
        taken.filter(|seq| self.events.contains_key(seq)).collect()
    }

    /// Forgets what they got.
    pub(super) fn forget(&mut self) {
        self.taken = Default::default();
    }

    /// What is owed to a user, whatever they got.
    pub(super) fn owed(&self, user: usize, asked: &Asked) -> BTreeSet<u64> {
        let owed = self.owed[user].keys().copied();
        owed.filter(|seq| asked.wants(*seq, &self.events[seq].seen_by(user))).collect()
    }

    /// Numbers of which a user was told that something was delivered under them, where nothing was and
    /// nothing was given up.
    pub(super) fn missing(&self, user: usize, given_up: &[u64]) -> Vec<(u64, u64)> {
        let all = &self.before[user];
        let named = all.iter().flat_map(|(seq, all)| all.iter().map(|before| (*seq, *before)));
        let named = named.filter(|(_, before)| *before >= self.replayed[user]);
        let is_there = |seq: &u64| all.contains_key(seq) || given_up.contains(seq);
        let is_void = |seq| {
            let is_forgotten = seq <= self.forgotten[user];
            let upto = if is_forgotten { u64::MAX } else { self.replayed_in[user] };
            self.is_lost_by(user, seq, upto)
        };
        named.filter(|(_, before)| !is_there(before) && !is_void(*before)).collect()
    }

    /// Whether a right that this takes was lost up to an epoch.
    fn is_lost_by(&self, user: usize, seq: u64, upto: u64) -> bool {
        let Some(event) = self.events.get(&seq) else { return false };
        let mut rights = event.names().filter_map(|place| self.rights.get(&(user, place)));
        rights.any(|all| all.iter().any(|(epoch, given)| !given && *epoch <= upto))
    }

    /// What a user is to get by the rights there are now: their own, and of others what is shared, but
    /// nothing that names what they may not read where that can't be left out.
    pub(super) fn due(&self, user: usize, asked: &Asked) -> BTreeSet<u64> {
        let is_told = |event: &Event| event.place.0 == user || event.kind != Kind::Subscribe;
        let may = |event: &Event| event.names().all(|place| self.gives(user, place));
        let due = self.events.iter().filter(|(_, event)| is_told(event) && may(event));
        due.filter(|(seq, event)| asked.wants(**seq, &event.seen_by(user)))
            .map(|(seq, _)| *seq)
            .collect()
    }
}
