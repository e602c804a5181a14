//! Cyrus from unpacked packages and without privileges.
//!
//! Cyrus logs to syslog only, and a test has none: [`Cyrus::log`] gives what the master printed and
//! what was said in its users' sessions.

mod configuration;
mod listener;
mod notified;
mod options;
mod sieve;
mod software;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::ports;
use crate::process::{self, Daemon};
pub use crate::{ADMIN, MASTER};
use crate::{ALICE, BOB, CAROL, Error, Imap, Lmtp, Pop3, Quota, Server, Tree, password};
pub use listener::Listener;
pub use notified::{Form, Notified};
pub use options::{Notify, OTHERS, Options};

/// The administrator (`admins`), who sees all mailboxes by their whole names.
pub const MANAGER: &str = "cyrus";

/// A running Cyrus with IMAP, POP3, LMTP and HTTP (JMAP, CalDAV) on loopback; gone when dropped.
///
/// [`ALICE`], [`BOB`] and [`CAROL`] are there with an INBOX each, and nobody was told of that.
/// [`MASTER`] and [`ADMIN`] may act as anybody with their own passwords (`proxyservers`).
#[derive(Debug)]
pub struct Cyrus {
    // Before the folder: it must be gone when its files go.
    daemon: Option<Daemon>,
    folder: TempDir,
    tree: Tree,
    ports: Ports,
    options: Options,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    http: SocketAddr,
    imap: SocketAddr,
    lmtp: SocketAddr,
    pop3: SocketAddr,
    sieve: SocketAddr,
    silent: SocketAddr,
}

impl Cyrus {
    /// Starts one that tells nobody, and returns when it answers.
    ///
    /// `None`, after a loud line, where the packages can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where they can't be had under CI; [`Error::Start`] where it doesn't
    /// answer.
    pub fn start() -> Result<Option<Self>, Error> {
        Self::start_with(Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Cyrus::start`].
    pub fn start_with(options: Options) -> Result<Option<Self>, Error> {
        let Some(tree) = Server::Cyrus.tree()? else { return Ok(None) };
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
        let folder = process::workspace("cyrus")?;
        let tree = tree.within_reach(folder.path())?;
        let [http, imap, lmtp, pop3, sieve, silent] = ports::free()?;
        let ports = Ports { http, imap, lmtp, pop3, sieve, silent };
        let mut cyrus = Self { daemon: None, folder, tree, ports, options };
        cyrus.lay_out()?;
        cyrus.write_configuration()?;
        cyrus.register()?;
        cyrus.start_again()?;
        cyrus.open_mailboxes()?;
        Ok(cyrus)
    }

    /// Starts it on the same folder and ports after [`Cyrus::stop`] or [`Cyrus::kill`], and returns
    /// when it answers.
    ///
    /// # Errors
    /// [`Error::Start`] where it doesn't.
    pub fn start_again(&mut self) -> Result<(), Error> {
        // The one before must be gone before this one asks for its ports.
        self.daemon = None;
        let mut command = self.program("master")?;
        command.arg("-C").arg(self.configuration());
        command.arg("-M").arg(self.etc("cyrus.conf"));
        command.arg("-p").arg(self.folder.path().join("conf/master.pid"));
        let mut daemon = Daemon::start(command, &self.printed())?;
        let Ports { lmtp, silent, .. } = self.ports;
        let answers = || TcpStream::connect(lmtp).is_ok() && Imap::greet(silent).is_ok();
        daemon.wait_until(answers).map_err(|reason| Error::Start {
            server: "cyrus",
            reason,
            log: daemon.printed(),
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops it as a system's administrator would; takes a second or two.
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

    /// Kills one of its processes (SIGKILL).
    ///
    /// # Errors
    /// [`Error::Io`] where there is none such.
    pub fn kill_process(&self, pid: u32) -> Result<(), Error> {
        process::kill(pid)
    }

    /// Asks one of its processes to end (SIGTERM).
    ///
    /// # Errors
    /// [`Error::Io`] where there is none such.
    pub fn end_process(&self, pid: u32) -> Result<(), Error> {
        process::end(pid)
    }

    /// Its processes that run `program`, such as `imapd` or `lmtpd`; oldest first.
    #[must_use]
    pub fn processes(&self, program: &str) -> Vec<u32> {
        self.daemon.as_ref().map(|daemon| daemon.members(program)).unwrap_or_default()
    }

    /// The process that serves a session of `user`.
    ///
    /// # Errors
    /// [`Error::Answer`] where none says so within a minute.
    pub fn process_of(&self, user: &str) -> Result<u32, Error> {
        let folder = self.folder.path().join("conf/proc");
        let name = self.login_name(user);
        let begun = Instant::now();
        loop {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            // `service<TAB>client<TAB>user<TAB>mailbox<TAB>command`, in a file named by its process.
            let serving = files.into_iter().find_map(|file| {
                let text = std::fs::read_to_string(file.path()).ok()?;
                let whose = text.trim_end().split('\t').nth(2)?.to_owned();
                let pid = file.file_name().to_str()?.parse().ok()?;
                (whose == name).then_some(pid)
            });
            if let Some(pid) = serving {
                return Ok(pid);
            }
            if begun.elapsed() > PATIENCE {
                let expected = format!("a process of {name}");
                return Err(Error::Answer { expected, answer: folder.display().to_string() });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs one of its tools, such as `cyr_expire` or `ctl_cyrusdb`, and returns what it prints.
    ///
    /// # Errors
    /// [`Error::Failed`] with what it prints.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Result<String, Error> {
        let mut command = self.program(name)?;
        command.arg("-C").arg(self.configuration()).args(arguments);
        process::run(&mut command, b"")
    }

    /// Has `cyradm` carry out commands, one a line, as [`MANAGER`], and returns what it prints.
    ///
    /// # Errors
    /// [`Error::Failed`] with what it prints.
    pub fn cyradm(&self, commands: &str) -> Result<String, Error> {
        // Its modules stand above their library.
        let library = self.libraries("/auto/Cyrus/IMAP")?;
        let modules = library.ancestors().nth(3).unwrap_or(&library);
        let mut command = self.command("usr/bin/cyradm")?;
        command
            .env("PERL5LIB", modules)
            .env("TERM", "dumb")
            .args(["--user", MANAGER, "--auth", "login", "--password", &password(MANAGER)])
            .args(["--server", &self.ports.imap.ip().to_string()])
            .args(["--port", &self.ports.imap.port().to_string()]);
        process::run(&mut command, commands.as_bytes())
    }

    /// A fresh IMAP session of `user`, who may be [`MANAGER`].
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn imap(&self, user: &str) -> Result<Imap, Error> {
        Imap::login(self.ports.imap, &self.login_name(user), &password(user))
    }

    /// A fresh IMAP session of `user` for whom `login` logs in: [`MASTER`], [`ADMIN`] or
    /// [`MANAGER`].
    ///
    /// # Errors
    /// [`Error::Refused`] for whoever may not.
    pub fn imap_as(&self, user: &str, login: &str) -> Result<Imap, Error> {
        Imap::authenticate(self.ports.imap, &self.login_name(user), login, &password(login))
    }

    /// A fresh IMAP session of [`MANAGER`] of which nothing is told, whatever it does.
    ///
    /// # Errors
    /// [`Error::Io`] where Cyrus doesn't answer.
    pub fn silent(&self) -> Result<Imap, Error> {
        Imap::login(self.ports.silent, MANAGER, &password(MANAGER))
    }

    /// A fresh POP3 session of `user`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn pop3(&self, user: &str) -> Result<Pop3, Error> {
        Pop3::login(self.ports.pop3, &self.login_name(user), &password(user))
    }

    /// A fresh LMTP session.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn lmtp(&self) -> Result<Lmtp, Error> {
        Lmtp::connect(self.ports.lmtp)
    }

    /// Where its HTTP service listens.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.ports.http
    }

    /// Where its IMAP service listens.
    #[must_use]
    pub fn imap_address(&self) -> SocketAddr {
        self.ports.imap
    }

    /// Where its LMTP service listens.
    #[must_use]
    pub fn lmtp_address(&self) -> SocketAddr {
        self.ports.lmtp
    }

    /// Where its POP3 service listens.
    #[must_use]
    pub fn pop3_address(&self) -> SocketAddr {
        self.ports.pop3
    }

    /// The folder of all its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `imapd.conf`, in which its services and tools look when they start.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.etc(configuration::TELLING)
    }

    /// What `user` logs in as.
    #[must_use]
    pub fn login_name(&self, user: &str) -> String {
        let (local, _) = user.split_once('@').unwrap_or((user, ""));
        if self.options.virtdomains { user } else { local }.to_owned()
    }

    /// The name by which [`MANAGER`] knows a mailbox of `user`, which the user knows as `mailbox`.
    #[must_use]
    pub fn whole_name(&self, user: &str, mailbox: &str) -> String {
        let separator = if self.options.unixhierarchysep { "/" } else { "." };
        let (local, domain) = user.split_once('@').unwrap_or((user, ""));
        // Below INBOX or beside it, as the namespace has it.
        let inside = mailbox.strip_prefix("INBOX").unwrap_or(mailbox);
        let inside = inside.strip_prefix(separator).unwrap_or(inside);
        let mut name = format!("user{separator}{local}");
        if !inside.is_empty() {
            name.push_str(separator);
            name.push_str(inside);
        }
        if self.options.virtdomains && !domain.is_empty() {
            name.push('@');
            name.push_str(domain);
        }
        name
    }

    /// Gives one user this quota, silently.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn set_quota(&self, user: &str, quota: Quota) -> Result<(), Error> {
        let root = self.whole_name(user, "INBOX");
        let Quota { storage_kib, messages } = quota;
        let command = format!("SETQUOTA \"{root}\" (STORAGE {storage_kib} MESSAGE {messages})");
        let mut silent = self.silent()?;
        silent.command(&command)?;
        silent.logout()
    }

    /// Has `cyr_expire` remove those messages of a mailbox whose `Date` is older than so many days;
    /// said silently.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such mailbox.
    pub fn set_expiry(&self, user: &str, mailbox: &str, days: u32) -> Result<(), Error> {
        let name = self.whole_name(user, mailbox);
        let entry = "/shared/vendor/cmu/cyrus-imapd/expire";
        let mut silent = self.silent()?;
        silent.command(&format!("SETMETADATA \"{name}\" ({entry} \"{days}\")"))?;
        silent.logout()
    }

    /// Has a Sieve script sort a user's new mail; said silently.
    ///
    /// # Errors
    /// [`Error::Refused`] where Cyrus doesn't understand it.
    pub fn set_sieve(&self, user: &str, script: &str) -> Result<(), Error> {
        sieve::activate(self.ports.sieve, &self.login_name(user), &password(user), script)
    }

    /// What the master printed and what its users said and heard, for the message of a failing
    /// test.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = process::tail(&self.printed());
        for user in [ALICE, BOB, CAROL] {
            let sessions = std::fs::read_dir(self.sessions_of(user)).into_iter().flatten();
            for session in sessions.flatten() {
                text.push_str(&format!("\n--- {user}, {} ---\n", session.file_name().display()));
                text.push_str(&process::tail(&session.path()));
            }
        }
        text
    }

    /// Where Cyrus writes a user's sessions down, if the folder is there.
    fn sessions_of(&self, user: &str) -> PathBuf {
        self.folder.path().join("conf/log").join(self.login_name(user))
    }

    fn printed(&self) -> PathBuf {
        self.folder.path().join("log/printed.log")
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.folder.path().join("etc").join(name)
    }

    /// A command of one of its own programs.
    fn program(&self, name: &str) -> Result<Command, Error> {
        self.command(&format!("{PROGRAMS}/{name}"))
    }

    /// A command of any program beside it. SASL looks for its modules in one fixed folder, where it
    /// isn't told another.
    fn command(&self, program: &str) -> Result<Command, Error> {
        let mut command = process::program(&self.tree, program, self.folder.path())?;
        command.env("SASL_PATH", self.libraries("/sasl2")?);
        Ok(command)
    }

    /// The folder of libraries whose path ends so.
    fn libraries(&self, ending: &str) -> Result<PathBuf, Error> {
        let list = self.tree.path(".libraries");
        let text = std::fs::read_to_string(&list)
            .map_err(Error::io(format!("read {}", list.display())))?;
        let found = text.lines().find(|folder| folder.ends_with(ending));
        Ok(self.tree.path(found.ok_or(Error::Missing { path: list })?))
    }

    fn lay_out(&self) -> Result<(), Error> {
        let account = Account::current();
        for name in ["conf", "etc", "log", "sieve", "sock", "spool"] {
            account.make_folder(&self.folder.path().join(name))?;
        }
        [ALICE, BOB, CAROL].iter().try_for_each(|user| account.make_folder(&self.sessions_of(user)))
    }

    fn write_configuration(&self) -> Result<(), Error> {
        let folder = self.folder.path();
        let (tree, ports, options) = (&self.tree, self.ports, &self.options);
        for (name, text) in [
            (configuration::TELLING, configuration::telling(folder, options)?),
            (configuration::SILENT, configuration::silent(folder, options)?),
            ("cyrus.conf", configuration::services(folder, tree, ports, options)),
        ] {
            let path = self.etc(name);
            std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
            Account::current().own(&path)?;
        }
        Ok(())
    }

    /// Writes down who may log in.
    fn register(&self) -> Result<(), Error> {
        for user in [ALICE, BOB, CAROL, MANAGER, MASTER, ADMIN] {
            let name = self.login_name(user);
            // Whoever has no domain is looked for in the server's.
            let (local, realm) = name.split_once('@').unwrap_or((&name, &self.options.server_name));
            let mut command = self.command("usr/sbin/saslpasswd2")?;
            command.args(["-p", "-c", "-u", realm, "-f"]).arg(self.etc("sasldb2")).arg(local);
            process::run(&mut command, password(user).as_bytes())?;
        }
        Ok(())
    }

    fn open_mailboxes(&self) -> Result<(), Error> {
        let mut silent = self.silent()?;
        for user in [ALICE, BOB, CAROL] {
            silent.create(&self.whole_name(user, "INBOX"))?;
        }
        silent.logout()?;
        let Some(quota) = self.options.quota else { return Ok(()) };
        [ALICE, BOB, CAROL].iter().try_for_each(|user| self.set_quota(user, quota))
    }
}

impl Drop for Cyrus {
    /// Its files go too, so nothing is gained by waiting for its end in good order.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where its programs are in the tree.
const PROGRAMS: &str = "usr/lib/cyrus/bin";
/// Each one with fresh ports.
const ATTEMPTS: u32 = 3;
/// A loaded machine takes its time to say who serves whom.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(20);
