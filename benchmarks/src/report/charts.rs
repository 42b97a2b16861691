use super::svg::{Bar, Line, bars, lines};
use super::{SUBJECTS, label, short};
use crate::results::Results;

const OURS: &str = "#0969da";
const FLOOR: &str = "#9ec5f4";
const PEER: &str = "#afb8c1";

fn colour(subject: &str) -> &'static str {
    match subject {
        "db-mutex" => OURS,
        "bare" | "update" => FLOOR,
        _ => PEER,
    }
}

/// The charts that the results suffice for: the names of their files, and what is in them.
pub(super) fn charts(results: &Results) -> Vec<(&'static str, &'static str, String)> {
    let legend = [("db-mutex", OURS), ("bare statements", FLOOR), ("peers", PEER)];
    let mut charts = Vec::new();

    let at_32: Vec<_> = sorted(results, 32, |a, b| b.total_cmp(&a), |round| round.per_second, |value| short(value));
    if !at_32.is_empty() {
        let about =
            "32 tasks in one process, each with ids of its own, fresh for each pair; median and range of the rounds";
        let chart = bars("Pairs of acquire and release per second, 32 tasks", about, &legend, &at_32);
        charts.push(("pairs-32.svg", "Pairs per second with 32 tasks", chart));
    }
    let alone: Vec<_> = sorted(results, 1, |a, b| a.total_cmp(&b), |round| round.p50, super::time);
    if !alone.is_empty() {
        let about = "one task, fresh ids; the median pair, as the median and range of the rounds; shorter is better";
        charts.push(("pair-1.svg", "The time of a pair", bars("The time of one pair, alone", about, &legend, &alone)));
    }

    let all: Vec<_> = LINES
        .iter()
        .filter_map(|(server, subject, colour)| {
            let points: Vec<_> = results
                .of_kind("fresh")
                .filter(|cell| (&*cell.server, &*cell.subject, cell.processes) == (*server, *subject, 1))
                .filter_map(|cell| Some((cell.tasks as f64, cell.per_second()?)))
                .collect();
            let dashed = *subject != "db-mutex";
            (!points.is_empty()).then(|| Line { label: label(server, subject), colour, dashed, points })
        })
        .collect();
    if all.iter().any(|line| line.points.len() > 1) {
        let about = "one process, fresh ids; both axes are logarithmic; db-mutex solid, others dashed";
        let chart = lines("Pairs of acquire and release per second", about, "tasks in one process", &all);
        charts.push(("pairs.svg", "Pairs per second by tasks", chart));
    }

    let mut cpu: Vec<_> = SUBJECTS
        .iter()
        .filter_map(|(server, subject)| {
            let cell = results.get("fresh", server, subject, 32, 1)?;
            let client = cell.spread(|round| round.client_cpu)?.median;
            let serving = cell.spread(|round| round.server_cpu)?.median;
            Some(Bar {
                label: label(server, subject),
                parts: vec![(client, OURS), (serving, PEER)],
                spread: None,
                text: format!("{:.0} µs", client + serving),
            })
        })
        .collect();
    cpu.sort_by(|one, two| (one.parts[0].0 + one.parts[1].0).total_cmp(&(two.parts[0].0 + two.parts[1].0)));
    if !cpu.is_empty() {
        let legend = [("client", OURS), ("server", PEER)];
        let about = "32 tasks in one process, fresh ids; time of the processors for each pair; shorter is better";
        charts.push(("cpu-32.svg", "CPU for a pair", bars("CPU for one pair, 32 tasks", about, &legend, &cpu)));
    }
    charts
}

const LINES: [(&str, &str, &str); 10] = [
    ("postgres", "db-mutex", "#0969da"),
    ("sqlite", "db-mutex", "#1a7f37"),
    ("mariadb", "db-mutex", "#8250df"),
    ("mysql", "db-mutex", "#bf3989"),
    ("postgres", "advisory", "#57606a"),
    ("postgres", "distributed", "#8c959f"),
    ("mariadb", "distributed", "#b08800"),
    ("redis-memory", "rslock", "#cf222e"),
    ("redis", "rslock", "#e16f24"),
    ("etcd-alone", "etcd", "#0f766e"),
];

fn sorted(
    results: &Results,
    tasks: usize,
    order: impl Fn(f64, f64) -> std::cmp::Ordering,
    what: impl Fn(&crate::results::Round) -> f64,
    text: impl Fn(f64) -> String,
) -> Vec<Bar> {
    let mut bars: Vec<_> = SUBJECTS
        .iter()
        .filter_map(|(server, subject)| {
            let spread = results.get("fresh", server, subject, tasks, 1)?.spread(&what)?;
            Some((
                spread.median,
                Bar {
                    label: label(server, subject),
                    parts: vec![(spread.median, colour(subject))],
                    spread: Some((spread.least, spread.greatest)),
                    text: text(spread.median),
                },
            ))
        })
        .collect();
    bars.sort_by(|one, two| order(one.0, two.0));
    bars.into_iter().map(|bar| bar.1).collect()
}
