//! The way to an [`Event`]: give it parameters, then have it checked.

use std::net::IpAddr;

use crate::binding::{BindingError, Facts};
use crate::event::Vendor;
use crate::limits::{
    DEPTH_MAX, EVENT_OCTETS_MAX, FLAGS_MAX, RANGES_MAX, TAGS_MAX, TEXT_OCTETS_MAX, URI_OCTETS_MAX,
    VENDOR_PARAMETERS_MAX,
};
use crate::{
    Envelope, Event, EventName, Flags, MessageContent, Modseq, OtherName, ParameterName, Timestamp,
    UidSet, Uri, Value,
};

/// Gathers an event's parameters; [`Builder::build`] checks them against the
/// [binding](crate::binding).
///
/// Empty texts and empty lists count as not given. Sections are those of RFC 5423, and numbers
/// such as R101 those of the requirements drawn from it, which errors name as well.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    event: Event,
}

impl From<Event> for Builder {
    fn from(event: Event) -> Self {
        Self { event }
    }
}

/// A setter for a text: empty is absent.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub fn $name(mut self, value: impl Into<Box<str>>) -> Self {
            self.event.$name = Some(value.into()).filter(|text| !text.is_empty());
            self
        }
    };
}

/// A setter for a value that is simply there.
macro_rules! value {
    ($(#[$doc:meta])* $name:ident: $kind:ty) => {
        $(#[$doc])*
        pub fn $name(mut self, value: $kind) -> Self {
            self.event.$name = Some(value);
            self
        }
    };
}

impl Builder {
    pub(crate) fn new(name: EventName, uri: Uri, timestamp: Timestamp) -> Self {
        Self {
            event: Event {
                name,
                uri,
                timestamp,
                admin: None,
                body_structure: None,
                client_ip: None,
                client_port: None,
                disk_quota: None,
                disk_used: None,
                envelope: None,
                flag_names: None,
                mailbox_id: None,
                max_messages: None,
                message_content: None,
                message_size: None,
                messages: None,
                modseq: None,
                old_mailbox_id: None,
                pid: None,
                process: None,
                server_domain: None,
                server_port: None,
                server_fqdn: None,
                service: None,
                tags: Vec::new(),
                uidnext: None,
                uidset: None,
                user: None,
                vendors: Vec::new(),
            },
        }
    }

    text! {
        /// The authentication identity; must differ from `user` (`admin`: section 5; R101).
        admin
    }
    text! {
        /// The BODYSTRUCTURE in IMAP's parenthesised form (`bodyStructure`: section 5; R102).
        body_structure
    }
    text! {
        /// The name of the process that tells (`process`: section 5).
        process
    }
    text! {
        /// The name or address the client used to reach the server (`serverDomain`: section 5;
        /// R130).
        server_domain
    }
    text! {
        /// The fully qualified domain name of the server that tells (`serverFQDN`: section 5).
        server_fqdn
    }
    text! {
        /// The service that caused it; printable US-ASCII (`service`: section 5; R133).
        service
    }
    text! {
        /// The authorization identity (`user`: section 5; R149).
        user
    }
    value! {
        /// The limit on storage, in units of 1024 octets (`diskQuota`: section 5; R106).
        disk_quota: u64
    }
    value! {
        /// The storage in use, in units of 1024 octets (`diskUsed`: section 5).
        disk_used: u64
    }
    value! {
        /// The SMTP envelope, on MessageNew alone (`envelope`: section 5; R109).
        envelope: Envelope
    }
    value! {
        /// The mailbox (`mailboxID`: section 5; R116).
        mailbox_id: Uri
    }
    value! {
        /// The limit on the number of messages (`maxMessages`: section 5; R118).
        max_messages: u64
    }
    value! {
        /// The whole message (`messageContent`: section 5; R119).
        message_content: MessageContent
    }
    value! {
        /// The size of BODY[] in octets (`messageSize`: section 5; R121).
        message_size: u64
    }
    value! {
        /// Messages in the mailbox, or counting against the quota (`messages`: section 5; R122,
        /// R123).
        messages: u64
    }
    value! {
        /// The MODSEQ of the one message referred to (`modseq`: section 5; R124).
        modseq: Modseq
    }
    value! {
        /// The old name of a renamed mailbox (`oldMailboxID`: section 5; R127).
        old_mailbox_id: Uri
    }
    value! {
        /// The id of the process that tells (`pid`: section 5).
        pid: u64
    }
    value! {
        /// The port the client used to reach the server (`serverPort`: section 5; R131).
        server_port: u16
    }
    value! {
        /// The UID projected to be assigned next (`uidnext`: section 5; R141).
        uidnext: u32
    }

    /// The client's address, and its port where known (R103, R104); an IPv4 address mapped into
    /// IPv6 becomes the IPv4 address it stands for.
    pub fn client(mut self, address: IpAddr, port: Option<u16>) -> Self {
        self.event.client_ip = Some(address.to_canonical());
        self.event.client_port = port;
        self
    }

    /// Flags and keywords; none is absent.
    pub fn flag_names(mut self, flags: Flags) -> Self {
        self.event.flag_names = Some(flags).filter(|flags| !flags.is_empty());
        self
    }

    /// UIDs; none is absent.
    pub fn uidset(mut self, uids: UidSet) -> Self {
        self.event.uidset = Some(uids).filter(|uids| !uids.is_empty());
        self
    }

    /// Adds a tag, unless it is there or empty (R134).
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        let tag = tag.into();
        if !tag.is_empty() && !self.event.tags.contains(&tag) {
            self.event.tags.push(tag);
        }
        self
    }

    /// A parameter outside the registry; a second value under the same name replaces the first.
    pub fn vendor(self, name: OtherName, value: impl Into<Value>) -> Self {
        self.vendor_text(name.as_str(), value.into().to_string().into())
    }

    pub(crate) fn vendor_text(mut self, name: &str, json: Box<str>) -> Self {
        self.event.vendors.retain(|(known, _)| **known != *name);
        self.event.vendors.push((name.into(), Vendor(json)));
        self
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    pub(crate) fn event_mut(&mut self) -> &mut Event {
        &mut self.event
    }

    /// Checks the event.
    ///
    /// # Errors
    ///
    /// Where it breaks the [binding](crate::binding) or a [limit](crate::limits); names the
    /// parameter and the rule.
    pub fn build(self) -> Result<Event, BindingError> {
        facts(&self.event).check()?;
        check_values(&self.event)?;
        Ok(self.event)
    }
}

/// What the binding needs to know.
fn facts(event: &Event) -> Facts<'_> {
    let present = ParameterName::REGISTERED
        .iter()
        .filter(|parameter| event.has(parameter))
        .filter_map(ParameterName::index)
        .fold(0, |bits, index| bits | (1 << index));
    let uri = event.uri.shape();
    let from_uri = uri.uid.map(|_| 1);
    Facts {
        name: event.name.as_str(),
        index: event.name.index(),
        present,
        uri,
        mailbox_id: event.mailbox_id.as_ref().map(Uri::shape).unwrap_or_default(),
        uid_count: event.uidset.as_ref().map(UidSet::len).or(from_uri).or(Some(0)),
        service: event.service.as_deref(),
        admin_is_user: event.admin.is_some() && event.admin == event.user,
        old_is_new: event.old_mailbox_id.is_some() && event.old_mailbox_id == event.mailbox_id,
    }
}

/// What types alone do not rule out.
fn check_values(event: &Event) -> Result<(), BindingError> {
    check_texts(event)?;
    check_numbers(event)?;
    check_lists(event)?;
    check_vendors(event)?;
    check_octets(event)
}

fn broken(
    event: &Event,
    parameter: &str,
    rule: &'static str,
    message: String,
) -> Result<(), BindingError> {
    Err(BindingError::new(event.name.as_str(), parameter, rule, message))
}

fn check_texts(event: &Event) -> Result<(), BindingError> {
    let texts = [
        ("admin", &event.admin),
        ("process", &event.process),
        ("serverDomain", &event.server_domain),
        ("serverFQDN", &event.server_fqdn),
        ("service", &event.service),
        ("user", &event.user),
    ];
    for (parameter, text) in texts {
        if text.as_ref().is_some_and(|text| text.len() > TEXT_OCTETS_MAX) {
            let message = format!("{parameter} is over {TEXT_OCTETS_MAX} octets");
            return broken(event, parameter, "R18", message);
        }
    }
    if event.service.as_ref().is_some_and(|text| !text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let message = "service must be printable US-ASCII".to_owned();
        return broken(event, "service", "R133", message);
    }
    let uris = [
        ("uri", Some(&event.uri)),
        ("mailboxID", event.mailbox_id.as_ref()),
        ("oldMailboxID", event.old_mailbox_id.as_ref()),
    ];
    for (parameter, uri) in uris {
        if uri.is_some_and(|uri| uri.written_octets() > URI_OCTETS_MAX) {
            let message = format!("{parameter} is over {URI_OCTETS_MAX} octets");
            return broken(event, parameter, "R18", message);
        }
    }
    Ok(())
}

fn check_numbers(event: &Event) -> Result<(), BindingError> {
    for (parameter, port) in [("clientPort", event.client_port), ("serverPort", event.server_port)]
    {
        if port == Some(0) {
            let message = format!("{parameter} is a number from 1 to 65535");
            return broken(event, parameter, "R104", message);
        }
    }
    if event.uidnext == Some(0) {
        let message = "uidnext is a number from 1 to 4294967295".to_owned();
        return broken(event, "uidnext", "R141", message);
    }
    let numbers = [
        ("diskQuota", event.disk_quota),
        ("diskUsed", event.disk_used),
        ("maxMessages", event.max_messages),
        ("messageSize", event.message_size),
        ("messages", event.messages),
        ("pid", event.pid),
    ];
    for (parameter, number) in numbers {
        if number.is_some_and(|number| number > NUMBER_MAX) {
            return broken(event, parameter, "R18", format!("{parameter} is over 2^53−1"));
        }
    }
    Ok(())
}

fn check_lists(event: &Event) -> Result<(), BindingError> {
    if event.flag_names.as_ref().is_some_and(|flags| flags.len() > FLAGS_MAX) {
        return broken(event, "flagNames", "R18", format!("more than {FLAGS_MAX} flags"));
    }
    if event.uidset.as_ref().is_some_and(|uids| uids.ranges().len() > RANGES_MAX) {
        return broken(event, "uidset", "R144", format!("more than {RANGES_MAX} ranges"));
    }
    if event.tags.len() > TAGS_MAX {
        return broken(event, "tags", "R134", format!("more than {TAGS_MAX} tags"));
    }
    Ok(())
}

fn check_vendors(event: &Event) -> Result<(), BindingError> {
    if event.vendors.len() > VENDOR_PARAMETERS_MAX {
        let message = format!("more than {VENDOR_PARAMETERS_MAX} parameters outside the registry");
        return broken(event, "vnd.", "R153", message);
    }
    for (name, value) in &event.vendors {
        if !crate::name::is_vendor(name) {
            let message = format!("{name} is outside the registry and must begin with vnd.");
            return broken(event, name, "R152", message);
        }
        if crate::json::depth(&value.0) > DEPTH_MAX {
            return broken(event, name, "R18", format!("{name} nests over {DEPTH_MAX} deep"));
        }
    }
    Ok(())
}

/// Whether the event could be read again: written, it must be within [`EVENT_OCTETS_MAX`].
fn check_octets(event: &Event) -> Result<(), BindingError> {
    let content = event.message_content.as_ref().map_or(0, |content| content.as_bytes().len());
    let structure = event.body_structure.as_ref().map_or(0, |text| text.len());
    let envelope = event.envelope.as_ref().map_or(0, |envelope| envelope.as_str().len());
    let ranges = event.uidset.as_ref().map_or(0, |uids| uids.ranges().len());
    let vendors: usize = event.vendors.iter().map(|(name, value)| name.len() + value.0.len()).sum();
    let tags: usize = event.tags.iter().map(|tag| tag.len()).sum();
    // A range takes 22 octets, and an octet at most 6 in JSON; all else is held small above.
    let at_most = 6 * (content + structure + envelope + tags) + 22 * ranges + vendors;
    if at_most > EVENT_OCTETS_MAX / 2 {
        let octets = crate::json::to_string(event).len();
        if octets > EVENT_OCTETS_MAX {
            let largest = [
                ("messageContent", content),
                ("bodyStructure", structure),
                ("envelope", envelope),
                ("tags", tags),
                ("vnd.", vendors),
            ];
            let parameter = largest.into_iter().max_by_key(|(_, octets)| *octets);
            let parameter = parameter.map_or("event", |(parameter, _)| parameter);
            let message = format!("an event of {octets} octets is over {EVENT_OCTETS_MAX}");
            return broken(event, parameter, "R23", message);
        }
    }
    Ok(())
}

/// The largest integer that every reader of JSON keeps exactly: 2^53−1.
pub(crate) const NUMBER_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImapUrl;

    fn mailbox() -> ImapUrl {
        ImapUrl::server("imap.example.org", None)
            .unwrap()
            .with_user("a")
            .with_mailbox("INBOX", Some(7))
    }

    fn time() -> Timestamp {
        "2026-08-20T13:34:14+02:00".parse().unwrap()
    }

    fn begin(name: EventName) -> Builder {
        Event::builder(name, mailbox().into(), time())
    }

    fn refused(builder: Builder) -> (String, &'static str) {
        let error = builder.build().unwrap_err();
        (error.parameter().to_owned(), error.rule())
    }

    #[test]
    fn r33_r36_a_removal_needs_uidvalidity_and_a_uid_set() {
        for (name, rule) in [(EventName::MessageExpire, "R33"), (EventName::MessageExpunge, "R36")]
        {
            assert_eq!(refused(begin(name.clone())), ("uidset".to_owned(), rule));
            assert_eq!(
                refused(begin(name.clone()).uidset(UidSet::new())),
                ("uidset".to_owned(), rule)
            );
            let bare = mailbox().with_mailbox("INBOX", None);
            let builder =
                Event::builder(name.clone(), bare.into(), time()).uidset(UidSet::single(1));
            assert_eq!(refused(builder), ("uri".to_owned(), rule));
            assert!(begin(name).uidset(UidSet::single(1)).build().is_ok());
        }
    }

    #[test]
    fn r39_a_new_message_needs_uidvalidity_and_uid() {
        assert_eq!(refused(begin(EventName::MessageNew)), ("uri".to_owned(), "R39"));
        let other: Uri = "https://mail.example.org/m/1".parse().unwrap();
        assert!(Event::builder(EventName::MessageNew, other, time()).build().is_ok());
    }

    #[test]
    fn r28_an_appended_message_has_no_envelope() {
        let envelope = Envelope::new("MAIL FROM:<>", ["RCPT TO:<a>"]).unwrap();
        let uri = mailbox().with_uid(1);
        let append = Event::builder(EventName::MessageAppend, uri.clone().into(), time());
        assert_eq!(refused(append.envelope(envelope.clone())), ("envelope".to_owned(), "R109"));
        let new = Event::builder(EventName::MessageNew, uri.into(), time());
        assert!(new.envelope(envelope).build().is_ok());
    }

    #[test]
    fn r101_admin_is_never_the_user() {
        let builder = begin(EventName::MailboxDelete).mailbox_id(mailbox().into());
        assert!(builder.clone().user("a").admin("b").build().is_ok());
        assert_eq!(refused(builder.user("a").admin("a")), ("admin".to_owned(), "R101"));
    }

    #[test]
    fn r124_a_modseq_goes_with_one_uid() {
        let modseq = Modseq::new(9).unwrap();
        let read = begin(EventName::MessageRead).modseq(modseq);
        assert!(read.clone().uidset(UidSet::single(4)).build().is_ok());
        let two = read.uidset(UidSet::from_uids([4, 5]));
        assert_eq!(refused(two), ("modseq".to_owned(), "R124"));
    }

    #[test]
    fn r48_a_quota_event_names_its_limit_and_a_change_need_not() {
        assert_eq!(refused(begin(EventName::QuotaExceed)).1, "R48");
        assert!(begin(EventName::QuotaExceed).disk_quota(5).build().is_ok());
        assert!(begin(EventName::QuotaWithin).max_messages(5).build().is_ok());
        assert!(begin(EventName::QuotaChange).build().is_ok());
    }

    #[test]
    fn r55_r56_r148_what_the_service_rules_out() {
        let read = begin(EventName::MessageRead).uidset(UidSet::single(1)).user("a");
        assert_eq!(refused(read.clone().service("pop")), ("service".to_owned(), "R56"));
        assert!(read.service("imap").build().is_ok());
        let without = begin(EventName::MessageRead).uidset(UidSet::single(1)).service("imap");
        assert_eq!(refused(without), ("user".to_owned(), "R148"));
    }

    #[test]
    fn r68_r75_access_events_name_user_and_server() {
        let server: Uri = ImapUrl::server("h", None).unwrap().into();
        let login = Event::builder(EventName::Login, server.clone(), time()).user("a");
        assert_eq!(refused(login.clone().server_domain("h")), ("serverPort".to_owned(), "R68"));
        assert!(login.server_domain("h").server_port(993).build().is_ok());
        let logout = Event::builder(EventName::Logout, server, time()).user("a");
        assert_eq!(refused(logout.clone()), ("serverDomain".to_owned(), "R75"));
        assert!(logout.server_domain("h").build().is_ok());
    }

    #[test]
    fn r82_r88_r95_r98_mailbox_events_name_the_mailbox() {
        for name in [
            EventName::MailboxCreate,
            EventName::MailboxDelete,
            EventName::MailboxRename,
            EventName::MailboxSubscribe,
            EventName::MailboxUnSubscribe,
        ] {
            assert_eq!(refused(begin(name).user("a")).0, "mailboxID");
        }
        let renamed = begin(EventName::MailboxRename).mailbox_id(mailbox().into());
        assert_eq!(refused(renamed.clone()), ("oldMailboxID".to_owned(), "R95"));
        let same = renamed.old_mailbox_id(mailbox().into());
        assert_eq!(refused(same), ("oldMailboxID".to_owned(), "R95"));
    }

    #[test]
    fn r104_a_client_port_needs_its_address() {
        let mut builder = begin(EventName::QuotaChange);
        builder.event_mut().client_port = Some(1);
        assert_eq!(refused(builder), ("clientPort".to_owned(), "R104"));
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        let event = begin(EventName::QuotaChange).client(mapped, Some(5)).build().unwrap();
        assert_eq!(event.client_ip().unwrap().to_string(), "192.0.2.7");
    }

    #[test]
    fn r152_an_unprefixed_name_outside_the_registry_can_not_be_built() {
        let foo = begin("Foo".parse().unwrap());
        assert_eq!(refused(foo), ("event".to_owned(), "R152"));
        let builder =
            begin(EventName::QuotaChange).vendor(OtherName::new("aclRights").unwrap(), "lrs");
        assert_eq!(refused(builder).1, "R152");
        assert!(
            begin("vnd.example.Foo".parse().unwrap()).uidset(UidSet::single(1)).build().is_ok()
        );
    }
}
