use std::sync::Arc;
use std::time::Duration;

use crate::engine::backoff::Backoff;
use crate::engine::busy::WhileBusy;
use crate::engine::deadline::Deadline;
use crate::engine::holding::Holding;
use crate::engine::queue::Place;
use crate::engine::telemetry;
use crate::options::Options;
use crate::values::ClientTime;
use crate::{
    Action, DbMutex, DeleteRequest, Error, Guard, Holder, InsertRequest, Inserted, Lease, Lock, LockId, LostReason,
    OwnerToken, RenewRequest, Renewed, StoreError, StoreErrorKind, Ttl, WaitLimit,
};

/// How long an attempt is repeated while its row is locked.
const BUSY_LIMIT: Duration = Duration::from_millis(500);

/// One acquisition: attempts, and waiting between them.
///
/// The attempts carry the same owner token, minted before the first, so that one whose reply was lost can be repeated, and
/// so that whatever was granted and never received can be released. After a delete was sent for a token, nothing else is.
#[derive(Debug)]
pub(crate) struct Acquisition {
    mutex: DbMutex,
    request: InsertRequest,
    options: Options,
    /// When the acquisition began, on the client's clock.
    begun: ClientTime,
    /// Whether the store may have granted something that no one has received.
    unsettled: bool,
}

impl Acquisition {
    /// An acquisition for `owner`, or for a new one.
    pub(crate) fn of_owner(lock: &Lock, owner: Option<OwnerToken>) -> Result<Self, Error> {
        // Invalid arguments are reported before anything is asked of the operating system.
        let lock_id = lock.lock_id.clone()?;
        let (ttl, holder) = lock.options.validated()?;
        let owner = match owner {
            Some(owner) => owner,
            None => mint().map_err(|error| Error::store(&lock_id, Action::Acquire, error))?,
        };
        let shared = &lock.mutex.shared;
        shared.releaser.ensure_task();
        Ok(Self {
            begun: shared.clock.now(),
            mutex: lock.mutex.clone(),
            request: InsertRequest::new(lock_id, owner, ttl, holder),
            options: lock.options.clone(),
            unsettled: false,
        })
    }

    /// Asks until the lock is granted or the limit is over.
    pub(crate) async fn within(mut self, limit: WaitLimit) -> Result<Guard, Error> {
        if limit == WaitLimit::DontWait {
            return self.ask().await;
        }
        let mut backoff = Backoff::start(limit);
        let mut place = self.mutex.shared.queue.join(self.lock_id());
        if !place.become_head(backoff.left()).await || !outlasts_the_rest(&place, &backoff).await {
            // The first in the queue has asked for all; only if it never got an answer is there something to ask.
            return match place.holder() {
                Some(holder) => Err(Error::Held { lock_id: self.lock_id().clone(), holder }),
                None => self.ask().await,
            };
        }
        loop {
            let error = match self.ask().await {
                Ok(guard) => {
                    place.granted();
                    return Ok(guard);
                }
                Err(error) => error,
            };
            let pause = match &error {
                Error::Held { holder, .. } => {
                    let pause = backoff.next_pause(holder.expires_in);
                    if place.refused(holder, pause.unwrap_or(Backoff::LONGEST)) {
                        telemetry::waiting(self.lock_id(), holder);
                    }
                    pause
                }
                error if error.is_transient() => backoff.next_pause(None),
                _ => None,
            };
            let Some(pause) = pause else { return Err(error) };
            tokio::select! {
                biased;
                () = place.released_here() => {}
                () = self.pause(pause) => {}
            }
        }
    }

    fn lock_id(&self) -> &LockId {
        &self.request.lock_id
    }

    /// Waits for a release that the store may learn of, or for the pause to end.
    async fn pause(&self, pause: Duration) {
        if self.mutex.shared.store.wait_for_release(self.lock_id(), pause).await.is_err() {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long ago the acquisition began.
    fn waited(&self) -> Duration {
        self.mutex.shared.clock.now().since(self.begun)
    }

    /// A guard for a lease that the store has granted or confirmed, valid until `deadline` unless it is renewed for `ttl`.
    fn guard(&mut self, lease: Lease, sent: ClientTime, deadline: Deadline, ttl: Ttl) -> Guard {
        let shared = &self.mutex.shared;
        self.unsettled = false;
        let at_most_until = self.options.hold_at_most.map(|at_most| sent + at_most);
        let holding = Holding::new(&self.request, ttl, lease, deadline, shared.clock.now(), at_most_until);
        let holding = Arc::new(holding);
        if self.options.keep_alive {
            shared.renewal.keep_alive(&holding, sent);
        }
        telemetry::acquired(&holding, self.waited());
        Guard::new(self.mutex.clone(), holding, self.options.hold_at_least)
    }

    /// Takes over what another guard of this owner has. The lease lasts at least the lock's TTL from now on if that was set
    /// in code; otherwise it stays as it is.
    pub(crate) async fn resume(&mut self) -> Result<Guard, Error> {
        let lock_id = self.lock_id().clone();
        let failed = |error| Error::store(&lock_id, Action::Resume, error);
        let ttl = self.options.ttl_is_chosen.then_some(self.request.ttl);
        // A renewal never shortens a lease, so the shortest one asks for nothing, and finds out who the owner is.
        let asked = ttl.unwrap_or(Ttl::SHORTEST);
        let request = RenewRequest::new(lock_id.clone(), self.request.owner, asked);
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        let (lease, sent) = loop {
            let sent = self.mutex.shared.clock.now();
            match self.mutex.shared.store.renew(&request).await {
                Ok(Renewed::Renewed(lease)) => break (lease, sent),
                Ok(Renewed::NotHeld) => return Err(self.lost()),
                Err(error) if busy.repeats(&error).await => {}
                Err(error) => return Err(failed(error)),
            }
        };
        if ttl.is_some() {
            return Ok(self.guard(lease, sent, Deadline::counted_from(sent, asked), asked));
        }
        // How much is left only the store's clock can tell.
        let sent = self.mutex.shared.clock.now();
        let row = self.mutex.shared.store.find(&lock_id).await.map_err(failed)?;
        let Some(row) = row.filter(|row| row.fence == lease.fence && row.owned && row.is_taken()) else {
            return Err(self.lost());
        };
        Ok(self.guard(lease, sent, Deadline::of_lease(sent, row.expires_in()), Ttl::recorded(row.ttl)))
    }

    /// Asks the store once, and again while another transaction has the row locked.
    pub(crate) async fn ask(&mut self) -> Result<Guard, Error> {
        let settled_before = !self.unsettled;
        self.unsettled = true;
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        loop {
            let sent = self.mutex.shared.clock.now();
            let error = match self.mutex.shared.store.insert_if_absent(&self.request).await {
                Ok(Inserted::Granted(lease)) => {
                    let ttl = self.request.ttl;
                    let deadline = Deadline::counted_from(sent, ttl);
                    if deadline.has_passed(self.mutex.shared.clock.now()) {
                        let late = format!("the store's answer came too late for a ttl of {ttl}; use a longer one");
                        return Err(self.failed(StoreError::new(StoreErrorKind::Unavailable, late)));
                    }
                    return Ok(self.guard(lease, sent, deadline, ttl));
                }
                Ok(Inserted::Held(holder)) => {
                    // A refusal settles this attempt; one before it that failed may still be on its way.
                    self.unsettled = !settled_before;
                    return Err(self.held(holder));
                }
                // An attempt whose reply was lost was granted, and an operator has ended it. That token is used up.
                Ok(Inserted::Spent) => {
                    self.request.owner = mint().map_err(|error| self.failed(error))?;
                    continue;
                }
                Err(error) => error,
            };
            if !busy.repeats(&error).await {
                telemetry::acquiring_failed(self.lock_id(), &error);
                return Err(self.failed(error));
            }
        }
    }

    fn held(&self, holder: Holder) -> Error {
        telemetry::refused(self.lock_id(), &holder, self.waited());
        Error::Held { lock_id: self.lock_id().clone(), holder }
    }

    fn failed(&self, error: StoreError) -> Error {
        Error::store(self.lock_id(), Action::Acquire, error)
    }

    fn lost(&self) -> Error {
        Error::Lost { lock_id: self.lock_id().clone(), reason: LostReason::Expired }
    }
}

/// Waits as long as the one that was first before would have waited; returns whether the limit allows that. Otherwise each of
/// ten thousand waiters that give up one after the other would ask once.
async fn outlasts_the_rest(place: &Place, backoff: &Backoff) -> bool {
    let rest = place.rest();
    let left = backoff.left().unwrap_or(Duration::MAX);
    if rest.is_zero() {
        return true;
    }
    tokio::select! {
        () = place.released_here() => true,
        () = tokio::time::sleep(rest.min(left)) => left > rest,
    }
}

/// A new owner token, before anything is sent for it.
fn mint() -> Result<OwnerToken, StoreError> {
    OwnerToken::mint().map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "the operating system gave no random numbers").with_source(error)
    })
}

impl Drop for Acquisition {
    fn drop(&mut self) {
        if self.unsettled {
            let request = DeleteRequest::by_owner(self.request.lock_id.clone(), self.request.owner);
            self.mutex.shared.releaser.release_soon(request);
        }
    }
}
