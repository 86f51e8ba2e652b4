//! The port as a process: what it gives up, what it goes by, and when it ends.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use transship::transport::client::Peer;
use transship::transport::identity::Identity;
use transship::transport::port::config::{Applied, Config, Remote};
use transship::transport::{Address, Fingerprint};

struct Port {
    child: Child,
    stdin: Option<ChildStdin>,
    applied: Box<dyn Iterator<Item = Applied>>,
    identity: Identity,
    address: Address,
    dir: TempDir,
}

impl Port {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let network = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::of("127.0.0.1".parse().unwrap(), network.local_addr().unwrap().port());
        let out = UnixListener::bind(dir.path().join("out.sock")).unwrap();
        let sockets = [network.as_raw_fd(), out.as_raw_fd()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_transshipd"));
        command.arg("port").arg("--helper").arg(dir.path().join("in.sock"));
        command.args(["--network", &sockets[0].to_string(), "--out", &sockets[1].to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: only the child's own descriptors are changed.
        unsafe { command.pre_exec(move || sockets.iter().try_for_each(|socket| keep_open(*socket))) };
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let applied = Box::new(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()));
        let stdin = child.stdin.take();
        Self { child, stdin, applied, identity: Identity::generate().unwrap(), address, dir }
    }

    fn go_by(&mut self, number: u64, peers: Vec<Remote>) {
        let config = Config { number, keys: self.identity.keys().to_vec(), peers, strangers: false };
        let line = serde_json::to_string(&config).unwrap();
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        assert_eq!(self.applied.next(), Some(Applied { number }));
    }

    fn remote(&self, name: &str, other: &Self) -> Remote {
        Remote {
            name: name.parse().unwrap(),
            keys: vec![other.key()],
            addresses: vec![other.address.clone()],
            own: self.key(),
        }
    }

    fn key(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_open(socket: RawFd) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    // SAFETY: the socket is open in the child until it has been executed.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

#[test]
fn it_has_no_privileges_and_no_secret_in_its_arguments() {
    let mut port = Port::start();
    port.go_by(1, vec![]);
    assert_eq!(port.status("NoNewPrivs:"), "1");
    assert_eq!(port.status("CapEff:").trim_start_matches('0'), "", "it has capabilities");
    let arguments = fs::read(format!("/proc/{}/cmdline", port.child.id())).unwrap();
    let key = serde_json::to_string(&port.identity.keys()[0].private_key).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(key.trim_matches('"')));
    if nix::unistd::geteuid().is_root() {
        assert!(!port.status("Uid:").split(' ').any(|uid| uid == "0"), "it is root");
        assert!(!port.status("Gid:").split(' ').any(|gid| gid == "0"), "it is in root's group");
        assert_eq!(port.status("Groups:"), "");
    }
}

#[test]
fn it_ends_when_the_helper_has_gone() {
    let mut port = Port::start();
    port.go_by(1, vec![]);
    // A caller that says nothing keeps it from nothing.
    let _silent = TcpStream::connect(("127.0.0.1", port.address.port())).unwrap();
    port.stdin = None;
    let begun = Instant::now();
    while port.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_of_them_carry_a_question_and_its_answer() {
    let (mut alpha, mut beta) = (Port::start(), Port::start());
    let helper = UnixListener::bind(beta.dir.path().join("in.sock")).unwrap();
    fs::set_permissions(beta.dir.path().join("in.sock"), Permissions::from_mode(0o777)).unwrap();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = helper.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\"hi\"").unwrap();
        head
    });
    let (to_beta, to_alpha) = (alpha.remote("beta", &beta), beta.remote("alpha", &alpha));
    alpha.go_by(1, vec![to_beta]);
    beta.go_by(1, vec![]);
    let peer = Peer::named(&alpha.dir.path().join("out.sock"), "beta");
    assert!(peer.get::<String>("/v1/x").unwrap_err().to_string().contains("does not let this host in"));
    beta.go_by(2, vec![to_alpha]);
    assert_eq!(peer.get::<String>("/v1/x").unwrap(), "hi");
    let head = answers.join().unwrap();
    assert_eq!(head[0], "GET /v1/x HTTP/1.1");
    assert!(head.contains(&"x-transship-peer: alpha".to_owned()), "{head:?}");
}
