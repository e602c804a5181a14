//! Whether a receiver agrees to be delivered to (HTTP 1.1 Web Hooks for CloudEvents 1.0, section 4).

use std::num::NonZeroU32;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use postbell_engine::Outcome;

use super::{AGENT, Answer, Webhook, failed, judge};

/// What a receiver said when it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// Accepted where it agrees; the reason says what it answered, or why nobody did.
    pub answer: Answer,
    /// Who gave the answer.
    pub from: AnswerFrom,
    /// How many requests a minute it takes; as many as come where it sets no bound.
    pub per_minute: Option<NonZeroU32>,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerFrom {
    /// Nobody's: the receiver was not reached, or said nothing in time.
    Nobody,
    /// The receiver's.
    Receiver,
}

impl Webhook {
    /// Asks the receiver once, at `now`, whether it agrees to be delivered to by `origin`, the name
    /// of the store. What holds for deliveries holds here: addresses, timeout, no redirects.
    pub async fn ask(&self, origin: &str, now: SystemTime) -> Agreement {
        let request = match self.question(origin) {
            Ok(request) => request,
            Err(error) => return nobody(failed(error.to_string())),
        };
        let asked = self.exchange(request, |response| agreement(response, origin, now)).await;
        asked.unwrap_or_else(nobody)
    }

    fn question(&self, origin: &str) -> Result<Request<Full<Bytes>>, InvalidHeaderValue> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::OPTIONS;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(REQUEST_ORIGIN, HeaderValue::try_from(origin)?);
        Ok(request)
    }
}

/// Agreed is only what names the origin, or everybody; success alone says nothing, since many
/// servers answer OPTIONS to anybody (section 4.2).
fn agreement<B>(response: &Response<B>, origin: &str, now: SystemTime) -> Agreement {
    let mut answer = judge(response, now);
    let header = |name: &HeaderName| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap_or_default().trim().to_owned())
    };
    let refused = Outcome::Failed { retry_after: None };
    let mut per_minute = None;
    if answer.outcome == Outcome::Accepted {
        let why_not = match header(&ALLOWED_ORIGIN) {
            Some(allowed) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => {
                match header(&ALLOWED_RATE).as_deref() {
                    None | Some("*") => None,
                    Some(rate) => {
                        per_minute = rate.parse().ok();
                        let why = "with a WebHook-Allowed-Rate that is no number from 1";
                        per_minute.is_none().then_some(why)
                    }
                }
            }
            Some(_) => Some("with another WebHook-Allowed-Origin"),
            None => Some("without WebHook-Allowed-Origin"),
        };
        if let Some(why) = why_not {
            answer = Answer { outcome: refused, reason: format!("{} {why}", answer.reason) };
        }
    }
    Agreement { answer, from: AnswerFrom::Receiver, per_minute }
}

fn nobody(answer: Answer) -> Agreement {
    Agreement { answer, from: AnswerFrom::Nobody, per_minute: None }
}

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
