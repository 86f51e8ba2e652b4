//! Clocks that must go on: a timerfd, an interval timer, a POSIX timer, and time itself. And, as a role of its own,
//! a periodic timerfd that is read late.

use super::Turn;
use super::board::{ensure, failed};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::sys::timerfd::{self, ClockId, TimerFd, TimerFlags};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

static ALARMS: AtomicU64 = AtomicU64::new(0);
static POSIX: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: i32) {
    ALARMS.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn on_posix(_: i32) {
    POSIX.fetch_add(1, Ordering::SeqCst);
}

pub fn role(_: &Path) -> Result<Turn, String> {
    handle(Signal::SIGALRM, on_alarm)?;
    handle(Signal::SIGUSR1, on_posix)?;
    let every = |milliseconds| TimeSpec::from_duration(Duration::from_millis(milliseconds));
    let timerfd = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).map_err(failed("timerfd"))?;
    set_interval_timer()?;
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGUSR1, si_value: 0 });
    let mut posix = Timer::new(nix::time::ClockId::CLOCK_MONOTONIC, event).map_err(failed("timer_create"))?;
    posix.set(Expiration::Interval(every(20)), TimerSetTimeFlags::empty()).map_err(failed("timer_settime"))?;
    let mut now = Instant::now();
    let turn = move || {
        let once = timerfd::Expiration::OneShot(every(10));
        timerfd.set(once, timerfd::TimerSetTimeFlags::empty()).map_err(failed("timerfd"))?;
        wait(&timerfd)?;
        wait_for_one_more(&ALARMS, "the interval timer")?;
        wait_for_one_more(&POSIX, "the POSIX timer")?;
        let _ = &posix;
        let later = Instant::now();
        ensure(later >= now, || "time goes backwards".into())?;
        now = later;
        Ok(())
    };
    Ok(Box::new(turn))
}

/// Expired, and not read yet, is how a busy program's timer is found more often than not.
pub fn overdue(_: &Path) -> Result<Turn, String> {
    let timerfd = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).map_err(failed("timerfd"))?;
    let periodic = timerfd::Expiration::Interval(TimeSpec::from_duration(Duration::from_millis(1)));
    timerfd.set(periodic, timerfd::TimerSetTimeFlags::empty()).map_err(failed("timerfd"))?;
    Ok(Box::new(move || wait(&timerfd)))
}

fn wait(timerfd: &TimerFd) -> Result<(), String> {
    while let Err(error) = timerfd.wait() {
        ensure(error == nix::errno::Errno::EINTR, || format!("timerfd: {error}"))?;
    }
    Ok(())
}

fn wait_for_one_more(count: &AtomicU64, name: &str) -> Result<(), String> {
    let (before, deadline) = (count.load(Ordering::SeqCst), Instant::now() + PATIENCE);
    while count.load(Ordering::SeqCst) == before {
        ensure(Instant::now() < deadline, || format!("{name} does not go on"))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn handle(signal: Signal, handler: extern "C" fn(i32)) -> Result<(), String> {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers do nothing but count.
    unsafe { sigaction(signal, &action) }.map(drop).map_err(failed("sigaction"))
}

fn set_interval_timer() -> Result<(), String> {
    let every = libc::timeval { tv_sec: 0, tv_usec: 15_000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the pointers are to a whole itimerval and to nothing.
    match unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(format!("setitimer: {}", std::io::Error::last_os_error())),
    }
}
