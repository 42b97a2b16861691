//! That an id is its bytes, and all of them.

use db_mutex_core::store::{ListFilter, LockId};

use crate::answer::{granted, refused, released};
use crate::subject::{Subject, minute};

/// Holds all the ids at once, reads each back, and releases one after the other.
async fn are_different_locks(store: &Subject, texts: &[&str], promise: &str) {
    let mut held = Vec::new();
    for text in texts {
        let id = store.id(text);
        let owner = crate::subject::new_owner();
        granted(store.ask_as(owner, &id, minute()).await, &format!("{promise}: {text:?} must be a lock of its own"));
        held.push((owner, id));
    }
    for (_, id) in &held {
        assert_eq!(store.row(id).await.lock_id, *id, "{promise}: find must show the id as it was given");
    }
    while let Some((owner, id)) = held.pop() {
        released(store.release(owner, &id).await, &format!("{promise}: {id:?} must still be its owner's"));
        for (_, other) in &held {
            refused(store.ask(other).await, &format!("{promise}: releasing {id:?} must leave {other:?} held"));
        }
    }
}

pub(crate) async fn ids_differ_by_case(store: &Subject) {
    are_different_locks(store, &["job", "Job", "JOB"], "ids are never folded by case").await;
    are_different_locks(store, &["ärger", "Ärger", "ij", "iJ", "İj", "ıj"], "ids are never folded by case").await;
}

pub(crate) async fn ids_differ_by_trailing_space(store: &Subject) {
    are_different_locks(store, &["job", "job ", "job  ", "job\u{a0}"], "ids are never trimmed or padded").await;
}

pub(crate) async fn ids_differ_by_leading_space(store: &Subject) {
    are_different_locks(store, &["job", " job", "  job", " "], "ids are never trimmed").await;
}

pub(crate) async fn ids_differ_by_normal_form(store: &Subject) {
    are_different_locks(store, &["caf\u{e9}", "cafe\u{301}"], "ids are never normalised").await;
    are_different_locks(store, &["ﬁle", "file", "Ａ", "A", "x²", "x2"], "ids are never normalised").await;
    are_different_locks(store, &["a\u{200d}b", "a\u{ad}b", "ab"], "characters that show nothing still count").await;
}

pub(crate) async fn ids_differ_by_accent(store: &Subject) {
    are_different_locks(store, &["resume", "resumé", "résumé"], "ids are never folded by accent").await;
    are_different_locks(store, &["strasse", "straße", "ae", "æ"], "ids are never folded by a language's rules").await;
}

pub(crate) async fn numeric_ids_are_text(store: &Subject) {
    let numbers = ["1", "01", "1.0", "+1", "1e0", "0x1", "-0", "0", "9007199254740993", "9007199254740992"];
    are_different_locks(store, &numbers, "ids are text, also when they look like numbers").await;
    are_different_locks(store, &["null", "NULL", "true", "t"], "ids are text, also when they look like keywords").await;
}

pub(crate) async fn long_ids_differ_in_their_last_character(store: &Subject) {
    for filler in ["x", "é", "😀"] {
        let start = filler.repeat(LockId::MAX_CHARS - 1);
        let ids = [format!("{start}a"), format!("{start}b"), start];
        let ids = ids.each_ref().map(String::as_str);
        are_different_locks(store, &ids, "ids are never cut").await;
    }
}

pub(crate) async fn the_longest_id_is_kept_whole(store: &Subject) {
    let mut expected = Vec::new();
    for filler in ["x", "é", "日", "😀"] {
        let text = filler.repeat(LockId::MAX_CHARS);
        let id = store.id(&text);
        granted(store.ask(&id).await, "an id of 256 characters must be granted, however many bytes they have");
        assert_eq!(store.row(&id).await.lock_id, id, "find must show an id of 256 characters whole");
        refused(store.ask(&id).await, "an id of 256 characters must be a lock like any other");
        expected.push(text);
    }
    assert_eq!(store.listed(ListFilter::all()).await, expected, "list must show ids of 256 characters whole");
}

pub(crate) async fn ids_with_sql_in_them_are_only_ids(store: &Subject) {
    let ids = [
        "x'; drop table locks; --",
        "x\"; select 1; --",
        "' or '1'='1",
        "job%",
        "job_",
        "jobs",
        "*",
        "?",
        "$1",
        ":id",
        "@id",
        "{}",
        "\\",
        "\\'",
        "/* x */",
        "a/b",
        "a:b",
        "[a]",
        "`a`",
    ];
    are_different_locks(store, &ids, "an id is data, even if it looks like SQL or a pattern").await;
    assert_eq!(store.listed(ListFilter::all()).await.len(), ids.len(), "each id must have a row of its own");
}

/// Holds all the ids at once, and checks that each has a row of its own. In contrast to [`are_different_locks`] it asks for
/// each only a few times.
async fn are_exactly_these(store: &Subject, mut texts: Vec<String>, promise: &str) {
    let mut held = Vec::new();
    for text in &texts {
        let (id, owner) = (store.id(text), crate::subject::new_owner());
        let own = format!("{promise} (I1): {text:?} must be a lock of its own");
        let lease = granted(store.ask_as(owner, &id, minute()).await, &own);
        held.push((owner, id, lease));
    }
    for (_, id, lease) in &held {
        let row = store.row(id).await;
        assert_eq!((&row.lock_id, row.fence), (id, lease.fence), "{promise} (I1): find must show the id's own row");
    }
    texts.sort_unstable();
    assert_eq!(store.listed(ListFilter::all()).await, texts, "{promise} (I1, list 1): list must show exactly these");
    for half in [0, 1] {
        for (owner, id, _) in held.iter().skip(half).step_by(2) {
            released(store.release(*owner, id).await, &format!("{promise} (I1): {id:?} must still be its owner's"));
        }
    }
}

pub(crate) async fn ids_differ_in_every_printable_character(store: &Subject) {
    let printable: Vec<char> = (' '..='~').collect();
    let mut texts: Vec<String> = printable.iter().map(char::to_string).collect();
    // Alone, and among others.
    texts.extend(printable.iter().map(|c| format!("a{c}b")));
    are_exactly_these(store, texts, "ids MUST NOT be changed, even those with unusual characters").await;
}

pub(crate) async fn ids_that_look_like_keys_are_only_ids(store: &Subject) {
    let texts = [
        "a",
        "b",
        "a:b",
        "a/b",
        "a.b",
        "a|b",
        "a-b",
        "a_b",
        "a~b",
        "a+b",
        "a b",
        "a#b",
        "a@b",
        "a\\b",
        "a,b",
        "a=b",
        "ab",
        "a:",
        "a/",
        "a.",
        "/a",
        ":a",
        ".a",
        "a//b",
        "a::b",
        "a:b:c",
        "a/b/c",
        "a/../b",
        "a/./b",
        ".",
        "..",
        "...",
        "/",
        "//",
        "~",
        "-",
        "--help",
        "a%2Fb",
        "a%2fb",
        "a%3Ab",
        "a%20b",
        "a%",
        "%",
        "%25",
        "%41",
        "A",
        "&lt;",
        "\\x61",
        "\\u0061",
        "=61",
        "lock",
        "locks",
        "lock:a",
        "index",
        "lock_id",
        "owner",
        "fence",
        "a:owner",
        "a:fence",
        "a.lock",
        "a.json",
        "a.tmp",
        ".a.tmp",
        "con",
        "nul",
        "a.json~",
        "{a}",
        "{a}b",
        "__proto__",
        "constructor",
        "a*",
        "a?",
        "[a]",
        "^a$",
        "a;b",
        "\"a\"",
        "'a'",
        "db_mutex",
        "db_mutex_locks",
        "db_mutex:a",
        "locks/a",
        "YQ==",
        "61",
        "0cc175b9c0f1b6a831c399e269772661",
    ];
    let texts = texts.map(str::to_owned).to_vec();
    are_exactly_these(store, texts, "ids MUST NOT be taken for keys, paths, patterns or encodings").await;
}
