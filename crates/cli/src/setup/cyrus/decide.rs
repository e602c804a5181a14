//! What setting up would do to this Cyrus, and whether it may: decided on facts, without I/O.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::super::told::{Refusal, refusal};
use super::facts::Facts;
use super::hazards::{self, GROUPS, PARAMS};
use super::imapd::{self, Conf, Setting};
use super::services::Service;

/// The settings that are ours to make: those of the safe ones that are not made already.
pub(super) fn settings(facts: &Facts) -> Vec<(&'static str, String)> {
    let socket = facts.places.socket.display();
    let socket = if facts.is_stream { format!("dlist:{socket}") } else { socket.to_string() };
    let mut wanted = vec![
        ("event_notifier", "log".to_owned()),
        ("event_groups", GROUPS.to_owned()),
        ("event_extra_params", PARAMS.to_owned()),
        ("notifysocket", socket),
    ];
    if facts.with_junk {
        wanted.push(("event_exclude_specialuse", "none".to_owned()));
    }
    // One that is there twice keeps Cyrus from starting.
    wanted.retain(|(key, _)| facts.conf.get(key).is_none());
    wanted
}

/// The line that has Cyrus send to its own notifyd, as Debian's `imapd.conf` has one: ours takes its
/// place. Any other may be for somebody who would hear nothing any more.
pub(super) fn aside(conf: &Conf, main: &Path, services: &[Service]) -> Option<usize> {
    let setting = conf.get("notifysocket").filter(|setting| setting.file == main)?;
    let mut notifyds = services.iter().filter(|service| service.program() == "notifyd");
    notifyds.any(|service| service.listen == setting.value).then_some(setting.line)
}

/// Everything that stands in the way; empty where nothing does.
pub(super) fn refusals(facts: &Facts) -> Vec<Refusal> {
    let mut found = Vec::new();
    found.extend(version(&facts.version));
    found.extend(hazards::crashing(&facts.conf));
    found.extend(facts.conf.all("notifysocket").filter_map(|one| socket(facts, one)));
    found.extend(others(facts));
    found.extend(notifyd(facts));
    found.extend(last_line(facts));
    found.extend(paths(facts));
    found
}

/// Worth knowing, though nothing stands in the way: one sentence each.
pub(super) fn notes(facts: &Facts) -> Vec<String> {
    let mut notes = hazards::lacking(&facts.conf);
    notes.push(
        "no quota events from Cyrus: with the group quota it aborts when a quota is exceeded"
            .to_owned(),
    );
    notes.push(
        "Cyrus 3.6.1 aborts when a user renames their INBOX, with postbell or without".to_owned(),
    );
    notes.push(match facts.conf.get("proxyservers") {
        Some(setting) => format!(
            "for quotas and what is missed, postbell can ask as one of {} (master_user; see docs/cyrus.md)",
            setting.value
        ),
        None => "nobody may ask Cyrus for quotas and what is missed: no proxyservers are set (see docs/cyrus.md)".to_owned(),
    });
    match facts.conf.get("event_exclude_specialuse") {
        Some(setting) => {
            notes.push(format!("{} sets {} and stays", setting.place(), setting.key));
        }
        None if !facts.with_junk => notes.push(
            "nothing is told of mailboxes with \\Junk (--with-junk has Cyrus tell)".to_owned(),
        ),
        None => {}
    }
    let Some(services) = &facts.services else {
        notes.push("cyrus.conf can't be read, so that nobody looked where Cyrus's own notifyd listens (say with -M where it is)".to_owned());
        return notes;
    };
    for service in services.iter().filter(|one| one.program() == "notifyd") {
        notes.push(format!(
            "Cyrus's own notifyd ({} in cyrus.conf, at {}) hears nothing from Cyrus any more",
            service.name, service.listen
        ));
    }
    for service in services {
        if let Some(other) = service.other_conf().filter(|other| *other != facts.main) {
            notes.push(format!(
                "the service {} reads {}: what is done through it stays unseen",
                service.name,
                other.display()
            ));
        }
    }
    notes
}

fn version(version: &str) -> Option<Refusal> {
    let major: Option<u32> = version.split('.').next().and_then(|number| number.parse().ok());
    match major {
        Some(3..) => None,
        Some(_) => Some(refusal(
            format!("Cyrus {version} is too old: this is made for Cyrus 3"),
            "update Cyrus",
        )),
        None => Some(refusal(
            "cyr_info doesn't say which version this is",
            "give Cyrus's own with --cyr-info",
        )),
    }
}

/// Cyrus sends to one socket only.
fn socket(facts: &Facts, setting: &Setting) -> Option<Refusal> {
    let is_ours = imapd::notified(&setting.value) == (&*facts.places.socket, facts.is_stream);
    (!is_ours).then(|| {
        refusal(
            format!(
                "{} sets {} to {} already, and Cyrus sends to one place only",
                setting.place(),
                setting.key,
                setting.value
            ),
            "take that line out; what it was for can listen to postbell instead",
        )
    })
}

/// What Cyrus sends to its notifyd beside events would be lost.
fn others(facts: &Facts) -> Vec<Refusal> {
    let keys = ["mailnotifier", "sievenotifier"];
    let set = keys.iter().filter_map(|key| facts.conf.get(key));
    set.filter(|setting| !setting.value.is_empty())
        .map(|setting| {
            refusal(
                format!(
                    "{} sets {}, and what Cyrus's notifyd does for it would end: postbell takes its place",
                    setting.place(),
                    setting.key
                ),
                "take that line out, if nobody needs it",
            )
        })
        .collect()
}

/// Two readers of one socket each get what the other misses.
fn notifyd(facts: &Facts) -> Option<Refusal> {
    let mut services = facts.services.iter().flatten();
    let same = services.find(|service| Path::new(&service.listen) == facts.places.socket)?;
    Some(refusal(
        format!(
            "cyrus.conf has {} ({}) listen at {} already",
            same.name,
            same.program(),
            same.listen
        ),
        "choose another place with --socket, or take that service out",
    ))
}

fn last_line(facts: &Facts) -> Option<Refusal> {
    let main = facts.main.display();
    facts.text.trim_end_matches('\n').ends_with('\\').then(|| {
        refusal(
            format!("{main}: its last line goes on (\\), so that ours would become part of it"),
            "end that line",
        )
    })
}

fn paths(facts: &Facts) -> Vec<Refusal> {
    let places = &facts.places;
    let mut found = Vec::new();
    let all = [&places.own, &places.socket, &places.spool].into_iter().chain(&places.units);
    for path in all {
        let text = path.to_string_lossy();
        let is_odd = |letter: char| {
            letter.is_whitespace() || letter.is_control() || "%\"'$#\\:".contains(letter)
        };
        if text.contains(is_odd) {
            found.push(refusal(
                format!("{path:?}: such a path means something else in Cyrus's configuration or systemd's"),
                "choose a whole path of letters, digits and -_./",
            ));
        }
    }
    if places.socket.as_os_str().as_bytes().len() > SOCKET_OCTETS_MAX {
        found.push(refusal(
            format!("{}: no socket has so long a name", places.socket.display()),
            "choose a shorter one with --socket",
        ));
    }
    found
}

/// The longest path of a Unix socket.
const SOCKET_OCTETS_MAX: usize = 107;

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::Places;
    use super::super::services;
    use super::*;

    pub(crate) fn facts(text: &str, services: &str) -> Facts {
        Facts {
            version: "3.6.1-Debian-3.6.1-4+deb12u5".to_owned(),
            main: "/etc/imapd.conf".into(),
            text: text.to_owned(),
            aside: None,
            conf: Conf::read(Path::new("/etc/imapd.conf"), &|_| Ok(text.to_owned())).unwrap(),
            effective: [
                ("unixhierarchysep", "no"),
                ("altnamespace", "yes"),
                ("virtdomains", "userid"),
                ("userprefix", "Other Users"),
                ("sharedprefix", "Shared Folders"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            services: Some(services::parse(services)),
            places: Places {
                own: "/etc/imapd-postbell.conf".into(),
                socket: "/run/postbell/cyrus/notify".into(),
                spool: "/var/spool/postbell/cyrus".into(),
                units: Some("/etc/systemd/system".into()),
            },
            is_stream: false,
            with_junk: false,
        }
    }

    const DEBIAN: &str = "SERVICES {\n imap cmd=\"imapd -U 30\" listen=\"imap\"\n notify cmd=\"notifyd\" listen=\"/run/cyrus/socket/notify\" proto=\"udp\"\n}\n";

    #[test]
    fn a_usual_server_is_not_refused_and_a_setting_of_its_own_stays() {
        let facts = facts("admins: cyrus\nevent_groups: message mailbox\n", DEBIAN);
        assert_eq!(refusals(&facts), []);
        let keys: Vec<&str> = settings(&facts).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["event_notifier", "event_extra_params", "notifysocket"]);
        insta::assert_snapshot!(notes(&facts).join("\n"));
    }

    #[test]
    fn only_the_line_for_cyruss_own_notifyd_is_set_aside() {
        let main = Path::new("/etc/imapd.conf");
        let of = |text: &str| aside(&facts(text, "").conf, main, &services::parse(DEBIAN));
        assert_eq!(of("admins: cyrus\nnotifysocket: /run/cyrus/socket/notify\n"), Some(2));
        assert_eq!(of("notifysocket: /run/somebody\n"), None);
        assert_eq!(of("imap_notifysocket: /run/cyrus/socket/notify\n"), None);
        let elsewhere = facts("notifysocket: /run/cyrus/socket/notify\n", "").conf;
        assert_eq!(aside(&elsewhere, Path::new("/etc/x"), &services::parse(DEBIAN)), None);
    }

    #[test]
    fn junk_is_told_of_only_when_asked() {
        let mut facts = facts("", "");
        assert!(settings(&facts).iter().all(|(key, _)| *key != "event_exclude_specialuse"));
        facts.with_junk = true;
        assert!(settings(&facts).contains(&("event_exclude_specialuse", "none".to_owned())));
    }

    #[test]
    fn whatever_would_break_is_refused_with_what_to_do() {
        let mut told = String::new();
        let mut tell = |case: &str, facts: &Facts| {
            told.push_str(&format!("{case}\n"));
            for refusal in refusals(facts) {
                told.push_str(&format!("  ✗ {}\n    → {}\n", refusal.reason, refusal.remedy));
            }
        };
        tell("old", &Facts { version: "2.5.17".to_owned(), ..facts("", "") });
        tell("none", &Facts { version: String::new(), ..facts("", "") });
        tell("crashes", &facts("event_groups: message quota\n", ""));
        tell("socket", &facts("notifysocket: /run/cyrus/socket/notify\n", ""));
        tell("ours as a stream", &facts("notifysocket: dlist:/run/postbell/cyrus/notify\n", ""));
        tell("one service", &facts("imap_notifysocket: /x\n", ""));
        tell("sieve", &facts("sievenotifier: mailto\nmailnotifier:\n", ""));
        let same = DEBIAN.replace("/run/cyrus/socket", "/run/postbell/cyrus");
        tell("notifyd", &facts("", &same));
        tell("goes on", &facts("admins: cyrus \\\n", ""));
        let mut elsewhere = facts("", "");
        elsewhere.places.socket = format!("/run/{}", "x".repeat(120)).into();
        elsewhere.places.spool = "/var/spool/my mail".into();
        tell("paths", &elsewhere);
        insta::assert_snapshot!(told);
    }
}
