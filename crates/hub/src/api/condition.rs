//! Changes that are made only where what is changed is still what the asker knows: `If-Match` and
//! `If-None-Match` (RFC 9110, section 13.1).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::Problem;

/// What must hold of what there is before it is changed; nothing where a request says nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Condition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The entity tags of a header.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Tags {
    /// `*`: of whatever there is.
    Any,
    /// These.
    These(Vec<Tag>),
}

/// One entity tag, with its quotation marks.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Tag {
    text: String,
    is_weak: bool,
}

impl Condition {
    /// Reads a request's headers.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(headers, &header::IF_MATCH)?,
            if_none_match: tags(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Whether a change may be made of what has this tag; `None` where there is nothing yet.
    pub(crate) fn is_met(&self, current: Option<&str>) -> bool {
        let same = |tags: &Tags, with_weak: bool| match (tags, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(all), Some(current)) => {
                all.iter().any(|tag| (with_weak || !tag.is_weak) && tag.text == current)
            }
        };
        // The strong comparison for the one, the weak for the other (RFC 9110, section 8.8.3.2).
        self.if_match.as_ref().is_none_or(|tags| same(tags, false))
            && !self.if_none_match.as_ref().is_some_and(|tags| same(tags, true))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

/// The tags of all headers of that name; `None` where there is none.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let wrong = || Problem::bad_header(name.as_str(), "not \"*\", nor entity tags as \"abc\"");
    let mut all: Option<Vec<Tag>> = None;
    for value in headers.get_all(name) {
        let mut rest = value.to_str().map_err(|_| wrong())?.trim();
        if rest == "*" {
            return Ok(Some(Tags::Any));
        }
        let all = all.get_or_insert_default();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let opaque = rest.strip_prefix("W/");
            let quoted = opaque.unwrap_or(rest).strip_prefix('"').ok_or_else(wrong)?;
            let (text, after) = quoted.split_once('"').ok_or_else(wrong)?;
            if all.len() >= TAGS_MAX {
                return Err(wrong());
            }
            all.push(Tag { text: format!("\"{text}\""), is_weak: opaque.is_some() });
            rest = after;
        }
    }
    Ok(all.map(Tags::These))
}

/// Tags in a header at most: who knows one state names one.
const TAGS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn condition(pairs: &[(HeaderName, &str)]) -> Condition {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Condition::read(&headers).unwrap()
    }

    #[test]
    fn a_change_is_made_where_the_tag_is_the_one_known() {
        let here = Some("\"b\"");
        for (value, is_met) in [
            ("*", true),
            ("\"b\"", true),
            ("\"a\" , \"b\"", true),
            ("\"a\"", false),
            // A weak tag says too little for a change.
            ("W/\"b\"", false),
            ("", false),
        ] {
            let condition = condition(&[(header::IF_MATCH, value)]);
            assert_eq!(condition.is_met(here), is_met, "{value}");
            assert!(!condition.is_met(None), "{value}");
        }
        let both = condition(&[(header::IF_MATCH, "\"a\""), (header::IF_MATCH, "\"b\"")]);
        assert!(both.is_met(here));
    }

    #[test]
    fn with_if_none_match_only_what_is_not_there_is_made() {
        let new = condition(&[(header::IF_NONE_MATCH, "*")]);
        assert!(new.is_met(None) && !new.is_met(Some("\"b\"")));
        let other = condition(&[(header::IF_NONE_MATCH, "W/\"b\"")]);
        assert!(other.is_met(None) && other.is_met(Some("\"a\"")) && !other.is_met(Some("\"b\"")));
        assert!(Condition::default().is_met(None) && Condition::default().is_met(Some("\"b\"")));
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for value in ["b", "\"b", "W/b", "\"a\" b"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
            let problem = serde_json::to_value(Condition::read(&headers).unwrap_err()).unwrap();
            assert_eq!(problem["type"], "urn:postbell:problem:bad-header", "{value}");
        }
    }
}
