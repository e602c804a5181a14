//! A publisher on the hub's Unix stream that costs next to nothing: frames made beforehand.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Events as frames of the publisher protocol, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Frames {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Frames {
    /// Frames of `events`.
    pub(super) fn new(events: &[String]) -> anyhow::Result<Self> {
        let mut frames = Self::default();
        for event in events {
            frames.octets.extend_from_slice(&u32::try_from(event.len())?.to_be_bytes());
            frames.octets.extend_from_slice(event.as_bytes());
            frames.ends.push(frames.octets.len());
        }
        Ok(frames)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All of them.
    fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Each of them.
    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).filter_map(|(begin, end)| self.octets.get(begin..*end))
    }
}

/// Connects to `socket` and greets.
pub(super) fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(GREETING)?;
    let mut answer = vec![0; GREETING.len()];
    stream.read_exact(&mut answer).context("the hub did not greet back")?;
    if answer != GREETING {
        bail!("the hub answered {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(stream)
}

/// Writes all frames `rounds` times over, as fast as they are taken.
pub(super) fn write_all(
    stream: &mut UnixStream,
    frames: &Frames,
    rounds: usize,
) -> anyhow::Result<()> {
    for _ in 0..rounds {
        for piece in frames.octets().chunks(WRITE_OCTETS) {
            stream.write_all(piece)?;
        }
    }
    Ok(())
}

/// Reads acknowledgements until there were `count`, each of an accepted event.
pub(super) fn read_all(stream: &mut UnixStream, count: usize) -> anyhow::Result<()> {
    let mut answers = Answers::new();
    let mut seen = 0;
    while seen < count {
        seen += answers.read(stream)?;
    }
    Ok(())
}

/// Writes each frame by itself, never with more than `window` unacknowledged; gives how long
/// each acknowledgement took.
pub(super) fn one_by_one(
    stream: &mut UnixStream,
    frames: &Frames,
    window: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut answers = Answers::new();
    let mut sent_at = Vec::with_capacity(frames.len());
    let mut times = Vec::with_capacity(frames.len());
    let mut frames = frames.each().peekable();
    while frames.peek().is_some() || times.len() < sent_at.len() {
        while sent_at.len() - times.len() < window {
            let Some(frame) = frames.next() else { break };
            sent_at.push(Instant::now());
            stream.write_all(frame)?;
        }
        let got = answers.read(stream)?;
        let now = Instant::now();
        let first = times.len();
        times.extend(sent_at.iter().skip(first).take(got).map(|sent| now - *sent));
    }
    Ok(times)
}

/// Reads the hub's answers, which may come in pieces.
#[derive(Debug)]
struct Answers {
    buffer: Vec<u8>,
    filled: usize,
}

impl Answers {
    fn new() -> Self {
        Self { buffer: vec![0; READ_OCTETS], filled: 0 }
    }

    /// Reads once; how many answers are complete with it.
    fn read(&mut self, stream: &mut UnixStream) -> anyhow::Result<usize> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let got = stream.read(room).context("waiting for an acknowledgement")?;
        if got == 0 {
            bail!("the hub closed the publisher's connection");
        }
        self.filled += got;
        let (mut at, mut count) = (0, 0);
        while let Some((length, rest)) =
            self.buffer.get(at..self.filled).unwrap_or_default().split_first_chunk::<4>()
        {
            let length = usize::try_from(u32::from_be_bytes(*length))?;
            let Some(answer) = rest.get(..length) else { break };
            if answer.first() != Some(&ACCEPTED) {
                let text = answer.get(1..).unwrap_or_default();
                bail!("not accepted: {:?} {}", answer.first(), String::from_utf8_lossy(text));
            }
            at += 4 + length;
            count += 1;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(count)
    }
}

/// The verdict of an event that is journalled now.
const ACCEPTED: u8 = 0;
/// How both ends begin.
const GREETING: &[u8] = b"postbell-publish 1\n";
/// How long an acknowledgement may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read at once.
const READ_OCTETS: usize = 64 * 1024;
/// Written at once: some hundred events.
const WRITE_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdict: u8, seq: u64) -> Vec<u8> {
        let mut frame = 9_u32.to_be_bytes().to_vec();
        frame.push(verdict);
        frame.extend(seq.to_be_bytes());
        frame
    }

    #[test]
    fn answers_cut_anywhere_are_counted_once() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut answers = Answers::new();
        let text = [answer(0, 1), answer(0, 2)].concat();
        theirs.write_all(&text[..15]).unwrap();
        assert_eq!(answers.read(&mut ours).unwrap(), 1);
        theirs.write_all(&text[15..]).unwrap();
        assert_eq!(answers.read(&mut ours).unwrap(), 1);
        theirs.write_all(&answer(1, 3)).unwrap();
        assert!(answers.read(&mut ours).is_err());
    }

    #[test]
    fn frames_are_the_events_behind_their_lengths() {
        let frames = Frames::new(&["ab".to_owned(), "c".to_owned()]).unwrap();
        let each: Vec<_> = frames.each().collect();
        assert_eq!(each, [&b"\0\0\0\x02ab"[..], b"\0\0\0\x01c"]);
        assert_eq!(frames.octets(), each.concat());
    }
}
