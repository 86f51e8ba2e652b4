//! The Engine API over the local socket. Blocking: operations run on threads of their own.

use super::container::Container;
use super::specification::RestartPolicy;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where dockerd listens, by its own default.
pub const SOCKET: &str = "/var/run/docker.sock";

/// How long an answer may take that dockerd gives from memory.
const QUICK: Duration = Duration::from_secs(30);

/// Between two tries to reach a dockerd that is starting: containers may be waiting for it.
const BETWEEN_PINGS: Duration = Duration::from_millis(10);

/// Answers are JSON of a container or a list of them; more than this is not an answer of dockerd's.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Why a call to Docker failed.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// dockerd did not answer.
    #[error("dockerd does not answer `{call}` on {SOCKET}")]
    Unreachable {
        call: String,
        #[source]
        source: reqwest::Error,
    },
    /// dockerd answered with an error.
    #[error("dockerd refused `{call}`: {message}")]
    Refused { call: String, status: u16, message: String },
    /// dockerd's answer is not what the API documents.
    #[error("dockerd's answer to `{call}` cannot be read")]
    Unreadable {
        call: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DockerError {
    /// Whether Docker says that the container does not run.
    pub fn is_not_running(&self) -> bool {
        matches!(self, Self::Refused { status: 409, message, .. } if message.contains("not running"))
    }

    /// Whether Docker says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// What `docker version` and `docker info` say of the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Such as `28.5.2`.
    pub version: String,
    /// Such as `overlay2`, or `overlayfs` with containerd's image store.
    pub storage_driver: String,
    /// The daemon's data root, `/var/lib/docker` by default.
    pub root: String,
    /// `containerd`'s and `runc`'s versions as the engine reports them.
    pub components: Vec<(String, String)>,
    /// Whether containers run on while dockerd restarts.
    pub live_restore: bool,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Whether the host is an active node of a swarm.
    pub in_swarm: bool,
}

/// A connection to the local dockerd.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
    pub(super) socket: PathBuf,
}

impl Client {
    /// A client for the socket at `path`. Nothing is sent yet.
    ///
    /// # Panics
    /// Where the process cannot make an HTTP client at all (no file descriptors left at start-up).
    pub fn new(path: &Path) -> Self {
        let http = Http::builder()
            .unix_socket(path)
            // Each call sets its own; starting a container has none that would be right.
            .timeout(None)
            // A connection that was opened in reserve and never used would keep dockerd from ending for 5 s.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client without TLS needs nothing that can be missing");
        Self { http, socket: path.to_owned() }
    }

    /// What the engine is.
    pub fn engine(&self) -> Result<Engine, DockerError> {
        let version = self.get("/version")?;
        let info = self.get("/info")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let components = version["Components"].as_array().into_iter().flatten();
        Ok(Engine {
            version: text(&version["Version"]),
            storage_driver: text(&info["Driver"]),
            root: text(&info["DockerRootDir"]),
            components: components.map(|one| (text(&one["Name"]), text(&one["Version"]))).collect(),
            live_restore: info["LiveRestoreEnabled"].as_bool().unwrap_or_default(),
            cgroup_version: text(&info["CgroupVersion"]),
            in_swarm: info["Swarm"]["LocalNodeState"] == "active",
        })
    }

    /// The engine's version. It is told by a header that every answer of dockerd's has: for `/version` and `/info` it starts
    /// two programs each, while containers wait.
    pub fn version(&self) -> Result<String, DockerError> {
        let call = "/_ping";
        let response = self.respond(self.http.get(url(call)).timeout(QUICK), call)?;
        let server =
            response.headers().get("server").and_then(|server| server.to_str().ok()).and_then(version_of_server);
        match server {
            Some(version) => Ok(version.to_owned()),
            None => Ok(self.engine()?.version),
        }
    }

    /// Whether a container is given its addresses only after the runtime has created it, and not before. So it is since
    /// the runtime's `setkey` hook is no more (moby's `initializeCreatedTask`).
    pub fn gives_addresses_late(&self) -> Result<bool, DockerError> {
        Ok(gives_addresses_late(&self.version()?))
    }

    /// Whether dockerd has the book of its networks open for as long as it works. One before 26 opens it for each question, and
    /// closes it.
    pub fn keeps_books_open(&self) -> Result<bool, DockerError> {
        Ok(keeps_books_open(&self.version()?))
    }

    /// Every container, running or not.
    pub fn containers(&self) -> Result<Vec<Container>, DockerError> {
        self.containers_but(|_| None)
    }

    /// Every container; those that `known` tells of, by id, are not asked for: while dockerd starts one it answers nothing
    /// about it, in a list it does.
    pub fn containers_but(&self, known: impl Fn(&str) -> Option<Container>) -> Result<Vec<Container>, DockerError> {
        let list = self.get("/containers/json?all=1")?;
        let ids = list.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
        let mut containers = Vec::new();
        for id in ids {
            if let Some(container) = known(id) {
                containers.push(container);
                continue;
            }
            match self.container(id) {
                Ok(container) => containers.push(container),
                // Removed between the list and the question.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(containers)
    }

    /// One container by name or id.
    pub fn container(&self, reference: &str) -> Result<Container, DockerError> {
        Ok(Container::new(self.get(&format!("/containers/{}/json", escape(reference)))?))
    }

    /// A network by name or id, as Docker tells it.
    pub fn network(&self, reference: &str) -> Result<Value, DockerError> {
        self.get(&format!("/networks/{}", escape(reference)))
    }

    /// Whether an image is here, by id or reference.
    pub fn has_image(&self, reference: &str) -> Result<bool, DockerError> {
        match self.get(&format!("/images/{}/json", escape(reference))) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates a container from a request body of `POST /containers/create`; returns its id.
    pub fn create(&self, name: &str, request: &Value) -> Result<String, DockerError> {
        let call = format!("/containers/create?name={}", escape(name));
        let answer = self.answer(self.post(&call).json(request), &call)?;
        Ok(answer["Id"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts a container. Waits as long as it takes: with a claim on it, memory comes back from disk.
    pub fn start(&self, id: &str) -> Result<(), DockerError> {
        self.act(&format!("/containers/{id}/start"), None)
    }

    /// Ends a container's processes; returns when Docker has seen them end.
    pub fn kill(&self, id: &str) -> Result<(), DockerError> {
        self.act(&format!("/containers/{id}/kill"), Some(QUICK))?;
        self.wait_until_stopped(id)
    }

    /// Returns when a container does not run.
    pub fn wait_until_stopped(&self, id: &str) -> Result<(), DockerError> {
        self.wait_until_stopped_within(id, QUICK)
    }

    /// Returns when a container does not run; an error after `limit`.
    pub fn wait_until_stopped_within(&self, id: &str, limit: Duration) -> Result<(), DockerError> {
        match self.act(&format!("/containers/{id}/wait?condition=not-running"), Some(limit)) {
            // It has been removed meanwhile.
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Asks a container's processes to end, and ends them after `patience`.
    pub fn stop(&self, id: &str, patience: Duration) -> Result<(), DockerError> {
        self.act(&format!("/containers/{id}/stop?t={}", patience.as_secs()), Some(patience + QUICK))
    }

    /// Returns as soon as dockerd answers; the error of the last try after `limit`, or when `is_hopeless`.
    pub fn wait_until_up(&self, limit: Duration, is_hopeless: impl Fn() -> bool) -> Result<(), DockerError> {
        let begun = Instant::now();
        loop {
            match self.get("/_ping").map(drop) {
                Err(error) if begun.elapsed() > limit || is_hopeless() => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
            // A socket that nobody listens at has no event to wait for.
            std::thread::sleep(BETWEEN_PINGS);
        }
    }

    /// What happened to containers between two moments; returns at the later one.
    pub fn events(&self, since: Timestamp, until: Timestamp) -> Result<Vec<Value>, DockerError> {
        let filters = escape(&json!({ "type": ["container"] }).to_string());
        let nanoseconds = |moment: Timestamp| format!("{}.{:09}", moment.as_second(), moment.subsec_nanosecond());
        let call = format!("/events?since={}&until={}&filters={filters}", nanoseconds(since), nanoseconds(until));
        let limit = until.duration_since(Timestamp::now()).unsigned_abs() + QUICK;
        let body = self.body(self.http.get(url(&call)).timeout(limit), &call)?;
        let events = serde_json::Deserializer::from_slice(&body).into_iter();
        events
            .collect::<Result<_, _>>()
            .map_err(|source| DockerError::Unreadable { call: call.clone(), source: source.into() })
    }

    /// Removes a stopped container; nothing happens where there is none.
    pub fn remove(&self, id: &str) -> Result<(), DockerError> {
        let call = format!("/containers/{id}");
        self.delete(&call)
    }

    /// Sets a container's restart policy.
    pub fn set_restart_policy(&self, id: &str, policy: &RestartPolicy) -> Result<(), DockerError> {
        self.post_json(&format!("/containers/{id}/update"), &json!({ "RestartPolicy": policy }))
    }

    pub(super) fn post_json(&self, call: &str, body: &Value) -> Result<(), DockerError> {
        self.answer(self.post(call).timeout(QUICK).json(body), call).map(drop)
    }

    /// Takes as long as the stream does.
    pub(super) fn post_stream(&self, call: &str, body: impl Read + Send + 'static) -> Result<(), DockerError> {
        let request = self.post(call).header("content-type", "application/x-tar");
        self.body(request.body(reqwest::blocking::Body::new(body)), call).map(drop)
    }

    pub(super) fn stream(&self, call: &str) -> Result<impl Read + Send + use<>, DockerError> {
        self.respond(self.http.get(url(call)), call)
    }

    /// What is gone already is as asked.
    pub(super) fn delete(&self, call: &str) -> Result<(), DockerError> {
        match self.answer(self.http.delete(url(call)).timeout(QUICK), call) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, call: &str) -> Result<Value, DockerError> {
        self.answer(self.http.get(url(call)).timeout(QUICK), call)
    }

    fn post(&self, call: &str) -> RequestBuilder {
        self.http.post(url(call))
    }

    fn act(&self, call: &str, limit: Option<Duration>) -> Result<(), DockerError> {
        let request = self.post(call);
        let request = match limit {
            Some(limit) => request.timeout(limit),
            None => request,
        };
        self.answer(request, call).map(drop)
    }

    fn answer(&self, request: RequestBuilder, call: &str) -> Result<Value, DockerError> {
        let body = self.body(request, call)?;
        // `/_ping` says "OK", which is no JSON, and nobody needs.
        if body.is_empty() || body == b"OK" {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|source| DockerError::Unreadable { call: call.to_owned(), source: source.into() })
    }

    fn respond(&self, request: RequestBuilder, call: &str) -> Result<Response, DockerError> {
        let unreachable = |source| DockerError::Unreachable { call: call.to_owned(), source };
        let response = request.send().map_err(unreachable)?;
        // 304: it already is as asked (started, paused).
        match response.status().is_success() || response.status().as_u16() == 304 {
            true => Ok(response),
            false => Err(refused(call, response)),
        }
    }

    fn body(&self, request: RequestBuilder, call: &str) -> Result<Vec<u8>, DockerError> {
        let response = self.respond(request, call)?;
        let mut body = Vec::new();
        response
            .take(LARGEST_ANSWER)
            .read_to_end(&mut body)
            .map_err(|source| DockerError::Unreadable { call: call.to_owned(), source: source.into() })?;
        Ok(body)
    }
}

/// The version in what dockerd calls itself (moby's `VersionMiddleware`): `Docker/28.5.2 (linux)`.
fn version_of_server(server: &str) -> Option<&str> {
    server.strip_prefix("Docker/")?.split(' ').next()
}

fn gives_addresses_late(version: &str) -> bool {
    major(version) >= 28 || version.starts_with("26.0.0")
}

fn keeps_books_open(version: &str) -> bool {
    major(version) >= 26
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}

fn refused(call: &str, response: Response) -> DockerError {
    let status = response.status();
    let mut body = Vec::new();
    let read = response.take(LARGEST_ANSWER).read_to_end(&mut body);
    refusal(call, status, read.map_or(&[], |_| &body))
}

/// dockerd's own words, where it has some.
pub(super) fn refusal(call: &str, status: StatusCode, body: &[u8]) -> DockerError {
    let told = serde_json::from_slice::<Value>(body).ok();
    let message = told.and_then(|value| value["message"].as_str().map(str::to_owned));
    let message = message.unwrap_or_else(|| status.to_string());
    DockerError::Refused { call: call.to_owned(), status: status.as_u16(), message }
}

/// The host part is not used on a unix socket, but a URL has to have one.
pub(super) fn url(call: &str) -> String {
    format!("http://docker{call}")
}

/// Percent-encodes what is not a letter, a digit or plain punctuation of names and image references.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' => (byte as char).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{escape, gives_addresses_late, version_of_server};

    #[test]
    fn an_older_dockerd_closes_its_book_all_the_time() {
        assert!(["26.1.5+dfsg1", "28.5.2"].into_iter().all(super::keeps_books_open));
        assert!(!["20.10.24+dfsg1", "25.0.5", ""].into_iter().any(super::keeps_books_open));
    }

    #[test]
    fn the_version_that_decides_when_addresses_are_given_is_told_by_every_answer() {
        let late = |server| version_of_server(server).map(gives_addresses_late);
        assert_eq!(late("Docker/28.5.2+dfsg4 (linux)"), Some(true));
        assert_eq!(late("Docker/26.0.0 (linux)"), Some(true));
        assert_eq!(late("Docker/26.1.5+dfsg1 (linux)"), Some(false));
        assert_eq!(late("Docker/20.10.24+dfsg1 (linux)"), Some(false));
        assert_eq!(late("Libpod/5.8.6 (linux)"), None);
    }

    #[test]
    fn a_reference_cannot_leave_its_place_in_the_path() {
        assert_eq!(escape("../images/json?all=1"), "..%2Fimages%2Fjson%3Fall%3D1");
        assert_eq!(escape("web_1.x"), "web_1.x");
    }
}
