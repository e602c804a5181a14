//! `/v1/tokens`: made, listed, revoked. For whoever runs the hub.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::{Name, NoQuery, clipped};
use super::subscriptions::{failed, from_json};
use super::{App, Problem};
use crate::access::{CreateError, NewToken, ShownToken};

/// All tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenList {
    /// Oldest first.
    tokens: Vec<ShownToken>,
}

/// All tokens but the one in the data folder's file.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses(
    (status = 200, description = "All tokens but the one in the data folder's file; none is shown itself", body = TokenList),
))]
pub(super) async fn list(State(app): State<Arc<App>>, _: NoQuery) -> Json<TokenList> {
    Json(TokenList { tokens: app.tokens.list() })
}

/// Makes a token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens",
    request_body = NewToken,
    responses(
        (status = 201, description = "It is made; only here it is shown itself, unless a certificate stands in its place", body = ShownToken,
            headers(("Location" = String, description = "Its path"))),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken, or there are enough tokens", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    let new: NewToken = from_json(request, &app.http, Problem::invalid_token).await?;
    let tokens = Arc::clone(&app.tokens);
    let shown = blocking(move || tokens.create(new)).await?.map_err(refused)?;
    let location = HeaderValue::try_from(format!("/v1/tokens/{}", shown.id));
    let mut response = (StatusCode::CREATED, Json(shown)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Ends a token at once, and forgets it.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "Its name or id")),
    responses((status = 204, description = "It opens nothing any more, and what it had opened is closed"), (status = 404, description = "No such token", body = Problem, content_type = "application/problem+json"),)
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    let (tokens, wanted) = (Arc::clone(&app.tokens), name.clone());
    let revoked = blocking(move || tokens.revoke(&wanted)).await?;
    match revoked.map_err(|error| failed(&error))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("{:?}: no such token", clipped(&name)))),
    }
}

pub(super) fn refused(error: CreateError) -> Problem {
    match error {
        CreateError::Invalid { pointer, message } => Problem::invalid_token(message).at(pointer),
        CreateError::NameTaken(_)
        | CreateError::CertificateTaken(_)
        | CreateError::TooMany
        | CreateError::Alike => Problem::conflict(error.to_string()),
        CreateError::State(error) => failed(&error),
    }
}

/// On a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(act).await.map_err(|error| {
        tracing::error!(%error, "changing tokens panicked");
        Problem::internal()
    })
}
