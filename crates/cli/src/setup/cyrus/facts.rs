//! Everything that is asked of the machine before anything is decided.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use postbell_hub::Config;

use super::super::spool::Account;
use super::super::{absolute, own};
use super::imapd::Conf;
use super::programs::{self, Programs};
use super::services::{self, Service};
use super::{CyrusArgs, decide, render};
use crate::lines::plain;

/// What is known of the server and of where our files would go.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The version.
    pub(super) version: String,
    /// Where the main file is.
    pub(super) main: PathBuf,
    /// What it holds, without what is ours.
    pub(super) text: String,
    /// The line of it that is set aside, counted from 1: where Cyrus's own notifyd listens.
    pub(super) aside: Option<usize>,
    /// What the operator has set; ours is left out, and so is that line.
    pub(super) conf: Conf,
    /// How that takes effect.
    pub(super) effective: BTreeMap<String, String>,
    /// What the master starts; `None` where that can't be read.
    pub(super) services: Option<Vec<Service>>,
    /// Our files.
    pub(super) places: Places,
    /// Whether Cyrus connects for each event.
    pub(super) is_stream: bool,
    /// Whether \Junk is asked for.
    pub(super) with_junk: bool,
}

/// Our files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Places {
    /// The settings, which `imapd.conf` includes.
    pub(super) own: PathBuf,
    /// Where Cyrus sends to.
    pub(super) socket: PathBuf,
    /// Where `postbell notifyd` writes to.
    pub(super) spool: PathBuf,
    /// The folder of systemd's units; `None` where there are to be none.
    pub(super) units: Option<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What is decided on.
    pub(super) facts: Facts,
    /// Cyrus's tool.
    pub(super) programs: Programs,
    /// The server's account.
    pub(super) server: String,
    /// Whom the hub runs as, and `postbell notifyd` with it.
    pub(super) hub: Account,
    /// The hub's configuration.
    pub(super) config: Config,
    /// Where that was read from.
    pub(super) config_file: Option<PathBuf>,
    /// The source's name.
    pub(super) source: String,
}

/// Looks at everything.
pub(super) fn find(args: &CyrusArgs) -> anyhow::Result<Found> {
    let main = absolute(&args.server.imapd_conf)?;
    let text = fs::read_to_string(&main).map_err(|error| {
        anyhow!("{}: {} (point to Cyrus's imapd.conf with -C)", main.display(), plain(&error))
    })?;
    let source = args.source().to_owned();
    let places = places(&main, args)?;
    let text = render::without_line(&text, &places.own);
    let mut conf = Conf::load_with(&main, &text)?.without(&places.own);
    let server = conf.user().to_owned();
    let programs = programs(args, &server)?;
    let version = programs.version(&main)?;
    let effective = programs.settings(&main)?;
    let services = fs::read_to_string(&args.server.cyrus_conf).ok();
    let services = services.as_deref().map(services::parse);
    let aside = decide::aside(&conf, &main, services.as_deref().unwrap_or_default());
    // One that goes on over several lines can't be set aside as one.
    let goes_on = |line: &usize| text.lines().nth(line - 1).is_some_and(|one| one.ends_with('\\'));
    let aside = aside.filter(|line| !goes_on(line));
    conf.settings.retain(|setting| setting.file != main || Some(setting.line) != aside);
    let (config, config_file) = args.own.configuration()?;
    let config_file = config_file.map(|file| absolute(&file)).transpose()?;
    let hub = own::hub_user(args.own.hub_user.as_deref(), &config.data)?;
    let facts = Facts {
        version,
        text,
        aside,
        conf,
        effective,
        services,
        places,
        is_stream: args.stream,
        with_junk: args.with_junk,
        main,
    };
    Ok(Found { facts, programs, server, hub, config, config_file, source })
}

/// Cyrus's tool, under the server's account where this is root.
pub(super) fn programs(args: &CyrusArgs, server: &str) -> anyhow::Result<Programs> {
    let cyr_info = programs::cyr_info(args.server.cyr_info.as_deref());
    let account = match rustix::process::geteuid().is_root() {
        true => Some(own::machine_account(server).ok_or_else(|| {
            anyhow!("{server}: no such account on this machine, and Cyrus runs under it")
        })?),
        false => None,
    };
    Ok(Programs { cyr_info, account })
}

/// Beside `imapd.conf`, in /run and in /var/spool.
pub(super) fn places(main: &Path, args: &CyrusArgs) -> anyhow::Result<Places> {
    let folder = main.parent().unwrap_or_else(|| Path::new("/"));
    let socket = args.socket.clone();
    let socket =
        socket.unwrap_or_else(|| Path::new("/run/postbell").join(args.source()).join("notify"));
    let units = match &args.units {
        Some(units) => Some(absolute(units)?),
        None if args.no_units || !Path::new("/run/systemd/system").is_dir() => None,
        None => Some(PathBuf::from("/etc/systemd/system")),
    };
    Ok(Places {
        own: folder.join("imapd-postbell.conf"),
        socket: absolute(&socket)?,
        spool: absolute(&args.own.spool(args.source()))?,
        units,
    })
}
