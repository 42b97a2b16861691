use std::time::Duration;

use db_mutex_core::store::{Fence, Inserted, Ttl};

use crate::call::{Answer, Call, Caller, describe, seconds};
use crate::checks::{Beyond, Checks, Kind};
use crate::events::{Event, Events};
use crate::micros::{NEVER_US, rules};
use crate::promise::{Begun, Time};
use crate::scenario::{Request, Scenario, Step};
use crate::semantics::Semantics;

/// What came of a scenario.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) violations: Vec<(Kind, String)>,
    pub(crate) trace: Vec<String>,
}

/// A statement, and what is known of it.
#[derive(Debug)]
struct Statement {
    request: Request,
    /// `None` for a forced release of an id that had no row.
    call: Option<Call>,
    begun: Begun,
    /// It is an insert that was refused by an excessive row, and its second statement is still to come.
    meets_excess: bool,
}

/// Runs a scenario on some semantics, and checks what is promised after each step.
#[derive(Debug)]
pub(crate) struct World<S> {
    semantics: S,
    caller: Caller,
    now: Time,
    statements: Vec<Statement>,
    fences: Vec<Option<Fence>>,
    checks: Checks,
    trace: Option<Vec<String>>,
}

/// 2020-01-01, where `ManualClock` begins.
const START_US: i64 = 1_577_836_800_000_000;

impl<S: Semantics> World<S> {
    /// A world for scenarios with so many owners.
    pub(crate) fn new(semantics: S, owners: usize, beyond: Beyond, traced: bool) -> Self {
        Self {
            semantics,
            caller: Caller::new("model"),
            now: Time { clock_us: START_US, ..Time::default() },
            statements: Vec::new(),
            fences: Vec::new(),
            // One more asks at the end.
            checks: Checks::new(owners + 1, beyond),
            trace: traced.then(Vec::new),
        }
    }

    pub(crate) fn run(mut self, scenario: &Scenario) -> (Report, Events) {
        for step in &scenario.steps {
            self.step(*step);
        }
        self.end(scenario.owners);
        let violations = self.checks.violations;
        (Report { violations, trace: self.trace.unwrap_or_default() }, self.checks.events)
    }

    fn step(&mut self, step: Step) {
        self.note(|| format!("{step:?}"));
        match step {
            Step::Wait(time) => self.wait(time),
            Step::SetClock(by_us) => {
                self.now.forward_us += by_us.max(0);
                self.now.clock_us += by_us;
                self.semantics.clock_moves(by_us);
            }
            Step::Read => self.fences.push(self.semantics.row().map(|row| Fence::new(row.fence))),
            Step::Begin(request) => {
                self.checks.sent(request);
                let call = self.caller.call(request, &self.fences);
                let begun = Begun { sent: self.now, clock_us: self.now.clock_us };
                self.statements.push(Statement { request, call, begun, meets_excess: false });
            }
            Step::Repeat(number) => {
                let Statement { request, ref call, begun, .. } = self.statements[number];
                let begun = Begun { clock_us: self.now.clock_us, ..begun };
                self.statements.push(Statement { request, call: call.clone(), begun, meets_excess: false });
            }
            Step::Effect(number) => self.effect(number),
            Step::EndExcess(number) => self.end_excess(number),
        }
        self.checks.check_row(&self.caller.lock_id, self.semantics.row(), self.now);
        self.note_violations();
    }

    fn wait(&mut self, time: Duration) {
        let time_us = i64::try_from(time.as_micros()).unwrap();
        self.now.real_us += time_us;
        self.now.clock_us += time_us;
        self.semantics.clock_moves(time_us);
    }

    fn effect(&mut self, number: usize) {
        let statement = &mut self.statements[number];
        let Some(call) = &statement.call else { return };
        if self.semantics.at_once() {
            statement.begun.clock_us = self.now.clock_us;
        }
        let begun = statement.begun;
        let before = self.semantics.row().cloned();
        let answer = match self.semantics.execute(call, begun.clock_us) {
            Ok(answer) => answer,
            Err(wrong) => return self.checks.violated(Kind::Store, wrong),
        };
        let rows = (before.as_ref(), self.semantics.row());
        match (&answer, call, statement.request) {
            (Answer::Inserted(answer), _, Request::Insert { owner, ttl }) => {
                let refused = matches!(answer, Inserted::Held(_));
                statement.meets_excess =
                    refused && before.as_ref().is_some_and(|row| rules::is_excessive(row, begun.clock_us));
                self.checks.inserted((owner, ttl), answer, rows, begun, self.now);
            }
            (Answer::Renewed(answer), _, Request::Renew { owner, ttl }) => {
                self.checks.renewed((owner, ttl), answer, rows, begun);
            }
            (Answer::Deleted(answer), Call::Delete(delete), _) => {
                self.checks.deleted(delete, *answer, rows.1, self.now);
            }
            (Answer::Purged(1), Call::Purge(older_than), _) => self.checks.purged(*older_than, begun, self.now),
            (Answer::Purged(_), ..) => {}
            _ => self.checks.violated(Kind::Store, "an answer to something else"),
        }
        if self.trace.is_some() {
            let text = format!("    by a clock of {:+}s: {answer:?}", seconds(begun.clock_us - self.now.clock_us));
            self.note(|| text);
            self.note_row();
        }
    }

    fn end_excess(&mut self, number: usize) {
        if !std::mem::take(&mut self.statements[number].meets_excess) {
            return;
        }
        let before = self.semantics.row().map(|row| row.expires_at_us);
        self.semantics.end_excess(self.statements[number].begun.clock_us, self.now.clock_us);
        if self.semantics.row().map(|row| row.expires_at_us) != before {
            self.checks.events.count(Event::ExcessEnded);
        }
        self.note_row();
    }

    /// All statements are over, and the clock is right from now on: the lock is granted to another at the latest after
    /// the longest TTL.
    fn end(&mut self, owner: usize) {
        let request = Request::Insert { owner, ttl: Ttl::new(Ttl::MIN).unwrap() };
        let longest_us = self.checks.longest_us();
        let excessive = self.semantics.row().is_some_and(|row| rules::is_excessive(row, self.now.clock_us));
        if self.is_granted(request) {
            return;
        }
        if longest_us == NEVER_US {
            self.step(Step::Read);
            let read = self.fences.len() - 1;
            self.begin_and_effect(Request::Force { read });
        } else {
            // A little more than its TTL is left of a row that does not count as excessive.
            let more_us = if excessive || self.checks.beyond == Beyond::Tolerance {
                0
            } else {
                (longest_us / 10).max(10_000_000)
            };
            self.step(Step::Wait(Duration::from_micros(u64::try_from(longest_us + more_us).unwrap())));
        }
        if !self.is_granted(request) {
            self.checks.violated(Kind::Stuck, "G5: the lock is taken after its longest TTL");
            self.note_violations();
        }
    }

    fn is_granted(&mut self, request: Request) -> bool {
        let acquisitions = self.checks.acquisitions();
        let number = self.begin_and_effect(request);
        self.step(Step::EndExcess(number));
        self.checks.acquisitions() > acquisitions
    }

    fn begin_and_effect(&mut self, request: Request) -> usize {
        let number = self.statements.len();
        self.step(Step::Begin(request));
        self.step(Step::Effect(number));
        number
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let real = seconds(self.now.real_us);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{real:>14.6} {}", text()));
        }
    }

    fn note_row(&mut self) {
        if self.trace.is_some() {
            let row = describe(self.semantics.row(), self.now.clock_us);
            self.note(|| format!("    {row}"));
        }
    }

    fn note_violations(&mut self) {
        let Some(trace) = &mut self.trace else { return };
        for violation in &self.checks.violations {
            let line = format!("!!! {violation:?}");
            if !trace.contains(&line) {
                trace.push(line);
            }
        }
    }
}
