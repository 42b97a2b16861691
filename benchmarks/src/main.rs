//! Measures db-mutex beside what a user might take instead. `scripts/bench` starts the servers and runs it; see README.md.

mod cpu;
mod options;
mod report;
mod results;
mod runner;
mod spec;
mod subjects;
mod work;
mod worker;

use std::path::Path;

fn main() -> Result<(), spec::Failure> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("run") => runner::run(options::Options::parse(arguments)?),
        Some("worker") => worker::run(),
        Some("report") => report::again(Path::new(&arguments.next().ok_or("report needs a folder")?)),
        _ => Err("use scripts/bench".into()),
    }
}
