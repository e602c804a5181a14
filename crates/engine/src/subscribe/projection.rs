//! Which parameters of an event leave, and what is put on it as it does.

mod choice;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use mail_event::{EventId, EventName, ParameterName, Presence, binding};
use memchr::memmem::Finder;

use self::choice::{ByEvent, Choice};
use super::demand::Demand;
use super::held::{Held, Why, fit};
use super::selection::{Kind, Parameters};
use crate::ceiling::{content_octets, is_content_over};
use crate::members::{Member, Members};
use crate::names::GAP;
use crate::{Policy, View};

/// What a delivery carries beside its event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The event's id.
    pub id: EventId,
    /// The record's number.
    pub seq: u64,
    /// The number of the delivery before it, if there was one.
    pub prev_seq: Option<u64>,
}

/// A compiled choice of parameters: one for all events, and others for some of them.
///
/// What the binding demands of an event always stays, what a gap tells, and companions: who asks for
/// `service` gets `user` (R148), and for `clientPort` gets `clientIP` (R104). Private parameters,
/// a vendor's too, leave only where they were asked for by name and policy lets them.
///
/// What was asked for and stays here, because policy keeps it or it is too large, is named on the
/// delivery, in `vnd.postbell.suppressed` (R43, R120).
#[derive(Clone, Debug)]
pub struct Projection {
    /// What is asked for of every event, but for those that have a choice of their own.
    usual: Choice,
    /// Those that do (R42); nothing is looked up where none does.
    own: Option<Box<ByEvent>>,
    /// The registered parameters each registered event leaves with, a bit each in the
    /// registry's order.
    by_event: [u32; 18],
    /// The registered parameters asked for that policy keeps, on the events that may have them.
    kept_by_event: [u32; 18],
    /// The subscription's tags as JSON, with the comma and the name before them.
    tags: Box<[u8]>,
    tagged: Finder<'static>,
    /// The largest content that leaves in its event, in octets.
    content_max_octets: u64,
    /// The largest that may be had by a link.
    linked_max_octets: u64,
    /// The largest event that does, in octets of JSON.
    event_max_octets: usize,
}

/// What becomes of a member.
enum Fate {
    Stays,
    Goes,
    /// It was asked for, and goes.
    IsHeld(Why),
}

impl Projection {
    /// What is held back by policy is named on deliveries.
    pub(super) fn new(
        parameters: &Parameters,
        by_event: &[(Kind, Parameters)],
        tags: &[String],
        policy: &Policy,
    ) -> Self {
        let (usual, own) = (Choice::new(parameters), ByEvent::new(by_event));
        let mut places = 0..;
        let choices = EventName::REGISTERED.map(|event| {
            let own = own.as_ref().zip(places.next()).and_then(|(own, at)| own.registered(at));
            (event, own.unwrap_or(&usual))
        });
        Self {
            by_event: choices.each_ref().map(|(event, one)| one.keep | mandatory(event)),
            kept_by_event: choices.each_ref().map(|(event, one)| one.kept_of(event)),
            usual,
            own,
            tags: tags_text(tags),
            tagged: Finder::new(b"\"tags\""),
            content_max_octets: policy.content_leaves().unwrap_or(0),
            linked_max_octets: policy.content_had().unwrap_or(0),
            event_max_octets: policy.event_leaves(),
        }
    }

    /// The parameters it lets leave that cost something to find out, of messages that are added by
    /// events for which `is_asked` says yes.
    pub(super) fn demand(&self, is_asked: impl Fn(&EventName) -> bool) -> Demand {
        let adding = self.by_event.iter().zip(&EVENTS);
        let adding = adding.filter(|(_, event)| ADDING.contains(event) && is_asked(event));
        let leaving = adding.fold(0, |bits, (keep, _)| bits | keep);
        let leaves = |name| leaving & bit(&name) != 0;
        Demand::of_parameters(
            leaves(ParameterName::MessageContent).then_some(self.content_max_octets),
            leaves(ParameterName::BodyStructure),
            leaves(ParameterName::Envelope),
        )
    }

    /// What is asked for of such an event.
    fn choice(&self, view: &View<'_>) -> &Choice {
        match &self.own {
            None => &self.usual,
            Some(own) => own.of(view).unwrap_or(&self.usual),
        }
    }

    /// Appends the event as it is delivered: projected, stamped and tagged, on one line. `view`
    /// is of `json`.
    ///
    /// Where nothing is to be cut, the octets are copied as they are. Where the event is larger
    /// than may leave, its largest parameters stay here, but never what the binding demands.
    pub fn write(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>, stamp: &Stamp) {
        self.write_linked(out, json, view, stamp, &[]);
    }

    /// Whether the delivery wants a link to content that is too large to leave in it. That the
    /// content is still there, and how large it is, whoever follows the link finds out.
    #[must_use]
    pub fn wants_link(&self, json: &[u8], view: &View<'_>) -> bool {
        if !self.choice(view).asks_content || !may_have_content(view.place()) {
            return false;
        }
        let (mut is_left_out, mut octets) = (false, None);
        for member in Members::new(json) {
            match member.name {
                CONTENT => {
                    is_left_out = is_content_over(&member, self.content_max_octets);
                    octets = Some(content_octets(member.value));
                }
                CONTENT_SUPPRESSED => is_left_out |= member.value == BY_SIZE,
                b"messageSize" if octets.is_none() => {
                    octets = serde_json::from_slice(member.value).ok();
                }
                _ => {}
            }
        }
        is_left_out && octets.is_none_or(|octets| octets <= self.linked_max_octets)
    }

    /// Octets of an event at most, as it is delivered.
    #[must_use]
    pub fn event_octets_max(&self) -> usize {
        self.event_max_octets
    }

    /// The same as [`Projection::write`] with a link to the content that is left out: the first of
    /// `links` with which nothing has to stay here for its sake, or the last. They are URLs, and
    /// nothing in them needs an escape in JSON.
    pub fn write_linked(
        &self,
        out: &mut Vec<u8>,
        json: &[u8],
        view: &View<'_>,
        stamp: &Stamp,
        links: &[&str],
    ) {
        out.reserve(json.len() + STAMP_OCTETS + self.tags.len());
        let start = out.len();
        match json.iter().rposition(|octet| *octet == b'}') {
            Some(end) if self.whole(json, view) => {
                out.extend_from_slice(json.get(..end).unwrap_or_default());
            }
            _ => self.cut(out, json, view),
        }
        let end = out.len();
        let mut links = links.iter();
        loop {
            out.truncate(end);
            if let Some(link) = links.next() {
                out.extend_from_slice(br#","vnd.postbell.contentUrl":""#);
                out.extend_from_slice(link.as_bytes());
                out.push(b'"');
            }
            write_stamp(out, stamp);
            out.extend_from_slice(&self.tags);
            out.push(b'}');
            if out.len() - start <= self.event_max_octets {
                return;
            }
            if links.len() == 0 {
                break;
            }
        }
        let tail = out.split_off(end);
        out.truncate(start);
        self.fitted(out, json, view, tail.len());
        out.extend_from_slice(&tail);
    }

    /// Whether the event leaves as it is. May say no where it does, never yes where it doesn't.
    fn whole(&self, json: &[u8], view: &View<'_>) -> bool {
        let choice = self.choice(view);
        let whole = if view.private() { choice.private_whole } else { choice.public_whole };
        whole
            && (!choice.asks_content || !may_have_content(view.place()))
            && self.kept(view) == 0
            && choice.kept_vendors.is_empty()
            && (self.tags.is_empty() || self.tagged.find(json).is_none())
            && stamps(json).next().is_none()
    }

    /// Appends what stays of the event, without its closing brace.
    fn cut(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>) {
        let (mut separator, mut held) = (b'{', Held::default());
        for member in self.staying(json, view, &mut held) {
            out.push(separator);
            out.extend_from_slice(member.text);
            separator = b',';
        }
        held.write(out);
    }

    /// The same of an event that would be too large; `others` is what follows it, in octets.
    fn fitted(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>, others: usize) {
        let mut held = Held::default();
        let mut members = self.staying(json, view, &mut held);
        let must_stay = match view.place().and_then(|place| MANDATORY.get(usize::from(place))) {
            Some(mandatory) => *mandatory,
            None => MANDATORY_ALWAYS,
        };
        // What is there as a companion is what another can't be without.
        let must_stay = must_stay | bits(&COMPANIONS.map(|(_, companion)| companion));
        let may_stay_here = |name: &[u8]| {
            name != b"event" && index(name).is_none_or(|at| must_stay & (1 << at) == 0)
        };
        fit(&mut members, &mut held, others, self.event_max_octets, may_stay_here);
        let mut separator = b'{';
        for member in members {
            out.push(separator);
            out.extend_from_slice(member.text);
            separator = b',';
        }
        held.write(out);
    }

    /// The members that leave; those that don't although they were asked for are put into `held`.
    fn staying<'a>(&self, json: &'a [u8], view: &View<'_>, held: &mut Held<'a>) -> Vec<Member<'a>> {
        let choice = self.choice(view);
        let keep = view.place().and_then(|place| self.by_event.get(usize::from(place)));
        let keep = keep.copied().unwrap_or(choice.keep | MANDATORY_ALWAYS);
        let is_gap = view.place().is_none() && view.name() == GAP;
        let mut members = Vec::with_capacity(USUAL_MEMBERS);
        for member in Members::new(json) {
            if member.name == CONTENT_SUPPRESSED && choice.asks_content {
                held.add(CONTENT, Why::Size);
            }
            match self.fate(&member, choice, keep, self.kept(view)) {
                Fate::Stays => members.push(member),
                Fate::Goes if is_gap && OF_A_GAP.contains(&member.name) => members.push(member),
                Fate::Goes => {}
                Fate::IsHeld(why) => held.add(member.name, why),
            }
        }
        // Nobody made what may not leave at all: it isn't in the event, and was asked for.
        for name in &ParameterName::PRIVATE {
            if self.kept(view) & bit(name) != 0 {
                held.add(private_name(name), Why::Policy);
            }
        }
        members
    }

    /// The registered parameters asked for that policy keeps from leaving with such an event.
    fn kept(&self, view: &View<'_>) -> u32 {
        let kept = view.place().and_then(|place| self.kept_by_event.get(usize::from(place)));
        kept.copied().unwrap_or(0)
    }

    fn fate(&self, member: &Member<'_>, choice: &Choice, keep: u32, kept: u32) -> Fate {
        let name = member.name;
        let stays = |stays| if stays { Fate::Stays } else { Fate::Goes };
        if name == b"event" {
            return Fate::Stays;
        }
        if let Some(at) = index(name) {
            if kept & (1 << at) != 0 {
                return Fate::IsHeld(Why::Policy);
            }
            let replaced = name == b"tags" && !self.tags.is_empty();
            let is_wanted = keep & (1 << at) != 0 && !replaced;
            if is_wanted && is_content_over(member, self.content_max_octets) {
                return Fate::IsHeld(Why::Size);
            }
            return stays(is_wanted);
        }
        if STAMPS.iter().any(|stamp| stamp.as_bytes() == name) {
            return Fate::Goes;
        }
        if contains(&choice.kept_vendors, name) {
            return Fate::IsHeld(Why::Policy);
        }
        stays(choice.lets_leave(name))
    }
}

fn contains(sorted: &[Box<str>], name: &[u8]) -> bool {
    sorted.binary_search_by(|one| one.as_bytes().cmp(name)).is_ok()
}

/// The name of a private parameter of the registry.
fn private_name(parameter: &ParameterName) -> &'static [u8] {
    match parameter {
        ParameterName::BodyStructure => b"bodyStructure",
        ParameterName::Envelope => b"envelope",
        _ => CONTENT,
    }
}

/// Whether an event at this place of the registry may carry a message; one outside it may carry
/// anything.
fn may_have_content(place: Option<u8>) -> bool {
    let event = place.and_then(|place| EVENTS.get(usize::from(place)));
    event.is_none_or(|event| ADDING.contains(event))
}

/// Events that add a message.
static ADDING: [EventName; 2] = [EventName::MessageAppend, EventName::MessageNew];

/// Once, since a constant is made anew wherever it is used.
static EVENTS: [EventName; 18] = EventName::REGISTERED;

/// What each registered event can't be without, in the registry's order.
static MANDATORY: LazyLock<[u32; 18]> =
    LazyLock::new(|| EventName::REGISTERED.map(|event| mandatory(&event)));

/// Looked for in every event that leaves: made ready once.
static STAMP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STAMP_PREFIX));

/// The stamps a text may hold already; never misses one of a strict event.
fn stamps(json: &[u8]) -> impl Iterator<Item = &'static str> {
    STAMP.find_iter(json).filter_map(move |at| {
        let name = json.get(at + 1..)?;
        let ours = |stamp: &&str| {
            name.strip_prefix(stamp.as_bytes()).is_some_and(|after| after.starts_with(b"\""))
        };
        STAMPS.into_iter().find(ours)
    })
}

fn write_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(br#","vnd.postbell.eventId":""#);
    out.extend_from_slice(&stamp.id.to_bytes());
    let mut number = |name: &[u8], value: u64| {
        out.extend_from_slice(name);
        // Writing a number to memory can't fail.
        serde_json::to_writer(&mut *out, &value).unwrap_or_default();
    };
    number(br#"","vnd.postbell.seq":"#, stamp.seq);
    if let Some(previous) = stamp.prev_seq {
        number(br#","vnd.postbell.prevSeq":"#, previous);
    }
}

fn tags_text(tags: &[String]) -> Box<[u8]> {
    if tags.is_empty() {
        return Box::default();
    }
    // Their grammar leaves nothing that JSON would have to escape.
    format!(r#","tags":["{}"]"#, tags.join(r#"",""#)).into_bytes().into()
}

/// The registered parameters that `event` can't be without.
fn mandatory(event: &EventName) -> u32 {
    let needed: Vec<_> = ParameterName::REGISTERED
        .into_iter()
        .filter(|parameter| binding::presence(event, parameter) == Presence::Mandatory)
        .collect();
    let limits = match event {
        EventName::QuotaExceed | EventName::QuotaWithin => {
            bits(&[ParameterName::DiskQuota, ParameterName::MaxMessages])
        }
        _ => 0,
    };
    bits(&needed) | limits
}

fn bits(parameters: &[ParameterName]) -> u32 {
    parameters.iter().map(bit).fold(0, |bits, bit| bits | bit)
}

fn bit(parameter: &ParameterName) -> u32 {
    index(parameter.as_str().as_bytes()).map_or(0, |at| 1 << at)
}

/// Where a registered parameter stands in the registry's order.
fn index(name: &[u8]) -> Option<u32> {
    let known = ParameterName::REGISTERED.iter().position(|one| one.as_str().as_bytes() == name);
    known.and_then(|at| u32::try_from(at).ok())
}

/// What no event can be without: `timestamp` and `uri`.
const MANDATORY_ALWAYS: u32 = 1 << 22 | 1 << 25;

/// All twenty-seven.
const ALL: u32 = (1 << 27) - 1;

/// Who asks for the first gets the second: without it the event would break the binding.
pub(super) const COMPANIONS: [(ParameterName, ParameterName); 2] = [
    (ParameterName::Service, ParameterName::User),
    (ParameterName::ClientPort, ParameterName::ClientIp),
];

/// The id of a delivery's event.
pub(crate) const EVENT_ID: &str = "vnd.postbell.eventId";

/// What is put on each delivery, where there is anything to say.
const STAMPS: [&str; 6] = [
    EVENT_ID,
    "vnd.postbell.seq",
    "vnd.postbell.prevSeq",
    "vnd.postbell.suppressed",
    "vnd.postbell.contentUrl",
    "vnd.postbell.signature",
];

/// What a gap tells: without it nobody knows what they miss.
const OF_A_GAP: [&[u8]; 3] =
    [b"vnd.postbell.gapFrom", b"vnd.postbell.gapTo", b"vnd.postbell.gapReason"];

/// What says that a message was too large for its content to be made.
const CONTENT_SUPPRESSED: &[u8] = b"vnd.postbell.contentSuppressed";

/// Its value where the store can be asked for it.
const BY_SIZE: &[u8] = br#""size""#;

const CONTENT: &[u8] = b"messageContent";

/// Members of an event that is cut, about.
const USUAL_MEMBERS: usize = 24;

/// What their names begin with, in JSON.
const STAMP_PREFIX: &str = "\"vnd.postbell.";

/// Octets of a stamp at most.
const STAMP_OCTETS: usize = 160;
