//! A hub with a stream to hear it by.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postbell_hub::{Config, Hub};
use postbell_testkit::http::{self, Answer, EventStream};
use postbell_testkit::{Error, free_address, private_file};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Told;

/// A hub in this process that watches a folder of Maildirs, and a stream of all it says.
#[derive(Debug)]
pub struct Bench {
    config: Config,
    data: PathBuf,
    // Kept for its removal.
    _folder: Option<TempDir>,
    running: Option<Running>,
    heard: Vec<Told>,
}

/// Where a hub will be ([`Bench::door`]).
#[derive(Debug)]
pub struct Door {
    folder: TempDir,
    data: PathBuf,
    address: SocketAddr,
}

impl Door {
    /// Where it will listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    hub: Hub,
    address: SocketAddr,
    token: String,
    stream: Option<EventStream>,
}

impl Bench {
    /// Starts a hub that watches `<mail>/<user>/Maildir`, with its data in a temporary folder.
    ///
    /// # Errors
    /// [`Error::Start`] with what the hub said.
    pub fn start(mail: &Path) -> Result<Self, Error> {
        Self::start_with(mail, "")
    }

    /// The same with more keys of the source, as TOML.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn start_with(mail: &Path, keys: &str) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        let data = folder.path().join("data");
        Self::launch(mail, data, Some(folder), keys)
    }

    /// A place for a hub that a store posts to, chosen before either of them starts, and the
    /// secret of its source `mail`.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no room for one.
    pub fn door() -> Result<(Door, String), Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        let data = folder.path().join("data");
        let secret = "5423".repeat(16);
        std::fs::DirBuilder::new().mode(0o700).create(&data).map_err(Error::io("make a folder"))?;
        let file = data.join("dovecot-mail.secret");
        private_file(&file, &secret)?;
        Ok((Door { folder, data, address: free_address()? }, secret))
    }

    /// Starts a hub behind `door` with these sources, as TOML, whose policy lets envelopes out.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn start_behind(door: Door, sources: &str) -> Result<Self, Error> {
        let text = format!("{CONFIG}{sources}")
            .replace("[policy]", "[policy]\nenvelope = true")
            .replace("127.0.0.1:0", &door.address.to_string());
        Self::configured(&text, door.data, Some(door.folder))
    }

    /// Starts a hub behind `door` with these sources, as TOML, that records only what is wanted, and
    /// nothing for longer; it follows none of it itself.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn start_behind_quiet(door: Door, sources: &str) -> Result<Self, Error> {
        let quiet = "[policy]\nrecord = \"wanted\"\nrecord_linger = \"0s\"";
        let text = format!("{CONFIG}{sources}")
            .replace("[policy]", quiet)
            .replace("127.0.0.1:0", &door.address.to_string());
        let mut bench = Self::configured(&text, door.data, Some(door.folder))?;
        bench.be_quiet();
        Ok(bench)
    }

    /// The same with its data in `data`.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn start_in(data: &Path, mail: &Path) -> Result<Self, Error> {
        Self::launch(mail, data.to_owned(), None, "")
    }

    fn launch(
        mail: &Path,
        data: PathBuf,
        folder: Option<TempDir>,
        keys: &str,
    ) -> Result<Self, Error> {
        let text = format!("{CONFIG}{MAILDIRS}{keys}");
        Self::configured(&text.replace("@MAIL@", &mail.display().to_string()), data, folder)
    }

    fn configured(text: &str, data: PathBuf, folder: Option<TempDir>) -> Result<Self, Error> {
        let text = text.replace("@DATA@", &data.display().to_string());
        let config = Config::parse("bench.toml", &text).map_err(refused)?;
        let running = None;
        let mut bench = Self { config, data, _folder: folder, running, heard: Vec::new() };
        bench.resume()?;
        Ok(bench)
    }

    /// Starts the stopped hub again; its stream goes on where it ended.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn resume(&mut self) -> Result<(), Error> {
        let runtime = Runtime::new().map_err(Error::io("start a runtime"))?;
        let hub = runtime.block_on(Hub::start(self.config.clone())).map_err(refused)?;
        let (address, token) = (hub.local_addr(), hub.token().reveal().to_owned());
        let since = self.heard.last().map_or(0, |told| told.seq);
        let parameters = match self.config.policy.envelope {
            true => "*,bodyStructure,envelope",
            false => "*,bodyStructure",
        };
        let path = format!("/v1/events?since={since}&follow=true&parameters={parameters}");
        let stream = Some(EventStream::open(address, &path, &token)?);
        self.running = Some(Running { runtime, hub, address, token, stream });
        self.wait_until_looked()
    }

    /// Waits until each source has looked a first time: what is there by then is not told, and what
    /// comes after is.
    fn wait_until_looked(&self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let answer = self.get("/v1/sources")?;
            if !["starting", "scanning"].iter().any(|state| answer.body.contains(state)) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let expected = "sources that have looked".to_owned();
                return Err(Error::Answer { expected, answer: answer.body });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the hub in good order; what is watched goes on without it.
    pub fn stop(&mut self) {
        if let Some(Running { runtime, hub, stream, .. }) = self.running.take() {
            drop(stream);
            runtime.block_on(hub.shutdown());
        }
    }

    /// Follows nothing any more.
    fn be_quiet(&mut self) {
        if let Some(running) = &mut self.running {
            running.stream = None;
        }
    }

    /// What opens the hub's API.
    ///
    /// # Errors
    /// [`Error::Start`] where it is stopped.
    pub fn token(&self) -> Result<&str, Error> {
        self.running().map(|running| running.token.as_str())
    }

    /// Where the hub listens.
    ///
    /// # Errors
    /// [`Error::Start`] where it is stopped.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.running().map(|running| running.address)
    }

    /// The folder with the hub's journal.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Everything heard so far.
    #[must_use]
    pub fn heard(&self) -> &[Told] {
        &self.heard
    }

    /// Hears exactly `count` more events.
    ///
    /// # Errors
    /// [`Error::Answer`] naming what came instead, where they don't come in time.
    pub fn hear(&mut self, count: usize) -> Result<Vec<Told>, Error> {
        let begun = Instant::now();
        let mut told = Vec::new();
        while told.len() < count {
            match self.next(PATIENCE.saturating_sub(begun.elapsed()))? {
                Some(event) => told.push(event),
                None => {
                    return Err(Error::Answer {
                        expected: format!("{count} events within {} s", PATIENCE.as_secs()),
                        answer: lines(&told),
                    });
                }
            }
        }
        Ok(told)
    }

    /// Whatever is still said, until there is silence for a while.
    ///
    /// # Errors
    /// [`Error::Answer`] where an event isn't one.
    pub fn hear_out(&mut self) -> Result<Vec<Told>, Error> {
        let mut told = Vec::new();
        while let Some(event) = self.next(SILENCE)? {
            told.push(event);
        }
        Ok(told)
    }

    /// Asks the hub.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn get(&self, path: &str) -> Result<Answer, Error> {
        let running = self.running()?;
        http::get(running.address, path, Some(&running.token))
    }

    /// Sends the hub some JSON.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn post(&self, path: &str, json: &str) -> Result<Answer, Error> {
        let running = self.running()?;
        http::post(running.address, path, Some(&running.token), json)
    }

    fn next(&mut self, patience: Duration) -> Result<Option<Told>, Error> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let Some(stream) = &mut running.stream else { return Ok(None) };
        let Some(sent) = stream.next(patience)? else { return Ok(None) };
        let told = Told::read(&sent)?;
        self.heard.push(told.clone());
        Ok(Some(told))
    }

    fn running(&self) -> Result<&Running, Error> {
        self.running.as_ref().ok_or_else(|| Error::Start {
            server: "postbell",
            reason: "it is stopped".to_owned(),
            log: String::new(),
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Events one a line.
pub(crate) fn lines(told: &[Told]) -> String {
    told.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn refused(error: impl std::error::Error) -> Error {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason.push_str(": ");
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    Error::Start { server: "postbell", reason, log: String::new() }
}

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the hub may wait before it tells what it saw.
const SILENCE: Duration = Duration::from_secs(3);

const CONFIG: &str = r#"
data = "@DATA@"
listen = "127.0.0.1:0"

[store]
host = "mail.example.org"
fqdn = "mail1.example.org"

[policy]
body_structure = true

[webhooks]
reach = "loopback"
"#;

const MAILDIRS: &str = r#"
[sources.mail]
kind = "maildir"
root = "@MAIL@/%u/Maildir"
scan_interval = "1h"
"#;
