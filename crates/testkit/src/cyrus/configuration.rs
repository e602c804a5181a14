//! The files Cyrus reads.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::OTHERS;
use super::{ADMIN, MANAGER, MASTER, Notify, Options, Ports};
use crate::account::Account;
use crate::{Error, Tree};

/// `imapd.conf`, with the events it tells of.
pub(super) fn telling(folder: &Path, options: &Options) -> Result<String, Error> {
    let mut keys = keys(folder, options)?;
    let socket = match &options.notify {
        Notify::Nobody => None,
        Notify::Datagrams(path) => Some(path.display().to_string()),
        Notify::Streams(path) => Some(format!("dlist:{}", path.display())),
        Notify::Notifyd => Some(own_socket(folder)),
    };
    if let Some(socket) = socket {
        for (key, value) in EVENTS {
            keys.insert((*key).to_owned(), (*value).to_owned());
        }
        keys.insert("notifysocket".to_owned(), socket);
    }
    keys.extend(options.settings.iter().cloned());
    Ok(written(&keys))
}

/// The same for programs that do what is no part of a test: they tell nobody.
pub(super) fn silent(folder: &Path, options: &Options) -> Result<String, Error> {
    Ok(written(&keys(folder, options)?))
}

fn keys(folder: &Path, options: &Options) -> Result<BTreeMap<String, String>, Error> {
    let account = Account::current();
    let switch = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let below = |name: &str| format!("{}/{name}", folder.display());
    let mut keys: BTreeMap<String, String> =
        FIXED.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let own = [
        ("admins", MANAGER.to_owned()),
        ("altnamespace", switch(options.altnamespace)),
        ("configdirectory", below("conf")),
        ("cyrus_group", account.group_name()?),
        ("cyrus_user", account.name()?),
        ("idlesocket", below("sock/idle")),
        ("lmtpsocket", below("sock/lmtp")),
        ("mboxname_lockpath", below("conf/lock")),
        ("partition-default", below("spool")),
        ("proc_path", below("conf/proc")),
        ("proxyservers", format!("{MASTER} {ADMIN}")),
        ("sasl_sasldb_path", below("etc/sasldb2")),
        ("servername", options.server_name.clone()),
        ("sievedir", below("sieve")),
        ("temp_path", below("conf/tmp")),
        ("unixhierarchysep", switch(options.unixhierarchysep)),
        ("virtdomains", if options.virtdomains { "userid" } else { "off" }.to_owned()),
    ];
    keys.extend(own.map(|(key, value)| (key.to_owned(), value)));
    if options.altnamespace {
        keys.insert("userprefix".to_owned(), OTHERS.to_owned());
    }
    Ok(keys)
}

fn written(keys: &BTreeMap<String, String>) -> String {
    keys.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// `cyrus.conf`: the services and where they listen.
pub(super) fn services(folder: &Path, tree: &Tree, ports: Ports, options: &Options) -> String {
    let command = |program: &str, config: &str| {
        let program = tree.path(super::PROGRAMS).join(program);
        format!("{} -C {}", program.display(), folder.join("etc").join(config).display())
    };
    let mut services = String::new();
    for (name, program, config, address) in [
        ("imap", "imapd", TELLING, ports.imap),
        ("pop3", "pop3d", TELLING, ports.pop3),
        ("http", "httpd", TELLING, ports.http),
        ("lmtp", "lmtpd", TELLING, ports.lmtp),
        ("silent", "imapd", SILENT, ports.silent),
        ("sieve", "timsieved", SILENT, ports.sieve),
    ] {
        let command = command(program, config);
        // Whoever delivers is trusted.
        let trusting = if program == "lmtpd" { " -a" } else { "" };
        services.push_str(&format!(
            "  {name} cmd=\"{command}{trusting}\" listen=\"{address}\" proto=\"tcp4\" \
             prefork=0 maxchild=50\n"
        ));
    }
    if options.notify == Notify::Notifyd {
        services.push_str(&format!(
            "  notify cmd=\"{}\" listen=\"{}\" proto=\"udp\" prefork=1\n",
            command("notifyd", TELLING),
            own_socket(folder)
        ));
    }
    let recover = command("ctl_cyrusdb", TELLING);
    format!(
        "START {{\n  recover cmd=\"{recover} -r\"\n}}\nSERVICES {{\n{services}}}\nEVENTS {{\n}}\n"
    )
}

/// Where Cyrus' own notifyd listens.
fn own_socket(folder: &Path) -> String {
    folder.join("sock/notify").display().to_string()
}

/// The configuration of the services that a test uses.
pub(super) const TELLING: &str = "imapd.conf";
/// The configuration of what a test does behind the scenes.
pub(super) const SILENT: &str = "silent.conf";

/// What doesn't depend on anything. Passwords are in SASL's own database, since that needs no
/// daemon; conversations are what JMAP lives on; delayed expunging and deleting are usual.
const FIXED: &[(&str, &str)] = &[
    ("allowplaintext", "yes"),
    ("anyoneuseracl", "yes"),
    ("caldav_allowscheduling", "no"),
    ("conversations", "yes"),
    ("conversations_db", "twoskip"),
    ("defaultpartition", "default"),
    ("delete_mode", "delayed"),
    ("duplicatesuppression", "no"),
    ("expunge_mode", "delayed"),
    // Else each refusal takes three seconds.
    ("failedloginpause", "0"),
    ("httpallowcompress", "no"),
    ("httpmodules", "caldav carddav jmap"),
    ("popminpoll", "0"),
    ("sasl_auxprop_plugin", "sasldb"),
    ("sasl_mech_list", "PLAIN LOGIN"),
    ("sasl_minimum_layer", "0"),
    ("sasl_pwcheck_method", "auxprop"),
    ("search_engine", "none"),
    ("specialusealways", "yes"),
    ("sync_log", "no"),
    ("syslog_prefix", "postbelltest"),
];

/// All of what Debian's build tells without crashing. Never add the group `quota`, the content of
/// messages, `event_exclude_flags` or `vnd.fastmail.counters` and their like.
const EVENTS: &[(&str, &str)] = &[
    ("event_notifier", "log"),
    ("event_groups", "message flags mailbox subscription access"),
    (
        "event_extra_params",
        "timestamp service clientAddress modseq messages uidnext flagNames messageSize \
         vnd.cmu.sessionId vnd.cmu.unseenMessages",
    ),
    ("event_content_inclusion_mode", "standard"),
];
