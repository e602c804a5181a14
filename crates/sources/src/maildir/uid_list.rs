//! `dovecot-uidlist`: the UIDs Dovecot has given.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use super::folder::{Facts, Folder};

/// What the first line of a list says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) uid_validity: u32,
    pub(super) uidnext: u32,
}

/// How far a list has been read, so that the next time only what was added is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    file: Option<(u64, u64)>,
    octets: u64,
    modified: i128,
    header: Header,
    /// The whole list was looked through for what is still missing.
    is_whole: bool,
}

/// Reads the list of a mailbox and calls `found` with the UID and unique name of each line that
/// stands in `wanted`. Nothing where there is no such list, or none of version 3.
///
/// Only lines added since `mark` are read, unless they leave something wanted out: the list of a
/// million messages is long, and Dovecot adds to its end.
pub(super) fn read(
    folder: &Folder,
    mark: &mut Mark,
    wanted: &HashMap<&str, usize>,
    mut found: impl FnMut(usize, u32),
) -> io::Result<Option<Header>> {
    let file = match folder.file("dovecot-uidlist") {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            *mark = Mark::default();
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let facts = folder.facts_of("dovecot-uidlist")?;
    let identity = Some((facts.device, facts.inode));
    let is_same = mark.file == identity && facts.octets >= mark.octets;
    if !is_same {
        *mark = Mark { file: identity, ..Mark::default() };
    }
    let is_unchanged = is_same && (facts.octets, facts.modified) == (mark.octets, mark.modified);
    if is_unchanged && (wanted.is_empty() || mark.is_whole) {
        return Ok(valid(mark.header));
    }
    let mut missing = wanted.len();
    if !is_unchanged || mark.octets == 0 {
        mark.is_whole = mark.octets == 0;
        missing = lines(&file, mark, wanted, missing, &mut found)?;
    }
    if missing > 0 && !mark.is_whole {
        *mark = Mark { file: identity, is_whole: true, ..Mark::default() };
        lines(&file, mark, wanted, missing, &mut found)?;
    }
    mark.modified = facts.modified;
    Ok(valid(mark.header))
}

fn valid(header: Header) -> Option<Header> {
    (header.uid_validity != 0).then_some(header)
}

/// Reads from the mark on; says how many of the wanted are still missing.
fn lines(
    file: &File,
    mark: &mut Mark,
    wanted: &HashMap<&str, usize>,
    mut missing: usize,
    found: &mut impl FnMut(usize, u32),
) -> io::Result<usize> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    reader.seek(SeekFrom::Start(mark.octets))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut reader).take(LINE_OCTETS_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            if count as u64 == LINE_OCTETS_MAX {
                // No list has such a line; its rest makes no sense either.
                mark.octets += count as u64;
                continue;
            }
            // A line without an end is being written right now: it is read the next time.
            return Ok(missing);
        }
        let text = String::from_utf8_lossy(line.get(..count - 1).unwrap_or_default());
        if mark.octets == 0 {
            match header(&text) {
                Some(header) => mark.header = header,
                None => return Ok(missing),
            }
        } else if let Some((uid, unique)) = entry(&text) {
            mark.header.uidnext = mark.header.uidnext.max(uid.saturating_add(1));
            if let Some(index) = wanted.get(unique) {
                missing = missing.saturating_sub(1);
                found(*index, uid);
            }
        }
        mark.octets += count as u64;
    }
}

fn header(line: &str) -> Option<Header> {
    let mut words = line.split(' ');
    if words.next()? != "3" {
        return None;
    }
    let mut header = Header::default();
    for word in words {
        if let Some(value) = word.strip_prefix('V') {
            header.uid_validity = value.parse().ok()?;
        } else if let Some(value) = word.strip_prefix('N') {
            header.uidnext = value.parse().ok()?;
        }
    }
    Some(header)
}

/// `6 W990 S976 :1700.M1.host,S=976,W=990:2,S`
fn entry(line: &str) -> Option<(u32, &str)> {
    let (head, name) = line.split_once(" :")?;
    let uid = head.split(' ').next()?.parse().ok().filter(|uid| *uid != 0)?;
    Some((uid, name.split_once(':').map_or(name, |(unique, _)| unique)))
}

/// Whether two looks at a list's file saw the same.
impl Mark {
    pub(super) fn is_current(&self, facts: &Facts) -> bool {
        self.file == Some((facts.device, facts.inode))
            && (self.octets, self.modified) == (facts.octets, facts.modified)
    }
}

/// A file name and a few numbers fit many times over.
const LINE_OCTETS_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn looked_up(folder: &Folder, mark: &mut Mark, names: &[&str]) -> (Option<Header>, Vec<u32>) {
        let wanted = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        let mut uids = vec![0; names.len()];
        let header = read(folder, mark, &wanted, |index, uid| uids[index] = uid).unwrap();
        (header, uids)
    }

    #[test]
    fn r39_uids_are_read_as_dovecot_wrote_them_and_as_it_adds_to_them() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let mut mark = Mark::default();
        assert_eq!(looked_up(&folder, &mut mark, &["x"]).0, None);

        let path = temporary.path().join("dovecot-uidlist");
        let text =
            "3 V1411487714 N1 G0123abcd\n6 W990 S976 :1.M2.h,S=976,W=990\n7 :2.M2.h:2,S\n8 :";
        std::fs::write(&path, text).unwrap();
        let (header, uids) = looked_up(&folder, &mut mark, &["1.M2.h,S=976,W=990", "2.M2.h", "x"]);
        assert_eq!(header, Some(Header { uid_validity: 1_411_487_714, uidnext: 8 }));
        assert_eq!(uids, [6, 7, 0]);

        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"x\n9 :y\n").unwrap();
        let (header, uids) = looked_up(&folder, &mut mark, &["y", "x", "2.M2.h"]);
        assert_eq!((header.unwrap().uidnext, uids), (10, vec![9, 8, 7]));

        std::fs::write(&path, "1 5\n").unwrap();
        assert_eq!(looked_up(&folder, &mut mark, &[]).0, None);
    }
}
