//! Matrix products of packed `[tokens, width]` matrices with weights, in three arithmetics.
//!
//! ```text
//! out[i, j] = finish( Σ_p left[i, p] · right[p, j] )
//! ```
//!
//! The right side is packed once into [`Panels`] of 32 columns; the left side is read where it lies or packed block by block into
//! the cache. One register tile of 12 × 32 sums serves all three arithmetics, because a *lane* of 4 bytes holds one `f32`, two `bf16`
//! or four 8-bit integers of consecutive `p`, and AVX-512 has one instruction for each that multiplies lanes and adds into 32 bits
//! (`vfmadd231ps`, `vdpbf16ps`, `vpdpbusd`). Where the processor lacks them, [`Arithmetic::available`] falls back to `f32` and the
//! `gemm` crate multiplies.
//!
//! `finish` sees each finished piece of a row while it is in the cache: biases, activations and residuals cost no pass over memory
//! of their own. Every element is one chain of sums in the order of `p`, so results do not depend on threads or block sizes.

mod avx512;
mod blocks;
mod ceiling;
mod left;
mod panels;
mod portable;
#[cfg(test)]
mod tests;
mod view;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use ceiling::product_ceiling;
pub(crate) use panels::{Panels, Stack};
pub(crate) use view::{View, ViewMut};

/// How products of matrices are computed. Sums, everything between two products, and all weights stay in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// `f32` times `f32`.
    #[default]
    F32,
    /// Both sides rounded to `bf16`, sums in `f32` (AVX512-BF16).
    Bf16,
    /// Both sides rounded to 8 bits, with a scale for each token and each output column, sums in 32 bits (AVX512-VNNI). For
    /// inference only.
    Int8,
}

impl Arithmetic {
    /// All of them, the most exact one first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name on command lines: `f32`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Whether this processor has the instructions for it; `f32` is everywhere.
    pub fn is_available(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => features().bf16,
            Self::Int8 => features().int8,
        }
    }

    /// This arithmetic if the processor has it, else `f32`.
    pub fn available(self) -> Self {
        if self.is_available() { self } else { Self::F32 }
    }

    /// Values of one 4-byte lane.
    pub(crate) fn values_per_lane(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }
}

impl std::fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Arithmetic {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || format!("no arithmetic `{name}`; there are {}", Self::ALL.map(Self::name).join(", "));
        Self::ALL.into_iter().find(|arithmetic| arithmetic.name() == name).ok_or_else(known)
    }
}

/// What the processor can do.
#[derive(Debug, Clone, Copy)]
struct Features {
    f32: bool,
    bf16: bool,
    int8: bool,
}

fn features() -> Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    *FEATURES.get_or_init(avx512::detect)
}

/// `out[i, j] = finish(Σ_p left[i, p] · right[p, j])` for a row-major `out` of `left.rows() × right.columns()`.
///
/// `finish(row, column, out, second)` is called once for every piece of a row: `out` holds the sums of `row` from `column` on, and
/// `second` the same place of the matrix `second`, which is empty or has the shape of `out`.
///
/// # Panics
/// If the shapes do not agree: a mistake of the calling kernel, never of its input.
pub(crate) fn product<F>(left: View<'_>, right: &Panels, out: &mut [f32], second: &mut [f32], finish: F)
where
    F: Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
{
    let (rows, columns) = (left.rows(), right.columns());
    assert_eq!(left.columns(), right.inner(), "inner sizes of a product");
    assert_eq!(out.len(), rows * columns, "a product of {rows} x {columns}");
    assert!(left.by_row() || right.arithmetic() != Arithmetic::Int8, "8-bit products read rows");
    assert!(second.is_empty() || second.len() == out.len(), "a second output of {rows} x {columns}");
    if out.is_empty() {
        return;
    }
    let (inner, arithmetic) = (left.columns(), right.arithmetic());
    let _span = tracing::trace_span!("product", rows, inner, columns, %arithmetic).entered();
    if right.is_packed() {
        blocks::product(left, right, out, second, finish);
    } else {
        portable::product(left, right, out, second, finish);
    }
}

/// The plain product in a vector of its own, which is not filled with zeros first.
pub(crate) fn product_vec(left: View<'_>, right: &Panels) -> Vec<f32> {
    let length = left.rows() * right.columns();
    if !right.is_packed() || left.columns() != right.inner() || length == 0 {
        let mut out = vec![0f32; length];
        product(left, right, &mut out, &mut [], plain);
        return out;
    }
    let (rows, inner, columns, arithmetic) = (left.rows(), left.columns(), right.columns(), right.arithmetic());
    let _span = tracing::trace_span!("product", rows, inner, columns, %arithmetic).entered();
    blocks::product_vec(left, right)
}

/// A right side for [`small_product`], packed by the caller into panels of 32 columns: rows of 32 numbers, one panel after the other.
#[derive(Clone, Copy)]
pub(crate) struct Slabs<'a> {
    data: &'a [f32],
    /// Numbers from one panel to the next.
    stride: usize,
}

impl<'a> Slabs<'a> {
    /// Panels of `rows` rows, from row `first` of each on.
    pub(crate) fn rows(data: &'a [f32], rows: usize, first: usize) -> Self {
        Self { data: &data[(first * COLUMNS).min(data.len())..], stride: rows * COLUMNS }
    }

    /// Panels of `rows` rows, from column `first` on, a multiple of 32.
    pub(crate) fn columns(data: &'a [f32], rows: usize, first: usize) -> Self {
        debug_assert!(first.is_multiple_of(COLUMNS), "column {first} is within a panel");
        Self { data: &data[(first * rows).min(data.len())..], stride: rows * COLUMNS }
    }

    /// # Panics
    /// If there are fewer than `columns` columns of `rows` rows: a mistake of the calling kernel, never of its input.
    fn check(&self, rows: usize, columns: usize) {
        let last = columns.div_ceil(COLUMNS).saturating_sub(1);
        let end = last * self.stride + rows * COLUMNS;
        assert!(
            columns == 0 || end <= self.data.len(),
            "panels of {rows} x {columns} do not fit {} numbers",
            self.data.len()
        );
    }
}

/// `target = left · right` on the calling thread, for small products inside of a parallel loop; with `add`, `target += left · right`.
///
/// # Panics
/// If the shapes do not agree: a mistake of the calling kernel, never of its input.
pub(crate) fn small_product(mut target: ViewMut<'_>, left: View<'_>, right: Slabs<'_>, add: bool) {
    right.check(left.columns, target.columns);
    if features().f32 {
        blocks::small_product(&mut target, left, right, add);
    } else {
        portable::small_product(&mut target, left, right, add);
    }
}

/// Leaves the sums as they are.
pub(crate) fn plain(_row: usize, _column: usize, _out: &mut [f32], _second: &mut [f32]) {}

/// Columns of a register tile, and of a panel.
pub(crate) const COLUMNS: usize = 32;
/// Rows of a register tile.
const ROWS: usize = 12;
