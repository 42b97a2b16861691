//! CPU time and memory, from /proc.

use std::collections::HashMap;
use std::fs;

use crate::spec::Failure;

/// What the threads of some processes have used so far, in nanoseconds. `/proc/PID/stat` counts in steps of 10 ms, which is too
/// coarse for a measurement of half a second.
#[derive(Debug, Default, Clone)]
pub(crate) struct Used(HashMap<u32, u64>);

impl Used {
    /// This process.
    pub(crate) fn by_this_process() -> Self {
        let mut used = Self::default();
        used.add("self");
        used
    }

    /// A process, its children and theirs.
    pub(crate) fn by_tree(root: u32) -> Self {
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) {
                parents.extend(parent(pid).map(|parent| (pid, parent)));
            }
        }
        let mut used = Self::default();
        for pid in parents.keys() {
            let mut ancestor = *pid;
            while ancestor != root {
                match parents.get(&ancestor) {
                    Some(parent) if *parent != ancestor => ancestor = *parent,
                    _ => break,
                }
            }
            if ancestor == root {
                used.add(&pid.to_string());
            }
        }
        used
    }

    fn add(&mut self, process: &str) {
        for entry in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            let nanoseconds = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
            let thread = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            self.0.extend(thread.zip(nanoseconds));
        }
    }

    /// Seconds between two moments. Threads that have ended meanwhile are not counted; those of servers and pools stay.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        let used = |(thread, now): (&u32, &u64)| now.saturating_sub(before.0.get(thread).copied().unwrap_or(0));
        self.0.iter().map(used).sum::<u64>() as f64 / 1e9
    }
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may contain spaces and parentheses.
    text[text.rfind(')')? + 2..].split(' ').nth(1)?.parse().ok()
}

/// Bytes of memory of this process.
pub(crate) fn memory() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("VmRSS has no number")?.parse()?;
    Ok(kib * 1024.0)
}
