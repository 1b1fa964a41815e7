//! Words, texts and marks of TOML, Python and Ruby, which write comments and strings alike.
//!
//! Must never happen here: what a comment says, taken for what a file says.

/// A piece of a file. Blanks and comments are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// A string, without its quotes and as it is written.
    Text(&'a str),
    /// A name or a number.
    Word(&'a str),
    Mark(char),
    /// A line's end.
    Line,
}

/// A table of TOML: the path of each key, its section's first, and the pieces of its value.
pub(super) type Entries<'a> = Vec<(Vec<&'a str>, Vec<Token<'a>>)>;

pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\n' => (Some(Token::Line), 1),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '"' | '\'' => {
                let (content, length) = string(rest, first);
                (Some(Token::Text(content)), length)
            }
            _ if is_of_word(first) => {
                let length = rest.find(|letter| !is_of_word(letter));
                let (word, _) = rest.split_at(length.unwrap_or(rest.len()));
                (Some(Token::Word(word)), word.len())
            }
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ => (Some(Token::Mark(first)), first.len_utf8()),
        };
        tokens.extend(token);
        (_, rest) = rest.split_at(length);
    }
    tokens
}

/// Hyphens too, for TOML has them in its keys.
fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

/// The string that `rest` begins with, and its length with its quotes. One that does not end is over
/// with its line, or with the file if it may have many.
fn string(rest: &str, quote: char) -> (&str, usize) {
    let fence: String = std::iter::repeat_n(quote, 3).collect();
    if let Some(inner) = rest.strip_prefix(&fence) {
        let end = inner.find(&fence);
        let (content, _) = inner.split_at(end.unwrap_or(inner.len()));
        return (content, end.map_or(rest.len(), |end| end + 2 * fence.len()));
    }
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        if letter == '\n' {
            return (&rest[1..at], at);
        }
        if letter == quote && !escaped {
            return (&rest[1..at], at + 1);
        }
        escaped = letter == '\\' && !escaped;
    }
    (&rest[1..], rest.len())
}

pub(super) fn entries(text: &str) -> Entries<'_> {
    let mut entries = Vec::new();
    let mut section: Vec<&str> = Vec::new();
    let mut tokens = tokens(text).into_iter();
    while let Some(token) = tokens.next() {
        if token == Token::Line {
            continue;
        }
        if token == Token::Mark('[') {
            let header = tokens.by_ref().take_while(|token| *token != Token::Line);
            section = header.filter_map(name).collect();
            continue;
        }
        let mut path = section.clone();
        path.extend(name(token));
        let ends = |token: &Token<'_>| matches!(token, Token::Line | Token::Mark('='));
        let mut last = None;
        for token in tokens.by_ref() {
            last = Some(token);
            if ends(&token) {
                break;
            }
            path.extend(name(token));
        }
        if last == Some(Token::Mark('=')) {
            let mut depth = 0_usize;
            let value = tokens.by_ref().take_while(|token| {
                match token {
                    Token::Mark('[' | '{') => depth += 1,
                    Token::Mark(']' | '}') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                *token != Token::Line || depth > 0
            });
            let value = value.collect();
            entries.push((path, value));
        }
    }
    entries
}

fn name(token: Token<'_>) -> Option<&str> {
    match token {
        Token::Text(text) | Token::Word(text) => Some(text),
        Token::Mark(_) | Token::Line => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_are_none_and_strings_are_whole() {
        let text = "a-b = 'it\\'s # one' # \"two\"\n\"\"\"more\n# lines\"\"\"";
        let expected = [
            Token::Word("a-b"),
            Token::Mark('='),
            Token::Text("it\\'s # one"),
            Token::Line,
            Token::Text("more\n# lines"),
        ];
        assert_eq!(tokens(text), expected);
        assert_eq!(tokens("'"), [Token::Text("")]);
        assert_eq!(tokens("'''x"), [Token::Text("x")]);
        let cut = [Token::Text("a"), Token::Line, Token::Word("b")];
        assert_eq!(tokens("\"a\nb"), cut);
    }

    #[test]
    fn keys_have_the_names_of_their_tables() {
        let text =
            "top = 1\n[a.\"b c\"] # [x]\nd.e = [\n 'f', # 'g'\n]\nnonsense\n[[h]]\ni = {j = 'k'}";
        let entries = entries(text);
        let paths: Vec<_> = entries.iter().map(|(path, _)| path.join("/")).collect();
        assert_eq!(paths, ["top", "a/b c/d/e", "h/i"]);
        assert!(entries[1].1.contains(&Token::Text("f")));
        assert!(!entries[1].1.contains(&Token::Text("g")));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[\\PC\n\"'#=\\[\\]{}\\\\]{0,80}") {
            let _ = entries(&text);
        }
    }
}
