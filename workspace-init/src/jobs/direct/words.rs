//! How bash reads a line, as far as nothing in it means anything to it but blanks, quotes, `&&`
//! behind a `cd`, variables in front, and `exec`. Pure.
//!
//! Must never happen here: a line that bash reads differently.

/// A line that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Those that it goes to first, one after the other.
    pub directories: Vec<String>,
    /// For the program only.
    pub assignments: Vec<(String, String)>,
    /// By `exec`: bash makes way for it in any case.
    pub makes_way: bool,
    /// The program's name and arguments.
    pub words: Vec<String>,
}

/// One word as bash has it after it has taken the quotes away.
#[derive(Debug, Default)]
struct Word {
    text: String,
    /// Bytes in front of the first quote.
    bare: usize,
    quoted: bool,
}

/// None: let bash read it.
pub(super) fn line(text: &str) -> Option<Line> {
    let mut parts = parts(text)?;
    let last = parts.pop()?;
    let mut line = Line::default();
    for part in parts {
        let [cd, directory] = &part[..] else {
            return None;
        };
        if !cd.is_bare("cd") {
            return None;
        }
        line.directories.push(directory.text.clone());
    }
    let mut words = last.into_iter().peekable();
    while let Some(assignment) = words.peek().and_then(Word::assignment) {
        line.assignments.push(assignment);
        words.next();
    }
    if words.peek()?.is_bare("exec") {
        words.next();
        line.makes_way = true;
        if !line.assignments.is_empty() {
            return None;
        }
    }
    // An option of `exec`, an assignment after all, a job's number.
    let name = &words.peek()?.text;
    if name.is_empty() || name.contains(['=', '%']) || name.starts_with(['-', '+']) {
        return None;
    }
    line.words = words.map(|word| word.text).collect();
    Some(line)
}

impl Word {
    fn is_bare(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    /// `NAME=value`, of a name that means nothing to bash when it starts a program.
    fn assignment(&self) -> Option<(String, String)> {
        let (name, value) = self.text.split_once('=')?;
        let is_bare = !self.quoted || name.len() < self.bare;
        let mut bytes = name.bytes();
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let is_name = bytes.next().is_some_and(begins)
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_ours = !matches!(name, "PATH" | "PWD" | "SHLVL" | "_");
        (is_bare && is_name && is_ours).then(|| (name.to_owned(), value.to_owned()))
    }
}

/// The words between each `&&`.
fn parts(text: &str) -> Option<Vec<Vec<Word>>> {
    let mut parts = vec![Vec::new()];
    let mut word: Option<Word> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => parts.last_mut()?.extend(word.take()),
            '&' => {
                let part = parts.last_mut()?;
                part.extend(word.take());
                if part.is_empty() || letters.next() != Some('&') {
                    return None;
                }
                parts.push(Vec::new());
            }
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                if !word.quoted {
                    (word.quoted, word.bare) = (true, word.text.len());
                }
                loop {
                    match letters.next()? {
                        end if end == letter => break,
                        special if letter == '"' && "$`\\".contains(special) => return None,
                        odd if odd.is_control() && !matches!(odd, '\n' | '\t') => return None,
                        plain => word.text.push(plain),
                    }
                }
            }
            plain if plain.is_ascii_alphanumeric() || "_-./,:+@%=".contains(plain) => {
                word.get_or_insert_default().text.push(plain);
            }
            _ => return None,
        }
    }
    parts.last_mut()?.extend(word);
    Some(parts)
}
