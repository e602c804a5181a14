//! `postbell setup cyrus`: a real Cyrus that tells nobody, and ours.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postbell_testkit::account::Account;
use postbell_testkit::cyrus::{Cyrus, Notify, Options};
use postbell_testkit::{ALICE, mail};
use tempfile::TempDir;

use crate::command::{self, Ended, Files, MACHINE_CONFIG, ended};

/// A server as it is before, and where the hub is to be.
struct Fresh {
    server: Cyrus,
    room: TempDir,
}

/// One of our processes; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Fresh {
    /// `None` where the packages can't be had.
    fn start() -> Option<Self> {
        Some(Self::around(Cyrus::start().unwrap()?))
    }

    fn around(server: Cyrus) -> Self {
        let room = tempfile::tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let fresh = Self { server, room };
        // The hub is whoever Cyrus is, so that it needs no group to share.
        for name in ["data", "run"] {
            Account::current().make_folder(&fresh.within(name)).unwrap();
        }
        let config = format!("data = {:?}\nlisten = \"127.0.0.1:0\"\n", fresh.within("data"));
        fs::write(fresh.within("postbell.toml"), config).unwrap();
        fresh
    }

    fn within(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn spool(&self) -> PathBuf {
        self.within("postbell/cyrus")
    }

    /// Adds a line to the operator's `imapd.conf`.
    fn set(&self, line: &str) {
        let path = self.server.configuration();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{line}\n")).unwrap();
    }

    fn postbell(&self, arguments: &[&str]) -> Command {
        let mut command = command::postbell(arguments);
        command.arg("--config").arg(self.within("postbell.toml"));
        command
    }

    /// `postbell setup cyrus` with where everything is here.
    fn setup(&self, arguments: &[&str]) -> Ended {
        self.finish(self.postbell(&["setup", "cyrus"]), arguments)
    }

    /// The same without a configuration of ours.
    fn setup_alone(&self, arguments: &[&str]) -> Ended {
        self.finish(command::postbell(&["setup", "cyrus"]), arguments)
    }

    fn finish(&self, mut command: Command, arguments: &[&str]) -> Ended {
        command
            .arg("-C")
            .arg(self.server.configuration())
            .arg("-M")
            .arg(self.server.services())
            .arg("--cyr-info")
            .arg(self.server.path_of("cyr_info"))
            .arg("--spool")
            .arg(self.spool())
            .arg("--socket")
            .arg(self.within("run/notify"))
            .arg("--units")
            .arg(self.within("run"))
            .args(arguments)
            .env("LD_LIBRARY_PATH", self.server.library_path().unwrap());
        ended(&mut command)
    }

    /// One of our processes, under the account it would have.
    fn run(&self, what: &str) -> Running {
        let mut command = self.postbell(&[what]);
        Account::current().assume(&mut command);
        let log = fs::File::create(self.within(&format!("{what}.log"))).unwrap();
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn doctor(&self) -> String {
        let mut command = self.postbell(&["doctor"]);
        command.arg("--imapd-conf").arg(self.server.configuration());
        ended(&mut command).said
    }

    /// A snapshot's text.
    fn redacted(&self, said: &str) -> String {
        let account = Account::current().name().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_postbell")).canonicalize().unwrap();
        // Debian mends what is in a release, too.
        let version = said.split_once("-Debian-").and_then(|(_, rest)| rest.split_once(' '));
        let version = version.map_or("", |(version, _)| version);
        said.replace(&format!("-Debian-{version}"), "-Debian-VERSION")
            .replace(&program.display().to_string(), "/usr/bin/postbell")
            .replace(&self.server.folder().display().to_string(), "/CYRUS")
            .replace(&self.room.path().display().to_string(), "/ROOM")
            .replace(&format!("User={account}"), "User=ACCOUNT")
    }

    /// Every file of the server's configuration and of ours.
    fn files(&self) -> Files {
        command::files([self.server.configuration().parent().unwrap(), self.room.path()])
    }

    /// The hub and notifyd, and then Cyrus anew.
    fn run_all(&mut self) -> [Running; 2] {
        let running = [self.run("serve"), self.run("notifyd")];
        wait_for("the socket", || match self.within("run/notify").exists() {
            true => Ok(()),
            false => Err(fs::read_to_string(self.within("notifyd.log")).unwrap()),
        });
        self.server.stop();
        self.server.start_again().unwrap();
        running
    }

    fn wait_for_append(&self) {
        wait_for("the event", || {
            let told =
                ended(&mut self.postbell(&["tail", "--since", "0", "--no-follow", "--json"]));
            match told.said.contains("MessageAppend") && told.said.contains(ALICE) {
                true => Ok(()),
                false => Err(told.said),
            }
        });
    }

    fn append(&self) {
        let mut imap = self.server.imap(ALICE).unwrap();
        imap.append("INBOX", "\\Seen", &mail::plain("hello")).unwrap();
    }
}

/// Asks again until it is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while let Err(seen) = is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came: {seen}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_fresh_cyrus_tells_the_hub_after_setup_and_is_as_before_after_remove() {
    let Some(mut fresh) = Fresh::start() else { return };
    // An editor that ends no last line, too, gets back what it wrote.
    let main = fresh.server.configuration();
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.trim_end()).unwrap();
    let before = fresh.files();

    let dry = fresh.setup(&["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.said);
    insta::assert_snapshot!("cyrus_dry_run", fresh.redacted(&dry.said));
    let unasked = fresh.setup(&[]);
    assert_eq!(unasked.code, Some(1), "{}", unasked.said);
    assert!(fresh.files() == before, "something was written without being asked for");

    let done = fresh.setup(&["--yes", "--write-config"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    let after = fresh.files();
    let again = fresh.setup(&["--yes", "--write-config"]);
    assert_eq!(again.code, Some(0), "{}", again.said);
    assert!(fresh.files() == after, "a second time changes something: {}", again.said);

    let said = fresh.doctor();
    assert!(said.contains("postbell notifyd is not running"), "{said}");
    {
        let _running = fresh.run_all();
        fresh.append();
        fresh.wait_for_append();
        let said = fresh.doctor();
        assert!(!said.contains("✗"), "{said}");
    }

    let kept = fresh.setup(&["--remove", "--write-config"]);
    assert_eq!(kept.code, Some(0), "{}", kept.said);
    assert!(kept.said.contains("would be lost"), "{}", kept.said);
    let gone = fresh.setup(&["--remove", "--force"]);
    assert_eq!(gone.code, Some(0), "{}", gone.said);
    let mut left = fresh.files();
    left.retain(|path, _| {
        !path.starts_with(fresh.within("data")) && path.extension().is_none_or(|one| one != "log")
    });
    assert!(left == before, "something was left behind: {}", gone.said);
    assert!(!fresh.spool().exists() && !fresh.within("run/notify").exists());
    fresh.server.stop();
    fresh.server.start_again().unwrap();
    fresh.append();
}

#[test]
fn over_the_stream_and_with_junk_it_tells_as_well() {
    let Some(mut fresh) = Fresh::start() else { return };
    let done = fresh.setup(&["--yes", "--write-config", "--stream", "--with-junk"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    let _running = fresh.run_all();
    let mut imap = fresh.server.imap(ALICE).unwrap();
    imap.command("CREATE Spam (USE (\\Junk))").unwrap();
    imap.append("Spam", "\\Seen", &mail::plain("hello")).unwrap();
    fresh.wait_for_append();
    let said = fresh.doctor();
    assert!(!said.contains('✗'), "{said}");
}

#[test]
fn debians_own_line_for_notifyd_is_set_aside_and_comes_back() {
    let server = Cyrus::start_with(Options::telling(Notify::Notifyd)).unwrap();
    let Some(server) = server else { return };
    let fresh = Fresh::around(server);
    // As Debian has it: a place for notifyd, and no events.
    let main = fresh.server.configuration();
    let text = fs::read_to_string(&main).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("event_"));
    let text: String = kept.map(|line| format!("{line}\n")).collect();
    assert!(text.contains("\nnotifysocket: "), "{text}");
    fs::write(&main, &text).unwrap();
    for _ in 0..2 {
        let done = fresh.setup(&["--yes"]);
        assert_eq!(done.code, Some(0), "{}", done.said);
        assert!(done.said.contains("hears nothing from Cyrus any more"), "{}", done.said);
        let now = fs::read_to_string(&main).unwrap();
        assert!(now.contains("(set aside by `postbell setup cyrus`) notifysocket: "), "{now}");
    }
    // As `postbell notifyd` leaves it, where systemd holds the stream.
    fs::create_dir(fresh.spool().join("open")).unwrap();
    fs::write(fresh.spool().join("open/connections"), [0; 8]).unwrap();
    let gone = fresh.setup(&["--remove"]);
    assert_eq!(gone.code, Some(0), "{}", gone.said);
    assert_eq!(fs::read_to_string(&main).unwrap(), text);
}

#[test]
fn a_setting_with_which_cyrus_aborts_is_refused_with_the_reason() {
    let Some(fresh) = Fresh::start() else { return };
    fresh.set("event_groups: message quota");
    fresh.set("lmtp_event_extra_params: timestamp vnd.fastmail.counters");
    let before = fresh.files();
    let refused = fresh.setup(&["--yes"]);
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    let said = refused.said.replace(&fresh.server.folder().display().to_string(), "/CYRUS");
    assert!(said.contains("contain quota: imapd and lmtpd abort"), "{said}");
    assert!(said.contains("contain vnd.fastmail.counters"), "{said}");
    assert!(fresh.files() == before && !fresh.spool().exists());
    fresh.append();
}

#[test]
fn what_cyrus_does_not_read_changes_nothing() {
    let Some(fresh) = Fresh::start() else { return };
    // Valid for us, and not for Cyrus: it takes no key twice.
    fresh.set("servername: twice.example.org");
    let before = fresh.files();
    let failed = fresh.setup(&["--yes"]);
    assert_eq!(failed.code, Some(3), "{}", failed.said);
    assert!(failed.said.contains("specified twice"), "{}", failed.said);
    assert!(fresh.files() == before && !fresh.spool().exists(), "{}", failed.said);
}

#[test]
fn with_no_configuration_to_write_to_nothing_is_written() {
    let Some(fresh) = Fresh::start() else { return };
    // A machine's own is none of a test's.
    if Path::new(MACHINE_CONFIG).exists() {
        return;
    }
    let before = fresh.files();
    let refused = fresh.setup_alone(&["--yes", "--write-config", "--hub-user", "0"]);
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(refused.said.contains("there is no configuration"), "{}", refused.said);
    assert!(fresh.files() == before && !fresh.spool().exists(), "{}", refused.said);
}

const PATIENCE: Duration = Duration::from_secs(60);
