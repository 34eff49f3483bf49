//! Matrix products on slices: a checked wrapper of the `gemm` crate.

use gemm::Parallelism;

/// Whether a product may use all threads of the current pool.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    /// Only the calling thread, for small products inside a parallel loop.
    One,
    /// All threads of the current Rayon pool.
    All,
}

/// A read-only matrix inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A dense row-major matrix that fills `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` apart, the first one at the start of `data`.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check_bounds(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, over the same numbers.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A writable row-major matrix inside a slice.
pub(crate) struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> ViewMut<'a> {
    /// A dense row-major matrix that fills `data`.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` apart, the first one at the start of `data`.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check_bounds(data.len(), rows, columns, row_stride);
        Self { data, rows, columns, row_stride }
    }
}

/// # Panics
/// If the last element would lie outside of the slice, or rows would overlap: a mistake of the calling kernel.
fn check_bounds(length: usize, rows: usize, columns: usize, row_stride: usize) {
    if rows > 0 && columns > 0 {
        assert!(row_stride >= columns, "rows of {columns} columns overlap at stride {row_stride}");
        let end = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(columns));
        assert!(end.is_some_and(|end| end <= length), "a {rows} x {columns} matrix does not fit {length} numbers");
    }
}

/// `target = scale · left · right`, or `target += scale · left · right` if `accumulate`.
///
/// # Panics
/// If the three shapes do not agree: a mistake of the calling kernel, never of its input.
pub(crate) fn matmul(
    target: ViewMut<'_>,
    accumulate: bool,
    scale: f32,
    left: View<'_>,
    right: View<'_>,
    threads: Threads,
) {
    assert!(
        target.rows == left.rows && target.columns == right.columns && left.columns == right.rows,
        "{} x {} = {} x {} · {} x {}",
        target.rows,
        target.columns,
        left.rows,
        left.columns,
        right.rows,
        right.columns,
    );
    if target.rows == 0 || target.columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: the constructors of `View` and `ViewMut` checked that every element (i, j), i < rows, j < columns, lies
    // inside the slice and that the elements of the target are distinct; the shapes agree, as asserted above; the
    // target is borrowed mutably, so it overlaps neither operand; slice lengths fit `isize`.
    unsafe {
        gemm::gemm(
            target.rows,
            target.columns,
            left.columns,
            target.data.as_mut_ptr(),
            1,
            target.row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
