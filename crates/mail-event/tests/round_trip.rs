//! There and back: whatever can be built is written, read again, and is the same.

mod support;

use mail_event::cloudevents::{self, Attributes};
use mail_event::json::{self, Profile, Spelling};
use mail_event::{Event, EventId, EventName, ImapUrl, MessageContent, OtherName, ParameterName};
use proptest::prelude::*;
use support::{any_event, smallest, with};

proptest! {
    #[test]
    fn r15_every_event_comes_back_from_json_without_repair(event in any_event()) {
        let text = json::to_string(&event);
        prop_assert!(!text.contains('\n'));
        let parsed = json::from_slice(text.as_bytes()).unwrap();
        prop_assert!(parsed.repairs.is_empty(), "{:?} in {}", parsed.repairs, text);
        prop_assert_eq!(json::to_string(&parsed.event), text);
        prop_assert_eq!(parsed.event, event);
    }

    #[test]
    fn what_is_checked_is_read_without_repair_and_written_the_same(event in any_event()) {
        let text = json::to_string(&event);
        if let Ok(spelled) = json::check_spelled(text.as_bytes()) {
            let checked = spelled.checked;
            prop_assert_eq!(checked.name.of(text.as_bytes()), event.name().as_str().as_bytes());
            prop_assert_eq!(checked.unix_millis, event.timestamp().unix_millis());
            let private = ParameterName::PRIVATE.iter().any(|one| event.has(one));
            prop_assert_eq!(checked.private, private);
            if let Some(canonical) = spelled.canonical() {
                prop_assert_eq!(canonical.into_owned(), json::canonical(&event));
            }
        }
    }

    #[test]
    fn what_checks_after_a_change_is_read_without_repair(
        event in any_event(), at: prop::sample::Index, byte: u8,
    ) {
        let mut bytes = json::to_string(&event).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(spelled) = json::check_spelled(&bytes) {
            let parsed = json::from_slice(&bytes).unwrap();
            prop_assert!(parsed.repairs.is_empty(), "{:?}", parsed.repairs);
            if let Some(canonical) = spelled.canonical() {
                prop_assert_eq!(canonical.into_owned(), json::canonical(&parsed.event));
            }
            let again = json::from_slice(json::to_string(&parsed.event).as_bytes()).unwrap();
            prop_assert_eq!(again.event, parsed.event);
        }
    }

    #[test]
    fn what_is_written_for_cyrus_consumers_comes_back_but_for_tags_with_commas(
        event in any_event(),
    ) {
        let text = json::to_vec(&event, Profile::Cyrus);
        let parsed = json::from_slice(&text).unwrap();
        let kept: Vec<_> = event.tags().filter(|tag| !tag.contains(',')).map(str::trim).collect();
        let kept: Vec<_> = kept.into_iter().filter(|tag| !tag.is_empty()).collect();
        prop_assert!(parsed.event.tags().eq(kept));
        for parameter in event.parameters().filter(|one| *one != ParameterName::Tags) {
            prop_assert!(parsed.event.has(&parameter), "{}", parameter);
        }
        prop_assert_eq!(parsed.event.flag_names(), event.flag_names());
        prop_assert_eq!(parsed.event.modseq(), event.modseq());
    }

    #[test]
    fn every_event_comes_back_from_a_cloudevent(event in any_event(), subject in "\\PC{1,12}") {
        let text = json::to_string(&event);
        let time = event.timestamp().to_string();
        let attributes = Attributes {
            id: EventId::new(7, 8),
            source: "imap://imap.example.org/",
            name: event.name().as_str(),
            subject: Some(&subject),
            time: &time,
            sequence: Some(42),
            previous: Some(41),
            partition: Some(&subject),
        };
        let two = cloudevents::batch([
            (text.as_bytes(), attributes.clone()),
            (text.as_bytes(), attributes),
        ]);
        for received in cloudevents::parse(&two).unwrap() {
            let received = received.unwrap();
            prop_assert_eq!(received.json, &text);
            prop_assert_eq!(received.id, EventId::new(7, 8).to_string());
        }
    }
}

#[test]
fn ordinary_events_take_the_quick_way() {
    for name in EventName::REGISTERED {
        let event = smallest(&name).user("john@example.org").build().unwrap();
        let text = json::to_string(&event);
        let spelled = json::check_spelled(text.as_bytes()).unwrap();
        assert_eq!(spelled.spelling, Spelling::Canonical, "{text}");
        // As Python's json writes it, in an order of its own.
        let spaced =
            text.replace("\":", "\": ").replace(r#"{"event": "#, r#"{"vnd.b": 1, "event": "#);
        let spaced = spaced.replace("966+02:00", "966000+02:00");
        let spelled = json::check_spelled(spaced.as_bytes()).unwrap();
        assert_eq!(spelled.spelling, Spelling::Scattered, "{spaced}");
        let parsed = json::from_slice(spaced.as_bytes()).unwrap();
        let canonical = spelled.canonical().unwrap();
        assert_eq!(canonical.into_owned(), json::canonical(&parsed.event));
    }
}

#[test]
fn r125_a_modseq_above_what_json_readers_keep_is_a_text() {
    for (value, written) in [
        (9_007_199_254_740_991, "\"modseq\":9007199254740991"),
        (9_007_199_254_740_992, "\"modseq\":\"9007199254740992\""),
        (0x7FFF_FFFF_FFFF_FFFF, "\"modseq\":\"9223372036854775807\""),
    ] {
        let modseq = mail_event::Modseq::new(value).unwrap();
        let event = smallest(&EventName::MessageNew).modseq(modseq).build().unwrap();
        let text = json::to_string(&event);
        assert!(text.contains(written), "{text}");
        assert!(json::check(text.as_bytes()).is_ok());
        assert_eq!(json::from_slice(text.as_bytes()).unwrap().event.modseq(), Some(modseq));
    }
}

#[test]
fn r119_content_that_is_not_utf_8_travels_as_base64_and_comes_back_whole() {
    for octets in
        [&b"A: b\r\n\r\nplain\r\n"[..], b"A: b\r\n\r\n\xff\x00\r\n", b"\"\\\t\x01\x7f", b""]
    {
        let content = MessageContent::new(octets);
        let builder = smallest(&EventName::MessageAppend).message_content(content.clone());
        let text = json::to_string(&builder.build().unwrap());
        assert_eq!(text.contains(r#""messageContent":{"base64":""#), content.as_text().is_none());
        let without = json::to_string(&smallest(&EventName::MessageAppend).build().unwrap());
        let name = r#","messageContent":"#;
        assert_eq!(text.len(), without.len() + name.len() + content.json_octets());
        let parsed = json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(parsed.event.message_content().unwrap().as_bytes(), octets);
        assert!(parsed.repairs.is_empty());
    }
}

#[test]
fn r18_ten_mebibytes_with_every_line_end_come_back() {
    let line = "Content of a letter, with \"quotes\", \u{fc}ml\u{e4}uts, \r and \n and both:\r\n";
    let text: String = line.repeat(10 * 1024 * 1024 / line.len());
    let event = smallest(&EventName::MessageNew)
        .message_content(MessageContent::new(text.clone().into_bytes()))
        .build()
        .unwrap();
    let json = json::to_string(&event);
    assert!(!json.contains('\n'));
    let parsed = json::from_slice(json.as_bytes()).unwrap();
    assert_eq!(parsed.event.message_content().unwrap().as_text(), Some(&*text));
    assert!(json::check(json.as_bytes()).is_ok());
}

#[test]
fn r23_what_could_not_be_read_again_can_not_be_built() {
    let too_large = MessageContent::new(vec![b'x'; mail_event::limits::EVENT_OCTETS_MAX]);
    let error = smallest(&EventName::MessageNew).message_content(too_large).build().unwrap_err();
    assert_eq!(error.parameter(), "messageContent");
    let long = support::mailbox().with_mailbox(&"ü".repeat(4_000), Some(1));
    let error = Event::builder(EventName::QuotaChange, long.into(), support::time()).build();
    assert_eq!(error.unwrap_err().parameter(), "uri");
    let host = ImapUrl::server(&"h".repeat(20_000), None).unwrap();
    let error = Event::builder(EventName::QuotaChange, host.into(), support::time()).build();
    assert_eq!(error.unwrap_err().parameter(), "uri");
    let mut deep = mail_event::Value::from(1);
    for _ in 0..=mail_event::limits::DEPTH_MAX {
        deep = mail_event::Value::from(vec![deep]);
    }
    let name = OtherName::new("vnd.example.deep").unwrap();
    let error = smallest(&EventName::QuotaChange).vendor(name, deep).build().unwrap_err();
    assert_eq!(error.parameter(), "vnd.example.deep");
    let wide = mail_event::UidSet::from_uids((1..=1_000_002).step_by(2));
    let error = smallest(&EventName::MessageRead).uidset(wide).build().unwrap_err();
    assert_eq!((error.parameter(), error.rule()), ("uidset", "R144"));
}

#[test]
fn r103_r134_addresses_and_tags_of_every_kind_come_back() {
    for address in ["192.0.2.7", "2001:db8::7", "::1"] {
        let event = smallest(&EventName::MessageTrash)
            .client(address.parse().unwrap(), Some(50_000))
            .tag("\u{1f4ec} größe")
            .build()
            .unwrap();
        let parsed = json::from_slice(json::to_string(&event).as_bytes()).unwrap();
        assert_eq!(parsed.event.client_ip().unwrap().to_string(), address);
        assert!(parsed.event.tags().eq(["\u{1f4ec} größe"]));
    }
}

#[test]
fn r16_every_parameter_can_be_told_by_its_name() {
    let name: EventName = "vnd.example.Any".parse().unwrap();
    for parameter in ParameterName::REGISTERED {
        let event = with(smallest(&name), &parameter).build().unwrap();
        assert!(event.has(&parameter), "{parameter}");
    }
}

#[test]
fn r113_r134_for_cyrus_consumers_lists_are_joined_and_a_modseq_is_a_number() {
    let event = smallest(&EventName::FlagsSet)
        .modseq(mail_event::Modseq::new(9_007_199_254_740_993).unwrap())
        .tag("home")
        .tag("a,b")
        .tag("büro")
        .build()
        .unwrap();
    let text = String::from_utf8(json::to_vec(&event, Profile::Cyrus)).unwrap();
    // A tag with a comma would read as two, and is left out.
    for part in [
        r#""flagNames":"\\Flagged $Junk""#,
        r#""tags":"home,büro""#,
        r#""modseq":9007199254740993"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let one = smallest(&EventName::QuotaChange).tag("a,b").build().unwrap();
    assert!(!String::from_utf8(json::to_vec(&one, Profile::Cyrus)).unwrap().contains("tags"));
}
