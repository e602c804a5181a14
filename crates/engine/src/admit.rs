//! What publishers hand in, made strict and given its id.

use std::borrow::Cow;

use mail_event::json::{self, JsonError, Profile, Spelled};
use mail_event::limits::{EVENT_OCTETS_MAX, VENDOR_PARAMETERS_MAX};
use mail_event::{EventGroup, EventId, Repair};

use crate::members::Members;
use crate::names::{DISABLED, GAP};
use crate::subscribe::EVENT_ID;
use crate::{Groups, Keys, Policy, Stores, Suppressed, event_id};

/// An event handed in by a publisher, fit for the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// Its id: its own, or one made for it.
    pub id: EventId,
    /// What it is matched on.
    pub keys: Keys,
    /// Its strict form, where the octets handed in are not that already.
    pub rewritten: Option<Vec<u8>>,
    /// What was changed, in the order it was found.
    pub repairs: Vec<Repair>,
    /// The parameters among that which policy keeps out.
    pub suppressed: Vec<Suppressed>,
}

/// Why an event that was handed in can't become a record.
#[derive(Debug, thiserror::Error)]
pub enum Inadmissible {
    /// It is no event, or not this publisher's to tell.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Its group is switched off (R22).
    #[error("event: events of the group {0} are switched off (policy.groups_off)")]
    Off(EventGroup),
}

impl Inadmissible {
    /// The parameter at fault, where one is.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Json(error) => error.parameter(),
            Self::Off(_) => Some("event"),
        }
    }

    /// The requirement broken, where one is.
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Json(error) => error.rule(),
            Self::Off(_) => None,
        }
    }
}

/// Looks at an event handed in by `source`, in which a publisher speaks for `stores`: strict ones are
/// kept as they are, others are read leniently and written anew.
///
/// The id is the event's own `vnd.postbell.eventId`; else it is made from `identity`, where the
/// publisher gave one beside the event; in either, where the publisher doesn't speak for any store, the
/// event's store has a part, so that no publisher can use up the ids of another's. Else it is made from the event's
/// canonical spelling, so that it is one event however it is spelled. An event that is strict
/// already is kept in its own spelling.
///
/// What only a hub says is dropped: what another one stamped on a delivery (`vnd.postbell.seq`,
/// `vnd.postbell.prevSeq` and the like), the records of a gap, and, but from who speaks for any store,
/// that content was too large to be made, since that leads to a link to it. So is every private
/// parameter that `policy` keeps out: publishers are under the same ceiling as sources (R23, R158).
///
/// # Errors
///
/// Where it can't be understood, breaks the binding, leaves no room for what a delivery carries
/// besides, is of another store, or is the hub's own to tell; and where its group is switched off.
///
/// ```
/// use postbell_engine::{Policy, Stores, admit};
///
/// let json = br#"{"event":"Login","uri":"imap://h/","timestamp":"2026-08-20T11:34:14Z",
///                 "user":"john","serverDomain":"h","serverPort":993}"#;
/// let admitted = admit(&Policy::default(), "publish", &Stores::any(), json, None)?;
/// assert_eq!(admitted.repairs.len(), 1);
/// let again = admit(&Policy::default(), "publish", &Stores::any(), json, None)?;
/// assert_eq!(again.id, admitted.id);
/// # Ok::<(), postbell_engine::Inadmissible>(())
/// ```
pub fn admit(
    policy: &Policy,
    source: &str,
    stores: &Stores,
    json: &[u8],
    identity: Option<&[u8]>,
) -> Result<Admitted, Inadmissible> {
    if json.len() > EVENT_OCTETS_MAX - ROOM_OCTETS {
        return Err(JsonError::TooLong { octets: json.len() }.into());
    }
    let made = |identity: &[u8], unix_millis| event_id(source, identity, 0, unix_millis);
    let spelled = json::check_spelled(json);
    let is_strict = spelled.is_ok();
    if let Ok(spelled) = spelled
        && let checked = spelled.checked
        && !checked.private
        && !checked.stamped
    {
        let keys = Keys::new(&checked, json);
        let_in(policy, &keys, json)?;
        stores.speak_for(json)?;
        let named = |id| stores.id(id, &keys.view(json).uri());
        let id = match (checked.event_id, identity) {
            (Some(own), _) => named(own),
            (None, Some(identity)) => named(made(identity, checked.unix_millis)),
            (None, None) => made(&canonical(spelled, json)?, checked.unix_millis),
        };
        let (repairs, suppressed) = (Vec::new(), Vec::new());
        return Ok(Admitted { id, keys, rewritten: None, repairs, suppressed });
    }
    let parsed = json::from_slice(json)?;
    let strict = if is_strict {
        Cow::Borrowed(json)
    } else {
        Cow::Owned(json::to_vec(&parsed.event, Profile::Strict))
    };
    let count = parsed.event.vendors().count();
    if count > VENDOR_PARAMETERS_MAX - ROOM_PARAMETERS {
        let message = format!("{count} parameters outside the registry are too many");
        return Err(JsonError::Invalid { parameter: "vnd.*".to_owned(), message }.into());
    }
    let own_id = parsed.event.vendor(EVENT_ID).and_then(|id| id.as_str()?.parse().ok());
    let unix_millis = parsed.event.timestamp().unix_millis();
    let named = own_id.or_else(|| Some(made(identity?, unix_millis)));
    let id = match named {
        Some(named) => stores.id(named, &parsed.event.uri().to_string()),
        None => made(&json::canonical(&parsed.event), unix_millis),
    };
    let mut repairs = parsed.repairs;
    let content = parsed.event.message_content().map(|content| content.as_bytes().len() as u64);
    let cut = cuts(policy, stores, &strict, content, own_id.is_some());
    let strict = if cut.is_empty() { strict } else { Cow::Owned(without(stores, &strict, &cut)) };
    repairs.extend(cut.iter().map(|(name, why)| Repair::dropped(name, why.as_str())));
    let kept_out = cut.iter().filter(|(_, why)| matches!(why, Why::Private | Why::Size));
    let suppressed = kept_out.filter_map(|(name, _)| Suppressed::parameter(name)).collect();
    let keys = Keys::find(&strict).ok_or(JsonError::Missing { parameter: "event" })?;
    let_in(policy, &keys, &strict)?;
    stores.speak_for(&strict)?;
    let rewritten = match strict {
        Cow::Borrowed(_) => None,
        Cow::Owned(octets) => Some(octets),
    };
    Ok(Admitted { id, keys, rewritten, repairs, suppressed })
}

/// Refuses what only the hub tells, and an event of a group that is switched off (R22). A gap comes in
/// all the same: somebody misses something.
fn let_in(policy: &Policy, keys: &Keys, strict: &[u8]) -> Result<(), Inadmissible> {
    if keys.place().is_none() && keys.view(strict).name() == DISABLED {
        let message = format!("{DISABLED} is told by the hub alone");
        return Err(JsonError::Invalid { parameter: "event".to_owned(), message }.into());
    }
    if policy.groups == Groups::all() {
        return Ok(());
    }
    let view = keys.view(strict);
    let group = view.group();
    if policy.groups.contains(group) || view.name() == GAP {
        return Ok(());
    }
    Err(Inadmissible::Off(group))
}

/// The one spelling of a strict event.
fn canonical<'a>(spelled: Spelled<'a>, json: &[u8]) -> Result<Cow<'a, [u8]>, JsonError> {
    match spelled.canonical() {
        Some(canonical) => Ok(canonical),
        None => Ok(Cow::Owned(json::canonical(&json::from_slice(json)?.event))),
    }
}

/// Why a parameter can't stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    Hub,
    NoId,
    Private,
    Size,
    Stamp,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hub => "only the hub says it",
            Self::NoId => "it is not an event id",
            Self::Private => "the policy keeps it out (R158)",
            Self::Size => "it is larger than the policy lets in (R120)",
            Self::Stamp => "each delivery gets its own",
        }
    }
}

/// The parameters of a strict event that can't stay.
fn cuts(
    policy: &Policy,
    stores: &Stores,
    strict: &[u8],
    content_octets: Option<u64>,
    has_id: bool,
) -> Vec<(&'static str, Why)> {
    let cut = |name: &[u8]| {
        Some(match name {
            b"messageContent" => match (policy.content_max_octets, content_octets) {
                (None, _) => ("messageContent", Why::Private),
                (Some(max), Some(octets)) if octets > max => ("messageContent", Why::Size),
                _ => return None,
            },
            b"bodyStructure" if !policy.body_structure => ("bodyStructure", Why::Private),
            b"envelope" if !policy.envelope => ("envelope", Why::Private),
            b"vnd.cmu.envelope" if !policy.envelope => ("vnd.cmu.envelope", Why::Private),
            b"vnd.fastmail.jmapEmail" if !policy.envelope => {
                ("vnd.fastmail.jmapEmail", Why::Private)
            }
            b"vnd.postbell.seq" => ("vnd.postbell.seq", Why::Stamp),
            b"vnd.postbell.prevSeq" => ("vnd.postbell.prevSeq", Why::Stamp),
            b"vnd.postbell.signature" => ("vnd.postbell.signature", Why::Stamp),
            b"vnd.postbell.suppressed" => ("vnd.postbell.suppressed", Why::Stamp),
            b"vnd.postbell.contentUrl" => ("vnd.postbell.contentUrl", Why::Stamp),
            b"vnd.postbell.gapFrom" => ("vnd.postbell.gapFrom", Why::Hub),
            b"vnd.postbell.gapTo" => ("vnd.postbell.gapTo", Why::Hub),
            b"vnd.postbell.contentSuppressed" if !stores.are_any() => {
                ("vnd.postbell.contentSuppressed", Why::Hub)
            }
            b"vnd.postbell.eventId" if !has_id => (EVENT_ID, Why::NoId),
            _ => return None,
        })
    };
    Members::new(strict).filter_map(|member| cut(member.name)).collect()
}

/// A strict event without some of its parameters; that content was too large is told (R120).
fn without(stores: &Stores, strict: &[u8], cut: &[(&str, Why)]) -> Vec<u8> {
    let suppressed = if stores.are_any() { SUPPRESSED } else { REFUSED };
    let mut out = Vec::with_capacity(strict.len() + suppressed.len());
    let mut separator = b'{';
    let mut told = false;
    for member in Members::new(strict) {
        if cut.iter().any(|(name, _)| name.as_bytes() == member.name) {
            continue;
        }
        told |= member.name == b"vnd.postbell.contentSuppressed";
        out.push(separator);
        out.extend_from_slice(member.text);
        separator = b',';
    }
    if !told && cut.iter().any(|(_, why)| *why == Why::Size) {
        out.extend_from_slice(suppressed);
    }
    out.push(b'}');
    out
}

/// What is put on an event whose content was too large.
const SUPPRESSED: &[u8] = br#","vnd.postbell.contentSuppressed":"size""#;

/// The same where the store isn't to be asked for it: the publisher may name any message.
const REFUSED: &[u8] = br#","vnd.postbell.contentSuppressed":"refused""#;

/// Octets an event must leave free of [`EVENT_OCTETS_MAX`] for its stamp and the tags of a
/// subscription.
const ROOM_OCTETS: usize = 8 * 1024;

/// Parameters an event must leave free of [`VENDOR_PARAMETERS_MAX`] for the same.
const ROOM_PARAMETERS: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = r#"{"event":"FlagsSet","uri":"imap://a@h/INBOX","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"1"}"#;

    fn admitted(json: &str) -> Admitted {
        admit(&Policy::default(), "test", &Stores::any(), json.as_bytes(), None).unwrap()
    }

    fn with(members: &str) -> String {
        PLAIN.replace('}', &format!(",{members}}}"))
    }

    fn repairs(admitted: &Admitted) -> Vec<String> {
        admitted.repairs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_strict_event_is_kept_as_it_is() {
        let one = admitted(PLAIN);
        assert_eq!((one.rewritten, one.repairs), (None, vec![]));
        let view = one.keys.view(PLAIN.as_bytes());
        assert_eq!((view.name().as_ref(), view.owner().as_deref()), ("FlagsSet", Some("a")));
    }

    #[test]
    fn a_lenient_event_is_written_anew_and_each_repair_told() {
        let one = admitted(&PLAIN.replace("FlagsSet", "flagsset").replace("+02:00", "+0200"));
        assert_eq!(one.rewritten.as_deref(), Some(PLAIN.as_bytes()));
        assert_eq!(one.repairs.len(), 2);
    }

    #[test]
    fn the_id_is_the_events_own_or_the_publishers_or_of_the_octets() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(admitted(&with(&format!(r#""{EVENT_ID}":"{id}""#))).id.to_string(), id);
        assert_eq!(admitted(PLAIN).id, admitted(PLAIN).id);
        assert_ne!(admitted(PLAIN).id, admitted(&with(r#""pid":1"#)).id);
        let by = |source, json: &str, identity: &[u8]| {
            admit(&Policy::default(), source, &Stores::any(), json.as_bytes(), Some(identity))
                .unwrap()
                .id
        };
        assert_eq!(by("s", PLAIN, b"1"), by("s", &with(r#""pid":1"#), b"1"));
        assert_ne!(by("s", PLAIN, b"1"), by("s", PLAIN, b"2"));
        assert_ne!(by("s", PLAIN, b"1"), by("t", PLAIN, b"1"));
    }

    fn bound(host: &str) -> Stores {
        Stores::of(&[host]).unwrap()
    }

    #[test]
    fn r161_nobody_takes_the_id_of_an_event_of_a_store_they_do_not_speak_for() {
        let id = r#""vnd.postbell.eventId":"01ARZ3NDEKTSV4RRFFQ69G5FAV""#;
        for (own, identity) in [(Some(id), None), (None, Some(b"/mail\x001042".as_slice()))] {
            let json = |host: &str| {
                let plain = PLAIN.replace("@h/", &format!("@{host}/"));
                own.map_or_else(|| plain.clone(), |id| plain.replace('}', &format!(",{id}}}")))
            };
            let by = |stores: &Stores, host: &str| {
                admit(&Policy::default(), "p", stores, json(host).as_bytes(), identity).unwrap().id
            };
            let first = by(&bound("a.example"), "a.example");
            assert_ne!(first, by(&bound("b.example"), "b.example"));
            // A repeat is one, also spelled otherwise, and by another publisher of that store.
            assert_eq!(first, by(&bound("A.example"), "A.EXAMPLE:143"));
            let both = Stores::of(&["a.example", "b.example"]).unwrap();
            assert_eq!(first, by(&both, "a.example"));
            // They sort as before.
            let any = by(&Stores::any(), "a.example");
            assert!(first != any && first.as_u128() >> 80 == any.as_u128() >> 80);
            assert_eq!(any, by(&Stores::any(), "b.example"));
        }
        // One without an id has the one that its octets make.
        let plain = |stores: &Stores| {
            admit(&Policy::default(), "p", stores, PLAIN.as_bytes(), None).unwrap().id
        };
        assert_eq!(plain(&bound("h")), plain(&Stores::any()));
    }

    #[test]
    fn r45_r161_a_publisher_says_nothing_that_is_the_hubs_to_say() {
        let claims = r#""vnd.postbell.suppressed":{"messageContent":"size"},"vnd.postbell.contentUrl":"https://evil.example/","vnd.postbell.gapFrom":1,"vnd.postbell.gapTo":9"#;
        let suppressed = r#""vnd.postbell.contentSuppressed":"size""#;
        let whole = with(&format!("{claims},{suppressed}"));
        for (stores, left) in [(bound("h"), PLAIN.to_owned()), (Stores::any(), with(suppressed))] {
            for spelled in [whole.clone(), whole.replace("FlagsSet", "flagsset")] {
                let one =
                    admit(&Policy::default(), "p", &stores, spelled.as_bytes(), None).unwrap();
                assert_eq!(String::from_utf8(one.rewritten.clone().unwrap()).unwrap(), left);
                let told = repairs(&one);
                assert!(told.iter().any(|one| one.contains("gapFrom was dropped: only the hub")));
                let is_told = told.iter().any(|one| one.contains("contentSuppressed was dropped"));
                assert_eq!(is_told, left == PLAIN, "{told:?}");
            }
        }
        // Content that is too large for the hub leads to no link of theirs either.
        let policy = Policy { content_max_octets: Some(4), ..Policy::default() };
        let one = admit(&policy, "p", &bound("h"), NEW.as_bytes(), None).unwrap();
        let text = String::from_utf8(one.rewritten.unwrap()).unwrap();
        assert!(text.contains(r#""vnd.postbell.contentSuppressed":"refused""#), "{text}");
    }

    #[test]
    fn r161_what_the_hub_alone_tells_is_refused() {
        for name in [DISABLED, "vnd.postbell.deliveryDISABLED"] {
            let json = PLAIN.replace("FlagsSet", name);
            let told = |stores: &Stores| {
                admit(&Policy::default(), "p", stores, json.as_bytes(), None)
                    .map_or_else(|error| error.to_string(), |_| String::new())
            };
            let refused = format!("event: {DISABLED} is told by the hub alone");
            let expected = if name == DISABLED { refused.as_str() } else { "" };
            assert_eq!([told(&bound("h")), told(&Stores::any())], [expected; 2]);
        }
    }

    #[test]
    fn zeros_that_end_a_time_are_kept_and_make_no_other_event() {
        let padded = PLAIN.replace("34:14+", "34:14.000+");
        let one = admitted(&padded);
        assert_eq!((one.rewritten, one.id), (None, admitted(PLAIN).id));
        let mended = admitted(&padded.replace("FlagsSet", "flagsset"));
        assert_eq!(mended.rewritten.as_deref(), Some(padded.as_bytes()));
        assert_eq!(repairs(&mended), ["event was rewritten in its strict form"]);
        assert_eq!(mended.id, one.id);
    }

    /// A member's name, a value of it in the canonical form, and other spellings of both.
    type Spelt = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

    const SPELT: [Spelt; 12] = [
        ("event", r#""FlagsSet""#, &[("event", r#""flagsset""#), ("event", r#""FlagsSe\u0074""#)]),
        (
            "uri",
            r#""imap://a%40b@h/INBOX;UIDVALIDITY=1""#,
            &[
                ("uri", r#""imap://a@b@h/INBOX;UIDVALIDITY=1""#),
                ("uri", r#""imap:\/\/a%40b@h\/INBOX;UIDVALIDITY=1""#),
                ("URI", r#""imap://a%40b@h/INBOX;UIDVALIDITY=1""#),
            ],
        ),
        (
            "timestamp",
            r#""2026-08-20T13:34:14+00:00""#,
            &[
                ("timestamp", r#""2026-08-20T13:34:14.000+00:00""#),
                ("timestamp", r#""2026-08-20T13:34:14Z""#),
                ("timestamp", r#""2026-08-20 13:34:14.00+0000""#),
            ],
        ),
        ("user", r#""a@b""#, &[("user", r#""a\u0040b""#), ("User", r#""a@b""#)]),
        (
            "clientIP",
            r#""2001:db8::7""#,
            &[("clientIP", r#""2001:DB8:0::7""#), ("clientIP", r#""[2001:db8::7]""#)],
        ),
        (
            "flagNames",
            r#"["\\Seen","x"]"#,
            &[
                ("flagNames", r#"["\\seen", "x"]"#),
                ("flagNames", r#""\\Seen x""#),
                ("flagnames", r#"["\\Seen","x"]"#),
            ],
        ),
        ("messages", "7", &[("messages", r#""7""#)]),
        ("pid", "0", &[("pid", r#""0""#)]),
        ("process", r#""a/b""#, &[("process", r#""a\/b""#)]),
        ("uidset", r#""3,5:9""#, &[("uidset", r#""5:9,3""#), ("uidset", r#""3,5:7,8,9""#)]),
        ("vnd.b", r#"{"a":[1,2]}"#, &[("vnd.b", r#"{ "a" : [1, 2] }"#)]),
        ("vnd.a", r#""x""#, &[]),
    ];

    fn written<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>, gap: &str) -> String {
        let members =
            members.into_iter().map(|(name, value)| format!("{gap}\"{name}\":{gap}{value}"));
        format!("{{{}{gap}}}", members.collect::<Vec<_>>().join(&format!("{gap},")))
    }

    fn values(json: &str) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(json).unwrap()
    }

    proptest! {
        #[test]
        fn an_event_in_two_spellings_has_one_id_and_what_was_changed_is_told(
            order in Just((0..SPELT.len()).collect::<Vec<_>>()).prop_shuffle(),
            choices in prop::collection::vec(0..4_usize, SPELT.len()),
            gap in prop::sample::select(vec!["", " ", "\n\t"]),
        ) {
            let plain = written(SPELT.iter().map(|(name, value, _)| (*name, *value)), "");
            let spelled = written(order.iter().map(|at| {
                let (name, value, others) = SPELT[*at];
                *others.get(choices[*at]).unwrap_or(&(name, value))
            }), gap);
            let (one, other) = (admitted(&plain), admitted(&spelled));
            prop_assert_eq!(one.id, other.id, "{}", spelled);
            prop_assert!(one.rewritten.is_none() && one.repairs.is_empty());
            let Some(rewritten) = other.rewritten else {
                prop_assert!(other.repairs.is_empty());
                return Ok(());
            };
            let text = String::from_utf8(rewritten).unwrap();
            prop_assert_eq!(admitted(&text).id, one.id);
            let (before, after) = (values(&spelled), values(&text));
            let told = |name: &str| other.repairs.iter().any(|repair| repair.parameter() == name);
            for (name, value) in &after {
                let is_kept = before.get(name) == Some(value);
                let is_told = told(name) || before.keys().any(|old| {
                    old.eq_ignore_ascii_case(name) && told(old)
                });
                prop_assert!(is_kept || is_told, "{} in {}", name, spelled);
            }
            prop_assert_eq!(before.len(), after.len());
        }
    }

    #[test]
    fn stamps_of_another_hub_are_dropped_and_told() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let stamped = with(&format!(
            r#""{EVENT_ID}":"{id}","vnd.postbell.seq":4,"vnd.postbell.prevSeq":2,"vnd.postbell.signature":"x""#
        ));
        let one = admitted(&stamped);
        let text = String::from_utf8(one.rewritten.clone().unwrap()).unwrap();
        assert_eq!(text, with(&format!(r#""{EVENT_ID}":"{id}""#)));
        assert_eq!(one.id.to_string(), id);
        assert_eq!(repairs(&one)[0], "vnd.postbell.seq was dropped: each delivery gets its own");
    }

    #[test]
    fn what_is_no_event_id_is_dropped_and_another_made() {
        let one = admitted(&with(r#""vnd.postbell.eventId":"mine""#));
        assert_eq!(one.rewritten.as_deref(), Some(PLAIN.as_bytes()));
        assert_eq!(repairs(&one), ["vnd.postbell.eventId was dropped: it is not an event id"]);
    }

    const NEW: &str = r#"{"event":"MessageNew","uri":"imap://a@h/INBOX;UIDVALIDITY=1/;UID=1","timestamp":"2026-08-20T13:34:14+02:00","bodyStructure":"()","envelope":"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n","messageContent":"12345","messageSize":5}"#;

    #[test]
    fn r22_a_group_switched_off_is_not_let_in_from_publishers_either() {
        let off = Groups::all().without(EventGroup::Message);
        let policy = Policy { groups: off, ..Policy::default() };
        let error = admit(&policy, "test", &Stores::any(), NEW.as_bytes(), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "event: events of the group message are switched off (policy.groups_off)"
        );
        assert!(matches!(error, Inadmissible::Off(EventGroup::Message)));
        assert_eq!(error.parameter(), Some("event"));
        let policy = Policy { groups: Groups::none(), ..policy };
        let other = NEW.replace("MessageNew", "vnd.example.New");
        assert!(admit(&policy, "test", &Stores::any(), other.as_bytes(), None).is_err());
        let gap = NEW.replace("MessageNew", "vnd.postbell.Gap");
        assert!(admit(&policy, "test", &Stores::any(), gap.as_bytes(), None).is_ok());
    }

    #[test]
    fn r158_what_policy_keeps_out_is_dropped_from_publishers_too() {
        let one = admitted(NEW);
        let text = String::from_utf8(one.rewritten.clone().unwrap()).unwrap();
        assert!(text.ends_with(r#"+02:00","messageSize":5}"#), "{text}");
        assert_eq!(one.repairs.len(), 3);
        let suppressed: Vec<_> = one.suppressed.iter().map(Suppressed::as_str).collect();
        assert_eq!(suppressed, ["bodyStructure", "envelope", "messageContent"]);
        assert!(!one.keys.view(text.as_bytes()).private());
        let one = admitted(&PLAIN.replace('}', ",\"vnd.cmu.envelope\":\"x\"}"));
        assert_eq!(one.rewritten.as_deref(), Some(PLAIN.as_bytes()));
    }

    #[test]
    fn r120_content_over_the_limit_is_left_out_and_told() {
        for (max, whole) in [(4, false), (5, true), (6, true)] {
            let policy = Policy {
                content_max_octets: Some(max),
                body_structure: true,
                envelope: true,
                ..Policy::default()
            };
            let one = admit(&policy, "test", &Stores::any(), NEW.as_bytes(), None).unwrap();
            assert_eq!(one.rewritten.is_none(), whole, "{max}");
            let left_out = one.suppressed.contains(&Suppressed::Parameter("messageContent"));
            assert_eq!(left_out, !whole);
            let text = one.rewritten.unwrap_or_else(|| NEW.into());
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.contains(r#""vnd.postbell.contentSuppressed":"size""#), !whole);
            assert!(one.keys.view(text.as_bytes()).private());
        }
    }

    #[test]
    fn an_event_too_unusual_for_a_quick_look_still_has_its_keys() {
        let many: Vec<_> = (0..40).map(|at| format!(r#""vnd.x.n{at}":1"#)).collect();
        let one = admitted(&with(&many.join(",")));
        let json = one.rewritten.unwrap_or_default();
        assert_eq!(one.keys.view(&json).name(), "FlagsSet");
        let binary = NEW.replace(r#""12345""#, r#"{"base64":"/w=="}"#);
        let policy = Policy { content_max_octets: Some(9), ..Policy::default() };
        let one = admit(&policy, "test", &Stores::any(), binary.as_bytes(), None).unwrap();
        assert!(one.keys.view(&one.rewritten.unwrap()).private());
    }

    #[test]
    fn room_is_left_for_what_a_delivery_carries() {
        let many: Vec<_> = (0..125).map(|at| format!(r#""vnd.x.n{at}":1"#)).collect();
        let error =
            admit(&Policy::default(), "t", &Stores::any(), with(&many.join(",")).as_bytes(), None);
        assert_eq!(
            error.unwrap_err().to_string(),
            "vnd.*: 125 parameters outside the registry are too many"
        );
        let long = with(&format!(r#""vnd.x":"{}""#, "x".repeat(EVENT_OCTETS_MAX - ROOM_OCTETS)));
        let error =
            admit(&Policy::default(), "t", &Stores::any(), long.as_bytes(), None).unwrap_err();
        assert!(matches!(error, Inadmissible::Json(JsonError::TooLong { .. })), "{error}");
    }
}
