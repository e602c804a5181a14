//! The files we write for Cyrus and systemd, and the lines for our own configuration.

use std::path::Path;

use super::super::apply::{Change, at};
use super::super::own;
use super::facts::{Facts, Found};
use super::{decide, imapd};

/// What is to be written, in this order: a running Cyrus reads `imapd.conf` whenever one of its
/// processes begins, and doesn't go on where a file that is included is missing.
pub(super) fn changes(found: &Found) -> anyhow::Result<Vec<Change>> {
    let facts = &found.facts;
    let mut changes = Vec::new();
    if let Some(folder) = &facts.places.units {
        for (kind, text) in [("socket", socket_unit(found)), ("service", service_unit(found))] {
            let path = folder.join(unit(&found.source, kind));
            changes.push(Change::ours(&path, Some(text), 0o644)?);
        }
    }
    changes.push(Change::ours(&facts.places.own, Some(own_file(facts)), 0o644)?);
    let old = std::fs::read_to_string(&facts.main).map_err(|error| at(&facts.main, &error))?;
    // Where it is there already, it stays where it is.
    let new = match old == facts.text {
        true => with_line(&facts.text, facts.aside, &facts.places.own),
        false => old.clone(),
    };
    let main = Change::theirs(&facts.main, old, new);
    changes.push(main.map_err(|error| at(&facts.main, &error))?);
    Ok(changes)
}

/// The settings that `imapd.conf` includes.
pub(super) fn own_file(facts: &Facts) -> String {
    let mut text = format!("# {MARK}; taken away by `postbell setup cyrus --remove`.\n");
    for (key, value) in decide::settings(facts) {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text
}

/// `imapd.conf` with our line at its end, and with the line `aside` set aside.
pub(super) fn with_line(text: &str, aside: Option<usize>, own: &Path) -> String {
    let mark = |(at, line): (usize, &str)| match aside == Some(at + 1) {
        true => format!("{ASIDE}{line}"),
        false => line.to_owned(),
    };
    let text: String = text.split_inclusive('\n').enumerate().map(mark).collect();
    match text.is_empty() || text.ends_with('\n') {
        true => format!("{text}{}\n", lines(own)),
        false => format!("{text}\n{}", lines(own)),
    }
}

/// The same without it, as it was before.
pub(super) fn without_line(text: &str, own: &Path) -> String {
    let text = taken_out(text, own);
    text.split_inclusive('\n').map(|line| line.strip_prefix(ASIDE).unwrap_or(line)).collect()
}

fn taken_out(text: &str, own: &Path) -> String {
    let ours = lines(own);
    let Some((before, after)) = text.split_once(&ours) else { return text.to_owned() };
    match after.strip_prefix('\n') {
        Some(after) => format!("{before}{after}"),
        // It was put after a text without an end to its last line.
        None if after.is_empty() => before.strip_suffix('\n').unwrap_or(before).to_owned(),
        None => text.to_owned(),
    }
}

fn lines(own: &Path) -> String {
    format!("# {MARK}\n@include: {}", own.display())
}

/// The unit's file name.
pub(crate) fn unit(source: &str, kind: &str) -> String {
    match source {
        "cyrus" => format!("postbell-notifyd.{kind}"),
        _ => format!("postbell-notifyd-{source}.{kind}"),
    }
}

fn socket_unit(found: &Found) -> String {
    let places = &found.facts.places;
    let kind = if found.facts.is_stream { "ListenStream" } else { "ListenDatagram" };
    // The one that sends is known, so that no group is needed.
    let filled = [
        ("ListenDatagram=", format!("{kind}={}", places.socket.display())),
        ("SocketUser=", format!("SocketUser={}", found.server)),
        ("SocketGroup=", String::new()),
        ("SocketMode=", "SocketMode=0600\nRemoveOnStop=yes".to_owned()),
        ("# For `notifysocket: dlist:", String::new()),
        ("# ListenStream=", String::new()),
    ];
    unit_of(SOCKET_UNIT, &found.source, &filled)
}

fn service_unit(found: &Found) -> String {
    let filled = [
        ("ExecStart=", format!("ExecStart={}", notifyd(found))),
        ("User=", format!("User={}", own::account_name(found.hub.uid))),
        ("ReadWritePaths=", format!("ReadWritePaths={}", found.facts.places.spool.display())),
    ];
    unit_of(SERVICE_UNIT, &found.source, &filled)
}

/// A unit with our mark on its first line, and with lines filled in by how they begin; one that is
/// filled in by nothing goes.
fn unit_of(template: &str, source: &str, filled: &[(&str, String)]) -> String {
    let mut text = format!("# {MARK}; taken away by `postbell setup cyrus --remove`.\n");
    for line in template.lines().skip(1) {
        let found = filled.iter().find(|(begin, _)| line.starts_with(begin));
        match found {
            Some((_, by)) if by.is_empty() => {}
            Some((_, by)) => text.push_str(&format!("{by}\n")),
            None => {
                let (own, name) = ("postbell-notifyd.socket", unit(source, "socket"));
                text.push_str(&format!("{}\n", line.replace(own, &name)));
            }
        }
    }
    text
}

/// The command that takes what Cyrus says.
pub(super) fn notifyd(found: &Found) -> String {
    let program = std::env::current_exe();
    let program =
        program.map_or_else(|_| "/usr/bin/postbell".to_owned(), |path| path.display().to_string());
    let config = found.config_file.as_ref();
    let config = config.map(|file| format!(" --config {}", file.display())).unwrap_or_default();
    format!("{program} notifyd{config} --source {}", found.source)
}

/// The table for postbell's own configuration.
pub(super) fn source(facts: &Facts, name: &str, server: &str) -> String {
    let places = &facts.places;
    let (socket, nothing) = (places.socket.display().to_string(), String::new());
    let (datagram, stream) =
        if facts.is_stream { (&nothing, &socket) } else { (&socket, &nothing) };
    let value = |key: &str| facts.effective.get(key).map_or("", String::as_str);
    let is_on = |key: &str| imapd::is_on(value(key));
    let mut text = format!(
        "[sources.{name}]\n\
         kind = \"cyrus\"\n\
         notify_spool = {:?}\n\
         notify_socket = {datagram:?}\n\
         notify_stream = {stream:?}\n\
         notify_users = [{server:?}]\n\
         unixhierarchysep = {}\n\
         altnamespace = {}\n\
         virtdomains = {:?}\n",
        places.spool.display().to_string(),
        is_on("unixhierarchysep"),
        is_on("altnamespace"),
        imapd::virtdomains(value("virtdomains")).as_str(),
    );
    if is_on("altnamespace") {
        for key in ["userprefix", "sharedprefix"] {
            if !value(key).is_empty() {
                text.push_str(&format!("{key} = {:?}\n", value(key)));
            }
        }
    }
    text
}

/// What an operator would fill in by hand.
const SOCKET_UNIT: &str = include_str!("../../../../../integrations/cyrus/postbell-notifyd.socket");
const SERVICE_UNIT: &str =
    include_str!("../../../../../integrations/cyrus/postbell-notifyd.service");

/// On the first line of each file that may be taken away again, and above our line in `imapd.conf`.
const MARK: &str = "Written by `postbell setup cyrus`";

/// Before a line of the operator's that ours takes the place of.
const ASIDE: &str = "# (set aside by `postbell setup cyrus`) ";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decide::tests::facts;
    use super::super::programs::Programs;
    use super::*;

    #[test]
    fn the_files_are_these() {
        let facts = facts("admins: cyrus\n", "");
        let found = Found {
            programs: Programs { cyr_info: "cyr_info".into(), account: None },
            server: "cyrus".to_owned(),
            hub: super::super::super::spool::Account { uid: 0, gid: 0 },
            config: postbell_hub::Config::default(),
            config_file: Some("/etc/postbell/postbell.toml".into()),
            source: "cyrus".to_owned(),
            facts,
        };
        let facts = &found.facts;
        let program = std::env::current_exe().unwrap().display().to_string();
        let text = [
            own_file(facts),
            with_line(&facts.text, facts.aside, &facts.places.own),
            socket_unit(&found),
            service_unit(&found).replace(&program, "/usr/bin/postbell"),
            source(facts, "cyrus", "cyrus"),
        ];
        insta::assert_snapshot!(text.join("=====\n"));
    }

    #[test]
    fn what_is_set_is_what_the_example_sets() {
        let example = include_str!("../../../../../integrations/cyrus/imapd.conf");
        let own = own_file(&facts("", ""));
        let of = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&own), of(example));
    }

    #[test]
    fn the_units_of_another_source_have_another_name() {
        let unit = unit_of(SERVICE_UNIT, "mail", &[]);
        assert!(unit.contains("Requires=postbell-notifyd-mail.socket\n"), "{unit}");
    }

    #[test]
    fn a_line_that_was_moved_by_others_is_still_taken_out() {
        let own = Path::new("/etc/imapd-postbell.conf");
        let with = with_line("a: 1\n", None, own) + "b: 2\n";
        assert_eq!(without_line(&with, own), "a: 1\nb: 2\n");
        assert_eq!(without_line("a: 1\n", own), "a: 1\n");
    }

    proptest! {
        #[test]
        fn imapd_conf_goes_as_it_came(text in "([a-z]{1,4}: [a-z ]{0,5}|#x|)(\n([a-z]{1,4}: [a-z ]{0,5}|#x|)){0,6}", aside in proptest::option::of(1_usize..4)) {
            let own = Path::new("/etc/imapd-postbell.conf");
            let with = with_line(&text, aside, own);
            prop_assert!(with.contains("\n@include: /etc/imapd-postbell.conf"));
            prop_assert_eq!(without_line(&with, own), text);
        }
    }
}
