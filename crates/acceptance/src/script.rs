//! A play and what the audience heard.

use std::fmt::Write;

use postbell_testkit::Error;

use crate::scenario::Account;
use crate::{Bench, Told};

/// Does one thing after the other and writes down what is told of each.
#[derive(Debug)]
pub struct Script<'a> {
    bench: &'a mut Bench,
    account: Account,
    text: String,
}

impl<'a> Script<'a> {
    /// Begins with silence.
    #[must_use]
    pub fn new(bench: &'a mut Bench) -> Self {
        Self { bench, account: Account::new(Vec::new()), text: String::new() }
    }

    /// Does something of which `count` events are to be told.
    ///
    /// # Errors
    /// What `act` says, or [`Error::Answer`] with what was told until then.
    pub fn step(
        &mut self,
        what: &str,
        count: usize,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        act()?;
        let told = self.bench.hear(count).map_err(|error| self.so_far(what, &error))?;
        self.write(what, told);
        Ok(())
    }

    /// Does something and takes whatever is told of it until silence.
    ///
    /// # Errors
    /// What `act` says.
    pub fn settle(
        &mut self,
        what: &str,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.settle_with(what, |_| act())
    }

    /// The same with something done to the bench itself.
    ///
    /// # Errors
    /// What `act` says.
    pub fn settle_with(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Bench) -> Result<(), Error>,
    ) -> Result<(), Error> {
        act(self.bench)?;
        let told = self.bench.hear_out()?;
        self.write(what, told);
        Ok(())
    }

    /// What was done and told, once nothing more is.
    ///
    /// # Errors
    /// [`Error::Answer`] where an event isn't one.
    pub fn finish(mut self) -> Result<String, Error> {
        let told = self.bench.hear_out()?;
        self.write("nothing more", told);
        Ok(self.text)
    }

    fn write(&mut self, what: &str, told: Vec<Told>) {
        let mut events: Vec<String> = told.iter().map(|told| self.account.of(told)).collect();
        // Mailboxes are looked at in no particular order.
        events.sort();
        self.text.push_str("> ");
        self.text.push_str(what);
        self.text.push('\n');
        self.text.extend(events);
    }

    fn so_far(&self, what: &str, error: &Error) -> Error {
        let mut answer = self.text.clone();
        // Writing to a string can't fail.
        let _written = write!(answer, "> {what}\n{error}");
        Error::Answer { expected: "what the play foretells".to_owned(), answer }
    }
}
