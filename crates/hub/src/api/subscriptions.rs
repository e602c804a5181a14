//! `/v1/subscriptions`: made, listed, held, let go on, forgotten.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use utoipa::ToSchema;

use super::query::{Name, NoQuery, Query, clipped};
use super::{App, Condition, Problem, publish};
use crate::access::Grant;
use crate::aside::aside;
use crate::config::HttpConfig;
use crate::state::{DEAD_LETTERS_MAX, StateError};
use crate::subscriptions::{
    Applied, CreateError, NewSubscription, Redrive, Renewal, Replay, Rotation, Shown,
    ShownDeadLetter,
};

/// All subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriptionList {
    /// Oldest first.
    subscriptions: Vec<Shown>,
}

/// Deliveries that were given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetters {
    /// Newest first.
    dead_letters: Vec<ShownDeadLetter>,
}

/// All subscriptions.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions", responses(
    (status = 200, description = "All subscriptions", body = SubscriptionList),
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
) -> Json<SubscriptionList> {
    Json(SubscriptionList { subscriptions: app.subscriptions.list(&grant) })
}

/// Makes a subscription.
#[utoipa::path(post, path = "/v1/subscriptions", tag = "subscriptions",
    request_body = NewSubscription,
    responses(
        (status = 201, description = "It is made; only here its secret is shown", body = Shown,
            headers(("ETag" = String, description = "Its entity tag"), ("Location" = String, description = "Its path"))),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken, or there are enough subscriptions", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    request: Request,
) -> Result<Response, Problem> {
    lasting(&grant)?;
    let new: NewSubscription = from_json(request, &app.http, Problem::invalid_subscription).await?;
    let change = async move { app.subscriptions.create(new, &grant).await };
    let shown = whole(change).await?.map_err(refused)?;
    Ok(created(shown))
}

/// One subscription.
#[utoipa::path(get, path = "/v1/subscriptions/{name}", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    responses((status = 200, description = "The subscription", body = Shown, headers(("ETag" = String, description = "Its entity tag, of all that can be changed of it"))), (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),)
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
) -> Result<Standing, Problem> {
    app.subscriptions.find(&grant, &name).map(Standing).ok_or_else(|| unknown(&name))
}

/// Has a subscription be as the body says: makes it where there is none of that name, changes the
/// one there is, and leaves one that is so already.
#[utoipa::path(put, path = "/v1/subscriptions/{name}", tag = "subscriptions",
    params(
        ("name" = String, Path, description = "Its name, which is also in the body"),
        ("If-Match" = Option<String>, Header, description = "The entity tags one of which it must have to be changed"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: it is only to be made"),
    ),
    request_body = NewSubscription,
    responses(
        (status = 200, description = "It is so now, or was so before; a secret that was made is shown, and only here", body = Shown,
            headers(("ETag" = String, description = "Its entity tag"))),
        (status = 201, description = "It is made; only here its secret is shown", body = Shown,
            headers(("ETag" = String, description = "Its entity tag"), ("Location" = String, description = "Its path"))),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are enough subscriptions", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
    request: Request,
) -> Result<Response, Problem> {
    lasting(&grant)?;
    let new: NewSubscription = from_json(request, &app.http, Problem::invalid_subscription).await?;
    if new.name != name {
        let why = format!("{:?} is not the name in the path", clipped(&new.name));
        return Err(Problem::invalid_subscription(why).at("/name"));
    }
    let subscriptions = app.subscriptions.only_if(condition);
    let change = async move { subscriptions.apply(new, &grant).await };
    let (applied, shown) = whole(change).await?.map_err(refused)?;
    Ok(match applied {
        Applied::Made => created(shown),
        Applied::There => Standing(shown).into_response(),
    })
}

/// Forgets a subscription and its dead letters.
#[utoipa::path(delete, path = "/v1/subscriptions/{name}", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    responses((status = 204, description = "It is forgotten, and its dead letters with it"), (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"), (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),)
)]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
) -> Result<StatusCode, Problem> {
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.remove(&grant, &named).await };
    let removed = whole(change).await?.map_err(refused)?;
    removed.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| unknown(&name))
}

/// Has dead letters of a subscription delivered again, in order; each is forgotten once it is accepted.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/redrive", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    request_body = Redrive,
    responses(
        (status = 200, description = "They are marked, and delivered where it is active; `redriving` counts what is left", body = Shown),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong, or there is no such dead letter", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn redrive(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
    request: Request,
) -> Result<Standing, Problem> {
    let which = from_json(request, &app.http, Problem::invalid_subscription).await?;
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.redrive(&grant, &named, which).await };
    changed(&name, change).await
}

/// Has a subscription go on until another time, also one that has expired.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/renew", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    request_body = Renewal,
    responses(
        (status = 200, description = "It goes on until then; one that had expired goes on where it stood", body = Shown),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn renew(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
    request: Request,
) -> Result<Standing, Problem> {
    let renewal = from_json(request, &app.http, Problem::invalid_subscription).await?;
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.renew(&grant, &named, renewal).await };
    changed(&name, change).await
}

/// Holds a subscription where it stands.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/pause", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    responses((status = 200, description = "It is held where it stands", body = Shown), (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"), (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),)
)]
pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
) -> Result<Standing, Problem> {
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.pause(&grant, &named).await };
    changed(&name, change).await
}

/// Lets a subscription go on where it stood, also one that ended.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/resume", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    responses((status = 200, description = "It goes on where it stood", body = Shown), (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"), (status = 409, description = "It has expired, and is to be renewed", body = Problem, content_type = "application/problem+json"), (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),)
)]
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
) -> Result<Standing, Problem> {
    lasting(&grant)?;
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.resume(&grant, &named).await };
    changed(&name, change).await
}

/// Has a subscription deliver anew from a record or a time on.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/replay", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    request_body = Replay,
    responses(
        (status = 200, description = "It goes on from there, where it is active", body = Shown),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
    request: Request,
) -> Result<Standing, Problem> {
    let Replay { begin } = from_json(request, &app.http, Problem::invalid_subscription).await?;
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.replay(&grant, &named, begin).await };
    changed(&name, change).await
}

/// Gives a subscription another secret.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/rotate", tag = "subscriptions",
    params(("name" = String, Path, description = "Its name or id")),
    request_body(content = Option<Rotation>, description = "Nothing has one made, and the one before hold for a day"),
    responses(
        (status = 200, description = "It is signed with another secret, which only here is shown, and for a while with the one before as well", body = Shown),
        (status = 400, description = "The body is no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not as If-Match or If-None-Match says", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not said to be JSON, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Something in it is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
    Name(name): Name,
    condition: Condition,
    request: Request,
) -> Result<Standing, Problem> {
    let is_json = publish::wants_json(&request);
    let body = publish::read(request.into_body(), &app.http).await?;
    let rotation = if body.is_empty() {
        Rotation::default()
    } else {
        is_json?;
        object(&body, Problem::invalid_subscription)?
    };
    let (named, subscriptions) = (name.clone(), app.subscriptions.only_if(condition));
    let change = async move { subscriptions.rotate(&grant, &named, rotation).await };
    changed(&name, change).await
}

/// Deliveries of a subscription that were given up, newest first.
#[utoipa::path(get, path = "/v1/subscriptions/{name}/dead-letters", tag = "subscriptions",
    params(
        ("name" = String, Path, description = "Its name or id"),
        ("limit" = Option<u32>, Query, description = "How many at most; 100 where absent"),
    ),
    responses(
        (status = 200, description = "Deliveries given up", body = DeadLetters),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such subscription", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn dead_letters(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    Name(name): Name,
    request: Request,
) -> Result<Json<DeadLetters>, Problem> {
    let query = Query::read(request.uri(), &["limit"])?;
    let limit = query.number("limit")?.map_or(DEAD_LETTERS_SHOWN, |limit| {
        u32::try_from(limit).unwrap_or(u32::MAX).min(DEAD_LETTERS_MAX)
    });
    let letters =
        app.subscriptions.dead_letters(&grant, &name, limit).map_err(|error| failed(&error))?;
    let dead_letters = letters.ok_or_else(|| unknown(&name))?;
    Ok(Json(DeadLetters { dead_letters }))
}

/// Reads a body that is one JSON object; `invalid` tells of one that says something else.
pub(super) async fn from_json<T: DeserializeOwned + Send + 'static>(
    request: Request,
    http: &HttpConfig,
    invalid: fn(String) -> Problem,
) -> Result<T, Problem> {
    publish::wants_json(&request)?;
    let body = publish::read(request.into_body(), http).await?;
    match body.len() {
        0..=SMALL_OCTETS => object(&body, invalid),
        _ => aside(move || object(&body, invalid)).await,
    }
}

fn object<T: DeserializeOwned>(body: &[u8], invalid: fn(String) -> Problem) -> Result<T, Problem> {
    // serde would take a list for the members in order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(invalid("a list, where an object is wanted".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let new = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        if error.is_data() {
            invalid(plain(&error.to_string())).at(pointer)
        } else if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
            // It is JSON: what serde wanted was the end of a choice between members.
            invalid("has more than the one member it may have".to_owned()).at(pointer)
        } else {
            Problem::bad_request(format!("body: {error}"))
        }
    })?;
    deserializer.end().map_err(|error| Problem::bad_request(format!("body: {error}")))?;
    Ok(new)
}

/// How a subscription stands when it was changed.
async fn changed(
    name: &str,
    change: impl Future<Output = Result<Option<Shown>, CreateError>> + Send + 'static,
) -> Result<Standing, Problem> {
    let shown = whole(change).await?.map_err(refused)?;
    shown.map(Standing).ok_or_else(|| unknown(name))
}

/// A subscription as it stands, with its entity tag.
pub(super) struct Standing(Shown);

impl IntoResponse for Standing {
    fn into_response(self) -> Response {
        let etag = HeaderValue::try_from(&self.0.etag);
        let mut response = Json(self.0).into_response();
        if let Ok(etag) = etag {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// One that was made.
/// Refuses a token the hub doesn't keep: a subscription goes on by itself, and ends with its token.
fn lasting(grant: &Grant) -> Result<(), Problem> {
    match grant.is_kept() {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "a JWT is over soon: a subscription needs a token of the hub's own",
        )),
    }
}

fn created(shown: Shown) -> Response {
    let location = HeaderValue::try_from(format!("/v1/subscriptions/{}", shown.id));
    let mut response = Standing(shown).into_response();
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Makes a change to its end, also where who asked for it goes away meanwhile: one that is half made
/// leaves a subscription without a worker.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(change).await.map_err(|error| {
        tracing::error!(%error, "a change of a subscription was not made");
        Problem::internal()
    })
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("{:?}: no such subscription", clipped(name)))
}

fn refused(error: CreateError) -> Problem {
    match error {
        CreateError::Invalid { pointer, message } => {
            Problem::invalid_subscription(message).at(pointer)
        }
        CreateError::NameTaken(_) => Problem::conflict(error.to_string()),
        CreateError::TooMany(_) | CreateError::Full => {
            Problem::too_many_subscriptions(error.to_string())
        }
        CreateError::Expired(_) | CreateError::Configured(_) => {
            Problem::conflict(error.to_string())
        }
        CreateError::Changed(_) => Problem::changed(error.to_string()),
        CreateError::State(error) => failed(&error),
    }
}

pub(super) fn failed(error: &StateError) -> Problem {
    if let StateError::Full { .. } = error {
        return Problem::unavailable(error.to_string()).retry_after(RETRY_SECONDS);
    }
    let why = crate::sources::chain(error);
    tracing::error!(why, "a change could not be kept");
    Problem::internal()
}

/// A message of serde's in our words; where it is wrong the pointer tells better.
pub(crate) fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    message
        .replace('`', "\"")
        .replace("a sequence", "a list")
        .replace("struct NewSubscription", "an object")
        .replace("struct Rotation", "an object")
        .replace("struct Redrive", "an object")
        .replace("struct Renewal", "an object")
        .replace("struct Replay", "an object")
        .replace("struct NewToken", "an object")
        .replace("expected u64", "expected a whole number from 0")
        .replace("unknown variant", "unknown value")
}

/// A path of serde's as a JSON Pointer.
pub(crate) fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Octets of JSON that are read in no time.
const SMALL_OCTETS: usize = 16 * 1024;

/// Dead letters shown where nobody says how many.
const DEAD_LETTERS_SHOWN: u32 = 100;

/// When trying again makes sense where the disk is full.
const RETRY_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_what_it_is() {
        let problem = failed(&StateError::Full { path: "/data/hub.db".into() });
        let problem = serde_json::to_value(problem).unwrap();
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["detail"], "/data/hub.db: no room left on the disk");
    }
}
