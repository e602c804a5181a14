//! From TOML to a [`Config`], with every mistake found in one go.

use std::path::Path;

use postbell_engine::{Pattern, Stores};
use toml::{Table, Value};

use super::{
    ClientCertificateConfig, CommandConfig, Config, ConfigError, ContentReference, Group,
    LoginConfig, PublishConfig, Record, SourceConfig, SourceKind, TlsConfig, in_clear, keys,
    limits, oidc, parse_network,
};

/// The largest configuration file read. Ten thousand sources fit; a disk image does not.
const FILE_OCTETS_MAX: u64 = 4 << 20;

/// See [`Config::load`].
pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let one = |line: String| ConfigError { lines: vec![line] };
    let facts =
        std::fs::metadata(path).map_err(|error| one(format!("{file}: {}", plain(&error))))?;
    if facts.is_dir() {
        return Err(one(format!("{file}: is a folder, where a configuration file is wanted")));
    }
    if facts.len() > FILE_OCTETS_MAX {
        return Err(one(format!("{file}: {} octets is too much for a configuration", facts.len())));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| one(format!("{file}: {}", plain(&error))))?;
    parse(&file, &text)
}

/// The system's words without its error number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => postbell_engine::in_words(error),
    }
}

/// See [`Config::parse`].
pub(super) fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let mut table: Table = toml::from_str(text)
        .map_err(|error| ConfigError { lines: vec![syntax(file, text, &error)] })?;
    let mut lines = Vec::new();
    drop_unknown(&mut table, "", &mut lines);
    drop_foreign(&mut table, &mut lines);
    let config = deserialise(table, &mut lines);
    if let Some(config) = &config {
        let mut more = Vec::new();
        check(config, &mut more);
        // What was taken out for what it is isn't missing.
        more.retain(|line| !lines.iter().any(|told| key_of(told) == key_of(line)));
        lines.append(&mut more);
    }
    match config {
        Some(config) if lines.is_empty() => Ok(config),
        _ => Err(ConfigError {
            lines: lines.into_iter().map(|line| format!("{file}: {line}")).collect(),
        }),
    }
}

/// Of which key a line speaks.
fn key_of(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(key, _)| key)
}

/// One line for text that is no TOML.
fn syntax(file: &str, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    format!("{file}: line {line}: {message}")
}

/// Takes out what no key stands for, with a line for each.
fn drop_unknown(table: &mut Table, prefix: &str, lines: &mut Vec<String>) {
    table.retain(|name, value| {
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        if keys::find(&path).is_some() {
            return true;
        }
        if is_section(&path) {
            if let Value::Table(inner) = value {
                drop_unknown(inner, &path, lines);
                return true;
            }
            lines.push(match nameless(prefix, name) {
                Some(example) => format!(
                    "{path}: {} has no name it belongs to (write it below [{example}], say)",
                    show(value)
                ),
                None => format!("{path}: {} is not a table (write [{path}])", show(value)),
            });
            return false;
        }
        lines.push(match keys::nearest(&path) {
            Some(near) => format!("{path}: no such key (did you mean {near}?)"),
            None => format!("{path}: no such key"),
        });
        false
    });
}

/// Where `name` would be right, where it is a key of the tables in `group` and stands beside them.
fn nameless(group: &str, name: &str) -> Option<String> {
    let example = if group == "sources" { "mail" } else { "one" };
    let below = format!("{group}.{example}");
    keys::find(&format!("{below}.{name}")).map(|_| below)
}

/// Takes out of each source what only another kind has, with a line for each.
fn drop_foreign(table: &mut Table, lines: &mut Vec<String>) {
    let Some(Value::Table(sources)) = table.get_mut("sources") else { return };
    for (name, source) in sources {
        let Value::Table(source) = source else { continue };
        let text = source.get("kind").and_then(Value::as_str);
        let named = |text| SourceKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        // Another is told by itself.
        let Some(kind) = text.map_or(Some(SourceKind::Maildir), named) else { continue };
        source.retain(|key, _| {
            let path = format!("sources.{name}.{key}");
            let kinds = keys::kinds(&path);
            let is_ours = kinds.is_empty() || kinds.contains(&kind);
            if !is_ours {
                let theirs: Vec<_> =
                    kinds.iter().map(|kind| format!("{:?}", kind.as_str())).collect();
                let (ours, theirs) = (kind.as_str(), theirs.join(" or "));
                lines.push(format!("{path}: is for kind = {theirs}, and this one is {ours:?}"));
            }
            is_ours
        });
    }
}

/// Whether keys live below `path`.
fn is_section(path: &str) -> bool {
    let depth = path.split('.').count();
    keys::SECTIONS.iter().any(|section| match section.path.strip_suffix(".*") {
        // A table of tables, whose names are the operator's.
        Some(group) => {
            let is_within = path.strip_prefix(group).is_some_and(|rest| rest.starts_with('.'));
            path == group || depth == group.split('.').count() + 1 && is_within
        }
        None => section.path == path,
    })
}

/// Makes the configuration, taking out each bad value with a line for it until none is left.
fn deserialise(mut table: Table, lines: &mut Vec<String>) -> Option<Config> {
    loop {
        let error = match serde_path_to_error::deserialize::<_, Config>(Value::Table(table.clone()))
        {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path: Vec<String> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            })
            .collect();
        // Within a list there are no keys: a bad entry goes alone, a bad key of one with the list.
        let entry = match error.path().iter().next_back() {
            Some(serde_path_to_error::Segment::Seq { index }) => {
                take_entry(&mut table, &path, *index).map(|value| (path.join("."), value))
            }
            _ => None,
        };
        let taken = entry.or_else(|| {
            (1..=path.len()).rev().find_map(|depth| {
                let path = path.get(..depth)?;
                take(&mut table, path).map(|value| (path.join("."), value))
            })
        });
        let name = path.join(".");
        match taken {
            Some((name, value)) => {
                lines.push(complaint(&name, &value, &error.into_inner().to_string()));
            }
            // Nothing to take out: say what is known rather than go round for ever.
            None => {
                lines.push(format!("{name}: {}", error.into_inner().to_string().trim()));
                return None;
            }
        }
    }
}

/// Takes the value at `path` out of the table.
fn take(table: &mut Table, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut at = table;
    for name in parents {
        at = at.get_mut(name)?.as_table_mut()?;
    }
    at.remove(last)
}

/// Takes one entry out of the list at `path`.
fn take_entry(table: &mut Table, path: &[String], index: usize) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut at = table;
    for name in parents {
        at = at.get_mut(name)?.as_table_mut()?;
    }
    let list = at.get_mut(last)?.as_array_mut()?;
    (index < list.len()).then(|| list.remove(index))
}

/// `"5 parsecs" is not a duration (try "60s")`.
fn complaint(path: &str, value: &Value, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if message.starts_with("unknown field") {
        return format!("{path}: {}", message.replace('`', "\""));
    }
    let expected = message.rsplit_once("expected ").map_or("", |(_, expected)| expected);
    let expected = match expected.trim() {
        "" if message.contains("socket address") => "an address and port".to_owned(),
        "" => "a value this key can have".to_owned(),
        "a boolean" => "true or false".to_owned(),
        text if text.starts_with("one of `") || text.starts_with('`') => text.replace('`', "\""),
        "a string" | "path string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        text if text.starts_with("struct ") => "a table".to_owned(),
        "u16" | "u32" | "u64" | "i64" => "a whole number in range".to_owned(),
        "f64" => "a number".to_owned(),
        text => text.replace("socket address", "an address and port"),
    };
    let example = keys::find(path).map(|key| format!(" (try {})", key.example)).unwrap_or_default();
    format!("{path}: {} is not {expected}{example}", show(value))
}

/// A value as it might stand in the file, cut where a line would get too long.
fn show(value: &Value) -> String {
    const LETTERS_MAX: usize = 60;
    let text = match value {
        Value::Table(_) => "a table".to_owned(),
        other => other.to_string().replace('\n', " "),
    };
    if text.chars().count() <= LETTERS_MAX {
        text
    } else {
        text.chars().take(LETTERS_MAX).chain(['…']).collect()
    }
}

/// What types can't say.
fn check(config: &Config, lines: &mut Vec<String>) {
    lines.extend(in_clear(config).into_iter().map(|(key, why)| format!("{key}: {why}")));
    if config.data.as_os_str().is_empty() {
        lines.push("data: \"\" is not a folder (try \"/var/lib/postbell\")".to_owned());
    }
    if config.data.starts_with("~") {
        lines.push(format!(
            "data: {:?} is not the home folder, which only a shell knows (try \"/var/lib/postbell\")",
            config.data
        ));
    }
    check_tls(&config.tls, lines);
    check_login(&config.login, lines);
    oidc::check(&config.oidc, lines);
    let can_ask = config.sources.values().any(|source| !source.master_user.is_empty());
    if config.access.shared_mailboxes && !can_ask {
        lines.push("access.shared_mailboxes: no source has a master_user, and without one no store can be asked for its ACL (set sources.<name>.master_user)".to_owned());
    }
    if config.policy.content_reference == ContentReference::UrlAuth && !can_ask {
        lines.push("policy.content_reference: no source has a master_user, and without one no store can be asked to authorise URLs (set sources.<name>.master_user)".to_owned());
    }
    // By these it is learnt that somebody lost a right.
    let policy = &config.policy;
    let is_deaf = policy.record == Record::Wanted
        || [Group::Mailbox, Group::Vendor].iter().any(|group| policy.groups_off.contains(group));
    if config.access.shared_mailboxes && is_deaf {
        lines.push("access.shared_mailboxes: needs policy.record = \"everything\", and the groups \"mailbox\" and \"vendor\" not in policy.groups_off: by those events the hub learns at once that somebody lost a right".to_owned());
    }
    for origin in config.http.allowed_origins.iter().filter(|origin| !is_origin(origin)) {
        lines.push(format!("http.allowed_origins: {origin:?} is not an origin as browsers send it: scheme, host and, unless it is the usual, port (try \"https://app.example.org\")"));
    }
    let trusted = &config.http.trusted_proxies;
    for proxy in trusted.iter().filter(|proxy| parse_network(proxy).is_none()) {
        lines.push(format!("http.trusted_proxies: {proxy:?} is neither an address nor a network of fewer than all (try \"127.0.0.1\" or \"10.0.0.0/8\")"));
    }
    check_uid_stores(&config.publish, lines);
    check_host("store.host", &config.store.host, lines);
    if !config.store.fqdn.is_empty() {
        check_host("store.fqdn", &config.store.fqdn, lines);
    }
    if config.journal.segment_size < SEGMENT_OCTETS_MIN {
        lines.push(
            "journal.segment_size: less than \"1MiB\" makes more files than sense".to_owned(),
        );
    }
    if config.journal.window_records == 0 {
        lines.push("journal.window_records: 0 would let every repeat in (try 65536)".to_owned());
    }
    for (name, value) in [
        ("http.max_connections", config.http.max_connections),
        ("http.max_streams", config.http.max_streams),
        ("webhooks.lanes", config.webhooks.lanes),
    ] {
        if value == 0 {
            lines.push(format!("{name}: 0 would let nothing through"));
        }
    }
    for (name, value) in [
        ("http.header_timeout", config.http.header_timeout),
        ("http.body_timeout", config.http.body_timeout),
        ("http.stall_timeout", config.http.stall_timeout),
        ("webhooks.timeout", config.webhooks.timeout),
    ] {
        if value.is_zero() {
            lines.push(format!("{name}: \"0s\" leaves no time at all"));
        }
    }
    if !(2..=BATCH_EVENTS_MAX).contains(&config.webhooks.batch_events) {
        lines.push(format!("webhooks.batch_events: is not from 2 to {BATCH_EVENTS_MAX} (try 500)"));
    }
    if !(BODY_OCTETS_MIN..=BATCH_OCTETS_MAX).contains(&config.webhooks.batch_octets) {
        lines.push(
            "webhooks.batch_octets: is not from \"1KiB\" to \"8MiB\" (try \"1MiB\")".to_owned(),
        );
    }
    if config.http.max_body < BODY_OCTETS_MIN {
        lines.push("http.max_body: less than \"1KiB\" holds no event".to_owned());
    }
    for (name, source) in &config.sources {
        check_source(name, source, lines);
    }
    for (name, one) in &config.webhooks.client_certificates {
        check_client_certificate(name, one, lines);
    }
    for (name, command) in &config.commands {
        check_command(name, command, config, lines);
    }
    limits::check(config, lines);
}

/// Segments smaller than this cost more in files than they give in grain.
const SEGMENT_OCTETS_MIN: u64 = 1 << 20;

/// Bodies smaller than this hold no event.
const BODY_OCTETS_MIN: u64 = 1 << 10;

/// A subscription holds no more events than about so many.
const BATCH_EVENTS_MAX: u32 = 1_000;

/// Nor more octets of them.
const BATCH_OCTETS_MAX: u64 = 8 << 20;

/// Whether a browser could send this (RFC 6454, section 6.2): every letter counts, since origins are
/// compared as they are written.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<axum::http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let is_whole = text == format!("{scheme}://{authority}");
    let is_plain = !authority.as_str().contains('@')
        && authority.as_str() == authority.as_str().to_ascii_lowercase();
    is_whole && is_plain && authority.port_u16() != Some(usual)
}

fn check_login(login: &LoginConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("login.{key}: {why}"));
    let has_ca = !login.ca.as_os_str().is_empty();
    if login.imap.is_none() {
        if !login.host.is_empty() || has_ca {
            bad("imap", "missing, as there is a host or ca (try \"127.0.0.1:143\")".to_owned());
        }
        return;
    }
    if !login.host.is_empty() && !has_ca {
        bad(
            "ca",
            "missing, as there is a host (try \"/etc/ssl/certs/ca-certificates.crt\")".to_owned(),
        );
    }
    if let Some(why) =
        not_absolute(&login.ca, "/etc/ssl/certs/ca-certificates.crt").filter(|_| has_ca)
    {
        bad("ca", why);
    }
    if login.lifetime.is_zero() || login.lifetime > LIFETIME_MAX {
        bad("lifetime", "is not between nothing and \"30d\" (try \"1h\")".to_owned());
    }
}

/// A password that was changed opens nothing for longer than this.
const LIFETIME_MAX: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

fn check_uid_stores(publish: &PublishConfig, lines: &mut Vec<String>) {
    for one in &publish.uid_stores {
        let mut bad = |why: String| lines.push(format!("publish.uid_stores: {why}"));
        if !publish.allowed_uids.contains(&one.uid) {
            bad(format!("{} is not in publish.allowed_uids", one.uid));
        }
        if one.stores.is_empty() {
            bad(format!("{} has no stores (try [\"mail.example.org\"])", one.uid));
        }
        if publish.uid_stores.iter().filter(|other| other.uid == one.uid).count() > 1 {
            bad(format!("{} is named more than once", one.uid));
        }
        if let Err(error) = Stores::of(&one.stores) {
            bad(format!("{error} (try [\"mail.example.org\"])"));
        }
    }
}

fn check_tls(tls: &TlsConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("tls.{key}: {why}"));
    let has_key = !tls.key.as_os_str().is_empty();
    match (tls.is_on(), has_key) {
        (true, false) => bad(
            "key",
            "missing, as there is a certificate (try \"/etc/postbell/tls/key.pem\")".to_owned(),
        ),
        (false, true) => bad(
            "certificate",
            "missing, as there is a key (try \"/etc/postbell/tls/chain.pem\")".to_owned(),
        ),
        (true, true) | (false, false) => {}
    }
    for (key, path, example) in [
        ("certificate", &tls.certificate, "/etc/postbell/tls/chain.pem"),
        ("key", &tls.key, "/etc/postbell/tls/key.pem"),
        ("client_ca", &tls.client_ca, "/etc/postbell/tls/clients.pem"),
        ("authorities", &tls.authorities, "/etc/postbell/tls/authorities.pem"),
    ] {
        if let Some(why) = not_absolute(path, example).filter(|_| !path.as_os_str().is_empty()) {
            bad(key, why);
        }
    }
    if !tls.is_on() && !tls.client_ca.as_os_str().is_empty() {
        bad("client_ca", "is for TLS, and there is none (set tls.certificate)".to_owned());
    }
    if tls.local_listen.is_some() && !tls.is_on() {
        bad("local_listen", "is for beside TLS, and there is none (set listen)".to_owned());
    }
}

/// The host goes into every event, so it has to be one.
fn check_host(key: &str, host: &str, lines: &mut Vec<String>) {
    let label = |label: &str| {
        let is_name = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len())
            && is_name
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.len() <= HOST_OCTETS_MAX && host.split('.').all(label),
    };
    if !good {
        lines.push(format!("{key}: {host:?} is not a host name (try \"mail.example.org\")"));
    }
}

/// The longest name the DNS has.
const HOST_OCTETS_MAX: usize = 253;

/// A source's name is part of keys on disk and of paths in the API.
fn check_source(name: &str, source: &SourceConfig, lines: &mut Vec<String>) {
    let well_formed = !name.is_empty()
        && name.len() <= SOURCE_NAME_OCTETS_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !well_formed {
        lines.push(format!(
            "sources.{name}: a name has letters, digits, '-' and '_', at most {SOURCE_NAME_OCTETS_MAX} (try [sources.mail])"
        ));
    }
    if name == crate::publish::NAME {
        lines.push(format!(
            "sources.{name}: is what programs hand in themselves, and can't be another's name (try [sources.mail])"
        ));
    }
    match source.kind {
        SourceKind::Maildir => check_maildir(name, source, lines),
        SourceKind::Dovecot => check_dovecot(name, source, lines),
        SourceKind::Cyrus => check_cyrus(name, source, lines),
    }
}

/// A command's name is a subscription's.
fn check_command(name: &str, command: &CommandConfig, config: &Config, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("commands.{name}.{key}: {why}"));
    match command.run.first() {
        None => bad("run", "missing (try [\"/usr/local/bin/index-mail\"])".to_owned()),
        Some(program) if program.is_empty() => bad("run", "\"\" is not a program".to_owned()),
        Some(_) if command.run.iter().any(|text| text.contains('\0')) => {
            bad("run", "an argument can't hold a NUL".to_owned());
        }
        Some(_) => {}
    }
    if command.timeout.is_zero() {
        bad("timeout", "\"0s\" leaves no time at all (try \"60s\")".to_owned());
    }
    if command.jobs == 0 {
        bad("jobs", "0 would let nothing through (try 1)".to_owned());
    }
    if let Err(error) = command.selection().compile(&crate::policy(&config.policy)) {
        let key = match (error.event(), error.member()) {
            (Some(event), _) => format!("parameters_of.{event}"),
            (None, "parametersOf") => "parameters_of".to_owned(),
            (None, "") => "run".to_owned(),
            (None, member) => member.to_owned(),
        };
        bad(&key, error.message);
    }
    if let Err(why) = crate::subscriptions::check_name(name) {
        lines.push(format!("commands.{name}: {why} (try [commands.index])"));
    }
}

fn check_client_certificate(name: &str, one: &ClientCertificateConfig, lines: &mut Vec<String>) {
    let path = format!("webhooks.client_certificates.{name}");
    for (key, file, example) in [
        ("certificate", &one.certificate, "/etc/postbell/partner.pem"),
        ("key", &one.key, "/etc/postbell/partner.key"),
    ] {
        if file.as_os_str().is_empty() {
            lines.push(format!("{path}.{key}: missing (try {example:?})"));
        } else if let Some(why) = not_absolute(file, example) {
            lines.push(format!("{path}.{key}: {why}"));
        }
    }
    if let Err(why) = crate::subscriptions::check_name(name) {
        lines.push(format!("{path}: {why} (try [webhooks.client_certificates.partner])"));
    }
}

fn check_dovecot(name: &str, source: &SourceConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("sources.{name}.{key}: {why}"));
    if let Some(why) = not_absolute(&source.spool, "/var/spool/postbell/dovecot") {
        bad("spool", why);
    }
    if source.separator.is_control() {
        bad("separator", format!("{:?} is no separator (try \"/\")", source.separator));
    }
    for prefix in &source.shared {
        if !prefix.contains("%u") || !prefix.ends_with(source.separator) {
            bad(
                "shared",
                format!(
                    "{prefix:?} has no %u, or doesn't end with the separator (try \"shared/%u/\")"
                ),
            );
        }
    }
    for rule in &source.expire {
        if rule.reason.is_empty() || rule.policy.is_empty() {
            bad("expire", "each rule needs reason and policy (try { reason = \"doveadm:cmd_expunge\", policy = \"trash-30d\" })".to_owned());
        }
        let mailbox = Some(&rule.mailbox).filter(|mailbox| !mailbox.is_empty());
        if let Some(Err(error)) = mailbox.map(|mailbox| mailbox.parse::<Pattern>()) {
            let text = show(&Value::String(rule.mailbox.clone()));
            bad("expire", format!("mailbox {text}: {error} (try \"Trash/%\")"));
        }
    }
    if source.annotation_window > ANNOTATION_WINDOW_MAX {
        bad(
            "annotation_window",
            "more than \"10s\" would hold everything up (try \"250ms\")".to_owned(),
        );
    }
    check_master(name, source, lines);
}

fn check_master(name: &str, source: &SourceConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("sources.{name}.{key}: {why}"));
    let has_file = !source.master_password_file.as_os_str().is_empty();
    if source.master_user.is_empty() {
        if has_file {
            bad(
                "master_user",
                "missing, though there is a password for it (try \"postbell\")".to_owned(),
            );
        }
        return;
    }
    if !has_file {
        bad(
            "master_password_file",
            "missing, as there is a master_user (try \"/etc/postbell/master\")".to_owned(),
        );
    } else if let Some(why) = not_absolute(&source.master_password_file, "/etc/postbell/master") {
        bad("master_password_file", why);
    }
    if !source.master_address.ip().is_loopback() {
        bad(
            "master_address",
            format!(
                "\"{}\" is not this machine, and the password would cross the network in clear (try \"127.0.0.1:143\")",
                source.master_address
            ),
        );
    }
}

/// Nobody waits longer for what the exporter says: by then it is lost.
const ANNOTATION_WINDOW_MAX: std::time::Duration = std::time::Duration::from_secs(10);

fn check_cyrus(name: &str, source: &SourceConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("sources.{name}.{key}: {why}"));
    let paths = [
        ("notify_spool", &source.notify_spool, "/var/spool/postbell/cyrus"),
        ("notify_socket", &source.notify_socket, "/run/postbell/cyrus/notify"),
        ("notify_stream", &source.notify_stream, "/run/postbell/cyrus/stream"),
    ];
    for (key, path, example) in paths {
        let is_socket = key != "notify_spool";
        if is_socket && path.as_os_str().is_empty() {
            continue;
        }
        if let Some(why) = not_absolute(path, example) {
            bad(key, why);
        }
        if let Some(why) = limits::too_long_for_a_socket(path, example).filter(|_| is_socket) {
            bad(key, why);
        }
    }
    let prefixes = [("userprefix", &source.userprefix), ("sharedprefix", &source.sharedprefix)];
    for (key, prefix) in prefixes {
        if prefix.is_empty() || prefix.contains(['/', '\0']) {
            bad(key, format!("{prefix:?} is no prefix of Cyrus's (try \"Other Users\")"));
        }
    }
    check_master(name, source, lines);
}

/// Why a path is wrong where it depends on the folder the hub is started in.
pub(super) fn not_absolute(path: &Path, example: &str) -> Option<String> {
    let why = || format!("{path:?} is not an absolute path (try {example:?})");
    (!path.is_absolute()).then(why)
}

fn check_maildir(name: &str, source: &SourceConfig, lines: &mut Vec<String>) {
    let root = source.root.to_string_lossy();
    if root.is_empty() {
        lines.push(format!("sources.{name}.root: missing (try \"/var/mail/%u/Maildir\")"));
    } else if let Some(why) = not_absolute(&source.root, "/var/mail/%u/Maildir") {
        lines.push(format!("sources.{name}.root: {why}"));
    }
    if root.contains("%u") && !source.user.is_empty() {
        lines.push(format!(
            "sources.{name}.user: {:?} contradicts the %u in root, which names the users",
            source.user
        ));
    }
    if !root.is_empty() && !root.contains("%u") && source.user.is_empty() {
        lines.push(format!(
            "sources.{name}.user: missing, as root has no %u to name the users by (try \"john\")"
        ));
    }
    if source.quota_storage == Some(0) {
        lines.push(format!(
            "sources.{name}.quota_storage: \"0\" would let nothing in (\"never\" sets no limit)"
        ));
    }
    if source.scan_interval < SCAN_INTERVAL_MIN {
        lines.push(format!(
            "sources.{name}.scan_interval: less than \"100ms\" would do nothing but scan (try \"60s\")"
        ));
    }
}

/// Room enough for a host name.
const SOURCE_NAME_OCTETS_MAX: usize = 64;

/// Below this, scans follow each other without a pause.
const SCAN_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_millis(100);
