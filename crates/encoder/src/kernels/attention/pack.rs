//! Matrices of one head as panels of 32 columns: right sides for [`small_product`](crate::kernels::gemm::small_product).

use crate::kernels::gemm::COLUMNS;

/// `rows` rows of `width` numbers, `stride` apart, as panels of 32 columns.
pub(crate) fn pack(target: &mut Vec<f32>, source: &[f32], rows: usize, width: usize, stride: usize) {
    let panels = width.div_ceil(COLUMNS);
    target.resize(panels * rows * COLUMNS, 0.0);
    for (panel, target) in target.chunks_exact_mut((rows * COLUMNS).max(1)).enumerate() {
        let columns = panel * COLUMNS..((panel + 1) * COLUMNS).min(width);
        for (row, target) in target.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
            let source = &source[row * stride..][columns.clone()];
            if let Some(whole) = source.first_chunk::<COLUMNS>() {
                *target = *whole;
            } else {
                target[..source.len()].copy_from_slice(source);
                target[source.len()..].fill(0.0);
            }
        }
    }
}

/// The same of the transposed matrix, `width × rows`.
pub(crate) fn pack_transposed(target: &mut Vec<f32>, source: &[f32], rows: usize, width: usize, stride: usize) {
    let panels = rows.div_ceil(COLUMNS);
    target.resize(panels * width * COLUMNS, 0.0);
    for (panel, target) in target.chunks_exact_mut((width * COLUMNS).max(1)).enumerate() {
        let first = panel * COLUMNS;
        let count = COLUMNS.min(rows - first);
        if count < COLUMNS {
            target.fill(0.0);
        }
        let lines = target.as_chunks_mut::<COLUMNS>().0;
        for column in 0..count {
            let row = &source[(first + column) * stride..][..width];
            for (line, value) in lines.iter_mut().zip(row) {
                line[column] = *value;
            }
        }
    }
}
