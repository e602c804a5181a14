//! Values that can be read and make no sense: too little, too much, or in each other's way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_event::limits::EVENT_OCTETS_MAX;

use postbell_sinks::collector::Endpoint;

use super::{Config, SourceConfig, SourceKind, TracesConfig};

/// Adds a line for each.
pub(super) fn check(config: &Config, lines: &mut Vec<String>) {
    // What is empty or begins with "~" is told of already.
    let is_told = config.data.as_os_str().is_empty() || config.data.starts_with("~");
    if config.data.is_relative() && !is_told {
        lines.push(format!(
            "data: {:?} is not an absolute path, and would be another folder wherever the hub is started (try \"/var/lib/postbell\")",
            config.data
        ));
    }
    if config.policy.content_max_octets.is_some_and(|octets| octets > EVENT_OCTETS_MAX as u64) {
        lines.push("policy.content_max_octets: more than \"16MiB\" is more than an event holds (try \"64KiB\")".to_owned());
    }
    let lifetime = config.policy.content_link_lifetime;
    if !(LINK_LIFETIME_MIN..=LINK_LIFETIME_MAX).contains(&lifetime) {
        lines.push(
            "policy.content_link_lifetime: not between \"1s\" and \"30d\" (try \"24h\")".to_owned(),
        );
    }
    let url = &config.http.public_url;
    let is_url = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
    if !(url.is_empty() || is_url && url.bytes().all(is_plain)) {
        lines.push(format!(
            "http.public_url: {url:?} is not a URL (try \"https://postbell.example.org\")"
        ));
    }
    for (name, role) in [("service", &config.policy.service), ("user", &config.policy.user)] {
        let max = EVENT_OCTETS_MAX as u64;
        if role.content_max_octets.is_some_and(|octets| octets > max) {
            lines.push(format!("policy.{name}.content_max_octets: more than \"16MiB\" is more than an event holds (try \"16KiB\")"));
        }
        if !(EVENT_OCTETS_MIN..=max).contains(&role.event_max_octets) {
            lines.push(format!(
                "policy.{name}.event_max_octets: not between \"1KiB\" and \"16MiB\" (try \"64KiB\")"
            ));
        }
    }
    check_sources(&config.sources, lines);
    check_socket(config, lines);
    check_traces(&config.traces, lines);
    let journal = &config.journal;
    if !journal.checkpoint_file.as_os_str().is_empty() && !journal.checkpoint_file.is_absolute() {
        lines.push("journal.checkpoint_file: is not an absolute path (try \"/mnt/elsewhere/postbell.checkpoints\")".to_owned());
    }
    if journal.checkpoint_interval < CHECKPOINT_INTERVAL_MIN {
        lines.push(
            "journal.checkpoint_interval: less than \"1s\" would fill the file (try \"10m\")"
                .to_owned(),
        );
    }
    if journal.retention_age.is_some_and(|age| age < RETENTION_AGE_MIN) {
        lines.push("journal.retention_age: less than \"1m\" would drop records before they are delivered (try \"30d\")".to_owned());
    }
    if journal.retention_size.is_some_and(|octets| octets < journal.segment_size) {
        lines.push("journal.retention_size: less than journal.segment_size, and only whole segments are dropped (try \"10GiB\")".to_owned());
    }
    if journal.window_records > WINDOW_RECORDS_MAX {
        lines.push(format!(
            "journal.window_records: more than {WINDOW_RECORDS_MAX} would fill the memory with ids (try 65536)"
        ));
    }
    if config.http.max_body > BODY_OCTETS_MAX {
        lines.push(
            "http.max_body: more than \"256MiB\" lets one request fill the memory (try \"16MiB\")"
                .to_owned(),
        );
    }
}

/// What was told of one source would be told of the other again.
fn check_sources(sources: &BTreeMap<String, SourceConfig>, lines: &mut Vec<String>) {
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (name, source) in sources {
        let (key, place) = match source.kind {
            SourceKind::Maildir => ("root", &source.root),
            SourceKind::Dovecot => ("spool", &source.spool),
            SourceKind::Cyrus => ("notify_spool", &source.notify_spool),
        };
        if place.as_os_str().is_empty() {
            continue;
        }
        // Written with one slash or two, it is the same folder.
        let place: PathBuf = place.components().collect();
        if let Some(other) = seen.get(&place) {
            lines.push(format!(
                "sources.{name}.{key}: {place:?} is what sources.{other} follows already, and every event would be told twice"
            ));
        } else {
            seen.insert(place, name);
        }
        if source.kind == SourceKind::Maildir {
            check_pattern(name, &source.root, lines);
        }
    }
}

/// Of what other programs have in such patterns, only `%u` means something here.
fn check_pattern(name: &str, root: &Path, lines: &mut Vec<String>) {
    let root = root.to_string_lossy();
    let mut marks = root.split('%').skip(1).filter_map(|rest| rest.chars().next());
    let foreign = marks.find(|mark| mark.is_ascii_alphabetic() && *mark != 'u');
    if let Some(foreign) = foreign {
        lines.push(format!(
            "sources.{name}.root: %{foreign} stands for nothing here, only %u does (try \"/var/mail/%u/Maildir\")"
        ));
    }
    if root.matches("%u").count() > 1 {
        lines.push(format!(
            "sources.{name}.root: {root:?} has %u more than once (try \"/var/mail/%u/Maildir\")"
        ));
    }
}

fn check_socket(config: &Config, lines: &mut Vec<String>) {
    let Some(path) = config.publish_socket() else { return };
    if let Some(why) = too_long_for_a_socket(&path, "/run/postbell/publish.sock") {
        lines.push(format!("publish.socket: {why}"));
    }
}

fn check_traces(traces: &TracesConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: String| lines.push(format!("traces.{key}: {why}"));
    let endpoint = &traces.endpoint;
    if let Some(why) = Endpoint::parse(endpoint).err().filter(|_| !endpoint.is_empty()) {
        bad("endpoint", format!("{endpoint:?} {why} (try \"http://127.0.0.1:4318/v1/traces\")"));
    }
    let file = &traces.headers_file;
    if !file.as_os_str().is_empty() && !file.is_absolute() {
        bad(
            "headers_file",
            format!("{file:?} is not an absolute path (try \"/etc/postbell/collector\")"),
        );
    }
    if !(0.0..=1.0).contains(&traces.share) {
        bad("share", format!("{:?} is not from 0.0 to 1.0 (try 0.01)", traces.share));
    }
    if traces.service_name.is_empty() {
        bad("service_name", "\"\" is no name (try \"postbell\")".to_owned());
    }
}

/// Why no socket can have this path, if it is for that.
pub(super) fn too_long_for_a_socket(path: &Path, example: &str) -> Option<String> {
    let octets = path.as_os_str().len();
    let why = || {
        format!(
            "{path:?} has {octets} octets, and the path of a socket at most {SOCKET_PATH_OCTETS_MAX} (try {example:?})"
        )
    };
    (octets > SOCKET_PATH_OCTETS_MAX).then(why)
}

/// Below, signed checkpoints would be most of what is written.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Linux' `sun_path` without the zero at its end.
const SOCKET_PATH_OCTETS_MAX: usize = 107;

/// Below this, a subscriber that is started anew finds nothing left.
const RETENTION_AGE_MIN: Duration = Duration::from_secs(60);

/// Each costs some 50 octets of memory.
const WINDOW_RECORDS_MAX: u32 = 16 << 20;

/// Shorter, it is over before anybody can follow it.
const LINK_LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Longer, it is no link that expires.
const LINK_LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Less holds hardly what must stand on every event.
const EVENT_OCTETS_MIN: u64 = 1 << 10;

/// A body is held in memory, and 100 000 events, the most in one, are far smaller.
const BODY_OCTETS_MAX: u64 = 256 << 20;
