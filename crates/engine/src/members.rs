//! The members of a JSON object, found without decoding them.

use memchr::memchr2;

/// One member of an object, as it stands in the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Member<'a> {
    /// The inside of its name.
    pub(crate) name: &'a [u8],
    /// Its value.
    pub(crate) value: &'a [u8],
    /// Where its value begins, in octets from the start of the text.
    pub(crate) value_start: usize,
    /// Name and value, without a comma before or after.
    pub(crate) text: &'a [u8],
}

impl<'a> Member<'a> {
    /// The inside of its value, where that is a string.
    pub(crate) fn string(&self) -> Option<&'a [u8]> {
        self.value.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }
}

/// The members of the object that `json` is, in order.
///
/// The text is taken for valid JSON, as every journalled event is: nothing is checked, and where
/// it is not an object the members found until then are all there are.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// Begins behind the opening brace.
    pub(crate) fn new(json: &'a [u8]) -> Self {
        let mut members = Self { json, at: 0 };
        members.space();
        match members.peek() {
            Some(b'{') => members.at += 1,
            _ => members.at = json.len(),
        }
        members
    }

    fn member(&mut self) -> Option<Member<'a>> {
        self.space();
        if self.peek()? == b',' {
            self.at += 1;
            self.space();
        }
        let start = self.at;
        let name = self.string()?;
        self.space();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        self.space();
        let value_start = self.at;
        self.value()?;
        Some(Member {
            name,
            value: self.json.get(value_start..self.at)?,
            value_start,
            text: self.json.get(start..self.at)?,
        })
    }

    /// Passes over a string and gives its inside.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        self.at = start;
        loop {
            self.at += memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            if self.peek()? == b'"' {
                let inside = self.json.get(start..self.at);
                self.at += 1;
                return inside;
            }
            // What follows a backslash never ends a string.
            self.at += 2;
        }
    }

    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => match depth {
                    0 => return Some(()),
                    1 => {
                        self.at += 1;
                        return Some(());
                    }
                    _ => depth -= 1,
                },
                b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(()),
                _ => {}
            }
            self.at += 1;
        }
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|octet| octet.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let member = self.member();
        if member.is_none() {
            self.at = self.json.len();
        }
        member
    }
}

/// The `timestamp` of a strict event, as it is written.
#[must_use]
pub fn timestamp(json: &[u8]) -> Option<&str> {
    let member = Members::new(json).find(|member| member.name == b"timestamp")?;
    std::str::from_utf8(member.string()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Vec<(String, String)> {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        Members::new(json.as_bytes()).map(|one| (text(one.name), text(one.value))).collect()
    }

    #[test]
    fn members_are_found_whatever_their_values() {
        let json = r#" { "a" : "x\"}" ,"b":{"c":[1,{"d":"]"}]},"e":[ ],"f":-1.5e3 , "g":null }"#;
        let wanted = [
            ("a", r#""x\"}""#),
            ("b", r#"{"c":[1,{"d":"]"}]}"#),
            ("e", "[ ]"),
            ("f", "-1.5e3"),
            ("g", "null"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found(json), wanted);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for json in ["", "[]", "{}", "{", "x", r#"{"a"#, r#"{"a\"#, r#"{"a":"#, r#"{"a":"\"#] {
            assert!(found(json).is_empty(), "{json}");
        }
    }
}
