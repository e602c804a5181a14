//! The files we write for Dovecot, and the lines for our own configuration.

use super::decide::{Exporter, Facts, PLUGINS, Places};
use super::order::Placement;

/// The script, as it is in `integrations/dovecot`.
pub(super) const SCRIPT: &str = include_str!("../../../../../integrations/dovecot/postbell.lua");

/// What an operator would fill in by hand; its parts are filled in here.
const TEMPLATE: &str = include_str!("../../../../../integrations/dovecot/99-postbell.conf");

/// On the first line of each file that may be taken away again.
pub(super) const MARK: &str = "Written by `postbell setup dovecot`";

/// The snippet that Dovecot's configuration includes, with our files at these places.
pub(super) fn snippet(facts: &Facts, places: &Places, placement: &Placement) -> String {
    let plugins = PLUGINS.join(" ");
    let mut text = format!(
        "# {MARK}; taken away by `postbell setup dovecot --remove`.\n\
         # postbell follows what happens in this server's mailboxes. Nothing else changes.\n\n\
         # mail_lua belongs with push_notification_lua: without it every login fails.\n\
         mail_plugins = $mail_plugins {plugins}\n"
    );
    for section in &placement.sections {
        text.push_str(&format!("{section} {{\n  mail_plugins = $mail_plugins {plugins}\n}}\n"));
    }
    text.push('\n');
    text.push_str(&plugin_part(TEMPLATE, places));
    if facts.reads_demand {
        text.push_str(READS_DEMAND);
    }
    if facts.exporter.is_some() {
        text.push_str(&format!(
            "\n# In a file of its own, because it holds a secret.\n!include_try {}\n",
            places.exporter.display()
        ));
    }
    text
}

/// The part that has Dovecot's exporter post to the hub.
pub(super) fn exporter(exporter: &Exporter) -> String {
    let Exporter { address, source, secret } = exporter;
    let part = TEMPLATE.find(EXPORTER_BEGINS).and_then(|at| TEMPLATE.get(at..));
    let url = format!("http://{address}/v1/dovecot/{source}/{secret}");
    format!(
        "# {MARK}. Whoever reads it may post to postbell.\n\n{}",
        part.unwrap_or_default().replace("@EXPORTER@", &url)
    )
}

/// `plugin { }`, filled in.
fn plugin_part(template: &str, places: &Places) -> String {
    let mut part = String::new();
    let lines = template.lines().skip_while(|line| *line != "plugin {");
    for line in lines {
        part.push_str(line);
        part.push('\n');
        if line == "}" {
            break;
        }
    }
    part.replace("@SCRIPT@", &places.script.display().to_string())
        .replace("@SPOOL@", &places.spool.display().to_string())
}

/// What postbell's own configuration wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// Its name.
    pub(super) name: String,
    /// Where the script writes to.
    pub(super) spool: String,
    /// Between the levels of a mailbox's name.
    pub(super) separator: char,
    /// Prefixes of other users' mailboxes.
    pub(super) shared: Vec<String>,
}

/// The table for postbell's own configuration.
pub(super) fn source(source: &Source) -> String {
    let Source { name, spool, separator, shared } = source;
    let mut text = format!(
        "[sources.{name}]\nkind = \"dovecot\"\nspool = {spool:?}\nseparator = {:?}\n",
        separator.to_string()
    );
    if !shared.is_empty() {
        text.push_str(&format!("shared = {shared:?}\n"));
    }
    text
}

const EXPORTER_BEGINS: &str = "event_exporter postbell {";

const READS_DEMAND: &str = "
# What nobody wants to hear of is not told: the hub says what that is in a file of its own there.
plugin {
  postbell_demand = yes
}
";

#[cfg(test)]
mod tests {
    use super::super::decide::tests::{SNIPPET, exporter as some_exporter, facts, places};
    use super::super::doveconf::tests::SAMPLE;
    use super::*;

    #[test]
    fn the_files_are_these() {
        let placement = Placement {
            snippet: SNIPPET.into(),
            sections: vec!["protocol imap".to_owned(), "protocol lmtp".to_owned()],
        };
        let source = source(&Source {
            name: "dovecot".to_owned(),
            spool: "/var/spool/postbell/dovecot".to_owned(),
            separator: '/',
            shared: vec!["shared/%u/".to_owned()],
        });
        let facts = facts(SAMPLE);
        let snippet = snippet(&facts, &places(), &placement);
        let exporter = exporter(&some_exporter());
        assert!(!snippet.contains('@') && !exporter.contains('@'), "something is not filled in");
        let secret = some_exporter().secret;
        insta::assert_snapshot!(
            format!("{snippet}\n=====\n{exporter}\n=====\n{source}").replace(&secret, "SECRET")
        );
    }

    #[test]
    fn the_plugins_are_those_of_the_template() {
        assert!(TEMPLATE.contains(&format!("mail_plugins = $mail_plugins {}", PLUGINS.join(" "))));
    }

    #[test]
    fn without_an_exporter_no_secret_is_asked_for() {
        let placement = Placement { snippet: SNIPPET.into(), sections: Vec::new() };
        let facts = Facts { exporter: None, ..facts(SAMPLE) };
        let snippet = snippet(&facts, &places(), &placement);
        assert!(!snippet.contains("include") && !snippet.contains("postbell_demand"));
        let facts = Facts { reads_demand: true, ..facts };
        assert!(super::snippet(&facts, &places(), &placement).contains("postbell_demand = yes"));
    }
}
