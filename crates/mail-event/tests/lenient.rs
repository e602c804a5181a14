//! What is read beside the strict form, and what is told of it.
#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

mod support;

use mail_event::json::{self, JsonError};
use mail_event::{EventName, UidSet};

fn read(json: &str) -> (String, Vec<String>) {
    let parsed = json::from_slice(json.as_bytes()).unwrap();
    let repairs = parsed.repairs.iter().map(ToString::to_string).collect();
    (json::to_string(&parsed.event), repairs)
}

fn refused(json: &str) -> JsonError {
    json::from_slice(json.as_bytes()).unwrap_err()
}

/// A MessageRead with something more.
fn with(members: &str) -> String {
    format!(
        r#"{{"event":"MessageRead","uri":"imap://h/INBOX","timestamp":"2026-08-20T13:34:14+02:00","uidset":"3"{members}}}"#
    )
}

#[test]
fn r17_a_name_with_another_byte_is_refused_in_both_places() {
    for bad in [" ", "\\u0000", "\\u007f", "ä", "\\t"] {
        let error = refused(&with(&format!(r#","vnd.a{bad}b":1"#)));
        assert_eq!(error.rule(), Some("R17"), "{error}");
        let event = with("").replacen("MessageRead", &format!("vnd.a{bad}b"), 1);
        let error = refused(&event);
        assert_eq!((error.parameter(), error.rule()), (Some("event"), Some("R17")), "{error}");
    }
    assert_eq!(refused(&with(r#","":1"#)).rule(), Some("R17"));
}

#[test]
fn r152_names_outside_the_registry_are_kept_where_they_harm_nobody() {
    let (text, repairs) = read(&with(r#","aclRights":"lrs""#));
    assert!(text.contains(r#""vnd.postbell.unregistered.aclRights":"lrs""#));
    assert_eq!(repairs, ["aclRights was kept as vnd.postbell.unregistered.aclRights"]);
    let (text, _) = read(&with("").replacen("MessageRead", "Snooze", 1));
    assert!(text.starts_with(r#"{"event":"vnd.postbell.unregistered.Snooze""#));
}

#[test]
fn r153_names_of_other_vendors_are_forwarded_untouched() {
    let value = r#"{"b":[1,2.50,1e400,{"a":null}],"a":"é\n"}"#;
    let (text, repairs) = read(&with(&format!(r#","vnd.cmu.sessionId":{value}"#)));
    assert!(text.ends_with(&format!("\"vnd.cmu.sessionId\":{value}}}")), "{text}");
    assert!(repairs.is_empty());
}

#[test]
fn r28_an_envelope_on_an_appended_message_is_dropped_and_told() {
    let (text, repairs) = read(
        r#"{"event":"MessageAppend","uri":"imap://h/a;UIDVALIDITY=1/;UID=2","timestamp":"2026-08-20T13:34:14+02:00","envelope":"MAIL FROM:<>\r\nRCPT TO:<a>\r\n"}"#,
    );
    assert!(!text.contains("envelope"));
    assert_eq!(repairs, ["envelope was dropped: MessageAppend has none (R28)"]);
}

#[test]
fn r61_r66_r115_recent_is_dropped_and_nothing_left_is_no_event() {
    let flags = |event: &str, flags: &str| {
        with(&format!(r#","flagNames":{flags}"#)).replacen("MessageRead", event, 1)
    };
    let (text, repairs) = read(&flags("FlagsSet", r#"["\\RECENT","\\sEEN"]"#));
    assert!(text.contains(r#""flagNames":["\\Seen"]"#));
    assert_eq!(
        repairs,
        [
            "flagNames was rewritten in its strict form",
            "flagNames was dropped: \\Recent may not be named (R61)",
        ]
    );
    for (event, rule) in [("FlagsSet", "R61"), ("FlagsClear", "R66")] {
        let error = refused(&flags(event, r#"["\\Recent"]"#));
        assert_eq!((error.parameter(), error.rule()), (Some("flagNames"), Some(rule)));
    }
}

#[test]
fn r110_r140_r144_a_value_in_the_wrong_form_is_told_with_its_rule() {
    let uidset = with("").replace(r#""3""#, r#""3:*""#);
    let timestamp = with("").replace("2026-08-20T13:34:14+02:00", "yesterday");
    let envelope = with(r#","envelope":"MAIL FROM:<>\r\n""#).replace("MessageRead", "MessageNew");
    for (text, parameter, rule) in [
        (uidset, "uidset", "R144"),
        (timestamp, "timestamp", "R140"),
        (envelope, "envelope", "R110"),
    ] {
        let error = refused(&text);
        assert_eq!((error.parameter(), error.rule()), (Some(parameter), Some(rule)), "{error}");
    }
}

#[test]
fn an_address_that_is_not_written_as_rfc_5952_has_it_is_rewritten_and_told() {
    let text = |address: &str| with(&format!(r#","clientIP":"{address}""#));
    assert!(json::check(text("2001:db8::7").as_bytes()).is_ok());
    for other in ["2001:DB8:0::7", "2001:db8::0007", "[2001:db8::7]"] {
        assert!(json::check(text(other).as_bytes()).is_err(), "{other}");
        let (told, repairs) = read(&text(other));
        assert!(told.contains(r#""clientIP":"2001:db8::7""#), "{told}");
        assert_eq!(repairs, ["clientIP was rewritten in its strict form"]);
    }
}

#[test]
fn r101_admin_equal_to_user_is_dropped_and_told() {
    let (text, repairs) = read(&with(r#","user":"a","admin":"a""#));
    assert!(!text.contains("admin"));
    assert_eq!(repairs, ["admin was dropped: it is the same as user (R101)"]);
}

#[test]
fn r124_a_modseq_on_a_set_is_the_mailboxes_highest() {
    let json = with(r#","modseq":9"#).replacen("\"3\"", "\"3:4\"", 1);
    let (text, repairs) = read(&json);
    assert!(text.contains(r#""vnd.postbell.highestModseq":"9""#));
    assert_eq!(repairs, ["modseq was kept as vnd.postbell.highestModseq"]);
}

#[test]
fn r13_a_uid_in_the_uri_of_a_flag_event_is_its_set() {
    let (text, repairs) = read(
        r#"{"event":"MessageRead","uri":"imap://h/a;UIDVALIDITY=1/;UID=2","timestamp":"2026-08-20T13:34:14+02:00"}"#,
    );
    assert!(
        text.contains(r#""uri":"imap://h/a;UIDVALIDITY=1""#) && text.contains(r#""uidset":"2""#)
    );
    assert_eq!(repairs, ["uidset was taken from uri", "uri was rewritten in its strict form"]);
    let other = r#"{"event":"MessageRead","uri":"imap://h/a/;UID=2","uidset":"3","timestamp":"2026-08-20T13:34:14+02:00"}"#;
    assert_eq!(refused(other).parameter(), Some("uri"));
}

#[test]
fn r144_a_set_in_any_order_is_put_in_order() {
    let (text, repairs) = read(&with("").replacen("\"3\"", "\"9:7,1,2,8\"", 1));
    assert!(text.contains(r#""uidset":"1:2,7:9""#));
    assert_eq!(repairs, ["uidset was rewritten in its strict form"]);
    assert_eq!(refused(&with("").replacen("\"3\"", "\"1:*\"", 1)).parameter(), Some("uidset"));
}

#[test]
fn r146_a_mailbox_where_someone_logs_in_is_left_out() {
    let (text, repairs) = read(
        r#"{"event":"Login","uri":"imap://a@h/INBOX;UIDVALIDITY=1","timestamp":"2026-08-20T13:34:14+02:00","user":"a","serverDomain":"h","serverPort":993}"#,
    );
    assert!(text.contains(r#""uri":"imap://a@h/""#));
    assert_eq!(repairs, ["uri was rewritten in its strict form"]);
}

#[test]
fn r37_what_is_empty_or_null_is_absent_and_told() {
    let (text, repairs) = read(&with(r#","service":"","user":null,"messages":null"#));
    assert!(!text.contains("service") && !text.contains("user"));
    assert_eq!(
        repairs,
        [
            "messages was dropped: it is null",
            "user was dropped: it is null",
            "service was dropped: it is empty"
        ]
    );
}

#[test]
fn what_is_given_twice_is_refused_however_it_is_spelled() {
    for twice in [
        r#","user":"a","user":"b""#,
        r#","user":"a","User":"b""#,
        r#","user":null,"user":"b""#,
        r#","vnd.a":1,"vnd.a":1"#,
        r#","event":"Login""#,
    ] {
        assert!(matches!(refused(&with(twice)), JsonError::Duplicate { .. }), "{twice}");
    }
}

#[test]
fn r104_r131_what_is_no_port_is_refused() {
    for port in ["0", "65536", "1.5", "true", "\"\""] {
        let error = refused(&with(&format!(r#","clientIP":"::1","clientPort":{port}"#)));
        assert_eq!(error.parameter(), Some("clientPort"), "{port}: {error}");
    }
}

#[test]
fn r103_an_address_in_brackets_with_a_zone_or_mapped_is_written_bare() {
    for (given, written) in [
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ] {
        let (text, repairs) = read(&with(&format!(r#","clientIP":"{given}""#)));
        assert!(text.contains(&format!(r#""clientIP":"{written}""#)), "{text}");
        assert_eq!(repairs, ["clientIP was rewritten in its strict form"]);
    }
    assert_eq!(refused(&with(r#","clientIP":"[[::1""#)).parameter(), Some("clientIP"));
}

#[test]
fn r119_content_as_an_object_is_whole_or_refused() {
    let json = |content: &str| {
        format!(
            r#"{{"event":"MessageNew","uri":"imap://h/a;UIDVALIDITY=1/;UID=2","timestamp":"2026-08-20T13:34:14+02:00","messageContent":{content}}}"#
        )
    };
    let parsed = json::from_slice(json(r#"{"base64":"/w=="}"#).as_bytes()).unwrap();
    assert_eq!(parsed.event.message_content().unwrap().as_bytes(), [0xff]);
    for content in [r#"{"base64":"/w"}"#, r#"{"base64":"","more":1}"#, "{}", "7", "[]"] {
        assert_eq!(refused(&json(content)).parameter(), Some("messageContent"), "{content}");
    }
}

#[test]
fn r125_a_modseq_is_read_in_either_form_up_to_63_bits() {
    for (given, kept) in [("\"7\"", 7), ("9007199254740993", 9_007_199_254_740_993)] {
        let parsed = json::from_slice(with(&format!(r#","modseq":{given}"#)).as_bytes()).unwrap();
        assert_eq!(parsed.event.modseq().unwrap().get(), kept);
        assert_eq!(parsed.repairs.len(), 1);
    }
    let over = refused(&with(r#","modseq":"9223372036854775808""#));
    assert_eq!(over.parameter(), Some("modseq"));
    let (text, repairs) = read(&with(r#","modseq":0"#));
    assert!(!text.contains("modseq"));
    assert_eq!(repairs, ["modseq was dropped: 0 is no MODSEQ"]);
}

#[test]
fn what_is_no_json_object_is_refused() {
    for text in ["", "null", "[]", "{", "{}x", "\u{feff}{}", "{\"event\":}"] {
        assert!(matches!(refused(text), JsonError::Syntax(_)), "{text}");
    }
    assert_eq!(refused("{}").rule(), Some("R15"));
    let large = " ".repeat(mail_event::limits::EVENT_OCTETS_MAX + 1);
    assert!(matches!(refused(&large), JsonError::TooLong { .. }));
}

#[test]
fn r6_an_unknown_service_survives() {
    for service in ["jmap", "managesieve", "x-future/2"] {
        let event = support::smallest(&EventName::MessageTrash)
            .uidset(UidSet::single(1))
            .user("a")
            .service(service)
            .build()
            .unwrap();
        let (text, repairs) = read(&json::to_string(&event));
        assert!(text.contains(&format!(r#""service":"{service}""#)) && repairs.is_empty());
    }
}
