use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::OwnerToken;

/// Keeps a delete behind the insert of the same owner that is still on its way: for stores whose requests run on many
/// connections.
///
/// When the future of an insert is dropped its owner is deleted at once, and the delete could overtake the insert on
/// another connection: the lock would then stay until its TTL with nobody to release it.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<Owners>>);

/// How many inserts of an owner are on their way, and who waits for the last to arrive.
type Owners = HashMap<OwnerToken, (usize, watch::Sender<()>)>;

impl InFlight {
    /// Says that inserts of these owners are on their way, until the answer is dropped.
    pub fn enter(&self, owners: impl IntoIterator<Item = OwnerToken>) -> InFlightInserts {
        let owners: Vec<_> = owners.into_iter().collect();
        let mut known = lock(&self.0);
        for owner in &owners {
            known.entry(*owner).or_insert_with(|| (0, watch::Sender::new(()))).0 += 1;
        }
        InFlightInserts { owners, known: Arc::clone(&self.0) }
    }

    /// Waits until no insert of this owner is on its way.
    ///
    /// # Cancellation safety
    /// Nothing is changed when the future is dropped.
    pub async fn settled(&self, owner: &OwnerToken) {
        let waiting = lock(&self.0).get(owner).map(|(_, arrived)| arrived.subscribe());
        if let Some(mut waiting) = waiting {
            // Nothing is ever sent: it ends when the sender is dropped.
            while waiting.changed().await.is_ok() {}
        }
    }
}

/// Inserts on their way: what [`InFlight::enter`] answers. To be kept by the task that waits for them.
#[derive(Debug)]
#[must_use = "dropping it says that the inserts are no longer on their way"]
pub struct InFlightInserts {
    owners: Vec<OwnerToken>,
    known: Arc<Mutex<Owners>>,
}

impl Drop for InFlightInserts {
    fn drop(&mut self) {
        let mut known = lock(&self.known);
        for owner in &self.owners {
            if let Some((left, _)) = known.get_mut(owner) {
                *left -= 1;
                if *left == 0 {
                    known.remove(owner);
                }
            }
        }
    }
}

/// Nothing that can panic runs under this mutex.
fn lock(mutex: &Mutex<Owners>) -> MutexGuard<'_, Owners> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delete_waits_for_the_insert_of_its_owner_alone() {
        let in_flight = InFlight::default();
        let (owner, other) = (OwnerToken::from_bytes([1; 16]), OwnerToken::from_bytes([2; 16]));
        let inserts = in_flight.enter([owner]);
        in_flight.settled(&other).await;
        let early = tokio::time::timeout(Duration::from_secs(60), in_flight.settled(&owner)).await;
        assert!(early.is_err(), "the insert is still on its way");
        let repeated = in_flight.enter([owner]);
        drop(inserts);
        assert!(tokio::time::timeout(Duration::from_secs(60), in_flight.settled(&owner)).await.is_err());
        drop(repeated);
        in_flight.settled(&owner).await;
        assert!(lock(&in_flight.0).is_empty());
    }
}
