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

/// What a limit counts (RFC 9208, section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resource {
    /// Messages.
    Message,
    /// Units of 1024 octets.
    Storage,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Standing {
    limit: Option<u64>,
    exceeded: bool,
    /// Usage when something was refused. What was refused may have been larger than what was left,
    /// so usage need not be above the limit; it is within again when it is below this.
    refused_at: Option<u64>,
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

    /// The events a look at a quota means, for storage and then for messages: a change of the
    /// limit, then the edge that usage crossed (R46, R52, R53). The first look at a quota is an
    /// edge only if it is exceeded.
    pub(crate) fn quota_edges(&mut self, owner: &str, quota: &Quota) -> Vec<(EventName, Resource)> {
        let edges = Resource::ALL.into_iter().flat_map(|resource| {
            let (limit, used) = quota.of(resource);
            let key = key(resource, owner, quota);
            let now = self.standing(&key, limit, used);
            let events = self.edges(key, now);
            events.into_iter().map(move |event| (event, resource))
        });
        edges.collect()
    }

    /// The events a refusal for want of this resource means: where the limit is another than was
    /// last seen, its change (R53), and then the refusal, each time (R46). It is noted, so that
    /// coming back within the quota is an edge (R52).
    pub(crate) fn quota_refused(
        &mut self,
        owner: &str,
        quota: &Quota,
        resource: Resource,
    ) -> Vec<EventName> {
        let (limit, used) = quota.of(resource);
        let key = key(resource, owner, quota);
        let now = Standing { limit, exceeded: true, refused_at: used };
        let before = self.quotas.insert(key.clone(), now);
        if before != Some(now) {
            self.changed.insert(key, Some(now.encode()));
        }
        let is_changed = before.is_some_and(|before| before.limit != limit);
        is_changed
            .then_some(EventName::QuotaChange)
            .into_iter()
            .chain([EventName::QuotaExceed])
            .collect()
    }

    /// Notes how a quota stands where the store told the event itself, so that a later look tells
    /// it no second time.
    pub(crate) fn quota_told(&mut self, owner: &str, quota: &Quota) {
        drop(self.quota_edges(owner, quota));
    }

    /// How a quota stands at a look.
    fn standing(&self, key: &[u8], limit: Option<u64>, used: Option<u64>) -> Standing {
        if limit.zip(used).is_some_and(|(limit, used)| used > limit) {
            return Standing { limit, exceeded: true, refused_at: None };
        }
        let before = self.quotas.get(key).filter(|before| before.exceeded);
        let refused_at = before.and_then(|before| before.refused_at);
        // Neither was anything freed, nor is there more room.
        let refused_at = refused_at.filter(|refused_at| {
            limit.is_some()
                && used.is_none_or(|used| used >= *refused_at)
                && before.is_some_and(|before| limit <= before.limit)
        });
        Standing { limit, exceeded: refused_at.is_some(), refused_at }
    }

    fn edges(&mut self, key: Vec<u8>, now: Standing) -> Vec<EventName> {
        let before = self.quotas.get(&key).copied();
        if before == Some(now) {
            return Vec::new();
        }
        let mut events = Vec::new();
        if before.is_some_and(|before| before.limit != now.limit) {
            events.push(EventName::QuotaChange);
        }
        match (before.is_some_and(|before| before.exceeded), now.exceeded) {
            (false, true) => events.push(EventName::QuotaExceed),
            // Where the limit itself is gone there is none to be within; the change says so.
            (true, false) if now.limit.is_some() => events.push(EventName::QuotaWithin),
            _ => {}
        }
        self.quotas.insert(key.clone(), now);
        self.changed.insert(key, Some(now.encode()));
        events
    }
}

/// Under which a quota is remembered.
fn key(resource: Resource, owner: &str, quota: &Quota) -> Vec<u8> {
    [resource.key(), owner.as_bytes(), b"\0", quota.root.as_bytes()].concat()
}

impl Resource {
    /// In the order they are told.
    pub(crate) const ALL: [Self; 2] = [Self::Storage, Self::Message];

    /// As IMAP spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Message => "MESSAGE",
            Self::Storage => "STORAGE",
        }
    }

    /// What its keys begin with.
    fn key(self) -> &'static [u8] {
        match self {
            Self::Message => b"quota/message/",
            Self::Storage => b"quota/storage/",
        }
    }
}

impl Standing {
    fn encode(self) -> Vec<u8> {
        let limit = self.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let exceeded = u8::from(self.exceeded);
        match self.refused_at {
            None => format!("{limit} {exceeded}").into_bytes(),
            Some(used) => format!("{limit} {exceeded} {used}").into_bytes(),
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(' ');
        let (limit, exceeded) = (parts.next()?, parts.next()?);
        let refused_at = parts.next().map(str::parse).transpose().ok()?;
        let limit = match limit {
            "-" => None,
            digits => Some(digits.parse().ok()?),
        };
        Some(Self { limit, exceeded: exceeded == "1", refused_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventName::{QuotaChange, QuotaExceed, QuotaWithin};

    fn quota(limit: Option<u64>, used: u64) -> Quota {
        Quota { disk_limit_kib: limit, disk_used_kib: Some(used), ..Quota::default() }
    }

    fn storage(events: &[EventName]) -> Vec<(EventName, Resource)> {
        events.iter().map(|event| (event.clone(), Resource::Storage)).collect()
    }

    #[test]
    fn r46_r52_exceed_and_within_are_told_at_the_edges_alone() {
        let mut memory = Memory::default();
        let mut look = |used| memory.quota_edges("a", &quota(Some(10), used));
        assert!(look(5).is_empty());
        assert_eq!(look(11), storage(&[QuotaExceed]));
        assert!(look(12).is_empty());
        assert_eq!(look(10), storage(&[QuotaWithin]));
        assert!(look(9).is_empty());
    }

    #[test]
    fn r52_after_a_refusal_the_first_look_with_less_in_use_is_within_and_only_that() {
        let mut memory = Memory::default();
        // Nine are used of ten, and what was refused was larger than one.
        memory.quota_refused("a", &quota(Some(10), 9), Resource::Storage);
        assert!(memory.quota_edges("a", &quota(Some(10), 9)).is_empty());
        let kept =
            memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut memory = Memory::restore(kept);
        assert!(memory.quota_edges("a", &quota(Some(10), 10)).is_empty());
        assert_eq!(memory.quota_edges("a", &quota(Some(10), 8)), storage(&[QuotaWithin]));
        assert!(memory.quota_edges("a", &quota(Some(10), 7)).is_empty());
        // More room makes it fit as well.
        memory.quota_refused("a", &quota(Some(10), 9), Resource::Storage);
        let raised = memory.quota_edges("a", &quota(Some(20), 9));
        assert_eq!(raised, storage(&[QuotaChange, QuotaWithin]));
        memory.quota_refused("a", &quota(Some(20), 20), Resource::Storage);
        let lowered = memory.quota_edges("a", &quota(Some(15), 20));
        assert_eq!(lowered, storage(&[QuotaChange]));
        assert_eq!(memory.quota_edges("a", &quota(None, 20)), storage(&[QuotaChange]));
    }

    #[test]
    fn r53_a_limit_set_changed_or_removed_is_told_and_usage_alone_is_not() {
        let mut memory = Memory::default();
        let mut look = |limit| memory.quota_edges("a", &quota(limit, 5));
        assert!(look(None).is_empty());
        assert_eq!(look(Some(10)), storage(&[QuotaChange]));
        assert_eq!(look(Some(3)), storage(&[QuotaChange, QuotaExceed]));
        assert_eq!(look(Some(5)), storage(&[QuotaChange, QuotaWithin]));
        assert_eq!(look(Some(4)), storage(&[QuotaChange, QuotaExceed]));
        assert_eq!(look(None), storage(&[QuotaChange]));
    }

    #[test]
    fn r46_r53_a_refusal_under_another_limit_tells_the_change_first_and_only_once() {
        let mut memory = Memory::default();
        let mut refused =
            |limit, used| memory.quota_refused("a", &quota(Some(limit), used), Resource::Storage);
        assert_eq!(refused(10, 10), [QuotaExceed]);
        assert_eq!(refused(10, 10), [QuotaExceed]);
        assert_eq!(refused(8, 10), [QuotaChange, QuotaExceed]);
        assert!(memory.quota_edges("a", &quota(Some(8), 10)).is_empty());
    }

    #[test]
    fn r47_each_resource_has_edges_of_its_own() {
        let mut memory = Memory::default();
        let quota = |messages| Quota {
            messages_limit: Some(2),
            messages_used: Some(messages),
            ..quota(Some(10), 11)
        };
        assert_eq!(memory.quota_edges("a", &quota(2)), storage(&[QuotaExceed]));
        assert_eq!(memory.quota_edges("a", &quota(3)), [(QuotaExceed, Resource::Message)]);
        assert_eq!(memory.quota_edges("a", &quota(1)), [(QuotaWithin, Resource::Message)]);
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
