//! The law: who replays what is told has the store's state, whatever was done and whenever the
//! source was up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mail_event::Flags;
use postbell_engine::What;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::rig::{Rig, maildir, options, shown};

/// Something a person or program does to the folder.
#[derive(Clone, Debug)]
enum Act {
    Deliver(u8),
    Append(u8, u8),
    Flag(u8, u8),
    Remove(u8),
    Move(u8, u8),
    Link(u8, u8),
    Create(u8),
    Delete(u8),
    Rename(u8, u8),
    Subscribe(u8),
    Look,
    /// The source dies after so many batches, and starts again.
    Crash(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<u8>().prop_map(Act::Deliver),
        3 => any::<(u8, u8)>().prop_map(|(to, flags)| Act::Append(to, flags)),
        4 => any::<(u8, u8)>().prop_map(|(which, flags)| Act::Flag(which, flags)),
        2 => any::<u8>().prop_map(Act::Remove),
        3 => any::<(u8, u8)>().prop_map(|(which, to)| Act::Move(which, to)),
        2 => any::<(u8, u8)>().prop_map(|(which, to)| Act::Link(which, to)),
        3 => any::<u8>().prop_map(Act::Create),
        1 => any::<u8>().prop_map(Act::Delete),
        2 => any::<(u8, u8)>().prop_map(|(which, to)| Act::Rename(which, to)),
        1 => any::<u8>().prop_map(Act::Subscribe),
        6 => Just(Act::Look),
        1 => (0_u8..3).prop_map(Act::Crash),
    ]
}

/// Names a mailbox may have; each has its parents before it.
const NAMES: [&str; 9] = ["a", "a.b", "a.b.c", "a.d", "b", "b.b", "c", "c.a", "c.a.b"];
const LETTERS: [&str; 6] = ["", "S", "F", "FS", "RS", "T"];

/// The folder and what is done to it.
struct Store {
    root: PathBuf,
    files_made: u32,
}

impl Store {
    fn folders(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().path());
        let subs = names.filter(|path| path.file_name().unwrap().as_encoded_bytes()[0] == b'.');
        let mut all: Vec<_> = subs.chain([self.root.clone()]).collect();
        all.sort();
        all
    }

    fn folder(&self, choice: u8) -> PathBuf {
        let folders = self.folders();
        folders[usize::from(choice) % folders.len()].clone()
    }

    fn files(&self) -> Vec<PathBuf> {
        let places = self.folders().into_iter().flat_map(|f| [f.join("new"), f.join("cur")]);
        let mut all: Vec<_> = places
            .flat_map(|place| fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()))
            .collect();
        all.sort();
        all
    }

    fn file(&self, choice: u8) -> Option<PathBuf> {
        let files = self.files();
        (!files.is_empty()).then(|| files[usize::from(choice) % files.len()].clone())
    }

    fn name(&mut self) -> String {
        self.files_made += 1;
        format!("17{:08}.M1P1.h", self.files_made)
    }

    fn perform(&mut self, act: &Act) {
        match *act {
            Act::Deliver(to) => {
                let name = self.name();
                fs::write(self.folder(to).join("new").join(&name), &name).unwrap();
            }
            Act::Append(to, flags) => {
                let name = self.name();
                let path = self.folder(to).join("cur").join(format!("{name}:2,{}", letters(flags)));
                fs::write(path, &name).unwrap();
            }
            Act::Flag(which, flags) => {
                let Some(file) = self.file(which) else { return };
                let folder = file.parent().unwrap().parent().unwrap();
                let name = format!("{}:2,{}", unique(&file), letters(flags));
                fs::rename(&file, folder.join("cur").join(name)).unwrap();
            }
            Act::Remove(which) => {
                if let Some(file) = self.file(which) {
                    fs::remove_file(file).unwrap();
                }
            }
            Act::Move(which, to) => {
                if let Some(file) = self.file(which) {
                    let name = file.file_name().unwrap();
                    fs::rename(&file, self.folder(to).join("cur").join(name)).unwrap();
                }
            }
            Act::Link(which, to) => {
                if let Some(file) = self.file(which) {
                    let name = format!("{}:2,S", self.name());
                    fs::hard_link(&file, self.folder(to).join("cur").join(name)).unwrap();
                }
            }
            Act::Create(which) => self.create(NAMES[usize::from(which) % NAMES.len()]),
            Act::Delete(which) => {
                let folder = self.folder(which);
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                let has_children = self.folders().iter().any(|other| {
                    other.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}."))
                });
                if folder != self.root && !has_children {
                    fs::remove_dir_all(folder).unwrap();
                }
            }
            Act::Rename(which, to) => self.rename(which, NAMES[usize::from(to) % NAMES.len()]),
            Act::Subscribe(which) => {
                let path = self.root.join("subscriptions");
                let text = fs::read_to_string(&path).unwrap_or_default();
                let line = format!("{}\n", NAMES[usize::from(which) % NAMES.len()]);
                let text = match text.contains(&line) {
                    true => text
                        .lines()
                        .filter(|l| *l != line.trim())
                        .map(|l| format!("{l}\n"))
                        .collect(),
                    false => text + &line,
                };
                fs::write(path, text).unwrap();
            }
            Act::Look | Act::Crash(_) => {}
        }
    }

    fn create(&self, name: &str) {
        let mut path = String::new();
        for level in name.split('.') {
            path = format!("{path}.{level}");
            maildir(&self.root.join(&path));
        }
    }

    /// With its children, as mail servers do, and with the parents the new name needs.
    fn rename(&self, which: u8, to: &str) {
        let folder = self.folder(which);
        let target = format!(".{to}");
        let old = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let is_taken = self.root.join(&target).exists() || target.starts_with(&format!("{old}."));
        if folder == self.root || is_taken {
            return;
        }
        if let Some((parent, _)) = to.rsplit_once('.') {
            self.create(parent);
        }
        for path in self.folders() {
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(rest) =
                name.strip_prefix(&old).filter(|r| r.is_empty() || r.starts_with('.'))
            {
                fs::rename(&path, self.root.join(format!("{target}{rest}"))).unwrap();
            }
        }
    }

    /// What there is: by mailbox, the flags of its messages.
    fn state(&self) -> BTreeMap<String, Vec<String>> {
        let state = self.folders().into_iter().map(|folder| {
            let name = match folder == self.root {
                true => "INBOX".to_owned(),
                false => folder.file_name().unwrap().to_str().unwrap()[1..].replace('.', "/"),
            };
            let mut uniques = BTreeMap::new();
            for place in ["new", "cur"] {
                for entry in fs::read_dir(folder.join(place)).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_str().unwrap();
                    let letters = name.split_once(":2,").map_or("", |(_, letters)| letters);
                    uniques.insert(unique(&path), flags_of(letters));
                }
            }
            let mut flags: Vec<_> = uniques.into_values().collect();
            flags.sort();
            (name, flags)
        });
        state.collect()
    }
}

fn letters(choice: u8) -> &'static str {
    LETTERS[usize::from(choice) % LETTERS.len()]
}

fn unique(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split(':').next().unwrap().to_owned()
}

fn flags_of(letters: &str) -> String {
    let names = letters.chars().map(|letter| match letter {
        'S' => "\\Seen",
        'F' => "\\Flagged",
        'R' => "\\Answered",
        _ => "\\Deleted",
    });
    sorted(&Flags::parse(&names.collect::<Vec<_>>().join(" ")).unwrap())
}

fn sorted(flags: &Flags) -> String {
    let mut names: Vec<_> = flags.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(" ")
}

/// Somebody who only hears what is told.
#[derive(Default)]
struct Listener {
    mailboxes: BTreeMap<String, BTreeMap<u32, Flags>>,
    subscriptions: BTreeSet<String>,
}

impl Listener {
    fn hear(&mut self, what: &What) -> Result<(), TestCaseError> {
        match what {
            What::Delivered { message, .. } | What::Appended(message) => {
                let mailbox = self.mailboxes.get_mut(&message.mailbox.name);
                let mailbox = mailbox.ok_or_else(|| TestCaseError::fail(shown(what)))?;
                prop_assert!(mailbox.insert(message.uid, message.flags.clone()).is_none());
                prop_assert_eq!(
                    message.status.messages,
                    Some(mailbox.len() as u64),
                    "{}",
                    shown(what)
                );
                prop_assert!(message.status.uidnext > Some(message.uid));
            }
            What::Expunged { mailbox, uids, status, .. } => {
                let mailbox = self.mailboxes.get_mut(&mailbox.name).unwrap();
                for uid in uids.iter() {
                    prop_assert!(mailbox.remove(&uid).is_some(), "{}", shown(what));
                }
                prop_assert_eq!(status.messages, Some(mailbox.len() as u64), "{}", shown(what));
            }
            What::FlagsChanged { mailbox, uids, set, cleared, .. } => {
                let mailbox = self.mailboxes.get_mut(&mailbox.name).unwrap();
                for uid in uids.iter() {
                    let flags = mailbox.get_mut(&uid).unwrap();
                    prop_assert!(set.difference(flags) == *set, "only real changes (R59)");
                    prop_assert!(cleared.difference(flags).is_empty(), "only real changes (R64)");
                    *flags = flags.union(set).difference(cleared);
                }
            }
            What::MailboxCreated(mailbox) => {
                prop_assert!(!self.mailboxes.contains_key(&mailbox.name), "{}", shown(what));
                self.make(&mailbox.name);
            }
            What::MailboxDeleted(mailbox) => {
                prop_assert!(self.mailboxes.remove(&mailbox.name).is_some(), "{}", shown(what));
            }
            What::MailboxRenamed { from, to, .. } => {
                let (from, to) = (&from.name, &to.name);
                let is_it = |name: &str| {
                    name.strip_prefix(from.as_str())
                        .is_some_and(|r| r.is_empty() || r.starts_with('/'))
                };
                let moved: Vec<_> =
                    self.mailboxes.keys().filter(|name| is_it(name)).cloned().collect();
                prop_assert!(!moved.is_empty(), "{}", shown(what));
                for name in moved {
                    let messages = self.mailboxes.remove(&name).unwrap();
                    let new = format!("{to}{}", &name[from.len()..]);
                    prop_assert!(!self.mailboxes.contains_key(&new), "{}", shown(what));
                    self.mailboxes.insert(new, messages);
                }
                if let Some((parent, _)) = to.rsplit_once('/') {
                    self.make(parent);
                }
            }
            What::Subscribed(mailbox) => {
                prop_assert!(self.subscriptions.insert(mailbox.name.clone()));
            }
            What::Unsubscribed(mailbox) => {
                prop_assert!(self.subscriptions.remove(&mailbox.name));
            }
            _ => {}
        }
        Ok(())
    }

    fn make(&mut self, name: &str) {
        for (at, _) in name.match_indices('/').chain([(name.len(), "")]) {
            self.mailboxes.entry(name[..at].to_owned()).or_default();
        }
    }

    fn state(&self) -> BTreeMap<String, Vec<String>> {
        let state = self.mailboxes.iter().map(|(name, messages)| {
            let mut flags: Vec<_> = messages.values().map(sorted).collect();
            flags.sort();
            (name.clone(), flags)
        });
        state.collect()
    }
}

fn obeys(acts: &[Act]) -> Result<(), TestCaseError> {
    let temporary = tempfile::tempdir().unwrap();
    let mut store = Store { root: maildir(temporary.path()), files_made: 0 };
    let mut rig = Rig::start(options(&store.root));
    rig.stop();
    let mut listener = Listener::default();
    listener.make("INBOX");
    let mut heard = 0;
    for act in acts.iter().chain([&Act::Look]) {
        store.perform(act);
        match act {
            Act::Look => rig.look(),
            Act::Crash(batches) => rig.crash_after(usize::from(*batches)),
            _ => continue,
        }
        let told = rig.kept.told();
        for one in &told[heard..] {
            listener.hear(&one.what)?;
        }
        heard = told.len();
        if matches!(act, Act::Look) {
            let lines: Vec<_> = told.iter().map(|told| shown(&told.what)).collect();
            prop_assert_eq!(listener.state(), store.state(), "{:#?}", lines);
        }
    }
    let identities: BTreeSet<_> = rig.kept.told().iter().map(|t| t.identity.0.clone()).collect();
    prop_assert_eq!(identities.len(), heard, "no identity twice");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn replaying_what_is_told_gives_the_stores_state(acts in prop::collection::vec(act(), 1..60)) {
        obeys(&acts)?;
    }
}

/// Some tens, as each looks at a disk many times; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 40,
    }
}

#[test]
fn two_names_of_one_file_are_two_messages() {
    let (deliver, onward) = (Act::Deliver(0), Act::Move(0, 0));
    let before = [deliver.clone(), onward.clone(), Act::Link(0, 0), Act::Look];
    let after = [Act::Create(0), Act::Remove(0), onward, Act::Link(0, 104), deliver];
    obeys(&[&before[..], &after[..]].concat()).unwrap();
}

#[test]
fn a_parent_and_its_child_may_change_places() {
    let before = [Act::Create(61), Act::Look];
    let after = [Act::Rename(47, 22), Act::Rename(50, 1), Act::Rename(29, 86)];
    obeys(&[&before[..], &after[..]].concat()).unwrap();
}
