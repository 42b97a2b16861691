//! Measures all cells of a round one after the other, then those of the next round: a noisy minute of the machine meets all.
//!
//! | file | what it does |
//! |---|---|
//! | `plan.rs` | which cells there are |
//! | `process.rs` | workers: one process or several for each measurement |
//! | `servers.rs` | what the servers say, count and use |
//! | `rows.rs` | the table with a million rows; the update of all leases |
//! | `command.rs` | the start of the command beside flock(1) |
//! | `about.rs` | the machine |

mod about;
mod command;
mod plan;
mod process;
mod rows;
mod servers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::report;
use crate::results::{Results, Round};
use crate::spec::{Failure, Sample, Spec, Work};
use plan::{MILLION, Planned, name, plan};
use process::Worker;
use servers::{Counters, Servers};

pub(crate) struct Runner {
    options: Options,
    servers: Servers,
    begun: Instant,
    /// How many cells were measured; each has a table of its own.
    cells: usize,
    /// The statements of the stores, by server.
    statements: BTreeMap<String, BTreeMap<String, String>>,
}

/// What workers found together.
struct Measured {
    sample: Sample,
    /// Seconds of their server.
    server_cpu: f64,
    /// What the server had counted when they began.
    before: Counters,
    /// What it counted while it was left alone.
    idle: Counters,
}

pub(crate) fn run(options: Options) -> Result<(), Failure> {
    let servers = Servers::new(&options.servers, options.work.join("sqlite"))?;
    let mut runner = Runner { servers, begun: Instant::now(), cells: 0, statements: BTreeMap::new(), options };
    let mut plan = plan(&runner.options);
    plan.retain(|planned| runner.can(planned));
    let mut results = Results { settings: runner.servers.settings()?, ..Results::default() };
    results.about = about::machine(&runner.options)?;
    let number = |round: usize| plan.iter().filter(|planned| round < planned.rounds).count();
    let all: usize = (0..runner.options.rounds).map(number).sum();
    // A worker needs about half a second to connect and to warm up; leases, waiters and rows take their time.
    let minutes = (all as f64 * (runner.options.seconds + 0.5) + 150.0) / 60.0;
    let (rounds, seconds) = (runner.options.rounds, runner.options.seconds);
    runner.say(&format!("{all} measurements in {rounds} rounds, {seconds} s each: about {minutes:.0} minutes"));

    runner.prepare(&plan)?;
    for round in 0..runner.options.rounds {
        runner.round(round, &mut plan, all)?;
        command::round(&runner.options, &runner.servers, &mut results)?;
        // After each round, so that an interrupted run leaves what it has measured.
        results.cells = plan.iter().map(|planned| planned.cell.clone()).collect();
        report::write(&results, &runner.options.out)?;
    }
    about::end(&mut results);
    command::sizes(&runner.options, &mut results)?;
    report::write(&results, &runner.options.out)?;
    runner.say(&format!("written: {}", runner.options.out.join("RESULTS.md").display()));
    Ok(())
}

impl Runner {
    fn say(&self, what: &str) {
        let seconds = self.begun.elapsed().as_secs();
        println!("{}:{:02} {what}", seconds / 60, seconds % 60);
    }

    fn can(&self, planned: &Planned) -> bool {
        self.servers.has(&planned.cell.server) && (planned.cell.subject != "django" || !self.options.django.is_empty())
    }

    /// Sees which statements the stores send, and fills the tables with many rows.
    fn prepare(&mut self, plan: &[Planned]) -> Result<(), Failure> {
        for server in ["postgres", "mariadb", "mysql"] {
            if plan.iter().any(|planned| {
                ["bare", "uncommitted"].contains(&planned.cell.subject.as_str()) && planned.cell.server == server
            }) {
                let spec = self.spec(server, "db-mutex", "bench_seen", 1, Work::Statements)?;
                let statements = self.measure(std::slice::from_ref(&spec), server, Duration::ZERO)?.sample.texts;
                self.servers.clear(server, "bench_seen")?;
                self.statements.insert(server.into(), statements);
            }
        }
        for server in plan::OURS {
            if plan.iter().any(|planned| planned.cell.kind == "million" && planned.cell.server == server) {
                self.say(&format!("filling a table of {server} with {} rows", self.options.rows));
                rows::fill(&self.servers, server, self.options.rows)?;
            }
        }
        Ok(())
    }

    fn round(&mut self, round: usize, plan: &mut [Planned], all: usize) -> Result<(), Failure> {
        let mut together = Vec::new();
        for planned in plan.iter_mut().filter(|planned| round < planned.rounds) {
            if planned.together {
                together.push(planned);
                continue;
            }
            let measured = self.one(planned);
            self.note(planned, measured, round, all);
        }
        if !together.is_empty() {
            self.say(&format!("round {} holding leases on all databases", round + 1));
            let measured = self.leases(&together);
            for (planned, measured) in together.into_iter().zip(measured) {
                self.note(planned, measured, round, all);
            }
        }
        Ok(())
    }

    fn note(&mut self, planned: &mut Planned, measured: Result<Round, Failure>, round: usize, all: usize) {
        self.cells += 1;
        let name = name(&planned.cell);
        let said = match &measured {
            Ok(round) if !round.values.is_empty() => format!("{:.4?}", round.values),
            Ok(round) => {
                format!("{:>9.0} /s   p50 {:>8.0} µs   p99 {:>8.0} µs", round.per_second, round.p50, round.p99)
            }
            Err(error) => format!("failed: {error}"),
        };
        self.say(&format!("[{}/{all}] round {} {name:<40} {said}", self.cells, round + 1));
        match measured {
            Ok(round) => planned.cell.rounds.push(round),
            Err(error) => planned.cell.failures.push(error.to_string()),
        }
    }

    fn spec(&self, server: &str, subject: &str, table: &str, tasks: usize, work: Work) -> Result<Spec, Failure> {
        Ok(Spec {
            subject: subject.into(),
            url: self.servers.url(server, table)?,
            table: table.into(),
            process: 0,
            tasks,
            work,
            statements: self.statements.get(server).cloned().unwrap_or_default(),
        })
    }

    /// One cell in one round.
    fn one(&self, planned: &Planned) -> Result<Round, Failure> {
        let cell = &planned.cell;
        let million = cell.kind == "million";
        let table = if million { MILLION.to_owned() } else { format!("bench_{}", self.cells) };
        let spec = self.spec(&cell.server, &cell.subject, &table, cell.tasks, planned.work)?;
        let specs: Vec<_> = (0..cell.processes).map(|process| Spec { process, ..spec.clone() }).collect();
        if million {
            rows::remove_new(&self.servers, &cell.server)?;
        }
        let idle = match planned.work {
            Work::Refused { millis } => Duration::from_millis(millis),
            _ => Duration::ZERO,
        };
        let measured = self.measure(&specs, &cell.server, idle);
        let counted = measured.and_then(|measured| {
            let counted = self.counted(&cell.server, &table, &measured.before)?;
            Ok((measured.sample, measured.server_cpu, counted, measured.idle))
        });
        if !million && cell.subject != "django" {
            self.servers.clear(&cell.server, &table)?;
        }
        let (sample, server_cpu, counted, idle) = counted?;
        let mut round = round(&sample, server_cpu);
        match planned.work {
            Work::Refused { .. } => {
                for (name, value) in counted {
                    let by_itself = idle.get(&name).unwrap_or(&0.0);
                    round.values.insert(format!("{name} per attempt"), (value - by_itself) / sample.count as f64);
                    round.values.insert(format!("{name} of the idle server"), *by_itself);
                }
            }
            Work::HandOver { .. } => {
                round.values.extend(sample.values);
                round.values.extend(hand_overs(sample.turns));
            }
            _ => round.values.extend(sample.values),
        }
        Ok(round)
    }

    fn counted(&self, server: &str, table: &str, before: &Counters) -> Result<Counters, Failure> {
        let after = self.servers.counters(server, table)?;
        Ok(after.into_iter().map(|(name, value)| (name, value - before.get(name).unwrap_or(&0.0))).collect())
    }

    /// Runs workers at the same time. Before they begin, the server is left alone for as long as `idle`.
    fn measure(&self, specs: &[Spec], server: &str, idle: Duration) -> Result<Measured, Failure> {
        let mut workers = Vec::new();
        for spec in specs {
            workers.push(Worker::start(&self.program(spec)?, spec)?);
        }
        workers.iter().try_for_each(Worker::ready)?;
        let table = &specs[0].table;
        let counted = self.servers.counters(server, table)?;
        std::thread::sleep(idle);
        let idle = self.counted(server, table, &counted)?;
        let counted = self.servers.counters(server, table)?;
        let before = self.servers.cpu(server);
        workers.iter_mut().try_for_each(Worker::go)?;
        let samples = workers.iter().map(Worker::sample).collect::<Result<Vec<_>, _>>()?;
        let server_cpu = self.servers.cpu(server).since(&before);
        workers.into_iter().try_for_each(Worker::end)?;
        let sample = samples.into_iter().reduce(Sample::beside).ok_or("no worker")?;
        Ok(Measured { sample, server_cpu, before: counted, idle })
    }

    fn program(&self, spec: &Spec) -> Result<Vec<String>, Failure> {
        if spec.subject == "django" {
            return Ok(self.options.django.clone());
        }
        let this = std::env::current_exe()?.display().to_string();
        Ok(vec![this, "worker".into()])
    }

    /// Leases on several databases at once, and then the same rows updated by one statement.
    fn leases(&self, together: &[&mut Planned]) -> Vec<Result<Round, Failure>> {
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = together
                .iter()
                .map(|planned| {
                    let (cell, work) = (&planned.cell, planned.work);
                    scope.spawn(move || self.leases_on(&cell.server, work))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        all.into_iter().map(|done| done.unwrap_or_else(|_| Err("panicked".into()))).collect()
    }

    fn leases_on(&self, server: &str, work: Work) -> Result<Round, Failure> {
        let Work::Leases { ttl_millis, millis, .. } = work else { return Err("no leases".into()) };
        let table = format!("bench_leases_{server}");
        let spec = self.spec(server, "db-mutex", &table, 1, work)?;
        let mut worker = Worker::start(&self.program(&spec)?, &spec)?;
        worker.ready()?;
        let counted = self.servers.counters(server, &table)?;
        let cpu = self.servers.cpu(server);
        worker.go()?;
        let sample = worker.sample()?;
        let server_cpu = self.servers.cpu(server).since(&cpu);
        let counted = self.counted(server, &table, &counted)?;
        worker.end()?;
        // A lease is renewed when a third of it is over.
        let intervals = millis as f64 / (ttl_millis as f64 / 3.0);
        let update = rows::update_all(&self.servers, server, &table)?;
        self.servers.clear(server, &table)?;
        let mut round = round(&sample, server_cpu);
        round.values.extend(sample.values);
        let renewing = if server == "sqlite" { sample.cpu } else { server_cpu };
        for (name, value) in [
            ("client CPU, ms per second", sample.cpu * 1000.0 / sample.seconds),
            ("server CPU, ms per second", server_cpu * 1000.0 / sample.seconds),
            ("CPU of the database for one renewal of all, ms", renewing * 1000.0 / intervals),
            ("CPU of one bare UPDATE of all, ms", update.cpu * 1000.0),
            ("time of one bare UPDATE of all, ms", update.seconds * 1000.0),
        ] {
            round.values.insert(name.into(), value);
        }
        if let Some(statements) = counted.get("statements") {
            round.values.insert("statements per interval".into(), statements / intervals);
        }
        if let Some(millis) = counted.get("ms of statements") {
            round.values.insert("time of the statements for one renewal of all, ms".into(), millis / intervals);
        }
        Ok(round)
    }
}

fn round(sample: &Sample, server_cpu: f64) -> Round {
    let count = sample.count.max(1) as f64;
    let all: u64 = sample.latencies.values().sum();
    let quantile = |part: f64| {
        let mut seen = 0;
        let wanted = (all as f64 * part).ceil() as u64;
        let found = sample.latencies.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        found.map_or(0.0, |(nanoseconds, _)| *nanoseconds as f64 / 1000.0)
    };
    Round {
        per_second: sample.count as f64 / sample.seconds,
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        client_cpu: sample.cpu * 1e6 / count,
        server_cpu: server_cpu * 1e6 / count,
        values: BTreeMap::new(),
    }
}

/// How long after a release the next in line had the lock, in the middle of all turns, in microseconds.
fn hand_overs(mut turns: Vec<[u64; 3]>) -> BTreeMap<String, f64> {
    turns.sort_unstable();
    let (mut from_the_call, mut from_its_end) = (Vec::new(), Vec::new());
    for pair in turns.windows(2) {
        let ([_, release_begun, released], [granted, ..]) = (pair[0], pair[1]);
        from_the_call.push(granted as f64 - release_begun as f64);
        from_its_end.push(granted as f64 - released as f64);
    }
    let middle = |values: Vec<f64>| crate::results::Spread::of(values).map_or(f64::NAN, |spread| spread.median);
    BTreeMap::from([
        ("µs from the call of release".into(), middle(from_the_call)),
        ("µs from the end of release".into(), middle(from_its_end)),
    ])
}
