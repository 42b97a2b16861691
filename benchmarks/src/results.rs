//! What was measured, as it is kept in `results.json`; the report is made from that alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The machine, the versions, the command line: what and how much.
    pub(crate) about: Vec<(String, String)>,
    /// Server, setting and value, as the servers say it.
    pub(crate) settings: Vec<[String; 3]>,
    pub(crate) cells: Vec<Cell>,
    /// The start of the command, of flock(1), and of nothing but `true`.
    pub(crate) commands: Vec<Cell>,
    /// Single numbers: sizes, times to build.
    pub(crate) numbers: BTreeMap<String, f64>,
}

/// One thing that is measured in each round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) kind: String,
    pub(crate) server: String,
    pub(crate) subject: String,
    /// Of each process.
    pub(crate) tasks: usize,
    pub(crate) processes: usize,
    pub(crate) rounds: Vec<Round>,
    pub(crate) failures: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// Quantiles in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Microseconds of CPU a pair or attempt.
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    pub(crate) values: BTreeMap<String, f64>,
}

/// A median over the rounds, with the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, greatest })
    }
}

impl Cell {
    pub(crate) fn spread(&self, what: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(what))
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        self.spread(|round| round.per_second).map(|spread| spread.median)
    }

    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        Spread::of(self.rounds.iter().filter_map(|round| round.values.get(name).copied())).map(|spread| spread.median)
    }
}

impl Results {
    pub(crate) fn get(&self, kind: &str, server: &str, subject: &str, tasks: usize, processes: usize) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            (&*cell.kind, &*cell.server, &*cell.subject, cell.tasks, cell.processes)
                == (kind, server, subject, tasks, processes)
                && !cell.rounds.is_empty()
        })
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, greatest: 3.0 }));
        assert_eq!(spread(&[1.0, 2.0]), Some(Spread { median: 1.5, least: 1.0, greatest: 2.0 }));
        assert_eq!(spread(&[]), None);
    }
}
