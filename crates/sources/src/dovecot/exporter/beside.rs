//! What the exporter alone knows: refusals for want of quota, access given and taken, quotas set.

use std::time::Instant;

use jiff::tz::TimeZone;
use mail_event::{OtherName, Timestamp};
use postbell_engine::{Actor, Certainty, Identity, Mailbox, Observation, Origin, What};

use super::super::names::{Names, of_client};
use super::access::{self, Access, Change};
use super::decode::is_over_quota;
use super::refusal::Refusal;
use super::{Exported, Whence};
use crate::ask::{Asker, NamingScope as _};
use crate::words::words;

/// What is needed to tell it.
#[derive(Debug)]
pub(in super::super) struct Beside<'a> {
    /// How Dovecot's users name mailboxes.
    pub(in super::super) names: &'a Names,
    /// The name of this server.
    pub(in super::super) server_fqdn: Option<&'a str>,
    /// Who may see what, as far as known.
    pub(in super::super) access: &'a mut Access,
    /// Where to ask, if anywhere.
    pub(in super::super) asker: Option<&'a mut Asker>,
    /// By when all that is told had happened.
    pub(in super::super) since: Instant,
}

/// The observations an exported event means by itself; none for most.
///
/// Their identities are made from the session, the command and when it began, so that the same
/// event exported again tells nothing new.
pub(in super::super) fn beside(exported: &Exported, with: &mut Beside<'_>) -> Vec<Observation> {
    match exported {
        Exported::Command { whence, name, tag, arguments, reply } => {
            let Some(user) = whence.user.as_deref() else { return Vec::new() };
            let words: Vec<_> = words(arguments.as_bytes())
                .filter_map(|word| word.text().map(std::borrow::Cow::into_owned))
                .collect();
            let told = Told { whence, user, part: tag };
            match (name.as_str(), &words[..]) {
                ("SETACL", [mailbox, who, rights, ..]) => {
                    with.access(&told, mailbox, access::set(who, rights))
                }
                ("DELETEACL", [mailbox, who, ..]) => {
                    with.access(&told, mailbox, access::deleted(who))
                }
                ("SETQUOTA", _) => with.looked(&told),
                (name, words) if is_over_quota(reply) => {
                    // The mailbox stands first in APPEND, last in COPY and MOVE.
                    let mailbox = if name == "APPEND" { words.first() } else { words.last() };
                    let refusal = Refusal::of_command(name, arguments);
                    with.refused(&told, mailbox.map(String::as_str), refusal)
                }
                _ => Vec::new(),
            }
        }
        Exported::Delivery { whence, error: Some(error), size_octets, .. }
            if is_about_quota(error) =>
        {
            let Some(user) = whence.user.as_deref() else { return Vec::new() };
            let refusal = Refusal::of_delivery(*size_octets);
            with.refused(&Told { whence, user, part: "" }, None, refusal)
        }
        Exported::Recipient { whence, size_octets } => {
            let Some(user) = whence.user.as_deref() else { return Vec::new() };
            let refusal = Refusal::of_delivery(*size_octets);
            with.refused(&Told { whence, user, part: "rcpt" }, None, refusal)
        }
        Exported::Delivery { .. }
        | Exported::Transaction { .. }
        | Exported::Session { .. }
        | Exported::Hibernated { .. }
        | Exported::Auth { .. } => Vec::new(),
    }
}

/// A delivery's error comes as words alone. These are the server's own, which an operator may
/// have changed (`quota_exceeded_message`); they'll hardly do without the word itself.
fn is_about_quota(error: &str) -> bool {
    error.to_ascii_lowercase().contains("quota")
}

/// What is told, of whom.
struct Told<'a> {
    whence: &'a Whence,
    user: &'a str,
    /// What tells it from others of the same session and moment.
    part: &'a str,
}

impl Beside<'_> {
    /// An operation was refused for want of quota (R46).
    fn refused(
        &mut self,
        told: &Told<'_>,
        mailbox: Option<&str>,
        refusal: Refusal,
    ) -> Vec<Observation> {
        let place = mailbox.map(|name| self.names.place(told.user, &of_client(name)));
        let (owner, mailbox) = match place {
            Some((owner, mailbox)) => (owner, Some(mailbox)),
            None => (told.user.to_owned(), None),
        };
        let asked = mailbox.clone().unwrap_or_else(|| "INBOX".to_owned());
        let quotas = match self.asker.as_deref_mut() {
            Some(asker) => asker.quota(&owner, &asked, self.since).unwrap_or_default(),
            None => Vec::new(),
        };
        let mailbox = mailbox.map(|name| self.mailbox(&name, None));
        let exceeded = refusal.blamed(quotas);
        if exceeded.is_empty() {
            return vec![self.untold(told, owner, mailbox)];
        }
        (0_u32..)
            .zip(exceeded)
            .map(|(place, quota)| {
                let what = What::QuotaRefused { quota, mailbox: mailbox.clone() };
                self.observation(told, &format!("quota {place}"), owner.clone(), what)
            })
            .collect()
    }

    /// `QuotaExceed` must name a limit (R48). Where nobody knows it, that something was refused is
    /// told as missed, once an hour for each user.
    fn untold(&self, told: &Told<'_>, owner: String, mailbox: Option<Mailbox>) -> Observation {
        let reason = "something was refused for want of quota, and the limit is not known: \
                      it is asked for where a master user is configured"
            .to_owned();
        let mut seen = self.observation(told, "", owner, What::Missed { mailbox, reason });
        let hour = jiff::Timestamp::from_second(seen.at.instant().as_second() / 3600 * 3600);
        if let Ok(hour) = hour {
            seen.at = Timestamp::new(hour, seen.at.offset());
        }
        seen.identity = Identity(format!("quota\0{}\0{}", told.user, seen.at).into_bytes());
        seen
    }

    /// A quota was set: how it is now says what changed (R53).
    fn looked(&mut self, told: &Told<'_>) -> Vec<Observation> {
        let Some(asker) = self.asker.as_deref_mut() else { return Vec::new() };
        let quotas = asker.quota(told.user, "INBOX", self.since).unwrap_or_default();
        (0_u32..)
            .zip(quotas)
            .map(|(place, quota)| {
                let owner = told.user.to_owned();
                self.observation(told, &format!("look {place}"), owner, What::QuotaSeen(quota))
            })
            .collect()
    }

    /// Somebody got to see a mailbox, or lost sight of it (R79, R80, R85).
    ///
    /// The event stands in the naming scope of the one affected, so that nobody else's model of
    /// their own mailboxes changes by it; who acted stays the user (A6).
    fn access(
        &mut self,
        told: &Told<'_>,
        mailbox: &str,
        change: Option<(String, Change)>,
    ) -> Vec<Observation> {
        let Some((affected, change)) = change else { return Vec::new() };
        let (owner, rest) = self.names.place(told.user, &of_client(mailbox));
        if affected == owner {
            return Vec::new();
        }
        let Some(name) = self.names.of_others(&owner, &rest) else { return Vec::new() };
        // Others may still give what this one lost; nobody else's word is asked for what it got.
        if change == Change::Taken && self.still_sees(&affected, &name) {
            return Vec::new();
        }
        if !self.access.note(&owner, &rest, &affected, change) {
            return Vec::new();
        }
        let status = self.asker.as_deref_mut().and_then(|asker| asker.status(&owner, &rest));
        let mailbox = self.mailbox(&name, status.map(|status| status.uid_validity));
        let what = match change {
            Change::Granted => What::MailboxCreated(mailbox),
            Change::Taken => What::MailboxDeleted(mailbox),
        };
        let mut seen = self.observation(told, "acl", affected.clone(), what);
        if let Ok(name) = OtherName::new("vnd.postbell.affectedUser") {
            seen.extras.push((name, affected.into()));
        }
        vec![seen]
    }

    /// Whether `user` may look `name` up, as far as the server says.
    fn still_sees(&mut self, user: &str, name: &str) -> bool {
        let rights = self.asker.as_deref_mut().and_then(|asker| asker.rights(user, name));
        rights.is_some_and(|rights| rights.contains('l'))
    }

    fn observation(&self, told: &Told<'_>, kind: &str, owner: String, what: What) -> Observation {
        let Whence { at, began, session, service, client, server, .. } = told.whence;
        let session_name = session.as_deref().unwrap_or_default();
        let identity = ["exported", session_name, told.user, told.part, began.as_str(), kind];
        Observation {
            identity: Identity(identity.join("\0").into_bytes()),
            at: at.unwrap_or_else(now),
            certainty: Certainty::Seen,
            owner: Some(owner),
            actor: Actor {
                user: Some(told.user.to_owned()),
                admin: None,
                client: *client,
                service: service.clone(),
                session: session.clone(),
            },
            origin: Origin {
                process: service.clone(),
                pid: None,
                server_fqdn: self.server_fqdn.map(str::to_owned),
                server_domain: server.map(|server| server.ip().to_string()),
                server_port: server.map(|server| server.port()).filter(|port| *port != 0),
            },
            what,
            extras: Vec::new(),
        }
    }

    fn mailbox(&self, name: &str, uid_validity: Option<u32>) -> Mailbox {
        Mailbox { name: self.names.told(name), uid_validity }
    }
}

fn now() -> Timestamp {
    let millis = jiff::Timestamp::now().as_millisecond();
    let now = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    Timestamp::from_zoned(&now.to_zoned_datetime(TimeZone::system()))
}

/// The owner and the name told where `user`'s APPEND to what `argument` names is refused.
#[cfg(test)]
pub(in super::super) fn refused_append(
    names: &Names,
    user: &str,
    argument: &str,
) -> Option<(String, String)> {
    let exported = Exported::Command {
        whence: Whence { user: Some(user.to_owned()), ..Whence::default() },
        name: "APPEND".to_owned(),
        tag: String::new(),
        arguments: argument.to_owned(),
        reply: "NO [OVERQUOTA] Quota exceeded".to_owned(),
    };
    let mut access = Access::default();
    let mut with = Beside {
        names,
        server_fqdn: None,
        access: &mut access,
        asker: None,
        since: Instant::now(),
    };
    let seen = beside(&exported, &mut with).pop()?;
    let What::Missed { mailbox: Some(mailbox), .. } = seen.what else { return None };
    Some((seen.owner?, mailbox.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_with(names: &Names, access: &mut Access, exported: &Exported) -> Vec<Observation> {
        beside(
            exported,
            &mut Beside { names, server_fqdn: None, access, asker: None, since: Instant::now() },
        )
    }

    fn whence() -> Whence {
        Whence {
            at: Some("2026-11-25T02:25:42.5+00:00".parse().unwrap()),
            began: "2026-11-25T02:25:42.217907Z".to_owned(),
            user: Some("alice".to_owned()),
            session: Some("s1".to_owned()),
            service: Some("imap".to_owned()),
            client: Some("127.0.0.1:52046".parse().unwrap()),
            server: Some("127.0.0.1:143".parse().unwrap()),
            reasons: Vec::new(),
        }
    }

    fn command(name: &str, arguments: &str, reply: &str) -> Exported {
        Exported::Command {
            whence: whence(),
            name: name.to_owned(),
            tag: "a1".to_owned(),
            arguments: arguments.to_owned(),
            reply: reply.to_owned(),
        }
    }

    fn told(access: &mut Access, exported: &Exported) -> Vec<Observation> {
        told_with(&Names::new('/', &["shared/%u/".to_owned()]), access, exported)
    }

    #[test]
    fn r79_r80_access_granted_is_told_in_the_scope_of_the_one_who_got_it() {
        let mut access = Access::default();
        let granted = command("SETACL", r#""Entw&APw-rfe" bob lr"#, "OK Setacl complete.");
        let [seen] = &told(&mut access, &granted)[..] else { panic!("one") };
        let name = "shared/alice/Entwürfe".to_owned();
        assert_eq!(seen.what, What::MailboxCreated(Mailbox { name, uid_validity: None }));
        assert_eq!(seen.owner.as_deref(), Some("bob"));
        assert_eq!(seen.actor.user.as_deref(), Some("alice"));
        assert_eq!(seen.extras[0].1, "bob");
        assert!(told(&mut access, &granted).is_empty(), "it was granted already");
    }

    #[test]
    fn r85_access_taken_is_told_whoever_administers_the_mailbox() {
        let mut access = Access::default();
        let by_owner = command("SETACL", "Box bob lra", "OK");
        assert_eq!(told(&mut access, &by_owner).len(), 1);
        // Carol's mailbox, administered by alice.
        let taken = command("DELETEACL", "shared/carol/Box bob", "OK");
        let [seen] = &told(&mut access, &taken)[..] else { panic!("one") };
        let name = "shared/carol/Box".to_owned();
        assert_eq!(seen.what, What::MailboxDeleted(Mailbox { name, uid_validity: None }));
        let taken = command("SETACL", "Box bob -l", "OK");
        assert_eq!(told(&mut access, &taken).len(), 1);
        // The owner's own rights change nothing for anybody else.
        assert!(told(&mut access, &command("SETACL", "Box alice rwa", "OK")).is_empty());
    }

    #[test]
    fn the_same_event_exported_again_has_the_same_identity() {
        let refused = command("APPEND", "INBOX", "NO [OVERQUOTA] Quota exceeded");
        let one = told(&mut Access::default(), &refused);
        assert_eq!(one, told(&mut Access::default(), &refused));
        let granted = command("SETACL", "Box bob lr", "OK");
        let one = told(&mut Access::default(), &granted);
        assert_eq!(one, told(&mut Access::default(), &granted));
    }

    #[test]
    fn r48_a_refusal_whose_limit_nobody_knows_is_told_as_missed_once_an_hour() {
        let refused = |tag: &str| {
            let mut exported = command("UID COPY", "1:3 \"Arch ive\"", "NO [OVERQUOTA] full");
            if let Exported::Command { tag: kept, .. } = &mut exported {
                *kept = tag.to_owned();
            }
            told(&mut Access::default(), &exported).remove(0)
        };
        let (one, other) = (refused("a1"), refused("a2"));
        assert_eq!((&one.identity, one.at), (&other.identity, other.at));
        let What::Missed { mailbox: Some(mailbox), .. } = one.what else { panic!() };
        assert_eq!(mailbox.name, "Arch ive");
    }

    #[test]
    fn r46_a_delivery_refused_for_quota_is_told_and_another_failure_is_not() {
        let delivery = |error: &str| {
            let whence = Whence { service: Some("lmtp".to_owned()), ..whence() };
            Exported::Delivery {
                whence,
                envelope: None,
                error: Some(error.to_owned()),
                size_octets: None,
            }
        };
        let full = delivery("Quota exceeded (mailbox for user is full)");
        let [seen] = &told(&mut Access::default(), &full)[..] else { panic!("one") };
        assert_eq!(seen.owner.as_deref(), Some("alice"));
        assert!(told(&mut Access::default(), &delivery("Internal error")).is_empty());
    }
}
