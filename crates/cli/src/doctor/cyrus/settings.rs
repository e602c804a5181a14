//! Whether Cyrus tells, tells us, and doesn't abort.

use postbell_hub::SourceConfig;

use super::super::Report;
use crate::setup::cyrus::hazards::{self, GROUPS, PARAMS};
use crate::setup::cyrus::imapd::{self, Conf};

/// What is wrong with them.
pub(super) fn judge(
    name: &str,
    conf: anyhow::Result<Conf>,
    source: &SourceConfig,
    report: &mut Report,
) {
    let check = format!("settings of {name}");
    let conf = match conf {
        Ok(conf) => conf,
        Err(why) => {
            return report.notice(&check, why.to_string(), "point to Cyrus's with --imapd-conf");
        }
    };
    let mut is_right = true;
    let mut wrong = |detail: String, remedy: &str| {
        is_right = false;
        report.wrong(&check, detail, remedy);
    };
    for one in hazards::crashing(&conf) {
        wrong(one.reason, &one.remedy);
    }
    let value = |key: &str| conf.get(key).map(|setting| setting.value.as_str());
    if value("event_notifier").unwrap_or_default().is_empty() {
        let detail = "event_notifier isn't set, so that Cyrus tells nothing".to_owned();
        wrong(detail, "postbell setup cyrus sets it");
    }
    let socket = value("notifysocket").unwrap_or("its own notifyd's socket");
    let is_ours = match imapd::notified(socket) {
        (path, true) => path == source.notify_stream,
        (path, false) => path == source.notify_socket,
    };
    if !is_ours {
        wrong(
            format!("notifysocket is {socket}, which is none of sources.{name}'s"),
            "let notify_socket, or notify_stream after a dlist:, be the same",
        );
    }
    for (key, theirs, ours) in namespaces(&conf, source) {
        wrong(
            format!(
                "{key} is {theirs} for Cyrus, and {ours} in sources.{name}: mailboxes are named wrongly"
            ),
            "set it to what Cyrus has, and restart the hub",
        );
    }
    if let Some(detail) = not_asked(&conf, source) {
        is_right = false;
        let remedy = "add it to proxyservers in imapd.conf, or name one who is there as master_user; Cyrus's processes take it up by and by";
        report.notice(&check, detail, remedy);
    }
    let mut lacking = hazards::lacking(&conf);
    if value("event_groups").is_none() {
        lacking.push(format!(
            "event_groups isn't set: told is of message and mailbox, not all of {GROUPS}"
        ));
    }
    if value("event_extra_params").is_none() {
        lacking
            .push(format!("event_extra_params isn't set; absent is all but the first of {PARAMS}"));
    }
    for one in lacking {
        is_right = false;
        report.notice(&check, one, "nothing is wrong with that, if it is meant");
    }
    if is_right {
        report.right(&check, "Cyrus tells all that is safe to tell");
    }
}

/// Why Cyrus can't be asked, where somebody is to ask.
fn not_asked(conf: &Conf, source: &SourceConfig) -> Option<String> {
    let master = source.master_user.as_str();
    let names = |key: &str| conf.get(key).map_or("", |setting| setting.value.as_str());
    let (proxies, admins) = (names("proxyservers"), names("admins"));
    let mut names = proxies.split_ascii_whitespace().chain(admins.split_ascii_whitespace());
    // Who is in a group, another file says.
    let may_ask = names.any(|name| name == master || name.starts_with("group:"));
    (!master.is_empty() && !may_ask)
        .then(|| format!("proxyservers doesn't name {master}, so that it may ask as nobody"))
}

/// Settings of mailbox names that are another here than there: key, theirs, ours.
fn namespaces(conf: &Conf, source: &SourceConfig) -> Vec<(&'static str, String, String)> {
    let value = |key: &str| conf.get(key).map(|setting| setting.value.as_str());
    // As Cyrus 3 has it, where nothing is set.
    let is_on = |key: &str| value(key).is_none_or(imapd::is_on);
    let domains = imapd::virtdomains(value("virtdomains").unwrap_or_default());
    let mut pairs = vec![
        (
            "unixhierarchysep",
            is_on("unixhierarchysep").to_string(),
            source.unixhierarchysep.to_string(),
        ),
        ("altnamespace", is_on("altnamespace").to_string(), source.altnamespace.to_string()),
        ("virtdomains", domains.as_str().to_owned(), source.virtdomains.as_str().to_owned()),
    ];
    if source.altnamespace {
        for (key, default, ours) in [
            ("userprefix", "Other Users", &source.userprefix),
            ("sharedprefix", "Shared Folders", &source.sharedprefix),
        ] {
            pairs.push((key, value(key).unwrap_or(default).to_owned(), ours.clone()));
        }
    }
    pairs.retain(|(_, theirs, ours)| theirs != ours);
    pairs
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::tests::told;
    use super::*;

    #[test]
    fn settings_that_crash_or_tell_nothing_are_named() {
        let mut text = String::new();
        let safe = format!(
            "event_notifier: log\nevent_groups: {GROUPS}\nevent_extra_params: {PARAMS}\nnotifysocket: /run/postbell/cyrus/notify\n"
        );
        for (case, conf) in [
            ("right", safe.clone()),
            ("nothing", String::new()),
            ("crash", format!("{safe}event_exclude_flags: \\Seen\n")),
            ("elsewhere", safe.replace("notifysocket: ", "notifysocket: dlist:")),
            (
                "names",
                format!("{safe}unixhierarchysep: no\nvirtdomains: userid\nuserprefix: shared\n"),
            ),
            ("less", safe.replace(" flagNames", "")),
        ] {
            let conf = Conf::read(Path::new("/etc/imapd.conf"), &|_| Ok(conf.clone())).unwrap();
            told(
                |report| judge("cyrus", Ok(conf), &SourceConfig::default(), report),
                case,
                &mut text,
            );
        }
        let why = anyhow::anyhow!("/etc/imapd.conf: may not be read");
        told(
            |report| judge("cyrus", Err(why), &SourceConfig::default(), report),
            "none",
            &mut text,
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_who_may_not_ask_is_named() {
        let asked = SourceConfig { master_user: "postbell".to_owned(), ..SourceConfig::default() };
        for (conf, source, may_ask) in [
            ("proxyservers: murder postbell\n", &asked, true),
            ("admins: postbell\n", &asked, true),
            ("proxyservers: group:proxies\n", &asked, true),
            ("admins: cyrus\nproxyservers: postbells\n", &asked, false),
            ("", &asked, false),
            ("", &SourceConfig::default(), true),
        ] {
            let read = Conf::read(Path::new("/etc/imapd.conf"), &|_| Ok(conf.to_owned())).unwrap();
            assert_eq!(not_asked(&read, source).is_none(), may_ask, "{conf}");
        }
    }
}
