//! Shell lines that need no shell: one program and plain words. A bash that only makes way for the
//! program costs most of a short command's time in gVisor.
//!
//! What is started here is what bash would have started: the same file under the same name, the
//! same environment, in the same process. Whatever is not certain is left to bash: any character
//! that means something to it, names of its own, variables that it heeds, files that are not
//! there.
//!
//! Must never happen here: a guess.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path};
use std::process::Command;

use init_protocol::Run;
use rustix::fs::Access;

/// What bash has in its environment, by name.
type Variables = BTreeMap<String, String>;

/// Names that are bash's own: builtins and reserved words. Not `true` and `false`, which ignore
/// what they are given, as the programs do when they are given nothing.
const OWN: [&str; 78] = [
    ".",
    ":",
    "[",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
    "[[",
    "]]",
];
/// Builtins that do as the programs of their names when they are alone.
const LIKE_PROGRAMS: [&str; 2] = ["true", "false"];
/// Variables that bash heeds, changes or does not pass on.
const HEEDED: [&str; 31] = [
    "SHELLOPTS",
    "POSIXLY_CORRECT",
    "POSIX_PEDANTIC",
    "EXECIGNORE",
    "GLOBIGNORE",
    "OLDPWD",
    "IFS",
    "LINENO",
    "OPTIND",
    "OPTERR",
    "OPTARG",
    "RANDOM",
    "SRANDOM",
    "SECONDS",
    "EPOCHSECONDS",
    "EPOCHREALTIME",
    "UID",
    "EUID",
    "PPID",
    "GROUPS",
    "FUNCNAME",
    "DIRSTACK",
    "PIPESTATUS",
    "HISTCMD",
    "TMOUT",
    "PS1",
    "PS2",
    "PS4",
    "MAILCHECK",
    "COMP_WORDBREAKS",
    "CHILD_MAX",
];
/// Locales that are everywhere; bash complains of one that is not.
const LOCALES: [&str; 4] = ["", "C", "POSIX", "C.UTF-8"];
/// Levels of shells that bash counts without a complaint.
const LEVELS: u32 = 999;

/// The program that bash would become, if that is certain. `inherited` is the environment that it
/// would have begun with, but for the line's own variables.
pub fn command(
    run: &Run,
    inherited: impl Iterator<Item = (OsString, OsString)>,
) -> Option<Command> {
    let words = words(&run.command)?;
    let (name, arguments) = words.split_first()?;
    let mut variables = Variables::new();
    for (name, value) in inherited {
        variables.insert(name.into_string().ok()?, value.into_string().ok()?);
    }
    variables.extend(run.environment.iter().cloned());
    if !variables
        .iter()
        .all(|(name, value)| is_passed_on(name, value))
    {
        return None;
    }
    let file = find(name, variables.get("PATH")?, &run.working_dir)?;
    let directory = directory(variables.get("PWD"), &run.working_dir)?;
    let level = level(variables.get("SHLVL"))?;
    let mut command = Command::new(&file);
    command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(&variables)
        .env("PWD", directory)
        .env("SHLVL", level)
        .env("_", &file);
    Some(command)
}

/// The words of a line in which nothing means anything to bash.
fn words(line: &str) -> Option<Vec<&str>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%=".contains(c);
    if !line.chars().all(|c| plain(c) || c == ' ' || c == '\t') {
        return None;
    }
    let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
    let name = words.first()?;
    // An assignment, a job's number.
    let is_name = !name.contains(['=', '%']) && !name.starts_with(['-', '+']);
    let is_alone = words.len() == 1;
    let is_own = OWN.contains(name) || LIKE_PROGRAMS.contains(name) && !is_alone;
    (is_name && !is_own).then_some(words)
}

/// Whether a program that bash starts finds this variable as it was, and bash does nothing else
/// for it.
fn is_passed_on(name: &str, value: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_name = bytes.next().is_some_and(begins)
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_locale = name.starts_with("LC_") || name == "LANG" || name == "LANGUAGE";
    is_name
        && !name.starts_with("BASH")
        && !HEEDED.contains(&name)
        && (!is_locale || LOCALES.contains(&value))
}

/// The file that bash runs for `name`, under the name that it has for it.
fn find(name: &str, path: &str, working_dir: &str) -> Option<String> {
    if name.contains('/') {
        let file = Path::new(working_dir).join(name);
        return is_program(&file).then(|| name.to_owned());
    }
    for directory in path.split(':') {
        // Relative ones, and a home of somebody's, which bash looks up.
        if !directory.starts_with('/') {
            return None;
        }
        let file = format!("{}/{name}", directory.trim_end_matches('/'));
        match std::fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(_) if is_program(Path::new(&file)) && !directory.ends_with('/') => {
                return Some(file);
            }
            // A directory of that name, one that may not be looked at or run.
            _ => return None,
        }
    }
    None
}

fn is_program(file: &Path) -> bool {
    let is_file = std::fs::metadata(file).is_ok_and(|there| there.is_file());
    is_file && rustix::fs::access(file, Access::EXEC_OK).is_ok()
}

/// What bash calls the working directory: as it was told, if that is it, else by its own name.
fn directory(told: Option<&String>, working_dir: &str) -> Option<String> {
    let here = std::fs::metadata(working_dir).ok()?;
    if let Some(told) = told {
        let mut parts = Path::new(told).components();
        let is_clean = parts.next() == Some(Component::RootDir)
            && parts.all(|part| matches!(part, Component::Normal(_)))
            && !told.contains("//")
            && !told.contains("/./")
            && !told.ends_with(['/', '.']);
        if !is_clean && told != "/" {
            return None;
        }
        let there = std::fs::metadata(told).ok();
        if there.is_some_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())) {
            return Some(told.clone());
        }
    }
    let name = std::fs::canonicalize(working_dir).ok()?;
    name.to_str().map(str::to_owned)
}

/// As many shells as around bash: it makes way for the program.
fn level(told: Option<&String>) -> Option<String> {
    let Some(told) = told else {
        return Some("0".to_owned());
    };
    let is_plain = told.bytes().all(|byte| byte.is_ascii_digit()) && !told.starts_with('0');
    let level: u32 = told.parse().ok().filter(|level| *level < LEVELS)?;
    is_plain.then(|| level.to_string())
}

#[cfg(test)]
mod tests;
