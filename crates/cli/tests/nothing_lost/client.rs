//! A person at work, who writes down what the server answered with OK.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mail_event::UidSet;
use postbell_testkit::{Answer, Error, Imap, mail};

use crate::bench::Server;
use crate::facts::{self, Ledger};

/// A client with mailboxes of its own, and messages of its own in the user's INBOX.
pub(crate) struct Client<'a> {
    server: &'a dyn Server,
    user: &'static str,
    name: String,
    dice: fastrand::Rng,
    imap: Imap,
    places: Vec<Place>,
    /// Which of them is open.
    open: usize,
    /// Mailboxes that come, change their names and go.
    others: Vec<String>,
    /// Names and markers given so far.
    given: u32,
    ok: Ledger,
}

/// A mailbox, and this client's messages in it with their flags.
struct Place {
    mailbox: String,
    messages: BTreeMap<u32, BTreeSet<&'static str>>,
}

impl<'a> Client<'a> {
    /// Logs in, and makes the mailboxes that `name` begins.
    pub(crate) fn begin(
        server: &'a dyn Server,
        user: &'static str,
        name: String,
        dice: fastrand::Rng,
    ) -> Result<Self, Error> {
        let imap = server.imap(user)?;
        let names = ["INBOX".to_owned(), format!("{name} in"), format!("{name} out")];
        let place = |mailbox| Place { mailbox, messages: BTreeMap::new() };
        let places = names.map(place).into();
        let (open, others, given, ok) = (0, Vec::new(), 0, Ledger::default());
        let mut client = Self { server, user, name, dice, imap, places, open, others, given, ok };
        client.ok.note(facts::login(user));
        for at in [1, 2] {
            let name = client.places[at].mailbox.clone();
            client.places[at].mailbox = client.create(name)?;
        }
        client.open(1)?;
        Ok(client)
    }

    /// What was answered with OK so far.
    pub(crate) fn ok(self) -> Ledger {
        self.ok
    }

    /// Logs out.
    pub(crate) fn end(mut self) -> Result<Ledger, Error> {
        self.imap.logout()?;
        self.ok.note(facts::logout(self.user));
        Ok(self.ok)
    }

    /// Does one thing.
    pub(crate) fn act(&mut self) -> Result<(), Error> {
        match self.dice.u32(0..100) {
            0..25 => self.append(),
            25..35 => self.append_many(),
            35..60 => self.flag(),
            60..68 => self.copy(),
            68..76 => self.move_on(),
            76..86 => self.expunge(),
            86..94 => self.rearrange(),
            94..97 => {
                let at = self.dice.usize(0..3);
                self.open(at)
            }
            _ => self.come_back(),
        }
    }

    /// Sets a flag that isn't set, or clears one that is.
    pub(crate) fn change_flag(&mut self) -> Result<(), Error> {
        let Some(uids) = self.some_messages(1) else { return self.append() };
        let flag = self.a_flag();
        let is_set = self.places[self.open].messages[&uids[0]].contains(flag);
        self.store(&uids, flag, !is_set)
    }

    /// Copies so many messages at once.
    pub(crate) fn heap(&mut self, messages: usize) -> Result<(), Error> {
        self.fill(messages)?;
        let uids: Vec<u32> = self.places[1].messages.keys().copied().take(messages).collect();
        self.copy_these(&uids, 2, "COPY")
    }

    /// Brings so many messages, where there are less.
    pub(crate) fn fill(&mut self, messages: usize) -> Result<(), Error> {
        if self.places[1].messages.len() < messages {
            // Cyrus takes but a few that are the same.
            let texts: Vec<_> = (0..messages).map(|_| mail::plain(&self.next())).collect();
            let many: Vec<(&str, &[u8])> = texts.iter().map(|text| ("", &**text)).collect();
            let uids = self.imap.append_many(&self.places[1].mailbox.clone(), &many)?;
            self.keep(1, uids_of(&uids)?.iter(), &BTreeSet::new());
        }
        self.open(1)
    }

    fn open(&mut self, at: usize) -> Result<(), Error> {
        self.imap.select(&self.places[at].mailbox)?;
        self.open = at;
        Ok(())
    }

    fn append(&mut self) -> Result<(), Error> {
        let at = self.dice.usize(0..3);
        let flags: BTreeSet<_> = (0..self.dice.usize(0..3)).map(|_| self.a_flag()).collect();
        let text = flags.iter().copied().collect::<Vec<_>>().join(" ");
        let message = mail::plain(&self.next());
        let uid = self.imap.append(&self.places[at].mailbox, &text, &message)?;
        self.keep(at, [uid], &flags);
        Ok(())
    }

    fn append_many(&mut self) -> Result<(), Error> {
        let at = self.dice.usize(0..3);
        let message = mail::plain(&self.next());
        let many: Vec<(&str, &[u8])> = vec![("\\Flagged", &message); self.dice.usize(2..6)];
        let uids = self.imap.append_many(&self.places[at].mailbox, &many)?;
        self.keep(at, uids_of(&uids)?.iter(), &BTreeSet::from(["\\Flagged"]));
        Ok(())
    }

    fn flag(&mut self) -> Result<(), Error> {
        let Some(uids) = self.some_messages(6) else { return self.append() };
        let (flag, is_set) = (self.a_flag(), self.dice.bool());
        self.store(&uids, flag, is_set)
    }

    fn store(&mut self, uids: &[u32], flag: &'static str, is_set: bool) -> Result<(), Error> {
        let change = if is_set { "+FLAGS" } else { "-FLAGS" };
        let answer = self.imap.command(&format!("UID STORE {} {change} ({flag})", listed(uids)))?;
        let (user, place) = (self.user, &mut self.places[self.open]);
        let mut changed = Vec::new();
        for uid in uids {
            let flags = place.messages.get_mut(uid).unwrap();
            // What was so already is no change, and so no event (R62).
            if is_set && flags.insert(flag) {
                self.ok.note(facts::set(user, &place.mailbox, *uid, flag));
                changed.push(*uid);
            } else if !is_set && flags.remove(flag) {
                self.ok.note(facts::cleared(user, &place.mailbox, *uid, flag));
                changed.push(*uid);
            }
        }
        assert_named(&answer, &changed);
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Error> {
        let Some(uids) = self.some_messages(4) else { return self.append() };
        let to = (self.open + self.dice.usize(1..3)) % 3;
        self.copy_these(&uids, to, "COPY")
    }

    fn move_on(&mut self) -> Result<(), Error> {
        let Some(uids) = self.some_messages(4) else { return self.append() };
        let to = (self.open + self.dice.usize(1..3)) % 3;
        self.copy_these(&uids, to, "MOVE")?;
        self.lose(&uids);
        Ok(())
    }

    fn copy_these(&mut self, uids: &[u32], to: usize, how: &str) -> Result<(), Error> {
        let mailbox = self.places[to].mailbox.clone();
        let answer = self.imap.command(&format!("UID {how} {} \"{mailbox}\"", listed(uids)))?;
        let arrived = copied_to(&answer)?;
        assert_eq!(arrived.len(), uids.len(), "{answer:?}");
        for (from, uid) in uids.iter().zip(arrived) {
            let flags = self.places[self.open].messages[from].clone();
            self.keep(to, [uid], &flags);
        }
        Ok(())
    }

    fn expunge(&mut self) -> Result<(), Error> {
        let Some(uids) = self.some_messages(3) else { return self.append() };
        self.store(&uids, "\\Deleted", true)?;
        self.imap.expunge_uids(&listed(&uids))?;
        self.lose(&uids);
        Ok(())
    }

    fn rearrange(&mut self) -> Result<(), Error> {
        let deed = self.dice.u32(0..5);
        let other = match self.others.len() {
            0 => None,
            many => Some(self.dice.usize(0..many)),
        };
        let user = self.user;
        match (deed, other) {
            (0, _) | (_, None) => {
                let name = self.next_child();
                let mailbox = self.create(name)?;
                self.others.push(mailbox);
            }
            (1, Some(at)) => {
                let message = mail::plain(&self.next());
                let uid = self.imap.append(&self.others[at], "", &message)?;
                self.ok.note(facts::added(user, &self.others[at], uid));
            }
            (2, Some(at)) => {
                let to = self.next_child();
                self.imap.rename(&self.others[at], &to)?;
                self.ok.note(facts::renamed(user, &self.others[at], &to));
                self.others[at] = to;
            }
            (3, Some(at)) => {
                let mailbox = &self.others[at];
                self.imap.subscribe(mailbox)?;
                self.ok.note(facts::mailbox(user, "subscribed", mailbox));
                self.imap.unsubscribe(mailbox)?;
                self.ok.note(facts::mailbox(user, "unsubscribed", mailbox));
            }
            (_, Some(at)) => {
                let mailbox = self.others.swap_remove(at);
                self.imap.delete(&mailbox)?;
                self.ok.note(facts::mailbox(user, "deleted", &mailbox));
            }
        }
        Ok(())
    }

    /// Makes a mailbox of that name, or of a longer one.
    ///
    /// In a Maildir, Dovecot refuses a CREATE as ALREADYEXISTS where another session, such as
    /// postbell's, asks for the new mailbox's STATUS before all of its folders are made: it is there
    /// then, and nobody wrote it down.
    fn create(&mut self, mut name: String) -> Result<String, Error> {
        loop {
            match self.imap.create(&name) {
                Ok(()) => {
                    self.ok.note(facts::mailbox(self.user, "created", &name));
                    return Ok(name);
                }
                Err(Error::Refused { answer, .. }) if answer.contains("[ALREADYEXISTS]") => {
                    self.ok.note_maybe(facts::mailbox(self.user, "created", &name));
                    name.push('x');
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Logs out and in again.
    fn come_back(&mut self) -> Result<(), Error> {
        let next = self.server.imap(self.user)?;
        self.ok.note(facts::login(self.user));
        std::mem::replace(&mut self.imap, next).logout()?;
        self.ok.note(facts::logout(self.user));
        self.open(self.open)
    }

    fn keep(
        &mut self,
        at: usize,
        uids: impl IntoIterator<Item = u32>,
        flags: &BTreeSet<&'static str>,
    ) {
        let place = &mut self.places[at];
        for uid in uids {
            self.ok.note(facts::added(self.user, &place.mailbox, uid));
            place.messages.insert(uid, flags.clone());
        }
    }

    fn lose(&mut self, uids: &[u32]) {
        let place = &mut self.places[self.open];
        for uid in uids {
            place.messages.remove(uid);
            self.ok.note(facts::gone(self.user, &place.mailbox, *uid));
        }
    }

    /// Some of this client's messages in the open mailbox, in order.
    fn some_messages(&mut self, many: usize) -> Option<Vec<u32>> {
        let all: Vec<u32> = self.places[self.open].messages.keys().copied().collect();
        let mut some = self.dice.choose_multiple(all, many);
        some.sort_unstable();
        (!some.is_empty()).then_some(some)
    }

    fn a_flag(&mut self) -> &'static str {
        FLAGS[self.dice.usize(0..FLAGS.len())]
    }

    fn next_child(&mut self) -> String {
        let name = self.next();
        format!("{}/{name}", self.name)
    }

    fn next(&mut self) -> String {
        self.given += 1;
        format!("{}-{}", self.name, self.given)
    }
}

/// OK alone doesn't say that a message was there to be changed.
fn assert_named(answer: &Answer, uids: &[u32]) {
    let lines: Vec<_> =
        answer.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    for uid in uids {
        let wanted = [format!("(UID {uid} "), format!(" UID {uid})"), format!(" UID {uid} ")];
        let is_named = lines.iter().any(|line| wanted.iter().any(|text| line.contains(text)));
        assert!(is_named, "{uid}: {lines:?}");
    }
}

/// Where COPYUID (RFC 4315) says messages arrived, in the order of what they were copied from.
fn copied_to(answer: &Answer) -> Result<Vec<u32>, Error> {
    let lines = answer.untagged.iter().map(|line| String::from_utf8_lossy(line));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    let _written = write!(text, "\n{}", answer.tagged);
    let set = text
        .split_once("COPYUID ")
        .and_then(|(_, rest)| rest.split_once(']'))
        .and_then(|(code, _)| code.split(' ').nth(2).map(str::to_owned));
    let set = set.ok_or_else(|| Error::Answer { expected: "COPYUID".to_owned(), answer: text })?;
    uids_of(&set).map(|uids| uids.iter().collect())
}

fn uids_of(text: &str) -> Result<UidSet, Error> {
    let odd = |_| Error::Answer { expected: "a UID set".to_owned(), answer: text.to_owned() };
    text.parse().map_err(odd)
}

fn listed(uids: &[u32]) -> String {
    uids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

const FLAGS: [&str; 6] = ["\\Seen", "\\Flagged", "\\Answered", "$Work", "$Home", "$Later"];
