//! The API's own description, made from the handlers and their types.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::query::NoQuery;
use super::{
    Problem, content, demand, denials, dovecot, events, health, login, publish, status,
    subscriptions, tickets, tokens,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "postbell",
        description = "What happens in a mail store (RFC 5423): handed in, streamed, subscribed to.",
    ),
    paths(
        events::follow,
        publish::publish,
        subscriptions::list,
        subscriptions::create,
        subscriptions::show,
        subscriptions::apply,
        subscriptions::remove,
        subscriptions::pause,
        subscriptions::redrive,
        subscriptions::renew,
        subscriptions::replay,
        subscriptions::resume,
        subscriptions::rotate,
        subscriptions::dead_letters,
        tickets::create,
        login::enter,
        tokens::list,
        tokens::create,
        tokens::revoke,
        denials::list,
        denials::deny,
        denials::allow,
        content::content,
        dovecot::exported,
        status::sources,
        status::source,
        status::status,
        demand::demand,
        serve,
        health::healthz,
        health::readyz,
        health::metrics,
    ),
    components(schemas(Problem)),
    modifiers(&Guarded),
)]
struct Api;

/// What holds for every path that needs the token.
struct Guarded;

impl Modify for Guarded {
    fn modify(&self, document: &mut Document) {
        let bearer = SecurityScheme::Http(
            Http::builder()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("The token in the data folder's file `token`, or one made with `POST /v1/tokens`"))
                .build(),
        );
        if let Some(components) = &mut document.components {
            components.security_schemes.insert("token".to_owned(), bearer.into());
        }
        let none: [&str; 0] = [];
        let guarded = document
            .paths
            .paths
            .iter_mut()
            .filter(|(path, _)| !OPEN.contains(&path.as_str()))
            .flat_map(|(_, item)| {
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete]
                    .into_iter()
                    .flatten()
            });
        for operation in guarded {
            operation.security = Some(vec![SecurityRequirement::new("token", none)]);
            let refused = |why: &str| {
                let problem =
                    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                let response = ResponseBuilder::new().description(why);
                response.content("application/problem+json", problem).build().into()
            };
            let responses = &mut operation.responses.responses;
            responses.insert("401".to_owned(), refused("No token, or another one"));
            responses.insert("403".to_owned(), refused("The token is not for this"));
            let guesses = refused("Too many wrong tokens came from there");
            responses.insert("429".to_owned(), guesses);
            let unknown = || refused("A query parameter is unknown");
            responses.entry("400".to_owned()).or_insert_with(unknown);
        }
    }
}

/// The paths without a token.
const OPEN: [&str; 5] = [content::PATH, dovecot::PATH, login::PATH, "/healthz", "/readyz"];

/// Made once: it never changes.
static TEXT: LazyLock<String> =
    LazyLock::new(|| Api::openapi().to_pretty_json().unwrap_or_default());

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "hub", responses(
    (status = 200, description = "This description (OpenAPI 3.1)", body = Object),
))]
pub(super) async fn serve(_: NoQuery) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_is_the_one_that_was_reviewed() {
        insta::assert_snapshot!(TEXT.as_str());
    }

    #[test]
    fn every_route_is_described_and_every_description_has_a_route() {
        let document: serde_json::Value = serde_json::from_str(&TEXT).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.insert((path.clone(), method.to_uppercase()));
            }
        }
        let guarded = crate::api::guarded().into_iter();
        let guarded = guarded.map(|(path, allow, _, methods)| (path, allow, methods));
        let routes = crate::api::open().into_iter().chain(guarded);
        let served: BTreeSet<_> = routes
            .flat_map(|(path, allow, _)| {
                allow.split(", ").map(move |method| (path.to_owned(), method.to_owned()))
            })
            .collect();
        assert_eq!(described, served);
    }
}
