//! Just enough IMAP (RFC 3501 with UIDPLUS and MOVE) to do what a person's mail program does.

use std::net::SocketAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::Error;
use crate::items;
use crate::wire::Wire;

/// A logged-in session.
///
/// Mailbox names go as they are: encode names outside ASCII in modified UTF-7 first.
#[derive(Debug)]
pub struct Imap {
    wire: Wire,
    commands: u32,
}

impl Imap {
    pub(crate) fn login(address: SocketAddr, user: &str, password: &str) -> Result<Self, Error> {
        let mut session = Self { wire: Wire::connect(address)?, commands: 0 };
        session.wire.line()?;
        session.command(&format!("LOGIN {} {}", quoted(user), quoted(password)))?;
        Ok(session)
    }

    /// Logs in with `login`'s own password and acts as `user` (RFC 4616).
    pub(crate) fn authenticate(
        address: SocketAddr,
        user: &str,
        login: &str,
        password: &str,
    ) -> Result<Self, Error> {
        let mut session = Self { wire: Wire::connect(address)?, commands: 0 };
        session.wire.line()?;
        let response = BASE64_STANDARD.encode(format!("{user}\0{login}\0{password}"));
        session.command(&format!("AUTHENTICATE PLAIN {response}"))?;
        Ok(session)
    }

    /// Whether something at `address` greets as IMAP servers do.
    pub(crate) fn greet(address: SocketAddr) -> Result<(), Error> {
        Wire::connect(address)?.line().map(drop)
    }

    /// Opens a mailbox for reading and writing.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none such.
    pub fn select(&mut self, mailbox: &str) -> Result<Mailbox, Error> {
        let answer = self.command(&format!("SELECT {}", quoted(mailbox)))?;
        let uid_validity = code(&answer.untagged, "UIDVALIDITY ")?;
        let exists = answer.untagged.iter().find_map(|line| {
            let text = String::from_utf8_lossy(line);
            text.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok()
        });
        Ok(Mailbox { uid_validity, exists: exists.unwrap_or(0) })
    }

    /// Puts a message into a mailbox with these flags, and says its UID there.
    ///
    /// # Errors
    /// [`Error::Refused`], for example over quota.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) -> Result<u32, Error> {
        let command = format!("APPEND {} ({flags})", quoted(mailbox));
        let tag = self.tag();
        self.literal(&format!("{tag} {command}"), &command, message)?;
        self.wire.send(b"\r\n")?;
        let answer = self.answer(&tag, &command)?;
        number_after(&answer.tagged, "APPENDUID ", 1)
    }

    /// Puts several messages with their flags into a mailbox at once (MULTIAPPEND, RFC 3502), and
    /// says their UIDs there as a set.
    ///
    /// # Errors
    /// [`Error::Refused`] for all of them.
    pub fn append_many(
        &mut self,
        mailbox: &str,
        messages: &[(&str, &[u8])],
    ) -> Result<String, Error> {
        let command = format!("APPEND {}", quoted(mailbox));
        let tag = self.tag();
        self.wire.send(format!("{tag} {command}").as_bytes())?;
        for (flags, message) in messages {
            self.literal(&format!(" ({flags})"), &command, message)?;
        }
        self.wire.send(b"\r\n")?;
        let answer = self.answer(&tag, &command)?;
        word_after(&answer.tagged, "APPENDUID ", 1).map(str::to_owned)
    }

    /// Adds, takes or sets flags: `change` is `+FLAGS`, `-FLAGS` or `FLAGS`.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server refuses a flag.
    pub fn store(&mut self, uids: &str, change: &str, flags: &str) -> Result<(), Error> {
        self.command(&format!("UID STORE {uids} {change} ({flags})")).map(drop)
    }

    /// Copies messages of the open mailbox to another.
    ///
    /// # Errors
    /// [`Error::Refused`] where that mailbox is missing.
    pub fn copy(&mut self, uids: &str, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("UID COPY {uids} {}", quoted(mailbox))).map(drop)
    }

    /// Moves messages of the open mailbox to another (RFC 6851).
    ///
    /// # Errors
    /// [`Error::Refused`] where that mailbox is missing.
    pub fn move_to(&mut self, uids: &str, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("UID MOVE {uids} {}", quoted(mailbox))).map(drop)
    }

    /// Removes the messages that have `\Deleted` from the open mailbox.
    ///
    /// # Errors
    /// [`Error::Refused`] where no mailbox is open.
    pub fn expunge(&mut self) -> Result<(), Error> {
        self.command("EXPUNGE").map(drop)
    }

    /// Removes those of these messages that have `\Deleted` from the open mailbox (UIDPLUS).
    ///
    /// # Errors
    /// [`Error::Refused`] where no mailbox is open.
    pub fn expunge_uids(&mut self, uids: &str) -> Result<(), Error> {
        self.command(&format!("UID EXPUNGE {uids}")).map(drop)
    }

    /// Leaves the open mailbox; what has `\Deleted` goes.
    ///
    /// # Errors
    /// [`Error::Refused`] where no mailbox is open.
    pub fn close(&mut self) -> Result<(), Error> {
        self.command("CLOSE").map(drop)
    }

    /// Makes a mailbox.
    ///
    /// # Errors
    /// [`Error::Refused`] where the name is taken or forbidden.
    pub fn create(&mut self, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("CREATE {}", quoted(mailbox))).map(drop)
    }

    /// Gives a mailbox, and so its children, another name.
    ///
    /// # Errors
    /// [`Error::Refused`] where the name is taken or forbidden.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.command(&format!("RENAME {} {}", quoted(from), quoted(to))).map(drop)
    }

    /// Removes a mailbox.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none such.
    pub fn delete(&mut self, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("DELETE {}", quoted(mailbox))).map(drop)
    }

    /// Puts a name on the subscription list.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server wants the mailbox to exist.
    pub fn subscribe(&mut self, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("SUBSCRIBE {}", quoted(mailbox))).map(drop)
    }

    /// Takes a name off the subscription list.
    ///
    /// # Errors
    /// [`Error::Refused`] where it isn't on it.
    pub fn unsubscribe(&mut self, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("UNSUBSCRIBE {}", quoted(mailbox))).map(drop)
    }

    /// Asks for a mailbox's counts without opening it.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none such.
    pub fn status(&mut self, mailbox: &str) -> Result<Status, Error> {
        let items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)";
        let answer = self.command(&format!("STATUS {} {items}", quoted(mailbox)))?;
        let line = answer.untagged.iter().find(|line| line.starts_with(b"* STATUS "));
        let inside = line.and_then(|line| inside(line)).unwrap_or_default();
        let pairs = items::pairs(inside);
        let number = |name: &str| number(&pairs, name);
        Ok(Status {
            messages: number("MESSAGES")?,
            uidnext: number("UIDNEXT")?,
            uid_validity: number("UIDVALIDITY")?,
            unseen: number("UNSEEN")?,
        })
    }

    /// Fetches what events may carry of the messages of the open mailbox, without reading them.
    ///
    /// # Errors
    /// [`Error::Answer`] where the server leaves something out.
    pub fn fetch(&mut self, uids: &str) -> Result<Vec<Fetched>, Error> {
        let items = "(UID FLAGS RFC822.SIZE BODYSTRUCTURE BODY.PEEK[])";
        let answer = self.command(&format!("UID FETCH {uids} {items}"))?;
        answer.untagged.iter().filter_map(|line| inside(line)).map(fetched).collect()
    }

    /// Asks for items of STATUS, such as `MESSAGES HIGHESTMODSEQ`, and gives them with their
    /// values.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such mailbox or item.
    pub fn status_items(
        &mut self,
        mailbox: &str,
        items: &str,
    ) -> Result<Vec<(String, u64)>, Error> {
        let answer = self.command(&format!("STATUS {} ({items})", quoted(mailbox)))?;
        let line = answer.untagged.iter().find(|line| line.starts_with(b"* STATUS "));
        let pairs = items::pairs(line.and_then(|line| inside(line)).unwrap_or_default());
        pairs.iter().map(|(name, _)| Ok((name.clone(), number(&pairs, name)?))).collect()
    }

    /// Gives `who` these rights on a mailbox (RFC 4314).
    ///
    /// # Errors
    /// [`Error::Refused`] where the user isn't the mailbox's administrator.
    pub fn set_acl(&mut self, mailbox: &str, who: &str, rights: &str) -> Result<(), Error> {
        let (mailbox, who) = (quoted(mailbox), quoted(who));
        self.command(&format!("SETACL {mailbox} {who} {rights}")).map(drop)
    }

    /// Takes all rights of `who` on a mailbox (RFC 4314).
    ///
    /// # Errors
    /// [`Error::Refused`] where the user isn't the mailbox's administrator.
    pub fn delete_acl(&mut self, mailbox: &str, who: &str) -> Result<(), Error> {
        self.command(&format!("DELETEACL {} {}", quoted(mailbox), quoted(who))).map(drop)
    }

    /// Asks for the quota of a mailbox (RFC 9208): the resources of all its roots, such as
    /// `STORAGE`.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such mailbox.
    pub fn quota(&mut self, mailbox: &str) -> Result<Vec<Resource>, Error> {
        let answer = self.command(&format!("GETQUOTAROOT {}", quoted(mailbox)))?;
        let lines = answer.untagged.iter().filter(|line| line.starts_with(b"* QUOTA "));
        let mut resources = Vec::new();
        for line in lines {
            let text = String::from_utf8_lossy(inside(line).unwrap_or_default()).into_owned();
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            for of_one in words.chunks_exact(3) {
                let [name, usage, limit] = of_one else { continue };
                let number = |digits: &str| {
                    digits.parse().map_err(|_| Error::Answer {
                        expected: "usage and limit".to_owned(),
                        answer: text.clone(),
                    })
                };
                let (usage, limit) = (number(usage)?, number(limit)?);
                resources.push(Resource { name: (*name).to_owned(), usage, limit });
            }
        }
        Ok(resources)
    }

    /// Redeems an authorised URL (URLFETCH, RFC 4467): the octets it stands for, or nothing where it
    /// opens nothing to this user.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server doesn't know how; [`Error::Answer`] where it says neither.
    pub fn url_fetch(&mut self, url: &str) -> Result<Option<Vec<u8>>, Error> {
        let answer = self.command(&format!("URLFETCH {}", quoted(url)))?;
        for line in &answer.untagged {
            let Some(rest) = line.strip_prefix(b"* URLFETCH ") else { continue };
            let Some((_, rest)) = items::value(rest) else { continue };
            let octets = items::value(rest).map(|(octets, _)| octets);
            return Ok(octets.filter(|octets| octets != b"NIL").map(<[u8]>::to_vec));
        }
        let lines: Vec<_> =
            answer.untagged.iter().map(|line| String::from_utf8_lossy(line)).collect();
        Err(Error::Answer { expected: "URLFETCH".to_owned(), answer: lines.join("\n") })
    }

    /// Takes back whatever was authorised in a mailbox (RESETKEY, RFC 4467).
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such mailbox.
    pub fn reset_key(&mut self, mailbox: &str) -> Result<(), Error> {
        self.command(&format!("RESETKEY {}", quoted(mailbox))).map(drop)
    }

    /// Waits for news of the open mailbox until [`Imap::done`] (RFC 2177).
    ///
    /// # Errors
    /// [`Error::Refused`] where the server doesn't know how.
    pub fn idle(&mut self) -> Result<(), Error> {
        let tag = self.tag();
        self.wire.send(format!("{tag} IDLE\r\n").as_bytes())?;
        let invitation = self.wire.line()?;
        if invitation.starts_with(b"+") { Ok(()) } else { Err(refused("IDLE", &invitation)) }
    }

    /// The next piece of news while it idles.
    ///
    /// # Errors
    /// [`Error::Io`] where none comes.
    pub fn news(&mut self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.wire.line()?).into_owned())
    }

    /// Ends [`Imap::idle`], and says what was news meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] where the server doesn't go on.
    pub fn done(&mut self) -> Result<Answer, Error> {
        self.wire.send(b"DONE\r\n")?;
        let tag = format!("a{}", self.commands);
        self.answer(&tag, "IDLE")
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`Error::Io`] where the connection broke.
    pub fn logout(mut self) -> Result<(), Error> {
        self.command("LOGOUT").map(drop)
    }

    /// Goes without a word, and with a reset of the connection in place of its end.
    ///
    /// # Errors
    /// [`Error::Io`] where the connection can't be told to.
    pub fn cut(self) -> Result<(), Error> {
        self.wire.cut()
    }

    /// Sends `before` and, once the server invites it, a message as a literal.
    fn literal(&mut self, before: &str, command: &str, message: &[u8]) -> Result<(), Error> {
        let length = message.len();
        self.wire.send(format!("{before} {{{length}}}\r\n").as_bytes())?;
        let invitation = self.wire.line()?;
        if !invitation.starts_with(b"+") {
            return Err(refused(command, &invitation));
        }
        self.wire.send(message)
    }

    fn tag(&mut self) -> String {
        self.commands += 1;
        format!("a{}", self.commands)
    }

    /// Sends any command, which must not hold a literal, and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Refused`] where it isn't OK.
    pub fn command(&mut self, command: &str) -> Result<Answer, Error> {
        let tag = self.tag();
        self.wire.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.answer(&tag, command)
    }

    fn answer(&mut self, tag: &str, command: &str) -> Result<Answer, Error> {
        let mut untagged = Vec::new();
        loop {
            let line = self.response()?;
            let text = String::from_utf8_lossy(&line);
            match text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                None => untagged.push(line),
                Some(rest) if rest.starts_with("OK") => {
                    return Ok(Answer { untagged, tagged: rest.to_owned() });
                }
                Some(_) => return Err(refused(command, &line)),
            }
        }
    }

    /// One response, the literals in it included.
    fn response(&mut self) -> Result<Vec<u8>, Error> {
        let mut response = self.wire.line()?;
        while let Some(length) = literal_length(&response) {
            response.extend_from_slice(b"\r\n");
            response.extend(self.wire.exactly(length)?);
            response.extend(self.wire.line()?);
        }
        Ok(response)
    }
}

/// What opening a mailbox told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mailbox {
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// Messages in it.
    pub exists: u32,
}

/// What STATUS told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status {
    /// MESSAGES.
    pub messages: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UNSEEN.
    pub unseen: u32,
}

/// What FETCH told of one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// UID.
    pub uid: u32,
    /// FLAGS, without the parentheses.
    pub flags: String,
    /// RFC822.SIZE.
    pub size_octets: u64,
    /// BODYSTRUCTURE.
    pub body_structure: String,
    /// BODY[].
    pub content: Vec<u8>,
}

/// One resource of a quota root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resource {
    /// `STORAGE` (in units of 1024 octets) or `MESSAGE`.
    pub name: String,
    /// How much is used.
    pub usage: u64,
    /// How much may be.
    pub limit: u64,
}

/// The answer to a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The untagged responses, literals included.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag: `OK …`.
    pub tagged: String,
}

fn fetched(inside: &[u8]) -> Result<Fetched, Error> {
    let pairs = items::pairs(inside);
    let text =
        |name: &str| found(&pairs, name).map(|value| String::from_utf8_lossy(value).into_owned());
    Ok(Fetched {
        uid: number(&pairs, "UID")?,
        flags: text("FLAGS")?.trim_matches(['(', ')']).to_owned(),
        size_octets: number(&pairs, "RFC822.SIZE")?,
        body_structure: text("BODYSTRUCTURE")?,
        content: found(&pairs, "BODY[]")?.to_vec(),
    })
}

fn found<'a>(pairs: &'a [(String, Vec<u8>)], name: &str) -> Result<&'a [u8], Error> {
    let pair = pairs.iter().find(|(found, _)| found == name);
    pair.map(|(_, value)| value.as_slice())
        .ok_or_else(|| Error::Answer { expected: name.to_owned(), answer: format!("{pairs:?}") })
}

fn number<N: std::str::FromStr>(pairs: &[(String, Vec<u8>)], name: &str) -> Result<N, Error> {
    let value = String::from_utf8_lossy(found(pairs, name)?);
    value.parse().map_err(|_| Error::Answer {
        expected: format!("a number for {name}"),
        answer: value.into_owned(),
    })
}

/// What stands between the first parenthesis and the last.
fn inside(line: &[u8]) -> Option<&[u8]> {
    let open = line.iter().position(|&octet| octet == b'(')?;
    let close = line.iter().rposition(|&octet| octet == b')')?;
    line.get(open + 1..close)
}

/// The number in a response code of the untagged answers.
fn code(lines: &[Vec<u8>], name: &str) -> Result<u32, Error> {
    let lines = lines.iter().map(|line| String::from_utf8_lossy(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    number_after(&text, name, 0)
}

/// The number after `name`, past `skipped` others.
fn number_after(text: &str, name: &str, skipped: usize) -> Result<u32, Error> {
    word_after(text, name, skipped)?
        .parse()
        .map_err(|_| Error::Answer { expected: name.to_owned(), answer: text.to_owned() })
}

/// The word after `name`, past `skipped` others.
fn word_after<'a>(text: &'a str, name: &str, skipped: usize) -> Result<&'a str, Error> {
    text.split_once(name)
        .and_then(|(_, rest)| rest.split([' ', ']']).nth(skipped))
        .ok_or_else(|| Error::Answer { expected: name.to_owned(), answer: text.to_owned() })
}

fn literal_length(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"}")?;
    let open = text.iter().rposition(|&octet| octet == b'{')?;
    std::str::from_utf8(text.get(open + 1..)?).ok()?.parse().ok()
}

fn refused(command: &str, answer: &[u8]) -> Error {
    Error::Refused {
        command: command.to_owned(),
        answer: String::from_utf8_lossy(answer).into_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
