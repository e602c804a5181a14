//! The hub as a whole: started, watched, and shut down in order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postbell_engine::{FlagForm, Groups, InvalidStore, Policy, Role, Store, Stores};
use postbell_journal::{Journal as _, OpenError, Options, Retention, SqliteJournal, State};
use postbell_sources::dovecot::Exporter;
use postbell_sources::{Ends, Health};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info, warn};

use crate::access::{Denials, Logins, Oidc, Places, Tokens};
use crate::api::{self, App, Fetches};
use crate::config::{
    ClientCertificateConfig, Config, ContentReference, Form, JournalConfig, PolicyConfig,
    PublishConfig, SourceConfig, SourceKind, TlsConfig,
};
use crate::contents::Contents;
use crate::demand::{self, Demands, Terms};
use crate::feed::Feed;
use crate::links::Links;
use crate::listen;
use crate::metrics::Metrics;
use crate::publish::{self, Gatherer, Publishers, Socket};
use crate::sharing::{Remembered, Sharing, Times};
use crate::signed::Notary;
use crate::signing::SigningKey;
use crate::sources::{Source, Sources, Wiring};
use crate::state::{StateDb, StateError};
use crate::stream::HEARTBEAT;
use crate::subscriptions::Subscriptions;
use crate::tls::{ClientCertificates, Tls, TlsError, outward};
use crate::token::{CONTENT_KEY, PathSecret, Token, TokenError};
use crate::traces::{Traces, TracesError};
use crate::url_auth::UrlAuth;

/// A running hub.
///
/// Dropping it stops it too, but waits for nothing: what is under way is cut off. No event that
/// was acknowledged is lost either way.
#[derive(Debug)]
pub struct Hub {
    app: Arc<App>,
    address: SocketAddr,
    local_address: Option<SocketAddr>,
    tls: Option<Arc<Tls>>,
    /// What webhooks' receivers are shown.
    certificates: Arc<ClientCertificates>,
    sources: Sources,
    stopping: watch::Sender<bool>,
    failed: watch::Receiver<Option<String>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Opens the data folder, starts the sources and listens.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the folder, file, address or key at fault. Nothing keeps running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_beating(config, HEARTBEAT).await
    }

    /// The same where no stream may be silent for longer than `heartbeat`.
    pub(crate) async fn start_beating(
        config: Config,
        heartbeat: Duration,
    ) -> Result<Self, StartError> {
        if let Some((key, why)) = crate::config::in_clear(&config).into_iter().next() {
            return Err(StartError::InClear { key, why });
        }
        let metrics = Arc::new(Metrics::new());
        let tls = match config.tls.is_on() {
            true => Some(open_tls(config.tls.clone(), &metrics).await?),
            false => None,
        };
        let shown = config.webhooks.client_certificates.clone();
        let certificates = open_certificates(shown, &metrics).await?;
        let authorities = config.tls.authorities.clone();
        let outward = spawn_blocking(move || outward(&authorities)).await;
        let outward =
            outward.map_err(|error| StartError::Thread { source: io::Error::other(error) })?;
        let outward = outward?;
        let traces = Traces::start(&config.traces, &outward, metrics.spans())?;
        let port = Some(config.store.port).filter(|port| *port != 0);
        let store = Store::new(&config.store.host, port)?;
        let policy = policy(&config.policy);
        let secrets = config.sources.iter().filter(|(_, one)| one.kind == SourceKind::Dovecot);
        let secrets = secrets.map(|(name, _)| (name.clone(), config.exporter_secret_file(name)));
        let secrets = secrets.collect();
        let opened = open(config.data.clone(), options(&config.journal), secrets).await?;
        let Opened { journal, token, key, state, secrets, lost } = opened;
        let links = Links::load_or_make(
            &config.data.join(CONTENT_KEY),
            &config.http.public_url,
            config.policy.content_link_lifetime,
        )?;
        let state = Arc::new(state);
        let (db, own_store) = (Arc::clone(&state), store.host().to_owned());
        let (login, oidc) = (config.login.clone(), config.oidc.clone());
        let opened = spawn_blocking(move || {
            let tokens = Arc::new(Tokens::open(token, Arc::clone(&db), &own_store)?);
            let denials = Arc::new(Denials::open(db)?);
            let (logins, oidc) = (Logins::open(&login)?, Oidc::open(&oidc, &denials)?);
            Ok::<_, StartError>((tokens, denials, logins, oidc.map(Arc::new)))
        });
        let opened = opened.await;
        let opened =
            opened.map_err(|error| StartError::Thread { source: io::Error::other(error) })?;
        let (tokens, denials, logins, oidc) = opened?;
        let (address, listener) = bind(config.listen).await?;
        let base = match &tls {
            Some(tls) => format!("https://{}:{}", tls.name(), address.port()),
            None => format!("http://{address}"),
        };
        let links = if links.has_base() { links } else { links.at(base) };
        let local = match config.tls.local_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };

        let feed = Feed::new(Arc::clone(&journal) as _);
        let terms = Terms {
            record: config.policy.record,
            linger: config.policy.record_linger,
            confirm: demand::CONFIRM_MAX,
            patience: demand::PATIENCE_MAX,
            look_every: demand::LOOK_EVERY,
            policy: policy.clone(),
            store: store.clone(),
            spools: spools(&config.sources),
        };
        let demands = Demands::new(terms, Arc::clone(&journal) as _);
        let wiring = Wiring {
            journal: Arc::clone(&journal) as _,
            store: store.clone(),
            policy: policy.clone(),
            metrics: Arc::clone(&metrics),
            demands: demands.clone(),
            server_fqdn: server_fqdn(&config.store.fqdn),
            ends: Ends::default(),
            traces: traces.clone(),
        };
        let fetches = Fetches::new();
        let url_auth = match config.policy.content_reference {
            ContentReference::Link => UrlAuth::default(),
            ContentReference::UrlAuth => {
                let lifetime = config.policy.content_link_lifetime;
                UrlAuth::new(&config.sources, &wiring, lifetime, fetches.asking())
            }
        };
        let links = Arc::new(links.authorised_by(url_auth.clone()));
        let socket = match config.publish_socket() {
            Some(path) => Some(
                Socket::bind(path.clone(), speakers(&config.publish, store.host())?)
                    .map_err(|source| StartError::Socket { path, source })?,
            ),
            None => None,
        };
        let contents = Contents::new(&config.sources, &wiring);
        let asked = contents.clone();
        let sharing = match config.access.shared_mailboxes {
            true => {
                let (feed, remembered) = (feed.clone(), Remembered::open(Arc::clone(&state)).await);
                Sharing::new(move |user| asked.shared(user), feed, remembered, Times::STANDARD)
            }
            false => {
                Remembered::forget(&state).await?;
                Sharing::default()
            }
        };
        let subscriptions = Subscriptions::open(
            state,
            (Arc::clone(&tokens), sharing.clone()),
            (feed.clone(), demands.clone()),
            (policy.clone(), Arc::clone(&links), traces.clone()),
            store.clone(),
            (config.webhooks, outward, Arc::clone(&certificates)),
            &config.commands,
        );
        let subscriptions = subscriptions.await?;
        demands.begin().await;
        let (stopping, stop) = watch::channel(false);
        let sources = Sources::start(&config.sources, &wiring)
            .map_err(|source| StartError::Thread { source })?;
        let mut list = sources.list();
        let health = Health::new();
        list.push(Source {
            name: publish::NAME.to_owned(),
            kind: "publish",
            health: health.clone(),
            exporter: None,
            checkpoint: None,
        });
        let publishers = Publishers::new(
            Arc::clone(&journal) as _,
            policy.clone(),
            metrics.source(publish::NAME),
            health,
        );
        let publishers = Arc::new(publishers.traced(traces));
        let file = Some(config.journal.checkpoint_file).filter(|file| !file.as_os_str().is_empty());
        let interval = config.journal.checkpoint_interval;
        let notary =
            file.map(|file| Notary::new(Arc::clone(&journal), Arc::clone(&key), file, interval));
        let app = Arc::new(App {
            started: Instant::now(),
            tokens,
            logins,
            oidc: oidc.clone(),
            denials,
            exporters: exporters(secrets, &list),
            http: config.http.clone(),
            store,
            policy,
            journal: Arc::clone(&journal),
            journal_folder: config.data.join("journal"),
            feed,
            demands,
            metrics,
            sources: list,
            gatherer: Gatherer::start(Arc::clone(&publishers)),
            publishers: Arc::clone(&publishers),
            streams: Arc::new(Semaphore::new(config.http.max_streams as usize)),
            places: Places::default(),
            heartbeat,
            links,
            contents,
            sharing: sharing.clone(),
            fetches,
            stopping: stop.clone(),
            subscriptions,
            lost,
            key,
            notary: notary.clone(),
        });
        let (failing, failed) = watch::channel(None);
        let door = api::door(Arc::clone(&app));
        let mut tasks = Vec::new();
        let local_address = local.as_ref().map(|(address, _)| *address);
        if let Some((address, listener)) = local {
            let (door, http) = (door.clone(), config.http.clone());
            tasks.push(tokio::spawn(listen::serve(listener, None, door, http, stop.clone())));
            info!(%address, "this machine's programs are served without TLS");
        }
        if let Some(tls) = &tls {
            tasks.push(tokio::spawn(Arc::clone(tls).watch(stop.clone())));
        }
        if !certificates.is_empty() {
            tasks.push(tokio::spawn(Arc::clone(&certificates).watch(stop.clone())));
        }
        tasks.extend([
            tokio::spawn(listen::serve(listener, tls.clone(), door, config.http, stop.clone())),
            tokio::spawn(watch_journal(
                app.journal_folder.clone(),
                move || journal.state(),
                failing,
                stop.clone(),
            )),
        ]);
        tasks.push(tokio::spawn(sharing.watch(stop.clone())));
        tasks.push(tokio::spawn(url_auth.watch(stop.clone())));
        if let Some(oidc) = oidc {
            tasks.push(tokio::spawn(oidc.watch(stop.clone())));
        }
        if let Some(notary) = notary {
            tasks.push(tokio::spawn(notary.run(stop.clone())));
        }
        if let Some(socket) = socket {
            info!(socket = %socket.path().display(), "publishers may connect");
            tasks.push(tokio::spawn(publish::serve(socket, publishers, app.demands.clone(), stop)));
        }
        notify(NotifyState::Ready);
        info!(%address, data = %config.data.display(), "the hub is up");
        Ok(Self {
            app,
            address,
            local_address,
            tls,
            certificates,
            sources,
            stopping,
            failed,
            tasks,
        })
    }

    /// Where the HTTP API listens: the configured address, with the port the system chose where
    /// it was to choose one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where this machine's programs are served without TLS beside that, if anywhere.
    #[must_use]
    pub fn local_listener(&self) -> Option<SocketAddr> {
        self.local_address
    }

    /// A name its certificate is for, where there is TLS.
    #[must_use]
    pub fn certificate_name(&self) -> Option<String> {
        self.tls.as_ref().map(|tls| tls.name())
    }

    /// Has every certificate taken anew, changed or not: that of TLS, and those that webhooks'
    /// receivers are shown; `false` where there is none. What becomes of it is logged.
    pub fn reload_certificate(&self) -> bool {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
        self.certificates.reload();
        self.tls.is_some() || !self.certificates.is_empty()
    }

    /// The API's bearer token that is in the data folder's file.
    #[must_use]
    pub fn token(&self) -> &Token {
        self.app.tokens.file()
    }

    /// Waits until something failed that only a person can set right, and says what; a hub that
    /// is well never answers.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        if let Ok(reason) = failed.wait_for(Option::is_some).await
            && let Some(reason) = reason.as_ref()
        {
            return reason.clone();
        }
        std::future::pending().await
    }

    /// Ends everything in order: no new work, then what is under way, then the journal. Takes a
    /// few seconds at most.
    pub async fn shutdown(mut self) {
        notify(NotifyState::Stopping);
        info!("the hub is stopping");
        // First, since whoever follows is let go of below, and nobody makes up for what a store leaves
        // out until they are back.
        self.app.demands.keep_all();
        self.sources.stop();
        // Nobody may be listening any more, and then there is nobody to tell.
        self.stopping.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks);
        let ended = async {
            for task in tasks {
                if let Err(error) = task.await
                    && error.is_panic()
                {
                    error!(%error, "a part of the hub panicked");
                }
            }
        };
        within("connections", ended).await;
        // Streams that left HTTP behind hold their places until they have said farewell.
        let places = Arc::clone(&self.app.streams);
        let all = self.app.http.max_streams;
        within("streams", async { drop(places.acquire_many(all).await) }).await;
        let threads = self.sources.take_threads();
        within("sources", join(threads)).await;
        within("subscriptions", self.app.subscriptions.shutdown()).await;
        let journal = Arc::clone(&self.app.journal);
        within("journal", async {
            if let Err(error) = spawn_blocking(move || journal.close()).await {
                error!(%error, "the journal panicked while it was closed");
            }
        })
        .await;
        if let Some(notary) = &self.app.notary {
            // Now that nothing more will come.
            within("signed checkpoint", notary.sign()).await;
        }
        let traces = self.app.publishers.traces.clone();
        if traces.is_on() {
            let ended = spawn_blocking(move || traces.shutdown());
            within("traces", async { drop(ended.await) }).await;
        }
        info!("the hub has stopped");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.app.demands.keep_all();
        self.sources.stop();
        self.stopping.send_replace(true);
    }
}

/// What is in the data folder.
struct Opened {
    journal: Arc<SqliteJournal>,
    token: Token,
    key: Arc<SigningKey>,
    state: StateDb,
    secrets: BTreeMap<String, PathSecret>,
    lost: LostFiles,
}

/// What was missing as the hub started, though the first start makes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LostFiles {
    /// The journal was, beside a `hub.db`.
    pub(crate) journal: bool,
    /// `hub.db` was, beside a journal that has records.
    pub(crate) subscriptions: bool,
}

/// For which stores each user that may publish speaks: the hub's own where none is named.
fn speakers(config: &PublishConfig, own: &str) -> Result<BTreeMap<u32, Stores>, InvalidStore> {
    let stores = |uid: &u32| {
        let named = config.uid_stores.iter().find(|one| one.uid == *uid);
        match named {
            Some(named) => Stores::of(&named.stores),
            None => Stores::of(&[own]),
        }
    };
    config.allowed_uids.iter().map(|uid| stores(uid).map(|stores| (*uid, stores))).collect()
}

/// The spools that scripts in a Dovecot write to, by the names of their sources.
fn spools(sources: &BTreeMap<String, SourceConfig>) -> Vec<(String, PathBuf)> {
    let dovecots = sources.iter().filter(|(_, source)| source.kind == SourceKind::Dovecot);
    dovecots.map(|(name, source)| (name.clone(), source.spool.clone())).collect()
}

/// Reads the certificate off the async threads.
async fn open_tls(config: TlsConfig, metrics: &Metrics) -> Result<Arc<Tls>, StartError> {
    let metrics = metrics.tls();
    let opened = spawn_blocking(move || Tls::open(config, metrics)).await;
    let opened = opened.map_err(|error| StartError::Thread { source: io::Error::other(error) })?;
    Ok(Arc::new(opened?))
}

/// Reads what receivers are shown off the async threads.
async fn open_certificates(
    configs: BTreeMap<String, ClientCertificateConfig>,
    metrics: &Metrics,
) -> Result<Arc<ClientCertificates>, StartError> {
    let metrics = metrics.tls();
    let opened = spawn_blocking(move || ClientCertificates::open(&configs, metrics)).await;
    let opened = opened.map_err(|error| StartError::Thread { source: io::Error::other(error) })?;
    Ok(Arc::new(opened?))
}

/// Opens it off the async threads; the journal first, since whoever has it has the folder.
async fn open(
    data: PathBuf,
    options: Options,
    secrets: Vec<(String, PathBuf)>,
) -> Result<Opened, StartError> {
    let opened = spawn_blocking(move || {
        make_private(&data)?;
        let (folder, path) = (data.join("journal"), data.join("hub.db"));
        // What is made of a journal first, and so all of it where that isn't there.
        let had_journal = folder.join("state.db").exists();
        let journal = SqliteJournal::open(&folder, options)?;
        let token = Token::load_or_make(&data.join("token"))?;
        let key = Arc::new(SigningKey::load_or_make(&data)?);
        let secrets = secrets
            .into_iter()
            .map(|(name, path)| PathSecret::load_or_make(&path).map(|secret| (name, secret)));
        let secrets = secrets.collect::<Result<_, _>>()?;
        let lost = LostFiles {
            journal: path.exists() && !had_journal,
            subscriptions: !path.exists() && journal.bounds().last.0 > 0,
        };
        if lost.journal {
            warn!(path = %folder.display(), "missing beside a hub.db, so that it is begun anew: numbers begin at 1 again, what was not delivered is lost, and what happened while the hub was down is not told; stop the hub and restore the folder, or tell whoever keeps numbers to begin anew");
        }
        if lost.subscriptions {
            warn!(path = %path.display(), "missing beside a journal that has records: whoever subscribed before is forgotten; stop the hub and restore the file, or make the subscriptions anew");
        }
        let state = StateDb::open(&path)?;
        Ok(Opened { journal: Arc::new(journal), token, key, state, secrets, lost })
    });
    opened.await.unwrap_or_else(|error| Err(StartError::Thread { source: io::Error::other(error) }))
}

/// Whose exporters may post, and with which secrets.
fn exporters(
    mut secrets: BTreeMap<String, PathSecret>,
    sources: &[Source],
) -> BTreeMap<String, (PathSecret, Exporter)> {
    let of = |source: &Source| {
        let exporter = source.exporter.clone()?;
        Some((source.name.clone(), (secrets.remove(&source.name)?, exporter)))
    };
    sources.iter().filter_map(of).collect()
}

/// Makes the data folder for its owner only. One that is there already is left as it is: the
/// files in it that matter have modes of their own.
fn make_private(data: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|source| StartError::Data { path: data.to_owned(), source })
}

/// The configured name, or the machine's own where that is one a stranger could look up.
fn server_fqdn(configured: &str) -> Option<String> {
    if !configured.is_empty() {
        return Some(configured.to_owned());
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok()?;
    name.contains('.').then(|| name.to_owned())
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let fault = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    Ok((listener.local_addr().map_err(fault)?, listener))
}

fn options(config: &JournalConfig) -> Options {
    Options {
        segment_octets: config.segment_size,
        retention: Retention { age: config.retention_age, octets: config.retention_size },
        window_records: config.window_records as usize,
        ..Options::default()
    }
}

/// What a configuration's policy comes to.
#[must_use]
pub fn policy(config: &PolicyConfig) -> Policy {
    let form = |form| match form {
        Form::Simple => FlagForm::Simple,
        Form::Flags => FlagForm::Flags,
    };
    Policy {
        seen_form: form(config.seen_form),
        deleted_form: form(config.deleted_form),
        content_max_octets: config.content_max_octets,
        content_inline_octets: config.content_inline_octets,
        body_structure: config.body_structure,
        envelope: config.envelope,
        groups: config
            .groups_off
            .iter()
            .fold(Groups::all(), |groups, group| groups.without((*group).into())),
        service: config.service.ceiling(),
        user: config.user.ceiling(),
        role: Role::Admin,
    }
}

/// Looks how the journal is, and says so once when that changes.
async fn watch_journal(
    folder: PathBuf,
    state: impl Fn() -> State + Send,
    failing: watch::Sender<Option<String>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut full = false;
    loop {
        match state() {
            State::Stopped { reason } => {
                error!(%reason, "the journal has stopped: nothing is taken until the hub is started again");
                // Those who are waiting and those who watch are told why before nobody answers.
                tokio::select! {
                    () = tokio::time::sleep(LAST_WORDS) => {}
                    () = stopped(&mut stopping) => {}
                }
                failing.send_replace(Some(format!("the journal has stopped: {reason}")));
                return;
            }
            State::Full { .. } if !full => {
                full = true;
                error!(path = ?folder, "the journal's disk is full: nothing is taken until there is room");
            }
            State::Accepting if full => {
                full = false;
                info!(path = ?folder, "the journal's disk has room again");
            }
            State::Accepting | State::Full { .. } | State::Closed => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Waits until the hub stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone belonged to a hub that is gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// Tells systemd, where it started us.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd could not be told how the hub is");
    }
}

/// Waits for a part to end, but not for ever.
async fn within(part: &str, ended: impl Future<Output = ()>) {
    if tokio::time::timeout(END_MAX, ended).await.is_err() {
        warn!(part, seconds = END_MAX.as_secs(), "did not end in time and is left behind");
    }
}

async fn join(threads: Vec<std::thread::JoinHandle<()>>) {
    let joined = spawn_blocking(|| {
        // What a source died of was told when it died.
        threads.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    if let Ok(died @ 1..) = joined.await {
        warn!(died, "threads of sources had panicked");
    }
}

/// How often the journal's state is looked at: a stopped one is known within a blink.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a hub whose journal has stopped still answers, to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long each part may take to end; together they stay within what systemd grants.
const END_MAX: Duration = Duration::from_secs(15);

/// Why a hub can't start.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder can't be made.
    #[error("{path}: the data folder can't be made", path = path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The journal can't be opened, or another hub holds the folder.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// Nobody can listen there.
    #[error("listen: {address} can't be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Something would cross a network in clear.
    #[error("{key}: {why}")]
    InClear {
        /// The key of the configuration at fault.
        key: &'static str,
        /// Why that is refused.
        why: String,
    },
    /// The publishers' socket can't be made.
    #[error("publish.socket: {path}: the publishers' socket can't be made", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The subscriptions can't be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store's name is no host.
    #[error("store.host: {0}")]
    Store(#[from] InvalidStore),
    /// The system has no thread or file descriptor left.
    #[error("a source's thread can't be started")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// There is no certificate, or no key to it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Traces can't be told.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_journal_is_told_as_what_a_person_must_act_on() {
        let (failing, failed) = watch::channel(None);
        let (_stopping, stop) = watch::channel(false);
        let stopped = || State::Stopped { reason: "fsync failed".into() };
        watch_journal("journal".into(), stopped, failing, stop).await;
        let reason = failed.borrow().clone();
        assert_eq!(reason.as_deref(), Some("the journal has stopped: fsync failed"));
    }

    #[tokio::test]
    async fn a_full_disk_is_nothing_that_ends_the_hub() {
        let (failing, failed) = watch::channel(None);
        let (stopping, stop) = watch::channel(false);
        stopping.send_replace(true);
        let full = || State::Full { since: std::time::SystemTime::UNIX_EPOCH };
        watch_journal("journal".into(), full, failing, stop).await;
        assert_eq!(*failed.borrow(), None);
    }
}
