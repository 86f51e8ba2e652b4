//! The gate: where the interposer asks what to do with a claimed container.

use super::criu_config::{self, Connections};
use super::{addresses, prepare, thaw};
use crate::checkpoint::dump::Verdict;
use crate::docker::Container;
pub use crate::interposer::SOCKET;
use crate::interposer::{Answer, Images, Request, read_line};
use crate::network::hold::Hold;
use crate::pager;
use crate::store::claims::Claim;
use crate::store::handovers::About;
use crate::store::logs;
use crate::store::{Checkpoint, ContainerId};
use crate::world::landing::Landing;
use crate::world::{Waiting, World, landing};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where CRIU logs restores; not in the store, which keeps what it has verified unchanged.
const WORK: &str = "/run/transship/restore";

/// Listens at the gate; root alone may ask.
pub fn listen(world: &Arc<World>) -> io::Result<()> {
    let path = Path::new(SOCKET);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let world = Arc::clone(world);
    std::thread::Builder::new().name("gate".into()).spawn(move || accept(&world, &listener))?;
    Ok(())
}

fn accept(world: &Arc<World>, listener: &UnixListener) {
    for stream in listener.incoming() {
        let world = Arc::clone(world);
        let served = stream.and_then(|stream| {
            std::thread::Builder::new().name("gate-asker".into()).spawn(move || serve(&world, stream))
        });
        if let Err(error) = served {
            tracing::error!(%error, "the gate could not take a question");
        }
    }
}

fn serve(world: &Arc<World>, mut stream: UnixStream) {
    let answer = match read_line::<Request>(&stream) {
        // Without a verdict the asker is left to the claims.
        Ok(Request::Dumped { container }) => match dumped(world, &container) {
            Some(answer) => answer,
            None => return,
        },
        Ok(request) => answer(world, &request),
        Err(error) => Answer::Refused { reason: format!("the question cannot be read: {error}") },
    };
    if let Answer::Refused { reason } = &answer {
        tracing::warn!(reason, "refused at the gate");
    }
    let told = serde_json::to_vec(&answer).map_err(io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        stream.write_all(&line)
    });
    if let Err(error) = told {
        tracing::warn!(%error, "the interposer did not wait for its answer");
    }
}

fn answer(world: &Arc<World>, request: &Request) -> Answer {
    let answered = match request {
        Request::Dumped { .. } => Err("a dump asks for a verdict and nothing else".into()),
        Request::Create { container, .. } if is_placeholder(world, container) => Ok(Answer::Create),
        Request::Create { container, manifest, .. } => create(world, container, manifest).map(Answer::Restore),
        Request::Restored { container, pid } => restored(world, container, *pid).map(|()| Answer::Done),
        Request::Failed { container, reason } => failed(world, container, reason).map(|()| Answer::Done),
        Request::Start { container } => start(world, container),
    };
    answered.unwrap_or_else(|reason| Answer::Refused { reason })
}

/// What becomes of processes that were dumped and stand still; `None` where their operation ended without a verdict.
fn dumped(world: &World, container: &str) -> Option<Answer> {
    let Ok(id) = container.parse::<ContainerId>() else {
        return Some(Answer::Refused { reason: format!("{container:?} is no container") });
    };
    Some(match world.dumps.ask(&id)? {
        Verdict::Keep => Answer::Done,
        Verdict::GiveUp => {
            Answer::Refused { reason: format!("the dump of {id:.12} does not count; its processes go on") }
        }
    })
}

fn is_placeholder(world: &World, container: &str) -> bool {
    container.parse().is_ok_and(|id: ContainerId| world.placeholders.has(&id))
}

/// The claim that the interposer has just taken, as the store has it.
fn taken(world: &World, container: &str) -> Result<Claim, String> {
    let id: ContainerId = container.parse().map_err(|error| format!("{container:?}: {error}"))?;
    let claim = world.claims.taken(&id).map_err(|error| error.to_string())?;
    claim.ok_or_else(|| format!("there is no claim on container {id:.12}"))
}

fn create(world: &Arc<World>, container: &str, manifest: &str) -> Result<Images, String> {
    let claim = taken(world, container)?;
    if claim.manifest != manifest {
        return Err("the claim was changed while it was being taken".into());
    }
    if let Some(peer) = &claim.departed_to {
        return Err(format!("it has moved to {peer} and runs there"));
    }
    require_word(world, &claim)?;
    if let Some(told) = world.arrivals.take(&claim.container) {
        // Who waited may have given up.
        let _ = told.send(());
    }
    // An earlier start that dockerd gave up after the restore may have left it the turn.
    addresses::give_up_turn(world, &claim.container);
    expect_back(world, &claim.container);
    let images = prepare::images(world, &claim).map_err(|failure| failure.to_string())?.images;
    let checkpoint = world.catalog.get(&claim.checkpoint).map_err(|error| error.to_string())?;
    let connections = connections(world, &checkpoint, &claim);
    let work = work_directory(&claim).map_err(|error| format!("cannot make a working directory: {error}"))?;
    let criu_config = work.join("criu.conf");
    criu_config::write(&criu_config, connections)
        .map_err(|error| format!("cannot write {}: {error}", criu_config.display()))?;
    let network = prepare::network(&checkpoint).map_err(|failure| failure.to_string())?;
    let addresses = match connections {
        Connections::Kept => network.addresses().to_vec(),
        Connections::Closed => Vec::new(),
    };
    let memory_follows = checkpoint.manifest().dump.memory_follows;
    if memory_follows {
        begin_pager(world, &claim, &images, &work)?;
    }
    let options = criu_config::runc_options(connections, memory_follows);
    Ok(Images { images, work, criu_config, addresses, options })
}

/// Whoever serves the memory that is not in the images has to be there before CRIU is.
fn begin_pager(world: &World, claim: &Claim, images: &Path, work: &Path) -> Result<(), String> {
    let landing = world.landings.get(&claim.container);
    let source = landing.as_ref().and_then(|landing| landing.memory.as_ref());
    let source = source.ok_or("its memory is not in the checkpoint: it was to follow from processes that are gone")?;
    pager::begin(claim.container.as_str(), images, work, source)
        .map_err(|error| format!("what serves its memory cannot be started: {error}"))
}

/// What comes from a peer is let go on its word alone (I2), whoever starts it.
fn require_word(world: &World, claim: &Claim) -> Result<(), String> {
    if world.landings.has(&claim.container) {
        // It hears the word, or that there is none, when it stands ready.
        return Ok(());
    }
    let kept = world.handovers.get(About::Arrival, claim.migration()).map_err(|error| error.to_string())?;
    match landing::may_run_by_itself(kept.as_ref(), world.visits.has(claim.migration())) {
        true => Ok(()),
        false => Err("the host that it came from has not given it to this one, or it was given up here".into()),
    }
}

/// Changing rules takes as long as iptables takes, so it is done while CRIU restores.
fn expect_back(world: &Arc<World>, container: &ContainerId) {
    let (for_thread, id) = (Arc::clone(world), container.clone());
    let switch = move || {
        if let Some(Err(error)) = for_thread.holds.with(&id, Hold::expect_back) {
            tracing::error!(container = %id, %error, "the ends of its connections may be said late");
        }
    };
    match std::thread::Builder::new().name("expect-back".into()).spawn(switch) {
        Ok(thread) => world.expecting.keep(container.clone(), thread),
        Err(error) => tracing::error!(%container, %error, "no thread to change its hold"),
    }
}

/// With another address its connections cannot live.
fn connections(world: &World, checkpoint: &Checkpoint, claim: &Claim) -> Connections {
    match thaw::keeps_addresses(world, checkpoint, claim) {
        true => Connections::Kept,
        false => Connections::Closed,
    }
}

/// Where CRIU logs the restore of a container.
pub fn work_path(container: &ContainerId) -> PathBuf {
    Path::new(WORK).join(container.to_string())
}

fn work_directory(claim: &Claim) -> io::Result<PathBuf> {
    let work = work_path(&claim.container);
    match std::fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir_all(&work)?;
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o700))?;
    Ok(work)
}

fn restored(world: &Arc<World>, container: &str, pid: i32) -> Result<(), String> {
    let claim = taken(world, container)?;
    tracing::info!(%container, pid, checkpoint = %claim.checkpoint, "restored, and stopped");
    if let Some(thread) = world.expecting.take(&claim.container) {
        thread.join().map_err(|_| "the hold could not be changed".to_owned())?;
    }
    world.waiting.keep(claim.container.clone(), Waiting { pid });
    let checkpoint = world.catalog.get(&claim.checkpoint).map_err(|error| error.to_string())?;
    if connections(world, &checkpoint, &claim) == Connections::Kept {
        let before = match world.landings.get(&claim.container) {
            Some(landing) => landing.inspect.clone(),
            None => checkpoint.manifest().container.spec.clone(),
        };
        let before = Container::new(before);
        let ready = addresses::before_docker_hears(world, &claim.container, &before, pid.unsigned_abs());
        ready.map_err(|failure| failure.to_string())?;
    }
    Ok(())
}

fn failed(world: &World, container: &str, reason: &str) -> Result<(), String> {
    let claim = taken(world, container)?;
    tracing::error!(%container, checkpoint = %claim.checkpoint, reason, "could not be restored");
    // CRIU has ended what it had restored.
    pager::end(claim.container.as_str()).map_err(|error| error.to_string())?;
    let log = work_path(&claim.container).join("restore.log");
    if let Err(error) = world.logs.keep(&claim.checkpoint, logs::Of::Restore, &log) {
        tracing::warn!(%container, %error, "CRIU's log of it could not be kept");
    }
    super::settle::remove_directory(&work_path(&claim.container));
    drop(world.expecting.take(&claim.container));
    addresses::end_turn(world, &claim.container);
    world.claims.give_back(&claim.container).map_err(|error| error.to_string())
}

fn start(world: &Arc<World>, container: &str) -> Result<Answer, String> {
    let claim = taken(world, container)?;
    if let Some(placeholder) = world.placeholders.take(&claim.container) {
        placeholder.wait();
        return Err("it only kept an address".into());
    }
    addresses::end_turn(world, &claim.container);
    let waiting = world.waiting.get(&claim.container);
    let waiting = waiting.ok_or_else(|| format!("container {container:.12} was not restored by this helper"))?;
    match world.landings.get(&claim.container) {
        Some(landing) => land(world, &claim, &waiting, &landing),
        None => {
            // Whoever brought it to the gate has given it up meanwhile.
            require_word(world, &claim)?;
            thaw::container(world, &claim).map_err(|failure| failure.to_string())
        }
    }
}

/// One that comes from a peer is ready. Its source decides, and whoever hears of that puts its network in order.
fn land(world: &World, claim: &Claim, waiting: &Waiting, landing: &Landing) -> Result<Answer, String> {
    thaw::require_network(world, claim, waiting).map_err(|failure| failure.to_string())?;
    if landing.goes_ahead() {
        return match landing.stands_ready() {
            true => Ok(Answer::Later),
            false => Err("it was given up meanwhile".into()),
        };
    }
    if !landing.wait_for_word() {
        return Err("the host that it came from has kept it".into());
    }
    let stay_stopped = thaw::stay_stopped(world, claim).map_err(|failure| failure.to_string())?;
    Ok(Answer::Go { stay_stopped })
}
