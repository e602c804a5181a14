//! Sources on threads of their own: started, started again when they fail, and stopped.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postbell_engine::{InvalidPattern, Policy, Quota, Store, in_words};
use postbell_journal::Journal;
use postbell_sources::dovecot::{self, Exporter};
use postbell_sources::{Ends, Health, Master, Secret, State, Stop, cyrus, maildir};
use tracing::warn;

use crate::config::{ExpireConfig, SourceConfig, SourceKind, Virtdomains};
use crate::demand::Demands;
use crate::intake::{HubIntake, LastCheckpoint};
use crate::metrics::{Metrics, SourceMetrics};
use crate::traces::Traces;

/// What a source is wired to.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) demands: Demands,
    /// What `serverFQDN` says, where that is known (R132).
    pub(crate) server_fqdn: Option<String>,
    /// Where the way of what they see is told.
    pub(crate) traces: Traces,
    /// Our ends of all connections to stores.
    pub(crate) ends: Ends,
}

/// A source as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) health: Health,
    /// Where what a Dovecot exports is left.
    pub(crate) exporter: Option<Exporter>,
    /// The last checkpoint; nothing where the source keeps none.
    pub(crate) checkpoint: Option<LastCheckpoint>,
}

/// All sources.
#[derive(Debug)]
pub(crate) struct Sources {
    list: Vec<Source>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Sources {
    /// Starts each configured source on a thread of its own.
    pub(crate) fn start(
        configs: &BTreeMap<String, SourceConfig>,
        wiring: &Wiring,
    ) -> io::Result<Self> {
        let mut sources = Self { list: Vec::new(), stop: Stop::new()?, threads: Vec::new() };
        for (name, config) in configs {
            let source = Source {
                name: name.clone(),
                kind: config.kind.as_str(),
                health: Health::new(),
                exporter: (config.kind == SourceKind::Dovecot).then(Exporter::new),
                checkpoint: Some(LastCheckpoint::default()),
            };
            sources.list.push(source.clone());
            let running = Running {
                metrics: Arc::new(wiring.metrics.source(name)),
                source,
                config: config.clone(),
                wiring: wiring.clone(),
                stop: sources.stop.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("source {name}"))
                .spawn(move || running.supervise())
                .inspect_err(|_| sources.stop.set())?;
            sources.threads.push(thread);
        }
        Ok(sources)
    }

    /// The sources as they are shown.
    pub(crate) fn list(&self) -> Vec<Source> {
        self.list.clone()
    }

    /// Asks all of them to end.
    pub(crate) fn stop(&self) {
        self.stop.set();
    }

    /// Their threads, for whoever waits for them.
    pub(crate) fn take_threads(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

/// One source on its thread.
struct Running {
    source: Source,
    config: SourceConfig,
    wiring: Wiring,
    metrics: Arc<SourceMetrics>,
    stop: Stop,
}

impl Running {
    /// Runs the source until the hub stops: one that fails is started again, later each time,
    /// and takes nothing else down.
    fn supervise(self) {
        let health = &self.source.health;
        let mut pause = PAUSE_FIRST;
        loop {
            let begun = Instant::now();
            // What a panic left half done is made anew: the next run starts from what is durable.
            let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
            if self.stop.is_set() {
                health.set_state(State::Stopped, "");
                return;
            }
            let why = match ended {
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(error)) => chain(&*error),
                Err(_) => "it panicked".to_owned(),
            };
            if begun.elapsed() > CALM {
                pause = PAUSE_FIRST;
            }
            health.set_error(&why);
            health.set_state(State::Failed, &*why);
            let seconds = pause.as_secs();
            warn!(source = %self.source.name, why, seconds, "a source failed and is started again");
            if self.stop.wait_timeout(pause) {
                health.set_state(State::Stopped, "");
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn run(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Wiring { journal, store, policy, .. } = &self.wiring;
        let health = &self.source.health;
        health.set_state(State::Starting, "");
        let intake = HubIntake::open(
            &self.source.name,
            Arc::clone(journal),
            (store.clone(), policy.clone(), self.wiring.demands.clone()),
            Arc::clone(&self.metrics),
            (health.clone(), self.stop.clone()),
            self.source.checkpoint.clone().unwrap_or_default(),
        )?
        .traced(self.wiring.traces.clone());
        match self.config.kind {
            SourceKind::Maildir => {
                let options = maildir_options(&self.config, &self.wiring);
                maildir::run(&options, &intake, health, &self.stop)?;
            }
            SourceKind::Dovecot => {
                let exporter = self.source.exporter.clone().unwrap_or_default();
                let options = dovecot_options(&self.config, &self.wiring, exporter)?;
                dovecot::run(&options, &intake, health, &self.stop)?;
            }
            SourceKind::Cyrus => {
                let options = cyrus_options(&self.config, &self.wiring)?;
                cyrus::run(&options, &intake, health, &self.stop)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn maildir_options(config: &SourceConfig, wiring: &Wiring) -> maildir::Options {
    maildir::Options {
        root: config.root.to_string_lossy().into_owned(),
        user: Some(config.user.clone()).filter(|user| !user.is_empty()),
        scan_interval: config.scan_interval,
        quota: quota(config),
        server_fqdn: wiring.server_fqdn.clone(),
        body_structure: wiring.policy.structure_read(),
        content_max_octets: wiring.policy.content_read(),
    }
}

/// The limit each user has where the store itself sets none.
fn quota(config: &SourceConfig) -> Option<Quota> {
    let messages_limit = Some(config.quota_messages).filter(|limit| *limit > 0);
    let disk_limit_kib = config.quota_storage.map(|octets| octets.div_ceil(1024));
    (messages_limit.is_some() || disk_limit_kib.is_some()).then(|| Quota {
        root: String::new(),
        disk_limit_kib,
        disk_used_kib: None,
        messages_limit,
        messages_used: None,
    })
}

pub(crate) fn dovecot_options(
    config: &SourceConfig,
    wiring: &Wiring,
    exporter: Exporter,
) -> Result<dovecot::Options, Box<dyn Error + Send + Sync>> {
    let expire = config.expire.iter().map(expire_rule).collect::<Result<_, _>>()?;
    let master = master(config, wiring, Some(config.master_separator))?;
    Ok(dovecot::Options {
        spool: config.spool.clone(),
        separator: config.separator,
        shared: config.shared.clone(),
        expire,
        annotation_window: config.annotation_window,
        server_fqdn: wiring.server_fqdn.clone(),
        master,
        hole_window: dovecot::HOLE_WINDOW,
        body_structure: wiring.policy.structure_read(),
        content_max_octets: wiring.policy.content_read(),
        exporter,
    })
}

fn expire_rule(rule: &ExpireConfig) -> Result<dovecot::ExpireRule, InvalidPattern> {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(dovecot::ExpireRule {
        reason: rule.reason.clone(),
        user: text(&rule.user),
        mailbox: text(&rule.mailbox).as_deref().map(str::parse).transpose()?,
        policy: rule.policy.clone(),
    })
}

pub(crate) fn cyrus_options(
    config: &SourceConfig,
    wiring: &Wiring,
) -> Result<cyrus::Options, MasterError> {
    Ok(cyrus::Options {
        spool: config.notify_spool.clone(),
        namespace: cyrus::Namespace {
            unix_separator: config.unixhierarchysep,
            alternative: config.altnamespace,
            domains: config.virtdomains != Virtdomains::Off,
            user_prefix: config.userprefix.clone(),
            shared_prefix: config.sharedprefix.clone(),
        },
        envelope: wiring.policy.envelope,
        raw: config.notify_raw,
        server_fqdn: wiring.server_fqdn.clone(),
        // Cyrus takes the two names apart (RFC 4616).
        master: master(config, wiring, None)?,
        body_structure: wiring.policy.structure_read(),
        content_max_octets: wiring.policy.content_read(),
    })
}

/// Who asks the store what it doesn't say by itself, if anybody.
fn master(
    config: &SourceConfig,
    wiring: &Wiring,
    separator: Option<char>,
) -> Result<Option<Master>, MasterError> {
    let user = config.master_user.as_str();
    let master = || {
        let password = master_password(&config.master_password_file)?;
        Ok(Master {
            address: config.master_address,
            user: user.to_owned(),
            password,
            separator,
            ends: wiring.ends.clone(),
        })
    };
    (!user.is_empty()).then(master).transpose()
}

/// The first line of the file with the master user's password.
fn master_password(path: &Path) -> Result<Secret, MasterError> {
    let io = |source| MasterError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(MasterError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(PASSWORD_FILE_OCTETS_MAX).read_to_string(&mut text).map_err(io)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line.as_bytes())),
        None => Err(MasterError::Empty { path: path.to_owned() }),
    }
}

/// Why the master user's password can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasterError {
    #[error("{path}: the master user's password can't be read", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: mode {mode:03o} lets everybody read the master user's password (run: chmod o= {path})", path = path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{path}: holds no password", path = path.display())]
    Empty { path: PathBuf },
}

/// The longest file with a password that is read.
const PASSWORD_FILE_OCTETS_MAX: u64 = 4096;

/// An error and its causes on one line, in words.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Transparent errors say the same as their cause.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    in_words(&text)
}

/// The pause before a failed source is started again, at first.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest such pause: a store that came back is noticed within a minute.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A source that ran so long before it failed was well.
const CALM: Duration = Duration::from_secs(300);
