//! Memory that has come of a migration before its containers.

use crate::archive::blocks::Pool;

/// Blocks of it, and which of the bodies that bring them was the last.
#[derive(Debug, Default)]
pub struct MemoryComing {
    /// The blocks.
    pub pool: Pool,
    /// The number of the last body; each has a higher one than those before it.
    body: u64,
    /// Bytes that it has brought.
    brought: u64,
}

impl MemoryComing {
    /// Whether a body may begin: one that comes late, over a connection that broke, may not.
    #[must_use]
    pub fn begins(&mut self, body: u64) -> bool {
        let is_next = body > self.body;
        if is_next {
            (self.body, self.brought) = (body, 0);
        }
        is_next
    }

    /// So many bytes of the body that began last are here.
    pub fn brings(&mut self, bytes: u64) {
        self.brought = bytes;
    }

    /// How much of a body is here; nothing more of it is taken in, should it not have begun yet.
    pub fn ends(&mut self, body: u64) -> u64 {
        match self.begins(body) || body < self.body {
            true => 0,
            false => self.brought,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_of_a_body_nothing_is_taken_in_once_it_was_asked_how_much_of_it_is_here() {
        let mut coming = MemoryComing::default();
        assert!(coming.begins(1));
        coming.brings(4096);
        assert_eq!((coming.ends(1), coming.ends(1)), (4096, 4096));
        assert!(!coming.begins(1));
        assert_eq!(coming.ends(2), 0, "it was lost on the way, or comes yet");
        assert!(!coming.begins(2));
        assert!(coming.begins(3));
    }
}
