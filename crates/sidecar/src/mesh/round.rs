//! Which control plane is tried next?
//!
//! All, in their order and round: from the first as long as there is no certificate, since a token is known where it was
//! issued; then from one at random, so that several share the sidecars of a mesh; and, when one was left, from the next.

/// The addresses of control planes, and whose turn it is.
pub(crate) struct Round {
    addresses: Vec<String>,
    turn: usize,
}

impl Round {
    /// From the first.
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self { addresses, turn: 0 }
    }

    /// All, in the order in which they are tried.
    pub(crate) fn order(&self) -> Vec<String> {
        let mut order = self.addresses.clone();
        order.rotate_left(self.turn);
        order
    }

    /// Goes to one at random.
    pub(crate) fn shuffle(&mut self, random: u32) {
        self.turn = random as usize % self.addresses.len().max(1);
    }

    /// Stays with this one, which has answered.
    pub(crate) fn stay(&mut self, called: &str) {
        let at = self.addresses.iter().position(|address| address == called);
        self.turn = at.unwrap_or(self.turn);
    }

    /// Goes on to the next.
    pub(crate) fn turn(&mut self) {
        self.turn = (self.turn + 1) % self.addresses.len().max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> Round {
        Round::new(["a:1", "b:1", "c:1"].map(String::from).to_vec())
    }

    #[test]
    fn it_begins_at_the_first_and_goes_round() {
        let mut round = round();
        assert_eq!(round.order(), ["a:1", "b:1", "c:1"]);
        round.turn();
        assert_eq!(round.order(), ["b:1", "c:1", "a:1"]);
        round.stay("c:1");
        assert_eq!(round.order(), ["c:1", "a:1", "b:1"]);
        round.turn();
        assert_eq!(round.order(), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn each_is_as_likely_as_the_others() {
        let mut round = round();
        let mut first = |random| {
            round.shuffle(random);
            round.order().swap_remove(0)
        };
        let firsts: Vec<_> = (0..6).map(&mut first).collect();
        assert_eq!(firsts, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
        assert_eq!(first(u32::MAX), "a:1");
    }

    #[test]
    fn none_is_no_reason_to_panic() {
        let mut none = Round::new(Vec::new());
        none.shuffle(7);
        none.turn();
        none.stay("a:1");
        assert!(none.order().is_empty());
    }
}
