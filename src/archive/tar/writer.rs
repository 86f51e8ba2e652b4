//! Writing tar members one after another.

use std::io::{self, Write};

use ::tar::{EntryType, Header};

use super::member::{Kind, Meta};
use super::{BLOCK, MAX_EXTENDED_HEADER, padding, pax};

/// Largest number an octal field of 12 bytes holds (sizes and times).
const MAX_OCTAL_11: u64 = 0o77_777_777_777;
/// Largest number an octal field of 8 bytes holds (ids).
const MAX_OCTAL_7: u64 = 0o7_777_777;

/// Writes a tar stream. After [`TarWriter::member`], exactly that many bytes of contents are written into it.
pub struct TarWriter<W> {
    out: W,
    /// Bytes of the present member still to be written.
    remaining: u64,
    padding: u64,
}

impl<W: Write> TarWriter<W> {
    /// A stream into `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self {
            out,
            remaining: 0,
            padding: 0,
        }
    }

    /// Starts a member whose contents have `size` bytes.
    ///
    /// # Errors
    /// When the last member has not got all its bytes, when the metadata does not fit an extended header, or
    /// when `out` fails.
    pub fn member(&mut self, meta: &Meta, size: u64) -> io::Result<()> {
        self.start(meta, &meta.path, size, Vec::new())
    }

    /// Starts a sparse file of `length` bytes, of which only the data segments (offset, length) follow, in order.
    /// Every segment but one that ends the file has to be made of whole blocks: so GNU tar reads them.
    pub fn sparse_file(
        &mut self,
        meta: &Meta,
        length: u64,
        segments: &[(u64, u64)],
    ) -> io::Result<()> {
        let mut segments = segments.to_vec();
        if segments
            .last()
            .is_none_or(|(offset, size)| offset + size != length)
        {
            // GNU tar takes the file's length from where the last segment ends.
            segments.push((length, 0));
        }
        let mut map = format!("{}\n", segments.len());
        for (offset, size) in &segments {
            map.push_str(&format!("{offset}\n{size}\n"));
        }
        let mut map = map.into_bytes();
        map.resize(map.len() + padding(map.len() as u64) as usize, 0);
        let mut records = Vec::new();
        pax::push(&mut records, b"GNU.sparse.major", b"1");
        pax::push(&mut records, b"GNU.sparse.minor", b"0");
        pax::push(&mut records, b"GNU.sparse.name", &meta.path);
        pax::push(
            &mut records,
            b"GNU.sparse.realsize",
            length.to_string().as_bytes(),
        );
        let data: u64 = segments.iter().map(|(_, length)| length).sum();
        // The name that readers without sparse support fall back to; it must not clobber a real file.
        self.start(
            meta,
            b"GNUSparseFile.0/data",
            map.len() as u64 + data,
            records,
        )?;
        self.write_all(&map)
    }

    fn start(
        &mut self,
        meta: &Meta,
        path: &[u8],
        size: u64,
        mut records: Vec<u8>,
    ) -> io::Result<()> {
        self.end_member()?;
        let header = header(meta, path, size, &mut records);
        if !records.is_empty() {
            self.extended_header(&records)?;
        }
        self.out.write_all(header.as_bytes())?;
        self.remaining = size;
        self.padding = padding(size);
        Ok(())
    }

    fn extended_header(&mut self, records: &[u8]) -> io::Result<()> {
        let size = records.len() as u64;
        if size > MAX_EXTENDED_HEADER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "extended attributes exceed the archive's limit",
            ));
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(records)?;
        self.zeros(padding(size))
    }

    fn end_member(&mut self) -> io::Result<()> {
        if self.remaining != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "member is shorter than announced",
            ));
        }
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.out.write_all(&[0; BLOCK as usize][..count as usize])
    }

    /// Ends the stream with its two zero blocks and gives `out` back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_member()?;
        self.zeros(BLOCK)?;
        self.zeros(BLOCK)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.remaining {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "member is longer than announced",
            ));
        }
        let written = self.out.write(bytes)?;
        self.remaining -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The ustar header, and in `records` what does not fit it.
fn header(meta: &Meta, path: &[u8], size: u64, records: &mut Vec<u8>) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(meta.mode & 0o7777);
    header.set_entry_type(entry_type(meta.kind));
    if let Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } = meta.kind
        && let Some(ustar) = header.as_ustar_mut()
    {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    text(
        header.as_old_mut().name.as_mut_slice(),
        path,
        b"path",
        records,
    );
    text(
        header.as_old_mut().linkname.as_mut_slice(),
        &meta.link,
        b"linkpath",
        records,
    );
    header.set_size(octal(size, MAX_OCTAL_11, b"size", records));
    header.set_uid(octal(meta.uid, MAX_OCTAL_7, b"uid", records));
    header.set_gid(octal(meta.gid, MAX_OCTAL_7, b"gid", records));
    header.set_mtime(mtime(meta, records));
    meta.xattrs
        .iter()
        .for_each(|xattr| pax::push_xattr(records, xattr));
    header.set_cksum();
    header
}

fn entry_type(kind: Kind) -> EntryType {
    match kind {
        Kind::File => EntryType::Regular,
        Kind::HardLink => EntryType::Link,
        Kind::Symlink => EntryType::Symlink,
        Kind::CharDevice { .. } => EntryType::Char,
        Kind::BlockDevice { .. } => EntryType::Block,
        Kind::Directory => EntryType::Directory,
        Kind::Fifo => EntryType::Fifo,
    }
}

/// Puts `value` into a header field, or its start there and all of it into a record.
fn text(field: &mut [u8], value: &[u8], key: &[u8], records: &mut Vec<u8>) {
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
    if fits < value.len() {
        pax::push(records, key, value);
    }
}

/// `value` if the header's field can hold it, else 0 there and the number in a record.
fn octal(value: u64, most: u64, key: &[u8], records: &mut Vec<u8>) -> u64 {
    if value <= most {
        return value;
    }
    pax::push(records, key, value.to_string().as_bytes());
    0
}

fn mtime(meta: &Meta, records: &mut Vec<u8>) -> u64 {
    let whole = u64::try_from(meta.mtime.seconds)
        .ok()
        .filter(|seconds| *seconds <= MAX_OCTAL_11);
    if whole.is_none() || meta.mtime.nanoseconds != 0 {
        pax::push(records, b"mtime", pax::format_time(meta.mtime).as_bytes());
    }
    whole.unwrap_or(0)
}
