//! What operations work on: the host's Docker, the store, the holds, and the claims that wait at the gate.

use crate::checkpoint::dump::Dumps;
use crate::docker::{Client, Container, DockerError};
use crate::failure::{Failure, OrFail};
use crate::metrics::Metrics;
use crate::network::hold::{Hold, HoldReport};
use crate::network::inside::NewConnections;
use crate::network::neighbours::StandIn;
use crate::saga::{Failpoints, Journal, Progress};
use crate::services::Weights;
use crate::settings::Settings;
use crate::store::claims::Claims;
use crate::store::{Catalog, CheckpointId, ContainerId, Handovers, Layout, Logs, layout};
use crate::transport::peers::Peers;
use cancels::Cancels;
use decisions::Decisions;
use fetches::Fetching;
use handing_out::{AtTheGate, HandingOut};
use landing::Landing;
use memories::Memory;
use memory_coming::MemoryComing;
use open_ways::OpenWays;
use pulls::Pulls;
use rcu::Rcu;
use returns::Returns;
use sending_back::Returning;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use visits::Visit;

pub mod cancels;
pub mod decisions;
pub mod ending;
pub mod fetches;
pub mod handing_out;
pub mod hurry;
pub mod landing;
pub mod log;
pub mod memories;
pub mod memory_coming;
pub mod open_ways;
pub mod parts;
pub mod pulls;
pub mod rcu;
pub mod returns;
pub mod sending_back;
pub mod told;
pub mod visits;

/// Everything that outlives a single operation.
pub struct World {
    /// The helper's settings.
    pub settings: Settings,
    /// The local dockerd.
    pub docker: Client,
    /// The checkpoints.
    pub catalog: Catalog,
    /// The claims.
    pub claims: Claims,
    /// Where migrations stand.
    pub handovers: Handovers,
    /// CRIU's logs of what has failed.
    pub logs: Logs,
    /// Who this host is to others, and whom it knows.
    pub peers: Peers,
    /// What was begun and how far it came.
    pub journal: Journal,
    /// What a monitor is told.
    pub metrics: Arc<Metrics>,
    /// Where tests make the helper fail.
    pub failpoints: Failpoints,
    /// Packets kept from frozen containers, by the container that owns the network namespace.
    pub holds: Table<ContainerId, Hold>,
    /// Holds that are being made ready for the restored container to speak.
    pub expecting: Table<ContainerId, JoinHandle<()>>,
    /// Who answers for frozen containers' addresses on their bridges.
    pub stand_ins: Table<ContainerId, StandIn>,
    /// New connections that are parked inside containers' namespaces, until their dump's end.
    pub parked_inside: Table<ContainerId, NewConnections>,
    /// Dumps that are under way.
    pub dumps: Dumps,
    /// Checkpoints that a restore works with: their images stay as they are.
    pub reserved: Table<CheckpointId, ()>,
    /// Images that were verified and wait for their container's `create`.
    pub prepared: Table<CheckpointId, Prepared>,
    /// Restored containers that are stopped and wait for `start`, or for the rest of their group.
    pub waiting: Table<ContainerId, Waiting>,
    /// Whose turn it is to get its addresses from Docker.
    pub handing_out: HandingOut,
    /// Who wants to hear that a container's `create` has arrived at the gate.
    pub arrivals: Table<ContainerId, Sender<()>>,
    /// Containers that only keep an address.
    pub placeholders: Table<ContainerId, AtTheGate>,
    /// Checkpoints that are being fetched from a peer.
    pub fetches: Table<CheckpointId, Arc<Fetching>>,
    /// Images that are being pulled for peers' containers.
    pub pulls: Pulls,
    /// When ways for open connections are looked at.
    pub open_ways: OpenWays,
    /// Migrations that come to this host.
    pub visits: Table<CheckpointId, Arc<Visit>>,
    /// Migrations to this host whose containers are wanted back where they came from.
    pub sending_back: Table<CheckpointId, Returning>,
    /// What a person has decided about migrations.
    pub decisions: Decisions,
    /// Memory that has come of migrations before their containers.
    pub memory_coming: Table<CheckpointId, Arc<Mutex<MemoryComing>>>,
    /// Operations that can be cancelled.
    pub cancels: Cancels,
    /// Containers that come from a peer, and run on its word only.
    pub landings: Table<ContainerId, Arc<Landing>>,
    /// Memory that follows containers from here.
    pub memories: Table<CheckpointId, Memory>,
    /// Containers that run again and whose restart policy and hold are still being put back.
    pub settling: Table<ContainerId, ()>,
    /// Whether containers are being brought back just now.
    pub returns: Arc<Returns>,
    /// Containers that an operation is at work on.
    pub busy: Busy,
    /// What holds that were lifted have kept, for whoever asks.
    pub lifted: Table<ContainerId, HoldReport>,
    /// How long containers that have just come back were away, in microseconds.
    pub downtimes: Table<ContainerId, u64>,
    /// The kernel's grace periods.
    pub rcu: Arc<Rcu>,
    /// What share of the processors Docker's services and this helper have.
    pub weights: Arc<Weights>,
    /// Checkpoints that are being compressed.
    pub packing: Packing,
    /// What to do when restored containers are settled: their checkpoints may be compressed now.
    pub on_settled: fn(&Arc<Self>),
}

/// Verified images on disk.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// BLAKE3 of the manifest that they were verified against.
    pub manifest: String,
    /// Where they are.
    pub images: PathBuf,
    /// Whether the directory was unpacked for this restore and goes away with it.
    pub temporary: bool,
}

/// A restored, stopped container.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its first process.
    pub pid: i32,
}

impl World {
    /// Every container of Docker's. One that waits at the gate for a peer's word is told as it will be, and as one that does
    /// not run: dockerd would not answer before it does.
    pub fn containers(&self) -> Result<Vec<Container>, DockerError> {
        self.docker.containers_but(|id| self.landings.get(&id.parse().ok()?)?.container(id))
    }

    /// Whether a container of this name waits at the gate for a peer's word.
    pub fn is_landing(&self, name: &str) -> bool {
        let names = |landing: &Landing| landing.container("").is_some_and(|container| container.name() == name);
        self.landings.any(|landing| names(landing))
    }

    /// Opens everything that the helper works on.
    pub fn open(settings: Settings) -> Result<Self, Failure> {
        let root = layout::DEFAULT_ROOT;
        let layout = Layout::open(root).or_fail(|| format!("the store {root} cannot be opened"))?;
        let journal = Journal::open(&layout.journal()).or_fail(|| "the journal cannot be opened".into())?;
        Ok(Self {
            docker: Client::new(&settings.docker_socket),
            claims: Claims::at(layout.root()),
            handovers: Handovers::of(&layout),
            logs: Logs::of(&layout),
            peers: Peers::of(layout.root()),
            catalog: Catalog::open(layout),
            journal,
            metrics: Arc::default(),
            failpoints: Failpoints::from_environment(),
            holds: Table::default(),
            expecting: Table::default(),
            stand_ins: Table::default(),
            parked_inside: Table::default(),
            dumps: Dumps::default(),
            reserved: Table::default(),
            prepared: Table::default(),
            waiting: Table::default(),
            handing_out: HandingOut::default(),
            arrivals: Table::default(),
            placeholders: Table::default(),
            fetches: Table::default(),
            pulls: Pulls::default(),
            open_ways: OpenWays::default(),
            visits: Table::default(),
            sending_back: Table::default(),
            decisions: Decisions::default(),
            memory_coming: Table::default(),
            cancels: Cancels::default(),
            landings: Table::default(),
            memories: Table::default(),
            settling: Table::default(),
            returns: Arc::default(),
            busy: Busy::default(),
            lifted: Table::default(),
            downtimes: Table::default(),
            rcu: Rcu::of_this_host(settings.expedite_rcu),
            weights: Weights::of_this_host(settings.raise_weights),
            packing: Packing::default(),
            on_settled: |_| {},
            settings,
        })
    }
}

/// A table that several threads use. A thread that works on one value keeps nobody from the others.
#[derive(Debug)]
pub struct Table<K, V> {
    /// `None` while a thread works on the value.
    values: Mutex<HashMap<K, Option<V>>>,
    changed: Condvar,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { values: Mutex::default(), changed: Condvar::new() }
    }
}

impl<K: std::hash::Hash + Eq, V> Table<K, V> {
    /// Keeps a value until it is taken.
    pub fn keep(&self, key: K, value: V) {
        self.lock().insert(key, Some(value));
        self.changed.notify_all();
    }

    /// Keeps a value unless there is one already: whether it was kept.
    pub fn keep_new(&self, key: K, value: V) -> bool {
        let mut values = self.lock();
        if values.contains_key(&key) {
            return false;
        }
        values.insert(key, Some(value));
        self.changed.notify_all();
        true
    }

    /// Takes a value away from here, as soon as nobody works on it.
    pub fn take(&self, key: &K) -> Option<V> {
        let taken = self.lock_idle(key).remove(key).flatten();
        self.changed.notify_all();
        taken
    }

    /// Returns when there is none.
    pub fn wait_until_taken(&self, key: &K) {
        let mut values = self.lock();
        while values.contains_key(key) {
            values = self.changed.wait(values).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether there is one.
    pub fn has(&self, key: &K) -> bool {
        self.lock().contains_key(key)
    }

    /// Whether one of the values that nobody works on is as asked.
    pub fn any(&self, is_so: impl Fn(&V) -> bool) -> bool {
        self.lock().values().flatten().any(is_so)
    }

    /// Does something with a value that stays here.
    pub fn with<T>(&self, key: &K, act: impl FnOnce(&mut V) -> T) -> Option<T> {
        let value = self.lock_idle(key).get_mut(key)?.take();
        let mut lent = Lent { table: self, key, value };
        lent.value.as_mut().map(act)
    }

    /// The table, at a moment when nobody works on the value.
    fn lock_idle(&self, key: &K) -> MutexGuard<'_, HashMap<K, Option<V>>> {
        let mut values = self.lock();
        while matches!(values.get(key), Some(None)) {
            values = self.changed.wait(values).unwrap_or_else(PoisonError::into_inner);
        }
        values
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Option<V>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: std::hash::Hash + Eq, V: Clone> Table<K, V> {
    /// A copy of a value that stays here.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock_idle(key).get(key).cloned().flatten()
    }
}

/// A value that a thread works on; it goes back to its place, also when the thread panics.
struct Lent<'a, K: std::hash::Hash + Eq, V> {
    table: &'a Table<K, V>,
    key: &'a K,
    value: Option<V>,
}

impl<K: std::hash::Hash + Eq, V> Drop for Lent<'_, K, V> {
    fn drop(&mut self) {
        // Another value may have been put in its place meanwhile.
        if let Some(place @ None) = self.table.lock().get_mut(self.key) {
            *place = self.value.take();
        }
        self.table.changed.notify_all();
    }
}

/// Admission: one operation at a time for each container; none beside one that works on the engine itself.
#[derive(Debug, Default)]
pub struct Busy {
    names: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// Stands for the engine among the names of containers, none of which can be this.
const ENGINE: &str = "the engine";

/// The right to work on some containers, until dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    busy: &'a Busy,
    names: Vec<String>,
}

impl Busy {
    /// Takes the turn on all of `names`, or on none: then it names the one that is taken.
    pub fn begin(&self, names: Vec<String>) -> Result<Turn<'_>, String> {
        self.take(self.lock(), names)
    }

    /// The same, as soon as all are free; who has one after `patience`.
    pub fn begin_within(&self, names: Vec<String>, patience: Duration) -> Result<Turn<'_>, String> {
        let is_taken = |busy: &mut HashSet<String>| taken(busy, &names).is_some();
        let waited = self.freed.wait_timeout_while(self.lock(), patience, is_taken);
        self.take(waited.unwrap_or_else(PoisonError::into_inner).0, names)
    }

    fn take(&self, mut busy: MutexGuard<'_, HashSet<String>>, names: Vec<String>) -> Result<Turn<'_>, String> {
        if let Some(taken) = taken(&busy, &names) {
            return Err(taken);
        }
        busy.extend(names.iter().cloned());
        Ok(Turn { busy: self, names })
    }

    /// Takes the turn on everything, or names something that is taken.
    pub fn begin_on_engine(&self) -> Result<Turn<'_>, String> {
        let mut busy = self.lock();
        if let Some(taken) = busy.iter().next() {
            return Err(taken.clone());
        }
        busy.insert(ENGINE.to_owned());
        Ok(Turn { busy: self, names: vec![ENGINE.to_owned()] })
    }

    /// Whether an operation is at work on the engine itself.
    pub fn is_on_engine(&self) -> bool {
        self.lock().contains(ENGINE)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What keeps these from being taken.
fn taken(busy: &HashSet<String>, names: &[String]) -> Option<String> {
    let engine = busy.contains(ENGINE).then(|| ENGINE.to_owned());
    engine.or_else(|| names.iter().find(|name| busy.contains(*name)).cloned())
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.busy.lock();
        busy.retain(|name| !self.names.contains(name));
        self.busy.freed.notify_all();
    }
}

/// The background job that compresses checkpoints, one at a time.
#[derive(Debug, Default)]
pub struct Packing {
    current: Mutex<Option<(CheckpointId, Arc<AtomicBool>)>>,
    ended: Condvar,
    turn: Mutex<()>,
}

impl Packing {
    /// Registers a checkpoint that is about to be compressed; the flag is set when it should stop.
    pub fn begin(&self, id: CheckpointId) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        *self.lock() = Some((id, Arc::clone(&stop)));
        stop
    }

    /// The current checkpoint is compressed, or was given up.
    pub fn end(&self) {
        *self.lock() = None;
        self.ended.notify_all();
    }

    /// Waits for the turn to compress.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when `id` is not being compressed; a compression that is under way is given up.
    pub fn stop(&self, id: &CheckpointId) {
        let mut current = self.lock();
        while let Some((packing, stop)) = current.as_ref().filter(|(packing, _)| packing == id) {
            tracing::debug!(checkpoint = %packing, "compression gives way to a restore");
            stop.store(true, Ordering::Relaxed);
            current = self.ended.wait(current).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(CheckpointId, Arc<AtomicBool>)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One operation's view: the world, and who is told how it comes along.
pub struct Context {
    /// The world.
    pub world: Arc<World>,
    /// Who is told.
    pub told: Arc<dyn Told>,
}

/// Who is told what happens inside a step.
pub trait Told: Progress + Send + Sync {
    /// So many bytes of so many are done.
    fn bytes(&self, what: &str, done: u64, total: u64);
    /// So much of a hundred is done, of something that is not measured in bytes.
    fn percent(&self, what: &str, percent: u8);
    /// A round of memory has gone to a peer.
    fn round(&self, _round: &told::Round) {}
    /// Something the operator should know.
    fn note(&self, text: &str);
    /// What a part of the operation, named by the container that it is about, has come to.
    fn part(&self, container: &str, doing: &str, number: usize, of: usize);
}

/// Tells of an operation that is a part of another: its steps are told with its container's name.
pub struct Part {
    /// Who is told of the whole.
    pub whole: Arc<dyn Told>,
    /// The container, or containers that belong together.
    pub container: String,
}

impl Progress for Part {
    fn step(&self, name: &str, number: usize, of: usize) {
        self.whole.part(&self.container, name, number, of);
    }

    fn step_ended(&self, _name: &str, _took: Duration) {}

    fn undoing(&self, because: &Failure) {
        self.whole.note(&format!("{}: undoing: {because}", self.container));
    }
}

impl Told for Part {
    fn bytes(&self, _what: &str, _done: u64, _total: u64) {}

    fn percent(&self, _what: &str, _percent: u8) {}

    fn note(&self, text: &str) {
        self.whole.note(text);
    }

    fn part(&self, container: &str, doing: &str, number: usize, of: usize) {
        self.whole.part(container, doing, number, of);
    }
}

impl std::ops::Deref for Context {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}
