//! Squares of numbers that fit into the cache, and what is computed on them.

use pulp::{Simd, WithSimd};

/// Rows and columns of a tile.
pub(super) const SIDE: usize = 128;

/// Rows and columns of the sums that are kept in registers.
const ROWS: usize = 8;
const COLUMNS: usize = 16;

/// `SIDE × SIDE` numbers, row-major.
pub(super) type Tile = Box<[f64]>;

pub(super) fn zeros() -> Tile {
    vec![0.0; SIDE * SIDE].into_boxed_slice()
}

pub(super) fn transposed(tile: &[f64]) -> Tile {
    let mut turned = zeros();
    for (row, values) in tile.chunks_exact(SIDE).enumerate() {
        for (column, value) in values.iter().enumerate() {
            turned[column * SIDE + row] = *value;
        }
    }
    turned
}

pub(super) fn negated(tile: &[f64]) -> Tile {
    tile.iter().map(|value| -value).collect()
}

/// The left side of a product, in the order in which [`add_product`] reads it.
pub(super) struct Left(Tile);

/// The right side of a product, in the order in which [`add_product`] reads it.
pub(super) struct Right(Tile);

impl Left {
    pub(super) fn new(tile: &[f64]) -> Self {
        Self(packed::<ROWS>(tile))
    }
}

impl Right {
    /// The transpose of `tile`.
    pub(super) fn transpose_of(tile: &[f64]) -> Self {
        Self(packed::<COLUMNS>(tile))
    }
}

/// Slabs of `WIDTH` rows; in a slab, column after column.
fn packed<const WIDTH: usize>(tile: &[f64]) -> Tile {
    let mut packed = zeros();
    for (slab, rows) in packed.chunks_exact_mut(SIDE * WIDTH).zip(tile.chunks_exact(SIDE * WIDTH)) {
        for (row, values) in rows.chunks_exact(SIDE).enumerate() {
            for (column, value) in values.iter().enumerate() {
                slab[column * WIDTH + row] = *value;
            }
        }
    }
    packed
}

/// `sum += left · right`, in the instructions of this processor.
pub(super) fn add_product(sum: &mut [f64], left: &Left, right: &Right) {
    pulp::Arch::new().dispatch(AddProduct { sum, left: &left.0, right: &right.0 });
}

struct AddProduct<'a> {
    sum: &'a mut [f64],
    left: &'a [f64],
    right: &'a [f64],
}

impl WithSimd for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (i, left) in self.left.chunks_exact(SIDE * ROWS).enumerate() {
            for (j, right) in self.right.chunks_exact(SIDE * COLUMNS).enumerate() {
                let (right, _) = S::as_simd_f64s(right);
                // As many columns at once as two registers hold: all sixteen with AVX-512.
                for pair in 0..COLUMNS / S::F64_LANES / 2 {
                    let mut sums = [[simd.splat_f64s(0.0); 2]; ROWS];
                    let rows = right.chunks_exact(COLUMNS / S::F64_LANES);
                    for (a, b) in left.as_chunks::<ROWS>().0.iter().zip(rows) {
                        let b = [b[2 * pair], b[2 * pair + 1]];
                        for (sums, a) in sums.iter_mut().zip(a) {
                            let a = simd.splat_f64s(*a);
                            *sums = [simd.mul_add_e_f64s(a, b[0], sums[0]), simd.mul_add_e_f64s(a, b[1], sums[1])];
                        }
                    }
                    for (row, sums) in sums.into_iter().enumerate() {
                        let start = (i * ROWS + row) * SIDE + j * COLUMNS;
                        let (line, _) = S::as_mut_simd_f64s(&mut self.sum[start..start + COLUMNS]);
                        for (line, sum) in line[2 * pair..].iter_mut().zip(sums) {
                            *line = simd.add_f64s(*line, sum);
                        }
                    }
                }
            }
        }
    }
}

/// The inverse of a symmetric positive definite tile, itself exactly symmetric, by sweeping its rows one after another. `None` if a
/// pivot is not positive.
pub(super) fn inverse(tile: &[f64]) -> Option<Tile> {
    let mut swept: Tile = tile.into();
    for k in 0..SIDE {
        let pivot_row: Tile = Box::from(&swept[k * SIDE..][..SIDE]);
        let pivot = pivot_row[k];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        for (i, row) in swept.chunks_exact_mut(SIDE).enumerate() {
            let factor = pivot_row[i] / pivot;
            if i == k {
                row.iter_mut().for_each(|value| *value /= pivot);
                row[k] = -1.0 / pivot;
            } else {
                row.iter_mut().zip(&pivot_row).for_each(|(value, other)| *value -= factor * other);
                row[k] = factor;
            }
        }
    }
    // Sweeping every row leaves minus the inverse.
    for i in 0..SIDE {
        for j in 0..=i {
            let value = -swept[i * SIDE + j];
            swept[i * SIDE + j] = value;
            swept[j * SIDE + i] = value;
        }
    }
    Some(swept)
}
