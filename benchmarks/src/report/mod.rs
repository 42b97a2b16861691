//! `results.json`, `RESULTS.md` and the charts. The page is made from the results alone: `db-mutex-benchmarks report FOLDER` makes
//! it again.

mod charts;
mod svg;
mod tables;
mod targets;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::results::Results;
use crate::spec::Failure;

pub(crate) const OURS: [&str; 4] = ["postgres", "mariadb", "mysql", "sqlite"];

/// In the order of the tables.
const SUBJECTS: [(&str, &str); 19] = [
    ("postgres", "db-mutex"),
    ("mariadb", "db-mutex"),
    ("mysql", "db-mutex"),
    ("sqlite", "db-mutex"),
    ("postgres", "bare"),
    ("mariadb", "bare"),
    ("mysql", "bare"),
    ("sqlite", "bare"),
    ("postgres", "update"),
    ("mariadb", "update"),
    ("mysql", "update"),
    ("postgres", "advisory"),
    ("postgres", "distributed"),
    ("postgres", "django"),
    ("mariadb", "distributed"),
    ("mysql", "distributed"),
    ("redis-memory", "rslock"),
    ("redis", "rslock"),
    ("etcd-alone", "etcd"),
];

fn server(name: &str) -> &str {
    match name {
        "postgres" => "PostgreSQL",
        "mariadb" => "MariaDB",
        "mysql" => "MySQL",
        "sqlite" => "SQLite",
        "redis" => "Redis",
        "redis-memory" => "Redis without persistence",
        "etcd-alone" => "etcd",
        other => other,
    }
}

fn label(server_name: &str, subject: &str) -> String {
    let on = server(server_name);
    match subject {
        "db-mutex" => format!("db-mutex, {on}"),
        "bare" => format!("bare statements, {on}"),
        "update" => format!("one UPDATE, {on}"),
        "advisory" => "sqlx PgAdvisoryLock".into(),
        "distributed" if server_name == "postgres" => "distributed-lock, PostgreSQL".into(),
        "distributed" => format!("distributed-lock (GET_LOCK), {on}"),
        "django" => "django-db-mutex, PostgreSQL".into(),
        "rslock" if server_name == "redis" => "rslock, Redis, appendfsync always".into(),
        "rslock" => format!("rslock, {on}"),
        other => other.into(),
    }
}

/// A count with three digits.
fn short(value: f64) -> String {
    match value {
        v if v >= 99_950.0 => format!("{:.0} k", v / 1000.0),
        v if v >= 9_995.0 => format!("{:.1} k", v / 1000.0),
        v if v >= 999.5 => format!("{:.2} k", v / 1000.0),
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

/// Microseconds, with a unit.
fn time(micros: f64) -> String {
    match micros {
        us if us.abs() >= 99_950.0 => format!("{:.0} ms", us / 1000.0),
        us if us.abs() >= 9_995.0 => format!("{:.1} ms", us / 1000.0),
        us if us.abs() >= 999.5 => format!("{:.2} ms", us / 1000.0),
        us => format!("{us:.0} µs"),
    }
}

pub(crate) fn write(results: &Results, folder: &Path) -> Result<(), Failure> {
    let charts_folder = folder.join("charts");
    fs::create_dir_all(&charts_folder)?;
    fs::write(folder.join("results.json"), serde_json::to_string_pretty(results)?)?;
    let charts = charts::charts(results);
    let mut shown = String::new();
    for (file, about, svg) in charts {
        fs::write(charts_folder.join(file), svg)?;
        let _ = writeln!(shown, "![{about}](charts/{file})\n");
    }
    Ok(fs::write(folder.join("RESULTS.md"), tables::page(results, &shown))?)
}

pub(crate) fn again(folder: &Path) -> Result<(), Failure> {
    let results = serde_json::from_str(&fs::read_to_string(folder.join("results.json"))?)?;
    write(&results, folder)
}
