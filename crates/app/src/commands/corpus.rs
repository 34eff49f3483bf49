//! Texts to learn from without labels, and those held out to measure on.

use std::{collections::BTreeSet, num::NonZeroUsize, path::Path};

use paretune_data::{Dataset, TextTable};
use paretune_train::distill::held_out;

use crate::failure::wrong_input;

/// Column that holds the text of a table where nobody says.
const COLUMN: &str = "title";
/// Rows that are read at once.
const ROWS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The distinct texts of one file or folder.
pub(super) struct Corpus {
    /// As it was given.
    pub(super) name: String,
    /// To learn from: of items whose title is not held out the title, every other text column, and all of them together.
    pub(super) learned: BTreeSet<String>,
    /// Titles to measure on; nothing of their items is in `learned`.
    pub(super) held: BTreeSet<String>,
}

impl Corpus {
    /// Reads lines of a `.txt`, the `column` (`title` by default) of a table, or the items of a folder of canonical tables. Texts of less
    /// than three characters are left out.
    pub(super) fn read(path: &Path, column: Option<&str>) -> anyhow::Result<Self> {
        let mut corpus = Self { name: path.display().to_string(), learned: BTreeSet::new(), held: BTreeSet::new() };
        if path.is_dir() {
            let items = Dataset::read(path)?.items;
            let columns = items.text.get(COLUMN).into_iter();
            // The title comes first wherever there is one.
            let columns: Vec<_> = columns
                .chain(items.text.iter().filter(|(name, _)| *name != COLUMN).map(|(_, column)| column))
                .collect();
            for at in 0..items.len() {
                let fields: Vec<Option<&str>> =
                    columns.iter().map(|column| column.get(at).and_then(Option::as_deref)).collect();
                corpus.item(&fields);
            }
        } else {
            let table = TextTable::open(path, &[column.unwrap_or(COLUMN)], None)?;
            let text = |fields: &[Option<&str>]| fields.first().copied().flatten().unwrap_or_default().to_owned();
            table.chunks(ROWS, &text, &mut |chunk| {
                chunk.texts.iter().for_each(|text| corpus.item(&[Some(text)]));
                anyhow::Ok(())
            })?;
        }
        Ok(corpus)
    }

    /// All of them, without the texts that another one holds out.
    pub(super) fn read_all(paths: &[std::path::PathBuf], column: Option<&str>) -> anyhow::Result<Vec<Self>> {
        let all = paths.iter().map(|path| Self::read(path, column)).collect::<anyhow::Result<Vec<_>>>()?;
        let (learned, held) = all.iter().fold((0, 0), |(l, h), one| (l + one.learned.len(), h + one.held.len()));
        if learned < 20 || held < 2 {
            return Err(wrong_input(format!(
                "{learned} texts to learn from and {held} held out to measure on are too few: give more --texts"
            )));
        }
        Ok(all)
    }

    /// One item: its title, then its other texts.
    fn item(&mut self, fields: &[Option<&str>]) {
        if let Some(Some(title)) = fields.first().filter(|title| title.is_some_and(held_out)) {
            self.held.extend(worded(title));
            return;
        }
        let there: Vec<&str> = fields.iter().flatten().copied().collect();
        let together = there.join(". ");
        let own = there.into_iter().chain([together.as_str()]).filter(|text| !held_out(text));
        self.learned.extend(own.filter_map(worded));
    }
}

fn worded(text: &str) -> Option<String> {
    let text = text.trim();
    (text.chars().count() > 2).then(|| text.to_owned())
}

/// What all of them learn from, each text once, in order.
pub(super) fn learned(all: &[Corpus]) -> Vec<String> {
    all.iter().flat_map(|corpus| &corpus.learned).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}
