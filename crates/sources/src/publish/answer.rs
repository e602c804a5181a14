//! What the hub answers to a frame.

/// What became of one event; or, unasked, what is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<'a> {
    /// It is the record with this number, and durable.
    Accepted(u64),
    /// It was there already, under this number.
    Repeated(u64),
    /// It is no event; sending it again would change nothing. The reason, for a person.
    Rejected(&'a str),
    /// It was not taken, nor will be what follows: the connection ends. The reason, for a person.
    Stopped(&'a str),
    /// What anybody wants from now on, as JSON, in version 2: no answer to a frame. It is in force once
    /// an empty frame has confirmed it.
    Demand(&'a str),
}

/// Octets that are no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an answer to a frame")]
pub struct InvalidAnswer;

impl<'a> Answer<'a> {
    /// Appends the answer: the length of what follows, the verdict, and the number or the reason.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Accepted(seq) => numbered(out, ACCEPTED, seq),
            Self::Repeated(seq) => numbered(out, REPEATED, seq),
            Self::Rejected(reason) => reasoned(out, REJECTED, reason),
            Self::Stopped(reason) => reasoned(out, STOPPED, reason),
            Self::Demand(json) => reasoned(out, DEMAND, json),
        }
    }

    /// Reads the answer at the start of `buffer` and says how many octets it took; `None` where
    /// it isn't whole yet.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn read(buffer: &'a [u8]) -> Result<Option<(Self, usize)>, InvalidAnswer> {
        let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| InvalidAnswer)?;
        if length == 0 || length > ANSWER_OCTETS_MAX {
            return Err(InvalidAnswer);
        }
        let Some((verdict, value)) = rest.get(..length).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let number = || value.try_into().map(u64::from_be_bytes).map_err(|_| InvalidAnswer);
        let reason = || std::str::from_utf8(value).map_err(|_| InvalidAnswer);
        let answer = match *verdict {
            ACCEPTED => Self::Accepted(number()?),
            REPEATED => Self::Repeated(number()?),
            REJECTED => Self::Rejected(reason()?),
            STOPPED => Self::Stopped(reason()?),
            DEMAND => Self::Demand(reason()?),
            _ => return Err(InvalidAnswer),
        };
        Ok(Some((answer, 4 + length)))
    }
}

fn numbered(out: &mut Vec<u8>, verdict: u8, seq: u64) {
    out.extend_from_slice(&[0, 0, 0, 9, verdict]);
    out.extend_from_slice(&seq.to_be_bytes());
}

fn reasoned(out: &mut Vec<u8>, verdict: u8, reason: &str) {
    let end = reason.floor_char_boundary(ANSWER_OCTETS_MAX - 1);
    let reason = reason.get(..end).unwrap_or_default();
    // A few hundred octets always fit.
    let length = u32::try_from(reason.len() + 1).unwrap_or(1);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(verdict);
    out.extend_from_slice(reason.as_bytes());
}

const ACCEPTED: u8 = 0;
const REPEATED: u8 = 1;
const REJECTED: u8 = 2;
const STOPPED: u8 = 3;
const DEMAND: u8 = 4;

/// The longest answer, in octets after its length: a reason names one parameter and what is
/// wrong with it, and a demand names each event once.
const ANSWER_OCTETS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_went_and_only_whole() {
        for answer in [
            Answer::Accepted(1),
            Answer::Repeated(u64::MAX),
            Answer::Rejected("uri: missing"),
            Answer::Stopped(""),
            Answer::Demand("{}"),
        ] {
            let mut out = Vec::new();
            answer.write(&mut out);
            for end in 0..out.len() {
                assert_eq!(Answer::read(&out[..end]), Ok(None), "{answer:?} {end}");
            }
            assert_eq!(Answer::read(&out), Ok(Some((answer, out.len()))));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let mut out = Vec::new();
        let reason = "ä".repeat(2000);
        Answer::Rejected(&reason).write(&mut out);
        let (answer, octets) = Answer::read(&out).unwrap().unwrap();
        assert!(octets <= 4 + ANSWER_OCTETS_MAX);
        assert!(matches!(answer, Answer::Rejected(cut) if reason.starts_with(cut)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for octets in [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 9], &[0, 0, 0, 2, 0, 0], &[255, 0, 0, 0]] {
            assert_eq!(Answer::read(octets), Err(InvalidAnswer), "{octets:?}");
        }
    }
}
