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
    if command.get_current_dir().is_none() {
        command.current_dir(&run.working_dir);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// What is taken of a line: its words, where there is nothing else.
fn words(text: &str) -> Option<Vec<String>> {
    let line = words::line(text)?;
    let (name, arguments) = line.words.split_first()?;
    let has_twin = !line.makes_way && is_like_its_twin(name, arguments);
    (has_twin || !is_own(name)).then_some(line.words)
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
        "echo here",
        "python3 -c 'print(1)'",
        "git commit -m \"it's done!\"",
        "ls 'a b'\"c\"d",
        "NODE_ENV=production node 'a.js'",
        "cd 'my app' && npm test",
        "cd /usr&&cd lib && exec ls",
        "exec node server.js",
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
        "a & b",
        "a > b",
        "a < b",
        "a $b",
        "a `b`",
        "a 'b",
        "a \"b$c\"",
        "a \"b`c`\"",
        "a \"\\b\"",
        "a 'b\u{1}'",
        "'' a",
        "a \\b",
        "echo 'a\\nb'",
        "echo --help",
        "a && b",
        "cd a & b",
        "cd a &&& b",
        "&& a",
        "cd a &&",
        "cd a b && c",
        "'cd' a && b",
        "PATH=/x a",
        "a+=1 b",
        "A=1 exec b",
        "exec -a b c",
        "exec",
        "exec echo",
        "a *",
        "a ?",
        "a [b]",
        "a {b,c}",
        "a ~",
        "~/a",
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
        "time ls",
        "if",
        "a !b",
        "-a",
        "a\rb",
    ] {
        assert_eq!(words(line), None, "{line:?}");
        assert!(command(&run(line, &[])).is_none(), "{line:?}");
    }
}

#[test]
fn no_name_of_bashs_own_is_taken() {
    let asked = by_bash(&run("compgen -b; compgen -k", &[]));
    let own = lines(&asked);
    assert!(own.len() > 70, "{own:?}");
    for name in own {
        let has_twin = matches!(&name[..], "true" | "false" | "echo");
        assert_eq!(words(&name).is_some(), has_twin, "{name}");
        let taken = words(&format!("{name} a")).is_some();
        assert_eq!(taken, matches!(&name[..], "echo" | "exec"), "{name}");
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
        "echo -n a  'b  c' ''",
        "echo -ne -E x \"y\"",
        "printenv A B",
        "A='1 2' B= printenv A B",
        "cd /usr && ls",
        "cd ../bin && ls",
        "cd no-such && ls",
        "cd /usr/lib && cd '' && pwd",
        "cd /usr && ./bin/uname",
        "exec uname -a",
        "python3 -c 'import sys; print(sys.argv)' '' 'a b' \"c'd\" e'\"'f",
    ] {
        let run = run(line, &[]);
        let bash = by_bash(&run);
        let Some(own) = directly(&run) else {
            assert!(line.starts_with("cd "), "{line}");
            continue;
        };
        assert_eq!(own.status.code(), bash.status.code(), "{line}");
        assert_eq!(lines(&own), lines(&bash), "{line}");
        assert_eq!(own.stderr, bash.stderr, "{line}");
    }
}

const NAMES: [&str; 57] = [
    "A",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "HOSTNAME",
    "SHELL",
    "USER",
    "MAIL",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "IFS",
    "RANDOM",
    "SECONDS",
    "UID",
    "EUID",
    "PPID",
    "GROUPS",
    "BASH_ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "LINENO",
    "OPTIND",
    "OPTARG",
    "OPTERR",
    "PS1",
    "PS4",
    "TMOUT",
    "HISTFILE",
    "HISTCMD",
    "COLUMNS",
    "LINES",
    "DIRSTACK",
    "FUNCNAME",
    "EPOCHSECONDS",
    "SRANDOM",
    "HOSTTYPE",
    "MACHTYPE",
    "OSTYPE",
    "ENV",
    "CDPATH",
    "TZ",
    "PROMPT_COMMAND",
    "IGNOREEOF",
    "FIGNORE",
    "INPUTRC",
    "TIMEFORMAT",
    "EXECIGNORE",
    "a-b",
    "BASH_FUNC_x%%",
    "POSIXLY_CORRECT",
    "COMP_LINE",
    "READLINE_LINE",
    "COPROC",
    "REPLY",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bash splits what is taken into the same words, and expands none.
    #[test]
    fn words_are_bashs_words(
        line in "[a-z./~*?$=%:@,+ \t{}!#^&;|<>()'\"`\\\\-]{1,12}|[ab/=' \"]{1,16}|[a ]{1,3}'[^']{0,6}'",
    ) {
        let Some(read) = words::line(&line) else { return Ok(()) };
        if read.makes_way || !read.directories.is_empty() || !read.assignments.is_empty() {
            return Ok(());
        }
        let asked = by_bash(&run(&format!("printf '%s\\0' {line}"), &[]));
        let said = String::from_utf8(asked.stdout).unwrap();
        let said: Vec<&str> = said.split_terminator('\0').collect();
        prop_assert_eq!(said, read.words.clone());
        let asked = by_bash(&run(&format!("type -t -- {}", read.words[0]), &[]));
        let kind = String::from_utf8(asked.stdout).unwrap();
        let is_left = words(&line).is_none();
        let is_file = matches!(kind.trim(), "" | "file") || read.words[0] == "echo";
        prop_assert!(is_left || is_file || read.words.len() == 1, "{} {}", line, kind);
    }

    /// The program finds the environment that bash would have given to it.
    #[test]
    fn the_environment_is_bashs(
        names in prop::collection::vec(prop::sample::select(&NAMES[..]), 0..4),
        value in prop::sample::select(&[
            "", "1", "7", "0", "C", "C.UTF-8", "xx_XX", "/usr/bin", "/tmp", "/usr/../usr/bin", "a b",
            "() { :; }", "/usr/bin/", "/bin", "-1", "1000",
        ][..]),
        before in prop::sample::select(&[
            "", "exec ", "cd /usr && ", "cd /usr && cd lib/ && ", "cd /usr && exec ", "cd ../lib && ",
            "cd . && ", "cd - && ", "cd //usr && ", "cd / && cd usr//bin && ", "cd / && cd / && ",
        ][..]),
        assigned in prop::collection::vec(prop::sample::select(&NAMES[..]), 0..2),
    ) {
        let set: Vec<_> = names.iter().map(|name| (*name, value)).collect();
        let assigned: String = assigned.iter().map(|name| format!("{name}='{value}' ")).collect();
        let run = run(&format!("{before}{assigned}/usr/bin/env"), &set);
        if let Some(own) = directly(&run) {
            let bash = by_bash(&run);
            prop_assert_eq!(lines(&own), lines(&bash));
            prop_assert_eq!(own.stderr, bash.stderr);
        }
    }
}
