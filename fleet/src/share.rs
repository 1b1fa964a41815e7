//! Tokens of share links: a way into one port of one workspace, until a moment.
//!
//! A token names its link, so that one link can be revoked without the others; where it leads is
//! not in it but under its signature, so that it is good for one host only.
//!
//! Must never happen here: a comparison that takes longer the more of a forgery is right.

use std::io;
use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::hmac;
use time::OffsetDateTime;

use crate::durable;
use crate::id::{LinkId, Slug};

/// Where the key is kept, within the data dir.
const FILE: &str = "share-key";
/// Longest text that may be a token.
pub const TOKEN_MAX: usize = 128;

/// Signs and checks. One for all gateways of a platform.
pub struct ShareKey(hmac::Key);

impl std::fmt::Debug for ShareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShareKey")
    }
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// By which link.
    pub link: LinkId,
    /// Until when.
    pub expires_at: OffsetDateTime,
}

impl ShareKey {
    /// The data dir's; made if there is none. Blocking, for the start of a process.
    ///
    /// # Errors
    /// What the file system says; `InvalidData` for a file that is not a key.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let text = match durable::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bits: [u8; 32] = rand::random();
                let text = format!("{}\n", HEXLOWER.encode(&bits)).into_bytes();
                durable::write(&path, &text)?;
                text
            }
            Err(error) => return Err(error),
        };
        let bits = HEXLOWER.decode(text.trim_ascii()).ok();
        let bits = bits.and_then(|bits| <[u8; 32]>::try_from(bits).ok());
        let bits = bits.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "share-key must be 64 hexadecimal digits; or remove it, which ends all share links",
            )
        })?;
        Ok(Self::from_bits(&bits))
    }

    /// Of these bits.
    pub fn from_bits(bits: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bits))
    }

    /// The token of a link to a port (none: the main one) of `slug`. Safe in URLs and cookies.
    pub fn sign(&self, slug: &Slug, port: Option<u16>, grant: &Grant) -> String {
        let expires = grant.expires_at.unix_timestamp();
        let signed = hmac::sign(&self.0, &subject(slug, port, &grant.link, expires));
        let signature = BASE64URL_NOPAD.encode(signed.as_ref());
        format!("{}.{expires}.{signature}", grant.link)
    }

    /// A mark of `text` that only this key makes: eight letters for names that must not be mixed up.
    pub fn mark(&self, text: &str) -> String {
        let signed = hmac::sign(&self.0, format!("mark/1\n{text}").as_bytes());
        let start = signed.as_ref().get(..4).unwrap_or_default();
        HEXLOWER.encode(start)
    }

    /// What `token` allows at that port of `slug`; none if we never said so. Whether it is over,
    /// or revoked, is the caller's to judge.
    pub fn check(&self, token: &str, slug: &Slug, port: Option<u16>) -> Option<Grant> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let mut parts = token.splitn(3, '.');
        let link: LinkId = parts.next()?.parse().ok()?;
        let expires: i64 = parts.next()?.parse().ok()?;
        let signature = BASE64URL_NOPAD.decode(parts.next()?.as_bytes()).ok()?;
        hmac::verify(&self.0, &subject(slug, port, &link, expires), &signature).ok()?;
        let expires_at = OffsetDateTime::from_unix_timestamp(expires).ok()?;
        Some(Grant { link, expires_at })
    }
}

/// None of the parts can contain the separator.
fn subject(slug: &Slug, port: Option<u16>, link: &LinkId, expires: i64) -> Vec<u8> {
    let port = port.unwrap_or(0);
    format!("share/1\n{slug}\n{port}\n{link}\n{expires}").into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> Grant {
        Grant {
            link: LinkId::mint(),
            expires_at: OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap(),
        }
    }

    #[test]
    fn a_token_is_good_for_one_port_of_one_host_under_one_key() {
        let (key, slug, grant) = (ShareKey::from_bits(&[7; 32]), Slug::mint(), grant());
        let token = key.sign(&slug, Some(3000), &grant);
        assert!(token.len() <= TOKEN_MAX, "{token}");
        assert_eq!(key.check(&token, &slug, Some(3000)), Some(grant));
        assert_eq!(key.check(&token, &slug, None), None);
        assert_eq!(key.check(&token, &slug, Some(3001)), None);
        assert_eq!(key.check(&token, &Slug::mint(), Some(3000)), None);
        let other = ShareKey::from_bits(&[8; 32]);
        assert_eq!(other.check(&token, &slug, Some(3000)), None);
    }

    #[test]
    fn the_key_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (slug, grant) = (Slug::mint(), grant());
        let token = ShareKey::open(dir.path())
            .unwrap()
            .sign(&slug, None, &grant);
        let again = ShareKey::open(dir.path()).unwrap();
        assert_eq!(again.check(&token, &slug, None), Some(grant));
        std::fs::write(dir.path().join(FILE), "not a key").unwrap();
        assert!(ShareKey::open(dir.path()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_but_the_token_itself_passes(at in 0_usize..90, letter in "[a-zA-Z0-9._-]") {
            let (key, slug) = (ShareKey::from_bits(&[7; 32]), Slug::mint());
            let token = key.sign(&slug, None, &grant());
            let mut forged = token.clone();
            let at = at % token.len();
            forged.replace_range(at..=at, &letter);
            prop_assert_eq!(key.check(&forged, &slug, None).is_some(), forged == token);
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,140}") {
            let key = ShareKey::from_bits(&[7; 32]);
            prop_assert_eq!(key.check(&text, &Slug::mint(), None), None);
        }
    }
}
