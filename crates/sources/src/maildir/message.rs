//! What is read of one message, as far as anybody may have it.

use std::fs::File;
use std::io::{self, Read as _};

use mail_event::MessageContent;
use postbell_engine::Demand;

use super::body_structure::body_structure;

/// What an event may carry of a message.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Length of BODY[] in octets, line ends as CRLF (R121).
    pub(super) size_octets: Option<u64>,
    pub(super) body_structure: Option<String>,
    pub(super) content: Option<MessageContent>,
}

/// What the operator lets be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) body_structure: bool,
    pub(super) content_max_octets: Option<u64>,
}

impl Wanted {
    /// As much of it as anybody wants.
    pub(super) fn by(self, demand: Demand) -> Self {
        Self {
            body_structure: self.body_structure && demand.body_structure(),
            content_max_octets: self
                .content_max_octets
                .and_then(|max| Some(max.min(demand.content_max_octets()?))),
        }
    }
}

/// Reads a message of `file_octets`; `told_size` is its size with CRLF line ends, if the name
/// tells it.
pub(super) fn read(
    file: &mut File,
    file_octets: u64,
    told_size: Option<u64>,
    wanted: Wanted,
) -> io::Result<Read> {
    let wants_content = wanted.content_max_octets.is_some_and(|max| file_octets <= max);
    let whole = file_octets <= MESSAGE_OCTETS_MAX && (wanted.body_structure || wants_content);
    if !whole {
        let size_octets = match told_size {
            Some(size) => size,
            None => counted(file)?,
        };
        return Ok(Read { size_octets: Some(size_octets), ..Read::default() });
    }
    let message = with_crlf(file)?;
    let size = message.len() as u64;
    let body_structure = wanted.body_structure.then(|| body_structure(&message));
    let content = wanted.content_max_octets.is_some_and(|max| size <= max);
    let content = content.then(|| MessageContent::new(message));
    Ok(Read { size_octets: Some(size), body_structure, content })
}

/// The size with CRLF line ends, in bounded memory.
fn counted(file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let (mut octets, mut before) = (0_u64, 0_u8);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(octets);
        }
        for byte in buffer.iter().take(count) {
            octets += 1 + u64::from(*byte == b'\n' && before != b'\r');
            before = *byte;
        }
    }
}

fn with_crlf(file: &mut File) -> io::Result<Vec<u8>> {
    let mut stored = Vec::new();
    // It may grow while it is read; no honest message does.
    io::Read::take(file, MESSAGE_OCTETS_MAX).read_to_end(&mut stored)?;
    let mut message = Vec::with_capacity(stored.len() + stored.len() / 32);
    let mut before = 0_u8;
    for byte in stored {
        if byte == b'\n' && before != b'\r' {
            message.push(b'\r');
        }
        message.push(byte);
        before = byte;
    }
    Ok(message)
}

/// The largest message read into memory; of a larger one only the size is told. Beyond what mail
/// servers take by default.
const MESSAGE_OCTETS_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use postbell_testkit::mail;

    fn read_stored(stored: &[u8], wanted: Wanted) -> Read {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, stored).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        read(&mut file, stored.len() as u64, None, wanted).unwrap()
    }

    #[test]
    fn r121_the_size_is_that_of_the_message_with_crlf() {
        let message = mail::with_attachment("one");
        for stored in [message.clone(), mail::with_bare_lf(&message)] {
            let told = read_stored(&stored, Wanted::default());
            assert_eq!(told.size_octets, Some(message.len() as u64));
            assert!(told.body_structure.is_none() && told.content.is_none());
            let wanted = Wanted { body_structure: true, content_max_octets: None };
            assert_eq!(read_stored(&stored, wanted).size_octets, Some(message.len() as u64));
        }
    }

    #[test]
    fn r44_r119_content_is_whole_or_absent() {
        let message = mail::plain("one");
        let size = message.len() as u64;
        let stored = mail::with_bare_lf(&message);
        for (max, there) in [(size, true), (size - 1, false), (0, false)] {
            let wanted = Wanted { body_structure: false, content_max_octets: Some(max) };
            let content = read_stored(&stored, wanted).content;
            assert_eq!(
                content.map(|content| content.as_bytes().to_vec()),
                there.then(|| message.clone())
            );
        }
    }
}
