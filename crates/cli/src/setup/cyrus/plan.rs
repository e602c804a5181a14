//! What is told of a Cyrus before it is done.

use std::path::Path;

use super::super::apply::Change;
use super::super::own;
use super::super::told::{Report, Words};
use super::facts::Found;
use super::{decide, render};

/// Of a server that was looked at.
pub(super) fn report(found: &Found, is_full: bool) -> Report {
    let version = found.facts.version.clone();
    let mut report = bare(&found.facts.main);
    (report.version, report.is_full) = (version, is_full);
    report
}

/// Of a server that nothing was asked of.
pub(super) fn bare(main: &Path) -> Report {
    Report::bare(WORDS, main)
}

/// Puts in what will be done.
pub(super) fn put(report: &mut Report, found: &Found, changes: &[Change]) {
    let facts = &found.facts;
    let places = &facts.places;
    report.notes.extend(decide::notes(facts));
    report.folder(
        &places.spool,
        "the folder through which postbell notifyd hands over what Cyrus says",
    );
    changes.iter().for_each(|change| report.file(change, about(found, change), None));
    report.source = render::source(facts, &found.source, &found.server);
    let (socket, service) =
        (render::unit(&found.source, "socket"), render::unit(&found.source, "service"));
    report.next.push(own::restart(&found.config, &found.source));
    // Whoever reads the socket has to be there before Cyrus sends to it.
    if places.units.is_some() {
        report
            .next
            .push(format!("systemctl daemon-reload && systemctl enable --now {socket} {service}"));
    } else {
        let folder = places.socket.parent().unwrap_or_else(|| Path::new("/"));
        report.next.push(format!(
            "have a service of yours run {} as {}, in a group that Cyrus's account {} is in, with {} there for it to make its socket in",
            render::notifyd(found),
            own::account_name(found.hub.uid),
            found.server,
            folder.display()
        ));
    }
    report
        .next
        .push("restart Cyrus (processes that run now stay unseen until they end)".to_owned());
    report.next.push("log in once, as anybody: postbell tail shows it".to_owned());
    report.next.push("postbell doctor".to_owned());
}

fn about(found: &Found, change: &Change) -> &'static str {
    let places = &found.facts.places;
    let is = |extension: &str| change.path.extension().is_some_and(|one| one == extension);
    if change.path == places.own {
        "the settings that have Cyrus tell"
    } else if is("socket") {
        "holds the socket, so that nothing is lost while its reader is started again"
    } else if is("service") {
        "runs postbell notifyd, which takes what Cyrus says"
    } else {
        "includes them; this is what takes effect, in each of Cyrus's processes that begins after"
    }
}

const WORDS: Words = Words {
    software: "Cyrus",
    files: "Of Cyrus's own files only imapd.conf changes, as shown below. The others are postbell's:",
    done: "✓ Done, and Cyrus reads it. Whether an event comes shows the first login. Now:",
};
