//! The commands that speak with a platform through its API, here or elsewhere.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::DataDirArg;

/// Where a command finds the platform.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which platform")]
pub struct RemoteArgs {
    #[command(flatten)]
    pub data: DataDirArg,
    /// The platform's API: http:// on this machine, https:// anywhere
    #[arg(
        long,
        global = true,
        env = "FLEEKS_BASE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub api: String,
    /// API key [default: for a platform on this machine, the one in its data dir]
    #[arg(
        long,
        global = true,
        env = "FLEEKS_API_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<String>,
    /// Certificates to trust besides the machine's own, e.g. a development CA
    #[arg(long, global = true, env = "FLEEKS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For scripts: one JSON document on standard output, errors as JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,
}

/// Options of `fleeks ws`.
#[derive(Debug, Args)]
pub struct WsArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(subcommand)]
    pub command: WsCommand,
}

/// What to do with workspaces.
#[derive(Debug, Subcommand)]
pub enum WsCommand {
    /// Make a workspace, or get the one that has this name
    Create {
        /// Letters, digits, '-', '_' and '.'
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// python, node, static, default, …
        #[arg(long, short, value_name = "NAME", default_value = "default")]
        template: String,
    },
    /// All workspaces
    #[command(visible_alias = "ls")]
    List {
        /// Only these: ready, starting or stopped
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
    },
    /// How one stands: state, sizes, times, what keeps it awake
    Info {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Delete workspaces, with all their files
    Rm {
        /// Their names
        #[arg(required = true, value_parser = NonEmptyStringValueParser::new())]
        names: Vec<String>,
        /// One that is not there is no fault
        #[arg(long, short)]
        force: bool,
    },
}

/// A command on one workspace.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The workspace's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Options of `fleeks exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The workspace's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// End it after this many seconds; the exit code is 124 then
    #[arg(long, short, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: Option<u32>,
    /// Where it runs
    #[arg(long, short = 'w', value_name = "DIR", default_value = "/workspace")]
    pub workdir: String,
    /// A variable of its environment; repeatable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Print the job's id and leave it running; see `fleeks logs`
    #[arg(long, short)]
    pub detach: bool,
    /// One word is a shell line, several are a program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Options of `fleeks shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The workspace's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// List the terminals that there are
    #[arg(long, short, conflicts_with_all = ["attach", "end", "command"])]
    pub list: bool,
    /// Come to this one in place of opening another
    #[arg(long, short, value_name = "TTY", conflicts_with_all = ["end", "command"])]
    pub attach: Option<String>,
    /// End this one and all that runs there
    #[arg(long, value_name = "TTY", conflicts_with = "command")]
    pub end: Option<String>,
    /// Where it begins
    #[arg(long, short = 'w', value_name = "DIR", default_value = "/workspace")]
    pub workdir: String,
    /// A variable of its environment; repeatable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// In place of a shell; one word is a shell line, several are a program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Options of `fleeks logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The workspace's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// `job_…` [default: the one that began last]
    pub job: Option<String>,
    /// Go on until the job ends
    #[arg(long, short)]
    pub follow: bool,
    /// List the jobs in place of their output
    #[arg(long, short, conflicts_with_all = ["job", "follow"])]
    pub list: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Options of `fleeks files`.
#[derive(Debug, Args)]
pub struct FilesArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(subcommand)]
    pub command: FilesCommand,
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// List a directory
    Ls {
        /// The workspace's name
        name: String,
        /// Relative to /workspace
        #[arg(default_value = "/")]
        path: String,
        /// With all below
        #[arg(long, short)]
        recursive: bool,
        /// With names that begin with a dot
        #[arg(long, short)]
        all: bool,
    },
    /// Print a file's bytes
    Cat {
        /// The workspace's name
        name: String,
        /// Relative to /workspace
        path: String,
    },
    /// Copy a file or directory in (`FILE NAME:PATH`) or out (`NAME:PATH FILE`)
    Cp {
        /// Directories too; they are copied without it as well
        #[arg(long, short)]
        recursive: bool,
        /// From where; NAME:PATH is in a workspace, `-` is standard input
        source: String,
        /// To where; `-` is standard output
        target: String,
    },
    /// Get a directory as one archive
    Archive {
        /// The workspace's name
        name: String,
        /// Relative to /workspace
        #[arg(default_value = "/")]
        path: String,
        /// Where to; `-` is standard output [default: NAME.FORMAT]
        #[arg(long, short, value_name = "FILE")]
        output: Option<String>,
        /// How it is written
        #[arg(long, short, default_value = "tar.gz", value_parser = ["tar.gz", "tar", "zip"])]
        format: String,
    },
    /// Write all that is in a tar, tar.gz or zip into a workspace, or nothing
    Unpack {
        /// The archive; `-` is standard input
        file: String,
        /// NAME, or NAME:PATH
        target: String,
        /// Refuse it if one of its files is there already
        #[arg(long)]
        keep: bool,
    },
    /// Print what changes, until Ctrl-C
    Watch {
        /// The workspace's name
        name: String,
        /// Relative to /workspace
        #[arg(default_value = "/")]
        path: String,
        /// Only paths like this: '*.py', 'src/**', '!**/*.log'; repeatable
        #[arg(long, value_name = "PATTERN")]
        pattern: Vec<String>,
    },
    /// Make one directory like another: `DIR NAME:PATH` sends, `NAME:PATH DIR` fetches
    Sync {
        /// From where
        source: String,
        /// To where
        target: String,
        /// Delete there what is not here
        #[arg(long)]
        delete: bool,
        /// Say what would be done
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Leave out what has this name, at any depth; repeatable. `.git` always is
        #[arg(long, value_name = "NAME")]
        exclude: Vec<String>,
        /// Go on sending what changes here, until Ctrl-C
        #[arg(long, short)]
        watch: bool,
    },
}

/// Options of `fleeks preview`.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The workspace's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// The address of this port in place of the main one
    #[arg(long, short, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The address without certificates, for browsers on the platform's machine
    #[arg(long)]
    pub http: bool,
    /// Show it in a browser
    #[arg(long, short)]
    pub open: bool,
    /// A link that opens this port of a private workspace, until it expires or is revoked
    #[arg(long, short)]
    pub share: bool,
    /// For how long: 90s, 30m, 2h, 7d [default: 1d]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, requires = "share")]
    pub lasts: Option<u64>,
    /// What people see beside the link in a list
    #[arg(long, value_name = "TEXT", requires = "share")]
    pub label: Option<String>,
    /// From now on only links open it
    #[arg(long, conflicts_with = "public")]
    pub private: bool,
    /// From now on whoever knows its address may see it
    #[arg(long)]
    pub public: bool,
    /// List its links
    #[arg(long, conflicts_with_all = ["share", "open"])]
    pub links: bool,
    /// End a link, and what was let in by it
    #[arg(long, value_name = "LINK", conflicts_with_all = ["share", "open", "links"])]
    pub revoke: Option<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `2h` and the like, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and s, m, h or d, e.g. 2h".to_owned();
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        _ => return Err(wrong()),
    };
    let count = text
        .get(..text.len() - 1)
        .and_then(|count| count.parse::<u64>().ok());
    let seconds = count.and_then(|count| count.checked_mul(unit));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("7d"), Ok(604_800));
        for wrong in [
            "",
            "2",
            "h",
            "0s",
            "-1h",
            "1.5h",
            "2w",
            "99999999999999999999d",
            "ü",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
