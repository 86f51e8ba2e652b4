//! In which order containers come back: what others depend on comes first.

use crate::docker::Container;
use std::collections::HashMap;

/// The label by which an operator orders containers: lower numbers come back first and go last.
const ORDER: &str = "transship.order";

/// The label whose value `healthy` has those that come later wait for the container's health check.
const WAIT: &str = "transship.wait";

/// Docker Compose's own labels.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// What order is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The wave in which it comes back, from 0. It goes in the reverse order.
    pub wave: usize,
    /// Whether the next wave waits until it is healthy.
    pub wait_healthy: bool,
    /// The ids of those that come back after it because they depend on it, or because labels say so.
    pub needed_by: Vec<String>,
}

/// The place of each of the containers.
pub fn places(containers: &[Container]) -> Vec<Place> {
    let services = services(containers);
    let depths: Vec<usize> =
        (0..containers.len()).map(|index| depth(containers, &services, index, &mut Vec::new())).collect();
    let keys: Vec<(i64, usize)> =
        containers.iter().zip(&depths).map(|(container, depth)| (order(container), *depth)).collect();
    let mut waves = keys.clone();
    waves.sort_unstable();
    waves.dedup();
    let healthy = waited_for(containers, &services);
    let place = |(index, key): (usize, &(i64, usize))| Place {
        wave: waves.binary_search(key).unwrap_or_default(),
        wait_healthy: healthy[index] || containers[index].label(WAIT) == Some("healthy"),
        needed_by: needed_by(containers, &services, index),
    };
    keys.iter().enumerate().map(place).collect()
}

fn needed_by(containers: &[Container], services: &Services<'_>, index: usize) -> Vec<String> {
    let after = |other: &usize| {
        order(&containers[*other]) > order(&containers[index])
            || needed(containers, services, *other).any(|(needed, _)| needed == index)
    };
    (0..containers.len()).filter(after).map(|other| containers[other].id().to_owned()).collect()
}

fn order(container: &Container) -> i64 {
    container.label(ORDER).and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// The containers of each service of each project.
type Services<'a> = HashMap<(&'a str, &'a str), Vec<usize>>;

fn services(containers: &[Container]) -> Services<'_> {
    let mut services = Services::new();
    for (index, container) in containers.iter().enumerate() {
        if let (Some(project), Some(service)) = (container.label(COMPOSE_PROJECT), container.label(COMPOSE_SERVICE)) {
            services.entry((project, service)).or_default().push(index);
        }
    }
    services
}

/// The services that a container depends on, and whether it wants them healthy: `db:service_healthy:false,...`.
fn dependencies(container: &Container) -> impl Iterator<Item = (&str, bool)> {
    let list = container.label(COMPOSE_DEPENDS_ON).unwrap_or_default();
    list.split(',').filter(|entry| !entry.is_empty()).map(|entry| {
        let mut fields = entry.split(':');
        (fields.next().unwrap_or_default(), fields.next() == Some("service_healthy"))
    })
}

fn needed<'a>(
    containers: &'a [Container],
    services: &'a Services<'_>,
    index: usize,
) -> impl Iterator<Item = (usize, bool)> + 'a {
    let project = containers[index].label(COMPOSE_PROJECT).unwrap_or_default();
    dependencies(&containers[index]).flat_map(move |(service, healthy)| {
        services.get(&(project, service)).into_iter().flatten().map(move |other| (*other, healthy))
    })
}

/// How long the chain of those that it depends on is. A circle, which Compose does not allow, is cut.
fn depth(containers: &[Container], services: &Services<'_>, index: usize, path: &mut Vec<usize>) -> usize {
    if path.contains(&index) {
        return 0;
    }
    path.push(index);
    let deepest =
        needed(containers, services, index).map(|(other, _)| depth(containers, services, other, path) + 1).max();
    path.pop();
    deepest.unwrap_or_default()
}

fn waited_for(containers: &[Container], services: &Services<'_>) -> Vec<bool> {
    let mut waited_for = vec![false; containers.len()];
    let all = (0..containers.len()).flat_map(|index| needed(containers, services, index));
    all.filter(|(_, healthy)| *healthy).for_each(|(other, _)| waited_for[other] = true);
    waited_for
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(labels: &[(&str, &str)]) -> Container {
        let id = labels.iter().find(|(name, _)| *name == COMPOSE_SERVICE).map_or("alone", |(_, service)| service);
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        Container::new(json!({ "Id": id, "Config": { "Labels": labels } }))
    }

    fn service(name: &str, depends_on: &str) -> Container {
        container(&[(COMPOSE_PROJECT, "shop"), (COMPOSE_SERVICE, name), (COMPOSE_DEPENDS_ON, depends_on)])
    }

    fn waves(containers: &[Container]) -> Vec<usize> {
        places(containers).iter().map(|place| place.wave).collect()
    }

    #[test]
    fn what_others_depend_on_comes_back_first() {
        let shop = [
            service("web", "app:service_started:false"),
            service("app", "db:service_healthy:true,cache:service_started:false"),
            service("db", ""),
            service("cache", ""),
        ];
        assert_eq!(waves(&shop), [2, 1, 0, 0]);
        let healthy: Vec<bool> = places(&shop).iter().map(|place| place.wait_healthy).collect();
        assert_eq!(healthy, [false, false, true, false]);
    }

    #[test]
    fn an_order_given_by_label_goes_before_everything_else() {
        let mixed = [container(&[(ORDER, "2")]), container(&[]), container(&[(ORDER, "-1"), (WAIT, "healthy")])];
        assert_eq!(waves(&mixed), [2, 1, 0]);
        assert!(places(&mixed)[2].wait_healthy);
    }

    #[test]
    fn who_needs_it_is_known_of_each() {
        let shop = [service("app", "db:service_started:false"), service("db", ""), container(&[])];
        let needed_by = |all: &[Container]| places(all).into_iter().map(|place| place.needed_by).collect::<Vec<_>>();
        assert_eq!(needed_by(&shop), [vec![], vec!["app".to_owned()], vec![]]);
        let ordered = [container(&[(ORDER, "-1")]), service("db", "")];
        assert_eq!(needed_by(&ordered), [vec!["db".to_owned()], vec![]]);
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(waves(&[service("a", "b:service_started:false"), service("b", "a:service_started:false")]).len(), 2);
    }
}
