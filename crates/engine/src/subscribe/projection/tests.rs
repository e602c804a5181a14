use mail_event::json;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Ceiling, Keys, Policy, Role, Selection};

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

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn written(parameters: &[&str], tags: &[&str], policy: &Policy, json: &str) -> String {
    let selection =
        Selection { parameters: texts(parameters), tags: texts(tags), ..Selection::default() };
    written_as(&selection, policy, json)
}

fn written_as(selection: &Selection, policy: &Policy, json: &str) -> String {
    let (_, projection) = selection.compile_again(policy).unwrap();
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
    let with =
        |name: &str| format!("{},\"{name}\":\"x\"}}", NEW.strip_suffix('}').unwrap_or_default());
    // A link is made for each delivery, and none that an event came with leaves.
    let others = ParameterName::PRIVATE_VENDORS.into_iter();
    for private in others.filter(|name| *name != "vnd.postbell.contentUrl") {
        let json = with(private);
        let all = names(&written(&["*"], &[], &open(), &json));
        assert!(!all.iter().any(|name| name == private), "{all:?}");
        let asked = names(&written(&["*", private], &[], &open(), &json));
        assert_eq!(asked.len(), all.len() + 1, "{asked:?}");
    }
    let everything: Vec<_> =
        ["*"].into_iter().chain(ParameterName::PRIVATE.iter().map(ParameterName::as_str)).collect();
    let text = written(&everything, &[], &open(), &with("vnd.cmu.envelope"));
    assert!(!text.contains("vnd.cmu.envelope"), "{text}");
}

fn by_event(parameters: &[&str], lists: &[(&str, &[&str])]) -> Selection {
    let lists = lists.iter().map(|(event, list)| ((*event).to_owned(), texts(list)));
    Selection {
        parameters: texts(parameters),
        parameters_of: Some(lists.collect()),
        ..Selection::default()
    }
}

#[test]
fn r42_an_event_has_the_list_of_its_name_before_that_of_its_group_before_the_one_for_all() {
    let lists = [
        ("MessageNew", &["messageSize"][..]),
        ("message", &["service"]),
        ("vnd.example.A", &["pid"]),
        ("vendor", &["user"]),
    ];
    let selection = by_event(&["tags"], &lists);
    for (event, wanted) in [
        ("MessageNew", &["messageSize"][..]),
        ("MessageAppend", &["service", "user"]),
        ("Login", &["tags", "user"]),
        ("vnd.example.A", &["pid"]),
        ("vnd.example.B", &["user"]),
    ] {
        let json = format!(
            r#"{{"event":"{event}","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","user":"a","messageSize":14,"service":"imap","tags":["old"],"pid":5,"vnd.example.a":1}}"#
        );
        let found = names(&written_as(&selection, &open(), &json));
        let optional = ["user", "messageSize", "service", "tags", "pid", "vnd.example.a"];
        let mut found: Vec<_> = found.iter().filter(|one| optional.contains(&&***one)).collect();
        found.sort();
        assert_eq!(found, wanted, "{event}");
    }
}

#[test]
fn r42_r158_a_private_parameter_leaves_with_the_event_it_is_named_for_and_no_other() {
    let append = NEW.replace("MessageNew", "MessageAppend");
    let lists = [("MessageNew", &["*", "messageContent", "vnd.cmu.envelope"][..])];
    let selection = by_event(&[], &lists);
    let content = |policy: &Policy, json: &str| {
        let told = written_as(&selection, policy, json);
        (names(&told).contains(&"messageContent".to_owned()), suppressed(&told))
    };
    assert_eq!(content(&open(), NEW), (true, json!(null)));
    assert_eq!(content(&open(), &append), (false, json!(null)));
    // Policy took it away since: deliveries of that event say so, and of no other.
    let shut = Policy { content_max_octets: None, ..open() };
    assert_eq!(content(&shut, NEW), (false, json!({"messageContent": "policy"})));
    assert_eq!(content(&shut, &append), (false, json!(null)));
    let under = selection.under(&Policy::default());
    assert!(under.compile(&Policy::default()).is_ok());
    let none_left = by_event(&[], &[("MessageNew", &["envelope"])]).under(&Policy::default());
    assert_eq!(none_left, by_event(&[], &[("MessageNew", &["uri"])]), "nothing is not everything");
}

#[test]
fn r42_a_gap_says_what_is_missing_whatever_is_chosen_for_it() {
    let gap = r#"{"event":"vnd.postbell.Gap","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","vnd.example.a":1,"vnd.postbell.gapFrom":2,"vnd.postbell.gapReason":"retention","vnd.postbell.gapTo":9}"#;
    let told = names(&written_as(&by_event(&[], &[("vendor", &["uri"])]), &open(), gap));
    assert_eq!(told.iter().filter(|name| name.contains(".gap")).count(), 3, "{told:?}");
    assert!(!told.iter().any(|name| name == "vnd.example.a"), "{told:?}");
}

#[test]
fn what_was_asked_for_leaves_with_what_must_and_with_its_companions() {
    let found = names(&written(&["service", "vnd.example.c"], &[], &open(), NEW));
    let wanted = ["event", "uri", "timestamp", "user", "service", "vnd.example.c"];
    let stamps = ["vnd.postbell.eventId", "vnd.postbell.seq", "vnd.postbell.prevSeq"];
    assert_eq!(found, [&wanted[..], &stamps[..]].concat());
}

#[test]
fn a_gap_says_what_is_missing_whatever_parameters_are_asked_for() {
    let gap = r#"{"event":"vnd.postbell.Gap","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","vnd.example.a":1,"vnd.postbell.gapFrom":2,"vnd.postbell.gapReason":"retention","vnd.postbell.gapTo":9}"#;
    let told = names(&written(&["uidset"], &[], &open(), gap));
    let of_it: Vec<_> = told.iter().filter(|name| name.contains(".gap")).collect();
    assert_eq!(of_it, ["vnd.postbell.gapFrom", "vnd.postbell.gapReason", "vnd.postbell.gapTo"]);
    assert!(!told.iter().any(|name| name == "vnd.example.a"), "{told:?}");
    let other = gap.replace("postbell.Gap", "example.Gap");
    let told = names(&written(&["uidset"], &[], &open(), &other));
    assert!(!told.iter().any(|name| name.contains(".gap")), "it is no gap: {told:?}");
}

/// What is said of what stays here.
fn suppressed(json: &str) -> serde_json::Value {
    let event: serde_json::Value = serde_json::from_str(json).unwrap();
    event.get("vnd.postbell.suppressed").cloned().unwrap_or_default()
}

#[test]
fn r23_r44_r120_content_leaves_up_to_the_limit_and_is_named_above_it() {
    // It has fourteen octets; as JSON it is longer.
    for (max, leaves) in [(0, false), (13, false), (14, true), (15, true), (u64::MAX, true)] {
        let inline = Policy { content_inline_octets: max, ..open() };
        let told = written(&["messageContent"], &[], &inline, NEW);
        assert_eq!(suppressed(&told).is_null(), leaves, "{told}");
        let policy = Policy { content_max_octets: Some(max), ..open() };
        let told = written(&["*", "messageContent"], &[], &policy, NEW);
        assert_eq!(names(&told).contains(&"messageContent".to_owned()), leaves, "{told}");
        let wanted = if leaves { json!(null) } else { json!({"messageContent": "size"}) };
        assert_eq!(suppressed(&told), wanted);
        assert_eq!(suppressed(&written(&["*"], &[], &policy, NEW)), json!(null), "nobody asked");
        // A role's own limit says the same of that role alone.
        let user = Ceiling { content_max_octets: Some(max), ..Ceiling::default() };
        let policy = Policy { user, ..open() };
        let asked = ["*", "messageContent"];
        assert_eq!(suppressed(&written(&asked, &[], &policy.for_role(Role::User), NEW)), wanted);
        assert_eq!(suppressed(&written(&asked, &[], &policy, NEW)), json!(null));
    }
}

#[test]
fn r45_a_link_is_wanted_where_content_is_asked_for_and_too_large_for_its_event_alone() {
    let policy = |inline, max| Policy {
        content_inline_octets: inline,
        content_max_octets: Some(max),
        ..open()
    };
    let unread = NEW.replace(
        r#""messageContent":"Subject: x\r\n\r\n""#,
        r#""vnd.postbell.contentSuppressed":"size""#,
    );
    let login = r#"{"event":"Login","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","user":"a","serverDomain":"h","serverPort":993}"#;
    for (asked, json, inline, max, wanted) in [
        ("messageContent", NEW, 13, 14, true),
        ("messageContent", NEW, 14, 14, false),
        ("messageContent", NEW, 5, 13, false),
        ("messageContent", unread.as_str(), 5, 14, true),
        ("messageContent", unread.as_str(), 5, 13, false),
        ("messageContent", login, 5, 14, false),
        ("*", NEW, 13, 14, false),
    ] {
        let parameters = vec![asked.to_owned()];
        let selection = Selection { parameters, ..Selection::default() };
        let (_, projection) = selection.compile(&policy(inline, max)).unwrap();
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        assert_eq!(projection.wants_link(json.as_bytes(), &view), wanted, "{asked} {inline} {max}");
        let mut out = Vec::new();
        let links = ["https://h/v1/content/x"];
        projection.write_linked(&mut out, json.as_bytes(), &view, &stamp(), &links);
        assert!(json::check(&out).is_ok());
        assert!(String::from_utf8(out).unwrap().contains(r#""vnd.postbell.contentUrl":"https://"#));
    }
}

#[test]
fn r45_the_first_link_goes_with_which_nothing_else_has_to_stay() {
    let (long, short) = (format!("imap://{}", "x".repeat(200)), "https://h/v1/content/x");
    let asked = ["*", "messageContent"].map(str::to_owned).to_vec();
    let selection = Selection { parameters: asked, ..Selection::default() };
    let view = Keys::find(NEW.as_bytes()).unwrap().view(NEW.as_bytes());
    let write = |event_max_octets, links: &[&str]| {
        let user = Ceiling { event_max_octets, ..Ceiling::default() };
        let policy = Policy { content_inline_octets: 5, user, ..open() }.for_role(Role::User);
        let (_, projection) = selection.compile(&policy).unwrap();
        let mut out = b"before".to_vec();
        projection.write_linked(&mut out, NEW.as_bytes(), &view, &stamp(), links);
        String::from_utf8(out).unwrap().split_off(6)
    };
    let [with_long, with_short] = [&*long, short].map(|link| write(usize::MAX, &[link]));
    for (octets_max, expected) in [
        (with_long.len(), &with_long),
        (with_long.len() - 1, &with_short),
        (with_short.len(), &with_short),
    ] {
        assert_eq!(&write(octets_max, &[&long, short]), expected);
    }
    let tight = with_short.len() - 1;
    assert_eq!(write(tight, &[&long, short]), write(tight, &[short]));
    assert!(write(tight, &[short]).contains(short));
}

#[test]
fn r43_what_policy_keeps_is_absent_and_the_delivery_says_so() {
    let asked = ["*", "messageContent", "envelope", "bodyStructure", "vnd.cmu.envelope"];
    let shut = Policy { body_structure: true, ..Policy::default() };
    // It was journalled when more was let in; of a new one there is nothing to see at all.
    let bare = r#"{"event":"MessageAppend","uri":"imap://a@h/INBOX;UIDVALIDITY=7/;UID=5","timestamp":"2026-08-20T13:34:14+02:00","user":"a@b"}"#;
    let with = NEW.replace("vnd.example.c", "vnd.cmu.envelope");
    let wanted = json!({
        "envelope": "policy", "messageContent": "policy", "vnd.cmu.envelope": "policy",
    });
    let told = written(&asked, &[], &shut, &with);
    assert_eq!(suppressed(&told), wanted, "{told}");
    assert!(!names(&told).contains(&"messageContent".to_owned()));
    // An append has no envelope to hold back.
    assert_eq!(suppressed(&written(&asked, &[], &shut, bare)), json!({"messageContent": "policy"}));
    let login = r#"{"event":"Login","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00","user":"a","serverDomain":"h","serverPort":993}"#;
    assert_eq!(suppressed(&written(&asked, &[], &shut, login)), json!(null));
}

#[test]
fn r120_content_that_was_never_made_for_its_size_is_named_where_it_is_asked_for() {
    let json = NEW.replace(
        r#""messageContent":"Subject: x\r\n\r\n""#,
        r#""vnd.postbell.contentSuppressed":"size""#,
    );
    assert_ne!(json, NEW);
    let told = written(&["messageContent"], &[], &open(), &json);
    assert_eq!(suppressed(&told), json!({"messageContent": "size"}));
    assert_eq!(suppressed(&written(&["*"], &[], &open(), &json)), json!(null));
}

#[test]
fn r23_of_an_event_that_is_too_large_the_largest_stay_here_and_what_must_leave_leaves() {
    let flags = r#"{"event":"FlagsSet","uri":"imap://a@h/INBOX;UIDVALIDITY=7","mailboxID":"imap://a@h/INBOX;UIDVALIDITY=7","timestamp":"2026-08-20T13:34:14+02:00","user":"a","uidset":"1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37","flagNames":["\\Seen"],"vnd.example.a":"abcdefghijklmnopqrstuvwxyz","vnd.example.b":"xyz"}"#;
    for (json, first, second) in
        [(NEW, "envelope", "messageContent"), (flags, "vnd.example.a", "vnd.example.b")]
    {
        let limited = |event_max_octets| {
            let user = Ceiling { event_max_octets, ..Ceiling::default() };
            Policy { user, ..open() }.for_role(Role::User)
        };
        let asked = ["*", "messageContent", "envelope", "bodyStructure"];
        let whole = written(&asked, &[], &open(), json);
        for cap in [whole.len(), whole.len() + 1] {
            assert_eq!(written(&asked, &[], &limited(cap), json), whole);
        }
        let cut = written(&asked, &[], &limited(whole.len() - 1), json);
        assert_eq!(suppressed(&cut)[first], "size", "{cut}");
        let tight = written(&asked, &[], &limited(1), json);
        assert_eq!(suppressed(&tight)[second], "size", "{tight}");
        assert!(json::check(tight.as_bytes()).is_ok(), "{tight}");
        let after = names(&tight);
        for name in ["event", "uri", "timestamp", "user"] {
            assert!(after.contains(&name.to_owned()), "{name} is missing from {tight}");
        }
        assert_eq!(after.contains(&"uidset".to_owned()), json == flags, "{tight}");
    }
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
        let members: Vec<_> =
            registered.iter().chain(&own).map(|&member| member.to_owned()).chain(vendors).collect();
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
        event_max_octets in prop_oneof![Just(usize::MAX), 1_usize..1_500],
    ) {
        let policy = Policy {
            content_max_octets: content.then_some(1_000),
            body_structure: structure,
            envelope,
            user: Ceiling { event_max_octets, ..Ceiling::default() },
            role: Role::User,
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
        let too_large = suppressed(&text).as_object().map_or(0, serde_json::Map::len);
        let unlimited = Policy { user: Ceiling::default(), ..policy.clone() };
        let whole = written(&parameters, &tags, &unlimited, &json);
        prop_assert_eq!(too_large > 0, whole != text);
        if whole.len() <= event_max_octets {
            prop_assert_eq!(&whole, &text);
        }
        for name in &before {
            let is_private = ParameterName::PRIVATE.iter().any(|one| one.as_str() == name);
            let is_asked = parameters.contains(&name.as_str());
            // What is missing for the event's size is missing by name.
            let kept = after.contains(name) || !suppressed(&text)[name.as_str()].is_null();
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

    #[test]
    fn r42_a_choice_by_event_comes_to_the_list_that_is_the_events_and_no_other(
        json in event().prop_filter("strict", |json| json::check(json.as_bytes()).is_ok()),
        usual in prop::collection::vec(prop::sample::select(ASKED.to_vec()), 0..4),
        lists in prop::collection::btree_map(
            prop::sample::select(CHOSEN.to_vec()),
            prop::collection::vec(prop::sample::select(ASKED.to_vec()), 0..4),
            1..5,
        ),
        tags in prop::sample::subsequence(vec!["t", "ü"], 0..2),
        (content, structure, envelope) in any::<(bool, bool, bool)>(),
        event_max_octets in prop_oneof![Just(usize::MAX), 1_usize..900],
    ) {
        let policy = Policy {
            content_max_octets: content.then_some(10),
            body_structure: structure,
            envelope,
            user: Ceiling { event_max_octets, ..Ceiling::default() },
            role: Role::User,
            ..Policy::default()
        };
        let event: serde_json::Value = serde_json::from_str(&json).unwrap();
        let name: EventName = event["event"].as_str().unwrap().parse().unwrap();
        let own = lists.get(name.as_str()).or_else(|| lists.get(name.group().as_str()));
        let pairs: Vec<_> = lists.iter().map(|(event, list)| (*event, list.as_slice())).collect();
        let selection = Selection { tags: texts(&tags), ..by_event(&usual, &pairs) };
        let naive = Selection {
            parameters: texts(own.unwrap_or(&usual)),
            parameters_of: None,
            ..selection.clone()
        };
        prop_assert_eq!(
            written_as(&selection, &policy, &json),
            written_as(&naive, &policy, &json)
        );
        let wants_link = |selection: &Selection| {
            let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
            selection.compile_again(&policy).unwrap().1.wants_link(json.as_bytes(), &view)
        };
        prop_assert_eq!(wants_link(&selection), wants_link(&naive));
    }
}

/// What is asked for by lists that are compared.
const ASKED: [&str; 10] = [
    "*",
    "uri",
    "user",
    "service",
    "clientPort",
    "messageSize",
    "messageContent",
    "envelope",
    "vnd.a",
    "vnd.cmu.envelope",
];

/// For what there are such lists.
const CHOSEN: [&str; 9] = [
    "MessageNew",
    "FlagsSet",
    "Login",
    "message",
    "flags",
    "quota",
    "vendor",
    "vnd.postbell.Thing",
    "vnd.other",
];
