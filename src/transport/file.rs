//! Small files for their owner alone: a header that says what they are, then JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Hundreds of peers fit in; what is larger was not written here.
const MAX_BYTES: u64 = 4 << 20;

/// A header is one short line.
const MAX_HEADER_BYTES: u64 = 256;

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {operation} {path:?}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Somebody else could have read or written it.
    #[error(
        "{path:?} belongs to user {owner} and has mode {mode:04o}: look who was at it; it must be its user's alone"
    )]
    Open { path: PathBuf, owner: u32, mode: u32 },
    /// It is larger than it can be.
    #[error("{path:?} is larger than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    /// Its first line is not the header.
    #[error("{path:?} does not begin with the header of a {kind} file")]
    Header { path: PathBuf, kind: &'static str },
    /// Another version of transship wrote it.
    #[error("{path:?} has version {found}; this transship reads version {known}")]
    Version { path: PathBuf, found: u32, known: u32 },
    /// What follows the header is not what it should be.
    #[error("{path:?} is damaged")]
    Contents {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// What a file is, and in which version.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Such as `transship-peers`.
    pub name: &'static str,
    /// The version that is written, and the only one that is read.
    pub version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    kind: String,
    version: u32,
}

/// Reads a file; none where there is none.
pub fn read<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<Option<T>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("look at", path))?;
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != own || metadata.mode() & 0o077 != 0 {
        return Err(FileError::Open { path: path.into(), owner: metadata.uid(), mode: metadata.mode() & 0o7777 });
    }
    let mut reader = BufReader::new(file);
    check_header(&mut reader, path, kind)?;
    let mut json = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut json).map_err(io_error("read", path))?;
    if json.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge { path: path.into() });
    }
    let contents = serde_json::from_slice(&json);
    contents.map(Some).map_err(|source| FileError::Contents { path: path.into(), source })
}

/// The version is known before anything of what it versions is read.
fn check_header(reader: &mut impl BufRead, path: &Path, kind: Kind) -> Result<(), FileError> {
    let mut line = Vec::new();
    reader.take(MAX_HEADER_BYTES).read_until(b'\n', &mut line).map_err(io_error("read", path))?;
    match serde_json::from_slice::<Header>(&line) {
        Ok(header) if header.kind != kind.name => Err(FileError::Header { path: path.into(), kind: kind.name }),
        Ok(header) if header.version != kind.version => {
            Err(FileError::Version { path: path.into(), found: header.version, known: kind.version })
        }
        Ok(_) => Ok(()),
        Err(_) => Err(FileError::Header { path: path.into(), kind: kind.name }),
    }
}

/// Writes a file so that, whatever happens, the new one is there in whole or the old one is.
pub fn write(path: &Path, kind: Kind, contents: &impl Serialize) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("make directory", directory)(error));
        }
        _ => {}
    }
    let fault = |source| FileError::Contents { path: path.into(), source };
    let header = Header { kind: kind.name.to_owned(), version: kind.version };
    let mut bytes = serde_json::to_vec(&header).map_err(fault)?;
    bytes.push(b'\n');
    serde_json::to_writer_pretty(&mut bytes, contents).map_err(fault)?;
    bytes.push(b'\n');
    let store = || {
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    store().map_err(io_error("write", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const KIND: Kind = Kind { name: "test", version: 2 };

    #[test]
    fn what_is_written_is_read_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers/file.json");
        assert_eq!(read::<Vec<u32>>(&path, KIND).unwrap(), None);
        write(&path, KIND, &[1, 2]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path, KIND).unwrap(), Some(vec![1, 2]));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read::<Vec<u32>>(&path, KIND), Err(FileError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn another_version_is_named_before_its_contents_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        write(&path, Kind { version: 3, ..KIND }, &"not a list").unwrap();
        assert!(matches!(read::<Vec<u32>>(&path, KIND), Err(FileError::Version { found: 3, known: 2, .. })));
        write(&path, Kind { name: "other", ..KIND }, &[1]).unwrap();
        assert!(matches!(read::<Vec<u32>>(&path, KIND), Err(FileError::Header { .. })));
        write(&path, KIND, &"not a list").unwrap();
        assert!(matches!(read::<Vec<u32>>(&path, KIND), Err(FileError::Contents { .. })));
    }

    #[test]
    fn a_header_without_end_and_a_file_without_end_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        write(&path, KIND, &" ".repeat(MAX_BYTES as usize)).unwrap();
        assert!(matches!(read::<String>(&path, KIND), Err(FileError::TooLarge { .. })));
        fs::write(&path, vec![b' '; MAX_BYTES as usize]).unwrap();
        assert!(matches!(read::<String>(&path, KIND), Err(FileError::Header { .. })));
    }
}
