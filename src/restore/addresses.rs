//! Getting a container's own address back from Docker.
//!
//! Unless an address was fixed (`--ip`, which the default bridge does not take), Docker gives a starting container the
//! lowest address that is free in its network. For that to be the one that the container had, every lower one has to be
//! taken at that moment. So containers that come back at the same time take turns, the lowest address first, and free
//! addresses below are taken by *placeholders*: containers that are created and never started, because the gate keeps
//! their `start` waiting until it is over and then lets it fail.
//!
//! ```text
//!            docker start ──────► create ─────────────────────────► start
//!  early     ├── address ──┤                                                  (26.0.1 to 27, and before)
//!  late                                 Restored ─► Done ├─ address ─┤ rules, proxies     (28 and later, and 26.0.0)
//!  turn      ├─────────────┤    or               ├───────────────────┤
//! ```
//!
//! When Docker hands the address out depends on its version: before it calls the runtime's `create`, or after. In the latter
//! case the turn ends as soon as the address is on an interface of the container's. Restoring itself, and what Docker does
//! for published ports, are outside of the turn: that goes on beside others'.

use super::gate;
use crate::docker::{Client, Container};
use crate::failure::{Failure, OrFail};
use crate::network::coming::Coming;
use crate::network::netns::NetNs;
use crate::store::claims::Claim;
use crate::store::{CheckpointId, ContainerId};
use crate::world::World;
use crate::world::handing_out::{AtTheGate, Placeholder, Wanted};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Marks placeholders, so that those of a helper that died are found.
const LABEL: &str = "transship.placeholder";

/// What a placeholder would run if it ever ran: the one program that is on every host that has this one. It is bound
/// into the container, whose image may have none.
const PROGRAM: &str = crate::interposer::PROGRAM;

/// More free addresses below the wanted one than this are not filled: each costs Docker a tenth of a second.
const MOST: usize = 64;

/// `docker start` of a frozen container in place; `before` is what Docker said of it when it was frozen.
pub fn start(world: &Arc<World>, container: &ContainerId, before: &Container) -> Result<(), Failure> {
    let failed = || format!("{} cannot be started", before.name());
    let late = world.docker.gives_addresses_late().or_fail(failed)?;
    world.handing_out.announce(container, chosen_by_docker(before));
    let started = match late {
        // The gate takes the turn when the container is restored.
        true => world.docker.start(container.as_str()).or_fail(failed),
        false => start_in_turn(world, container, before),
    };
    end_turn(world, container);
    started
}

fn start_in_turn(world: &Arc<World>, container: &ContainerId, before: &Container) -> Result<(), Failure> {
    let failed = || format!("{} cannot be started", before.name());
    wait_for_turn(world, container, before)?;
    make_way(world, before)?;
    let (told, heard) = channel();
    world.arrivals.keep(container.clone(), told.clone());
    std::thread::scope(|threads| {
        let starting = threads.spawn(move || {
            let started = world.docker.start(container.as_str());
            // Where it failed before it came to the gate.
            let _ = told.send(());
            started
        });
        let _ = heard.recv();
        world.arrivals.take(container);
        end_turn(world, container);
        starting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).or_fail(failed)
    })
}

/// A container is restored and stands still, and Docker, if it is one that does so late, gives it its address as soon as it
/// hears of that. Returns when it is its turn; which ends when the address is in the network namespace of process `pid`.
pub fn before_docker_hears(
    world: &Arc<World>,
    container: &ContainerId,
    before: &Container,
    pid: u32,
) -> Result<(), Failure> {
    let wanted = chosen_by_docker(before);
    if wanted.is_empty() || !world.docker.gives_addresses_late().or_fail(|| "Docker does not say what it is".into())? {
        return Ok(());
    }
    world.handing_out.announce(container, wanted.clone());
    wait_for_turn(world, container, before)?;
    make_way(world, before)?;
    if let Err(error) = end_turn_early(world, container, pid, wanted) {
        let cause: &dyn std::error::Error = error.as_ref();
        tracing::warn!(%container, cause, "its address cannot be waited for; its turn lasts until it starts");
    }
    Ok(())
}

/// Ends the turn as soon as the addresses are there. Without that it ends when Docker has set up all else, too.
fn end_turn_early(
    world: &Arc<World>,
    container: &ContainerId,
    pid: u32,
    wanted: Vec<Wanted>,
) -> Result<(), Box<dyn std::error::Error>> {
    let coming = Coming::watch(&NetNs::of_process(pid)?, wanted.into_iter().map(|(_, address)| address))?;
    let (given_up, watch) = std::io::pipe()?;
    world.handing_out.keep_watch(container, watch.into());
    let (world, container) = (Arc::clone(world), container.clone());
    let wait = move || match coming.wait(&given_up.into()) {
        Ok(true) => end_turn(&world, &container),
        Ok(false) => {}
        Err(error) => tracing::warn!(%container, %error, "its address could not be waited for"),
    };
    std::thread::Builder::new().name("address".into()).spawn(wait)?;
    Ok(())
}

fn wait_for_turn(world: &World, container: &ContainerId, before: &Container) -> Result<(), Failure> {
    let limit = world.settings.longest_address_turn();
    world.handing_out.wait_for_turn(container, limit).map_err(|first| {
        let (name, seconds) = (before.name(), limit.as_secs());
        Failure::new(format!(
            "{name} waits for its address: container {first:.12} goes first, and nothing came of it for {seconds} s"
        ))
        .remedy("see whether dockerd is at work on it; then try again")
    })
}

/// Takes every free address below the container's own, in each of its networks where Docker would choose.
fn make_way(world: &Arc<World>, before: &Container) -> Result<(), Failure> {
    for (network, address) in chosen_by_docker(before) {
        let gateway = gateway_in(before, &network);
        let found = world.docker.network(&network).or_fail(|| format!("the network {network} cannot be looked at"))?;
        let free = free_below(&found, address, gateway);
        if free.len() > MOST {
            return Err(Failure::new(format!(
                "more than {MOST} addresses below {address} are free in the network {network}: Docker would give {} another",
                before.name()
            ))
            .remedy("give containers fixed addresses (--ip, on a network of their own)"));
        }
        for _ in free {
            let placeholder = put_placeholder(world, &network, before)?;
            world.handing_out.keep(placeholder).into_iter().for_each(|late| end(world, late));
        }
    }
    Ok(())
}

/// The networks, by name, in which a container's address was Docker's choice, and that address.
pub fn chosen_by_docker(before: &Container) -> Vec<Wanted> {
    let networks = before.inspect().pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let chosen = networks.into_iter().flatten().filter_map(|(name, endpoint)| {
        let fixed = endpoint.pointer("/IPAMConfig/IPv4Address").and_then(Value::as_str).unwrap_or_default();
        let address: Ipv4Addr = endpoint["IPAddress"].as_str()?.parse().ok()?;
        fixed.is_empty().then(|| (name.clone(), address))
    });
    chosen.collect()
}

/// The gateway that a container had in a network. Networks themselves tell theirs only where an operator chose it
/// (28.0 and later).
fn gateway_in(before: &Container, network: &str) -> Option<Ipv4Addr> {
    let networks = before.inspect().pointer("/NetworkSettings/Networks")?;
    networks[network]["Gateway"].as_str()?.parse().ok()
}

/// The addresses of a network, as `GET /networks/ID` tells it, that Docker would give away before `wanted`.
fn free_below(network: &Value, wanted: Ipv4Addr, gateway: Option<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let configs = network.pointer("/IPAM/Config").and_then(Value::as_array).into_iter().flatten();
    let pool = configs.filter_map(|config| Pool::of(config, gateway)).find(|pool| pool.range.contains(&wanted));
    let Some(pool) = pool else { return Vec::new() };
    let endpoints = network["Containers"].as_object().into_iter().flatten();
    let addresses =
        endpoints.filter_map(|(_, endpoint)| endpoint["IPv4Address"].as_str()?.split('/').next()?.parse().ok());
    let taken: BTreeSet<Ipv4Addr> = addresses.chain(pool.reserved).collect();
    let lower = u32::from(*pool.range.start())..u32::from(wanted);
    lower.map(Ipv4Addr::from).filter(|address| !taken.contains(address)).take(MOST + 1).collect()
}

/// What Docker gives addresses from.
struct Pool {
    range: std::ops::RangeInclusive<Ipv4Addr>,
    reserved: Vec<Ipv4Addr>,
}

impl Pool {
    fn of(config: &Value, gateway: Option<Ipv4Addr>) -> Option<Self> {
        let subnet = bounds(config["Subnet"].as_str()?)?;
        let range = config["IPRange"].as_str().and_then(bounds).unwrap_or_else(|| subnet.clone());
        let told = config["Gateway"].as_str().and_then(|address| address.parse().ok());
        // Docker gives the bridge itself the first address that it would give a container.
        let first = Ipv4Addr::from(u32::from(*range.start()) + u32::from(range.start() == subnet.start()));
        let gateway = told.or(gateway).unwrap_or(first);
        let others = config["AuxiliaryAddresses"].as_object().into_iter().flatten();
        let others = others.filter_map(|(_, address)| address.as_str()?.parse().ok());
        // A network's first address is its own name, and its last reaches everybody.
        let reserved = others.chain([gateway, *subnet.start(), *subnet.end()]).collect();
        Some(Self { range, reserved })
    }
}

fn bounds(subnet: &str) -> Option<std::ops::RangeInclusive<Ipv4Addr>> {
    let (address, prefix) = subnet.split_once('/')?;
    let (address, prefix): (Ipv4Addr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
    let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or_default();
    let first = u32::from(address) & mask;
    Some(Ipv4Addr::from(first)..=Ipv4Addr::from(first | !mask))
}

/// Creates a placeholder. Returns when it has its address.
fn put_placeholder(world: &Arc<World>, network: &str, like: &Container) -> Result<Placeholder, Failure> {
    let failed = || format!("a free address of the network {network} cannot be taken");
    let name = CheckpointId::random().or_fail(failed)?;
    let request = json!({
        "Image": like.image_id(),
        "Entrypoint": ["/transship-placeholder"],
        "Labels": { LABEL: like.name() },
        "HostConfig": {
            "NetworkMode": network,
            "LogConfig": { "Type": "none" },
            "Binds": [format!("{PROGRAM}:/transship-placeholder:ro")],
        },
    });
    let id = world.docker.create(&format!("transship-placeholder-{name}"), &request).or_fail(failed)?;
    let container: ContainerId = id.parse().or_fail(failed)?;
    let (wait, released) = channel();
    let (told, heard) = channel();
    world.placeholders.keep(container.clone(), AtTheGate { arrived: told.clone(), released });
    let claim = Claim::new(container.clone(), name, String::new(), gate::SOCKET.into());
    world.claims.place(&claim).or_fail(failed).inspect_err(|_| remove(world, &container))?;
    let (docker, starts): (Client, _) = (world.docker.clone(), id);
    let starting = std::thread::spawn(move || {
        // It fails as it is meant to. Where it failed too early the address is not taken, and that shows later.
        let _ = docker.start(&starts);
        let _ = told.send(());
    });
    let _ = heard.recv();
    Ok(Placeholder { container, wait, starting })
}

/// Ends a turn that a container was given in a start of its own that came to nothing; it still waits for another one.
pub fn give_up_turn(world: &World, container: &ContainerId) {
    // Early engines hand out addresses before they come to the gate: there the turn is this very start's.
    let is_stale = || world.docker.gives_addresses_late().unwrap_or(false);
    if world.handing_out.has_turn(container) && is_stale() {
        end_turn(world, container);
    }
}

/// The container has its address, or will not get one: the next one's turn begins. May be repeated.
pub fn end_turn(world: &World, container: &ContainerId) {
    // Their addresses have to be free before somebody else looks.
    world.handing_out.end_turn(container, |placeholders| placeholders.into_iter().for_each(|one| end(world, one)));
}

fn end(world: &World, Placeholder { container, wait, starting }: Placeholder) {
    drop(wait);
    let _ = starting.join();
    remove(world, &container);
}

fn remove(world: &World, container: &ContainerId) {
    world.placeholders.take(container);
    if let Err(error) = world.claims.withdraw(container) {
        tracing::warn!(%container, %error, "the claim of a placeholder could not be withdrawn");
    }
    if let Err(error) = world.docker.remove(container.as_str()) {
        tracing::warn!(%container, %error, "a placeholder could not be removed; it is swept later");
    }
}

/// Removes what a helper that died has left, or could not remove because dockerd was away (I5). Nobody has a turn just now.
pub fn sweep(world: &World) {
    let Ok(all) = world.docker.containers() else { return };
    for container in all.iter().filter(|container| container.label(LABEL).is_some()) {
        if let Ok(id) = container.id().parse() {
            remove(world, &id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(containers: &[&str]) -> Value {
        let containers: serde_json::Map<_, _> = containers
            .iter()
            .map(|address| ((*address).to_owned(), json!({ "IPv4Address": format!("{address}/24") })))
            .collect();
        json!({
            "IPAM": { "Config": [
                { "Subnet": "fd00::/64", "Gateway": "fd00::1" },
                { "Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1", "AuxiliaryAddresses": { "printer": "172.30.0.3" } },
            ] },
            "Containers": containers,
        })
    }

    fn free(network: &Value, wanted: &str) -> Vec<String> {
        free_below(network, wanted.parse().unwrap(), None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_free_addresses_below_the_wanted_one_are_in_the_way() {
        assert_eq!(free(&network(&["172.30.0.2", "172.30.0.5"]), "172.30.0.7"), ["172.30.0.4", "172.30.0.6"]);
        assert!(free(&network(&[]), "172.30.0.2").is_empty());
        assert!(free(&network(&[]), "10.0.0.9").is_empty(), "an address of no pool of this network");
    }

    #[test]
    fn a_gateway_that_the_network_does_not_tell_is_not_free() {
        let mut network = network(&[]);
        network["IPAM"]["Config"] = json!([{ "Subnet": "172.30.0.0/24" }]);
        assert!(free(&network, "172.30.0.2").is_empty());
        let told = free_below(&network, "172.30.0.3".parse().unwrap(), Some("172.30.0.254".parse().unwrap()));
        assert_eq!(told, ["172.30.0.1", "172.30.0.2"].map(|address| address.parse::<Ipv4Addr>().unwrap()));
    }

    #[test]
    fn docker_begins_with_the_range_where_there_is_one() {
        let mut network = network(&[]);
        network["IPAM"]["Config"] =
            json!([{ "Subnet": "172.30.0.0/24", "IPRange": "172.30.0.128/25", "Gateway": "172.30.0.1" }]);
        assert_eq!(free(&network, "172.30.0.130"), ["172.30.0.128", "172.30.0.129"]);
    }

    #[test]
    fn a_fixed_address_is_not_dockers_choice() {
        let before = Container::new(json!({ "NetworkSettings": { "Networks": {
            "bridge": { "IPAMConfig": null, "IPAddress": "172.17.0.4" },
            "front": { "IPAMConfig": { "IPv4Address": "172.30.0.9" }, "IPAddress": "172.30.0.9" },
            "none": { "IPAMConfig": {}, "IPAddress": "" },
        } } }));
        assert_eq!(chosen_by_docker(&before), [("bridge".to_owned(), "172.17.0.4".parse().unwrap())]);
    }
}
