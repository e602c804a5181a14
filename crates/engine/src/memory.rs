//! What `normalise` remembers between observations: where each quota stood.

use std::collections::BTreeMap;

use mail_event::EventName;

use crate::Quota;

/// Quotas as last seen. Restored from, and stored with, the source's checkpoint; it grows with
/// the number of quota roots alone.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    quotas: BTreeMap<Vec<u8>, Standing>,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Standing {
    disk_limit: Option<u64>,
    messages_limit: Option<u64>,
    exceeded: bool,
}

impl Memory {
    /// From what [`Memory::drain_changes`] once gave; entries not understood are passed over.
    pub fn restore(kept: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let quotas = kept
            .into_iter()
            .filter_map(|(key, value)| Some((key, Standing::decode(&value)?)))
            .collect();
        Self { quotas, changed: BTreeMap::new() }
    }

    /// What is to be stored, since this was last asked.
    pub fn drain_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// The events a look at a quota means (R46, R52, R53): a change of a limit, then the edge
    /// that usage crossed. The first look at a quota is an edge only if it is exceeded.
    pub(crate) fn quota_edges(&mut self, owner: &str, quota: &Quota) -> Vec<EventName> {
        let key = [b"quota/", owner.as_bytes(), b"\0", quota.root.as_bytes()].concat();
        let exceeds = |limit: Option<u64>, used: Option<u64>| match (limit, used) {
            (Some(limit), Some(used)) => used > limit,
            _ => false,
        };
        let now = Standing {
            disk_limit: quota.disk_limit_kib,
            messages_limit: quota.messages_limit,
            exceeded: exceeds(quota.disk_limit_kib, quota.disk_used_kib)
                || exceeds(quota.messages_limit, quota.messages_used),
        };
        let before = self.quotas.get(&key).copied();
        if before == Some(now) {
            return Vec::new();
        }
        let mut events = Vec::new();
        let limits = |standing: Standing| (standing.disk_limit, standing.messages_limit);
        if before.is_some_and(|before| limits(before) != limits(now)) {
            events.push(EventName::QuotaChange);
        }
        match (before.is_some_and(|before| before.exceeded), now.exceeded) {
            (false, true) => events.push(EventName::QuotaExceed),
            (true, false) => events.push(EventName::QuotaWithin),
            _ => {}
        }
        self.quotas.insert(key.clone(), now);
        self.changed.insert(key, Some(now.encode()));
        events
    }
}

impl Standing {
    fn encode(self) -> Vec<u8> {
        let limit =
            |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        format!(
            "{} {} {}",
            limit(self.disk_limit),
            limit(self.messages_limit),
            u8::from(self.exceeded)
        )
        .into_bytes()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.split(' ');
        let mut limit = || match words.next()? {
            "-" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let (disk_limit, messages_limit) = (limit()?, limit()?);
        Some(Self { disk_limit, messages_limit, exceeded: words.next()? == "1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(limit: Option<u64>, used: u64) -> Quota {
        Quota { disk_limit_kib: limit, disk_used_kib: Some(used), ..Quota::default() }
    }

    #[test]
    fn r46_r52_exceed_and_within_are_told_at_the_edges_alone() {
        let mut memory = Memory::default();
        let mut look = |used| memory.quota_edges("a", &quota(Some(10), used));
        assert!(look(5).is_empty());
        assert_eq!(look(11), [EventName::QuotaExceed]);
        assert!(look(12).is_empty());
        assert_eq!(look(10), [EventName::QuotaWithin]);
        assert!(look(9).is_empty());
    }

    #[test]
    fn r53_a_limit_set_changed_or_removed_is_told_and_usage_alone_is_not() {
        let mut memory = Memory::default();
        assert!(memory.quota_edges("a", &quota(None, 5)).is_empty());
        assert_eq!(memory.quota_edges("a", &quota(Some(10), 5)), [EventName::QuotaChange]);
        assert_eq!(
            memory.quota_edges("a", &quota(Some(3), 5)),
            [EventName::QuotaChange, EventName::QuotaExceed]
        );
        assert_eq!(
            memory.quota_edges("a", &quota(None, 5)),
            [EventName::QuotaChange, EventName::QuotaWithin]
        );
    }

    #[test]
    fn what_was_remembered_is_restored() {
        let mut memory = Memory::default();
        memory.quota_edges("a", &quota(Some(10), 11));
        let kept =
            memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut again = Memory::restore(kept);
        assert!(again.quota_edges("a", &quota(Some(10), 12)).is_empty());
        assert!(memory.drain_changes().is_empty());
    }
}
