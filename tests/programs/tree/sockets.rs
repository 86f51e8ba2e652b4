//! Unix sockets between two processes: pairs of three kinds, a stream through a listener, datagrams by name.

use super::Turn;
use super::board::{beside, ensure, failed};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

/// A message is its number, twice.
const MESSAGE: usize = 16;

/// Both ends of something that carries messages, as files.
struct Line {
    name: &'static str,
    near: File,
    far: File,
}

pub fn role(directory: &Path) -> Result<Turn, String> {
    let lines = vec![
        pair("stream pair", SockType::Stream)?,
        pair("datagram pair", SockType::Datagram)?,
        pair("seqpacket pair", SockType::SeqPacket)?,
        by_listener(directory).map_err(failed("listener"))?,
        by_name(directory).map_err(failed("named datagrams"))?,
    ];
    let (near, far): (Vec<_>, Vec<_>) = lines.into_iter().map(|line| ((line.name, line.near), line.far)).unzip();
    beside(move || echo(far))?;
    // One message is always on its way, there or back.
    let mut number = 0;
    for (name, line) in &near {
        send(line, number).map_err(failed(name))?;
    }
    let turn = move || {
        number += 1;
        for (name, line) in &near {
            send(line, number).map_err(failed(name))?;
            let got = receive(line).map_err(failed(name))?;
            ensure(got == number - 1, || format!("{name}: message {got} came instead of {}", number - 1))?;
        }
        Ok(())
    };
    Ok(Box::new(turn))
}

fn echo(lines: Vec<File>) -> Result<(), String> {
    loop {
        for line in &lines {
            let number = receive(line).map_err(failed("echo"))?;
            send(line, number).map_err(failed("echo"))?;
        }
    }
}

fn send(mut line: &File, number: u64) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message[8..].copy_from_slice(&(!number).to_le_bytes());
    line.write_all(&message)
}

fn receive(mut line: &File) -> io::Result<u64> {
    let mut message = [0; MESSAGE];
    line.read_exact(&mut message)?;
    let [number, inverse] = [0, 8].map(|at| u64::from_le_bytes(message[at..at + 8].try_into().expect("8 bytes")));
    if number != !inverse {
        return Err(io::Error::other(format!("damaged: {message:?}")));
    }
    Ok(number)
}

fn pair(name: &'static str, kind: SockType) -> Result<Line, String> {
    let (near, far) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).map_err(failed(name))?;
    Ok(Line { name, near: near.into(), far: far.into() })
}

fn by_listener(directory: &Path) -> io::Result<Line> {
    let path = directory.join("tree-stream.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    let near = UnixStream::connect(&path)?;
    let (far, _) = listener.accept()?;
    // The listener stays open, too.
    let _: i32 = std::os::fd::IntoRawFd::into_raw_fd(listener);
    Ok(Line { name: "stream by listener", near: file(near), far: file(far) })
}

fn by_name(directory: &Path) -> io::Result<Line> {
    let [near_path, far_path] = ["tree-near.sock", "tree-far.sock"].map(|name| directory.join(name));
    for path in [&near_path, &far_path] {
        let _ = std::fs::remove_file(path);
    }
    let (near, far) = (UnixDatagram::bind(&near_path)?, UnixDatagram::bind(&far_path)?);
    near.connect(&far_path)?;
    far.connect(&near_path)?;
    Ok(Line { name: "named datagrams", near: file(near), far: file(far) })
}

fn file(socket: impl Into<OwnedFd>) -> File {
    File::from(socket.into())
}
