//! What has to be known to read the numbers.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use crate::options::Options;
use crate::results::{Results, Spread};
use crate::spec::Failure;

pub(super) fn machine(options: &Options) -> Result<Vec<(String, String)>, Failure> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("–", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism()?.get();
    let commit = said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    let mut about = vec![
        ("command line".into(), options.line.clone()),
        ("rounds, seconds of each measurement".into(), format!("{}, {}", options.rounds, options.seconds)),
        ("db-mutex".into(), commit),
        ("compiler".into(), said("rustc", &["--version"])),
        ("date".into(), said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("processor".into(), format!("{}, {cores} cores", field(&read("/proc/cpuinfo"), "model name"))),
        ("memory".into(), field(&read("/proc/meminfo"), "MemTotal")),
        ("kernel".into(), read("/proc/sys/kernel/osrelease").trim().into()),
        ("one write of 4 KiB until it is on the disk".into(), write(options)?),
        ("load average at the beginning".into(), load()),
    ];
    for line in include_str!("../../Cargo.lock").split("[[package]]") {
        let value = |name: &str| {
            let line = line.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_matches(|c: char| c == ' ' || c == '=' || c == '"').to_owned())
        };
        let peers = [
            "tokio-postgres",
            "mysql_async",
            "rusqlite",
            "sqlx",
            "rslock",
            "etcd-client",
            "distributed-lock-postgres",
            "distributed-lock-mysql",
            "redis",
            "tokio",
        ];
        if let (Some(name), Some(version)) = (value("name"), value("version"))
            && peers.contains(&&*name)
        {
            about.push((name, version));
        }
    }
    if let Some(python) = options.django.first() {
        let script = "import django, psycopg, sys; from importlib.metadata import version; \
                      print(version('django-db-mutex'), 'on Django', django.__version__, 'and psycopg', psycopg.__version__, \
                      'and Python', sys.version.split()[0])";
        about.push(("django-db-mutex".into(), said(python, &["-c", script])));
    }
    Ok(about)
}

pub(super) fn end(results: &mut Results) {
    results.about.push(("load average at the end".into(), load()));
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "–".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// On the disk that the servers use.
fn write(options: &Options) -> Result<String, Failure> {
    let path = options.work.join("write");
    let mut file = fs::File::create(&path)?;
    let mut taken = Vec::new();
    for _ in 0..200 {
        file.write_all(&[1; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        taken.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(path)?;
    let Some(spread) = Spread::of(taken) else { return Ok("–".into()) };
    Ok(format!("{:.0} µs ({:.0}–{:.0})", spread.median, spread.least, spread.greatest))
}
