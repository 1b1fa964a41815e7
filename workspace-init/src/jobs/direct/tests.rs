//! Bash itself is asked whether it would have done the same.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use proptest::prelude::*;

use super::*;

fn run(line: &str, environment: &[(&str, &str)]) -> Run {
    let environment = environment.iter();
    Run {
        job: "job".to_owned(),
        command: line.to_owned(),
        working_dir: "/usr/bin".to_owned(),
        environment: environment
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        wait: true,
        output: true,
        timeout_ms: None,
        grace_ms: 0,
    }
}

/// A container's.
const INHERITED: [(&str, &str); 3] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/"),
    ("_", "/usr/bin/something"),
];

fn command(run: &Run) -> Option<Command> {
    let inherited = INHERITED.map(|(name, value)| (name.into(), value.into()));
    super::command(run, inherited.into_iter())
}

fn by_bash(run: &Run) -> Output {
    let environment = run.environment.iter();
    let mut bash = Command::new("/bin/bash");
    bash.arg("-c").arg(&run.command);
    bash.env_clear().envs(INHERITED);
    bash.envs(environment.map(|(name, value)| (name, value)));
    complete(bash, run)
}

fn directly(run: &Run) -> Option<Output> {
    Some(complete(command(run)?, run))
}

fn complete(mut command: Command, run: &Run) -> Output {
    command.current_dir(&run.working_dir).stdin(Stdio::null());
    command.output().unwrap()
}

fn lines(output: &Output) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn plain_lines_are_taken() {
    for line in [
        "true",
        "false",
        "ls -la /usr",
        "  node server.js\t--port=3000 ",
        "./x.sh",
        "python3 -m pip install flask==3.0",
        "git checkout -b a/b@1",
    ] {
        assert!(words(line).is_some(), "{line}");
    }
    let taken = run("env a", &[]);
    assert_eq!(command(&taken).unwrap().get_program(), "/usr/bin/env");
}

#[test]
fn what_means_something_to_bash_is_left_to_it() {
    for line in [
        "",
        " ",
        "a; b",
        "a | b",
        "a && b",
        "a & b",
        "a > b",
        "a < b",
        "a $b",
        "a `b`",
        "a 'b'",
        "a \"b\"",
        "a \\b",
        "a *",
        "a ?",
        "a [b]",
        "a {b,c}",
        "a ~",
        "~/a",
        "a=1 b",
        "a=1",
        "a+=1",
        "! a",
        "a #b",
        "#a",
        "a\nb",
        "(a)",
        "a (b)",
        "%1",
        "a ^b",
        "ä",
        "a \u{a0}b",
        "true --help",
        "cd /",
        "echo a",
        "time ls",
        "if",
        "a !b",
        "-a",
        "a\rb",
    ] {
        assert_eq!(words(line), None, "{line:?}");
    }
}

#[test]
fn no_name_of_bashs_own_is_taken() {
    let asked = by_bash(&run("compgen -b; compgen -k", &[]));
    let own = lines(&asked);
    assert!(own.len() > 70, "{own:?}");
    for name in own {
        let taken = words(&name).is_some();
        assert_eq!(taken, LIKE_PROGRAMS.contains(&name.as_str()), "{name}");
        assert_eq!(words(&format!("{name} a")), None, "{name}");
    }
}

#[test]
fn what_is_not_there_or_not_a_program_is_left_to_bash() {
    for line in [
        "no-such-program",
        "./no-such-program",
        "/etc/passwd",
        "/etc",
        "../bin",
    ] {
        assert!(words(line).is_some(), "{line}");
        assert!(command(&run(line, &[])).is_none(), "{line}");
    }
    for path in ["", ".", "/usr/bin:", ":/usr/bin", "~/bin:/usr/bin", "bin"] {
        let odd = run("no-such-program", &[("PATH", path)]);
        assert!(command(&odd).is_none(), "{path}");
    }
}

#[test]
fn ends_and_output_are_the_same() {
    for line in [
        "true",
        "false",
        "ls",
        "env",
        "ls /no/such",
        "uname -a",
        "./uname",
        "sort -k x",
    ] {
        let run = run(line, &[]);
        let (own, bash) = (directly(&run).unwrap(), by_bash(&run));
        assert_eq!(own.status.code(), bash.status.code(), "{line}");
        assert_eq!(lines(&own), lines(&bash), "{line}");
        assert_eq!(own.stderr, bash.stderr, "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Bash splits what is taken into the same words, and expands none.
    #[test]
    fn words_are_bashs_words(line in "[a-z./~*?$=%:@,+ \t{}!#^&;|<>()'\"`\\\\-]{1,12}") {
        if let Some(words) = words(&line) {
            let asked = by_bash(&run(&format!("printf '%s\\n' {line}"), &[]));
            let said = String::from_utf8(asked.stdout).unwrap();
            prop_assert_eq!(said.lines().collect::<Vec<_>>(), words);
        }
    }

    #[test]
    fn plain_words_are_bashs_words(line in "[a-z0-9_./,:+@%= \t-]{1,20}") {
        if let Some(words) = words(&line) {
            let asked = by_bash(&run(&format!("type -t -- {}", words[0]), &[]));
            let kind = String::from_utf8(asked.stdout).unwrap();
            prop_assert!(matches!(kind.trim(), "" | "file") || words.len() == 1, "{} {}", line, kind);
            let asked = by_bash(&run(&format!("printf '%s\\n' {line}"), &[]));
            let said = String::from_utf8(asked.stdout).unwrap();
            prop_assert_eq!(said.lines().collect::<Vec<_>>(), words);
        }
    }

    /// The program finds the environment that bash would have given to it.
    #[test]
    fn the_environment_is_bashs(
        names in prop::collection::vec(prop::sample::select(&[
            "A", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "HOSTNAME", "SHELL", "USER", "MAIL",
            "SHLVL", "PWD", "OLDPWD", "IFS", "RANDOM", "SECONDS", "UID", "EUID", "PPID", "GROUPS",
            "BASH_ENV", "BASHOPTS", "SHELLOPTS", "LINENO", "OPTIND", "OPTARG", "OPTERR", "PS1",
            "PS4", "TMOUT", "HISTFILE", "HISTCMD", "COLUMNS", "LINES", "DIRSTACK", "FUNCNAME",
            "EPOCHSECONDS", "SRANDOM", "HOSTTYPE", "MACHTYPE", "OSTYPE", "ENV", "CDPATH", "TZ",
            "PROMPT_COMMAND", "IGNOREEOF", "FIGNORE", "INPUTRC", "TIMEFORMAT", "EXECIGNORE", "a-b",
            "BASH_FUNC_x%%", "POSIXLY_CORRECT", "COMP_LINE", "READLINE_LINE", "COPROC", "REPLY",
        ][..]), 0..4),
        value in prop::sample::select(&[
            "", "1", "7", "0", "C", "C.UTF-8", "xx_XX", "/usr/bin", "/tmp", "/usr/../usr/bin", "a b",
            "() { :; }", "/usr/bin/", "/bin", "-1", "1000",
        ][..]),
    ) {
        let set: Vec<_> = names.iter().map(|name| (*name, value)).collect();
        let run = run("/usr/bin/env", &set);
        if let Some(own) = directly(&run) {
            let bash = by_bash(&run);
            prop_assert_eq!(lines(&own), lines(&bash));
            prop_assert_eq!(own.stderr, bash.stderr);
        }
    }
}
