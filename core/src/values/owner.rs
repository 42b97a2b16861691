use std::{fmt, io};

/// The proof of who holds a lock: 128 random bits, minted for each acquisition *before* its request is sent.
///
/// It is a secret between the holder and the store: a process that knows it can renew and release the lock. Its `Debug`
/// output does not contain it, and db-mutex never logs it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// Mints a token from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has no random numbers yet, which can happen early at boot.
    pub fn mint() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Converts from the 16 bytes that a store keeps.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes that a store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The token as 32 hexadecimal digits. Treat the text as the secret that it is.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Parses the output of [`to_hex`](Self::to_hex); `None` for any other text.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 32 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_token() {
        let token = OwnerToken::from_bytes([0xab; 16]);
        assert_eq!(format!("{token:?}"), "OwnerToken(..)");
    }

    #[test]
    fn hex_round_trips() {
        let token = OwnerToken::mint().unwrap();
        assert_eq!(OwnerToken::from_hex(&token.to_hex()), Some(token));
        assert_eq!(OwnerToken::from_hex("zz"), None);
        assert_eq!(OwnerToken::from_hex(&"+1".repeat(16)), None);
    }

    #[test]
    fn no_two_tokens_are_alike() {
        assert_ne!(OwnerToken::mint().unwrap(), OwnerToken::mint().unwrap());
    }
}
