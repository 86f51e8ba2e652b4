//! Images that this host's own engine pulls because containers that come need them.
//!
//! What is pulled is what the source names: a registry, a name, a digest. dockerd compares what comes with the digest, and
//! this host with the image's id. It asks without credentials, which are the operators' and not the helper's.

use super::arrivals::standing_on_disk;
use super::intake::expects_image;
use crate::docker::{PullError, PullPatience};
use crate::failure::{Failure, OrFail};
use crate::handover::Arrival;
use crate::migration::words::{Pull, Pulled};
use crate::operations::answering::problem;
use crate::operations::brought;
use crate::store::CheckpointId;
use crate::world::Context;
use crate::world::log::Log;
use crate::world::pulls::{Place, Pulling};
use std::sync::Arc;
use std::time::Duration;

/// How long who asks waits for the image to be here, before it is told how far it is.
const A_WHILE: Duration = Duration::from_secs(1);

/// How long nothing may come of an image that has begun to, and how long all of it may take. The containers run meanwhile, and
/// their host can send it.
const STALL: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(900);

/// Longer names are none of an image.
const LONGEST_REFERENCE: usize = 512;

/// Whether images are pulled here at all.
pub fn is_allowed(context: &Context) -> bool {
    context.settings.pull_seconds > 0
}

/// Begins to pull an image, unless that is under way; how far it is after a while. How it ended is told once.
pub fn pull(context: &Context, (peer, id): (&str, &CheckpointId), question: Pull) -> Result<Pulled, Failure> {
    expects_image(context, (peer, id), &question.image)?;
    if !is_allowed(context) {
        return Err(Failure::refused("no images are pulled there").remedy("see there: pull_seconds in its settings"));
    }
    require_digest(&question.reference)?;
    let image = question.image.clone();
    let pulling = match context.pulls.place(id, &image) {
        Place::Taken(pulling) => pulling,
        Place::Full => return Ok(Pulled::Failed(problem(Failure::new("too many images are being pulled there")))),
        Place::Free(pulling) => {
            begin(context, (peer, id), question, &pulling)?;
            pulling
        }
    };
    let Some(ended) = pulling.ending.wait(A_WHILE) else {
        let (done, total) = pulling.bytes();
        return Ok(Pulled::UnderWay { done, total });
    };
    context.pulls.told(id, &image);
    Ok(ended.map_or_else(|failure| Pulled::Failed(problem(failure)), |()| Pulled::Here))
}

fn begin(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    question: Pull,
    pulling: &Arc<Pulling>,
) -> Result<(), Failure> {
    let of_thread = Context { world: Arc::clone(&context.world), told: Arc::new(Log) };
    let (peer, of_migration, image, working) =
        (peer.to_owned(), id.clone(), question.image.clone(), Arc::clone(pulling));
    let work = move || {
        let working = Unfinished(working);
        let outcome = carry_out(&of_thread, (&peer, &of_migration), &question, &working.0);
        let Pull { image, reference } = &question;
        match &outcome {
            Ok(()) => tracing::info!(migration = %of_migration, image, reference, "an image is here"),
            Err(failure) => {
                tracing::info!(migration = %of_migration, image, reference, %failure, "an image is not pulled")
            }
        }
        working.0.ending.come(outcome);
        // Whoever drops the migration from here on sees to its images.
        let is_over = |standing| matches!(standing, Arrival::Dropped | Arrival::Lost);
        if standing_on_disk(&of_thread, &of_migration).is_ok_and(is_over)
            && let Err(failure) = brought::give_up(&of_thread, &peer, &of_migration)
        {
            tracing::warn!(migration = %of_migration, %failure, "an image that was pulled for nothing may be left");
        }
    };
    let begun = std::thread::Builder::new().name("pull".into()).spawn(work);
    begun.map(drop).or_fail(|| "no thread to pull an image".into()).inspect_err(|_| context.pulls.told(id, &image))
}

/// A pull that is told as failed where its thread ends in any other way.
struct Unfinished(Arc<Pulling>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ending.come(Err(Failure::new("pulling it was not brought to its end")));
        }
    }
}

fn carry_out(
    context: &Context,
    (peer, id): (&str, &CheckpointId),
    Pull { image, reference }: &Pull,
    pulling: &Pulling,
) -> Result<(), Failure> {
    let is_here = |name: &str| context.docker.has_image(name).or_fail(|| "the images here cannot be listed".into());
    if !is_here(image)? && is_here(reference)? {
        return Err(Failure::new(format!("{reference} is another image there")));
    }
    brought::note(context, (peer, id), image, Some(reference))?;
    // It may be here because others have brought it.
    if is_here(image)? {
        return Ok(());
    }
    ask_registry(context, reference, pulling)?;
    match is_here(image)? {
        true => Ok(()),
        false => {
            brought::remove_name(context, reference)?;
            Err(Failure::new(format!("{reference} is another image than {image}")))
        }
    }
}

fn ask_registry(context: &Context, reference: &str, pulling: &Pulling) -> Result<(), Failure> {
    let registry = registry(reference);
    if context.pulls.was_silent(registry) {
        return Err(Failure::new(format!("{registry} has not answered a while ago")));
    }
    let answer = Duration::from_secs(context.settings.pull_seconds.into());
    let patience = PullPatience { answer, stall: STALL, whole: LONGEST };
    let told = |done, total| pulling.is_at(done, total);
    let pulled = context.docker.pull_image(reference, patience, pulling.unwanted.notified(), told);
    if let Err(PullError::Silent(_)) = &pulled {
        context.pulls.is_silent(registry);
    }
    pulled.or_fail(|| format!("{reference} cannot be pulled"))
}

/// Where an image without a host in its name lies.
const DOCKERS_OWN: &str = "Docker's own registry";

/// Where an image lies, as Docker reads its name.
fn registry(reference: &str) -> &str {
    let host = reference.split_once('/').map(|(host, _)| host);
    host.filter(|host| host.contains(['.', ':']) || *host == "localhost").unwrap_or(DOCKERS_OWN)
}

/// A name alone could mean another image tomorrow. What else makes a name is dockerd's to say.
fn require_digest(reference: &str) -> Result<(), Failure> {
    let is_plain = reference.len() <= LONGEST_REFERENCE && reference.bytes().all(|byte| byte.is_ascii_graphic());
    let digest = reference.split_once("@sha256:").filter(|(name, _)| !name.is_empty()).map(|(_, digest)| digest);
    let is_digest = |digest: &str| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_plain && digest.is_some_and(is_digest) {
        true => Ok(()),
        false => Err(Failure::usage(format!("{reference:?} names no image by its digest"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_by_its_digest_is_pulled() {
        let digest = "0f".repeat(32);
        assert!(require_digest(&format!("host:5000/team/web@sha256:{digest}")).is_ok());
        let wrong = [
            "web".to_owned(),
            "web:latest".to_owned(),
            format!("@sha256:{digest}"),
            format!("web@sha256:{digest}0"),
            format!("web@sha256:{digest}@sha256:{digest}"),
            format!("web@md5:{digest}"),
            format!("we b@sha256:{digest}"),
            format!("web\n@sha256:{digest}"),
            format!("{}@sha256:{digest}", "w".repeat(LONGEST_REFERENCE)),
        ];
        wrong.iter().for_each(|wrong| assert!(require_digest(wrong).is_err(), "{wrong}"));
    }

    #[test]
    fn a_name_without_a_host_is_on_dockers_own_registry() {
        let cases = [
            ("web@sha256:aa", DOCKERS_OWN),
            ("team/web@sha256:aa", DOCKERS_OWN),
            ("localhost/web@sha256:aa", "localhost"),
            ("host:5000/web@sha256:aa", "host:5000"),
            ("registry.example/team/web@sha256:aa", "registry.example"),
        ];
        cases.iter().for_each(|(reference, expected)| assert_eq!(registry(reference), *expected));
    }
}
