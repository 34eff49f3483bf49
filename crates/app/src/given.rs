//! What a run reads besides its tables: vectors made elsewhere, relations between items.
//!
//! They stay where they are, and the run keeps a checksum of what it read of each: whatever goes on with the run, or asks its model, reads
//! the same numbers or says that it cannot.

use std::{fs, path::Path};

use candle_core::Device;
use paretune_data::{Relations, VectorTable};
use paretune_recommender::{Corpus, GivenVectors, Graph, GraphConfig};
use serde::{Deserialize, Serialize};

use crate::{config::ModelConfig, failure::wrong_input, run_dir::RunDir};

/// File of the run that says what was read.
pub(crate) const FILE: &str = "given.json";

/// What stands beside the tables.
pub(crate) struct Given {
    /// Vectors made elsewhere.
    pub(crate) vectors: Vec<GivenVectors>,
    /// The graph that vectors are propagated over.
    pub(crate) graph: Option<(Graph, GraphConfig)>,
}

/// One of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// `vectors` or `relation`.
    kind: String,
    name: String,
    /// Its name without the folder.
    file: String,
    /// Rows about the catalogue.
    rows: u64,
    /// Rows about other items.
    unknown: u64,
    /// Of what was read, whatever the format.
    checksum: String,
}

impl Record {
    fn of_vectors(name: &str, file: &Path, table: &VectorTable) -> Self {
        let (rows, checksum) = (table.found() as u64, table.checksum().to_owned());
        Self { kind: "vectors".into(), name: name.into(), file: last(file), rows, unknown: table.unknown(), checksum }
    }

    fn of_relation(name: &str, file: &Path, relations: &Relations) -> Self {
        let (rows, unknown, checksum) = (relations.rows, relations.unknown, relations.checksum.clone());
        Self { kind: "relation".into(), name: name.into(), file: last(file), rows, unknown, checksum }
    }
}

fn last(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Given {
    /// Reads what the configuration names, compares it with what the run read before, and says what there is to know.
    pub(crate) fn read(
        model: &ModelConfig,
        corpus: &Corpus,
        device: &Device,
        run: &RunDir,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let ids = &corpus.dataset.items.ids;
        let (mut records, mut vectors) = (Vec::new(), Vec::new());
        for file in &model.vectors {
            let table = file.read(ids)?;
            notes.push(format!(
                "{} (`{}`): {} of {} items have a vector of {} numbers{}.",
                last(&file.file),
                file.name,
                table.found(),
                ids.len(),
                table.width(),
                others(table.unknown())
            ));
            records.push(Record::of_vectors(&file.name, &file.file, &table));
            vectors.push(GivenVectors::new(&file.name, table, device)?);
        }
        let graph = match &model.graph {
            Some(config) => {
                let relations = corpus.relations(config)?;
                for (file, relations) in config.relations.iter().zip(&relations) {
                    let record = Record::of_relation(&file.name, file.file.path(), relations);
                    let (rows, unknown) = (relations.rows, others(relations.unknown));
                    notes.push(format!(
                        "{} (`{}`): {rows} rows are edges of the graph{unknown}.",
                        record.file, file.name
                    ));
                    records.push(record);
                }
                Some((corpus.graph_with(config, &relations)?, config.clone()))
            }
            None => None,
        };
        keep(&records, run)?;
        Ok(Self { vectors, graph })
    }
}

fn others(unknown: u64) -> String {
    match unknown {
        0 => String::new(),
        1 => "; 1 row names an item that this data set does not have and was left out".to_owned(),
        unknown => format!("; {unknown} rows name items that this data set does not have and were left out"),
    }
}

/// Writes what was read, or compares it with what the run says.
fn keep(records: &[Record], run: &RunDir) -> anyhow::Result<()> {
    let path = run.join(FILE);
    if !path.is_file() {
        // An empty list says nothing.
        return if records.is_empty() { Ok(()) } else { run.write(FILE, serde_json::to_string_pretty(records)?) };
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong_input(format!("{}: {error}", path.display())))?;
    let before: Vec<Record> =
        serde_json::from_str(&text).map_err(|error| wrong_input(format!("{}: {error}", path.display())))?;
    let same = |one: &&Record| {
        let key = |record: &Record| (record.kind.clone(), record.name.clone());
        before.iter().any(|other| key(other) == key(one) && other.checksum == one.checksum)
    };
    match records.iter().find(|one| !same(one)) {
        None => Ok(()),
        Some(changed) => Err(wrong_input(format!(
            "{} (`{}`) is not what {} was made with: it was changed since, and scores with it would mean nothing; bring back the old \
             file, or train another run",
            changed.file,
            changed.name,
            run.path().display()
        ))),
    }
}
