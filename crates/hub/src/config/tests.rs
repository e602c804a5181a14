//! What an operator reads: each mistake on a line, and the whole configuration.

use super::{Config, SECTIONS_FOR_TESTS, markdown};

fn errors(text: &str) -> String {
    Config::parse("postbell.toml", text).unwrap_err().to_string()
}

#[test]
fn what_only_looks_like_a_host_name_is_none() {
    for host in ["..x", "a..b", ".", "-a", "a-.b", "a.", "a_b"] {
        for key in ["host", "fqdn"] {
            let line = errors(&format!("[store]\n{key} = {host:?}\n"));
            assert!(line.contains(&format!("store.{key}: {host:?} is not a host name")), "{line}");
        }
    }
    for host in ["localhost", "a-b.example.org", "192.0.2.1", "[2001:db8::1]"] {
        let text = format!("[store]\nhost = {host:?}\n");
        assert!(Config::parse("postbell.toml", &text).is_ok(), "{host}");
    }
}

#[test]
fn every_mistake_gets_one_line_naming_file_and_key() {
    insta::assert_snapshot!(errors(
        r#"
data = 5
listen = "0.0.0.0:5423"
lisen = "127.0.0.1:1"
retention = "30d"

[store]
host = "imap://example.org"
port = 99999

[policy]
seen_form = "both"
content_max_octets = "lots"
envelope = "yes"

[sources.mail]
root = "Maildir"
scan_interval = "5 parsecs"
scan_intervall = "60s"

[sources."a b"]
root = "/var/mail/%u"
user = "john"
scan_interval = "1ms"

[sources.imap]
kind = "imap"
root = "/x"
quota_storage = "0"
quota_messages = "many"

[publish]
allowed_uids = ["john"]

[journal]
retention_age = "a month"
retension_size = "1GiB"
segment_size = "1KiB"
window_records = 0

[http]
max_connections = 0
max_body = 1000
header_timeout = "0s"

[webhooks]
reach = "everywhere"
timeout = 5

[log]
level = "loud"
"#
    ));
}

#[test]
fn r162_shared_mailboxes_need_the_events_by_which_a_lost_right_is_learnt() {
    let shared = "data = \"/d\"\n[access]\nshared_mailboxes = true\n[sources.m]\nkind = \"dovecot\"\nmaster_user = \"p\"\nmaster_password_file = \"/p\"\n";
    for (policy, is_told) in [
        ("groups_off = [\"flags\"]", false),
        ("groups_off = [\"vendor\"]", true),
        ("groups_off = [\"mailbox\"]", true),
        ("record = \"wanted\"", true),
    ] {
        let told = match Config::parse("postbell.toml", &format!("{shared}[policy]\n{policy}\n")) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told.contains("access.shared_mailboxes: needs"), is_told, "{policy}: {told}");
    }
}

#[test]
fn r45_urls_by_the_store_need_somebody_to_ask_as() {
    let wanted = "data = \"/d\"\n[policy]\ncontent_reference = \"urlauth\"\n[sources.m]\nkind = \"dovecot\"\n";
    let told = Config::parse("postbell.toml", wanted).unwrap_err().to_string();
    assert!(told.contains("policy.content_reference: no source has a master_user"), "{told}");
    let asking = format!("{wanted}master_user = \"p\"\nmaster_password_file = \"/p\"\n");
    let config = Config::parse("postbell.toml", &asking).unwrap();
    assert_eq!(config.policy.content_reference, crate::ContentReference::UrlAuth);
}

#[test]
fn what_can_be_read_and_makes_no_sense_is_told() {
    let socket = "s".repeat(108);
    insta::assert_snapshot!(errors(&format!(
        r#"
data = "postbell"

[policy]
content_max_octets = "17MiB"
content_link_lifetime = "31d"

[policy.service]
content_max_octets = "17MiB"
event_max_octets = "17MiB"

[policy.user]
event_max_octets = "1023B"

[sources.a]
root = "/var/mail/%d/%n/Maildir"
user = "john"

[sources.b]
root = "/var/mail/%u/%u"

[sources.c]
root = "/var//mail/%u/%u/"

[sources.d]
kind = "dovecot"

[sources.e]
kind = "dovecot"

[sources.publish]
root = "/srv/%u"

[publish]
allowed_uids = [1000, 5]
socket = "/{socket}"

[journal]
retention_age = "0s"
retention_size = "63MiB"
window_records = 4000000000

[http]
public_url = "postbell.example.org"
max_body = "1TiB"
"#
    )));
}

#[test]
fn r43_a_rate_is_a_number_of_events_or_unlimited_and_all_else_is_told_with_its_key() {
    let read = |role: &str, value: &str| {
        let text = format!("data = \"/d\"\n[policy.{role}]\nevents_per_minute = {value}\n");
        Config::parse("postbell.toml", &text)
    };
    for role in ["service", "user"] {
        for wrong in ["0", "-1", "4294967296", "\"600\"", "\"never\"", "1.5", "true", "[60]"] {
            let told = read(role, wrong).unwrap_err().to_string();
            let expected = format!(
                "postbell.toml: policy.{role}.events_per_minute: {wrong} is not a whole number from 1 to 4294967295, or \"unlimited\" (try 600)"
            );
            assert_eq!(told.trim_end(), expected);
        }
    }
    let rate = |value| {
        read("user", value).unwrap().policy.user.events_per_minute.map(std::num::NonZeroU32::get)
    };
    assert_eq!(["1", "4294967295", "\"unlimited\""].map(rate), [Some(1), Some(u32::MAX), None]);
    let config = read("user", "600").unwrap();
    assert_eq!(config.policy.service.events_per_minute, None);
    let printed = Config::parse("postbell.toml", &config.print()).unwrap();
    assert_eq!(printed.policy, config.policy, "it reads back as it is printed");
}

#[test]
fn the_mistakes_of_a_dovecot_are_told_too() {
    insta::assert_snapshot!(errors(
        r#"
[sources.a]
kind = "dovecot"
root = "/var/mail"
spool = "spool"
separator = "//"
shared = ["shared/"]
expire = [{ reason = "doveadm:cmd_expunge" }]
annotation_window = "1m"
master_user = "postbell"
master_address = "192.0.2.1:143"

[sources.b]
kind = "dovecot"
expire = [{ reson = "x" }]
master_password_file = "/p"

[sources.c]
root = "/var/mail/%u"
spool = "/spool"
"#
    ));
}

#[test]
fn an_address_that_others_reach_needs_a_certificate_and_its_key() {
    insta::assert_snapshot!(errors(
        r#"
listen = "192.0.2.1:5423"

[tls]
key = "key.pem"
local_listen = "192.0.2.1:5424"
"#
    ));
    let listen = "listen = \"[::]:5423\"\n[tls]\ncertificate = \"/c\"\n";
    assert_eq!(
        errors(listen),
        "postbell.toml: tls.key: missing, as there is a certificate (try \"/etc/postbell/tls/key.pem\")"
    );
    let both = format!("{listen}key = \"/k\"\nlocal_listen = \"127.0.0.1:1\"\n");
    assert!(Config::parse("postbell.toml", &both).is_ok());
    assert!(errors("tls.local_listen = \"here\"").contains("is not an address and port, or empty"));
}

#[test]
fn who_speaks_for_which_store_must_be_let_in_and_the_store_be_one() {
    insta::assert_snapshot!(errors(
        r#"
[publish]
allowed_uids = [1000, 1001]
uid_stores = [
  { uid = 1000, stores = ["a b"] },
  { uid = 1001, stores = [] },
  { uid = 1002, stores = ["*"] },
  { uid = 1002, stores = ["mail.example.org"] },
]
"#
    ));
    assert!(errors("publish.uid_stores = [{ uid = 1, store = \"a\" }]").contains("unknown field"));
}

#[test]
fn an_origin_is_written_as_a_browser_sends_it() {
    let line = |origin: &str| {
        let text = format!("http.allowed_origins = [{origin:?}]");
        Config::parse("postbell.toml", &text)
            .map_or_else(|error| error.to_string(), |_| String::new())
    };
    for right in ["https://app.example.org", "http://localhost:3000", "https://[2001:db8::1]:1"] {
        assert_eq!(line(right), "");
    }
    for wrong in [
        "*",
        "null",
        "app.example.org",
        "https://app.example.org/",
        "https://app.example.org/x",
        "https://App.example.org",
        "https://app.example.org:443",
        "https://a@app.example.org",
        "ftp://app.example.org",
    ] {
        assert!(line(wrong).contains("is not an origin as browsers send it"), "{wrong}");
    }
}

#[test]
fn a_trusted_proxy_is_an_address_or_a_network() {
    let line = |proxy: &str| {
        let text = format!("http.trusted_proxies = [{proxy:?}]");
        Config::parse("postbell.toml", &text)
            .map_or_else(|error| error.to_string(), |_| String::new())
    };
    for right in ["127.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32"] {
        assert_eq!(line(right), "");
    }
    for wrong in ["proxy.example.org", "0.0.0.0/0", "10.0.0.0/33", ""] {
        assert!(line(wrong).contains("is neither an address nor a network"), "{wrong}");
    }
}

#[test]
fn passwords_cross_no_network_in_clear() {
    insta::assert_snapshot!(errors(
        "[login]\nimap = \"192.0.2.1:143\"\nca = \"ca.pem\"\nlifetime = \"31d\"\n"
    ));
    assert!(errors("login.host = \"a\"").contains("login.imap: missing"));
    assert!(
        errors("login.imap = \"192.0.2.1:993\"\nlogin.host = \"a\"").contains("login.ca: missing")
    );
    assert!(Config::parse("postbell.toml", "login.imap = \"127.0.0.1:143\"").is_ok());
}

#[test]
fn the_mailbox_of_an_expiry_that_is_no_pattern_is_told_with_its_text() {
    let rule = |mailbox: &str| {
        format!(
            "[sources.a]\nkind = \"dovecot\"\n\
             expire = [{{ reason = \"x\", policy = \"p\", mailbox = \"{mailbox}\" }}]\n"
        )
    };
    insta::assert_snapshot!(errors(&rule(&"Trash/%".repeat(40))));
    assert!(Config::parse("postbell.toml", &rule("Trash/%")).is_ok());
}

#[test]
fn a_dovecot_is_printed_with_its_own_keys() {
    let text = "[sources.mail]\nkind = \"dovecot\"\nseparator = \".\"\n\
                expire = [{ reason = \"doveadm:cmd_expunge\", policy = \"cron\" }]\n";
    let config = Config::parse("postbell.toml", text).unwrap();
    let printed = config.print();
    assert_eq!(Config::parse("printed", &printed).unwrap(), config);
    let begin = printed.find("[sources.mail]").unwrap();
    let end = printed.find("[publish]").unwrap();
    insta::assert_snapshot!(printed.get(begin..end).unwrap());
}

#[test]
fn each_bad_entry_of_a_list_is_named() {
    insta::assert_snapshot!(errors("publish.allowed_uids = [-1, 1000, \"x\"]\n"));
}

#[test]
fn a_table_where_a_value_belongs_and_the_reverse_are_told() {
    insta::assert_snapshot!(errors("journal = 5\nsources = 3\n[listen]\nport = 5\n"));
}

#[test]
fn text_that_is_no_toml_is_told_with_its_line() {
    insta::assert_snapshot!(errors("data = \"/x\"\nlisten = \n"));
    insta::assert_snapshot!(errors("[sources.mail]\nroot = \"/a\"\nroot = \"/b\"\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(std::path::Path::new("/nowhere/postbell.toml")).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn a_folder_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::load(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with(": is a folder, where a configuration file is wanted"), "{error}");
}

#[test]
fn a_name_where_an_address_belongs_is_told_what_is_wanted() {
    assert_eq!(
        errors("listen = \"localhost:5423\"\n"),
        "postbell.toml: listen: \"localhost:5423\" is not an address and port (try \"127.0.0.1:5423\")"
    );
}

#[test]
fn a_key_of_another_section_is_not_what_was_meant() {
    assert_eq!(
        errors("[journal]\nsegment_octets = 5\n"),
        "postbell.toml: journal.segment_octets: no such key"
    );
}

#[test]
fn a_home_folder_must_be_written_out() {
    assert!(
        errors("data = \"~/postbell\"\n").contains("data: \"~/postbell\" is not the home folder")
    );
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::parse("postbell.toml", "").unwrap(), Config::default());
}

#[test]
fn the_whole_configuration_is_printed_with_its_reasons() {
    let text = "[sources.mail]\nroot = \"/var/mail/%u/Maildir\"\nscan_interval = \"90s\"\n";
    insta::assert_snapshot!(Config::parse("postbell.toml", text).unwrap().print());
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let text = "[store]\nhost = \"mail.example.org\"\n[sources.mail]\nroot = \"/m/%u\"\n\
                [journal]\nretention_age = \"never\"\n[policy]\ncontent_max_octets = \"64KiB\"\n\
                [policy.user]\ncontent_max_octets = \"2KiB\"\nenvelope = false\n";
    let config = Config::parse("postbell.toml", text).unwrap();
    assert_eq!(Config::parse("printed", &config.print()).unwrap(), config);
    let default = Config::default();
    assert_eq!(Config::parse("printed", &default.print()).unwrap(), default);
    let text = r#"
[commands.a]
run = ["sh", "-c", "id; \"x\""]
[commands.b]
run = ["b"]
jobs = 2
where = "messageSize > 5"
events = ["MessageNew"]
parameters_of = { MessageNew = ["*", "vnd.example.a"] }
"#;
    let config = Config::parse("postbell.toml", text).unwrap();
    assert_eq!(config.commands["b"].condition, "messageSize > 5");
    assert_eq!(Config::parse("printed", &config.print()).unwrap(), config);
}

#[test]
fn a_key_that_stands_one_step_too_high_is_told_with_where_it_belongs() {
    insta::assert_snapshot!(errors(
        r#"
[sources]
kind = "maildir"
mail = 5
[commands]
jobs = 2
[commands.a]
run = "echo hi"
[publish]
uid_stores = [5]
"#
    ));
}

#[test]
fn the_mistakes_of_a_command_are_told() {
    insta::assert_snapshot!(errors(
        r#"
commands.a.jobs = 0
commands.b = { run = "sh -c id", timeout = "0s" }
commands.c = { run = [""], events = ["MessageGnu"], where = "messageSize >" }
commands.d = { run = ["true"], mailboxes = ["a**b"], shell = true }
commands.e = { run = ["a\u0000b"], tags = [7] }
commands.f = { run = ["true"], parameters_of = { MessageGnu = [] } }
commands.g = { run = ["true"], parameters_of = { MessageNew = ["uidSet"] } }
commands.h = { run = ["true"], parameters_of = { MessageNew = "uri" } }
commands.i = { run = ["true"], parameters_of = ["uri"] }
commands."a b" = { run = ["true"] }
"#
    ));
}

#[test]
fn every_key_of_the_table_is_a_key_of_the_configuration_and_the_reverse() {
    let printed = toml::Value::try_from(super::print::with_examples()).unwrap();
    let mut real = Vec::new();
    collect(&printed, String::new(), &mut real);
    let mut told: Vec<String> = SECTIONS_FOR_TESTS
        .iter()
        .flat_map(|section| section.keys)
        .map(|key| super::print::example(key.path))
        .collect();
    real.sort();
    told.sort();
    assert_eq!(real, told);
}

fn collect(value: &toml::Value, path: String, out: &mut Vec<String>) {
    match value {
        // One that has nothing in it is a value.
        toml::Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, path, out);
            }
        }
        _ => out.push(path),
    }
}

#[test]
fn every_example_in_the_table_is_accepted() {
    for key in SECTIONS_FOR_TESTS.iter().flat_map(|section| section.keys) {
        let path = super::print::example(key.path);
        let mut text = format!("{path} = {}\n", key.example);
        let kind = super::keys::kinds(&path).last();
        if let Some(kind) = kind.filter(|kind| **kind != super::SourceKind::Maildir) {
            text.push_str(&format!("sources.mail.kind = {:?}\n", kind.as_str()));
            for (one, other) in [("user", "password_file"), ("password_file", "user")] {
                if key.path.ends_with(&format!("master_{one}")) {
                    text.push_str(&format!("sources.mail.master_{other} = \"/p\"\n"));
                }
            }
        } else if let Some(name) = path.strip_prefix("login.") {
            for (key, value) in [("imap", "127.0.0.1:993"), ("host", "a"), ("ca", "/c")] {
                if name != key {
                    text.push_str(&format!("login.{key} = \"{value}\"\n"));
                }
            }
        } else if let Some(name) = path.strip_prefix("oidc.") {
            for (key, value) in [("issuer", "https://id.example.org"), ("audience", "a")] {
                if name != key {
                    text.push_str(&format!("oidc.{key} = \"{value}\"\n"));
                }
            }
        } else if ["access.shared_mailboxes", "policy.content_reference"].contains(&path.as_str()) {
            text.push_str("sources.mail.kind = \"cyrus\"\nsources.mail.master_user = \"a\"\n");
            text.push_str("sources.mail.master_password_file = \"/p\"\n");
        } else if path == "publish.uid_stores" {
            text.push_str("publish.allowed_uids = [1000]\n");
        } else if let Some(name) = path.strip_prefix("tls.") {
            for (key, value) in [("certificate", "/c"), ("key", "/k")] {
                if name != key {
                    text.push_str(&format!("tls.{key} = \"{value}\"\n"));
                }
            }
        } else if let Some(name) = path.strip_prefix("webhooks.client_certificates.partner.") {
            for (key, value) in [("certificate", "/c"), ("key", "/k")] {
                if name != key {
                    let path = format!("webhooks.client_certificates.partner.{key}");
                    text.push_str(&format!("{path} = \"{value}\"\n"));
                }
            }
        } else if key.path.starts_with("sources") && !key.path.ends_with("root") {
            let root = if key.path.ends_with("user") { "/m" } else { "/m/%u" };
            text.push_str(&format!("sources.mail.root = \"{root}\"\n"));
        } else if key.path.starts_with("commands") && !key.path.ends_with("run") {
            text.push_str("commands.index.run = [\"true\"]\n");
        }
        Config::parse("postbell.toml", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// `POSTBELL_WRITE_DOCS=1` writes the page anew.
#[test]
fn the_page_of_the_manual_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    if std::env::var_os("POSTBELL_WRITE_DOCS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == markdown(), "docs/config.md is old: run with POSTBELL_WRITE_DOCS=1");
}

#[test]
fn r161_an_issuer_that_would_let_in_anybody_or_nobody_is_told() {
    let mut told = Vec::new();
    for text in [
        "audience = \"postbell\"",
        "issuer = \"http://id.example.org\"\naudience = \"postbell\"",
        "issuer = \"https://id.example.org?x\"\naudience = \"postbell\"",
        "issuer = \"https://id.example.org\"\nca = \"ca.pem\"\njwks_file = \"jwks.json\"",
        "issuer = \"https://id.example.org\"\nlifetime_max = \"0s\"",
        "issuer = \"https://id.example.org\"\naudience = \"a\"\nalgorithms = []\nuser_claim = \"\"",
        "issuer = \"https://id.example.org\"\naudience = \"a\"\nalgorithms = [\"HS256\", \"none\", \"ES256\"]",
        "issuer = \"https://id.example.org\"\naudience = \"a\"\nroles = [{ value = \"\", role = \"admin\" }, { value = \"x\", role = \"service\" }, { value = \"y\", role = \"service\", scope = [\"write\"] }, { value = \"z\", role = \"admin\", scope = [\"read\"] }]",
    ] {
        told.push(errors(&format!("[oidc]\n{text}\n")));
    }
    insta::assert_snapshot!(told.join("\n\n"));
    let good = "[oidc]\nissuer = \"http://127.0.0.1:8080/realms/mail\"\naudience = \"postbell\"\nalgorithms = [\"RS256\", \"PS256\", \"ES256\", \"EdDSA\"]\nroles = [{ value = \"a\", role = \"user\", scope = [\"read\"] }]\n";
    assert!(Config::parse("postbell.toml", good).is_ok());
}

#[test]
fn traces_go_to_this_machine_or_by_tls_and_by_default_nowhere() {
    assert_eq!(Config::default().traces.endpoint, "");
    insta::assert_snapshot!(errors(
        "[traces]\nendpoint = \"http://10.0.0.1:4318/v1/traces\"\nheaders_file = \"key\"\nshare = 1.5\nservice_name = \"\"\n"
    ), @r#"
    postbell.toml: traces.endpoint: "http://10.0.0.1:4318/v1/traces" is not this machine, and would be told in clear (only https may leave it) (try "http://127.0.0.1:4318/v1/traces")
    postbell.toml: traces.headers_file: "key" is not an absolute path (try "/etc/postbell/collector")
    postbell.toml: traces.share: 1.5 is not from 0.0 to 1.0 (try 0.01)
    postbell.toml: traces.service_name: "" is no name (try "postbell")
    "#);
    assert!(errors("traces.endpoint = \"collector:4318\"").contains("is not a URL that spans"));
    assert!(errors("traces.share = \"all\"").contains("\"all\" is not a number (try 0.01)"));
    for fine in ["http://localhost:4318/v1/traces", "https://collector.example.org/v1/traces"] {
        let text = format!("traces.endpoint = \"{fine}\"\ntraces.share = 1");
        assert!(Config::parse("postbell.toml", &text).is_ok(), "{fine}");
    }
}
