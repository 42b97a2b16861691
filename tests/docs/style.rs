//! Words that make a reader stop, files that are too long, and the changelog.

use std::path::Path;

use crate::files::{read, with_endings};

/// What is written, and what to write. A reader stops at these; most are subjects of sentences that want a noun of the field.
const WORDS: [(&str, &str); 8] = [
    ("nobody", "no one, or the thing that does not happen"),
    ("somebody", "another holder, process, client, transaction"),
    ("anybody", "any process, anyone"),
    ("whoever", "the process that …, regardless of the holder"),
    ("whatever", "any, even if …"),
    ("for ever", "forever"),
    ("sees to it", "ensures"),
    ("weather", "faults, fault plan"),
];

/// The account of Unix, and this list.
const ALLOWED: [(&str, &str); 1] = [("scripts/databases.d/processes.sh", "nobody")];

/// A file is understood in one sitting. Longer ones hold two ideas.
const MOST_LINES: usize = 400;

/// Pages that are read in parts.
const LONG_PAGES: [&str; 1] = ["docs/writing-a-store.md"];

const TEXTS: [&str; 9] = ["md", "rs", "sh", "sql", "toml", "txt", "yaml", "yml", ""];

/// The words of a line in lower case, with one space between them.
fn words_of(line: &str) -> String {
    let words = line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase);
    words.fold(String::from(" "), |all, word| all + &word + " ")
}

#[test]
fn no_text_has_a_word_that_a_reader_stops_at() {
    let mut found = Vec::new();
    for file in with_endings(&TEXTS).iter().filter(|file| *file != Path::new("tests/docs/style.rs")) {
        for (number, line) in read(file).lines().enumerate() {
            let words = words_of(line);
            for (word, better) in WORDS.iter().filter(|(word, _)| words.contains(&format!(" {word} "))) {
                if !ALLOWED.iter().any(|(path, allowed)| file == Path::new(path) && word == allowed) {
                    found.push(format!("{}:{}: {word:?}; write {better}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "reword these:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for file in with_endings(&["md", "rs", "sh", "sql", ""]) {
        let is_page = LONG_PAGES.iter().any(|page| file == Path::new(page));
        let is_text_of_others = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LICENSE"));
        let lines = read(&file).lines().count();
        if lines > MOST_LINES && !is_page && !is_text_of_others {
            long.push(format!("{}: {lines}", file.display()));
        }
    }
    assert!(long.is_empty(), "these files have more than {MOST_LINES} lines; split them by idea:\n{}", long.join("\n"));
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).expect("the changelog has a version");
    let version = env!("CARGO_PKG_VERSION");
    let named = newest.trim_matches(['[', ']']).split([' ', ']']).next();
    assert_eq!(named, Some(version), "CHANGELOG.md begins with {newest:?}; it has to name the version of Cargo.toml");
}
