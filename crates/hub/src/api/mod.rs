//! The HTTP API: who may ask, and what for.

mod dovecot;
mod events;
mod health;
mod lone;
mod openapi;
mod problem;
mod publish;
mod query;
mod status;
mod subscriptions;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use postbell_engine::{Policy, Store};
use postbell_journal::SqliteJournal;
use postbell_sources::dovecot::Exporter;
use tokio::sync::{Semaphore, watch};

use crate::config::HttpConfig;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::publish::{Gatherer, Publishers};
use crate::sources::Source;
use crate::subscriptions::Subscriptions;
use crate::token::{PathSecret, Token};

pub(crate) use problem::Problem;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) started: Instant,
    pub(crate) token: Token,
    /// Whose exporters may post, and with which secrets.
    pub(crate) exporters: BTreeMap<String, (PathSecret, Exporter)>,
    pub(crate) http: HttpConfig,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) journal_folder: PathBuf,
    pub(crate) feed: Feed,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sources: Vec<Source>,
    pub(crate) publishers: Arc<Publishers>,
    pub(crate) gatherer: Gatherer,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) subscriptions_lost: bool,
}

impl App {
    /// How many streams are being followed.
    fn streams_open(&self) -> usize {
        (self.http.max_streams as usize).saturating_sub(self.streams.available_permits())
    }
}

/// What a connection asks; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    app: Arc<App>,
    router: TowerToHyperService<Router>,
}

/// The door to everything.
pub(crate) fn door(app: Arc<App>) -> Door {
    let guarded = router(guarded())
        .fallback(no_such_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard));
    let router = router(open()).merge(guarded).with_state(Arc::clone(&app));
    Door { app, router: TowerToHyperService::new(router) }
}

impl Service<hyper::Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        // What comes by the thousand goes past the router's layers, and finds the same there.
        if request.method() == Method::POST && request.uri().path() == publish::PATH {
            let app = Arc::clone(&self.app);
            return Box::pin(async move { Ok(publish::straight(&app, request).await) });
        }
        Box::pin(self.router.call(request))
    }
}

/// A path, the methods it has, and what answers them.
type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// What needs no token: anybody may ask, or the path itself holds a secret.
fn open() -> Vec<Route> {
    vec![
        (dovecot::PATH, "POST", post(dovecot::exported)),
        ("/healthz", "GET", get(health::healthz)),
        ("/readyz", "GET", get(health::readyz)),
    ]
}

/// What needs the token.
fn guarded() -> Vec<Route> {
    vec![
        ("/metrics", "GET", get(health::metrics)),
        (publish::PATH, "GET, POST", get(events::follow).post(publish::publish)),
        ("/v1/openapi.json", "GET", get(openapi::serve)),
        ("/v1/sources", "GET", get(status::sources)),
        ("/v1/sources/{name}", "GET", get(status::source)),
        ("/v1/status", "GET", get(status::status)),
        ("/v1/subscriptions", "GET, POST", get(subscriptions::list).post(subscriptions::create)),
        (
            "/v1/subscriptions/{name}",
            "GET, DELETE",
            get(subscriptions::show).delete(subscriptions::remove),
        ),
        ("/v1/subscriptions/{name}/dead-letters", "GET", get(subscriptions::dead_letters)),
        ("/v1/subscriptions/{name}/pause", "POST", post(subscriptions::pause)),
        ("/v1/subscriptions/{name}/replay", "POST", post(subscriptions::replay)),
        ("/v1/subscriptions/{name}/resume", "POST", post(subscriptions::resume)),
        ("/v1/subscriptions/{name}/rotate", "POST", post(subscriptions::rotate)),
    ]
}

fn router(routes: Vec<Route>) -> Router<Arc<App>> {
    routes.into_iter().fold(Router::new(), |router, (path, allow, methods)| {
        router.route(path, only(allow, methods))
    })
}

/// A path's methods; any other is told which there are.
fn only(allow: &'static str, methods: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    methods.fallback(async move || Problem::method_not_allowed(allow))
}

/// Lets in whoever has the token.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match admitted(&app, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Whether a request carries the token.
fn admitted(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let header = headers.get(header::AUTHORIZATION);
    if header.is_some_and(|header| app.token.opens(header.as_bytes())) {
        return Ok(());
    }
    app.metrics.unauthorised.increment(1);
    Err(Problem::unauthorised())
}

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found(format!("{}: no such path", request.uri().path()))
}
