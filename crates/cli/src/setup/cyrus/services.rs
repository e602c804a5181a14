//! `cyrus.conf`: which programs the master starts, and where they listen.

use std::path::Path;

/// One line of `SERVICES` or `DAEMON`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Service {
    /// What it is called.
    pub(super) name: String,
    /// The command line.
    command: String,
    /// Where it listens.
    pub(super) listen: String,
}

impl Service {
    /// The program without its folder.
    pub(super) fn program(&self) -> &str {
        let first = self.command.split_whitespace().next().unwrap_or_default();
        first.rsplit('/').next().unwrap_or_default()
    }

    /// Another `imapd.conf` than the usual, if it reads one.
    pub(super) fn other_conf(&self) -> Option<&Path> {
        let mut words = self.command.split_whitespace();
        words.find(|word| *word == "-C")?;
        words.next().map(Path::new)
    }
}

/// The services of a `cyrus.conf`.
pub(super) fn parse(text: &str) -> Vec<Service> {
    let mut found = Vec::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(section) = line.strip_suffix('{') {
            is_open = matches!(section.trim(), "SERVICES" | "DAEMON");
        } else if line == "}" {
            is_open = false;
        } else if let Some((name, rest)) = line.split_once(char::is_whitespace).filter(|_| is_open)
        {
            let value = |key: &str| value(rest, key).unwrap_or_default().to_owned();
            let (command, listen) = (value("cmd"), value("listen"));
            found.push(Service { name: name.to_owned(), command, listen });
        }
    }
    found
}

/// Of `key="value"` or `key=value`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let begin = line.match_indices(key).find_map(|(at, _)| {
        let before = line.get(..at)?.chars().next_back();
        let rest = line.get(at + key.len()..)?.trim_start().strip_prefix('=')?;
        before.is_none_or(char::is_whitespace).then(|| rest.trim_start())
    })?;
    match begin.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => begin.split_whitespace().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_file_is_read() {
        let text = "START {\n recover cmd=\"/usr/sbin/cyrus ctl_cyrusdb -r\"\n}\nSERVICES {\n\
            \t#imaps cmd=\"imapd -s\" listen=\"imaps\"\n\
            \timap\t\tcmd=\"imapd -U 30\" listen=\"imap\" prefork=0\n\
            \tsilent cmd=\"/usr/lib/cyrus/bin/imapd -C /etc/silent.conf\" listen=1143\n\
            \tnotify cmd=\"notifyd\" listen=\"/run/cyrus/socket/notify\" proto=\"udp\"\n}\n\
            EVENTS {\n checkpoint cmd=\"ctl_cyrusdb -c\" period=30\n}\n";
        let found = parse(text);
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.program(), one.listen.as_str(), one.other_conf()))
            .collect();
        assert_eq!(
            shown,
            [
                ("imap", "imapd", "imap", None),
                ("silent", "imapd", "1143", Some(Path::new("/etc/silent.conf"))),
                ("notify", "notifyd", "/run/cyrus/socket/notify", None),
            ]
        );
    }
}
