//! What was written, taken away.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::super::absolute;
use super::super::apply::{self, Change, at};
use super::super::remove::Removal;
use super::super::told::{Becomes, Report};
use super::imapd::{self, Conf};
use super::{CyrusArgs, NAME, facts, plan, render};

/// Takes everything away: the line in `imapd.conf` first, since Cyrus doesn't start where what it
/// includes is missing.
pub(super) fn run(args: &CyrusArgs) -> anyhow::Result<Report> {
    let main = absolute(&args.server.imapd_conf)?;
    let mut removal = Removal::new(NAME, &args.how, &args.own, plan::bare(&main));
    let places = facts::places(&main, args)?;
    let has_line = take_line(&main, &places.own, &mut removal)?;
    let ours = apply::present(&places.own)?;
    if ours.is_some() {
        removal.file(&places.own)?;
    }
    let has_units = take_units(args.source(), places.units.as_deref(), &mut removal)?;
    if has_units {
        removal.report.next.push("systemctl daemon-reload".to_owned());
    }
    if has_line || ours.is_some() {
        removal.report.next.push("restart Cyrus (until then it goes on as before)".to_owned());
        if !removal.is_dry() {
            check(args, &main).context("our files are gone, but")?;
        }
    }
    if let Some(socket) = ours.as_deref().and_then(|text| socket_in(&places.own, text)) {
        take_socket(&socket, &mut removal)?;
    }
    removal.spool(&places.spool)?;
    let (config, file) = args.own.configuration()?;
    removal.table(&config, file.as_deref(), args.source())?;
    Ok(removal.end())
}

/// Takes our line out of `imapd.conf`.
fn take_line(main: &Path, own: &Path, removal: &mut Removal<'_>) -> anyhow::Result<bool> {
    let old = match fs::read_to_string(main) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(main, &error)),
    };
    let new = render::without_line(&old, own);
    let includes = Conf::load_with(main, &old)
        .is_ok_and(|conf| conf.settings.iter().any(|one| one.file == own));
    if new == old && includes {
        return Err(anyhow!(
            "{}: includes {} by a line that isn't as it was written; take it out yourself, and run this again",
            main.display(),
            own.display()
        ));
    }
    if new == old {
        return Ok(false);
    }
    let change = Change::theirs(main, old, new).map_err(|error| at(main, &error))?;
    removal.tell(main, Becomes::Changed);
    if !removal.is_dry() {
        change.make().map_err(|error| at(main, &error))?;
    }
    Ok(true)
}

/// Takes the units away, and what `systemctl enable` made of them.
fn take_units(
    source: &str,
    folder: Option<&Path>,
    removal: &mut Removal<'_>,
) -> anyhow::Result<bool> {
    let Some(folder) = folder else { return Ok(false) };
    let mut found = false;
    for (kind, target) in [("socket", "sockets.target"), ("service", "multi-user.target")] {
        let name = render::unit(source, kind);
        let path = folder.join(&name);
        if apply::present(&path)?.is_none() {
            continue;
        }
        found = true;
        removal.report.next.push(format!("systemctl stop {name}"));
        removal.file(&path)?;
        let link = folder.join(format!("{target}.wants")).join(&name);
        if link.is_symlink() {
            removal.file(&link)?;
        }
    }
    Ok(found)
}

/// A configuration without our line is the operator's alone; it is only looked at.
fn check(args: &CyrusArgs, main: &Path) -> anyhow::Result<()> {
    facts::programs(args, Conf::load(main)?.user())?.settings(main)?;
    Ok(())
}

/// The socket that our settings name.
fn socket_in(own: &Path, text: &str) -> Option<PathBuf> {
    let conf = Conf::load_with(own, text).ok()?;
    Some(imapd::notified(&conf.get("notifysocket")?.value).0.to_owned())
}

/// Takes a socket away that nobody holds any more, and its folder.
fn take_socket(socket: &Path, removal: &mut Removal<'_>) -> anyhow::Result<()> {
    let is_socket = fs::symlink_metadata(socket).is_ok_and(|meta| meta.file_type().is_socket());
    let is_held = UnixDatagram::unbound().and_then(|one| one.connect(socket)).is_ok()
        || UnixStream::connect(socket).is_ok();
    if is_socket && is_held {
        removal.tell(socket, Becomes::Kept);
        removal.report.next.push("stop postbell notifyd, which holds the socket".to_owned());
        return Ok(());
    }
    if is_socket {
        removal.file(socket)?;
    }
    if !removal.is_dry()
        && let Some(folder) = socket.parent()
    {
        above(folder);
    }
    Ok(())
}

/// Takes empty folders away that are ours by their place: `/run/postbell/NAME` and the one above.
fn above(folder: &Path) {
    if let Some(outer) = folder.parent().filter(|outer| outer.ends_with("postbell")) {
        drop(fs::remove_dir(folder));
        drop(fs::remove_dir(outer));
    }
}
