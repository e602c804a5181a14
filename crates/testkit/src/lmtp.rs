//! Just enough LMTP (RFC 2033) to deliver.

use std::net::SocketAddr;

use crate::Error;
use crate::wire::Wire;

/// A session with a delivery server.
#[derive(Debug)]
pub struct Lmtp {
    wire: Wire,
}

impl Lmtp {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, Error> {
        let mut session = Self { wire: Wire::connect(address)? };
        session.answer("the greeting")?;
        session.command("LHLO client.example.net")?;
        Ok(session)
    }

    /// Delivers one message to one recipient.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's words, such as `552 5.2.2 … Quota exceeded`.
    pub fn deliver(&mut self, from: &str, to: &str, message: &[u8]) -> Result<(), Error> {
        self.command(&format!("MAIL FROM:<{from}>"))?;
        self.command(&format!("RCPT TO:<{to}>"))?;
        self.command("DATA")?;
        self.wire.send(&stuffed(message))?;
        self.answer("DATA's end")?;
        Ok(())
    }

    /// Delivers one message to several recipients, and gives the server's answer for each: to RCPT
    /// where it refused there, else to the message.
    ///
    /// `from` and `to` are what stands after `MAIL FROM:` and `RCPT TO:`, so they may carry
    /// parameters: `<a@example.net> BODY=8BITMIME`.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server refuses MAIL, or DATA as such.
    pub fn transact(
        &mut self,
        from: &str,
        to: &[&str],
        message: &[u8],
    ) -> Result<Vec<String>, Error> {
        self.command(&format!("MAIL FROM:{from}"))?;
        let mut answers = Vec::new();
        for recipient in to {
            answers.push(match self.command(&format!("RCPT TO:{recipient}")) {
                Ok(_) => None,
                Err(Error::Refused { answer, .. }) => Some(answer),
                Err(error) => return Err(error),
            });
        }
        if answers.iter().any(Option::is_none) {
            self.command("DATA")?;
            self.wire.send(&stuffed(message))?;
        }
        answers
            .into_iter()
            .map(|refusal| match refusal {
                Some(refusal) => Ok(refusal),
                None => match self.answer("DATA's end") {
                    Err(Error::Refused { answer, .. }) => Ok(answer),
                    outcome => outcome,
                },
            })
            .collect()
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`Error::Io`] where the connection broke.
    pub fn quit(mut self) -> Result<(), Error> {
        self.command("QUIT").map(drop)
    }

    fn command(&mut self, command: &str) -> Result<String, Error> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.answer(command)
    }

    /// The last line of an answer, which must not be a refusal.
    fn answer(&mut self, command: &str) -> Result<String, Error> {
        loop {
            let line = self.wire.line()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            if line.starts_with('2') || line.starts_with('3') {
                return Ok(line);
            }
            return Err(Error::Refused { command: command.to_owned(), answer: line });
        }
    }
}

/// The message with its leading dots doubled, and the dot that ends it.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_dot_gets_another() {
        assert_eq!(stuffed(b"a\r\n.b\r\n"), b"a\r\n..b\r\n.\r\n");
    }
}
