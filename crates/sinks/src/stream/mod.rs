//! Streams as octets: server-sent events and NDJSON. What is sent is written here; who sends it,
//! and when, is the hub's affair.

/// How a stream is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Server-sent events: each with its number as `id`, so that a client that comes back says
    /// where it was (`Last-Event-ID`).
    Sse,
    /// One JSON object a line.
    Ndjson,
}

impl Form {
    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Appends one delivery: `write` appends its JSON, which holds no line end.
    ///
    /// ```
    /// use postbell_sinks::stream::Form;
    ///
    /// let mut out = Vec::new();
    /// Form::Sse.deliver(&mut out, 7, "Login", |out| out.extend_from_slice(b"{}"));
    /// assert_eq!(out, b"id: 7\nevent: Login\ndata: {}\n\n");
    /// ```
    pub fn deliver(
        self,
        out: &mut Vec<u8>,
        seq: u64,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Self::Sse => {
                out.extend_from_slice(b"id: ");
                decimal(out, seq);
                out.extend_from_slice(b"\nevent: ");
                // Names hold no line end; one that did would be a door into the stream.
                out.extend(name.bytes().filter(u8::is_ascii_graphic));
                out.extend_from_slice(b"\ndata: ");
                write(out);
                out.extend_from_slice(b"\n\n");
            }
            Self::Ndjson => {
                write(out);
                out.push(b'\n');
            }
        }
    }

    /// What says, where there is nothing to say, that the connection lives: a comment, or an
    /// empty line.
    #[must_use]
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::Sse => b":\n\n",
            Self::Ndjson => b"\n",
        }
    }

    /// Why the stream is about to be cut, for who looks: a comment of `why`, which an `EventSource`
    /// passes over; in NDJSON a last line, `problem`, which is JSON on one line and no event.
    #[must_use]
    pub fn failure(self, why: &str, problem: &[u8]) -> Vec<u8> {
        self.farewell(&format!("error {why}"), problem)
    }

    /// Why the stream is about to be cut where that is no failure, and whoever comes back goes on: the
    /// same, and a comment without `error`.
    #[must_use]
    pub fn farewell(self, why: &str, problem: &[u8]) -> Vec<u8> {
        match self {
            Self::Sse => format!(": {}\n\n", why.replace(char::is_control, " ")).into_bytes(),
            Self::Ndjson => [problem, b"\n"].concat(),
        }
    }

    /// What a stream begins with, so that a client knows at once that it stands: an SSE client is
    /// also told how long to wait before it comes back.
    #[must_use]
    pub const fn opening(self) -> &'static [u8] {
        match self {
            Self::Sse => b"retry: 1000\n\n",
            Self::Ndjson => b"",
        }
    }
}

/// Appends a number in decimal, without the detour through formatting.
fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut length = 0;
    for place in digits.iter_mut().rev() {
        // A remainder of ten is one digit.
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, 10, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_line_of_ndjson_is_the_event_and_nothing_else() {
        let mut out = Vec::new();
        Form::Ndjson.deliver(&mut out, 7, "Login", |out| out.extend_from_slice(b"{}"));
        assert_eq!(out, b"{}\n");
    }

    #[test]
    fn a_name_cannot_end_its_line() {
        let mut out = Vec::new();
        Form::Sse.deliver(&mut out, 7, "vnd.x\ndata: forged", |out| out.extend_from_slice(b"{}"));
        assert_eq!(out, b"id: 7\nevent: vnd.xdata:forged\ndata: {}\n\n");
    }

    #[test]
    fn why_a_stream_is_cut_is_a_comment_or_a_last_line() {
        let told = |form: Form| String::from_utf8(form.failure("a\nb", b"{}")).unwrap();
        assert_eq!(told(Form::Sse), ": error a b\n\n");
        assert_eq!(told(Form::Ndjson), "{}\n");
        assert_eq!(Form::Sse.farewell("a\nb", b"{}"), b": a b\n\n");
        assert_eq!(Form::Ndjson.farewell("a", b"{}"), b"{}\n");
    }

    #[test]
    fn heartbeats_are_no_events() {
        assert_eq!(Form::Sse.heartbeat(), b":\n\n");
        assert_eq!(Form::Ndjson.heartbeat(), b"\n");
    }
}
