//! Which containers move as one: those that share a network, IPC or pid namespace, and those of a Compose project.

use crate::docker::Container;
use crate::failure::{Failure, OrFail};
use crate::operations::checkpoint::{self, Member, apart};
use crate::operations::upgrade::order;
use crate::world::Context;
use std::collections::BTreeSet;

/// Docker Compose's own label.
const PROJECT: &str = "com.docker.compose.project";

/// The named containers and all that belong to them and have processes, as groups that move as one; in each, whoever owns a
/// network comes before those that use it, and what others depend on comes before them.
pub fn of(context: &Context, references: &[String]) -> Result<Vec<Vec<Member>>, Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    let (present, absent): (Vec<_>, Vec<_>) = all.into_iter().partition(Container::is_up);
    let mut wanted = BTreeSet::new();
    for reference in references {
        let found = context.docker.container(reference).or_fail(|| format!("there is no container {reference}"));
        let found = found.map_err(|failure| failure.as_refusal().remedy("see: docker ps"))?;
        let place = present.iter().position(|container| container.id() == found.id());
        wanted.insert(place.ok_or_else(|| {
            Failure::refused(format!("{} does not run: it is {}", found.name(), found.status()))
                .remedy(format!("start it first: docker start {}", found.name()))
        })?);
    }
    let mut groups = Vec::new();
    for group in together(&present) {
        if group.is_disjoint(&wanted) {
            continue;
        }
        let containers: Vec<&Container> = group.iter().map(|index| &present[*index]).collect();
        for left in absent.iter().filter(|left| containers.iter().any(|container| same_project(container, left))) {
            context.told.note(&format!("{} does not run, and stays here", left.name()));
        }
        groups.push(members(context, &containers)?);
    }
    Ok(groups)
}

/// A group of running containers that move as one, or why it cannot be looked at as one.
pub struct Group {
    /// Their names.
    pub names: Vec<String>,
    /// The containers.
    pub members: Result<Vec<Member>, Failure>,
}

/// All of this host's.
pub fn all(context: &Context) -> Result<Vec<Group>, Failure> {
    let all = context.containers().or_fail(|| "the containers cannot be listed".into())?;
    let present: Vec<Container> = all.into_iter().filter(Container::is_up).collect();
    let group = |group: BTreeSet<usize>| {
        let containers: Vec<&Container> = group.iter().map(|index| &present[*index]).collect();
        let names = containers.iter().map(|container| container.name().to_owned()).collect();
        Group { names, members: members(context, &containers) }
    };
    Ok(together(&present).into_iter().map(group).collect())
}

fn members(context: &Context, containers: &[&Container]) -> Result<Vec<Member>, Failure> {
    let names: Vec<String> = containers.iter().map(|container| container.name().to_owned()).collect();
    let mut members: Vec<Member> = checkpoint::groups(context, &names, false)?.into_iter().flatten().collect();
    let looked_at: Vec<Container> = members.iter().map(Member::container).collect();
    let places = order::places(&looked_at);
    let waves: Vec<_> = members.iter().zip(&places).map(|(member, place)| (member.id.clone(), place.wave)).collect();
    let wave = |member: &Member| waves.iter().find(|(id, _)| *id == member.id).map(|(_, wave)| *wave);
    members.sort_by_key(|member| (member.joins_network(), wave(member)));
    Ok(members)
}

fn same_project(one: &Container, other: &Container) -> bool {
    one.label(PROJECT).is_some_and(|project| other.label(PROJECT) == Some(project))
}

/// In groups of those that cannot go without each other, by their indices.
fn together(containers: &[Container]) -> Vec<BTreeSet<usize>> {
    apart::tied(containers, |one, other| one.shares_namespace_with(other) || same_project(one, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(id: &str, network: &str, ipc: &str, project: Option<&str>) -> Container {
        let labels = project.map(|project| json!({ PROJECT: project })).unwrap_or_default();
        Container::new(json!({ "Id": id, "Config": { "Labels": labels },
            "HostConfig": { "NetworkMode": network, "IpcMode": ipc, "PidMode": "" } }))
    }

    #[test]
    fn what_is_tied_through_others_moves_as_one_and_nothing_else() {
        let containers = [
            container("a", "front", "private", Some("shop")),
            container("b", "front", "private", None),
            container("c", "container:d", "private", None),
            container("d", "front", "private", Some("shop")),
            container("e", "front", "container:b", None),
            container("f", "bridge", "private", Some("other")),
        ];
        let mut groups = together(&containers);
        groups.sort();
        assert_eq!(groups, [BTreeSet::from([0, 2, 3]), BTreeSet::from([1, 4]), BTreeSet::from([5])]);
    }
}
