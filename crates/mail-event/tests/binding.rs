//! The binding, cell by cell (requirements R20 and the matrix of RFC 5423's parameters).

mod support;

use mail_event::{Event, EventName, ImapUrl, ParameterName, Presence, Uri, binding, json};
use support::{smallest, time, with};

#[test]
fn r20_every_cell_of_the_table_is_what_the_builder_does() {
    for event in EventName::REGISTERED {
        let smallest = smallest(&event);
        assert!(smallest.clone().build().is_ok(), "{event}");
        for parameter in ParameterName::REGISTERED {
            let built = with(smallest.clone(), &parameter).build();
            match binding::presence(&event, &parameter) {
                Presence::Forbidden => {
                    let error = built.unwrap_err();
                    assert_eq!(error.parameter(), parameter.as_str(), "{event}");
                }
                _ => assert!(built.unwrap().has(&parameter), "{event} {parameter}"),
            }
        }
    }
}

#[test]
fn r20_what_is_mandatory_can_not_be_left_out() {
    for event in EventName::REGISTERED {
        let text = json::to_string(&smallest(&event).build().unwrap());
        let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
        for parameter in ParameterName::REGISTERED {
            if binding::presence(&event, &parameter) != Presence::Mandatory {
                continue;
            }
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(parameter.as_str());
            let text = without.to_string();
            let error = json::from_slice(text.as_bytes()).unwrap_err();
            assert_eq!(error.parameter(), Some(parameter.as_str()), "{event}: {error}");
            assert!(error.rule().is_some(), "{event} {parameter}");
            assert!(json::check(text.as_bytes()).is_err());
        }
    }
}

#[test]
fn r145_r137_uri_and_timestamp_are_mandatory_on_all() {
    for event in EventName::REGISTERED {
        for parameter in [ParameterName::Uri, ParameterName::Timestamp] {
            assert_eq!(binding::presence(&event, &parameter), Presence::Mandatory);
        }
    }
}

#[test]
fn r9_uidvalidity_goes_with_addition_and_removal() {
    use EventName as E;
    for event in [E::MessageAppend, E::MessageNew, E::MessageExpire, E::MessageExpunge] {
        assert_eq!(binding::uid_validity(&event), Presence::Mandatory);
        let url = support::mailbox().with_mailbox("INBOX", None);
        let url = if binding::uid(&event) == Presence::Mandatory { url.with_uid(6) } else { url };
        let uids = mail_event::UidSet::single(6);
        let builder = Event::builder(event.clone(), url.into(), time());
        let builder = if binding::uid(&event) == Presence::Mandatory {
            builder
        } else {
            builder.uidset(uids)
        };
        assert_eq!(builder.build().unwrap_err().parameter(), "uri", "{event}");
    }
}

#[test]
fn r11_r146_uri_names_a_mailbox_or_the_server_alone() {
    let server: Uri = ImapUrl::server("imap.example.org", None).unwrap().into();
    for event in EventName::REGISTERED {
        let built = smallest(&event).build().unwrap();
        let at = |uri: Uri| {
            let text = json::to_string(&built).replacen(
                &format!("\"uri\":\"{}\"", built.uri()),
                &format!("\"uri\":\"{uri}\""),
                1,
            );
            json::check(text.as_bytes()).is_ok()
        };
        match event {
            EventName::Login | EventName::Logout => {
                assert!(at(server.clone()));
                assert!(!at(support::mailbox().into()), "{event}");
            }
            EventName::QuotaExceed | EventName::QuotaWithin | EventName::QuotaChange => {
                assert!(at(server.clone()) && at(support::mailbox().into()));
            }
            _ => assert!(!at(server.clone()), "{event}"),
        }
    }
}

#[test]
fn r10_r39_a_store_without_imap_urls_names_things_its_own_way() {
    for event in EventName::REGISTERED {
        let text = json::to_string(&smallest(&event).build().unwrap());
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["uri"] = "https://mail.example.org/jmap/M123".into();
        let parsed = json::from_slice(value.to_string().as_bytes()).unwrap();
        assert!(parsed.repairs.is_empty() && parsed.event.uri().as_imap().is_none(), "{event}");
    }
}

#[test]
fn r152_r153_events_outside_the_registry_carry_anything() {
    let event: EventName = "vnd.example.Snooze".parse().unwrap();
    let mut builder = smallest(&event);
    for parameter in ParameterName::REGISTERED {
        builder = with(builder, &parameter);
    }
    let built = builder.build().unwrap();
    assert_eq!(built.parameters().count(), 27);
    let parsed = json::from_slice(json::to_string(&built).as_bytes()).unwrap();
    assert_eq!((parsed.event, parsed.repairs), (built, Vec::new()));
}
