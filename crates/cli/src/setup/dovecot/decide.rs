//! What setting up would do to this Dovecot, and whether it may: decided on facts, without I/O.

use std::path::{Path, PathBuf};

use super::super::told::{Refusal, refusal};
use super::doveconf::{Settings, Version};
use super::order::{Line, NoPlace, Placement};

/// What is known of the server and of where our files would go.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What `doveconf -n` says.
    pub(super) settings: Settings,
    /// Where the modules are.
    pub(super) plugin_folder: PathBuf,
    /// The names of the files there; `None` where they can't be listed.
    pub(super) modules: Option<Vec<String>>,
    /// The main configuration file.
    pub(super) main: PathBuf,
    /// Where the snippet may stand, and which of these is the place for it.
    pub(super) candidates: Vec<PathBuf>,
    /// See [`order::place`](super::order::place).
    pub(super) place: Result<Placement, NoPlace>,
    /// Our other files.
    pub(super) places: Places,
    /// Folders above the spool that may not be entered by everybody.
    pub(super) closed: Vec<PathBuf>,
    /// Where the exporter posts to; `None` where it is left out.
    pub(super) exporter: Option<Exporter>,
    /// Whether the script is to go by what is wanted.
    pub(super) reads_demand: bool,
}

/// Our files, beside the snippet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Places {
    /// The script that Dovecot loads.
    pub(super) script: PathBuf,
    /// The part with the exporter's secret, which the snippet includes.
    pub(super) exporter: PathBuf,
    /// The folder the script writes to.
    pub(super) spool: PathBuf,
}

/// Where Dovecot's exporter posts to.
#[derive(Clone)]
pub(super) struct Exporter {
    /// The hub's address.
    pub(super) address: std::net::SocketAddr,
    /// The source's name.
    pub(super) source: String,
    /// Who knows it may post.
    pub(super) secret: String,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}/v1/dovecot/{}/…", self.address, self.source)
    }
}

/// Everything that stands in the way; empty where nothing does.
pub(super) fn refusals(facts: &Facts) -> Vec<Refusal> {
    let mut found = Vec::new();
    found.extend(version(facts.settings.version));
    found.extend(plugins(facts));
    found.extend(script(facts));
    found.extend(drivers(facts));
    found.extend(paths(facts));
    found.extend(placement(facts).err().into_iter().flatten());
    found.extend(exporter(facts.exporter.as_ref()));
    found.extend(facts.closed.iter().map(|folder| {
        refusal(
            format!("{}: may not be entered by mail users", folder.display()),
            format!("chmod o+x {}, or put the spool elsewhere with --spool", folder.display()),
        )
    }));
    found
}

fn version(version: Option<Version>) -> Option<Refusal> {
    let Some(version) = version else {
        return Some(refusal(
            "doveconf doesn't say which version this is",
            "give Dovecot's own doveconf with --doveconf",
        ));
    };
    let Version(major, minor, patch) = version;
    let shown = format!("Dovecot {major}.{minor}.{patch}");
    if version < OLDEST {
        let reason = format!("{shown} is too old: its Lua can't do what the script needs");
        return Some(refusal(reason, "update Dovecot to 2.3.9 or later"));
    }
    (version >= TOO_NEW).then(|| {
        refusal(
            format!("{shown} has another configuration language than 2.3, which this is made for"),
            "stay with Dovecot 2.3 until postbell knows 2.4",
        )
    })
}

/// A missing module makes every login fail.
fn plugins(facts: &Facts) -> Option<Refusal> {
    let folder = facts.plugin_folder.display();
    let Some(modules) = &facts.modules else {
        return Some(refusal(
            format!("{folder}: Dovecot's modules can't be listed there"),
            "run this as root; mail_plugin_dir says where they are",
        ));
    };
    let missing: Vec<&str> =
        PLUGINS.into_iter().filter(|name| !modules.iter().any(|file| is_of(file, name))).collect();
    (!missing.is_empty()).then(|| {
        refusal(
            format!("{folder}: no {}; every login would fail", missing.join(", no ")),
            "install them (Debian and Ubuntu: dovecot-core; Fedora: dovecot; else: build Dovecot --with-lua)",
        )
    })
}

/// Whether a file such as `lib01_mail_lua_plugin.so` is the plugin of that name.
fn is_of(file: &str, name: &str) -> bool {
    let Some(stem) = file.strip_suffix("_plugin.so").and_then(|file| file.strip_prefix("lib"))
    else {
        return false;
    };
    stem.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix('_') == Some(name)
}

fn script(facts: &Facts) -> Option<Refusal> {
    let set = facts.settings.plugin("mail_lua_script")?;
    (Path::new(set) != facts.places.script && !set.is_empty()).then(|| {
        refusal(
            format!("mail_lua_script is {set} already, and Dovecot runs only one script"),
            "take that setting out, or call postbell.lua's hooks from that script yourself (docs/dovecot.md)",
        )
    })
}

fn drivers(facts: &Facts) -> Option<Refusal> {
    let is_ours =
        facts.settings.plugin("mail_lua_script").map(Path::new) == Some(&*facts.places.script);
    let (key, value) = facts.settings.plugins().find(|(key, value)| {
        key.starts_with("push_notification_driver")
            && !(is_ours && *key == "push_notification_driver" && *value == "lua")
    })?;
    Some(refusal(
        format!("{key} is {value} already, and a second driver would take part in every change"),
        "take that setting out; what it was for can listen to postbell instead",
    ))
}

/// Dovecot fills in what follows a `%`, and ends a word at a blank.
fn paths(facts: &Facts) -> Option<Refusal> {
    let Places { script, exporter, spool } = &facts.places;
    let all = [script, exporter, spool].into_iter().chain(&facts.candidates);
    let mut all = all.chain([&facts.main]);
    let bad = all.find(|path| {
        let text = path.to_string_lossy();
        !path.is_absolute()
            || text.contains(|letter: char| {
                letter.is_whitespace() || letter.is_control() || "%\"'$<#{}".contains(letter)
            })
    })?;
    Some(refusal(
        format!("{bad:?}: such a path means something else in Dovecot's configuration"),
        "choose a whole path of letters, digits and -_./",
    ))
}

/// Where the snippet is to stand, or why it can't.
pub(super) fn placement(facts: &Facts) -> Result<Placement, Vec<Refusal>> {
    let main = facts.main.display();
    let last = facts.candidates.last().map(|path| path.display().to_string()).unwrap_or_default();
    facts.place.clone().map_err(|why| match why {
        NoPlace::NotIncluded => vec![refusal(
            format!("{main}: includes no {last}"),
            format!("put this line at its end and run this again: !include_try {last}"),
        )],
        NoPlace::Unseen(lines) => lines.iter().map(unseen_line).collect(),
    })
}

fn unseen_line(line: &Line) -> Refusal {
    let Line { file, number, section, .. } = line;
    let (whose, over) = match section.strip_prefix("protocol ") {
        Some(protocol) => (format!("for {protocol}"), format!("over {protocol}")),
        None if section.is_empty() => ("for all".to_owned(), "at all".to_owned()),
        None => (format!("for {section}"), "there".to_owned()),
    };
    refusal(
        format!(
            "{} line {number} sets mail_plugins anew {whose}, so that nothing would be seen {over}",
            file.display()
        ),
        "let it begin with what was set before: mail_plugins = $mail_plugins …",
    )
}

fn exporter(exporter: Option<&Exporter>) -> Option<Refusal> {
    let exporter = exporter?;
    (exporter.address.port() == 0).then(|| {
        refusal(
            "the hub listens on a port it finds anew at each start (listen has port 0)",
            "set a port in listen, or leave the exporter out with --no-exporter",
        )
    })
}

/// The protocols whose `mail_plugins` lacks one of ours: what they do would go unseen.
pub(super) fn unseen<'a>(plugins_of: &[(&'a str, String)]) -> Vec<&'a str> {
    let lacks = |plugins: &str| {
        PLUGINS.into_iter().any(|wanted| !plugins.split_whitespace().any(|name| name == wanted))
    };
    plugins_of.iter().filter(|(_, plugins)| lacks(plugins)).map(|(protocol, _)| *protocol).collect()
}

/// What our snippet has Dovecot load, in this order.
pub(super) const PLUGINS: [&str; 4] =
    ["notify", "mail_lua", "push_notification", "push_notification_lua"];

/// Protocols that change mail or open it.
pub(super) const PROTOCOLS: [&str; 6] = ["imap", "pop3", "lmtp", "lda", "sieve", "doveadm"];

/// Its `dovecot.event()` takes fields, which the script says its numbers by.
const OLDEST: Version = Version(2, 3, 9);
const TOO_NEW: Version = Version(2, 4, 0);

#[cfg(test)]
pub(super) mod tests {
    use super::super::doveconf::tests::SAMPLE;
    use super::*;

    pub(crate) const SNIPPET: &str = "/etc/dovecot/conf.d/99-postbell.conf";

    pub(crate) fn places() -> Places {
        Places {
            script: "/etc/dovecot/postbell.lua".into(),
            exporter: "/etc/dovecot/postbell-exporter.conf.ext".into(),
            spool: "/var/spool/postbell/dovecot".into(),
        }
    }

    pub(crate) fn exporter() -> Exporter {
        Exporter {
            address: "127.0.0.1:5423".parse().unwrap(),
            source: "dovecot".to_owned(),
            secret: "0123456789abcdef".repeat(4),
        }
    }

    pub(crate) fn facts(settings: &str) -> Facts {
        let modules = [
            "lib01_mail_lua_plugin.so",
            "lib15_notify_plugin.so",
            "lib20_notify_status_plugin.so",
            "lib20_push_notification_plugin.so",
            "lib22_push_notification_lua_plugin.so",
        ];
        Facts {
            settings: Settings::parse(settings),
            plugin_folder: "/usr/lib/dovecot/modules".into(),
            modules: Some(modules.map(str::to_owned).into()),
            main: "/etc/dovecot/dovecot.conf".into(),
            candidates: vec!["/etc/dovecot/conf.d/11-postbell.conf".into(), SNIPPET.into()],
            place: Ok(Placement { snippet: SNIPPET.into(), sections: Vec::new() }),
            places: places(),
            closed: Vec::new(),
            exporter: Some(exporter()),
            reads_demand: false,
        }
    }

    #[test]
    fn a_usual_server_is_not_refused() {
        assert_eq!(refusals(&facts(SAMPLE)), []);
    }

    #[test]
    fn a_second_time_is_not_refused() {
        let ours = "plugin {\n mail_lua_script = /etc/dovecot/postbell.lua\n push_notification_driver = lua\n}\n";
        assert_eq!(refusals(&facts(&format!("{SAMPLE}{ours}"))), []);
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
        let head = "# 2.3.19.1 (x): /etc/dovecot/dovecot.conf\n";
        tell("old", &facts("# 2.3.8 (x): y\n"));
        tell("new", &facts("# 2.4.1 (x): y\n"));
        tell("none", &facts(""));
        let mut bare = facts(SAMPLE);
        bare.modules =
            Some(vec!["lib20_notify_status_plugin.so".into(), "lib01_mail_lua_plugin.so".into()]);
        tell("modules", &bare);
        bare.modules = None;
        tell("no folder", &bare);
        tell("script", &facts(&format!("{head}plugin {{\n mail_lua_script = /srv/x.lua\n}}")));
        tell("ox", &facts(&format!("{head}plugin {{\n push_notification_driver2 = ox\n}}")));
        let mut elsewhere = facts(SAMPLE);
        elsewhere.place = Err(NoPlace::NotIncluded);
        elsewhere.places.spool = "/var/spool/%u".into();
        elsewhere.closed = vec!["/var/spool".into()];
        elsewhere.exporter =
            Some(Exporter { address: "127.0.0.1:0".parse().unwrap(), ..exporter() });
        tell("elsewhere", &elsewhere);
        let mut unseen = facts(SAMPLE);
        let line = |section: &str| Line {
            file: "/etc/dovecot/local.conf".into(),
            number: 7,
            section: section.to_owned(),
            takes_over: false,
        };
        unseen.place =
            Err(NoPlace::Unseen(["", "protocol imap", "remote 10.0.0.0/8"].map(line).into()));
        tell("unseen", &unseen);
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_protocol_that_lacks_a_plugin_is_named() {
        let whole = "quota notify push_notification mail_lua push_notification_lua".to_owned();
        let list = [("imap", whole), ("lmtp", "sieve".to_owned()), ("pop3", String::new())];
        assert_eq!(unseen(&list), ["lmtp", "pop3"]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", facts(SAMPLE)).contains("0123456789abcdef"));
    }
}
