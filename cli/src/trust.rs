//! `fleeks trust`, `untrust` and `ca`: the development CA in the stores of this machine, out of
//! them again, and without them.
//!
//! Two kinds of stores: the system's ([`system`]), and those that the browsers of the user who
//! called keep for themselves ([`browsers`]). Both are looked at before they are changed, so that
//! repeating a call changes nothing, and `untrust` takes out what `trust` put in and no more.
//!
//! Must never happen here: a key that leaves the data dir; a file of the user written as root.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

mod browsers;
mod command;
mod system;

#[cfg(test)]
mod tests;

/// What is put into stores, and under which name.
#[derive(Debug)]
struct Anchor {
    /// Unique on this machine: `fleeks-<instance>`.
    name: String,
    file: PathBuf,
    /// Content of `file`; none if there is none (only `untrust` goes on then).
    pem: Option<String>,
}

/// What became of one store, for people.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is as wanted now; says what was done or that nothing was to be done.
    Done(String),
    /// It is not; says why, and what helps.
    Failed(String),
}

/// Makes this machine trust the CA of a data dir.
///
/// # Errors
/// When a store that is there could not be changed; the others are changed all the same.
pub async fn trust(data_dir: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let anchor = Anchor::of(data_dir)?;
    if anchor.pem.is_none() {
        bail!(
            "{} is not there yet: `fleeks up` makes it on its first start",
            anchor.file.display()
        );
    }
    let store = system::Store::default();
    let mut outcomes = vec![store.add(&anchor).await];
    outcomes.extend(browsers::Caller::find().add(&anchor).await);
    let all_done = report(&outcomes, out)?;
    writeln!(
        out,
        "The CA is limited to its domain; it can vouch for no other name."
    )?;
    if store.is_complete(&anchor) {
        let (bundle, file) = (store.bundle(), store.file(&anchor));
        writeln!(
            out,
            "Python's and Node's packages have lists of their own; tell them: \
             SSL_CERT_FILE={0} REQUESTS_CA_BUNDLE={0} NODE_EXTRA_CA_CERTS={1}",
            bundle.display(),
            file.display()
        )?;
    }
    all_done
}

/// Undoes [`trust`].
///
/// # Errors
/// When a store that is there could not be changed; the others are changed all the same.
pub async fn untrust(data_dir: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let anchor = Anchor::of(data_dir)?;
    let mut outcomes = vec![system::Store::default().remove(&anchor).await];
    outcomes.extend(browsers::Caller::find().remove(&anchor).await);
    report(&outcomes, out)?
}

/// Tells where the CA's certificate is, and how to use it without trusting it anywhere.
///
/// # Errors
/// When there is none.
pub fn ca(data_dir: &Path, api_url: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let anchor = Anchor::of(data_dir)?;
    let path = anchor.file.display();
    if anchor.pem.is_none() {
        bail!("{path} is not there yet: `fleeks up` makes it on its first start");
    }
    let api_url = api_url.trim_end_matches('/');
    writeln!(out, "{path}")?;
    writeln!(out, "curl --cacert {path} {api_url}/health")?;
    Ok(())
}

impl Anchor {
    fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let file = data_dir.join("ca.pem");
        let instance = fleet::instance::instance_of(data_dir)
            .with_context(|| format!("cannot read {} (try sudo)", data_dir.display()))?;
        let Some(instance) = instance else {
            bail!("{} is no data dir of fleeks", data_dir.display());
        };
        let pem = match std::fs::read_to_string(&file) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        // Stores hand it to every program: refuse what should never have been in this file.
        if pem.as_ref().is_some_and(|pem| pem.contains("PRIVATE KEY")) {
            bail!("{} holds a key and is not installed", file.display());
        }
        Ok(Self {
            name: format!("fleeks-{instance}"),
            file,
            pem,
        })
    }

    /// Whether `text` holds this certificate; stores differ in line ends.
    fn is_in(&self, text: &str) -> bool {
        let plain = |text: &str| -> String { text.split_whitespace().collect() };
        let pem = self.pem.as_deref().map(plain);
        pem.is_some_and(|pem| plain(text).contains(&pem))
    }
}

/// Prints all outcomes; the result is an error if any failed.
fn report(outcomes: &[Outcome], out: &mut impl Write) -> io::Result<anyhow::Result<()>> {
    let mut failed = String::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Done(text) => writeln!(out, "{text}")?,
            Outcome::Failed(text) => {
                let _ = write!(failed, "\n  {text}");
            }
        }
    }
    Ok(if failed.is_empty() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("not everywhere:{failed}"))
    })
}
