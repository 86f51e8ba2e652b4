//! What a tar member says about a file, apart from its contents.

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier member; `link` is that name.
    HardLink,
    /// A symbolic link; `link` is its target.
    Symlink,
    /// A character device. Major and minor 0 is overlayfs's whiteout.
    CharDevice { major: u32, minor: u32 },
    /// A block device.
    BlockDevice { major: u32, minor: u32 },
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Seconds and nanoseconds since 1970, as in `struct timespec`: nanoseconds count forward before 1970 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// An extended attribute. Its value may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// The full name with its namespace, as `user.mime_type`.
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// A member's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Relative, `/` between components, any bytes but NUL; a directory has no trailing slash.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Target of a link, else empty.
    pub link: Vec<u8>,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Timestamp,
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    /// A plain file of root's, readable by root alone: what everything but a root filesystem consists of.
    pub fn plain_file(path: &str) -> Self {
        Self {
            path: path.as_bytes().to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
        }
    }

    /// The path for messages.
    pub fn display_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}
