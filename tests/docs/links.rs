//! Links between the documents, and from the code to them.

use std::path::{Path, PathBuf};

use crate::files::{read, root, with_endings};

/// Where a file of the repository is on the web, as rustdoc has to link it.
const ON_THE_WEB: &str = "https://github.com/db-mutex/db-mutex/blob/main/";

/// The heading as a fragment of a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(document: &Path) -> Vec<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of the links in a text: `[…](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Whether a file is there, and the heading in it if the fragment names one.
fn leads_somewhere(file: &Path, fragment: &str) -> bool {
    let is_markdown = file.extension().is_some_and(|kind| kind == "md");
    let has_fragment = fragment.is_empty() || !is_markdown || anchors(file).iter().any(|a| a == fragment);
    root().join(file).exists() && has_fragment
}

fn parts(target: &str) -> (&str, &str) {
    target.split_once('#').unwrap_or((target, ""))
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let (mut links, mut dead) = (0, Vec::new());
    let mut documents = with_endings(&["md"]);
    documents.push(PathBuf::from("llms.txt"));
    for document in documents {
        let text = read(&document);
        // Not links to items, which rustdoc checks.
        let is_file = |target: &&str| !target.contains("://") && !target.contains(' ') && !target.contains("::");
        for target in targets(&text).filter(is_file) {
            links += 1;
            let (path, fragment) = parts(target);
            let file = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            if !leads_somewhere(&file, fragment) {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(links > 150, "found only {links} links: are they still read correctly?");
    assert!(dead.is_empty(), "these links lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn every_link_to_the_repository_on_the_web_leads_somewhere() {
    let (mut links, mut dead) = (0, Vec::new());
    for file in with_endings(&["md", "rs", "txt"]) {
        let text = read(&file);
        for rest in text.split(ON_THE_WEB).skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && !"/.-_#".contains(c)).unwrap_or(rest.len());
            let target = &rest[..end];
            // The address itself, above.
            if target.is_empty() {
                continue;
            }
            links += 1;
            let (path, fragment) = parts(target);
            if !leads_somewhere(Path::new(path), fragment) {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(links > 1, "found only {links} links: are they still read correctly?");
    assert!(dead.is_empty(), "these links lead nowhere:\n{}", dead.join("\n"));
}
