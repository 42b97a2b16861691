//! "Did you mean": the known word that is nearest to an unknown one.

/// The known word that `word` probably stands for: at most a third of it differs.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = word.chars().count().max(3) / 3;
    let rated = known.iter().map(|known| (distance(word, known), *known));
    rated.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many characters have to be inserted, removed, replaced or swapped with the next. Case and underscores do not count.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.chars().filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect();
    let (a, b): (Vec<char>, Vec<char>) = (plain(a), plain(b));
    // The distances between the first i characters of `a` and the first j of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
            [("ttl", "ttl", 0), ("tll", "ttl", 1), ("wiat", "wait", 1), ("", "abc", 3), ("abc", "", 3)]
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
