//! Images that dockerd fetches from their registry, without anybody's credentials.

use super::client::{Client, DockerError, escape, refusal, url};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// Longest line of what dockerd tells of a pull that is read.
const LONGEST_LINE: usize = 1 << 20;

/// How long a pull may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the registry has said what the image is made of.
    pub answer: Duration,
    /// Until more has come.
    pub stall: Duration,
    /// All of it.
    pub whole: Duration,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry has said nothing.
    #[error("its registry has not answered for {} s", .0.as_secs())]
    Silent(Duration),
    /// It has begun to come, and does not come on.
    #[error("nothing more of it has come for {} s", .0.as_secs())]
    Stuck(Duration),
    /// It comes too slowly.
    #[error("it has not come within {} min", .0.as_secs() / 60)]
    Slow(Duration),
    /// Nobody waits for it any more.
    #[error("it is not wanted any more")]
    Unwanted,
    /// dockerd, or the registry, has something against it.
    #[error("dockerd could not pull it: {0}")]
    Failed(String),
    /// dockerd does not begin with it.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// This process lacks something for it.
    #[error("no runtime to wait for dockerd in")]
    Runtime(#[source] std::io::Error),
}

impl Client {
    /// Has dockerd pull an image; what has come of it goes again where it fails, or is `unwanted` before it has come.
    ///
    /// `told` hears how many bytes have come, and how many there are of those layers that have begun to.
    pub fn pull_image(
        &self,
        reference: &str,
        patience: Patience,
        unwanted: impl Future<Output = ()>,
        told: impl FnMut(u64, u64),
    ) -> Result<(), PullError> {
        // The end of this runtime closes the connection, and dockerd ends a pull whose connection is closed.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PullError::Runtime)?;
        runtime.block_on(async {
            tokio::select! {
                pulled = pull(&self.socket, reference, patience, told) => pulled,
                () = unwanted => Err(PullError::Unwanted),
                () = tokio::time::sleep(patience.whole) => Err(PullError::Slow(patience.whole)),
            }
        })
    }
}

async fn pull(
    socket: &Path,
    reference: &str,
    patience: Patience,
    mut told: impl FnMut(u64, u64),
) -> Result<(), PullError> {
    let call = format!("/images/create?fromImage={}", escape(reference));
    let unreachable = |source| DockerError::Unreachable { call: call.clone(), source };
    let silent = |_| PullError::Silent(patience.answer);
    let http = reqwest::Client::builder().unix_socket(socket).build().map_err(unreachable)?;
    let asked = http.post(url(&call)).send();
    let mut response = timeout(patience.answer, asked).await.map_err(silent)?.map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        let body = timeout(patience.answer, response.bytes()).await.map_err(silent)?.map_err(unreachable)?;
        return Err(refusal(&call, status, &body).into());
    }
    let (mut course, mut lines) = (Course::default(), Lines::default());
    loop {
        let (length, over): (Duration, fn(Duration) -> PullError) = match course.has_answer {
            true => (patience.stall, PullError::Stuck),
            false => (patience.answer, PullError::Silent),
        };
        let chunk = timeout(length, response.chunk()).await.map_err(|_| over(length))?.map_err(unreachable)?;
        let Some(chunk) = chunk else { return Ok(()) };
        for line in lines.of(&chunk) {
            course.hear(&line)?;
        }
        let (done, total) = course.bytes();
        told(done, total);
    }
}

/// What dockerd tells, cut into its lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Those that end with these bytes. What is no JSON says nothing.
    fn of(&mut self, bytes: &[u8]) -> Vec<Value> {
        self.0.extend_from_slice(bytes);
        let whole = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let rest = self.0.split_off(whole);
        let lines = std::mem::replace(&mut self.0, rest);
        if self.0.len() > LONGEST_LINE {
            self.0.clear();
        }
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// How far a pull is.
#[derive(Default)]
struct Course {
    /// Whether the registry has said what the image is made of.
    has_answer: bool,
    /// Of each layer how many bytes have come, and how many there are.
    layers: HashMap<String, (u64, u64)>,
}

impl Course {
    fn hear(&mut self, line: &Value) -> Result<(), PullError> {
        if let Some(error) = line["error"].as_str() {
            return Err(PullError::Failed(error.to_owned()));
        }
        let status = line["status"].as_str().unwrap_or_default();
        // Some engines say so before they have asked.
        self.has_answer |= !status.starts_with("Pulling from");
        let Some(layer) = line["id"].as_str() else { return Ok(()) };
        let number = |name: &str| line["progressDetail"][name].as_u64();
        match status {
            "Downloading" => {
                let done = number("current").unwrap_or_default();
                self.layers.insert(layer.to_owned(), (done, number("total").unwrap_or(done)));
            }
            "Download complete" => {
                if let Some((done, total)) = self.layers.get_mut(layer) {
                    *done = *total;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn bytes(&self) -> (u64, u64) {
        self.layers.values().fold((0, 0), |(done, total), layer| (done + layer.0, total + layer.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;

    const MANIFEST: &str = r#"{"status":"Pulling from web","id":"sha256:aa"}"#;
    const QUICK: Patience = Patience {
        answer: Duration::from_millis(200),
        stall: Duration::from_millis(200),
        whole: Duration::from_secs(20),
    };

    /// A dockerd that answers one pull with this, and then says no more until it hears that nobody listens.
    fn dockerd(answer: String) -> (tempfile::TempDir, Client, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let client = Client::new(&socket);
        (dir, client, thread)
    }

    fn streamed(lines: &[&str]) -> String {
        let chunk = |line: &&str| format!("{:x}\r\n{line}\r\n\r\n", line.len() + 2);
        let chunks: String = lines.iter().map(chunk).collect();
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
    }

    #[test]
    fn a_pull_tells_how_far_it_is_and_ends_well() {
        let (_dir, client, asked) = dockerd(
            streamed(&[
                MANIFEST,
                r#"{"status":"Already exists","progressDetail":{},"id":"low"}"#,
                r#"{"status":"Downloading","progressDetail":{"current":3,"total":10},"id":"top"}"#,
                r#"{"status":"Download complete","progressDetail":{},"id":"top"}"#,
                r#"{"status":"Status: Downloaded newer image"}"#,
            ]) + "0\r\n\r\n",
        );
        let mut heard = Vec::new();
        client
            .pull_image("host:5000/web@sha256:aa", QUICK, pending(), |done, total| heard.push((done, total)))
            .unwrap();
        assert_eq!(heard.last(), Some(&(10, 10)));
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /images/create?fromImage=host:5000%2Fweb%40sha256:aa HTTP"), "{asked}");
        assert!(!asked.to_ascii_lowercase().contains("x-registry-auth"), "{asked}");
    }

    #[test]
    fn a_registry_that_says_nothing_is_not_waited_for_and_a_pull_that_stops_is_given_up() {
        let silent = |lines: &[&str]| {
            let (_dir, client, asked) = dockerd(streamed(lines));
            let pulled = client.pull_image("web@sha256:aa", QUICK, pending(), |_, _| {});
            // It has heard that nobody listens any more.
            asked.join().unwrap();
            pulled.unwrap_err()
        };
        assert!(matches!(silent(&[]), PullError::Silent(_)));
        assert!(matches!(silent(&[MANIFEST]), PullError::Silent(_)));
        let begun = [MANIFEST, r#"{"status":"Pulling fs layer","progressDetail":{},"id":"top"}"#];
        assert!(matches!(silent(&begun), PullError::Stuck(_)));
    }

    #[test]
    fn what_dockerd_has_against_it_is_told_in_its_own_words() {
        let body = r#"{"message":"manifest unknown"}"#;
        let answer =
            format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let (_dir, client, asked) = dockerd(answer);
        let error = client.pull_image("web@sha256:aa", QUICK, pending(), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("manifest unknown"), "{error}");
        asked.join().unwrap();
        let (_dir, client, asked) = dockerd(streamed(&[MANIFEST, r#"{"error":"no space left on device"}"#]));
        let error = client.pull_image("web@sha256:aa", QUICK, pending(), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        asked.join().unwrap();
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_pulled_on() {
        let (_dir, client, asked) = dockerd(streamed(&[MANIFEST]));
        let (begun, has_begun) = channel();
        let unwanted = async move { begun.send(()).unwrap() };
        let error = client.pull_image("web@sha256:aa", QUICK, unwanted, |_, _| {}).unwrap_err();
        assert!(matches!(error, PullError::Unwanted), "{error}");
        has_begun.recv().unwrap();
        drop(asked);
    }
}
