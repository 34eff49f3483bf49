//! Steps with Candle's own operations, for other devices and types than `f32` in main memory.

use candle_core::{DType, Tensor, Var};

use super::algorithm::{Algorithm, Buffer, Step};
use crate::Gradient;

/// The type of what is remembered of a parameter.
pub(super) fn memory_dtype(var: &Var) -> DType {
    if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// One step. Of a table whose gradient is of some rows, those rows of it and of its buffers alone take part, as in the pass in place.
pub(super) fn step<A: Algorithm>(
    algorithm: &A,
    step: &Step,
    var: &Var,
    gradient: &Gradient,
    buffers: &mut [Tensor],
) -> candle_core::Result<()> {
    let dtype = memory_dtype(var);
    let parameter = var.as_detached_tensor().to_dtype(dtype)?;
    let scaled = |values: &Tensor| values.detach().to_dtype(dtype)? * step.scale;
    let moved = match gradient {
        Gradient::Dense(values) => algorithm.composed(step, &parameter, &scaled(values)?, buffers)?,
        Gradient::Rows { rows, values, .. } => {
            let rows = Tensor::new(&rows[..], var.device())?;
            let kinds = algorithm.buffers(var.dims());
            let mut some = Vec::with_capacity(buffers.len());
            for (buffer, Buffer { by_rows, .. }) in buffers.iter().zip(&kinds) {
                some.push(if *by_rows { buffer.index_select(&rows, 0)? } else { buffer.clone() });
            }
            let moved = algorithm.composed(step, &parameter.index_select(&rows, 0)?, &scaled(values)?, &mut some)?;
            for ((buffer, Buffer { by_rows, .. }), new) in buffers.iter_mut().zip(&kinds).zip(some) {
                *buffer = if *by_rows { with_rows(buffer, &rows, &new)? } else { new };
            }
            with_rows(&parameter, &rows, &moved)?
        }
    };
    var.set(&moved.to_dtype(var.dtype())?.contiguous()?)
}

/// A table with other values in some rows.
pub(crate) fn with_rows(table: &Tensor, rows: &Tensor, values: &Tensor) -> candle_core::Result<Tensor> {
    let ones = Tensor::ones(rows.dims1()?, DType::U8, table.device())?;
    let touched = Tensor::zeros(table.dim(0)?, DType::U8, table.device())?.index_add(rows, &ones, 0)?;
    let mut column = vec![1; table.rank()];
    column[0] = table.dim(0)?;
    let touched = touched.reshape(column)?.broadcast_as(table.shape())?;
    touched.where_cond(&table.zeros_like()?.index_add(rows, values, 0)?, table)
}
