//! The stores of Chromium and Firefox (NSS databases) of the user who called, also through sudo.
//! They are changed by `certutil` running as that user, and only where they exist.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use tokio::process::Command;

use super::command::{Failure, run};
use super::{Anchor, Outcome};

/// Who called, and whose browsers are meant.
#[derive(Debug)]
pub struct Caller {
    /// For people.
    pub name: String,
    pub home: PathBuf,
    /// Whom to become before touching the user's files; none if we are that user.
    pub become_user: Option<(u32, u32)>,
}

impl Caller {
    /// The user who called sudo, else the one who runs this; a nobody without home is fine.
    pub fn find() -> Self {
        let by_sudo = std::env::var("SUDO_UID").ok();
        let by_sudo = by_sudo.and_then(|uid| uid.parse().ok()).map(Uid::from_raw);
        let me = Uid::effective();
        let other = by_sudo.filter(|uid| me.is_root() && *uid != me);
        let user = User::from_uid(other.unwrap_or(me)).ok().flatten();
        user.map_or_else(
            || Self {
                name: me.to_string(),
                home: PathBuf::from("/nonexistent"),
                become_user: None,
            },
            |user| Self {
                become_user: other.map(|_| (user.uid.as_raw(), user.gid.as_raw())),
                home: user.dir,
                name: user.name,
            },
        )
    }

    pub async fn add(&self, anchor: &Anchor) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for database in self.databases() {
            outcomes.push(self.add_to(&database, anchor).await);
        }
        if outcomes.is_empty() {
            outcomes.push(Outcome::Done(self.none()));
        }
        outcomes
    }

    pub async fn remove(&self, anchor: &Anchor) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for database in self.databases() {
            outcomes.push(self.remove_from(&database, anchor).await);
        }
        if outcomes.is_empty() {
            outcomes.push(Outcome::Done(self.none()));
        }
        outcomes
    }

    fn none(&self) -> String {
        format!(
            "browsers of {}: no Chromium or Firefox profile found",
            self.name
        )
    }

    /// NSS databases in the places where browsers keep them.
    fn databases(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for place in [".pki/nssdb", "snap/chromium/current/.pki/nssdb"] {
            found.push(self.home.join(place));
        }
        for place in [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"] {
            let profiles = fs::read_dir(self.home.join(place));
            found.extend(
                profiles
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
        found.retain(|database| database.join("cert9.db").is_file());
        found.sort_unstable();
        found
    }

    async fn add_to(&self, database: &Path, anchor: &Anchor) -> Outcome {
        let shown = database.display();
        match self
            .certutil(database, &["-L", "-a", "-n", &anchor.name], "")
            .await
        {
            Ok(text) if anchor.is_in(&text) => {
                return Outcome::Done(format!("browsers: it is in {shown}"));
            }
            Err(Failure::Missing) => return missing(database),
            // Another CA of an earlier time under our name, or none.
            Ok(_) | Err(Failure::Failed(_)) => self.delete(database, anchor).await,
        };
        let pem = anchor.pem.as_deref().unwrap_or_default();
        let arguments = ["-A", "-a", "-n", &anchor.name, "-t", "C,,"];
        match self.certutil(database, &arguments, pem).await {
            Ok(_) => Outcome::Done(format!("browsers: added to {shown}; restart them")),
            Err(Failure::Missing) => missing(database),
            Err(Failure::Failed(text)) => Outcome::Failed(format!("browsers: {shown}: {text}")),
        }
    }

    async fn remove_from(&self, database: &Path, anchor: &Anchor) -> Outcome {
        let shown = database.display();
        let listed = ["-L", "-n", &anchor.name];
        match self.certutil(database, &listed, "").await {
            Err(Failure::Missing) => return missing(database),
            Err(Failure::Failed(_)) => {
                return Outcome::Done(format!("browsers: it is not in {shown}"));
            }
            Ok(_) => self.delete(database, anchor).await,
        };
        match self.certutil(database, &listed, "").await {
            Err(_) => Outcome::Done(format!("browsers: removed from {shown}; restart them")),
            Ok(_) => Outcome::Failed(format!("browsers: {shown}: certutil did not remove it")),
        }
    }

    /// Its outcome is seen by looking again.
    async fn delete(&self, database: &Path, anchor: &Anchor) {
        let _ = self
            .certutil(database, &["-D", "-n", &anchor.name], "")
            .await;
    }

    async fn certutil(
        &self,
        database: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, Failure> {
        let mut command = Command::new("certutil");
        let mut place = std::ffi::OsString::from("sql:");
        place.push(database);
        command
            .arg("-d")
            .arg(place)
            .args(arguments)
            .env("HOME", &self.home);
        if let Some((uid, gid)) = self.become_user {
            command.uid(uid).gid(gid);
        }
        run(&mut command, input).await
    }
}

fn missing(database: &Path) -> Outcome {
    Outcome::Failed(format!(
        "browsers: {} needs certutil (Debian: apt-get install libnss3-tools), then run this again",
        database.display()
    ))
}
