//! A Maildir's events reach a webhook and a stream alike.

use std::time::{Duration, Instant};

use postbell_acceptance::{Bench, Told};
use postbell_testkit::{Agent, Error, Receiver, mail};

#[test]
fn what_a_stream_tells_is_sent_to_a_webhook_too() -> Result<(), Error> {
    let Some(agent) = Agent::maildrop()? else { return Ok(()) };
    let receiver = Receiver::start()?;
    let mut bench = Bench::start(&agent.mail())?;
    bench.hear_out()?;
    let asked = format!(
        r#"{{"name":"new-mail","events":["MessageNew"],"begin":"now","tags":["push"],
            "sink":{{"kind":"webhook","url":"{}"}}}}"#,
        receiver.url()
    );
    let answer = bench.post("/v1/subscriptions", &asked)?;
    assert_eq!(answer.status, 201, "{}", answer.body);

    for marker in ["one", "two", "three"] {
        agent.deliver(&mail::plain(marker))?;
    }
    let told = bench.hear(3)?;
    let sent = wait_for(&receiver, 3);
    let ids: Vec<&str> = sent.iter().map(|one| one.id.as_str()).collect();
    let wanted: Vec<&str> = told.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, wanted, "the same events, in the same order");
    for (sent, told) in sent.iter().zip(&told) {
        assert_same(&sent.body, told);
        assert_eq!(sent.content_type, "application/cloudevents+json");
        assert!(sent.signature.starts_with("v1,"), "{}", sent.signature);
    }
    Ok(())
}

/// The body is a CloudEvent around the event, with the subscription's tags.
fn assert_same(body: &str, told: &Told) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], "org.ietf.rfc5423.MessageNew");
    assert_eq!(body["id"], told.id);
    let data = &body["data"];
    assert_eq!(data["serverFQDN"], "mail1.example.org");
    assert_eq!(data["uri"], told.event.uri().to_string());
    assert_eq!(data["vnd.postbell.seq"], told.seq);
    assert_eq!(data["tags"], serde_json::json!(["push"]));
}

fn wait_for(receiver: &Receiver, count: usize) -> Vec<postbell_testkit::Taken> {
    let begun = Instant::now();
    loop {
        let taken = receiver.taken();
        if taken.len() >= count || begun.elapsed() > PATIENCE {
            assert_eq!(taken.len(), count, "{taken:#?}");
            return taken;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
