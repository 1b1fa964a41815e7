//! The command line as types. Values are checked where they are parsed.

mod remote;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fleet::id::TemplateName;
use pool_backend::config::{BadPoolSize, MemoryShare, PoolSize};

pub use remote::{
    ExecArgs, FilesArgs, FilesCommand, LogsArgs, OneArgs, PreviewArgs, RemoteArgs, ShellArgs,
    WsArgs, WsCommand,
};

/// From an agent's code to a live HTTPS URL, in seconds, on a machine of your own.
#[derive(Debug, Parser)]
#[command(
    name = "fleeks",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not there, 4 key refused, 5 not now, \
                  6 no answer. `fleeks COMMAND --help` has examples."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: gateway, API and sandboxes
    Up(Box<UpArgs>),
    /// Take away what a data dir has left in the kernel; records and volumes stay
    Down(DownArgs),
    /// Look whether this machine can run sandboxes, and say what would mend it
    Doctor(DoctorArgs),
    /// Make this machine trust the development CA of a data dir
    Trust(DataDirArg),
    /// Undo `trust`
    Untrust(DataDirArg),
    /// Show the development CA and how to use it without trusting it
    Ca(CaArgs),
    /// API keys: create, list, revoke
    Keys(KeysArgs),
    /// Workspaces: create, list, info, rm
    #[command(after_help = WS_EXAMPLES)]
    Ws(WsArgs),
    /// Run a command in a workspace; its output and exit code are ours
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// A terminal in a workspace: an interactive shell, or a command
    #[command(after_help = SHELL_EXAMPLES)]
    Shell(ShellArgs),
    /// What a job printed
    Logs(LogsArgs),
    /// Files of a workspace: ls, cat, cp, archive, unpack, watch, sync
    #[command(after_help = FILES_EXAMPLES)]
    Files(FilesArgs),
    /// The address of a workspace's app
    Preview(PreviewArgs),
    /// Put a workspace on disk, with its processes; the next use wakes it
    Hibernate(OneArgs),
    /// Wake a workspace, also where visits may not
    Wake(OneArgs),
    /// Completions for a shell: source <(fleeks completions bash)
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Templates: list, check, build, prune
    Template(crate::template::TemplateArgs),
}

const WS_EXAMPLES: &str = "\
Examples:
  fleeks ws create demo --template python
  fleeks ws list --json | jq -r '.workspaces[].project_id'
  fleeks ws info demo";

const EXEC_EXAMPLES: &str = "\
Examples:
  fleeks exec demo -- python -c 'print(40 + 2)'
  fleeks exec demo 'cd src && make | tee log'       one word: a shell line
  fleeks exec demo --detach -- python app.py        then: fleeks logs -f demo

The exit code is the command's; 124 when --timeout ended it, 130 after Ctrl-C, which ends it too.
So does every other end of this program but that of --detach.";

const SHELL_EXAMPLES: &str = "\
Examples:
  fleeks shell demo
  fleeks shell demo -- htop
  fleeks shell demo --list                         terminals that are open
  fleeks shell demo --attach tty_…                 come back to one, or look over somebody's shoulder

Enter ~ . leaves the terminal open and comes away; ~~ at the start of a line is one ~. A lost
connection is made again. The exit code is the program's.";

const FILES_EXAMPLES: &str = "\
Examples:
  fleeks files cp app.py demo:src/
  fleeks files cp demo:out/report.pdf .
  tar c . | fleeks files cp - demo:all.tar
  fleeks files sync . demo: --exclude node_modules --watch";

/// Options of `fleeks down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub data: DataDirArg,
    /// Where set-up put runsc and CRIU [default: /opt/fleeks]
    #[arg(long, env = "FLEEKS_PREFIX", value_name = "DIR")]
    pub prefix: Option<PathBuf>,
}

/// Options of `fleeks doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub data: DataDirArg,
    /// Where set-up put runsc and CRIU [default: /opt/fleeks]
    #[arg(long, env = "FLEEKS_PREFIX", value_name = "DIR")]
    pub prefix: Option<PathBuf>,
    /// HTTPS listener that `up` will have [default: 127.0.0.1:8443]
    #[arg(long, env = "FLEEKS_HTTPS", value_name = "ADDR:PORT")]
    pub https: Option<SocketAddr>,
    /// Plain HTTP listener that `up` will have [default: 127.0.0.1:8080]
    #[arg(long, env = "FLEEKS_HTTP", value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// For scripts
    #[arg(long)]
    pub json: bool,
}

/// Options of `fleeks ca`.
#[derive(Debug, Args)]
pub struct CaArgs {
    #[command(flatten)]
    pub data: DataDirArg,
    /// API URL for the example line
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://api.fleeks.localhost:8443"
    )]
    pub api_url: String,
}

/// Options of `fleeks keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its secret is shown this once
    Create {
        /// For this owner, made if new [default: the key's own]
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
    },
    /// All keys
    List,
    /// Make a key useless, now and for ever
    Revoke {
        /// `key_…`, from `keys list`
        id: fleet::id::KeyId,
    },
}

/// Where the durable things are.
#[derive(Debug, Clone, Args)]
pub struct DataDirArg {
    /// Data dir: API key, CA, records, volumes
    #[arg(long, global = true, env = "FLEEKS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataDirArg {
    /// The one that is meant.
    pub fn or_default(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(crate::config::default_data_dir)
    }
}

/// Options of `fleeks up`. Each may also stand in the file given by --config (with `_` for `-`).
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub data: DataDirArg,
    /// Domain of the previews: *.NAME [default: fleeks.localhost]
    #[arg(long, env = "FLEEKS_DOMAIN", value_name = "NAME")]
    pub domain: Option<String>,
    /// HTTPS listener [default: 127.0.0.1:8443]
    #[arg(long, env = "FLEEKS_HTTPS", value_name = "ADDR:PORT")]
    pub https: Option<SocketAddr>,
    /// Plain HTTP listener, loopback only [default: 127.0.0.1:8080]
    #[arg(long, env = "FLEEKS_HTTP", value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Where operators ask for /metrics and /health, not for visitors; `off`: nowhere
    /// [default: 127.0.0.1:9901]
    #[arg(long, env = "FLEEKS_ADMIN", value_name = "ADDR:PORT")]
    pub admin: Option<AdminArg>,
    /// Scheme and port of the URLs that the API returns, e.g. https://fleeks.run [default: as the HTTPS listener]
    #[arg(long, env = "FLEEKS_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Warm containers of a template: always N, or as many as are needed from N to M (or from N
    /// on: N..); repeatable [default: python=2..32 node=2..32 default=1..32]
    #[arg(long = "pool", env = "FLEEKS_POOL", value_name = "TEMPLATE=N[..M]", value_delimiter = ',', value_parser = parse_pool)]
    pub pools: Vec<(TemplateName, PoolSize)>,
    /// How much memory warm containers may take: a share of what is available, e.g. 50%, or so
    /// much, e.g. 4GiB [default: 50%]
    #[arg(long, env = "FLEEKS_POOL_MEMORY", value_name = "SHARE")]
    pub pool_memory: Option<MemoryShare>,
    /// Seconds without use after which the processes of a workspace that computes nothing are
    /// stopped in memory, until the next use [default: 60]
    #[arg(long, env = "FLEEKS_FREEZE_AFTER", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub freeze_after: Option<u64>,
    /// What runs sandboxes [default: auto]
    #[arg(long, env = "FLEEKS_RUNTIME", value_enum)]
    pub runtime: Option<RuntimeArg>,
    /// Allow runc (which runs as host uid 0) on a public address
    #[arg(long, env = "FLEEKS_TRUST_CODE")]
    pub trust_code: bool,
    /// Where set-up put runsc and CRIU [default: /opt/fleeks]
    #[arg(long, env = "FLEEKS_PREFIX", value_name = "DIR")]
    pub prefix: Option<PathBuf>,
    /// Directory with further templates
    #[arg(long, env = "FLEEKS_TEMPLATES", value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// TOML file with these options; flags and FLEEKS_* win
    #[arg(long, env = "FLEEKS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When ready, write addresses and paths to this file as JSON
    #[arg(long, env = "FLEEKS_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Log lines as JSON
    #[arg(long, env = "FLEEKS_LOG_JSON")]
    pub log_json: bool,
    /// For tests: between two looks for orphans
    #[arg(long, env = "FLEEKS_RECONCILE_SECONDS", hide = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub reconcile_seconds: Option<u64>,
    /// For tests: where to die, stop, fail or wait
    #[arg(long, env = "FLEEKS_FAIL_POINTS", hide = true, value_parser = pool_backend::faults::FailPoints::parse)]
    pub fail_points: Option<pool_backend::faults::FailPoints>,
}

/// `--runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeArg {
    /// gVisor where it works here, else runc with a warning
    Auto,
    /// runc, with CRIU for sleep: for code that you trust
    Runc,
    /// gVisor: for anybody's code
    Runsc,
}

/// `--admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum AdminArg {
    /// Nobody can ask.
    Off,
    /// Here.
    At(SocketAddr),
}

impl std::str::FromStr for AdminArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "write ADDR:PORT, e.g. 127.0.0.1:9901, or off".to_owned())
    }
}

impl TryFrom<String> for AdminArg {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `TEMPLATE=SIZE`, as a flag.
pub fn parse_pool(text: &str) -> Result<(TemplateName, PoolSize), String> {
    let (name, size) = text
        .split_once('=')
        .ok_or("write TEMPLATE=N, e.g. python=2, or TEMPLATE=N..M")?;
    let name = name
        .parse()
        .map_err(|error: fleet::id::InvalidId| error.to_string())?;
    let size = size
        .parse()
        .map_err(|error: BadPoolSize| error.to_string())?;
    Ok((name, size))
}
