//! `/v1/tokens/denied`: whose JWTs let in no more. For whoever runs the hub.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::{NoQuery, Query, clipped};
use super::subscriptions::{failed, from_json};
use super::tokens::blocking;
use super::{App, Problem};
use crate::access::{Claim, DenyError, NewDenial, ShownDenial};

/// Whose JWTs let in no more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DenialList {
    /// The longest-standing first.
    denied: Vec<ShownDenial>,
}

/// Whose JWTs let in no more.
#[utoipa::path(get, path = "/v1/tokens/denied", tag = "tokens", responses(
    (status = 200, description = "Whose JWTs let in no more, and which single ones", body = DenialList),
))]
pub(super) async fn list(State(app): State<Arc<App>>, _: NoQuery) -> Json<DenialList> {
    Json(DenialList { denied: app.denials.list() })
}

/// Denies a subject of the issuer, or a single JWT, at once.
#[utoipa::path(post, path = "/v1/tokens/denied", tag = "tokens",
    request_body = NewDenial,
    responses(
        (status = 200, description = "They were denied already, and are as it says now", body = ShownDenial),
        (status = 201, description = "They let in no more, and what they had opened is closed", body = ShownDenial),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No JWT lets in here, or there are enough denials", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn deny(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    let new: NewDenial = from_json(request, &app.http, Problem::invalid_denial).await?;
    let Some(oidc) = app.oidc.clone() else { return Err(refused(DenyError::NoIssuer)) };
    let (is_new, shown) = blocking(move || oidc.deny(new)).await?.map_err(refused)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown)).into_response())
}

/// Takes back a denial.
#[utoipa::path(delete, path = "/v1/tokens/denied", tag = "tokens",
    params(
        ("subject" = Option<String>, Query, description = "The `sub` that is denied"),
        ("jti" = Option<String>, Query, description = "Or the `jti`"),
    ),
    responses(
        (status = 204, description = "JWTs of theirs let in again, as long as they are good"),
        (status = 404, description = "Nothing denies them", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn allow(State(app): State<Arc<App>>, uri: Uri) -> Result<StatusCode, Problem> {
    let query = Query::read(&uri, &[SUBJECT, JTI])?;
    let (claim, value) = match (query.text(SUBJECT), query.text(JTI)) {
        (Some(subject), None) => (Claim::Subject, subject.to_owned()),
        (None, Some(jti)) => (Claim::Id, jti.to_owned()),
        (None, None) => return Err(Problem::bad_query(SUBJECT, "missing (or jti)")),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_query(
                JTI,
                "stands beside subject: each is taken back by itself",
            ));
        }
    };
    let (denials, wanted) = (Arc::clone(&app.denials), value.clone());
    let allowed = blocking(move || denials.allow(claim, &wanted)).await?;
    match allowed.map_err(|error| failed(&error))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("{:?}: is not denied", clipped(&value)))),
    }
}

fn refused(error: DenyError) -> Problem {
    match error {
        DenyError::Invalid { pointer, message } => Problem::invalid_denial(message).at(pointer),
        DenyError::NoIssuer | DenyError::TooMany => Problem::conflict(error.to_string()),
        DenyError::State(error) => failed(&error),
    }
}

/// The query parameter that names a person.
const SUBJECT: &str = "subject";

/// That which names a single JWT.
const JTI: &str = "jti";
