//! How things look at a terminal: states in colour, sizes and times for people, columns.
//!
//! Colours are written always; `anstream` takes them away for pipes, files and `NO_COLOR`.
//!
//! Must never happen here: text from a server printed with its control characters.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Between two columns.
const GAP: usize = 2;

/// A state in its colour.
pub fn state(word: &str) -> String {
    let colour = match word {
        "running" | "ready" | "completed" => AnsiColor::Green,
        "frozen" | "freezing" | "hibernating" | "hibernated" => AnsiColor::Blue,
        "starting" | "waking" => AnsiColor::Yellow,
        "failed" | "timeout" => AnsiColor::Red,
        _ => return plain(word),
    };
    styled(Style::new().fg_color(Some(colour.into())), word)
}

/// What stands out.
pub fn bold(text: &str) -> String {
    styled(Style::new().bold(), text)
}

/// What stands back.
pub fn faint(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", plain(text))
}

/// Without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// A field of an answer as text; nothing if it is not there.
pub fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// `31.2 MiB`.
pub fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut count = count;
    while count >= 1024.0 && unit + 1 < UNITS.len() {
        count /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count:.0} B"),
        _ => format!("{count:.1} {}", UNITS[unit]),
    }
}

/// `2 h 5 min`: the two largest units.
pub fn duration(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut left = seconds;
    let mut words = Vec::new();
    for (name, size) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            words.push(format!("{count} {name}"));
        }
        if words.len() == 2 {
            break;
        }
    }
    match words.is_empty() {
        true => "0 s".to_owned(),
        false => words.join(" "),
    }
}

/// `3 min ago` for a time of the API.
pub fn ago(stamp: &str) -> String {
    let Ok(at) = OffsetDateTime::parse(stamp, &Rfc3339) else {
        return plain(stamp);
    };
    let passed = Duration::try_from(OffsetDateTime::now_utc() - at).unwrap_or_default();
    match passed.as_secs() {
        0..10 => "just now".to_owned(),
        seconds => format!("{} ago", duration(seconds)),
    }
}

/// Rows under a head, each column as wide as its widest cell.
///
/// # Errors
/// The pipe's.
pub fn table(out: &mut impl Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(seen_width(cell));
        }
    }
    let head: Vec<String> = head.iter().map(|cell| bold(cell)).collect();
    for row in std::iter::once(&head).chain(rows) {
        let last = row.len().saturating_sub(1);
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            write!(out, "{cell}")?;
            if at < last {
                let pad = width.saturating_sub(seen_width(cell)) + GAP;
                write!(out, "{:pad$}", "")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Letters, without the codes of colours.
fn seen_width(cell: &str) -> usize {
    let stripped = anstream::adapter::strip_str(cell).to_string();
    stripped.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_for_people() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(5e12), "4.5 TiB");
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(7500), "2 h 5 min");
        assert_eq!(duration(86_400), "1 d");
        assert_eq!(
            ago("2001-01-01T00:00:00Z").split(' ').next_back(),
            Some("ago")
        );
        assert_eq!(ago("nonsense\x1b[2J"), "nonsense[2J");
    }

    #[test]
    fn columns_are_straight_whatever_their_colours() {
        let mut out = Vec::new();
        let rows = [
            vec![state("running"), "a".to_owned()],
            vec![plain("x\n\x07"), "b".to_owned()],
        ];
        table(&mut out, &["STATE", "NAME"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(text, "STATE    NAME\nrunning  a\nx        b\n");
    }
}
