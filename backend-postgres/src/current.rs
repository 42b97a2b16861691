//! Which server is used now, and which connections lead to another one.

use std::net::SocketAddr;

use tokio::sync::watch;

/// Where a connection leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// The number of the place.
    pub(crate) number: usize,
    /// None for a Unix socket.
    address: Option<SocketAddr>,
    /// How often another server had been taken before.
    moves: u64,
}

/// The server that was taken last.
///
/// Another place is another server. Another address of the same place is one only after a failure: the name of a proxy or of a
/// balanced group has a different address at each lookup, and all of them are good.
#[derive(Debug)]
pub(crate) struct Current(watch::Sender<State>);

#[derive(Debug)]
struct State {
    last: Taken,
    /// Whether a connection to it has failed since.
    in_doubt: bool,
}

impl Current {
    pub(crate) fn new() -> Self {
        let last = Taken { number: 0, address: None, moves: 0 };
        Self(watch::Sender::new(State { last, in_doubt: false }))
    }

    /// Notes that a connection was opened there.
    pub(crate) fn take(&self, number: usize, address: Option<SocketAddr>) -> Taken {
        let mut taken = Taken { number, address, moves: 0 };
        self.0.send_if_modified(|state| {
            let last = state.last;
            let moved = last.number != number || state.in_doubt && last.address != address;
            taken.moves = last.moves + u64::from(moved);
            *state = State { last: taken, in_doubt: false };
            moved
        });
        taken
    }

    /// Notes that a connection has failed.
    pub(crate) fn doubt(&self, taken: Taken) {
        self.0.send_if_modified(|state| {
            if state.last.moves == taken.moves {
                *state = State { last: taken, in_doubt: true };
            }
            false
        });
    }

    /// Whether a connection leads to another server.
    pub(crate) fn is_elsewhere(&self, taken: Taken) -> bool {
        self.0.borrow().last.moves != taken.moves
    }

    /// Returns when another server is taken.
    pub(crate) async fn moved_from(&self, taken: Taken) {
        let mut last = self.0.subscribe();
        while !self.is_elsewhere(taken) {
            // Cannot fail: this has the sender.
            let _ = last.changed().await;
        }
    }

    /// The address that was taken last comes first, if it is still one of them; but last if a connection to it has failed.
    pub(crate) fn sort(&self, number: usize, addresses: &mut [SocketAddr]) {
        let state = self.0.borrow();
        let last = state.last.address.filter(|_| state.last.number == number);
        addresses.sort_by_key(|address| (last == Some(*address)) == state.in_doubt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> SocketAddr {
        ([127, 0, 0, number], 5432).into()
    }

    fn sorted(current: &Current) -> Vec<SocketAddr> {
        let mut addresses = [1, 2, 3].map(address).to_vec();
        current.sort(0, &mut addresses);
        addresses
    }

    #[test]
    fn a_name_whose_address_changes_at_each_lookup_leads_to_one_server() {
        let current = Current::new();
        let taken: Vec<_> = [1, 2, 1, 3].map(|number| current.take(0, Some(address(number)))).into();
        assert!(taken.iter().all(|taken| !current.is_elsewhere(*taken)));
    }

    #[test]
    fn after_a_failure_another_address_is_another_server() {
        let current = Current::new();
        let (first, second) = (current.take(0, Some(address(1))), current.take(0, Some(address(2))));
        current.doubt(first);
        let same = current.take(0, Some(address(1)));
        assert!(!current.is_elsewhere(same) && !current.is_elsewhere(second));
        current.doubt(first);
        let other = current.take(0, Some(address(2)));
        assert!(current.is_elsewhere(first) && current.is_elsewhere(same) && !current.is_elsewhere(other));
        // What fails late says nothing about the present one.
        current.doubt(first);
        current.take(0, Some(address(3)));
        assert!(!current.is_elsewhere(other));
    }

    #[test]
    fn another_place_is_another_server() {
        let current = Current::new();
        let first = current.take(0, Some(address(1)));
        let second = current.take(1, Some(address(1)));
        assert!(current.is_elsewhere(first) && !current.is_elsewhere(second));
    }

    #[test]
    fn the_address_that_was_taken_comes_first_and_the_one_that_failed_last() {
        let current = Current::new();
        assert_eq!(sorted(&current), [1, 2, 3].map(address));
        let taken = current.take(0, Some(address(2)));
        assert_eq!(sorted(&current), [2, 1, 3].map(address));
        current.doubt(taken);
        assert_eq!(sorted(&current), [1, 3, 2].map(address));
    }
}
