//! One stream of one socket, from its start to its end.
//!
//! Must never happen here: an event for which there was no room.

use std::sync::Arc;

use agent_api::Caller;
use agent_api::live::patterns::Patterns;
use agent_api::live::text::TextParts;
use agent_api::live::watch_event;
use fleet::id::{ContainerId, JobId, ProjectId};
use fleet::record::Scope;
use pool_backend::workspaces::{FollowEvent, Offsets};
use pool_backend::{Workspace, Workspaces};
use serde_json::{Map, Value, json};
use socketioxide::extract::SocketRef;

use super::flow::Flow;
use super::wire::{both, first, pieces, size, status_word};

/// Longest name of a session.
const MAX_NAME: usize = 256;
/// Most patterns that are looked at; the watch takes fewer.
const MAX_PATTERNS: usize = 1000;

/// What can be streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Files,
    Terminal,
    Agent,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Files => "file_watch",
            Self::Terminal => "terminal_stream",
            Self::Agent => "agent_stream",
        }
    }

    /// What a client emits: as the SDKs spell it, and as we spell what we emit.
    pub(super) fn events(self, verb: &str) -> [String; 2] {
        let word = self.word();
        [format!("sdk:{word}:{verb}"), format!("sdk_{word}_{verb}")]
    }

    /// What we emit.
    fn told(self) -> &'static str {
        match self {
            Self::Files => "sdk_file_watch_change",
            Self::Terminal => "sdk_terminal_stream_output",
            Self::Agent => "sdk_agent_stream_update",
        }
    }

    fn failed(self) -> &'static str {
        match self {
            Self::Files => "sdk_file_watch_error",
            Self::Terminal => "sdk_terminal_stream_error",
            Self::Agent => "sdk_agent_stream_error",
        }
    }

    /// As for the same over HTTP.
    pub(super) fn needs(self) -> Option<Scope> {
        match self {
            Self::Files | Self::Terminal => Some(Scope::Read),
            Self::Agent => None,
        }
    }

    /// Names of sessions of two kinds do not meet.
    pub(super) fn key(self, id: &str) -> String {
        format!("{} {id}", self.word())
    }
}

/// What a client asks for.
pub(super) struct Wish {
    kind: Kind,
    data: Value,
}

impl Wish {
    pub(super) fn new(kind: Kind, data: Value) -> Self {
        Self { kind, data }
    }

    /// Its name for the session.
    pub(super) fn session_of(data: &Value) -> Option<String> {
        let name = first(data, &["session_id", "sessionId"])?.as_str()?;
        (1..=MAX_NAME)
            .contains(&name.len())
            .then(|| name.to_owned())
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        match first(&self.data, names)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The socket is gone.
struct Gone;

/// Why a stream ends.
enum End {
    Gone,
    Refused(String),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<pool_backend::Error> for End {
    fn from(error: pool_backend::Error) -> Self {
        Self::Refused(agent_api::Problem::from(error).detail().to_owned())
    }
}

/// A stream, until it ends by itself; it is aborted to end it before.
pub(super) async fn run(wish: Wish, out: Out, workspaces: Workspaces, caller: Caller) {
    let ended = match wish.kind {
        Kind::Files => files(&wish, &out, &workspaces, &caller).await,
        Kind::Terminal => terminal(&wish, &out, &workspaces, &caller).await,
        Kind::Agent => Err(End::Refused(
            "agents are not run here: they are the customer's own, at the other end of this API"
                .to_owned(),
        )),
    };
    if let Err(End::Refused(why)) = ended {
        out.refuse(&why).await;
    }
}

fn workspace(wish: &Wish, workspaces: &Workspaces, caller: &Caller) -> Result<Workspace, End> {
    let names = ["workspace_id", "workspaceId", "project_id", "projectId"];
    let absent = || End::Refused("no such workspace".to_owned());
    let name = wish.text(&names).ok_or_else(absent)?;
    let owner = &caller.owner;
    if let Ok(project) = name.parse::<ProjectId>()
        && let Ok(workspace) = workspaces.get(owner, &project)
    {
        return Ok(workspace);
    }
    if let Ok(container) = name.parse::<ContainerId>()
        && let Ok(workspace) = workspaces.by_container(owner, &container)
    {
        return Ok(workspace);
    }
    let number = name.parse().ok();
    let found = number.and_then(|number| workspaces.by_number(owner, number).ok());
    found.ok_or_else(absent)
}

async fn files(
    wish: &Wish,
    out: &Out,
    workspaces: &Workspaces,
    caller: &Caller,
) -> Result<(), End> {
    let workspace = workspace(wish, workspaces, caller)?;
    let no_list = || End::Refused("patterns must be a list of texts".to_owned());
    let patterns: Vec<&str> = match first(&wish.data, &["patterns"]) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) if all.len() <= MAX_PATTERNS => {
            let all = all.iter().map(Value::as_str);
            all.collect::<Option<_>>().ok_or_else(no_list)?
        }
        Some(_) => return Err(no_list()),
    };
    let refused = |problem: agent_api::Problem| End::Refused(problem.detail().to_owned());
    let patterns = Patterns::new(patterns).map_err(refused)?;
    let mut watch = workspace.watch(patterns.into_filter(), None).await?;
    // The SDKs do not know it; who wants to know that every change is told from now on does.
    out.send("sdk_file_watch_started", Map::new()).await?;
    while let Some(event) = watch.next().await {
        let mut fields = watch_event(&event);
        let word = fields.remove("event").unwrap_or_default();
        fields.insert("type".to_owned(), word.clone());
        fields.insert("event_type".to_owned(), word);
        fields.entry("path").or_insert_with(|| "".into());
        out.tell(fields).await?;
    }
    Err(End::Refused(
        "the watch ended: the workspace is gone, or its node shuts down".to_owned(),
    ))
}

async fn terminal(
    wish: &Wish,
    out: &Out,
    workspaces: &Workspaces,
    caller: &Caller,
) -> Result<(), End> {
    let workspace = workspace(wish, workspaces, caller)?;
    let names = [
        "terminal_session_id",
        "terminalSessionId",
        "job_id",
        "jobId",
    ];
    let job = wish
        .text(&names)
        .and_then(|text| text.parse::<JobId>().ok());
    let job = job.ok_or_else(|| End::Refused("no such job".to_owned()))?;
    let mut follow = workspace.follow_job(&job, Offsets::default()).await?;
    let (mut stdout, mut stderr) = (TextParts::default(), TextParts::default());
    while let Some(event) = follow.next().await {
        match event {
            FollowEvent::Stdout(bytes) => out.output("stdout", stdout.push(&bytes)).await?,
            FollowEvent::Stderr(bytes) => out.output("stderr", stderr.push(&bytes)).await?,
            FollowEvent::Skipped(lost) => {
                let fields = json!({
                    "type": "overflow",
                    "output": "",
                    "stdout_bytes": lost.stdout,
                    "stderr_bytes": lost.stderr,
                });
                out.tell(object(fields)).await?;
            }
            FollowEvent::Ended(job) => {
                out.output("stdout", stdout.end()).await?;
                out.output("stderr", stderr.end()).await?;
                let fields = json!({
                    "type": "session_ended",
                    "output": "",
                    "status": status_word(job.status),
                    "exit_code": job.exit_code,
                });
                return Ok(out.tell(object(fields)).await?);
            }
            FollowEvent::Gone => {
                return Err(End::Refused("the job went with its container".to_owned()));
            }
        }
    }
    Err(End::Refused("the node shuts down".to_owned()))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Where a session's events go.
#[derive(Clone)]
pub(super) struct Out {
    kind: Kind,
    socket: SocketRef,
    flow: Arc<Flow>,
    id: String,
}

impl Out {
    pub(super) fn new(kind: Kind, socket: SocketRef, flow: Arc<Flow>, id: String) -> Self {
        Self {
            kind,
            socket,
            flow,
            id,
        }
    }

    async fn tell(&self, fields: Map<String, Value>) -> Result<(), Gone> {
        self.send(self.kind.told(), fields).await
    }

    async fn output(&self, stream: &str, text: String) -> Result<(), Gone> {
        for piece in pieces(&text) {
            let fields = json!({ "type": "output", "output": piece, "stream": stream });
            self.tell(object(fields)).await?;
        }
        Ok(())
    }

    /// An error, and for who waits for nothing else the end.
    pub(super) async fn refuse(&self, why: &str) {
        let fields = json!({ "type": "error", "error": why, "message": why });
        let told = self.send(self.kind.failed(), object(fields)).await;
        if told.is_ok() && self.kind == Kind::Terminal {
            let fields = json!({ "type": "session_ended", "output": "", "status": "error" });
            // Nobody there to hear it is no trouble of ours.
            let _ = self.tell(object(fields)).await;
        }
    }

    /// Waits while the socket has no room.
    async fn send(&self, event: &str, mut fields: Map<String, Value>) -> Result<(), Gone> {
        fields.insert("session_id".to_owned(), self.id.as_str().into());
        fields
            .entry("timestamp")
            .or_insert_with(|| json!(agent_api::Stamp::now()));
        let fields = Value::Object(both(fields));
        let size = size(&fields);
        self.flow.room(size).await;
        self.socket.emit(event, &fields).map_err(|error| {
            tracing::debug!(%error, "an event found no socket");
            self.flow.polled(size, 1);
            Gone
        })
    }
}
