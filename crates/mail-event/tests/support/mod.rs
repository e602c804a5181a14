//! Events to test with: the smallest of each kind, and any at all.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

use mail_event::{
    Builder, Envelope, Event, EventName, Flag, Flags, ImapUrl, MessageContent, Modseq, OtherName,
    ParameterName, Presence, Timestamp, UidSet, Uri, Value, binding,
};
use proptest::prelude::*;

/// The mailbox all events here are about.
pub(crate) fn mailbox() -> ImapUrl {
    let server = ImapUrl::server("imap.example.org", None).unwrap();
    server.with_user("john@example.org").with_mailbox("INBOX", Some(1_411_487_714))
}

/// When all of them happened.
pub(crate) fn time() -> Timestamp {
    "2026-08-20T13:34:14.966+02:00".parse().unwrap()
}

/// A `uri` as the event needs it.
pub(crate) fn uri(name: &EventName) -> Uri {
    let uri = mailbox();
    match name {
        EventName::MessageAppend | EventName::MessageNew => uri.with_uid(6).into(),
        EventName::Login | EventName::Logout => uri.without_mailbox().into(),
        _ => uri.into(),
    }
}

/// The event with what is mandatory and nothing else.
pub(crate) fn smallest(name: &EventName) -> Builder {
    let mut builder = Event::builder(name.clone(), uri(name), time());
    for parameter in ParameterName::REGISTERED {
        if binding::presence(name, &parameter) == Presence::Mandatory {
            builder = with(builder, &parameter);
        }
    }
    if matches!(name, EventName::QuotaExceed | EventName::QuotaWithin) {
        builder = builder.disk_quota(1_024);
    }
    builder
}

/// The same with one parameter more.
pub(crate) fn with(builder: Builder, parameter: &ParameterName) -> Builder {
    use ParameterName as P;
    let renamed = || mailbox().with_mailbox("Old", Some(7)).into();
    match parameter {
        P::Admin => builder.admin("root"),
        P::BodyStructure => builder.body_structure("(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 1 1)"),
        P::ClientIp => builder.client("192.0.2.7".parse().unwrap(), None),
        P::ClientPort => builder.client("2001:db8::7".parse().unwrap(), Some(50_000)),
        P::DiskQuota => builder.disk_quota(1_024),
        P::DiskUsed => builder.disk_used(1_000),
        P::Envelope => builder.envelope(envelope()),
        P::FlagNames => builder.flag_names(Flags::parse(r"\Flagged $Junk").unwrap()),
        P::MailboxId => builder.mailbox_id(mailbox().into()),
        P::MaxMessages => builder.max_messages(100),
        P::MessageContent => builder.message_content(MessageContent::new(*b"A: b\r\n\r\n\xff")),
        P::MessageSize => builder.message_size(976),
        P::Messages => builder.messages(6),
        P::Modseq => builder.modseq(Modseq::new(20).unwrap()),
        P::OldMailboxId => builder.old_mailbox_id(renamed()),
        P::Pid => builder.pid(4_711),
        P::Process => builder.process("imapd"),
        P::ServerDomain => builder.server_domain("imap.example.org"),
        P::ServerPort => builder.server_port(993),
        P::ServerFqdn => builder.server_fqdn("be1.example.org"),
        P::Service => builder.service("lmtp"),
        P::Tags => builder.tag("größe").tag("push"),
        P::Uidnext => builder.uidnext(7),
        P::Uidset => builder.uidset(UidSet::single(3)),
        P::User => builder.user("john@example.org"),
        P::Uri | P::Timestamp => builder,
        other => builder.vendor(OtherName::new(other.as_str()).unwrap(), 1),
    }
}

fn envelope() -> Envelope {
    Envelope::new("MAIL FROM:<a@example.net> SIZE=976", ["RCPT TO:<john@example.org>"]).unwrap()
}

/// Any event that can be built.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    (any_name(), any_time(), any_uri_parts(), any_wishes(), any_values(), any_vendors()).prop_map(
        |(name, time, parts, wishes, values, vendors)| {
            assemble(&name, time, parts, wishes, values, vendors)
        },
    )
}

fn any_name() -> impl Strategy<Value = EventName> {
    prop_oneof![
        9 => prop::sample::select(EventName::REGISTERED.to_vec()),
        1 => "vnd\\.[!-~]{1,20}".prop_map(|name| name.parse().unwrap()),
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let nanos = prop_oneof![Just(0), Just(966_000_000), 0..1_000_000_000];
    (-60_000_000_000_i64..250_000_000_000, nanos, -1_439..1_440_i32).prop_map(
        |(second, nanos, minutes)| {
            let instant = jiff::Timestamp::new(second, nanos).unwrap();
            Timestamp::new(instant, jiff::tz::Offset::from_seconds(minutes * 60).unwrap())
        },
    )
}

type UriParts = (String, String, u32, u32);

fn any_uri_parts() -> impl Strategy<Value = UriParts> {
    let text = || prop_oneof!["[a-z@.]{1,12}", "[^\\x00]{1,12}"];
    (text(), text(), 1_u32.., 1_u32..)
}

type Values = (u64, u64, Vec<String>, Vec<u32>, Vec<u8>, (String, u16, u128));

fn any_values() -> impl Strategy<Value = Values> {
    let large = (1_u64 << 53) - 1;
    let flag = prop_oneof![
        prop::sample::select(vec![r"\Seen", r"\Deleted", r"\Draft", r"\Flagged", r"\Answered"])
            .prop_map(str::to_owned),
        "[$a-zA-Z][a-zA-Z0-9_.-]{0,12}",
    ];
    (
        prop_oneof![Just(large), 0..=large],
        1..=i64::MAX.unsigned_abs(),
        prop::collection::vec(flag, 1..6),
        prop::collection::vec(prop_oneof![1_u32..50, 1_u32..], 1..12),
        prop_oneof![
            "\\PC{0,20}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40)
        ],
        ("\\PC{1,12}|[\\x01-\\x20]{1,4}", 1_u16.., any::<u128>()),
    )
}

/// Which of the parameters that may be there are there.
fn any_wishes() -> impl Strategy<Value = u32> {
    any::<u32>()
}

fn any_vendors() -> impl Strategy<Value = Vec<(String, Value)>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}|[\\x00-\\x20]{1,4}".prop_map(Value::from),
    ];
    let value = value.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..3)
                .prop_map(|members| members.into_iter().collect()),
        ]
    });
    prop::collection::vec(("vnd\\.[!-~]{1,12}", value), 0..4)
}

fn assemble(
    name: &EventName,
    time: Timestamp,
    (user, box_name, validity, uid): UriParts,
    wishes: u32,
    (number, modseq, flags, uids, content, (text, port, address)): Values,
    vendors: Vec<(String, Value)>,
) -> Event {
    let url = ImapUrl::server("imap.example.org", Some(port)).unwrap().with_user(&user);
    let at_mailbox = url.clone().with_mailbox(&box_name, Some(validity));
    let uri = match name {
        EventName::MessageAppend | EventName::MessageNew => at_mailbox.clone().with_uid(uid),
        EventName::Login | EventName::Logout => url.clone(),
        _ => at_mailbox.clone(),
    };
    let mut builder = Event::builder(name.clone(), uri.into(), time);
    let one_uid = wishes & (1 << 31) != 0;
    for (at, parameter) in ParameterName::REGISTERED.into_iter().enumerate() {
        use ParameterName as P;
        let wished = match binding::presence(name, &parameter) {
            Presence::Mandatory => true,
            Presence::Forbidden => false,
            Presence::Recommended | Presence::Optional => wishes & (1 << at) != 0,
        };
        if !wished {
            continue;
        }
        builder = match parameter {
            P::Admin => builder.admin(format!("admin {text}")),
            P::BodyStructure => builder.body_structure(format!("(\"{text}\")")),
            P::ClientIp if address % 2 == 0 => {
                builder.client(std::net::Ipv6Addr::from_bits(address).into(), None)
            }
            P::ClientIp => builder.client(std::net::Ipv4Addr::from([10, 0, 0, 1]).into(), None),
            P::ClientPort => {
                builder.client(std::net::Ipv6Addr::from_bits(address).into(), Some(port))
            }
            P::DiskQuota => builder.disk_quota(number),
            P::DiskUsed => builder.disk_used(number),
            P::FlagNames => {
                builder.flag_names(flags.iter().map(|one| one.parse::<Flag>().unwrap()).collect())
            }
            P::MailboxId => builder.mailbox_id(at_mailbox.clone().into()),
            P::MaxMessages => builder.max_messages(number),
            P::MessageContent => builder.message_content(MessageContent::new(content.clone())),
            P::MessageSize => builder.message_size(number),
            P::Messages => builder.messages(number),
            P::Modseq if matches!(name, EventName::Other(_)) || one_uid || uid_in_uri(name) => {
                builder.modseq(Modseq::new(modseq).unwrap())
            }
            P::Modseq => builder,
            P::OldMailboxId => {
                let old = url.clone().with_mailbox(&format!("{box_name}-old"), Some(validity));
                builder.old_mailbox_id(old.into())
            }
            P::Pid => builder.pid(number),
            P::Process => builder.process(&*text),
            P::ServerDomain => builder.server_domain(&*text),
            P::ServerPort => builder.server_port(port),
            P::ServerFqdn => builder.server_fqdn("be1.example.org"),
            P::Service => builder.service(if one_uid { "imap" } else { "x-lmtp" }),
            P::Tags => builder.tag(&*text).tag(format!("{text},{text}")),
            P::Uidnext => builder.uidnext(uid),
            P::Uidset if one_uid => builder.uidset(UidSet::single(uid)),
            P::Uidset => builder.uidset(UidSet::from_uids(uids.iter().copied())),
            other => with(builder, &other),
        };
    }
    if one_uid {
        builder = builder.user(format!("user {text}"));
        if *name == EventName::MessageRead {
            builder = builder.service("imap");
        }
    }
    if matches!(name, EventName::QuotaExceed | EventName::QuotaWithin) {
        builder = builder.max_messages(number);
    }
    for (name, value) in vendors {
        builder = builder.vendor(OtherName::new(&name).unwrap(), value);
    }
    builder.build().unwrap()
}

fn uid_in_uri(name: &EventName) -> bool {
    matches!(name, EventName::MessageAppend | EventName::MessageNew)
}
