use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthStr;

use crate::better_is_higher;

/// A table, for the page and (by [`Display`](fmt::Display)) for the terminal.
///
/// ```
/// use paretune_eval::report::Table;
///
/// let table = Table::new("Test", ["objective", "metric", "model", "popularity"])
///     .compare(&["click"], "auc", &[Some(0.75), Some(0.5)])
///     .compare(&["dwell"], "rmse", &[Some(1.25), None]);
/// let text = "\
/// Test
/// objective  metric    model  popularity
/// ─────────  ──────  ───────  ──────────
/// click      auc ↑   0.7500*      0.5000
/// dwell      rmse ↓  1.2500            –
/// ";
/// assert_eq!(table.to_string(), text);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// What to know to read it; may be empty.
    #[serde(default)]
    pub note: String,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// Rows of cells. Shorter rows end in empty cells; cells beyond the columns are not shown.
    pub rows: Vec<Vec<Cell>>,
}

/// One cell of a [`Table`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cell {
    /// Nothing: shown as a dash.
    #[default]
    Empty,
    /// Words.
    Text {
        /// What to show.
        text: String,
    },
    /// A number.
    Number {
        /// The number; one that is not finite is shown as a dash.
        value: f64,
        /// Digits after the point.
        digits: usize,
        /// Whether it is the best of its row: bold, or with a star in the terminal.
        best: bool,
    },
}

impl Cell {
    /// A number with this many digits after the point.
    #[must_use]
    pub fn number(value: f64, digits: usize) -> Self {
        Self::Number { value, digits, best: false }
    }

    /// A whole number.
    #[must_use]
    pub fn count(value: usize) -> Self {
        Self::number(value as f64, 0)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Number { .. })
    }

    pub(super) fn is_best(&self) -> bool {
        matches!(self, Self::Number { best: true, .. })
    }

    /// The text of the cell; numbers have thin groups of thousands.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Empty => "–".into(),
            Self::Text { text } => text.clone(),
            Self::Number { value, digits, .. } if value.is_finite() => number(*value, *digits),
            Self::Number { .. } => "–".into(),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text { text: text.into() }
    }
}

/// Fixed digits, thousands grouped by commas.
fn number(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}", digits = digits.min(12));
    let (sign, plain) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("−", rest));
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    // "-0.000" is a rounding artefact.
    let zero = !plain.contains(|digit: char| digit.is_ascii_digit() && digit != '0');
    format!("{}{grouped}{fraction}", if zero { "" } else { sign })
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new<C: Into<String>>(title: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self { title: title.into(), columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Adds a row.
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    /// Adds a row that compares one metric over several models: the `labels`, the metric with an arrow towards better
    /// ([`better_is_higher`]), and the values with the best one marked. `None` (or `NaN`) is a metric that a model lacks.
    ///
    /// The best is marked only where there is something to compare; values that print alike share the mark.
    #[must_use]
    pub fn compare(mut self, labels: &[&str], metric: &str, values: &[Option<f64>]) -> Self {
        const DIGITS: usize = 4;
        let higher = better_is_higher(metric);
        let finite: Vec<f64> = values.iter().flatten().copied().filter(|x| x.is_finite()).collect();
        let best = finite.iter().copied().reduce(|a, b| if higher { a.max(b) } else { a.min(b) });
        let best = best.filter(|_| finite.len() > 1).map(|best| number(best, DIGITS));

        let arrow = if higher { '↑' } else { '↓' };
        let mut cells: Vec<Cell> = labels.iter().map(|&label| label.into()).collect();
        cells.push(format!("{metric} {arrow}").into());
        cells.extend(values.iter().map(|value| match value {
            Some(value) => Cell::Number {
                value: *value,
                digits: DIGITS,
                best: value.is_finite() && best.as_ref() == Some(&number(*value, DIGITS)),
            },
            None => Cell::Empty,
        }));
        self.rows.push(cells);
        self
    }

    /// Whether a column holds numbers, and so is aligned to the right.
    pub(super) fn is_numeric(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row.get(column).is_some_and(Cell::is_number))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = 0..self.columns.len();
        let numeric: Vec<bool> = columns.clone().map(|column| self.is_numeric(column)).collect();
        // A star after the best number would push its digits out of line: other numbers of the column get a space there.
        let starred: Vec<bool> = (columns.clone())
            .map(|column| self.rows.iter().any(|row| row.get(column).is_some_and(Cell::is_best)))
            .collect();
        let row_text = |row: &Vec<Cell>| -> Vec<String> {
            let text = |column: usize| {
                let cell = row.get(column).unwrap_or(&Cell::Empty);
                let mark = match (starred[column], cell.is_best()) {
                    (false, _) => "",
                    (true, true) => "*",
                    (true, false) => " ",
                };
                clean(&cell.text()) + mark
            };
            columns.clone().map(text).collect()
        };
        let headings: Vec<String> = self.columns.iter().map(|heading| clean(heading)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(row_text).collect();
        let widths: Vec<usize> = (columns.clone())
            .map(|column| {
                let cells = rows.iter().map(|row| row[column].width());
                cells.chain([headings[column].width()]).max().unwrap_or(0)
            })
            .collect();
        let rules: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();

        if !self.title.is_empty() {
            writeln!(f, "{}", clean(&self.title))?;
        }
        for cells in [&headings, &rules].into_iter().chain(&rows) {
            let mut line = String::new();
            for column in columns.clone() {
                let cell = &cells[column];
                let gap = " ".repeat(widths[column] - cell.width());
                let (before, after) = if numeric[column] { (gap, String::new()) } else { (String::new(), gap) };
                line.extend([if column > 0 { "  " } else { "" }, &before, cell, &after]);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.note.is_empty() {
            writeln!(f, "{}", clean(&self.note))?;
        }
        Ok(())
    }
}

/// Data must not steer the terminal: control characters become spaces, and those at the ends go.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}
