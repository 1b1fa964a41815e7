//! Apps that a workspace shows: started with it, stopped, started again, looked at.
//!
//! Must never happen here: a wake just to look.

use std::sync::Arc;

use fleet::id::{JobId, PreviewId};
use fleet::lifecycle::State;
use fleet::record::{PreviewRecord, Showing};
use fleet::timing;
use init_protocol::{JobStatus, Run};
use time::OffsetDateTime;

use super::jobs::checked;
use super::{Command, Workspace, Workspaces};
use crate::error::{Error, ErrorKind};
use fleet::id::OwnerId;

/// Apps that one workspace shows at a time.
const ACTIVE_MAX: usize = 20;
/// Stopped ones that are remembered.
const STOPPED_MAX: usize = 30;
/// Bytes of an app's last words that are told.
const LAST_WORDS: usize = 400;

/// What to show.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in `PreviewRecord`")]
pub struct PreviewWish {
    pub port: u16,
    pub port_guessed: bool,
    pub framework: String,
    pub auto_detected: bool,
    pub command: Option<String>,
    pub environment: Vec<(String, String)>,
    pub health_path: String,
}

/// How an app stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewStatus {
    /// It was started a moment ago and does not listen yet.
    Starting,
    /// It listens, or sleeps and will go on where it was.
    Running,
    /// It was stopped.
    Stopped,
    /// Its command ended.
    Failed,
    /// It should listen and does not.
    Unhealthy,
}

/// An app and how it stands.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What is known of it.
    pub record: PreviewRecord,
    /// How it stands.
    pub status: PreviewStatus,
    /// Why it does not run; safe to show.
    pub problem: Option<String>,
}

impl Workspaces {
    /// The workspace that shows it. Starts nothing.
    ///
    /// # Errors
    /// `NotFound`, also for another owner's.
    pub fn by_preview(&self, owner: &OwnerId, id: &PreviewId) -> Result<Workspace, Error> {
        let mut handles = self.node.engine().table.of_owner(owner).into_iter();
        let shows = |showing: Arc<Showing>| showing.previews.iter().any(|known| known.id == *id);
        handles
            .find(|handle| shows(handle.showing()))
            .map(|handle| self.workspace(handle))
            .ok_or_else(no_such_preview)
    }
}

impl Workspace {
    /// All that it shows or showed, oldest first. Starts nothing.
    pub fn previews(&self) -> Vec<PreviewRecord> {
        self.handle.showing().previews.clone()
    }

    /// Shows an app; its port becomes the main one. With a command, the app is started, and again
    /// with every container that is made anew. The same wish again gets what is there; another one
    /// for the same port takes its place.
    ///
    /// # Errors
    /// As [`Workspace::start_job`]; `TooMany` beyond 20 at a time; `NoSpace`.
    pub async fn start_preview(&self, wish: PreviewWish) -> Result<PreviewRecord, Error> {
        let now = OffsetDateTime::now_utc();
        let preview = PreviewRecord {
            id: PreviewId::mint(),
            job: wish.command.is_some().then(JobId::mint),
            port: wish.port,
            port_guessed: wish.port_guessed,
            framework: wish.framework,
            auto_detected: wish.auto_detected,
            command: wish.command,
            environment: wish.environment,
            health_path: wish.health_path,
            created_at: now,
            started_at: now,
            stopped_at: None,
        };
        if let Some(command) = command_of(&preview) {
            checked(command, None)?;
        }
        let (preview, replaced) = self
            .amend(move |showing| begin(showing, preview, now))
            .await?;
        if let Some(job) = replaced {
            self.end_app(&job).await?;
        }
        self.run_app(&preview).await?;
        Ok(preview)
    }

    /// Starts its command anew.
    ///
    /// # Errors
    /// `NotFound`; as [`Workspace::start_job`].
    pub async fn restart_preview(&self, id: &PreviewId) -> Result<PreviewRecord, Error> {
        // Before the record changes: asleep, it may be one that calls do not wake.
        self.ensure_running().await?;
        let wanted = id.clone();
        let (preview, before) = self
            .amend(move |showing| {
                let known = find(showing, &wanted)?;
                let before = known.job.take();
                known.job = known.command.is_some().then(JobId::mint);
                known.started_at = OffsetDateTime::now_utc();
                known.stopped_at = None;
                Ok((known.clone(), before))
            })
            .await?;
        if let Some(job) = before {
            self.end_app(&job).await?;
        }
        self.run_app(&preview).await?;
        Ok(preview)
    }

    /// Ends its app. It is remembered for a while; once more, and it is forgotten.
    ///
    /// # Errors
    /// `NotFound`; `NotReady` when the app could not be stopped.
    pub async fn stop_preview(&self, id: &PreviewId) -> Result<(), Error> {
        let wanted = id.clone();
        let job = self
            .amend(move |showing| {
                let known = find(showing, &wanted)?;
                if known.stopped_at.is_some() {
                    showing.previews.retain(|known| known.id != wanted);
                    return Ok(None);
                }
                known.stopped_at = Some(OffsetDateTime::now_utc());
                Ok(known.job.clone())
            })
            .await?;
        match job {
            Some(job) => self.end_app(&job).await,
            None => Ok(()),
        }
    }

    /// How one stands. Wakes nothing.
    ///
    /// # Errors
    /// `NotFound`; `NotReady` when its init does not answer.
    pub async fn preview(&self, id: &PreviewId) -> Result<Preview, Error> {
        let showing = self.handle.showing();
        let known = showing.previews.iter().find(|known| known.id == *id);
        let mut record = known.ok_or_else(no_such_preview)?.clone();
        self.settle_port(&mut record).await?;
        let (status, problem) = self.stands(&record).await?;
        Ok(Preview {
            record,
            status,
            problem,
        })
    }

    /// The port was a guess: where something listens by now is the port.
    async fn settle_port(&self, record: &mut PreviewRecord) -> Result<(), Error> {
        if !record.port_guessed || record.stopped_at.is_some() || !self.is_awake() {
            return Ok(());
        }
        let Some(gate) = self.handle.gate() else {
            return Ok(());
        };
        let Ok(listening) = gate.ports.refresh().await else {
            return Ok(());
        };
        let taken = |port: u16| {
            let showing = self.handle.showing();
            let others = showing.active().filter(|known| known.id != record.id);
            others.into_iter().any(|known| known.port == port)
        };
        let port = match listening.has(record.port) {
            true => Some(record.port),
            false => listening.main.filter(|port| !taken(*port)),
        };
        let Some(port) = port else { return Ok(()) };
        let id = record.id.clone();
        *record = self
            .amend(move |showing| {
                let known = find(showing, &id)?;
                known.port = port;
                known.port_guessed = false;
                Ok(known.clone())
            })
            .await?;
        Ok(())
    }

    async fn stands(
        &self,
        record: &PreviewRecord,
    ) -> Result<(PreviewStatus, Option<String>), Error> {
        if record.stopped_at.is_some() {
            return Ok((PreviewStatus::Stopped, None));
        }
        match self.handle.status().state {
            State::Running => {}
            State::Freezing
            | State::Frozen
            | State::Hibernating
            | State::Hibernated
            | State::Waking => return Ok((PreviewStatus::Running, None)),
            State::Starting => return Ok((PreviewStatus::Starting, None)),
            State::Stopped | State::Failed | State::Deleted => {
                let problem = "the workspace is stopped; a visit or a call starts it";
                return Ok((PreviewStatus::Unhealthy, Some(problem.to_owned())));
            }
        }
        let listens = self.ports().await?;
        if listens.iter().any(|known| known.port == record.port) {
            return Ok((PreviewStatus::Running, None));
        }
        let silent = format!("nothing listens on port {}", record.port);
        let Some(job) = &record.job else {
            return Ok((PreviewStatus::Unhealthy, Some(silent)));
        };
        let job = match self.job(job).await {
            Ok(job) => job,
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Ok((
                    PreviewStatus::Failed,
                    Some("its command is gone".to_owned()),
                ));
            }
            Err(error) => return Err(error),
        };
        if job.status != JobStatus::Running {
            return Ok((PreviewStatus::Failed, Some(last_words(&job))));
        }
        let age = OffsetDateTime::now_utc() - job.started_at;
        if age < timing::PREVIEW_START {
            return Ok((PreviewStatus::Starting, None));
        }
        let problem = format!("its command runs, but {silent}");
        Ok((PreviewStatus::Unhealthy, Some(problem)))
    }

    /// A connection to one of its ports; a workspace that sleeps is not woken.
    ///
    /// # Errors
    /// `NotReady` when it does not run or nothing listens there.
    pub async fn connect(&self, port: u16) -> Result<tokio::net::TcpStream, Error> {
        let stream = self.while_here(|init| async move { init.forward(port).await });
        stream
            .await?
            .ok_or_else(|| Error::new(ErrorKind::NotReady, "the workspace does not run"))
    }

    /// What the template says starts its app.
    pub fn template_command(&self) -> Option<(String, Option<u16>)> {
        let launcher = &self.engine().launcher;
        let template = launcher.templates.get(&self.handle.identity().template)?;
        let port = launcher.provisioner.main_ports(&template).first().copied();
        let command = launcher.provisioner.run_line(&template);
        command.map(|command| (command, port))
    }

    async fn run_app(&self, preview: &PreviewRecord) -> Result<(), Error> {
        let Some(run) = app_of(preview) else {
            self.ensure_running().await?;
            return Ok(());
        };
        self.calling(|init| {
            let run = run.clone();
            async move { init.start(&run).await }
        })
        .await
    }

    /// Gone is as good as ended.
    async fn end_app(&self, job: &JobId) -> Result<(), Error> {
        match self.stop_job(job).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes the new one in; the one that is shown, and the job of one whose place it takes.
fn begin(
    showing: &mut Showing,
    preview: PreviewRecord,
    now: OffsetDateTime,
) -> Result<(PreviewRecord, Option<JobId>), Error> {
    let same = |known: &PreviewRecord| {
        known.port == preview.port
            && known.command == preview.command
            && known.environment == preview.environment
            && known.health_path == preview.health_path
    };
    if let Some(at) = showing
        .previews
        .iter()
        .position(|known| known.stopped_at.is_none() && same(known))
    {
        // Asked for again: it is the main one again.
        let known = showing.previews.remove(at);
        showing.previews.push(known.clone());
        return Ok((known, None));
    }
    let mut replaced = None;
    for known in &mut showing.previews {
        if known.stopped_at.is_none() && known.port == preview.port {
            known.stopped_at = Some(now);
            replaced = known.job.clone();
        }
    }
    if showing.active().count() >= ACTIVE_MAX {
        let message = format!("at most {ACTIVE_MAX} previews at a time; stop one first");
        return Err(Error::new(ErrorKind::TooMany, message));
    }
    let mut surplus =
        (showing.previews.len() - showing.active().count()).saturating_sub(STOPPED_MAX);
    showing.previews.retain(|known| {
        let goes = known.stopped_at.is_some() && surplus > 0;
        surplus -= usize::from(goes);
        !goes
    });
    showing.previews.push(preview.clone());
    Ok((preview, replaced))
}

fn find<'a>(showing: &'a mut Showing, id: &PreviewId) -> Result<&'a mut PreviewRecord, Error> {
    let mut known = showing.previews.iter_mut();
    known
        .find(|known| known.id == *id)
        .ok_or_else(no_such_preview)
}

fn command_of(preview: &PreviewRecord) -> Option<Command> {
    let mut environment = vec![("PORT".to_owned(), preview.port.to_string())];
    environment.extend(preview.environment.iter().cloned());
    Some(Command {
        command: preview.command.clone()?,
        working_dir: "/workspace".to_owned(),
        environment,
        timeout: None,
    })
}

/// What runs a preview's command; none if it has none.
pub(crate) fn app_of(preview: &PreviewRecord) -> Option<Run> {
    let mut run = checked(command_of(preview)?, None).ok()?;
    run.job = preview.job.as_ref()?.as_str().to_owned();
    Some(run)
}

/// What a command that ended left behind: its code and the end of what it printed.
fn last_words(job: &super::Job) -> String {
    let code = job.exit_code.map_or_else(
        || "its command ended".to_owned(),
        |code| format!("its command ended with exit code {code}"),
    );
    let printed = match job.stderr.trim() {
        "" => job.stdout.trim(),
        printed => printed,
    };
    let from = printed.len().saturating_sub(LAST_WORDS);
    let from = (from..=printed.len()).find(|at| printed.is_char_boundary(*at));
    match from.and_then(|from| printed.get(from..)) {
        None | Some("") => code,
        Some(end) => format!("{code}: {end}"),
    }
}

fn no_such_preview() -> Error {
    Error::new(ErrorKind::NotFound, "no such preview session")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(port: u16, command: &str) -> PreviewRecord {
        PreviewRecord {
            id: PreviewId::mint(),
            port,
            port_guessed: false,
            framework: "custom".to_owned(),
            auto_detected: false,
            command: Some(command.to_owned()),
            environment: Vec::new(),
            health_path: "/".to_owned(),
            job: Some(JobId::mint()),
            created_at: OffsetDateTime::UNIX_EPOCH,
            started_at: OffsetDateTime::UNIX_EPOCH,
            stopped_at: None,
        }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    #[test]
    fn the_same_wish_gets_what_is_there() {
        let mut showing = Showing::default();
        let (first, _) = begin(&mut showing, preview(3000, "a"), now()).unwrap();
        begin(&mut showing, preview(4000, "b"), now()).unwrap();
        let (again, replaced) = begin(&mut showing, preview(3000, "a"), now()).unwrap();
        assert_eq!((again.id, replaced), (first.id, None));
        assert_eq!(
            (showing.previews.len(), showing.main_port()),
            (2, Some(3000))
        );
    }

    #[test]
    fn another_command_takes_the_place_on_its_port() {
        let mut showing = Showing::default();
        let (first, _) = begin(&mut showing, preview(3000, "a"), now()).unwrap();
        let (_, replaced) = begin(&mut showing, preview(3000, "b"), now()).unwrap();
        assert_eq!(replaced, first.job);
        assert_eq!(showing.active().count(), 1);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut showing = Showing::default();
        for round in 0..100 {
            let command = format!("{round}");
            begin(&mut showing, preview(3000, &command), now()).unwrap();
        }
        assert!(showing.previews.len() <= STOPPED_MAX + 2);
        for port in 1..ACTIVE_MAX {
            begin(
                &mut showing,
                preview(u16::try_from(port).unwrap(), "x"),
                now(),
            )
            .unwrap();
        }
        let refused = begin(&mut showing, preview(9999, "x"), now()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::TooMany);
    }

    #[test]
    fn the_command_knows_its_port_and_may_be_told_otherwise() {
        let mut one = preview(3000, "a");
        one.environment = vec![("PORT".to_owned(), "1".to_owned())];
        let run = app_of(&one).unwrap();
        let values: Vec<_> = run.environment.iter().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["3000", "1"]);
        assert_eq!(run.job, one.job.unwrap().as_str());
    }
}
