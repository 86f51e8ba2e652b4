//! Claims: durable one-shot notes "the next create of container X restores checkpoint Y".
//!
//! ```text
//!            place              take                 commit              finish
//!  (none) ─────────► ID.json ─────────► ID.taken ─────────► ID.committed ─────────► (none)
//!                       ▲      give_back    │                    │  settle
//!                       └───────────────────┘                    └► ID.unsettled ─────────► (none)
//! ```
//!
//! Each arrow is one `rename(2)` or `unlink(2)`, so that of two that try, one succeeds. `commit` is the point of
//! no return: from then on the container runs, whoever dies. It leaves a second name, `ID.unsettled`, until what the
//! freeze had set aside is put back; a helper that dies before that finds it at its next start. This file is used by
//! the interposer in each `docker run`; for a container without a claim, `take` costs one failed rename.

use super::id::{CheckpointId, ContainerId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The directory of claims in the store.
pub const DIRECTORY: &str = "claims";

/// Tells CRIU's action script whose dump it belongs to.
pub const CONTAINER_VARIABLE: &str = "TRANSSHIP_CONTAINER";

/// Tells it the container whose claim decides for the whole group: it is the last to be placed.
pub const LEADER_VARIABLE: &str = "TRANSSHIP_LEADER";

/// Tells it the checkpoint that the leader's claim names when the group is committed.
pub const CHECKPOINT_VARIABLE: &str = "TRANSSHIP_CHECKPOINT";

/// The version of the claim's file.
const VERSION: u32 = 1;

/// A claim is a few hundred bytes.
const LARGEST: u64 = 64 << 10;

/// Why a claim could not be placed, read or moved on.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The file system says no.
    #[error("cannot {doing} the claim {path}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file does not hold a claim of this version.
    #[error("the claim {path} cannot be read", path = path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The file holds a claim of another version.
    #[error("the claim {path} has version {found}, this program knows {VERSION}", path = path.display())]
    Version { path: PathBuf, found: u32 },
    /// The checkpoint is not what it was when it was claimed.
    #[error("the manifest of checkpoint {checkpoint} has changed since it was claimed")]
    Changed { checkpoint: CheckpointId },
    /// There is a claim on the container already.
    #[error("container {container} is claimed by checkpoint {checkpoint}")]
    Claimed { container: ContainerId, checkpoint: CheckpointId },
}

/// The next create of `container` restores `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The version of this file; read before anything else is believed.
    version: u32,
    /// Whose create.
    pub container: ContainerId,
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// BLAKE3 of the checkpoint's manifest: a claim is for these bytes and no others.
    pub manifest: String,
    /// The socket where the interposer asks what to do.
    pub gate: PathBuf,
    /// The peer that the container has moved to: what is claimed here is not restored, but by force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed_to: Option<String>,
    /// The claim that decides for this one as well: what came from a peer together is let go together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Decider>,
}

/// The first of the containers that have come from a peer together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decider {
    /// When its claim is committed, all of them run.
    pub container: ContainerId,
    /// Its checkpoint, which is the migration's id.
    pub checkpoint: CheckpointId,
}

impl Claim {
    /// A claim of this version.
    pub fn new(container: ContainerId, checkpoint: CheckpointId, manifest: String, gate: PathBuf) -> Self {
        Self { version: VERSION, container, checkpoint, manifest, gate, departed_to: None, decided_by: None }
    }

    /// The same claim, committed when that of `decider` is.
    pub fn decided_by(self, decider: Decider) -> Self {
        Self { decided_by: Some(decider), ..self }
    }

    /// The container whose claim decides: its own, or another's.
    pub fn decider(&self) -> &ContainerId {
        self.decided_by.as_ref().map_or(&self.container, |decider| &decider.container)
    }

    /// The migration that has brought the container, where one has.
    pub fn migration(&self) -> &CheckpointId {
        self.decided_by.as_ref().map_or(&self.checkpoint, |decider| &decider.checkpoint)
    }

    /// The same claim, of a container that has moved to a peer.
    pub fn departed_to(self, peer: &str) -> Self {
        Self { departed_to: Some(peer.to_owned()), ..self }
    }
}

/// The directory of claims.
#[derive(Debug, Clone)]
pub struct Claims {
    directory: PathBuf,
}

impl Claims {
    /// The claims of the store at `root`. Nothing is opened yet.
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self { directory: root.as_ref().join(DIRECTORY) }
    }

    /// Places a claim durably. Placing the same claim twice is placing it once.
    pub fn place(&self, claim: &Claim) -> Result<(), ClaimError> {
        match self.find(&claim.container)? {
            Some(found) if found == *claim => return Ok(()),
            Some(found) if found.checkpoint == claim.checkpoint => {
                return Err(ClaimError::Changed { checkpoint: found.checkpoint });
            }
            Some(found) => {
                return Err(ClaimError::Claimed { container: found.container, checkpoint: found.checkpoint });
            }
            None => {}
        }
        let path = self.placed(&claim.container);
        self.write(claim, &path).map_err(io_error("write", &path))
    }

    fn write(&self, claim: &Claim, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(claim)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        self.sync()
    }

    /// A container that has moved, by its claim to this checkpoint, has not: the checkpoint is restored here like any other.
    pub fn stays_here(&self, container: &ContainerId, checkpoint: &CheckpointId) -> Result<(), ClaimError> {
        let Some(claim) = self.find(container)?.filter(|claim| claim.checkpoint == *checkpoint) else { return Ok(()) };
        let path = self.placed(container);
        self.write(&Claim { departed_to: None, ..claim }, &path).map_err(io_error("write", &path))
    }

    /// Takes the claim on a container; `None` where there is none, or somebody else took it.
    pub fn take(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        let (placed, taken) = (self.placed(container), self.taken_path(container));
        match fs::rename(&placed, &taken) {
            Ok(()) => self.read(&taken).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("take", &placed)(source)),
        }
    }

    /// The claim on a container that was taken and is not committed or is just that; `None` where there is none.
    pub fn taken(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        for path in [self.taken_path(container), self.committed(container)] {
            if let Some(claim) = self.read_if_there(&path)? {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// The claim on a container, placed or taken or committed.
    pub fn find(&self, container: &ContainerId) -> Result<Option<Claim>, ClaimError> {
        match self.read_if_there(&self.placed(container))? {
            Some(claim) => Ok(Some(claim)),
            None => self.taken(container),
        }
    }

    /// Puts a taken claim back to be taken again. A committed claim is not given back; nothing happens then.
    pub fn give_back(&self, container: &ContainerId) -> Result<(), ClaimError> {
        self.move_on("give back", &self.taken_path(container), &self.placed(container)).map(drop)
    }

    /// From here on the container runs; `false` where the claim was not there to commit.
    pub fn commit(&self, container: &ContainerId) -> Result<bool, ClaimError> {
        let (taken, unsettled) = (self.taken_path(container), self.unsettled(container));
        if taken.exists() {
            // One of an earlier freeze may have been left, where its policy could not be put back.
            self.remove(&unsettled)?;
        }
        match fs::hard_link(&taken, &unsettled) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Err(io_error("commit", &taken)(error));
            }
            _ => self.move_on("commit", &taken, &self.committed(container)),
        }
    }

    /// Whether the decision that the container runs has been made and not yet been carried out.
    pub fn is_committed(&self, container: &ContainerId) -> bool {
        self.committed(container).exists()
    }

    /// Whether that decision was made by a claim to this checkpoint. It shows until what the freeze had set aside is put back.
    pub fn was_let_go(&self, container: &ContainerId, checkpoint: &CheckpointId) -> bool {
        let names_it = |claim: &Claim| claim.checkpoint == *checkpoint;
        match self.find(container) {
            Ok(Some(claim)) => names_it(&claim) && self.is_committed(container),
            // A commit makes the second name first: with no claim beside it, it went through.
            Ok(None) => {
                self.read_if_there(&self.unsettled(container)).ok().flatten().is_some_and(|claim| names_it(&claim))
            }
            Err(_) => false,
        }
    }

    /// Whether that decision has been made by its own claim or by the one that decides for it.
    pub fn is_decided(&self, claim: &Claim) -> bool {
        self.is_committed(&claim.container) || self.is_committed(claim.decider())
    }

    /// Removes a committed claim: the container runs.
    pub fn finish(&self, container: &ContainerId) -> Result<(), ClaimError> {
        self.remove(&self.committed(container))
    }

    /// What the freeze had set aside is put back.
    pub fn settle(&self, container: &ContainerId) -> Result<(), ClaimError> {
        self.remove(&self.unsettled(container))
    }

    /// Claims of containers that run again and for which not everything is put back yet.
    pub fn unsettled_claims(&self) -> Vec<Claim> {
        let unsettled = self.containers_with(".unsettled").into_iter().map(|container| self.unsettled(&container));
        unsettled.filter_map(|path| self.read_if_there(&path).ok().flatten()).collect()
    }

    /// Removes a claim that was not committed: the checkpoint is abandoned or the operation undone. A loss of power does
    /// not bring it back: what follows may be a container that runs.
    pub fn withdraw(&self, container: &ContainerId) -> Result<(), ClaimError> {
        self.remove(&self.placed(container))?;
        self.remove(&self.taken_path(container))?;
        match self.sync() {
            // Where there is no store there was no claim.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("withdraw", &self.directory)(error)),
            _ => Ok(()),
        }
    }

    /// The same where the claim names this checkpoint. Another one is somebody else's, who has frozen the container since.
    pub fn withdraw_of(&self, container: &ContainerId, checkpoint: &CheckpointId) -> Result<(), ClaimError> {
        match self.find(container)? {
            Some(claim) if claim.checkpoint == *checkpoint => self.withdraw(container),
            _ => Ok(()),
        }
    }

    /// The same for every container that is claimed by this checkpoint, whichever they are.
    pub fn withdraw_all_of(&self, checkpoint: &CheckpointId) -> Result<(), ClaimError> {
        let mut claims = self.all().into_iter().filter(|claim| claim.checkpoint == *checkpoint);
        claims.try_for_each(|claim| self.withdraw(&claim.container))
    }

    /// All claims, whatever their state, in no order. A claim that cannot be read is left out and logged.
    pub fn all(&self) -> Vec<Claim> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let claims = paths.filter(|path| {
            matches!(path.extension().and_then(|extension| extension.to_str()), Some("json" | "taken" | "committed"))
        });
        claims.filter_map(|path| self.read_if_there(&path).ok().flatten()).collect()
    }

    /// Containers whose claim was committed and not finished.
    pub fn committed_containers(&self) -> Vec<ContainerId> {
        self.containers_with(".committed")
    }

    fn containers_with(&self, suffix: &str) -> Vec<ContainerId> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(suffix)?.parse().ok()).collect()
    }

    fn move_on(&self, doing: &'static str, from: &Path, to: &Path) -> Result<bool, ClaimError> {
        match fs::rename(from, to) {
            Ok(()) => self.sync().map(|()| true).map_err(io_error(doing, from)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(io_error(doing, from)(source)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), ClaimError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
            _ => Ok(()),
        }
    }

    fn read_if_there(&self, path: &Path) -> Result<Option<Claim>, ClaimError> {
        match self.read(path) {
            Ok(claim) => Ok(Some(claim)),
            Err(ClaimError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &Path) -> Result<Claim, ClaimError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io_error("open", path))?;
        file.take(LARGEST).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        let malformed = |source| ClaimError::Malformed { path: path.to_owned(), source };
        let header: Header = serde_json::from_slice(&bytes).map_err(malformed)?;
        if header.version != VERSION {
            return Err(ClaimError::Version { path: path.to_owned(), found: header.version });
        }
        serde_json::from_slice(&bytes).map_err(malformed)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn placed(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.json"))
    }

    fn taken_path(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.taken"))
    }

    fn committed(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.committed"))
    }

    fn unsettled(&self, container: &ContainerId) -> PathBuf {
        self.directory.join(format!("{container}.unsettled"))
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> ClaimError {
    let path = path.to_owned();
    move |source| ClaimError::Io { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> (tempfile::TempDir, Claims, Claim) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DIRECTORY)).unwrap();
        let container: ContainerId = "ab".repeat(32).parse().unwrap();
        let claim = Claim::new(container, CheckpointId::random().unwrap(), "00".into(), "/gate".into());
        let claims = Claims::at(dir.path());
        (dir, claims, claim)
    }

    #[test]
    fn i1_a_claim_is_taken_once() {
        let (_dir, claims, claim) = claims();
        claims.place(&claim).unwrap();
        assert_eq!(claims.take(&claim.container).unwrap(), Some(claim.clone()));
        assert_eq!(claims.take(&claim.container).unwrap(), None);
        claims.give_back(&claim.container).unwrap();
        assert_eq!(claims.take(&claim.container).unwrap(), Some(claim));
    }

    #[test]
    fn i1_a_committed_claim_is_never_given_back() {
        let (_dir, claims, claim) = claims();
        claims.place(&claim).unwrap();
        claims.take(&claim.container).unwrap();
        assert!(claims.commit(&claim.container).unwrap());
        claims.give_back(&claim.container).unwrap();
        assert_eq!(claims.take(&claim.container).unwrap(), None);
        assert!(claims.is_committed(&claim.container));
        claims.finish(&claim.container).unwrap();
        assert_eq!(claims.find(&claim.container).unwrap(), None);
        assert_eq!(claims.unsettled_claims(), std::slice::from_ref(&claim));
        claims.settle(&claim.container).unwrap();
        assert_eq!(claims.unsettled_claims(), []);
    }

    #[test]
    fn i8_that_it_was_let_go_shows_from_the_commit_until_all_is_put_back() {
        let (_dir, claims, claim) = claims();
        let was_let_go = || claims.was_let_go(&claim.container, &claim.checkpoint);
        claims.place(&claim).unwrap();
        claims.take(&claim.container).unwrap();
        // What a helper leaves that dies in the middle of a commit.
        fs::hard_link(claims.taken_path(&claim.container), claims.unsettled(&claim.container)).unwrap();
        assert!(!was_let_go());
        claims.commit(&claim.container).unwrap();
        assert!(was_let_go());
        claims.finish(&claim.container).unwrap();
        assert!(was_let_go() && !claims.was_let_go(&claim.container, &CheckpointId::random().unwrap()));
        claims.settle(&claim.container).unwrap();
        assert!(!was_let_go());
    }

    #[test]
    fn i8_who_undoes_what_is_long_over_leaves_the_claim_of_a_later_freeze_alone() {
        let (_dir, claims, later) = claims();
        claims.place(&later).unwrap();
        let earlier = CheckpointId::random().unwrap();
        claims.stays_here(&later.container, &earlier).unwrap();
        claims.withdraw_of(&later.container, &earlier).unwrap();
        assert_eq!(claims.find(&later.container).unwrap().as_ref(), Some(&later));
        claims.withdraw_of(&later.container, &later.checkpoint).unwrap();
        assert_eq!(claims.find(&later.container).unwrap(), None);
    }

    #[test]
    fn i5_who_has_forgotten_which_containers_were_made_withdraws_their_claims_all_the_same() {
        let (_dir, claims, arrived) = claims();
        let other: ContainerId = "cd".repeat(32).parse().unwrap();
        let other = Claim { container: other, checkpoint: CheckpointId::random().unwrap(), ..arrived.clone() };
        claims.place(&arrived).unwrap();
        claims.place(&other).unwrap();
        claims.withdraw_all_of(&arrived.checkpoint).unwrap();
        assert_eq!(claims.all(), [other]);
    }

    #[test]
    fn i1_what_came_together_is_decided_by_one_claim() {
        let (_dir, claims, leader) = claims();
        let decider = Decider { container: leader.container.clone(), checkpoint: leader.checkpoint.clone() };
        let container: ContainerId = "cd".repeat(32).parse().unwrap();
        let other = Claim { container, checkpoint: CheckpointId::random().unwrap(), ..leader.clone() };
        let other = other.decided_by(decider);
        for claim in [&leader, &other] {
            claims.place(claim).unwrap();
            assert_eq!(claims.take(&claim.container).unwrap().as_ref(), Some(claim));
            assert!(!claims.is_decided(claim));
        }
        assert!(claims.commit(&leader.container).unwrap());
        assert!(claims.is_decided(&leader) && claims.is_decided(&other));
        assert!(!claims.is_committed(&other.container));
        assert_eq!(other.migration(), &leader.checkpoint);
    }

    #[test]
    fn a_second_checkpoint_does_not_take_a_claim_over() {
        let (_dir, claims, claim) = claims();
        claims.place(&claim).unwrap();
        claims.place(&claim).unwrap();
        let other = Claim { checkpoint: CheckpointId::random().unwrap(), ..claim };
        assert!(matches!(claims.place(&other), Err(ClaimError::Claimed { .. })));
    }

    #[test]
    fn a_claim_of_another_version_is_named_as_such() {
        let (dir, claims, claim) = claims();
        let path = dir.path().join(DIRECTORY).join(format!("{}.json", claim.container));
        fs::write(path, r#"{"version":9}"#).unwrap();
        assert!(matches!(claims.take(&claim.container), Err(ClaimError::Version { found: 9, .. })));
    }

    #[test]
    fn taking_where_no_store_is_finds_nothing() {
        let claims = Claims::at("/nonexistent");
        let container: ContainerId = "ab".repeat(32).parse().unwrap();
        assert_eq!(claims.take(&container).unwrap(), None);
    }
}
