//! Which parameters of an event leave, and what is put on it as it does.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use mail_event::{EventId, EventName, ParameterName, Presence, binding};
use memchr::memmem::Finder;

use super::selection::Parameters;
use crate::View;
use crate::members::Members;

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

/// A compiled choice of parameters.
///
/// What the binding demands of an event always stays, and so do companions: who asks for
/// `service` gets `user` (R148), and for `clientPort` gets `clientIP` (R104). Private parameters,
/// a vendor's too, leave only where they were asked for by name and policy lets them.
#[derive(Clone, Debug)]
pub struct Projection {
    /// Whether an event without private parameters leaves whole.
    public_whole: bool,
    /// Whether one with private parameters does.
    private_whole: bool,
    /// The registered parameters each registered event leaves with, a bit each in the
    /// registry's order.
    by_event: [u32; 18],
    /// The same for events outside the registry.
    vendor_event: u32,
    /// Whether every parameter outside the registry.
    all_vendors: bool,
    /// Parameters outside the registry, sorted.
    vendors: Box<[Box<str>]>,
    /// The subscription's tags as JSON, with the comma and the name before them.
    tags: Box<[u8]>,
    tagged: Finder<'static>,
}

impl Projection {
    pub(super) fn new(parameters: &Parameters, tags: &[String]) -> Self {
        let private = bits(&ParameterName::PRIVATE);
        let named: Vec<_> = parameters.named.iter().cloned().collect();
        let mut keep = bits(&named);
        if parameters.all {
            keep |= ALL & !private;
        }
        for (asked, companion) in COMPANIONS {
            if keep & bit(&asked) != 0 {
                keep |= bit(&companion);
            }
        }
        let vendors = parameters.named.iter().filter_map(|name| match name {
            ParameterName::Other(name) => Some(Box::from(name.as_str())),
            _ => None,
        });
        Self {
            public_whole: parameters.all && keep & !private == ALL & !private,
            private_whole: parameters.all && keep == ALL && names_all(&parameters.named),
            by_event: EventName::REGISTERED.map(|event| keep | mandatory(&event)),
            vendor_event: keep | bits(&[ParameterName::Uri, ParameterName::Timestamp]),
            all_vendors: parameters.all,
            vendors: vendors.collect(),
            tags: tags_text(tags),
            tagged: Finder::new(b"\"tags\""),
        }
    }

    /// Appends the event as it is delivered: projected, stamped and tagged, on one line. `view`
    /// is of `json`.
    ///
    /// Where nothing is to be cut, the octets are copied as they are.
    pub fn write(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>, stamp: &Stamp) {
        out.reserve(json.len() + STAMP_OCTETS + self.tags.len());
        match json.iter().rposition(|octet| *octet == b'}') {
            Some(end) if self.whole(json, view) => {
                out.extend_from_slice(json.get(..end).unwrap_or_default());
            }
            _ => self.cut(out, json, view),
        }
        write_stamp(out, stamp);
        out.extend_from_slice(&self.tags);
        out.push(b'}');
    }

    /// Whether the event leaves as it is. May say no where it does, never yes where it doesn't.
    fn whole(&self, json: &[u8], view: &View<'_>) -> bool {
        let whole = if view.private() { self.private_whole } else { self.public_whole };
        whole
            && (self.tags.is_empty() || self.tagged.find(json).is_none())
            && stamps(json).next().is_none()
    }

    /// Appends what stays of the event, without its closing brace.
    fn cut(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>) {
        let keep = match view.place() {
            Some(place) => self.by_event.get(usize::from(place)).copied(),
            None => None,
        };
        let keep = keep.unwrap_or(self.vendor_event);
        let mut separator = b'{';
        for member in Members::new(json) {
            if self.stays(member.name, keep) {
                out.push(separator);
                out.extend_from_slice(member.text);
                separator = b',';
            }
        }
    }

    fn stays(&self, name: &[u8], keep: u32) -> bool {
        if name == b"event" {
            return true;
        }
        if let Some(at) = index(name) {
            let replaced = name == b"tags" && !self.tags.is_empty();
            return keep & (1 << at) != 0 && !replaced;
        }
        if STAMPS.iter().any(|stamp| stamp.as_bytes() == name) {
            return false;
        }
        let is_private = || ParameterName::PRIVATE_VENDORS.iter().any(|one| one.as_bytes() == name);
        self.vendors.binary_search_by(|one| one.as_bytes().cmp(name)).is_ok()
            || (self.all_vendors && !is_private())
    }
}

/// Whether every private parameter of a vendor's is asked for.
fn names_all(named: &BTreeSet<ParameterName>) -> bool {
    let is_named = |name| named.iter().any(|one| one.as_str() == name);
    ParameterName::PRIVATE_VENDORS.into_iter().all(is_named)
}

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

/// All twenty-seven.
const ALL: u32 = (1 << 27) - 1;

/// Who asks for the first gets the second: without it the event would break the binding.
pub(super) const COMPANIONS: [(ParameterName, ParameterName); 2] = [
    (ParameterName::Service, ParameterName::User),
    (ParameterName::ClientPort, ParameterName::ClientIp),
];

/// The id of a delivery's event.
pub(crate) const EVENT_ID: &str = "vnd.postbell.eventId";

/// What is put on each delivery.
const STAMPS: [&str; 3] = [EVENT_ID, "vnd.postbell.seq", "vnd.postbell.prevSeq"];

/// What their names begin with, in JSON.
const STAMP_PREFIX: &str = "\"vnd.postbell.";

/// Octets of a stamp at most.
const STAMP_OCTETS: usize = 160;

#[cfg(test)]
mod tests {
    use mail_event::json;
    use proptest::prelude::*;

    use super::*;
    use crate::{Keys, Policy, Selection};

    const NEW: &str = r#"{"event":"MessageNew","uri":"imap://a%40b@h/INBOX;UIDVALIDITY=7/;UID=5","timestamp":"2026-08-20T13:34:14+02:00","user":"a@b","bodyStructure":"(\"TEXT\")","envelope":"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n","messageContent":"Subject: x\r\n\r\n","messageSize":14,"service":"imap","tags":["old"],"vnd.example.a":{"b":[1,"}"]},"vnd.example.c":true}"#;

    fn stamp() -> Stamp {
        Stamp { id: EventId::new(1_787_225_654_000, 7), seq: 12, prev_seq: Some(9) }
    }

    fn open() -> Policy {
        Policy {
            content_max_octets: Some(1_000),
            body_structure: true,
            envelope: true,
            ..Policy::default()
        }
    }

    fn written(parameters: &[&str], tags: &[&str], policy: &Policy, json: &str) -> String {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let selection =
            Selection { parameters: texts(parameters), tags: texts(tags), ..Selection::default() };
        let (_, projection) = selection.compile(policy).unwrap();
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        let mut out = Vec::new();
        projection.write(&mut out, json.as_bytes(), &view, &stamp());
        String::from_utf8(out).unwrap()
    }

    fn names(json: &str) -> Vec<String> {
        let members = Members::new(json.as_bytes());
        members.map(|one| String::from_utf8(one.name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn r158_private_parameters_stay_here_unless_asked_for_by_name() {
        let all = names(&written(&[], &[], &open(), NEW));
        assert_eq!(names(&written(&["*"], &[], &open(), NEW)), all);
        for private in ParameterName::PRIVATE {
            assert!(!all.iter().any(|name| name == private.as_str()), "{all:?}");
            let asked = names(&written(&["*", private.as_str()], &[], &open(), NEW));
            assert_eq!(asked.len(), all.len() + 1, "{asked:?}");
        }
    }

    #[test]
    fn r158_what_a_vendor_says_of_who_writes_to_whom_leaves_as_the_envelope_does() {
        let with = |name: &str| {
            format!("{},\"{name}\":\"x\"}}", NEW.strip_suffix('}').unwrap_or_default())
        };
        for private in ParameterName::PRIVATE_VENDORS {
            let json = with(private);
            let all = names(&written(&["*"], &[], &open(), &json));
            assert!(!all.iter().any(|name| name == private), "{all:?}");
            let asked = names(&written(&["*", private], &[], &open(), &json));
            assert_eq!(asked.len(), all.len() + 1, "{asked:?}");
        }
        let everything: Vec<_> = ["*"]
            .into_iter()
            .chain(ParameterName::PRIVATE.iter().map(ParameterName::as_str))
            .collect();
        let text = written(&everything, &[], &open(), &with("vnd.cmu.envelope"));
        assert!(!text.contains("vnd.cmu.envelope"), "{text}");
    }

    #[test]
    fn what_was_asked_for_leaves_with_what_must_and_with_its_companions() {
        let found = names(&written(&["service", "vnd.example.c"], &[], &open(), NEW));
        let wanted = ["event", "uri", "timestamp", "user", "service", "vnd.example.c"];
        let stamps = ["vnd.postbell.eventId", "vnd.postbell.seq", "vnd.postbell.prevSeq"];
        assert_eq!(found, [&wanted[..], &stamps[..]].concat());
    }

    #[test]
    fn r135_the_subscriptions_tags_take_the_place_of_others() {
        let text = written(&[], &["home", "büro"], &open(), NEW);
        assert!(text.ends_with(r#""vnd.postbell.prevSeq":9,"tags":["home","büro"]}"#), "{text}");
        assert!(!text.contains("old"), "{text}");
        assert!(written(&[], &[], &open(), NEW).contains(r#""tags":["old"]"#));
    }

    #[test]
    fn an_event_that_keeps_everything_is_copied_as_it_is() {
        let json = r#"{ "event":"Login" , "uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","user":"a","serverDomain":"h","serverPort":993 } "#;
        let text = written(&[], &[], &open(), json);
        assert!(text.starts_with(r#"{ "event":"Login" , "#), "{text}");
        assert!(json::check(text.as_bytes()).is_ok(), "{text}");
    }

    #[test]
    fn stamps_of_another_hub_are_replaced() {
        let json = r#"{"event":"vnd.a","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","vnd.postbell.seq":1,"vnd.example.seq":2,"vnd.postbell.eventId":"x"}"#;
        for parameters in [&[][..], &["vnd.postbell.seq", "vnd.example.seq"]] {
            let text = written(parameters, &[], &open(), json);
            assert!(json::check(text.as_bytes()).is_ok(), "{text}");
            assert!(text.contains(r#""vnd.postbell.seq":12"#), "{text}");
            assert!(text.contains(r#""vnd.example.seq":2"#), "{text}");
        }
    }

    #[test]
    fn a_limit_stays_on_a_quota_event() {
        let json = r#"{"event":"QuotaExceed","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","diskQuota":1,"diskUsed":2}"#;
        let text = written(&["pid"], &[], &open(), json);
        assert!(text.contains("diskQuota") && !text.contains("diskUsed"), "{text}");
        assert!(json::check(text.as_bytes()).is_ok(), "{text}");
    }

    fn event() -> impl Strategy<Value = String> {
        let registered = prop::sample::subsequence(MEMBERS.to_vec(), 0..MEMBERS.len());
        let vendors = prop::collection::btree_map("vnd\\.[a-c]{1,2}", VALUES, 0..6);
        let own = prop::sample::subsequence(OWN.to_vec(), 0..OWN.len());
        let name = prop::sample::select(NAMES.to_vec());
        (name, registered, vendors, own).prop_map(|(name, registered, vendors, own)| {
            let vendors = vendors.iter().map(|(name, value)| format!("\"{name}\":{value}"));
            let members: Vec<_> = registered
                .iter()
                .chain(&own)
                .map(|&member| member.to_owned())
                .chain(vendors)
                .collect();
            format!("{{{name},{}}}", members.join(",")).replace(",}", "}")
        })
    }

    const NAMES: [&str; 5] = [
        r#""event":"MessageNew","uri":"imap://a@h/INBOX;UIDVALIDITY=7/;UID=5""#,
        r#""event":"FlagsSet","uri":"imap://a@h/INBOX","uidset":"1:3","flagNames":["\\Seen","x"]"#,
        r#""event":"QuotaExceed","uri":"imap://a@h/","maxMessages":4"#,
        r#""event":"Login","uri":"imap://h/","serverDomain":"h","serverPort":1,"user":"z""#,
        r#""event":"vnd.postbell.Thing","uri":"imap://h/""#,
    ];

    const MEMBERS: [&str; 17] = [
        r#""timestamp":"2026-08-20T13:34:14+02:00""#,
        r#""user":"a \"quoted\" \\ one""#,
        r#""admin":"root""#,
        r#""bodyStructure":"(\"TEXT\" \"PLAIN\")""#,
        r#""clientIP":"192.0.2.1""#,
        r#""clientPort":5"#,
        r#""diskQuota":1"#,
        r#""envelope":"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n""#,
        r#""messageContent":"\"vnd.postbell.seq\": }, \"tags\"""#,
        r#""messageSize":14"#,
        r#""messages":3"#,
        r#""modseq":77"#,
        r#""pid":3"#,
        r#""process":"x y""#,
        r#""service":"imap""#,
        r#""tags":["p","q"]"#,
        r#""uidnext":9"#,
    ];

    const OWN: [&str; 4] = [
        r#""vnd.postbell.seq":1"#,
        r#""vnd.postbell.prevSeq":"x""#,
        r#""vnd.postbell.eventId":null"#,
        r#""vnd.postbell.inferred":true"#,
    ];

    const VALUES: &str = r#"(null|true|-1\.5e3|"\}\\"\{"|\[\{"seq":\[\]\},2\]|\{"tags":"x"\})"#;

    proptest! {
        #[test]
        fn whatever_is_selected_what_leaves_is_strict_and_holds_nothing_forbidden(
            json in event().prop_filter("strict", |json| json::check(json.as_bytes()).is_ok()),
            asked in prop::sample::subsequence(ParameterName::REGISTERED.to_vec(), 0..27),
            star in any::<bool>(),
            vendors in prop::collection::vec("vnd\\.[a-c]{1,2}", 0..3),
            tags in prop::sample::subsequence(vec!["t", "ü", "🔔"], 0..3),
            (content, structure, envelope) in any::<(bool, bool, bool)>(),
        ) {
            let policy = Policy {
                content_max_octets: content.then_some(9),
                body_structure: structure,
                envelope,
                ..Policy::default()
            };
            let mut parameters: Vec<_> = asked.iter().map(|name| name.as_str().to_owned()).collect();
            parameters.extend(star.then(|| "*".to_owned()));
            parameters.extend(vendors.iter().cloned());
            let selection = Selection { parameters, ..Selection::default() }.under(&policy);
            let parameters: Vec<_> = selection.parameters.iter().map(String::as_str).collect();
            let everything = star || parameters.is_empty();

            let text = written(&parameters, &tags, &policy, &json);
            prop_assert!(json::check(text.as_bytes()).is_ok(), "{} {}", json, text);
            let (before, after) = (names(&json), names(&text));
            for name in &before {
                let is_private = ParameterName::PRIVATE.iter().any(|one| one.as_str() == name);
                let is_asked = parameters.contains(&name.as_str());
                let kept = after.contains(name);
                let is_ours = OWN[..3].iter().any(|own| own.contains(&format!("\"{name}\"")));
                if is_private {
                    prop_assert_eq!(kept, is_asked, "{}: {}", name, text);
                } else if is_ours {
                    prop_assert!(kept, "{} is stamped anew", name);
                } else if is_asked || everything {
                    prop_assert!(kept, "{} is missing from {}", name, text);
                } else if name.starts_with("vnd.") {
                    prop_assert!(!kept, "{} was not asked for: {}", name, text);
                }
            }
            let event = json::from_slice(json.as_bytes()).unwrap().event;
            for name in ParameterName::REGISTERED {
                if binding::presence(event.name(), &name) == Presence::Mandatory {
                    prop_assert!(after.contains(&name.as_str().to_owned()), "{} is mandatory", name);
                }
            }
            let wanted: Vec<_> = tags.iter().map(|&tag| tag.to_owned()).collect();
            let told = json::from_slice(text.as_bytes()).unwrap().event;
            if !tags.is_empty() {
                prop_assert_eq!(told.tags().collect::<Vec<_>>(), wanted);
            }
            prop_assert_eq!(told.vendor("vnd.postbell.seq"), Some(12.into()));
        }
    }
}
