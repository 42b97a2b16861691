//! The rules of the contract and the cases of each, read from its documentation: what a failure quotes.

use std::collections::BTreeMap;

/// The documentation of the contract, a line each.
pub fn lines() -> impl Iterator<Item = &'static str> {
    db_mutex_core::store::CONTRACT.lines().filter_map(|line| line.trim_start().strip_prefix("///")).map(str::trim)
}

/// The text of each rule, by its label: the bullets that begin with bold letters.
///
/// # Panics
/// If two rules have the same label.
pub fn rules() -> BTreeMap<&'static str, String> {
    let mut rules = BTreeMap::new();
    let mut current = None;
    for line in lines() {
        if let Some((label, text)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("** ")) {
            assert!(rules.insert(label, text.to_owned()).is_none(), "two rules have the label {label}");
            current = Some(label);
        } else if line.is_empty() || line.starts_with("- ") || line.starts_with('#') || line.starts_with('|') {
            current = None;
        } else if let Some(text) = current.and_then(|label| rules.get_mut(label)) {
            text.push(' ');
            text.push_str(line);
        }
    }
    rules
}

/// The table of the contract: the cases of each rule.
pub fn cases_of_rules() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = lines().filter_map(|line| {
        let (label, cases) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let names = cases.split(", ").map(|name| name.trim_matches('`')).collect();
        (label != "rule").then_some((label, names))
    });
    rows.collect()
}

/// The rules that a case shows, each with its label and, if it is not a general one, its method.
pub(crate) fn rules_of(case: &str) -> Vec<String> {
    let rules = rules();
    let shown = cases_of_rules().into_iter().filter(|(_, cases)| cases.contains(&case));
    shown.map(|(label, _)| format!("{}{label}: {}", method(label), rules[label])).collect()
}

/// The method that a rule is about.
fn method(label: &str) -> &'static str {
    match label.split_once(' ').map_or("", |(method, _)| method) {
        "insert" => "insert_if_absent, ",
        "delete" => "delete, ",
        "renew" => "renew, ",
        "purge" => "purge_expired, ",
        "find" => "find, ",
        "list" => "list, ",
        "many" => "insert_many, delete_many and renew_many, ",
        "wait" => "wait_for_release, ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_quotes_all_its_rules() {
        let rules = rules_of("fence_rises_across_purge");
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(rules[0].starts_with("F1: The fencing token of each acquisition MUST be positive"), "{rules:?}");
        assert!(rules[1].starts_with("purge_expired, purge 3: It MUST NOT remove a row"), "{rules:?}");
    }

    #[test]
    fn each_rule_of_a_method_names_it() {
        for label in rules().into_keys().filter(|label| label.contains(' ')) {
            assert!(!method(label).is_empty(), "{label} is the rule of a method that `method` does not know");
        }
    }
}
