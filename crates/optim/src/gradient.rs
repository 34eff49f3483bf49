//! One parameter's gradient: of all its values, or of some rows of a table.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor};
use rayon::prelude::*;

const CHUNK: usize = 1 << 15;

/// The gradient of one parameter.
#[derive(Debug, Clone)]
pub enum Gradient {
    /// Of the parameter's shape.
    Dense(Tensor),
    /// Of some rows of a table (word embeddings, of which a batch touches a few); it is zero in all others.
    Rows {
        /// The rows, ascending, each once.
        rows: Vec<u32>,
        /// `[rows, width]` their gradients.
        values: Tensor,
        /// Rows of the whole table.
        height: usize,
    },
}

impl From<Tensor> for Gradient {
    fn from(tensor: Tensor) -> Self {
        Self::Dense(tensor)
    }
}

impl Gradient {
    /// Shape of the parameter.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Dense(tensor) => tensor.shape().clone(),
            Self::Rows { values, height, .. } => Shape::from((*height, values.dims().last().copied().unwrap_or(0))),
        }
    }

    /// As one tensor of the parameter's shape.
    ///
    /// # Errors
    /// If rows are past the end of the table.
    pub fn dense(&self) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(tensor) => Ok(tensor.clone()),
            Self::Rows { rows, values, height } => {
                let zeros = Tensor::zeros((*height, values.dim(1)?), values.dtype(), values.device())?;
                zeros.index_add(&Tensor::new(&rows[..], values.device())?, values, 0)
            }
        }
    }

    /// That of the rows `from .. from + rows` of the parameter (of its values, if it is a vector), in memory of its own.
    ///
    /// # Errors
    /// If they are past the end.
    pub fn narrow(&self, from: usize, rows: usize) -> candle_core::Result<Self> {
        match self {
            Self::Dense(tensor) => Ok(Self::Dense(tensor.narrow(0, from, rows)?.copy()?)),
            Self::Rows { rows: all, values, height } => {
                if from + rows > *height {
                    candle_core::bail!("rows {from} to {} of a table of {height}", from + rows);
                }
                let place = |row: usize| all.partition_point(|&other| (other as usize) < row);
                let (first, last) = (place(from), place(from + rows));
                let kept = all[first..last].iter().map(|row| row - from as u32).collect();
                Ok(Self::Rows { rows: kept, values: values.narrow(0, first, last - first)?.copy()?, height: rows })
            }
        }
    }

    /// This gradient times `factor`.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn scaled(&self, factor: f64) -> candle_core::Result<Self> {
        Ok(match self {
            Self::Dense(tensor) => Self::Dense((tensor * factor)?),
            Self::Rows { rows, values, height } => {
                Self::Rows { rows: rows.clone(), values: (values * factor)?, height: *height }
            }
        })
    }

    /// The sum of two gradients of one parameter.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn plus(&self, other: &Self) -> candle_core::Result<Self> {
        match (self, other) {
            (Self::Rows { rows, values, height }, Self::Rows { rows: others, values: more, height: same })
                if height == same =>
            {
                let mut places: BTreeMap<u32, u32> = BTreeMap::new();
                places.extend(rows.iter().chain(others).map(|row| (*row, 0)));
                places.values_mut().zip(0..).for_each(|(place, number)| *place = number);
                let index = |rows: &[u32]| {
                    let places: Vec<u32> = rows.iter().filter_map(|row| places.get(row).copied()).collect();
                    Tensor::new(places, values.device())
                };
                let zeros = Tensor::zeros((places.len(), values.dim(1)?), values.dtype(), values.device())?;
                let sum = zeros.index_add(&index(rows)?, values, 0)?.index_add(&index(others)?, more, 0)?;
                Ok(Self::Rows { rows: places.into_keys().collect(), values: sum, height: *height })
            }
            _ => Ok(Self::Dense((self.dense()? + other.dense()?)?)),
        }
    }

    /// Dot product with another gradient of the same parameter, in `f64`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn dot(&self, other: &Self) -> candle_core::Result<f64> {
        match (self, other) {
            (Self::Dense(a), Self::Dense(b)) => dot(a, b),
            (Self::Rows { rows: a, values, .. }, Self::Rows { rows: b, values: others, .. })
                if self.shape() == other.shape() =>
            {
                if a == b {
                    return dot(values, others);
                }
                // Rows that both have, in order.
                let (mut left, mut right) = (Vec::new(), Vec::new());
                for (place, row) in a.iter().enumerate() {
                    if let Ok(other) = b.binary_search(row) {
                        left.push(place as u32);
                        right.push(other as u32);
                    }
                }
                if left.is_empty() {
                    return Ok(0.0);
                }
                let pick =
                    |values: &Tensor, rows: Vec<u32>| values.index_select(&Tensor::new(rows, values.device())?, 0);
                dot(&pick(values, left)?, &pick(others, right)?)
            }
            _ => dot(&self.dense()?, &other.dense()?),
        }
    }
}

/// Dot product of two tensors of one shape, in `f64`.
fn dot(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    if a.shape() != b.shape() {
        let (lhs, rhs) = (a.shape().clone(), b.shape().clone());
        return Err(candle_core::Error::ShapeMismatchBinaryOp { lhs, rhs, op: "dot" }.bt());
    }
    let plain = |t: &Tensor| -> candle_core::Result<Tensor> {
        let t = if t.dtype() == DType::F64 { t.clone() } else { t.to_dtype(DType::F32)? };
        t.contiguous()
    };
    let (a, b) = (plain(a)?, plain(b)?);
    if let Some(product) = on_cpu(&a, &b) {
        return Ok(product);
    }
    (in_double(&a)? * in_double(&b)?)?.sum_all()?.to_scalar::<f64>()
}

/// The values in `f64`, in main memory where the device has no such type.
pub(crate) fn in_double(values: &Tensor) -> candle_core::Result<Tensor> {
    match values.device().is_metal() {
        true => values.to_device(&Device::Cpu)?.to_dtype(DType::F64),
        false => values.to_dtype(DType::F64),
    }
}

/// The product of two contiguous tensors in main memory; `None` for any other.
fn on_cpu(a: &Tensor, b: &Tensor) -> Option<f64> {
    let (a_storage, a_layout) = a.storage_and_layout();
    let (b_storage, b_layout) = b.storage_and_layout();
    let ((a_from, a_to), (b_from, b_to)) = (a_layout.contiguous_offsets()?, b_layout.contiguous_offsets()?);
    match (&*a_storage, &*b_storage) {
        (Storage::Cpu(CpuStorage::F32(a)), Storage::Cpu(CpuStorage::F32(b))) => {
            Some(chunked(&a[a_from..a_to], &b[b_from..b_to], |x| f64::from(*x)))
        }
        (Storage::Cpu(CpuStorage::F64(a)), Storage::Cpu(CpuStorage::F64(b))) => {
            Some(chunked(&a[a_from..a_to], &b[b_from..b_to], |x| *x))
        }
        _ => None,
    }
}

fn chunked<T: Sync>(a: &[T], b: &[T], value: impl Fn(&T) -> f64 + Sync) -> f64 {
    let one = |(a, b): (&[T], &[T])| -> f64 {
        // Eight running sums: one alone would wait for every addition before the next.
        let mut sums = [0.0; 8];
        let (a_blocks, a_rest) = a.as_chunks::<8>();
        let (b_blocks, b_rest) = b.as_chunks::<8>();
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            for k in 0..8 {
                sums[k] += value(&x[k]) * value(&y[k]);
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| value(x) * value(y)).sum();
        sums.iter().sum::<f64>() + rest
    };
    let sums: Vec<f64> = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(one).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[u32], values: &[f32]) -> Gradient {
        let values = Tensor::from_slice(values, (rows.len(), 2), &Device::Cpu).unwrap();
        Gradient::Rows { rows: rows.to_vec(), values, height: 5 }
    }

    fn flat(gradient: &Gradient) -> Vec<f32> {
        gradient.dense().unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rows_behave_as_their_dense_form() {
        let a = table(&[0, 3], &[1.0, 2.0, 3.0, 4.0]);
        let b = table(&[1, 3], &[5.0, 6.0, 7.0, -8.0]);
        let dense = |gradient: &Gradient| Gradient::Dense(gradient.dense().unwrap());
        assert_eq!(flat(&a), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0]);
        assert_eq!(a.shape(), dense(&a).shape());
        assert_eq!(flat(&a.plus(&b).unwrap()), flat(&dense(&a).plus(&dense(&b)).unwrap()));
        assert!(matches!(a.plus(&b).unwrap(), Gradient::Rows { rows, .. } if rows == [0, 1, 3]));
        assert_eq!(flat(&a.plus(&dense(&b)).unwrap()), flat(&a.plus(&b).unwrap()));
        assert_eq!(flat(&a.scaled(0.5).unwrap()), flat(&dense(&a).scaled(0.5).unwrap()));
        let part = |gradient: &Gradient| flat(&gradient.narrow(1, 3).unwrap());
        assert_eq!(part(&b), [5.0, 6.0, 0.0, 0.0, 7.0, -8.0]);
        assert_eq!(part(&b), part(&dense(&b)));
        assert!(b.narrow(3, 3).is_err() && dense(&b).narrow(3, 3).is_err());
        for (x, y, expected) in [(&a, &a, 30.0), (&a, &b, 21.0 - 32.0), (&table(&[2], &[1.0, 1.0]), &a, 0.0)] {
            assert_eq!(x.dot(y).unwrap(), expected);
            assert_eq!(x.dot(&dense(y)).unwrap(), expected);
        }
        assert!(a.dot(&Gradient::Dense(Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap())).is_err());
    }

    #[test]
    fn large_sums_do_not_depend_on_the_threads() {
        let values: Vec<f32> = (0..200_003).map(|i| (i as f32 * 0.7).sin() * 1e3).collect();
        let t = Tensor::new(&values[..], &Device::Cpu).unwrap();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| dot(&t, &t).unwrap())
        };
        let exact: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert_eq!(with(1).to_bits(), with(3).to_bits());
        assert!((with(2) / exact - 1.0).abs() < 1e-12);
    }

    #[test]
    fn strided_tensors_and_other_types_are_read_right() {
        let t = Tensor::arange(0_f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let turned = t.t().unwrap();
        assert_eq!(dot(&turned, &turned).unwrap(), 55.0);
        let narrow = t.narrow(1, 1, 2).unwrap();
        assert_eq!(dot(&narrow, &narrow).unwrap(), 1.0 + 4.0 + 16.0 + 25.0);
        let wide = t.to_dtype(DType::F64).unwrap();
        assert_eq!(dot(&wide, &wide).unwrap(), 55.0);
        let half = t.to_dtype(DType::BF16).unwrap();
        assert_eq!(dot(&half, &half).unwrap(), 55.0);
    }
}
