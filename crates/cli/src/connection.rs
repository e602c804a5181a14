//! Where the hub is and which token opens it, for every command that asks it something.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use hyper::Uri;
use hyper::header::HeaderValue;
use postbell_hub::{Certificate, Config};

use crate::client::{Client, Place, Secret};
use crate::ending::Misuse;
use crate::tls::Tls;

/// How to reach the hub. Without any of these: the hub of this machine's configuration.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The hub's configuration, for its address and its data folder [default:
    /// /etc/postbell/postbell.toml, where it exists].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The hub's data folder, which holds its address and its token.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The hub's address, such as http://127.0.0.1:5423, or https://HOST:5423 where it has TLS.
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// PEM file of the authorities whose certificates are trusted [default: this machine's].
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// PEM file of a certificate to show in a token's place.
    #[arg(long, value_name = "FILE", global = true, requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, value_name = "FILE", global = true, requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// The file that holds the token; the environment's POSTBELL_TOKEN goes before it.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Those of a command that reads files only.
    pub(crate) fn of(config: Option<PathBuf>, data: Option<PathBuf>) -> Self {
        Self { config, data, ..Self::default() }
    }

    /// A client for the hub that is meant.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let client = self.stranger()?;
        // Who shows a certificate shows a token only where one was given.
        let is_given = self.token_file.is_some() || std::env::var_os("POSTBELL_TOKEN").is_some();
        match self.client_cert.is_some() && !is_given {
            true => Ok(client),
            false => Ok(client.with_token(self.token()?)),
        }
    }

    /// What this command shows of itself, where it does.
    fn shown(&self) -> Option<(&Path, &Path)> {
        self.client_cert.as_deref().zip(self.client_key.as_deref())
    }

    /// A client without a token, for what is open to everybody.
    pub(crate) fn stranger(&self) -> anyhow::Result<Client> {
        let place = match &self.url {
            Some(url) => self.place(url)?,
            None => self.found()?,
        };
        Ok(Client::new(place, None))
    }

    /// The configuration file that is read, if one is.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(machine_config)
    }

    /// Whether the hub's address was given, rather than found.
    pub(crate) fn names_url(&self) -> bool {
        self.url.is_some()
    }

    /// Whether nothing here says that the hub is on this machine: where it is and what it is shown were
    /// given, and neither its configuration nor its data folder.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let is_shown = self.token_file.is_some()
            || self.client_cert.is_some()
            || std::env::var_os("POSTBELL_TOKEN").is_some();
        self.names_url() && is_shown && self.config.is_none() && self.data.is_none()
    }

    /// The hub that a URL names.
    fn place(&self, url: &str) -> anyhow::Result<Place> {
        let named = Named::parse(url)?;
        let tls = match named.is_safe {
            true => Some(Tls::new(&named.host, self.ca.as_deref(), None, self.shown())?),
            false => None,
        };
        Ok(Place { authority: named.authority, address: None, tls })
    }

    /// The hub of the configuration and its data folder.
    fn found(&self) -> anyhow::Result<Place> {
        let config = self.config()?;
        let own = Some(config.tls.certificate.as_path()).filter(|_| config.tls.is_on());
        let at = match announced(&config.data) {
            Some(at) => at,
            None => match (config.plain_listener(), own) {
                (Some(address), _) => Announced { address, name: None },
                (None, Some(own)) => {
                    Announced { address: config.listen, name: Certificate::read(own)?.name() }
                }
                // Without TLS there is always one.
                (None, None) => Announced { address: config.listen, name: None },
            },
        };
        let Some(name) = at.name else { return Ok(Place::plain(at.address.to_string())) };
        let own = own.filter(|own| own.exists());
        let tls = Tls::new(&name, self.ca.as_deref(), own, self.shown())?;
        let (authority, address) =
            (format!("{name}:{}", at.address.port()), Some(reachable(at.address)));
        Ok(Place { authority, address, tls: Some(tls) })
    }

    fn token(&self) -> anyhow::Result<Secret> {
        if let Some(token) = std::env::var_os("POSTBELL_TOKEN") {
            let token = token.into_string().unwrap_or_default();
            return secret(&token, "POSTBELL_TOKEN".to_owned());
        }
        let path = match &self.token_file {
            Some(path) => path.clone(),
            None => self.config()?.token_file(),
        };
        let text = read_text(&path)
            .map_err(|error| anyhow!("{}: {}", path.display(), token_trouble(&error)))?;
        secret(&text, path.display().to_string())
    }

    /// The configuration, with `--data` put in it.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = load(self.config.as_deref())?.unwrap_or_default();
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }
}

/// The machine's own configuration, where there is one.
pub(crate) fn machine_config() -> Option<PathBuf> {
    let machine = Path::new(MACHINE_CONFIG);
    machine.exists().then(|| machine.to_owned())
}

/// The configuration at `path`, or the machine's own where there is one.
pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<Option<Config>> {
    match path {
        Some(path) => Ok(Some(Config::load(path)?)),
        None if Path::new(MACHINE_CONFIG).exists() => {
            Ok(Some(Config::load(Path::new(MACHINE_CONFIG))?))
        }
        None => Ok(None),
    }
}

/// Where a hub looks for its configuration when it is told nothing.
pub(crate) const MACHINE_CONFIG: &str = "/etc/postbell/postbell.toml";

/// Leaves in its data folder where the hub is, so that `--data` finds it: a configured port may be
/// 0, or another configuration's. With TLS, a second line names whom its certificate is for.
pub(crate) fn announce(data: &Path, address: SocketAddr, name: Option<&str>) -> anyhow::Result<()> {
    let path = data.join(ADDRESS);
    let name = name.map(|name| format!("{name}\n")).unwrap_or_default();
    std::fs::write(&path, format!("{address}\n{name}")).with_context(|| path.display().to_string())
}

/// Takes the address away again, in vain or not: a client that finds it asks and is told.
pub(crate) fn withdraw(data: &Path) {
    drop(std::fs::remove_file(data.join(ADDRESS)));
}

/// Where a hub says it is.
#[derive(Debug, Eq, PartialEq)]
struct Announced {
    address: SocketAddr,
    /// Whom its certificate is for, where it has TLS.
    name: Option<String>,
}

/// What a hub left in its data folder. Without TLS it is loopback or none, since the token is sent
/// there.
fn announced(data: &Path) -> Option<Announced> {
    let text = std::fs::read_to_string(data.join(ADDRESS)).ok()?;
    let mut lines = text.lines();
    let address: SocketAddr = lines.next()?.trim().parse().ok()?;
    let name = lines.next().map(str::to_owned);
    (name.is_some() || address.ip().is_loopback()).then_some(Announced { address, name })
}

/// Where a hub that listens on `address` is reached from its own machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

const ADDRESS: &str = "address";

/// What a URL names.
#[derive(Debug)]
struct Named {
    host: String,
    /// Host and port.
    authority: String,
    /// Whether TLS is spoken there.
    is_safe: bool,
}

impl Named {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let bad = |why: &str| Misuse(format!("--url: {url:?} {why} (try http://127.0.0.1:5423)"));
        let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
        let is_safe = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("does not begin with http:// or https://").into()),
        };
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("has more than host and port").into());
        }
        if authority.as_str().contains('@') {
            return Err(bad("has a user, where a token is wanted").into());
        }
        let has_port = authority.as_str() != authority.host();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(bad("has a port that is no number from 1 to 65535").into());
        }
        let host = authority.host().to_owned();
        if !is_safe && !is_here(&host) {
            return Err(Misuse(format!(
                "--url: {url:?} is not this machine, and the token would cross the network in clear (try https://{host}, or an SSH tunnel: ssh -L 5423:127.0.0.1:5423 {host})",
            ))
            .into());
        }
        let usual = if is_safe { 443 } else { 80 };
        let authority =
            if has_port { authority.to_string() } else { format!("{authority}:{usual}") };
        Ok(Self { host, authority, is_safe })
    }
}

/// Whether a host is this machine, as far as its name tells.
fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}

fn secret(text: &str, origin: String) -> anyhow::Result<Secret> {
    let token = text.trim();
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok();
    let header = header.filter(|_| !token.is_empty() && !token.contains(char::is_whitespace));
    let mut header = header.ok_or_else(|| anyhow!("{origin}: holds no token"))?;
    header.set_sensitive(true);
    Ok(Secret { header, origin })
}

/// What a token's file holds, up to far more than a token has.
fn read_text(path: &Path) -> io::Result<String> {
    // Looked at before it is opened: a pipe would wait for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_FILE_OCTETS_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A file with a token is no longer.
const TOKEN_FILE_OCTETS_MAX: u64 = 4096;

fn token_trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput => "is not a file, where one with the token is wanted".to_owned(),
        io::ErrorKind::InvalidData => "holds no token".to_owned(),
        io::ErrorKind::NotFound => {
            "no token there; a hub makes it at its first start (point to it with --data, --config or --token-file)".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "the token may not be read by this user (run as the hub's user, or set POSTBELL_TOKEN)".to_owned()
        }
        _ => crate::lines::plain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_perhaps_a_port_and_nothing_else() {
        let authority = |url| Named::parse(url).map(|named| (named.authority, named.is_safe));
        let taken = |url| authority(url).unwrap();
        assert_eq!(taken("http://127.0.0.1:5423"), ("127.0.0.1:5423".to_owned(), false));
        assert_eq!(taken("http://[::1]:1/"), ("[::1]:1".to_owned(), false));
        assert_eq!(taken("http://localhost"), ("localhost:80".to_owned(), false));
        assert_eq!(taken("https://hub.example.org"), ("hub.example.org:443".to_owned(), true));
        assert_eq!(taken("https://192.0.2.1:5423/"), ("192.0.2.1:5423".to_owned(), true));
        let refused: Vec<String> = [
            "https://h:0",
            "https://h/v1",
            "h:5423",
            "http://",
            "http://h/v1",
            "http://a@h",
            "ftp://h",
            "http://a b",
            "http://mail.example.org:5423",
            "http://192.0.2.1",
            "http://127.0.0.1:65536",
            "http://[::1]:0",
            "http://localhost:",
        ]
        .into_iter()
        .map(|url| authority(url).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(refused.join("\n"));
    }

    #[test]
    fn an_address_off_this_machine_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(announced(folder.path()), None);
        std::fs::write(folder.path().join(ADDRESS), "192.0.2.1:80\n").unwrap();
        assert_eq!(announced(folder.path()), None);
        let here = |name: Option<&str>| Announced {
            address: "127.0.0.1:5".parse().unwrap(),
            name: name.map(str::to_owned),
        };
        announce(folder.path(), here(None).address, None).unwrap();
        assert_eq!(announced(folder.path()), Some(here(None)));
        announce(folder.path(), here(None).address, Some("hub.example.org")).unwrap();
        assert_eq!(announced(folder.path()), Some(here(Some("hub.example.org"))));
        // With TLS nobody else can have the token.
        std::fs::write(folder.path().join(ADDRESS), "192.0.2.1:80\nhub.example.org\n").unwrap();
        assert!(announced(folder.path()).is_some());
        withdraw(folder.path());
        assert_eq!(announced(folder.path()), None);
    }

    #[test]
    fn what_is_no_file_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| token_trouble(&read_text(path).unwrap_err());
        assert_eq!(told(folder.path()), "is not a file, where one with the token is wanted");
        let binary = folder.path().join("token");
        std::fs::write(&binary, [0xff; 40]).unwrap();
        assert_eq!(told(&binary), "holds no token");
    }

    #[test]
    fn a_text_that_can_be_no_token_is_refused_by_its_origin() {
        for text in ["", " \n", "two words", "a\u{7f}b"] {
            let error = secret(text, "/x/token".to_owned()).unwrap_err().to_string();
            assert_eq!(error, "/x/token: holds no token");
        }
    }
}
