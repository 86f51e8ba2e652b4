//! Memory of one address space that is still to come.
//!
//! A page is known by the address that it had when it was dumped: under that its source has it. Where it belongs now may be
//! another address, for the program moves its memory about (mremap(2)).

use super::PAGE;
use std::collections::BTreeMap;
use std::ops::Range;

/// The pages that are still to come.
#[derive(Debug, Default)]
pub struct Missing {
    /// By the address that they had; parts do not overlap.
    parts: BTreeMap<u64, Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    length: u64,
    /// Where it begins now.
    now: u64,
    /// Whether the source was asked for it.
    is_asked: bool,
}

impl Part {
    fn holds(&self, address: u64) -> bool {
        (self.now..self.now + self.length).contains(&address)
    }
}

/// What is to be done for a page that somebody waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is under way.
    Comes,
    /// The source has to be asked for these pages.
    Ask(Range<u64>),
    /// It was never there: it is empty.
    IsEmpty,
}

impl Missing {
    /// Pages that were dumped at these addresses, and are there now as well.
    pub fn of(ranges: &[Range<u64>]) -> Self {
        let part = |range: &Range<u64>| {
            (range.start, Part { length: range.end - range.start, now: range.start, is_asked: false })
        };
        Self { parts: ranges.iter().map(part).collect() }
    }

    /// The same for a fork, whose pages come by themselves.
    pub fn forked(&self) -> Self {
        Self { parts: self.parts.iter().map(|(was, part)| (*was, Part { is_asked: false, ..*part })).collect() }
    }

    /// Whether all is there.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that are still to come.
    pub fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.length).sum()
    }

    /// The next pages to ask for, at most so many bytes of them in so many ranges; they count as asked for.
    pub fn next(&mut self, bytes: u64, ranges: usize) -> Vec<Range<u64>> {
        let (mut next, mut room) = (Vec::new(), bytes);
        while room >= PAGE && next.len() < ranges {
            let free = self.parts.iter().find(|(_, part)| !part.is_asked);
            let Some((was, length)) = free.map(|(was, part)| (*was, part.length)) else { break };
            let range = was..was + length.min(room & !(PAGE - 1));
            room -= range.end - range.start;
            self.ask(range.clone());
            next.push(range);
        }
        next
    }

    /// What is to be done for the page at an address of now; what has to be asked for counts as asked for.
    pub fn want(&mut self, address: u64, around: u64) -> Wanted {
        let page = address & !(PAGE - 1);
        let Some((was, part)) = self.part_at(page) else { return Wanted::IsEmpty };
        if part.is_asked {
            return Wanted::Comes;
        }
        let at = was + (page - part.now);
        let range = at..(was + part.length).min(at + around.max(PAGE));
        self.ask(range.clone());
        Wanted::Ask(range)
    }

    fn part_at(&self, page: u64) -> Option<(u64, Part)> {
        // Most of it is where it was.
        let near = self.parts.range(..=page).next_back().filter(|(_, part)| part.holds(page));
        let found = near.or_else(|| self.parts.iter().find(|(_, part)| part.holds(page)));
        found.map(|(was, part)| (*was, *part))
    }

    /// The first part of what was dumped in a range that is still to come: where it was, where it is, and its length.
    pub fn first_in(&self, range: &Range<u64>) -> Option<(u64, u64, u64)> {
        let before = self.parts.range(..range.start).next_back();
        let candidates = before.into_iter().chain(self.parts.range(range.clone()));
        candidates
            .map(|(was, part)| {
                let (start, end) = ((*was).max(range.start), (was + part.length).min(range.end));
                (start, part.now.wrapping_add(start.wrapping_sub(*was)), end.saturating_sub(start))
            })
            .find(|(_, _, length)| *length > 0)
    }

    /// Pages of these addresses of then have come.
    pub fn has_come(&mut self, range: &Range<u64>) {
        self.isolate(range).for_each(drop);
    }

    /// The program has given up what is at these addresses now.
    pub fn given_up(&mut self, start: u64, end: u64) {
        let were: Vec<Range<u64>> = self.were_at(start, end).collect();
        were.iter().for_each(|range| self.has_come(range));
    }

    /// The program has moved what was at `from`.
    pub fn moved(&mut self, from: u64, to: u64, length: u64) {
        let were: Vec<Range<u64>> = self.were_at(from, from.saturating_add(length)).collect();
        for range in were {
            let parts: Vec<(u64, Part)> = self.isolate(&range).collect();
            let there = parts.into_iter().map(|(was, part)| (was, Part { now: part.now - from + to, ..part }));
            self.parts.extend(there);
        }
    }

    fn ask(&mut self, range: Range<u64>) {
        let parts: Vec<(u64, Part)> = self.isolate(&range).collect();
        self.parts.extend(parts.into_iter().map(|(was, part)| (was, Part { is_asked: true, ..part })));
    }

    /// Where it was what is at these addresses now.
    fn were_at(&self, start: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
        self.parts.iter().filter_map(move |(was, part)| {
            let (first, last) = (part.now.max(start), (part.now + part.length).min(end));
            (first < last).then(|| was + (first - part.now)..was + (last - part.now))
        })
    }

    /// Takes the parts of a range out, cutting those that reach beyond it.
    fn isolate(&mut self, range: &Range<u64>) -> std::vec::IntoIter<(u64, Part)> {
        self.cut(range.start);
        self.cut(range.end);
        let within: Vec<u64> = self.parts.range(range.clone()).map(|(was, _)| *was).collect();
        let taken: Vec<_> = within.into_iter().filter_map(|was| self.parts.remove_entry(&was)).collect();
        taken.into_iter()
    }

    /// No part reaches over an address of then.
    fn cut(&mut self, at: u64) {
        let Some((was, part)) = self.parts.range_mut(..at).next_back() else { return };
        let offset = at - was;
        if offset < part.length {
            let rest = Part { length: part.length - offset, now: part.now + offset, ..*part };
            part.length = offset;
            self.parts.insert(at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const P: u64 = PAGE;

    fn one(pages: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(pages.start * P..pages.end * P).collect()
    }

    fn missing() -> Missing {
        Missing::of(&[10 * P..20 * P, 30 * P..31 * P])
    }

    #[test]
    fn pages_are_asked_for_once_and_in_order() {
        let mut missing = missing();
        assert_eq!(missing.next(4 * P + 100, 8), one(10..14));
        assert_eq!(missing.next(100 * P, 1), one(14..20));
        assert_eq!(missing.next(100 * P, 8), one(30..31));
        assert!(missing.next(100 * P, 8).is_empty());
        assert_eq!(missing.bytes(), 11 * P, "they have not come yet");
        assert_eq!(missing.forked().next(100 * P, 8), [10 * P..14 * P, 14 * P..20 * P, 30 * P..31 * P]);
    }

    #[test]
    fn a_page_that_somebody_waits_for_is_asked_for_with_what_follows_it() {
        let mut missing = missing();
        assert_eq!(missing.want(12 * P + 5, 4 * P), Wanted::Ask(12 * P..16 * P));
        assert_eq!(missing.want(13 * P, 4 * P), Wanted::Comes);
        assert_eq!(missing.want(18 * P, 4 * P), Wanted::Ask(18 * P..20 * P));
        assert_eq!(missing.want(20 * P, 4 * P), Wanted::IsEmpty);
        missing.has_come(&(12 * P..16 * P));
        assert_eq!(missing.want(13 * P, 4 * P), Wanted::IsEmpty);
    }

    #[test]
    fn what_has_moved_is_put_where_it_is_now() {
        let mut missing = missing();
        missing.moved(12 * P, 100 * P, 2 * P);
        assert_eq!(missing.first_in(&(11 * P..15 * P)), Some((11 * P, 11 * P, P)));
        assert_eq!(missing.first_in(&(12 * P..15 * P)), Some((12 * P, 100 * P, 2 * P)));
        assert_eq!(missing.want(101 * P, P), Wanted::Ask(13 * P..14 * P));
        assert_eq!(missing.want(12 * P, P), Wanted::IsEmpty, "nothing is there any more");
        missing.given_up(100 * P, 101 * P);
        assert_eq!(missing.first_in(&(12 * P..14 * P)), Some((13 * P, 101 * P, P)));
        missing.given_up(0, u64::MAX);
        assert!(missing.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Change {
        Come(u64, u64),
        GiveUp(u64, u64),
        Move(u64, u64, u64),
        Want(u64),
        Next(u64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            (0..48u64, 1..6u64).prop_map(|(at, count)| Change::Come(at, count)),
            (0..96u64, 1..6u64).prop_map(|(at, count)| Change::GiveUp(at, count)),
            (0..96u64, 0..96u64, 1..6u64).prop_map(|(from, to, count)| Change::Move(from, to, count)),
            (0..96u64).prop_map(Change::Want),
            (1..9u64).prop_map(Change::Next),
        ];
        proptest::collection::vec(change, 0..40)
    }

    proptest! {
        /// Page by page, the same is missing and in the same place as a plain table says.
        #[test]
        fn i4_every_page_is_known_by_where_it_was_whatever_the_program_does(changes in changes()) {
            let mut missing = Missing::of(&[0..24 * P, 30 * P..48 * P]);
            let mut table: HashMap<u64, u64> = (0..24).chain(30..48).map(|page| (page, page)).collect();
            for change in changes {
                match change {
                    Change::Come(at, count) => {
                        missing.has_come(&(at * P..(at + count) * P));
                        table.retain(|was, _| !(at..at + count).contains(was));
                    }
                    Change::GiveUp(at, count) => {
                        missing.given_up(at * P, (at + count) * P);
                        table.retain(|_, now| !(at..at + count).contains(now));
                    }
                    Change::Move(from, to, count) => {
                        // The kernel tells first that what was there is given up, and moves nothing over itself.
                        if from < to + count && to < from + count {
                            continue;
                        }
                        missing.given_up(to * P, (to + count) * P);
                        table.retain(|_, now| !(to..to + count).contains(now));
                        missing.moved(from * P, to * P, count * P);
                        let within = table.values_mut().filter(|now| (from..from + count).contains(*now));
                        within.for_each(|now| *now = *now - from + to);
                    }
                    Change::Want(now) => {
                        let known = table.values().any(|there| *there == now);
                        prop_assert_eq!(missing.want(now * P, 3 * P) != Wanted::IsEmpty, known);
                    }
                    Change::Next(pages) => {
                        missing.next(pages * P, 4);
                    }
                }
                prop_assert_eq!(missing.bytes(), table.len() as u64 * P);
                for was in 0..48 {
                    let found = missing.first_in(&(was * P..(was + 1) * P));
                    prop_assert_eq!(found, table.get(&was).map(|now| (was * P, now * P, P)));
                }
            }
        }
    }
}
