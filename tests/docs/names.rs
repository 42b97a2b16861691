//! What the documents name exists in the code.

use std::collections::BTreeSet;
use std::fs;

use crate::files::{read, root};

/// The names in backticks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// In docs/guarantees.md a line ``- `path.rs`: `test`, `test` `` names tests. It may go on in lines that are indented.
#[test]
fn the_tests_that_the_guarantees_name_exist() {
    let text = read("docs/guarantees.md").replace("\n  ", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("- `")?.split_once(".rs`: "));
    let (mut tests, mut missing) = (0, Vec::new());
    for (path, named) in lines {
        let file = root().join(path).with_extension("rs");
        let source = fs::read_to_string(&file).unwrap_or_default();
        for test in names(named) {
            tests += 1;
            if !source.contains(&format!("fn {test}(")) {
                missing.push(format!("{path}.rs: {test}"));
            }
        }
    }
    assert!(tests > 60, "found only {tests} tests: are they still read correctly?");
    assert!(missing.is_empty(), "docs/guarantees.md names tests that do not exist:\n{}", missing.join("\n"));
}

/// The words of a text that begin with `db_mutex_` and end with one of the units of a metric, without what an exporter
/// appends to the name of a histogram.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let plain =
        |word: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).map(String::from);
    let words = words.filter(|word| word.starts_with("db_mutex_")).map(|w| plain(w).unwrap_or_else(|| w.into()));
    words.filter(|word| ["_total", "_seconds", "_held"].iter().any(|end| word.ends_with(end))).collect()
}

/// The values that a label may have: those after `"label" = "` in the code, or after `label="` in a query.
fn values(text: &str, label: &str) -> BTreeSet<String> {
    let quoted =
        |rest: &str| rest.trim_start_matches([' ', '=', '~', '\\', '"']).split(['\\', '"']).next().map(String::from);
    text.split(label)
        .skip(1)
        .filter(|rest| rest.trim_start_matches(['\\', '"']).trim_start().starts_with('='))
        .filter_map(quoted)
        .collect()
}

#[test]
fn the_pages_and_the_dashboard_name_the_metrics_of_the_code() {
    let code = read("core/src/engine/telemetry.rs");
    let reported = metrics(&code);
    assert!(reported.len() > 5, "found only {reported:?}: are they still read correctly?");
    for page in ["src/lib.rs", "docs/operating.md", "docs/grafana/db-mutex.json"] {
        assert_eq!(metrics(&read(page)), reported, "{page} names other metrics than core/src/engine/telemetry.rs");
    }
    let outcomes = values(&code, "outcome");
    assert!(outcomes.len() == 4, "found {outcomes:?}: are they still read correctly?");
    for page in ["docs/operating.md", "docs/grafana/db-mutex.json"] {
        let unknown: Vec<_> = values(&read(page), "outcome").difference(&outcomes).cloned().collect();
        assert!(unknown.is_empty(), "{page} asks for outcomes that are not reported: {unknown:?}");
    }
}
