//! The steps of `fetch`, each beside its undo.

use super::bases::Bases;
use super::watched::Watched;
use super::{Fetch, files};
use crate::failure::{Failure, OrFail};
use crate::operations::{brought, images};
use crate::saga::Step;
use crate::shipping::{self, words};
use crate::store::staging::Durability;
use crate::store::{Manifest, Staging, manifest};
use crate::transport::client::Flow;
use crate::world::Context;
use crate::world::fetches::Fetching;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// So much is left on the store's file system, whatever comes.
const LEFT_FREE: u64 = 64 << 20;

type FetchStep = Step<Fetch, Context>;

/// How far it is; nobody asks about one that a helper before this one has begun.
fn fetching(fetch: &Fetch, context: &Context) -> Arc<Fetching> {
    context.fetches.get(&fetch.id).unwrap_or_else(|| Arc::new(Fetching::from(&fetch.peer)))
}

/// The directory that it comes to be in.
fn staging(fetch: &Fetch, context: &Context) -> Result<Staging, Failure> {
    let there = context.catalog.staging(&fetch.id);
    there.ok_or_else(|| Failure::new(format!("checkpoint {} has no place in the store", fetch.id)))
}

/// The manifest lies apart, which says that the directory is this operation's. It is believed when all digests are compared.
fn manifest_path(fetch: &Fetch, context: &Context) -> std::path::PathBuf {
    context.catalog.layout().tmp().join(format!("{}.manifest", fetch.id))
}

fn manifest(fetch: &Fetch, context: &Context) -> Result<(Vec<u8>, Manifest), Failure> {
    let failed = || format!("the manifest of {} cannot be read", fetch.id);
    let json = std::fs::read(manifest_path(fetch, context)).or_fail(failed)?;
    let manifest = Manifest::from_json(&json).or_fail(failed)?;
    Ok((json, manifest))
}

/// What it is, and whether it may come.
pub fn plan() -> FetchStep {
    fn run(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        let id = fetch.id.clone();
        let cannot = || format!("checkpoint {id} cannot come");
        let peer = shipping::peer(context, &fetch.peer)?;
        let path = words::shared(&fetch.id, "manifest");
        let json =
            fetch.persistence(context).ask_first(move || peer.get_bytes(&path, manifest::MAX_BYTES + 1), cannot)?;
        let manifest = Manifest::from_json(&json).or_fail(cannot)?;
        let (bytes, free) = (manifest.total_bytes(), context.catalog.free_bytes().or_fail(cannot)?);
        if bytes.saturating_add(LEFT_FREE) > free {
            return Err(Failure::refused(format!("it has {bytes} bytes, and {free} are free on the store's disk"))
                .remedy("make room on the host that it is to come to: transship gc"));
        }
        undo(fetch, context)?;
        let staging = context.catalog.begin(&fetch.id).or_fail(cannot)?;
        if let Err(error) = std::fs::write(manifest_path(fetch, context), &json) {
            staging.discard().or_fail(cannot)?;
            return Err(error).or_fail(cannot);
        }
        staging.lay_out(&manifest).or_fail(cannot)?;
        let image = &manifest.container.image_id;
        fetch.lacks_image = brought::has_to_come(context, &fetch.id, image)?.then(|| image.clone());
        fetch.container = manifest.container.name;
        fetch.bytes = bytes;
        fetching(fetch, context).total.store(bytes, Ordering::Relaxed);
        Ok(())
    }
    fn undo(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        let failed = || format!("what has come of {} cannot be removed", fetch.id);
        // Without it the directory, if there is one, is another operation's.
        if !manifest_path(fetch, context).exists() {
            return Ok(());
        }
        context.catalog.staging(&fetch.id).map_or(Ok(()), Staging::discard).or_fail(failed)?;
        remove_manifest(fetch, context)
    }
    Step::new("plan", run, undo)
}

fn remove_manifest(fetch: &Fetch, context: &Context) -> Result<(), Failure> {
    match std::fs::remove_file(manifest_path(fetch, context)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_fail(|| format!("the manifest of {} cannot be removed", fetch.id))
        }
        _ => Ok(()),
    }
}

/// The image, where this host lacks it.
pub fn image() -> FetchStep {
    fn run(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        let Some(image) = &fetch.lacks_image else { return Ok(()) };
        let cannot = || format!("the image of {} cannot come", fetch.container);
        brought::note(context, (&fetch.peer, &fetch.id), image, None)?;
        let is_here = || context.docker.has_image(image).or_fail(cannot);
        // Others may have brought it.
        if is_here()? {
            return Ok(());
        }
        load_image(fetch, context, image)?;
        match is_here()? {
            true => Ok(()),
            false => Err(Failure::new(format!("{} has sent another image than {image}", fetch.peer))),
        }
    }
    fn undo(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        brought::give_up(context, &fetch.peer, &fetch.id)
    }
    Step::new("image", run, undo)
}

/// Docker takes in all of an image or nothing: where the connection breaks it comes anew, for as long as each try comes further.
fn load_image(fetch: &Fetch, context: &Context, image: &str) -> Result<(), Failure> {
    let cannot = || format!("the image of {} cannot come", fetch.container);
    let (fetching, persistence, mut furthest) = (fetching(fetch, context), fetch.persistence(context), 0);
    loop {
        let (peer, path) = (shipping::peer(context, &fetch.peer)?, words::shared(&fetch.id, "image"));
        let peer = peer.carried(files::carriage(fetch, fetch.way.rate.map(Flow::of), None));
        let come = persistence.ask(move || peer.get_stream(&path), cannot)?;
        let course = Arc::new(Course::default());
        let come = Followed { come: Watched::for_fetch(fetch, &fetching, come), course: Arc::clone(&course) };
        let error = match context.docker.load_image(images::without_names(come, image)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        fetch.cancel.go_ahead(false)?;
        fetching.wanted()?;
        let done = course.done.load(Ordering::Relaxed);
        if !course.is_broken.load(Ordering::Relaxed) {
            return Err(error).or_fail(cannot);
        }
        if done > furthest {
            furthest = done;
            persistence.went_on();
        }
        persistence.again_after(&error, || Failure::new(cannot()).because(&error))?;
    }
}

/// How far an image has come.
#[derive(Debug, Default)]
struct Course {
    done: AtomicU64,
    /// Whether it broke off on its way here.
    is_broken: AtomicBool,
}

struct Followed<R> {
    come: R,
    course: Arc<Course>,
}

impl<R: Read> Read for Followed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.come.read(buffer).inspect_err(|_| self.course.is_broken.store(true, Ordering::Relaxed))?;
        self.course.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// All files, from blocks that are here and from the peer.
pub fn files() -> FetchStep {
    fn run(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        let (_, manifest) = manifest(fetch, context)?;
        let staging = staging(fetch, context)?;
        let bases = Bases::find(context, &fetch.id, &manifest)?;
        let fetched = files::fetch(context, fetch, (&manifest, &staging), &bases.pool, &fetching(fetch, context));
        bases.remove(context)?;
        fetch.sent_bytes = fetched?;
        Ok(())
    }
    fn undo(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        Bases::remove_left(context, &fetch.id)
    }
    Step::new("files", run, undo)
}

/// Every digest is compared, and it is there.
pub fn adopt() -> FetchStep {
    fn run(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        if context.catalog.get(&fetch.id).is_ok() {
            return is_here(fetch, context);
        }
        fetching(fetch, context).wanted()?;
        let (json, manifest) = manifest(fetch, context)?;
        let (done, total) = (AtomicU64::new(0), manifest.total_bytes());
        let told = |bytes| context.told.bytes("verified", done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
        let adopted = staging(fetch, context)?.adopt(&json, Durability::Immediate, &told);
        adopted.or_fail(|| format!("checkpoint {} has not come as it should be", fetch.id))?;
        is_here(fetch, context)
    }
    fn is_here(fetch: &Fetch, context: &Context) -> Result<(), Failure> {
        brought::keep(context, &fetch.id)?;
        remove_manifest(fetch, context)
    }
    fn undo(fetch: &mut Fetch, context: &Context) -> Result<(), Failure> {
        context.catalog.remove_if_there(&fetch.id).or_fail(|| format!("checkpoint {} cannot be removed", fetch.id))
    }
    Step::new("adopt", run, undo)
}
