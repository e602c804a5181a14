//! A Maildir++ and what mail software does to it: every operation is the real one, on files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A user's Maildir, and where the messages put into it are now.
#[derive(Debug)]
pub(super) struct Maildir {
    root: PathBuf,
    letters: BTreeMap<&'static str, Letter>,
    names_given: u32,
    limit_octets: u64,
}

#[derive(Debug)]
struct Letter {
    mailbox: String,
    place: &'static str,
    unique: String,
    flags: String,
    octets: u64,
}

impl Maildir {
    /// Makes an empty one, with a limit of `limit_octets` on it.
    pub(super) fn make(root: &Path, limit_octets: u64) -> io::Result<Self> {
        for place in PLACES {
            fs::create_dir_all(root.join(place))?;
        }
        let letters = BTreeMap::new();
        let mut made = Self { root: root.to_owned(), letters, names_given: 0, limit_octets };
        made.limit(limit_octets)?;
        Ok(made)
    }

    /// Delivers a message: written to `tmp`, then moved to `new`.
    pub(super) fn deliver(&mut self, letter: &'static str, content: &[u8]) -> io::Result<()> {
        self.put(letter, "INBOX", "new", "", content)
    }

    /// Puts a message straight into `cur`, as a client's APPEND does.
    pub(super) fn append(
        &mut self,
        letter: &'static str,
        mailbox: &str,
        flags: &str,
        content: &[u8],
    ) -> io::Result<()> {
        self.put(letter, mailbox, "cur", flags, content)
    }

    /// Gives a message these flags and no others.
    pub(super) fn flag(&mut self, letter: &'static str, flags: &str) -> io::Result<()> {
        self.relocate(letter, |letter| {
            letter.place = "cur";
            flags.clone_into(&mut letter.flags);
        })
    }

    /// Moves a message to another mailbox.
    pub(super) fn transfer(&mut self, letter: &'static str, mailbox: &str) -> io::Result<()> {
        self.relocate(letter, |letter| {
            letter.place = "cur";
            mailbox.clone_into(&mut letter.mailbox);
        })
    }

    /// Removes a message for good.
    pub(super) fn expunge(&mut self, letter: &'static str) -> io::Result<()> {
        let Some(gone) = self.letters.remove(letter) else { return Err(unknown(letter)) };
        fs::remove_file(self.path(&gone))?;
        self.account()
    }

    /// Makes a mailbox.
    pub(super) fn create(&mut self, mailbox: &str) -> io::Result<()> {
        // Made aside and moved into place, so that nobody finds half a mailbox.
        let aside = self.root.join("tmp").join(self.unique());
        for place in PLACES {
            fs::create_dir_all(aside.join(place))?;
        }
        fs::write(aside.join("maildirfolder"), "")?;
        fs::rename(aside, self.folder(mailbox))
    }

    /// Gives a mailbox another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder(from), self.folder(to))?;
        for letter in self.letters.values_mut().filter(|letter| letter.mailbox == from) {
            to.clone_into(&mut letter.mailbox);
        }
        Ok(())
    }

    /// Removes a mailbox with what is in it.
    pub(super) fn delete(&mut self, mailbox: &str) -> io::Result<()> {
        // Moved aside first, so that nobody finds half a mailbox.
        let aside = self.root.join("tmp").join(self.unique());
        fs::rename(self.folder(mailbox), &aside)?;
        fs::remove_dir_all(aside)?;
        self.letters.retain(|_, letter| letter.mailbox != mailbox);
        self.account()
    }

    /// Writes the list of subscribed mailboxes.
    pub(super) fn subscribe(&mut self, mailboxes: &[&str]) -> io::Result<()> {
        let lines: String = mailboxes.iter().map(|name| format!("{name}\n")).collect();
        self.replace("subscriptions", &lines)
    }

    /// Sets the limit on storage.
    pub(super) fn limit(&mut self, octets: u64) -> io::Result<()> {
        self.limit_octets = octets;
        self.account()
    }

    fn put(
        &mut self,
        name: &'static str,
        mailbox: &str,
        place: &'static str,
        flags: &str,
        content: &[u8],
    ) -> io::Result<()> {
        let unique = self.unique();
        let letter = Letter {
            mailbox: mailbox.to_owned(),
            place,
            unique: unique.clone(),
            flags: flags.to_owned(),
            octets: content.len() as u64,
        };
        let aside = self.folder(mailbox).join("tmp").join(unique);
        fs::write(&aside, content)?;
        fs::rename(aside, self.path(&letter))?;
        self.letters.insert(name, letter);
        self.account()
    }

    fn relocate(&mut self, name: &'static str, change: impl FnOnce(&mut Letter)) -> io::Result<()> {
        let Some(mut letter) = self.letters.remove(name) else { return Err(unknown(name)) };
        let before = self.path(&letter);
        change(&mut letter);
        fs::rename(before, self.path(&letter))?;
        self.letters.insert(name, letter);
        Ok(())
    }

    /// Writes `maildirsize`: the limit, and what is used.
    fn account(&mut self) -> io::Result<()> {
        let used: u64 = self.letters.values().map(|letter| letter.octets).sum();
        let lines = format!("{}S\n{used} {}\n", self.limit_octets, self.letters.len());
        self.replace("maildirsize", &lines)
    }

    /// Replaces a file of the Maildir in one step.
    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        let aside = self.root.join("tmp").join(self.unique());
        let mut file = fs::File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        fs::rename(aside, self.root.join(name))
    }

    fn folder(&self, mailbox: &str) -> PathBuf {
        match mailbox {
            "INBOX" => self.root.clone(),
            name => self.root.join(format!(".{}", name.replace('/', "."))),
        }
    }

    fn path(&self, letter: &Letter) -> PathBuf {
        let name = match letter.place {
            "new" => letter.unique.clone(),
            _ => format!("{}:2,{}", letter.unique, letter.flags),
        };
        self.folder(&letter.mailbox).join(letter.place).join(name)
    }

    /// A name no message had before (<https://cr.yp.to/proto/maildir.html>).
    fn unique(&mut self) -> String {
        self.names_given += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (now.as_secs(), now.subsec_micros());
        format!("{seconds}.M{micros}P{}Q{}.demo", std::process::id(), self.names_given)
    }
}

fn unknown(letter: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no letter called {letter}"))
}

const PLACES: [&str; 3] = ["tmp", "new", "cur"];

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path, place: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root.join(place))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_message_goes_from_new_to_cur_and_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut maildir = Maildir::make(root, 1_000).unwrap();
        maildir.deliver("a", b"hello").unwrap();
        assert_eq!(files(root, "new").len(), 1);
        assert_eq!(fs::read_to_string(root.join("maildirsize")).unwrap(), "1000S\n5 1\n");
        maildir.flag("a", "S").unwrap();
        assert!(files(root, "cur")[0].ends_with(":2,S"));
        maildir.create("Projects/Boat").unwrap();
        maildir.transfer("a", "Projects/Boat").unwrap();
        assert_eq!(files(root, ".Projects.Boat/cur").len(), 1);
        maildir.rename("Projects/Boat", "Boat").unwrap();
        maildir.expunge("a").unwrap();
        assert!(files(root, ".Boat/cur").is_empty());
        maildir.delete("Boat").unwrap();
        assert!(files(root, "tmp").is_empty() && !root.join(".Boat").exists());
    }
}
