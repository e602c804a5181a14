//! Dovecot with Maildirs, from unpacked packages and without privileges.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::account::Account;
use crate::process::{self, Daemon};
use crate::{Error, Imap, Lmtp, Server, Tree};

/// A user of every [`Dovecot`].
pub const ALICE: &str = "alice@example.org";
/// Another.
pub const BOB: &str = "bob@example.org";

/// A running Dovecot with IMAP and LMTP on loopback; stops when dropped.
///
/// Mail is in Maildir++ below a temporary folder, owned by the account of
/// [`Account::current`].
#[derive(Debug)]
pub struct Dovecot {
    // Before the folder: it must be gone when its files go.
    _daemon: Daemon,
    folder: TempDir,
    imap: SocketAddr,
    lmtp: SocketAddr,
}

/// What a [`Dovecot`] does beyond the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A quota, written to `maildirsize` (Maildir++).
    pub quota: Option<Quota>,
}

/// A quota for each user.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Storage in units of 1024 octets.
    pub storage_kib: u64,
    /// Number of messages.
    pub messages: u64,
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
            match Self::launch(&tree, options) {
                // Between our finding free ports and its taking them, anybody may.
                Err(Error::Start { .. }) if attempts_left > 0 => {}
                outcome => return outcome.map(Some),
            }
        }
    }

    fn launch(tree: &Tree, options: Options) -> Result<Self, Error> {
        let folder = process::workspace("dovecot")?;
        let tree = tree.within_reach(folder.path())?;
        let ports = free_ports()?;
        lay_out(&folder, &tree)?;
        write(&folder.path().join("etc/passwd"), &passwords())?;
        let config = folder.path().join("etc/dovecot.conf");
        write(&config, &configuration(folder.path(), &tree, ports, options)?)?;

        let printed = folder.path().join("log/printed.log");
        let mut daemon = Daemon::start(master(&tree, folder.path(), &config)?, &printed)?;
        let [imap, lmtp] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let answers = || {
            TcpStream::connect(lmtp).is_ok() && Imap::login(imap, ALICE, &password(ALICE)).is_ok()
        };
        daemon.wait_until(answers).map_err(|reason| Error::Start {
            server: "dovecot",
            reason,
            log: format!("{}\n{}", daemon.printed(), process::tail(&log(folder.path()))),
        })?;
        Ok(Self { _daemon: daemon, folder, imap, lmtp })
    }

    /// A fresh IMAP session of `user`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    pub fn imap(&self, user: &str) -> Result<Imap, Error> {
        Imap::login(self.imap, user, &password(user))
    }

    /// A fresh LMTP session.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn lmtp(&self) -> Result<Lmtp, Error> {
        Lmtp::connect(self.lmtp)
    }

    /// Where its IMAP service listens.
    #[must_use]
    pub fn imap_address(&self) -> SocketAddr {
        self.imap
    }

    /// The folder of all users: `<mail>/<user>/Maildir`.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// A user's Maildir.
    #[must_use]
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.mail().join(user).join("Maildir")
    }

    /// The end of its log, for the message of a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        process::tail(&log(self.folder.path()))
    }
}

/// A user's password; known, because this is a test.
#[must_use]
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

fn passwords() -> String {
    [ALICE, BOB].map(|user| format!("{user}:{{PLAIN}}{}\n", password(user))).concat()
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log/dovecot.log")
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

/// The command of the master process.
///
/// `dovecot` runs `/usr/bin/doveconf` to read its configuration, and there is none. The other way
/// round works: `doveconf -e` runs a program with the configuration read.
fn master(tree: &Tree, folder: &Path, config: &Path) -> Result<Command, Error> {
    let mut command = process::program(tree, "usr/bin/doveconf", folder)?;
    command
        .arg("-c")
        .arg(config)
        .args(["-f", "service=master", "-m", "master", "-x", "-e"])
        .arg(tree.path("usr/sbin/dovecot"))
        .args(["-F", "-c"])
        .arg(config);
    Ok(command)
}

fn configuration(
    folder: &Path,
    tree: &Tree,
    [imap, lmtp]: [u16; 2],
    options: Options,
) -> Result<String, Error> {
    let account = Account::current();
    let mut text = TEMPLATE.to_owned();
    for (name, value) in [
        ("@QUOTA@", options.quota.map(quota).unwrap_or_default()),
        ("@FOLDER@", folder.display().to_string()),
        ("@PROGRAMS@", tree.path("usr/lib/dovecot").display().to_string()),
        ("@MODULES@", tree.path(MODULES).display().to_string()),
        ("@LIBRARIES@", tree.library_path()?.to_string_lossy().into_owned()),
        ("@USER@", name_of(account.uid(), "/etc/passwd")?),
        ("@GROUP@", name_of(account.gid(), "/etc/group")?),
        ("@UID@", account.uid().to_string()),
        ("@GID@", account.gid().to_string()),
        ("@IMAP@", imap.to_string()),
        ("@LMTP@", lmtp.to_string()),
    ] {
        text = text.replace(name, &value);
    }
    Ok(text)
}

fn quota(quota: Quota) -> String {
    let Quota { storage_kib, messages } = quota;
    format!(
        "mail_plugins = quota\n\
         protocol imap {{\n  mail_plugins = $mail_plugins imap_quota\n}}\n\
         plugin {{\n  quota = maildir:User quota\n  quota_grace = 0\n  \
         quota_rule = *:storage={storage_kib}K:messages={messages}\n}}\n"
    )
}

/// The name of an id in a file like `/etc/passwd`; Dovecot takes only names here.
fn name_of(id: u32, file: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(file).map_err(Error::io(format!("read {file}")))?;
    let id = id.to_string();
    text.lines()
        .find(|line| line.split(':').nth(2) == Some(&id))
        .and_then(|line| line.split(':').next())
        .map(str::to_owned)
        .ok_or_else(|| Error::Answer { expected: format!("id {id}"), answer: file.to_owned() })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))?;
    Account::current().own(path)
}

/// Ports nobody holds just now.
fn free_ports() -> Result<[u16; 2], Error> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let doing = || Error::io("find a free port");
    // Both held at once, or they might be one.
    let (one, other) = (listen().map_err(doing())?, listen().map_err(doing())?);
    let port = |listener: TcpListener| listener.local_addr().map(|address| address.port());
    Ok([port(one).map_err(doing())?, port(other).map_err(doing())?])
}

/// Each one with fresh ports.
const ATTEMPTS: u32 = 3;
const MODULES: &str = "usr/lib/dovecot/modules";

const TEMPLATE: &str = r"# Made for one test.
base_dir = @FOLDER@/run
state_dir = @FOLDER@/run/state
log_path = @FOLDER@/log/dovecot.log
instance_name = postbell-test
libexec_dir = @PROGRAMS@
mail_plugin_dir = @MODULES@
login_plugin_dir = @MODULES@/login
import_environment = TZ LD_LIBRARY_PATH=@LIBRARIES@
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
first_valid_uid = 1
first_valid_gid = 1
mail_access_groups =

protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
hostname = mail.example.org
postmaster_address = postmaster@example.org

mail_location = maildir:~/Maildir
namespace inbox {
  inbox = yes
  separator = /
}
passdb {
  driver = passwd-file
  args = username_format=%u @FOLDER@/etc/passwd
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@FOLDER@/mail/%u
}

service anvil {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = @IMAP@
  }
  inet_listener imaps {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    port = @LMTP@
  }
}
service stats {
  chroot =
}
@QUOTA@";
