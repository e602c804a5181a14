//! Events in: lenient, with every repair told.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::members::{Members, compact};
use super::{JsonError, Parsed};
use crate::flags::is_canonical;
use crate::limits::EVENT_OCTETS_MAX;
use crate::{
    BindingError, Builder, Envelope, Event, EventGroup, EventName, Flag, Flags, InvalidFlag,
    MessageContent, Modseq, OtherName, ParameterName, Presence, Repair, Timestamp, UidSet, Uri,
    Value, binding,
};

/// Reads an event as stores send them, and lists what had to be changed.
///
/// Understood beside the strict form: names in another case, RFC 5423's own slips
/// (`MessageExpires`), flags joined by spaces and tags by commas, numbers as texts, `Z` and
/// `+0100`, IMAP URLs with a raw `@`, quotas of −1, service names such as `imaps`. Names outside
/// the registry that do not begin with `vnd.` are kept under `vnd.postbell.unregistered.`.
///
/// # Errors
///
/// Where it is no JSON object, breaks the binding, or holds a value that can't be understood;
/// the error names the parameter.
///
/// ```
/// let parsed = mail_event::json::from_slice(
///     br#"{"event":"flagsset","uri":"imap://h/INBOX;UIDVALIDITY=1","uidset":"1",
///          "timestamp":"2026-08-20T11:34:14Z","flagNames":"\\Seen $Junk"}"#,
/// )?;
/// assert_eq!(parsed.repairs.len(), 3);
/// # Ok::<(), mail_event::json::JsonError>(())
/// ```
pub fn from_slice(json: &[u8]) -> Result<Parsed, JsonError> {
    if json.len() > EVENT_OCTETS_MAX {
        return Err(JsonError::TooLong { octets: json.len() });
    }
    let Members(members) =
        serde_json::from_slice(json).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let mut reading = Reading::default();
    let (mut given, mut others) = (Given::default(), Vec::new());
    for (name, value) in members {
        if name == "event" {
            given.event.replace(value).map_or(Ok(()), |_| duplicate("event"))?;
            continue;
        }
        match reading.parameter(&name)? {
            ParameterName::Other(name) => others.push((name, value)),
            parameter => given.put(parameter, value)?,
        }
    }
    for parameter in given.nulls() {
        reading.repairs.push(Repair::dropped(parameter.as_str(), "it is null"));
    }
    let builder = reading.begin(&given)?;
    let builder = reading.texts(builder, &given)?;
    let builder = reading.numbers(builder, &given)?;
    let builder = reading.lists(builder, &given)?;
    let builder = reading.references(builder, &given)?;
    let builder = reading.vendors(builder, others)?;
    let builder = reading.mend(builder)?;
    Ok(Parsed { event: builder.build()?, repairs: reading.repairs })
}

/// The registered members by place.
#[derive(Default)]
struct Given<'a> {
    event: Option<&'a RawValue>,
    values: [Option<&'a RawValue>; 27],
}

impl<'a> Given<'a> {
    fn put(&mut self, parameter: ParameterName, value: &'a RawValue) -> Result<(), JsonError> {
        let place = parameter.index().and_then(|index| self.values.get_mut(index as usize));
        match place {
            Some(place) if place.is_none() => *place = Some(value),
            _ => return duplicate(parameter.as_str()),
        }
        Ok(())
    }

    fn get(&self, parameter: &ParameterName) -> Option<&'a RawValue> {
        let value = self.values.get(parameter.index()? as usize).copied().flatten();
        value.filter(|value| value.get() != "null")
    }

    /// The members that say nothing.
    fn nulls(&self) -> impl Iterator<Item = ParameterName> + '_ {
        let is_null = |value: Option<&RawValue>| value.is_some_and(|one| one.get() == "null");
        let named = ParameterName::REGISTERED.into_iter().zip(self.values);
        named.filter(move |(_, value)| is_null(*value)).map(|(parameter, _)| parameter)
    }
}

fn duplicate<T>(parameter: &str) -> Result<T, JsonError> {
    Err(JsonError::Duplicate { parameter: parameter.to_owned() })
}

fn invalid<T>(parameter: &str, message: impl ToString) -> Result<T, JsonError> {
    Err(JsonError::Invalid { parameter: parameter.to_owned(), message: message.to_string() })
}

/// What is gathered while reading.
#[derive(Default)]
struct Reading {
    repairs: Vec<Repair>,
    flags_emptied: bool,
    mailbox_is_no_uri: bool,
}

impl Reading {
    /// Told once for each parameter, however much of it was changed.
    fn rewritten(&mut self, parameter: &str) {
        let repair = Repair::rewritten(parameter);
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }

    /// A parameter's name, by hook or by crook.
    fn parameter(&mut self, name: &str) -> Result<ParameterName, JsonError> {
        let refused = |source| JsonError::Name { name: name.chars().take(64).collect(), source };
        let known: ParameterName = name.parse().map_err(refused)?;
        let ParameterName::Other(other) = &known else { return Ok(known) };
        if other.is_vendor() {
            return Ok(known);
        }
        if let Some(registered) = ParameterName::registered_ignoring_case(name) {
            self.rewritten(name);
            return Ok(registered);
        }
        let kept = OtherName::new(&format!("{UNREGISTERED}{name}")).map_err(refused)?;
        self.repairs.push(Repair::moved(name, kept.as_str()));
        Ok(ParameterName::Other(kept))
    }

    fn begin(&mut self, given: &Given<'_>) -> Result<Builder, JsonError> {
        let name: String = required(given.event, "event")?;
        let name = self.event_name(&name)?;
        let uri = self.uri(given, &ParameterName::Uri)?;
        let uri = uri.ok_or(JsonError::Missing { parameter: "uri" })?;
        let time: String = required(given.get(&ParameterName::Timestamp), "timestamp")?;
        let (time, repair) =
            Timestamp::parse_lenient(&time).or_else(|error| invalid("timestamp", error))?;
        self.repairs.extend(repair);
        Ok(Event::builder(name, uri, time))
    }

    fn event_name(&mut self, text: &str) -> Result<EventName, JsonError> {
        let refused =
            |source| JsonError::EventName { name: text.chars().take(64).collect(), source };
        let known: EventName = text.parse().map_err(refused)?;
        let EventName::Other(other) = &known else { return Ok(known) };
        if other.is_vendor() {
            return Ok(known);
        }
        // RFC 5423, section 5, itself slips into the plural (A1).
        let singular = text.strip_suffix(['s', 'S']).unwrap_or(text);
        let meant = EventName::registered_ignoring_case(text)
            .or_else(|| EventName::registered_ignoring_case(singular));
        if let Some(registered) = meant {
            self.rewritten("event");
            return Ok(registered);
        }
        let kept = OtherName::new(&format!("{UNREGISTERED}{text}")).map_err(refused)?;
        self.repairs.push(Repair::moved("event", kept.as_str()));
        Ok(EventName::Other(kept))
    }

    fn uri(
        &mut self,
        given: &Given<'_>,
        parameter: &ParameterName,
    ) -> Result<Option<Uri>, JsonError> {
        let Some(text) = text(given, parameter)? else { return Ok(None) };
        let (uri, is_strict) =
            Uri::parse_lenient(&text).or_else(|error| invalid(parameter.as_str(), error))?;
        if !is_strict {
            self.rewritten(parameter.as_str());
        }
        Ok(Some(uri))
    }

    fn texts(&mut self, mut builder: Builder, given: &Given<'_>) -> Result<Builder, JsonError> {
        use ParameterName as P;
        let event = builder.event_mut();
        event.body_structure = self.non_empty(given, &P::BodyStructure)?;
        event.process = self.non_empty(given, &P::Process)?;
        event.server_domain = self.non_empty(given, &P::ServerDomain)?;
        event.server_fqdn = self.non_empty(given, &P::ServerFqdn)?;
        event.user = self.non_empty(given, &P::User)?;
        event.admin = self.non_empty(given, &P::Admin)?;
        if event.admin.is_some() && event.admin == event.user {
            event.admin = None;
            self.repairs.push(Repair::dropped("admin", "it is the same as user (R101)"));
        }
        if let Some(raw) = self.non_empty(given, &P::Service)? {
            return Ok(self.service(builder, &raw));
        }
        Ok(builder)
    }

    /// Stores spell the same service in several ways (R133).
    fn service(&mut self, builder: Builder, raw: &str) -> Builder {
        match service_alias(raw) {
            None => builder.service(raw),
            Some(service) => {
                self.rewritten("service");
                let text = Value::from(raw).to_string();
                builder.service(service).vendor_text("vnd.postbell.rawService", text.into())
            }
        }
    }

    fn non_empty(
        &mut self,
        given: &Given<'_>,
        parameter: &ParameterName,
    ) -> Result<Option<Box<str>>, JsonError> {
        let text = text(given, parameter)?;
        if text.as_deref() == Some("") {
            self.repairs.push(Repair::dropped(parameter.as_str(), "it is empty"));
            return Ok(None);
        }
        Ok(text.map(Into::into))
    }

    fn numbers(&mut self, mut builder: Builder, given: &Given<'_>) -> Result<Builder, JsonError> {
        use ParameterName as P;
        let port = |number: Option<u64>, parameter: &P| match number.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(port)) if port != 0 => Ok(Some(port)),
            Some(_) => invalid(parameter.as_str(), "not a port from 1 to 65535"),
        };
        let client_port = port(self.number(given, &P::ClientPort)?, &P::ClientPort)?;
        let server_port = port(self.number(given, &P::ServerPort)?, &P::ServerPort)?;
        let uidnext = self.number(given, &P::Uidnext)?.map(u32::try_from);
        let event = builder.event_mut();
        event.client_port = client_port;
        event.server_port = server_port;
        event.disk_quota = self.number(given, &P::DiskQuota)?;
        event.disk_used = self.number(given, &P::DiskUsed)?;
        event.max_messages = self.number(given, &P::MaxMessages)?;
        event.message_size = self.number(given, &P::MessageSize)?;
        event.messages = self.number(given, &P::Messages)?;
        event.pid = self.number(given, &P::Pid)?;
        event.uidnext = match uidnext {
            None => None,
            Some(Ok(uid)) if uid != 0 => Some(uid),
            Some(_) => return invalid("uidnext", "not a number from 1 to 4294967295"),
        };
        event.modseq = self.modseq(given)?;
        if let Some(address) = text(given, &P::ClientIp)? {
            let address = self.address(&address)?;
            event.client_ip = Some(address);
        }
        Ok(builder)
    }

    fn address(&mut self, text: &str) -> Result<IpAddr, JsonError> {
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = inside.unwrap_or(text);
        let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
        let address: IpAddr =
            bare.parse().or_else(|_| invalid("clientIP", "not an IPv4 or IPv6 address"))?;
        let address = address.to_canonical();
        if address.to_string() != text {
            self.rewritten("clientIP");
        }
        Ok(address)
    }

    /// A whole number; one written as text is read, a negative one means there is none.
    fn number(
        &mut self,
        given: &Given<'_>,
        parameter: &ParameterName,
    ) -> Result<Option<u64>, JsonError> {
        let Some(value) = given.get(parameter) else { return Ok(None) };
        let name = parameter.as_str();
        let json = value.get();
        let digits = json.trim_matches('"');
        if digits.len() != json.len() {
            self.rewritten(name);
        }
        if let Ok(number) = digits.parse::<u64>() {
            return if number > crate::builder::NUMBER_MAX {
                invalid(name, "over 2^53−1")
            } else {
                Ok(Some(number))
            };
        }
        if digits.parse::<i64>().is_ok_and(|number| number < 0) {
            self.repairs.push(Repair::dropped(name, "a negative number means that there is none"));
            return Ok(None);
        }
        invalid(name, "not a whole number")
    }

    fn modseq(&mut self, given: &Given<'_>) -> Result<Option<Modseq>, JsonError> {
        let Some(value) = given.get(&ParameterName::Modseq) else { return Ok(None) };
        let json = value.get();
        let digits = json.trim_matches('"');
        let is_text = digits.len() != json.len();
        let number = digits.parse::<u64>().ok();
        let is_large = number.is_some_and(|number| number > crate::builder::NUMBER_MAX);
        if number == Some(0) {
            self.repairs.push(Repair::dropped("modseq", "0 is no MODSEQ"));
            return Ok(None);
        }
        if is_text != is_large || digits.starts_with(['0', '+']) {
            self.rewritten("modseq");
        }
        match number.and_then(Modseq::new) {
            Some(modseq) => Ok(Some(modseq)),
            None => invalid("modseq", "not a number from 1 to 2^63−1"),
        }
    }

    fn lists(&mut self, mut builder: Builder, given: &Given<'_>) -> Result<Builder, JsonError> {
        if let Some(value) = given.get(&ParameterName::FlagNames) {
            let names = self.list(value, "flagNames", |text| {
                text.split_ascii_whitespace().map(str::to_owned).collect()
            })?;
            let flags = self.flags(names)?;
            builder = builder.flag_names(flags);
        }
        if let Some(value) = given.get(&ParameterName::Tags) {
            let tags = self.list(value, "tags", |text| {
                text.split(',').map(|tag| tag.trim().to_owned()).collect()
            })?;
            let count = tags.len();
            for tag in tags {
                builder = builder.tag(tag);
            }
            if builder.event().tags.len() < count || count == 0 {
                self.rewritten("tags");
            }
        }
        Ok(builder)
    }

    fn list(
        &mut self,
        value: &RawValue,
        parameter: &str,
        split: fn(&str) -> Vec<String>,
    ) -> Result<Vec<String>, JsonError> {
        if let Ok(list) = serde_json::from_str::<Vec<String>>(value.get()) {
            return Ok(list);
        }
        let joined: String = read(value, parameter)?;
        self.rewritten(parameter);
        Ok(split(&joined))
    }

    fn flags(&mut self, names: Vec<String>) -> Result<Flags, JsonError> {
        let mut flags = Flags::new();
        let (mut rewritten, mut recent) = (names.is_empty(), false);
        for name in names {
            match name.parse::<Flag>() {
                Ok(flag) => {
                    rewritten |= !is_canonical(&name) || flags.contains(&flag);
                    flags.insert(flag);
                }
                Err(InvalidFlag::Recent) => recent = true,
                Err(error) => return invalid("flagNames", error),
            }
        }
        if rewritten {
            self.rewritten("flagNames");
        }
        if recent {
            self.flags_emptied = flags.is_empty();
            self.repairs.push(Repair::dropped("flagNames", r"\Recent may not be named (R61)"));
        }
        Ok(flags)
    }

    fn references(
        &mut self,
        mut builder: Builder,
        given: &Given<'_>,
    ) -> Result<Builder, JsonError> {
        use ParameterName as P;
        for parameter in [P::MailboxId, P::OldMailboxId] {
            let Some(text) = text(given, &parameter)? else { continue };
            if let Ok((uri, is_strict)) = Uri::parse_lenient(&text) {
                if !is_strict {
                    self.rewritten(parameter.as_str());
                }
                builder = match parameter {
                    P::MailboxId => builder.mailbox_id(uri),
                    _ => builder.old_mailbox_id(uri),
                };
            } else {
                // Cyrus gives its own identifier here, which is no URI (R116).
                let kept = format!("vnd.postbell.object.{parameter}");
                self.repairs.push(Repair::moved(parameter.as_str(), &kept));
                self.mailbox_is_no_uri |= parameter == P::MailboxId;
                builder = builder.vendor_text(&kept, Value::from(text).to_string().into());
            }
        }
        if let Some(text) = text(given, &P::Uidset)? {
            let (uids, is_canonical) =
                UidSet::parse_lenient(&text).or_else(|error| invalid("uidset", error))?;
            if !is_canonical {
                self.rewritten("uidset");
            }
            builder = builder.uidset(uids);
        }
        if let Some(text) = text(given, &P::Envelope)? {
            let envelope: Envelope = text.parse().or_else(|error| invalid("envelope", error))?;
            builder = builder.envelope(envelope);
        }
        if let Some(value) = given.get(&P::MessageContent) {
            builder = builder.message_content(content(value)?);
        }
        Ok(builder)
    }

    fn vendors(
        &mut self,
        mut builder: Builder,
        others: Vec<(OtherName, &RawValue)>,
    ) -> Result<Builder, JsonError> {
        for (name, value) in others {
            if builder.event().vendors.iter().any(|(known, _)| **known == *name.as_str()) {
                return duplicate(name.as_str());
            }
            let Some(json) = compact(value.get()) else {
                return invalid(name.as_str(), "nested too deep");
            };
            builder = builder.vendor_text(name.as_str(), json);
        }
        Ok(builder)
    }

    /// Mends what is right by itself and wrong on this event.
    fn mend(&mut self, mut builder: Builder) -> Result<Builder, JsonError> {
        let name = builder.event().name.clone();
        let is_addition = matches!(name, EventName::MessageAppend | EventName::MessageNew);
        let event = builder.event_mut();
        self.mend_uri(event);
        if name == EventName::MessageAppend && event.envelope.take().is_some() {
            self.repairs.push(Repair::dropped("envelope", "MessageAppend has none (R28)"));
        }
        if is_addition && let Some(uids) = event.uidset.take() {
            self.fold_uid(event, uids)?;
        }
        let uid_count = event.uidset.as_ref().map_or(1, UidSet::len);
        if !matches!(name, EventName::Other(_))
            && uid_count > 1
            && let Some(modseq) = event.modseq.take()
        {
            // On a set, Cyrus means the mailbox's highest (A4).
            let kept = "vnd.postbell.highestModseq";
            self.repairs.push(Repair::moved("modseq", kept));
            let text = format!("\"{modseq}\"");
            builder = builder.vendor_text(kept, text.into());
        }
        let emptied = match name {
            EventName::FlagsSet if self.flags_emptied => Some("R61"),
            EventName::FlagsClear if self.flags_emptied => Some("R66"),
            _ => None,
        };
        if let Some(rule) = emptied {
            let message = r"flagNames: only \Recent is named, which is no event".to_owned();
            return Err(BindingError::new(name.as_str(), "flagNames", rule, message).into());
        }
        Ok(builder)
    }

    /// Some stores name the one message in `uri` where a set is due, a mailbox where a client
    /// logs in, and something else where the mailbox's URI is due.
    fn mend_uri(&mut self, event: &mut Event) {
        let Uri::Imap(url) = &event.uri else { return };
        let has_set = binding::presence(&event.name, &ParameterName::Uidset) == Presence::Mandatory;
        if has_set && let Some(uid) = url.uid() {
            if event.uidset.is_none() {
                self.repairs.push(Repair::taken("uidset", "uri"));
            }
            let uids = event.uidset.get_or_insert_with(|| UidSet::single(uid));
            if uids.contains(uid) {
                event.uri = url.without_message().into();
                self.rewritten("uri");
            }
        } else if event.name.group() == EventGroup::Access && url.mailbox().is_some() {
            event.uri = url.without_mailbox().into();
            self.rewritten("uri");
        }
        let needs_mailbox =
            binding::presence(&event.name, &ParameterName::MailboxId) == Presence::Mandatory;
        if needs_mailbox
            && self.mailbox_is_no_uri
            && let Uri::Imap(url) = &event.uri
        {
            // What they give is kept; the mailbox itself is named by uri.
            event.mailbox_id = Some(url.without_message().into());
            self.repairs.push(Repair::taken("mailboxID", "uri"));
        }
    }

    /// Some stores give the UID of an added message as a set (A18).
    fn fold_uid(&mut self, event: &mut Event, uids: UidSet) -> Result<(), JsonError> {
        let Some(uid) = uids.only() else {
            return invalid("uidset", "an event about an added message names one UID");
        };
        if let Uri::Imap(url) = &event.uri {
            match url.uid() {
                None => event.uri = url.clone().with_uid(uid).into(),
                Some(known) if known == uid => {}
                Some(_) => return invalid("uidset", "names another UID than uri"),
            }
        }
        self.repairs.push(Repair::dropped("uidset", "the UID stands in uri (A18)"));
        Ok(())
    }
}

/// The registered name of a service that has several spellings, or nothing if it is fine.
pub(crate) fn service_alias(service: &str) -> Option<&'static str> {
    match service {
        "imaps" => Some("imap"),
        "pop3" | "pop3s" | "pops" => Some("pop"),
        "https" => Some("http"),
        "lmtpunix" => Some("lmtp"),
        _ => None,
    }
}

fn required(value: Option<&RawValue>, parameter: &'static str) -> Result<String, JsonError> {
    read(value.ok_or(JsonError::Missing { parameter })?, parameter)
}

fn text(given: &Given<'_>, parameter: &ParameterName) -> Result<Option<String>, JsonError> {
    given.get(parameter).map(|value| read(value, parameter.as_str())).transpose()
}

fn read<T: DeserializeOwned>(value: &RawValue, parameter: &str) -> Result<T, JsonError> {
    serde_json::from_str(value.get()).or_else(|_| invalid(parameter, "not a text"))
}

fn content(value: &RawValue) -> Result<MessageContent, JsonError> {
    if let Ok(text) = serde_json::from_str::<String>(value.get()) {
        return Ok(MessageContent::new(text.into_bytes()));
    }
    let object: serde_json::Map<String, Value> = serde_json::from_str(value.get())
        .or_else(|_| invalid("messageContent", "neither a text nor an object"))?;
    let encoded = object.get("base64").and_then(Value::as_str).filter(|_| object.len() == 1);
    let Some(encoded) = encoded else {
        return invalid("messageContent", "an object here holds base64 and nothing else");
    };
    let octets = STANDARD.decode(encoded).or_else(|error| invalid("messageContent", error))?;
    Ok(MessageContent::new(octets))
}

/// Where names outside the registry go that do not begin with `vnd.` (R152).
const UNREGISTERED: &str = "vnd.postbell.unregistered.";
