//! The wait queue of one lock: its waiters, and the background task that sends requests for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Engine;
use super::job::{Answered, Asked};
use super::pauses::Pauses;
use super::telemetry;
use super::wait_queues::{Granted, KnownRefusal, Refusal, Ticket, UNPOLLED_LIMIT, lock, no_random_numbers};
use crate::values::ClientTime;
use crate::{InsertRequest, Inserted, LockId, OwnerToken, StoreErrorKind};

/// The waiters for one lock.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    pub(crate) lock_id: LockId,
    pub(crate) state: Mutex<State>,
    /// Notified when the state has changed.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Until then the others wait for the answer to the first one's own request.
    pub(crate) opened_until: Option<Instant>,
    /// Whether the background task runs.
    pub(crate) is_served: bool,
    pub(crate) waiters: BTreeMap<Ticket, Waiter>,
    /// The wait limits.
    pub(crate) limits: BTreeSet<(Instant, Ticket)>,
    /// The waiter whose request is in flight.
    pub(crate) asking: Option<Ticket>,
    /// When to send the next request, whether to send it earlier, and when the last one was sent.
    pub(crate) ask_at: Instant,
    pub(crate) ask_now: bool,
    pub(crate) asked_at: Instant,
    /// The last refusal, and the ticket before which it applies.
    pub(crate) last: Option<(Ticket, KnownRefusal)>,
    /// A grant that was not collected yet, and until when it waits.
    pub(crate) granted: Option<(Ticket, Instant)>,
    pub(crate) held: Pauses,
    pub(crate) busy: Pauses,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) request: InsertRequest,
    pub(crate) until: Option<Instant>,
    pub(crate) first: Option<KnownRefusal>,
    pub(crate) is_unknown: bool,
    pub(crate) slot: Slot,
    pub(crate) waker: Option<Waker>,
    /// The number of its pending release, if it has left while its request is in flight.
    pub(crate) pending: Option<u64>,
}

/// The state of a waiter.
#[derive(Debug)]
pub(crate) enum Slot {
    Waiting,
    /// It did not collect its grant in time. The others go first until it is polled again.
    Asleep,
    Granted(Granted),
    Refused(Refusal),
    /// It has left while its request is in flight.
    Gone,
}

impl Waiter {
    /// Continues with another owner token; nothing more is sent for the previous one.
    fn begin_anew(&mut self) {
        self.is_unknown = false;
        match OwnerToken::mint() {
            Ok(owner) => self.request.owner = owner,
            Err(error) => self.settle(Slot::Refused(Refusal::Failed(no_random_numbers(error)))),
        }
    }

    fn settle(&mut self, slot: Slot) {
        self.slot = slot;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The background task of a wait queue. If it is dropped early, because the background has ended, its waiters fail.
pub(crate) struct Service {
    engine: Arc<Engine>,
    queue: Arc<WaitQueue>,
    has_ended: bool,
}

impl Service {
    pub(crate) fn new(engine: &Arc<Engine>, queue: &Arc<WaitQueue>) -> Self {
        Self { engine: Arc::clone(engine), queue: Arc::clone(queue), has_ended: false }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut state = lock(&self.queue.state);
        state.limits.clear();
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for waiter in waiters.into_values() {
            waiter.pending.into_iter().for_each(|number| self.engine.releases.leave(number));
            waiter.waker.into_iter().for_each(Waker::wake);
        }
        self.engine.wait_queues.close(&self.queue);
    }
}

/// A request in flight.
struct Question {
    ticket: Ticket,
    /// Its answer applies to the waiters with smaller tickets.
    serves: Ticket,
    asked: Asked<Inserted>,
}

/// Serves a wait queue until it is empty.
pub(crate) async fn serve(mut service: Service) {
    let (engine, queue) = (&Arc::clone(&service.engine), &Arc::clone(&service.queue));
    let mut question: Option<Question> = None;
    loop {
        let now = engine.time.now();
        let (ask, ask_in, wake_in, at_least) = {
            let mut state = lock(&queue.state);
            state.take_back(engine, now);
            let unanswered = state.refuse_late(now, engine.clock.now());
            let ask = state.next_question(now, unanswered);
            (ask, state.ask_in(now), state.wake_in(now), state.pause_at_least(now))
        };
        if let Some((ticket, request)) = ask {
            let serves = engine.wait_queues.ticket();
            question = Some(Question { ticket, serves, asked: engine.background.ask(request) });
        } else if question.is_none() && engine.wait_queues.close(queue) {
            service.has_ended = true;
            return;
        }
        let answered = async {
            match &mut question {
                Some(question) => engine.answer(&mut question.asked).await,
                None => std::future::pending().await,
            }
        };
        // A store may return at once; the next request still waits for the shortest pause.
        let hint = async {
            let pause = ask_in.unwrap_or_default();
            tokio::join!(
                engine.background.wait_for_release(&queue.lock_id, pause),
                engine.time.sleep(at_least.min(pause))
            )
        };
        tokio::select! {
            biased;
            answered = answered => {
                if let Some(question) = question.take() {
                    lock(&queue.state).answered(engine, question, answered);
                }
            }
            () = queue.changed.notified() => {}
            () = engine.time.sleep(wake_in.unwrap_or_default()), if wake_in.is_some() => {}
            // The lock may be free before the end of the pause.
            ((), ()) = hint, if ask_in.is_some() => {
                let mut state = lock(&queue.state);
                state.ask_at = state.ask_at.min(state.asked_at + SHORTEST_PAUSE);
            }
        }
    }
}

/// The shortest pause between two requests, unless a release in this process triggers the second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

impl State {
    pub(crate) fn new(ask_at: Instant) -> Self {
        Self {
            opened_until: None,
            is_served: false,
            waiters: BTreeMap::new(),
            limits: BTreeSet::new(),
            asking: None,
            ask_at,
            asked_at: ask_at,
            ask_now: false,
            last: None,
            granted: None,
            held: Pauses::while_held(),
            busy: Pauses::while_busy(),
        }
    }

    /// Removes a waiter from the queue.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiters.remove(&ticket)?;
        if let Some(until) = waiter.until {
            self.limits.remove(&(until, ticket));
        }
        Some(waiter)
    }

    /// Refuses the waiters whose wait limit has passed. Returns whether a request is needed for some of them, because none
    /// was sent yet, or because the lease in the last answer may have ended since.
    fn refuse_late(&mut self, now: Instant, clock: ClientTime) -> bool {
        let late: Vec<_> = self.limits.range(..=(now, Ticket::MAX)).copied().collect();
        let mut unanswered = false;
        for (until, ticket) in late {
            let Some(waiter) = self.waiters.get_mut(&ticket) else { continue };
            let known = match &self.last {
                Some((serves, known)) if ticket < *serves => Some(known),
                _ => waiter.first.as_ref(),
            };
            match (&waiter.slot, known.filter(|known| known.counts(until, clock))) {
                (Slot::Waiting | Slot::Asleep, None) => {
                    unanswered = true;
                    continue;
                }
                (Slot::Waiting | Slot::Asleep, Some(known)) => {
                    let refusal = known.refusal.clone();
                    waiter.settle(Slot::Refused(refusal));
                }
                _ => {}
            }
            self.limits.remove(&(until, ticket));
        }
        unanswered
    }

    /// Takes back a grant that was not collected in time, so that the next waiter gets its turn.
    fn take_back(&mut self, engine: &Arc<Engine>, now: Instant) {
        let Some((ticket, until)) = self.granted else { return };
        let waiter = self.waiters.get_mut(&ticket).filter(|waiter| matches!(waiter.slot, Slot::Granted(_)));
        match waiter {
            None => self.granted = None,
            Some(waiter) if now >= until => {
                self.granted = None;
                let Slot::Granted(granted) = std::mem::replace(&mut waiter.slot, Slot::Asleep) else { return };
                engine.give_up(&granted.request, None, granted.is_unknown);
                waiter.begin_anew();
                self.limits.extend(waiter.until.map(|until| (until, ticket)));
            }
            Some(_) => {}
        }
    }

    /// Returns the request to send now.
    fn next_question(&mut self, now: Instant, unanswered: bool) -> Option<(Ticket, InsertRequest)> {
        let is_due = self.ask_now || unanswered || now >= self.ask_at;
        if self.asking.is_some() || !is_due || self.opened_until.is_some_and(|until| now < until) {
            return None;
        }
        let (ticket, waiter) = self.first()?;
        let question = (ticket, waiter.request.clone());
        (self.asking, self.ask_now, self.asked_at) = (Some(ticket), false, now);
        Some(question)
    }

    /// The first waiter that is awake.
    fn first(&self) -> Option<(Ticket, &Waiter)> {
        let mut waiting = self.waiters.iter().filter(|(_, waiter)| matches!(waiter.slot, Slot::Waiting));
        waiting.next().map(|(ticket, waiter)| (*ticket, waiter))
    }

    /// How long until the next request; `None` if one is in flight or no waiter needs one.
    fn ask_in(&self, now: Instant) -> Option<Duration> {
        let is_next = self.asking.is_none() && self.first().is_some();
        let at = self.opened_until.map_or(self.ask_at, |until| until.max(self.ask_at));
        is_next.then(|| at.saturating_duration_since(now))
    }

    /// The minimum time until the next request, unless a release in this process triggers it.
    fn pause_at_least(&self, now: Instant) -> Duration {
        let earliest = self.asked_at + SHORTEST_PAUSE;
        let earliest = self.opened_until.map_or(earliest, |until| until.max(earliest));
        earliest.saturating_duration_since(now)
    }

    /// How long until there is something to do, if nothing happens before.
    fn wake_in(&self, now: Instant) -> Option<Duration> {
        let limit = self.limits.range((now, Ticket::MAX)..).next().map(|(until, _)| *until);
        let at = limit.into_iter().chain(self.granted.map(|(_, until)| until)).min();
        at.map(|at| at.saturating_duration_since(now)).into_iter().chain(self.ask_in(now)).min()
    }

    /// Takes an answer into account; `None` if none came in time.
    fn answered(&mut self, engine: &Arc<Engine>, question: Question, answered: Option<Answered<Inserted>>) {
        let Question { ticket, serves, asked } = question;
        let is_late = answered.is_none();
        let answered = answered.unwrap_or_else(|| Answered::failed(engine.too_late(), ClientTime::ZERO));
        let Answered { result, sent, is_repeat } = answered;
        self.asking = None;
        let now = engine.time.now();
        let pause = match &result {
            Err(error) if error.kind() == StoreErrorKind::Busy => self.busy.next(&engine.jitter),
            _ => {
                self.busy = Pauses::while_busy();
                self.held.next(&engine.jitter)
            }
        };
        self.ask_at = now + pause;
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        if is_late {
            // The request may take effect at any time, so its owner token cannot be used again.
            engine.give_up(&waiter.request, Some(asked), waiter.is_unknown);
            waiter.begin_anew();
        }
        waiter.is_unknown |= is_repeat;
        match result {
            Ok(Inserted::Granted(lease)) => {
                let request = waiter.request.clone();
                // Earlier refusals are out of date, and so is a release before this grant.
                (self.last, self.ask_now) = (None, false);
                self.held = Pauses::while_held();
                if matches!(waiter.slot, Slot::Waiting | Slot::Asleep) {
                    let limit = request.ttl.duration().map_or(UNPOLLED_LIMIT, |ttl| UNPOLLED_LIMIT.min(ttl / 4));
                    self.granted = Some((ticket, now + limit));
                    let is_unknown = std::mem::take(&mut waiter.is_unknown);
                    waiter.settle(Slot::Granted(Granted { request, lease, sent, is_unknown }));
                } else {
                    engine.give_up(&request, None, std::mem::take(&mut waiter.is_unknown));
                }
            }
            Ok(Inserted::Held(holder)) => {
                if let Some(end) = holder.expires_in.filter(|end| !end.is_zero() && *end < pause) {
                    // The lease ends before the next request would be sent: send it then.
                    self.ask_at = now + end + SHORTEST_PAUSE / 2;
                }
                let last = self.last.as_ref().map(|(_, known)| &known.refusal);
                let is_new = !matches!(last, Some(Refusal::Held(last)) if last.fence == holder.fence);
                if is_new {
                    telemetry::waiting(&waiter.request.lock_id, &holder);
                }
                self.last = Some((serves, KnownRefusal::new(Refusal::Held(holder), self.asked_at, sent)));
            }
            // An attempt whose reply was lost was granted, and an operator has ended it. The owner token is spent.
            Ok(Inserted::Spent) => {
                if waiter.is_unknown {
                    engine.give_up(&waiter.request, None, true);
                }
                waiter.begin_anew();
                self.ask_at = now;
            }
            Err(error) => {
                waiter.is_unknown |= !error.is_undone() && !is_late;
                if error.kind() != StoreErrorKind::Busy {
                    telemetry::acquiring_failed(&waiter.request.lock_id, &error);
                }
                let refusal = Refusal::Failed(error.clone());
                if !error.is_transient() {
                    for (_, waiter) in self.waiters.range_mut(..serves) {
                        if matches!(waiter.slot, Slot::Waiting | Slot::Asleep) {
                            waiter.settle(Slot::Refused(refusal.clone()));
                        }
                    }
                }
                self.last = Some((serves, KnownRefusal::new(refusal, self.asked_at, sent)));
            }
        }
        let is_gone = self.waiters.get(&ticket).is_some_and(|waiter| matches!(waiter.slot, Slot::Gone));
        if let Some(waiter) = if is_gone { self.leave(ticket) } else { None } {
            if waiter.is_unknown {
                engine.give_up(&waiter.request, None, true);
            }
            waiter.pending.into_iter().for_each(|number| engine.releases.leave(number));
        }
    }
}
