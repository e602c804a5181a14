//! The whole configuration as commented TOML and as a page of the manual.

use toml::Value;

use super::keys::{self, Section};
use super::{ClientCertificateConfig, CommandConfig, Config, SourceConfig, SourceKind};

/// See [`Config::print`].
pub(super) fn toml(config: &Config) -> String {
    let now = as_value(config);
    let default = as_value(&with_examples());
    let mut out = String::from("# postbell.toml: every key, its value, and why.\n");
    for section in keys::SECTIONS {
        if section.path == "commands.*" {
            for name in config.commands.keys() {
                let path = format!("commands.{name}");
                print_section(&mut out, section, &path, &now, &default, "");
            }
            if config.commands.is_empty() {
                print_section(&mut out, section, "commands.index", &default, &default, "# ");
            }
            continue;
        }
        if section.path == CERTIFICATES {
            for name in config.webhooks.client_certificates.keys() {
                let path = CERTIFICATES.replace('*', name);
                print_section(&mut out, section, &path, &now, &default, "");
            }
            if config.webhooks.client_certificates.is_empty() {
                let path = example(CERTIFICATES);
                print_section(&mut out, section, &path, &default, &default, "# ");
            }
            continue;
        }
        if section.path != "sources.*" {
            print_section(&mut out, section, section.path, &now, &default, "");
            continue;
        }
        // All that is said of a source stands together; below its first section.
        if !section.kinds.is_empty() {
            continue;
        }
        for (name, source) in &config.sources {
            let path = format!("sources.{name}");
            for section in sections_of(source.kind) {
                print_section(&mut out, section, &path, &now, &default, "");
            }
        }
        if config.sources.is_empty() {
            for section in sections_of(SourceConfig::default().kind) {
                print_section(&mut out, section, "sources.mail", &default, &default, "# ");
            }
        }
    }
    out
}

/// The sections of a kind of source.
fn sections_of(kind: SourceKind) -> impl Iterator<Item = &'static Section> {
    let of_sources = keys::SECTIONS.iter().filter(|section| section.path == "sources.*");
    of_sources.filter(move |section| section.kinds.is_empty() || section.kinds.contains(&kind))
}

/// One table; `hide` comments its lines out.
fn print_section(
    out: &mut String,
    section: &Section,
    path: &str,
    now: &Value,
    default: &Value,
    hide: &str,
) {
    out.push_str(&format!("\n# {}\n", section.about));
    if !path.is_empty() && section.kinds.is_empty() {
        out.push_str(&format!("{hide}[{path}]\n"));
    }
    for key in section.keys {
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        let full = match section.path.ends_with('*') {
            true => key.path.replace(section.path, path),
            false => key.path.to_owned(),
        };
        let value = look_up(now, &full);
        let usual = look_up(default, &example(key.path));
        let note = if value == usual || MUST_BE_GIVEN.contains(&key.path) {
            String::new()
        } else {
            format!(" Default: {usual}")
        };
        out.push_str(&format!("# {}{note}\n{hide}{name} = {value}\n", key.reason));
    }
}

/// `docs/config.md`, made from the table of keys.
#[must_use]
pub fn markdown() -> String {
    let default = as_value(&with_examples());
    let mut out = String::from(PREFACE);
    for section in keys::SECTIONS {
        let title = match section.path {
            "" => "The top".to_owned(),
            "sources.*" if section.kinds.is_empty() => "`[sources.<name>]`".to_owned(),
            "commands.*" => "`[commands.<name>]`".to_owned(),
            CERTIFICATES => "`[webhooks.client_certificates.<name>]`".to_owned(),
            "sources.*" => {
                let kinds: Vec<_> = section
                    .kinds
                    .iter()
                    .map(|kind| format!("`kind = \"{}\"`", kind.as_str()))
                    .collect();
                format!("`[sources.<name>]` with {}", kinds.join(" or "))
            }
            path => format!("`[{path}]`"),
        };
        out.push_str(&format!(
            "\n## {title}\n\n{}\n\n| key | default | why |\n|---|---|---|\n",
            section.about
        ));
        for key in section.keys {
            let name = key.path.rsplit('.').next().unwrap_or(key.path);
            let value = if MUST_BE_GIVEN.contains(&key.path) {
                "none, must be given".to_owned()
            } else {
                format!("`{}`", look_up(&default, &example(key.path)))
            };
            out.push_str(&format!("| `{name}` | {value} | {} |\n", key.reason));
        }
    }
    out
}

const PREFACE: &str = "# Configuration\n
One TOML file, given with `postbell serve --config postbell.toml`. Every key has a default, so the file may be empty
or absent. `postbell config print` shows the whole of it with your values; `postbell config check` names each mistake
on a line of its own:\n
```text
postbell.toml: sources.mail.scan_interval: \"5 parsecs\" is not a duration (try \"60s\")
postbell.toml: journal.retension_age: no such key (did you mean journal.retention_age?)
```\n
Durations are written `\"250ms\"`, `\"60s\"`, `\"5m\"`, `\"2h\"`, `\"30d\"`; sizes `\"64KiB\"`, `\"16MiB\"`, `\"1GiB\"`.\n
This page is made from the table the program itself reads by (`crates/hub/src/config/keys.rs`).\n";

/// Keys without a default.
const MUST_BE_GIVEN: [&str; 4] = [
    "sources.*.root",
    "commands.*.run",
    "webhooks.client_certificates.*.certificate",
    "webhooks.client_certificates.*.key",
];

/// Where certificates that receivers are shown stand.
const CERTIFICATES: &str = "webhooks.client_certificates.*";

/// Where a key stands in [`with_examples`].
pub(super) fn example(path: &str) -> String {
    path.replace("sources.*", "sources.mail")
        .replace("commands.*", "commands.index")
        .replace(CERTIFICATES, "webhooks.client_certificates.partner")
}

/// The defaults, with a source, a command and a certificate so that their defaults have a place.
pub(super) fn with_examples() -> Config {
    let mut config = Config::default();
    let source = SourceConfig { root: "/var/mail/%u/Maildir".into(), ..SourceConfig::default() };
    config.sources.insert("mail".to_owned(), source);
    let run = vec!["/usr/local/bin/index-mail".to_owned()];
    let command = CommandConfig { run, ..CommandConfig::default() };
    config.commands.insert("index".to_owned(), command);
    let certificate = ClientCertificateConfig {
        certificate: "/etc/postbell/partner.pem".into(),
        key: "/etc/postbell/partner.key".into(),
        services: Vec::new(),
    };
    config.webhooks.client_certificates.insert("partner".to_owned(), certificate);
    config
}

/// The configuration as a tree; an empty one where a path is not UTF-8.
fn as_value(config: &Config) -> Value {
    Value::try_from(config).unwrap_or_else(|_| Value::Table(toml::Table::new()))
}

/// The value at a path, as TOML.
fn look_up(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |at, name| at.get(name));
    found.map(Value::to_string).unwrap_or_default()
}
