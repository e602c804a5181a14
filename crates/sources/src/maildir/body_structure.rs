//! BODYSTRUCTURE as IMAP has it (RFC 9051, section 7.5.2), read from a message.
//!
//! Written here and not taken from `mail-parser`: IMAP wants the words of the header as they
//! stand, undecoded, and the sizes of parts as they were sent, and a library for readers decodes
//! the one and the other. Compared with Dovecot's answers in tests.

use std::borrow::Cow;

use super::header::{self, Fields};

/// The BODYSTRUCTURE of a message with CRLF line ends.
pub(super) fn body_structure(message: &[u8]) -> String {
    let mut out = String::new();
    part(&mut out, message, Unlabelled::Text, 0);
    out
}

/// What a part without Content-Type is.
#[derive(Clone, Copy)]
enum Unlabelled {
    Text,
    /// Inside `multipart/digest`.
    Message,
}

fn part(out: &mut String, octets: &[u8], default: Unlabelled, depth: usize) {
    let (fields, body) = header::split(octets);
    let content_type = fields.get("content-type").map(header::content_type);
    let (kind, subtype, mut parameters) = match (content_type, default) {
        (Some(told), _) if !told.kind.is_empty() => (told.kind, told.subtype, told.parameters),
        (_, Unlabelled::Text) => ("text".to_owned(), "plain".to_owned(), Vec::new()),
        (_, Unlabelled::Message) => ("message".to_owned(), "rfc822".to_owned(), Vec::new()),
    };
    let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
    if is("multipart") && depth < DEPTH_MAX {
        let boundary = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
        let boundary = boundary.map(|(_, value)| value.clone()).unwrap_or_default();
        multipart(out, body, &boundary, &subtype, depth);
        out.push_str(&format!(" {} ", quoted(&subtype)));
        list_of_pairs(out, &parameters);
        extension(out, &fields);
        out.push(')');
        return;
    }
    let has_charset = parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case("charset"));
    if is("text") && !has_charset {
        parameters.push(("charset".to_owned(), "us-ascii".to_owned()));
    }
    out.push_str(&format!("({} {} ", quoted(&kind), quoted(&subtype)));
    list_of_pairs(out, &parameters);
    let encoding = fields.get("content-transfer-encoding").map(header::token);
    out.push_str(&format!(
        " {} {} {} {}",
        optional(fields.get("content-id")),
        optional(fields.get("content-description")),
        quoted(encoding.as_deref().filter(|word| !word.is_empty()).unwrap_or("7bit")),
        body.len(),
    ));
    let lines = body.iter().filter(|octet| **octet == b'\n').count();
    if is("message") && subtype.eq_ignore_ascii_case("rfc822") && depth < DEPTH_MAX {
        out.push(' ');
        envelope(out, &header::split(body).0);
        out.push(' ');
        part(out, body, Unlabelled::Text, depth + 1);
        out.push_str(&format!(" {lines}"));
    } else if is("text") {
        out.push_str(&format!(" {lines}"));
    }
    out.push_str(&format!(" {}", optional(fields.get("content-md5"))));
    extension(out, &fields);
    out.push(')');
}

/// The parts between the boundaries, with the parenthesis that opens them.
fn multipart(out: &mut String, body: &[u8], boundary: &str, subtype: &str, depth: usize) {
    let default = match subtype.eq_ignore_ascii_case("digest") {
        true => Unlabelled::Message,
        false => Unlabelled::Text,
    };
    out.push('(');
    let parts = parts(body, boundary);
    // A multipart without parts isn't allowed, and so is told as Dovecot does.
    if parts.is_empty() {
        out.push_str(
            "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)",
        );
    }
    for octets in parts {
        part(out, octets, default, depth + 1);
    }
}

/// What stands between the boundary lines, without the line end before each.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    if boundary.is_empty() {
        return parts;
    }
    let (mut at, mut begun) = (0, None);
    while at < body.len() {
        let rest = body.get(at..).unwrap_or_default();
        let length =
            rest.iter().position(|octet| *octet == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        let after =
            line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        if let Some(after) = after.filter(|after| is_end_of_boundary(after)) {
            if let Some(start) = begun.take() {
                let octets = body.get(start..at).unwrap_or_default();
                let octets = octets.strip_suffix(b"\n").unwrap_or(octets);
                parts.push(octets.strip_suffix(b"\r").unwrap_or(octets));
            }
            if parts.len() >= PARTS_MAX || after.starts_with(b"--") {
                return parts;
            }
            begun = Some(at + length);
        }
        at += length;
    }
    // The last boundary is missing: what is there counts.
    parts.extend(begun.and_then(|start| body.get(start..)));
    parts
}

/// After the boundary comes white space or the two hyphens of the last one.
fn is_end_of_boundary(after: &[u8]) -> bool {
    let after = after.strip_prefix(b"--").unwrap_or(after);
    after.iter().all(u8::is_ascii_whitespace)
}

/// Disposition, language and location, which end every part alike.
fn extension(out: &mut String, fields: &Fields) {
    match fields.get("content-disposition").map(header::content_type) {
        Some(told) if !told.kind.is_empty() => {
            out.push_str(&format!(" ({} ", quoted(&told.kind)));
            list_of_pairs(out, &told.parameters);
            out.push(')');
        }
        _ => out.push_str(" NIL"),
    }
    let languages = fields.get("content-language").map(header::words).unwrap_or_default();
    match languages.as_slice() {
        [] => out.push_str(" NIL"),
        many => {
            let many: Vec<_> = many.iter().map(|word| quoted(word)).collect();
            out.push_str(&format!(" ({})", many.join(" ")));
        }
    }
    out.push_str(&format!(" {}", optional(fields.get("content-location"))));
}

fn list_of_pairs(out: &mut String, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        out.push_str("NIL");
        return;
    }
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{} {}", quoted(name), quoted(value))).collect();
    out.push_str(&format!("({})", pairs.join(" ")));
}

/// IMAP's ENVELOPE, which is not RFC 5423's.
fn envelope(out: &mut String, fields: &Fields) {
    let addresses = |name| fields.get(name).map(header::addresses).unwrap_or_default();
    let from = addresses("from");
    let or_from = |name| Some(addresses(name)).filter(|list| !list.is_empty());
    out.push_str(&format!("({} {}", optional(fields.get("date")), optional(fields.get("subject"))));
    for list in [
        &from,
        or_from("sender").as_ref().unwrap_or(&from),
        or_from("reply-to").as_ref().unwrap_or(&from),
        &addresses("to"),
        &addresses("cc"),
        &addresses("bcc"),
    ] {
        out.push(' ');
        if list.is_empty() {
            out.push_str("NIL");
            continue;
        }
        out.push('(');
        for address in list {
            let [name, mailbox, host] = [&address.name, &address.mailbox, &address.host]
                .map(|word| word.as_deref().map_or(Cow::Borrowed("NIL"), quoted));
            out.push_str(&format!("({name} NIL {mailbox} {host})"));
        }
        out.push(')');
    }
    let (reply, id) = (fields.get("in-reply-to"), fields.get("message-id"));
    out.push_str(&format!(" {} {})", optional(reply), optional(id)));
}

/// A string, or NIL where a field is missing.
fn optional(text: Option<&str>) -> Cow<'_, str> {
    text.map_or(Cow::Borrowed("NIL"), quoted)
}

/// A quoted string, or a literal where there is something a quoted one may not hold.
fn quoted(text: &str) -> Cow<'_, str> {
    // No string of IMAP, literals included, may hold a NUL.
    let text = &*text.replace('\0', "\u{fffd}");
    let plain = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control());
    match plain {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")).into(),
        false => format!("{{{}}}\r\n{text}", text.len()).into(),
    }
}

/// How deep parts may nest: the stack is finite, and no honest message comes near.
const DEPTH_MAX: usize = 64;

/// Parts read of one multipart.
const PARTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use postbell_testkit::mail;

    #[test]
    fn r102_a_plain_message_is_told_as_dovecot_tells_it() {
        assert_eq!(
            body_structure(&mail::plain("two")),
            r#"("text" "plain" ("charset" "utf-8") NIL NIL "8bit" 98 2 NIL NIL NIL NIL)"#
        );
    }

    #[test]
    fn r102_parts_in_parts_are_told_as_dovecot_tells_them() {
        assert_eq!(
            body_structure(&mail::with_attachment("two")),
            concat!(
                r#"((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 19 0 NIL NIL NIL NIL)"#,
                r#"("text" "html" ("charset" "us-ascii") NIL NIL "quoted-printable" 25 0 NIL NIL"#,
                r#" NIL NIL) "alternative" ("boundary" "inner") NIL NIL NIL)("application""#,
                r#" "octet-stream" ("name" "notes.bin") NIL NIL "base64" 16 NIL ("attachment""#,
                r#" ("filename" "notes.bin")) NIL NIL) "mixed" ("boundary" "outer") NIL NIL NIL)"#
            )
        );
    }

    #[test]
    fn r102_an_enclosed_message_is_told_as_dovecot_tells_it() {
        assert_eq!(
            body_structure(&mail::forwarded("two")),
            concat!(
                r#"("message" "rfc822" NIL NIL NIL "7bit" 342 ("Tue, 1 Sep 2026 08:15:00 +0200""#,
                r#" "two" (("Sender" NIL "sender" "example.net")) (("Sender" NIL "sender""#,
                r#" "example.net")) (("Sender" NIL "sender" "example.net")) (("Alice" NIL "alice""#,
                r#" "example.org")) NIL NIL NIL "<two@example.net>") ("text" "plain" ("charset""#,
                r#" "utf-8") NIL NIL "8bit" 98 2 NIL NIL NIL NIL) 11 NIL NIL NIL NIL)"#
            )
        );
    }

    #[test]
    fn nonsense_is_told_as_something() {
        for message in [
            &b""[..],
            b"\r\n",
            b"Content-Type: multipart/mixed\r\n\r\nx",
            b"Content-Type: multipart/mixed; boundary=\"\r\n\r\n--\r\n--\r\n",
            b"Content-Type: ;;;\r\nContent-Disposition: \"\r\n\xff\xfe\r\n\r\n\0",
            b"no header at all",
        ] {
            let told = body_structure(message);
            assert!(told.starts_with('(') && told.ends_with(')'), "{told}");
        }
    }

    #[test]
    fn a_nul_in_a_header_never_comes_out() {
        let told = body_structure(b"Content-Type: te\0xt/plain\r\nContent-ID: <\0>\r\n\r\n");
        assert!(!told.contains('\0') && told.contains("te\u{fffd}xt"), "{told:?}");
    }

    #[test]
    fn parts_nested_without_end_end() {
        let one = "Content-Type: message/rfc822\r\n\r\n";
        let told = body_structure(one.repeat(10_000).as_bytes());
        assert!(told.len() < 100_000);
    }
}
