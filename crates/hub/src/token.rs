//! The API's bearer token: made at first start, kept in a file only its owner may read.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// The token every request must carry. Printing it shows `…`.
#[derive(Clone)]
pub struct Token {
    text: String,
    /// `Bearer ` and the token, to be compared with the header as it comes.
    header: Box<[u8]>,
}

impl Token {
    /// Reads the token at `path`, making it first where there is none.
    ///
    /// # Errors
    ///
    /// Where the file can't be read or written, is open to others, or holds no token.
    pub fn load_or_make(path: &Path) -> Result<Self, TokenError> {
        match Self::load(path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::make(path)
            }
            loaded => loaded,
        }
    }

    /// Reads the token at `path`, where there is one.
    ///
    /// # Errors
    ///
    /// As [`Token::load_or_make`], and where there is none.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let file = open_private(path).map_err(|error| trouble(path, error))?;
        Self::read(path, file)
    }

    /// The token itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether an `Authorization` header carries this token; takes the same time wherever the
    /// two differ. Only the length can be learnt, and every token has the same.
    pub(crate) fn opens(&self, header: &[u8]) -> bool {
        // The scheme's case is free (RFC 9110, section 11.1); the usual spelling costs nothing.
        const SCHEME: usize = "Bearer ".len();
        let Some((scheme, secret)) = header.split_at_checked(SCHEME) else { return false };
        let Some(wanted) = self.header.get(SCHEME..) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(secret.ct_eq(wanted))
    }

    fn new(text: String) -> Self {
        let header = format!("Bearer {text}").into_bytes().into();
        Self { text, header }
    }

    fn read(path: &Path, file: File) -> Result<Self, TokenError> {
        let text = read_private(path, file)?;
        let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !good || text.len() < TOKEN_LETTERS_MIN {
            return Err(TokenError::Malformed { path: path.to_owned() });
        }
        Ok(Self::new(text))
    }

    fn make(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), source };
        let text = random_text().map_err(io)?;
        write_private(path, &text).map_err(io)?;
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The secret in the path that a Dovecot's exporter posts to: 64 hexadecimal digits, because a
/// path takes nothing odd. Printing it shows `…`.
#[derive(Clone)]
pub struct PathSecret(Box<str>);

impl PathSecret {
    /// From its digits; `None` where they are not such.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_good.then(|| Self(text.into()))
    }

    /// A new one, that is nowhere yet.
    ///
    /// # Errors
    ///
    /// Where the system has no random octets to give.
    pub fn random() -> io::Result<Self> {
        let mut octets = [0_u8; 32];
        fill_random(&mut octets)?;
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Self(digits.into()))
    }

    /// The digits, for the one who writes them down.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads the secret at `path`, making it first where there is none.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), source };
        match Self::load(path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let made = Self::random().map_err(io)?;
                write_private(path, &made.0).map_err(io)?;
                Ok(made)
            }
            loaded => loaded,
        }
    }

    /// Reads the secret at `path`, where there is one.
    pub(crate) fn load(path: &Path) -> Result<Self, TokenError> {
        let file = open_private(path).map_err(|error| trouble(path, error))?;
        Self::parse(&read_private(path, file)?)
            .ok_or_else(|| TokenError::Malformed { path: path.to_owned() })
    }

    /// Whether this is what was given; takes the same time wherever the two differ.
    pub(crate) fn opens(&self, given: &str) -> bool {
        bool::from(given.as_bytes().ct_eq(self.0.as_bytes()))
    }
}

impl fmt::Debug for PathSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Follows no link, which may lead to what somebody else writes, and waits for no pipe.
fn open_private(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// What a file holds that only its owner may read.
fn read_private(path: &Path, file: File) -> Result<String, TokenError> {
    let io = |source| TokenError::Io { path: path.to_owned(), source };
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(TokenError::NotAFile { path: path.to_owned() });
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open { path: path.to_owned(), mode });
    }
    let us = rustix::process::geteuid();
    if meta.uid() != us.as_raw() && !us.is_root() {
        return Err(TokenError::Owner { path: path.to_owned(), uid: meta.uid() });
    }
    let mut text = String::new();
    file.take(TOKEN_FILE_OCTETS_MAX)
        .read_to_string(&mut text)
        .map_err(|error| trouble(path, error))?;
    Ok(text.trim().to_owned())
}

fn trouble(path: &Path, source: io::Error) -> TokenError {
    let path = path.to_owned();
    match rustix::io::Errno::from_io_error(&source) {
        Some(rustix::io::Errno::LOOP) => TokenError::NotAFile { path },
        None if source.kind() == io::ErrorKind::InvalidData => TokenError::Malformed { path },
        _ => TokenError::Io { path, source },
    }
}

/// Writes a line beside its place and moves it there, so that a crash leaves none or a whole one.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all())?;
    std::fs::rename(&beside, path)
}

/// 32 random octets as base64url: more than anyone can guess.
pub(crate) fn random_text() -> io::Result<String> {
    let mut octets = [0; 32];
    fill_random(&mut octets)?;
    Ok(URL_SAFE_NO_PAD.encode(octets))
}

/// Fills `octets` from the kernel's generator.
pub(crate) fn fill_random(octets: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = octets.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// A token somebody else put there may be this long, and no longer.
const TOKEN_FILE_OCTETS_MAX: u64 = 4096;

/// 128 bits in base64: below that a token could be guessed in time.
const TOKEN_LETTERS_MIN: usize = 22;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or written.
    #[error("{path}: can't be used", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a folder, a link, a pipe.
    #[error(
        "{path}: is not a plain file ({remedy})",
        path = path.display(), remedy = Kept::of(path).anew("move it away")
    )]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// Others may read it, so it may be known already.
    #[error(
        "{path}: mode {mode:03o} lets others read the {name} (run: chmod 600 {path}; better: rm {path} and restart, for a new one{loss})",
        path = path.display(), name = Kept::of(path).name(), loss = Kept::of(path).loss()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{path}: belongs to uid {uid}, not to this user", path = path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It holds something else.
    #[error(
        "{path}: holds no {name} ({remedy})",
        path = path.display(),
        name = Kept::of(path).name(),
        remedy = Kept::of(path).anew(&format!("run: rm {}", path.display()))
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// What is kept in a file of the data folder, by its name there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kept {
    ContentKey,
    ExporterSecret,
    SigningKey,
    Token,
}

impl Kept {
    fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            CONTENT_KEY => Self::ContentKey,
            SIGNING_KEY => Self::SigningKey,
            _ if name.ends_with(".secret") => Self::ExporterSecret,
            _ => Self::Token,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ContentKey => "key of links to content",
            Self::ExporterSecret => "secret of an exporter",
            Self::SigningKey => "signing key",
            Self::Token => "token",
        }
    }

    /// What a new one does not do that this one did.
    fn loss(self) -> &'static str {
        match self {
            Self::ContentKey => ": links that were sent open nothing then",
            Self::ExporterSecret => ": it has to be put into Dovecot's settings",
            Self::SigningKey => {
                ": what was signed before needs the old public key, and whoever verifies what comes the new one"
            }
            Self::Token => "",
        }
    }

    /// How there comes to be another, once this one is out of the way.
    fn anew(self, away: &str) -> String {
        let loss = self.loss();
        match self {
            // Whoever reads the file has the new one at once.
            Self::Token => format!("{away} and restart, for a new one"),
            Self::ContentKey | Self::ExporterSecret | Self::SigningKey => format!(
                "restore it from a backup; without one, {away} and restart, for a new one{loss}"
            ),
        }
    }
}

/// The file in the data folder that holds what the hub signs with.
pub(crate) const SIGNING_KEY: &str = "signing.key";

/// The file in the data folder that holds what links to content are signed with.
pub(crate) const CONTENT_KEY: &str = "content.key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_file_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let told = || Token::load_or_make(&path).unwrap_err().to_string();
        let wanted = format!(
            "{}: is not a plain file (move it away and restart, for a new one)",
            path.display()
        );
        std::fs::create_dir(&path).unwrap();
        assert_eq!(told(), wanted);
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert_eq!(told(), wanted);
        std::fs::remove_file(&path).unwrap();
        write_private(&path, "x").unwrap();
        std::fs::write(&path, [0xff; 40]).unwrap();
        assert!(told().contains("holds no token"), "{}", told());
    }

    #[test]
    fn a_damaged_key_is_named_for_what_it_is_and_what_a_new_one_costs() {
        let told = |name: &str| {
            TokenError::Malformed { path: PathBuf::from(format!("/d/{name}")) }.to_string()
        };
        assert_eq!(
            told("token"),
            "/d/token: holds no token (run: rm /d/token and restart, for a new one)"
        );
        assert_eq!(
            told("signing.key"),
            "/d/signing.key: holds no signing key (restore it from a backup; without one, run: rm /d/signing.key and restart, for a new one: what was signed before needs the old public key, and whoever verifies what comes the new one)"
        );
        assert!(told("content.key").contains("restore it from a backup; without one"));
        assert!(told("content.key").ends_with("links that were sent open nothing then)"));
        assert!(told("dovecot-mail.secret").contains("holds no secret of an exporter"));
    }

    #[test]
    fn a_token_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let made = Token::load_or_make(&path).unwrap();
        assert_eq!(made.reveal().len(), 43);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::load_or_make(&path).unwrap().reveal(), made.reveal());
    }

    #[test]
    fn a_token_open_to_others_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        Token::load_or_make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Token::load_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Token::load_or_make(&path), Err(TokenError::Malformed { .. })));
    }

    #[test]
    fn r161_only_the_whole_token_opens() {
        let token = Token::new("abcdefghijklmnopqrstuvwxyz".to_owned());
        assert!(token.opens(b"Bearer abcdefghijklmnopqrstuvwxyz"));
        assert!(token.opens(b"bearer abcdefghijklmnopqrstuvwxyz"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer abcdefghijklmnopqrstuvwxy",
            "Bearer abcdefghijklmnopqrstuvwxyz ",
            "Bearer Abcdefghijklmnopqrstuvwxyz",
            "Basic abcdefghijklmnopqrstuvwxyz",
            "abcdefghijklmnopqrstuvwxyz",
        ] {
            assert!(!token.opens(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn r161_a_secret_in_a_path_is_made_once_and_opens_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dovecot-mail.secret");
        let made = PathSecret::load_or_make(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let again = PathSecret::load_or_make(&path).unwrap();
        assert!(made.opens(text.trim()) && again.opens(text.trim()));
        assert!(!made.opens("") && !made.opens(&"0".repeat(64)) && !made.opens(&text));
        assert_eq!(format!("{made:?}"), "…");
        std::fs::write(&path, "secret").unwrap();
        assert!(matches!(PathSecret::load_or_make(&path), Err(TokenError::Malformed { .. })));
    }

    #[test]
    fn a_token_prints_as_an_ellipsis() {
        assert_eq!(format!("{:?}", Token::new("abc".to_owned())), "…");
    }
}
