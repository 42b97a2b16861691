//! The contract, the list of the cases and their functions name the same things: none of the three can drift.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use db_mutex_conformance::CASES;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The bullets and paragraphs of the contract's documentation, each as one line.
fn blocks_of_the_contract() -> Vec<String> {
    let source = fs::read_to_string(here("../core/src/store.rs")).expect("the contract stands beside the suite");
    let mut blocks = vec![String::new()];
    for line in source.lines() {
        let doc = line.trim_start().strip_prefix("///").map(str::trim);
        let begins = doc.is_none_or(|doc| doc.is_empty() || doc.starts_with("- ") || doc.starts_with('#'));
        if begins {
            blocks.push(String::new());
        }
        if let (Some(doc), Some(block)) = (doc, blocks.last_mut()) {
            block.push_str(doc);
            block.push(' ');
        }
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks
}

/// The cases that a block names in its brackets.
fn cases_named_in(block: &str) -> Vec<String> {
    let brackets = block.split("\\[").skip(1).filter_map(|rest| rest.split_once("\\]"));
    let names = brackets.flat_map(|(inside, _)| inside.split(','));
    names.map(|name| name.trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn the_contract_names_exactly_the_cases() {
    let named: BTreeSet<String> = blocks_of_the_contract().iter().flat_map(|block| cases_named_in(block)).collect();
    let cases: BTreeSet<String> = CASES.iter().map(|case| case.name.to_owned()).collect();
    let missing: Vec<_> = named.difference(&cases).collect();
    assert!(missing.is_empty(), "core/src/store.rs names cases that the suite has not: {missing:?}");
    let unnamed: Vec<_> = cases.difference(&named).collect();
    assert!(unnamed.is_empty(), "the suite has cases that core/src/store.rs names nowhere: {unnamed:?}");
}

#[test]
fn behind_each_must_stand_its_cases() {
    // The sentence that introduces the words is no promise.
    let promises = blocks_of_the_contract().into_iter().filter(|block| !block.contains("RFC 2119"));
    let promises: Vec<String> = promises.filter(|block| block.contains("MUST")).collect();
    assert!(promises.len() > 20, "found only {} promises: are the blocks still read rightly?", promises.len());
    for block in promises {
        let behind = block.rsplit("MUST").next().unwrap_or_default();
        assert!(!cases_named_in(behind).is_empty(), "no case stands behind the MUST of: {block}");
    }
}

#[test]
fn every_function_is_a_case_and_runs_once() {
    let mut functions: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in fs::read_dir(here("src/cases")).expect("the cases have a folder") {
        let path = entry.expect("the folder can be read").path();
        let group = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).expect("a file of cases can be read").lines() {
            // Others see the cases; private functions help one, and the compiler warns of those that nobody calls.
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
