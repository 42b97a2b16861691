use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The waiters of each lock, and what the listener has done for them: no connection is known here.
///
/// A waiter comes back again and again, with an attempt in between, so a lock is forgotten only some time after the last
/// has left; what is heard meanwhile is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    state: Mutex<State>,
    /// There may be something to do for the listener.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a listener has promised to look after what is here.
    served: bool,
    wanted: HashMap<String, Wanted>,
    /// The lock ids of the channels.
    channels: HashMap<String, String>,
}

/// A lock that is waited for, or was a moment ago.
#[derive(Debug)]
struct Wanted {
    notified: watch::Sender<()>,
    /// It was notified while there was no waiter.
    missed: bool,
    last_wait: Instant,
    channel: Option<String>,
    listening: bool,
    /// When its row has to be marked next.
    mark_at: Instant,
    retry: Duration,
    /// The newest fence that was seen, and the newest that was seen in a free row.
    fence: i64,
    free: Option<i64>,
}

/// What a listener has to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// Ids whose channels have to be queried; there is more to do for them when they are [named](Waiters::name).
    pub(crate) unnamed: Vec<String>,
    /// Channels to listen to, with their ids.
    pub(crate) listen: Vec<(String, String)>,
    /// Channels without waiters.
    pub(crate) unlisten: Vec<String>,
    /// Ids to be marked.
    pub(crate) mark: Vec<String>,
    /// When there may be more to do.
    pub(crate) next: Instant,
    /// Whether there are no waiters at all.
    pub(crate) idle: bool,
}

/// The result of marking a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// A release will notify.
    Yes,
    /// There is nothing to wait for.
    Free,
    /// Another transaction has the row locked.
    Busy,
}

impl Waiters {
    /// How long a mark lasts. It ends by itself if a waiter has vanished.
    pub(crate) const LASTS: Duration = Duration::from_secs(30);
    /// How long a lock is remembered after its last waiter: longer than an attempt takes.
    const LINGER: Duration = Duration::from_secs(3);
    const FIRST_RETRY: Duration = Duration::from_millis(5);
    const LAST_RETRY: Duration = Duration::from_secs(1);

    /// Joins the waiters of a lock. Returns what is changed by a notification, or `None` if there was one since the last wait;
    /// and whether a listener has to be started first.
    pub(crate) fn join(&self, lock_id: &str) -> (Option<watch::Receiver<()>>, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let unserved = !std::mem::replace(&mut state.served, true);
        let wanted = state.wanted.entry(lock_id.to_owned()).or_insert_with(|| Wanted::new(now));
        wanted.last_wait = now;
        if wanted.mark_at <= now || !wanted.listening {
            self.changed.notify_one();
        }
        let missed = std::mem::take(&mut wanted.missed);
        ((!missed).then(|| wanted.notified.subscribe()), unserved)
    }

    /// Notes a refusal. If the holder is newer than the mark, its grant has removed it.
    pub(crate) fn refused(&self, lock_id: &str, fence: i64) {
        let mut state = self.lock();
        let Some(wanted) = state.wanted.get_mut(lock_id) else { return };
        let now = Instant::now();
        if fence > wanted.fence {
            wanted.fence = fence;
            wanted.mark_now(now);
        }
    }

    /// Notifies the waiters for the lock of a channel.
    pub(crate) fn notify(&self, channel: &str) {
        let mut state = self.lock();
        let State { wanted, channels, .. } = &mut *state;
        if let Some(wanted) = channels.get(channel).and_then(|lock_id| wanted.get_mut(lock_id)) {
            wanted.notify();
        }
    }

    /// What is to be done now. Waiters that left long ago are forgotten.
    pub(crate) fn work(&self) -> Work {
        let now = Instant::now();
        let (mut unnamed, mut listen, mut unlisten, mut mark) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut next = now + Self::LINGER;
        let mut state = self.lock();
        let State { wanted, channels, .. } = &mut *state;
        wanted.retain(|lock_id, wanted| {
            let waiting = wanted.notified.receiver_count() > 0;
            if waiting {
                wanted.last_wait = now;
                let Some(channel) = &wanted.channel else {
                    unnamed.push(lock_id.clone());
                    return true;
                };
                if !wanted.listening {
                    listen.push((channel.clone(), lock_id.clone()));
                }
                match wanted.mark_at <= now {
                    true => mark.push(lock_id.clone()),
                    false => next = next.min(wanted.mark_at),
                }
                return true;
            }
            let forget_at = wanted.last_wait + Self::LINGER;
            if forget_at > now {
                next = next.min(forget_at);
                return true;
            }
            if let Some(channel) = &wanted.channel {
                channels.remove(channel);
                if wanted.listening {
                    unlisten.push(channel.clone());
                }
            }
            false
        });
        Work { unnamed, listen, unlisten, mark, next, idle: wanted.is_empty() }
    }

    /// Keeps the name of a lock's channel.
    pub(crate) fn name(&self, lock_id: &str, channel: &str) {
        let mut state = self.lock();
        let State { wanted, channels, .. } = &mut *state;
        if let Some(wanted) = wanted.get_mut(lock_id) {
            wanted.channel = Some(channel.to_owned());
            channels.insert(channel.to_owned(), lock_id.to_owned());
        }
    }

    /// Notes that notifications on the channel of this lock arrive from now on.
    pub(crate) fn listening(&self, lock_id: &str) {
        if let Some(wanted) = self.lock().wanted.get_mut(lock_id) {
            wanted.listening = true;
        }
    }

    /// Notes what marking has shown. Waiters for what is free are woken, once for each holder: a row that stays free
    /// and is not granted is in another transaction.
    pub(crate) fn marked(&self, lock_id: &str, fence: i64, marked: Marked) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(wanted) = state.wanted.get_mut(lock_id) else { return };
        wanted.fence = wanted.fence.max(fence);
        if marked == Marked::Yes {
            wanted.mark_at = now + Self::LASTS / 2;
            wanted.retry = Self::FIRST_RETRY;
            return;
        }
        wanted.mark_at = now + wanted.retry;
        wanted.retry = (wanted.retry * 2).min(Self::LAST_RETRY);
        if marked == Marked::Free && wanted.free != Some(fence) {
            wanted.free = Some(fence);
            wanted.notify();
        }
    }

    /// Forgets what an earlier connection listened to.
    pub(crate) fn connected_anew(&self) {
        let now = Instant::now();
        for wanted in self.lock().wanted.values_mut() {
            wanted.listening = false;
            wanted.mark_now(now);
        }
    }

    /// Lets the listener go if there are no waiters; the next one starts another.
    pub(crate) fn dismiss(&self) -> bool {
        let mut state = self.lock();
        state.served = !state.wanted.is_empty();
        !state.served
    }

    /// Nothing that can panic runs under this mutex.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn new(now: Instant) -> Self {
        Self {
            notified: watch::Sender::new(()),
            missed: false,
            last_wait: now,
            channel: None,
            listening: false,
            mark_at: now,
            retry: Waiters::FIRST_RETRY,
            fence: 0,
            free: None,
        }
    }

    fn mark_now(&mut self, now: Instant) {
        self.mark_at = now;
        self.retry = Waiters::FIRST_RETRY;
    }

    fn notify(&mut self) {
        self.missed = self.notified.send(()).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A waiter, listened for and marked under this fence.
    fn waiting(waiters: &Waiters, fence: i64) -> watch::Receiver<()> {
        let (notified, _) = waiters.join("job");
        waiters.name("job", "channel");
        waiters.listening("job");
        waiters.marked("job", fence, Marked::Yes);
        notified.expect("no notification was missed")
    }

    fn marks(waiters: &Waiters) -> bool {
        !waiters.work().mark.is_empty()
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_named_then_listened_for_then_left_alone() {
        let waiters = Waiters::default();
        let (_notified, unserved) = waiters.join("job");
        assert!(unserved);
        let work = waiters.work();
        assert_eq!((work.unnamed.len(), work.listen.len(), work.mark.len()), (1, 0, 0));
        waiters.name("job", "channel");
        let work = waiters.work();
        assert_eq!((work.unnamed.len(), work.listen.len(), work.mark.len()), (0, 1, 1));
        waiters.listening("job");
        waiters.marked("job", 1, Marked::Yes);
        let work = waiters.work();
        assert_eq!((work.unnamed.len(), work.listen.len(), work.mark.len()), (0, 0, 0));
        assert!(!waiters.join("job").1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_is_refreshed_while_there_are_waiters() {
        let waiters = Waiters::default();
        let _notified = waiting(&waiters, 1);
        tokio::time::advance(Waiters::LASTS / 2 - Duration::from_millis(1)).await;
        assert!(!marks(&waiters));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(marks(&waiters));
    }

    #[tokio::test(start_paused = true)]
    async fn what_rings_between_two_waits_is_kept_for_the_second() {
        let waiters = Waiters::default();
        drop(waiting(&waiters, 1));
        waiters.notify("channel");
        assert!(waiters.join("job").0.is_none());
        assert!(waiters.join("job").0.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_to_leave_is_forgotten_after_a_while() {
        let waiters = Waiters::default();
        drop(waiting(&waiters, 1));
        tokio::time::advance(Waiters::LINGER - Duration::from_millis(1)).await;
        let work = waiters.work();
        assert!(work.unlisten.is_empty() && !work.idle && !waiters.dismiss());
        tokio::time::advance(Duration::from_millis(1)).await;
        let work = waiters.work();
        assert!(work.unlisten == ["channel"] && work.idle && waiters.dismiss());
        assert!(waiters.join("job").1, "no listener serves the next waiter");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_holder_has_no_mark_and_an_older_answer_changes_nothing() {
        let waiters = Waiters::default();
        let _notified = waiting(&waiters, 5);
        waiters.refused("job", 4);
        waiters.refused("job", 5);
        assert!(!marks(&waiters));
        waiters.refused("job", 6);
        assert!(marks(&waiters));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_free_rings_once_for_each_holder() {
        let waiters = Waiters::default();
        let mut notified = waiting(&waiters, 1);
        for (fence, marked, notifies) in
            [(1, Marked::Busy, false), (1, Marked::Free, true), (1, Marked::Free, false), (2, Marked::Free, true)]
        {
            waiters.marked("job", fence, marked);
            assert_eq!(notified.has_changed().is_ok_and(|changed| changed), notifies, "{fence} {marked:?}");
            notified.mark_unchanged();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_begins_anew() {
        let waiters = Waiters::default();
        let _notified = waiting(&waiters, 1);
        waiters.connected_anew();
        let work = waiters.work();
        assert_eq!((work.listen.len(), work.mark.len()), (1, 1));
    }
}
