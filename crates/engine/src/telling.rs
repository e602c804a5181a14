//! What the events of one observation say: who acted, where, and on what.

use mail_event::limits::EVENT_OCTETS_MAX;
use mail_event::{Builder, Event, EventName, Flag, Flags, OtherName, UidSet, Uri, Value};

use crate::memory::Resource;
use crate::{
    Certainty, Mailbox, Message, Observation, Origination, Policy, Quota, Status, Store, What,
};

/// Who did what was seen (R103, R148; section 12 of the binding).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hand {
    /// A delivery agent. Whom it delivers to did nothing, and who handed the message over is no
    /// client of the store's.
    Agent,
    /// A client, or an operator with the store's tools.
    Client,
    /// The store by itself, in whoever's session.
    Policy,
}

impl Hand {
    fn of(seen: &Observation) -> Self {
        match (&seen.what, service_of(seen)) {
            (What::Expired { .. }, _) => Self::Policy,
            (What::Delivered { .. }, _) | (_, Some("lmtp" | "lda")) => Self::Agent,
            _ => Self::Client,
        }
    }
}

/// What every event of one observation has in common.
pub(crate) struct Telling<'a> {
    store: &'a Store,
    policy: &'a Policy,
    seen: &'a Observation,
    hand: Hand,
}

impl<'a> Telling<'a> {
    pub(crate) fn new(store: &'a Store, policy: &'a Policy, seen: &'a Observation) -> Self {
        Self { store, policy, seen, hand: Hand::of(seen) }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.seen.owner.as_deref()
    }

    pub(crate) fn uri(&self, mailbox: Option<&Mailbox>) -> Uri {
        match mailbox {
            Some(mailbox) => self.mailbox(self.owner(), mailbox),
            None => self.store.server(self.owner()),
        }
    }

    /// A mailbox, and whose it is.
    pub(crate) fn mailbox(&self, owner: Option<&str>, mailbox: &Mailbox) -> Uri {
        self.store.mailbox(owner, mailbox)
    }

    /// The authorization identity of whoever acted, where somebody did.
    fn actor(&self) -> Option<&str> {
        self.seen.actor.user.as_deref().filter(|_| self.hand == Hand::Client)
    }

    /// Whoever acted, but of a quota the one whose it is: the relevant user (R48).
    fn user(&self) -> Option<&str> {
        let is_quota = matches!(
            self.seen.what,
            What::QuotaRefused { .. }
                | What::QuotaSeen(_)
                | What::QuotaWithin(_)
                | What::QuotaChanged(_)
        );
        self.owner().filter(|_| is_quota).or_else(|| self.actor())
    }

    /// Who logged in as the user told, where it wasn't the user (R101).
    fn admin(&self) -> Option<&str> {
        let (actor, user) = (self.actor(), self.user());
        let admin = self.seen.actor.admin.as_deref().filter(|_| self.hand == Hand::Client);
        admin.filter(|admin| actor == user && Some(*admin) != user)
    }

    pub(crate) fn begin(&self, name: EventName, uri: Uri) -> Builder {
        let builder = Event::builder(name, uri, self.seen.at);
        let mut builder = match self.user() {
            Some(user) => builder.user(user),
            None => builder,
        };
        builder = self.acted(builder);
        if let Some(session) = &self.seen.actor.session {
            builder = vendor(builder, "vnd.postbell.sessionId", session.as_str());
        }
        builder = self.came_from(builder);
        if self.seen.certainty == Certainty::Inferred {
            builder = vendor(builder, "vnd.postbell.inferred", true);
        }
        for (name, value) in &self.seen.extras {
            builder = builder.vendor(name.clone(), value.clone());
        }
        builder
    }

    /// How whoever acted came to the store.
    fn acted(&self, mut builder: Builder) -> Builder {
        let actor = &self.seen.actor;
        if let Some(admin) = self.admin() {
            builder = builder.admin(admin);
        }
        if let Some(client) = actor.client.filter(|_| self.hand == Hand::Client) {
            let port = Some(client.port()).filter(|port| *port != 0);
            builder = builder.client(client.ip(), port);
        }
        match actor.service.as_deref().filter(|_| !self.is_anothers_session()) {
            Some(raw) => service(builder, raw),
            None => builder,
        }
    }

    /// Whether the store only took the occasion of a client's session, as some do to expire mail
    /// when a user logs out: neither the protocol nor how the server was reached belongs to it.
    fn is_anothers_session(&self) -> bool {
        let by_client = matches!(service_of(self.seen), Some("imap" | "pop" | "http" | "jmap"));
        self.hand == Hand::Policy && by_client
    }

    fn came_from(&self, mut builder: Builder) -> Builder {
        let origin = &self.seen.origin;
        if let Some(process) = &origin.process {
            builder = builder.process(process.as_str());
        }
        if let Some(pid) = origin.pid {
            builder = builder.pid(u64::from(pid));
        }
        if let Some(name) = &origin.server_fqdn {
            builder = builder.server_fqdn(name.as_str());
        }
        if self.is_anothers_session() {
            return builder;
        }
        if let Some(name) = &origin.server_domain {
            builder = builder.server_domain(name.as_str());
        }
        if let Some(port) = origin.server_port {
            builder = builder.server_port(port);
        }
        builder
    }

    pub(crate) fn at_mailbox(&self, name: EventName, mailbox: &Mailbox) -> Builder {
        let uri = self.uri(Some(mailbox));
        self.begin(name, uri.clone()).mailbox_id(uri)
    }

    pub(crate) fn flagged(
        &self,
        name: EventName,
        mailbox: &Mailbox,
        uids: UidSet,
        status: Status,
    ) -> Builder {
        counted(self.at_mailbox(name, mailbox).uidset(uids), status)
    }

    /// POP has no concept of read messages, though fetching one may set `\Seen` (R55, R56).
    pub(crate) fn really_set(&self, mut groups: Vec<(UidSet, Flags)>) -> Vec<(UidSet, Flags)> {
        if service_of(self.seen) == Some("pop") {
            for (_, set) in &mut groups {
                set.remove(&Flag::seen());
            }
        }
        groups
    }

    /// The user affected is the one whose list it is (R98, A7).
    pub(crate) fn subscription(&self, name: EventName, mailbox: &Mailbox) -> Builder {
        let builder = self.at_mailbox(name, mailbox);
        match self.owner() {
            Some(owner) if self.user().is_none() => builder.user(owner),
            _ => builder,
        }
    }

    pub(crate) fn added(&self, name: EventName, message: Message) -> Builder {
        let uri = self.store.message(self.owner(), &message.mailbox, message.uid);
        let builder = self.begin(name, uri).mailbox_id(self.uri(Some(&message.mailbox)));
        let mut builder = counted(builder, message.status).flag_names(message.flags);
        if let Some(octets) = message.size_octets {
            builder = builder.message_size(octets);
        }
        if let Some(modseq) = message.modseq {
            builder = builder.modseq(modseq);
        }
        if let Some(structure) = message.body_structure.filter(|_| self.policy.body_structure) {
            builder = builder.body_structure(structure);
        }
        if let Some(max) = self.policy.content_inline() {
            // A source needn't read what it may not hand on; the size alone says so.
            let over = message.size_octets.is_some_and(|octets| octets > max);
            match message.content {
                Some(content)
                    if content.as_bytes().len() as u64 <= max
                        && content.json_octets() <= CONTENT_JSON_OCTETS_MAX =>
                {
                    builder = builder.message_content(content);
                }
                None if !over => {}
                // Whole or absent, and why is told (R119, R120).
                _ => builder = vendor(builder, "vnd.postbell.contentSuppressed", "size"),
            }
        }
        match &message.copied_from {
            Some(from) => self.linked(builder, "copyFrom", from),
            None => builder,
        }
    }

    pub(crate) fn removed(
        &self,
        name: EventName,
        mailbox: &Mailbox,
        uids: UidSet,
        status: Status,
    ) -> Builder {
        counted(self.at_mailbox(name, mailbox).uidset(uids), status)
    }

    /// Names the other end of a copy or a move (A13).
    pub(crate) fn linked(&self, builder: Builder, how: &str, end: &Origination) -> Builder {
        let uri = self.mailbox(end.owner.as_deref(), &end.mailbox).to_string();
        let builder = vendor(builder, &format!("vnd.postbell.{how}MailboxID"), uri);
        vendor(builder, &format!("vnd.postbell.{how}Uidset"), end.uids.to_string())
    }

    pub(crate) fn access(&self, name: EventName) -> Builder {
        self.begin(name, self.store.server(None))
    }

    /// What the store said of a quota: both resources, where it said both.
    pub(crate) fn quota_told(&self, name: EventName, quota: &Quota) -> Builder {
        let said = Resource::ALL.into_iter().filter(|resource| quota.of(*resource) != (None, None));
        if let [resource] = said.collect::<Vec<_>>()[..] {
            return self.quota(name, resource, quota, None);
        }
        let builder = self.begin_quota(name, None);
        let builder = Resource::ALL
            .into_iter()
            .fold(builder, |builder, resource| limited_to(builder, resource, quota));
        rooted(builder, quota)
    }

    /// Names who acted, where it isn't the one whose quota it is.
    fn begin_quota(&self, name: EventName, mailbox: Option<&Mailbox>) -> Builder {
        let builder = self.begin(name, self.uri(mailbox));
        match self.actor().filter(|actor| Some(*actor) != self.user()) {
            Some(actor) => vendor(builder, "vnd.postbell.actingUser", actor),
            None => builder,
        }
    }

    /// What is said of one resource of a quota (R47); a limit that is gone is absent (R106).
    pub(crate) fn quota(
        &self,
        name: EventName,
        resource: Resource,
        quota: &Quota,
        mailbox: Option<&Mailbox>,
    ) -> Builder {
        let builder = limited_to(self.begin_quota(name, mailbox), resource, quota);
        rooted(vendor(builder, "vnd.postbell.quotaResource", resource.as_str()), quota)
    }
}

/// A limit and what is used of it, as far as known.
fn limited_to(mut builder: Builder, resource: Resource, quota: &Quota) -> Builder {
    let (limit, used) = quota.of(resource);
    if let Some(limit) = limit {
        builder = match resource {
            Resource::Storage => builder.disk_quota(limit),
            Resource::Message => builder.max_messages(limit),
        };
    }
    if let Some(used) = used {
        builder = match resource {
            Resource::Storage => builder.disk_used(used),
            Resource::Message => builder.messages(used),
        };
    }
    builder
}

/// Names the quota root, where it has a name.
fn rooted(builder: Builder, quota: &Quota) -> Builder {
    if quota.root.is_empty() {
        return builder;
    }
    vendor(builder, "vnd.postbell.quotaRoot", quota.root.as_str())
}

fn counted(mut builder: Builder, status: Status) -> Builder {
    if let Some(messages) = status.messages {
        builder = builder.messages(messages);
    }
    if let Some(uidnext) = status.uidnext {
        builder = builder.uidnext(uidnext);
    }
    builder
}

/// Stores spell the same service in several ways (R133).
fn service(builder: Builder, raw: &str) -> Builder {
    let name = service_name(raw);
    let builder = builder.service(name);
    if name == raw { builder } else { vendor(builder, "vnd.postbell.rawService", raw) }
}

fn service_of(seen: &Observation) -> Option<&str> {
    seen.actor.service.as_deref().map(service_name)
}

fn service_name(raw: &str) -> &str {
    match raw {
        "imaps" => "imap",
        "pop3" | "pop3s" | "pops" => "pop",
        "https" => "http",
        "lmtpunix" => "lmtp",
        "doveadm" => "admincli",
        other => other,
    }
}

/// Octets of `messageContent` as JSON; what is left of an event's is room for all else.
const CONTENT_JSON_OCTETS_MAX: usize = EVENT_OCTETS_MAX - 1024 * 1024;

pub(crate) fn vendor(builder: Builder, name: &str, value: impl Into<Value>) -> Builder {
    match OtherName::new(name) {
        Ok(name) => builder.vendor(name, value),
        Err(_) => builder,
    }
}
