//! Which of several hosts is tried when, for how long, and what is remembered of it.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::current::{Current, Taken};
use crate::places::{Place, Target};
use crate::unreachable::{Cause, Unreachable};

/// The hosts of a URL. What is learnt of them is shared by all connections of a store and those of its background, so that a
/// process uses one server at a time.
///
/// They are tried one after the other, each for a part of the time, so that one that accepts a connection and then says
/// nothing does not use up the time of the next. The first to be tried is the one that was taken last, or the one after it
/// if that has failed.
#[derive(Debug)]
pub(crate) struct Hosts {
    places: Vec<Place>,
    target: Option<Target>,
    /// What a server must be if the URL does not say it and there are several.
    target_of_several: Target,
    /// In a random order: no host is preferred.
    random: bool,
    /// For one address, if the URL says so.
    limit: Option<Duration>,
    /// For all of them.
    in_all: Duration,
    first: AtomicUsize,
    current: Current,
    trouble: Mutex<BTreeMap<usize, Trouble>>,
}

/// What was wrong with a host when it was last tried.
#[derive(Debug)]
struct Trouble {
    text: String,
    was_silent: bool,
    at: Instant,
}

/// One attempt to connect.
pub(crate) struct Attempt<'a> {
    pub(crate) place: &'a Place,
    /// None for a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// What the server must be, if it must be something.
    pub(crate) target: Target,
}

/// How a server is connected to, and whether it is as it must be.
pub(crate) trait Open: Sync {
    type Connection: Send;

    fn open(&self, attempt: Attempt<'_>) -> impl Future<Output = Result<Self::Connection, Cause>> + Send;
}

impl Hosts {
    /// How long a server may be silent that is not the last to be tried. The next time it may be slow, and gets its full share.
    const SILENCE: Duration = Duration::from_secs(3);

    /// `limit` is for one address, `in_all` for all hosts.
    pub(crate) fn new(
        places: Vec<Place>,
        (target, target_of_several): (Option<Target>, Target),
        random: bool,
        limit: Option<Duration>,
        in_all: Duration,
    ) -> Self {
        let (first, current) = (AtomicUsize::new(0), Current::new());
        Self { places, target, target_of_several, random, limit, in_all, first, current, trouble: Mutex::default() }
    }

    /// Connects to the first server that is as it must be, by `at_latest` if there is such a limit. With several addresses that is
    /// `target_of_several`, unless the URL says otherwise.
    pub(crate) async fn connect<O: Open>(
        &self,
        open: &O,
        at_latest: Option<Instant>,
    ) -> Result<(O::Connection, Taken), Unreachable> {
        let until = Instant::now() + self.in_all;
        let until = at_latest.map_or(until, |at_latest| until.min(at_latest));
        let order = self.order();
        let mut unreachable = Unreachable::new(self.places.len() > 1);
        for (tried, number) in order.iter().copied().enumerate() {
            if tried > 0 && Instant::now() >= until {
                // A host that is not tried has not failed.
                break;
            }
            let was_silent = self.trouble().get(&number).is_some_and(|trouble| trouble.was_silent);
            let until = Self::share(until, order.len() - tried, was_silent);
            match self.connect_to(number, until, was_silent, open, &mut unreachable).await {
                Some((connection, address)) => {
                    self.first.store(number, Ordering::SeqCst);
                    self.trouble().clear();
                    return Ok((connection, self.current.take(number, address)));
                }
                None => self.failed(number, &unreachable),
            }
        }
        Err(unreachable)
    }

    async fn connect_to<O: Open>(
        &self,
        number: usize,
        until: Instant,
        was_silent: bool,
        open: &O,
        unreachable: &mut Unreachable,
    ) -> Option<(O::Connection, Option<SocketAddr>)> {
        let (begun, place) = (Instant::now(), &self.places[number]);
        let addresses = match timeout_at(self.limited(until), self.addresses(number, place)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                unreachable.add(place.to_string(), Cause::Lookup(error));
                return None;
            }
            Err(_) => {
                unreachable.add(place.to_string(), Cause::Silent(begun.elapsed()));
                return None;
            }
        };
        self.connect_to_one_of(&addresses, place, (until, was_silent), open, unreachable).await
    }

    async fn connect_to_one_of<O: Open>(
        &self,
        addresses: &[Option<SocketAddr>],
        place: &Place,
        (until, was_silent): (Instant, bool),
        open: &O,
        unreachable: &mut Unreachable,
    ) -> Option<(O::Connection, Option<SocketAddr>)> {
        let several = self.places.len() > 1 || addresses.len() > 1;
        let target = self.target.unwrap_or(if several { self.target_of_several } else { Target::Any });
        for (tried, address) in addresses.iter().copied().enumerate() {
            let begun = Instant::now();
            if tried > 0 && begun >= until {
                break;
            }
            let until = self.limited(Self::share(until, addresses.len() - tried, was_silent));
            let attempt = Attempt { place, address, target };
            let cause = match timeout_at(until, open.open(attempt)).await {
                Ok(Ok(connection)) => return Some((connection, address)),
                Ok(Err(cause)) => cause,
                Err(_) => Cause::Silent(begun.elapsed()),
            };
            let name = match address {
                Some(address) if addresses.len() > 1 => format!("{place} ({})", address.ip()),
                _ => place.to_string(),
            };
            unreachable.add(name, cause);
        }
        None
    }

    /// When the attempt ends that is the next of so many.
    fn share(until: Instant, attempts: usize, in_full: bool) -> Instant {
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        let Some(others) = u32::try_from(attempts).ok().filter(|attempts| *attempts > 1) else { return now + left };
        let share = left / others;
        now + if in_full { share } else { share.min(Self::SILENCE) }
    }

    /// The limit of the URL only shortens a share: otherwise the first address that is silent would use up the time of the others.
    fn limited(&self, until: Instant) -> Instant {
        self.limit.map_or(until, |limit| until.min(Instant::now() + limit))
    }

    /// The numbers of the places in the order in which they are tried.
    fn order(&self) -> Vec<usize> {
        let count = self.places.len();
        let mut order: Vec<_> = (0..count).collect();
        match self.random {
            true => shuffle(&mut order),
            false => order.rotate_left(self.first.load(Ordering::SeqCst) % count),
        }
        order
    }

    /// The addresses of a place in the order in which they are tried.
    async fn addresses(&self, number: usize, place: &Place) -> io::Result<Vec<Option<SocketAddr>>> {
        if place.is_socket() {
            return Ok(vec![None]);
        }
        if let Some(address) = place.address {
            return Ok(vec![Some(SocketAddr::new(address, place.port))]);
        }
        let name = place.host.as_deref().unwrap_or_default();
        let mut addresses: Vec<_> = tokio::net::lookup_host((name, place.port)).await?.collect();
        if self.random {
            shuffle(&mut addresses);
        } else {
            self.current.sort(number, &mut addresses);
        }
        match addresses.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(addresses.into_iter().map(Some).collect()),
        }
    }

    /// The next attempt begins with the next host. This is kept even if the attempt under way is given up.
    fn failed(&self, number: usize, unreachable: &Unreachable) {
        self.begin_after(number);
        if let Some((text, was_silent)) = unreachable.last() {
            self.trouble().insert(number, Trouble { text, was_silent, at: Instant::now() });
        }
    }

    /// Notes that a connection did not answer, or that its server accepts no writes any more. It may be the only one that did not
    /// answer, or its host is frozen: the next attempt begins with another host, which takes no time if that is a standby.
    pub(crate) fn leave(&self, taken: Taken) {
        self.current.doubt(taken);
        self.begin_after(taken.number);
    }

    /// Notes that a connection broke. The name of its host may lead to another server by now.
    pub(crate) fn broke(&self, taken: Taken) {
        self.current.doubt(taken);
    }

    fn begin_after(&self, number: usize) {
        let next = (number + 1) % self.places.len();
        let _ = self.first.compare_exchange(number, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// What was found wrong with hosts within this time, for an attempt that was given up before it came to an end. Nothing if one
    /// of them was taken since: then they are not why there is no connection.
    pub(crate) fn in_trouble(&self, within: Duration) -> Option<String> {
        let trouble = self.trouble();
        let new = trouble.values().filter(|trouble| trouble.at.elapsed() <= within);
        let trouble: Vec<_> = new.map(|trouble| trouble.text.clone()).collect();
        (!trouble.is_empty()).then(|| trouble.join("; "))
    }

    /// Whether a connection leads to another server than the one that was taken last.
    pub(crate) fn is_elsewhere(&self, taken: Taken) -> bool {
        !self.random && self.current.is_elsewhere(taken)
    }

    /// Returns when another server is taken.
    pub(crate) async fn moved_from(&self, taken: Taken) {
        match self.random {
            true => std::future::pending().await,
            false => self.current.moved_from(taken).await,
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn trouble(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random enough to spread connections.
fn shuffle<T>(list: &mut Vec<T>) {
    let random = RandomState::new();
    let mut numbered: Vec<_> = list.drain(..).enumerate().collect();
    numbered.sort_by_key(|(number, _)| random.hash_one(number));
    list.extend(numbered.into_iter().map(|(_, one)| one));
}

#[cfg(test)]
mod tests;
