//! What `doveconf -n` says, read into settings and sections.

/// Dovecot's settings that differ from its defaults, as `doveconf -n` prints them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Settings {
    /// The version on the first line.
    pub(super) version: Option<Version>,
    top: Section,
}

/// `2.3.19.1` without what comes after the third number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

/// What stands between `{` and `}`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Section {
    kind: String,
    label: String,
    values: Vec<(String, String)>,
    sections: Vec<Self>,
}

/// Another user's mailboxes, or everybody's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Namespace {
    /// `private`, `shared` or `public`.
    pub(super) kind: String,
    /// Before each mailbox's name, `%u` standing for the owner.
    pub(super) prefix: String,
    /// Between the levels of a name, where it is set.
    pub(super) separator: Option<char>,
}

impl Settings {
    /// Reads the text; what is no setting is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut open = vec![Section::default()];
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "}" {
                close(&mut open);
            } else if let Some(head) = line.strip_suffix('{') {
                open.push(headed(head.trim()));
            } else if let Some((key, value)) = line.split_once('=')
                && let Some(section) = open.last_mut()
            {
                section.values.push((key.trim().to_owned(), unquoted(value.trim())));
            }
        }
        while open.len() > 1 {
            close(&mut open);
        }
        Self { version: version(text), top: open.pop().unwrap_or_default() }
    }

    /// A setting outside all sections.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.top.value(key)
    }

    /// A setting of `plugin { }`.
    pub(super) fn plugin(&self, key: &str) -> Option<&str> {
        self.top.of("plugin", "").find_map(|section| section.value(key))
    }

    /// All settings of `plugin { }`.
    pub(super) fn plugins(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.top.of("plugin", "").flat_map(|section| &section.values);
        values.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The namespaces.
    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        let sections = self.top.sections.iter().filter(|section| section.kind == "namespace");
        sections
            .map(|section| Namespace {
                kind: section.value("type").unwrap_or("private").to_owned(),
                // Doubled, because Dovecot fills it in twice.
                prefix: section.value("prefix").unwrap_or_default().replace("%%", "%"),
                separator: section.value("separator").and_then(|text| text.chars().next()),
            })
            .collect()
    }

    /// The port of IMAP without TLS; `None` where it is switched off.
    pub(super) fn imap_port(&self) -> Option<u16> {
        let listeners = self.top.of("service", "imap-login");
        let port = listeners
            .flat_map(|service| service.of("inet_listener", "imap"))
            .find_map(|listener| listener.value("port"));
        match port {
            None => Some(IMAP_PORT),
            Some(text) => text.parse().ok().filter(|port| *port != 0),
        }
    }

    /// Whether IMAP sessions that idle are taken from their processes.
    pub(super) fn hibernates(&self) -> bool {
        let imap = self.top.of("protocol", "imap").filter_map(|section| section.value(HIBERNATE));
        imap.chain(self.value(HIBERNATE))
            .any(|timeout| timeout.starts_with(|digit| matches!(digit, '1'..='9')))
    }

    /// Whether some `passdb` is for master users.
    pub(super) fn has_masters(&self) -> bool {
        let mut passdbs = self.top.sections.iter().filter(|section| section.kind == "passdb");
        passdbs.any(|passdb| passdb.value("master") == Some("yes"))
    }
}

impl Section {
    fn value(&self, key: &str) -> Option<&str> {
        // The last one counts.
        self.values.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn of(&self, kind: &str, label: &str) -> impl Iterator<Item = &Self> {
        self.sections.iter().filter(move |one| one.kind == kind && one.label == label)
    }
}

/// `service imap-login`: the word, and what it is called.
fn headed(head: &str) -> Section {
    let (kind, label) = head.split_once(' ').unwrap_or((head, ""));
    Section { kind: kind.to_owned(), label: unquoted(label.trim()), ..Section::default() }
}

fn close(open: &mut Vec<Section>) {
    if open.len() > 1
        && let Some(done) = open.pop()
        && let Some(outer) = open.last_mut()
    {
        outer.sections.push(done);
    }
}

fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.map_or_else(|| text.to_owned(), |text| text.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// From `# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf`.
fn version(text: &str) -> Option<Version> {
    let word = text.lines().next()?.strip_prefix("# ")?.split_whitespace().next()?;
    let mut numbers = word.split(['.', '-', '~', '+']).map_while(|part| part.parse().ok());
    Some(Version(numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

/// Dovecot prints only what differs from it.
const IMAP_PORT: u16 = 143;

/// How long a session idles before it hibernates; 0 for never.
const HIBERNATE: &str = "imap_hibernate_timeout";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A usual configuration with a little of everything.
    pub(crate) const SAMPLE: &str = r#"# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
# OS: Linux 6.1.0 x86_64 Debian 12.11
# Hostname: mail.example.org
auth_master_user_separator = *
mail_location = maildir:~/Maildir
mail_plugins = " quota"
namespace inbox {
  inbox = yes
  location = 
  mailbox "Sent Messages" {
    special_use = \Sent
  }
  prefix = 
  separator = /
}
namespace shared {
  prefix = shared/%%u/
  separator = /
  type = shared
}
passdb {
  args = /etc/dovecot/masters
  driver = passwd-file
  master = yes
}
plugin {
  quota = count:User quota
}
service imap-login {
  inet_listener imap {
    port = 21143
  }
  inet_listener imaps {
    port = 0
  }
}
protocol lmtp {
  mail_plugins = sieve
}
protocol imap {
  mail_plugins = " quota imap_quota"
}
"#;

    #[test]
    fn what_doveconf_prints_is_read() {
        let settings = Settings::parse(SAMPLE);
        assert_eq!(settings.version, Some(Version(2, 3, 19)));
        assert_eq!(settings.value("mail_plugins"), Some(" quota"));
        assert_eq!(settings.plugin("quota"), Some("count:User quota"));
        assert_eq!(settings.imap_port(), Some(21143));
        assert!(settings.has_masters());
        let namespaces = settings.namespaces();
        assert_eq!(namespaces[1].kind, "shared");
        assert_eq!(
            (namespaces[1].prefix.as_str(), namespaces[1].separator),
            ("shared/%u/", Some('/'))
        );
    }

    #[test]
    fn what_is_not_set_is_dovecots_default() {
        let settings = Settings::parse("# 2.3.21 (x): /etc/dovecot/dovecot.conf\n");
        assert_eq!(settings.imap_port(), Some(143));
        assert_eq!(settings.plugin("mail_lua_script"), None);
        assert!(!settings.has_masters() && settings.namespaces().is_empty());
    }

    #[test]
    fn a_torn_or_foreign_text_is_no_trouble() {
        for text in ["", "}", "{", "a {\nb {\nc = \"", "= =", "# ", "# x.y", "plugin {\n}\n}\n}"] {
            assert_eq!(Settings::parse(text).version, None, "{text:?}");
        }
        assert_eq!(
            Settings::parse("# 2.4.0-1+deb13 (x): y").version,
            Some(Version(2, 4, 0)),
            "a suffix is no number"
        );
    }

    #[test]
    fn sessions_hibernate_after_a_time_that_is_not_0() {
        let hibernates = |text: &str| Settings::parse(text).hibernates();
        assert!(hibernates("imap_hibernate_timeout = 30 secs\n"));
        assert!(hibernates("protocol imap {\n  imap_hibernate_timeout = 1 mins\n}\n"));
        assert!(!hibernates("imap_hibernate_timeout = 0\n") && !hibernates(SAMPLE));
    }

    #[test]
    fn a_port_of_0_is_none() {
        let text = "service imap-login {\n inet_listener imap {\n port = 0\n }\n}\n";
        assert_eq!(Settings::parse(text).imap_port(), None);
    }
}
