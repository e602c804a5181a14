//! What stands in a URL: a name in the path; query parameters, each known, given once, and named
//! where it is wrong.

use axum::extract::{FromRequestParts, Path, Query as Extracted};
use axum::http::Uri;
use axum::http::request::Parts;

use super::Problem;

/// The name in a path, decoded.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Problem::bad_request("path: its name is not UTF-8")),
        }
    }
}

/// The parameters of a request's query, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of `uri`; only the `known` parameters may stand in it.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Extracted(pairs): Extracted<Vec<(String, String)>> = Extracted::try_from_uri(uri)
            .map_err(|error| Problem::bad_request(format!("query: {error}")))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let offered = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("not one of {}", known.join(", ")),
                };
                return Err(Problem::bad_query(&clipped(name), offered));
            }
            if pairs.iter().take(at).any(|(before, _)| before == name) {
                return Err(Problem::bad_query(name, "given twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(known, _)| known == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Problem::bad_query(name, format!("{:?} is not a whole number", clipped(text)))
                })
            })
            .transpose()
    }

    /// `true` or `false`.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => {
                let text = clipped(text);
                Err(Problem::bad_query(name, format!("{text:?} is neither true nor false")))
            }
        }
    }

    /// Names between commas; none where the parameter is absent. To give it and name nothing is a
    /// mistake, as of a script whose variable is empty: it would ask for everything.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, Problem> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        let names: Vec<String> =
            text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() {
            return Err(Problem::bad_query(name, "names nothing (leave it out for everything)"));
        }
        Ok(names)
    }

    /// An RFC 3339 time, in milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // A plus that was not encoded means a space in a query, and no such time has one.
        let time = text.replace(' ', "+").parse::<jiff::Timestamp>().map_err(|_| {
            let text = clipped(text);
            Problem::bad_query(
                name,
                format!("{text:?} is not an RFC 3339 time (try 2026-08-20T13:34:14Z)"),
            )
        })?;
        // Before 1970 nothing was journalled.
        Ok(Some(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

/// As much of a client's text as its problem needs to show.
pub(super) fn clipped(text: &str) -> String {
    const LETTERS_MAX: usize = 80;
    let mut clipped: String = text.chars().take(LETTERS_MAX).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}
