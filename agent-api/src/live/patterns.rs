//! Which paths somebody wants to hear of: shell-like patterns. `*` and `?` stop at slashes, `**`
//! as a whole name does not, `[a-z]` is one letter, `{a,b}` one of several, a backslash takes a
//! letter as it is, `!` before a pattern leaves out what it matches. What ends in a slash is all
//! that is below it.
//!
//! Must never happen here: a pattern that takes longer than its length times the path's.

use init_protocol::{Change, ChangeKind};
use pool_backend::workspaces::Filter;

use crate::Problem;

/// Patterns of one watch.
const MAX: usize = 64;
/// Letters of all of them, braces spelled out.
const MAX_LETTERS: usize = 8192;
/// Patterns that braces make of one.
const MAX_SPELLED: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Patterns {
    /// None: everything.
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

impl Patterns {
    /// None of them is all of them.
    ///
    /// # Errors
    /// 422 for what is no pattern, and for too many.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Problem> {
        let mut patterns = Self {
            wanted: Vec::new(),
            unwanted: Vec::new(),
        };
        let mut letters = 0;
        for (before, text) in texts.into_iter().enumerate() {
            letters += text.len();
            if before == MAX || letters > MAX_LETTERS {
                return Err(too_many());
            }
            let (list, text) = match text.strip_prefix('!') {
                Some(text) => (&mut patterns.unwanted, text),
                None => (&mut patterns.wanted, text),
            };
            for spelled in spell_out(&normal(text))? {
                letters += spelled.len();
                if letters > 2 * MAX_LETTERS {
                    return Err(too_many());
                }
                list.push(Pattern::parse(&spelled)?);
            }
        }
        Ok(patterns)
    }

    /// Whether it is one that is wanted.
    pub fn matches(&self, path: &str) -> bool {
        let any = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(path));
        (self.wanted.is_empty() || any(&self.wanted)) && !any(&self.unwanted)
    }

    /// Whether there may be one below a directory.
    fn reaches_below(&self, directory: &str) -> bool {
        let directory = format!("{directory}/");
        let mut wanted = self.wanted.iter();
        self.wanted.is_empty() || wanted.any(|pattern| pattern.walk(&directory).is_some())
    }

    /// For a watch: a move counts with either end, and a directory that goes or moves with all that
    /// may have been below it: nothing more will be said of that.
    pub fn into_filter(self) -> Filter {
        Box::new(move |change: &Change| {
            let takes_along =
                change.directory && matches!(change.kind, ChangeKind::Moved | ChangeKind::Deleted);
            let mut ends = [Some(&change.path), change.from.as_ref()]
                .into_iter()
                .flatten();
            ends.any(|path| self.matches(path) || (takes_along && self.reaches_below(path)))
        })
    }
}

fn too_many() -> Problem {
    let message = format!("more than {MAX} patterns, or more than {MAX_LETTERS} letters in them");
    Problem::invalid(message)
}

fn wrong(text: &str, why: &str) -> Problem {
    Problem::invalid(format!("{text:?} is not a pattern: {why}"))
}

/// As paths are told: relative, and a directory's content rather than its name.
fn normal(text: &str) -> String {
    let inside = match text.strip_prefix("/workspace") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => text,
    };
    let inside = inside.trim_start_matches("./").trim_start_matches('/');
    match inside.is_empty() || inside.ends_with('/') {
        true => format!("{inside}**"),
        false => inside.to_owned(),
    }
}

/// Without braces.
fn spell_out(text: &str) -> Result<Vec<String>, Problem> {
    let (mut done, mut open) = (Vec::new(), vec![text.to_owned()]);
    while let Some(text) = open.pop() {
        let Some((before, alternatives, after)) = first_braces(&text)? else {
            done.push(text);
            continue;
        };
        for alternative in alternatives {
            open.push(format!("{before}{alternative}{after}"));
        }
        if open.len() + done.len() > MAX_SPELLED {
            return Err(wrong(&text, "its braces make too many"));
        }
    }
    Ok(done)
}

type Braces<'a> = (&'a str, Vec<&'a str>, &'a str);

fn first_braces(text: &str) -> Result<Option<Braces<'_>>, Problem> {
    let (mut depth, mut begin, mut cuts) = (0, 0, Vec::new());
    let (mut escaped, mut class) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            _ if class => {}
            '[' => class = true,
            '{' => {
                depth += 1;
                if depth == 1 {
                    begin = at;
                    cuts.push(at + 1);
                }
            }
            ',' if depth == 1 => cuts.push(at + 1),
            '}' if depth == 1 => {
                let ends = cuts.iter().skip(1).map(|cut| cut - 1).chain([at]);
                let parts = cuts.iter().zip(ends).map(|(from, to)| &text[*from..to]);
                return Ok(Some((&text[..begin], parts.collect(), &text[at + 1..])));
            }
            '}' if depth == 0 => return Err(wrong(text, "a brace is not opened")),
            '}' => depth -= 1,
            _ => {}
        }
    }
    match depth {
        0 => Ok(None),
        _ => Err(wrong(text, "a brace is not closed")),
    }
}

#[derive(Debug)]
struct Pattern(Vec<Token>);

#[derive(Debug, PartialEq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`
    All,
    /// `**/`
    Directories,
    /// `[a-z]`, `[!a-z]`
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut tokens = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let token = match letter {
                '\\' => match letters.next() {
                    Some(letter) => Token::Letter(letter),
                    None => return Err(wrong(text, "it ends in a backslash")),
                },
                '?' => Token::One,
                '[' => class(text, &mut letters)?,
                '*' => {
                    let mut stars = 1;
                    while letters.next_if_eq(&'*').is_some() {
                        stars += 1;
                    }
                    let begins = matches!(tokens.last(), None | Some(Token::Letter('/')))
                        || tokens.last() == Some(&Token::Directories);
                    match letters.peek() {
                        Some('/') if begins && stars > 1 => {
                            letters.next();
                            Token::Directories
                        }
                        None if begins && stars > 1 => Token::All,
                        _ => Token::Some,
                    }
                }
                letter => Token::Letter(letter),
            };
            tokens.push(token);
        }
        Ok(Self(tokens))
    }

    fn matches(&self, path: &str) -> bool {
        let places = self.walk(path);
        places.is_some_and(|places| places.last() == Some(&true))
    }

    /// All ways through the pattern at once: the places where they are after the path. None: there is
    /// no way on from here.
    fn walk(&self, path: &str) -> Option<Vec<bool>> {
        let mut now = vec![false; self.0.len() + 1];
        let mut next = now.clone();
        self.enter(&mut now, 0);
        for letter in path.chars() {
            next.fill(false);
            let mut alive = false;
            for (at, token) in self.0.iter().enumerate().filter(|(at, _)| now[*at]) {
                let (stays, goes_on) = match token {
                    Token::Letter(wanted) => (false, *wanted == letter),
                    Token::One => (false, letter != '/'),
                    Token::Some => (letter != '/', false),
                    Token::All => (true, false),
                    Token::Directories => (true, letter == '/'),
                    Token::Class { not, ranges } => {
                        let within = |(from, to): &(char, char)| (*from..=*to).contains(&letter);
                        (false, letter != '/' && ranges.iter().any(within) != *not)
                    }
                };
                if stays {
                    next[at] = true;
                    // What may be empty may end here too; directories end with a slash only.
                    if !matches!(token, Token::Directories) {
                        self.enter(&mut next, at + 1);
                    }
                }
                if goes_on {
                    self.enter(&mut next, at + 1);
                }
                alive |= stays || goes_on;
            }
            if !alive {
                return None;
            }
            std::mem::swap(&mut now, &mut next);
        }
        Some(now)
    }

    /// To a place, and past what may be empty.
    fn enter(&self, places: &mut [bool], mut at: usize) {
        while !places[at] {
            places[at] = true;
            match self.0.get(at) {
                Some(Token::Some | Token::All | Token::Directories) => at += 1,
                _ => return,
            }
        }
    }
}

fn class(text: &str, letters: &mut impl Iterator<Item = char>) -> Result<Token, Problem> {
    let unclosed = || wrong(text, "a bracket is not closed");
    let mut next = letters.next().ok_or_else(unclosed)?;
    let not = matches!(next, '!' | '^');
    if not {
        next = letters.next().ok_or_else(unclosed)?;
    }
    let mut all = Vec::new();
    // The first letter is one of them, whatever it is.
    loop {
        if next == '\\' {
            next = letters.next().ok_or_else(unclosed)?;
        }
        all.push(next);
        next = letters.next().ok_or_else(unclosed)?;
        if next == ']' {
            break;
        }
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(from) = all.get(at) {
        match (all.get(at + 1), all.get(at + 2)) {
            (Some('-'), Some(to)) if from <= to => {
                ranges.push((*from, *to));
                at += 3;
            }
            (Some('-'), Some(_)) => return Err(wrong(text, "a range is the wrong way round")),
            _ => {
                ranges.push((*from, *from));
                at += 1;
            }
        }
    }
    Ok(Token::Class { not, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(patterns: &[&str]) -> Vec<&'static str> {
        let all = [
            "a.py",
            "src/a.py",
            "src/deep/b.js",
            "src",
            "ü b.py",
            "node_modules/x.js",
        ];
        let patterns = Patterns::new(patterns.iter().copied()).unwrap();
        let matching = all.into_iter().filter(|path| patterns.matches(path));
        matching.collect()
    }

    #[test]
    fn patterns_mean_what_shells_mean() {
        assert_eq!(matching(&[]).len(), 6);
        for all in ["**/*", "**", "/", "./", "/workspace", "/workspace/"] {
            assert_eq!(matching(&[all]).len(), 6, "{all}");
        }
        assert_eq!(matching(&["*.py"]), ["a.py", "ü b.py"]);
        assert_eq!(matching(&["?.py"]), ["a.py"]);
        assert_eq!(matching(&["**/*.py"]), ["a.py", "src/a.py", "ü b.py"]);
        assert_eq!(matching(&["./src/*"]), ["src/a.py"]);
        assert_eq!(
            matching(&["/workspace/src/"]),
            ["src/a.py", "src/deep/b.js"]
        );
        assert_eq!(matching(&["src/**"]), ["src/a.py", "src/deep/b.js"]);
        assert_eq!(matching(&["src/**/*.{js,ts}"]), ["src/deep/b.js"]);
        assert_eq!(matching(&["**/deep/**/b.*"]), ["src/deep/b.js"]);
        assert_eq!(matching(&["**/eep/*"]), Vec::<&str>::new());
        assert_eq!(matching(&["src/**b.js"]), Vec::<&str>::new());
        assert_eq!(matching(&["[a-cü]*", "[!a-z]"]), ["a.py", "ü b.py"]);
        assert_eq!(
            matching(&["{src/{a,deep/b}.*,x}"]),
            ["src/a.py", "src/deep/b.js"]
        );
        let rest = matching(&["**/*.js", "!node_modules/**"]);
        assert_eq!(rest, ["src/deep/b.js"]);
        let rest = matching(&["!**/*.py", "!src/**", "!src"]);
        assert_eq!(rest, ["node_modules/x.js"]);
        let odd = Patterns::new(["\\*\\[{\\,,x}", "[]]y"]).unwrap();
        assert!(odd.matches("*[,") && odd.matches("*[x") && odd.matches("]y"));
        assert!(!odd.matches("a[x"));
    }

    #[test]
    fn a_directory_takes_along_what_may_be_below_it() {
        let hears = |pattern: &str, kind, from: Option<&str>, path: &str, directory| {
            Patterns::new([pattern]).unwrap().into_filter()(&Change {
                kind,
                path: path.to_owned(),
                from: from.map(str::to_owned),
                directory,
                write_id: None,
            })
        };
        use ChangeKind::{Created, Deleted, Moved};
        assert!(hears("**/*.py", Moved, Some("tmp"), "src", true));
        assert!(hears("src/**", Moved, Some("tmp"), "src", true));
        assert!(hears("src/deep/*.py", Deleted, None, "src", true));
        assert!(!hears("src/deep/*.py", Deleted, None, "source", true));
        assert!(!hears("*.py", Moved, Some("tmp"), "src", true));
        assert!(!hears("**/*.py", Created, None, "src", true));
        assert!(!hears("**/*.py", Moved, Some("tmp"), "src", false));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["[", "[a", "a{b", "a}b", "{a,{b}", "[z-a]", "a\\", "[!"] {
            let error = Patterns::new([text]).unwrap_err();
            assert_eq!(error.status().as_u16(), 422, "{text}");
        }
        assert!(Patterns::new(vec!["*"; 65]).is_err());
        assert!(Patterns::new(["x".repeat(8193).as_str()]).is_err());
        assert!(Patterns::new(["{a,b}".repeat(7).as_str()]).is_err());
        assert!(Patterns::new(["{a,b}".repeat(6).as_str()]).is_ok());
    }

    #[test]
    fn hostile_patterns_cost_no_more_than_their_length() {
        let pattern = "**/*a".repeat(500);
        let patterns = Patterns::new([pattern.as_str()]).unwrap();
        assert!(!patterns.matches(&"a/".repeat(2000)));
        assert!(!patterns.matches(&"a".repeat(4000)));
    }

    proptest::proptest! {
        #[test]
        fn a_path_matches_itself(path in "[a-z*?{}\\[\\]\\\\!é/.-]{1,40}") {
            let plain = normal(&path);
            proptest::prop_assume!(plain == path && !path.contains("**"));
            let letters = path.chars().flat_map(|letter| match letter {
                letter if letter.is_alphanumeric() || "/.-".contains(letter) => vec![letter],
                letter => vec!['\\', letter],
            });
            let pattern: String = letters.collect();
            proptest::prop_assert!(Patterns::new([pattern.as_str()]).unwrap().matches(&path));
        }

        #[test]
        fn arbitrary_patterns_are_taken_or_refused(text in ".{0,60}", path in ".{0,60}") {
            if let Ok(patterns) = Patterns::new([text.as_str()]) {
                patterns.matches(&path);
            }
        }
    }
}
