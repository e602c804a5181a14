//! What anybody wants, written down in the spool for whoever writes lines into it.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use postbell_engine::Demand;
use rustix::fs::{Mode, OFlags};

/// The file's name in the spool.
///
/// It is there as long as the hub has written it once, so that nobody else can put one of their own
/// in its place: in the folder each may take away only what is theirs.
pub const DEMAND_FILE: &str = "demand";

/// Writes down which events are wanted, and nothing of who wants them: every mail user can read it.
/// Whoever reads it finds the one before or the new one, and once this returns the new one, also
/// after the machine has crashed.
///
/// # Errors
///
/// Where it can't be written. The one before is then empty, if that can be: everything counts as
/// wanted. It is not taken away, lest somebody else put one in its place.
pub fn tell_demand(spool: &Path, demand: Demand) -> io::Result<()> {
    let path = spool.join(DEMAND_FILE);
    let written = write(spool, &text(demand)).and_then(|new| {
        let renamed = fs::rename(&new, &path);
        if renamed.is_err() {
            drop(fs::remove_file(&new));
        }
        renamed
    });
    if written.is_err() {
        // What is wrong with the folder is told below.
        drop(empty(&path));
    }
    written?;
    File::open(spool)?.sync_all()
}

/// Whether the file is there, says this, and is the hub's own.
#[must_use]
pub fn is_told(spool: &Path, demand: Demand) -> bool {
    said(spool).is_ok_and(|said| said == text(demand).into_bytes())
}

/// Whether whoever reads the file may leave out something of what is wanted. Where there is none, or
/// one that says nothing, they leave out nothing; where nobody can say what there is, they may.
#[must_use]
pub fn is_misleading(spool: &Path, demand: Demand) -> bool {
    match said(spool) {
        Ok(said) => leaves_out(&said, demand),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Takes away what `uid` began to write and was killed before it had its name.
///
/// # Errors
///
/// Where the folder can't be read, or one of them not be taken away.
pub fn remove_unfinished(spool: &Path, uid: u32) -> io::Result<()> {
    for entry in fs::read_dir(spool)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_new =
            name.to_str().and_then(|name| name.strip_prefix(DEMAND_FILE)?.strip_prefix('.'));
        let is_new = is_new.is_some_and(|sign| {
            sign.len() == SIGN_DIGITS && sign.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        if !is_new {
            continue;
        }
        let meta = entry.metadata();
        if meta.is_ok_and(|meta| meta.is_file() && meta.uid() == uid) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What a file of ours says.
fn said(spool: &Path) -> io::Result<Vec<u8>> {
    let path = spool.join(DEMAND_FILE);
    let meta = fs::symlink_metadata(&path)?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_ours());
    }
    let mut said = Vec::new();
    File::open(&path)?.take(OCTETS_MAX).read_to_end(&mut said)?;
    Ok(said)
}

/// Whether somebody who goes by this leaves out something of what is wanted, as the script has it.
fn leaves_out(said: &[u8], demand: Demand) -> bool {
    let said = std::str::from_utf8(said).ok();
    let names = said.and_then(|said| said.strip_prefix(FIRST)?.strip_suffix(LAST));
    names.is_some_and(|names| {
        let mut wanted = demand.events();
        wanted.any(|event| !names.lines().any(|name| name == event))
    })
}

fn not_ours() -> io::Error {
    io::Error::other("not a file of this user's")
}

/// Writes it beside where it is to be, under a name that nobody can have taken before.
fn write(spool: &Path, text: &str) -> io::Result<PathBuf> {
    let sign = RandomState::new().hash_one(text);
    let path = spool.join(format!("{DEMAND_FILE}.{sign:0SIGN_DIGITS$x}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = fill(&mut file, text);
    if written.is_err() {
        drop(fs::remove_file(&path));
    }
    written.map(|()| path)
}

/// Has nothing said in a file of ours, so that everything counts as wanted.
fn empty(path: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_ours());
    }
    file.set_len(0)
}

fn fill(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    // The folder's access list lets nobody but the hub read files in it; this one is for everybody.
    let _no_list = rustix::fs::fremovexattr(&*file, "system.posix_acl_access");
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// An event a line between two lines that don't change, so that a part is known for one.
fn text(demand: Demand) -> String {
    let mut text = String::from(FIRST);
    for event in demand.events() {
        text.push_str(event);
        text.push('\n');
    }
    text.push_str(LAST);
    text
}

/// What a reader knows it by; another version would have another.
const FIRST: &str = "postbell-demand 1\n";

const LAST: &str = "end\n";

/// Digits of what tells a new file from others, until it has its name.
const SIGN_DIGITS: usize = 16;

/// More than it ever has.
const OCTETS_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use postbell_engine::{Policy, Selection};

    use super::*;

    fn wanting(events: &[&str]) -> Demand {
        let events = events.iter().map(|&event| event.to_owned()).collect();
        let selection = Selection { events, ..Selection::default() };
        let (filter, projection) = selection.compile(&Policy::default()).unwrap();
        Demand::of(&filter, &projection)
    }

    #[test]
    fn r24_events_are_told_in_words_that_everybody_can_read() {
        let spool = tempfile::tempdir().unwrap();
        let demand = wanting(&["quota", "FlagsSet", "vnd.a.B"]);
        tell_demand(spool.path(), demand).unwrap();
        let path = spool.path().join(DEMAND_FILE);
        insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r"
        postbell-demand 1
        QuotaExceed
        QuotaWithin
        QuotaChange
        FlagsSet
        vendor
        end
        ");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(is_told(spool.path(), demand) && !is_told(spool.path(), Demand::everything()));
        tell_demand(spool.path(), Demand::everything()).unwrap();
        assert!(is_told(spool.path(), Demand::everything()));
        assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_replaced_is_emptied_so_that_everything_is_wanted_and_its_place_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DEMAND_FILE);
        tell_demand(folder.path(), Demand::nothing()).unwrap();
        empty(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert!(!is_told(folder.path(), Demand::nothing()));
        // Whatever else is called so is none of ours.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(tell_demand(folder.path(), Demand::everything()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn whoever_reads_it_is_misled_only_where_it_says_less_than_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, path) = (folder.path(), folder.path().join(DEMAND_FILE));
        let is_misleading = |demand| is_misleading(spool, demand);
        assert!(!is_misleading(Demand::everything()), "there is none");
        tell_demand(spool, wanting(&["quota", "Login"])).unwrap();
        assert!(!is_misleading(wanting(&["Login"])) && is_misleading(wanting(&["Logout"])));
        for nothing in ["", "postbell-demand 1\nLogin\n", "postbell-demand 2\nLogin\nend\n"] {
            fs::write(&path, nothing).unwrap();
            assert!(!is_misleading(Demand::everything()), "{nothing:?}");
        }
        // What is in a folder or behind a link nobody can say, nor what is behind a loop of them.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(is_misleading(Demand::nothing()));
        let round = spool.join("round");
        std::os::unix::fs::symlink(&round, &round).unwrap();
        assert!(super::is_misleading(&round, Demand::nothing()));
        assert!(!super::is_misleading(&spool.join("none"), Demand::everything()));
        let file = spool.join("file");
        fs::write(&file, "").unwrap();
        assert!(!super::is_misleading(&file, Demand::everything()), "no folder, and no spool");
    }

    #[test]
    fn what_was_begun_and_never_had_its_name_is_taken_away_where_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path();
        tell_demand(spool, Demand::nothing()).unwrap();
        write(spool, "begun").unwrap();
        let others = ["demand.0123", "demand.0123456789abcdeg", "5.ndjson", "demand.new"];
        others.iter().for_each(|name| fs::write(spool.join(name), "").unwrap());
        let uid = rustix::process::geteuid().as_raw();
        remove_unfinished(spool, uid + 1).unwrap();
        assert_eq!(fs::read_dir(spool).unwrap().count(), 6);
        remove_unfinished(spool, uid).unwrap();
        assert_eq!(fs::read_dir(spool).unwrap().count(), 5);
        assert!(is_told(spool, Demand::nothing()));
    }
}
