//! Bodies with links of our own, of which the store may yet make references of its own.

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::links::Links;
use crate::url_auth::{WAIT_MAX, Wanted};

/// A link in a body that is to become a URL by the store, if it makes one in time.
#[derive(Debug)]
pub(crate) struct Reference {
    /// Before this place of the body it doesn't stand.
    pub(crate) begins: usize,
    pub(crate) link: String,
    pub(crate) wanted: Wanted,
    /// Octets that may come in its place at most, so that its event isn't larger than may leave.
    pub(crate) octets_max: usize,
}

impl Links {
    /// A body as it is sent, of at most `octets_max` where it isn't larger already. Takes at most
    /// [`WAIT_MAX`], and no time at all where nothing is wanted of a store.
    pub(crate) async fn settle(
        &self,
        body: Vec<u8>,
        references: Vec<Reference>,
        octets_max: usize,
    ) -> Vec<u8> {
        if references.is_empty() {
            return body;
        }
        let deadline = Instant::now() + WAIT_MAX;
        let asked = references
            .iter()
            .map(|reference| self.url_auth().authorise(reference.wanted.clone(), deadline));
        let urls = join_all(asked).await;
        let urls: Vec<_> = urls.iter().map(|url| url.as_ref().map(|url| url.reveal())).collect();
        let found = references.iter().zip(urls).filter_map(|(reference, url)| {
            let url = url.filter(|url| url.len() <= reference.octets_max)?;
            Some((reference.begins, reference.link.as_str(), url))
        });
        replaced(body, found, octets_max)
    }
}

/// The body with a URL in the place of each link: of its begin, the link, and the URL, in the order
/// of the body. Links are signed, so that none is met by chance. What would make it too large stays
/// a link.
fn replaced<'a>(
    body: Vec<u8>,
    urls: impl Iterator<Item = (usize, &'a str, &'a str)>,
    octets_max: usize,
) -> Vec<u8> {
    let mut room = octets_max.saturating_sub(body.len());
    let (mut out, mut done) = (Vec::with_capacity(body.len()), 0);
    for (begins, link, url) in urls {
        let more = url.len().saturating_sub(link.len());
        let place = body.get(begins.max(done)..);
        let at = place.and_then(|rest| memchr::memmem::find(rest, link.as_bytes()));
        let Some(at) = at.filter(|_| more <= room) else { continue };
        room -= more;
        let at = begins.max(done) + at;
        out.extend_from_slice(body.get(done..at).unwrap_or_default());
        out.extend_from_slice(url.as_bytes());
        done = at + link.len();
    }
    if done == 0 {
        return body;
    }
    out.extend_from_slice(body.get(done..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(urls: &[(usize, &str, &str)], octets_max: usize) -> String {
        let body = b"{a:\"L1\"}{b:\"L2\"}{c:\"L1\"}".to_vec();
        String::from_utf8(replaced(body, urls.iter().copied(), octets_max)).unwrap()
    }

    #[test]
    fn r45_urls_come_in_the_place_of_the_links_they_were_made_for() {
        let all = [(0, "L1", "first"), (8, "L2", "s"), (16, "L1", "third")];
        assert_eq!(text(&all, 1_000), "{a:\"first\"}{b:\"s\"}{c:\"third\"}");
        assert_eq!(text(&all[1..], 1_000), "{a:\"L1\"}{b:\"s\"}{c:\"third\"}");
        assert_eq!(text(&all[2..], 1_000), "{a:\"L1\"}{b:\"L2\"}{c:\"third\"}");
        for absent in [(17, "L2", "x"), (100, "L1", "x")] {
            assert_eq!(text(&[absent], 1_000), text(&[], 0));
        }
    }

    #[test]
    fn r45_what_would_make_a_body_too_large_stays_a_link() {
        let all = [(0, "L1", "first"), (8, "L2", "s"), (16, "L1", "third")];
        let whole = text(&[], 0).len();
        assert_eq!(text(&all, whole + 2), "{a:\"L1\"}{b:\"s\"}{c:\"L1\"}");
        assert_eq!(text(&all, whole + 3), "{a:\"first\"}{b:\"s\"}{c:\"L1\"}");
        assert_eq!(text(&all, 0), "{a:\"L1\"}{b:\"s\"}{c:\"L1\"}");
    }
}
