//! A password that isn't printed.

use std::fmt;

/// A password. Printing it shows `…`, in debug builds as well.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Hides `bytes` from here on.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Hands the bytes to the one place that logs in with them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_prints_as_an_ellipsis() {
        let secret = Secret::new(*b"hunter2");
        assert_eq!((format!("{secret:?}"), secret.reveal()), ("…".to_owned(), &b"hunter2"[..]));
    }
}
