//! A process tree that checks itself all the time: `tree PORT [DIRECTORY] [--with ROLE]...`
//!
//! Each role is a process (or several) that uses one kind of thing a container may have, and turn by turn makes
//! sure that it is as it left it. `check` on the port is answered with `ok born=... turns=...` when every role has
//! done whole turns since the question and found nothing wrong, and with what is wrong otherwise. `echo` and
//! `stream` as in the line protocol. DIRECTORY (default `/tmp`) is for files, sockets and a fifo.

#[path = "../common/mod.rs"]
mod common;

mod board;
mod events;
mod family;
mod files;
mod locks;
mod memory;
mod pipes;
mod sockets;
mod threads;
mod timers;
mod user;

use board::Board;
use nix::unistd::{ForkResult, fork};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One turn of a role: looks at everything it has, and changes some of it.
type Turn = Box<dyn FnMut() -> Result<(), String>>;

/// Sets a role up, in its own process; the directory is for its files.
type Role = fn(&Path) -> Result<Turn, String>;

const ROLES: [(&str, Role); 10] = [
    ("threads", threads::role),
    ("memory", memory::role),
    ("sockets", sockets::role),
    ("pipes", pipes::role),
    ("timers", timers::role),
    ("events", events::role),
    ("files", files::role),
    ("locks", locks::role),
    ("user", user::role),
    ("family", family::role),
];

/// Roles that are played only where `--with` names them: they are hard to freeze, and tests ask for them by name.
const EXTRAS: [(&str, Role); 2] = [("stopped", family::stopped), ("overdue", timers::overdue)];

/// Between two turns, so that the machine is left to others.
const PAUSE: Duration = Duration::from_millis(10);

fn main() {
    let (port, directory, roles) = arguments();
    common::end_on_sigterm();
    let board = Board::new(roles.len());
    for (index, (_, role)) in roles.iter().enumerate() {
        // SAFETY: no thread has been started yet, so that the child is as whole as its parent.
        if let ForkResult::Child = unsafe { fork() }.expect("fork") {
            play(&board, index, *role, &directory);
        }
    }
    let birth = common::birth();
    common::server::serve(port, Arc::new(move |line: &str| answer(&board, &roles, &birth, line)));
}

fn arguments() -> (u16, PathBuf, Vec<(&'static str, Role)>) {
    let mut words = std::env::args().skip(1);
    let port = words.next().and_then(|word| word.parse().ok()).expect("tree PORT");
    let (mut directory, mut roles) = (PathBuf::from("/tmp"), ROLES.to_vec());
    while let Some(word) = words.next() {
        if word == "--with" {
            let name = words.next().expect("--with ROLE");
            roles.push(*EXTRAS.iter().find(|(extra, _)| *extra == name).expect("a role"));
        } else {
            directory = word.into();
        }
    }
    (port, directory, roles)
}

fn play(board: &Board, index: usize, role: Role, directory: &Path) -> ! {
    let Err(reason) = turn_after_turn(board, index, role, directory);
    board.wrong(index, &reason);
    // Its processes stay to be looked at.
    loop {
        nix::unistd::pause();
    }
}

fn turn_after_turn(board: &Board, index: usize, role: Role, directory: &Path) -> Result<Infallible, String> {
    let mut turn = role(directory)?;
    loop {
        turn()?;
        board.turned(index);
        std::thread::sleep(PAUSE);
    }
}

fn answer(board: &Board, roles: &[(&str, Role)], birth: &str, line: &str) -> String {
    if line != "check" {
        return format!("wrong: there is no {line:?}");
    }
    for (index, turns) in board.wait_for_turns() {
        let (name, _) = roles[index];
        if let Some(reason) = board.reason(index) {
            return format!("wrong: {name}: {reason}");
        }
        if turns.is_none() {
            return format!("wrong: {name}: it stands still");
        }
    }
    format!("ok born={birth} turns={}", board.total())
}
