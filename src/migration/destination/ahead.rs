//! Images that peers send ahead of containers: written down before they come, so that they go again where their migration ends
//! before anything is made for it.
//!
//! ```text
//!   image ──► noted ──► prepare: the visit's own from here on
//!                └── dropped, forgotten with age, or one of too many: removed
//! ```

use super::remove_image;
use crate::failure::{Failure, OrFail};
use crate::store::handovers::About;
use crate::store::{CheckpointId, Handovers, StoreError};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many migrations of one peer may have sent images and not have come further; four are under way at a time.
const MOST: usize = 32;

/// Containers that move together are no more than so many.
const MOST_IMAGES: usize = 256;

/// Nothing has come of a migration for so long, and it is not waited for any more. Another image may take its time.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// The images of one migration.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ahead {
    peer: String,
    /// Those that were not here before.
    images: BTreeSet<String>,
    /// When the last of them began to come.
    begun: Timestamp,
}

/// Two images of one migration may come at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An image that is not here is about to come.
pub fn note(context: &Context, peer: &str, id: &CheckpointId, image: &str) -> Result<(), Failure> {
    let failed = || format!("that image {image} comes cannot be written down");
    let turn = turn();
    if !note_at(&context.handovers, (peer, id), image, Timestamp::now()).or_fail(failed)? {
        return Err(Failure::refused(format!("more than {MOST_IMAGES} images belong to no migration")));
    }
    drop(turn);
    sweep(context)
}

/// Whether there was room for one more.
fn note_at(
    handovers: &Handovers,
    (peer, id): (&str, &CheckpointId),
    image: &str,
    begun: Timestamp,
) -> Result<bool, StoreError> {
    let mut images: BTreeSet<String> = of_peer(handovers, peer, id)?.unwrap_or_default();
    images.insert(image.to_owned());
    let fits = images.len() <= MOST_IMAGES;
    if fits {
        handovers.put(About::Ahead, id, &Ahead { peer: peer.to_owned(), images, begun })?;
    }
    Ok(fits)
}

fn of_peer(handovers: &Handovers, peer: &str, id: &CheckpointId) -> Result<Option<BTreeSet<String>>, StoreError> {
    let noted: Option<Ahead> = handovers.get(About::Ahead, id)?;
    Ok(noted.filter(|noted| noted.peer == peer).map(|noted| noted.images))
}

/// Those that have come for a migration, and were not here before.
pub fn of(context: &Context, peer: &str, id: &CheckpointId) -> Result<Vec<String>, Failure> {
    let images = of_peer(&context.handovers, peer, id).or_fail(|| "which images have come cannot be read".into())?;
    Ok(images.into_iter().flatten().collect())
}

/// Somebody else sees to them from here on.
pub fn forget(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    let forgotten = context.handovers.remove(About::Ahead, id);
    forgotten.or_fail(|| "that images have come cannot be forgotten".into())
}

/// The migration has come to nothing: they go, unless something uses them.
pub fn give_up(context: &Context, peer: &str, id: &CheckpointId) -> Result<(), Failure> {
    let images = of(context, peer, id)?;
    if !images.is_empty() {
        images.iter().for_each(|image| remove_image(context, image));
        forget(context, id)?;
    }
    Ok(())
}

/// Gives up what nobody can be waiting for any more.
pub fn sweep(context: &Context) -> Result<(), Failure> {
    overdue(&context.handovers, Timestamp::now()).into_iter().try_for_each(|(id, peer)| give_up(context, &peer, &id))
}

/// A host that is a peer no longer sends nothing more.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    context.handovers.all(About::Ahead).iter().try_for_each(|id| give_up(context, peer, id))
}

/// The migrations whose images are too old, and each peer's oldest where those are too many.
fn overdue(handovers: &Handovers, now: Timestamp) -> Vec<(CheckpointId, String)> {
    let mut all = Vec::new();
    for id in handovers.all(About::Ahead) {
        match handovers.get::<Ahead>(About::Ahead, &id) {
            Ok(ahead) => all.extend(ahead.map(|ahead| (id, ahead))),
            Err(error) => tracing::warn!(migration = %id, %error, "which images have come for it cannot be read"),
        }
    }
    all.sort_by_key(|(_, ahead)| std::cmp::Reverse(ahead.begun));
    let mut counts = BTreeMap::new();
    all.retain(|(_, ahead)| {
        let count = counts.entry(ahead.peer.clone()).or_insert(0);
        *count += 1;
        *count > MOST || now.duration_since(ahead.begun) > LONGEST
    });
    all.into_iter().map(|(id, ahead)| (id, ahead.peer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::catalog;

    #[test]
    fn i5_images_are_remembered_by_migration_and_for_its_peer_alone() {
        let (_dir, catalog) = catalog();
        let handovers = Handovers::of(catalog.layout());
        let id = CheckpointId::random().unwrap();
        ["sha256:aa", "sha256:bb", "sha256:aa"].iter().for_each(|image| {
            note_at(&handovers, ("alpha", &id), image, Timestamp::now()).unwrap();
        });
        assert_eq!(of_peer(&handovers, "alpha", &id).unwrap().map(|images| images.len()), Some(2));
        assert_eq!(of_peer(&handovers, "beta", &id).unwrap(), None);
        assert_eq!(overdue(&handovers, Timestamp::now()), []);
    }

    #[test]
    fn i5_what_nobody_waits_for_goes_with_age_and_a_peer_has_no_more_than_its_share() {
        let (_dir, catalog) = catalog();
        let handovers = Handovers::of(catalog.layout());
        let now = Timestamp::now();
        let note = |peer: &str, age: i64| {
            let id = CheckpointId::random().unwrap();
            note_at(&handovers, (peer, &id), "sha256:aa", now - SignedDuration::from_mins(age)).unwrap();
            id
        };
        let old = note("beta", 25 * 60);
        let first = note("alpha", 60);
        (0..MOST).for_each(|_| drop(note("alpha", 1)));
        note("beta", 60);
        let mut expected = [(old, "beta".to_owned()), (first, "alpha".to_owned())];
        let mut found = overdue(&handovers, now);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}
