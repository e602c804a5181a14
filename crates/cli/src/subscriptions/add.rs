//! `postbell subscriptions add`: a webhook subscribed to events.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{begin, describe, path, secret, tell_secret};
use crate::client::{Call, Client};
use crate::ending::Ending;
use crate::out;
use crate::selection::{FormArgs, WhichArgs};
use crate::when::{self, Begin};

/// Subscribe a webhook to events.
///
/// Prints the secret its receiver checks signatures with; it is shown this once.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell subscriptions add phone --to https://hooks.example.org/mail --event MessageNew
  postbell subscriptions add audit --to https://audit.example.org/in --event access --begin 1
  postbell subscriptions add large --to https://hooks.example.org/large --event MessageNew \\
      --where 'messageSize > 10000000'
  postbell subscriptions add john --to https://john.example.org/ --user john@example.org \\
      --mailbox INBOX --mailbox 'Archive/*' --tag vip
  postbell subscriptions add trial --to https://hooks.example.org/trial --expires 30d --replace
  postbell subscriptions add index --to https://index.example.org/in --batch-events 200")]
pub(super) struct AddArgs {
    /// A name of your choice, for the other commands.
    name: String,
    /// Where deliveries go.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Only these events or groups (message, flags, quota, access, mailbox, subscription, vendor);
    /// may be given several times.
    #[arg(short, long, value_name = "NAME")]
    event: Vec<String>,
    #[command(flatten)]
    which: WhichArgs,
    /// Put this on every delivery; may be given several times.
    #[arg(short, long, value_name = "TEXT")]
    tag: Vec<String>,
    #[command(flatten)]
    form: FormArgs,
    /// Where to begin: now, with a record's number (1 for the oldest there is), or at a time.
    #[arg(long, value_name = "now|SEQ|TIME", default_value = "now", value_parser = when::begin)]
    begin: Begin,
    /// When it ends: after so long (12h, 30d), or at a time such as 2027-01-01T00:00:00Z [default:
    /// never].
    #[arg(long, value_name = "WHEN", value_parser = when::expiry)]
    expires: Option<jiff::Timestamp>,
    /// Change the one of that name to this where there is one; it goes on where it stood.
    #[arg(long)]
    replace: bool,
    /// A file with the secret (whsec_… or whsk_…), where it is not for the hub to make one.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How deliveries are signed: v1 with a key that the receiver has too (HMAC-SHA256), v1a with
    /// one of which it has the public half (Ed25519).
    #[arg(long, default_value = "v1", value_parser = ["v1", "v1a"], conflicts_with = "secret_file")]
    signature: String,
    /// Do not ask the receiver whether it agrees before the first delivery; only whoever runs the hub
    /// may leave that out.
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    batch: BatchArgs,
    /// The certificate that the receiver is shown where it asks who is there, by its name in the hub's
    /// configuration ([webhooks.client_certificates.NAME]).
    #[arg(long, value_name = "NAME")]
    client_certificate: Option<String>,
}

/// How events go together, several in one request, where any of this is given.
#[derive(Args, Debug)]
struct BatchArgs {
    /// Send events several in one request, at most so many (100 where only another --batch is given).
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..))]
    batch_events: Option<u32>,
    /// Octets of such a request at most [default: 262144].
    #[arg(long, value_name = "OCTETS")]
    batch_octets: Option<u64>,
    /// How long an event waits for others to go with it, up to a minute [default: 1s].
    #[arg(long, value_name = "TIME")]
    batch_delay: Option<String>,
}

/// Makes it, or changes the one of that name.
pub(super) async fn run(
    client: &mut Client,
    add: &AddArgs,
    as_json: bool,
) -> anyhow::Result<Ending> {
    let (request, path) = (add.request()?, path(&add.name));
    let call = match add.replace {
        true => Call::put(&path, &request),
        false => Call::post("/v1/subscriptions", &request),
    };
    let answer = client.json(call).await?;
    if as_json {
        out::json(&answer)?;
        return Ok(Ending::Done);
    }
    describe(&answer)?;
    tell_secret(&answer)?;
    Ok(Ending::Done)
}

impl AddArgs {
    fn request(&self) -> anyhow::Result<Value> {
        let mut sink = json!({ "kind": "webhook", "url": self.to, "signature": self.signature });
        if let (Some(file), Some(sink)) = (&self.secret_file, sink.as_object_mut()) {
            sink.insert("secret".to_owned(), secret(file)?.into());
        }
        if let (true, Some(sink)) = (self.no_verify, sink.as_object_mut()) {
            sink.insert("verify".to_owned(), false.into());
        }
        if let (Some(batch), Some(sink)) = (self.batch.request(), sink.as_object_mut()) {
            sink.insert("batch".to_owned(), batch);
        }
        if let (Some(name), Some(sink)) = (&self.client_certificate, sink.as_object_mut()) {
            sink.insert("clientCertificate".to_owned(), name.clone().into());
        }
        let mut request = Map::new();
        request.insert("name".to_owned(), self.name.clone().into());
        for (name, values) in [
            ("events", &self.event),
            ("users", &self.which.user),
            ("mailboxes", &self.which.mailbox),
            ("parameters", &self.which.parameter),
            ("tags", &self.tag),
        ] {
            if !values.is_empty() {
                request.insert(name.to_owned(), json!(values));
            }
        }
        if let Some(condition) = &self.which.condition {
            request.insert("where".to_owned(), condition.clone().into());
        }
        let forms = [("seen", &self.form.seen_form), ("deleted", &self.form.deleted_form)];
        let forms = forms
            .into_iter()
            .filter_map(|(flag, form)| Some((flag.to_owned(), Value::from(form.clone()?))));
        let forms: Map<_, _> = forms.collect();
        if !forms.is_empty() {
            request.insert("flagForms".to_owned(), forms.into());
        }
        request.insert("begin".to_owned(), begin(self.begin));
        if let Some(at) = self.expires {
            request.insert("expires".to_owned(), at.to_string().into());
        }
        request.insert("sink".to_owned(), sink);
        Ok(Value::Object(request))
    }
}

impl BatchArgs {
    fn request(&self) -> Option<Value> {
        let members = [
            ("maxEvents", self.batch_events.map(Value::from)),
            ("maxOctets", self.batch_octets.map(Value::from)),
            ("maxDelay", self.batch_delay.clone().map(Value::from)),
        ];
        let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let given: Map<_, _> = given.collect();
        (!given.is_empty()).then_some(Value::Object(given))
    }
}
