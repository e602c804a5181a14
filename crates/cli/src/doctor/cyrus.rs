//! What can be wrong between a Cyrus and its source.
//!
//! What is looked at ([`Spool`], [`Receiver`], `imapd.conf`) and what the hub says of the source
//! come first; what that means is decided without I/O.

mod receiver;
mod settings;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use postbell_hub::{Config, SourceKind};
use serde_json::Value;

use super::spool::{self, FOLLOWED_WITHIN, Spool};
use super::{Report, asking};
use crate::setup::cyrus::imapd::Conf;
use receiver::Receiver;

/// Looks at everything of each Cyrus that can be seen without the hub.
pub(super) fn ways(config: &Config, imapd_conf: &Path, report: &mut Report) {
    let hub = fs::metadata(&config.data).map(|meta| meta.uid()).ok();
    let all = config.sources.iter().filter(|(_, one)| one.kind == SourceKind::Cyrus);
    for (name, source) in all {
        judge_spool(name, &Spool::look(&source.notify_spool), hub, SystemTime::now(), report);
        receiver::judge(name, &Receiver::look(source), report);
        settings::judge(name, Conf::load(imapd_conf), source, report);
    }
}

/// What the hub says of a source that is a Cyrus, beyond what it says of every source.
pub(super) fn followed(source: &Value, config: &Config, report: &mut Report) {
    let Some(name) = source.get("name").and_then(Value::as_str) else { return };
    let configured = config.sources.get(name);
    let spool = configured.map(|one| Spool::look(&one.notify_spool));
    judge_source(name, source, &spool.unwrap_or_default(), SystemTime::now(), report);
    if let Some(one) = configured {
        asking::judge(name, source, one, ASKING_REMEDY, report);
    }
}

/// What is wrong with the folder and its files.
fn judge_spool(name: &str, spool: &Spool, hub: Option<u32>, now: SystemTime, report: &mut Report) {
    let check = format!("spool of {name}");
    let shown = spool.path.display();
    if let Some((detail, remedy)) = spool.out_of_reach("cyrus") {
        return report.wrong(&check, detail, &remedy);
    }
    if spool.mode & 0o022 != 0 {
        let detail = format!("{shown}: mode {:o} lets others put lines in", spool.mode);
        return report.wrong(&check, detail, &format!("chmod 750 {shown}"));
    }
    if let Some(hub) = hub.filter(|hub| *hub != spool.owner && *hub != 0) {
        let detail = format!(
            "{shown}: belongs to account {}, and the hub's is {hub}: it can't take away what it has read",
            spool.owner
        );
        let remedy =
            format!("chown -R {hub} {shown}, and have postbell notifyd run as the hub does");
        return report.wrong(&check, detail, &remedy);
    }
    if let Some(detail) = spool.unreadable() {
        return report.wrong(&check, detail, "have postbell notifyd run as the hub does");
    }
    if let Some(detail) = spool.skewed(now) {
        return report.wrong(&check, detail, "set the clock, and keep it set");
    }
    report.right(&check, format!("{shown}: mode {:o}", spool.mode));
}

/// What is wrong with the way from the spool to the hub.
fn judge_source(name: &str, source: &Value, spool: &Spool, now: SystemTime, report: &mut Report) {
    let check = format!("notifications of {name}");
    let count = |key: &str| source.get(key).and_then(Value::as_u64).unwrap_or(0);
    let unread = count("unread");
    let age = spool.newest().map(|file| now.duration_since(file.written).unwrap_or_default());
    match age {
        _ if spool.trouble.is_some() => {}
        None if count("observations") == 0 => {
            let remedy = "log in once, as anybody; if that is not told: restart Cyrus, so that its processes read their settings";
            report.notice(&check, "Cyrus has never said anything since the hub's start", remedy);
        }
        Some(age) if unread > 0 && age > FOLLOWED_WITHIN => {
            spool::not_followed(&check, unread, age, report);
        }
        Some(age) if age > SILENT => {
            let detail = format!("nothing for {} hours", age.as_secs() / 3600);
            let remedy = "if users are active: look at Cyrus's log (syslog) for notify, and whether event_notifier is still set";
            report.notice(&check, detail, remedy);
        }
        Some(age) => {
            report
                .right(&check, format!("the last {} s ago; {unread} octets unread", age.as_secs()));
        }
        None => report.right(&check, format!("{unread} octets unread")),
    }
}

const ASKING_REMEDY: &str = "try it by hand: imtest -m PLAIN -a MASTER_USER -u USER; where that is refused, see whether proxyservers names master_user, and Cyrus's log (docs/cyrus.md)";

/// Even a small server has a user who looks once a day.
const SILENT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::json;

    use super::super::spool::tests::{self as spools, now, with};
    use super::super::tests::told;
    use super::*;

    fn spool() -> Spool {
        spools::spool(0o750, 990)
    }

    #[test]
    fn what_is_wrong_with_a_cyrus_spool_is_said_with_what_to_do() {
        let mut text = String::new();
        for (case, spool) in [
            ("right", spool()),
            (
                "none",
                with(spool(), |spool| {
                    spool.trouble = Some((io::ErrorKind::NotFound, "there is no such file".into()));
                }),
            ),
            ("open", with(spool(), |spool| spool.mode = 0o777)),
            ("owner", with(spool(), |spool| spool.owner = 0)),
            ("unreadable", with(spool(), |spool| spool.files[0].is_readable = false)),
            ("skew", with(spool(), |spool| spool.files[0].last_time = Some(1_795_570_000))),
        ] {
            told(|report| judge_spool("cyrus", &spool, Some(990), now(), report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_spool_nobody_follows_and_a_silent_cyrus_are_named() {
        let mut text = String::new();
        for (case, source, spool) in [
            ("right", json!({"observations": 5, "unread": 0}), spool()),
            ("unread", json!({"observations": 5, "unread": 400}), spool()),
            (
                "silent",
                json!({"observations": 5, "unread": 0}),
                with(spool(), |spool| {
                    spool.files[0].written = now() - Duration::from_secs(100_000);
                }),
            ),
            (
                "never",
                json!({"observations": 0, "unread": 0}),
                with(spool(), |spool| spool.files.clear()),
            ),
            ("done with", json!({"observations": 9}), with(spool(), |spool| spool.files.clear())),
        ] {
            told(|report| judge_source("cyrus", &source, &spool, now(), report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }
}
