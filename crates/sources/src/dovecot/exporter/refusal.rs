//! Which quota something was refused for: Dovecot says only that it was one.

use mail_event::UidSet;
use postbell_engine::Quota;

/// How much was refused, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Refusal {
    /// Octets, or those of the first of several messages.
    octets_min: u64,
    /// Messages at most.
    messages_max: Option<u64>,
}

impl Refusal {
    /// A delivery's.
    pub(super) fn of_delivery(size_octets: Option<u64>) -> Self {
        Self { octets_min: size_octets.unwrap_or(0), messages_max: Some(1) }
    }

    /// A command's, by its arguments as Dovecot exports them.
    ///
    /// APPEND shows its first literal, as `INBOX <12414 byte literal>`, and not whether there were
    /// more. COPY and MOVE show their set, which may name messages that don't exist.
    pub(super) fn of_command(name: &str, arguments: &str) -> Self {
        if name == "APPEND" {
            let literal = arguments.rsplit_once('<').and_then(|(_, rest)| rest.split_once(' '));
            let octets_min = literal.and_then(|(digits, _)| digits.parse().ok()).unwrap_or(0);
            return Self { octets_min, messages_max: None };
        }
        let set = arguments.split(' ').next().and_then(|set| set.parse::<UidSet>().ok());
        Self { octets_min: 0, messages_max: set.map(|set| set.len()) }
    }

    /// The quotas it was for, without the limits that it wasn't for.
    ///
    /// Those that have no room for it; where none is known to have none, all that may have none.
    /// Usage counts begun KiB as whole ones, so what fits by less than one of them passes for not
    /// fitting.
    pub(super) fn blamed(self, quotas: Vec<Quota>) -> Vec<Quota> {
        let rooms: Vec<_> = quotas.iter().map(|quota| self.room(quota)).collect();
        let worst = rooms.iter().flatten().copied().max().unwrap_or(Room::Enough);
        quotas
            .into_iter()
            .zip(rooms)
            .map(|(mut quota, [storage, messages])| {
                quota.disk_limit_kib = quota.disk_limit_kib.filter(|_| storage == worst);
                quota.messages_limit = quota.messages_limit.filter(|_| messages == worst);
                quota
            })
            .filter(|quota| quota.disk_limit_kib.is_some() || quota.messages_limit.is_some())
            .collect()
    }

    /// Whether there was room for it, in storage and in messages.
    fn room(self, quota: &Quota) -> [Room; 2] {
        let storage = match (quota.disk_limit_kib, quota.disk_used_kib) {
            (None, _) => Room::Enough,
            (Some(limit), Some(used))
                if used >= limit || used.saturating_add(self.octets_min.div_ceil(1024)) > limit =>
            {
                Room::None
            }
            _ => Room::Unknown,
        };
        let messages = match (quota.messages_limit, quota.messages_used) {
            (None, _) => Room::Enough,
            (Some(limit), Some(used)) if used >= limit => Room::None,
            (Some(limit), Some(used))
                if self.messages_max.is_some_and(|more| used.saturating_add(more) <= limit) =>
            {
                Room::Enough
            }
            _ => Room::Unknown,
        };
        [storage, messages]
    }
}

/// Whether what was refused would have fitted; the last is the surest cause.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Room {
    /// It would.
    Enough,
    /// Nobody knows.
    Unknown,
    /// It wouldn't.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(root: &str, storage: (u64, u64), messages: (u64, u64)) -> Quota {
        Quota {
            root: root.to_owned(),
            disk_used_kib: Some(storage.0),
            disk_limit_kib: Some(storage.1),
            messages_used: Some(messages.0),
            messages_limit: Some(messages.1),
        }
    }

    fn blamed(refusal: Refusal, quotas: &[Quota]) -> String {
        let named = |quota: &Quota| {
            let storage = quota.disk_limit_kib.map_or("", |_| "storage");
            let messages = quota.messages_limit.map_or("", |_| "messages");
            format!("{}:{storage}{messages}", quota.root)
        };
        let blamed: Vec<_> = refusal.blamed(quotas.to_vec()).iter().map(named).collect();
        blamed.join(" ")
    }

    #[test]
    fn r47_a_refusal_is_for_the_quotas_that_are_full() {
        let (full, fuller) = (quota("a", (10, 10), (1, 9)), quota("b", (1, 10), (9, 9)));
        let roomy = quota("c", (5, 10), (1, 9));
        let copy = Refusal::of_command("UID COPY", "1:* Archive");
        assert_eq!(blamed(copy, &[full, roomy.clone()]), "a:storage");
        assert_eq!(blamed(copy, &[roomy.clone(), fuller]), "b:messages");
        assert_eq!(blamed(copy, &[roomy]), "c:storagemessages");
        assert_eq!(blamed(copy, &[Quota::default()]), "");
    }

    #[test]
    fn r47_what_is_too_large_for_the_room_left_was_refused_for_storage() {
        let roomy = [quota("a", (13, 20), (1, 9))];
        let append = |octets: u64| {
            Refusal::of_command("APPEND", &format!("INBOX (\\Seen) <{octets} byte literal>"))
        };
        assert_eq!(blamed(append(7169), &roomy), "a:storage");
        // There may have been more literals than one.
        assert_eq!(blamed(append(7168), &roomy), "a:storagemessages");
        assert_eq!(blamed(Refusal::of_delivery(None), &roomy), "a:storage");
        assert_eq!(blamed(Refusal::of_delivery(Some(12_414)), &roomy), "a:storage");
    }

    #[test]
    fn r47_messages_that_had_room_were_not_refused_for_their_number() {
        let roomy = [quota("a", (1, 20), (7, 9))];
        let copy = |set: &str| Refusal::of_command("COPY", &format!("{set} \"Arch ive\""));
        assert_eq!(blamed(copy("3:4"), &roomy), "a:storage");
        assert_eq!(blamed(copy("1,3:4"), &roomy), "a:storagemessages");
    }
}
