//! Dovecot from unpacked packages and without privileges.

mod configuration;
mod options;
mod software;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::ports;
use crate::process::{self, Daemon};
use crate::{Error, Imap, Lmtp, Pop3, Server, Tree};
pub use options::{Extent, Format, Notify, Options, Overquota, Quota};

/// A user of every [`Dovecot`].
pub const ALICE: &str = "alice@example.org";
/// Another.
pub const BOB: &str = "bob@example.org";
/// A third, whom quotas spare.
pub const CAROL: &str = "carol@example.org";
/// The master user that postbell asks with ([`Extent::Whole`]).
pub const MASTER: &str = "postbell";
/// A person who may log in as anybody ([`Extent::Whole`]).
pub const ADMIN: &str = "helpdesk";

/// A running Dovecot with IMAP, POP3 and LMTP on loopback; stops when dropped.
///
/// Mail is below a temporary folder, owned by the account of [`Account::current`].
#[derive(Debug)]
pub struct Dovecot {
    // Before the folder: it must be gone when its files go.
    daemon: Option<Daemon>,
    folder: TempDir,
    tree: Tree,
    ports: Ports,
    options: Options,
    /// Quotas that users have of their own.
    quotas: Mutex<BTreeMap<String, Quota>>,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    imap: SocketAddr,
    pop3: SocketAddr,
    lmtp: SocketAddr,
}

impl Dovecot {
    /// Starts one, and returns when it answers.
    ///
    /// `None`, after a loud line, where the packages can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where they can't be had under CI; [`Error::Start`] with the end of
    /// its log where it doesn't answer.
    pub fn start() -> Result<Option<Self>, Error> {
        Self::start_with(Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Dovecot::start`].
    pub fn start_with(options: Options) -> Result<Option<Self>, Error> {
        let Some(tree) = Server::Dovecot.tree()? else { return Ok(None) };
        let mut attempts_left = ATTEMPTS;
        loop {
            attempts_left -= 1;
            match Self::launch(&tree, options.clone()) {
                // Between our finding free ports and its taking them, anybody may.
                Err(Error::Start { .. }) if attempts_left > 0 => {}
                outcome => return outcome.map(Some),
            }
        }
    }

    fn launch(tree: &Tree, options: Options) -> Result<Self, Error> {
        let folder = process::workspace("dovecot")?;
        let tree = tree.within_reach(folder.path())?;
        let [imap, pop3, lmtp] = ports::free()?;
        let ports = Ports { imap, pop3, lmtp };
        lay_out(&folder, &tree)?;
        let quotas = Mutex::default();
        let mut dovecot = Self { daemon: None, folder, tree, ports, options, quotas };
        dovecot.write_users()?;
        dovecot.write_configuration()?;
        dovecot.start_again()?;
        Ok(dovecot)
    }

    /// Starts it on the same folder and ports after [`Dovecot::stop`] or [`Dovecot::kill`], and
    /// returns when it answers.
    ///
    /// # Errors
    /// [`Error::Start`] with the end of its log where it doesn't.
    pub fn start_again(&mut self) -> Result<(), Error> {
        // The one before must be gone before this one asks for its ports.
        self.daemon = None;
        let printed = self.folder.path().join("log/printed.log");
        let mut daemon = Daemon::start(self.master()?, &printed)?;
        let Ports { imap, lmtp, .. } = self.ports;
        let answers = || {
            // No login: it would be told of.
            TcpStream::connect(lmtp).is_ok() && Imap::greet(imap).is_ok()
        };
        daemon.wait_until(answers).map_err(|reason| Error::Start {
            server: "dovecot",
            reason,
            log: format!("{}\n{}", daemon.printed(), self.log()),
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops it as a system's administrator would; sessions end first.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Kills the master and every one of its processes at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill();
        }
        self.daemon = None;
    }

    /// The same while others still use it; [`Dovecot::start_again`] or [`Dovecot::kill`] is to follow.
    pub fn strike(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.strike();
        }
    }

    /// Has every one of its processes stand still, with their connections open (SIGSTOP), until
    /// [`Dovecot::go_on`].
    pub fn stand_still(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.hold(true);
        }
    }

    /// Has them go on (SIGCONT).
    pub fn go_on(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.hold(false);
        }
    }

    /// Stops it and starts it again with other options of the same extent and format.
    ///
    /// # Errors
    /// As [`Dovecot::start_again`].
    pub fn restart_with(&mut self, change: impl FnOnce(&mut Options)) -> Result<(), Error> {
        self.stop();
        change(&mut self.options);
        self.write_configuration()?;
        self.start_again()
    }

    /// Kills one of its processes (SIGKILL).
    ///
    /// # Errors
    /// [`Error::Io`] where there is none such.
    pub fn kill_process(&self, pid: u32) -> Result<(), Error> {
        process::kill(pid)
    }

    /// Its processes that run `program`, such as `imap` or `lmtp`; oldest first.
    #[must_use]
    pub fn processes(&self, program: &str) -> Vec<u32> {
        self.daemon.as_ref().map(|daemon| daemon.members(program)).unwrap_or_default()
    }

    /// Its processes that serve IMAP and POP3 sessions of `user`, one for each session.
    ///
    /// # Errors
    /// [`Error::Failed`] with what `doveadm who` prints.
    pub fn processes_of(&self, user: &str) -> Result<Vec<u32>, Error> {
        let who = self.doveadm(&["-f", "tab", "who", "-1", user])?;
        let pids = who.lines().skip(1).filter_map(|line| line.split('\t').nth(2));
        pids.map(|pid| {
            pid.parse().map_err(|_| Error::Answer {
                expected: format!("processes of {user}"),
                answer: who.clone(),
            })
        })
        .collect()
    }

    /// Returns when a session of `user` hibernates ([`Options::hibernates`]).
    ///
    /// # Errors
    /// [`Error::Answer`] where none does.
    pub fn wait_until_asleep(&self, user: &str) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let (serving, holding) = (self.processes_of(user)?, self.processes("imap-hibernate"));
            if serving.iter().any(|pid| holding.contains(pid)) {
                return Ok(());
            }
            if begun.elapsed() > NOTICE_MAX {
                let expected = format!("a session of {user} that hibernates");
                return Err(Error::Answer {
                    expected,
                    answer: format!("{serving:?}, {holding:?}"),
                });
            }
            std::thread::sleep(NOTICE_POLL);
        }
    }

    /// Runs `doveadm` with `arguments` on the running server, and returns what it prints.
    ///
    /// # Errors
    /// [`Error::Failed`] with what it prints.
    pub fn doveadm(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = process::program(&self.tree, "usr/bin/doveadm", self.folder.path())?;
        let run = self.folder.path().join("run");
        // It runs `/usr/bin/doveconf` to read a file, but asks a running server itself.
        command.arg("-c").arg(run.join("config")).args(arguments).current_dir(run);
        process::run(&mut command, b"")
    }

    /// A fresh IMAP session of `user`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn imap(&self, user: &str) -> Result<Imap, Error> {
        Imap::login(self.ports.imap, user, &password(user))
    }

    /// A fresh IMAP session in which `master` is `user` ([`Extent::Whole`]).
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user or master.
    pub fn imap_as(&self, user: &str, master: &str) -> Result<Imap, Error> {
        Imap::login(self.ports.imap, &format!("{user}*{master}"), &password(master))
    }

    /// A fresh POP3 session of `user`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn pop3(&self, user: &str) -> Result<Pop3, Error> {
        Pop3::login(self.ports.pop3, user, &password(user))
    }

    /// A fresh LMTP session.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn lmtp(&self) -> Result<Lmtp, Error> {
        Lmtp::connect(self.ports.lmtp)
    }

    /// Where its IMAP service listens.
    #[must_use]
    pub fn imap_address(&self) -> SocketAddr {
        self.ports.imap
    }

    /// Where its POP3 service listens.
    #[must_use]
    pub fn pop3_address(&self) -> SocketAddr {
        self.ports.pop3
    }

    /// Where its LMTP service listens.
    #[must_use]
    pub fn lmtp_address(&self) -> SocketAddr {
        self.ports.lmtp
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("etc/dovecot.conf")
    }

    /// The folder of all users: `<mail>/<user>/Maildir`.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// A user's Maildir ([`Format::Maildir`]).
    #[must_use]
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.mail().join(user).join("Maildir")
    }

    /// Gives one user of a running Dovecot another quota than [`Options::quota`], for sessions and
    /// deliveries from now on ([`Extent::Whole`]). Sessions that are open keep theirs.
    ///
    /// # Errors
    /// [`Error::Io`] where the file can't be written; [`Error::Answer`] where Dovecot doesn't take
    /// notice.
    pub fn set_quota(&self, user: &str, quota: Quota) -> Result<(), Error> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.insert(user.to_owned(), quota);
        drop(quotas);
        self.write_users()?;
        // Authentication looks at the file once a second, and answers by the old one until then.
        let rule = configuration::rule(quota);
        let begun = Instant::now();
        loop {
            let answer = self.doveadm(&["user", "-f", "quota_rule", user]);
            if answer.as_ref().is_ok_and(|answer| answer.trim() == rule) {
                return Ok(());
            }
            if begun.elapsed() > NOTICE_MAX {
                let answer = answer.unwrap_or_else(|error| error.to_string());
                return Err(Error::Answer { expected: format!("quota_rule {rule}"), answer });
            }
            std::thread::sleep(NOTICE_POLL);
        }
    }

    /// Gives a user a Sieve script ([`Extent::Whole`]).
    ///
    /// # Errors
    /// [`Error::Io`] where the file can't be written.
    pub fn set_sieve(&self, user: &str, script: &str) -> Result<(), Error> {
        let home = self.mail().join(user);
        Account::current().make_folder(&home)?;
        write(&home.join(".dovecot.sieve"), script)
    }

    /// The end of its log, for the message of a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        process::tail(&self.log_file())
    }

    /// All of its log.
    #[must_use]
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log/dovecot.log")
    }

    /// The command of the master process.
    ///
    /// `dovecot` runs `/usr/bin/doveconf` to read its configuration, and there is none. The other
    /// way round works: `doveconf -e` runs a program with the configuration read.
    fn master(&self) -> Result<Command, Error> {
        let mut command = process::program(&self.tree, "usr/bin/doveconf", self.folder.path())?;
        command
            .arg("-c")
            .arg(self.configuration())
            .args(["-f", "service=master", "-m", "master", "-x", "-e"])
            .arg(self.tree.path("usr/sbin/dovecot"))
            .args(["-F", "-c"])
            .arg(self.configuration());
        Ok(command)
    }

    /// Who may log in, with their quotas where they differ.
    fn write_users(&self) -> Result<(), Error> {
        let quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let users = [ALICE, BOB, CAROL]
            .map(|user| configuration::user(user, &password(user), quotas.get(user).copied()));
        let users = users.concat();
        // Dovecot reads the file anew where its size or its second of writing changed. So each has a
        // size of its own, however long what stands in it is.
        let padding = format!("# {}\n", "x".repeat(next_size().saturating_sub(users.len())));
        let etc = self.folder.path().join("etc");
        // Whole or not at all: it may be looked at any time.
        let (fresh, file) = (etc.join("passwd.new"), etc.join("passwd"));
        write(&fresh, &(users + &padding))?;
        std::fs::rename(&fresh, &file)
            .map_err(Error::io(format!("put {} in place", file.display())))?;
        // Who may log in as anybody has, by ACL, their own rights in other people's mailboxes, which
        // is none; postbell is to have the owner's.
        let asks = format!(
            "{MASTER}:{{PLAIN}}{}::::::userdb_acl_user=%{{login_user}}\n",
            password(MASTER)
        );
        write(&etc.join("masters"), &(asks + &configuration::user(ADMIN, &password(ADMIN), None)))
    }

    fn write_configuration(&self) -> Result<(), Error> {
        let folder = self.folder.path();
        if let Some(notify) = &self.options.notify {
            let script = self.options.script.as_deref().unwrap_or(configuration::SCRIPT);
            write(&folder.join("etc/postbell.lua"), script)?;
            Account::current().make_folder(&notify.spool)?;
        }
        let text = configuration::text(folder, &self.tree, self.ports, &self.options)?;
        write(&self.configuration(), &text)
    }
}

/// A user's password; known, because this is a test.
#[must_use]
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// The folders it writes into, and the link its modules are found by.
fn lay_out(folder: &TempDir, tree: &Tree) -> Result<(), Error> {
    for name in ["etc", "log", "mail", "run"] {
        Account::current().make_folder(&folder.path().join(name))?;
    }
    let link = folder.path().join("run/modules");
    std::os::unix::fs::symlink(tree.path(MODULES), &link)
        .map_err(Error::io(format!("link {}", link.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))?;
    Account::current().own(path)
}

/// A size that no file of users had before, and that leaves room for its users.
fn next_size() -> usize {
    static WRITTEN: AtomicUsize = AtomicUsize::new(8_192);
    WRITTEN.fetch_add(1, Ordering::Relaxed)
}

/// Each one with fresh ports.
const ATTEMPTS: u32 = 3;
/// Until a change of the file of users must have been noticed: it takes a second, and more on a
/// loaded machine.
const NOTICE_MAX: Duration = Duration::from_secs(60);
/// Between two questions whether it was.
const NOTICE_POLL: Duration = Duration::from_millis(50);
const MODULES: &str = "usr/lib/dovecot/modules";
