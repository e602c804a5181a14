//! Who may do and see what: decided without knowing who else there is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::keys::{lane, owner_and_mailbox};
use crate::members::{Member, Members};
use crate::names::{DISABLED, GAP};
use crate::{Shared, Stores, View};

/// Whoever asks, as far as decisions go: what they may do, and whose events they may see.
///
/// Made once at the door from what was shown there, and asked again for each delivery. It decides
/// by the event alone, so that its answer can tell nothing of what else there is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    role: Role,
    scopes: Scopes,
    /// Sorted; `None` where everybody's events may be seen.
    users: Option<Box<[Box<str>]>>,
    /// The id of its token: a service is known by nothing else.
    token: Option<Box<str>>,
    /// Of which stores events are handed in, and seen where the users are limited.
    stores: Stores,
}

/// What kind of principal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Whoever runs the hub: may do and see everything.
    Admin,
    /// A program: does what its scopes say, for all users or for some.
    Service,
    /// A person or their device: sees their own mailboxes.
    User,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Service => "service",
            Self::User => "user",
        }
    }
}

/// One thing that may be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Hand events in.
    Publish,
    /// Follow the stream.
    Read,
    /// Make subscriptions and look after them.
    Subscribe,
    /// See how the hub and its sources are.
    Monitor,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Read, Self::Subscribe, Self::Monitor];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Subscribe => "subscribe",
            Self::Monitor => "monitor",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Publish => 1,
            Self::Read => 1 << 1,
            Self::Subscribe => 1 << 2,
            Self::Monitor => 1 << 3,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(InvalidScope)
    }
}

/// A text is none of the scopes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a scope (\"publish\", \"read\", \"subscribe\" or \"monitor\")")]
pub struct InvalidScope;

/// A set of scopes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Scopes(u8);

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Principal {
    /// Whoever runs the hub.
    #[must_use]
    pub fn admin() -> Self {
        let scopes = Scope::ALL.into_iter().collect();
        Self { role: Role::Admin, scopes, users: None, token: None, stores: Stores::any() }
    }

    /// A program with these scopes, for these users; for all where none is named. What it hands in
    /// is of these stores, and so are the users.
    #[must_use]
    pub fn service(
        scopes: impl IntoIterator<Item = Scope>,
        users: Vec<String>,
        stores: Stores,
    ) -> Self {
        let users = (!users.is_empty()).then(|| sorted(users));
        let scopes = scopes.into_iter().collect();
        Self { role: Role::Service, scopes, users, token: None, stores }
    }

    /// The same, known by the id of its token: it is told what concerns that alone.
    #[must_use]
    pub fn with_token(mut self, id: &str) -> Self {
        self.token = Some(id.into());
        self
    }

    /// A person with these scopes, who has mailboxes in these stores. Handing events in and seeing
    /// how the hub is are not for them, whatever is named: both would reach beyond their own.
    #[must_use]
    pub fn user(scopes: impl IntoIterator<Item = Scope>, name: &str, stores: Stores) -> Self {
        let theirs = |scope: &Scope| matches!(scope, Scope::Read | Scope::Subscribe);
        let scopes = scopes.into_iter().filter(theirs).collect();
        let users = Some(sorted(vec![name.to_owned()]));
        Self { role: Role::User, scopes, users, token: None, stores }
    }

    /// What kind of principal.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether this may be done at all.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.0 & scope.bit() != 0
    }

    /// Of which stores events may be handed in, by whoever may, and those of some users be seen.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Whose events may be seen; everybody's where nobody is named.
    #[must_use]
    pub fn users(&self) -> Option<&[Box<str>]> {
        self.users.as_deref()
    }

    /// Whether an event may be seen: `json` is what `view` was made from (R162).
    ///
    /// Where the users are limited, an event of one of their stores is seen
    ///
    /// - in a mailbox that is one of theirs, whoever acted;
    /// - where it names no owner, by the one who acted: nobody sees another's Login;
    /// - where it is a `vnd.postbell.Gap` that names nobody at all, by everybody, since it
    ///   concerns them ([`Principal::redact`] leaves nothing else on it).
    ///
    /// What its mandatory parameters say of somebody else's mailbox can't be left out, so an event
    /// that moves a mailbox from one owner to another is seen by neither.
    ///
    /// A `vnd.postbell.DeliveryDisabled` is seen by the subscription's owner alone, and by whoever
    /// runs the hub, also where all others' events may be seen.
    #[must_use]
    pub fn may(&self, view: &View<'_>, json: &[u8]) -> bool {
        self.may_with(view, json, Shared::NONE)
    }

    /// The same for whoever may also read some mailboxes of others: what happens to the messages in
    /// those, and to the mailboxes themselves. What their owners do beside that, such as subscribe
    /// or give rights, is nobody else's business.
    #[must_use]
    pub fn may_with(&self, view: &View<'_>, json: &[u8], shared: &Shared) -> bool {
        if view.name() == DISABLED {
            return self.owns(view, json);
        }
        let Some(users) = &self.users else { return true };
        // In another scheme nobody here can read whose it is.
        let uri = view.uri();
        if !is_imap(&uri) && names_mailboxes(&uri) {
            return false;
        }
        let is_theirs = view.with_places(|owner, mailbox| match (owner, view.user()) {
            (Some(owner), _) if contains(users, owner) => true,
            (Some(owner), _) => {
                mailbox.is_some_and(|mailbox| shared.has(owner, mailbox)) && is_shared(view)
            }
            (None, Some(user)) if contains(users, &user) => true,
            (None, user) => match mailbox {
                Some(mailbox) => shared.has(None, mailbox) && is_shared(view),
                None => user.is_none() && view.name() == GAP,
            },
        });
        is_theirs && self.stores.have(&uri) && !self.names_others(view, json, shared)
    }

    /// An event that may be seen, without what it says of somebody else's mailboxes: where a
    /// message was copied from, or what a store has to say in its own words.
    #[must_use]
    pub fn redact<'a>(&self, view: &View<'_>, json: &'a [u8]) -> Cow<'a, [u8]> {
        self.redact_with(view, json, Shared::NONE)
    }

    /// The same for whoever may also read some mailboxes of others. Of an event in one of those
    /// what is left is what the mailbox shows: neither from where its owner came, nor what the store
    /// adds in its own words, such as an ACL.
    #[must_use]
    pub fn redact_with<'a>(
        &self,
        view: &View<'_>,
        json: &'a [u8],
        shared: &Shared,
    ) -> Cow<'a, [u8]> {
        let Some(users) = &self.users else { return Cow::Borrowed(json) };
        let uri = view.uri();
        let is_anothers = view.with_places(|owner, mailbox| match owner {
            Some(owner) => !contains(users, owner),
            // In a mailbox that is nobody's what somebody else did is as in theirs.
            None => mailbox.is_some() && !view.user().is_some_and(|user| contains(users, &user)),
        });
        let names_nobody = view.owner().is_none() && view.user().is_none();
        let is_bare_gap = view.name() == GAP && (names_nobody || is_anothers);
        let stays = |member: &Member<'_>| match is_bare_gap {
            true => ON_A_GAP.contains(&member.name),
            false if member.name == b"uri" => true,
            false if is_anothers && !is_shown(member.name) => false,
            false => !self.is_foreign(member, &uri, shared),
        };
        if Members::new(json).all(|member| stays(&member)) {
            return Cow::Borrowed(json);
        }
        let mut out = Vec::with_capacity(json.len());
        for member in Members::new(json).filter(stays) {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(member.text);
        }
        out.push(b'}');
        Cow::Owned(out)
    }

    /// Whether a subscription that was disabled is theirs.
    fn owns(&self, view: &View<'_>, json: &[u8]) -> bool {
        let by_token = || {
            let Some(token) = &self.token else { return false };
            Members::new(json).any(|member| {
                member.name == OWNER_TOKEN && member.string() == Some(token.as_bytes())
            })
        };
        match (self.role, &self.users) {
            (Role::Admin, _) => true,
            // It names a user of the hub's own store; one of another's it names by the token.
            (Role::User, Some(users)) if self.stores.elsewhere().is_none() => {
                view.user().is_some_and(|user| contains(users, &user))
            }
            (Role::User, _) => by_token(),
            // One that was made for some users is told of what names them alone.
            (Role::Service, None) => by_token(),
            (Role::Service, Some(_)) => false,
        }
    }

    fn names_others(&self, view: &View<'_>, json: &[u8], shared: &Shared) -> bool {
        let uri = view.uri();
        Members::new(json).any(|member| {
            matches!(member.name, b"mailboxID" | b"oldMailboxID")
                && self.is_foreign(&member, &uri, shared)
        })
    }

    /// Whether a parameter names a mailbox that is none of theirs. `uri` is the event's own.
    fn is_foreign(&self, member: &Member<'_>, uri: &str, shared: &Shared) -> bool {
        let text = String::from_utf8_lossy(member.value);
        let text = match text.contains('\\') {
            true => match serde_json::from_slice::<serde_json::Value>(member.value) {
                Ok(value) => Cow::Owned(value.to_string()),
                Err(_) => return true,
            },
            false => text,
        };
        let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let Some(url) = inside.filter(|text| names_mailboxes(text.get(..7).unwrap_or_default()))
        else {
            // A list or a sentence: which of it is whose can't be told.
            return names_mailboxes(&text);
        };
        // One URL and nothing else; behind it another may stand.
        let rest = url.get(5..).unwrap_or_default();
        if names_mailboxes(rest) || url.contains(char::is_whitespace) {
            return true;
        }
        match owner_and_mailbox(url) {
            (Some(owner), mailbox) => !self.users.as_ref().is_none_or(|users| {
                let is_shared = || mailbox.is_some_and(|mailbox| shared.has(&*owner, &mailbox));
                (contains(users, &owner) || is_shared()) && self.stores.have(url)
            }),
            (None, Some(mailbox)) => {
                let is_shared = shared.has(None, &mailbox) && self.stores.have(url);
                !is_shared && lane(url.as_bytes()) != lane(uri.as_bytes())
            }
            (None, None) => !is_imap(url),
        }
    }
}

/// Whether an event in a mailbox is told to those it is shared with: what happens to its messages
/// and to itself, and that something may have.
fn is_shared(view: &View<'_>) -> bool {
    ON_SHARED.contains(&&*view.name())
}

/// Whether whoever a mailbox is shared with gets a parameter of an event in it.
fn is_shown(name: &[u8]) -> bool {
    let is_vendors = name.starts_with(b"vnd.") && !name.starts_with(b"vnd.postbell.");
    !is_vendors && !OF_THE_OWNER.contains(&name)
}

fn is_imap(url: &str) -> bool {
    url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("imap://"))
}

/// Whether a text holds the beginning of an IMAP URL.
fn names_mailboxes(text: &str) -> bool {
    let octets = text.as_bytes();
    octets.windows(5).any(|five| five.eq_ignore_ascii_case(b"imap:"))
        || octets.windows(6).any(|six| six.eq_ignore_ascii_case(b"imaps:"))
}

fn sorted(users: Vec<String>) -> Box<[Box<str>]> {
    let mut users: Vec<Box<str>> = users.into_iter().map(String::into_boxed_str).collect();
    users.sort_unstable();
    users.dedup();
    users.into()
}

fn contains(sorted: &[Box<str>], text: &str) -> bool {
    sorted.binary_search_by(|one| (**one).cmp(text)).is_ok()
}

/// On an event of a subscription that was disabled, the token whose it was, where no user of the hub's
/// own store says that.
const OWNER_TOKEN: &[u8] = b"vnd.postbell.ownerToken";

/// Events of a mailbox that whoever may read it is told.
const ON_SHARED: [&str; 12] = [
    "FlagsClear",
    "FlagsSet",
    "MailboxCreate",
    "MailboxDelete",
    "MailboxRename",
    "MessageAppend",
    "MessageExpire",
    "MessageExpunge",
    "MessageNew",
    "MessageRead",
    "MessageTrash",
    GAP,
];

/// Parameters that tell of the session by which something was done, and of how full its owner's
/// store is.
const OF_THE_OWNER: [&[u8]; 10] = [
    b"admin",
    b"clientIP",
    b"clientPort",
    b"diskQuota",
    b"diskUsed",
    b"maxMessages",
    b"numMessages",
    b"vnd.postbell.affectedUser",
    b"vnd.postbell.raw",
    b"vnd.postbell.sessionId",
];

/// What is left of a gap that concerns everybody: which of the store's mailboxes it comes from,
/// and in whose words, is nobody's business.
const ON_A_GAP: [&[u8]; 9] = [
    b"event",
    b"uri",
    b"timestamp",
    b"tags",
    b"vnd.postbell.eventId",
    b"vnd.postbell.gapFrom",
    b"vnd.postbell.gapTo",
    b"vnd.postbell.prevSeq",
    b"vnd.postbell.seq",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Keys;

    fn alice() -> Principal {
        Principal::user(Scope::ALL, "alice", Stores::own("h").unwrap())
    }

    fn seen(principal: &Principal, json: &str) -> Option<String> {
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        let may = principal.may(&view, json.as_bytes());
        may.then(|| String::from_utf8(principal.redact(&view, json.as_bytes()).into()).unwrap())
    }

    fn event(name: &str, uri: &str, rest: &str) -> String {
        let time = "2026-08-20T13:34:14+02:00";
        format!(r#"{{"event":"{name}","uri":"{uri}","timestamp":"{time}"{rest}}}"#)
    }

    #[test]
    fn r162_a_user_sees_their_own_mailboxes_and_sessions_and_nobody_elses() {
        let own = event("MessageRead", "imap://alice@h/INBOX", r#","user":"bob""#);
        assert_eq!(seen(&alice(), &own).as_deref(), Some(own.as_str()));
        let login = event("Login", "imap://h/", r#","user":"alice""#);
        assert_eq!(seen(&alice(), &login).as_deref(), Some(login.as_str()));
        for (uri, rest) in [
            ("imap://bob@h/INBOX", r#","user":"alice""#),
            ("imap://alic@h/INBOX", ""),
            ("imap://alice%40x@h/INBOX", ""),
            ("imap://Alice@h/INBOX", ""),
            ("imap://h/alice", ""),
            ("imap://h/", r#","user":"bob""#),
            ("imap://h/", r#","user":"bob","admin":"alice""#),
            ("imap://h/", ""),
            ("urn:alice", ""),
        ] {
            assert_eq!(seen(&alice(), &event("MessageRead", uri, rest)), None, "{uri}");
        }
    }

    #[test]
    fn r162_a_user_sees_their_own_store_and_not_who_has_their_name_in_another() {
        let service = Principal::service(
            [Scope::Read],
            vec!["alice".to_owned()],
            Stores::of(&["g", "H"]).unwrap(),
        );
        let anywhere = Principal::user(Scope::ALL, "alice", Stores::any());
        for (host, own, some) in
            [("h", true, true), ("H:1143", true, true), ("g", false, true), ("x", false, false)]
        {
            for (name, rest) in [
                ("MessageRead", format!("alice@{host}/INBOX")),
                ("Login", format!("{host}/")),
                (GAP, format!("{host}/")),
            ] {
                let user = if name == GAP { "" } else { r#","user":"alice""# };
                let json = event(name, &format!("imap://{rest}"), user);
                let sees = [&alice(), &service, &anywhere].map(|one| seen(one, &json).is_some());
                assert_eq!(sees, [own, some, true], "{json}");
            }
        }
        let copied = r#","vnd.postbell.copyFromMailboxID":"imap://alice@g/Sent""#;
        let copied = event("MessageAppend", "imap://alice@h/INBOX", copied);
        assert!(!seen(&alice(), &copied).unwrap().contains("Sent"));
        assert!(seen(&anywhere, &copied).unwrap().contains("Sent"));
    }

    #[test]
    fn r162_that_a_subscription_was_disabled_is_its_owners_business() {
        let service = |id| Principal::service(Scope::ALL, Vec::new(), Stores::any()).with_token(id);
        let told = |rest| event("vnd.postbell.DeliveryDisabled", "imap://h/", rest);
        let (of_user, of_service, of_hub) = (
            told(r#","user":"alice""#),
            told(r#","vnd.postbell.ownerToken":"tok_a""#),
            told(r#","vnd.postbell.subscription":"x""#),
        );
        for (principal, sees) in [
            (Principal::admin(), [true, true, true]),
            (alice(), [true, false, false]),
            (Principal::user(Scope::ALL, "bob", Stores::own("h").unwrap()), [false, false, false]),
            // Of the same name, and another: known by the token alone.
            (Principal::user(Scope::ALL, "alice", Stores::any()), [false, false, false]),
            (
                Principal::user(Scope::ALL, "alice", Stores::of(&["g"]).unwrap())
                    .with_token("tok_a"),
                [false, true, false],
            ),
            (service("tok_a"), [false, true, false]),
            (service("tok_b"), [false, false, false]),
            (Principal::service(Scope::ALL, Vec::new(), Stores::any()), [false, false, false]),
            (
                Principal::service(Scope::ALL, vec!["alice".to_owned()], Stores::any())
                    .with_token("tok_a"),
                [false, false, false],
            ),
        ] {
            let all = [&of_user, &of_service, &of_hub];
            assert_eq!(all.map(|json| seen(&principal, json).is_some()), sees, "{principal:?}");
        }
    }

    #[test]
    fn r162_the_other_end_of_a_copy_is_left_out_where_it_is_somebody_elses() {
        let copied = |from: &str| {
            let rest = format!(
                r#","vnd.postbell.copyFromMailboxID":"{from}","vnd.x":["imap:\/\/bob@h/X"],"vnd.y":1"#
            );
            seen(&alice(), &event("MessageAppend", "imap://alice@h/INBOX", &rest)).unwrap()
        };
        assert!(copied("imap://alice@h/Sent").contains("Sent"));
        let other = copied("imap://bob@h/Divorce");
        assert!(!other.contains("bob") && other.ends_with(r#","vnd.y":1}"#), "{other}");
        assert!(!copied("imap://h/Shared").contains("Shared"));
        assert!(!copied("IMAPS://bob@h/X").contains("bob"));
        for two in ["imap://alice@h/A imap://bob@h/X", "imap://alice@h/Aimap://bob@h/X"] {
            assert!(!copied(two).contains("bob"), "{two}");
        }
        for (uri, rest) in [("imaps://bob@h/X", ""), ("imaps://bob@h/X", r#","user":"alice""#)] {
            assert_eq!(seen(&alice(), &event(GAP, uri, rest)), None);
            assert_eq!(seen(&alice(), &event("Login", uri, rest)), None);
        }
    }

    #[test]
    fn r162_a_mailbox_that_changes_hands_is_told_to_neither() {
        for (new, old) in [("alice", "bob"), ("bob", "alice")] {
            let rest =
                format!(r#","mailboxID":"imap://{new}@h/A","oldMailboxID":"imap://{old}@h/B""#);
            let renamed = event("MailboxRename", &format!("imap://{new}@h/A"), &rest);
            assert_eq!(seen(&alice(), &renamed), None);
            assert_eq!(seen(&Principal::admin(), &renamed), Some(renamed));
        }
    }

    #[test]
    fn r162_a_gap_of_everybodys_names_nobody() {
        let rest = r#","serverFQDN":"h","vnd.postbell.gapReason":"bob's spool","vnd.x":"bob""#;
        let gap = event(GAP, "imap://h/", rest);
        assert_eq!(seen(&alice(), &gap), Some(event(GAP, "imap://h/", "")));
        assert_eq!(seen(&alice(), &event(GAP, "imap://h/", r#","user":"bob""#)), None);
        assert_eq!(seen(&alice(), &event(GAP, "imap://bob@h/X", "")), None);
        assert_eq!(seen(&alice(), &event(GAP, "imap://h/Shared", "")), None);
        assert_eq!(seen(&alice(), &event("vnd.x.Gap", "imap://h/", "")), None);
    }

    #[test]
    fn a_user_never_publishes_or_monitors_and_a_service_does_what_it_was_given() {
        let user = alice();
        assert!(user.has(Scope::Read) && user.has(Scope::Subscribe));
        assert!(!user.has(Scope::Publish) && !user.has(Scope::Monitor));
        let service = Principal::service([Scope::Publish], Vec::new(), Stores::any());
        assert!(service.has(Scope::Publish) && !service.has(Scope::Read));
        assert!(Scope::ALL.iter().all(|scope| Principal::admin().has(*scope)));
        assert_eq!("monitor".parse(), Ok(Scope::Monitor));
        assert_eq!("Read".parse::<Scope>(), Err(InvalidScope));
    }

    fn seen_with(principal: &Principal, json: &str, shared: &Shared) -> Option<String> {
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        principal.may_with(&view, json.as_bytes(), shared).then(|| {
            String::from_utf8(principal.redact_with(&view, json.as_bytes(), shared).into_owned())
                .unwrap()
        })
    }

    #[test]
    fn r162_what_happens_in_a_shared_mailbox_is_seen_and_what_its_owner_does_beside_is_not() {
        let mut shared = Shared::default();
        shared.add("bob", "Plans", "lr");
        let of = |name, mailbox: &str, rest: &str| {
            seen_with(&alice(), &event(name, &format!("imap://{mailbox}"), rest), &shared)
        };
        let told = |name| of(name, "bob@h/Plans;UIDVALIDITY=7/;UID=1", "").is_some();
        assert!(
            ["MessageNew", "FlagsSet", "MessageExpunge", "MailboxDelete", GAP]
                .map(told)
                .iter()
                .all(|one| *one)
        );
        for name in
            ["MailboxSubscribe", "QuotaChange", "Login", "vnd.cmu.AclChange", "vnd.x.Y", DISABLED]
        {
            assert!(!told(name), "{name}");
        }
        for elsewhere in [
            "bob@h/Plan",
            "bob@h/plans",
            "bob@h/Plans/A",
            "bob@h/",
            "carol@h/Plans",
            "bob@g/Plans",
            "h/Plans",
        ] {
            assert_eq!(of("MessageNew", elsewhere, ""), None, "{elsewhere}");
        }
        let rest = r#","user":"bob","clientIP":"192.0.2.1","vnd.cmu.mailboxACL":"carol lr","vnd.postbell.sessionId":"x","vnd.postbell.copyFromMailboxID":"imap://bob@h/Divorce","vnd.postbell.seq":5"#;
        let copied = of("MessageAppend", "bob@h/Plans", rest).unwrap();
        assert!(copied.ends_with(r#","user":"bob","vnd.postbell.seq":5}"#), "{copied}");
        // From a shared one into one's own, and a shared one renamed.
        let from = r#","vnd.postbell.copyFromMailboxID":"imap://bob@h/Plans""#;
        assert!(of("MessageAppend", "alice@h/INBOX", from).unwrap().contains("Plans"));
        let renamed = |old: &str| {
            let rest =
                format!(r#","mailboxID":"imap://bob@h/Plans","oldMailboxID":"imap://{old}""#);
            of("MailboxRename", "bob@h/Plans", &rest).is_some()
        };
        assert!(!renamed("bob@h/Secret") && renamed("alice@h/A"));
        let gap = of(GAP, "bob@h/Plans", r#","vnd.postbell.gapReason":"bob's""#).unwrap();
        assert!(!gap.contains("bob's"), "{gap}");
    }

    #[test]
    fn r162_a_mailbox_that_is_nobodys_is_seen_where_the_acl_lets_it_be_read() {
        let mut shared = Shared::default();
        shared.add(None, "team/plans", "lr");
        let of = |name, place: &str, rest: &str| {
            seen_with(&alice(), &event(name, &format!("imap://{place}"), rest), &shared)
        };
        let told = |name, place| of(name, place, "").is_some();
        for name in ["MessageNew", "FlagsSet", "MailboxDelete", GAP] {
            assert!(told(name, "h/team/plans;UIDVALIDITY=7"), "{name}");
            for elsewhere in ["h/team", "h/secret", "bob@h/team/plans", "g/team/plans"] {
                assert!(!told(name, elsewhere), "{name} {elsewhere}");
            }
        }
        for name in ["MailboxSubscribe", "QuotaChange", "Login", "vnd.cmu.AclChange"] {
            assert!(!told(name, "h/team/plans"), "{name}");
        }
        let from = r#","clientIP":"192.0.2.1","vnd.cmu.mailboxACL":"bob lr""#;
        let by = |user: &str| of("FlagsSet", "h/team/plans", &format!(r#","user":"{user}"{from}"#));
        assert!(by("bob").unwrap().ends_with(r#","user":"bob"}"#));
        assert!(by("alice").unwrap().contains("192.0.2.1"));
        let copied = |from: &str| {
            let rest = format!(r#","vnd.postbell.copyFromMailboxID":"imap://{from}""#);
            of("MessageAppend", "alice@h/INBOX", &rest).unwrap()
        };
        assert!(copied("h/team/plans").contains("team") && !copied("h/secret").contains("secret"));
        assert!(!copied("g/team/plans").contains("team"));
        let old = r#","mailboxID":"imap://h/team/plans","oldMailboxID":"imap://h/secret""#;
        assert_eq!(of("MailboxRename", "h/team/plans", old), None);
    }

    proptest! {
        #[test]
        fn r162_whoever_shares_whatever_nothing_is_seen_of_a_mailbox_without_both_rights(
            name in prop::sample::select(vec![
                "MessageNew", "MessageAppend", "FlagsSet", "MailboxRename", "MailboxSubscribe", "Login", "QuotaChange", GAP, "vnd.cmu.AclChange",
            ]),
            given in prop::collection::vec((0..3_usize, 0..3_usize, "[lrswa]{0,3}"), 0..6),
            place in (0..3_usize, 0..3_usize),
            other in prop::option::of((0..3_usize, 0..3_usize)),
            user in prop::option::of(0..3_usize),
        ) {
            let (users, boxes) = (["alice", "bob", "carol"], ["A", "B", "C"]);
            let mut shared = Shared::default();
            let mut readable = BTreeSet::new();
            for (owner, mailbox, rights) in &given {
                shared.add(users[*owner], boxes[*mailbox], rights);
                if rights.contains('l') && rights.contains('r') {
                    readable.insert((*owner, *mailbox));
                }
            }
            let may_read = |(owner, mailbox)| owner == 0 || readable.contains(&(owner, mailbox));
            let url = |(owner, mailbox): (usize, usize)| format!("imap://{}@h/{}-of-{}", users[owner], boxes[mailbox], users[owner]);
            let named = |(owner, mailbox): (usize, usize)| format!("{}-of-{}", boxes[mailbox], users[owner]);
            // Names tell whose they are, so that a leak can be seen.
            let mut known = Shared::default();
            for place in &readable { known.add(users[place.0], &named(*place), "lr"); }
            prop_assert_eq!(shared.owners().count(), known.owners().count());
            let mut rest = user.map(|user| format!(r#","user":"{}""#, users[user])).unwrap_or_default();
            if let Some(other) = other {
                let parameter = if name == "MailboxRename" { "oldMailboxID" } else { "vnd.postbell.copyFromMailboxID" };
                rest.push_str(&format!(r#","{parameter}":"{}""#, url(other)));
            }
            let json = event(name, &url(place), &rest);
            let told = seen_with(&alice(), &json, &known);
            if let Some(told) = &told {
                prop_assert!(may_read(place), "{}", told);
                for owner in 1..3 {
                    for mailbox in 0..3 {
                        prop_assert!(may_read((owner, mailbox)) || !told.contains(&named((owner, mailbox))), "{}", told);
                    }
                }
            }
            // And nobody shares in vain.
            if may_read(place) && other.is_none_or(may_read) && ["MessageNew", "MessageAppend", "FlagsSet", "MailboxRename", GAP].contains(&name) {
                prop_assert!(told.is_some());
            }
            // Without any, all is as it was.
            prop_assert_eq!(seen_with(&alice(), &json, Shared::NONE), seen(&alice(), &json));
        }

        /// Each private name below says whose it is, so that a leak can be seen.
        #[test]
        fn r162_whatever_a_user_sees_names_no_mailbox_of_anybody_else(
            name in prop::sample::select(vec![
                "MessageNew", "MessageAppend", "Login", "QuotaChange", "MailboxRename", "FlagsSet", GAP, "vnd.a.B",
            ]),
            owner in prop::option::of(prop::sample::select(vec!["alice", "bob", "carol"])),
            mailbox in any::<bool>(),
            user in prop::option::of(prop::sample::select(vec!["alice", "bob", "carol"])),
            others in prop::collection::vec((
                prop::sample::select(vec![
                    "mailboxID", "oldMailboxID", "vnd.postbell.copyFromMailboxID",
                    "vnd.postbell.moveToMailboxID", "vnd.a.list",
                ]),
                prop::option::of(prop::sample::select(vec!["alice", "bob", "carol"])),
            ), 0..4),
        ) {
            let place = |owner: Option<&str>| match owner {
                Some(owner) => format!("imap://{owner}@h/private-{owner}"),
                None => "imap://h/private-shared".to_owned(),
            };
            let uri = match mailbox {
                true => place(owner),
                false => owner.map_or_else(|| "imap://h/".to_owned(), |owner| format!("imap://{owner}@h/")),
            };
            let mut rest = user.map(|user| format!(r#","user":"{user}""#)).unwrap_or_default();
            let mut given = Vec::new();
            for (name, owner) in others {
                if given.contains(&name) { continue; }
                given.push(name);
                let place = place(owner);
                let value = if name == "vnd.a.list" { format!(r#"["{place}"]"#) } else { format!(r#""{place}""#) };
                rest.push_str(&format!(r#","{name}":{value}"#));
            }
            let json = event(name, &uri, &rest);
            let Some(told) = seen(&alice(), &json) else { return Ok(()) };
            prop_assert!(!told.contains("private-bob") && !told.contains("private-carol"), "{}", told);
            let own_act = user == Some("alice") && owner.is_none();
            prop_assert!(own_act || !told.contains("private-shared"), "{}", told);
            prop_assert!(owner == Some("alice") || owner.is_none() && (own_act || user.is_none() && name == GAP));
            // And nothing that is one's own is kept back.
            if owner == Some("alice") && given.is_empty() {
                prop_assert_eq!(told, json);
            }
        }
    }
}
