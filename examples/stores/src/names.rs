//! Names for files and objects, of which any two ids have two: at most 200 characters of `a-z`, `0-9`, `_`, `-`, `=` and `.`.

use db_mutex_core::LockId;
use sha2::{Digest, Sha256};

/// The name of an id: what may be in a name of a file everywhere stays readable, and everything else becomes `=` and the
/// byte in hexadecimal, also capitals, because some file systems do not tell them apart. A long name ends with a hash.
pub(crate) fn name(id: &LockId) -> String {
    let mut name = String::new();
    for byte in id.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("={byte:02x}")),
        }
    }
    if name.len() > 200 {
        let hash = Sha256::digest(id.as_str());
        name.truncate(100);
        name.push('.');
        name.extend(hash.iter().map(|byte| format!("{byte:02x}")));
    }
    name
}
