//! The system's store, the way Debian keeps it: files in a directory for local CAs, links to them
//! and a bundle made by `update-ca-certificates`.
//!
//! Adding or replacing one is only noticed by that program if its link is not there yet, and a
//! link whose file is gone is not removed by it: so our own links are removed here first.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::command::{Failure, run};
use super::{Anchor, Outcome};

/// Where the store is.
#[derive(Debug)]
pub struct Store {
    /// CAs that this machine's administrator added.
    pub local: PathBuf,
    /// Links to all CAs, and the bundle.
    pub links: PathBuf,
    /// For tests: the same program on other directories.
    pub extra_arguments: Vec<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            local: "/usr/local/share/ca-certificates".into(),
            links: "/etc/ssl/certs".into(),
            extra_arguments: Vec::new(),
        }
    }
}

impl Store {
    pub async fn add(&self, anchor: &Anchor) -> Outcome {
        let (Some(pem), file) = (&anchor.pem, self.file(anchor)) else {
            return Outcome::Done("system store: nothing to add".to_owned());
        };
        if self.is_complete(anchor) {
            return Outcome::Done(format!("system store: it is in there, {}", file.display()));
        }
        if !self.local.is_dir() {
            return by_hand(&anchor.file);
        }
        let placed = self.remove_links(anchor).and_then(|()| place(&file, pem));
        if let Err(error) = placed {
            return failed(&file, &error);
        }
        match self.update().await {
            Ok(()) => Outcome::Done(format!("system store: added {}", file.display())),
            Err(Failure::Missing) => {
                // Without the program the file means nothing: leave no trace.
                let _ = fs::remove_file(&file);
                by_hand(&anchor.file)
            }
            Err(Failure::Failed(text)) => Outcome::Failed(format!("system store: {text}")),
        }
    }

    pub async fn remove(&self, anchor: &Anchor) -> Outcome {
        let file = self.file(anchor);
        let was_there = match fs::remove_file(&file) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return failed(&file, &error),
        };
        if !was_there && self.our_links(anchor).is_empty() {
            return Outcome::Done("system store: it is not in there".to_owned());
        }
        if let Err(error) = self.remove_links(anchor) {
            return failed(&self.links, &error);
        }
        match self.update().await {
            Ok(()) => Outcome::Done(format!("system store: removed {}", file.display())),
            Err(Failure::Missing) => {
                Outcome::Failed("system store: update-ca-certificates is missing".to_owned())
            }
            Err(Failure::Failed(text)) => Outcome::Failed(format!("system store: {text}")),
        }
    }

    /// Where the certificate is put.
    pub fn file(&self, anchor: &Anchor) -> PathBuf {
        self.local.join(format!("{}.crt", anchor.name))
    }

    /// All CAs of the system in one file.
    pub fn bundle(&self) -> PathBuf {
        self.links.join("ca-certificates.crt")
    }

    /// The certificate is in the file, in the links and in the bundle.
    pub fn is_complete(&self, anchor: &Anchor) -> bool {
        let holds = |path: &Path| fs::read_to_string(path).is_ok_and(|text| anchor.is_in(&text));
        holds(&self.file(anchor))
            && holds(&self.bundle())
            && self.our_links(anchor).iter().any(|link| holds(link))
    }

    /// `<name>.pem`, and the links to it under the hash of its subject.
    fn our_links(&self, anchor: &Anchor) -> Vec<PathBuf> {
        let own = format!("{}.pem", anchor.name);
        let entries = fs::read_dir(&self.links).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                let target = fs::read_link(entry.path());
                target.is_ok_and(|to| *entry.file_name() == *own || to.as_os_str() == own.as_str())
            })
            .map(|entry| entry.path())
            .collect()
    }

    fn remove_links(&self, anchor: &Anchor) -> io::Result<()> {
        self.our_links(anchor).iter().try_for_each(fs::remove_file)
    }

    async fn update(&self) -> Result<(), Failure> {
        let mut command = Command::new("update-ca-certificates");
        command.args(&self.extra_arguments).env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        run(&mut command, "").await.map(drop)
    }
}

/// Readable by all, like every CA of the system.
fn place(file: &Path, pem: &str) -> io::Result<()> {
    fleet::durable::write(file, pem.as_bytes())?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
}

fn failed(path: &Path, error: &io::Error) -> Outcome {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root (sudo)",
        _ => "",
    };
    Outcome::Failed(format!("system store: {}: {error}{help}", path.display()))
}

fn by_hand(file: &Path) -> Outcome {
    Outcome::Failed(format!(
        "system store: not kept the way of Debian here (no update-ca-certificates; on Debian: \
         apt-get install ca-certificates); add {} by this system's own means",
        file.display()
    ))
}
