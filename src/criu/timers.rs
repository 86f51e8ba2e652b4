//! Periodic timers (`timerfd`) that had expired when they were dumped, kept alive.
//!
//! Such a timer counts its next period only from the moment it is read; until then the kernel reports that no time
//! remains. CRIU stores that as it is and hands it back to `timerfd_settime`, where an initial value of zero disarms:
//! the restored process reads once what had expired and then waits for ever. With one nanosecond instead, the timer
//! expires at once and is where it was.
//!
//! A timer that its process has disarmed without taking back the interval shows no remaining time either, but no
//! expiration (`ticks`); it is left alone. One-shot timers need nothing: CRIU stores how often
//! they expired (`ticks`) and puts that back after `timerfd_settime`.
//!
//! An image is two magic numbers and entries, all little-endian:
//!
//! ```text
//!   u32 0x54564319 (any image)  u32 magic  (u32 length  protobuf)*
//! ```
//!
//! Sources: CRIU's `images/fdinfo.proto`, `images/timerfd.proto`, `criu/include/magic.h`. CRIU writes zeros out, so
//! that a number changes in place; nothing else of the file is touched.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One image per kind of entry that timers are in.
const KINDS: [Kind; 2] = [
    Kind { name: "files.img", magic: 0x5630_3138, timer: Some(12) },
    // Until CRIU 3.3.
    Kind { name: "timerfd.img", magic: 0x5049_3712, timer: None },
];
const COMMON_MAGIC: u32 = 0x5456_4319;
/// Longest entry taken, in bytes. An epoll file that watches 100 000 others has about 4 million.
const MAX_ENTRY: u64 = 64 << 20;
const MAX_VARINT: usize = 10;
// Fields of a `timerfd_entry`.
const TICKS: u64 = 5;
const VALUE_SECONDS: u64 = 7;
const VALUE_NANOSECONDS: u64 = 8;
const INTERVAL_SECONDS: u64 = 9;
const INTERVAL_NANOSECONDS: u64 = 10;

/// Why the timers of a dump cannot be seen to.
#[derive(Debug, Error)]
pub enum TimerError {
    #[error("cannot read CRIU's image {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot set a timer in CRIU's image {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("CRIU's image {} is malformed at byte {offset}: {what}", path.display())]
    Malformed { path: PathBuf, offset: u64, what: &'static str },
}

/// Sets the periodic timers in the dump in `images` that had expired so that they run on when they are restored.
/// Returns how many; a second call finds none. An image is changed only if all of it can be understood.
pub fn rearm_expired(images: &Path) -> Result<usize, TimerError> {
    KINDS.iter().map(|kind| rearm(&images.join(kind.name), kind)).sum()
}

/// An image file that has timers among its entries, or as its entries.
struct Kind {
    name: &'static str,
    magic: u32,
    /// The field of an entry that is the timer; `None` if the entry is one itself.
    timer: Option<u64>,
}

/// One byte to be written.
#[derive(Clone, Copy)]
struct Patch {
    offset: u64,
    byte: u8,
}

enum Fault {
    Io(io::Error),
    Malformed(Malformed),
}

struct Malformed {
    offset: u64,
    what: &'static str,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Fault {
    fn of(self, path: &Path) -> TimerError {
        let path = path.to_path_buf();
        match self {
            Self::Io(source) => TimerError::Read { path, source },
            Self::Malformed(Malformed { offset, what }) => TimerError::Malformed { path, offset, what },
        }
    }
}

fn rearm(path: &Path, kind: &Kind) -> Result<usize, TimerError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(|error| Fault::Io(error).of(path))?,
    };
    let patches = find(&file, kind).map_err(|fault| fault.of(path))?;
    for patch in &patches {
        let written = file.write_all_at(&[patch.byte], patch.offset);
        written.map_err(|source| TimerError::Write { path: path.to_path_buf(), source })?;
    }
    Ok(patches.len())
}

/// What has to be written into an image.
fn find(file: &File, kind: &Kind) -> Result<Vec<Patch>, Fault> {
    let mut image = Image::open(file)?;
    for magic in [COMMON_MAGIC, kind.magic] {
        let offset = image.offset;
        if image.word()? != magic {
            return Err(Malformed { offset, what: "an unknown magic number" }.into());
        }
    }
    let mut patches = Vec::new();
    let mut entry = Vec::new();
    while image.left() > 0 {
        let offset = image.entry(&mut entry)?;
        find_in_entry(Message { rest: &entry, offset }, kind, &mut patches)?;
    }
    Ok(patches)
}

fn find_in_entry(mut entry: Message<'_>, kind: &Kind, patches: &mut Vec<Patch>) -> Result<(), Malformed> {
    let Some(timer) = kind.timer else {
        patches.extend(find_in_timer(entry)?);
        return Ok(());
    };
    while let Some(field) = entry.next()? {
        if let (true, Value::Bytes(message)) = (field.number == timer, field.value) {
            patches.extend(find_in_timer(message)?);
        }
    }
    Ok(())
}

fn find_in_timer(mut timer: Message<'_>) -> Result<Option<Patch>, Malformed> {
    let begin = timer.offset;
    let (mut value, mut interval, mut ticks) = ([0, 0], [0, 0], 0);
    let mut patch = None;
    while let Some(Field { number, value: content }) = timer.next()? {
        let Value::Number { number: content, offset, first } = content else { continue };
        match number {
            TICKS => ticks = content,
            VALUE_SECONDS => value[0] = content,
            VALUE_NANOSECONDS => {
                value[1] = content;
                // The lowest bits come first, whatever number of bytes a zero was spread over.
                patch = Some(Patch { offset, byte: first | 1 });
            }
            INTERVAL_SECONDS => interval[0] = content,
            INTERVAL_NANOSECONDS => interval[1] = content,
            _ => {}
        }
    }
    if value != [0, 0] || interval == [0, 0] || ticks == 0 {
        return Ok(None);
    }
    patch.map(Some).ok_or(Malformed { offset: begin, what: "a timer without a value" })
}

/// An image, read from front to back.
struct Image<'a> {
    reader: BufReader<&'a File>,
    offset: u64,
    length: u64,
}

impl<'a> Image<'a> {
    fn open(file: &'a File) -> Result<Self, Fault> {
        let length = file.metadata().map_err(Fault::Io)?.len();
        Ok(Self { reader: BufReader::new(file), offset: 0, length })
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    fn word(&mut self) -> Result<u32, Fault> {
        let mut word = [0; 4];
        if self.left() < word.len() as u64 {
            return Err(Malformed { offset: self.offset, what: "the file is cut short" }.into());
        }
        self.fill(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// Reads the next entry. Returns where it begins.
    fn entry(&mut self, entry: &mut Vec<u8>) -> Result<u64, Fault> {
        let offset = self.offset;
        let length = u64::from(self.word()?);
        if length > self.left() {
            return Err(Malformed { offset, what: "the entry is cut short" }.into());
        }
        if length > MAX_ENTRY {
            return Err(Malformed { offset, what: "the entry is too long" }.into());
        }
        let begin = self.offset;
        entry.resize(length as usize, 0);
        self.fill(entry)?;
        Ok(begin)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.reader.read_exact(bytes).map_err(Fault::Io)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// What is left of a protobuf message, and where in the file that begins.
struct Message<'a> {
    rest: &'a [u8],
    offset: u64,
}

struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

enum Value<'a> {
    /// A number, where in the file it is, and the first byte of it.
    Number {
        number: u64,
        offset: u64,
        first: u8,
    },
    Bytes(Message<'a>),
    /// Of a fixed length; no field looked at is.
    Fixed,
}

impl<'a> Message<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => self.number()?,
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed { offset, what: "a field of an unknown type" }),
        };
        Ok(Some(Field { number: tag >> 3, value }))
    }

    fn number(&mut self) -> Result<Value<'a>, Malformed> {
        let (offset, first) = (self.offset, self.rest.first().copied().unwrap_or_default());
        Ok(Value::Number { number: self.varint()?, offset, first })
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let failed = |what| Malformed { offset: self.offset, what };
        let mut value: u64 = 0;
        for (index, byte) in self.rest.iter().take(MAX_VARINT).enumerate() {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index as u32;
            if bits << shift >> shift != bits {
                return Err(failed("a number is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                self.take(index as u64 + 1)?;
                return Ok(value);
            }
        }
        Err(failed(if self.rest.len() < MAX_VARINT { "a number is cut short" } else { "a number is too long" }))
    }

    fn take(&mut self, length: u64) -> Result<Self, Malformed> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or(Malformed { offset: self.offset, what: "a field is cut short" })?;
        let taken = Self { rest: taken, offset: self.offset };
        (self.rest, self.offset) = (rest, self.offset + length);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &Kind = &KINDS[0];
    const TIMERS: &Kind = &KINDS[1];

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    fn message(field: u64, inner: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(inner.len() as u64), inner.to_vec()].concat()
    }

    /// As CRIU writes it, in the order of the fields.
    fn timer(ticks: u64, value: (u64, u64), interval: (u64, u64)) -> Vec<u8> {
        let mut bytes = [number(1, 300), number(2, 2), message(3, &number(1, 0)), number(4, 1)].concat();
        let numbers = [(5, ticks), (6, 0), (7, value.0), (8, value.1), (9, interval.0), (10, interval.1)];
        bytes.extend(numbers.iter().flat_map(|(field, value)| number(*field, *value)));
        bytes
    }

    fn file_entry(timer: &[u8]) -> Vec<u8> {
        [number(1, 17), number(2, 300), message(12, timer)].concat()
    }

    /// A regular file, with fields that no timer has: of fixed lengths, unknown, and what looks like a timer's.
    fn other_entry() -> Vec<u8> {
        let fixed = [varint(50 << 3 | 1), vec![7; 8], varint(50 << 3 | 5), vec![7; 4]].concat();
        [number(1, 1), number(2, 5), fixed, message(3, &timer(1, (0, 0), (1, 0))), number(12, 0)].concat()
    }

    fn image(kind: &Kind, entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [COMMON_MAGIC.to_le_bytes(), kind.magic.to_le_bytes()].concat();
        for entry in entries {
            bytes.extend((entry.len() as u32).to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    /// The result, and the file as it is then.
    fn rearmed(kind: &Kind, bytes: &[u8]) -> (Result<usize, TimerError>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(kind.name);
        std::fs::write(&path, bytes).unwrap();
        (rearm_expired(directory.path()), std::fs::read(&path).unwrap())
    }

    fn malformed(kind: &Kind, bytes: &[u8]) -> (u64, &'static str) {
        let (result, after) = rearmed(kind, bytes);
        assert_eq!(after, bytes, "a malformed file is left alone");
        match result {
            Err(TimerError::Malformed { path, offset, what }) if path.ends_with(kind.name) => (offset, what),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn expired_periodic_timers_are_set_and_nothing_else() {
        let entries = |nanoseconds| {
            vec![
                other_entry(),
                file_entry(&timer(1, (0, nanoseconds), (0, 10_000_000))),
                file_entry(&timer(0, (0, 5), (0, 10_000_000))),
                file_entry(&timer(2, (3, 0), (1, 0))),
                file_entry(&timer(0, (0, 0), (1, 0))),
                other_entry(),
            ]
        };
        let (result, after) = rearmed(FILES, &image(FILES, &entries(0)));
        assert_eq!(result.unwrap(), 1);
        assert_eq!(after, image(FILES, &entries(1)));
        assert_eq!(rearmed(FILES, &after).0.unwrap(), 0);
    }

    #[test]
    fn one_shot_timers_stay_as_they_are() {
        let before = image(FILES, &[file_entry(&timer(1, (0, 0), (0, 0))), file_entry(&timer(0, (0, 0), (0, 0)))]);
        let (result, after) = rearmed(FILES, &before);
        assert_eq!((result.unwrap(), after), (0, before));
    }

    #[test]
    fn an_image_of_timers_alone_is_seen_to() {
        let before = image(TIMERS, &[timer(1, (0, 0), (0, 7)), timer(1, (0, 0), (0, 0))]);
        let (result, after) = rearmed(TIMERS, &before);
        assert_eq!(result.unwrap(), 1);
        assert_eq!(after, image(TIMERS, &[timer(1, (0, 1), (0, 7)), timer(1, (0, 0), (0, 0))]));
    }

    #[test]
    fn a_zero_of_many_bytes_becomes_a_one_of_as_many() {
        let with = |first| [number(5, 1), number(7, 0), vec![8 << 3, first, 0x80, 0], number(9, 1)].concat();
        let (result, after) = rearmed(TIMERS, &image(TIMERS, &[with(0x80)]));
        assert_eq!((result.unwrap(), after), (1, image(TIMERS, &[with(0x81)])));
    }

    #[test]
    fn without_images_there_are_no_timers() {
        assert_eq!(rearm_expired(tempfile::tempdir().unwrap().path()).unwrap(), 0);
        assert_eq!(rearmed(FILES, &image(FILES, &[])).0.unwrap(), 0);
        assert_eq!(rearmed(FILES, &image(FILES, &[vec![]])).0.unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(FILES.name)).unwrap();
        let error = rearm_expired(directory.path()).unwrap_err();
        assert!(matches!(&error, TimerError::Read { path, .. } if path.ends_with(FILES.name)), "{error:?}");
    }

    #[test]
    fn every_truncation_is_an_error_that_changes_nothing() {
        let expired = file_entry(&timer(1, (0, 0), (0, 10_000_000)));
        let first = image(FILES, std::slice::from_ref(&expired)).len();
        let whole = image(FILES, &[expired.clone(), expired]);
        for length in (0..whole.len()).filter(|length| *length != 8 && *length != first) {
            assert!(malformed(FILES, &whole[..length]).0 <= length as u64, "{length}");
        }
    }

    #[test]
    fn messages_cut_short_inside_a_whole_entry_are_errors() {
        let expired = file_entry(&timer(1, (0, 0), (0, 10_000_000)));
        // Between fields an entry may end.
        let ends = [0, number(1, 17).len(), [number(1, 17), number(2, 300)].concat().len()];
        for length in (0..expired.len()).filter(|length| !ends.contains(length)) {
            malformed(FILES, &image(FILES, &[expired.clone(), expired[..length].to_vec()]));
        }
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let entry = |bytes: &[u8]| image(TIMERS, &[bytes.to_vec()]);
        assert_eq!(malformed(FILES, b"no image at all"), (0, "an unknown magic number"));
        assert_eq!(malformed(FILES, &image(TIMERS, &[])), (4, "an unknown magic number"));
        assert_eq!(malformed(TIMERS, &entry(&[1 << 3 | 3])), (12, "a field of an unknown type"));
        assert_eq!(malformed(TIMERS, &entry(&[8, 0x80])), (13, "a number is cut short"));
        assert_eq!(malformed(TIMERS, &entry(&[&[8][..], &[0x80; 10]].concat())), (13, "a number is too long"));
        assert_eq!(malformed(TIMERS, &entry(&[&[8][..], &[0xff; 9], &[2]].concat())), (13, "a number is too large"));
        assert_eq!(malformed(TIMERS, &entry(&message(3, &[0; 4])[..4])), (14, "a field is cut short"));
        assert_eq!(malformed(TIMERS, &entry(&[number(5, 1), number(9, 1)].concat())), (12, "a timer without a value"));
        let endless = [&[3 << 3 | 2][..], &varint(u64::MAX)].concat();
        assert_eq!(malformed(TIMERS, &entry(&endless)), (23, "a field is cut short"));
    }

    #[test]
    fn lengths_of_entries_are_not_believed() {
        let mut lying = image(FILES, &[other_entry()]);
        lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(malformed(FILES, &lying), (8, "the entry is cut short"));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILES.name);
        std::fs::write(&path, &lying).unwrap();
        // A hole, so that the length is true and too much.
        OpenOptions::new().write(true).open(&path).unwrap().set_len(12 + u64::from(u32::MAX)).unwrap();
        let error = rearm_expired(directory.path()).unwrap_err();
        assert!(matches!(error, TimerError::Malformed { offset: 8, what: "the entry is too long", .. }), "{error:?}");
    }
}
