//! The encoder as its users see it: against PyTorch, in training, and as files.

// Helpers outside of test functions may panic too.
#![allow(clippy::unwrap_used)]

mod files;
mod reference;
mod training;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use paretune_features::{ModelFiles, Packed};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn tiny_files() -> ModelFiles {
    ModelFiles::local(fixtures().join("tiny")).unwrap()
}

fn stored(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join(name), &Device::Cpu).unwrap()
}

/// The token sequences of a fixture.
fn sequences(stored: &HashMap<String, Tensor>) -> Vec<Vec<u32>> {
    let integers = |name: &str| stored[name].to_vec1::<i64>().unwrap();
    let ids = integers("ids");
    let mut rest = ids.as_slice();
    integers("lengths")
        .into_iter()
        .map(|length| {
            let (head, tail) = rest.split_at(length as usize);
            rest = tail;
            head.iter().map(|&id| id as u32).collect()
        })
        .collect()
}

fn packed(sequences: &[Vec<u32>]) -> Packed {
    Packed::from_sequences(sequences)
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference of two tensors of equal shape.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn largest(tensor: &Tensor) -> f32 {
    numbers(tensor).into_iter().map(f32::abs).fold(0.0, f32::max)
}
