//! What db-mutex means to reach, beside what was measured.

use crate::results::{Cell, Results, Round, Spread};

pub(super) struct Target {
    pub(super) what: String,
    pub(super) target: String,
    /// What was measured, if it was.
    pub(super) measured: Option<String>,
    /// `None` where there is nothing to reach, or nothing was measured.
    pub(super) met: Option<bool>,
}

/// A ratio of two cells, round by round: both were measured within the same minute.
fn ratio(one: Option<&Cell>, two: Option<&Cell>, what: impl Fn(&Round) -> f64) -> Option<Spread> {
    let (one, two) = (one?, two?);
    Spread::of(one.rounds.iter().zip(&two.rounds).map(|(one, two)| what(one) / what(two)))
}

fn row(what: &str, target: String, ratio: Option<Spread>, met: impl Fn(f64) -> bool) -> Target {
    let measured = ratio.map(|ratio| format!("{:.2} × ({:.2}–{:.2})", ratio.median, ratio.least, ratio.greatest));
    // As it is printed: what is shown as 1.15 is not more than 1.15.
    let met = ratio.map(|ratio| met((ratio.median * 100.0).round() / 100.0));
    Target { what: what.into(), target, measured, met }
}

pub(super) fn targets(results: &Results) -> Vec<Target> {
    let load = |server: &str, subject: &str, tasks| results.get("fresh", server, subject, tasks, 1);
    let ours = |server: &str, tasks| load(server, "db-mutex", tasks);
    let at_least = |what: &str, by: f64, of: &str, ratio| {
        row(what, format!("≥ {by} × {of}"), ratio, move |measured| measured >= by)
    };
    let at_most = |what: &str, by: f64, of: &str, ratio| {
        row(what, format!("≤ {by} × {of}"), ratio, move |measured| measured <= by)
    };
    let pairs = |round: &Round| round.per_second;
    let p50 = |round: &Round| round.p50;

    let mut all = vec![
        at_most(
            "1 task, PostgreSQL: p50 of a pair",
            1.15,
            "the same statements sent bare",
            ratio(ours("postgres", 1), load("postgres", "bare", 1), p50),
        ),
        at_least(
            "32 tasks, PostgreSQL, durable: pairs/s",
            2.5,
            "sqlx PgAdvisoryLock",
            ratio(ours("postgres", 32), load("postgres", "advisory", 32), pairs),
        ),
        at_least(
            "32 tasks, PostgreSQL, durable: pairs/s",
            4.0,
            "distributed-lock",
            ratio(ours("postgres", 32), load("postgres", "distributed", 32), pairs),
        ),
        at_least(
            "1024 tasks, PostgreSQL, durable: pairs/s",
            1.2,
            "rslock on a Redis that stores nothing",
            ratio(ours("postgres", 1024), load("redis-memory", "rslock", 1024), pairs),
        ),
        at_least(
            "1 task, SQLite: pairs/s",
            1.5,
            "rslock on a Redis that stores nothing",
            ratio(ours("sqlite", 1), load("redis-memory", "rslock", 1), pairs),
        ),
        at_least(
            "32 tasks, SQLite: pairs/s",
            2.0,
            "rslock on a Redis that stores nothing",
            ratio(ours("sqlite", 32), load("redis-memory", "rslock", 32), pairs),
        ),
    ];
    for (server, name) in [("mysql", "MySQL"), ("mariadb", "MariaDB")] {
        all.push(at_least(
            &format!("32 tasks, {name}, durable: pairs/s"),
            1.2,
            "distributed-lock's GET_LOCK, which keeps nothing",
            ratio(ours(server, 32), load(server, "distributed", 32), pairs),
        ));
    }
    all.extend(results.of_kind("refused").map(refused));
    all.extend(hand_overs(results));
    for cell in results.of_kind("leases") {
        leases(cell, &mut all);
    }
    for cell in results.cells.iter().filter(|cell| cell.kind.starts_with("waiters")) {
        let least = cell.value("least part of the TTL left");
        all.push(Target {
            what: format!("10,000 {}, {}", cell.kind, super::server(&cell.server)),
            target: "no other lock's renewal is late: at least 0.5 of its TTL is left at any time".into(),
            measured: least.map(|least| format!("{least:.2}")),
            met: least.map(|least| least >= 0.5),
        });
    }
    for cell in results.of_kind("million") {
        let (server, tasks) = (&cell.server, cell.tasks);
        let what = format!(
            "1,000,000 rows, {}, {tasks} {}: p50 of a pair",
            super::server(server),
            if tasks == 1 { "task" } else { "tasks" }
        );
        let of = "that with an empty table";
        all.push(at_most(&what, 1.2, of, ratio(Some(cell), ours(server, tasks), p50)));
    }
    let command = |server: &str| results.commands.iter().find(|cell| cell.server == server);
    all.push(at_most(
        "`db-mutex run x -- true` on SQLite: p50",
        3.0,
        "`flock f true`",
        ratio(command("sqlite"), command("flock"), p50),
    ));
    for server in crate::report::OURS {
        let Some(cell) = results.get("fresh", server, "db-mutex", 128, 8) else { continue };
        let middle = |what: fn(&Round) -> f64| cell.spread(what).map_or(f64::NAN, |spread| spread.median);
        all.push(Target {
            what: format!("1024 tasks in 8 processes, {}", super::server(server)),
            target: "state the CPU for a pair".into(),
            measured: Some(format!(
                "{} pairs/s; client {:.0} µs, server {:.0} µs",
                super::short(middle(|round| round.per_second)),
                middle(|round| round.client_cpu),
                middle(|round| round.server_cpu)
            )),
            met: None,
        });
    }
    all
}

/// Less than a byte for an attempt, because the servers write a little by themselves, at one time more than at another.
fn refused(cell: &Cell) -> Target {
    let log = cell.value("log bytes per attempt");
    let fsyncs = cell.value("fsyncs per attempt");
    Target {
        what: format!("a refused attempt, {}", super::server(&cell.server)),
        target: "no WAL, no redo, no fsync".into(),
        measured: log.map(|log| {
            let fsyncs = fsyncs.map(|fsyncs| format!(", {fsyncs:.4} fsyncs")).unwrap_or_default();
            format!("{log:.2} bytes{fsyncs} per attempt, less those of the idle server before")
        }),
        met: log.map(|log| log < 1.0 && fsyncs.unwrap_or(0.0) < 0.01),
    }
}

/// The shortest pause between two questions of the queue is 20 ms.
const POLL: f64 = 20_000.0;

fn hand_overs(results: &Results) -> Vec<Target> {
    let mut all = Vec::new();
    for server in crate::report::OURS {
        let cell = results.get("hand-over", server, "db-mutex", 2, 1);
        let taken = cell.and_then(|cell| cell.value("µs from the end of release"));
        all.push(Target {
            what: format!("hand-over in one process, {}", super::server(server)),
            target: "without a poll (the shortest pause is 20 ms)".into(),
            measured: taken.map(|taken| format!("{} after the release", super::time(taken))),
            met: taken.map(|taken| taken < POLL),
        });
    }
    let across = results.get("hand-over", "postgres", "db-mutex", 1, 2);
    // Half of a pair that no one waits for: the round trip that acquires has to reach the disk, and no other can grant the lock.
    let pair = across.and_then(|cell| cell.value("µs of a pair alone after such pauses"));
    let across = across.and_then(|cell| cell.value("µs from the end of release"));
    let trips = across.zip(pair).map(|(across, pair)| (across, across / (pair / 2.0)));
    all.push(Target {
        what: "hand-over across processes, PostgreSQL".into(),
        target: "≤ 2 round trips after the release (a round trip: half a pair after the same pause)".into(),
        measured: trips.map(|(across, trips)| format!("{}, {trips:.1} round trips", super::time(across))),
        met: trips.map(|(_, trips)| trips <= 2.0),
    });
    all
}

fn leases(cell: &Cell, all: &mut Vec<Target>) {
    let server = super::server(&cell.server);
    if let Some(statements) = cell.value("statements per interval") {
        all.push(Target {
            what: format!("10,000 held locks, {server}: statements per interval"),
            target: "O(1): at most one for 100 locks".into(),
            measured: Some(format!("{statements:.0}")),
            met: Some(statements <= 100.0),
        });
    }
    let names = ["CPU of the database for one renewal of all, ms", "CPU of one bare UPDATE of all, ms"];
    let [renewal, update] = names.map(|name| cell.value(name));
    let both = renewal.zip(update);
    all.push(Target {
        what: format!("10,000 held locks, {server}: CPU of the database to renew all"),
        target: "≤ 2 × one bare UPDATE of the same rows".into(),
        measured: both.map(|(renewal, update)| format!("{:.2} × ({renewal:.0} ms, {update:.0} ms)", renewal / update)),
        met: both.map(|(renewal, update)| renewal <= 2.0 * update),
    });
}
