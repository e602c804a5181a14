//! The HTTP API: who may ask, and what for.

mod events;
mod health;
mod openapi;
mod problem;
mod publish;
mod query;
mod status;
mod subscriptions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use hyper_util::service::TowerToHyperService;
use postbell_engine::{Policy, Store};
use postbell_journal::SqliteJournal;
use tokio::sync::{Semaphore, watch};

use crate::config::HttpConfig;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::publish::Publishers;
use crate::sources::Source;
use crate::subscriptions::Subscriptions;
use crate::token::Token;

pub(crate) use problem::Problem;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) started: Instant,
    pub(crate) token: Token,
    pub(crate) http: HttpConfig,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) journal_folder: PathBuf,
    pub(crate) feed: Feed,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sources: Vec<Source>,
    pub(crate) publishers: Arc<Publishers>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) subscriptions: Subscriptions,
}

impl App {
    /// How many streams are being followed.
    fn streams_open(&self) -> usize {
        (self.http.max_streams as usize).saturating_sub(self.streams.available_permits())
    }
}

/// What a connection asks; cheap to clone.
pub(crate) type Door = TowerToHyperService<Router>;

/// The door to everything.
pub(crate) fn door(app: Arc<App>) -> Door {
    let guarded = router(guarded())
        .fallback(no_such_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard));
    TowerToHyperService::new(router(open()).merge(guarded).with_state(app))
}

/// A path, the methods it has, and what answers them.
type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// What anybody may ask.
fn open() -> Vec<Route> {
    vec![("/healthz", "GET", get(health::healthz)), ("/readyz", "GET", get(health::readyz))]
}

/// What needs the token.
fn guarded() -> Vec<Route> {
    vec![
        ("/metrics", "GET", get(health::metrics)),
        ("/v1/events", "GET, POST", get(events::follow).post(publish::publish)),
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
        ("/v1/subscriptions/{name}/resume", "POST", post(subscriptions::resume)),
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
    let header = request.headers().get(header::AUTHORIZATION);
    if header.is_some_and(|header| app.token.opens(header.as_bytes())) {
        next.run(request).await
    } else {
        app.metrics.unauthorised.increment(1);
        Problem::unauthorised().into_response()
    }
}

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found(format!("{}: no such path", request.uri().path()))
}
