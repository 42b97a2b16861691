use std::fmt::Write;

use super::targets::{Target, targets};
use super::{OURS, SUBJECTS, label, server, short, time};
use crate::results::{Cell, Results, Round, Spread};

pub(super) fn page(results: &Results, charts: &str) -> String {
    let mut page = String::from(
        "# Results\n\nWritten by `scripts/bench`; do not edit. What is measured, and how, is in [README.md](README.md). All numbers are \
         medians of the rounds, with the least and the greatest in parentheses; ratios are formed within each round. Compare \
         only numbers of one run.\n\n",
    );
    page += charts;
    let _ = writeln!(
        page,
        "## Targets\n\nWhy some are missed, and what was tried: [docs/performance.md](../docs/performance.md).\n\n| what | target | measured | |\n|---|---|---|---|"
    );
    for Target { what, target, measured, met } in targets(results) {
        let met = met.map_or("", |met| if met { "met" } else { "**missed**" });
        let _ = writeln!(page, "| {what} | {target} | {} | {met} |", measured.as_deref().unwrap_or("not measured"));
    }
    about(results, &mut page);
    let tasks = tasks_of(results, "fresh");
    let names = counted(&tasks);
    section(&mut page, "Pairs of acquire and release per second", "One process, a fresh id for each pair.", &names);
    for (place, subject) in SUBJECTS {
        let cells = tasks.iter().map(|tasks| results.get("fresh", place, subject, *tasks, 1));
        line(
            &mut page,
            &label(place, subject),
            cells.map(|cell| cell.map(|cell| spread(cell, |r| r.per_second, short))),
        );
    }
    section(&mut page, "Time of a pair", "One process, fresh ids; p50 / p99 / p99.9.", &names);
    for (place, subject) in SUBJECTS {
        let cells = tasks.iter().map(|tasks| results.get("fresh", place, subject, *tasks, 1));
        line(&mut page, &label(place, subject), cells.map(|cell| cell.map(quantiles)));
    }
    parts(results, &mut page);
    section(&mut page, "CPU of a pair", "One process, fresh ids; microseconds of the client + of the server.", &names);
    for (place, subject) in SUBJECTS {
        let cells = tasks.iter().map(|tasks| results.get("fresh", place, subject, *tasks, 1));
        line(&mut page, &label(place, subject), cells.map(|cell| cell.map(cpu)));
    }
    let tasks = tasks_of(results, "reused");
    let names = counted(&tasks);
    section(&mut page, "Reused ids", "One process, one id for each task: pairs per second; p50 / p99 / p99.9.", &names);
    for place in OURS {
        let cells = tasks.iter().map(|tasks| results.get("reused", place, "db-mutex", *tasks, 1));
        let text = |cell: &Cell| format!("{}; {}", spread(cell, |r| r.per_second, short), quantiles(cell));
        line(&mut page, &label(place, "db-mutex"), cells.map(|cell| cell.map(text)));
    }
    processes(results, &mut page);
    rows(
        results,
        &mut page,
        "million",
        "A table with a million rows",
        "Pairs per second; p50 / p99 / p99.9.",
        |cell| format!("{}; {}", spread(cell, |r| r.per_second, short), quantiles(cell)),
    );
    rows(results, &mut page, "refused", "A refused attempt", "Attempts per second; p50 / p99 / p99.9; CPU.", |cell| {
        format!("{}; {}; {}", spread(cell, |r| r.per_second, short), quantiles(cell), cpu(cell))
    });
    values(results, &mut page, "hand-over", "Hand-over", "One lock, and two who take turns.");
    values(results, &mut page, "leases", "10,000 leases", "Held and renewed by one process, on all databases at once.");
    values(results, &mut page, "waiters, one id", "10,000 waiters for one lock", "Beside a lock with a TTL of 6 s.");
    values(
        results,
        &mut page,
        "waiters, many ids",
        "10,000 waiters for 10,000 locks",
        "Beside a lock with a TTL of 6 s.",
    );
    command(results, &mut page);
    failures(results, &mut page);
    page
}

/// Left out if there are no columns.
fn section(page: &mut String, title: &str, text: &str, columns: &[String]) {
    if columns.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "\n## {title}\n\n{text}\n\n| | {} |\n|---{}|",
        columns.join(" | "),
        "|---".repeat(columns.len())
    );
}

/// Left out if nothing was measured.
fn line(page: &mut String, name: &str, cells: impl Iterator<Item = Option<String>>) {
    let cells: Vec<_> = cells.collect();
    if cells.iter().any(Option::is_some) {
        let cells: Vec<_> = cells.into_iter().map(Option::unwrap_or_default).collect();
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    }
}

fn tasks_of(results: &Results, kind: &str) -> Vec<usize> {
    let mut tasks: Vec<_> = results.of_kind(kind).filter(|cell| cell.processes == 1).map(|cell| cell.tasks).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

fn counted(tasks: &[usize]) -> Vec<String> {
    tasks.iter().map(|tasks| if *tasks == 1 { "1 task".into() } else { format!("{tasks} tasks") }).collect()
}

fn spread(cell: &Cell, what: impl Fn(&Round) -> f64, text: impl Fn(f64) -> String) -> String {
    cell.spread(what).map_or_else(String::new, |Spread { median, least, greatest }| {
        format!("{} ({}–{})", text(median), text(least), text(greatest))
    })
}

fn quantiles(cell: &Cell) -> String {
    let middle = |what: fn(&Round) -> f64| cell.spread(what).map_or_else(String::new, |spread| time(spread.median));
    [middle(|round| round.p50), middle(|round| round.p99), middle(|round| round.p999)].join(" / ")
}

fn cpu(cell: &Cell) -> String {
    let middle = |what: fn(&Round) -> f64| cell.spread(what).map_or(f64::NAN, |spread| spread.median);
    format!("{:.0} + {:.0} µs", middle(|round| round.client_cpu), middle(|round| round.server_cpu))
}

fn about(results: &Results, page: &mut String) {
    let _ = writeln!(page, "\n## What was measured, and where\n\n| | |\n|---|---|");
    for (name, value) in &results.about {
        let _ = writeln!(page, "| {name} | {} |", value.replace('|', "\\|"));
    }
    let _ = writeln!(page, "\nAs the servers say it:\n\n| server | setting | value |\n|---|---|---|");
    for [place, setting, value] in &results.settings {
        let _ = writeln!(page, "| {} | `{setting}` | {value} |", server(place));
    }
}

/// The differences between the medians of what does ever more of a pair.
fn parts(results: &Results, page: &mut String) {
    let p50 = |kind, place, subject| {
        let spread = results.get(kind, place, subject, 1, 1)?.spread(|round| round.p50)?;
        Some(spread.median)
    };
    let mut lines = Vec::new();
    for place in OURS {
        let (bare, ours) = (p50("fresh", place, "bare"), p50("fresh", place, "db-mutex"));
        let (trip, uncommitted) = (p50("parts", place, "trip"), p50("parts", place, "uncommitted"));
        let (Some(bare), Some(ours), Some(uncommitted)) = (bare, ours, uncommitted) else { continue };
        let statements = uncommitted - trip.unwrap_or(0.0);
        lines.push((place, [trip, Some(statements), Some(bare - uncommitted), Some(ours - bare), Some(ours)]));
    }
    if lines.is_empty() {
        return;
    }
    let columns = ["two round trips", "the statements", "their commits, with the disk", "db-mutex itself", "a pair"];
    section(
        page,
        "Where the time of a pair goes",
        "One task, fresh ids: differences of the medians (p50). Two statements that read nothing; the statements of the store in a \
         transaction that does not end; the same, each committed; db-mutex. Of SQLite, db-mutex itself is mostly the two ways to the \
         thread of the connection and back.",
        &columns.map(String::from),
    );
    for (place, parts) in lines {
        line(page, server(place), parts.into_iter().map(|part| part.map(time)));
    }
}

fn processes(results: &Results, page: &mut String) {
    let mut shapes: Vec<_> =
        results.of_kind("fresh").filter(|cell| cell.processes > 1).map(|cell| (cell.processes, cell.tasks)).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let names: Vec<_> = shapes.iter().map(|(processes, tasks)| format!("{processes} × {tasks}")).collect();
    let text = "Processes × tasks of each, fresh ids: pairs per second; CPU of the client + of the server.";
    section(page, "Several processes", text, &names);
    for (place, subject) in SUBJECTS {
        let cells = shapes.iter().map(|(processes, tasks)| results.get("fresh", place, subject, *tasks, *processes));
        let text = |cell: &Cell| format!("{}; {}", spread(cell, |r| r.per_second, short), cpu(cell));
        line(page, &label(place, subject), cells.map(|cell| cell.map(text)));
    }
}

fn rows(results: &Results, page: &mut String, kind: &str, title: &str, text: &str, show: impl Fn(&Cell) -> String) {
    let tasks = tasks_of(results, kind);
    let names = counted(&tasks);
    section(page, title, text, &names);
    for (place, subject) in SUBJECTS {
        let cells = tasks.iter().map(|tasks| results.get(kind, place, subject, *tasks, 1));
        line(page, &label(place, subject), cells.map(|cell| cell.map(&show)));
    }
}

/// A line for each cell, a column for each value.
fn values(results: &Results, page: &mut String, kind: &str, title: &str, text: &str) {
    let mut names: Vec<_> = results
        .of_kind(kind)
        .flat_map(|cell| cell.rounds.iter())
        .flat_map(|round| round.values.keys().cloned())
        .collect();
    names.sort();
    names.dedup();
    section(page, title, text, &names);
    for cell in results.of_kind(kind).filter(|cell| !cell.rounds.is_empty()) {
        let processes = match cell.processes {
            1 => String::new(),
            processes => format!(", {processes} processes"),
        };
        let name = label(&cell.server, &cell.subject) + &processes;
        line(page, &name, names.iter().map(|name| cell.value(name).map(number)));
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn command(results: &Results, page: &mut String) {
    if results.commands.is_empty() {
        return;
    }
    section(page, "The command", "From the start of the process to its end.", &["p50".into(), "p99".into()]);
    for cell in &results.commands {
        let name = match cell.server.as_str() {
            "nothing" => "`true`".into(),
            "flock" => "`flock f true`".into(),
            place => format!("`db-mutex run x -- true`, {}", server(place)),
        };
        let p99 = cell.spread(|round| round.p99).map(|spread| time(spread.median));
        line(page, &name, [Some(spread(cell, |round| round.p50, time)), p99].into_iter());
    }
    for (name, value) in &results.numbers {
        let value = if name.starts_with("bytes") { format!("{:.1} MB", value / 1e6) } else { format!("{value:.0}") };
        let _ = writeln!(page, "\n{name}: {value}");
    }
}

fn failures(results: &Results, page: &mut String) {
    let failed: Vec<_> = results.cells.iter().filter(|cell| !cell.failures.is_empty()).collect();
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n## What failed\n");
    for cell in failed {
        let name = label(&cell.server, &cell.subject);
        let (kind, tasks, processes) = (&cell.kind, cell.tasks, cell.processes);
        let _ = writeln!(page, "- {kind}, {name}, {processes} × {tasks}: {}", cell.failures.join("; "));
    }
}
