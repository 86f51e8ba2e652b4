//! What the canary carries and both sides know: made from a seed, so that it can be compared byte by byte.

use std::io::{self, Read, Write};

/// Argument by which our own binary becomes the canary.
pub(super) const ARGUMENT: &str = "canary";
/// Where the canary finds its listening socket.
pub(super) const LISTENER_FD: i32 = 3;
/// Bytes of memory with a pattern.
pub(super) const MEMORY: usize = 4 * 1024 * 1024;
/// Bytes that wait in the pipe over the dump.
pub(super) const PIPE: usize = 16 * 1024;
/// Most bytes that are sent into the TCP connection and not read before the dump.
pub(super) const MAX_FLIGHT: usize = 2 * 1024 * 1024;
/// Bytes that wait in the other direction of that connection.
pub(super) const BACK: usize = 1000;
/// What the timer is set to, in nanoseconds: far enough never to run out.
pub(super) const TIMER_NS: u64 = 3600 * 1_000_000_000;
/// The canary ends itself after this many seconds, should nobody be left to do so.
pub(super) const LIFETIME_S: u32 = 180;

/// What comes over the control connection.
pub(super) const SEED: u8 = b'S';
pub(super) const READY: u8 = b'R';
pub(super) const FAILED: u8 = b'E';
pub(super) const TELL: u8 = b'T';

/// Separate patterns from one seed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Memory = 1,
    Pipe = 2,
    Flight = 3,
    Back = 4,
}

/// `length` bytes that nobody would come by without the seed (xorshift64*).
pub(super) fn pattern(seed: u64, place: Place, length: usize) -> Vec<u8> {
    let mut state = (seed ^ (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What the canary's thread and child make of a number: proof that they run and remember the seed.
pub(super) fn reply(seed: u64, who: u64, number: u64) -> u64 {
    seed.rotate_left(who as u32) ^ number.wrapping_mul(3)
}

/// What the canary found of itself after the restore.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// What its timer has left, in nanoseconds.
    pub timer_ns: u64,
    /// Answers of the second thread and of the child process.
    pub thread: u64,
    pub child: u64,
    /// Bytes that were sent into the TCP connection before the dump.
    pub flight_sent: u64,
    pub pipe: Vec<u8>,
    pub flight: Vec<u8>,
    pub back: Vec<u8>,
    pub memory: Vec<u8>,
}

impl Findings {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for number in [self.timer_ns, self.thread, self.child, self.flight_sent] {
            to.write_all(&number.to_le_bytes())?;
        }
        for bytes in [&self.pipe, &self.flight, &self.back, &self.memory] {
            to.write_all(&(bytes.len() as u32).to_le_bytes())?;
            to.write_all(bytes)?;
        }
        to.flush()
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        Ok(Self {
            timer_ns: read_u64(from)?,
            thread: read_u64(from)?,
            child: read_u64(from)?,
            flight_sent: read_u64(from)?,
            pipe: read_bytes(from, PIPE)?,
            flight: read_bytes(from, MAX_FLIGHT)?,
            back: read_bytes(from, BACK)?,
            memory: read_bytes(from, MEMORY)?,
        })
    }

    /// The first thing that is not as it was, in words.
    pub(super) fn difference(&self, seed: u64, number: u64) -> Option<String> {
        let flight = usize::try_from(self.flight_sent).ok().filter(|sent| (1..=MAX_FLIGHT).contains(sent));
        let Some(flight) = flight else {
            return Some(format!("{} bytes are said to have been on their way", self.flight_sent));
        };
        let compared = [
            ("its memory", &self.memory, pattern(seed, Place::Memory, MEMORY)),
            ("what waited in its pipe", &self.pipe, pattern(seed, Place::Pipe, PIPE)),
            ("what was on its way over TCP", &self.flight, pattern(seed, Place::Flight, flight)),
            ("what waited over TCP", &self.back, pattern(seed, Place::Back, BACK)),
        ];
        for (what, found, wanted) in compared {
            if *found != wanted {
                let at = found.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
                return Some(format!("{what} differs from byte {at} of {} on", wanted.len()));
            }
        }
        if self.thread != reply(seed, 1, number) {
            return Some("its second thread answers wrongly".to_owned());
        }
        if self.child != reply(seed, 2, number) {
            return Some("its child process answers wrongly".to_owned());
        }
        if self.timer_ns == 0 || self.timer_ns > TIMER_NS {
            return Some(format!("its timer has {} ns left of {TIMER_NS}", self.timer_ns));
        }
        None
    }
}

pub(super) fn read_u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_bytes(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes instead of {most}")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(seed: u64, number: u64) -> Findings {
        Findings {
            timer_ns: TIMER_NS - 5,
            thread: reply(seed, 1, number),
            child: reply(seed, 2, number),
            flight_sent: 5000,
            pipe: pattern(seed, Place::Pipe, PIPE),
            flight: pattern(seed, Place::Flight, 5000),
            back: pattern(seed, Place::Back, BACK),
            memory: pattern(seed, Place::Memory, MEMORY),
        }
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let mut bytes = Vec::new();
        whole(7, 9).write(&mut bytes).unwrap();
        let heard = Findings::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(heard, whole(7, 9));
        assert_eq!(heard.difference(7, 9), None);
        assert!(Findings::read(&mut &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn every_single_difference_is_found() {
        type Spoil = fn(&mut Findings);
        let spoils: [(Spoil, &str); 8] = [
            (|f| f.memory[MEMORY - 1] ^= 1, "its memory differs from byte 4194303"),
            (|f| f.pipe.truncate(5), "pipe differs from byte 5 of"),
            (|f| f.flight[0] ^= 1, "on its way over TCP differs from byte 0"),
            (|f| f.back.clear(), "waited over TCP"),
            (|f| f.thread ^= 1, "thread"),
            (|f| f.child ^= 1, "child"),
            (|f| f.timer_ns = 0, "timer"),
            (|f| f.flight_sent = u64::MAX, "said to have been"),
        ];
        for (spoil, word) in spoils {
            let mut findings = whole(7, 9);
            spoil(&mut findings);
            let difference = findings.difference(7, 9).unwrap();
            assert!(difference.contains(word), "{difference}");
        }
        assert!(whole(7, 9).difference(8, 9).is_some(), "another seed is another canary");
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut bytes = vec![0; 32];
        bytes.extend(u32::MAX.to_le_bytes());
        let error = Findings::read(&mut bytes.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
