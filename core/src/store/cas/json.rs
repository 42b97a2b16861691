//! As much of JSON as a value needs: one object, whose members are strings or null.

use std::iter::Peekable;
use std::str::Chars;

/// A member of the object.
pub(super) type Member = (String, Option<String>);

/// Writes members in their order.
pub(super) fn write<'a>(members: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        string(&mut text, name);
        text.push(':');
        match value {
            Some(value) => string(&mut text, &value),
            None => text.push_str("null"),
        }
    }
    text.push('}');
    text
}

fn string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if u32::from(c) < 0x20 => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Reads an object, also one that another program has written in another layout.
///
/// # Errors
/// What is wrong.
pub(super) fn read(text: &str) -> Result<Vec<Member>, String> {
    let mut reader = Reader { rest: text.chars().peekable() };
    let mut members: Vec<Member> = Vec::new();
    reader.expect('{')?;
    if !reader.is_next('}') {
        loop {
            let name = reader.string()?;
            reader.expect(':')?;
            let value = reader.value(&name)?;
            if members.iter().any(|(known, _)| *known == name) {
                return Err(format!("it has the field `{name}` twice"));
            }
            members.push((name, value));
            if !reader.is_next(',') {
                break;
            }
        }
        reader.expect('}')?;
    }
    reader.end()?;
    Ok(members)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.rest.next_if(|c| matches!(c, ' ' | '\t' | '\n' | '\r')).is_some() {}
    }

    fn is_next(&mut self, c: char) -> bool {
        self.skip_space();
        self.rest.next_if_eq(&c).is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.is_next(c) { Ok(()) } else { Err(format!("it is not a JSON object: no `{c}` where one is needed")) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.skip_space();
        if self.rest.next().is_none() { Ok(()) } else { Err("something follows the JSON object".into()) }
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        self.skip_space();
        if self.rest.peek() == Some(&'"') {
            return self.string().map(Some);
        }
        if "null".chars().all(|c| self.rest.next_if_eq(&c).is_some()) {
            return Ok(None);
        }
        Err(format!("its field `{name}` is neither a string nor null"))
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut value = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(value),
                Some('\\') => value.push(self.escaped()?),
                Some(c) if u32::from(c) >= 0x20 => value.push(c),
                Some(_) => return Err("a string in it has a control character".into()),
                None => return Err("it ends within a string".into()),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let escaped = match self.rest.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.code_point(),
            _ => return Err("a string in it has an invalid escape".into()),
        };
        Ok(escaped)
    }

    /// A character as one or two units of UTF-16.
    fn code_point(&mut self) -> Result<char, String> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) && self.rest.next_if_eq(&'\\').is_some() {
            if self.rest.next() != Some('u') {
                return Err("a string in it has half a surrogate pair".into());
            }
            units.push(self.unit()?);
        }
        let text = String::from_utf16(&units).map_err(|_| "a string in it has half a surrogate pair")?;
        text.chars().next().ok_or_else(|| "a string in it has an invalid escape".into())
    }

    fn unit(&mut self) -> Result<u16, String> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.rest.next().and_then(|c| c.to_digit(16));
            let digit = digit.ok_or("a string in it has an invalid escape")?;
            unit = unit * 16 + digit;
        }
        u16::try_from(unit).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_written_is_json() {
        for text in ["", "plain", "\"\\/", "é日😀\u{2028}", "\u{0}\n\u{1f}\u{7f}", "{}[]:,null"] {
            let written = write([("text", Some(text.to_owned())), ("none", None)]);
            let by_serde: Value = serde_json::from_str(&written).unwrap();
            assert_eq!(by_serde, json!({"text": text, "none": null}), "{written}");
            assert_eq!(read(&written).unwrap(), [("text".into(), Some(text.to_owned())), ("none".into(), None)]);
        }
        assert_eq!(write([]), "{}");
        assert_eq!(read(" { } ").unwrap(), []);
    }

    #[test]
    fn other_layouts_and_escapes_are_read() {
        let members = [("a".to_owned(), Some("\"\\/\u{8}\u{c}\n\r\té😀".to_owned())), ("b".to_owned(), None)];
        let escaped = r#" {
            "a" : "\"\\\/\b\f\n\r\t\u00e9\ud83D\uDE00",
            "b":null } "#;
        assert_eq!(read(escaped).unwrap(), members);
    }

    #[test]
    fn what_is_no_flat_object_is_refused() {
        let wrong = [
            "",
            "{",
            "}",
            "null",
            "[]",
            "\"a\"",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":{}}",
            "{\"a\":\"b\"",
            "{\"a\":\"b\",}",
            "{,}",
            "{\"a\":\"b\" \"c\":\"d\"}",
            "{\"a\":\"b\"}x",
            "{\"a\":\"b\"}{}",
            "{\"a\":nul}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\ud800\\n\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\\u+123\"}",
            "{'a':'b'}",
            "{\"a\":\"b\",\"a\":\"c\"}",
            "{\"a\":nullx}",
        ];
        for text in wrong {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
