//! Item relations by name and id, as files hold them.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{GraphBuilder, GraphError};

/// What a relation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Another item: an edge between the two.
    #[default]
    Item,
    /// A value that other items may share (a brand, a category, an author): a node of its own.
    Attribute,
}

/// A kind of relation between items and what it weighs; an interaction weighs 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// As in the data.
    pub name: String,
    /// Above 0.
    pub weight: f32,
    /// What it leads to.
    #[serde(default)]
    pub tail: Tail,
}

/// What becomes of rows that name an unknown item or an unknown relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// They are an error.
    #[default]
    Refuse,
    /// They are skipped and counted: public knowledge graphs know more than one catalogue.
    Skip,
}

/// What came of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Rows that went into the graph.
    pub rows: usize,
    /// Rows that named something unknown.
    pub skipped: usize,
}

impl GraphBuilder {
    /// Adds `[item, relation, tail]` rows from any reader (CSV, TSV, Parquet); `index` finds an item by its id.
    ///
    /// ```
    /// use paretune_recommender::{GraphBuilder, Missing, Relation, Tail};
    ///
    /// let relations = [
    ///     Relation { name: "also_bought".into(), weight: 0.5, tail: Tail::Item },
    ///     Relation { name: "brand".into(), weight: 1.0, tail: Tail::Attribute },
    /// ];
    /// let file = "a\talso_bought\tb\na\tbrand\tAcme\nb\tbrand\tAcme\na\talso_bought\tgone";
    /// let rows = file.lines().map(|line| {
    ///     let fields: Vec<&str> = line.split('\t').collect();
    ///     <[&str; 3]>::try_from(fields).map_err(|fields| format!("{} fields instead of 3", fields.len()))
    /// });
    /// let mut builder = GraphBuilder::new(0, 2)?;
    /// let index = |id: &str| ["a", "b"].iter().position(|known| *known == id).map(|item| item as u32);
    /// let added = builder.triples(&relations, rows, index, Missing::Skip)?;
    /// assert_eq!((added.rows, added.skipped), (3, 1));
    /// # Ok::<(), paretune_recommender::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// A row that cannot be read; an unknown item or relation, unless they are to be skipped; an item's number past the end; two
    /// weights for one relation. What came before the row is in the builder then.
    pub fn triples<S: AsRef<str>, E: Display>(
        &mut self,
        relations: &[Relation],
        rows: impl IntoIterator<Item = Result<[S; 3], E>>,
        index: impl Fn(&str) -> Option<u32>,
        missing: Missing,
    ) -> Result<Added, GraphError> {
        // Relations are numbered in the order of the configuration, not in that of the rows.
        for relation in relations {
            self.relation(&relation.name, relation.weight)?;
        }
        let mut added = Added::default();
        for (row, fields) in (1..).zip(rows) {
            let fields = fields.map_err(|problem| GraphError::Row { row, problem: problem.to_string() })?;
            let [head, name, tail] = fields.each_ref().map(AsRef::as_ref);
            match self.triple(relations, [head, name, tail], row, &index) {
                Ok(()) => added.rows += 1,
                Err(GraphError::UnknownRelation { .. } | GraphError::UnknownItem { .. })
                    if missing == Missing::Skip =>
                {
                    added.skipped += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(added)
    }

    fn triple(
        &mut self,
        relations: &[Relation],
        [head, name, tail]: [&str; 3],
        row: usize,
        index: &impl Fn(&str) -> Option<u32>,
    ) -> Result<(), GraphError> {
        let Some(relation) = relations.iter().find(|relation| relation.name == name) else {
            let known: Vec<&str> = relations.iter().map(|relation| relation.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(GraphError::UnknownRelation { row, name: name.to_owned(), known });
        };
        let items = self.items();
        let item = |id: &str| match index(id) {
            None => Err(GraphError::UnknownItem { row, id: id.to_owned() }),
            Some(index) if index as usize >= items => {
                let relation = relation.name.clone();
                Err(GraphError::OutOfRange { kind: "item", index, count: items, edge: row - 1, relation })
            }
            Some(index) => Ok(index),
        };
        let head = item(head)?;
        match relation.tail {
            Tail::Item => {
                let tail = item(tail)?;
                self.relate(name, relation.weight, [(head, tail)])
            }
            Tail::Attribute => self.share(name, relation.weight, [(head, tail)]),
        }
    }
}
