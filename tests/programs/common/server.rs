//! The line protocol's server. A line in, a line out:
//!
//! - `echo N PAYLOAD`: answered with `N PAYLOAD`; `N` counts from 0 on each connection, so that a request that is
//!   lost or comes twice is seen here, and a reply there.
//! - `stream`: from then on bytes by their offset, without end.
//! - `connections`: how many were accepted, ended, and had a wrong request.
//! - anything else is the program's own.

use super::payload;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Between two blocks of a stream, so that it leaves the machine to others.
const STREAM_PAUSE: Duration = Duration::from_millis(2);

/// Answers a line that is not the protocol's own.
pub type Answer = dyn Fn(&str) -> String + Send + Sync;

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    ended: AtomicU64,
    wrong: AtomicU64,
}

/// Listens on `port`, says `ready` on standard output, and serves without end.
pub fn serve(port: u16, answer: Arc<Answer>) -> ! {
    let listener = TcpListener::bind(("::", port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
    println!("ready");
    let counts = Arc::new(Counts::default());
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        let (counts, answer) = (Arc::clone(&counts), Arc::clone(&answer));
        std::thread::spawn(move || {
            let _ = talk(&stream, &counts, &*answer);
            counts.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

fn talk(stream: &TcpStream, counts: &Counts, answer: &Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut expected = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut reply = match line.split_once(' ') {
            Some(("echo", rest)) if rest.split(' ').next() == Some(&format!("{expected}")) => {
                expected += 1;
                rest.to_owned()
            }
            Some(("echo", rest)) => {
                counts.wrong.fetch_add(1, Ordering::SeqCst);
                format!("wrong: expected request {expected}, got {rest:.20}")
            }
            _ if line == "stream" => return pour(stream),
            _ if line == "connections" => {
                let [accepted, ended, wrong] =
                    [&counts.accepted, &counts.ended, &counts.wrong].map(|count| count.load(Ordering::SeqCst));
                format!("accepted={accepted} ended={ended} wrong={wrong}")
            }
            _ => answer(&line),
        };
        reply.push('\n');
        let mut stream = stream;
        stream.write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn pour(mut stream: &TcpStream) -> io::Result<()> {
    let mut block = [0; 4096];
    let mut offset = 0;
    loop {
        payload::stream(offset, &mut block);
        stream.write_all(&block)?;
        offset += block.len() as u64;
        std::thread::sleep(STREAM_PAUSE);
    }
}
