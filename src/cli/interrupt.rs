//! Ctrl-C while the helper works: it is asked to cancel, and its answer is waited for.

use super::client;
use crate::helper::protocol::{Message, Request};
use nix::sys::signal::{SigSet, Signal};
use std::process::exit;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The exit code of a command that Ctrl-C has ended, as shells have it.
const INTERRUPTED: i32 = 128 + Signal::SIGINT as i32;

/// `sudo` and `timeout` pass on what the whole process group has been sent as well: one Ctrl-C may come twice.
const SAME: Duration = Duration::from_millis(500);

/// The operation that is under way, for whoever is interrupted.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<(Mutex<Option<i64>>, Condvar)>);

impl UnderWay {
    /// From here on Ctrl-C cancels what is under way, and a second one leaves it to the helper. To be called before any
    /// other thread is started.
    pub fn heed_interrupts() -> Self {
        let under_way = Self::default();
        let mut interrupt = SigSet::empty();
        interrupt.add(Signal::SIGINT);
        let own = under_way.clone();
        let heed = move || {
            while interrupt.wait().is_err() {}
            eprintln!("cancelling: what is under way is undone. Once more leaves that to transshipd");
            let (asked, at) = (own.clone(), Instant::now());
            std::thread::spawn(move || asked.cancel());
            while interrupt.wait().is_err() || at.elapsed() < SAME {}
            eprintln!("transshipd goes on; see: transship status");
            exit(INTERRUPTED);
        };
        // Where a signal cannot be blocked or no thread be had, Ctrl-C ends the command and the helper goes on.
        if interrupt.thread_block().is_ok() && std::thread::Builder::new().spawn(heed).is_err() {
            let _ = interrupt.thread_unblock();
        }
        under_way
    }

    /// Notes the operation that begins.
    pub fn follow(&self, message: &Message) {
        if let Message::Begun { operation } = message {
            *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(*operation);
            self.0.1.notify_all();
        }
    }

    /// Cancels what is under way, as soon as something is. How that ends the operation itself tells.
    fn cancel(&self) {
        let (operation, begun) = &*self.0;
        let operation = operation.lock().unwrap_or_else(PoisonError::into_inner);
        let operation = begun.wait_while(operation, |operation| operation.is_none());
        let Some(operation) = *operation.unwrap_or_else(PoisonError::into_inner) else { return };
        if let Err(failure) = client::ask(&Request::Cancel { operation }, |_| {}) {
            eprintln!("{failure}");
        }
    }
}
