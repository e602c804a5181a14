//! What a hub would say of a new subscription, without one: by a configuration alone.

use jiff::Timestamp;
use mail_event::Timestamp as EventTime;
use postbell_engine::Role;
use postbell_sinks::webhook::{Secret, Target};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::life::expiry;
use super::make::{CreateError, check_name, invalid};
use super::{Begin, NewSink, reach};
use crate::api::{plain, pointer};
use crate::{Config, WebhooksConfig};

/// Something in a new subscription that a hub would refuse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct Refusal {
    /// Where in it, as a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// What a hub that is configured so would refuse in the `name`, `begin`, `expires` and `sink` of a
/// subscription made with a token of this role; a member that isn't there isn't missed.
///
/// Nothing is looked up, and no receiver is asked: whether a host's addresses are within reach, a
/// record is there or a name is free, only the hub finds out.
#[must_use]
pub fn refusals(members: &Map<String, Value>, config: &Config, role: Role) -> Vec<Refusal> {
    let mut found: Vec<CreateError> = Vec::new();
    if let Some(name) = read::<String>(members, "name", &mut found) {
        found.extend(check_name(&name).err());
    }
    if let Some(Begin::Time(text)) = read(members, "begin", &mut found)
        && let Err(error) = EventTime::parse_lenient(&text)
    {
        found.push(invalid("/begin/time", error));
    }
    if let Some(Some(text)) = read::<Option<String>>(members, "expires", &mut found)
        && let Err(error) = expiry(&text, Timestamp::now())
    {
        found.push(invalid("/expires", error));
    }
    if let Some(sink) = read::<NewSink>(members, "sink", &mut found) {
        found.extend(faults(&sink, reach(config.webhooks.reach), &config.webhooks, role));
        found.extend(certificate(&sink, &config.webhooks, role));
    }
    let told = found.into_iter().filter_map(|error| match error {
        CreateError::Invalid { pointer, message } => Some(Refusal { pointer, message }),
        _ => None,
    });
    told.collect()
}

/// What is wrong with a sink, as far as a hub's configuration says.
pub(super) fn faults(
    sink: &NewSink,
    reach: postbell_sinks::webhook::Reach,
    webhooks: &WebhooksConfig,
    role: Role,
) -> Vec<CreateError> {
    let NewSink::Webhook { url, secret, verify, batch, client_certificate, .. } = sink;
    let mut found = Vec::new();
    match Target::parse(url, reach) {
        Err(error) => found.push(invalid("/sink/url", error)),
        Ok(target) => {
            let is_secure = target.uri().scheme_str() == Some("https");
            if client_certificate.is_some() && !is_secure {
                found.push(invalid("/sink/clientCertificate", "is shown over https alone"));
            }
        }
    }
    if *verify == Some(false) && role != Role::Admin {
        found.push(invalid("/sink/verify", "only whoever runs the hub may leave it out"));
    }
    found.extend(batch.as_ref().and_then(|batch| batch.check(webhooks).err()));
    if let Some(error) = secret.as_ref().and_then(|text| Secret::parse(text).err()) {
        found.push(invalid("/sink/secret", error));
    }
    found
}

/// What is wrong with the name of a certificate; which service a token is of isn't known here.
fn certificate(sink: &NewSink, webhooks: &WebhooksConfig, role: Role) -> Option<CreateError> {
    let NewSink::Webhook { client_certificate: Some(name), .. } = sink else { return None };
    let found = webhooks.client_certificates.get(name);
    let why = match role {
        Role::Admin if found.is_some() => return None,
        Role::Service if found.is_some_and(|one| !one.services.is_empty()) => return None,
        Role::Admin => format!("there is no [webhooks.client_certificates.{name}]"),
        Role::Service | Role::User => {
            format!("{name:?} is no client certificate that may be shown for it")
        }
    };
    Some(invalid("/sink/clientCertificate", why))
}

/// A member, where it is there and can be read.
fn read<T: DeserializeOwned>(
    members: &Map<String, Value>,
    name: &str,
    found: &mut Vec<CreateError>,
) -> Option<T> {
    let value = members.get(name)?.clone();
    let error = match serde_path_to_error::deserialize(value) {
        Ok(member) => return Some(member),
        Err(error) => error,
    };
    let within = pointer(error.path());
    found.push(invalid(&format!("/{name}{within}"), plain(&error.into_inner().to_string())));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str, config: &Config, role: Role) -> String {
        let members: Map<String, Value> = serde_json::from_str(json).unwrap();
        let all = refusals(&members, config, role);
        all.iter().map(|one| format!("{one}\n")).collect()
    }

    #[test]
    fn what_a_hub_would_refuse_is_told_all_at_once_with_the_key_that_says_so() {
        let json = r#"{"name":"a b","expires":"soon","begin":{"seq":-1},"sink":{"kind":"webhook","url":"http://10.0.0.1/","verify":false,"secret":"x","clientCertificate":"partner","batch":{"maxEvents":100000}}}"#;
        let mut config = Config::default();
        insta::assert_snapshot!(told(json, &config, Role::User));
        config.webhooks.reach = crate::Reach::Anywhere;
        config.webhooks.batch_events = 1_000;
        let fine = r#"{"name":"a","begin":"now","expires":"30d","sink":{"kind":"webhook","url":"http://10.0.0.1/","verify":false,"batch":{"maxEvents":1000}}}"#;
        assert_eq!(told(fine, &config, Role::Admin), "");
    }

    #[test]
    fn what_is_no_sink_is_told_and_what_is_not_there_is_not_missed() {
        let config = Config::default();
        assert_eq!(told("{}", &config, Role::User), "");
        for json in [
            r#"{"sink":{"kind":"pigeon","url":"http://10.0.0.1/"}}"#,
            r#"{"sink":{"kind":"webhook"}}"#,
            r#"{"sink":5}"#,
        ] {
            let told = told(json, &config, Role::Admin);
            assert!(told.starts_with("/sink") && told.lines().count() == 1, "{told}");
        }
        assert!(told(r#"{"begin":{"time":"x"}}"#, &config, Role::Admin).starts_with("/begin/time"));
    }
}
