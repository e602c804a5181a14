//! What can be wrong between a Dovecot and its source.
//!
//! What is looked at ([`Spool`]), and what the hub says of the source come first; what that means is
//! decided without I/O.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use postbell_hub::{Config, SourceKind};
use serde_json::Value;

use super::spool::{self, FOLLOWED_WITHIN, Spool, is_owned};
use super::{Report, asking};
use crate::validate::counted;

/// Looks at the spool of each Dovecot, and says what is wrong with it by itself.
pub(super) fn spools(config: &Config, report: &mut Report) {
    let hub = fs::metadata(&config.data).map(|meta| meta.uid()).ok();
    let dovecots = config.sources.iter().filter(|(_, one)| one.kind == SourceKind::Dovecot);
    for (name, source) in dovecots {
        judge_spool(name, &Spool::look(&source.spool), hub, SystemTime::now(), report);
    }
}

/// What the hub says of a source that is a Dovecot, beyond what it says of every source.
pub(super) fn followed(source: &Value, config: &Config, report: &mut Report) {
    let Some(name) = source.get("name").and_then(Value::as_str) else { return };
    let configured = config.sources.get(name);
    let spool = configured.map(|one| Spool::look(&one.spool));
    judge_source(name, source, spool.as_ref(), SystemTime::now(), report);
    if let Some(one) = configured {
        asking::judge(name, source, one, ASKING_REMEDY, report);
    }
}

/// What is wrong with the folder and its files.
fn judge_spool(name: &str, spool: &Spool, hub: Option<u32>, now: SystemTime, report: &mut Report) {
    let check = format!("spool of {name}");
    let shown = spool.path.display();
    if let Some((detail, remedy)) = spool.out_of_reach("dovecot") {
        return report.wrong(&check, detail, &remedy);
    }
    if spool.mode & 0o003 != 0o003 || spool.mode & 0o300 != 0o300 {
        let detail = format!("{shown}: mode {:o}: mail users can't put their lines in", spool.mode);
        return report.wrong(&check, detail, &format!("chmod 1733 {shown}"));
    }
    if spool.mode & 0o1004 != 0o1000 {
        let detail = format!(
            "{shown}: mode {:o} lets mail users look around or take files away",
            spool.mode
        );
        return report.wrong(&check, detail, &format!("chmod 1733 {shown}"));
    }
    if let Some(hub) = hub.filter(|hub| *hub != spool.owner && spool.owner != 0) {
        let detail = format!("{shown}: belongs to account {}, and the hub's is {hub}", spool.owner);
        return report.wrong(&check, detail, &format!("chown {hub} {shown}"));
    }
    if let Some(file) = spool.files.iter().find(|file| !is_owned(file)) {
        let detail = format!("{shown}/{}: belongs to account {}", file.name, file.owner);
        let remedy = "no line of it is taken: see who put it there, and take it away";
        return report.wrong(&check, detail, remedy);
    }
    if let Some(detail) = spool.unreadable() {
        let remedy = "run this as the hub's user; if that is one, postbell setup dovecot sets the folder's access list anew";
        return report.wrong(&check, detail, remedy);
    }
    if let Some(detail) = spool.skewed(now) {
        let remedy = "set the clocks of Dovecot's machine and of the spool's, and keep them set";
        return report.wrong(&check, detail, remedy);
    }
    let files = counted(u64::try_from(spool.files.len()).unwrap_or(u64::MAX), "file");
    report.right(&check, format!("{shown}: mode {:o}, {files}", spool.mode));
}

/// What is wrong with the way from Dovecot to the hub.
fn judge_source(
    name: &str,
    source: &Value,
    spool: Option<&Spool>,
    now: SystemTime,
    report: &mut Report,
) {
    let count = |pointer: &str| source.pointer(pointer).and_then(Value::as_u64);
    let unread = count("/unread").unwrap_or(0);
    let check = format!("lines of {name}");
    let newest = spool.and_then(Spool::newest);
    let age = newest.map(|file| now.duration_since(file.written).unwrap_or_default());
    match age {
        _ if spool.is_some_and(|spool| spool.trouble.is_some()) => {}
        // Put aside and done with, too, leave traces: only a spool nobody ever wrote to is empty.
        None if spool.is_some() && count("/observations") == Some(0) => {
            let remedy = "if users are active: doveadm reload, then a new login; Dovecot's log says why the script can't be loaded, and doveconf -n whether it is asked for";
            report.notice(&check, "Dovecot has never written one since the hub's start", remedy);
        }
        Some(age) if unread > 0 && age > FOLLOWED_WITHIN => {
            spool::not_followed(&check, unread, age, report);
        }
        Some(age) => {
            let octets: u64 =
                spool.iter().flat_map(|spool| &spool.files).map(|file| file.octets).sum();
            let detail =
                format!("the last {} s ago; {octets} octets, {unread} unread", age.as_secs());
            report.right(&check, detail);
        }
        None => report.right(&check, format!("{unread} octets unread")),
    }
    let check = format!("exporter of {name}");
    let silence = count("/exporter/silentSeconds");
    let (refused, malformed) =
        (count("/exporter/refused").unwrap_or(0), count("/exporter/malformed").unwrap_or(0));
    match silence {
        None if source.get("exporter").is_none() => {}
        None => {
            let remedy = "postbell setup dovecot sets it up, doveadm reload has it begin; without it there are no reasons, envelopes and refusals for want of quota, and Logins only where your userdb says the port";
            report.notice(&check, "not heard since the hub's start", remedy);
        }
        Some(silence)
            if age.is_some_and(|age| silence > age.as_secs().saturating_add(SILENT_SECONDS)) =>
        {
            let remedy = "look into Dovecot's log for \"event_exporter\"; listen and the exporter's URL must have one port, and the secret be the one in the data folder";
            report.notice(&check, format!("silent for {silence} s, while lines came"), remedy);
        }
        Some(_) if refused > 0 || malformed > 0 => {
            let detail = format!("{refused} posts refused, {malformed} not understood");
            report.notice(
                &check,
                detail,
                "events went on with less; the hub was busy, or something else posts there",
            );
        }
        Some(silence) => report.right(&check, format!("heard {silence} s ago")),
    }
}

const ASKING_REMEDY: &str = "log in by hand as user, master_separator, master_user; Dovecot's log says why it is refused (docs/dovecot.md)";

/// Dovecot posts within milliseconds of a line.
const SILENT_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::json;

    use super::super::spool::tests::{self as spools, now, with};
    use super::super::tests::told;
    use super::*;

    fn spool() -> Spool {
        spools::spool(0o1733, 21_000)
    }

    #[test]
    fn what_is_wrong_with_a_spool_is_said_with_what_to_do() {
        let mut text = String::new();
        for (case, spool) in [
            ("right", spool()),
            (
                "none",
                with(spool(), |spool| {
                    spool.trouble = Some((io::ErrorKind::NotFound, "there is no such file".into()));
                }),
            ),
            ("closed", with(spool(), |spool| spool.mode = 0o700)),
            ("open", with(spool(), |spool| spool.mode = 0o777)),
            ("owner", with(spool(), |spool| spool.owner = 21_000)),
            ("foreign", with(spool(), |spool| spool.files[0].owner = 1)),
            ("unreadable", with(spool(), |spool| spool.files[0].is_readable = false)),
            ("skew", with(spool(), |spool| spool.files[0].last_time = Some(1_795_570_000))),
            ("other file", with(spool(), |spool| spool.files[0].name = "notes".into())),
            ("empty", with(spool(), |spool| spool.files.clear())),
        ] {
            told(|report| judge_spool("mail", &spool, Some(990), now(), report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_wrong_on_the_way_is_said_with_what_to_do() {
        let mut text = String::new();
        let heard = json!({"taken": 5, "refused": 0, "malformed": 0, "silentSeconds": 90});
        for (case, source, spool) in [
            ("right", json!({"observations": 5, "unread": 0, "exporter": heard}), spool()),
            ("unread", json!({"observations": 5, "unread": 400, "exporter": heard}), spool()),
            (
                "never",
                json!({"observations": 0, "unread": 0, "exporter": {"taken": 0}}),
                with(spool(), |spool| spool.files.clear()),
            ),
            (
                "done with",
                json!({"observations": 9, "unread": 0}),
                with(spool(), |spool| spool.files.clear()),
            ),
            ("silent", json!({"observations": 5, "exporter": {"silentSeconds": 900}}), spool()),
            (
                "refused",
                json!({"observations": 5, "exporter": {"silentSeconds": 9, "refused": 2, "malformed": 1}}),
                spool(),
            ),
        ] {
            told(
                |report| judge_source("mail", &source, Some(&spool), now(), report),
                case,
                &mut text,
            );
        }
        insta::assert_snapshot!(text);
    }
}
