//! Whether this host can run what runs on a peer: its processor, its programs, its room.

use crate::criu::rpc::Criu;
use crate::docker::Engine;
use crate::failure::{Failure, OrFail};
use crate::migration::words::Offer;
use crate::operations::processor;
use crate::world::Context;

/// So much is left on the store's file system, whatever comes.
pub const LEFT_FREE: u64 = 64 << 20;

/// The oldest engine that restores were tried with.
const OLDEST_ENGINE: (u32, u32) = (20, 10);

/// Refuses what this host cannot run.
pub fn look(context: &Context, offer: &Offer) -> Result<(), Failure> {
    architecture(offer)?;
    criu(offer)?;
    let engine = context.docker.engine().or_fail(|| "Docker there does not say what it is".into())?;
    docker(&engine, offer)?;
    room(context, offer)?;
    offer.processor.as_ref().map_or(Ok(()), |features| processor::require(context, features))
}

fn architecture(offer: &Offer) -> Result<(), Failure> {
    let here = nix::sys::utsname::uname().or_fail(|| "this host does not say what it is".into())?;
    let here = here.machine().to_string_lossy();
    match here == offer.origin.architecture {
        true => Ok(()),
        false => Err(Failure::refused(format!("it runs on {}, and that host is {here}", offer.origin.architecture))
            .remedy("choose a host of the same architecture")),
    }
}

/// CRIU reads the images of older releases, and not those of newer ones.
fn criu(offer: &Offer) -> Result<(), Failure> {
    let here =
        Criu::in_path().and_then(|criu| criu.version()).or_fail(|| "there is no CRIU there that works".into())?;
    let there = &offer.origin.criu;
    match release(there) > (here.major, here.minor) {
        true => Err(Failure::refused(format!(
            "CRIU there is {here}, older than {there}, whose images it need not understand"
        ))
        .remedy(format!("install CRIU {there} or newer there"))),
        false => Ok(()),
    }
}

/// Major and minor version of what is written as `4.2.1` or `28.5.2`; zeros where it is not.
fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn docker(engine: &Engine, offer: &Offer) -> Result<(), Failure> {
    if release(&engine.version) < OLDEST_ENGINE {
        let (major, minor) = OLDEST_ENGINE;
        return Err(Failure::refused(format!("Docker there is {}, on which nothing was ever tried", engine.version))
            .remedy(format!("bring it to {major}.{minor} or newer")));
    }
    let (here, there) = (&engine.storage_driver, &offer.origin.storage_driver);
    match here == there {
        true => Ok(()),
        false => Err(Failure::refused(format!("Docker there has the storage driver {here}, and here it has {there}"))
            .remedy("give both the same, overlay2: \"storage-driver\" in Docker's daemon.json")),
    }
}

fn room(context: &Context, offer: &Offer) -> Result<(), Failure> {
    let needs = &offer.needs;
    let meminfo = std::fs::read_to_string("/proc/meminfo").or_fail(|| "the memory there cannot be told".into())?;
    let free = context.catalog.free_bytes().or_fail(|| "the room there cannot be told".into())?;
    let available = available(&meminfo).unwrap_or(u64::MAX);
    enough("bytes of memory", needs.memory, available, "make room there: stop what is not needed")?;
    enough("bytes of disk for its checkpoint", needs.disk, free, "make room there: transship gc")
}

fn enough(what: &str, needed: u64, there: u64, remedy: &str) -> Result<(), Failure> {
    match needed.saturating_add(LEFT_FREE) > there {
        true => Err(Failure::refused(format!("it needs {needed} {what}, and {there} are free there")).remedy(remedy)),
        false => Ok(()),
    }
}

/// What can be had without swapping, in bytes, as `/proc/meminfo` tells it.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert!(release("4.10") > release("4.2.1"));
        assert_eq!(release("28.5.2"), (28, 5));
        assert_eq!(release(""), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let meminfo = "MemTotal:  16000000 kB\nMemAvailable:    1000 kB\n";
        assert_eq!(available(meminfo), Some(1_024_000));
        let refused = enough("bytes of memory", 1 << 30, 1_024_000, "make room").unwrap_err();
        assert!(refused.what.contains("1073741824") && refused.what.contains("1024000"), "{refused}");
        assert!(enough("bytes of memory", 1 << 30, 2 << 30, "make room").is_ok());
    }
}
