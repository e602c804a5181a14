//! Header fields of a message, as far as BODYSTRUCTURE wants them.

/// The fields of one header, unfolded; names in lower case.
#[derive(Debug, Default)]
pub(super) struct Fields {
    fields: Vec<(String, String)>,
}

impl Fields {
    /// The first field of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Splits a message or part into its header and its body.
pub(super) fn split(octets: &[u8]) -> (Fields, &[u8]) {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut rest = octets;
    loop {
        let length =
            rest.iter().position(|octet| *octet == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = after;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut().filter(|(_, v)| v.len() < FIELD_OCTETS_MAX)
            {
                value.push_str(&text);
            }
        } else if let Some((name, value)) = text.split_once(':')
            && fields.len() < FIELDS_MAX
        {
            fields.push((name.trim_end().to_ascii_lowercase(), value.to_owned()));
        }
    }
    for (_, value) in &mut fields {
        *value = value.trim().to_owned();
    }
    (Fields { fields }, rest)
}

/// A type or disposition with its parameters.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct ContentType {
    pub(super) kind: String,
    pub(super) subtype: String,
    pub(super) parameters: Vec<(String, String)>,
}

/// Reads Content-Type, and Content-Disposition, whose subtype is empty.
pub(super) fn content_type(value: &str) -> ContentType {
    let mut scanner = Scanner::new(value);
    let kind = scanner.word();
    let subtype = if scanner.skip('/') { scanner.word() } else { String::new() };
    let mut parameters: Vec<(String, String)> = Vec::new();
    while scanner.skip_to(';') && parameters.len() < PARAMETERS_MAX {
        let name = scanner.word();
        if name.is_empty() || !scanner.skip('=') {
            continue;
        }
        let value = scanner.word();
        match continued(&name, &parameters) {
            // A long value in several parts (RFC 2231) is told joined, as Dovecot does.
            Some(index) => {
                if let Some((_, begun)) = parameters.get_mut(index) {
                    begun.push_str(&value);
                }
            }
            None => parameters.push((first_part(&name), value)),
        }
    }
    ContentType { kind, subtype, parameters }
}

/// `name*0*` begins `name*`, and `name*0` begins `name`.
fn first_part(name: &str) -> String {
    match name.strip_suffix("*0*") {
        Some(base) => format!("{base}*"),
        None => name.strip_suffix("*0").unwrap_or(name).to_owned(),
    }
}

/// Which parameter `name*1` goes on.
fn continued(name: &str, parameters: &[(String, String)]) -> Option<usize> {
    let (base, part) = name.split_once('*')?;
    let part: u32 = part.trim_end_matches('*').parse().ok()?;
    let begun = |known: &str| known.trim_end_matches('*').eq_ignore_ascii_case(base);
    (part > 0).then(|| parameters.iter().position(|(known, _)| begun(known))).flatten()
}

/// One word without comments, such as an encoding.
pub(super) fn token(value: &str) -> String {
    Scanner::new(value).word()
}

/// Words separated by commas.
pub(super) fn words(value: &str) -> Vec<String> {
    let mut scanner = Scanner::new(value);
    let mut words = Vec::new();
    loop {
        let word = scanner.word();
        if !word.is_empty() {
            words.push(word);
        }
        if !scanner.skip_to(',') || words.len() >= PARAMETERS_MAX {
            return words;
        }
    }
}

/// One address of an ENVELOPE; a group is its name in `mailbox`, then its members, then nothing.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Address {
    pub(super) name: Option<String>,
    pub(super) mailbox: Option<String>,
    pub(super) host: Option<String>,
}

/// Reads a list of addresses.
pub(super) fn addresses(value: &str) -> Vec<Address> {
    let mut scanner = Scanner::new(value);
    let mut list = Vec::new();
    while list.len() < ADDRESSES_MAX {
        let phrase = scanner.phrase();
        match scanner.next() {
            Some('<') => {
                let mailbox = scanner.phrase();
                let host = if scanner.skip('@') { scanner.phrase() } else { String::new() };
                scanner.skip_to('>');
                list.push(Address { name: some(phrase), mailbox: some(mailbox), host: some(host) });
            }
            Some('@') => {
                let host = scanner.phrase();
                let name = scanner.comment.take();
                list.push(Address { name, mailbox: some(phrase), host: some(host) });
            }
            Some(':') => list.push(Address { mailbox: some(phrase), ..Address::default() }),
            Some(';') => list.push(Address::default()),
            Some(',') | Some(_) => {}
            None => {
                if let Some(word) = some(phrase) {
                    list.push(Address { mailbox: Some(word), ..Address::default() });
                }
                return list;
            }
        }
    }
    list
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Reads words, quoted strings and comments (RFC 5322, section 3.2).
struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    /// The last comment: in old mail the name behind an address.
    comment: Option<String>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), comment: None }
    }

    fn next(&mut self) -> Option<char> {
        self.white_space();
        self.rest.next()
    }

    fn skip(&mut self, wanted: char) -> bool {
        self.white_space();
        self.rest.next_if_eq(&wanted).is_some()
    }

    /// Passes over everything up to and with `wanted`; not over one in quotes.
    fn skip_to(&mut self, wanted: char) -> bool {
        loop {
            self.white_space();
            match self.rest.peek() {
                None => return false,
                Some('"') => drop(self.string()),
                Some(found) => {
                    let is_it = *found == wanted;
                    self.rest.next();
                    if is_it {
                        return true;
                    }
                }
            }
        }
    }

    /// A token or a quoted string.
    fn word(&mut self) -> String {
        self.white_space();
        if self.rest.peek() == Some(&'"') {
            return self.string();
        }
        let mut word = String::new();
        while let Some(letter) =
            self.rest.next_if(|c| !c.is_whitespace() && !"();,/=\"".contains(*c))
        {
            word.push(letter);
        }
        word
    }

    /// Words up to something that separates addresses, one space between them.
    fn phrase(&mut self) -> String {
        let mut phrase = String::new();
        loop {
            let before = self.rest.peek().copied();
            self.white_space();
            let spaced = before.is_some_and(char::is_whitespace);
            let word = match self.rest.peek() {
                Some('"') => self.string(),
                _ => {
                    let mut word = String::new();
                    let is_part = |c: &char| !c.is_whitespace() && !"()<>@,;:\"".contains(*c);
                    while let Some(letter) = self.rest.next_if(is_part) {
                        word.push(letter);
                    }
                    word
                }
            };
            if word.is_empty() {
                return phrase;
            }
            if spaced && !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(&word);
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        self.rest.next();
        while let Some(letter) = self.rest.next() {
            match letter {
                '"' => break,
                '\\' => text.extend(self.rest.next()),
                other => text.push(other),
            }
        }
        text
    }

    fn white_space(&mut self) {
        loop {
            while self.rest.next_if(|letter| letter.is_whitespace()).is_some() {}
            if self.rest.peek() != Some(&'(') {
                return;
            }
            let (mut depth, mut text) = (0_usize, String::new());
            while let Some(letter) = self.rest.next() {
                match letter {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    '\\' => text.extend(self.rest.next()),
                    other => text.push(other),
                }
                if depth == 0 {
                    break;
                }
            }
            self.comment = Some(text);
        }
    }
}

/// Fields read of one header, octets of one field, and so on: far beyond any honest message.
const FIELDS_MAX: usize = 2_000;
const FIELD_OCTETS_MAX: usize = 256 * 1024;
const PARAMETERS_MAX: usize = 200;
const ADDRESSES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form() {
        let list = addresses("\"Last, First\" <f@x.org>, g@y.org (Gus), Team: a@z.org;, broken");
        let told: Vec<_> = list
            .iter()
            .map(|a| [&a.name, &a.mailbox, &a.host].map(|word| word.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            told,
            [
                ["Last, First", "f", "x.org"],
                ["Gus", "g", "y.org"],
                ["-", "Team", "-"],
                ["-", "a", "z.org"],
                ["-", "-", "-"],
                ["-", "broken", "-"],
            ]
        );
    }

    #[test]
    fn parameters_are_read_with_quotes_comments_and_continuations() {
        let told = content_type("Text/Plain (odd); charset=\"utf-8\" ; name*0=ab; name*1=\"c;d\"");
        assert_eq!((told.kind.as_str(), told.subtype.as_str()), ("Text", "Plain"));
        let parameters = [("charset", "utf-8"), ("name", "abc;d")];
        assert_eq!(told.parameters, parameters.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_folded_field_is_one_and_the_body_begins_after_the_empty_line() {
        let (fields, body) = split(b"Subject: a\r\n b\r\nX\r\n\r\nbody\r\n\r\n");
        assert_eq!(fields.get("subject"), Some("a b"));
        assert_eq!(body, b"body\r\n\r\n");
    }
}
