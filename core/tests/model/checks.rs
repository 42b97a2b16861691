use std::time::Duration;

use db_mutex_core::store::{DeleteBy, DeleteRequest, Deleted, Inserted, LockId, Renewed, StoreTime, Ttl};

use crate::call::token;
use crate::events::{Event, Events};
use crate::micros::{NEVER_US, Row};
use crate::promise::{Begun, Promise, Time};
use crate::scenario::Request;

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// G1, G2: a lock was granted while another owner's lease lasted, or its guard was valid.
    TwoHolders,
    /// G2: the row is free or another's while a guard is valid.
    LeaseOver,
    /// A lock was granted while it was to rest.
    RestCut,
    /// F1: a fencing token is not greater than an earlier one, or changed during an acquisition.
    Fence,
    /// A renewal or a repeated insert made a lease shorter, or shorter than it asked for.
    Shortened,
    /// O1: a token that was spent was granted the lock.
    Ghost,
    /// A forced release ended another acquisition than the one it named.
    SuccessorEnded,
    /// G5: a lock that was released, or that no one has ever had, was refused.
    NotFree,
    /// G5: with the clock right, a lock was refused after the longest TTL.
    Stuck,
    /// Readers were shown more time than the longest TTL.
    Shown,
    /// The store's answer is not that of the rules.
    Store,
}

/// What is judged beyond the contract, to see that it excepts nothing without a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    Nothing,
    /// Statements that were under way while the clock was set back.
    ClockSetBack,
    /// Fences after a purge, by statements whose clock is further behind that of the purge than it spared.
    OlderThanPurge,
    /// Tokens that were released before the last one.
    EarlierToken,
    /// Rows that last longer than the longest TTL, but are not excessive.
    Tolerance,
}

/// What the lock is, by the answers so far.
#[derive(Debug, Clone, Copy)]
enum State {
    Free,
    Held {
        owner: usize,
        fence: i64,
        longest_us: i64,
    },
    /// Released; the fence is that of its acquisition.
    Resting {
        fence: i64,
        longest_us: i64,
    },
}

/// Watches a scenario and notes what was promised and not kept.
///
/// Every positive answer counts as received at once: a holder never believes more than that.
#[derive(Debug)]
pub(crate) struct Checks {
    state: State,
    promises: Vec<Promise>,
    /// The owners that have sent a delete. They believe in nothing any more.
    gone: Vec<bool>,
    /// The last is the one that the row records.
    released: Vec<usize>,
    highest_fence: i64,
    acquisitions: u64,
    /// The purges may have removed fences before this time. A statement whose clock is older may get one that is lower.
    purged_until_us: i64,
    pub(crate) beyond: Beyond,
    pub(crate) events: Events,
    pub(crate) violations: Vec<(Kind, String)>,
}

impl Checks {
    pub(crate) fn new(owners: usize, beyond: Beyond) -> Self {
        Self {
            state: State::Free,
            promises: Vec::new(),
            gone: vec![false; owners],
            released: Vec::new(),
            highest_fence: 0,
            acquisitions: 0,
            purged_until_us: 0,
            beyond,
            events: Events::default(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn violated(&mut self, kind: Kind, text: impl Into<String>) {
        self.violations.push((kind, text.into()));
    }

    pub(crate) fn sent(&mut self, request: Request) {
        if let Request::Release { owner, .. } = request {
            self.gone[owner] = true;
            self.promises.retain(|promise| promise.owner != Some(owner));
        }
    }

    /// The longest TTL that the current acquisition was granted, or the longest rest; zero for a free lock.
    pub(crate) fn longest_us(&self) -> i64 {
        match self.state {
            State::Free => 0,
            State::Held { longest_us, .. } | State::Resting { longest_us, .. } => longest_us,
        }
    }

    /// How often the lock was acquired.
    pub(crate) fn acquisitions(&self) -> u64 {
        self.acquisitions
    }

    pub(crate) fn inserted(
        &mut self,
        (owner, ttl): (usize, Ttl),
        answer: &Inserted,
        (before, after): (Option<&Row>, Option<&Row>),
        begun: Begun,
        now: Time,
    ) {
        match (answer, after) {
            (Inserted::Granted(_), Some(after)) => match before.filter(|row| row.owner == Some(token(owner))) {
                Some(before) => {
                    self.events.count(Event::Repeated);
                    self.prolonged(owner, ttl, before, after, begun);
                }
                None => self.acquired(owner, ttl, before, after, begun, now),
            },
            (Inserted::Held(holder), _) => {
                if let State::Free = self.state {
                    self.violated(Kind::NotFree, "a free lock was refused");
                }
                let shown = holder.expires_in.map_or(NEVER_US, |left| i64::try_from(left.as_micros()).unwrap());
                self.shown(shown);
            }
            (Inserted::Spent, _) => {
                self.events.count(Event::Spent);
                if self.released.last() != Some(&owner) {
                    self.violated(Kind::NotFree, "a token is spent that was not the last to be released");
                }
            }
            _ => self.violated(Kind::Store, "a grant without a row"),
        }
    }

    /// A new acquisition.
    fn acquired(&mut self, owner: usize, ttl: Ttl, before: Option<&Row>, after: &Row, begun: Begun, now: Time) {
        if before.is_some_and(|row| row.owner.is_some()) {
            self.events.count(Event::TakenOver);
        }
        if self.is_covered(begun, now) {
            if before.is_some_and(|row| row.owner.is_some() && row.expires_at_us > now.clock_us) {
                self.violated(Kind::TwoHolders, "G1: granted while another owner's lease lasts");
            }
            for at in 0..self.promises.len() {
                let promise = self.promises[at];
                match promise.owner {
                    Some(other) if other != owner && promise.holds(now) => {
                        self.violated(Kind::TwoHolders, format!("G2: granted while the guard of {other} is valid"));
                    }
                    None if promise.holds(now) => self.violated(Kind::RestCut, "granted during a rest"),
                    _ => {}
                }
            }
        }
        let late = self.released.last() == Some(&owner);
        if late || self.beyond == Beyond::EarlierToken && self.released.contains(&owner) {
            self.violated(Kind::Ghost, "O1: granted to a token that was released");
        }
        let fences_rise = before.is_some() || begun.clock_us >= self.purged_until_us;
        if after.fence <= self.highest_fence && (fences_rise || self.beyond == Beyond::OlderThanPurge) {
            self.violated(Kind::Fence, format!("F1: after {} comes {}", self.highest_fence, after.fence));
        }
        self.highest_fence = after.fence;
        self.acquisitions += 1;
        self.state = State::Held { owner, fence: after.fence, longest_us: ttl.to_micros() };
        self.promises.retain(|promise| promise.owner == Some(owner));
        self.believe(owner, begun.sent, ttl);
    }

    pub(crate) fn renewed(
        &mut self,
        (owner, ttl): (usize, Ttl),
        answer: &Renewed,
        (before, after): (Option<&Row>, Option<&Row>),
        begun: Begun,
    ) {
        if let (Renewed::Renewed(_), Some(before), Some(after)) = (answer, before, after) {
            self.events.count(Event::Renewed);
            self.prolonged(owner, ttl, before, after, begun);
        }
    }

    fn prolonged(&mut self, owner: usize, ttl: Ttl, before: &Row, after: &Row, begun: Begun) {
        let asked_us = begun.clock_us.saturating_add(ttl.to_micros());
        if after.expires_at_us < before.expires_at_us.max(asked_us) {
            self.violated(Kind::Shortened, format!("the lease of {owner} became shorter"));
        }
        if (after.fence, after.acquired_at_us) != (before.fence, before.acquired_at_us) {
            self.violated(Kind::Fence, format!("the acquisition of {owner} changed"));
        }
        match &mut self.state {
            State::Held { owner: held_by, longest_us, .. } if *held_by == owner => {
                *longest_us = (*longest_us).max(ttl.to_micros());
            }
            _ => self.violated(Kind::Store, format!("{owner} has a lease that it was not granted")),
        }
        self.believe(owner, begun.sent, ttl);
    }

    fn believe(&mut self, owner: usize, sent: Time, ttl: Ttl) {
        if !self.gone[owner] {
            self.promises.push(Promise::of_lease(owner, sent, ttl));
        }
    }

    pub(crate) fn deleted(&mut self, request: &DeleteRequest, answer: Deleted, after: Option<&Row>, now: Time) {
        let (Deleted::Released, Some(after)) = (answer, after) else {
            if let (DeleteBy::Fence(fence), State::Held { fence: current, .. }) = (request.by, self.state)
                && fence.get() != current
            {
                self.events.count(Event::SuccessorSpared);
            }
            return;
        };
        let (fence, owner) = match self.state {
            State::Held { owner, fence, .. } => (fence, Some(owner)),
            State::Resting { fence, .. } => (fence, None),
            State::Free => return self.violated(Kind::Store, "a free lock was released"),
        };
        match request.by {
            DeleteBy::Owner(by) if owner.map(token) == Some(by) => {}
            DeleteBy::Fence(by) if by.get() == fence => {}
            _ => self.violated(Kind::SuccessorEnded, "an acquisition was ended by a request for another"),
        }
        self.released.extend(owner);
        // What is ended by force is excepted; who has sent a delete believes in nothing.
        self.promises.clear();
        self.state = State::Free;
        let rest_us = request.hold_at_least_us();
        if matches!(request.by, DeleteBy::Fence(_)) {
            self.events.count(Event::Forced);
        } else if rest_us > 0 && after.expires_at_us > 0 {
            self.events.count(Event::Rested);
            let left_us = after.expires_at_us.saturating_sub(now.clock_us).min(after.ttl_us);
            self.promises.push(Promise::of_rest(now, left_us));
            self.state = State::Resting { fence, longest_us: rest_us };
        } else {
            self.events.count(Event::Released);
        }
    }

    pub(crate) fn purged(&mut self, older_than: Duration, begun: Begun, now: Time) {
        self.events.count(Event::Purged);
        self.state = State::Free;
        self.released.clear();
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap();
        self.purged_until_us = self.purged_until_us.max(begun.clock_us - older_than_us);
        if !self.is_covered(begun, now) {
            self.promises.clear();
        }
    }

    /// Checks the row after each step, as a reader and as a holder.
    pub(crate) fn check_row(&mut self, lock_id: &LockId, row: Option<&Row>, now: Time) {
        self.promises.retain(|promise| promise.holds(now));
        if let Some(row) = row {
            let left = row.read(lock_id.clone(), StoreTime::from_micros(now.clock_us)).expires_in();
            self.shown(left.map_or(NEVER_US, |left| i64::try_from(left.as_micros()).unwrap()));
        }
        let over =
            self.promises.iter().filter_map(|promise| promise.owner).find(|owner| {
                !row.is_some_and(|row| row.owner == Some(token(*owner)) && row.expires_at_us > now.clock_us)
            });
        // Its promise stays: the next grant makes two holders.
        if let Some(owner) = over
            && !self.violations.iter().any(|(kind, _)| *kind == Kind::LeaseOver)
        {
            self.violated(Kind::LeaseOver, format!("G2: the guard of {owner} is valid, its lease is over"));
        }
    }

    fn shown(&mut self, left_us: i64) {
        if left_us > self.longest_us() {
            self.violated(Kind::Shown, "more time is shown than was asked for");
        }
    }

    /// Whether what a statement does is covered by the guarantees: the clock was not set back since it was read.
    fn is_covered(&mut self, begun: Begun, now: Time) -> bool {
        let covered = begun.clock_us <= now.clock_us;
        if !covered {
            self.events.count(Event::NotCovered);
        }
        covered || self.beyond == Beyond::ClockSetBack
    }
}
