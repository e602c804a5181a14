//! Whether the store takes a user's password: asked over IMAP, once, and forgotten.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::LoginConfig;
use crate::tls::{TlsError, read_certificates};

/// Where passwords are checked.
#[derive(Clone)]
pub(super) struct Store {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What the store says to a password.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// It is the user's.
    Right,
    /// It is not, or there is no such user: the store alone knows which.
    Wrong,
    /// It can't be asked, and why, for the operator.
    Unavailable(String),
}

impl Store {
    /// The store that is configured, if one is. Reads the authorities' file.
    pub(super) fn open(config: &LoginConfig) -> Result<Option<Self>, TlsError> {
        const KEY: &str = "login.ca";
        let Some(address) = config.imap else { return Ok(None) };
        if config.host.is_empty() {
            return Ok(Some(Self { address, tls: None }));
        }
        let malformed =
            |why: String| TlsError::Malformed { key: KEY.to_owned(), path: config.ca.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(KEY, &config.ca)? {
            roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
        }
        let name = ServerName::try_from(config.host.clone())
            .map_err(|error| malformed(format!("{:?}: {error}", config.host)))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| malformed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Self { address, tls: Some((TlsConnector::from(Arc::new(config)), name)) }))
    }

    /// Asks whether `password` is `user`'s.
    pub(super) async fn check(&self, user: &str, password: &str) -> Answer {
        // Neither can stand in the message (RFC 4616), so that no store takes it.
        if user.contains('\0') || password.contains('\0') {
            return Answer::Wrong;
        }
        match tokio::time::timeout(ANSWER_MAX, self.ask(user, password)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Unavailable(error.to_string()),
            Err(_) => Answer::Unavailable("it did not answer in time".to_owned()),
        }
    }

    async fn ask(&self, user: &str, password: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.address).await?;
        match &self.tls {
            None => authenticate(stream, user, password).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                authenticate(stream, user, password).await
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("address", &self.address).finish_non_exhaustive()
    }
}

/// AUTHENTICATE PLAIN (RFC 9051, section 6.2.2; RFC 4616), and good-bye.
async fn authenticate(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    user: &str,
    password: &str,
) -> io::Result<Answer> {
    let unavailable = |line: &str| {
        let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
        Ok(Answer::Unavailable(format!("it says {line:?}")))
    };
    let mut lines = Lines { stream: BufReader::new(stream), left: SAID_OCTETS_MAX };
    let greeting = lines.next().await?;
    if !greeting.starts_with("* OK") {
        return unavailable(&greeting);
    }
    lines.say("a AUTHENTICATE PLAIN\r\n").await?;
    let ready = lines.answer().await?;
    if !ready.starts_with('+') {
        return unavailable(&ready);
    }
    let secret = STANDARD.encode(format!("\0{user}\0{password}"));
    lines.say(&format!("{secret}\r\n")).await?;
    let answer = lines.answer().await?;
    let upper = answer.to_ascii_uppercase();
    Ok(match upper.split(' ').nth(1) {
        Some("OK") => Answer::Right,
        // RFC 5530: not the password is at fault.
        Some("NO") if upper.contains("[UNAVAILABLE]") || upper.contains("[PRIVACYREQUIRED]") => {
            return unavailable(&answer);
        }
        Some("NO") => Answer::Wrong,
        _ => return unavailable(&answer),
    })
}

/// The lines of a conversation, up to a bound.
struct Lines<S> {
    stream: BufReader<S>,
    left: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(line.as_bytes()).await?;
        self.stream.flush().await
    }

    /// The next line, without its end.
    async fn next(&mut self) -> io::Result<String> {
        let mut octets = Vec::new();
        let read = (&mut self.stream).take(self.left).read_until(b'\n', &mut octets).await?;
        self.left -= read as u64;
        if octets.last() != Some(&b'\n') {
            return Err(io::Error::other("it broke off"));
        }
        Ok(String::from_utf8_lossy(&octets).trim_end().to_owned())
    }

    /// The next line that answers what was said; what the store says besides is passed over.
    async fn answer(&mut self) -> io::Result<String> {
        loop {
            let line = self.next().await?;
            if line.starts_with("a ") || line.starts_with('+') {
                return Ok(line);
            }
        }
    }
}

/// How long the store may take. One that slows down guessing takes some seconds.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Octets read of all that the store says.
const SAID_OCTETS_MAX: u64 = 64 * 1024;
