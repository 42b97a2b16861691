use std::sync::Arc;
use std::time::Duration;

use crate::engine::deadline::Deadline;
use crate::engine::holding::Holding;
use crate::engine::job::{Answered, Asked};
use crate::engine::pauses::Pauses;
use crate::engine::wait_queues::{Granted, Joining, KnownRefusal, Refusal, no_random_numbers};
use crate::engine::{Engine, telemetry};
use crate::options::Options;
use crate::values::ClientTime;
use crate::{
    Action, DbMutex, Error, Guard, InsertRequest, Inserted, Lease, Lock, LockId, LostReason, OwnerToken, RenewRequest,
    Renewed, StoreError, StoreErrorKind, Ttl, WaitLimit,
};

/// How long an attempt is repeated while its row is locked.
const BUSY_LIMIT: Duration = Duration::from_millis(500);

/// One acquisition.
///
/// Its attempts carry the same owner token, minted before the first, so that one whose reply was lost can be repeated, and
/// so that a grant that was never received can be released. After a delete was sent for a token, nothing else is.
#[derive(Debug)]
pub(crate) struct Acquisition {
    mutex: DbMutex,
    request: InsertRequest,
    options: Options,
    /// When the acquisition began, on the client's clock.
    begun: ClientTime,
    /// The attempt that has not returned.
    asked: Option<Asked<Inserted>>,
    /// Whether the store may have granted an attempt that has failed.
    is_unknown: bool,
}

impl Acquisition {
    /// An acquisition for `owner`, or for a new one.
    pub(crate) fn of_owner(lock: &Lock, owner: Option<OwnerToken>) -> Result<Self, Error> {
        // Invalid arguments are reported before anything is asked of the operating system.
        let lock_id = lock.lock_id.clone()?;
        let (ttl, holder) = lock.options.validated()?;
        let owner = match owner {
            Some(owner) => owner,
            None => {
                OwnerToken::mint().map_err(|error| Error::store(&lock_id, Action::Acquire, no_random_numbers(error)))?
            }
        };
        Ok(Self {
            begun: lock.mutex.shared.engine.clock.now(),
            mutex: lock.mutex.clone(),
            request: InsertRequest::new(lock_id, owner, ttl, holder),
            options: lock.options.clone(),
            asked: None,
            is_unknown: false,
        })
    }

    /// Acquires the lock, or waits for it until the limit is over.
    ///
    /// The caller sends the first request itself, unless there are waiters already. Then the engine sends requests for all
    /// waiters.
    pub(crate) async fn within(mut self, limit: WaitLimit) -> Result<Guard, Error> {
        let engine = Arc::clone(self.engine());
        let until = match limit {
            WaitLimit::DontWait => return self.without_waiting().await,
            WaitLimit::AtMost(limit) => engine.time.now().checked_add(limit),
            WaitLimit::Forever => None,
        };
        let ticket = engine.wait_queues.ticket();
        let mut opened = engine.wait_queues.open(self.lock_id(), engine.time.now());
        let mut first = None;
        if opened.is_some() {
            let (asked_at, sent) = (engine.time.now(), engine.clock.now());
            match self.attempt().await {
                Ok(guard) => return Ok(guard),
                Err(Refusal::Failed(error)) if !error.is_transient() => return Err(self.failed(error)),
                Err(refusal) => first = Some(KnownRefusal::new(refusal, asked_at, sent)),
            }
        }
        loop {
            // From here on the wait queue settles what may have been granted.
            let is_unknown = std::mem::take(&mut self.is_unknown);
            let request = self.request.clone();
            let mut place = engine.join(Joining { ticket, request, until, first, is_unknown });
            drop(opened.take());
            let asked_at = engine.time.now();
            let granted = match place.granted().await {
                Ok(granted) => granted,
                Err(refusal) => return Err(self.refused(refusal)),
            };
            match self.guard_of(granted) {
                Ok(guard) => return Ok(guard),
                // It was granted too late, and waits again.
                Err(late) => first = Some(KnownRefusal::new(late, asked_at, engine.clock.now())),
            }
        }
    }

    /// Sends the request once, and again while another transaction has the row locked.
    async fn without_waiting(&mut self) -> Result<Guard, Error> {
        let engine = Arc::clone(self.engine());
        let time = engine.time;
        let (begun, mut pauses) = (time.now(), Pauses::while_busy());
        loop {
            return match self.attempt().await {
                Ok(guard) => Ok(guard),
                Err(Refusal::Failed(error))
                    if error.kind() == StoreErrorKind::Busy && time.now() - begun < BUSY_LIMIT =>
                {
                    time.sleep(pauses.next(&engine.jitter)).await;
                    continue;
                }
                Err(refusal) => Err(self.refused(refusal)),
            };
        }
    }

    /// Sends the request once, and returns a guard.
    async fn attempt(&mut self) -> Result<Guard, Refusal> {
        let granted = self.ask().await?;
        self.guard_of(granted)
    }

    /// Sends the request once.
    async fn ask(&mut self) -> Result<Granted, Refusal> {
        loop {
            let engine = Arc::clone(self.engine());
            let asked = self.asked.insert(engine.ask(self.request.clone()));
            let Some(Answered { result, sent, is_repeat }) = engine.answer(asked).await else {
                // It may take effect at any time, so its owner token cannot be used again.
                engine.give_up(&self.request, self.asked.take(), self.is_unknown);
                self.mint()?;
                return Err(Refusal::Failed(engine.too_late()));
            };
            self.asked = None;
            self.is_unknown |= is_repeat;
            return match result {
                Ok(Inserted::Granted(lease)) => {
                    Ok(Granted { request: self.request.clone(), lease, sent, is_unknown: self.is_unknown })
                }
                Ok(Inserted::Held(holder)) => Err(Refusal::Held(holder)),
                // An attempt whose reply was lost was granted, and an operator has ended it. The owner token is spent.
                Ok(Inserted::Spent) => {
                    if self.is_unknown {
                        self.engine().give_up(&self.request, None, true);
                    }
                    self.mint()?;
                    continue;
                }
                Err(error) => {
                    self.is_unknown |= !error.is_undone();
                    Err(Refusal::Failed(error))
                }
            };
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.mutex.shared.engine
    }

    fn lock_id(&self) -> &LockId {
        &self.request.lock_id
    }

    /// How long ago the acquisition began.
    fn waited(&self) -> Duration {
        self.engine().clock.now().since(self.begun)
    }

    /// The guard of a lock that was granted in time. Otherwise it is released, and the next attempt has another token.
    fn guard_of(&mut self, granted: Granted) -> Result<Guard, Refusal> {
        let Granted { request, lease, sent, is_unknown } = granted;
        (self.request, self.is_unknown) = (request, is_unknown);
        let ttl = self.request.ttl;
        let deadline = Deadline::counted_from(sent, ttl);
        if !deadline.has_passed(self.engine().clock.now()) {
            return Ok(self.guard(lease, sent, deadline, ttl));
        }
        self.engine().give_up(&self.request, None, self.is_unknown);
        self.mint()?;
        let late = format!("the store's answer came too late for a ttl of {ttl}; use a longer one");
        Err(Refusal::Failed(StoreError::new(StoreErrorKind::Unavailable, late)))
    }

    /// Starts again with another owner token. Nothing more is sent for the previous one.
    fn mint(&mut self) -> Result<(), Refusal> {
        self.is_unknown = false;
        self.request.owner = OwnerToken::mint().map_err(|error| Refusal::Failed(no_random_numbers(error)))?;
        Ok(())
    }

    /// A guard for a lease that the store has granted or confirmed, valid until `deadline` unless it is renewed for `ttl`.
    fn guard(&mut self, lease: Lease, sent: ClientTime, deadline: Deadline, ttl: Ttl) -> Guard {
        let engine = self.engine();
        let at_most_until = self.options.hold_at_most.map(|at_most| sent + at_most);
        let holding = Holding::new(&self.request, ttl, lease, deadline, engine.clock.now(), at_most_until);
        let holding = Arc::new(holding);
        if self.options.keep_alive {
            engine.keep_alive(&holding, sent);
        }
        telemetry::acquired(&holding, self.waited());
        let is_unknown = std::mem::take(&mut self.is_unknown);
        Guard::new(self.mutex.clone(), holding, self.options.hold_at_least, is_unknown)
    }

    /// Takes over the lock from another guard of this owner. If a TTL was set in code, the lease is extended to at least
    /// that long from now; otherwise it stays as it is.
    pub(crate) async fn resume(&mut self) -> Result<Guard, Error> {
        let (engine, lock_id) = (Arc::clone(self.engine()), self.lock_id().clone());
        let failed = |error| Error::store(&lock_id, Action::Resume, error);
        let ttl = self.options.ttl_is_chosen.then_some(self.request.ttl);
        // A renewal never shortens a lease, so the shortest one changes nothing, and checks the owner.
        let asked = ttl.unwrap_or(Ttl::SHORTEST);
        let request = RenewRequest::new(lock_id.clone(), self.request.owner, asked);
        let Answered { result, sent, .. } = engine.ask_while_busy(&request, BUSY_LIMIT).await;
        let lease = match result.map_err(failed)? {
            Renewed::Renewed(lease) => lease,
            Renewed::NotHeld => return Err(self.lost()),
        };
        if ttl.is_some() {
            return Ok(self.guard(lease, sent, Deadline::counted_from(sent, asked), asked));
        }
        // Only the store's clock knows how much of the lease is left.
        let (sent, id) = (engine.clock.now(), lock_id.clone());
        let row = engine.call(|store| async move { store.find(&id).await }).await.map_err(failed)?;
        let Some(row) = row.filter(|row| row.fence == lease.fence && row.owned && row.is_taken()) else {
            return Err(self.lost());
        };
        Ok(self.guard(lease, sent, Deadline::of_lease(sent, row.expires_in()), Ttl::recorded(row.ttl)))
    }

    fn refused(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Held(holder) => {
                telemetry::refused(self.lock_id(), &holder, self.waited());
                Error::Held { lock_id: self.lock_id().clone(), holder }
            }
            Refusal::Failed(error) => self.failed(error),
        }
    }

    fn failed(&self, error: StoreError) -> Error {
        telemetry::acquiring_failed(self.lock_id(), &error);
        Error::store(self.lock_id(), Action::Acquire, error)
    }

    fn lost(&self) -> Error {
        Error::Lost { lock_id: self.lock_id().clone(), reason: LostReason::Expired }
    }
}

impl Drop for Acquisition {
    fn drop(&mut self) {
        if self.asked.is_none() && !self.is_unknown {
            return;
        }
        let insert = self.asked.take();
        self.engine().give_up(&self.request, insert, self.is_unknown);
    }
}
