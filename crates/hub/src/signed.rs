//! Signed checkpoints: where the journal's chain stood at a time, in a file that can be kept where
//! whoever has the journal's disk can't reach it.
//!
//! Each is the text of a checkpoint of C2SP's tlog-checkpoint, as a signed note: a name, how many
//! records there are, a hash, and the time. The hash is the chain's and not a tree's.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postbell_journal::{Link, Seq, SqliteJournal, Tip};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use crate::hub::stopped;
use crate::lock::locked;
use crate::signing::{PublicKey, SIGNATURE, SigningKey};

/// What a file of signed checkpoints holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SignedCheckpoints {
    /// Where the chain stood, in the order of the file, of those that were signed with the key.
    pub tips: Vec<Tip>,
    /// The time of the last of them, as it is written there.
    pub last_time: Option<String>,
    /// The lines at which something ends that is no checkpoint, or not signed with the key.
    pub bad_lines: Vec<usize>,
}

impl SignedCheckpoints {
    /// Reads the text of a file; `key` is what they should be signed with.
    #[must_use]
    pub fn parse(text: &str, key: &PublicKey) -> Self {
        let mut found = Self::default();
        let mut note = String::new();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            if !line.starts_with(SIGNATURE) {
                note.push_str(line);
                continue;
            }
            // What was cut off stands before the next one.
            let begin = note.rfind(BEGIN).unwrap_or_default();
            if begin > 0 {
                found.bad_lines.push(number);
            }
            let read = note.get(begin..).and_then(|note| note.strip_suffix('\n'));
            let read = read.filter(|text| key.signed(text, line.trim_end()));
            match read.and_then(parse_text) {
                Some((tip, time)) => {
                    found.tips.push(tip);
                    found.last_time = Some(time);
                }
                None => found.bad_lines.push(number),
            }
            note.clear();
        }
        if !note.is_empty() {
            found.bad_lines.push(text.lines().count());
        }
        found
    }

    /// Two that say different things of the same record, if there are such: one was signed for a
    /// journal that is another now.
    #[must_use]
    pub fn contradiction(&self) -> Option<Seq> {
        let mut known = std::collections::BTreeMap::new();
        let mut differs = |tip: &Tip| *known.entry(tip.seq).or_insert(tip.link) != tip.link;
        self.tips.iter().find(|tip| differs(tip)).map(|tip| tip.seq)
    }
}

/// The text that is signed.
fn text(tip: Tip, time: jiff::Timestamp) -> String {
    let hash = STANDARD.encode(tip.link.0);
    format!("{ORIGIN}\n{}\n{hash}\n{TIME}{time:.0}\n", tip.seq.0)
}

fn parse_text(text: &str) -> Option<(Tip, String)> {
    let mut lines = text.lines();
    let origin = lines.next()?;
    let seq = lines.next()?.parse().ok()?;
    let link = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
    let time = lines.next()?.strip_prefix(TIME)?;
    (origin == ORIGIN).then(|| (Tip { seq: Seq(seq), link: Link(link) }, time.to_owned()))
}

/// Signs where the chain stands, now and then.
#[derive(Debug)]
pub(crate) struct Notary {
    journal: Arc<SqliteJournal>,
    key: Arc<SigningKey>,
    file: PathBuf,
    interval: Duration,
    /// What was signed last, and whether writing fails, which is told once.
    last: Mutex<(Option<Tip>, bool)>,
    signed_seq: AtomicU64,
}

impl Notary {
    /// One that writes to `file`.
    pub(crate) fn new(
        journal: Arc<SqliteJournal>,
        key: Arc<SigningKey>,
        file: PathBuf,
        interval: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            key,
            file,
            interval,
            last: Mutex::default(),
            signed_seq: AtomicU64::new(0),
        })
    }

    /// The record up to which the last signed checkpoint vouches; 0 before the first.
    pub(crate) fn signed_seq(&self) -> u64 {
        self.signed_seq.load(Ordering::Relaxed)
    }

    /// Signs at the beginning and then every interval in which there was something new, until the
    /// hub stops.
    pub(crate) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            self.sign().await;
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = stopped(&mut stopping) => {}
            }
        }
    }

    /// Signs where the chain stands, unless that is signed already.
    pub(crate) async fn sign(self: &Arc<Self>) {
        let this = Arc::clone(self);
        if let Err(error) = spawn_blocking(move || this.sign_now()).await {
            error!(%error, "signing a checkpoint panicked");
        }
    }

    fn sign_now(&self) {
        let mut last = locked(&self.last);
        let Some(tip) = self.journal.tip().filter(|tip| last.0 != Some(*tip)) else { return };
        let note = self.key.note(&text(tip, jiff::Timestamp::now()));
        match append(&self.file, &note) {
            Ok(()) => {
                *last = (Some(tip), false);
                self.signed_seq.store(tip.seq.0, Ordering::Relaxed);
            }
            Err(error) => {
                if !last.1 {
                    let file = self.file.display();
                    warn!(%file, %error, "a signed checkpoint can't be written; trying on");
                }
                last.1 = true;
            }
        }
    }
}

/// Adds a note to the file, which is made where it isn't there. Nothing that is in it is touched:
/// it may be one that can only grow.
fn append(file: &Path, note: &str) -> io::Result<()> {
    let open = |mode: &mut OpenOptions| mode.append(true).create(true).mode(0o644).open(file);
    let mut file = match open(OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open(&mut OpenOptions::new())?
        }
        opened => opened?,
    };
    // Behind one that was cut off a new one begins on a line of its own.
    let mut last = [b'\n'];
    if file.seek(io::SeekFrom::End(-1)).is_ok() && file.read_exact(&mut last).is_err() {
        last = [b'\n'];
    }
    let gap = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{gap}{note}").as_bytes())?;
    file.sync_data()
}

/// Names what is signed: the first line of each.
const ORIGIN: &str = "postbell-journal";
const BEGIN: &str = "postbell-journal\n";

/// Begins the line of the time.
const TIME: &str = "time ";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn tip(seq: u64) -> Tip {
        Tip { seq: Seq(seq), link: Link([7; 32]) }
    }

    #[test]
    fn a_signed_checkpoint_is_a_c2sp_checkpoint_in_a_signed_note() {
        let time = "2026-11-28T20:00:00.5Z".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        let note = key.note(&text(tip(900), time));
        let mut lines = note.lines();
        assert_eq!(lines.next(), Some("postbell-journal"));
        assert_eq!(lines.next(), Some("900"));
        assert_eq!(lines.next(), Some("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="));
        assert_eq!(lines.next(), Some("time 2026-11-28T20:00:00Z"));
        assert_eq!(lines.next(), Some(""));
        assert!(lines.next().unwrap().starts_with("— postbell-journal "));
        assert_eq!(lines.next(), None);
        let found = SignedCheckpoints::parse(&note, key.public());
        assert_eq!(found.tips, [tip(900)]);
        assert_eq!(found.last_time.as_deref(), Some("2026-11-28T20:00:00Z"));
    }

    #[test]
    fn one_that_was_changed_cut_off_or_signed_by_another_is_told_and_the_others_are_read() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        let other = SigningKey::load_or_make(other.path()).unwrap();
        let time = "2026-11-28T20:00:00Z".parse().unwrap();
        let note = |key: &SigningKey, seq| key.note(&text(tip(seq), time));
        let changed = note(&key, 2).replace("\n2\n", "\n3\n");
        let file = folder.path().join("checkpoints");
        let torn = note(&key, 5).split_at(30).0.to_owned();
        for piece in [note(&key, 1), changed, note(&other, 4), torn] {
            append(&file, &piece).unwrap();
        }
        append(&file, &note(&key, 6)).unwrap();
        append(&file, &note(&key, 7)).unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        let found = SignedCheckpoints::parse(&written, key.public());
        assert_eq!(found.tips, [tip(1), tip(6), tip(7)]);
        assert_eq!(found.bad_lines.len(), 3, "{found:?}");
        let cut = SignedCheckpoints::parse(written.split_at(written.len() - 3).0, key.public());
        assert_eq!((cut.tips, cut.bad_lines.len()), (vec![tip(1), tip(6)], 4));
    }

    #[test]
    fn two_that_contradict_each_other_are_told() {
        let other = Tip { link: Link([8; 32]), ..tip(5) };
        let of = |tips| SignedCheckpoints { tips, ..SignedCheckpoints::default() };
        assert_eq!(of(vec![tip(5), tip(5), tip(6)]).contradiction(), None);
        assert_eq!(of(vec![tip(5), other]).contradiction(), Some(Seq(5)));
    }

    #[test]
    fn everyone_may_read_signed_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoints");
        append(&file, "a\n").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o044, 0o044);
    }
}
