use std::fmt::Write;
use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Deleted, Fence, HolderName, InsertRequest, Inserted, LockId, OwnerToken, RenewRequest, Renewed,
};

use super::micros::{NEVER_US, Row};
use super::scenario::Request;

/// A request as a store gets it.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Insert(InsertRequest),
    Renew(RenewRequest),
    Delete(DeleteRequest),
    Purge(Duration),
}

/// What a store returns for a [`Call`].
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Inserted(Inserted),
    Renewed(Renewed),
    Deleted(Deleted),
    Purged(u64),
}

/// Makes calls of requests, all for one lock id.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) lock_id: LockId,
    holder: HolderName,
}

impl Caller {
    pub(crate) fn new(lock_id: &str) -> Self {
        Self { lock_id: LockId::new(lock_id).unwrap(), holder: HolderName::new("model").unwrap() }
    }

    /// The call of a request; `None` for a forced release of an id that had no row. `fences` is what the reads have shown.
    pub(crate) fn call(&self, request: Request, fences: &[Option<Fence>]) -> Option<Call> {
        let lock_id = self.lock_id.clone();
        Some(match request {
            Request::Insert { owner, ttl } => {
                Call::Insert(InsertRequest::new(lock_id, token(owner), ttl, self.holder.clone()))
            }
            Request::Renew { owner, ttl } => Call::Renew(RenewRequest::new(lock_id, token(owner), ttl)),
            Request::Release { owner, hold_at_least } => {
                Call::Delete(DeleteRequest::by_owner(lock_id, token(owner)).hold_at_least(hold_at_least))
            }
            Request::Force { read } => Call::Delete(DeleteRequest::by_fence(lock_id, fences[read]?)),
            Request::Purge { older_than } => Call::Purge(older_than),
        })
    }
}

/// The owner token with that number.
pub(crate) fn token(owner: usize) -> OwnerToken {
    let mut bytes = [0x0d; 16];
    bytes[8..].copy_from_slice(&(owner as u64).to_be_bytes());
    OwnerToken::from_bytes(bytes)
}

/// The row in one line, with times relative to the clock. For traces.
pub(crate) fn describe(row: Option<&Row>, now_us: i64) -> String {
    let Some(row) = row else { return "no row".into() };
    let number = |token: Option<OwnerToken>| {
        token.map_or("-".into(), |token| {
            let bytes: [u8; 8] = token.as_bytes()[8..].try_into().unwrap();
            u64::from_be_bytes(bytes).to_string()
        })
    };
    let time = |at_us: i64| match at_us {
        0 => "0".into(),
        NEVER_US => "never".into(),
        at_us => format!("{:+}s", seconds(at_us - now_us)),
    };
    let mut text = format!("owner {} released_by {}", number(row.owner), number(row.released_by));
    let ttl = if row.ttl_us == NEVER_US { "never".into() } else { format!("{}s", seconds(row.ttl_us)) };
    write!(text, " expires {} ttl {ttl} fence {}", time(row.expires_at_us), time(row.fence)).unwrap();
    text
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}
