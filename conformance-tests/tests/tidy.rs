//! The contract, the list of the cases and their functions name the same things: none of the three can drift.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use db_mutex_conformance::CASES;
use db_mutex_conformance::contract::{cases_of_rules, lines, rules};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_contract_names_exactly_the_cases() {
    let named: BTreeSet<&str> = cases_of_rules().into_values().flatten().collect();
    // Those of this group are about the suite's factory, not about the store.
    let cases = CASES.iter().filter(|case| case.group != "factory");
    let cases: BTreeSet<&str> = cases.map(|case| case.name).collect();
    let missing: Vec<_> = named.difference(&cases).collect();
    assert!(missing.is_empty(), "core/src/store/mod.rs names cases that the suite does not have: {missing:?}");
    let unnamed: Vec<_> = cases.difference(&named).collect();
    assert!(unnamed.is_empty(), "the suite has cases that core/src/store/mod.rs names nowhere: {unnamed:?}");
}

#[test]
fn each_rule_with_a_must_has_cases() {
    let (rules, cases) = (rules(), cases_of_rules());
    assert!(rules.len() > 25, "found only {} rules: is the contract still read correctly?", rules.len());
    let rules: BTreeSet<_> = rules
        .into_iter()
        .map(|(label, text)| {
            assert!(text.contains("MUST"), "the rule {label} has no MUST, so it needs no label: {text}");
            label
        })
        .collect();
    assert_eq!(rules, cases.into_keys().collect(), "the rules and the table of their cases must have the same labels");
    let unlabelled = lines().filter(|line| line.contains("MUST") && line.starts_with("- "));
    let unlabelled: Vec<_> = unlabelled.filter(|line| !line.starts_with("- **")).collect();
    assert!(unlabelled.is_empty(), "a MUST without a label has no cases: {unlabelled:?}");
}

#[test]
fn every_function_is_a_case_and_runs_once() {
    let mut functions: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in fs::read_dir(here("src/cases")).expect("the cases have a folder") {
        let path = entry.expect("the folder can be read").path();
        let group = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).expect("a file of cases can be read").lines() {
            // Others see the cases; private functions help one, and the compiler warns of those that are never called.
            let function = line.strip_prefix("pub(crate) async fn ");
            if let Some((name, _)) = function.and_then(|rest| rest.split_once('(')) {
                functions.insert((group.clone(), name.to_owned()), 0);
            }
        }
    }
    for case in CASES {
        match functions.get_mut(&(case.group.to_owned(), case.name.to_owned())) {
            Some(runs) => *runs += 1,
            None => panic!("the list has {} in {}, where no such function is", case.name, case.group),
        }
    }
    let wrong: Vec<_> = functions.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(wrong.is_empty(), "each case must run once; these do not (with how often they run): {wrong:?}");
}
