//! The HTTP API: who may ask, and what for.

mod condition;
mod content;
mod demand;
mod denials;
mod dovecot;
mod events;
mod health;
mod login;
mod lone;
mod openapi;
mod origins;
mod problem;
mod proxies;
mod publish;
mod query;
mod sending;
mod status;
mod subscriptions;
mod tickets;
mod tokens;
mod upgrade;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, delete, get, post};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use postbell_engine::{Policy, Principal, Role, Scope, Store};
use postbell_journal::SqliteJournal;
use postbell_sources::dovecot::Exporter;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{info, warn};

use crate::access::{Client, Denials, Denied, Grant, Logins, Oidc, Places, Refused, Tokens};
use crate::config::HttpConfig;
use crate::contents::Contents;
use crate::demand::Demands;
use crate::feed::Feed;
use crate::hub::LostFiles;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::outlet::Outlet;
use crate::publish::{Gatherer, Publishers};
use crate::sharing::Sharing;
use crate::signed::Notary;
use crate::signing::SigningKey;
use crate::sources::Source;
use crate::subscriptions::Subscriptions;
use crate::tls::Shown;
use crate::token::PathSecret;

pub(crate) use condition::Condition;
pub(crate) use content::Fetches;
pub(crate) use demand::ShownDemand;
pub(crate) use problem::Problem;
use proxies::Proxies;
pub(crate) use subscriptions::{plain, pointer};

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) started: Instant,
    pub(crate) tokens: Arc<Tokens>,
    /// Where users' passwords are checked, if anywhere.
    pub(crate) logins: Option<Logins>,
    /// Whose JWTs let in, if anybody's.
    pub(crate) oidc: Option<Arc<Oidc>>,
    /// Whose do so no more.
    pub(crate) denials: Arc<Denials>,
    /// Whose exporters may post, and with which secrets.
    pub(crate) exporters: BTreeMap<String, (PathSecret, Exporter)>,
    pub(crate) http: HttpConfig,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) journal_folder: PathBuf,
    pub(crate) feed: Feed,
    pub(crate) demands: Demands,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sources: Vec<Source>,
    pub(crate) publishers: Arc<Publishers>,
    pub(crate) gatherer: Gatherer,
    pub(crate) streams: Arc<Semaphore>,
    /// Whose those are.
    pub(crate) places: Places,
    /// How long one of those may be silent.
    pub(crate) heartbeat: Duration,
    pub(crate) links: Arc<Links>,
    pub(crate) contents: Contents,
    /// Who reads what of others.
    pub(crate) sharing: Sharing,
    pub(crate) fetches: Fetches,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) lost: LostFiles,
    /// What streams that ask for it are signed with.
    pub(crate) key: Arc<SigningKey>,
    pub(crate) notary: Option<Arc<Notary>>,
}

impl App {
    /// The record up to which the last signed checkpoint vouches; 0 without one.
    fn signed_seq(&self) -> u64 {
        self.notary.as_ref().map_or(0, |notary| notary.signed_seq())
    }

    /// How many streams are being followed.
    fn streams_open(&self) -> usize {
        (self.http.max_streams as usize).saturating_sub(self.streams.available_permits())
    }
}

/// What a connection asks; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    app: Arc<App>,
    proxies: Arc<Proxies>,
    /// Whether a proxy that wasn't named was told of.
    unnamed: Arc<Once>,
    router: TowerToHyperService<Router>,
    /// Who stands before it.
    peer: Peer,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
struct Peer {
    client: Client,
    /// The certificate that was shown when the connection was made.
    certificate: Option<Arc<Shown>>,
    /// Ends the connection at once.
    cut: Arc<Notify>,
    /// What is taken of what is sent over the connection.
    outlet: Arc<Outlet>,
}

impl Peer {
    fn at(address: IpAddr) -> Self {
        let outlet = Arc::new(Outlet::new());
        Self { client: Client::At(address), certificate: None, cut: Arc::default(), outlet }
    }
}

impl Door {
    /// The door as somebody at `peer` stands before it.
    pub(crate) fn before(&self, peer: IpAddr) -> Self {
        Self { peer: Peer::at(peer), ..self.clone() }
    }

    /// Whom a request with these headers is from.
    fn peer_of(&self, headers: &HeaderMap) -> Peer {
        let client = self.proxies.client(self.peer.client.address(), headers);
        if let Client::Behind(proxy) = client {
            self.unnamed.call_once(|| {
                warn!(
                    %proxy,
                    "a proxy on this machine that http.trusted_proxies does not name hands requests on: \
                     all its clients share one's bounds on logins"
                );
            });
        }
        Peer { client, ..self.peer.clone() }
    }

    /// What ends the connection when it is told.
    pub(crate) fn cut(&self) -> Arc<Notify> {
        Arc::clone(&self.peer.cut)
    }

    /// What learns what is taken of what is sent over the connection.
    pub(crate) fn outlet(&self) -> Arc<Outlet> {
        Arc::clone(&self.peer.outlet)
    }

    /// The same, with the certificate they have shown.
    pub(crate) fn shown(mut self, certificate: Option<Shown>) -> Self {
        self.peer.certificate = certificate.map(Arc::new);
        self
    }
}

/// The door to everything.
pub(crate) fn door(app: Arc<App>) -> Door {
    let mut router = Router::new();
    for (path, allow, needs, methods) in guarded() {
        let guard = middleware::from_fn_with_state((Arc::clone(&app), needs), guard);
        router = router.route(path, only(allow, methods).layer(guard));
    }
    let anything = (Arc::clone(&app), Needs::both(Need::Token));
    let fallback = any(no_such_path).layer(middleware::from_fn_with_state(anything, guard));
    router = router.fallback_service(fallback.with_state(Arc::clone(&app)));
    let router = opened().merge(router).with_state(Arc::clone(&app));
    let router = match origins::cors(&app.http.allowed_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    let peer = Peer::at(Ipv4Addr::UNSPECIFIED.into());
    let proxies = Arc::new(Proxies::new(&app.http.trusted_proxies));
    let unnamed = Arc::new(Once::new());
    Door { app, proxies, unnamed, router: TowerToHyperService::new(router), peer }
}

impl Service<hyper::Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        // What comes by the thousand goes past the router's layers, and finds the same there. A
        // browser's page doesn't, and has to be told whether it may.
        let is_publishing =
            request.method() == Method::POST && request.uri().path() == publish::PATH;
        if is_publishing && !request.headers().contains_key(header::ORIGIN) {
            let (app, peer) = (Arc::clone(&self.app), self.peer_of(request.headers()));
            return Box::pin(publish::straight(app, request, peer));
        }
        let peer = self.peer_of(request.headers());
        peer.outlet.carry(None);
        request.extensions_mut().insert(peer);
        Box::pin(self.router.call(request))
    }
}

/// A path, the methods it has, and what answers them.
type OpenRoute = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// The same with what a token must be for.
type Route = (&'static str, &'static str, Needs, MethodRouter<Arc<App>>);

/// What a token must be for, to have a path's answer.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// With GET and HEAD.
    reading: Need,
    /// With every other method.
    changing: Need,
}

/// What a token must be for.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Anything.
    Token,
    /// This.
    Scope(Scope),
    /// Running the hub.
    Admin,
}

impl Needs {
    fn both(need: Need) -> Self {
        Self { reading: need, changing: need }
    }

    fn scope(scope: Scope) -> Self {
        Self::both(Need::Scope(scope))
    }
}

impl Need {
    /// Whether a principal may have the answer, as far as that can be said without looking.
    fn met(self, principal: &Principal) -> Result<(), Problem> {
        let (is_met, what, name) = match self {
            Self::Token => return Ok(()),
            Self::Scope(scope) => (principal.has(scope), "scope", scope.as_str()),
            Self::Admin => (principal.role() == Role::Admin, "role", "admin"),
        };
        match is_met {
            true => Ok(()),
            false => Err(Problem::forbidden(format!("it has not the {what} {name:?}"))),
        }
    }
}

/// What needs no token: anybody may ask, or the path itself holds a secret.
fn open() -> Vec<OpenRoute> {
    vec![
        (content::PATH, "GET", get(content::content)),
        (dovecot::PATH, "POST", post(dovecot::exported)),
        (login::PATH, "POST", post(login::enter)),
        ("/healthz", "GET", get(health::healthz)),
        ("/readyz", "GET", get(health::readyz)),
    ]
}

/// What needs a token.
fn guarded() -> Vec<Route> {
    let events = Needs { reading: Need::Scope(Scope::Read), changing: Need::Scope(Scope::Publish) };
    let subscriptions = Needs::scope(Scope::Subscribe);
    let hub = Needs::scope(Scope::Monitor);
    let publish = Needs::scope(Scope::Publish);
    let anybody = Needs::both(Need::Token);
    let admin = Needs::both(Need::Admin);
    vec![
        ("/metrics", "GET", hub, get(health::metrics)),
        (publish::PATH, "GET, POST", events, get(events::follow).post(publish::publish)),
        (demand::PATH, "GET", publish, get(demand::demand)),
        ("/v1/openapi.json", "GET", anybody, get(openapi::serve)),
        ("/v1/sources", "GET", hub, get(status::sources)),
        ("/v1/sources/{name}", "GET", hub, get(status::source)),
        ("/v1/status", "GET", hub, get(status::status)),
        (
            "/v1/subscriptions",
            "GET, POST",
            subscriptions,
            get(subscriptions::list).post(subscriptions::create),
        ),
        (
            "/v1/subscriptions/{name}",
            "GET, PUT, DELETE",
            subscriptions,
            get(subscriptions::show).put(subscriptions::apply).delete(subscriptions::remove),
        ),
        (
            "/v1/subscriptions/{name}/dead-letters",
            "GET",
            subscriptions,
            get(subscriptions::dead_letters),
        ),
        ("/v1/subscriptions/{name}/pause", "POST", subscriptions, post(subscriptions::pause)),
        ("/v1/subscriptions/{name}/redrive", "POST", subscriptions, post(subscriptions::redrive)),
        ("/v1/subscriptions/{name}/renew", "POST", subscriptions, post(subscriptions::renew)),
        ("/v1/subscriptions/{name}/replay", "POST", subscriptions, post(subscriptions::replay)),
        ("/v1/subscriptions/{name}/resume", "POST", subscriptions, post(subscriptions::resume)),
        ("/v1/subscriptions/{name}/rotate", "POST", subscriptions, post(subscriptions::rotate)),
        ("/v1/tickets", "POST", Needs::scope(Scope::Read), post(tickets::create)),
        ("/v1/tokens", "GET, POST", admin, get(tokens::list).post(tokens::create)),
        (
            "/v1/tokens/denied",
            "GET, POST, DELETE",
            admin,
            get(denials::list).post(denials::deny).delete(denials::allow),
        ),
        ("/v1/tokens/{name}", "DELETE", admin, delete(tokens::revoke)),
    ]
}

fn opened() -> Router<Arc<App>> {
    open().into_iter().fold(Router::new(), |router, (path, allow, methods)| {
        router.route(path, only(allow, methods))
    })
}

/// A path's methods; any other is told which there are.
fn only(allow: &'static str, methods: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    methods.fallback(async move || Problem::method_not_allowed(allow))
}

/// Lets in whoever has a token that is for this; the handlers find what it opens beside the
/// request.
async fn guard(
    State((app, needs)): State<(Arc<App>, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions_mut().remove::<Peer>();
    let peer = peer.unwrap_or_else(|| Peer::at(Ipv4Addr::UNSPECIFIED.into()));
    let need = match *request.method() {
        Method::GET | Method::HEAD => needs.reading,
        _ => needs.changing,
    };
    let ticket = match need {
        Need::Scope(Scope::Read) if request.uri().path() == publish::PATH => {
            tickets::shown(request.uri())
        }
        _ => None,
    };
    let admitted = match ticket {
        Some(ticket) => opened_by(&app, &ticket, peer.client.address(), need),
        None => admitted(&app, request.headers(), &peer, need).await,
    };
    match admitted {
        Ok(grant) => {
            request.extensions_mut().insert(grant);
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What the token of a request opens, where that is what it needs.
async fn admitted(
    app: &App,
    headers: &HeaderMap,
    peer: &Peer,
    need: Need,
) -> Result<Arc<Grant>, Problem> {
    let header = headers.get(header::AUTHORIZATION).map(|header| header.as_bytes());
    if let (Some(oidc), Some(jwt)) = (&app.oidc, header.and_then(Oidc::shown)) {
        // By itself, lest every request's future has room for it.
        let admitted = Box::pin(oidc.admit(&app.tokens, jwt)).await;
        let grant = admitted.map_err(|refused| no_jwt(app, refused, peer.client.address()))?;
        need.met(grant.principal())?;
        return Ok(grant);
    }
    // Who shows a token is who the token says.
    let certificate = peer.certificate.as_ref().filter(|_| header.is_none());
    let certified = certificate.and_then(|shown| app.tokens.certified(shown));
    let grant = match certified {
        Some(grant) => {
            origins::check_certified(headers, &app.http.allowed_origins)?;
            grant
        }
        None => app
            .tokens
            .admit(header, peer.client.address())
            .map_err(|denied| refused(app, denied))?,
    };
    need.met(grant.principal())?;
    Ok(grant)
}

/// What a ticket opens, where that is what the request needs.
fn opened_by(app: &App, ticket: &str, peer: IpAddr, need: Need) -> Result<Arc<Grant>, Problem> {
    let grant = app.tokens.redeem(ticket, peer).map_err(|denied| refused(app, denied))?;
    need.met(grant.principal())?;
    Ok(grant)
}

fn refused(app: &App, denied: Denied) -> Problem {
    app.metrics.unauthorised.increment(1);
    denied.pause.map_or_else(Problem::unauthorised, Problem::too_many_guesses)
}

/// Why a JWT doesn't let in, for whoever shows it and for the operator.
fn no_jwt(app: &App, refused: Refused, peer: IpAddr) -> Problem {
    let Some(told) = refused.told() else {
        return Problem::unavailable("the issuer's keys can't be had")
            .retry_after(KEYS_RETRY_SECONDS);
    };
    app.metrics.unauthorised.increment(1);
    if matches!(refused, Refused::Denied(_)) {
        app.metrics.denied.increment(1);
    }
    if let Some(pause) = app.tokens.wrong(peer).pause {
        return Problem::too_many_guesses(pause);
    }
    // Not for each: only as often as guesses are taken.
    info!(%peer, why = %refused, "a JWT was refused");
    Problem::refused_token(told)
}

/// Seconds after which the issuer's keys may be there.
const KEYS_RETRY_SECONDS: u32 = 10;

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found(format!("{}: no such path", request.uri().path()))
}
