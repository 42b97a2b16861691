//! What the attribute knows of values by itself is what the crate does.

use db_mutex::{LockId, Ttl};

#[path = "../src/rules.rs"]
mod rules;

#[test]
fn limits_are_those_of_the_crate() {
    assert_eq!(rules::MAX_CHARS, LockId::MAX_CHARS);
    assert_eq!(rules::MIN_TTL, Ttl::MIN);
    assert_eq!(rules::MAX_TTL, Ttl::MAX);
}

#[test]
fn ids_are_judged_as_by_the_crate() {
    let characters = (0..=0x2FF).chain([0x2028, 0xFEFF, 0x1F600, 0xE000]).filter_map(char::from_u32);
    let ids = characters.map(|c| format!("a{c}b"));
    let lengths = [0, 1, 255, 256, 257, 1000].map(|length| "ä".repeat(length));
    for id in ids.chain(lengths) {
        let ours = rules::check_id(&id).err();
        let theirs = LockId::new(&id).err().map(|error| error.to_string());
        assert_eq!(ours.is_some(), theirs.is_some(), "{id:?}");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert!(theirs.ends_with(&ours), "{id:?}: {theirs}, and here: {ours}");
        }
        if !id.is_empty() {
            assert_eq!(rules::check_part_of_id(&id), rules::check_id(&id), "{id:?}");
        }
    }
}
