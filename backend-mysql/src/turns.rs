use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use db_mutex_core::OwnerToken;
use tokio::sync::OwnedMutexGuard;

type Line = Arc<tokio::sync::Mutex<()>>;

/// Keeps the requests of one owner in order: a release must not overtake an acquisition whose caller has gone away, or the
/// lock would be taken after it was given back.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lines: Mutex<HashMap<OwnerToken, Line>>,
}

/// The turn of a request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    owner: OwnerToken,
    line: Line,
    front: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until the earlier requests of these owners are done. Dropped while it waits, it leaves nothing behind.
    pub(crate) async fn take(self: &Arc<Self>, owners: impl Iterator<Item = OwnerToken>) -> Turn {
        let mut owners: Vec<_> = owners.collect();
        // In one order for all, so that two batches do not wait for each other.
        owners.sort_unstable_by_key(|owner| *owner.as_bytes());
        owners.dedup();
        let mut turn = Turn { turns: Arc::clone(self), places: Vec::with_capacity(owners.len()) };
        for owner in owners {
            let line = Arc::clone(self.lines().entry(owner).or_default());
            turn.places.push(Place { owner, line: Arc::clone(&line), front: None });
            let front = line.lock_owned().await;
            if let Some(place) = turn.places.last_mut() {
                place.front = Some(front);
            }
        }
        turn
    }

    /// Nothing that can panic runs under this mutex.
    fn lines(&self) -> MutexGuard<'_, HashMap<OwnerToken, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for Place { owner, line, front } in self.places.drain(..) {
            let mut lines = self.turns.lines();
            drop((front, line));
            if lines.get(&owner).is_some_and(|line| Arc::strong_count(line) == 1) {
                lines.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_owners_requests_take_turns_and_leave_nothing() {
        let turns = Arc::new(Turns::default());
        let (one, two) = (OwnerToken::from_bytes([1; 16]), OwnerToken::from_bytes([2; 16]));
        let first = turns.take([one].into_iter()).await;
        let _other = turns.take([two].into_iter()).await;
        let impatient = tokio::time::timeout(std::time::Duration::from_millis(10), turns.take([one, one].into_iter()));
        assert!(impatient.await.is_err());
        drop(first);
        drop(turns.take([one, one].into_iter()).await);
        assert_eq!(turns.lines().len(), 1);
    }
}
