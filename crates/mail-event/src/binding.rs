//! Which parameter is mandatory, recommended, optional or forbidden on which event.
//!
//! RFC 5423 leaves this to each implementation (section 3; R20). The one table here drives the
//! builder, the readers of JSON, and the page `docs/binding.md`.

use crate::uri::Shape;
use crate::{EventName, ParameterName};
use ParameterName as P;

/// How a parameter stands to an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Presence {
    /// An event without it can't be built.
    Mandatory,
    /// Given whenever it is known.
    Recommended,
    /// May be given.
    Optional,
    /// An event with it can't be built.
    Forbidden,
}

/// How `parameter` stands to `event`. Events outside the registry may carry anything.
///
/// ```
/// use mail_event::{EventName, ParameterName, Presence, binding};
///
/// let presence = binding::presence(&EventName::MessageExpunge, &ParameterName::Uidset);
/// assert_eq!(presence, Presence::Mandatory);
/// ```
#[must_use]
pub fn presence(event: &EventName, parameter: &ParameterName) -> Presence {
    let always = matches!(parameter, P::Uri | P::Timestamp);
    match (rule(event), parameter.index()) {
        (_, Some(_)) if always => Presence::Mandatory,
        (Some(rule), Some(index)) => rule.presence(1 << index),
        (_, None) | (None, _) => Presence::Optional,
    }
}

/// How UIDVALIDITY in `uri` stands to `event`, where the store is reached by IMAP URLs.
#[must_use]
pub fn uid_validity(event: &EventName) -> Presence {
    rule(event).map_or(Presence::Optional, |rule| rule.uid_validity)
}

/// How a UID in `uri` stands to `event`, where the store is reached by IMAP URLs.
#[must_use]
pub fn uid(event: &EventName) -> Presence {
    rule(event).map_or(Presence::Optional, |rule| rule.uid)
}

/// The whole table as Markdown, as in `docs/binding.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    let columns: Vec<_> =
        P::REGISTERED.into_iter().filter(|p| !matches!(p, P::Uri | P::Timestamp)).collect();
    text.push_str("| event | UIDVALIDITY in `uri` | UID in `uri` |");
    for column in &columns {
        text.push_str(&format!(" {column} |"));
    }
    text.push_str("\n|---|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for event in EventName::REGISTERED {
        text.push_str(&format!(
            "| {event} | {} | {} |",
            letter(uid_validity(&event)),
            letter(uid(&event))
        ));
        for column in &columns {
            text.push_str(&format!(" {} |", letter(presence(&event, column))));
        }
        text.push('\n');
    }
    text.push_str(CLOSING);
    text
}

fn letter(presence: Presence) -> char {
    match presence {
        Presence::Mandatory => 'M',
        Presence::Recommended => 'R',
        Presence::Optional => 'O',
        Presence::Forbidden => '–',
    }
}

/// Why an event can't be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{event}: {message} ({rule})")]
pub struct BindingError {
    event: Box<str>,
    parameter: Box<str>,
    rule: &'static str,
    message: Box<str>,
}

impl BindingError {
    pub(crate) fn new(event: &str, parameter: &str, rule: &'static str, message: String) -> Self {
        Self { event: event.into(), parameter: parameter.into(), rule, message: message.into() }
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The parameter at fault, or `event`.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// The requirement broken, such as `R36`.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// What is wrong, for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// What the binding needs to know of an event, however it is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: Option<usize>,
    /// A bit for each registered parameter that is present.
    pub(crate) present: u32,
    pub(crate) uri: Shape,
    pub(crate) mailbox_id: Shape,
    pub(crate) uid_count: Option<u64>,
    pub(crate) service: Option<&'a str>,
    pub(crate) admin_is_user: bool,
    pub(crate) old_is_new: bool,
}

impl Facts<'_> {
    fn has(&self, parameter: &ParameterName) -> bool {
        parameter.index().is_some_and(|index| self.present & (1 << index) != 0)
    }

    fn error(&self, parameter: &str, rule: &'static str, message: &str) -> BindingError {
        BindingError::new(self.name, parameter, rule, message.to_owned())
    }

    /// Checks everything the table and the clauses beside it say.
    pub(crate) fn check(&self) -> Result<(), BindingError> {
        if let Some(rule) = self.index.and_then(|index| RULES.get(index)) {
            self.check_presence(rule)?;
            self.check_uri(rule)?;
            self.check_quota(rule)?;
        } else if !crate::name::is_vendor(self.name) {
            let message = "a name outside the registry must begin with vnd.";
            return Err(self.error("event", "R152", message));
        }
        self.check_everywhere()
    }

    fn check_presence(&self, rule: &Rule) -> Result<(), BindingError> {
        let missing = rule.mandatory & !self.present;
        if missing != 0 {
            let parameter = parameter_at(missing.trailing_zeros());
            return Err(self.error(parameter, rule.clause, &format!("{parameter} is missing")));
        }
        let forbidden =
            self.present & !(rule.mandatory | rule.recommended | rule.optional | ALWAYS);
        if forbidden != 0 {
            let parameter = parameter_at(forbidden.trailing_zeros());
            let message = format!("{parameter} may not be given with this event");
            return Err(self.error(parameter, forbidding(parameter), &message));
        }
        Ok(())
    }

    fn check_uri(&self, rule: &Rule) -> Result<(), BindingError> {
        if !self.uri.is_imap {
            return Ok(());
        }
        if rule.needs_mailbox && !self.uri.has_mailbox {
            return Err(self.error("uri", "R11", "uri must name a mailbox"));
        }
        if rule.is_access && self.uri.has_mailbox {
            return Err(self.error("uri", "R146", "uri must name the server alone"));
        }
        if rule.uid_validity == Presence::Mandatory && self.uri.uid_validity.is_none() {
            return Err(self.error("uri", rule.clause, "uri must hold a UIDVALIDITY"));
        }
        if rule.uid == Presence::Mandatory && self.uri.uid.is_none() {
            return Err(self.error("uri", rule.clause, "uri must hold a UID"));
        }
        if rule.uid == Presence::Forbidden && self.uri.uid.is_some() {
            return Err(self.error("uri", "R14", "uri may not hold a UID"));
        }
        let creates = self.index == EventName::MailboxCreate.index();
        if creates && self.mailbox_id.is_imap && self.mailbox_id.uid_validity.is_none() {
            return Err(self.error("mailboxID", "R82", "mailboxID must hold a UIDVALIDITY"));
        }
        Ok(())
    }

    fn check_quota(&self, rule: &Rule) -> Result<(), BindingError> {
        if rule.needs_limit && !self.has(&P::DiskQuota) && !self.has(&P::MaxMessages) {
            return Err(self.error("diskQuota", "R48", "diskQuota or maxMessages is missing"));
        }
        Ok(())
    }

    fn check_everywhere(&self) -> Result<(), BindingError> {
        if self.has(&P::ClientPort) && !self.has(&P::ClientIp) {
            return Err(self.error("clientPort", "R104", "clientPort is given without clientIP"));
        }
        if self.admin_is_user {
            return Err(self.error("admin", "R101", "admin may not be the same as user"));
        }
        let registered = self.index.is_some();
        if registered && self.has(&P::Modseq) && self.uid_count.is_some_and(|count| count != 1) {
            return Err(self.error("modseq", "R124", "modseq needs exactly one UID"));
        }
        if self.old_is_new {
            return Err(self.error("oldMailboxID", "R95", "oldMailboxID is the same as mailboxID"));
        }
        let Some(service) = self.service else { return Ok(()) };
        if service == "pop" && self.index == EventName::MessageRead.index() {
            return Err(self.error("service", "R56", "POP has no concept of read messages"));
        }
        if ACCESS_PROTOCOLS.contains(&service) && !self.has(&P::User) {
            let message = format!("user is missing, and {service} is an access protocol");
            return Err(self.error("user", "R148", &message));
        }
        Ok(())
    }
}

/// Why a parameter does not go with every event.
fn forbidding(parameter: &str) -> &'static str {
    match parameter {
        "envelope" => "R109",
        "bodyStructure" => "R102",
        "flagNames" => "R111",
        "messageContent" => "R119",
        "messageSize" => "R121",
        "modseq" => "R124",
        "oldMailboxID" => "R127",
        "uidset" => "R143",
        "uidnext" => "R141",
        _ => "R20",
    }
}

fn parameter_at(index: u32) -> &'static str {
    let found = P::REGISTERED.iter().find(|parameter| parameter.index() == Some(index));
    // Every bit that is ever set stands for a registered parameter.
    match found {
        Some(parameter) => REGISTERED_TEXT
            .iter()
            .find(|text| **text == parameter.as_str())
            .copied()
            .unwrap_or("parameter"),
        None => "parameter",
    }
}

fn rule(event: &EventName) -> Option<&'static Rule> {
    RULES.get(event.index()?)
}

/// One event's row.
#[derive(Debug)]
pub(crate) struct Rule {
    clause: &'static str,
    mandatory: u32,
    recommended: u32,
    optional: u32,
    uid_validity: Presence,
    uid: Presence,
    needs_mailbox: bool,
    needs_limit: bool,
    is_access: bool,
}

impl Rule {
    fn presence(&self, bit: u32) -> Presence {
        if self.mandatory & bit != 0 {
            Presence::Mandatory
        } else if self.recommended & bit != 0 {
            Presence::Recommended
        } else if self.optional & bit != 0 {
            Presence::Optional
        } else {
            Presence::Forbidden
        }
    }
}

const fn mask(parameters: &[P]) -> u32 {
    let mut bits = 0;
    let mut rest = parameters;
    while let [first, after @ ..] = rest {
        if let Some(index) = first.index() {
            bits |= 1 << index;
        }
        rest = after;
    }
    bits
}

/// A row of a message event; `M`, `R`, `O` as in the table.
const fn row(clause: &'static str, mandatory: &[P], recommended: &[P], optional: &[P]) -> Rule {
    let mandatory = mask(mandatory);
    let recommended = (mask(recommended) | ACTOR) & !mandatory;
    Rule {
        clause,
        mandatory,
        recommended,
        optional: (mask(optional) | ANYWHERE) & !mandatory & !recommended,
        uid_validity: Presence::Recommended,
        uid: Presence::Forbidden,
        needs_mailbox: true,
        needs_limit: false,
        is_access: false,
    }
}

const fn with_uid_validity(rule: Rule, presence: Presence) -> Rule {
    Rule { uid_validity: presence, ..rule }
}

/// A row of MessageAppend or MessageNew: the message stands in `uri`.
const fn addition(clause: &'static str, optional: &[P]) -> Rule {
    let rule = row(
        clause,
        &[],
        &[P::MailboxId, P::MessageSize, P::Messages, P::Uidnext, P::Modseq],
        optional,
    );
    Rule { uid_validity: Presence::Mandatory, uid: Presence::Mandatory, ..rule }
}

const fn removal(clause: &'static str) -> Rule {
    let recommended = &[P::MailboxId, P::Messages, P::Uidnext];
    let optional = &[P::Modseq, P::DiskQuota, P::DiskUsed, P::MaxMessages];
    with_uid_validity(row(clause, &[P::Uidset], recommended, optional), Presence::Mandatory)
}

const fn flags(clause: &'static str, mandatory: &[P]) -> Rule {
    row(clause, mandatory, &[P::MailboxId], &[P::Messages, P::Uidnext, P::Modseq])
}

const fn quota(clause: &'static str, needs_limit: bool) -> Rule {
    let recommended = &[P::DiskQuota, P::DiskUsed, P::MaxMessages, P::Messages];
    let rule = row(clause, &[], recommended, &[P::MailboxId]);
    Rule { uid_validity: Presence::Optional, needs_mailbox: false, needs_limit, ..rule }
}

const fn access(clause: &'static str, mandatory: &[P], recommended: &[P]) -> Rule {
    let rule = row(clause, mandatory, recommended, &[]);
    Rule { uid_validity: Presence::Forbidden, needs_mailbox: false, is_access: true, ..rule }
}

/// `uri` and `timestamp`, which no event can be built without.
const ALWAYS: u32 = mask(&[P::Uri, P::Timestamp]);
/// Known where a message access protocol was used (R100, R103, R148).
const ACTOR: u32 = mask(&[P::User, P::ClientIp, P::ClientPort, P::Admin]);
/// May go with any event.
const ANYWHERE: u32 =
    mask(&[P::Service, P::Pid, P::Process, P::ServerFqdn, P::ServerDomain, P::ServerPort, P::Tags]);

/// Services that are message access protocols, where the user is always known (R148).
const ACCESS_PROTOCOLS: [&str; 4] = ["imap", "pop", "http", "jmap"];

/// One rule for each registered event, in the document's order.
const RULES: [Rule; 18] = [
    addition(
        "R30",
        &[
            P::FlagNames,
            P::BodyStructure,
            P::MessageContent,
            P::DiskQuota,
            P::DiskUsed,
            P::MaxMessages,
        ],
    ),
    removal("R33"),
    removal("R36"),
    addition(
        "R39",
        &[
            P::FlagNames,
            P::Envelope,
            P::BodyStructure,
            P::MessageContent,
            P::DiskQuota,
            P::DiskUsed,
            P::MaxMessages,
        ],
    ),
    quota("R48", true),
    quota("R52", true),
    quota("R53", false),
    flags("R57", &[P::Uidset]),
    flags("R57", &[P::Uidset]),
    flags("R60", &[P::Uidset, P::FlagNames]),
    flags("R65", &[P::Uidset, P::FlagNames]),
    access("R68", &[P::User, P::ServerDomain, P::ServerPort], &[]),
    access("R75", &[P::User, P::ServerDomain], &[P::ServerPort]),
    with_uid_validity(
        row("R82", &[P::MailboxId], &[], &[P::Messages, P::Uidnext]),
        Presence::Mandatory,
    ),
    row("R88", &[P::MailboxId], &[], &[]),
    row("R95", &[P::MailboxId, P::OldMailboxId], &[], &[P::Messages, P::Uidnext]),
    with_uid_validity(row("R98", &[P::MailboxId, P::User], &[], &[]), Presence::Optional),
    with_uid_validity(row("R98", &[P::MailboxId, P::User], &[], &[]), Presence::Optional),
];

const REGISTERED_TEXT: [&str; 27] = [
    "admin",
    "bodyStructure",
    "clientIP",
    "clientPort",
    "diskQuota",
    "diskUsed",
    "envelope",
    "flagNames",
    "mailboxID",
    "maxMessages",
    "messageContent",
    "messageSize",
    "messages",
    "modseq",
    "oldMailboxID",
    "pid",
    "process",
    "serverDomain",
    "serverPort",
    "serverFQDN",
    "service",
    "tags",
    "timestamp",
    "uidnext",
    "uidset",
    "uri",
    "user",
];

const INTRODUCTION: &str = "\
# Binding: which parameter on which event

RFC 5423 does not say which parameters are mandatory or optional for an event and leaves that to
each implementation (section 3). This is what postbell holds to; the builder of the `mail-event`
crate can't make an event that breaks it. This page is generated from the table in the code: run
`UPDATE_DOCS=1 cargo test -p mail-event --test pages`.

M mandatory · R given when known · O may be given · – forbidden. `uri` and `timestamp` are
mandatory on all events, and parameters beginning with `vnd.` may go with any. Events beginning
with `vnd.` may carry anything.

";

const CLOSING: &str = "
Beside the table:

- The UIDVALIDITY and UID columns hold where `uri` is an IMAP URL; a store reached by other URIs has its own form (R39).
- `uri` names a mailbox on message, flag and mailbox events (R11), and the server alone on Login and Logout (R146).
- `user` is mandatory where `service` is `imap`, `pop`, `http` or `jmap` (R148).
- `admin` is never the same as `user` (R101); `clientPort` never comes without `clientIP` (R104).
- `modseq` goes only with an event that refers to exactly one UID (R124).
- `flagNames` never holds `\\Recent`, and is never empty (R61, R66, R115).
- QuotaExceed and QuotaWithin name `diskQuota` or `maxMessages` (R48).
- MessageRead is never caused by POP (R56).
- On MailboxRename `mailboxID` is the new name and differs from `oldMailboxID` (R95, R117).
- On MailboxCreate `mailboxID` and `uri` hold the UIDVALIDITY (R82).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_found_by_its_bit() {
        for (index, parameter) in P::REGISTERED.into_iter().enumerate() {
            assert_eq!(parameter_at(u32::try_from(index).unwrap()), parameter.as_str());
        }
    }

    #[test]
    fn no_parameter_stands_in_two_columns() {
        for rule in &RULES {
            assert_eq!(rule.mandatory & rule.recommended, 0);
            assert_eq!((rule.mandatory | rule.recommended) & rule.optional, 0);
        }
    }
}
