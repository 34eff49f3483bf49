//! The truth as Parquet, kept beside the data that came of it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, StringArray};

use super::topic::{TOPICS, Topic};
use super::{ItemTruth, Simulation, SimulationConfig, Truth, UserTruth};
use crate::atomic::Replacement;
use crate::store::{Columns, Table, encode};
use crate::{DataError, Dataset};

const ITEMS: &str = "truth_items.parquet";
const USERS: &str = "truth_users.parquet";

/// Simulates a marketplace and writes `items`, `users`, `events`, `truth_items` and `truth_users` (`.parquet`) into `folder`.
///
/// # Errors
/// A configuration that cannot be simulated, or what the operating system says.
pub fn write(folder: &Path, config: &SimulationConfig) -> Result<(Dataset, Truth), DataError> {
    let (dataset, truth) = Simulation::new(config.clone()).run()?;
    dataset.write(folder)?;
    truth.write(folder, &dataset)?;
    Ok((dataset, truth))
}

impl Truth {
    /// Writes `truth_items.parquet` and `truth_users.parquet` into `folder`, with the ids of `dataset`.
    ///
    /// # Errors
    /// The truth is of another data set, or what the operating system says.
    pub fn write(&self, folder: &Path, dataset: &Dataset) -> Result<(), DataError> {
        let (items, users) = (&self.items, &self.users);
        for (table, found, expected) in
            [("items", items.len(), dataset.items.len()), ("users", users.len(), dataset.users.len())]
        {
            if found != expected {
                return Err(DataError::Inconsistent {
                    dataset: dataset.name.clone(),
                    table,
                    column: "truth".to_owned(),
                    fault: format!("has {found} entries for {expected} rows"),
                });
            }
        }
        let number = |value: &dyn Fn(usize) -> f64, rows: std::ops::Range<usize>| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.map(value)))
        };
        let vector = |name: &str, of: &dyn Fn(usize) -> Topic, rows: std::ops::Range<usize>| {
            let column = |d: usize| (format!("{name}_{d}"), number(&|row| of(row)[d], rows.clone()));
            (0..TOPICS).map(column).collect::<Columns>()
        };
        let ids = |ids: &[String]| -> ArrayRef { Arc::new(StringArray::from_iter_values(ids)) };

        table(&folder.join(ITEMS), items.len(), &|rows| {
            let mut columns: Columns = vec![
                ("item_id".into(), ids(&dataset.items.ids[rows.clone()])),
                ("quality".into(), number(&|row| items[row].quality, rows.clone())),
                ("bait".into(), number(&|row| items[row].bait, rows.clone())),
                ("dearness".into(), number(&|row| items[row].dearness, rows.clone())),
                ("exposure".into(), number(&|row| items[row].exposure, rows.clone())),
            ];
            columns.extend(vector("topic", &|row| items[row].topic, rows));
            columns
        })?;
        table(&folder.join(USERS), users.len(), &|rows| {
            let mut columns: Columns = vec![
                ("user_id".into(), ids(&dataset.users.ids[rows.clone()])),
                ("price_sensitivity".into(), number(&|row| users[row].price_sensitivity, rows.clone())),
                ("bait_susceptibility".into(), number(&|row| users[row].bait_susceptibility, rows.clone())),
                ("leniency".into(), number(&|row| users[row].leniency, rows.clone())),
                ("position_bias".into(), number(&|_| self.position_bias, rows.clone())),
            ];
            columns.extend(vector("taste", &|row| users[row].taste, rows));
            columns
        })
    }

    /// Reads what [`Truth::write`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read or is not whole, or a column that is missing or of another type.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let items = Numbers::open(&folder.join(ITEMS))?;
        let users = Numbers::open(&folder.join(USERS))?;
        let (quality, bait) = (items.column("quality")?, items.column("bait")?);
        let (dearness, exposure) = (items.column("dearness")?, items.column("exposure")?);
        let topic = items.vectors("topic")?;
        let sensitivity = users.column("price_sensitivity")?;
        let susceptibility = users.column("bait_susceptibility")?;
        let (leniency, position_bias) = (users.column("leniency")?, users.column("position_bias")?);
        let taste = users.vectors("taste")?;
        let items = (0..items.0.rows).map(|row| ItemTruth {
            quality: quality[row],
            bait: bait[row],
            dearness: dearness[row],
            exposure: exposure[row],
            topic: topic[row],
        });
        let users = (0..users.0.rows).map(|row| UserTruth {
            taste: taste[row],
            price_sensitivity: sensitivity[row],
            bait_susceptibility: susceptibility[row],
            leniency: leniency[row],
        });
        Ok(Self {
            items: items.collect(),
            users: users.collect(),
            position_bias: position_bias.first().copied().unwrap_or(0.0),
        })
    }
}

fn table(path: &Path, rows: usize, columns: &dyn Fn(std::ops::Range<usize>) -> Columns) -> Result<(), DataError> {
    let mut file = Replacement::new(path)?;
    let written = encode(&mut file, None, rows, columns);
    written.map_err(DataError::io("write", path))?;
    file.commit()
}

/// A table of numbers with none missing.
struct Numbers(Table);

impl Numbers {
    fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        Ok(Self(Table::read(&path.display().to_string(), file)?))
    }

    fn column(&self, name: &str) -> Result<Vec<f64>, DataError> {
        let table = &self.0;
        let column = table.numbers(name)?.ok_or_else(|| DataError::missing_column(&table.file, name, table.names()))?;
        let mut numbers = Vec::with_capacity(column.len());
        for (row, number) in column.into_iter().enumerate() {
            numbers.push(number.ok_or_else(|| DataError::BadValue {
                file: table.file.clone(),
                row: row + 1,
                column: name.to_owned(),
                problem: "the number is missing".to_owned(),
            })?);
        }
        Ok(numbers)
    }

    fn vectors(&self, name: &str) -> Result<Vec<Topic>, DataError> {
        let mut vectors = vec![[0.0; TOPICS]; self.0.rows];
        for d in 0..TOPICS {
            let column = self.column(&format!("{name}_{d}"))?;
            for (vector, number) in vectors.iter_mut().zip(column) {
                vector[d] = number;
            }
        }
        Ok(vectors)
    }
}
