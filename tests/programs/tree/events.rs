//! epoll over an eventfd and a signalfd.

use super::Turn;
use super::board::{ensure, failed};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::path::Path;

const EVENT: u64 = 0xe7e47;
const SIGNAL: u64 = 0x519;
const PATIENCE_MS: u16 = 60_000;

pub fn role(_: &Path) -> Result<Turn, String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR2);
    signals.thread_block().map_err(failed("sigprocmask"))?;
    let signalfd = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK).map_err(failed("signalfd"))?;
    let eventfd = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).map_err(failed("eventfd"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create"))?;
    epoll.add(&eventfd, EpollEvent::new(EpollFlags::EPOLLIN, EVENT)).map_err(failed("epoll_ctl"))?;
    epoll.add(&signalfd, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL)).map_err(failed("epoll_ctl"))?;
    let mut number = 0;
    let turn = move || {
        number += 1;
        eventfd.write(number).map_err(failed("eventfd"))?;
        kill(nix::unistd::getpid(), Signal::SIGUSR2).map_err(failed("kill"))?;
        let (mut event, mut signal) = (None, None);
        while event.is_none() || signal.is_none() {
            let mut ready = [EpollEvent::empty(); 4];
            let count = epoll.wait(&mut ready, PATIENCE_MS).map_err(failed("epoll_wait"))?;
            ensure(count > 0, || "epoll tells of nothing".into())?;
            for one in &ready[..count] {
                match one.data() {
                    EVENT => event = Some(eventfd.read().map_err(failed("eventfd"))?),
                    SIGNAL => signal = signalfd.read_signal().map_err(failed("signalfd"))?,
                    other => return Err(format!("epoll tells of {other:#x}")),
                }
            }
        }
        ensure(event == Some(number), || format!("eventfd had {event:?} instead of {number}"))?;
        let signal = signal.map(|info| info.ssi_signo as i32);
        ensure(signal == Some(Signal::SIGUSR2 as i32), || format!("signalfd had {signal:?}"))
    };
    Ok(Box::new(turn))
}
