//! CSV and its relatives.
//!
//! Records are split here rather than by a CSV library: each is decoded and repaired before it is split, its raw text is at hand
//! for the quarantine file, and a quote that is never closed costs one line, not the rest of the file.

use std::borrow::Cow;
use std::path::Path;

use super::lines::{Line, Lines};
use super::rows::{Cell, Each, Row, Wanted};
use super::{DropReason, Fault};
use crate::DataError;
use crate::descriptor::{FileSpec, Format, Header};

/// A quoted field that runs on for longer than this was never meant to be quoted.
const LONGEST_RECORD: usize = 1 << 18;

/// Fields of one record.
type Fields<'a> = Vec<Cow<'a, str>>;

/// Reads a delimited file.
pub(super) fn scan(
    path: &Path,
    spec: &FileSpec,
    wanted: &Wanted,
    tick: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    let file = path.display().to_string();
    let mut lines = Lines::open(path, spec)?;
    let mut layout = match names(spec, &mut lines)? {
        Some(names) => Some(Layout::new(&file, spec, wanted, &names)?),
        None => None,
    };
    while let Some((record, closed)) = next_record(&mut lines, spec)? {
        tick(lines.bytes());
        if record.text.trim().is_empty() {
            continue;
        }
        let cells = match (&record.fault, split(&record.text, spec)) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Some(fields)) if closed => {
                // Without a header the first record says how many columns there are.
                if layout.is_none() {
                    let names: Vec<String> = (1..=fields.len()).map(|n| n.to_string()).collect();
                    layout = Some(Layout::new(&file, spec, wanted, &names)?);
                }
                match &layout {
                    Some(layout) => cells(fields, layout, spec),
                    None => continue,
                }
            }
            _ => Err(Fault::new(DropReason::OpenQuote, "a quote is opened and never closed")),
        };
        each(Row {
            line: record.number,
            raw: Some(&record.text),
            cells: match &cells {
                Ok(cells) => Ok(cells),
                Err(fault) => Err(fault.clone()),
            },
        })?;
    }
    tick(lines.bytes());
    Ok(())
}

/// Reads `user item item …` lines as rows with the columns `user`, `item` and `position` (from 1).
pub(super) fn scan_sequences(
    path: &Path,
    spec: &FileSpec,
    wanted: &Wanted,
    tick: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    let file = path.display().to_string();
    let places = wanted.places(&file, &["user", "item", "position"])?;
    let mut lines = Lines::open(path, spec)?;
    while let Some(line) = lines.next()? {
        tick(lines.bytes());
        let mut parts: Box<dyn Iterator<Item = &str>> = match &spec.delimiter {
            Some(delimiter) => Box::new(line.text.split(delimiter.as_str())),
            None => Box::new(line.text.split_whitespace()),
        };
        let Some(user) = parts.next() else {
            continue;
        };
        let mut give =
            |cells: Result<&[Cell<'_>], Fault>| each(Row { line: line.number, raw: Some(&line.text), cells });
        if let Some(fault) = &line.fault {
            give(Err(fault.clone()))?;
            continue;
        }
        let mut empty = true;
        for (item, position) in parts.zip(1..) {
            empty = false;
            let all = [Cell::Text(user.into()), Cell::Text(item.into()), Cell::Integer(position)];
            let cells: Vec<Cell<'_>> = places.iter().map(|place| all[*place].clone()).collect();
            give(Ok(&cells))?;
        }
        if empty {
            give(Err(Fault::new(DropReason::MissingField, "a user without any item")))?;
        }
    }
    Ok(())
}

/// Names of the columns; `None` where they are numbers.
fn names(spec: &FileSpec, lines: &mut Lines<'_>) -> Result<Option<Vec<String>>, DataError> {
    match &spec.header {
        Header::Named(names) => Ok(Some(names.clone())),
        Header::Numbered => Ok(None),
        Header::FirstLine => {
            let header = next_record(lines, spec)?.map(|(line, _)| line.text);
            let fields = header.as_deref().and_then(|text| split(text, spec)).unwrap_or_default();
            Ok(Some(fields.iter().map(|name| name.trim().to_owned()).collect()))
        }
    }
}

/// The next record, which is several lines where a quoted field holds line ends, and whether its quotes are closed.
fn next_record(lines: &mut Lines<'_>, spec: &FileSpec) -> Result<Option<(Line, bool)>, DataError> {
    let Some(first) = lines.next()? else {
        return Ok(None);
    };
    if split(&first.text, spec).is_some() {
        return Ok(Some((first, true)));
    }
    let mut record = first.clone();
    let mut taken = Vec::new();
    while record.text.len() < LONGEST_RECORD {
        let Some(line) = lines.next()? else {
            break;
        };
        record.text.push('\n');
        record.text.push_str(&line.text);
        record.fault = record.fault.or_else(|| line.fault.clone());
        // Only a line with a quote can close one.
        let may_close = line.text.contains('"');
        taken.push(line);
        if may_close && split(&record.text, spec).is_some() {
            return Ok(Some((record, true)));
        }
    }
    lines.give_back(taken);
    Ok(Some((first, false)))
}

/// Splits a record; `None` where a quote is left open.
fn split<'a>(record: &'a str, spec: &FileSpec) -> Option<Fields<'a>> {
    let delimiter = spec.delimiter();
    if spec.format == Format::SplitOnce {
        let record = record.trim();
        let (head, rest) = record.split_once(delimiter).unwrap_or((record, ""));
        return Some(vec![head.into(), rest.into()]);
    }
    if !spec.quote || !record.contains('"') {
        return Some(record.split(delimiter).map(Cow::from).collect());
    }
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = unquote(quoted)?;
                // Whatever stands between the quote and the delimiter belongs to the field.
                let end = after.find(delimiter).unwrap_or(after.len());
                let field = if end == 0 { field } else { Cow::Owned(field.into_owned() + &after[..end]) };
                (field, &after[end..])
            }
            None => {
                let end = rest.find(delimiter).unwrap_or(rest.len());
                (Cow::from(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None => return Some(fields),
        }
    }
}

/// The text up to the closing quote, and what follows; a doubled quote stands for one.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut field = Cow::from("");
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        match after.strip_prefix('"') {
            Some(next) => {
                let field = field.to_mut();
                field.push_str(before);
                field.push('"');
                rest = next;
            }
            None => {
                let field = if field.is_empty() { Cow::from(before) } else { Cow::Owned(field.into_owned() + before) };
                return Some((field, after));
            }
        }
    }
}

/// The wanted cells of a record, whose number of fields must be right; blank ones at the end do not count.
fn cells<'a>(mut fields: Fields<'a>, layout: &Layout, spec: &FileSpec) -> Result<Vec<Cell<'a>>, Fault> {
    let columns = layout.columns;
    while fields.len() > columns && fields.last().is_some_and(|field| field.trim().is_empty()) {
        fields.pop();
    }
    if let Some(place) = layout.spill
        && fields.len() > columns
    {
        let surplus = fields.len() - columns;
        let whole = fields[place..=place + surplus].join(spec.delimiter());
        fields.splice(place..=place + surplus, [Cow::from(whole)]);
    }
    if fields.len() != columns {
        let detail = format!("{} fields instead of {columns}", fields.len());
        return Err(Fault::new(DropReason::FieldCount, detail));
    }
    Ok(layout.wanted.iter().map(|place| Cell::Text(fields[*place].clone())).collect())
}

/// Where things stand in a record.
struct Layout {
    /// Places of the wanted columns.
    wanted: Vec<usize>,
    /// Place of the column that takes surplus fields.
    spill: Option<usize>,
    columns: usize,
}

impl Layout {
    fn new(file: &str, spec: &FileSpec, wanted: &Wanted, names: &[String]) -> Result<Self, DataError> {
        let mut spill = Wanted::default();
        if let Some(column) = &spec.spill {
            spill.add(column);
        }
        Ok(Self {
            wanted: wanted.places(file, names)?,
            spill: spill.places(file, names)?.first().copied(),
            columns: names.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Descriptor;

    fn spec(extra: &str) -> FileSpec {
        let text = format!("name='x'\n[[events]]\nuser_id='u'\nitem_id='i'\nfile={{path='a.csv'{extra}}}");
        Descriptor::parse("x", &text).unwrap().events.remove(0).file
    }

    #[track_caller]
    fn check(record: &str, extra: &str, expected: Option<&[&str]>) {
        let fields = split(record, &spec(extra));
        let fields = fields.as_ref().map(|fields| fields.iter().map(AsRef::as_ref).collect());
        assert_eq!(fields, expected.map(<[&str]>::to_vec), "{record}");
    }

    #[test]
    fn records_are_split() {
        check("a,b,", "", Some(&["a", "b", ""]));
        check("\"a,\"\"b\"\"\",c", "", Some(&["a,\"b\"", "c"]));
        check("the 5\" disk,\"\"", "", Some(&["the 5\" disk", ""]));
        check("\"a\"b,c", "", Some(&["ab", "c"]));
        check("\"a,b", "", None);
        check("1::Toy Story::x", ",delimiter='::'", Some(&["1", "Toy Story", "x"]));
        check("\"a,b", ",quote=false", Some(&["\"a", "b"]));
        check("B00 rene furterer 5", ",format='split-once',columns=['a','b']", Some(&["B00", "rene furterer 5"]));
    }

    #[test]
    fn surplus_fields_go_where_they_belong() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let spec = spec(",spill='b',delimiter=';'");
        let mut wanted = Wanted::default();
        wanted.add("c");
        wanted.add("b");
        let layout = Layout::new("a.csv", &spec, &wanted, &names).unwrap();
        let read = |record: &'static str| cells(split(record, &spec).unwrap(), &layout, &spec);
        let text = |text: &'static str| Cell::Text(text.into());
        assert_eq!(read("1;x;y;z;2;; "), Ok(vec![text("2"), text("x;y;z")]));
        assert_eq!(read("1;x;2"), Ok(vec![text("2"), text("x")]));
        assert_eq!(read("1;x").unwrap_err().reason, DropReason::FieldCount);
    }

    proptest! {
        #[test]
        fn what_a_csv_writer_writes_is_read_back(
            rows in proptest::collection::vec(proptest::collection::vec("[ -~\"\n,é]{0,12}", 3), 1..6)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.csv");
            let mut writer = csv::Writer::from_path(&path).unwrap();
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            writer.flush().unwrap();

            let spec = spec(",columns=['a','b','c']");
            let mut wanted = Wanted::default();
            for name in ["a", "b", "c"] {
                wanted.add(name);
            }
            let mut read = Vec::new();
            scan(&path, &spec, &wanted, &mut |_| (), &mut |row: Row<'_>| {
                read.push(row.cells.unwrap().iter().map(|cell| match cell {
                    Cell::Text(text) => text.to_string(),
                    other => panic!("{other:?}"),
                }).collect::<Vec<_>>());
                Ok(())
            }).unwrap();
            prop_assert_eq!(read, rows);
        }
    }
}
