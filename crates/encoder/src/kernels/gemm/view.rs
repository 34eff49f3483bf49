//! Matrices inside slices, checked once so that kernels need not.

/// A read-only matrix inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
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

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether the numbers of a row lie next to each other; else those of a column do.
    pub(super) fn by_row(&self) -> bool {
        self.column_stride == 1
    }

    /// Numbers from one row to the next, or from one column to the next.
    pub(super) fn stride(&self) -> usize {
        self.row_stride.max(self.column_stride)
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
    pub(super) data: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
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
