//! Categories as rows of tables.

use candle_core::{Device, Tensor, Var};
use paretune_data::CategoryTable;
use paretune_encoder::Embedding;

use crate::RecommenderError;

/// Size of a fresh row's numbers: small beside what training makes of them, so that a row it never meets says little.
const DEVIATION: f64 = 0.05;

/// A table of embeddings for each categorical feature of one part.
pub(super) struct Tables {
    tables: Vec<Table>,
    dim: usize,
}

struct Table {
    name: String,
    rows: Embedding,
    slots: usize,
}

impl Tables {
    pub(super) fn new(
        tables: &[CategoryTable],
        dim: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, RecommenderError> {
        let table = |(at, table): (u64, &CategoryTable)| -> Result<Table, RecommenderError> {
            let rows = Embedding::normal(table.rows as usize, dim, DEVIATION, seed.wrapping_add(at), device)?;
            Ok(Table { name: table.name.clone(), rows, slots: table.slots as usize })
        };
        Ok(Self { tables: (0u64..).zip(tables).map(table).collect::<Result<_, _>>()?, dim })
    }

    /// Indices of one row.
    pub(super) fn slots(&self) -> usize {
        self.tables.iter().map(|table| table.slots).sum()
    }

    /// Width of [`Self::forward`].
    pub(super) fn width(&self) -> usize {
        self.tables.len() * self.dim
    }

    /// `[n, tables · dim]` of indices `[n × slots]`; `None` without tables. Indices that share a table are averaged, those of missing
    /// values (0) left out; none at all is zero.
    pub(super) fn forward(
        &self,
        indices: &[u32],
        n: usize,
        device: &Device,
    ) -> Result<Option<Tensor>, RecommenderError> {
        let width = self.slots();
        if indices.len() != n * width {
            let (found, expected) = (indices.len(), n * width);
            return Err(RecommenderError::Categories { found, expected });
        }
        let mut columns = Vec::with_capacity(self.tables.len());
        let mut start = 0;
        for table in &self.tables {
            let slots = start..start + table.slots;
            start = slots.end;
            let ids: Vec<u32> = indices.chunks_exact(width).flat_map(|row| row[slots.clone()].to_vec()).collect();
            let rows = table.rows.forward(&ids)?;
            columns.push(match table.slots {
                1 => rows,
                slots => {
                    let shares: Vec<f32> = ids.chunks_exact(slots).flat_map(shares).collect();
                    let shares = Tensor::from_vec(shares, (n, slots, 1), device)?;
                    rows.reshape((n, slots, self.dim))?.broadcast_mul(&shares)?.sum(1)?
                }
            });
        }
        Ok(if columns.is_empty() { None } else { Some(Tensor::cat(&columns, 1)?) })
    }

    pub(super) fn parameters(&self) -> Vec<(String, Var)> {
        let named = |table: &Table| (format!("features.table.{}", table.name), table.rows.table().clone());
        self.tables.iter().map(named).collect()
    }
}

/// The weights of a mean over the values that are there.
fn shares(row: &[u32]) -> Vec<f32> {
    let there = row.iter().filter(|index| **index != 0).count().max(1) as f32;
    row.iter().map(|index| if *index == 0 { 0.0 } else { 1.0 / there }).collect()
}
