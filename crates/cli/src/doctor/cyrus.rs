//! What can be wrong between a Cyrus and its source.
//!
//! What is looked at ([`Way`], `imapd.conf`) and what the hub says of the source come first; what
//! that means is decided without I/O.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::{Gid, Group, User};
use postbell_hub::{Config, SourceConfig, SourceKind};
use serde_json::Value;

use super::spool::{FOLLOWED_WITHIN, SKEW_MAX, Spool, seconds};
use super::{Report, checks};
use crate::setup::cyrus::hazards::{self, GROUPS, PARAMS};
use crate::setup::cyrus::imapd::{self, Conf};
use crate::setup::cyrus::render::unit;

/// The way from Cyrus to the spool.
#[derive(Clone, Debug, Default)]
struct Way {
    spool: Spool,
    /// Whether somebody writes to the spool.
    is_read: bool,
    sockets: Vec<Socket>,
}

/// Where Cyrus sends to.
#[derive(Clone, Debug)]
struct Socket {
    path: PathBuf,
    state: Held,
    mode: u32,
    owner: u32,
    /// Users that are to send, and whether each may.
    senders: Vec<(String, bool)>,
}

/// Whether anybody holds a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    Yes,
    /// It is there, and nobody does.
    No,
    /// There is nothing.
    Missing,
    /// There is something else.
    Other,
    /// This user may not ask.
    Unknown,
}

/// Looks at everything of each Cyrus that can be seen without the hub.
pub(super) fn ways(config: &Config, imapd_conf: &Path, report: &mut Report) {
    let hub = fs::metadata(&config.data).map(|meta| meta.uid()).ok();
    let all = config.sources.iter().filter(|(_, one)| one.kind == SourceKind::Cyrus);
    for (name, source) in all {
        let way = Way::look(source);
        judge_spool(name, &way.spool, hub, SystemTime::now(), report);
        judge_receiver(name, &way, report);
        judge_settings(name, Conf::load(imapd_conf), source, report);
    }
}

/// What the hub says of a source that is a Cyrus, beyond what it says of every source.
pub(super) fn followed(source: &Value, config: &Config, report: &mut Report) {
    let Some(name) = source.get("name").and_then(Value::as_str) else { return };
    let spool = config.sources.get(name).map(|one| Spool::look(&one.notify_spool));
    judge_source(name, source, &spool.unwrap_or_default(), SystemTime::now(), report);
}

impl Way {
    fn look(source: &SourceConfig) -> Self {
        let sockets = [(&source.notify_socket, false), (&source.notify_stream, true)];
        let sockets = sockets.into_iter().filter(|(path, _)| !path.as_os_str().is_empty());
        Self {
            spool: Spool::look(&source.notify_spool),
            is_read: checks::is_locked(&source.notify_spool),
            sockets: sockets
                .map(|(path, is_stream)| Socket::look(path, is_stream, &source.notify_users))
                .collect(),
        }
    }
}

impl Socket {
    fn look(path: &Path, is_stream: bool, users: &[String]) -> Self {
        let nothing =
            |state| Self { path: path.to_owned(), state, mode: 0, owner: 0, senders: Vec::new() };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => meta,
            Ok(_) => return nothing(Held::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return nothing(Held::Missing);
            }
            Err(_) => return nothing(Held::Unknown),
        };
        let asked = match is_stream {
            true => UnixStream::connect(path).map(drop),
            false => UnixDatagram::unbound().and_then(|one| one.connect(path)),
        };
        let state = match asked.map_err(|error| error.kind()) {
            Ok(()) => Held::Yes,
            Err(io::ErrorKind::ConnectionRefused) => Held::No,
            Err(_) => Held::Unknown,
        };
        let senders = users.iter().map(|user| (user.clone(), may_write(&meta, user))).collect();
        Self {
            mode: meta.permissions().mode() & 0o777,
            owner: meta.uid(),
            senders,
            ..nothing(state)
        }
    }
}

/// Whether a user may write to what has that owner and these rights.
fn may_write(meta: &fs::Metadata, user: &str) -> bool {
    let found = match user.parse() {
        Ok(uid) => User::from_uid(nix::unistd::Uid::from_raw(uid)),
        Err(_) => User::from_name(user),
    };
    let Ok(Some(user)) = found else { return false };
    let mode = meta.permissions().mode();
    let is_in = || {
        let group = Group::from_gid(Gid::from_raw(meta.gid())).ok().flatten();
        user.gid.as_raw() == meta.gid() || group.is_some_and(|group| group.mem.contains(&user.name))
    };
    user.uid.is_root()
        || (user.uid.as_raw() == meta.uid() && mode & 0o200 != 0)
        || (mode & 0o020 != 0 && is_in())
        || mode & 0o002 != 0
}

/// What is wrong with the folder and its files.
fn judge_spool(name: &str, spool: &Spool, hub: Option<u32>, now: SystemTime, report: &mut Report) {
    let check = format!("spool of {name}");
    let shown = spool.path.display();
    if let Some((kind, trouble)) = &spool.trouble {
        let remedy = match kind {
            io::ErrorKind::NotFound => "make it: postbell setup cyrus",
            _ => "run this as the hub's user or as root",
        };
        return report.wrong(&check, format!("{shown}: {trouble}"), remedy);
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
    if let Some(file) = spool.files.iter().find(|file| !file.is_readable) {
        let detail = format!("{shown}/{}: may not be read by this user", file.name);
        return report.wrong(&check, detail, "have postbell notifyd run as the hub does");
    }
    let newest = spool.newest().and_then(|file| Some((file, file.last_time?)));
    if let Some((file, time)) = newest {
        let (skew, ahead) =
            (seconds(file.written).abs_diff(time), seconds(now).saturating_add(SKEW_MAX) < time);
        if skew > SKEW_MAX || ahead {
            let detail = format!(
                "{shown}/{}: its last line says another time than its file ({skew} s apart)",
                file.name
            );
            return report.wrong(&check, detail, "set the clock, and keep it set");
        }
    }
    report.right(&check, format!("{shown}: mode {:o}", spool.mode));
}

/// Whether somebody takes what Cyrus says.
fn judge_receiver(name: &str, way: &Way, report: &mut Report) {
    let check = format!("receiver of {name}");
    let start = format!(
        "start it: systemctl start {} {}, or postbell notifyd --source {name}; its log says why it ended",
        unit(name, "socket"),
        unit(name, "service")
    );
    let is_held = way.sockets.iter().any(|socket| socket.state == Held::Yes);
    if !way.is_read {
        let what = if is_held {
            "its socket is held, so that Cyrus stands still when a few events wait"
        } else {
            "what Cyrus says is lost"
        };
        let detail = format!("postbell notifyd is not running: {what}");
        return report.wrong(&check, detail, &start);
    }
    for socket in &way.sockets {
        let path = socket.path.display();
        let same = "postbell notifyd runs: systemd's unit, notify_socket or notify_stream, and Cyrus's notifysocket must name one place";
        match socket.state {
            Held::Missing | Held::No => {
                let detail = format!("{path}: nobody listens there, and what Cyrus says is lost");
                return report.wrong(&check, detail, same);
            }
            Held::Other => {
                return report.wrong(&check, format!("{path}: is no socket"), "move it away");
            }
            Held::Unknown => {
                let detail = format!("{path}: this user may not ask whether anybody listens");
                return report.notice(&check, detail, "run this as root");
            }
            Held::Yes => {}
        }
        if let Some((user, _)) = socket.senders.iter().find(|(_, may)| !may) {
            let detail = format!(
                "{path}: mode {:o} of account {}: {user} can't send there",
                socket.mode, socket.owner
            );
            let remedy = format!(
                "SocketUser={user} in systemd's unit; without one: postbell notifyd has to run in a group of {user}'s"
            );
            return report.wrong(&check, detail, &remedy);
        }
    }
    let shown: Vec<String> = way
        .sockets
        .iter()
        .map(|socket| format!("{} (mode {:o})", socket.path.display(), socket.mode))
        .collect();
    report.right(&check, format!("reads {}", shown.join(", ")));
}

/// Whether Cyrus tells, tells us, and doesn't abort.
fn judge_settings(
    name: &str,
    conf: anyhow::Result<Conf>,
    source: &SourceConfig,
    report: &mut Report,
) {
    let check = format!("settings of {name}");
    let conf = match conf {
        Ok(conf) => conf,
        Err(why) => {
            return report.notice(&check, why.to_string(), "point to Cyrus's with --imapd-conf");
        }
    };
    let mut is_right = true;
    let mut wrong = |detail: String, remedy: &str| {
        is_right = false;
        report.wrong(&check, detail, remedy);
    };
    for one in hazards::crashing(&conf) {
        wrong(one.reason, &one.remedy);
    }
    let value = |key: &str| conf.get(key).map(|setting| setting.value.as_str());
    if value("event_notifier").unwrap_or_default().is_empty() {
        let detail = "event_notifier isn't set, so that Cyrus tells nothing".to_owned();
        wrong(detail, "postbell setup cyrus sets it");
    }
    let socket = value("notifysocket").unwrap_or("its own notifyd's socket");
    let is_ours = match imapd::notified(socket) {
        (path, true) => path == source.notify_stream,
        (path, false) => path == source.notify_socket,
    };
    if !is_ours {
        wrong(
            format!("notifysocket is {socket}, which is none of sources.{name}'s"),
            "let notify_socket, or notify_stream after a dlist:, be the same",
        );
    }
    for (key, theirs, ours) in namespaces(&conf, source) {
        wrong(
            format!(
                "{key} is {theirs} for Cyrus, and {ours} in sources.{name}: mailboxes are named wrongly"
            ),
            "set it to what Cyrus has, and restart the hub",
        );
    }
    let mut lacking = hazards::lacking(&conf);
    if value("event_groups").is_none() {
        lacking.push(format!(
            "event_groups isn't set: told is of message and mailbox, not all of {GROUPS}"
        ));
    }
    if value("event_extra_params").is_none() {
        lacking
            .push(format!("event_extra_params isn't set; absent is all but the first of {PARAMS}"));
    }
    for one in lacking {
        is_right = false;
        report.notice(&check, one, "nothing is wrong with that, if it is meant");
    }
    if is_right {
        report.right(&check, "Cyrus tells all that is safe to tell");
    }
}

/// Settings of mailbox names that are another here than there: key, theirs, ours.
fn namespaces(conf: &Conf, source: &SourceConfig) -> Vec<(&'static str, String, String)> {
    let value = |key: &str| conf.get(key).map(|setting| setting.value.as_str());
    // As Cyrus 3 has it, where nothing is set.
    let is_on = |key: &str| value(key).is_none_or(imapd::is_on);
    let domains = imapd::virtdomains(value("virtdomains").unwrap_or_default());
    let mut pairs = vec![
        (
            "unixhierarchysep",
            is_on("unixhierarchysep").to_string(),
            source.unixhierarchysep.to_string(),
        ),
        ("altnamespace", is_on("altnamespace").to_string(), source.altnamespace.to_string()),
        ("virtdomains", domains.as_str().to_owned(), source.virtdomains.as_str().to_owned()),
    ];
    if source.altnamespace {
        for (key, default, ours) in [
            ("userprefix", "Other Users", &source.userprefix),
            ("sharedprefix", "Shared Folders", &source.sharedprefix),
        ] {
            pairs.push((key, value(key).unwrap_or(default).to_owned(), ours.clone()));
        }
    }
    pairs.retain(|(_, theirs, ours)| theirs != ours);
    pairs
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
            let detail = format!(
                "{unread} octets are not in the journal, the last of {} s ago",
                age.as_secs()
            );
            let remedy =
                "the hub's log says what holds the source; what is written down is not lost";
            report.wrong(&check, detail, remedy);
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

/// Even a small server has a user who looks once a day.
const SILENT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::spool::File;
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_573_600)
    }

    fn spool() -> Spool {
        Spool {
            path: "/spool".into(),
            trouble: None,
            mode: 0o750,
            owner: 990,
            files: vec![File {
                name: "990.ndjson".to_owned(),
                owner: 990,
                octets: 400,
                written: now() - Duration::from_secs(100),
                is_readable: true,
                last_time: Some(1_795_573_500),
            }],
        }
    }

    fn with(change: impl FnOnce(&mut Spool)) -> Spool {
        let mut spool = spool();
        change(&mut spool);
        spool
    }

    fn source() -> SourceConfig {
        SourceConfig { kind: SourceKind::Cyrus, ..SourceConfig::default() }
    }

    fn told(judge: impl FnOnce(&mut Report), case: &str, text: &mut String) {
        let mut report = Report::default();
        judge(&mut report);
        for check in &report.checks {
            text.push_str(&format!("{case}: {:?} {}: {}\n", check.state, check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                text.push_str(&format!("    → {remedy}\n"));
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_cyrus_spool_is_said_with_what_to_do() {
        let mut text = String::new();
        for (case, spool) in [
            ("right", spool()),
            (
                "none",
                with(|spool| {
                    spool.trouble = Some((io::ErrorKind::NotFound, "there is no such file".into()));
                }),
            ),
            ("open", with(|spool| spool.mode = 0o777)),
            ("owner", with(|spool| spool.owner = 0)),
            ("unreadable", with(|spool| spool.files[0].is_readable = false)),
            ("skew", with(|spool| spool.files[0].last_time = Some(1_795_570_000))),
        ] {
            told(|report| judge_spool("cyrus", &spool, Some(990), now(), report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_receiver_that_is_missing_or_out_of_reach_is_named() {
        let mut text = String::new();
        let socket = |state, may| Socket {
            path: "/run/postbell/cyrus/notify".into(),
            state,
            mode: 0o600,
            owner: 990,
            senders: vec![("cyrus".to_owned(), may)],
        };
        for (case, is_read, state, may) in [
            ("right", true, Held::Yes, true),
            ("held and not read", false, Held::Yes, true),
            ("nothing at all", false, Held::Missing, false),
            ("elsewhere", true, Held::No, true),
            ("no socket", true, Held::Other, true),
            ("unknown", true, Held::Unknown, true),
            ("mode", true, Held::Yes, false),
        ] {
            let way = Way { spool: spool(), is_read, sockets: vec![socket(state, may)] };
            told(|report| judge_receiver("cyrus", &way, report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn settings_that_crash_or_tell_nothing_are_named() {
        let mut text = String::new();
        let safe = format!(
            "event_notifier: log\nevent_groups: {GROUPS}\nevent_extra_params: {PARAMS}\nnotifysocket: /run/postbell/cyrus/notify\n"
        );
        for (case, conf) in [
            ("right", safe.clone()),
            ("nothing", String::new()),
            ("crash", format!("{safe}event_exclude_flags: \\Seen\n")),
            ("elsewhere", safe.replace("notifysocket: ", "notifysocket: dlist:")),
            (
                "names",
                format!("{safe}unixhierarchysep: no\nvirtdomains: userid\nuserprefix: shared\n"),
            ),
            ("less", safe.replace(" flagNames", "")),
        ] {
            let conf = Conf::read(Path::new("/etc/imapd.conf"), &|_| Ok(conf.clone())).unwrap();
            told(|report| judge_settings("cyrus", Ok(conf), &source(), report), case, &mut text);
        }
        let why = anyhow::anyhow!("/etc/imapd.conf: may not be read");
        told(|report| judge_settings("cyrus", Err(why), &source(), report), "none", &mut text);
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
                with(|spool| spool.files[0].written = now() - Duration::from_secs(100_000)),
            ),
            ("never", json!({"observations": 0, "unread": 0}), with(|spool| spool.files.clear())),
            ("done with", json!({"observations": 9}), with(|spool| spool.files.clear())),
        ] {
            told(|report| judge_source("cyrus", &source, &spool, now(), report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_socket_is_looked_at_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let me = nix::unistd::geteuid().to_string();
        let look = || Socket::look(&path, false, std::slice::from_ref(&me)).state;
        assert_eq!(look(), Held::Missing);
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(look(), Held::Yes);
        assert!(Socket::look(&path, false, std::slice::from_ref(&me)).senders[0].1);
        drop(socket);
        assert_eq!(look(), Held::No);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(look(), Held::Other);
    }
}
