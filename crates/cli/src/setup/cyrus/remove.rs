//! What was written, taken away.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::super::apply::{self, Change, at};
use super::super::told::{Becomes, Report, Shown, State};
use super::super::{own, spool};
use super::{CyrusArgs, NAME, facts, imapd, plan, render};
use crate::connection;
use crate::lines::plain;

/// Takes everything away: the line in `imapd.conf` first, since Cyrus doesn't start where what it
/// includes is missing.
pub(super) fn run(args: &CyrusArgs) -> anyhow::Result<Report> {
    let main = facts::absolute(&args.server.imapd_conf)?;
    let mut report = plan::bare(&main);
    report.is_removal = true;
    report.state = if args.how.dry_run { State::Planned } else { State::Removed };
    let places = facts::places(&main, args)?;
    let has_line = take_line(args, &main, &places.own, &mut report)?;
    let ours = apply::present(&places.own)?;
    if ours.is_some() {
        gone(args, &places.own, &mut report)?;
    }
    let has_units = take_units(args, places.units.as_deref(), &mut report)?;
    if has_units {
        report.next.push("systemctl daemon-reload".to_owned());
    }
    if has_line || ours.is_some() {
        report.next.push("restart Cyrus (until then it goes on as before)".to_owned());
        if !args.how.dry_run {
            check(args, &main).context("our files are gone, but")?;
        }
    }
    if let Some(socket) = ours.as_deref().and_then(|text| socket_in(&places.own, text)) {
        take_socket(args, &socket, &mut report)?;
    }
    take_spool(args, &places.spool, &mut report)?;
    take_table(args, &mut report)?;
    if report.files.is_empty() && report.written.is_none() {
        report.notes.push("there was nothing to take away".to_owned());
    }
    Ok(report)
}

/// Takes our line out of `imapd.conf`.
fn take_line(
    args: &CyrusArgs,
    main: &Path,
    own: &Path,
    report: &mut Report,
) -> anyhow::Result<bool> {
    let old = match fs::read_to_string(main) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(main, &error)),
    };
    let new = render::without_line(&old, own);
    let includes =
        facts::conf(main).is_ok_and(|conf| conf.settings.iter().any(|one| one.file == own));
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
    report.files.push(Shown::bare(main.display().to_string(), Becomes::Changed));
    if !args.how.dry_run {
        change.make().map_err(|error| at(main, &error))?;
    }
    Ok(true)
}

/// Takes the units away, and what `systemctl enable` made of them.
fn take_units(
    args: &CyrusArgs,
    folder: Option<&Path>,
    report: &mut Report,
) -> anyhow::Result<bool> {
    let Some(folder) = folder else { return Ok(false) };
    let mut found = false;
    for (kind, target) in [("socket", "sockets.target"), ("service", "multi-user.target")] {
        let name = render::unit(args.source(), kind);
        let path = folder.join(&name);
        if apply::present(&path)?.is_none() {
            continue;
        }
        found = true;
        report.next.push(format!("systemctl stop {name}"));
        gone(args, &path, report)?;
        let link = folder.join(format!("{target}.wants")).join(&name);
        if link.is_symlink() {
            gone(args, &link, report)?;
        }
    }
    Ok(found)
}

/// A configuration without our line is the operator's alone; it is only looked at.
fn check(args: &CyrusArgs, main: &Path) -> anyhow::Result<()> {
    let conf = facts::conf(main)?;
    let server = conf.get("cyrus_user").map_or("cyrus", |setting| &setting.value);
    facts::programs(args, server)?.settings(main)?;
    Ok(())
}

/// The socket that our settings name.
fn socket_in(own: &Path, text: &str) -> Option<PathBuf> {
    let conf = imapd::Conf::read(own, &|_| Ok(text.to_owned())).ok()?;
    let value = &conf.get("notifysocket")?.value;
    Some(PathBuf::from(value.strip_prefix("dlist:").unwrap_or(value)))
}

/// Takes a socket away that nobody holds any more, and its folder.
fn take_socket(args: &CyrusArgs, socket: &Path, report: &mut Report) -> anyhow::Result<()> {
    let is_socket = fs::symlink_metadata(socket).is_ok_and(|meta| meta.file_type().is_socket());
    let is_held = UnixDatagram::unbound().and_then(|one| one.connect(socket)).is_ok()
        || UnixStream::connect(socket).is_ok();
    if is_socket && is_held {
        report.files.push(Shown::bare(socket.display().to_string(), Becomes::Kept));
        report.next.push("stop postbell notifyd, which holds the socket".to_owned());
        return Ok(());
    }
    if is_socket {
        gone(args, socket, report)?;
    }
    if !args.how.dry_run
        && let Some(folder) = socket.parent()
    {
        above(folder);
    }
    Ok(())
}

/// Takes the spool away; one that holds lines only where that was asked for.
fn take_spool(args: &CyrusArgs, path: &Path, report: &mut Report) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    let Some((files, octets)) = spool::contents(path).with_context(named)? else { return Ok(()) };
    if octets > 0 && !args.how.force {
        report.files.push(Shown::bare(named(), Becomes::Kept));
        report.notes.push(format!(
            "the spool holds {octets} octets; what the hub has not read yet would be lost"
        ));
        report.next.push(
            "when `postbell doctor` shows nothing unread: postbell setup cyrus --remove --force"
                .to_owned(),
        );
        return Ok(());
    }
    report.files.push(Shown::bare(named(), Becomes::Gone));
    if args.how.dry_run {
        return Ok(());
    }
    for file in &files {
        fs::remove_file(file).map_err(|error| at(file, &error))?;
    }
    fs::remove_dir(path).map_err(|error| anyhow!("{}: {}", named(), plain(&error)))?;
    if let Some(folder) = path.parent().filter(|folder| folder.ends_with("postbell")) {
        drop(fs::remove_dir(folder));
    }
    Ok(())
}

/// The table in the hub's configuration.
fn take_table(args: &CyrusArgs, report: &mut Report) -> anyhow::Result<()> {
    let file = args.own.config.clone().or_else(connection::machine_config);
    let config = connection::load(file.as_deref())?.unwrap_or_default();
    if let Some(file) = file.filter(|_| args.own.write_config && !args.how.dry_run) {
        report.written = own::take_out(NAME, &file, args.source())?;
    }
    if report.written.is_none() && config.sources.contains_key(args.source()) {
        report.next.push(format!(
            "take sources.{} out of the hub's configuration and restart it",
            args.source()
        ));
    }
    Ok(())
}

fn gone(args: &CyrusArgs, path: &Path, report: &mut Report) -> anyhow::Result<()> {
    report.files.push(Shown::bare(path.display().to_string(), Becomes::Gone));
    match args.how.dry_run {
        true => Ok(()),
        false => fs::remove_file(path).map_err(|error| at(path, &error)),
    }
}

/// Takes empty folders away that are ours by their place: `/run/postbell/NAME` and the one above.
fn above(folder: &Path) {
    if let Some(outer) = folder.parent().filter(|outer| outer.ends_with("postbell")) {
        drop(fs::remove_dir(folder));
        drop(fs::remove_dir(outer));
    }
}
