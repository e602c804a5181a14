//! The journal on SQLite.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::chain::{Link, Tip};
use crate::commit::{self, Active, Committer};
use crate::encode::Encoder;
use crate::files::{
    NEW_SUFFIX, file_error, locked, remove_database, segment_path, segments_in, sync_folder,
    unusable,
};
use crate::keeper::{Keeper, Retired};
use crate::lock::Lock;
use crate::mark::Mark;
use crate::overlay::Overlay;
use crate::queue::{Failure, Queue, State};
use crate::reader::{Reader, SegmentFile};
use crate::recover::{Survey, Tail, survey};
use crate::segment::Segment;
use crate::shared::{Counters, Layer, Shared};
use crate::{
    AppendError, Batch, Bounds, Done, Journal, OpenError, Options, Pair, ReadError, Records, Seq,
};

/// A journal in a folder of its own.
///
/// Dropping it does what [`SqliteJournal::close`] does.
///
/// ```
/// use std::sync::mpsc;
/// use postbell_journal::{Batch, Entry, Journal, Options, RecordId, Seq, SqliteJournal};
///
/// let folder = tempfile::tempdir()?;
/// let journal = SqliteJournal::open(folder.path(), Options::default())?;
/// let entry = Entry { id: RecordId(7), head: [0; 24], body: "an event".into() };
/// let (told, hears) = mpsc::channel();
/// let done = Box::new(move |result| drop(told.send(result)));
/// journal.append(Batch { entries: vec![entry], checkpoint: None }, done);
/// hears.recv()??;
///
/// let records = journal.read(Seq(1), 1024)?;
/// assert_eq!(records.iter().next().map(|record| record.body), Some(&b"an event"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteJournal {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

/// The threads, and what must outlive them.
struct Threads {
    writers: Vec<JoinHandle<()>>,
    keeper: JoinHandle<()>,
    _lock: Lock,
}

/// Figures for whoever watches the journal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Records kept.
    pub records: u64,
    /// Octets of all segments on disk, about.
    pub octets: u64,
    /// Commits since the journal was opened.
    pub commits: u64,
    /// Blocks committed since the journal was opened.
    pub blocks: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
    /// Entries waiting to be written.
    pub queued_entries: usize,
    /// Octets waiting to be written.
    pub queued_octets: usize,
}

impl SqliteJournal {
    /// Opens the journal in `folder`, making both where there is none.
    ///
    /// How long that takes does not depend on how many records there are: only the list of
    /// segments and the last blocks are looked at.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with which file; nothing was changed then.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        check_library()?;
        let folder = folder.as_ref();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| unusable(folder, error))?;
        let lock = Lock::take(folder)?;
        let survey = survey(folder)?;
        start(folder, options, survey, lock)
    }

    /// Whether batches are taken at present.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.queue.state()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Bounds { first, last } = self.shared.reader.bounds();
        let (queued_entries, queued_octets) = self.shared.queue.depth();
        let counters = &self.shared.counters;
        Stats {
            records: (last.0 + 1).saturating_sub(first.0),
            octets: self.shared.octets(),
            commits: counters.commits.load(Ordering::Relaxed),
            blocks: counters.blocks.load(Ordering::Relaxed),
            last_commit: Duration::from_micros(counters.last_commit_micros.load(Ordering::Relaxed)),
            queued_entries,
            queued_octets,
        }
    }

    /// Where the chain of hashes stands: what is durable, and nothing else. `None` until the first
    /// block is in it, in a new journal or one of format 1.
    #[must_use]
    pub fn tip(&self) -> Option<Tip> {
        locked(&self.shared.tip).filter(|tip| tip.link != Link::START)
    }

    /// Writes what is queued, ends the threads and lets the folder go. Reading goes on working;
    /// batches are refused with [`AppendError::Closed`].
    ///
    /// Doing it twice is no harm.
    pub fn close(&self) {
        let Some(threads) = locked(&self.threads).take() else { return };
        self.shared.queue.close();
        for writer in threads.writers {
            if writer.join().is_err() {
                tracing::error!("a writing thread panicked");
            }
        }
        let (nobody, _) = mpsc::channel();
        let mut committer = locked(&self.shared.committer);
        // Its last sender gone, the keeper does what is left and ends.
        drop(std::mem::replace(&mut committer.keeper, nobody));
        let active = committer.active.segment.take();
        let number = committer.active.number;
        drop(committer);
        if threads.keeper.join().is_err() {
            tracing::error!("the housekeeping thread panicked");
        }
        if let Some(segment) = active {
            self.close_active(number, segment);
        }
    }

    /// Leaves the active segment as one file, where nothing speaks against it. What can't be
    /// done now is done at the next opening.
    fn close_active(&self, number: u64, mut segment: Segment) {
        if matches!(self.state(), State::Stopped { .. }) {
            return;
        }
        let Some(file) = self.shared.reader.segment(number) else { return };
        let closed = file.seal(|| {
            let sealed = segment.seal()?;
            segment.close()?;
            if !sealed {
                tracing::debug!("a reader kept the write-ahead log of the active segment");
            }
            // It is read as before: another journal may open this folder and write on.
            Ok::<_, rusqlite::Error>(false)
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the active segment was left with its write-ahead log");
        }
    }
}

impl Journal for SqliteJournal {
    fn append(&self, batch: Batch, done: Done) {
        self.shared.queue.push(batch, done);
    }

    fn offer(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        self.shared.queue.offer(batch, done)
    }

    fn read(&self, from: Seq, limit_octets: usize) -> Result<Records, ReadError> {
        self.shared.reader.read(from, limit_octets)
    }

    fn bounds(&self) -> Bounds {
        self.shared.reader.bounds()
    }

    fn first_since(&self, unix_millis: u64) -> Result<Seq, ReadError> {
        self.shared.reader.first_since(unix_millis)
    }

    fn written_ms(&self, seq: Seq) -> Result<u64, ReadError> {
        self.shared.reader.written_ms(seq)
    }

    fn on_commit(&self, notice: Box<dyn Fn(Seq) + Send + Sync>) {
        self.shared.notices.write().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    fn checkpoint(&self, source: &str, prefix: &[u8]) -> Result<Vec<Pair>, ReadError> {
        self.shared.checkpoint(source, prefix)
    }

    fn checkpoint_keys(&self, source: &str) -> Result<u64, ReadError> {
        self.shared.checkpoint_keys(source)
    }

    fn cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        self.shared.cursor(name)
    }

    fn durable_cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        locked(&self.shared.state).cursor(name)
    }

    fn set_cursor(&self, name: &str, done: Option<Seq>) -> Result<(), AppendError> {
        // Held throughout: once the queue is closed the cursors are written for the last time.
        let inner = self.shared.queue.lock();
        match self.shared.queue.refusal(&inner) {
            None | Some(AppendError::Full { .. }) => {}
            Some(refusal) => return Err(refusal),
        }
        locked(&self.shared.cursors).insert(name.to_owned(), done);
        drop(inner);
        Ok(())
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

/// Refuses a library older than the one the journal was built against and tested with.
fn check_library() -> Result<(), OpenError> {
    if rusqlite::version_number() < LIBRARY_OLDEST {
        return Err(OpenError::Library { found: rusqlite::version(), needed: "3.51.3" });
    }
    Ok(())
}

/// Starts a journal on what was found.
fn start(
    folder: &Path,
    options: Options,
    mut survey: Survey,
    lock: Lock,
) -> Result<SqliteJournal, OpenError> {
    let window = survey.window(folder, options.window_records)?;
    survey.state.accept()?;
    clear_away(folder, survey.dropped)?;
    let mut full = survey.state.settle()?;
    if survey.tail.is_empty() {
        survey.tail.push(first_segment(folder, &survey)?);
    } else {
        full |= settle(&mut survey.tail)?;
    }
    sync_folder(folder).map_err(|error| unusable(folder, error))?;
    let end = survey.end;
    survey
        .mark
        .write(Mark { seq: end.seq, change: end.change })
        .and_then(|()| survey.mark.sync())
        .map_err(|error| file_error(survey.mark.path(), error))?;
    let mark = survey.mark.try_clone().map_err(|error| unusable(survey.mark.path(), error))?;
    let (to_keeper, from_writers) = mpsc::channel();
    let sealed = survey.sealed.clone();
    let encoder =
        Encoder::new(window, end, survey.newest_ms()).map_err(|error| unusable(folder, error))?;
    let shared = Arc::new(share(folder, options, survey, encoder, to_keeper)?);
    if full {
        shared.queue.fail(&Failure::Full);
    }
    let keeper = Keeper::new(Arc::clone(&shared), sealed, mark);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| unusable(folder, error))
    };
    let keeper = spawn("journal-keeper", Box::new(move || keeper.run(&from_writers)))?;
    let mut writers = Vec::new();
    for name in ["journal-writer-1", "journal-writer-2"] {
        let shared = Arc::clone(&shared);
        writers.push(spawn(name, Box::new(move || commit::run(&shared)))?);
    }
    let threads = Mutex::new(Some(Threads { writers, keeper, _lock: lock }));
    Ok(SqliteJournal { shared, threads })
}

/// Removes what is of no more use: files half made, and segments dropped but not yet deleted.
fn clear_away(folder: &Path, dropped: u64) -> Result<(), OpenError> {
    let clear = || -> std::io::Result<()> {
        for number in segments_in(folder)?.into_iter().filter(|number| *number <= dropped) {
            remove_database(&segment_path(folder, number))?;
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|path| path.ends_with(NEW_SUFFIX)) {
                remove_database(&path)?;
            }
        }
        Ok(())
    };
    clear().map_err(|error| unusable(folder, error))
}

fn first_segment(folder: &Path, survey: &Survey) -> Result<Tail, OpenError> {
    let number = survey.sealed.last().map_or(survey.dropped, |sealed| sealed.number) + 1;
    let path = segment_path(folder, number);
    let segment = Segment::create(&path, survey.end, survey.chain.unwrap_or(Link::START))
        .map_err(|error| error.into_open_error(&path))?;
    Ok(Tail {
        number,
        segment,
        before: survey.end,
        end: survey.end,
        oldest_ms: None,
        newest_ms: 0,
        overlay: Overlay::default(),
    })
}

/// Moves what the write-ahead logs hold into the files, whether the disk was full.
///
/// A log found after a failed fsync may be readable and yet not on disk. Writing what it holds
/// anew, and forcing that, settles it.
fn settle(tail: &mut [Tail]) -> Result<bool, OpenError> {
    let mut full = false;
    for tail in tail {
        match tail.segment.checkpoint(rusqlite::wal::CheckpointMode::TRUNCATE) {
            Ok(_) => {}
            Err(error) if crate::segment::is_full(&error) => full = true,
            Err(error) => return Err(unusable(tail.segment.path(), error)),
        }
    }
    Ok(full)
}

fn share(
    folder: &Path,
    options: Options,
    survey: Survey,
    encoder: Encoder,
    keeper: Sender<Retired>,
) -> Result<Shared, OpenError> {
    let folder: Arc<Path> = folder.into();
    let end = survey.end;
    let counters = Counters::default();
    let sealed_octets = survey.sealed.iter().map(|sealed| sealed.octets).sum();
    counters.sealed_octets.store(sealed_octets, Ordering::Relaxed);
    let mut files: Vec<_> = survey
        .sealed
        .iter()
        .map(|sealed| {
            SegmentFile::new(
                sealed.number,
                sealed.first,
                segment_path(&folder, sealed.number),
                true,
            )
        })
        .collect();
    let mut layers = Vec::new();
    let mut newest: Option<Active> = None;
    for tail in survey.tail {
        let first = tail.before.seq + 1;
        files.push(SegmentFile::new(tail.number, first, tail.segment.path().to_owned(), false));
        let overlay = Arc::new(Mutex::new(tail.overlay));
        layers.push(Layer { number: tail.number, overlay: Arc::clone(&overlay) });
        let octets =
            tail.segment.file_octets().map_err(|error| unusable(tail.segment.path(), error))?;
        let active = Active {
            segment: Some(tail.segment),
            number: tail.number,
            first,
            end: tail.end,
            octets,
            oldest_ms: tail.oldest_ms,
            newest_ms: tail.newest_ms,
            overlay,
        };
        if let Some(full) = newest.replace(active) {
            counters.sealed_octets.fetch_add(full.octets, Ordering::Relaxed);
            counters.unsealed.fetch_add(1, Ordering::Relaxed);
            // The keeper is not running yet, and its channel has no limit.
            if keeper.send(Retired::from(full)).is_err() {
                tracing::error!("the housekeeping thread has ended");
            }
        }
    }
    let active = newest.ok_or_else(|| unusable(&folder, "no segment to write to"))?;
    counters.active_octets.store(active.octets, Ordering::Relaxed);
    let bounds = Bounds { first: Seq(survey.first), last: Seq(end.seq) };
    Ok(Shared {
        queue: Queue::new(Arc::clone(&folder), &options, end),
        reader: Reader::new(files, survey.holes, bounds, &options),
        folder,
        options,
        encoder: Mutex::new(encoder),
        committer: Mutex::new(Committer {
            active,
            mark: survey.mark,
            is_mark_behind: false,
            keeper,
        }),
        state: Mutex::new(survey.state),
        layers: RwLock::new(layers),
        cursors: Mutex::default(),
        notices: RwLock::default(),
        counters,
        tip: Mutex::new(survey.chain.map(|link| Tip { seq: Seq(end.seq), link })),
    })
}

/// 3.51.3, the first SQLite without the write-ahead log's reset race.
const LIBRARY_OLDEST: i32 = 3_051_003;
