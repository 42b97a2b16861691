use db_mutex_core::Invalid;

use crate::invalid;

/// Decodes `%xx`. `part` names the part of the URL for the error, which never shows the text: it may be a password.
pub(crate) fn decode(part: &str, text: &str) -> Result<String, Invalid> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        match digits {
            [Some(high), Some(low)] => bytes.extend(u8::try_from(high * 16 + low)),
            _ => {
                return Err(invalid(format!(
                    "{part} has a `%` without two hexadecimal digits after it; write %25 for a percent sign"
                )));
            }
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid(format!("{part} is not UTF-8 after decoding its %xx")))?;
    if text.contains('\0') {
        return Err(invalid(format!("{part} contains a NUL; remove the %00")));
    }
    Ok(text)
}

/// Encodes all bytes as `%xx` except ASCII letters and digits.
#[must_use]
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        for text in ["", "plain", "a b", "%", "ü/?#@:&=", "100%25"] {
            assert_eq!(decode("the value", &encode(text)).unwrap(), text);
        }
        assert_eq!(decode("the value", "%2Fetc%2fca.pem").unwrap(), "/etc/ca.pem");
    }

    #[test]
    fn bad_encodings_are_refused_without_being_shown() {
        for (text, says) in [
            ("s3cret%", "%25"),
            ("s3cret%2", "%25"),
            ("s3cret%zz", "%25"),
            ("s3cret%ff", "UTF-8"),
            ("s3cret%00", "NUL"),
        ] {
            let message = decode("the password", text).unwrap_err().to_string();
            assert!(message.contains("the password") && message.contains(says), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
