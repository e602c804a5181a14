//! Just enough POP3 (RFC 1939) to fetch and remove mail.

use std::net::SocketAddr;

use crate::Error;
use crate::wire::Wire;

/// A session in which somebody has logged in.
#[derive(Debug)]
pub struct Pop3 {
    wire: Wire,
}

impl Pop3 {
    pub(crate) fn login(address: SocketAddr, user: &str, password: &str) -> Result<Self, Error> {
        let mut session = Self { wire: Wire::connect(address)? };
        session.answer("the greeting")?;
        session.command(&format!("USER {user}"))?;
        session.command(&format!("PASS {password}"))?;
        Ok(session)
    }

    /// How many messages there are.
    ///
    /// # Errors
    /// [`Error::Answer`] where the server doesn't say.
    pub fn count(&mut self) -> Result<u32, Error> {
        let answer = self.command("STAT")?;
        let count = answer.split(' ').nth(1).and_then(|digits| digits.parse().ok());
        count.ok_or_else(|| Error::Answer { expected: "a count".to_owned(), answer })
    }

    /// Fetches a message, counted from 1.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none such.
    pub fn retrieve(&mut self, number: u32) -> Result<Vec<u8>, Error> {
        self.command(&format!("RETR {number}"))?;
        let mut message = Vec::new();
        loop {
            let line = self.wire.line()?;
            if line == b"." {
                return Ok(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            message.extend_from_slice(b"\r\n");
        }
    }

    /// Marks a message, counted from 1, to go when the session ends as it should.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none such.
    pub fn delete(&mut self, number: u32) -> Result<(), Error> {
        self.command(&format!("DELE {number}")).map(drop)
    }

    /// Goes without a word, and with a reset of the connection in place of its end.
    ///
    /// # Errors
    /// [`Error::Io`] where the connection can't be told to.
    pub fn cut(self) -> Result<(), Error> {
        self.wire.cut()
    }

    /// Takes all marks back.
    ///
    /// # Errors
    /// [`Error::Io`] where the connection broke.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.command("RSET").map(drop)
    }

    /// Ends the session as it should; marked messages go.
    ///
    /// # Errors
    /// [`Error::Refused`] where they couldn't.
    pub fn quit(mut self) -> Result<(), Error> {
        self.command("QUIT").map(drop)
    }

    /// Sends any command, and gives the first line of its answer.
    ///
    /// # Errors
    /// [`Error::Refused`] where that isn't `+OK`.
    pub fn command(&mut self, command: &str) -> Result<String, Error> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.answer(command)
    }

    fn answer(&mut self, command: &str) -> Result<String, Error> {
        let line = self.wire.line()?;
        let answer = String::from_utf8_lossy(&line).into_owned();
        if answer.starts_with("+OK") {
            return Ok(answer);
        }
        Err(Error::Refused { command: command.to_owned(), answer })
    }
}
