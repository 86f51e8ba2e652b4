//! `transship metrics`

use super::{Ask, text};
use crate::failure::Failure;
use crate::helper::protocol::Request;
use serde_json::Value;

/// Print figures for a monitor, as OpenMetrics text that Prometheus reads
///
/// Counts begin at zero when transshipd starts. With the setting `metrics_port` they are on 127.0.0.1 as well.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

impl Ask for Arguments {
    fn request(&self) -> Result<Request, Failure> {
        Ok(Request::Metrics)
    }

    fn tell(&self, answer: &Value) -> String {
        text(answer, "metrics").to_owned()
    }
}
