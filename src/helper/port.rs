//! Keeps the port as it should be: starts it, tells it what it is to go by, starts it again when it has died.
//!
//! The network's socket and the one towards the helper are made here, by root, for each port anew. What no port holds is
//! closed, so whoever asks for a peer while there is none hears so at once.

use crate::failure::{Failure, OrFail};
use crate::transport::client;
use crate::transport::port::config::{Applied, Config};
use crate::transport::port::process::{self, WORD};
use crate::transport::protocol::Problem;
use crate::world::World;
use jiff::Timestamp;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Gid, Uid};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause before a port that has died, or could not be started, is started again; it doubles each time. A container may
/// stand still meanwhile, for whose sake a peer is waited for no longer than ten seconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A port that has lived so long may be started again without a pause.
const HAS_LIVED: Duration = Duration::from_secs(60);

/// How often the clock is looked at while an invitation is open: it may be set meanwhile.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// Makes the directory of the port's sockets, and begins to keep the port.
pub fn keep(world: &Arc<World>) -> Result<(), Failure> {
    let directory = Path::new(client::SOCKET).parent().unwrap_or(Path::new("/"));
    let user = process::user().or_fail(|| "the port has no user to run as".into())?;
    let prepare = || {
        std::fs::create_dir_all(directory)?;
        if let Some(user) = &user {
            nix::unistd::chown(directory, Some(Uid::current()), Some(user.gid))?;
        }
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750))
    };
    prepare().or_fail(|| format!("{} cannot be made", directory.display()))?;
    let mut keeper = Keeper { world: Arc::clone(world), running: None, pause: SHORTEST_PAUSE, not_before: None };
    let thread = std::thread::Builder::new().name("port".into()).spawn(move || keeper.keep());
    thread.or_fail(|| "no thread to keep the port".into())?;
    if let Err(error) = world.peers.refresh() {
        // Containers of this host are brought back all the same; whoever asks for a peer is told.
        let failure = Failure::new("this host's peers cannot be used").because(&error);
        tracing::error!(%failure, "no peer can call or be called");
    }
    Ok(())
}

/// The user and group whose processes the helper takes for the port.
pub fn user() -> (Uid, Gid) {
    let user = process::user().ok().flatten();
    user.map_or_else(|| (Uid::current(), Gid::current()), |user| (user.uid, user.gid))
}

struct Keeper {
    world: Arc<World>,
    running: Option<Running>,
    pause: Duration,
    not_before: Option<Instant>,
}

/// A port; killed when dropped, as it keeps nothing.
struct Running {
    child: Child,
    stdin: ChildStdin,
    began: Instant,
    told: u64,
}

impl Keeper {
    fn keep(&mut self) {
        let (mut known, mut wanted) = (0, None);
        loop {
            match self.world.peers.wish.newer(known, self.patience(wanted.is_some())) {
                Some((number, config)) => (known, wanted) = (number, config),
                None => self.close_what_has_expired(),
            }
            match &wanted {
                Some(config) => self.go_by(config),
                None => {
                    self.running = None;
                    self.world.peers.wish.seen_to(known, Ok(()));
                }
            }
        }
    }

    fn patience(&self, is_wanted: bool) -> Duration {
        match self.not_before {
            Some(moment) if is_wanted && self.running.is_none() => moment.saturating_duration_since(Instant::now()),
            _ => CLOCK_INTERVAL.min(self.until_expiry()),
        }
    }

    fn until_expiry(&self) -> Duration {
        let expiry = self.world.peers.next_expiry();
        let left = expiry.map(|expiry| expiry.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        // Not more often than every second, whatever the clock says.
        left.unwrap_or(CLOCK_INTERVAL).max(Duration::from_secs(1))
    }

    fn close_what_has_expired(&self) {
        if self.world.peers.next_expiry().is_some_and(|expiry| expiry <= Timestamp::now())
            && let Err(error) = self.world.peers.refresh()
        {
            tracing::warn!(%error, "an invitation has expired and cannot be taken out");
        }
    }

    /// Makes the port go by a configuration. Its answer is heard by [`listen_to`].
    fn go_by(&mut self, config: &Config) {
        if let Some(running) = &mut self.running
            && running.has_ended()
        {
            tracing::error!("the port has died");
            if running.began.elapsed() > HAS_LIVED {
                self.pause = SHORTEST_PAUSE;
            }
            self.running = None;
            self.wait_before_the_next();
        }
        if self.running.as_ref().is_some_and(|running| running.told >= config.number) {
            return;
        }
        if self.running.is_none() && self.not_before.is_some_and(|moment| moment > Instant::now()) {
            return;
        }
        let told = match self.running.take().map_or_else(|| self.start(), Ok) {
            Ok(mut running) => running.tell(config).map(|()| running),
            Err(error) => Err(error),
        };
        match told {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                let tcp_port = self.world.settings.port;
                tracing::error!(%error, tcp_port, "the port cannot be started");
                let problem = Problem::new(format!("it cannot be started on TCP port {tcp_port}")).because(&error);
                self.world.peers.wish.seen_to(config.number, Err(problem));
                self.wait_before_the_next();
            }
        }
    }

    fn wait_before_the_next(&mut self) {
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn start(&self) -> io::Result<Running> {
        let network = listen_on_network(self.world.settings.port)?;
        let out = listen_locally(Path::new(client::SOCKET))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .args([WORD, "--helper", client::HELPER_SOCKET])
            .args(["--network", &network.as_raw_fd().to_string(), "--out", &out.as_raw_fd().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let handed_over = [network.as_raw_fd(), out.as_raw_fd()];
        let hand_over = move || {
            for number in handed_over {
                // SAFETY: both sockets are open until the child has been started.
                let socket = unsafe { BorrowedFd::borrow_raw(number) };
                fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: `fcntl` is async-signal-safe, and acts on the child's own table of descriptors.
        unsafe {
            command.pre_exec(hand_over);
        }
        let mut child = command.spawn()?;
        let missing = || io::Error::other("no pipe to the port");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (world, pid) = (Arc::clone(&self.world), child.id() as i32);
        let listen = move || listen_to(BufReader::new(stdout), pid, &world);
        std::thread::Builder::new().name("port-answers".into()).spawn(listen)?;
        tracing::info!(pid = child.id(), tcp_port = self.world.settings.port, "the port is started");
        Ok(Running { child, stdin, began: Instant::now(), told: 0 })
    }
}

/// Hears which configurations the port goes by, until it ends; then wishes for one again, which starts another.
fn listen_to(lines: impl BufRead, pid: i32, world: &World) {
    for line in lines.lines().map_while(Result::ok) {
        match serde_json::from_str::<Applied>(&line) {
            Ok(Applied { number }) => world.peers.wish.seen_to(number, Ok(())),
            Err(error) => tracing::warn!(%error, "the port has said something that it should not"),
        }
    }
    // A process closes its files a moment before it has ended, and whoever looks in between takes it for alive.
    crate::process::wait_for_end(pid);
    if let Err(error) = world.peers.refresh() {
        tracing::warn!(%error, "the port has ended and cannot be started again");
    }
}

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn tell(&mut self, config: &Config) -> io::Result<()> {
        let mut line = serde_json::to_vec(config)?;
        line.push(b'\n');
        self.stdin.write_all(&line)?;
        self.told = config.number;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On all addresses, of both kinds where the host has both.
fn listen_on_network(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.raw_os_error() {
        Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        _ => Err(error),
    })
}

/// For root alone. The directory keeps others out until the mode is right.
fn listen_locally(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
