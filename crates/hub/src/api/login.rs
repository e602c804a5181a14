//! `POST /v1/login`: a user's password, which the store checks, for a token of theirs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::query::NoQuery;
use super::tokens::refused;
use super::{App, Peer, Problem};
use crate::access::{Client, Refusal, ShownToken};

/// Gives a short-lived token for a user's password.
#[utoipa::path(post, path = "/v1/login", tag = "tokens", responses(
    (status = 201, description = "A short-lived token of the user's; only here it is shown itself", body = ShownToken),
    (status = 401, description = "The store takes no such password of no such user, or nobody can log in here", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many tries came from there", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The store can't be asked now", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn enter(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    // Where nobody can log in this is no path, and without a token those all answer the same.
    let Some(logins) = &app.logins else { return Err(Problem::unauthorised()) };
    let client = request.extensions().get::<Peer>().map(|peer| peer.client);
    let client = client.unwrap_or_else(|| Client::At(Ipv4Addr::UNSPECIFIED.into()));
    let Some((user, password)) = basic(request.headers()) else {
        return Err(Problem::no_password());
    };
    let entered = logins.enter(&app.tokens, &user, &password, client).await;
    let shown = entered.map_err(|refusal| match refusal {
        Refusal::Wrong => {
            app.metrics.unauthorised.increment(1);
            Problem::no_password()
        }
        Refusal::TooMany(pause) => Problem::too_many_guesses(pause),
        Refusal::Unavailable => {
            Problem::unavailable("the store can't be asked whether the password is right")
                .retry_after(RETRY_SECONDS)
        }
        Refusal::Token(error) => refused(error),
    })?;
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// User and password of HTTP's Basic scheme (RFC 7617), in UTF-8.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, pair) = value.split_once(' ')?;
    let pair =
        STANDARD.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let pair = String::from_utf8(pair).ok()?;
    let (user, password) = pair.split_once(':')?;
    let is_fit = !user.is_empty() && pair.len() <= PAIR_OCTETS_MAX;
    is_fit.then(|| (user.to_owned(), password.to_owned()))
}

/// Where users log in.
pub(super) const PATH: &str = "/v1/login";

/// Octets of user and password: more is neither.
const PAIR_OCTETS_MAX: usize = 1_024;

/// Seconds after which a store may be there again.
const RETRY_SECONDS: u32 = 5;
