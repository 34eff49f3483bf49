//! The encoder as its users see it: against PyTorch, in training, and as files.

// Helpers outside of test functions may panic too.
#![allow(clippy::unwrap_used)]

mod adapters;
mod backbones;
mod cache;
mod devices;
mod embedder;
mod exits;
mod files;
mod fuzz;
mod gguf;
mod gradients;
mod hostile;
mod pairs;
mod reference;
mod search;
mod sentence;
mod sequence;
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

/// The largest difference of two tensors of equal shape; infinite if one is not a number.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let offs = numbers(a).into_iter().zip(numbers(b)).map(|(a, b)| (a - b).abs());
    offs.fold(0.0, |largest, off| if off.is_nan() { f32::INFINITY } else { largest.max(off) })
}

fn largest(tensor: &Tensor) -> f32 {
    numbers(tensor).into_iter().map(f32::abs).fold(0.0, f32::max)
}

fn batch() -> Packed {
    packed(&[vec![2, 17, 40, 9, 3], vec![2, 3], (5..31).collect(), vec![2, 8, 8, 8, 59, 21, 3]])
}

/// A loss whose gradient differs for every element.
fn loss(vectors: &Tensor) -> Tensor {
    (vectors.sqr().unwrap() + vectors.sin().unwrap()).unwrap().sum_all().unwrap()
}

/// Calls `work` with as many threads.
fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
