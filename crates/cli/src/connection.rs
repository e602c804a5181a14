//! Where the hub is and which token opens it, for every command that asks it something.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use hyper::Uri;
use hyper::header::HeaderValue;
use postbell_hub::Config;

use crate::client::{Client, Secret};
use crate::ending::Misuse;

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
    /// The hub's address, such as http://127.0.0.1:5423.
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
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
        Ok(self.stranger()?.with_token(self.token()?))
    }

    /// A client without a token, for what is open to everybody.
    pub(crate) fn stranger(&self) -> anyhow::Result<Client> {
        let authority = match &self.url {
            Some(url) => authority(url)?,
            None => self.address()?.to_string(),
        };
        Ok(Client::new(authority, None))
    }

    /// The configuration file that is read, if one is.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(machine_config)
    }

    /// Whether the hub's address was given, rather than found.
    pub(crate) fn names_url(&self) -> bool {
        self.url.is_some()
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        let config = self.config()?;
        Ok(announced(&config.data).unwrap_or(config.listen))
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

/// Leaves the hub's address in its data folder, where `--data` finds it: a configured port may
/// be 0, or another configuration's.
pub(crate) fn announce(data: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let path = data.join(ADDRESS);
    std::fs::write(&path, format!("{address}\n")).with_context(|| path.display().to_string())
}

/// Takes the address away again, in vain or not: a client that finds it asks and is told.
pub(crate) fn withdraw(data: &Path) {
    drop(std::fs::remove_file(data.join(ADDRESS)));
}

/// The address a hub left in its data folder; loopback or none, since the token is sent there.
fn announced(data: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(data.join(ADDRESS)).ok()?;
    let address: SocketAddr = text.trim().parse().ok()?;
    address.ip().is_loopback().then_some(address)
}

const ADDRESS: &str = "address";

fn authority(url: &str) -> anyhow::Result<String> {
    let bad = |why: &str| Misuse(format!("--url: {url:?} {why} (try http://127.0.0.1:5423)"));
    let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(bad("is https, which this command does not speak").into()),
        _ => return Err(bad("does not begin with http://").into()),
    }
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
    if !is_here(authority.host()) {
        return Err(Misuse(format!(
            "--url: {url:?} is not this machine, and the token would cross the network in clear (try an SSH tunnel: ssh -L 5423:127.0.0.1:5423 {})",
            authority.host()
        ))
        .into());
    }
    Ok(if has_port { authority.to_string() } else { format!("{authority}:80") })
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
        assert_eq!(authority("http://127.0.0.1:5423").unwrap(), "127.0.0.1:5423");
        assert_eq!(authority("http://[::1]:1/").unwrap(), "[::1]:1");
        assert_eq!(authority("http://localhost").unwrap(), "localhost:80");
        let refused: Vec<String> = [
            "https://h",
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
        announce(folder.path(), "127.0.0.1:5".parse().unwrap()).unwrap();
        assert_eq!(announced(folder.path()), Some("127.0.0.1:5".parse().unwrap()));
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
