use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::holding::Holding;
use crate::{
    DbMutex, DeleteRequest, Error, Guard, InsertRequest, Inserted, Lease, LockId, RenewRequest, Renewed, StoreError,
    StoreErrorKind, telemetry,
};

/// What becomes of a grant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) hold_at_least: Duration,
    pub(crate) keep_alive: bool,
    pub(crate) hold_at_most: Option<Duration>,
}

/// The attempts of one acquisition. All carry the same owner token, minted before the first, so that one whose reply was
/// lost can be repeated, and so that whatever was granted and never received can be released.
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

    /// A guard for a lease that the store has granted, or renewed, upon a request that was sent at `sent`.
    fn guard(&mut self, lease: Lease, sent: Duration, deadline: Deadline) -> Guard {
        let shared = &self.mutex.shared;
        self.unsettled = false;
        let at_most_until = self.options.hold_at_most.map(|at_most| sent.saturating_add(at_most));
        let holding = Holding::new(&self.request, lease, deadline, shared.clock.elapsed(), at_most_until);
        let holding = Arc::new(holding);
        if self.options.keep_alive {
            shared.renewal.keep_alive(&holding, sent);
        }
        telemetry::acquired(&holding, self.waited());
        Guard::new(self.mutex.clone(), holding, self.options.hold_at_least)
    }

    /// Takes over what another guard of this very owner has, wherever it was.
    pub(crate) async fn resume(&mut self) -> Result<Guard, Error> {
        let sent = self.mutex.shared.clock.elapsed();
        let request = RenewRequest::new(self.lock_id().clone(), self.request.owner, self.request.ttl);
        match self.mutex.shared.store.renew(&request).await {
            Ok(Renewed::Renewed(lease)) => Ok(self.guard(lease, sent, Deadline::counted_from(sent, self.request.ttl))),
            Ok(Renewed::NotHeld) => Err(Error::TimedOut { lock_id: self.lock_id().clone(), output: () }),
            Err(error) => Err(Error::store(self.lock_id(), "resume", error)),
        }
    }

    /// Asks the store once.
    pub(crate) async fn ask(&mut self) -> Result<Guard, Error> {
        let settled_before = !self.unsettled;
        let sent = self.mutex.shared.clock.elapsed();
        self.unsettled = true;
        match self.mutex.shared.store.insert_if_absent(&self.request).await {
            Ok(Inserted::Granted(lease)) => {
                let deadline = Deadline::counted_from(sent, self.request.ttl);
                if deadline.has_passed(self.mutex.shared.clock.elapsed()) {
                    let late = StoreError::new(
                        StoreErrorKind::Unavailable,
                        format!("the store's answer came too late for a ttl of {}; use a longer one", self.request.ttl),
                    );
                    return Err(Error::store(self.lock_id(), "acquire", late));
                }
                Ok(self.guard(lease, sent, deadline))
            }
            Ok(Inserted::Held(holder)) => {
                // A refusal settles this attempt; one before it that failed may still be on its way.
                self.unsettled = !settled_before;
                telemetry::refused(self.lock_id(), &holder, self.waited());
                Err(Error::Held { lock_id: self.lock_id().clone(), expires_in: holder.expires_in, holder })
            }
            Err(error) => {
                telemetry::acquiring_failed(self.lock_id(), &error);
                Err(Error::store(self.lock_id(), "acquire", error))
            }
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if self.unsettled {
            let request = DeleteRequest::by_owner(self.request.lock_id.clone(), self.request.owner);
            self.mutex.shared.releaser.release_soon(request);
        }
    }
}
