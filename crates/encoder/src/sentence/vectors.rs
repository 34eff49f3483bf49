//! Vectors of texts, one below the other.

use std::ops::Index;

/// Rows of equal width: the vectors of texts, or the similarities of texts with others.
///
/// ```
/// use paretune_encoder::Vectors;
///
/// let vectors = Vectors::from_rows(2, vec![1.0, 0.0, 0.6, 0.8]).expect("two rows of two");
/// assert_eq!((vectors.len(), vectors.width()), (2, 2));
/// assert_eq!(&vectors[1], [0.6, 0.8]);
/// assert!(Vectors::from_rows(3, vec![1.0, 0.0]).is_none());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    rows: usize,
    width: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// Rows of `width` numbers each, end to end; `None` if `values` do not fill whole rows.
    pub fn from_rows(width: usize, values: Vec<f32>) -> Option<Self> {
        let rows = values.len().checked_div(width).unwrap_or(0);
        (rows.checked_mul(width)? == values.len()).then_some(Self { rows, width, values })
    }

    /// Like [`from_rows`](Self::from_rows), for a count of rows that is known, as where they have no columns.
    pub(crate) fn shaped(rows: usize, width: usize, values: Vec<f32>) -> Self {
        debug_assert_eq!(rows * width, values.len());
        Self { rows, width, values }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `index`, or `None` if there are not so many.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        (index < self.rows).then(|| &self.values[index * self.width..][..self.width])
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        (0..self.rows).map(|row| &self.values[row * self.width..][..self.width])
    }

    /// All numbers, row after row.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// All numbers, row after row.
    pub fn into_vec(self) -> Vec<f32> {
        self.values
    }

    /// The first `width` numbers of each row.
    pub(crate) fn truncated(self, width: usize) -> Self {
        if width >= self.width {
            return self;
        }
        let values = self.iter().flat_map(|row| &row[..width]).copied().collect();
        Self { rows: self.rows, width, values }
    }

    /// Scales rows to length 1; a row of zeros stays, as in PyTorch's `normalize`.
    pub(crate) fn normalized(mut self) -> Self {
        if self.width > 0 {
            for row in self.values.chunks_exact_mut(self.width) {
                let norm = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
                let scale = (1.0 / norm.max(1e-12)) as f32;
                row.iter_mut().for_each(|value| *value *= scale);
            }
        }
        self
    }
}

impl Index<usize> for Vectors {
    type Output = [f32];

    /// Row `index`.
    ///
    /// # Panics
    /// Like indexing a slice, if there are not so many rows; [`get`](Vectors::get) asks first.
    fn index(&self, index: usize) -> &[f32] {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        &self.values[index * self.width..][..self.width]
    }
}
