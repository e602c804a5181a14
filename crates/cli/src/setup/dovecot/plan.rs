//! What is told of a Dovecot before it is done.

use std::path::Path;

use postbell_sources::dovecot::DEMAND_FILE;

use super::super::apply::Change;
use super::super::own;
use super::super::told::{Report, Words};
use super::doveconf::Version;
use super::facts::Found;
use super::programs::Session;
use super::render::{self, Source};

/// Of a server that was looked at.
pub(super) fn report(found: &Found, is_full: bool) -> Report {
    let version = found.facts.settings.version;
    let version = version.map(|Version(a, b, c)| format!("{a}.{b}.{c}")).unwrap_or_default();
    let mut report = bare(&found.facts.main);
    (report.version, report.is_full) = (version, is_full);
    report
}

/// Of a server that nothing was asked of.
pub(super) fn bare(main: &Path) -> Report {
    Report::bare(WORDS, main)
}

/// Puts in what will be done.
pub(super) fn put(
    report: &mut Report,
    found: &Found,
    user: &str,
    changes: &[Change],
    before: &Session,
) {
    let facts = &found.facts;
    let namespaces = facts.settings.namespaces();
    let separator = before
        .separator
        .or_else(|| namespaces.iter().find_map(|namespace| namespace.separator))
        .unwrap_or('.');
    let shared: Vec<String> = namespaces
        .iter()
        .filter(|namespace| namespace.kind == "shared")
        .map(|namespace| namespace.prefix.clone())
        .collect();
    report.notes.push(format!(
        "{user} can be logged in; the levels of a mailbox's name are divided by {separator:?}"
    ));
    report
        .notes
        .extend(shared.iter().map(|prefix| format!("other users' mailboxes are below {prefix:?}")));
    report.notes.push(match &facts.exporter {
        Some(exporter) => format!("Dovecot's exporter posts what the script can't know to {}", exporter.address),
        None => "without the exporter there are no reasons, no envelopes, no refusals for want of quota, and no Logins unless your userdb says the port (see docs/dovecot.md)".to_owned(),
    });
    if facts.exporter.is_none() && facts.settings.hibernates() {
        report.notes.push("imap_hibernate_timeout is set: without the exporter a session that hibernates is told as logged out".to_owned());
    }
    if let Some(port) = facts.settings.imap_port().filter(|_| facts.settings.has_masters()) {
        let master = facts.settings.value("auth_master_user_separator").unwrap_or_default();
        report.notes.push(match master {
            "" => "there are master users, but auth_master_user_separator is not set, so that none can log in as somebody".to_owned(),
            separator => format!("a master user could log in at port {port} as user{separator}master (see docs/dovecot.md)"),
        });
    }
    let spool = &facts.places.spool;
    if facts.reads_demand {
        report.notes.push(format!(
            "the script goes by what is wanted, as the hub writes it into {}",
            spool.join(DEMAND_FILE).display()
        ));
    }
    report.folder(
        spool,
        "the folder through which lines are handed over: mail users put theirs in, only the hub reads",
    );
    let secret = facts.exporter.as_ref().map(|exporter| exporter.secret.as_str());
    changes.iter().for_each(|change| report.file(change, about(found, change), secret));
    report.source = render::source(&Source {
        name: found.source.clone(),
        spool: spool.display().to_string(),
        separator,
        shared,
    });
    report
        .next
        .push("doveadm reload (sessions that are open now stay unseen until they end)".to_owned());
    report.next.push(own::restart(&found.config, &found.source));
    report.next.push("postbell doctor".to_owned());
}

fn about(found: &Found, change: &Change) -> &'static str {
    let places = &found.facts.places;
    if change.path == places.script {
        "the script that each session runs: it writes one line for each change, and never fails a session"
    } else if change.path == places.exporter {
        "has Dovecot's exporter post to the hub; its secret is for root only"
    } else if change.new.is_some() {
        "loads the script; this is what takes effect at the next reload"
    } else {
        "of an earlier run"
    }
}

const WORDS: Words = Words {
    software: "Dovecot",
    files: "Nothing of Dovecot's own files changes. These are postbell's:",
    done: "✓ Done, and a login went well with it. Now:",
};
