//! Rows of a table on any device, with a gradient for those rows only.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail};

use crate::graph::{RowGradient, collect_rows};

/// `table[ids]`: Candle's `index_select`, but for its gradient, which stays as many rows as were touched.
struct Rows {
    ids: Arc<[u32]>,
    /// The ids on the table's device.
    places: Tensor,
}

impl Rows {
    fn select<S: BackendStorage>(&self, table: &S, layout: &Layout, ids: Option<&S>) -> Result<(S, Shape)> {
        let Some(ids) = ids else { bail!("the rows of a table and their numbers are on different devices") };
        let (_, width) = layout.shape().dims2()?;
        let selected = table.index_select(ids, layout, self.places.layout(), 0)?;
        Ok((selected, Shape::from((self.ids.len(), width))))
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (ids, _) = self.places.storage_and_layout();
        self.select(table, layout, if let Storage::Cpu(ids) = &*ids { Some(ids) } else { None })
    }

    fn cuda_fwd(&self, table: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (ids, _) = self.places.storage_and_layout();
        self.select(table, layout, if let Storage::Cuda(ids) = &*ids { Some(ids) } else { None })
    }

    fn metal_fwd(&self, table: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        let (ids, _) = self.places.storage_and_layout();
        self.select(table, layout, if let Storage::Metal(ids) = &*ids { Some(ids) } else { None })
    }

    fn bwd(&self, table: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut rows = self.ids.to_vec();
        rows.sort_unstable();
        rows.dedup();
        let place = |id: &u32| rows.partition_point(|row| row < id) as u32;
        let places = Tensor::new(self.ids.iter().map(place).collect::<Vec<u32>>(), grad.device())?;
        let zeros = Tensor::zeros((rows.len(), grad.dim(1)?), grad.dtype(), grad.device())?;
        let values = zeros.index_add(&places, &grad.contiguous()?, 0)?;
        match collect_rows(table, RowGradient { rows, values })? {
            None => Ok(None),
            // Candle's own pass wants the gradient of the whole table.
            Some(RowGradient { rows, values }) => {
                let rows = Tensor::new(rows, grad.device())?;
                Ok(Some(table.zeros_like()?.index_add(&rows, &values, 0)?))
            }
        }
    }
}

/// The rows `ids` of `table` `[rows, width]`, `[ids, width]`, on the table's device. Of a variable, [`backward`](crate::backward) gives
/// the gradients of those rows only. The ids have been checked.
pub(crate) fn rows(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let places = Tensor::new(ids, table.device())?;
    // What passes over the collector must be a variable: only of those may a gradient be missing in Candle's pass.
    match table.is_variable() && !ids.is_empty() {
        true => table.apply_op1(Rows { ids: ids.into(), places }),
        false => table.index_select(&places, 0),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::backward;

    fn numbers(t: &Tensor) -> Vec<f64> {
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rows_and_their_gradients_are_those_of_index_select() {
        for dtype in [DType::F32, DType::F64] {
            let values: Vec<f32> = (0..18).map(|i| (i as f32 * 0.7).sin()).collect();
            let values = Tensor::from_vec(values, (6, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let table = Var::from_tensor(&values).unwrap();
            let ids = [4u32, 0, 4, 5];
            let plain = table.index_select(&Tensor::new(&ids, &Device::Cpu).unwrap(), 0).unwrap();
            let own = rows(&table, &ids).unwrap();
            assert_eq!(numbers(&own), numbers(&plain));
            let loss = |x: &Tensor| x.sqr().unwrap().exp().unwrap().sum_all().unwrap();
            let expected = loss(&plain).backward().unwrap();
            let expected = numbers(expected.get(&table).unwrap());
            assert_eq!(numbers(loss(&own).backward().unwrap().get(&table).unwrap()), expected);
            let found = backward(&loss(&own)).unwrap();
            let found_rows = found.rows(&table).unwrap();
            assert!(found.get(&table).is_none());
            assert_eq!(found_rows.rows, [0, 4, 5]);
            let picked: Vec<f64> = [0, 4, 5].iter().flat_map(|row| expected[row * 3..][..3].to_vec()).collect();
            assert_eq!(numbers(&found_rows.values), picked);
        }
    }

    #[test]
    fn a_table_that_is_read_twice_gets_the_sum() {
        let table = Var::from_vec((0..12).map(|i| i as f32).collect(), (4, 3), &Device::Cpu).unwrap();
        let twice = |a: &[u32], b: &[u32]| {
            let (a, b) = (rows(&table, a).unwrap(), rows(&table, b).unwrap());
            (a.sqr().unwrap().sum_all().unwrap() + (b * 3.0).unwrap().sum_all().unwrap()).unwrap()
        };
        let loss = twice(&[2, 0], &[3, 2, 2]);
        let whole = loss.backward().unwrap().get(&table).map(numbers).unwrap();
        let found = backward(&loss).unwrap();
        let found = found.rows(&table).unwrap();
        assert_eq!(found.rows, [0, 2, 3]);
        let picked: Vec<f64> = [0, 2, 3].iter().flat_map(|row| whole[row * 3..][..3].to_vec()).collect();
        assert_eq!(numbers(&found.values), picked);
    }

    #[test]
    fn constants_and_nothing_are_looked_up_too() {
        let table = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        assert_eq!(numbers(&rows(&table, &[1, 1]).unwrap()), [3.0, 4.0, 3.0, 4.0]);
        let table = Var::from_tensor(&table).unwrap();
        assert_eq!(rows(&table, &[]).unwrap().dims(), [0, 2]);
    }
}
