//! Clients that notice everything: long-lived connections, streams, and one new connection after the other.

use super::payload;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many problems are told in words; all are counted.
const TOLD: usize = 20;
/// What to run against whom.
#[derive(Clone)]
pub struct Plan {
    /// The server.
    pub server: SocketAddr,
    /// Long-lived connections with one request at a time.
    pub open: u64,
    /// Long-lived connections with several requests on their way.
    pub pipelined: u64,
    /// Connections on which the server talks all the time.
    pub streams: u64,
    /// Whether new connections are made all the time.
    pub new: bool,
    /// Between two requests of a connection, so that the machine is left to others; four times that between new ones.
    pub pause: Duration,
    /// Without an answer for so long, a connection counts as lost.
    pub patience: Duration,
}

/// Requests on their way on a pipelined connection.
const WINDOW: u64 = 16;

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    stopping: AtomicBool,
    courses: Vec<Course>,
    problems: Mutex<Problems>,
}

/// What one client has come through.
#[derive(Default)]
struct Course {
    window: u64,
    rounds: AtomicU64,
    bytes: AtomicU64,
    slowest_us: AtomicU64,
    ended: AtomicBool,
    kind: Kind,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Open,
    Stream,
    New,
}

#[derive(Default)]
struct Problems {
    wrong: u64,
    lost: u64,
    refused: u64,
    reset: u64,
    timed_out: u64,
    told: Vec<String>,
}

/// What can go wrong with a connection.
enum Problem {
    Io(&'static str, io::Error),
    Wrong(String),
}

/// Asks one line on a connection of its own.
pub fn ask(plan: &Plan, line: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&plan.server, plan.patience)?;
    stream.set_read_timeout(Some(plan.patience))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

impl Clients {
    /// Starts them; returns when each has had an answer, or none.
    pub fn start(plan: &Plan) -> Self {
        let course = |kind, window| Course { kind, window, ..Course::default() };
        let mut courses = Vec::new();
        courses.extend((0..plan.open).map(|_| course(Kind::Open, 1)));
        courses.extend((0..plan.pipelined).map(|_| course(Kind::Open, WINDOW)));
        courses.extend((0..plan.streams).map(|_| course(Kind::Stream, 1)));
        courses.extend(plan.new.then(|| course(Kind::New, 1)));
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), courses, problems: Mutex::default() });
        for index in 0..shared.courses.len() {
            let (shared, plan) = (Arc::clone(&shared), plan.clone());
            std::thread::spawn(move || run(&shared, index, &plan));
        }
        let clients = Self { shared, patience: plan.patience };
        clients.settle();
        clients
    }

    /// Returns when every client has had an answer to something that it asked after this call, or has given up.
    pub fn settle(&self) {
        // What is on its way at the moment of the call does not count, hence the window, and one for a connection
        // that is being made.
        let wanted: Vec<u64> =
            self.shared.courses.iter().map(|course| course.rounds.load(Ordering::SeqCst) + course.window + 1).collect();
        let deadline = Instant::now() + self.patience;
        for (course, wanted) in self.shared.courses.iter().zip(wanted) {
            while course.rounds.load(Ordering::SeqCst) < wanted && !course.ended.load(Ordering::SeqCst) {
                if Instant::now() > deadline {
                    let still = io::Error::new(ErrorKind::TimedOut, "it had no answer");
                    self.shared.note("at the end", Problem::Io("wait for an answer", still));
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// How it went, as one JSON object.
    pub fn report(&self) -> String {
        let of = |kind| self.shared.courses.iter().filter(move |course| course.kind == kind);
        let sum = |kind, value: fn(&Course) -> &AtomicU64| {
            of(kind).map(|course| value(course).load(Ordering::SeqCst)).sum::<u64>()
        };
        let slowest = |kind| of(kind).map(|course| course.slowest_us.load(Ordering::SeqCst)).max().unwrap_or_default();
        let problems = self.shared.problems.lock().expect("no thread panics");
        serde_json::json!({
            "replies": sum(Kind::Open, |course| &course.rounds),
            "new": sum(Kind::New, |course| &course.rounds),
            "streamed": sum(Kind::Stream, |course| &course.bytes),
            "slowest_open_us": slowest(Kind::Open),
            "slowest_stream_us": slowest(Kind::Stream),
            "slowest_new_us": slowest(Kind::New),
            "wrong": problems.wrong,
            "lost": problems.lost,
            "refused": problems.refused,
            "reset": problems.reset,
            "timed_out": problems.timed_out,
            "problems": problems.told,
        })
        .to_string()
    }

    /// Ends them after one more answer each, and says how it went.
    pub fn end(self) -> String {
        self.settle();
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.report()
    }
}

impl Shared {
    fn note(&self, who: &str, problem: Problem) {
        if self.stopping.load(Ordering::SeqCst) {
            return;
        }
        let mut problems = self.problems.lock().expect("no thread panics");
        let (count, text) = match problem {
            Problem::Wrong(text) => (&mut problems.wrong, text),
            Problem::Io(doing, error) => {
                let count = match error.kind() {
                    ErrorKind::ConnectionRefused => &mut problems.refused,
                    ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                        &mut problems.reset
                    }
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => &mut problems.timed_out,
                    _ => &mut problems.lost,
                };
                (count, format!("could not {doing}: {error}"))
            }
        };
        *count += 1;
        if problems.told.len() < TOLD {
            problems.told.push(format!("{who}: {text}"));
        }
    }
}

impl Course {
    fn took(&self, since: Instant) {
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(took, Ordering::SeqCst);
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }
}

fn run(shared: &Shared, index: usize, plan: &Plan) {
    let course = &shared.courses[index];
    let outcome = match course.kind {
        Kind::Open => {
            echo(shared, index as u64, course, plan).map_err(|problem| (format!("connection {index}"), problem))
        }
        Kind::Stream => listen(shared, course, plan).map_err(|problem| (format!("stream {index}"), problem)),
        Kind::New => {
            renew(shared, course, plan);
            Ok(())
        }
    };
    if let Err((who, problem)) = outcome {
        shared.note(&format!("{who} after {} rounds", course.rounds.load(Ordering::SeqCst)), problem);
    }
    course.ended.store(true, Ordering::SeqCst);
}

fn connect(plan: &Plan) -> Result<TcpStream, Problem> {
    let stream =
        TcpStream::connect_timeout(&plan.server, plan.patience).map_err(|error| Problem::Io("connect", error))?;
    let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(plan.patience)));
    set.and_then(|()| stream.set_write_timeout(Some(plan.patience))).map_err(|error| Problem::Io("set up", error))?;
    Ok(stream)
}

fn echo(shared: &Shared, connection: u64, course: &Course, plan: &Plan) -> Result<(), Problem> {
    let stream = connect(plan)?;
    let mut replies = BufReader::new(&stream);
    let mut sent = std::collections::VecDeque::new();
    let mut number = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        while (sent.len() as u64) < course.window {
            let wanted = format!("{number} {}\n", payload::letters(connection, number));
            write(&stream, format!("echo {wanted}").as_bytes())?;
            sent.push_back((wanted, Instant::now()));
            number += 1;
        }
        if let Some((wanted, at)) = sent.pop_front() {
            expect(&mut replies, &wanted)?;
            course.took(at);
        }
        std::thread::sleep(plan.pause);
    }
    Ok(())
}

fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<(), Problem> {
    stream.write_all(bytes).map_err(|error| Problem::Io("write", error))
}

fn expect(replies: &mut impl BufRead, wanted: &str) -> Result<(), Problem> {
    let mut line = String::new();
    match replies.read_line(&mut line) {
        Err(error) => Err(Problem::Io("read", error)),
        Ok(0) => Err(Problem::Io("read", io::Error::new(ErrorKind::UnexpectedEof, "the server hung up"))),
        Ok(_) if line == wanted => Ok(()),
        Ok(_) => Err(Problem::Wrong(format!("got {line:.60?}, wanted {wanted:.60?}"))),
    }
}

fn listen(shared: &Shared, course: &Course, plan: &Plan) -> Result<(), Problem> {
    let mut stream = connect(plan)?;
    write(&stream, b"stream\n")?;
    let (mut got, mut wanted) = ([0; 8192], [0; 8192]);
    let mut offset = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        let asked = Instant::now();
        let length = match stream.read(&mut got) {
            // A read with a time-out ends like this when its process was stopped and continued (signal(7)); the
            // library's other readers try again by themselves.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(|error| Problem::Io("read", error))?,
        };
        if length == 0 {
            return Err(Problem::Io("read", io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")));
        }
        payload::stream(offset, &mut wanted[..length]);
        if got[..length] != wanted[..length] {
            return Err(Problem::Wrong(format!("wrong bytes in the {length} from offset {offset} on")));
        }
        offset += length as u64;
        course.bytes.store(offset, Ordering::SeqCst);
        course.took(asked);
    }
    Ok(())
}

/// One new connection after the other; a failed one does not end it.
fn renew(shared: &Shared, course: &Course, plan: &Plan) {
    let mut number = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        let began = Instant::now();
        let once = connect(plan).and_then(|stream| {
            let wanted = format!("0 {}\n", payload::letters(u64::MAX, number));
            write(&stream, format!("echo {wanted}").as_bytes())?;
            expect(&mut BufReader::new(&stream), &wanted)
        });
        match once {
            Ok(()) => course.took(began),
            Err(problem) => {
                shared.note(&format!("new connection {number}"), problem);
                course.rounds.fetch_add(1, Ordering::SeqCst);
            }
        }
        number += 1;
        std::thread::sleep(plan.pause * 4);
    }
}
