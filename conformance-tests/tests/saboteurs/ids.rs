use db_mutex_core::store::LockId;

use crate::fault::Fault;

/// The id under which the saboteur keeps `id`.
pub(crate) fn stored(fault: Fault, id: &LockId) -> LockId {
    let text = id.as_str();
    let changed = match fault {
        Fault::IdsAreFoldedByCase => text.to_lowercase(),
        Fault::IdsAreCutAt255Bytes => cut(text, 255).to_owned(),
        Fault::IdsAreTrimmedAtTheEnd => text.trim_end_matches(' ').to_owned(),
        Fault::IdsAreTrimmedAtTheStart => text.trim_start_matches(' ').to_owned(),
        Fault::IdsAreNormalised => text.replace("e\u{301}", "\u{e9}"),
        Fault::IdsAreFoldedByAccent => text.replace('é', "e"),
        Fault::IdsAreNumbers => text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string()),
        Fault::IdsLoseTheirQuotes => text.replace(['`', '[', ']'], ""),
        Fault::IdsLoseABar => text.replace('|', "!"),
        Fault::IdsArePaths => text.replace("//", "/").replace("/./", "/"),
        Fault::IdsArePercentDecoded => text.replace("%2F", "/"),
        _ => return id.clone(),
    };
    // An id of which nothing is left stays as it was.
    LockId::new(changed).unwrap_or_else(|_| id.clone())
}

/// As many whole characters of `text` as fit into `bytes`.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
