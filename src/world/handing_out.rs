//! Whose turn it is to be given an address by Docker; see [`addresses`](crate::restore::addresses).

use crate::store::ContainerId;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Whose turn it is to be given an address.
#[derive(Debug, Default)]
pub struct HandingOut {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Containers that come back just now, and the addresses that they want.
    pending: BTreeMap<ContainerId, Vec<Wanted>>,
    /// Who has the turn.
    turn: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    holder: ContainerId,
    /// What stands for it.
    placeholders: Vec<Placeholder>,
    /// Closed when the turn ends.
    watch: Option<OwnedFd>,
    /// Whether somebody is at ending it.
    is_ending: bool,
}

/// An address in a network, by its name.
pub type Wanted = (String, Ipv4Addr);

/// A container that has an address and nothing else.
#[derive(Debug)]
pub struct Placeholder {
    /// Its container.
    pub container: ContainerId,
    /// As long as this is here, its `start` waits at the gate.
    pub wait: Sender<()>,
    /// The call of Docker's that starts it.
    pub starting: JoinHandle<()>,
}

/// A placeholder, as the gate knows it.
#[derive(Debug)]
pub struct AtTheGate {
    /// Is told when its `start` arrives.
    pub arrived: Sender<()>,
    /// Nothing comes from here; its other end goes when the placeholder may go.
    pub released: Receiver<()>,
}

impl AtTheGate {
    /// The placeholder has its address now. Returns when that is not needed any more.
    pub fn wait(self) {
        let _ = self.arrived.send(());
        drop(self.arrived);
        let _ = self.released.recv();
    }
}

impl HandingOut {
    /// A container is coming back and wants these addresses.
    pub fn announce(&self, container: &ContainerId, wanted: Vec<Wanted>) {
        self.lock().pending.insert(container.clone(), wanted);
    }

    /// Waits until it is the container's turn. Those with lower addresses in one of its networks come first.
    ///
    /// # Errors
    /// Whom it waits for, where nobody's turn has ended for as long as `limit`.
    pub fn wait_for_turn(&self, container: &ContainerId, limit: Duration) -> Result<(), ContainerId> {
        let mut state = self.lock();
        while let Some(first) = state.whom_to_wait_for(container) {
            let (now, waited) = self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
            state = now;
            if waited.timed_out() && state.whom_to_wait_for(container).is_some() {
                return Err(first);
            }
        }
        let holder = container.clone();
        state.turn = Some(Turn { holder, placeholders: Vec::new(), watch: None, is_ending: false });
        Ok(())
    }

    /// Whether it is this container's turn.
    pub fn has_turn(&self, container: &ContainerId) -> bool {
        self.lock().turn.as_ref().is_some_and(|turn| turn.holder == *container)
    }

    /// Keeps a placeholder until the turn ends; given back where it has ended meanwhile.
    pub fn keep(&self, placeholder: Placeholder) -> Option<Placeholder> {
        match self.lock().turn.as_mut().filter(|turn| !turn.is_ending) {
            Some(turn) => turn.placeholders.push(placeholder),
            None => return Some(placeholder),
        }
        None
    }

    /// Closes `watch` when the turn ends.
    pub fn keep_watch(&self, container: &ContainerId, watch: OwnedFd) {
        if let Some(turn) = self.lock().turn.as_mut().filter(|turn| turn.holder == *container) {
            turn.watch = Some(watch);
        }
    }

    /// The next one's turn begins as soon as what stood for this one's is removed. May be repeated, at the same time too.
    pub fn end_turn(&self, container: &ContainerId, remove: impl FnOnce(Vec<Placeholder>)) {
        let mut state = self.lock();
        state.pending.remove(container);
        let Some(turn) = state.turn.as_mut().filter(|turn| turn.holder == *container && !turn.is_ending) else {
            drop(state);
            return self.changed.notify_all();
        };
        turn.is_ending = true;
        drop(turn.watch.take());
        let placeholders = std::mem::take(&mut turn.placeholders);
        drop(state);
        remove(placeholders);
        self.lock().turn = None;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who has the turn, or else a pending container that shares a network and goes first. The order is a total one, so that
    /// nobody waits in a circle.
    fn whom_to_wait_for(&self, container: &ContainerId) -> Option<ContainerId> {
        let holder = self.turn.as_ref().map(|turn| &turn.holder);
        holder.or_else(|| self.before(container)).cloned()
    }

    fn before(&self, container: &ContainerId) -> Option<&ContainerId> {
        let own = self.pending.get(container)?;
        let shares = |other: &Vec<Wanted>| other.iter().any(|(name, _)| own.iter().any(|(mine, _)| mine == name));
        let mut others = self.pending.iter().filter(|(id, other)| *id != container && shares(other));
        others.find(|(id, other)| (*other, *id) < (own, container)).map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_address_comes_first_and_strangers_do_not_wait_for_each_other() {
        let id = |digit: &str| digit.repeat(64).parse::<ContainerId>().unwrap();
        let wanted = |network: &str, last: u8| vec![(network.to_owned(), Ipv4Addr::new(172, 17, 0, last))];
        let (low, high, other) = (id("c"), id("a"), id("b"));
        let pending = [
            (low.clone(), wanted("bridge", 2)),
            (high.clone(), wanted("bridge", 10)),
            (other.clone(), wanted("front", 9)),
        ];
        let mut state = State { pending: pending.into(), turn: None };
        assert_eq!(state.whom_to_wait_for(&high), Some(low.clone()));
        assert_eq!((state.whom_to_wait_for(&low), state.whom_to_wait_for(&other)), (None, None));
        state.pending.remove(&low);
        assert_eq!(state.whom_to_wait_for(&high), None);
    }

    #[test]
    fn a_turn_that_is_being_ended_lasts_until_its_placeholders_are_gone() {
        let id = |digit: &str| digit.repeat(64).parse::<ContainerId>().unwrap();
        let (one, other) = (id("a"), id("b"));
        let (turns, limit) = (HandingOut::default(), Duration::from_millis(20));
        turns.wait_for_turn(&one, limit).unwrap();
        let (watch, watched) = std::io::pipe().unwrap();
        turns.keep_watch(&one, watched.into());
        turns.end_turn(&one, |_| {
            assert_eq!(std::io::Read::read(&mut &watch, &mut [0]).unwrap(), 0, "closed");
            turns.end_turn(&one, |_| panic!("twice"));
            assert_eq!(turns.wait_for_turn(&other, limit), Err(one.clone()));
        });
        assert_eq!(turns.wait_for_turn(&other, limit), Ok(()));
    }

    #[test]
    fn a_turn_that_does_not_end_is_not_waited_for_for_ever() {
        let id = |digit: &str| digit.repeat(64).parse::<ContainerId>().unwrap();
        let (one, other) = (id("a"), id("b"));
        let (turns, limit) = (HandingOut::default(), Duration::from_millis(20));
        assert_eq!(turns.wait_for_turn(&one, limit), Ok(()));
        assert_eq!(turns.wait_for_turn(&other, limit), Err(one.clone()));
        turns.end_turn(&one, drop);
        assert_eq!(turns.wait_for_turn(&other, limit), Ok(()));
    }
}
