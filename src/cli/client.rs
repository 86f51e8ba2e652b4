//! Asking the helper and following its answer.

use crate::failure::Failure;
use crate::helper::protocol::{Message, Request, SOCKET};
use serde_json::Value;
use std::io::{BufRead, BufReader};

/// Sends a request and hands each message to `follow` until the answer comes.
pub fn ask(request: &Request, mut follow: impl FnMut(&Message)) -> Result<Value, Failure> {
    let http = reqwest::blocking::Client::builder().unix_socket(SOCKET).timeout(None).build();
    let http = http.map_err(|error| Failure::new("cannot make an HTTP client").because(&error))?;
    let response = http.post("http://transshipd/v1/operations").json(request).send().map_err(|error| {
        Failure::refused(format!("transshipd does not answer on {SOCKET}"))
            .because(&error)
            .remedy("start it (systemctl start transshipd, or service transshipd start) and see that you are root or in the group transship")
    })?;
    if !response.status().is_success() {
        let text = response.text().unwrap_or_default();
        return Err(Failure::usage(format!("transshipd did not take the request: {}", text.trim())));
    }
    for line in BufReader::new(response).lines() {
        let line = line.map_err(|error| lost().because(&error))?;
        let message = serde_json::from_str(&line)
            .map_err(|error| Failure::new("transshipd's answer cannot be read").because(&error))?;
        match message {
            Message::Done { answer } => return Ok(answer),
            Message::Failed { failure } => return Err(failure),
            other => follow(&other),
        }
    }
    Err(lost())
}

fn lost() -> Failure {
    Failure::new("transshipd was lost before it answered")
        .remedy("it goes on from its journal when it starts again; see: transship status")
        .needs_person()
}
