//! What an image says of itself: only what can mean something in a workspace is taken. Its user is
//! not (the node decides whose a container's processes are), nor its working directory (that is
//! the volume), but a template without a command of its own gets the image's, in the image's
//! directory.
//!
//! Must never happen here: a variable that changes what the platform promises of every workspace.

use serde::{Deserialize, Serialize};

use super::{ImageError, hex_of};
use crate::oci;

/// More variables than this are nobody's environment.
const MOST_VARIABLES: usize = 256;
/// Likewise bytes, of all of them.
const MOST_BYTES: usize = 64 << 10;

/// What counts of an image's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct About {
    /// Without what every container has; see [`oci::environment`].
    pub(crate) environment: Vec<(String, String)>,
    /// Directories of its PATH that are not the system's.
    pub(crate) path: Vec<String>,
    /// Its command as a shell line, with the directory where it wants to run.
    pub(crate) run: Option<String>,
    /// TCP ports that it says it listens on.
    pub(crate) ports: Vec<u16>,
}

#[derive(Deserialize)]
struct Written {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Config>,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// And the digests of its layers as they are before compression.
///
/// # Errors
/// [`ImageError::Unfit`].
pub(super) fn read(text: &[u8]) -> Result<(About, Vec<String>), ImageError> {
    let unfit = |problem: String| ImageError::Unfit(problem);
    let written: Written = serde_json::from_slice(text)
        .map_err(|error| unfit(format!("its configuration is no image's: {error}")))?;
    if (written.os.as_str(), written.architecture.as_str()) != ("linux", "amd64") {
        let (os, architecture) = (written.os, written.architecture);
        return Err(unfit(format!(
            "it is for {os:?} on {architecture:?}, and this machine is linux on amd64"
        )));
    }
    let diffs = written.rootfs.diff_ids;
    if let Some(strange) = diffs.iter().find(|diff| hex_of(diff).is_none()) {
        return Err(unfit(format!("{strange:?} is no SHA-256 digest")));
    }
    let config = written.config.unwrap_or_default();
    let mut about = About::default();
    let variables = config.env.unwrap_or_default();
    let bytes: usize = variables.iter().map(String::len).sum();
    if variables.len() > MOST_VARIABLES || bytes > MOST_BYTES {
        return Err(unfit("its environment is too large".to_owned()));
    }
    let own: Vec<String> = oci::environment()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for variable in variables {
        let Some((name, value)) = variable.split_once('=') else {
            continue;
        };
        if name == "PATH" {
            about.path = further_path(value);
        } else if !own.iter().any(|there| there == name) && crate::template::is_variable(name) {
            about.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    let words: Vec<String> = [config.entrypoint, config.cmd]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    if !words.is_empty() && words.iter().all(|word| !word.contains('\0')) {
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let line = line.join(" ");
        about.run = Some(match config.working_dir.as_deref() {
            None | Some("" | "/") => line,
            Some(directory) => format!("cd {} && {line}", quoted(directory)),
        });
    }
    let ports = config.exposed_ports.unwrap_or_default().into_keys();
    about.ports = ports
        .filter_map(|port| port.trim_end_matches("/tcp").parse().ok())
        .filter(|port| *port != 0)
        .collect();
    about.ports.sort_unstable();
    Ok((about, diffs))
}

fn further_path(path: &str) -> Vec<String> {
    let system: Vec<&str> = oci::SYSTEM_PATH.split(':').collect();
    path.split(':')
        .filter(|directory| directory.starts_with('/') && !system.contains(directory))
        .map(str::to_owned)
        .collect()
}

/// As one word of a shell line.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(config: &serde_json::Value) -> serde_json::Value {
        json!({
            "os": "linux", "architecture": "amd64", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))] },
        })
    }

    fn about(said: &serde_json::Value) -> About {
        read(config(said).to_string().as_bytes()).unwrap().0
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let about = about(&json!({
            "Env": [
                "PATH=/usr/local/go/bin:/usr/bin:relative", "GOPATH=/go", "HOME=/root",
                "SSL_CERT_FILE=/x", "bad name=1", "alone", "EMPTY=",
            ],
            "Entrypoint": ["/serve"], "Cmd": ["--say", "it's"], "WorkingDir": "/my app",
            "User": "1000", "ExposedPorts": { "8080/tcp": {}, "53/udp": {}, "443": {} },
        }));
        assert_eq!(about.path, ["/usr/local/go/bin"]);
        let names: Vec<&str> = about
            .environment
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["GOPATH", "EMPTY"]);
        assert_eq!(
            about.run.as_deref(),
            Some(r"cd '/my app' && /serve --say 'it'\''s'")
        );
        assert_eq!(about.ports, [443, 8080]);
    }

    #[test]
    fn an_empty_one_is_one() {
        assert_eq!(about(&serde_json::Value::Null), About::default());
        assert_eq!(
            about(&json!({ "Env": null, "Cmd": null })),
            About::default()
        );
    }

    #[test]
    fn others_are_refused() {
        let change = |name: &str, value: serde_json::Value| {
            let mut config = config(&json!({}));
            config[name] = value;
            read(config.to_string().as_bytes()).unwrap_err().to_string()
        };
        assert!(change("architecture", json!("arm64")).contains("arm64"));
        assert!(change("os", json!("windows")).contains("windows"));
        assert!(change("rootfs", json!({ "diff_ids": ["md5:1"] })).contains("md5:1"));
        let many: Vec<String> = (0..300).map(|number| format!("A{number}=1")).collect();
        assert!(change("config", json!({ "Env": many })).contains("too large"));
        assert!(read(b"[]").is_err());
    }
}
