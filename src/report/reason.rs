//! Why containers were brought through in the way they were, told once for all who share a reason.

use super::ContainerCourse;

/// A strategy, why it was chosen, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason<'a> {
    pub strategy: &'a str,
    pub why: &'a str,
    pub names: Vec<&'a str>,
    /// It is the reason for every container.
    pub of_all: bool,
}

impl Reason<'_> {
    /// The containers that it holds for.
    pub fn whom(&self) -> String {
        if self.of_all && self.names.len() > 1 { "all containers".into() } else { self.names.join(", ") }
    }
}

/// Each reason once, although many containers share it.
pub(super) fn reasons(containers: &[ContainerCourse]) -> Vec<Reason<'_>> {
    let mut reasons: Vec<Reason<'_>> = Vec::new();
    for ContainerCourse { name, strategy, reason: why, .. } in containers {
        match reasons.iter_mut().find(|known| known.strategy == strategy && known.why == why) {
            Some(known) => known.names.push(name),
            None if why.is_empty() => {}
            None => reasons.push(Reason { strategy, why, names: vec![name], of_all: false }),
        }
    }
    reasons.iter_mut().for_each(|reason| reason.of_all = reason.names.len() == containers.len());
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::container;

    #[test]
    fn a_reason_is_told_once_for_all_who_share_it() {
        let mut containers = vec![container("a"), container("b")];
        assert_eq!(reasons(&containers).iter().map(Reason::whom).collect::<Vec<_>>(), ["all containers"]);
        containers[1].strategy = "stop".into();
        assert_eq!(reasons(&containers).iter().map(Reason::whom).collect::<Vec<_>>(), ["a", "b"]);
        containers[0].reason.clear();
        assert_eq!(reasons(&containers).iter().map(Reason::whom).collect::<Vec<_>>(), ["b"]);
    }
}
