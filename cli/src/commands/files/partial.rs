//! A file that is written beside its name first: whole or not at all, also when a signal ends it.
//!
//! Must never happen here: a device or FIFO replaced by a file.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::at;
use crate::commands::Outcome;
use crate::session::Failure;

/// See the module. Dropped before [`Partial::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Partial {
    file: File,
    target: PathBuf,
    /// Where it is until it is whole; none when it is written where it belongs at once.
    beside: Option<PathBuf>,
}

impl Partial {
    /// Begins one that becomes `target`.
    pub fn new(target: &Path) -> Result<Self, Failure> {
        let failed = at(target);
        let target = match std::fs::metadata(target) {
            Ok(found) if found.is_dir() => {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            // A link stays one: what it leads to is replaced.
            Ok(found) if found.is_file() => target.canonicalize().map_err(&failed)?,
            Ok(_) => {
                let file = File::options().write(true).open(target);
                return Ok(Self {
                    file: file.map_err(failed)?,
                    target: target.to_owned(),
                    beside: None,
                });
            }
            Err(_) => target.to_owned(),
        };
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let beside = target.with_file_name(name);
        Ok(Self {
            file: File::create_new(&beside).map_err(failed)?,
            target,
            beside: Some(beside),
        })
    }

    /// What is written to, if it is a file of its own.
    pub fn own(&self) -> Option<&File> {
        self.beside.is_some().then_some(&self.file)
    }

    /// It is whole.
    pub fn finish(mut self) -> Result<(), Failure> {
        if let Some(beside) = &self.beside {
            std::fs::rename(beside, &self.target).map_err(at(&self.target))?;
            self.beside = None;
        }
        Ok(())
    }
}

impl io::Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // Nobody could do anything about it.
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Does work that Ctrl-C and SIGTERM end in order: what is dropped with it is cleaned up.
pub async fn interruptible(work: impl Future<Output = Result<(), Failure>>) -> Outcome {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let by = tokio::select! {
        done = work => return done.map(|()| ExitCode::SUCCESS),
        _ = interrupted.recv() => SignalKind::interrupt(),
        _ = terminated.recv() => SignalKind::terminate(),
    };
    // As a shell tells of such an end.
    let code = u8::try_from(128 + by.as_raw_value()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let here = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(here.path()).unwrap().count();
        let (target, link) = (here.path().join("f"), here.path().join("link"));
        let mut partial = Partial::new(&target).unwrap();
        partial.write_all(b"cut").unwrap();
        drop(partial);
        assert_eq!(names(), 0);
        let mut partial = Partial::new(&target).unwrap();
        partial.write_all(b"whole").unwrap();
        partial.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        std::os::unix::fs::symlink("f", &link).unwrap();
        let mut partial = Partial::new(&link).unwrap();
        partial.write_all(b"other").unwrap();
        partial.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&target).unwrap(), b"other");
        assert_eq!(names(), 2);
        assert!(Partial::new(here.path()).is_err());
        let null = Partial::new(Path::new("/dev/null")).unwrap();
        assert!(null.own().is_none());
        null.finish().unwrap();
    }
}
