//! What every command that speaks with a platform needs: a client, and how to tell what came of it.
//!
//! Must never happen here: a key of this machine sent to another.

use std::future::Future;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Instant;

use fleet::timing;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;

use crate::args::RemoteArgs;
use crate::client::{self, Client, ClientError, encode};

/// See the module.
pub struct Session {
    /// Calls the API.
    pub client: Client,
    /// Tell it to a script.
    pub json: bool,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The call.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal or pipe.
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
    /// A file of this machine.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command makes no sense as it is; the text says what to write.
    #[error("{0}")]
    Usage(String),
    /// No key, or none that can be one; the text says where one is to be given.
    #[error("{0}")]
    Key(String),
    /// What is asked for is not there.
    #[error("{0}")]
    Absent(String),
    /// The platform said something that this program does not understand.
    #[error("the answer has no {0}: is the platform of another version?")]
    Answer(&'static str),
    /// The rest.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

impl Session {
    /// As the command line says.
    ///
    /// # Errors
    /// No key, or an address that cannot be.
    pub fn new(remote: &RemoteArgs) -> Result<Self, Failure> {
        let local = client::is_local(&remote.api);
        let data_dir = remote.data.or_default();
        let key = match &remote.key {
            Some(key) => key.trim().to_owned(),
            None if local => Client::read_key(&data_dir)?,
            None => {
                return Err(Failure::Key(format!(
                    "{} is another machine: give its key with --key or FLEEKS_API_KEY",
                    remote.api
                )));
            }
        };
        // It goes into a header, as it is.
        if HeaderValue::from_str(&key).is_err() {
            let problem = "the API key has a line end or another letter that no key has";
            return Err(Failure::Key(problem.to_owned()));
        }
        let mut authorities: Vec<PathBuf> = remote.ca.iter().cloned().collect();
        let own = data_dir.join("ca.pem");
        if local && own.exists() {
            authorities.push(own);
        }
        Ok(Self {
            client: Client::new(&remote.api, key, &authorities)?,
            json: remote.json,
        })
    }

    /// GET.
    ///
    /// # Errors
    /// The call's.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.client.call(Method::GET, path, None).await?)
    }

    /// POST; `null` sends nothing.
    ///
    /// # Errors
    /// The call's.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = (!body.is_null()).then_some(body);
        Ok(self.client.call(Method::POST, path, body).await?)
    }

    /// DELETE.
    ///
    /// # Errors
    /// The call's.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.client.call(Method::DELETE, path, None).await?)
    }

    /// What is known of a workspace.
    ///
    /// # Errors
    /// The call's.
    pub async fn workspace(&self, name: &str) -> Result<Value, Failure> {
        self.get(&workspace_path(name)).await
    }

    /// Path of a call on a workspace's container.
    ///
    /// # Errors
    /// The call's that finds it.
    pub async fn container_path(&self, name: &str, end: &str) -> Result<String, Failure> {
        let found = self.workspace(name).await?;
        let id = found["container_id"]
            .as_str()
            .ok_or(Failure::Answer("container_id"))?;
        Ok(format!("/api/v1/sdk/containers/{}/{end}", encode(id)))
    }

    /// Prints the document that a script gets.
    ///
    /// # Errors
    /// The pipe's.
    pub fn document(&self, value: &Value) -> Result<(), Failure> {
        writeln!(io::stdout(), "{value:#}")?;
        Ok(())
    }

    /// Waits, and shows a person at a terminal that it does.
    pub async fn patiently<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.progress(|| format!("{what} …"), work).await
    }

    /// [`Session::patiently`] with words that change.
    pub async fn progress<T>(&self, what: impl Fn() -> String, work: impl Future<Output = T>) -> T {
        if self.json || !io::stderr().is_terminal() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        let began = Instant::now();
        let mut tick = tokio::time::interval(timing::SPINNER);
        let mut shown = false;
        loop {
            tokio::select! {
                done = &mut work => {
                    if shown {
                        let _ = write!(io::stderr(), "\r\x1b[K");
                    }
                    return done;
                }
                _ = tick.tick() => {
                    // What is done at once needs no show.
                    let took = began.elapsed();
                    if took >= timing::SPINNER_AFTER {
                        shown = true;
                        let _ = write!(
                            io::stderr(),
                            "\r\x1b[K{} {:.1} s",
                            what(),
                            took.as_secs_f64()
                        );
                        let _ = io::stderr().flush();
                    }
                }
            }
        }
    }
}

/// Path of a call on a workspace.
pub fn workspace_path(name: &str) -> String {
    format!("/api/v1/sdk/workspaces/{}", encode(name))
}
