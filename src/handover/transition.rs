//! What follows from an event.

/// The next state, and what is to be done in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Transition<State, Action> {
    /// Where it stands now.
    pub next: State,
    /// All of them are done before the next event.
    pub actions: Vec<Action>,
}

impl<State, Action> Transition<State, Action> {
    pub(super) fn to(next: State, actions: impl Into<Vec<Action>>) -> Self {
        Self { next, actions: actions.into() }
    }
}
