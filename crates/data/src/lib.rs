//! Clean interaction tables for recommenders, and everything that is computed from them alone.
//!
//! ```text
//!  raw CSV, TSV, JSONL, Parquet ──Descriptor──▶ import ─┐              ┌─▶ Split, Histories
//!  canonical Parquet ──────────────Dataset::read ───────┼─▶ Dataset ───┼─▶ Behaviour (features with a cut-off)
//!  nothing but a seed ─────────────simulator ───────────┘              └─▶ NegativeSampler
//! ```
//!
//! - **Tables.** A [`Dataset`] is three tables: [`Items`], [`Users`] and [`Events`]. A missing feedback value is `NaN`: not observed,
//!   not zero. [`Dataset::read`] and [`Dataset::write`] keep them as Parquet, whole or not at all.
//! - **Import.** A [`Descriptor`] in TOML says what raw files mean; [`import`] cleans them, merges events from several files and reports
//!   what became of every row. `docs/datasets.md` is its manual.
//! - **Shards.** A log larger than memory is dealt out to [`Shards`] by a hash of the user, each of which is a [`Log`] of whole users.
//! - **The clock.** Every event has a clock, and whatever describes the past of an event ([`Histories`], [`Behaviour`]) counts only
//!   training events with a strictly smaller one. A [`Split`] sets it.
//! - **Features.** [`Transforms`] are what the configuration describes ([`FeatureSpec`]), fitted on training rows and saved with the model;
//!   [`leaks`] looks for columns that know the label or the future.
//! - **Texts and vectors.** A [`TextTable`] reads the texts of a file of any size, and [`VectorParts`] writes what was computed from
//!   them, part by part, to safetensors, Parquet or npy. A [`VectorFile`] reads such files, and those of other tools, into the rows
//!   of a catalogue; a [`RelationFile`] reads what items have to do with each other.
//! - **Simulation.** [`simulator`] makes a marketplace whose truth is known.
//!
//! The crate knows nothing of tensors, text models, losses or the network. The same input and seed give the same output, to the byte,
//! whatever the number of threads.
//!
//! ```
//! use paretune_data::{Dataset, Descriptor, ImportOptions, import};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("goods.csv"), "sku,name\n7,Tea pot\n8,Mug\n")?;
//! std::fs::write(folder.path().join("stars.csv"), "who,sku,stars\nann,7,5\nbob,8,\nbob,7,4\n")?;
//! let descriptor = Descriptor::parse("shop.toml", r#"
//!     name = "shop"
//!     [items]
//!     file = "goods.csv"
//!     item_id = "sku"
//!     text.title = "name"
//!     [[events]]
//!     file = "stars.csv"
//!     user_id = "who"
//!     item_id = "sku"
//!     feedback = { click = 1, rating = "stars" }
//! "#)?;
//!
//! let (dataset, report) = import(&descriptor, folder.path(), ImportOptions::default())?;
//! assert_eq!(dataset.items.field(0, "title"), Some("Tea pot"));
//! assert_eq!(dataset.users.ids, ["ann", "bob"]);
//! assert_eq!(report.feedback["rating"].observed, 2);
//! println!("{report}");
//!
//! dataset.write(&folder.path().join("clean"))?;
//! let again = Dataset::read(&folder.path().join("clean"))?;
//! assert_eq!(again.events.item, dataset.events.item);
//! # Ok(())
//! # }
//! ```

mod atomic;
mod behaviour;
mod consistency;
mod descriptor;
mod error;
mod history;
mod import;
pub mod leaks;
mod negatives;
mod searches;
mod shards;
pub mod simulator;
#[cfg(test)]
mod small_log;
mod split;
mod store;
mod table;
mod thin;
mod transform;
mod vectors;

pub use behaviour::{Behaviour, BehaviourConfig, BehaviourSnapshot, NewItem};
pub use descriptor::{Descriptor, RawFile, RelationFile, RelationTo};
pub use error::DataError;
pub use history::Histories;
pub use import::{
    CleaningReport, DropReason, FeedbackSummary, FileReport, ImportOptions, Related, Relations, TextChunk, TextTable,
    import,
};
pub use negatives::{NegativeSampler, NegativeSampling};
pub use searches::Searches;
pub use shards::{Log, ShardSplit, Shards, UserSample};
pub use split::{Part, Split, SplitStrategy};
pub use store::EVENT_COLUMNS;
pub use table::{Dataset, Events, Items, UserColumn, Users};
pub use thin::keep_share;
pub use transform::{CategoryTable, FeatureKind, FeatureSpec, Levels, Moment, NewRow, Normalise, Side, Transforms};
pub use vectors::{VectorFile, VectorFormat, VectorParts, VectorTable};
