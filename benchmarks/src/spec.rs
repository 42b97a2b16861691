//! What the runner and its workers say to each other, as lines of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a worker is to do. It comes through standard input, because the arguments of a process are visible to all users and the
/// URL has a password.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) subject: String,
    pub(crate) url: String,
    /// Each cell has a table of its own, so that none meets the rows of another.
    pub(crate) table: String,
    /// Which of several workers at once this is.
    pub(crate) process: usize,
    pub(crate) tasks: usize,
    pub(crate) work: Work,
    /// The statements that the store was seen to send, for the subjects that send them bare.
    pub(crate) statements: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ids {
    /// Each pair has an id of its own: a row is inserted, and kept.
    Fresh,
    /// Each task has one id.
    Reused,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Pairs of acquire and release without contention, as fast as the tasks can.
    Load { ids: Ids, millis: u64 },
    /// The tasks (or processes) take turns with one lock.
    HandOver { turns: usize },
    /// Attempts at a lock that is held.
    Refused { millis: u64 },
    /// Many locks, held and renewed.
    Leases { count: usize, ttl_millis: u64, millis: u64 },
    /// Many waiters beside a lock that has to be renewed.
    Waiters { count: usize, one_id: bool, millis: u64 },
    /// One pair, to see which statements are sent.
    Statements,
}

/// What a worker found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Pairs, attempts or turns.
    pub(crate) count: u64,
    /// Seconds of CPU that this process used meanwhile.
    pub(crate) cpu: f64,
    /// How many took how many nanoseconds, to three digits.
    #[serde(default)]
    pub(crate) latencies: BTreeMap<u64, u64>,
    /// Granted, release begun, released: microseconds since 1970, for hand-overs.
    #[serde(default)]
    pub(crate) turns: Vec<[u64; 3]>,
    #[serde(default)]
    pub(crate) values: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, String>,
}

impl Sample {
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        *self.latencies.entry(three_digits(nanoseconds)).or_default() += 1;
        self.count += 1;
    }

    /// What several workers did at the same time.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        self.seconds = self.seconds.max(other.seconds);
        self.count += other.count;
        self.cpu += other.cpu;
        for (value, count) in other.latencies {
            *self.latencies.entry(value).or_default() += count;
        }
        self.turns.extend(other.turns);
        self.values.extend(other.values);
        self.texts.extend(other.texts);
        self
    }
}

fn three_digits(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 1000 {
        unit *= 10;
    }
    value / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        assert_eq!([0, 999, 1000, 12_345, 1_999_999].map(three_digits), [0, 999, 1000, 12_300, 1_990_000]);
    }
}
