//! What stands in a URL: a name in the path; query parameters, each known, given once unless it is
//! a list, and named where it is wrong. `parameters.*` is known as `parameters.` with anything after it.

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

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

/// A query without parameters, of a path that has none.
#[derive(Debug)]
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Query::read(&parts.uri, &[]).map(|_| Self)
    }
}

/// The parameters of a request's query, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of `uri`; only the `known` parameters may stand in it.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name =
                decoded(name).map_err(|name| Problem::bad_query(&clipped(&name), NOT_UTF8))?;
            if !known.iter().any(|known| fits(known, &name)) {
                let offered = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("not one of {}", known.join(", ")),
                };
                return Err(Problem::bad_query(&clipped(&name), offered));
            }
            if !LISTS.iter().any(|list| fits(list, &name))
                && pairs.iter().any(|(before, _)| *before == name)
            {
                return Err(Problem::bad_query(&name, "given twice"));
            }
            let value = decoded(value).map_err(|_| Problem::bad_query(&name, NOT_UTF8))?;
            pairs.push((name, value));
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

    /// Names between commas, however often the parameter is given; none where it is absent. To
    /// give it and name nothing is a mistake, as of a script whose variable is empty: it would ask
    /// for everything.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        for (_, text) in self.0.iter().filter(|(known, _)| known == name) {
            let before = names.len();
            names.extend(between_commas(text));
            if names.len() == before {
                return Err(Problem::bad_query(
                    name,
                    "names nothing (leave it out for everything)",
                ));
            }
        }
        Ok(names)
    }

    /// Lists of names by what follows `prefix` in the parameters' names; as [`Query::list`].
    pub(super) fn lists_by(&self, prefix: &str) -> Result<Vec<(String, Vec<String>)>, Problem> {
        let mut lists: Vec<(String, Vec<String>)> = Vec::new();
        for (name, text) in &self.0 {
            let Some(by) = name.strip_prefix(prefix) else { continue };
            let mut names = between_commas(text);
            if names.is_empty() {
                return Err(Problem::bad_query(&clipped(name), "names nothing"));
            }
            match lists.iter_mut().find(|(known, _)| known == by) {
                Some((_, list)) => list.append(&mut names),
                None => lists.push((by.to_owned(), names)),
            }
        }
        Ok(lists)
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

/// Every value of one parameter, decoded as far as it can be.
pub(super) fn raw_values(uri: &Uri, name: &str) -> impl Iterator<Item = String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let same = pairs.filter(move |(known, _)| decoded(known).is_ok_and(|known| known == name));
    same.map(|(_, value)| decoded(value).unwrap_or_else(|unread| unread))
}

/// The names in a list. A comma or a backslash of a name's own has a backslash before it.
fn between_commas(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' {
            names.push(String::new());
            continue;
        }
        let own = letters.next_if(|next| letter == '\\' && matches!(next, ',' | '\\'));
        if let Some(name) = names.last_mut() {
            name.push(own.unwrap_or(letter));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// A name or value of a query: `+` is a space, and `%` with two hexadecimal digits an octet. Where
/// the octets are not UTF-8, how far they can be read.
fn decoded(text: &str) -> Result<String, String> {
    let text = text.replace('+', " ");
    let octets = percent_decode_str(&text);
    match octets.clone().decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(octets.decode_utf8_lossy().into_owned()),
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

/// Whether `name` is the one known, or begins as that does up to its `*`.
fn fits(known: &str, name: &str) -> bool {
    match known.strip_suffix('*') {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => known == name,
    }
}

/// The parameters that are lists: these may be given several times.
const LISTS: [&str; 6] = ["events", "users", "mailboxes", "parameters", "parameters.*", "tags"];

const NOT_UTF8: &str = "not UTF-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Problem> {
        let uri = format!("/v1/events?{text}").parse().unwrap();
        Query::read(&uri, &["mailboxes", "since"])
    }

    fn mailboxes(text: &str) -> Vec<String> {
        query(text).unwrap().list("mailboxes").unwrap()
    }

    #[test]
    fn a_list_is_cut_at_its_commas_and_may_be_given_several_times() {
        assert_eq!(mailboxes("mailboxes=a,b"), ["a", "b"]);
        assert_eq!(mailboxes("mailboxes=a%2Cb,&mailboxes=c+d"), ["a", "b", "c d"]);
    }

    #[test]
    fn a_comma_of_a_names_own_has_a_backslash_before_it() {
        assert_eq!(mailboxes(r"mailboxes=Smith%5C%2C%20John,b"), ["Smith, John", "b"]);
        assert_eq!(mailboxes("mailboxes=a%5C%5C,b%5Cc%5C"), [r"a\", r"b\c\"]);
    }

    #[test]
    fn lists_by_what_follows_a_name_are_lists_each_by_itself() {
        let lists = |text: &str| {
            let query = Query::read(&format!("/x?{text}").parse().unwrap(), &["parameters.*"]);
            query.and_then(|query| query.lists_by("parameters."))
        };
        let told = lists("parameters.A=a,b&parameters.B=%2A&parameters.A=c").unwrap();
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let wanted = [("A".to_owned(), list(&["a", "b", "c"])), ("B".to_owned(), list(&["*"]))];
        assert_eq!(told, wanted);
        assert!(lists("").unwrap().is_empty());
        for (bad, detail) in [
            ("parameters.A=", "parameters.A: names nothing"),
            ("parameters.=a", "parameters.: not one of parameters.*"),
            ("parameters=a", "parameters: not one of parameters.*"),
        ] {
            let problem = serde_json::to_value(lists(bad).unwrap_err()).unwrap();
            assert_eq!(problem["detail"], detail);
        }
    }

    #[test]
    fn what_is_not_utf_8_is_refused_with_its_name() {
        let told = |text| serde_json::to_value(query(text).unwrap_err()).unwrap()["detail"].clone();
        assert_eq!(told("mailboxes=%ff"), "mailboxes: not UTF-8");
        assert_eq!(told("%ff=1"), "\u{fffd}: not UTF-8");
        assert_eq!(told("since=1&since=2"), "since: given twice");
    }

    #[test]
    fn a_percent_sign_that_encodes_nothing_is_one() {
        assert_eq!(mailboxes("mailboxes=%,%4,%zz,%C3%A4"), ["%", "%4", "%zz", "ä"]);
    }
}
