//! The port that a Vite configuration names: `server: { port: 4000 }`, written out. One that is
//! computed is not known.
//!
//! Must never happen here: a configuration run.

use super::Project;

pub(super) const CONFIGS: &[&str] = &[
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.ts",
    "vite.config.cjs",
    "vite.config.mts",
    "vite.config.cts",
];

/// Of the first configuration that is there, as Vite does.
pub(super) fn port(project: &Project) -> Option<u16> {
    let mut texts = CONFIGS.iter().filter_map(|name| project.text(name));
    let code = code(texts.next()?);
    let mut blocks = values(&code, "server").filter_map(|value| value.strip_prefix('{'));
    blocks.find_map(own_port)
}

/// The `port` of an object that was just opened, not of an object in it.
fn own_port(block: &str) -> Option<u16> {
    let mut depth = 0_usize;
    let mut own = String::new();
    for letter in block.chars() {
        match letter {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' if depth == 0 => break,
            '}' | ']' | ')' => depth -= 1,
            _ if depth == 0 => own.push(letter),
            _ => {}
        }
    }
    let value = values(&own, "port").next()?;
    // Up to the comma: `4000 + offset` is no number.
    let value = value.split([',', '\n']).next()?.trim();
    value.parse().ok().filter(|port| *port != 0)
}

/// What stands behind `key:`.
fn values<'a>(code: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(key).filter_map(move |(at, _)| {
        let (before, rest) = code.split_at(at);
        let before = before.chars().next_back();
        let part = |letter: char| letter.is_alphanumeric() || "_$.".contains(letter);
        let rest = rest.strip_prefix(key)?;
        let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
        let value = rest.trim_start().strip_prefix(':')?;
        (!before.is_some_and(part)).then(|| value.trim_start())
    })
}

/// JavaScript without its comments, and without brackets in its strings.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        match (quote, letter) {
            (Some(_), '\\') => {
                letters.next();
            }
            (Some(open), _) if letter == open || (letter == '\n' && open != '`') => {
                quote = None;
                code.push(letter);
            }
            (Some(_), _) if "{}[]()".contains(letter) => {}
            (None, '"' | '\'' | '`') => {
                quote = Some(letter);
                code.push(letter);
            }
            (None, '/') if next == Some('/') => {
                while letters.next_if(|letter| *letter != '\n').is_some() {}
            }
            (None, '/') if next == Some('*') => {
                letters.next();
                let mut before = ' ';
                for letter in letters.by_ref() {
                    if (before, letter) == ('*', '/') {
                        break;
                    }
                    before = letter;
                }
            }
            _ => code.push(letter),
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<u16> {
        let mut project = Project::default();
        let file = "vite.config.ts".to_owned();
        project.contents.insert(file, text.to_owned());
        port(&project)
    }

    #[test]
    fn ports_that_are_written_out() {
        let table = [
            ("export default { server: { port: 4000 } }", Some(4000)),
            (
                "export default { server: {\n  host: '}',\n  port: 4000\n} }",
                Some(4000),
            ),
            (
                "({ 'server': { hmr: { port: 1 }, proxy: { '/a': 'http://x' }, \"port\": 4000, } })",
                Some(4000),
            ),
            (
                "// server: { port: 1 }\n/* server: { port: 2 } */ ({ server: { /* port: 3 */ port: 4000 } })",
                Some(4000),
            ),
            (
                "({ preview: { port: 4000 }, server: { host: true } })",
                None,
            ),
            ("({ server: { hmr: { port: 4000 } }, port: 4001 })", None),
            (
                "({ server: { port: Number(process.env.PORT) || 4000 } })",
                None,
            ),
            ("({ server: { port: 4000 + offset } })", None),
            ("({ server: { port: 0 } })", None),
            ("({ server: { port: 70000 } })", None),
            ("({ devserver: { port: 4000 } })", None),
            ("({ server: { strictport: 4000 } })", None),
            ("", None),
        ];
        for (text, port) in table {
            assert_eq!(of(text), port, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[\\PC\n]{0,60}", end in "[{}'`/*:\\\\\n]{0,20}") {
            let _ = of(&format!("{text} server: {{ port: {end}"));
            let _ = of(&format!("{end} server: {{ port: {text}"));
        }
    }
}
