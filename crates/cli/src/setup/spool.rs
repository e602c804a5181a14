//! The spool folder: whoever hands lines over puts them there, and nobody but the hub's account may
//! look around.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};

use postbell_engine::Demand;
use postbell_sources::dovecot::{DEMAND_FILE, tell_demand};
use rustix::fs::{XattrFlags, setxattr};

/// A user and its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Account {
    /// User id.
    pub(super) uid: u32,
    /// Group id.
    pub(super) gid: u32,
}

/// Who puts lines in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writers {
    /// Every mail user, each a file of its own.
    Everybody,
    /// A process under the hub's account.
    Hub,
}

/// Makes the folder, and its missing parents, as they must be; says which it made, topmost first.
///
/// # Errors
///
/// With the path at fault.
pub(super) fn make(
    path: &Path,
    hub: Account,
    writers: Writers,
) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    missing.reverse();
    let made: Vec<PathBuf> = missing.iter().map(|path| (*path).to_owned()).collect();
    let outcome = missing
        .into_iter()
        .try_for_each(|folder| {
            fs::create_dir(folder)
                .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
                .map_err(|error| (folder.to_owned(), error))
        })
        .and_then(|()| settle(path, hub, writers).map_err(|error| (path.to_owned(), error)));
    match outcome {
        Ok(()) => Ok(made),
        Err(error) => {
            // Empty still, or not ours.
            made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
            Err(error)
        }
    }
}

/// Owner, rights and the rights of files to come.
fn settle(path: &Path, hub: Account, writers: Writers) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if (meta.uid(), meta.gid()) != (hub.uid, hub.gid) {
        chown(path, Some(hub.uid), Some(hub.gid))?;
    }
    let mode = match writers {
        Writers::Everybody => MODE,
        Writers::Hub => OWN_MODE,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if hub.uid != 0 && writers == Writers::Everybody {
        // Files will belong to mail users; root may read them anyway.
        setxattr(path, DEFAULT_ACL, &acl(hub.uid), XattrFlags::empty())?;
    }
    Ok(())
}

/// Sees to it that the file that says what is wanted is the hub's own, so that no mail user can put
/// anything else in its place. Says which it is, where it was made: then everything is wanted.
///
/// # Errors
///
/// Where it can't be written.
pub(super) fn keep_demand(spool: &Path, hub: Account) -> io::Result<Option<PathBuf>> {
    let file = spool.join(DEMAND_FILE);
    let is_hubs = |meta: fs::Metadata| meta.is_file() && meta.uid() == hub.uid;
    if fs::symlink_metadata(&file).is_ok_and(is_hubs) {
        return Ok(None);
    }
    // Whatever was there is replaced by one of ours, which nobody but root and the hub can take away.
    tell_demand(spool, Demand::everything())?;
    lchown(&file, Some(hub.uid), Some(hub.gid))?;
    Ok(Some(file))
}

/// What a later `ls` shows as `drwx-wx-wt`: put in, and neither list nor take away.
pub(super) const MODE: u32 = 0o1733;

/// For one account.
pub(super) const OWN_MODE: u32 = 0o750;

/// The list Linux keeps for files to come in a folder.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// A file's owner and the hub may read and write it, and nobody else.
fn acl(hub: u32) -> Vec<u8> {
    const READ_WRITE: u16 = 6;
    const NONE: u16 = 0;
    const NOBODY: u32 = u32::MAX;
    // The kernel wants them in this order: owner, user, group, mask, others.
    let entries = [
        (0x01_u16, READ_WRITE, NOBODY),
        (0x02, READ_WRITE, hub),
        (0x04, NONE, NOBODY),
        (0x10, READ_WRITE, NOBODY),
        (0x20, NONE, NOBODY),
    ];
    let mut octets = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        octets.extend(tag.to_le_bytes());
        octets.extend(rights.to_le_bytes());
        octets.extend(id.to_le_bytes());
    }
    octets
}

/// Folders above `path` that not everybody may enter.
pub(super) fn closed(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    let is_closed = |folder: &&Path| {
        fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
    };
    above.filter(is_closed).map(Path::to_owned).collect()
}

/// The files of the spool and their size together; `None` where the folder is not there.
pub(super) fn contents(path: &Path) -> io::Result<Option<(Vec<PathBuf>, u64)>> {
    let listing = match fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut files, mut octets) = (Vec::new(), 0_u64);
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name();
        if is_spool_file(&name.to_string_lossy()) {
            octets = octets.saturating_add(entry.metadata()?.len());
            files.push(entry.path());
        }
    }
    Ok(Some((files, octets)))
}

/// `21000.ndjson`, `21000.ndjson.7`.
fn is_spool_file(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((uid, rest)) = name.split_once(".ndjson") else { return false };
    is_number(uid) && (rest.is_empty() || rest.strip_prefix('.').is_some_and(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Account {
        Account {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    #[test]
    fn a_folder_lets_everybody_write_and_only_the_hub_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postbell/dovecot");
        let made = make(&path, me(), Writers::Everybody).unwrap();
        assert_eq!(made, [folder.path().join("postbell"), path.clone()]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        // A second time changes nothing and makes nothing.
        assert!(make(&path, me(), Writers::Everybody).unwrap().is_empty());
    }

    #[test]
    fn a_file_of_a_mail_user_can_be_read_by_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let hub = 4711;
        if rustix::process::geteuid().is_root() {
            make(&path, Account { uid: hub, gid: hub }, Writers::Everybody).unwrap();
        } else {
            fs::create_dir(&path).unwrap();
            if setxattr(&path, DEFAULT_ACL, &acl(hub), XattrFlags::empty()).is_err() {
                return;
            }
        }
        let file = path.join("1.ndjson");
        fs::write(&file, "").unwrap();
        let mut value = [0; 64];
        let len = rustix::fs::getxattr(&file, "system.posix_acl_access", &mut value).unwrap();
        let (_, entries) = value[..len].split_at(4);
        let of_hub = entries.chunks(8).find(|entry| entry[4..] == hub.to_le_bytes()).unwrap();
        assert_eq!(of_hub[..4], [2, 0, 6, 0]);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    }

    #[test]
    fn a_folder_that_can_not_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let (path, _) = make(&folder.path().join("file/spool"), me(), Writers::Hub).unwrap_err();
        assert_eq!(path, folder.path().join("file/spool"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_wanted_is_in_a_file_of_the_hubs_whatever_stood_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        make(&path, me(), Writers::Everybody).unwrap();
        let file = path.join("demand");
        // A pipe would have every mail process wait for it.
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, fifo, 0o666.into(), 0).unwrap();
        assert_eq!(keep_demand(&path, me()).unwrap(), Some(file.clone()));
        let meta = fs::symlink_metadata(&file).unwrap();
        assert!(meta.is_file() && meta.uid() == me().uid);
        assert_eq!(meta.permissions().mode() & 0o777, 0o644);
        assert!(fs::read_to_string(&file).unwrap().contains("\nFlagsSet\n"));
        fs::write(&file, "what the hub said").unwrap();
        assert_eq!(keep_demand(&path, me()).unwrap(), None, "the hub's is left alone");
        assert_eq!(fs::read_to_string(&file).unwrap(), "what the hub said");
    }

    #[test]
    fn only_the_scripts_files_count() {
        for (name, counts) in [
            ("21000.ndjson", true),
            ("0.ndjson.12", true),
            (".ndjson", false),
            ("x.ndjson", false),
            ("1.ndjson.", false),
            ("1.ndjson.x", false),
            ("1.json", false),
        ] {
            assert_eq!(is_spool_file(name), counts, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1.ndjson"), "12").unwrap();
        fs::write(folder.path().join("notes"), "123").unwrap();
        let (files, octets) = contents(folder.path()).unwrap().unwrap();
        assert_eq!((files.len(), octets), (1, 2));
        assert_eq!(contents(&folder.path().join("none")).unwrap(), None);
    }
}
