//! Reading tar members one after another, from a stream nobody vouches for.

use std::io::{self, Read};

use ::tar::{EntryType, Header};

use super::member::{Kind, Meta, Timestamp};
use super::pax::{self, Records};
use super::{BLOCK, MAX_EXTENDED_HEADER, MAX_SPARSE_SEGMENTS, padding};

/// Longest run of zeros that may follow the end marker: GNU tar fills its last record of 20 blocks.
const MAX_TAIL: u64 = 20 * BLOCK;

/// What is wrong with a tar stream, and where.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed, or ended early (`UnexpectedEof`).
    #[error("cannot read at offset {offset}")]
    Read {
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The bytes at the offset are no member of a kind that transship writes.
    #[error("{fault} at offset {offset}")]
    Malformed { offset: u64, fault: &'static str },
}

/// A member's start. Its contents are read from the [`TarReader`] itself.
#[derive(Debug)]
pub struct Member {
    /// Where its header lies in the stream.
    pub offset: u64,
    pub meta: Meta,
    /// Bytes of contents, holes included.
    pub length: u64,
    /// For a sparse file its data segments (offset, length), in order; their bytes follow without gaps.
    pub segments: Option<Vec<(u64, u64)>>,
}

/// Reads a tar stream. [`Read`] gives the contents of the present member and ends with it.
pub struct TarReader<R> {
    input: R,
    offset: u64,
    remaining: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    /// A stream from `input`.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0 }
    }

    /// The next member; `None` at the end marker. What was not read of the last one is skipped.
    ///
    /// # Errors
    /// When the stream ends without its end marker, or a header is not as it should be.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip_rest()?;
        let offset = self.offset;
        let Some(mut header) = self.header()? else {
            return Ok(None);
        };
        let mut records = Records::default();
        if header.entry_type() == EntryType::XHeader {
            records = self.extended_header(&header, offset)?;
            header = self.header()?.ok_or_else(|| malformed(offset, "extended header without a member"))?;
        }
        let kind = kind(&header).map_err(|fault| malformed(offset, fault))?;
        let size = match records.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| malformed(offset, "malformed size"))?,
        };
        if size != 0 && kind != Kind::File {
            return Err(malformed(offset, "member with contents that is not a file"));
        }
        self.remaining = size;
        self.padding = padding(size);
        let (length, segments) = match records.sparse_length {
            Some(length) => (length, Some(self.sparse_map(offset, length)?)),
            None => (size, None),
        };
        let meta = meta(&header, kind, records).map_err(|fault| malformed(offset, fault))?;
        Ok(Some(Member { offset, meta, length, segments }))
    }

    /// Reads on to the stream's end, which must hold nothing more than the zeros that fill a tar's last record.
    pub fn finish(mut self) -> Result<R, TarError> {
        self.skip_rest()?;
        let mut block = [0; BLOCK as usize];
        let start = self.offset;
        loop {
            let count = self.fill(&mut block)?;
            if block[..count].iter().any(|byte| *byte != 0) || self.offset - start > MAX_TAIL {
                return Err(malformed(start, "data behind the end marker"));
            }
            if count == 0 {
                return Ok(self.input);
            }
        }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let offset = self.offset;
        let mut header = Header::new_old();
        let count = self.fill(header.as_mut_bytes())?;
        if count as u64 != BLOCK {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends without its end marker");
            return Err(TarError::Read { offset: self.offset, source });
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !header.cksum().is_ok_and(|stored| stored == checksum(&header)) {
            return Err(malformed(offset, "header with a wrong checksum"));
        }
        if header.as_ustar().is_none() {
            return Err(malformed(offset, "header that is not POSIX ustar"));
        }
        Ok(Some(header))
    }

    fn extended_header(&mut self, header: &Header, offset: u64) -> Result<Records, TarError> {
        let size = header.entry_size().map_err(|_| malformed(offset, "malformed size"))?;
        if size > MAX_EXTENDED_HEADER {
            return Err(malformed(offset, "extended header over the limit"));
        }
        self.remaining = size;
        self.padding = padding(size);
        // Grows with what really comes.
        let mut data = Vec::new();
        let start = self.offset;
        self.by_ref().take(size).read_to_end(&mut data).map_err(|source| TarError::Read { offset: start, source })?;
        self.skip_rest()?;
        pax::parse(&data).map_err(|fault| malformed(offset, fault))
    }

    /// The map in front of a sparse file's data: decimal lines, filled with NULs to a block.
    fn sparse_map(&mut self, offset: u64, length: u64) -> Result<Vec<(u64, u64)>, TarError> {
        let before = self.remaining;
        let fault = |fault| malformed(offset, fault);
        let count = self.decimal_line(offset)?;
        if count > MAX_SPARSE_SEGMENTS as u64 {
            return Err(fault("sparse file with too many segments"));
        }
        let mut segments = Vec::new();
        let (mut end, mut data) = (0, 0u64);
        for _ in 0..count {
            let (start, size) = (self.decimal_line(offset)?, self.decimal_line(offset)?);
            if start < end {
                return Err(fault("sparse file with overlapping segments"));
            }
            end = start.checked_add(size).filter(|end| *end <= length).ok_or(fault("segment behind the file's end"))?;
            // Cannot overflow: disjoint parts of `length`.
            data += size;
            segments.push((start, size));
        }
        let fill = padding(before - self.remaining);
        io::copy(&mut self.by_ref().take(fill), &mut io::sink()).map_err(|source| TarError::Read { offset, source })?;
        if self.remaining != data {
            return Err(fault("sparse file whose map and size disagree"));
        }
        Ok(segments)
    }

    fn decimal_line(&mut self, offset: u64) -> Result<u64, TarError> {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            self.read_exact(&mut byte).map_err(|source| TarError::Read { offset, source })?;
            match byte[0] {
                b'\n' if !text.is_empty() => break,
                digit if digit.is_ascii_digit() && text.len() < 20 => text.push(digit),
                _ => return Err(malformed(offset, "malformed sparse map")),
            }
        }
        pax::number(&text).ok_or_else(|| malformed(offset, "malformed sparse map"))
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let count = u128::from(self.remaining) + u128::from(self.padding);
        let count = u64::try_from(count).map_err(|_| malformed(self.offset, "member beyond any size"))?;
        (self.remaining, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())
            .map_err(|source| TarError::Read { offset: self.offset, source })?;
        self.offset += skipped;
        if skipped < count {
            return Err(TarError::Read { offset: self.offset, source: io::ErrorKind::UnexpectedEof.into() });
        }
        Ok(())
    }

    /// Reads until `buffer` is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut count = 0;
        while count < buffer.len() {
            match self.input.read(&mut buffer[count..]) {
                Ok(0) => break,
                Ok(more) => {
                    count += more;
                    self.offset += more as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Read { offset: self.offset, source });
                }
            }
        }
        Ok(count)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.remaining.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.remaining -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

fn malformed(offset: u64, fault: &'static str) -> TarError {
    TarError::Malformed { offset, fault }
}

/// The sum of all bytes, the checksum's own eight counted as blanks.
fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes();
    bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ')
}

fn kind(header: &Header) -> Result<Kind, &'static str> {
    let device = || match (header.device_major(), header.device_minor()) {
        (Ok(Some(major)), Ok(Some(minor))) => Ok((major, minor)),
        _ => Err("malformed device number"),
    };
    Ok(match header.entry_type() {
        EntryType::Regular => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        _ => return Err("member of an unsupported type"),
    })
}

fn meta(header: &Header, kind: Kind, records: Records) -> Result<Meta, &'static str> {
    let fields = header.as_old();
    let path = records.sparse_path.or(records.path).unwrap_or_else(|| until_nul(&fields.name));
    let link = records.link.unwrap_or_else(|| until_nul(&fields.linkname));
    if path.contains(&0) || link.contains(&0) {
        return Err("name with a NUL");
    }
    let mtime = match records.mtime {
        Some(mtime) => mtime,
        None => {
            let seconds = header.mtime().ok().and_then(|mtime| i64::try_from(mtime).ok());
            Timestamp { seconds: seconds.ok_or("malformed time")?, nanoseconds: 0 }
        }
    };
    Ok(Meta {
        path,
        kind,
        link,
        mode: header.mode().map_err(|_| "malformed mode")? & 0o7777,
        uid: records.uid.map_or_else(|| header.uid(), Ok).map_err(|_| "malformed user id")?,
        gid: records.gid.map_or_else(|| header.gid(), Ok).map_err(|_| "malformed group id")?,
        mtime,
        xattrs: records.xattrs,
    })
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
