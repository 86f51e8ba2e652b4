//! Images that have come for something: written down before they come, so that they go again where that comes to nothing, and
//! stay as soon as one thing that they came for has come to its end well.
//!
//! ```text
//!   image ──► noted ──► the container runs, the checkpoint is here: it stays, whoever else has noted it
//!                └── dropped, undone, forgotten with age, or one of too many: removed, unless somebody else has noted it
//! ```
//!
//! An image that is here only because others have brought it may go with them. Whoever needs it as well notes it, too.

use crate::failure::{Failure, OrFail};
use crate::store::handovers::About;
use crate::store::{CheckpointId, Handovers, StoreError};
use crate::world::Context;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many migrations of one peer may have brought images and not have come further; four are under way at a time.
const MOST: usize = 32;

/// Containers that move together are no more than so many.
const MOST_IMAGES: usize = 256;

/// Nothing has come of a migration for so long, and it is not waited for any more. Another image may take its time.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Images by their ids, each with the name that it was pulled by.
type Images = BTreeMap<String, Option<String>>;

/// The images of one migration, or of a checkpoint that is fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Brought {
    peer: String,
    /// Those that were not here before, or only for others.
    images: Images,
    /// When the last of them began to come.
    begun: Timestamp,
}

/// Two images of one migration may come at a time, and one may come while another's is removed.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an image has to be brought: it is not here, or only because others have brought it.
pub fn has_to_come(context: &Context, id: &CheckpointId, image: &str) -> Result<bool, Failure> {
    let _turn = turn();
    must_come(context, id, image)
}

fn must_come(context: &Context, id: &CheckpointId, image: &str) -> Result<bool, Failure> {
    let is_here = context.docker.has_image(image).or_fail(|| "the images here cannot be listed".into())?;
    Ok(!is_here || is_of_others_alone(&context.handovers, id, image))
}

fn is_of_others_alone(handovers: &Handovers, id: &CheckpointId, image: &str) -> bool {
    let noted = noted(handovers);
    let has_noted = |(_, brought): &(CheckpointId, Brought)| brought.images.contains_key(image);
    noted.iter().any(has_noted) && !noted.iter().any(|one| one.0 == *id && has_noted(one))
}

/// Writes down that an image comes, and by which name, unless it [has not to](has_to_come) any more: what is here by then is
/// this host's own.
pub fn note(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    image: &str,
    pulled_as: Option<&str>,
) -> Result<(), Failure> {
    let failed = || format!("that image {image} comes cannot be written down");
    let turn = turn();
    if must_come(context, id, image)? {
        let begun = Timestamp::now();
        if !note_at(&context.handovers, (peer, id), (image, pulled_as), begun).or_fail(failed)? {
            return Err(Failure::refused(format!("more than {MOST_IMAGES} images belong to no migration")));
        }
    }
    drop(turn);
    sweep(context)
}

/// Whether there was room for one more.
fn note_at(
    handovers: &Handovers,
    (peer, id): (&str, &CheckpointId),
    (image, pulled_as): (&str, Option<&str>),
    begun: Timestamp,
) -> Result<bool, StoreError> {
    let mut images = of_peer(handovers, peer, id)?.unwrap_or_default();
    // One that was given up by its name may have come by it all the same.
    let name = pulled_as.map(str::to_owned).or_else(|| images.get(image).cloned().flatten());
    images.insert(image.to_owned(), name);
    let fits = images.len() <= MOST_IMAGES;
    if fits {
        handovers.put(About::Brought, id, &Brought { peer: peer.to_owned(), images, begun })?;
    }
    Ok(fits)
}

fn of_peer(handovers: &Handovers, peer: &str, id: &CheckpointId) -> Result<Option<Images>, StoreError> {
    let noted: Option<Brought> = handovers.get(About::Brought, id)?;
    Ok(noted.filter(|noted| noted.peer == peer).map(|noted| noted.images))
}

/// All that is noted.
fn noted(handovers: &Handovers) -> Vec<(CheckpointId, Brought)> {
    let mut all = Vec::new();
    for id in handovers.all(About::Brought) {
        match handovers.get::<Brought>(About::Brought, &id) {
            Ok(brought) => all.extend(brought.map(|brought| (id, brought))),
            Err(error) => tracing::warn!(migration = %id, %error, "which images have come for it cannot be read"),
        }
    }
    all
}

/// What they came for has come to its end well: they stay, whatever becomes of others that they came for.
pub fn keep(context: &Context, id: &CheckpointId) -> Result<(), Failure> {
    let _turn = turn();
    keep_at(&context.handovers, id).or_fail(|| "that images have come cannot be forgotten".into())
}

fn keep_at(handovers: &Handovers, id: &CheckpointId) -> Result<(), StoreError> {
    let (own, others): (Vec<_>, Vec<_>) = noted(handovers).into_iter().partition(|(noted, _)| noted == id);
    let is_kept = |image: &String| own.iter().any(|(_, kept)| kept.images.contains_key(image));
    for (other, mut brought) in others {
        let before = brought.images.len();
        brought.images.retain(|image, _| !is_kept(image));
        if brought.images.len() < before {
            handovers.put(About::Brought, &other, &brought)?;
        }
    }
    handovers.remove(About::Brought, id)
}

/// What they came for has come to nothing: they go, unless something uses them, or they have come for others as well.
pub fn give_up(context: &Context, peer: &str, id: &CheckpointId) -> Result<(), Failure> {
    let _turn = turn();
    let failed = || "which images have come cannot be read".to_owned();
    let images = of_peer(&context.handovers, peer, id).or_fail(failed)?;
    let Some(images) = images else { return Ok(()) };
    for (image, pulled_as) in leave_to_others(&context.handovers, id, images).or_fail(failed)? {
        remove(context, &image, pulled_as.as_deref());
    }
    context.handovers.remove(About::Brought, id).or_fail(|| "that images have come cannot be forgotten".into())
}

/// One image has come, and by now nobody waits for it.
pub fn remove_one(context: &Context, id: &CheckpointId, image: &str) -> Result<(), Failure> {
    let _turn = turn();
    let images = Images::from([(image.to_owned(), None)]);
    let left = leave_to_others(&context.handovers, id, images);
    let left = left.or_fail(|| "which images have come cannot be read".into())?;
    left.keys().for_each(|image| remove(context, image, None));
    Ok(())
}

/// What was pulled by a name is not what was meant.
pub fn remove_name(context: &Context, name: &str) -> Result<(), Failure> {
    let _turn = turn();
    let removed = context.docker.remove_image_name(name);
    removed.map(drop).or_fail(|| format!("{name}, which is another image than was meant, cannot be removed"))
}

/// Those that nobody else has noted. The others go with whoever has, and so do the names that they were pulled by.
fn leave_to_others(handovers: &Handovers, id: &CheckpointId, images: Images) -> Result<Images, StoreError> {
    let mut others: Vec<_> = noted(handovers).into_iter().filter(|(other, _)| other != id).collect();
    let mut left = Images::new();
    for (image, pulled_as) in images {
        let Some((other, brought)) = others.iter_mut().find(|(_, brought)| brought.images.contains_key(&image)) else {
            left.insert(image, pulled_as);
            continue;
        };
        if let (Some(name), Some(inherited @ None)) = (pulled_as, brought.images.get_mut(&image)) {
            *inherited = Some(name);
            handovers.put(About::Brought, other, brought)?;
        }
    }
    Ok(left)
}

fn remove(context: &Context, image: &str, pulled_as: Option<&str>) {
    let unnamed = pulled_as.map_or(Ok(true), |name| context.docker.remove_image_name(name));
    match unnamed.and_then(|_| context.docker.remove_unused_image(image)) {
        Ok(removed) => tracing::info!(image, removed, "an image has come for nothing"),
        Err(error) => tracing::warn!(image, %error, "an image that has come for nothing cannot be removed"),
    }
}

/// Gives up what nobody can be waiting for any more.
pub fn sweep(context: &Context) -> Result<(), Failure> {
    let overdue = overdue(&context.handovers, Timestamp::now());
    if overdue.is_empty() {
        return Ok(());
    }
    let unfinished = context.journal.unfinished().or_fail(|| "the journal cannot be read".into())?;
    let is_under_way = |id: &CheckpointId| unfinished.iter().any(|record| record.state["id"] == id.as_str());
    overdue.iter().filter(|(id, _)| !is_under_way(id)).try_for_each(|(id, peer)| give_up(context, peer, id))
}

/// A host that is a peer no longer sends nothing more.
pub fn forget_peer(context: &Context, peer: &str) -> Result<(), Failure> {
    let given_up: Vec<_> = context.handovers.all(About::Brought).iter().map(|id| give_up(context, peer, id)).collect();
    given_up.into_iter().collect()
}

/// The migrations whose images are too old, and each peer's oldest where those are too many.
fn overdue(handovers: &Handovers, now: Timestamp) -> Vec<(CheckpointId, String)> {
    let mut all = noted(handovers);
    all.sort_by_key(|(_, brought)| std::cmp::Reverse(brought.begun));
    let mut counts = BTreeMap::new();
    all.retain(|(_, brought)| {
        let count = counts.entry(brought.peer.clone()).or_insert(0);
        *count += 1;
        *count > MOST || now.duration_since(brought.begun) > LONGEST
    });
    all.into_iter().map(|(id, brought)| (id, brought.peer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::catalog;

    fn id() -> CheckpointId {
        CheckpointId::random().unwrap()
    }

    fn noted_for(handovers: &Handovers, id: &CheckpointId, image: &str, pulled_as: Option<&str>) {
        assert!(note_at(handovers, ("alpha", id), (image, pulled_as), Timestamp::now()).unwrap());
    }

    #[test]
    fn i5_images_are_remembered_by_migration_and_for_its_peer_alone() {
        let (_dir, catalog) = catalog();
        let (handovers, id) = (Handovers::of(catalog.layout()), id());
        ["sha256:aa", "sha256:bb", "sha256:aa"].iter().for_each(|image| noted_for(&handovers, &id, image, None));
        assert_eq!(of_peer(&handovers, "alpha", &id).unwrap().map(|images| images.len()), Some(2));
        assert_eq!(of_peer(&handovers, "beta", &id).unwrap(), None);
        assert_eq!(overdue(&handovers, Timestamp::now()), []);
    }

    #[test]
    fn i7_an_image_that_has_come_for_two_is_left_to_the_other_with_its_name() {
        let (_dir, catalog) = catalog();
        let handovers = Handovers::of(catalog.layout());
        let [one, other, third] = [(); 3].map(|()| id());
        noted_for(&handovers, &one, "sha256:aa", Some("web@sha256:11"));
        noted_for(&handovers, &one, "sha256:bb", None);
        assert!(is_of_others_alone(&handovers, &other, "sha256:aa"), "it may go with the one");
        noted_for(&handovers, &other, "sha256:aa", None);
        assert!(!is_of_others_alone(&handovers, &other, "sha256:aa"));
        assert!(!is_of_others_alone(&handovers, &third, "sha256:cc"), "nobody has brought it: it is the host's own");
        let images = of_peer(&handovers, "alpha", &one).unwrap().unwrap();
        let left = leave_to_others(&handovers, &one, images).unwrap();
        assert_eq!(left, Images::from([("sha256:bb".to_owned(), None)]));
        let inherited = of_peer(&handovers, "alpha", &other).unwrap().unwrap();
        assert_eq!(inherited["sha256:aa"].as_deref(), Some("web@sha256:11"));
    }

    #[test]
    fn i7_what_has_come_for_good_goes_with_nobody_else() {
        let (_dir, catalog) = catalog();
        let handovers = Handovers::of(catalog.layout());
        let [one, other, third] = [(); 3].map(|()| id());
        noted_for(&handovers, &one, "sha256:aa", None);
        noted_for(&handovers, &other, "sha256:aa", None);
        noted_for(&handovers, &other, "sha256:bb", None);
        keep_at(&handovers, &one).unwrap();
        assert_eq!(of_peer(&handovers, "alpha", &one).unwrap(), None);
        assert_eq!(of_peer(&handovers, "alpha", &other).unwrap().unwrap(), Images::from([("sha256:bb".into(), None)]));
        assert!(!is_of_others_alone(&handovers, &third, "sha256:aa"));
    }

    #[test]
    fn i5_what_nobody_waits_for_goes_with_age_and_a_peer_has_no_more_than_its_share() {
        let (_dir, catalog) = catalog();
        let handovers = Handovers::of(catalog.layout());
        let now = Timestamp::now();
        let note = |peer: &str, age: i64| {
            let id = id();
            note_at(&handovers, (peer, &id), ("sha256:aa", None), now - SignedDuration::from_mins(age)).unwrap();
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
