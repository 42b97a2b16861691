use std::time::Duration;

use db_mutex_core::Ttl;

use super::random::Random;

/// What is sent to the store. Owners are numbered; each number is one owner token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Insert {
        owner: usize,
        ttl: Ttl,
    },
    Renew {
        owner: usize,
        ttl: Ttl,
    },
    Release {
        owner: usize,
        hold_at_least: Duration,
    },
    /// A forced release of the acquisition that the read with this number has shown.
    Force {
        read: usize,
    },
    Purge {
        older_than: Duration,
    },
}

/// One step of a scenario. Statements and reads are numbered from zero, in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Time passes, for clients and store alike.
    Wait(Duration),
    /// The store's clock is set by so many microseconds, forward or back.
    SetClock(i64),
    /// An operator reads the row.
    Read,
    /// A request is sent, and its statement begins: the clock that it will judge by is read.
    Begin(Request),
    /// The request of a statement begins once more, as a duplicate: sent when the original was.
    Repeat(usize),
    /// A statement takes effect. Those that never do were abandoned.
    Effect(usize),
    /// The second statement of an insert takes effect, if the first has met an excessive row.
    EndExcess(usize),
}

/// The steps of one seed. They do not depend on what the store returns.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) steps: Vec<Step>,
    /// How many owner tokens there are.
    pub(crate) owners: usize,
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut plan = Plan::new(seed);
        for _ in 0..plan.random.between(8, 60) {
            plan.next();
        }
        Self { steps: plan.steps, owners: plan.owners }
    }
}

/// How the clock misbehaves in a scenario.
#[derive(Debug, Clone, Copy)]
enum Clock {
    Right,
    /// Steps that a margin covers, mostly.
    Small,
    Large,
    /// It is ahead for a while and then right again.
    Ahead(i64),
}

/// What adds to a scenario.
#[derive(Debug, Clone, Copy)]
enum Action {
    Wait,
    Request,
    Effect,
    Repeat,
    SetClock,
    Read,
    Force,
    Purge,
    /// A waiter asks, and asks again when a TTL is over.
    Poll,
}

impl Action {
    /// The weights that an action may have. Each scenario has its own, and goes without some actions, because what is rare
    /// in the average of all scenarios has to be frequent in some.
    const WEIGHTS: [(Action, [u64; 3]); 9] = [
        (Action::Wait, [10, 20, 30]),
        (Action::Request, [30, 40, 50]),
        (Action::Effect, [5, 15, 30]),
        (Action::Repeat, [0, 5, 15]),
        (Action::SetClock, [3, 8, 20]),
        (Action::Read, [0, 2, 3]),
        (Action::Force, [0, 0, 8]),
        (Action::Purge, [0, 2, 8]),
        (Action::Poll, [0, 3, 6]),
    ];
}

/// A process with its current owner token, which goes one way: inserts, then renewals, then deletes.
#[derive(Debug, Clone, Copy)]
struct Process {
    owner: usize,
    ttl: Ttl,
    renews: bool,
    deletes: bool,
}

struct Plan {
    random: Random,
    steps: Vec<Step>,
    owners: usize,
    processes: Vec<Process>,
    ttls: Vec<Ttl>,
    waits: Vec<Duration>,
    clock: Clock,
    offset_us: i64,
    /// How often each action is taken.
    weights: [(Action, u64); Action::WEIGHTS.len()],
    /// How many of a hundred requests are the first process's own.
    busy: u64,
    /// How many of a hundred requests are deletes.
    deletes: u64,
    /// How many times a wait is drawn again, to take the shortest.
    redrawn: u64,
    /// How many of a hundred statements take effect at once.
    prompt: u64,
    statements: usize,
    /// Those that have begun and have not taken effect, and inserts whose second statement is still to come.
    pending: Vec<Step>,
    reads: usize,
}

const SECOND: Duration = Duration::from_secs(1);

impl Plan {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let finite = [100, 150, 1_000, 5_000, 30_000, 600_000, 7_200_000].map(Duration::from_millis);
        let mut ttls = Vec::new();
        let mut waits = vec![Duration::ZERO, random.millis(1, 10), Duration::from_millis(50), 12 * SECOND];
        for _ in 0..random.pick(&[1, 2, 2, 2, 3]) {
            let ttl = random.pick(&finite);
            ttls.push(Ttl::new(ttl).unwrap());
            waits.extend([ttl / 3, ttl * 19 / 20, ttl, ttl + Duration::from_millis(1), 2 * ttl]);
        }
        if random.chance(15) {
            ttls.push(Ttl::NEVER);
        }
        let clock = match random.below(10) {
            0..3 => Clock::Right,
            3..5 => Clock::Small,
            5..8 => Clock::Large,
            _ => Clock::Ahead(random.pick(&[20, 3_600, 864_000]) * 1_000_000),
        };
        let (busy, redrawn) = (random.pick(&[0, 40, 80]), random.below(3));
        let deletes = random.pick(&[2, 10, 25]);
        let weights = Action::WEIGHTS.map(|(action, weights)| (action, random.pick(&weights)));
        let prompt = random.pick(&[100, 80, 50, 20]);
        let mut plan = Self {
            random,
            steps: Vec::new(),
            owners: 0,
            processes: Vec::new(),
            ttls,
            waits,
            clock,
            offset_us: 0,
            busy,
            deletes,
            weights,
            redrawn,
            prompt,
            statements: 0,
            pending: Vec::new(),
            reads: 0,
        };
        for _ in 0..plan.random.between(2, 3) {
            let process = plan.process();
            plan.processes.push(process);
        }
        if let Clock::Ahead(_) = plan.clock {
            plan.set_clock();
        }
        plan
    }

    /// A process with a new owner token.
    fn process(&mut self) -> Process {
        self.owners += 1;
        Process { owner: self.owners - 1, ttl: self.random.pick(&self.ttls), renews: false, deletes: false }
    }

    fn next(&mut self) {
        match self.action() {
            Action::Wait => {
                // Mostly short: after a long time every lease is over, and the scenario begins anew.
                let mut wait = self.random.pick(&self.waits);
                for _ in 0..self.redrawn {
                    wait = wait.min(self.random.pick(&self.waits));
                }
                self.steps.push(Step::Wait(wait));
            }
            Action::Request => {
                let request = self.request();
                self.begin(Step::Begin(request));
            }
            Action::Effect if !self.pending.is_empty() => {
                let at = self.index(self.pending.len());
                let step = self.pending.swap_remove(at);
                self.effect(step);
            }
            Action::Repeat if self.statements > 0 => {
                let duplicate = self.index(self.statements);
                self.begin(Step::Repeat(duplicate));
            }
            Action::Effect | Action::Repeat => {}
            Action::SetClock => self.set_clock(),
            Action::Read => self.read(),
            Action::Force => {
                if self.reads == 0 || self.random.chance(60) {
                    self.read();
                }
                // The last read, or one that is out of date.
                let read = if self.random.chance(60) { self.reads - 1 } else { self.index(self.reads) };
                self.begin(Step::Begin(Request::Force { read }));
            }
            Action::Purge => {
                let older_than = self.random.pick(&[0, 0, 100, 5_000, 60_000, 3_600_000]);
                self.begin(Step::Begin(Request::Purge { older_than: Duration::from_millis(older_than) }));
            }
            Action::Poll => self.poll(),
        }
    }

    fn poll(&mut self) {
        let waiter = self.process();
        let ttl = self.random.pick(&self.ttls);
        for wait in [None, ttl.duration()] {
            if let Some(wait) = wait {
                self.steps.push(Step::Wait(wait + Duration::from_millis(1)));
            }
            self.begin(Step::Begin(Request::Insert { owner: waiter.owner, ttl: waiter.ttl }));
        }
    }

    fn action(&mut self) -> Action {
        let mut at = self.random.below(self.weights.iter().map(|(_, weight)| weight).sum());
        for (action, weight) in self.weights {
            if at < weight {
                return action;
            }
            at -= weight;
        }
        Action::Wait
    }

    /// What one of the processes sends next.
    fn request(&mut self) -> Request {
        // One is busier, so that there are leases with a history.
        let at = if self.random.chance(self.busy) { 0 } else { self.index(self.processes.len()) };
        let mut process = self.processes[at];
        let what = self.random.below(100);
        let ttl = if self.random.chance(50) { process.ttl } else { self.random.pick(&self.ttls) };
        let request = if what < self.deletes || process.deletes && what < 60 {
            process.deletes = true;
            let hold_at_least = self.random.pick(&[0, 0, 0, 0, 100, 5_000, 3_600_000]);
            Request::Release { owner: process.owner, hold_at_least: Duration::from_millis(hold_at_least) }
        } else if process.deletes {
            // After a delete nothing else is sent for a token: the next attempt has its own.
            process = self.process();
            Request::Insert { owner: process.owner, ttl: process.ttl }
        } else if process.renews || what < 45 {
            process.renews = true;
            Request::Renew { owner: process.owner, ttl }
        } else {
            Request::Insert { owner: process.owner, ttl }
        };
        self.processes[at] = process;
        request
    }

    fn begin(&mut self, step: Step) {
        self.steps.push(step);
        let effect = Step::Effect(self.statements);
        self.statements += 1;
        if self.random.chance(self.prompt) {
            self.effect(effect);
        } else {
            self.pending.push(effect);
        }
    }

    fn effect(&mut self, step: Step) {
        self.steps.push(step);
        // Not every first statement is an insert; the second is then nothing.
        if let Step::Effect(number) = step {
            let second = Step::EndExcess(number);
            if self.random.chance(self.prompt.max(50)) {
                self.steps.push(second);
            } else {
                self.pending.push(second);
            }
        }
    }

    fn read(&mut self) {
        self.reads += 1;
        self.steps.push(Step::Read);
    }

    fn set_clock(&mut self) {
        let sign = if self.random.chance(50) { 1 } else { -1 };
        let by_us = match self.clock {
            Clock::Right => return,
            Clock::Small => sign * 1_000 * self.random.pick(&[1, 30, 50, 100]),
            Clock::Large if self.offset_us != 0 && self.random.chance(30) => -self.offset_us,
            Clock::Large => sign * 1_000 * self.random.pick(&[50, 1_000, 6_000, 20_000, 3_600_000, 86_400_000]),
            Clock::Ahead(by_us) if self.offset_us == 0 => by_us,
            Clock::Ahead(_) => -self.offset_us,
        };
        self.offset_us += by_us;
        self.steps.push(Step::SetClock(by_us));
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.random.below(len as u64)).unwrap()
    }
}
