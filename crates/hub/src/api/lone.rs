//! The usual request: a body that is one event. What it costs is what publishing costs.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use mail_event::EventId;
use postbell_engine::Stores;
use postbell_journal::Verdict;

use super::publish::{Verdicts, not_taken};
use super::{App, Problem};
use crate::traces::WayIn;

/// Journals the event of a publisher that speaks for `stores`, and says what became of it.
pub(super) async fn publish(
    app: &App,
    stores: &Stores,
    json: Bytes,
    way: &mut WayIn,
) -> Result<Response, Problem> {
    way.admitting();
    let taken = match app.publishers.admit(stores, json, None) {
        Ok(taken) => taken,
        Err(error) => return Ok(Verdicts::refused(&error).into_response()),
    };
    let id = EventId::from_u128(taken.entry.id.0);
    way.journalling([taken.entry.id.0].into_iter(), 0);
    let result = app.gatherer.append_one(taken.entry).await;
    way.journalled(result.as_ref().ok().map(std::slice::from_ref));
    app.publishers.count_one(taken.event, &result);
    let verdict = result.map_err(|error| not_taken(&error))?;
    if taken.repairs.is_empty() {
        return Ok(answer(verdict, id));
    }
    Ok(Verdicts::lone(verdict, id, taken.repairs).into_response())
}

/// What [`Verdicts`] would be written as.
fn answer(verdict: Verdict, id: EventId) -> Response {
    let (begin, seq): (&[u8], _) = match verdict {
        Verdict::New(seq) => (
            br#"{"accepted":1,"repeated":0,"rejected":0,"verdicts":[{"verdict":"accepted","seq":"#,
            seq,
        ),
        Verdict::Repeated(seq) => (
            br#"{"accepted":0,"repeated":1,"rejected":0,"verdicts":[{"verdict":"repeated","seq":"#,
            seq,
        ),
    };
    let mut text = Vec::with_capacity(ANSWER_OCTETS);
    text.extend_from_slice(begin);
    // Writing a number to memory can't fail.
    serde_json::to_writer(&mut text, &seq.0).unwrap_or_default();
    text.extend_from_slice(br#","eventId":""#);
    text.extend_from_slice(&id.to_bytes());
    text.extend_from_slice(br#""}]}"#);
    let mut response = Response::new(Body::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The longest answer: one with twenty digits.
const ANSWER_OCTETS: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use postbell_journal::Seq;

    async fn written(response: Response) -> (axum::http::response::Parts, Bytes) {
        let (parts, body) = response.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn the_short_way_says_what_the_long_one_would() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for verdict in [Verdict::New(Seq(u64::MAX)), Verdict::Repeated(Seq(1))] {
            let (short, text) = written(answer(verdict, id)).await;
            let long = Verdicts::lone(verdict, id, Vec::new()).into_response();
            let (long, expected) = written(long).await;
            assert_eq!((short.status, &short.headers), (long.status, &long.headers));
            assert_eq!(text, expected);
            assert!(text.len() <= ANSWER_OCTETS);
        }
    }
}
