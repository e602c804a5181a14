//! URLs that the store itself authorises, each for one user and for a while (RFC 4467).

use std::fmt;
use std::time::{Duration, Instant};

use imap_codec::imap_types::response::Data;
use jiff::Timestamp;
use mail_event::{ImapUrl, UidSet};

use super::answers::{self, untagged};
use super::session::{LINE_OCTETS_MAX, Reply, Session};
use super::{AskError, Asker, Master, PATIENCE, Want};

/// Has a store authorise URLs, as the owner of each mailbox; keeps a few logins for a while.
pub struct Authoriser {
    asker: Asker,
    /// What the store calls a mailbox that is told by this name.
    named: Box<dyn Fn(&str) -> String + Send>,
    redeemed: Redeemed,
}

/// How a store redeems what it authorised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Redeemed {
    /// For the mailbox's owner alone: the program that would do it for others crashes.
    ByOwners,
    /// For whoever is named in the URL as it stands there: Cyrus compares the name with the user's
    /// and doesn't decode it first.
    AsWritten,
}

/// What a store says to a URL it is to authorise.
#[derive(Debug)]
pub enum Authorised {
    /// It did.
    Url(Token),
    /// Not this one, though the message is there.
    Refused,
    /// None to this message or for this user: it isn't there, its owner isn't let in, or it wasn't
    /// even asked.
    Unfit,
    /// None at all, or it doesn't answer; why, in words.
    Never(String),
}

/// A URL that opens a message: whoever is named in it redeems it. Printing it shows `…`.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    /// Hands the URL to whoever it is made for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for Authoriser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authoriser").field("asker", &self.asker).finish_non_exhaustive()
    }
}

impl Authoriser {
    pub(crate) fn new(
        master: &Master,
        redeemed: Redeemed,
        named: impl Fn(&str) -> String + Send + 'static,
    ) -> Result<Self, String> {
        let mut asker = Asker::new(master).map_err(|error| error.to_string())?;
        asker.patience = LOGIN_PATIENCE;
        asker.open_max = OPEN_MAX;
        Ok(Self { asker, named: Box::new(named), redeemed })
    }

    /// Has the URL of a message authorised for `user` until `until`. Blocks: up to five seconds each
    /// for a greeting and a login, and a second for each of up to eight answers.
    pub fn authorise(&mut self, message: &ImapUrl, user: &str, until: Timestamp) -> Authorised {
        let (Some(owner), Some(mailbox)) = (message.user(), message.mailbox()) else {
            return Authorised::Unfit;
        };
        let Some(uid) = message.uid() else { return Authorised::Unfit };
        if self.redeemed == Redeemed::ByOwners && owner != user {
            return Authorised::Unfit;
        }
        let name = (self.named)(mailbox);
        let named = message.clone().with_mailbox(&name, message.uid_validity());
        let mut rump = named.for_user_until(user, until).to_string();
        if self.redeemed == Redeemed::AsWritten {
            let Some(plainly) = plainly(&rump) else { return Authorised::Unfit };
            rump = plainly;
        }
        let generated = self.asker.ask(owner, |session| {
            if !is_able(session)? {
                return Ok(Generated::Unable);
            }
            if let Some(url) = generate(session, &rump)? {
                return Ok(Generated::Url(url));
            }
            // Dovecot doesn't look whether there is more than it knew of.
            let look = answers::status(session, &name)?;
            if message.uid_validity().is_some_and(|wanted| wanted != look.uid_validity) {
                return Ok(Generated::Absent);
            }
            if let Some(url) = generate(session, &rump)? {
                return Ok(Generated::Url(url));
            }
            let (uids, uid_validity) = (UidSet::single(uid), Some(look.uid_validity));
            let found = answers::messages(session, &name, uid_validity, &uids, Want::default())?;
            Ok(if found.contains_key(&uid) { Generated::Denied } else { Generated::Absent })
        });
        match generated {
            Some(Generated::Url(url)) => Authorised::Url(url),
            Some(Generated::Denied) => Authorised::Refused,
            Some(Generated::Absent) => Authorised::Unfit,
            Some(Generated::Unable) => {
                // Another time it may be.
                self.asker.close(owner);
                Authorised::Never("it doesn't offer URLAUTH".to_owned())
            }
            None if self.asker.is_resting() => {
                Authorised::Never(self.asker.last_error.clone().unwrap_or_default())
            }
            // It lets the owner in for nobody, or has no such mailbox.
            None => Authorised::Unfit,
        }
    }

    /// Closes connections that nobody needed for a while; to be called now and then.
    pub fn tidy(&mut self) {
        self.asker.tidy(Instant::now());
    }
}

/// What became of a question.
enum Generated {
    Url(Token),
    /// The server doesn't know how.
    Unable,
    /// It says no, and the message is there.
    Denied,
    /// It isn't.
    Absent,
}

/// The same with the user it is for in clear, where that can be: with `@` as it is. Nothing else that
/// is encoded has a place there.
fn plainly(rump: &str) -> Option<String> {
    let (rest, user) = rump.rsplit_once(";URLAUTH=")?;
    let user = user.replace("%40", "@");
    (!user.contains('%')).then(|| format!("{rest};URLAUTH={user}"))
}

/// Whether the server knows URLAUTH; asked once in a session.
fn is_able(session: &mut Session) -> Result<bool, AskError> {
    if let Some(is_able) = session.has_url_auth {
        return Ok(is_able);
    }
    let mut is_able = false;
    session.command("CAPABILITY", LINE_OCTETS_MAX, PATIENCE, &mut |reply| {
        if let Reply::Data(Data::Capability(all), _) = reply {
            is_able |= all.as_ref().iter().any(|one| one.to_string() == "URLAUTH");
        }
    })?;
    session.has_url_auth = Some(is_able);
    Ok(is_able)
}

/// What the server makes of `rump`, unless it says no. Only that with a token behind it is believed.
fn generate(session: &mut Session, rump: &str) -> Result<Option<Token>, AskError> {
    let mut found = None;
    let command = format!("GENURLAUTH \"{rump}\" INTERNAL");
    let answer = session.command(&command, LINE_OCTETS_MAX, PATIENCE, &mut |reply| {
        let Reply::Other(octets) = reply else { return };
        if let Some(word) = untagged(octets, "GENURLAUTH").next() {
            found = word.text().map(std::borrow::Cow::into_owned);
        }
    });
    match answer {
        Err(AskError::Refused { .. }) => return Ok(None),
        answer => answer?,
    }
    let is_it = |url: &String| {
        let token = url.strip_prefix(rump).and_then(|rest| rest.strip_prefix(":internal:"));
        token.is_some_and(|token| {
            (TOKEN_DIGITS_MIN..=TOKEN_DIGITS_MAX).contains(&token.len())
                && token.bytes().all(|octet| octet.is_ascii_hexdigit())
        })
    };
    Ok(found.filter(is_it).map(Token))
}

/// How long it may take to be let in. Whoever waits for the URL waits no longer than they like; but a
/// store lets whom it doesn't know wait for its refusal, Dovecot for 2 s, and is none that doesn't
/// answer.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// Logins kept at the same time: there are some who ask beside each other, and beside the source.
const OPEN_MAX: usize = 4;

/// Hexadecimal digits of a token at least (RFC 4467, section 9).
const TOKEN_DIGITS_MIN: usize = 32;

/// And at most: what there is beyond the longest hash.
const TOKEN_DIGITS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is_for_stands_there_as_cyrus_compares_it_or_nobody_does() {
        let rump = |user| {
            let server = ImapUrl::server("h", None).unwrap().with_user("a@b");
            let message = server.with_mailbox("c@d;URLAUTH=", Some(1)).with_uid(2);
            message.for_user_until(user, Timestamp::UNIX_EPOCH).to_string()
        };
        assert_eq!(
            plainly(&rump("e@f")).unwrap(),
            "imap://a%40b@h/c@d%3BURLAUTH=;UIDVALIDITY=1/;UID=2;EXPIRE=1970-01-01T00:00:00Z;\
             URLAUTH=user+e@f"
        );
        for user in ["e;f", "e:f", "é", "e%40f"] {
            assert_eq!(plainly(&rump(user)), None, "{user}");
        }
    }
}
