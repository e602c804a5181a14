//! What a real Cyrus tells beside the RFC's events, where its operator asks for it.

use postbell_testkit::cyrus::{Cyrus, Options};
use postbell_testkit::http::{Basic, send_as};
use postbell_testkit::{ALICE, mail, password};

use super::{events, heard};
use crate::rig::{Rig, wait_until};

/// A Cyrus with these settings, and the source with or without the envelope.
fn telling(settings: &[(&str, &str)], envelope: bool) -> Option<(Rig, Cyrus)> {
    let mut rig = Rig::new();
    rig.options.envelope = envelope;
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let settings = settings.iter().map(own).collect();
    heard(rig, Options { settings, ..Options::default() })
}

#[test]
fn who_writes_to_whom_and_about_what_leaves_where_policy_lets_it_alone() {
    for envelope in [false, true] {
        let Some((rig, cyrus)) = telling(&[("event_extra_params", ENVELOPE)], envelope) else {
            return;
        };
        let mut imap = cyrus.imap(ALICE).unwrap();
        imap.append("INBOX", "", &mail::plain("confidential")).unwrap();
        wait_until(|| events(&rig).iter().any(|event| event["event"] == "MessageAppend"));
        assert!(rig.written().contains("confidential"), "Cyrus says it");
        let events = events(&rig);
        let came = events.iter().find(|event| event["event"] == "MessageAppend").unwrap();
        let of_envelope = came.get("vnd.cmu.envelope").and_then(serde_json::Value::as_str);
        assert_eq!(
            of_envelope.is_some_and(|text| text.contains("confidential")),
            envelope,
            "{came}"
        );
        assert!(came.get("envelope").is_none(), "it is not that of SMTP");
    }
}

#[test]
fn an_alarm_is_told_without_what_its_entry_says() {
    let groups = "message flags mailbox subscription access calendar";
    let Some((rig, cyrus)) = telling(&[("event_groups", groups)], false) else { return };
    let key = password(ALICE);
    let send = |method: &str, path: &str, kind: &str, body: &str| {
        let path = format!("/dav/calendars/user/{ALICE}/{path}");
        let answer = send_as(
            cyrus.http_address(),
            method,
            &path,
            Basic { user: ALICE, password: &key },
            kind,
            body,
        )
        .unwrap();
        assert!((200..300).contains(&answer.status), "{answer:?}");
    };
    send("PROPFIND", "", "application/xml", "");
    send("PUT", "Default/1.ics", "text/calendar", &ENTRY.replace('\n', "\r\n"));
    // As if it were that late.
    cyrus.tool("calalarmd", &["-t", AT_NINE]).unwrap();
    let name = "vnd.cmu.CalendarAlarm";
    wait_until(|| events(&rig).iter().any(|event| event["event"] == name));
    assert!(rig.written().contains("confidential room"), "Cyrus says it");
    let events = events(&rig);
    let alarm = events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(alarm["vnd.cmu.alarmTime"], "20270528T085500Z", "{alarm}");
    assert_eq!(alarm["vnd.cmu.userId"], ALICE, "{alarm}");
    assert!(!alarm.to_string().contains("onfidential"), "{alarm}");
}

#[test]
fn a_device_that_wants_to_be_told_is_told_without_what_lets_others_send_to_it() {
    let groups = "message flags mailbox subscription access applepushservice";
    let topic = ("aps_topic", "com.example.mail");
    let Some((rig, cyrus)) = telling(&[("event_groups", groups), topic], false) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.command(
        "XAPPLEPUSHSERVICE aps-version 2 aps-account-id account aps-device-token \
         0123456789abcdef aps-subtopic com.example.mail mailboxes (INBOX)",
    )
    .unwrap();
    let name = "vnd.cmu.ApplePushService";
    wait_until(|| events(&rig).iter().any(|event| event["event"] == name));
    assert!(rig.written().contains("0123456789abcdef"), "Cyrus says it");
    let events = events(&rig);
    let device = events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(
        (&device["user"], &device["vnd.cmu.apsAccountId"]),
        (&ALICE.into(), &"account".into())
    );
    assert!(!device.to_string().contains("0123456789abcdef"), "{device}");
}

/// With what is like the IMAP ENVELOPE beside what is usual.
const ENVELOPE: &str = "timestamp service clientAddress modseq messages uidnext flagNames \
    messageSize vnd.cmu.sessionId vnd.cmu.envelope";

/// 28 May 2027, 09:00, when the entry begins.
const AT_NINE: &str = "1811494800";

const ENTRY: &str = "BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//example.org//plays//EN
BEGIN:VEVENT
UID:1@example.org
DTSTAMP:20261125T090000Z
DTSTART:20270528T090000Z
DTEND:20270528T100000Z
SUMMARY:confidential summary
DESCRIPTION:confidential description
LOCATION:confidential room
ORGANIZER;CN=Alice:mailto:alice@example.org
ATTENDEE;CN=Confidential;PARTSTAT=ACCEPTED:mailto:confidential@example.net
BEGIN:VALARM
ACTION:DISPLAY
DESCRIPTION:confidential alarm
TRIGGER:-PT5M
END:VALARM
END:VEVENT
END:VCALENDAR
";
