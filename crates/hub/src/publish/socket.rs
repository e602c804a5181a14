//! The Unix stream for publishers (docs/publish.md): frames in, answers out, in order.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use postbell_engine::Stores;
use postbell_journal::{AppendError, Appended, Entry, Verdict};
use postbell_sources::publish::{
    Answer, Decoder, FRAMES_AHEAD_MAX, GREETING, GREETING_2, OCTETS_AHEAD_MAX, REFUSAL, TooLong,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::{Pending, Publishers};
use crate::api::ShownDemand;
use crate::demand::{Demands, Publisher, Told};
use crate::hub::stopped;
use crate::metrics::EventIndex;
use crate::traces::WayIn;

/// The socket, bound; its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Who may publish besides root and the hub's own user, and for which stores.
    allowed: BTreeMap<u32, Stores>,
}

impl Socket {
    /// Binds `path`. A socket left behind there is replaced: whoever holds the data folder is
    /// the only hub that may use it.
    pub(crate) fn bind(path: PathBuf, allowed: BTreeMap<u32, Stores>) -> io::Result<Self> {
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::other("something that is no socket is there already")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        // Who may publish is decided by user id. The mode only keeps the others further off,
        // where nobody else is let in anyway.
        let mode = if allowed.is_empty() { 0o600 } else { 0o666 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { path, listener, allowed })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a process of the user at the other end may speak for, if it may publish: root and the
    /// hub's own user for any store, who could read the hub's token as well; others as the operator
    /// says.
    fn admits(&self, uid: u32) -> Option<Stores> {
        let is_own = uid == 0 || uid == rustix::process::geteuid().as_raw();
        if is_own { Some(Stores::any()) } else { self.allowed.get(&uid).cloned() }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, path = %self.path.display(), "the publishers' socket was gone already");
        }
    }
}

/// Serves publishers until `stopping` turns true; what they handed in by then is answered.
pub(crate) async fn serve(
    socket: Socket,
    publishers: Arc<Publishers>,
    demands: Demands,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(PUBLISHERS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = socket.listener.accept() => match taken {
                Ok((stream, _)) => {
                    let admitted = admitted(&socket, &stream);
                    let permit = Arc::clone(&permits).try_acquire_owned();
                    let (publishers, demands) = (Arc::clone(&publishers), demands.clone());
                    let stopping = stopping.clone();
                    connections.spawn(async move {
                        let ended = match (admitted, permit) {
                            (Err(why), _) => refuse(stream, &why).await,
                            (Ok(_), Err(_)) => refuse(stream, "there are enough publishers").await,
                            (Ok(stores), Ok(_permit)) => {
                                let connection =
                                    Connection::new(stream, publishers, stores, demands);
                                connection.serve(stopping).await
                            }
                        };
                        if let Err(error) = ended {
                            // A publisher that goes away is its own affair.
                            debug!(%error, "a publisher's connection ended badly");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "a publisher's connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    drop(socket);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        warn!(seconds = DRAIN_MAX.as_secs(), "publishers did not end in time and are cut off");
    }
    connections.shutdown().await;
}

/// What the peer may speak for; why it is not let in, where it isn't.
fn admitted(socket: &Socket, stream: &UnixStream) -> Result<Stores, String> {
    let peer = stream
        .peer_cred()
        .map_err(|error| format!("the system does not say who you are: {error}"))?;
    let uid = peer.uid();
    socket.admits(uid).ok_or_else(|| {
        info!(uid, "a publisher was refused");
        format!("uid {uid} may not publish here (publish.allowed_uids)")
    })
}

async fn refuse(mut stream: UnixStream, why: &str) -> io::Result<()> {
    let line = [REFUSAL, why.as_bytes(), b"\n"].concat();
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// One publisher.
struct Connection {
    stream: UnixStream,
    publishers: Arc<Publishers>,
    stores: Stores,
    /// Read and not yet cut into frames.
    read: BytesMut,
    /// Batches the journal has yet to answer, oldest first.
    in_flight: VecDeque<InFlight>,
    frames: usize,
    octets: usize,
    /// Nothing more is taken: the publisher has ended, broken the protocol, or was told to stop.
    ended: bool,
    /// Answers to be written.
    out: Vec<u8>,
    demands: Demands,
    /// Where it is told what is wanted, since version 2.
    told: Option<Publisher>,
    /// The numbers of what it was told and hasn't confirmed, oldest first; at most
    /// [`UNCONFIRMED_MAX`].
    unconfirmed: VecDeque<u64>,
}

/// A batch on its way.
struct InFlight {
    slots: Vec<Slot>,
    octets: usize,
    answer: Option<Pending>,
    way: WayIn,
}

/// One frame of a batch.
enum Slot {
    Event(EventIndex),
    Rejected(String),
    /// Not even a frame.
    Broken(TooLong),
}

impl Connection {
    fn new(
        stream: UnixStream,
        publishers: Arc<Publishers>,
        stores: Stores,
        demands: Demands,
    ) -> Self {
        Self {
            stream,
            publishers,
            stores,
            read: BytesMut::new(),
            in_flight: VecDeque::new(),
            frames: 0,
            octets: 0,
            ended: false,
            out: Vec::new(),
            demands,
            told: None,
            unconfirmed: VecDeque::new(),
        }
    }

    async fn serve(mut self, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(GREETING_MAX, self.greet()) => greeted,
            () = stopped(&mut stopping) => return Ok(()),
        };
        match greeted {
            Ok(Ok(Some(greeting))) => {
                if greeting == GREETING_2 {
                    self.told = Some(self.demands.publisher());
                }
                self.stream.write_all(greeting).await?;
            }
            Ok(Ok(None)) => {
                let line = String::from_utf8_lossy(GREETING);
                return refuse(self.stream, &format!("expected {:?} first", line.trim_end())).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return refuse(self.stream, "no greeting came in time").await,
        }
        loop {
            let more = self.take_frames().await;
            if !more && self.ended && self.in_flight.is_empty() {
                return self.stream.shutdown().await;
            }
            self.make_room();
            let room = self.has_room() && !self.ended;
            tokio::select! {
                biased;
                result = answered(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    self.settle(result);
                    while let Some(Some(result)) =
                        (!self.in_flight.is_empty()).then(|| answered(&mut self.in_flight).now_or_never())
                    {
                        self.settle(result);
                    }
                    self.stream.write_all(&self.out).await?;
                    self.out.clear();
                }
                read = self.stream.read_buf(&mut self.read), if room => {
                    self.ended |= read? == 0;
                }
                told = told(&mut self.told), if !self.ended && self.unconfirmed.len() < UNCONFIRMED_MAX => {
                    self.unconfirmed.push_back(told.number);
                    let json = ShownDemand::from(told.demand).to_json();
                    Answer::Demand(&json).write(&mut self.out);
                    self.stream.write_all(&self.out).await?;
                    self.out.clear();
                }
                () = stopped(&mut stopping), if !self.ended => self.ended = true,
            }
        }
    }

    /// The publisher's first line, where it is one of those it must be.
    async fn greet(&mut self) -> io::Result<Option<&'static [u8]>> {
        while self.read.len() < GREETING.len() {
            let begins = |greeting: &&[u8]| greeting.starts_with(&self.read);
            if !GREETINGS.iter().any(begins) || self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
        let said = self.read.split_to(GREETING.len());
        Ok(GREETINGS.into_iter().find(|greeting| said == *greeting))
    }

    /// Takes an empty frame for a confirmation, where there is something to confirm.
    fn confirm(&mut self) -> bool {
        let Some(told) = &self.told else { return false };
        let number = self.unconfirmed.pop_front();
        number.inspect(|number| told.confirm(*number)).is_some()
    }

    /// Whether more may be read ahead of the answers.
    fn has_room(&self) -> bool {
        self.frames < FRAMES_AHEAD_MAX && self.octets < OCTETS_AHEAD_MAX
    }

    /// Takes the whole frames that were read, as far as there is room, and hands them over.
    /// Whether it left some for want of room.
    async fn take_frames(&mut self) -> bool {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut octets = 0;
        let mut broken = None;
        let mut left = false;
        let mut decoder = Decoder::new(&self.read);
        loop {
            let full = self.frames + ranges.len() >= FRAMES_AHEAD_MAX
                || self.octets + octets >= OCTETS_AHEAD_MAX;
            if full {
                left = decoder.clone().next().is_some();
                break;
            }
            match decoder.next() {
                Some(Ok(range)) => {
                    octets += range.len();
                    ranges.push(range);
                }
                Some(Err(error)) => {
                    broken = Some(error);
                    break;
                }
                None => break,
            }
        }
        if ranges.is_empty() && broken.is_none() {
            return left;
        }
        let chunk = self.read.split_to(decoder.consumed()).freeze();
        self.hand_over(&chunk, ranges, octets, broken).await;
        left
    }

    async fn hand_over(
        &mut self,
        chunk: &Bytes,
        ranges: Vec<Range<usize>>,
        octets: usize,
        broken: Option<TooLong>,
    ) {
        let mut way = self.publishers.traces.over_socket();
        way.admitting();
        let mut slots = Vec::with_capacity(ranges.len());
        let mut entries = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.is_empty() && self.confirm() {
                continue;
            }
            slots.push(match self.publishers.admit(&self.stores, chunk.slice(range), None) {
                Ok(taken) => {
                    entries.push(taken.entry);
                    Slot::Event(taken.event)
                }
                Err(error) => Slot::Rejected(error.to_string()),
            });
        }
        if let Some(error) = broken {
            slots.push(Slot::Broken(error));
            self.ended = true;
            self.read.clear();
        }
        way.journalling(
            entries.iter().map(|entry: &Entry| entry.id.0),
            slots.len() - entries.len(),
        );
        let answer = match entries.is_empty() {
            true => None,
            false => Some(self.publishers.submit(entries).await),
        };
        self.frames += slots.len();
        self.octets += octets;
        self.in_flight.push_back(InFlight { slots, octets, answer, way });
    }

    /// Room to read into: a whole frame where one is known to come, growing as it does, so that
    /// a length alone costs nothing.
    fn make_room(&mut self) {
        let mut decoder = Decoder::new(&self.read);
        let wanted = match decoder.next() {
            None => decoder.wanted().min(self.read.len().max(READ_OCTETS)),
            Some(_) => 0,
        };
        let spare = self.read.capacity() - self.read.len();
        if spare < wanted.min(READ_OCTETS / 4) || spare < READ_OCTETS / 4 {
            self.read.reserve(wanted.max(READ_OCTETS));
        }
    }

    /// Writes the answers to the oldest batch.
    fn settle(&mut self, result: Option<Result<Appended, AppendError>>) {
        let Some(mut batch) = self.in_flight.pop_front() else { return };
        self.frames -= batch.slots.len();
        self.octets -= batch.octets;
        if let Some(result) = &result {
            let events = batch.slots.iter().filter_map(|slot| match slot {
                Slot::Event(event) => Some(*event),
                Slot::Rejected(_) | Slot::Broken(_) => None,
            });
            self.publishers.count(events, result);
            let appended = result.as_ref().ok();
            batch.way.journalled(appended.map(|appended| &*appended.verdicts));
        }
        let (mut verdicts, failure) = match &result {
            Some(Ok(appended)) => (appended.verdicts.iter(), None),
            Some(Err(error)) => ([].iter(), Some(error.to_string())),
            None => ([].iter(), None),
        };
        for slot in &batch.slots {
            match slot {
                Slot::Rejected(reason) => Answer::Rejected(reason).write(&mut self.out),
                Slot::Broken(error) => Answer::Stopped(&error.to_string()).write(&mut self.out),
                Slot::Event(_) => match verdicts.next() {
                    Some(Verdict::New(seq)) => Answer::Accepted(seq.0).write(&mut self.out),
                    Some(Verdict::Repeated(seq)) => Answer::Repeated(seq.0).write(&mut self.out),
                    None => {
                        let why = failure.as_deref().unwrap_or("the journal did not answer");
                        Answer::Stopped(why).write(&mut self.out);
                        self.stop();
                        return;
                    }
                },
            }
        }
    }

    /// Takes and answers nothing any more: after one event that was not taken, taking the next
    /// would put them out of order.
    fn stop(&mut self) {
        self.ended = true;
        self.read.clear();
        self.in_flight.clear();
        self.frames = 0;
        self.octets = 0;
    }
}

/// What is wanted, once that has changed; never where it isn't told.
async fn told(publisher: &mut Option<Publisher>) -> Told {
    match publisher {
        Some(publisher) => publisher.next().await,
        None => std::future::pending().await,
    }
}

/// What the journal says to the oldest batch; `None` where it held no event.
async fn answered(in_flight: &mut VecDeque<InFlight>) -> Option<Result<Appended, AppendError>> {
    let pending = in_flight.front_mut()?.answer.as_mut()?;
    let mut pending = Pin::new(pending);
    Some(
        poll_fn(|context| match pending.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => Poll::Ready(result.unwrap_or(Err(AppendError::Closed))),
        })
        .await,
    )
}

/// What a publisher may begin with; all are of the same length.
const GREETINGS: [&[u8]; 2] = [GREETING, GREETING_2];
const _: () = assert!(GREETING.len() == GREETING_2.len());

/// Publishers connected at once. Each may have some 10 MiB on its way.
const PUBLISHERS_MAX: usize = 256;

/// What a publisher may have to confirm at once. Each that is told of a change confirms it soon; one
/// that doesn't is told no more, and once it confirms the last of all changes is what it hears of.
const UNCONFIRMED_MAX: usize = 16;

/// Octets read at once: what a Unix stream's buffer holds, so some 350 events.
const READ_OCTETS: usize = 256 * 1024;

/// How long a publisher may take to greet.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// After a failed accept (no file handles left, mostly): time for one to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long answers under way may take to be written when the hub stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::tests::{demands_at_once, until, wanting};
    use crate::metrics::Metrics;
    use crate::pretend::PretendJournal;
    use postbell_engine::{Demand, Policy};
    use postbell_sources::Health;
    use postbell_sources::publish::frame;

    fn event(host: &str) -> Vec<u8> {
        format!(r#"{{"event":"MailboxDelete","uri":"imap://a@{host}/B","timestamp":"2026-08-20T12:00:00+00:00","mailboxID":"imap://a@{host}/B","user":"a"}}"#)
            .into_bytes()
    }

    /// The next answer, in words.
    async fn answer(client: &mut UnixStream) -> String {
        let mut octets = vec![0; 4];
        client.read_exact(&mut octets).await.unwrap();
        let length = u32::from_be_bytes(octets[..].try_into().unwrap()) as usize;
        octets.resize(4 + length, 0);
        client.read_exact(&mut octets[4..]).await.unwrap();
        format!("{:?}", Answer::read(&octets).unwrap().unwrap().0)
    }

    #[tokio::test]
    async fn r24_a_publisher_that_confirms_nothing_is_told_no_more_until_it_does() {
        let journal = Arc::new(PretendJournal::default());
        let demands = demands_at_once(&journal);
        demands.begin().await;
        until(|| demands.now() == Demand::nothing()).await;
        let metrics = Metrics::new().source("publish");
        let publishers =
            Publishers::new(Arc::clone(&journal) as _, Policy::default(), metrics, Health::new());
        let (mut client, served) = UnixStream::pair().unwrap();
        let (_stopping, stop) = watch::channel(false);
        let connection =
            Connection::new(served, Arc::new(publishers), Stores::any(), demands.clone());
        let serving = tokio::spawn(connection.serve(stop));
        client.write_all(GREETING_2).await.unwrap();
        client.read_exact(&mut vec![0; GREETING_2.len()]).await.unwrap();
        let mut held = None;
        for round in 0..UNCONFIRMED_MAX {
            if round > 0 {
                held = match held {
                    Some(_) => None,
                    None => Some(demands.hold(wanting(&["quota"])).await),
                };
            }
            let told = answer(&mut client).await;
            assert!(told.starts_with("Demand"), "{told}");
            assert_eq!(told.contains("Quota"), held.is_some(), "{told}");
        }
        let _login = demands.hold(wanting(&["Login"])).await;
        let _logout = demands.hold(wanting(&["Logout"])).await;
        let mut said = Vec::new();
        frame(&mut said, &event("own.example"));
        client.write_all(&said).await.unwrap();
        assert!(answer(&mut client).await.starts_with("Accepted"));
        // One is confirmed, and what is told then is how things stand.
        client.write_all(&[0; 4]).await.unwrap();
        let told = answer(&mut client).await;
        assert!(told.contains("Login") && told.contains("Logout"), "{told}");
        drop(client);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn r161_a_user_of_the_machine_speaks_for_the_stores_they_were_let_in_for() {
        let folder = tempfile::tempdir().unwrap();
        let own = Stores::of(&["own.example"]).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let (theirs, nobodys) = (uid + 1, uid + 2);
        let allowed = BTreeMap::from([(theirs, own.clone())]);
        let socket = Socket::bind(folder.path().join("socket"), allowed).unwrap();
        assert_eq!(socket.admits(theirs), Some(own.clone()));
        assert_eq!((socket.admits(uid), socket.admits(nobodys)), (Some(Stores::any()), None));

        let journal = Arc::new(PretendJournal::refusing(Vec::new()));
        let metrics = Metrics::new().source("publish");
        let publishers =
            Publishers::new(Arc::clone(&journal) as _, Policy::default(), metrics, Health::new());
        let (mut client, served) = UnixStream::pair().unwrap();
        let (_stopping, stop) = watch::channel(false);
        let demands = Demands::everything(Arc::clone(&journal) as _);
        let connection = Connection::new(served, Arc::new(publishers), own, demands);
        let serving = tokio::spawn(connection.serve(stop));
        let mut said = GREETING.to_vec();
        for host in ["own.example", "other.example", "OWN.example"] {
            let event = event(host);
            said.extend_from_slice(&u32::try_from(event.len()).unwrap().to_be_bytes());
            said.extend_from_slice(&event);
        }
        client.write_all(&said).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        serving.await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&answers);
        let why = "uri: names the store \"other.example\", and this publisher speaks for \"own.example\" alone";
        assert!(text.contains(why), "{text}");
        assert_eq!(journal.bodies().len(), 2);
    }
}
