//! Names: of files in a Maildir, and of folders in a Maildir++.

use mail_event::{Flag, Flags, mutf7};

/// A message's file name, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileName<'a> {
    /// What stays when flags change.
    pub(super) unique: &'a str,
    /// The letters after `:2,`.
    pub(super) letters: Letters,
}

impl<'a> FileName<'a> {
    /// Reads a file name; nothing for one that is no message's, such as a hidden file.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        if name.is_empty() || name.starts_with('.') || name.contains(char::is_control) {
            return None;
        }
        let (unique, info) = name.split_once(':').unwrap_or((name, ""));
        let letters = Letters::parse(info.strip_prefix("2,").unwrap_or_default());
        (!unique.is_empty()).then_some(Self { unique, letters })
    }

    /// The size of BODY[] that the name tells (`,W=`), if it can be trusted: beside it stands the
    /// file's real size (`,S=`), and adding a CR to each line of that could give it.
    pub(super) fn told_size(self, file_octets: u64) -> Option<u64> {
        let part = |name| self.unique.split(',').find_map(|part| part.strip_prefix(name));
        let size = part("S=")?.parse::<u64>().ok().filter(|size| *size == file_octets)?;
        let told = part("W=")?.parse::<u64>().ok()?;
        (size..=size.saturating_mul(2)).contains(&told).then_some(told)
    }
}

/// The flags in a file's name: six that have a meaning everywhere, and Dovecot's 26 keywords.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Letters(pub(super) u32);

impl Letters {
    /// Reads letters in any order; a letter without a meaning is left out.
    pub(super) fn parse(letters: &str) -> Self {
        Self(letters.chars().filter_map(Self::bit).fold(0, |all, bit| all | bit))
    }

    fn bit(letter: char) -> Option<u32> {
        if letter.is_ascii_lowercase() {
            return Some(1 << (6 + (u32::from(letter) - u32::from('a'))));
        }
        SYSTEM.iter().position(|known| *known == letter).map(|index| 1 << index)
    }

    /// Without keywords that have no name yet: Dovecot may write the name a moment later, and it
    /// is told then.
    pub(super) fn named_by(self, keywords: &Keywords) -> Self {
        Self(self.0 & (SYSTEM_BITS | keywords.bits))
    }

    /// As IMAP flags.
    pub(super) fn flags(self, keywords: &Keywords) -> Flags {
        let system = [
            Some(Flag::draft()),
            Some(Flag::flagged()),
            "$Forwarded".parse().ok(),
            Some(Flag::answered()),
            Some(Flag::seen()),
            Some(Flag::deleted()),
        ];
        let all = system.into_iter().chain(keywords.flags.iter().cloned());
        (0_u32..32)
            .zip(all)
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .filter_map(|f| f.1)
            .collect()
    }

    /// Those of these that are not in `other`.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Draft, flagged, passed, replied, seen, trashed: the letters that mean the same everywhere.
const SYSTEM: [char; 6] = ['D', 'F', 'P', 'R', 'S', 'T'];
const SYSTEM_BITS: u32 = (1 << 6) - 1;

/// The names behind the letters `a` to `z`: `dovecot-keywords`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Keywords {
    flags: Vec<Option<Flag>>,
    bits: u32,
}

impl Keywords {
    /// Reads lines such as `0 $Work`; a line that makes no sense is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut keywords = Self { flags: vec![None; 26], bits: 0 };
        for line in text.lines() {
            let Some((index, name)) = line.split_once(' ') else { continue };
            let (Ok(index), Ok(flag)) = (index.parse::<usize>(), name.parse::<Flag>()) else {
                continue;
            };
            if let Some(place) = keywords.flags.get_mut(index) {
                *place = Some(flag);
                keywords.bits |= 1 << (6 + index);
            }
        }
        keywords
    }
}

/// The mailbox a Maildir++ folder stands for, `/` between the levels; `.` separates them on disk.
///
/// Nothing for a folder that is no mailbox. Names that are not modified UTF-7 are taken as they
/// are, so that a mailbox with an odd name is told rather than left out.
pub(super) fn mailbox(folder: &str) -> Option<String> {
    let name =
        folder.strip_prefix('.').filter(|name| !name.is_empty() && !name.starts_with('.'))?;
    let levels: Vec<_> = name.split('.').map(decoded).collect();
    let fine = levels.iter().all(|level| !level.is_empty() && !level.contains(char::is_control));
    fine.then(|| levels.join("/")).filter(|name| !name.eq_ignore_ascii_case(INBOX))
}

/// A name as a subscription list has it; Dovecot's second form separates the levels by tabs.
pub(super) fn listed(line: &str, separator: char) -> String {
    line.split(separator).map(decoded).collect::<Vec<_>>().join("/")
}

fn decoded(level: &str) -> String {
    mutf7::decode(level.as_bytes()).unwrap_or_else(|_| level.to_owned())
}

/// The mailbox in the Maildir's topmost folder.
pub(super) const INBOX: &str = "INBOX";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_unique_part_whatever_its_flags() {
        let name = FileName::parse("1700000000.M1P2.host,S=10,W=12:2,SF").unwrap();
        assert_eq!(name.unique, "1700000000.M1P2.host,S=10,W=12");
        let flags = name.letters.flags(&Keywords::default());
        assert_eq!(flags, Flags::parse(r"\Flagged \Seen").unwrap());
    }

    #[test]
    fn r121_a_size_in_the_name_counts_only_beside_the_files_real_size() {
        let told = |name, octets| FileName::parse(name).unwrap().told_size(octets);
        assert_eq!(told("1.h,S=10,W=12", 10), Some(12));
        assert_eq!(told("1.h,S=10,W=12", 11), None);
        assert_eq!(told("1.h,W=12", 10), None);
        assert_eq!(told("1.h,S=10,W=9", 10), None);
        assert_eq!(told("1.h,S=10,W=21", 10), None);
    }

    #[test]
    fn what_is_no_message_has_no_name() {
        for name in ["", ".hidden", "a\nb", "a\0b", ":2,S"] {
            assert_eq!(FileName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_keyword_counts_once_it_has_a_name() {
        let letters = Letters::parse("Sab");
        assert_eq!(letters.named_by(&Keywords::default()), Letters::parse("S"));
        let keywords = Keywords::parse("0 $Work\n99 no\nx y\n");
        assert_eq!(letters.named_by(&keywords), Letters::parse("Sa"));
        assert_eq!(letters.flags(&keywords), Flags::parse(r"\Seen $Work").unwrap());
    }

    #[test]
    fn a_folder_of_maildir_plus_plus_is_a_mailbox() {
        assert_eq!(mailbox(".Lists.rust").as_deref(), Some("Lists/rust"));
        assert_eq!(mailbox(".Entw&APw-rfe").as_deref(), Some("Entwürfe"));
        for folder in ["cur", "..DOVECOT-TRASHED", ".a..b", ".", ".a\nb", ".inbox"] {
            assert_eq!(mailbox(folder), None, "{folder:?}");
        }
        assert_eq!(listed("Gr&APYA3w-e\t&kK5O9g-", '\t'), "Größe/邮件");
    }
}
