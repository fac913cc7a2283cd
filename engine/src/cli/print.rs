//! What the command line prints: tables that line up, JSON, CSV, messages, and colour where it helps.
//!
//! Results go to standard output, everything else to standard error. Colour is for terminals, and not
//! there if `NO_COLOR` is set. A reader that has seen enough (`| head`) ends the command without a word.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::LazyLock;

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use console::{Term, measure_text_width, truncate_str};
use serde::Serialize;

use super::Format;

/// Between two columns.
const GUTTER: &str = "  ";

/// What a piece of text is, as far as its colour is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Itself.
    #[default]
    Plain,
    /// What matters most.
    Strong,
    /// What matters least.
    Faint,
    /// As it should be.
    Good,
    /// Look at it when you can.
    Warn,
    /// Look at it now.
    Bad,
    /// What to type.
    Code,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Code => "36",
        }
    }
}

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Results.
    Out,
    /// Everything else.
    Err,
}

impl Stream {
    /// Somebody is looking.
    pub fn is_terminal(self) -> bool {
        match self {
            Stream::Out => std::io::stdout().is_terminal(),
            Stream::Err => std::io::stderr().is_terminal(),
        }
    }

    /// With colour.
    pub fn is_coloured(self) -> bool {
        static COLOURS: LazyLock<[bool; 2]> = LazyLock::new(|| {
            let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            [Stream::Out, Stream::Err].map(|stream| stream.is_terminal() && !set("NO_COLOR") && !dumb)
        });
        COLOURS[usize::from(self == Stream::Err)]
    }

    /// `text` in its colour, if there are colours.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        paint(self.is_coloured(), tone, text)
    }

    /// One line.
    pub fn line(self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// One line, cut where the terminal ends.
    pub fn short_line(self, text: &str) {
        let width = self.is_terminal().then(|| match self {
            Stream::Out => Term::stdout().size().1,
            Stream::Err => Term::stderr().size().1,
        });
        match width {
            Some(width) => self.line(&truncate_str(text, usize::from(width), "…")),
            None => self.line(text),
        }
    }

    /// Text as it is.
    pub fn text(self, text: &str) {
        let written = match self {
            Stream::Out => std::io::stdout().lock().write_all(text.as_bytes()),
            Stream::Err => std::io::stderr().lock().write_all(text.as_bytes()),
        };
        if self == Stream::Out
            && let Err(error) = written.and_then(|()| std::io::stdout().flush())
        {
            // Nobody reads any more: there is nothing left to do, and nobody to tell.
            std::process::exit(if error.kind() == ErrorKind::BrokenPipe { 0 } else { 1 });
        }
    }
}

fn paint(coloured: bool, tone: Tone, text: &str) -> String {
    match coloured && tone != Tone::Plain && !text.is_empty() {
        true => format!("\x1b[{}m{text}\x1b[0m", tone.code()),
        false => text.to_string(),
    }
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    /// For programs, where that is something else.
    plain: Option<String>,
    tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), ..Cell::default() }
    }
}

impl Cell {
    /// Text with a meaning.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Cell { text: text.into(), plain: None, tone }
    }

    /// A number of things.
    pub fn count(number: u64) -> Self {
        Cell { text: count(number), plain: Some(number.to_string()), tone: Tone::Plain }
    }

    /// The same with a meaning.
    pub fn with(self, tone: Tone) -> Self {
        Cell { tone, ..self }
    }

    /// On its own, outside of a table.
    pub fn painted(&self, stream: Stream) -> String {
        stream.paint(self.tone, &self.text)
    }
}

/// Rows under heads.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heads: Vec<(String, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// No rows yet.
    pub fn new<H: Into<String>>(heads: impl IntoIterator<Item = (H, Side)>) -> Self {
        Table { heads: heads.into_iter().map(|(head, side)| (head.into(), side)).collect(), rows: vec![] }
    }

    /// One more, as wide as the heads.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.heads.len(), "a cell a head");
        self.rows.push(row);
    }

    /// For people.
    pub fn text(&self, coloured: bool) -> String {
        let mut widths: Vec<usize> = self.heads.iter().map(|(head, _)| measure_text_width(head)).collect();
        let rows: Vec<Vec<(Tone, String)>> =
            self.rows.iter().map(|row| row.iter().map(|cell| (cell.tone, one_line(&cell.text))).collect()).collect();
        for row in &rows {
            for (width, (_, text)) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(text));
            }
        }
        let heads = self.heads.iter().map(|(head, _)| (Tone::Faint, head.clone())).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&rows) {
            let mut line = String::new();
            for (index, ((tone, text), (_, side))) in row.iter().zip(&self.heads).enumerate() {
                let blank = " ".repeat(widths[index] - measure_text_width(text));
                let painted = paint(coloured, *tone, text);
                let (before, after) =
                    if *side == Side::Right { (blank, String::new()) } else { (String::new(), blank) };
                line.push_str(if index > 0 { GUTTER } else { "" });
                line.extend([before, painted, after]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// For spreadsheets: RFC 4180, with a line feed at the end of a row.
    pub fn csv(&self) -> String {
        let mut out = csv_row(self.heads.iter().map(|(head, _)| Some(head.as_str())));
        for row in &self.rows {
            let texts = row.iter().map(|cell| cell.plain.as_deref().unwrap_or(&cell.text));
            out.push_str(&csv_row(texts.map(|text| Some(text).filter(|text| !text.is_empty()))));
        }
        out
    }
}

/// A row of CSV. An empty cell is nothing, an empty text is quoted.
pub fn csv_row<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> String {
    let quoted = |text: &str| match text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    };
    let mut row = cells.map(|cell| cell.map(quoted).unwrap_or_default()).collect::<Vec<_>>().join(",");
    row.push('\n');
    row
}

/// A cell with a line feed would tear its table.
fn one_line(text: &str) -> String {
    if !text.contains(['\n', '\r', '\t']) {
        return text.to_string();
    }
    text.replace("\r\n", "⏎").replace(['\n', '\r'], "⏎").replace('\t', " ")
}

/// Prints things in the format that is asked for: `table` is how they look as one.
///
/// # Errors
/// A thing that cannot be written as JSON.
pub fn things<T: Serialize + ?Sized>(format: Format, things: &T, table: impl FnOnce(&T) -> Table) -> Result<()> {
    match format {
        Format::Json => Stream::Out.line(&serde_json::to_string_pretty(things)?),
        Format::Csv => Stream::Out.text(&table(things).csv()),
        Format::Table => Stream::Out.text(&table(things).text(Stream::Out.is_coloured())),
    }
    Ok(())
}

/// An error, or several lines of one as [`SqlError`](crate::sql::SqlError) writes them, with colours.
pub fn error(text: &str) {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let err = Stream::Err;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    err.line(&format!("{} {}", err.paint(Tone::Bad, "error:"), err.paint(Tone::Strong, first)));
    for line in lines {
        let painted = match line.split_once('^') {
            Some((before, after)) if before.trim_end().ends_with('|') => {
                format!("{before}{}", err.paint(Tone::Bad, &format!("^{after}")))
            }
            _ if line.trim_start().starts_with("-->") => err.paint(Tone::Faint, line),
            _ => match line.split_once("= help:") {
                Some((before, after)) => format!("{before}{}{after}", err.paint(Tone::Code, "= help:")),
                None => line.to_string(),
            },
        };
        err.line(&painted);
    }
}

/// An error in the text of a file, with the file's name where the line and the column are told.
pub fn in_file(error: &str, file: &std::path::Path) -> String {
    let file = file.display();
    let mut lines: Vec<String> = error.lines().map(str::to_string).collect();
    for line in &mut lines {
        let place = line.trim_start().strip_prefix("--> line ").and_then(|place| place.split_once(", column "));
        if let Some((number, column)) = place {
            *line = format!("{}--> {file}:{number}:{column}", " ".repeat(line.len() - line.trim_start().len()));
            return lines.join("\n");
        }
    }
    if let Some(first) = lines.first_mut() {
        let message = first.strip_prefix("error: ").unwrap_or(first);
        *first = format!("{file}: {message}");
    }
    lines.join("\n")
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 job`, `3 jobs`, `2 processes`
pub fn counted(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(number as u64))
}

/// A length of time in its largest sensible unit.
pub fn span(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..10_000 => format!("{:.1} s", milliseconds as f64 / 1_000.0),
        10_000..120_000 => format!("{} s", milliseconds / 1_000),
        120_000..7_200_000 => format!("{} min", milliseconds / 60_000),
        7_200_000..172_800_000 => format!("{} h", milliseconds / 3_600_000),
        _ => format!("{} d", milliseconds / 86_400_000),
    }
}

/// A time of the API (RFC 3339), as read.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

/// A time to the second, `2024-11-05 14:03:00Z`.
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true).replace('T', " ")
}

/// A time of the API to the second, or as it is if it is none.
pub fn api_time(text: &str) -> String {
    parse_time(text).map_or_else(|| text.to_string(), time)
}

/// How long ago that was.
pub fn ago(then: DateTime<Utc>) -> String {
    span((Utc::now() - then).num_milliseconds().max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::new([("name", Side::Left), ("bikes", Side::Right), ("note", Side::Left)]);
        table.push(vec!["Île-de-France".into(), "7".into(), "".into()]);
        table.push(vec!["東京".into(), Cell::count(1204).with(Tone::Bad), "two\nlines".into()]);
        let expected = "name           bikes  note\nÎle-de-France      7\n東京           1,204  two⏎lines\n";
        assert_eq!(table.text(false), expected);
        assert!(table.text(true).contains("\x1b[31m1,204\x1b[0m  two⏎lines"));
        assert_eq!(table.csv(), "name,bikes,note\nÎle-de-France,7,\n東京,1204,\"two\nlines\"\n");
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let spans = [7, 1_500, 59_000, 150_000, 7_300_000, 200_000_000].map(span);
        assert_eq!(spans, ["7 ms", "1.5 s", "59 s", "2 min", "2 h", "2 d"]);
        assert_eq!(api_time("2024-11-05T14:03:00.25+01:00"), "2024-11-05 13:03:00Z");
    }

    #[test]
    fn the_place_of_an_error_names_the_file() {
        let file = std::path::Path::new("jobs/a.sql");
        let placed = in_file("error: no column x\n  --> line 12, column 3\n   |", file);
        assert_eq!(placed, "error: no column x\n  --> jobs/a.sql:12:3\n   |");
        assert_eq!(in_file("error: it is empty\n = help: write", file), "jobs/a.sql: it is empty\n = help: write");
    }
}
