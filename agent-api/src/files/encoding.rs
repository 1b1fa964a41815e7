//! Text of the wire to bytes of a file and back.

use std::str::FromStr;

use bytes::Bytes;
use data_encoding::BASE64;

use crate::Problem;

/// How `content` stands for a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    /// Each letter U+0000–U+00FF is a byte.
    Latin1,
    Ascii,
    /// Not the SDK's: for any client that has bytes and wants JSON.
    Base64,
}

impl FromStr for Encoding {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "" | "utf-8" | "utf8" => Ok(Self::Utf8),
            "latin-1" | "latin1" | "iso-8859-1" => Ok(Self::Latin1),
            "ascii" | "us-ascii" => Ok(Self::Ascii),
            "base64" => Ok(Self::Base64),
            _ => Err(Problem::invalid(
                "encoding must be utf-8, latin-1, ascii or base64",
            )),
        }
    }
}

impl Encoding {
    /// The bytes to write.
    pub(crate) fn encode(self, content: String) -> Result<Bytes, Problem> {
        match self {
            Self::Utf8 => Ok(content.into()),
            Self::Ascii if content.is_ascii() => Ok(content.into()),
            Self::Ascii => Err(Problem::invalid("content is not ASCII")),
            Self::Latin1 => content
                .chars()
                .map(|letter| u8::try_from(u32::from(letter)).ok())
                .collect::<Option<Vec<u8>>>()
                .map(Bytes::from)
                .ok_or_else(|| Problem::invalid("content is not Latin-1")),
            Self::Base64 => BASE64
                .decode(content.as_bytes())
                .map(Bytes::from)
                .map_err(|error| Problem::invalid(format!("content is not base64: {error}"))),
        }
    }

    /// The text to answer.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<String, Problem> {
        let not = |what: &str| {
            Problem::invalid(format!(
                "the file is not {what} text; read it with binary=true or encoding=base64"
            ))
        };
        match self {
            Self::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| not("UTF-8")),
            Self::Ascii if bytes.is_ascii() => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Self::Ascii => Err(not("ASCII")),
            Self::Latin1 => Ok(bytes.iter().copied().map(char::from).collect()),
            Self::Base64 => Ok(BASE64.encode(bytes)),
        }
    }
}

/// Bytes as the inside of a JSON string, each as the letter of its number.
pub(crate) fn latin1_json(bytes: &[u8]) -> Bytes {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend(b"\\u00");
                out.extend([HEX[high], HEX[low]]);
            }
            0x20..0x80 => out.push(byte),
            0x80.. => out.extend([0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn binary_reads_are_exact(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut json = b"\"".to_vec();
            json.extend(latin1_json(&bytes));
            json.push(b'"');
            let text: String = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(Encoding::Latin1.encode(text).unwrap(), bytes);
        }

        #[test]
        fn every_encoding_gives_back_what_it_took(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for encoding in [Encoding::Utf8, Encoding::Latin1, Encoding::Ascii, Encoding::Base64] {
                if let Ok(text) = encoding.decode(&bytes) {
                    prop_assert_eq!(encoding.encode(text).unwrap(), &bytes);
                }
            }
        }
    }

    #[test]
    fn names_and_refusals() {
        assert_eq!("UTF_8".parse::<Encoding>().unwrap(), Encoding::Utf8);
        assert!("utf-16".parse::<Encoding>().is_err());
        assert!(Encoding::Latin1.encode("€".to_owned()).is_err());
        assert!(Encoding::Ascii.encode("ü".to_owned()).is_err());
        assert!(Encoding::Base64.encode("?".to_owned()).is_err());
        assert!(Encoding::Utf8.decode(b"\xff").is_err());
    }
}
