//! Borrowing the numbers of Candle tensors as slices, and making tensors from vectors.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

/// Rows that one task of a row-parallel kernel handles. Fixed, so that sums do not depend on the number of threads.
pub(crate) const ROWS: usize = 32;

/// The numbers of a contiguous CPU storage, as a custom op's forward pass receives it.
pub(crate) fn contiguous<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("{op} needs contiguous tensors, got strides {:?}; call contiguous() first", layout.stride()),
    }
}

/// A read lock on the numbers of a contiguous `f32` CPU tensor.
pub(crate) struct Floats<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Floats<'a> {
    /// Borrows `tensor`, which must be contiguous, `f32` and on the CPU.
    pub(crate) fn of(op: &str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(cpu) = &*storage else { bail!("{op} runs on the CPU only, got a tensor on another device") };
        cpu.as_slice::<f32>()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{op} needs contiguous tensors, got strides {:?}; call contiguous() first", layout.stride())
        };
        Ok(Self { storage, start, end })
    }
}

impl std::ops::Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => unreachable!("`Floats::of` checked the device and the type, and the lock has been held since"),
        }
    }
}

/// A CPU tensor that takes over `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}
