//! Clients on the segment.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

fn client() -> Command {
    let mut command = Command::new(super::host::script());
    command.arg("client");
    command
}

/// Runs a command in the client's place; fails the test where it fails.
pub fn on_segment(words: &[&str]) {
    let output = client().args(words).output().expect("the client runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Long-lived connections, streams and new connections against a program of ours; every byte is verified.
pub struct Watch(Child);

impl Watch {
    /// Returns when all its connections stand.
    pub fn start(server: &str) -> Self {
        Self::start_with(server, &[])
    }

    /// The same, with options of the program's.
    pub fn start_with(server: &str, options: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut command = client();
        command.arg(super::host::program("watch")).arg(server).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the client runs");
        let mut line = String::new();
        let mut out = BufReader::with_capacity(1, child.stdout.as_mut().expect("piped"));
        out.read_line(&mut line).expect("watch says that it is ready");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Ends it and fails the test where any connection noticed anything but a pause.
    pub fn end(mut self) {
        let mut input = self.0.stdin.take().expect("piped");
        writeln!(input, "settle").expect("watch listens");
        drop(input);
        let output = self.0.wait_with_output().expect("watch ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_nothing_noticed(text.lines().last().expect("a report"));
    }
}

/// Fails the test where a report of `watch` tells of anything but a pause.
pub fn assert_nothing_noticed(report: &str) {
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    for problem in ["wrong", "lost", "refused", "reset", "timed_out"] {
        assert_eq!(report[problem], 0, "{report:#}");
    }
}

/// A program of ours that others call, until it is dropped.
pub struct Server(Child);

impl Server {
    /// Listens at this port of the client's.
    pub fn start(port: u16) -> Self {
        let mut command = client();
        command.arg(super::host::program("holder")).args([&port.to_string(), "8", "--until-eof"]);
        Self(command.stdin(Stdio::piped()).spawn().expect("the server runs"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A load generator that is run again and again until it is stopped; each run must find no fault.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Load {
    /// `ab` with these options against a URL: no request may fail, nor be answered by anything but the page.
    pub fn ab(options: &str, url: &str) -> Self {
        let mut words = vec!["ab", "-q", "-s", "120"];
        words.extend(options.split(' '));
        words.push(url);
        Self::start(&words, |text| text.contains("Failed requests:        0") && !text.contains("Non-2xx"))
    }

    /// `redis-benchmark` with these options: no answer may be an error.
    pub fn redis(address: &str, options: &str) -> Self {
        let mut words = vec!["redis-benchmark", "-h", address, "-q", "-t", "set,get"];
        words.extend(options.split(' '));
        Self::start(&words, |text| !text.contains("rror"))
    }

    /// `is_good` judges what one run printed.
    pub fn start(words: &[&str], is_good: fn(&str) -> bool) -> Self {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut runs = 0;
            while !stopping.load(Ordering::Relaxed) {
                let output = client().args(&words).stdin(Stdio::null()).output().expect("the client runs");
                let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && is_good(&text), "{words:?}: {}\n{text}", output.status);
                runs += 1;
            }
            runs
        });
        Self { stop, thread }
    }

    /// Ends it after its present run; fails the test where a run found a fault.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.join().expect("no run found a fault") > 0);
    }
}
