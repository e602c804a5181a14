//! The end of a spool's file whose writer was interrupted in a line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::super::record::{LINE_OCTETS_MAX, Record};
use crate::spool::whole_octets;

/// Who left a line torn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writer {
    /// Who goes on writing, and knows what the line was to say.
    Lives,
    /// Another before, of whom that isn't known.
    Died,
}

/// Has a file end with a whole line, and gives where that is.
///
/// Nobody has read what stands behind the last line end: who follows the spool reads whole lines.
/// Nor was it taken where it came from, so it is written again; left there, the next line would
/// stand behind it in one and the same. Only where the writer died a line that lacks nothing but its
/// end gets that.
pub(super) fn mend(file: &File, writer: Writer) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let whole = whole_octets(file, length, LINE_OCTETS_MAX)?;
    if whole == Some(length) {
        return Ok(length);
    }
    if let Some(whole) = whole {
        let mut torn = vec![0; usize::try_from(length - whole).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut torn, whole)?;
        // How many were lost a dead one doesn't say again: damaged, it is at least told that there
        // were some.
        let is_of_loss = || memchr::memmem::find(&torn, LOST).is_some();
        if writer == Writer::Lives || (Record::read(&torn).is_err() && !is_of_loss()) {
            file.set_len(whole)?;
            return Ok(whole);
        }
    }
    file.write_all_at(b"\n", length)?;
    Ok(length + 1)
}

/// What stands in a line that tells of losses and can stand in no other, whose quotes within a text
/// are escaped.
const LOST: &[u8] = br#""lost":"#;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::record::Received;
    use super::*;

    /// What becomes of a file with this in it, and where it ends.
    fn mended(text: &[u8], writer: Writer) -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.ndjson");
        std::fs::write(&path, text).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let end = mend(&file, writer).unwrap();
        (std::fs::read(&path).unwrap(), end)
    }

    fn record() -> impl Strategy<Value = Record> {
        let octets = || proptest::collection::vec(any::<u8>(), 0..50);
        let what = prop_oneof![
            octets().prop_map(Received::Datagram),
            octets().prop_map(Received::Stream),
            any::<String>().prop_map(Received::Refused),
            Just(Received::Began),
        ];
        (any::<u64>(), any::<u32>(), what).prop_map(|(ns, pid, what)| Record { ns, pid, what })
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_keeps_its_whole_lines_and_nothing_else(
            records in proptest::collection::vec(record(), 0..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (mut text, mut ends) = (Vec::new(), vec![0]);
            for record in &records {
                record.write(&mut text);
                ends.push(text.len());
            }
            let cut = cut.index(text.len() + 1);
            for (writer, lacking) in [(Writer::Lives, 0), (Writer::Died, 1)] {
                let end = *ends.iter().rfind(|end| **end <= cut + lacking).unwrap();
                let (left, at) = mended(&text[..cut], writer);
                prop_assert_eq!(&left, &text[..end]);
                prop_assert_eq!(at, end as u64);
            }
        }
    }

    #[test]
    fn what_tells_of_losses_is_not_lost_itself() {
        let mut line = Vec::new();
        Record { ns: 1, pid: 0, what: Received::Lost { count: 23, since_ns: 45 } }.write(&mut line);
        let torn = &line[..line.len() - 9];
        assert_eq!(mended(torn, Writer::Died).0, [torn, b"\n"].concat());
        assert_eq!(mended(torn, Writer::Lives).0, b"", "it says it again");
        let mut line = Vec::new();
        let said = br#"{"lost":1}"#.to_vec();
        Record { ns: 1, pid: 0, what: Received::Datagram(said) }.write(&mut line);
        assert_eq!(mended(&line[..line.len() - 2], Writer::Died).0, b"");
    }

    #[test]
    fn what_is_longer_than_any_line_ends_as_one() {
        let text = vec![b'x'; LINE_OCTETS_MAX + 2];
        assert_eq!(
            mended(&text, Writer::Died),
            ([&text[..], b"\n"].concat(), text.len() as u64 + 1)
        );
    }
}
