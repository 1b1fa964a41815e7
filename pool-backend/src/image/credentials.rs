//! Who we are at registries: `registry-auth.json` in the data dir, or the file that
//! `FLEEKS_REGISTRY_AUTH` names, in the form that container tools keep theirs:
//!
//! ```json
//! {"auths": {"registry.example": {"auth": "<base64 of user:password>"}}}
//! ```
//!
//! Must never happen here: a secret logged, taken from arguments, or read from a file that others
//! may read.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use super::ImageError;

const VARIABLE: &str = "FLEEKS_REGISTRY_AUTH";
const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

/// Where they are.
pub(super) fn file(data_dir: &Path) -> PathBuf {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    named.unwrap_or_else(|| data_dir.join("registry-auth.json"))
}

/// Ours for a registry; anonymous where the file is missing or names it not.
///
/// # Errors
/// [`ImageError::Credentials`].
pub(super) fn of(registry: &str, file: &Path) -> Result<RegistryAuth, ImageError> {
    let wrong = |problem: &str| ImageError::Credentials(format!("{}: {problem}", file.display()));
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(RegistryAuth::Anonymous);
        }
        Err(error) => return Err(wrong(&error.to_string())),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others may read it; `chmod 600` mends that"));
    }
    if metadata.len() > LARGEST {
        return Err(wrong("it is too large"));
    }
    let text = std::fs::read(file).map_err(|error| wrong(&error.to_string()))?;
    // What serde says could quote it.
    let written: Written =
        serde_json::from_slice(&text).map_err(|_| wrong("it is not of the form {\"auths\": …}"))?;
    let found = names(registry)
        .iter()
        .find_map(|name| written.auths.get(name.as_str()));
    let Some(entry) = found else {
        return Ok(RegistryAuth::Anonymous);
    };
    if !entry.username.is_empty() {
        let (user, password) = (entry.username.clone(), entry.password.clone());
        return Ok(RegistryAuth::Basic(user, password));
    }
    let decoded = data_encoding::BASE64
        .decode(entry.auth.trim().as_bytes())
        .ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned())),
        None => Err(wrong(&format!(
            "the entry of {registry} is no base64 of user:password"
        ))),
    }
}

/// How tools call a registry in that file.
fn names(registry: &str) -> Vec<String> {
    let mut names = vec![registry.to_owned(), format!("https://{registry}")];
    if matches!(registry, "docker.io" | "index.docker.io") {
        names.push("https://index.docker.io/v1/".to_owned());
        names.push("docker.io".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_name_and_never_from_a_file_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        assert!(matches!(
            of("a.example", &file),
            Ok(RegistryAuth::Anonymous)
        ));
        let said = r#"{"auths": {"a.example": {"auth": "bWU6YTpi"}, "https://index.docker.io/v1/":
            {"username": "u", "password": "p"}, "c.example": {"auth": "?"}}, "credsStore": "x"}"#;
        std::fs::write(&file, said).unwrap();
        let mode =
            |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(of("a.example", &file).is_err());
        mode(0o600);
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());
        assert!(of("a.example", &file).unwrap() == basic("me", "a:b"));
        assert!(of("index.docker.io", &file).unwrap() == basic("u", "p"));
        assert!(of("b.example", &file).unwrap() == RegistryAuth::Anonymous);
        let told = of("c.example", &file).unwrap_err().to_string();
        assert!(told.contains("c.example"), "{told}");
    }
}
