//! The files of the repository, without what is built and without hidden folders but `.github`.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub(crate) fn read(file: impl AsRef<Path>) -> String {
    let file = root().join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?} cannot be read: {error}"))
}

/// All files with one of these endings, relative to the root; an empty ending stands for files without one.
pub(crate) fn with_endings(endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    visit(&root(), &mut files);
    let ending = |file: &Path| file.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    files.retain(|file| endings.contains(&ending(file).as_str()));
    files.sort();
    assert!(!files.is_empty(), "no file ends with one of {endings:?}");
    files
}

fn visit(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name == "target" || name.starts_with('.') && name != ".github" {
            continue;
        }
        if path.is_dir() {
            visit(&path, files);
        } else {
            files.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}
