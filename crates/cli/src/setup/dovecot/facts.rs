//! Everything that is asked of the machine before anything is decided.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use postbell_hub::{Config, Group, Record};

use super::super::spool::{self, Account};
use super::super::{absolute, own};
use super::DovecotArgs;
use super::decide::{Exporter, Facts, Places};
use super::order::{self, Files};
use super::programs::Programs;
use super::secret;
use crate::ending::Misuse;
use crate::lines::plain;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What is decided on.
    pub(super) facts: Facts,
    /// Whom the hub runs as.
    pub(super) hub: Account,
    /// Its configuration.
    pub(super) config: Config,
    /// Where that was read from.
    pub(super) config_file: Option<PathBuf>,
    /// The source's name.
    pub(super) source: String,
}

/// Looks at everything.
pub(super) fn find(args: &DovecotArgs, programs: &Programs) -> anyhow::Result<Found> {
    let main = absolute(&args.server.dovecot_config)?;
    std::fs::read_to_string(&main).map_err(|error| {
        anyhow!("{}: {} (point to Dovecot's configuration with -c)", main.display(), plain(&error))
    })?;
    let settings = programs.settings(&main)?;
    let (config, config_file) = args.own.configuration()?;
    let places = places(&main, args);
    let candidates = candidates(&main);
    // Of another version nothing more can be asked; it is refused by its number.
    let plugin_folder = match programs.values(&main, None, &["mail_plugin_dir"]) {
        Ok(values) => PathBuf::from(values.into_iter().next().unwrap_or_default()),
        Err(_) => PathBuf::new(),
    };
    let facts = Facts {
        modules: names(&plugin_folder),
        plugin_folder,
        place: order::place(&Disk, &main, &candidates),
        candidates,
        closed: spool::closed(&places.spool),
        exporter: exporter(args, &config)?,
        reads_demand: spares_flags(&config),
        settings,
        main,
        places,
    };
    let hub = own::hub_user(args.own.hub_user.as_deref(), &config.data)?;
    Ok(Found { facts, hub, config, config_file, source: args.source().to_owned() })
}

/// Beside Dovecot's main file, but for the spool.
pub(super) fn places(main: &Path, args: &DovecotArgs) -> Places {
    let folder = main.parent().unwrap_or_else(|| Path::new("/"));
    let spool = args.own.spool(args.source());
    Places {
        script: folder.join("postbell.lua"),
        exporter: folder.join("postbell-exporter.conf.ext"),
        spool: std::path::absolute(&spool).unwrap_or(spool),
    }
}

/// Where a snippet may stand: after the global settings and before the protocols', or at the end.
pub(super) fn candidates(main: &Path) -> Vec<PathBuf> {
    let folder = main.parent().unwrap_or_else(|| Path::new("/"));
    ["conf.d/11-postbell.conf", "conf.d/99-postbell.conf", "postbell.conf"]
        .map(|name| folder.join(name))
        .into()
}

fn exporter(args: &DovecotArgs, config: &Config) -> anyhow::Result<Option<Exporter>> {
    if args.no_exporter {
        return Ok(None);
    }
    if !config.data.is_dir() {
        return Err(anyhow!(
            "{}: not there, so that the exporter's secret has no place (start the hub once, point to its configuration with --config, or leave the exporter out with --no-exporter)",
            config.data.display()
        ));
    }
    let source = args.source().to_owned();
    let secret = secret::read(&config.exporter_secret_file(&source))?;
    let address = config.plain_listener().ok_or_else(|| {
        anyhow!("the hub speaks TLS alone, and Dovecot's exporter would have to trust it (set tls.local_listen, or leave the exporter out with --no-exporter)")
    })?;
    Ok(Some(Exporter { address, source, secret }))
}

/// Whether flags may be what nobody wants: else reading that would cost each transaction a little,
/// for nothing.
fn spares_flags(config: &Config) -> bool {
    config.policy.record == Record::Wanted || config.policy.groups_off.contains(&Group::Flags)
}

/// Who is logged in for the test.
pub(super) fn test_user(
    args: &DovecotArgs,
    programs: &Programs,
    found: &Found,
) -> anyhow::Result<String> {
    if let Some(user) = &args.test_user {
        return Ok(user.clone());
    }
    programs.some_user(&found.facts.main).ok_or_else(|| {
        Misuse("Dovecot lists no users: name one for the test login with --test-user".to_owned())
            .into()
    })
}

fn names(folder: &Path) -> Option<Vec<String>> {
    let listing = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    Some(listing.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The real one.
struct Disk;

impl Files for Disk {
    fn text(&self, file: &Path) -> Option<String> {
        std::fs::read(file).ok().map(|octets| String::from_utf8_lossy(&octets).into_owned())
    }

    fn names(&self, folder: &Path) -> Vec<String> {
        names(folder).unwrap_or_default()
    }
}
