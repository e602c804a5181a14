//! Settings with which Cyrus aborts, and what is absent without others.
//!
//! Measured with Debian's 3.6.1; of other versions nobody knows better.

use super::super::told::{Refusal, refusal};
use super::imapd::Conf;

/// Every setting with which Cyrus aborts, with the reason.
pub(crate) fn crashing(conf: &Conf) -> Vec<Refusal> {
    let mut found = Vec::new();
    for setting in conf.all("event_groups").filter(|setting| setting.has("quota")) {
        found.push(refusal(
            format!(
                "{} has {} contain quota: imapd and lmtpd abort when a quota is exceeded",
                setting.place(),
                setting.key
            ),
            "take quota out of it",
        ));
    }
    for setting in conf.all("event_extra_params") {
        let bad: Vec<&str> =
            CRASHING_PARAMS.into_iter().filter(|param| setting.has(param)).collect();
        if !bad.is_empty() {
            found.push(refusal(
                format!(
                    "{} has {} contain {}: Cyrus aborts where it should tell that",
                    setting.place(),
                    setting.key,
                    bad.join(" ")
                ),
                format!("take {} out of it", bad.join(" ")),
            ));
        }
    }
    let asks_content = conf.all("event_extra_params").any(|setting| setting.has("messageContent"));
    for setting in conf.all("event_content_inclusion_mode").filter(|_| asks_content) {
        if setting.has("message") {
            found.push(refusal(
                format!(
                    "{} has {} be message, and messageContent is asked for: lmtpd aborts after it has kept a message, which is then delivered once more",
                    setting.place(),
                    setting.key
                ),
                "let it be standard, or take messageContent out of event_extra_params",
            ));
        }
    }
    for setting in conf.all("event_exclude_flags").filter(|setting| !setting.value.is_empty()) {
        found.push(refusal(
            format!("{} sets {}: Cyrus aborts when a flag changes", setting.place(), setting.key),
            "take that line out",
        ));
    }
    found
}

/// What is not told, because a setting that is there lacks it: one sentence for each.
pub(crate) fn lacking(conf: &Conf) -> Vec<String> {
    let mut found = Vec::new();
    for (key, wanted, what) in
        [("event_groups", GROUPS, "nothing is told of"), ("event_extra_params", PARAMS, "absent:")]
    {
        for setting in conf.all(key) {
            let absent: Vec<&str> = wanted.split(' ').filter(|one| !setting.has(one)).collect();
            if !absent.is_empty() {
                let (place, key) = (setting.place(), &setting.key);
                found.push(format!("{place} sets {key}; {what} {}", absent.join(", ")));
            }
        }
    }
    found
}

/// What we have Cyrus tell of; more than this crashes it or is no event of mail.
pub(crate) const GROUPS: &str = "message flags mailbox subscription access";

/// What we have it say beside.
pub(crate) const PARAMS: &str = "timestamp service clientAddress modseq messages uidnext flagNames messageSize vnd.cmu.sessionId vnd.cmu.unseenMessages";

const CRASHING_PARAMS: [&str; 4] = [
    "vnd.fastmail.convExists",
    "vnd.fastmail.convUnseen",
    "vnd.fastmail.counters",
    "vnd.fastmail.jmapStates",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn conf(text: &str) -> Conf {
        Conf::read(Path::new("/etc/imapd.conf"), &|_| Ok(text.to_owned())).unwrap()
    }

    #[test]
    fn what_we_set_is_safe_and_lacks_nothing() {
        let safe = conf(&format!(
            "event_groups: {GROUPS}\nevent_extra_params: {PARAMS}\nevent_exclude_flags:\nevent_content_inclusion_mode: message\n"
        ));
        assert_eq!(crashing(&safe), []);
        assert_eq!(lacking(&safe), [""; 0]);
        assert_eq!(lacking(&conf("admins: cyrus\n")), [""; 0]);
    }

    #[test]
    fn every_crashing_setting_is_named_with_its_line() {
        let found = crashing(&conf(
            "event_groups: message quota\nlmtp_event_groups: Quota\nevent_extra_params: timestamp vnd.fastmail.counters messageContent vnd.fastmail.jmapStates\nevent_content_inclusion_mode: message\nevent_exclude_flags: \\Seen\n",
        ));
        let told: Vec<String> =
            found.iter().map(|one| format!("✗ {}\n    → {}", one.reason, one.remedy)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn what_is_not_told_is_named() {
        let found = lacking(&conf(
            "event_groups: message mailbox access\nimap_event_extra_params: timestamp service clientAddress modseq messages uidnext messageSize vnd.cmu.sessionId\n",
        ));
        assert_eq!(
            found,
            [
                "/etc/imapd.conf line 1 sets event_groups; nothing is told of flags, subscription",
                "/etc/imapd.conf line 2 sets imap_event_extra_params; absent: flagNames, vnd.cmu.unseenMessages",
            ]
        );
    }
}
