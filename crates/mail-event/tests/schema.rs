//! The published schema judges what is written, and says no more and no less than the binding.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails with the test"
)]

mod support;

use jsonschema::Validator;
use mail_event::{EventName, ParameterName, Presence, binding, json};
use proptest::prelude::*;
use serde_json::Value;
use support::{any_event, smallest, with};

const EXAMPLES: &str = include_str!("../schema/event.examples.json");

fn schema() -> Validator {
    let schema: Value = serde_json::from_str(mail_event::SCHEMA).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn examples(kind: &str) -> Vec<Value> {
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap();
    examples[kind].as_array().unwrap().clone()
}

#[test]
fn the_examples_are_judged_as_they_say() {
    let schema = schema();
    for example in examples("valid") {
        let errors: Vec<_> = schema.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{example}: {errors:?}");
    }
    for example in examples("invalid") {
        assert!(!schema.is_valid(&example), "{example}");
    }
}

#[test]
fn the_crate_judges_the_examples_as_the_schema_does() {
    for example in examples("valid") {
        let text = example.to_string();
        let parsed = json::from_slice(text.as_bytes()).unwrap();
        // What no schema can say: a MODSEQ is one message's (R124), and is kept under its own
        // name where it comes with a set (A4).
        let on_a_set = parsed.event.modseq().is_none() && example.get("modseq").is_some();
        let repairs: Vec<_> = parsed.repairs.iter().map(ToString::to_string).collect();
        if on_a_set {
            assert_eq!(repairs, ["modseq was kept as vnd.postbell.highestModseq"]);
        } else {
            assert!(repairs.is_empty(), "{example}: {repairs:?}");
            let written: Value = serde_json::from_str(&json::to_string(&parsed.event)).unwrap();
            let bare = Value::from(example["uri"].as_str().unwrap().to_owned() + "/");
            let mut example = example.clone();
            if written["uri"] == bare {
                example["uri"] = bare;
            }
            assert_eq!(written, example);
        }
    }
    for example in examples("invalid") {
        let text = example.to_string();
        assert!(json::check(text.as_bytes()).is_err(), "{text}");
        let strict =
            json::from_slice(text.as_bytes()).is_ok_and(|parsed| parsed.repairs.is_empty());
        assert!(!strict, "{text}");
    }
}

#[test]
fn r20_the_schema_and_the_binding_say_the_same_of_every_cell() {
    let schema = schema();
    for event in EventName::REGISTERED {
        let text = json::to_string(&smallest(&event).build().unwrap());
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert!(schema.is_valid(&whole), "{event}");
        for parameter in ParameterName::REGISTERED {
            let presence = binding::presence(&event, &parameter);
            let mut without = whole.clone();
            let was = without.as_object_mut().unwrap().remove(parameter.as_str());
            if was.is_some() && presence == Presence::Mandatory {
                assert!(!schema.is_valid(&without), "{event} without {parameter}");
            }
            // On an event that may carry it, it is written as it would be here.
            let anything: EventName = "vnd.example.Any".parse().unwrap();
            let other = json::to_string(&with(smallest(&anything), &parameter).build().unwrap());
            let other: Value = serde_json::from_str(&other).unwrap();
            let mut with_it = whole.clone();
            for name in [parameter.as_str(), "clientIP"] {
                if let Some(value) = other.get(name).filter(|_| with_it.get(name).is_none()) {
                    with_it[name] = value.clone();
                }
            }
            let allowed = presence != Presence::Forbidden;
            assert_eq!(schema.is_valid(&with_it), allowed, "{event} with {parameter}");
        }
    }
}

#[test]
fn r151_the_schema_knows_the_registered_names_and_no_others() {
    let schema: Value = serde_json::from_str(mail_event::SCHEMA).unwrap();
    let mut known: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    let mut ours: Vec<_> = ParameterName::REGISTERED.iter().map(ToString::to_string).collect();
    ours.push("event".to_owned());
    known.sort();
    ours.sort();
    assert_eq!(known, ours);
    let events = schema["properties"]["event"]["anyOf"][0]["enum"].as_array().unwrap();
    assert!(
        events
            .iter()
            .map(|name| name.as_str().unwrap())
            .eq(EventName::REGISTERED.iter().map(EventName::as_str))
    );
}

proptest! {
    #[test]
    fn what_is_written_is_always_valid(event in any_event()) {
        thread_local!(static SCHEMA: Validator = schema());
        let value: Value = serde_json::from_str(&json::to_string(&event)).unwrap();
        let errors: Vec<String> = SCHEMA.with(|schema| {
            schema.iter_errors(&value).map(|error| error.to_string()).collect()
        });
        prop_assert!(errors.is_empty(), "{}: {:?}", value, errors);
    }
}
