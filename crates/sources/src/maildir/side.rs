//! Files beside the mailboxes: subscriptions and quota.

use std::collections::BTreeSet;
use std::io;

use postbell_engine::Quota;

use super::folder::Folder;
use super::layout::{INBOX, listed};

/// Who is subscribed to what: Dovecot's list, or Courier's; nothing where there is neither.
pub(super) fn subscriptions(top: &Folder) -> io::Result<Option<(BTreeSet<String>, i128)>> {
    if let Some((text, facts)) = top.text("subscriptions")? {
        return Ok(Some((dovecot(&text), facts.modified)));
    }
    let courier = top.text("courierimapsubscribed")?;
    Ok(courier.map(|(text, facts)| (courier_lines(&text), facts.modified)))
}

fn dovecot(text: &str) -> BTreeSet<String> {
    let is_second_form = text.starts_with("V\t2");
    let separator = if is_second_form { '\t' } else { '.' };
    let lines = text.lines().skip(usize::from(is_second_form));
    lines.filter(|line| !line.is_empty()).map(|line| listed(line, separator)).collect()
}

fn courier_lines(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| match line.strip_prefix("INBOX.") {
            Some(rest) => listed(rest, '.'),
            None if line == INBOX => INBOX.to_owned(),
            None => listed(line, '.'),
        })
        .collect()
}

/// The quota as Maildir++ keeps it: limits in the first line, changes of usage after it.
pub(super) fn maildir_size(text: &str) -> Option<Quota> {
    let mut lines = text.lines();
    let mut quota = Quota::default();
    for limit in lines.next()?.split(',') {
        let limit = limit.trim();
        let (value, unit) = limit.split_at_checked(limit.len().checked_sub(1)?)?;
        let value = value.parse::<u64>().ok().filter(|value| *value != 0);
        match unit {
            // Rounded up, so that a limit is never told smaller than it is (R106).
            "S" => quota.disk_limit_kib = value.map(|octets| octets.div_ceil(1024)),
            "C" => quota.messages_limit = value,
            _ => {}
        }
    }
    let (mut octets, mut messages) = (0_i64, 0_i64);
    for line in lines {
        let mut words = line.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
        octets = octets.saturating_add(words.next().unwrap_or(0));
        messages = messages.saturating_add(words.next().unwrap_or(0));
    }
    quota.disk_used_kib = Some(u64::try_from(octets).unwrap_or(0).div_ceil(1024));
    quota.messages_used = Some(u64::try_from(messages).unwrap_or(0));
    Some(quota)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn r97_subscriptions_are_read_in_every_form() {
        let second = "V\t2\n\nGr&APYA3w-e\t&kK5O9g-\nx\n";
        assert_eq!(dovecot(second), names(["Größe/邮件", "x"]));
        assert_eq!(dovecot("a.b\nINBOX\n"), names(["a/b", "INBOX"]));
        assert_eq!(courier_lines("INBOX\nINBOX.Lists.rust\n"), names(["INBOX", "Lists/rust"]));
    }

    #[test]
    fn r106_limits_are_in_units_of_1024_octets_rounded_up() {
        let quota = maildir_size("1000S,7C\n0 0\n589 1\n1331 2\n-331 -1\n").unwrap();
        assert_eq!((quota.disk_limit_kib, quota.messages_limit), (Some(1), Some(7)));
        assert_eq!((quota.disk_used_kib, quota.messages_used), (Some(2), Some(2)));
        let unlimited = maildir_size("0S,0C\n-5 -1\n").unwrap();
        assert_eq!((unlimited.disk_limit_kib, unlimited.messages_limit), (None, None));
        assert_eq!((unlimited.disk_used_kib, unlimited.messages_used), (Some(0), Some(0)));
        assert_eq!(maildir_size(""), None);
        assert_eq!(maildir_size("é\n"), None);
    }
}
