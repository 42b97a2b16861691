//! A process that measures one subject once. Each measurement has a process of its own, so that none inherits another's threads,
//! connections or memory, and so that its CPU can be counted.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use crate::cpu::Used;
use crate::spec::{Failure, Sample, Spec};
use crate::subjects;

/// Says that everything is ready, and waits until all workers may begin.
pub(crate) struct Start;

impl Start {
    pub(crate) fn wait(self) -> Result<Running, Failure> {
        say("ready")?;
        let mut line = String::new();
        stdin().lock().read_line(&mut line)?;
        if line.trim() != "go" {
            return Err("the runner has gone".into());
        }
        Ok(Running { begun: Instant::now(), cpu: Used::by_this_process() })
    }
}

/// What has to be known to say how long it took.
pub(crate) struct Running {
    pub(crate) begun: Instant,
    cpu: Used,
}

impl Running {
    pub(crate) fn end(self, sample: &mut Sample) -> Result<(), Failure> {
        sample.seconds = self.begun.elapsed().as_secs_f64();
        sample.cpu = Used::by_this_process().since(&self.cpu);
        Ok(())
    }
}

/// Reads what is to be done, does it, and prints what was found, or why nothing was.
pub(crate) fn run() -> Result<(), Failure> {
    measure().or_else(|error| say(&format!("error {error}")))
}

fn measure() -> Result<(), Failure> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let spec: Spec = serde_json::from_str(&line)?;
    // As many threads as there are processors: what #[tokio::main] does.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let sample = runtime.block_on(async move { tokio::spawn(subjects::work(spec)).await? })?;
    say(&serde_json::to_string(&sample)?)?;
    // The server's CPU is read while the connections are open: a process of PostgreSQL that has ended cannot be asked.
    stdin().lock().read_line(&mut line)?;
    // Locks that are still held stay held, and connections end with the process: the runner looks at the rows.
    std::process::exit(0);
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
