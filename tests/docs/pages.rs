//! Each page can be found, and what it shows is compiled.

use std::fs;

use crate::files::{read, root, with_endings};

#[test]
fn every_page_is_compiled_and_can_be_found() {
    let (compiled, readme, for_machines) = (read("src/documentation.rs"), read("README.md"), read("llms.txt"));
    let mut missing = Vec::new();
    for page in with_endings(&["md"]) {
        let page = page.to_string_lossy().into_owned();
        if page.starts_with("docs/") {
            let needed = [
                ("src/documentation.rs", compiled.contains(&format!("\"../{page}\""))),
                ("README.md", readme.contains(&format!("({page}"))),
                ("llms.txt", for_machines.contains(&format!("({page})"))),
            ];
            missing.extend(needed.iter().filter(|(_, named)| !named).map(|(place, _)| format!("{place}: {page}")));
        }
    }
    assert!(missing.is_empty(), "these places do not name each page in docs/:\n{}", missing.join("\n"));
}

/// A folder in `examples/` is built with the others, or by a script that names it.
#[test]
fn every_example_is_built() {
    let members = read("examples/Cargo.toml");
    let scripts: String = with_endings(&[""]).iter().filter(|file| file.starts_with("scripts")).map(read).collect();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let folder = entry.unwrap();
        if folder.path().join("Cargo.toml").exists() {
            let name = folder.file_name().to_string_lossy().into_owned();
            let is_built = members.contains(&format!("\"{name}\"")) || scripts.contains(&format!("examples/{name}"));
            assert!(
                is_built,
                "examples/{name} is neither in examples/Cargo.toml nor in a script, so nothing builds it"
            );
        }
    }
}

/// The crates that are published: those in the workspace without `publish = false`.
fn published_crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let members = members.trim_end_matches(']').split(", ").map(|member| member.trim_matches('"').to_owned());
    let mut crates: Vec<_> = members.collect();
    crates.push(".".into());
    crates.retain(|folder| !read(format!("{folder}/Cargo.toml")).contains("publish = false"));
    crates
}

#[test]
fn every_published_crate_has_what_a_registry_shows() {
    let crates = published_crates();
    assert!(crates.len() > 8, "found only {crates:?}: are they still read correctly?");
    let mut missing = Vec::new();
    for folder in crates {
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            if !root().join(&folder).join(file).exists() {
                missing.push(format!("{folder}/{file}"));
            }
        }
        let manifest = read(format!("{folder}/Cargo.toml"));
        // The documentation of a command is its help.
        let is_library = root().join(&folder).join("src/lib.rs").exists();
        let docs = ["[package.metadata.docs.rs]\nall-features = true"];
        for needed in ["description = ", "keywords", "categories"].iter().chain(docs.iter().filter(|_| is_library)) {
            if !manifest.contains(needed) {
                missing.push(format!("{folder}/Cargo.toml: {needed}"));
            }
        }
    }
    assert!(missing.is_empty(), "these are missing:\n{}", missing.join("\n"));
}

#[test]
fn every_script_is_listed() {
    let (page, index) = (read("CONTRIBUTING.md"), read("justfile"));
    for file in with_endings(&[""]) {
        let file = file.to_string_lossy().into_owned();
        // Folders have parts of scripts.
        if file.starts_with("scripts/") && file.matches('/').count() == 1 {
            assert!(page.contains(&format!("`{file}`")), "CONTRIBUTING.md does not list {file}");
            assert!(index.contains(&file), "the justfile does not list {file}");
        }
    }
}
