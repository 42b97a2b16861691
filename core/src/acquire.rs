use std::sync::Arc;
use std::time::Duration;

use crate::engine::busy::WhileBusy;
use crate::engine::deadline::Deadline;
use crate::engine::holding::Holding;
use crate::engine::telemetry;
use crate::{
    DbMutex, DeleteRequest, Error, Guard, Holder, InsertRequest, Inserted, Lease, LockId, OwnerToken, RenewRequest,
    Renewed, StoreError, StoreErrorKind, Ttl,
};

/// How long an attempt is repeated while its row is locked.
const BUSY_LIMIT: Duration = Duration::from_millis(500);

/// What becomes of a grant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) hold_at_least: Duration,
    pub(crate) keep_alive: bool,
    pub(crate) hold_at_most: Option<Duration>,
}

/// The attempts of one acquisition. They carry the same owner token, minted before the first, so that one whose reply was
/// lost can be repeated, and so that whatever was granted and never received can be released. After its delete was sent
/// nothing more is sent for a token.
#[derive(Debug)]
pub(crate) struct Attempts {
    mutex: DbMutex,
    request: InsertRequest,
    options: Options,
    /// When the acquisition began, on the client's clock.
    begun: Duration,
    /// Whether the store may have granted something that nobody has received.
    unsettled: bool,
}

impl Attempts {
    pub(crate) fn new(mutex: &DbMutex, request: InsertRequest, options: Options) -> Self {
        mutex.shared.releaser.ensure_task();
        let begun = mutex.shared.clock.elapsed();
        Self { mutex: mutex.clone(), request, options, begun, unsettled: false }
    }

    /// Which lock is asked for.
    pub(crate) fn lock_id(&self) -> &LockId {
        &self.request.lock_id
    }

    /// How long ago the acquisition began.
    fn waited(&self) -> Duration {
        self.mutex.shared.clock.elapsed().saturating_sub(self.begun)
    }

    /// A guard for a lease that the store has granted or confirmed, valid until `deadline` unless it is renewed for `ttl`.
    fn guard(&mut self, lease: Lease, sent: Duration, deadline: Deadline, ttl: Ttl) -> Guard {
        let shared = &self.mutex.shared;
        self.unsettled = false;
        let at_most_until = self.options.hold_at_most.map(|at_most| sent.saturating_add(at_most));
        let holding = Holding::new(&self.request, ttl, lease, deadline, shared.clock.elapsed(), at_most_until);
        let holding = Arc::new(holding);
        if self.options.keep_alive {
            shared.renewal.keep_alive(&holding, sent);
        }
        telemetry::acquired(&holding, self.waited());
        Guard::new(self.mutex.clone(), holding, self.options.hold_at_least)
    }

    /// Takes over what another guard of this very owner has, wherever it was. The lease lasts at least `ttl` from now on;
    /// without one it stays as long as it is.
    pub(crate) async fn resume(&mut self, ttl: Option<Ttl>) -> Result<Guard, Error> {
        let lock_id = self.lock_id().clone();
        let failed = |error| Error::store(&lock_id, "resume", error);
        // A renewal never shortens a lease, so the shortest one asks for nothing, and finds out who the owner is.
        let asked = ttl.unwrap_or(Ttl::SHORTEST);
        let request = RenewRequest::new(lock_id.clone(), self.request.owner, asked);
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        let (lease, sent) = loop {
            let sent = self.mutex.shared.clock.elapsed();
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
        let sent = self.mutex.shared.clock.elapsed();
        let row = self.mutex.shared.store.find(&lock_id).await.map_err(failed)?;
        let Some(row) = row.filter(|row| row.fence == lease.fence && row.owned && row.is_taken()) else {
            return Err(self.lost());
        };
        Ok(self.guard(lease, sent, Deadline::of_lease(sent, row.expires_in()), Ttl::from_us(row.ttl_us)))
    }

    /// Asks the store once, and again while another transaction has the row locked.
    pub(crate) async fn ask(&mut self) -> Result<Guard, Error> {
        let settled_before = !self.unsettled;
        self.unsettled = true;
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        loop {
            let sent = self.mutex.shared.clock.elapsed();
            let error = match self.mutex.shared.store.insert_if_absent(&self.request).await {
                Ok(Inserted::Granted(lease)) => {
                    let ttl = self.request.ttl;
                    let deadline = Deadline::counted_from(sent, ttl);
                    if deadline.has_passed(self.mutex.shared.clock.elapsed()) {
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
                return Err(self.not_decided(error).await);
            }
        }
    }

    /// What to report when the store has not decided. A row that stays locked while it names another owner belongs to that
    /// owner: most likely a transaction that has verified the lock keeps it beyond its lease.
    async fn not_decided(&self, error: StoreError) -> Error {
        if error.kind() == StoreErrorKind::Busy
            && let Ok(Some(row)) = self.mutex.shared.store.find(self.lock_id()).await
            && (row.owned || row.is_taken())
        {
            return self.held(row.to_holder());
        }
        self.failed(error)
    }

    fn held(&self, holder: Holder) -> Error {
        telemetry::refused(self.lock_id(), &holder, self.waited());
        Error::Held { lock_id: self.lock_id().clone(), expires_in: holder.expires_in, holder }
    }

    fn failed(&self, error: StoreError) -> Error {
        Error::store(self.lock_id(), "acquire", error)
    }

    fn lost(&self) -> Error {
        Error::TimedOut { lock_id: self.lock_id().clone(), output: () }
    }
}

/// A new owner token, before anything is sent for it.
pub(crate) fn mint() -> Result<OwnerToken, StoreError> {
    OwnerToken::mint().map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "the operating system gave no random numbers").with_source(error)
    })
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if self.unsettled {
            let request = DeleteRequest::by_owner(self.request.lock_id.clone(), self.request.owner);
            self.mutex.shared.releaser.release_soon(request);
        }
    }
}
