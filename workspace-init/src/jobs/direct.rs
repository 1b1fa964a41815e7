//! Shell lines that need no shell: one program with its words, quoted or not, in a directory of its
//! own, with variables of its own. A bash that only makes way for the program costs most of a short
//! command's time in gVisor.
//!
//! What is started here is what bash would have started: the same file under the same name, the
//! same environment, in the same process. Whatever is not certain is left to bash: any character
//! that means something to it, names of its own, variables that it heeds, files that are not
//! there.
//!
//! Must never happen here: a guess.

mod words;

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

/// Names that are bash's own: builtins and reserved words. Not `true` and `false`, see
/// [`is_like_its_twin`].
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
/// Where the programs are that do as the builtins of their names. Elsewhere somebody may have put
/// others, which bash would not look for.
const TWINS: [&str; 2] = ["/usr/bin", "/bin"];
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
    let line = words::line(&run.command)?;
    let (name, arguments) = line.words.split_first()?;
    let mut variables = Variables::new();
    for (name, value) in inherited {
        variables.insert(name.into_string().ok()?, value.into_string().ok()?);
    }
    variables.extend(run.environment.iter().cloned());
    let assignments = line.assignments.iter().map(|(name, value)| (name, value));
    let mut all = variables.iter().chain(assignments);
    if !all.all(|(name, value)| is_passed_on(name, value)) {
        return None;
    }
    let mut directory = directory(variables.get("PWD"), &run.working_dir)?;
    let level = level(variables.get("SHLVL"))?;
    let path = variables.get("PATH")?.clone();
    let mut before = None;
    for to in &line.directories {
        if variables.contains_key("CDPATH") {
            return None;
        }
        let next = moved(&directory, to)?;
        before = Some(std::mem::replace(&mut directory, next));
    }
    variables.extend(line.assignments);
    let file = if !line.makes_way && is_like_its_twin(name, arguments) {
        TWINS
            .iter()
            .find_map(|place| program(format!("{place}/{name}")))?
    } else if is_own(name) {
        return None;
    } else {
        find(name, &path, &directory)?
    };
    let mut command = Command::new(&file);
    command
        .arg0(name)
        .args(arguments)
        .current_dir(&directory)
        .env_clear()
        .envs(&variables)
        .env("PWD", &directory)
        .env("SHLVL", level);
    if let Some(before) = &before {
        command.env("OLDPWD", before);
    }
    // `exec` leaves it as it is, which `cd` does not.
    if !line.makes_way {
        command.env("_", &file);
    } else if before.is_some() {
        command.env_remove("_");
    }
    Some(command)
}

fn is_own(name: &str) -> bool {
    OWN.contains(&name) || matches!(name, "true" | "false")
}

/// Whether it is a builtin that does as the program of its name would.
fn is_like_its_twin(name: &str, arguments: &[String]) -> bool {
    match name {
        // The programs know `--help`.
        "true" | "false" => arguments.is_empty(),
        "echo" => match arguments {
            [only] if matches!(&only[..], "--help" | "--version") => false,
            _ => !arguments.iter().any(|word| word.contains('\\')),
        },
        _ => false,
    }
}

/// Where `cd` leads from there, by the names that bash has for both.
fn moved(from: &str, to: &str) -> Option<String> {
    let mut path = if to.starts_with('/') {
        String::new()
    } else {
        from.trim_end_matches('/').to_owned()
    };
    if to.is_empty() || to.starts_with(['-', '~']) || to.starts_with("//") {
        return None;
    }
    for part in to.split('/').filter(|part| !part.is_empty()) {
        if matches!(part, "." | "..") {
            return None;
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        path.push('/');
    }
    let is_open = Path::new(&path).is_dir() && rustix::fs::access(&*path, Access::EXEC_OK).is_ok();
    is_open.then_some(path)
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
fn find(name: &str, path: &str, directory: &str) -> Option<String> {
    if name.contains('/') {
        let file = Path::new(directory).join(name);
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

fn program(file: String) -> Option<String> {
    is_program(Path::new(&file)).then_some(file)
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
