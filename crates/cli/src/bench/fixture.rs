//! A hub to measure: in this process, on a folder of its own, on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use axum::Router;
use postbell_hub::{Config, Hub, Reach, WebhooksConfig};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A running hub; [`Fixture::stop`] ends it.
#[derive(Debug)]
pub(super) struct Fixture {
    /// Where its HTTP API is.
    pub(super) address: SocketAddr,
    /// Its Unix stream for publishers.
    pub(super) socket: PathBuf,
    /// What its API wants to see.
    pub(super) token: String,
    folder: PathBuf,
    hub: Hub,
    runtime: Runtime,
}

impl Fixture {
    /// Starts a hub on a new folder in `folder`.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, |_| {})
    }

    /// The same with something else in its configuration.
    pub(super) fn start_with(
        folder: &Path,
        change: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let folder = folder.join("hub");
        let mut config = Config {
            data: folder.clone(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            webhooks: WebhooksConfig { reach: Reach::Loopback, ..WebhooksConfig::default() },
            ..Config::default()
        };
        change(&mut config);
        let socket = config.publish_socket().context("the hub has no publisher socket")?;
        let runtime = runtime()?;
        let hub = runtime.block_on(Hub::start(config))?;
        let (address, token) = (hub.local_addr(), hub.token().reveal().to_owned());
        Ok(Self { address, socket, token, folder, hub, runtime })
    }

    /// Ends the hub and removes what it kept.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.runtime.block_on(self.hub.shutdown());
        drop(self.runtime);
        std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

/// A server to hold against a hub, on a runtime like a hub's.
pub(super) struct Bare {
    /// Where it is.
    pub(super) address: SocketAddr,
    // Dropping it ends the server.
    _runtime: Runtime,
}

impl Bare {
    /// Starts one that answers as `router` says.
    pub(super) fn start(router: Router) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, _runtime: runtime })
    }
}

/// A runtime as `postbell serve` has it; probes that are held against a hub run on the same.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
