//! "Did you mean": the known word that is nearest to an unknown one.

/// The known word that `word` probably stands for: at most a third of it differs.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = word.chars().count().max(3) / 3;
    let rated = known.iter().map(|known| (distance(word, known), *known));
    rated.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many characters have to be inserted, removed or replaced (Levenshtein). Case and underscores do not count.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.chars().filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect();
    let (a, b): (Vec<char>, Vec<char>) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = replaced.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Words as a list: `` `a`, `b` or `c` ``.
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("ttl", "ttl", 0), ("tll", "ttl", 1), ("wiat", "wait", 2), ("", "abc", 3), ("abc", "", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert_eq!(distance("keepAlive", "keep_alive"), 0);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["ttl", "wait", "keep_alive"];
        assert_eq!(nearest("tll", &known), Some("ttl"));
        assert_eq!(nearest("waits", &known), Some("wait"));
        assert_eq!(nearest("keepalive", &known), Some("keep_alive"));
        assert_eq!(nearest("foo", &known), None);
    }

    #[test]
    fn lists() {
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
