//! What RFC 5423 says of single events and parameters, clause by clause, as the builder holds it.

#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

mod support;

use EventName as E;
use ParameterName as P;
use mail_event::{
    Event, EventGroup, EventName, ImapUrl, OtherName, ParameterName, Presence, UidSet, Uri, Value,
    binding, json,
};
use support::{mailbox, smallest, time, with};

fn allowed(event: &EventName, parameter: &ParameterName) -> bool {
    binding::presence(event, parameter) != Presence::Forbidden
}

/// The events that may carry `parameter`.
fn carriers(parameter: &ParameterName) -> Vec<EventName> {
    EventName::REGISTERED.into_iter().filter(|event| allowed(event, parameter)).collect()
}

/// There and back with a parameter of one's own.
fn carries(event: &EventName, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let built = smallest(event).vendor(OtherName::new(name).unwrap(), value.clone());
    let text = json::to_string(&built.build().unwrap());
    let parsed = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(parsed.event.vendor(name), Some(value));
    assert!(parsed.repairs.is_empty());
}

#[test]
fn r2_r3_r146_a_mailbox_needs_no_messages_to_be_told_of() {
    // Neither created with messages in mind nor open to delivery: no UIDVALIDITY to be had.
    let bare: Uri = mailbox().with_mailbox("Parent", None).into();
    for name in [E::MailboxDelete, E::MailboxSubscribe, E::MailboxUnSubscribe] {
        let builder = Event::builder(name.clone(), bare.clone(), time());
        assert!(builder.mailbox_id(bare.clone()).user("a").build().is_ok(), "{name}");
    }
}

#[test]
fn r22_r25_every_event_is_of_one_group() {
    let count = |group| EventName::REGISTERED.iter().filter(|name| name.group() == group).count();
    let counts = EventGroup::ALL.map(count);
    assert_eq!(counts, [4, 4, 3, 2, 3, 2, 0]);
}

#[test]
fn r29_r37_r83_r88_r96_the_protocol_may_be_told_of_any_event() {
    for event in EventName::REGISTERED {
        assert_eq!(binding::presence(&event, &P::Service), Presence::Optional);
        let built = smallest(&event).user("john@example.org").service("imap").build().unwrap();
        assert_eq!(built.service(), Some("imap"));
        assert_eq!(smallest(&event).service("").build().unwrap().service(), None);
    }
}

#[test]
fn r30_an_appended_message_is_as_a_new_one_but_for_the_envelope() {
    for parameter in P::REGISTERED {
        let (append, new) = (
            binding::presence(&E::MessageAppend, &parameter),
            binding::presence(&E::MessageNew, &parameter),
        );
        assert!(append == new || parameter == P::Envelope, "{parameter}");
    }
    assert_eq!(binding::uid(&E::MessageAppend), binding::uid(&E::MessageNew));
    assert_eq!(binding::uid_validity(&E::MessageAppend), binding::uid_validity(&E::MessageNew));
}

#[test]
fn r34_r72_r73_r77_r78_r174_what_has_no_registered_name_has_one_of_the_vendors() {
    carries(&E::MessageExpire, "vnd.postbell.expirePolicy", "90 days");
    carries(&E::Login, "vnd.example.authMechanism", "SCRAM-SHA-256");
    carries(&E::Login, "vnd.example.securityLayer", "TLSv1.3");
    for how in ["graceful", "abort", "timeout", "security-layer-error", "of its own"] {
        carries(&E::Logout, "vnd.example.disconnect", how);
    }
    carries(&E::Logout, "vnd.example.sessionDuration", 17);
}

#[test]
fn r40_r41_a_new_message_carries_its_envelope_itself_and_more() {
    let mut builder = smallest(&E::MessageNew);
    let more = [
        P::Envelope,
        P::MessageContent,
        P::BodyStructure,
        P::Messages,
        P::Uidnext,
        P::Modseq,
        P::FlagNames,
    ];
    for parameter in &more {
        builder = with(builder, parameter);
    }
    let name = OtherName::new("vnd.example.spamScore").unwrap();
    let built = builder.vendor(name, -2.5).build().unwrap();
    let parsed = json::from_slice(json::to_string(&built).as_bytes()).unwrap();
    assert_eq!((&parsed.event, parsed.repairs.len()), (&built, 0));
    assert!(more.iter().all(|parameter| parsed.event.has(parameter)));
}

#[test]
fn r47_r49_r50_r105_r107_r118_r122_quota_events_carry_limit_usage_and_mailbox() {
    for event in [E::QuotaExceed, E::QuotaWithin, E::QuotaChange] {
        for parameter in [P::DiskQuota, P::DiskUsed, P::MaxMessages, P::Messages, P::User] {
            assert_eq!(binding::presence(&event, &parameter), Presence::Recommended, "{event}");
        }
        assert_eq!(binding::presence(&event, &P::MailboxId), Presence::Optional);
        let server: Uri = mailbox().without_mailbox().into();
        let of_disk = Event::builder(event.clone(), server.clone(), time());
        assert!(of_disk.disk_quota(10).disk_used(14).build().is_ok());
        let of_messages = Event::builder(event.clone(), server, time());
        assert!(of_messages.max_messages(10).messages(10).build().is_ok());
    }
}

#[test]
fn r51_r84_no_unprefixed_name_is_invented() {
    for name in ["contextQuota", "acl", "aclRights", "expirePolicy", "authMechanism"] {
        let builder = smallest(&E::QuotaChange).vendor(OtherName::new(name).unwrap(), 1);
        assert_eq!(builder.build().unwrap_err().rule(), "R152", "{name}");
    }
}

#[test]
fn r57_r60_r65_flag_events_name_mailbox_uids_and_flags() {
    for (event, rule) in [
        (E::MessageRead, "R57"),
        (E::MessageTrash, "R57"),
        (E::FlagsSet, "R60"),
        (E::FlagsClear, "R65"),
    ] {
        let bare = Event::builder(event.clone(), mailbox().into(), time());
        let error = bare.clone().build().unwrap_err();
        assert_eq!(error.rule(), rule, "{error}");
        let flagged = with(bare.uidset(UidSet::single(3)), &P::FlagNames).build();
        assert_eq!(flagged.is_ok(), matches!(event, E::FlagsSet | E::FlagsClear), "{event}");
        let server: Uri = mailbox().without_mailbox().into();
        let nowhere = with(Event::builder(event, server, time()), &P::Uidset);
        let nowhere = if rule == "R57" { nowhere } else { with(nowhere, &P::FlagNames) };
        assert_eq!(nowhere.build().unwrap_err().parameter(), "uri");
    }
}

#[test]
fn r69_r71_r100_r149_the_one_who_acts_and_the_one_who_logged_in() {
    for event in EventName::REGISTERED {
        assert_ne!(binding::presence(&event, &P::User), Presence::Forbidden);
        assert_eq!(binding::presence(&event, &P::Admin), Presence::Recommended);
    }
    // Proxy authentication: root acts as bob, on alice's server.
    let built = smallest(&E::Login).user("bob").admin("root").build().unwrap();
    assert_eq!((built.user(), built.admin()), (Some("bob"), Some("root")));
}

#[test]
fn r70_the_clients_address_in_every_form() {
    for (given, told) in [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ] {
        let built =
            smallest(&E::Login).client(given.parse().unwrap(), Some(50_000)).build().unwrap();
        assert_eq!(built.client_ip().unwrap().to_string(), told);
        assert_eq!(built.client_port(), Some(50_000));
    }
}

#[test]
fn r76_a_logout_carries_whatever_a_login_does() {
    for parameter in P::REGISTERED {
        assert_eq!(allowed(&E::Logout, &parameter), allowed(&E::Login, &parameter), "{parameter}");
    }
}

#[test]
fn r99_r169_what_is_spelled_oddly_or_was_an_exception_is_there_all_the_same() {
    for name in [
        "FlagsSet",
        "FlagsClear",
        "MailboxCreate",
        "MailboxDelete",
        "MailboxRename",
        "MailboxSubscribe",
        "MailboxUnSubscribe",
    ] {
        let event: EventName = name.parse().unwrap();
        assert!(EventName::REGISTERED.contains(&event));
        assert_eq!(smallest(&event).build().unwrap().name().as_str(), name);
    }
    assert!(matches!("MailboxUnsubscribe".parse(), Ok(E::Other(_))));
}

#[test]
fn r102_r109_r111_r119_r127_what_goes_with_few_events() {
    let added = [E::MessageAppend, E::MessageNew];
    assert_eq!(carriers(&P::Envelope), [E::MessageNew]);
    assert_eq!(carriers(&P::BodyStructure), added);
    assert_eq!(carriers(&P::MessageContent), added);
    assert_eq!(carriers(&P::MessageSize), added);
    assert_eq!(
        carriers(&P::FlagNames),
        [E::MessageAppend, E::MessageNew, E::FlagsSet, E::FlagsClear]
    );
    assert_eq!(carriers(&P::OldMailboxId), [E::MailboxRename]);
}

#[test]
fn r128_r129_r132_who_tells_may_be_told_of_any_event() {
    for event in EventName::REGISTERED {
        let built = smallest(&event).pid(0).process("imapd").server_fqdn("be1.example.org");
        let built = built.build().unwrap();
        assert_eq!((built.pid(), built.process()), (Some(0), Some("imapd")));
        // It need not be the host of the uri: a backend tells of what its front door serves.
        assert_eq!(built.server_fqdn(), Some("be1.example.org"));
    }
}

#[test]
fn r130_the_server_is_a_name_or_an_address_of_either_kind() {
    for server in ["imap.example.org", "192.0.2.7", "2001:db8::7"] {
        let built = smallest(&E::Login).server_domain(server).build().unwrap();
        let parsed = json::from_slice(json::to_string(&built).as_bytes()).unwrap();
        assert_eq!(parsed.event.server_domain(), Some(server));
    }
}

#[test]
fn r131_the_port_is_the_one_the_client_used() {
    let url = ImapUrl::server("imap.example.org", Some(1143)).unwrap();
    let built = Event::builder(E::Login, url.into(), time()).user("a").server_domain("h");
    assert_eq!(built.server_port(993).build().unwrap().server_port(), Some(993));
}

#[test]
fn r141_the_next_uid_is_never_0() {
    let error = smallest(&E::MailboxCreate).uidnext(0).build().unwrap_err();
    assert_eq!((error.parameter(), error.rule()), ("uidnext", "R141"));
    assert!(smallest(&E::MailboxCreate).uidnext(u32::MAX).build().is_ok());
}

#[test]
fn r168_what_the_rfc_put_off_has_no_name_but_a_vendors() {
    for name in ["AclChange", "MessageArchived", "AuthenticationFailure", "AccountDisabled"] {
        let event: EventName = name.parse().unwrap();
        assert_eq!(event.group(), EventGroup::Vendor);
        let builder = Event::builder(event, mailbox().into(), time());
        assert_eq!(builder.build().unwrap_err().rule(), "R152", "{name}");
        carries(&format!("vnd.example.{name}").parse().unwrap(), "vnd.example.why", "policy");
    }
}
