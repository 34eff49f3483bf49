//! A trainable table of vectors, looked up row by row.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, Var, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::graph::{Gradient, Outbox, tie};
use crate::kernels::slices::Floats;
use crate::layers::normal_tensor;
use crate::lookup;

/// A table `[rows, width]`, of which a batch reads a few rows; [`backward`](crate::backward) gives the gradients of those rows only.
///
/// ```
/// use candle_core::Device;
/// use paretune_encoder::{Embedding, backward};
///
/// let users = Embedding::normal(1000, 8, 0.05, 7, &Device::Cpu)?;
/// let vectors = users.forward(&[12, 3, 12])?;
/// assert_eq!(vectors.dims(), [3, 8]);
/// let gradients = backward(&vectors.sqr()?.sum_all()?)?;
/// assert_eq!(gradients.rows(users.table()).unwrap().rows, [3, 12]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Embedding {
    table: Var,
}

impl Embedding {
    /// A table drawn from a normal distribution of mean 0; reproducible by `seed`.
    ///
    /// # Errors
    /// If `deviation` is negative or not finite, or the table cannot be made.
    pub fn normal(rows: usize, width: usize, deviation: f64, seed: u64, device: &Device) -> Result<Self> {
        let values = normal_tensor(&[rows, width], deviation, &mut ChaCha8Rng::seed_from_u64(seed), device)?;
        Self::from_table(Var::from_tensor(&values)?)
    }

    /// A table with the given values, shared with whoever holds the [`Var`].
    ///
    /// # Errors
    /// If it is not a matrix of `f32`.
    pub fn from_table(table: Var) -> Result<Self> {
        table.dims2()?;
        if table.dtype() != DType::F32 {
            bail!("a table of embeddings holds f32, got {:?}", table.dtype())
        }
        Ok(Self { table })
    }

    /// The table `[rows, width]`.
    pub fn table(&self) -> &Var {
        &self.table
    }

    /// The rows `ids`, `[ids, width]`; the same row may be asked for more than once.
    ///
    /// # Errors
    /// A row past the end of the table.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let (rows, width) = self.table.dims2()?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            bail!("row {id} of a table of {rows} rows")
        }
        if !self.table.device().is_cpu() {
            return lookup::rows(&self.table, ids);
        }
        let outbox = Arc::new(Outbox::default());
        let handle = tie(std::slice::from_ref(&self.table), &outbox)?;
        handle.apply_op1(Lookup { table: self.table.clone(), ids: ids.into(), width, outbox })
    }

    /// The table by name: `PREFIX.weight`.
    pub fn parameters(&self, prefix: &str) -> Vec<(String, Var)> {
        vec![(format!("{prefix}.weight"), self.table.clone())]
    }
}

struct Lookup {
    table: Var,
    ids: Arc<[u32]>,
    width: usize,
    outbox: Arc<Outbox>,
}

impl CustomOp1 for Lookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let table = Floats::of(self.name(), self.table.as_tensor())?;
        let mut out = Vec::with_capacity(self.ids.len() * self.width);
        for id in self.ids.iter() {
            out.extend_from_slice(&table[*id as usize * self.width..][..self.width]);
        }
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), self.width))))
    }

    fn bwd(&self, handle: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let values = grad.flatten_all()?.to_vec1::<f32>()?;
        self.outbox.put(vec![(self.table.clone(), Gradient::Rows { rows: Arc::clone(&self.ids), values })])?;
        Ok(Some(handle.zeros_like()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward;

    #[test]
    fn rows_and_their_gradients_are_those_of_index_select() {
        let table = Embedding::normal(6, 3, 1.0, 1, &Device::Cpu).unwrap();
        let ids = [4u32, 0, 4, 5];
        let plain = table.table().index_select(&Tensor::new(&ids, &Device::Cpu).unwrap(), 0).unwrap();
        let own = table.forward(&ids).unwrap();
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&own), numbers(&plain));
        let loss = |x: &Tensor| x.sqr().unwrap().exp().unwrap().sum_all().unwrap();
        let expected = loss(&plain).backward().unwrap();
        let expected = numbers(expected.get(table.table()).unwrap());
        // Candle's own pass gives the table's gradient, ours its rows.
        assert_eq!(numbers(loss(&own).backward().unwrap().get(table.table()).unwrap()), expected);
        let found = backward(&loss(&own)).unwrap();
        let rows = found.rows(table.table()).unwrap();
        assert_eq!(rows.rows, [0, 4, 5]);
        let picked: Vec<f32> = [0, 4, 5].iter().flat_map(|row| expected[row * 3..][..3].to_vec()).collect();
        assert_eq!(numbers(&rows.values), picked);
        assert!(table.forward(&[6]).unwrap_err().to_string().contains("row 6"));
        assert_eq!(table.forward(&[]).unwrap().dims(), [0, 3]);
    }
}
