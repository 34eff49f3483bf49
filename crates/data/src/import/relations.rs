//! From a file of relations to pairs of a catalogue.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::rows::{Cell, Row, Wanted, scan};
use super::texts::explained;
use crate::DataError;
use crate::descriptor::{RelationFile, RelationTo};

/// The column that is looked for where none is named.
const RELATION: &str = "relation";
/// Names of other relations that a message tells.
const SHOWN: usize = 8;

/// What a file says of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relations {
    /// The pairs, in the order of the file.
    pub pairs: Related,
    /// Rows that are there.
    pub rows: u64,
    /// Rows that name an item that the catalogue does not have.
    pub unknown: u64,
    /// SHA-256 of heads and tails as they are read: the same for the same rows, whatever file they come from.
    pub checksum: String,
}

/// Pairs of items, or of items and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Related {
    /// Head and tail, as places in the catalogue.
    Items(Vec<(u32, u32)>),
    /// The item, as its place in the catalogue, and what it has.
    Attributes(Vec<(u32, String)>),
}

impl RelationFile {
    /// Reads the pairs among the items with these ids. An item without a name (an empty tail of a relation to attributes) is no pair.
    ///
    /// # Errors
    /// A file or a column that is not there; a row without head or tail, or with another number of fields ([`DataError::BadRow`]); a
    /// file of several relations without the one that is meant; a file whose heads are all unknown ([`DataError::Strangers`]).
    pub fn read(&self, items: &[String]) -> Result<Relations, DataError> {
        let known: HashMap<&str, u32> = items.iter().map(String::as_str).zip(0..).collect();
        let read = |relation: Option<&str>| {
            let mut reading = Reading::new(self, &known, relation);
            let wanted = reading.wanted.clone();
            scan(self.file.path(), &self.file.spec, &wanted, &mut |_| (), &mut |row| reading.row(&row))?;
            reading.finish(items)
        };
        match &self.relation {
            Some(column) => read(Some(column)),
            None => match read(Some(RELATION)) {
                Err(DataError::MissingColumn { column, .. }) if column == RELATION => read(None),
                other => other,
            },
        }
    }
}

struct Reading<'a> {
    spec: &'a RelationFile,
    known: &'a HashMap<&'a str, u32>,
    wanted: Wanted,
    /// Places of the cells.
    head: usize,
    relation: Option<usize>,
    tail: usize,
    pairs: Related,
    rows: u64,
    unknown: u64,
    /// Whether the column of relations was looked for without being asked for.
    unasked: bool,
    /// What is wrong with the first row without a relation, where there may be none at all.
    unnamed: Option<DataError>,
    /// Names of other relations.
    others: BTreeSet<String>,
    /// The first head that is no item, for the message about a file of another catalogue.
    stranger: Option<String>,
    met: bool,
    hasher: Sha256,
}

impl<'a> Reading<'a> {
    fn new(spec: &'a RelationFile, known: &'a HashMap<&'a str, u32>, relation: Option<&str>) -> Self {
        let mut wanted = Wanted::default();
        let (head, tail) = (wanted.add(&spec.head), wanted.add(&spec.tail));
        let relation = relation.map(|column| wanted.add(column));
        let pairs = match spec.to {
            RelationTo::Items => Related::Items(Vec::new()),
            RelationTo::Attributes => Related::Attributes(Vec::new()),
        };
        Self {
            spec,
            known,
            wanted,
            head,
            relation,
            tail,
            pairs,
            rows: 0,
            unknown: 0,
            unasked: spec.relation.is_none(),
            unnamed: None,
            others: BTreeSet::new(),
            stranger: None,
            met: false,
            hasher: Sha256::new(),
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<(), DataError> {
        let cells = match &row.cells {
            Ok(cells) => *cells,
            Err(fault) => return Err(self.bad(row, None, explained(fault))),
        };
        let value = |place: usize| -> Option<Cow<'_, str>> { cells.get(place).and_then(Cell::text) };
        let missing = |place: usize| {
            let problem = "it is empty; every row needs one".to_owned();
            self.bad(row, self.wanted.names.get(place).cloned(), problem)
        };
        if let Some(place) = self.relation {
            let Some(name) = value(place) else {
                let error = missing(place);
                // Lines of JSON show only at the end whether any of them names a relation.
                if !self.unasked {
                    return Err(error);
                }
                self.unnamed.get_or_insert(error);
                return Ok(());
            };
            if name != self.spec.name {
                if self.others.len() < SHOWN {
                    self.others.insert(name.into_owned());
                }
                return Ok(());
            }
        }
        let head = value(self.head).ok_or_else(|| missing(self.head))?;
        let tail = match (value(self.tail), &self.pairs) {
            (Some(tail), _) => tail,
            (None, Related::Items(_)) => return Err(missing(self.tail)),
            (None, Related::Attributes(_)) => return Ok(()),
        };
        for text in [&head, &tail] {
            self.hasher.update((text.len() as u64).to_le_bytes());
            self.hasher.update(text.as_bytes());
        }
        let item = self.known.get(head.as_ref()).copied();
        self.met |= item.is_some();
        if item.is_none() {
            self.stranger.get_or_insert_with(|| head.to_string());
        }
        let added = match (&mut self.pairs, item) {
            (_, None) => false,
            (Related::Items(pairs), Some(item)) => {
                let tail = self.known.get(tail.as_ref());
                pairs.extend(tail.map(|tail| (item, *tail)));
                tail.is_some()
            }
            (Related::Attributes(pairs), Some(item)) => {
                pairs.push((item, tail.into_owned()));
                true
            }
        };
        match added {
            true => self.rows += 1,
            false => self.unknown += 1,
        }
        Ok(())
    }

    fn finish(self, items: &[String]) -> Result<Relations, DataError> {
        if let Some(error) = self.unnamed {
            return Err(error);
        }
        let file = || self.spec.file.path().display().to_string();
        match (&self.stranger, items.first()) {
            (None, _) if !self.met && !self.others.is_empty() => {
                let found = self.others.iter().cloned().collect();
                return Err(DataError::UnknownRelation { file: file(), name: self.spec.name.clone(), found });
            }
            (Some(found), Some(known)) if !self.met => {
                let (rows, found, known) = (self.unknown, found.clone(), known.clone());
                return Err(DataError::Strangers { file: file(), rows, found, known });
            }
            _ => {}
        }
        let checksum = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Relations { pairs: self.pairs, rows: self.rows, unknown: self.unknown, checksum })
    }

    fn file(&self) -> &Path {
        self.spec.file.path()
    }

    fn bad(&self, row: &Row<'_>, column: Option<String>, problem: String) -> DataError {
        DataError::BadRow {
            file: self.file().display().to_string(),
            // Parquet has no lines.
            unit: if row.raw.is_some() { "line" } else { "row" },
            number: row.line,
            column,
            problem,
        }
    }
}

#[cfg(test)]
mod tests;
