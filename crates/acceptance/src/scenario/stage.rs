//! A store, a hub that hears it, and the record of a play.

use std::time::{Duration, Instant};

use mail_event::EventGroup;
use postbell_testkit::{Error, Imap};

use super::Account;
use super::store::{MARKER, MailStore};
use crate::{Bench, Told};

/// Where a scenario is played: does one thing after the other and writes down what is told.
#[derive(Debug)]
pub struct Stage<'a> {
    store: &'a dyn MailStore,
    bench: &'a mut Bench,
    marker: Imap,
    is_marked: bool,
    account: Account,
    text: String,
}

impl<'a> Stage<'a> {
    /// Begins in silence.
    ///
    /// # Errors
    /// Where the store doesn't let [`MARKER`] in.
    pub fn new(store: &'a dyn MailStore, bench: &'a mut Bench) -> Result<Self, Error> {
        let mut marker = store.imap(MARKER)?;
        marker.create(MARK)?;
        let account = Account::new(store.ports());
        let mut stage =
            Self { store, bench, marker, is_marked: false, account, text: String::new() };
        stage.hear_to_the_mark()?;
        Ok(stage)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &'a dyn MailStore {
        self.store
    }

    /// Does something, hears at least `count` events of the RFC's and whatever else is told of it,
    /// and writes it all down.
    ///
    /// # Errors
    /// What `act` says, or [`Error::Answer`] with everything until then where less is told.
    pub fn step(
        &mut self,
        what: &str,
        count: usize,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Vec<Told>, Error> {
        act()?;
        let begun = Instant::now();
        let mut told = self.hear_to_the_mark()?;
        let is_the_rfcs = |one: &&Told| one.event.name().group() != EventGroup::Vendor;
        while told.iter().filter(is_the_rfcs).count() < count {
            if begun.elapsed() > PATIENCE {
                self.write(what, &told);
                let error = Error::Answer {
                    expected: format!("{count} events of \"{what}\""),
                    answer: String::new(),
                };
                return Err(self.how_it_stands(&error));
            }
            // The store says some things late, such as the end of a session.
            std::thread::sleep(LATE);
            told.extend(self.hear_to_the_mark()?);
        }
        self.write(what, &told);
        Ok(told)
    }

    /// Does something that isn't part of the play: what is told of it is not written down.
    ///
    /// # Errors
    /// What `act` says.
    pub fn aside(&mut self, act: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        act()?;
        self.hear_to_the_mark().map(drop)
    }

    /// What was done and told.
    ///
    /// # Errors
    /// [`Error::Answer`] where an event isn't one.
    pub fn finish(mut self) -> Result<String, Error> {
        std::thread::sleep(LATE);
        let mut told = self.hear_to_the_mark()?;
        // Sessions end with the play, sooner or later.
        told.retain(|event| event.event.name().group() != EventGroup::Access);
        if !told.is_empty() {
            self.write("nothing more", &told);
        }
        Ok(self.text)
    }

    /// Everything told until a mark set now, but for the marks themselves.
    fn hear_to_the_mark(&mut self) -> Result<Vec<Told>, Error> {
        self.is_marked = !self.is_marked;
        match self.is_marked {
            true => self.marker.subscribe(MARK)?,
            false => self.marker.unsubscribe(MARK)?,
        }
        let mut told = Vec::new();
        loop {
            let heard = self.bench.hear(1).map_err(|error| self.how_it_stands(&error))?;
            let [event] = &heard[..] else { continue };
            if event.owner() != Some(MARKER) && event.event.user() != Some(MARKER) {
                told.push(event.clone());
            } else if event.event.name().group() == EventGroup::Subscription {
                return Ok(told);
            }
        }
    }

    /// An error with what a person needs to find its cause.
    fn how_it_stands(&self, error: &Error) -> Error {
        let sources = self.bench.get("/v1/sources").map(|answer| answer.body);
        let sources = sources.unwrap_or_else(|error| error.to_string());
        Error::Answer {
            expected: error.to_string(),
            answer: format!(
                "\n--- told ---\n{}--- the hub ---\n{sources}\n--- the store ---\n{}",
                self.text,
                self.store.log()
            ),
        }
    }

    fn write(&mut self, what: &str, told: &[Told]) {
        self.text.push_str(&format!("> {what}\n"));
        for event in told {
            self.text.push_str(&self.account.of(event));
        }
    }
}

/// The marker's mailbox.
const MARK: &str = "mark";
/// How long a store may take to say what it says late.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two times of listening for what comes late.
const LATE: Duration = Duration::from_millis(200);
