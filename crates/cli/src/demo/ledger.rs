//! What came, both ways, and whether it is the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// Everything the demo has seen come out of the hub.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    streamed: BTreeMap<u64, Told>,
    delivered: BTreeMap<u64, Told>,
    names: BTreeMap<String, usize>,
    repeated: usize,
    faults: Vec<String>,
}

/// What is compared of an event that came.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    id: String,
    previous: Option<u64>,
}

impl Ledger {
    /// Notes an event of the stream; gives its name.
    pub(super) fn stream(&mut self, event: &Value) -> String {
        let name = event.get("event").and_then(Value::as_str).unwrap_or("?").to_owned();
        *self.names.entry(name.clone()).or_default() += 1;
        match told(event) {
            None => self.faults.push(format!("{name} on the stream has no number or no id")),
            Some((seq, told)) => {
                let last = self.streamed.last_key_value().map(|(seq, _)| *seq);
                if last.is_some_and(|last| last >= seq) {
                    self.faults.push(format!("the stream went back to {seq}"));
                }
                self.streamed.insert(seq, told);
            }
        }
        name
    }

    /// Notes a delivery to the webhook, or what was wrong with it.
    pub(super) fn delivery(&mut self, received: Result<Value, String>) {
        match received.map(|event| told(&event)) {
            Err(fault) => self.faults.push(fault),
            Ok(None) => self.faults.push("a delivery has no number or no id".to_owned()),
            Ok(Some((seq, told))) => {
                // At least once is what is promised, so that a repeat is no fault.
                if self.delivered.insert(seq, told).is_some() {
                    self.repeated += 1;
                }
            }
        }
    }

    /// Notes something else that should not be.
    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Whether the webhook has had all that the stream has.
    pub(super) fn is_even(&self) -> bool {
        self.streamed.keys().all(|seq| self.delivered.contains_key(seq))
    }

    /// Events by name, with how often each came.
    pub(super) fn names(&self) -> &BTreeMap<String, usize> {
        &self.names
    }

    /// How many events came, deliveries were verified and repeats were among them.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.streamed.len(), self.delivered.len() + self.repeated, self.repeated)
    }

    /// Everything that is not as it should be; empty where all is well.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (way, told) in [("stream", &self.streamed), ("webhook", &self.delivered)] {
            faults.extend(
                broken(told)
                    .map(|seq| format!("the {way}'s prevSeq of {seq} leads past something")),
            );
        }
        for (seq, told) in &self.streamed {
            match self.delivered.get(seq) {
                None => faults.push(format!("the webhook never got {seq}")),
                Some(other) if other.id != told.id => {
                    faults.push(format!("stream and webhook give {seq} different ids"));
                }
                Some(_) => {}
            }
        }
        let only = self.delivered.keys().filter(|seq| !self.streamed.contains_key(seq));
        faults.extend(only.map(|seq| format!("the stream never gave {seq}")));
        faults
    }
}

/// Numbers whose `prevSeq` is not the number before them; the first may have any, or none.
fn broken(told: &BTreeMap<u64, Told>) -> impl Iterator<Item = u64> {
    let pairs = told.iter().zip(told.iter().skip(1));
    pairs
        .filter(|((before, _), (_, told))| told.previous != Some(**before))
        .map(|(_, (seq, _))| *seq)
}

fn told(event: &Value) -> Option<(u64, Told)> {
    let number = |name: &str| event.get(name).and_then(Value::as_u64);
    let id = event.get("vnd.postbell.eventId")?.as_str()?.to_owned();
    Some((number("vnd.postbell.seq")?, Told { id, previous: number("vnd.postbell.prevSeq") }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, previous: Option<u64>, id: &str) -> Value {
        let mut event =
            json!({"event": "MessageNew", "vnd.postbell.seq": seq, "vnd.postbell.eventId": id});
        if let Some(previous) = previous {
            event["vnd.postbell.prevSeq"] = previous.into();
        }
        event
    }

    fn ledger(streamed: &[Value], delivered: &[Value]) -> Ledger {
        let mut ledger = Ledger::default();
        for event in streamed {
            ledger.stream(event);
        }
        for event in delivered {
            ledger.delivery(Ok(event.clone()));
        }
        ledger
    }

    #[test]
    fn the_same_on_both_ways_is_no_fault_whatever_the_webhooks_order() {
        let (one, two) = (event(1, None, "a"), event(3, Some(1), "b"));
        let ledger = ledger(&[one.clone(), two.clone()], &[two.clone(), one, two]);
        assert_eq!(ledger.faults(), Vec::<String>::new());
        assert!(ledger.is_even());
        assert_eq!(ledger.counts(), (2, 3, 1));
        assert_eq!(ledger.names().get("MessageNew"), Some(&2));
    }

    #[test]
    fn what_is_missing_or_different_is_told() {
        let lacking = ledger(&[event(1, None, "a")], &[]);
        assert!(!lacking.is_even());
        assert_eq!(lacking.faults(), ["the webhook never got 1"]);
        let different = ledger(&[event(1, None, "a")], &[event(1, None, "b")]);
        assert_eq!(different.faults(), ["stream and webhook give 1 different ids"]);
    }

    #[test]
    fn a_broken_chain_is_told() {
        let both = [event(1, None, "a"), event(3, Some(2), "b")];
        let faults = ledger(&both, &both).faults();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("prevSeq of 3"), "{faults:?}");
    }
}
