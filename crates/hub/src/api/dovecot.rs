//! What a Dovecot's own exporter posts.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use postbell_sources::dovecot::{BODY_OCTETS_MAX, ExportError};

use super::{App, Problem, publish};
use crate::config::HttpConfig;

/// Where it posts to. The secret in the path stands for the token, which Dovecot can't send.
pub(super) const PATH: &str = "/v1/dovecot/{source}/{secret}";

/// One event of Dovecot's own, which says more of what the spool tells.
///
/// Nothing is durable when this is answered, nor need it be: the spool alone says what happened.
#[utoipa::path(post, path = "/v1/dovecot/{source}/{secret}", tag = "hub",
    params(
        ("source" = String, Path, description = "The source's name in the configuration"),
        ("secret" = String, Path, description = "What the data folder's file `dovecot-<source>.secret` holds; no token is needed beside it"),
    ),
    request_body(content = Object, content_type = "application/json", description = "An event as Dovecot's event_exporter writes it"),
    responses(
        (status = 204, description = "Taken, or passed over as nothing that is needed"),
        (status = 400, description = "No event of Dovecot's", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such source, or another secret", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than any such event", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The source has not kept up", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn exported(
    State(app): State<Arc<App>>,
    Path((source, secret)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let found = app.exporters.get(&source).filter(|(wanted, _)| wanted.opens(&secret));
    // Neither the source's name nor the secret is said again.
    let (_, exporter) = found.ok_or_else(|| Problem::not_found("no such path"))?;
    let limits = HttpConfig { max_body: BODY_OCTETS_MAX as u64, ..app.http.clone() };
    let body = publish::read(request.into_body(), &limits).await?;
    exporter.take(&body).map(|()| StatusCode::NO_CONTENT).map_err(|error| match error {
        ExportError::Full => Problem::unavailable(error.to_string()),
        ExportError::TooLarge { .. } => Problem::too_large(BODY_OCTETS_MAX as u64),
        ExportError::Malformed { .. } => Problem::bad_request(error.to_string()),
    })
}
