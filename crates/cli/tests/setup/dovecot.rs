//! `postbell setup dovecot`: Debian's own configuration, the operator's `local.conf`, and ours.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use postbell_testkit::{ALICE, Dovecot, mail};
use tempfile::TempDir;

use crate::command::{self, Ended, Files, MACHINE_CONFIG, ended};

/// A server as it comes from its packages, but for its `local.conf`.
struct Fresh {
    server: Dovecot,
    room: TempDir,
}

impl Fresh {
    /// `None` where the packages can't be had.
    fn start() -> Option<Self> {
        let server = Dovecot::start().unwrap()?;
        let room = tempfile::tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(room.path().join("data")).unwrap();
        let config = format!("data = {:?}\n", room.path().join("data"));
        fs::write(room.path().join("postbell.toml"), config).unwrap();
        let mut fresh = Self { server, room };
        let main = fresh.main();
        let etc = main.parent().unwrap();
        fs::rename(&main, etc.join("local.conf")).unwrap();
        fs::copy(fresh.server.program("usr/share/dovecot/dovecot.conf"), &main).unwrap();
        fs::create_dir(etc.join("conf.d")).unwrap();
        for file in fs::read_dir(fresh.server.program("usr/share/dovecot/conf.d")).unwrap() {
            let file = file.unwrap();
            // There is no key, and the users are others than the system's.
            let text = fs::read_to_string(file.path())
                .unwrap()
                .replace("\nssl_", "\n#ssl_")
                .replace("\n!include auth-system", "\n#!include auth-system");
            fs::write(etc.join("conf.d").join(file.file_name()), text).unwrap();
        }
        fresh.restart();
        Some(fresh)
    }

    fn main(&self) -> PathBuf {
        self.server.configuration()
    }

    fn spool(&self) -> PathBuf {
        self.room.path().join("postbell/dovecot")
    }

    fn restart(&mut self) {
        self.server.stop();
        self.server.start_again().unwrap();
    }

    /// `postbell setup dovecot` with where everything is here.
    fn setup(&self, arguments: &[&str]) -> Ended {
        let mut command = command::postbell(&["setup", "dovecot"]);
        command.arg("--config").arg(self.room.path().join("postbell.toml"));
        self.finish(command, arguments)
    }

    /// The same without a configuration of ours.
    fn setup_alone(&self, arguments: &[&str]) -> Ended {
        self.finish(command::postbell(&["setup", "dovecot"]), arguments)
    }

    fn finish(&self, mut command: Command, arguments: &[&str]) -> Ended {
        command
            .args(["--test-user", ALICE])
            .arg("-c")
            .arg(self.main())
            .arg("--doveconf")
            .arg(self.server.program("usr/bin/doveconf"))
            .arg("--doveadm")
            .arg(self.server.program("usr/bin/doveadm"))
            .arg("--spool")
            .arg(self.spool())
            .args(arguments)
            .env("LD_LIBRARY_PATH", self.server.library_path().unwrap());
        ended(&mut command)
    }

    /// A snapshot's text.
    fn redacted(&self, said: &str) -> String {
        let etc = self.main().parent().unwrap().display().to_string();
        let modules = self.server.modules().display().to_string();
        said.replace(&etc, "/etc/dovecot")
            .replace(&self.room.path().display().to_string(), "/ROOM")
            .replace(&modules, "/MODULES")
    }

    /// Every file of the server's configuration and of the hub's.
    fn files(&self) -> Files {
        command::files([self.main().parent().unwrap(), self.room.path()])
    }

    /// What the spool holds, when something is in it.
    fn spooled(&self) -> String {
        let begun = Instant::now();
        loop {
            let files = command::files([&*self.spool()]);
            let text: String = files.into_values().map(|(text, ..)| text).collect();
            if text.contains("\"append\"") || begun.elapsed() > PATIENCE {
                return text;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn append(&self) {
        let mut imap = self.server.imap(ALICE).unwrap();
        imap.append("INBOX", "\\Seen", &mail::plain("hello")).unwrap();
    }
}

#[test]
fn a_fresh_server_tells_after_setup_and_is_as_before_after_remove() {
    let Some(mut fresh) = Fresh::start() else { return };
    let before = fresh.files();

    let dry = fresh.setup(&["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.said);
    insta::assert_snapshot!("dry_run", shortened(&fresh.redacted(&dry.said)));
    let unasked = fresh.setup(&[]);
    assert_eq!(unasked.code, Some(1), "{}", unasked.said);
    assert!(fresh.files() == before, "something was written without being asked for");

    let done = fresh.setup(&["--yes", "--write-config"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    let after = fresh.files();
    let kept = |(path, file): (&PathBuf, _)| {
        after.get(path) == Some(file) || path.ends_with("postbell.toml")
    };
    assert!(before.iter().all(kept), "a file of the operator's has changed");
    let new = |path: &&PathBuf| !before.contains_key(*path);
    let new = after.keys().filter(new).map(|path| fresh.redacted(&path.display().to_string()));
    let mut new: Vec<String> = new.collect();
    new.sort_unstable();
    assert_eq!(
        new,
        [
            "/ROOM/data/dovecot-dovecot.secret",
            "/etc/dovecot/conf.d/11-postbell.conf",
            "/etc/dovecot/postbell-exporter.conf.ext",
            "/etc/dovecot/postbell.lua",
        ]
    );

    fresh.restart();
    fresh.append();
    let spooled = fresh.spooled();
    assert!(spooled.contains("\"append\"") && spooled.contains(ALICE), "{spooled}");
    let again = fresh.setup(&["--yes", "--json"]);
    assert_eq!(again.code, Some(0), "{}", again.said);
    assert!(!again.said.contains("\"new\""), "{}", again.said);
    let logins = |spooled: &str| spooled.matches("\"e\":\"login\"").count();
    let both = (logins(&spooled), logins(&fresh.spooled()));
    assert_eq!(both, (1, 1), "a test login is told to nobody");

    let kept = fresh.setup(&["--remove", "--write-config"]);
    assert_eq!(kept.code, Some(0), "{}", kept.said);
    assert!(kept.said.contains("would be lost"), "{}", kept.said);
    let gone = fresh.setup(&["--remove", "--force"]);
    assert_eq!(gone.code, Some(0), "{}", gone.said);
    assert!(fresh.files() == before, "something was left behind: {}", gone.said);
    assert!(!fresh.spool().exists() && !fresh.spool().parent().unwrap().exists());
    fresh.restart();
    fresh.append();
    assert_eq!(fresh.server.whole_log().matches("Fatal").count(), 0);
}

#[test]
fn r24_where_only_what_is_wanted_is_recorded_the_script_goes_by_that() {
    let Some(mut fresh) = Fresh::start() else { return };
    let config = fresh.room.path().join("postbell.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[policy]\nrecord = \"wanted\"\n")).unwrap();
    let before = fresh.files();
    let done = fresh.setup(&["--yes"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    let said = fresh.redacted(&done.said);
    assert!(said.contains("as the hub writes it into /ROOM/postbell/dovecot/demand"), "{said}");
    let demand = fresh.spool().join("demand");
    assert!(
        fs::read_to_string(&demand).unwrap().contains("FlagsSet"),
        "everything, before the hub"
    );
    fs::write(&demand, "postbell-demand 1\nMessageAppend\nend\n").unwrap();
    let again = fresh.setup(&["--yes"]);
    assert_eq!(again.code, Some(0), "{}", again.said);
    fresh.restart();
    let mut imap = fresh.server.imap(ALICE).unwrap();
    imap.append("INBOX", "", &mail::plain("hello")).unwrap();
    imap.select("INBOX").unwrap();
    imap.store("1", "+FLAGS", "\\Flagged").unwrap();
    imap.append("INBOX", "", &mail::plain("bye")).unwrap();
    let spooled = fresh.spooled();
    assert_eq!(spooled.matches("\"append\"").count(), 2, "{spooled}");
    assert!(!spooled.contains("\"set\""), "{spooled}");
    drop(imap);
    fresh.server.stop();
    // As a hub leaves it that is killed while it writes.
    let (begun, hubs) = (demand.with_extension("0123456789abcdef"), demand.metadata().unwrap());
    fs::write(&begun, "").unwrap();
    chown(&begun, Some(hubs.uid()), None).unwrap();
    let gone = fresh.setup(&["--remove", "--force"]);
    assert_eq!(gone.code, Some(0), "{}", gone.said);
    assert!(fresh.files() == before && !fresh.spool().exists(), "{}", gone.said);
}

#[test]
fn a_protocol_with_plugins_of_its_own_is_seen_as_well() {
    let Some(mut fresh) = Fresh::start() else { return };
    let file = fresh.main().with_file_name("conf.d/20-imap.conf");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\nprotocol imap {{\n  mail_plugins = zlib\n}}\n")).unwrap();
    fresh.restart();
    let done = fresh.setup(&["--yes"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    assert!(done.said.contains("conf.d/99-postbell.conf (new)"), "{}", done.said);
    fresh.restart();
    fresh.append();
    assert!(fresh.spooled().contains("\"append\""));
}

#[test]
fn a_missing_plugin_is_refused_and_logins_stay_well() {
    let Some(mut fresh) = Fresh::start() else { return };
    let modules = fresh.room.path().join("modules");
    fs::create_dir(&modules).unwrap();
    for file in fs::read_dir(fresh.server.modules()).unwrap().map(Result::unwrap) {
        if file.file_name() != "lib01_mail_lua_plugin.so" {
            symlink(file.path(), modules.join(file.file_name())).unwrap();
        }
    }
    fresh.set("mail_plugin_dir", &modules.display().to_string());
    fresh.restart();
    let before = fresh.files();
    let refused = fresh.setup(&["--yes"]);
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    insta::assert_snapshot!("missing_plugin", fresh.redacted(&refused.said));
    assert!(fresh.files() == before && !fresh.spool().exists());
    fresh.restart();
    fresh.append();
}

#[test]
fn what_fails_only_in_the_end_is_taken_back() {
    let Some(fresh) = Fresh::start() else { return };
    // An include that is only read where the snippet is, and so can't be foreseen.
    let main = fresh.main();
    let text = fs::read_to_string(&main).unwrap();
    let later = main.with_file_name("later.inc");
    fs::write(&later, "mail_plugins = zlib\n").unwrap();
    fs::write(&main, format!("{text}\n!include {{later,none}}.inc\n")).unwrap();
    let before = fresh.files();
    let failed = fresh.setup(&["--yes"]);
    assert_eq!(failed.code, Some(3), "{}", failed.said);
    assert!(failed.said.contains("as it was before"), "{}", failed.said);
    assert!(failed.said.contains("over imap"), "{}", failed.said);
    assert!(fresh.files() == before && !fresh.spool().exists(), "{}", failed.said);
    fresh.append();
}

#[test]
fn with_no_configuration_to_write_to_nothing_is_written() {
    let Some(fresh) = Fresh::start() else { return };
    // A machine's own is none of a test's.
    if Path::new(MACHINE_CONFIG).exists() {
        return;
    }
    let before = fresh.files();
    let arguments = ["--yes", "--write-config", "--hub-user", "0", "--no-exporter"];
    let refused = fresh.setup_alone(&arguments);
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(refused.said.contains("there is no configuration"), "{}", refused.said);
    assert!(fresh.files() == before && !fresh.spool().exists(), "{}", refused.said);
}

impl Fresh {
    /// Sets something in the operator's own file.
    fn set(&self, key: &str, value: &str) {
        let file = self.main().with_file_name("local.conf");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n{key} = {value}\n")).unwrap();
    }
}

/// Without the script's lines, which change for reasons of their own.
fn shortened(said: &str) -> String {
    let is_script = |line: &&str| !line.starts_with("+ --");
    said.lines()
        .filter(is_script)
        .map(|line| if line.contains("more lines") { "+ … more lines" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

const PATIENCE: Duration = Duration::from_secs(60);
