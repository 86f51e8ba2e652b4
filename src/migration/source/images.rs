//! How the images of containers that move come to the peer: it has them, pulls them from their registry, or is sent them.

use super::Migrate;
use super::talk::{self, Counted, LOOK, Watched, persistence, sending};
use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::migration::asking::peer;
use crate::migration::words::{self, Layers, LayersThere, Pull, Pulled, Welcome};
use crate::operations::images;
use crate::operations::persist::RUNNING;
use crate::world::Context;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long Docker may take before the next piece of an image: it packs all of it first. The container runs meanwhile.
const PACKING: Duration = Duration::from_secs(900);

/// How long one answer about how far a pull is may take.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a peer is given for one image; it gives up before.
const LONGEST_PULL: Duration = Duration::from_secs(1000);

/// Between two questions about how far a pull is. The peer takes its time to answer as well.
const PACE: Duration = Duration::from_millis(100);

/// Has the peer have all the images that it lacks.
pub fn bring(context: &Context, migrate: &Migrate, welcome: &Welcome) -> Result<(), Failure> {
    for image in &welcome.lacks_images {
        let containers = migrate.freeze.members().iter().map(|member| member.container());
        let of_image = containers.into_iter().find(|container| container.image_id() == image);
        // Nothing is sent but what the containers are made from.
        let container =
            of_image.ok_or_else(|| Failure::new(format!("{} asks for another image: {image}", migrate.peer)))?;
        let is_there = match way(context, &container, welcome)? {
            Way::IsThere => true,
            Way::Pulled(reference) => is_pulled(context, migrate, (image, container.image()), reference)?,
            Way::Sent(_) => false,
        };
        if !is_there {
            send(context, migrate, (image, container.image()))?;
        }
    }
    Ok(())
}

/// How an image comes to the peer.
pub enum Way {
    /// It need not.
    IsThere,
    /// The peer pulls what has this name; where it cannot, it is sent.
    Pulled(String),
    /// It is sent, for this reason.
    Sent(&'static str),
}

/// How a container's image comes to a peer that welcomes it.
pub fn way(context: &Context, container: &Container, welcome: &Welcome) -> Result<Way, Failure> {
    let image = container.image_id();
    if !welcome.lacks_images.iter().any(|lacked| lacked == image) {
        return Ok(Way::IsThere);
    }
    if !welcome.pulls_images {
        return Ok(Way::Sent("no images are pulled there"));
    }
    let names = context.docker.repository_digests(image);
    let names = names.or_fail(|| format!("the image {} cannot be looked at", container.image()))?;
    Ok(best_name(&names, container.image()).map_or(Way::Sent("no registry is known to have it"), Way::Pulled))
}

/// Of the names with digests of an image the one that is most like its container's.
fn best_name(names: &[String], image: &str) -> Option<String> {
    let is_of_repository = |name: &&String| name.split_once('@').is_some_and(|(name, _)| name == repository(image));
    names.iter().find(is_of_repository).or(names.first()).cloned()
}

/// A name without tag or digest.
fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    // A colon before the last slash is of a port.
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Has the peer pull an image: whether it has it then.
fn is_pulled(
    context: &Context,
    migrate: &Migrate,
    (image, name): (&str, &str),
    reference: String,
) -> Result<bool, Failure> {
    let there = &migrate.peer;
    context.told.note(&format!("{there} pulls the image {name}"));
    let question = Arc::new(Pull { image: image.to_owned(), reference });
    let (persistence, begun) = (persistence(context, migrate, RUNNING), Instant::now());
    while begun.elapsed() < LONGEST_PULL {
        let (peer, path, question) = (peer(there), words::path(migrate.id(), "pull"), Arc::clone(&question));
        let ask = move || peer.post(&path, &*question, Some(ANSWER));
        match persistence.ask(ask, || format!("{there} does not say whether it can pull the image {name}"))? {
            Pulled::Here => return Ok(true),
            Pulled::UnderWay { total: 0, .. } => {}
            Pulled::UnderWay { done, total } => context.told.bytes("pulled", done, total),
            Pulled::Failed(problem) => {
                context.told.note(&format!("{there} does not pull the image {name}: {}", problem.sentence()));
                return Ok(false);
            }
        }
        migrate.cancel.pause(PACE)?;
    }
    context.told.note(&format!("{there} has not pulled the image {name} within {} s", LONGEST_PULL.as_secs()));
    Ok(false)
}

/// Sends an image, without the layers that are there. Docker takes in all of it or nothing, so where the connection breaks it
/// is sent anew, unless it is there after all.
fn send(context: &Context, migrate: &Migrate, (image, name): (&str, &str)) -> Result<(), Failure> {
    let failed_to = || format!("the image {name} cannot be sent to {}", migrate.peer);
    let (persistence, mut furthest) = (persistence(context, migrate, RUNNING), 0);
    loop {
        let layers = context.docker.image_layers(image).or_fail(failed_to)?;
        let (asked, path, question) = (peer(&migrate.peer), words::path(migrate.id(), "layers"), layers.clone());
        let ask = move || asked.post(&path, &Layers { layers: question.clone() }, Some(LOOK));
        let LayersThere { there } = persistence.ask(ask, failed_to)?;
        let there = there.min(layers.len());
        context.told.note(&format!("sending the image {name}: {there} of its {} layers are there", layers.len()));
        let tar = context.docker.save_image(image).or_fail(failed_to)?;
        let (tar, done) = (images::without_layers(tar, &layers[..there]), Arc::new(AtomicU64::new(0)));
        let tar = Watched { bytes: Counted { bytes: tar, done: Arc::clone(&done) }, watch: migrate.cancel.watch() };
        let peer = sending(migrate, PACKING);
        let path = words::path(migrate.id(), &format!("image?of={image}"));
        let error = match migrate.cancel.unless_cancelled(move || peer.put::<Value>(&path, tar, None))? {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        persistence.broke(&error, failed_to)?;
        if !talk::look_again(context, migrate, &persistence)?.lacks_images.iter().any(|lacked| lacked == image) {
            return Ok(());
        }
        let done = done.load(Ordering::Relaxed);
        persistence.is_there(done > furthest, &error, failed_to)?;
        furthest = furthest.max(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_by_the_name_that_is_most_like_its_containers() {
        let names: Vec<String> = ["mirror:5000/web@sha256:aa", "team/web@sha256:bb"].map(str::to_owned).to_vec();
        assert_eq!(best_name(&names, "team/web:1").as_deref(), Some("team/web@sha256:bb"));
        assert_eq!(best_name(&names, "mirror:5000/web").as_deref(), Some("mirror:5000/web@sha256:aa"));
        assert_eq!(best_name(&names, "sha256:cc").as_deref(), Some("mirror:5000/web@sha256:aa"));
        assert_eq!(best_name(&names, "team/web@sha256:bb").as_deref(), Some("team/web@sha256:bb"));
        assert_eq!(best_name(&[], "team/web"), None);
    }
}
