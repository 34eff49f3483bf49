//! The cache of frozen layers: it must never show but in the time that training takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use paretune_encoder::{Arithmetic, CacheOptions, Encoder, EncoderError, LoadOptions, Trainable};
use paretune_features::{Packed, Tokenized};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{batch, loss, numbers, packed, tiny_files};

/// Training the top of the tiny model.
fn top(cache: Option<CacheOptions>) -> Encoder {
    let options = LoadOptions { trainable: Trainable::LastLayers(1), cache, ..LoadOptions::default() };
    Encoder::load(&tiny_files(), &options).unwrap()
}

fn memory(memory: usize) -> Option<CacheOptions> {
    Some(CacheOptions { memory, folder: None })
}

/// Everything on disk.
fn disk(folder: &Path) -> Option<CacheOptions> {
    Some(CacheOptions { memory: 0, folder: Some(folder.to_owned()) })
}

/// Vectors and gradients of one step.
fn step(encoder: &Encoder, packed: &Packed, dropout: Option<u64>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let vectors = encoder.encode(packed, dropout).unwrap();
    let gradients = loss(&vectors).backward().unwrap();
    let of = |(_, var): (_, candle_core::Var)| numbers(gradients.get(&var).unwrap());
    (numbers(&vectors), encoder.parameters().into_iter().map(of).collect())
}

fn assert_same(encoder: &Encoder, plain: &Encoder, what: &str) {
    let other = packed(&[vec![2, 8, 8, 8, 59, 21, 3], vec![2, 50, 3], vec![2, 50, 3], vec![2, 17, 40, 9, 3]]);
    for packed in [batch(), other, batch()] {
        for dropout in [None, Some(3)] {
            assert_eq!(step(encoder, &packed, dropout), step(plain, &packed, dropout), "{what}");
        }
    }
}

/// The one file of a folder.
fn file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_cache_changes_no_bit() {
    let plain = top(None);
    assert_same(&top(Some(CacheOptions::default())), &plain, "memory");
    // Room for one of the texts, or for none.
    assert_same(&top(memory(7 * 32 * 4)), &plain, "little memory");
    assert_same(&top(memory(0)), &plain, "no memory");
    let folder = tempfile::tempdir().unwrap();
    assert_same(&top(disk(folder.path())), &plain, "disk");
    let folder = tempfile::tempdir().unwrap();
    let both = CacheOptions { memory: 7 * 32 * 4, folder: Some(folder.path().join("deep/er")) };
    assert_same(&top(Some(both)), &plain, "both");
}

#[test]
fn a_cache_changes_no_bit_in_bf16() {
    let load = |cache| {
        let (trainable, arithmetic) = (Trainable::LastLayers(1), Arithmetic::Bf16);
        Encoder::load(&tiny_files(), &LoadOptions { trainable, arithmetic, cache, ..LoadOptions::default() }).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    assert_same(&load(disk(folder.path())), &load(None), "bf16");
    // What another arithmetic left there is not taken for it.
    assert_same(&top(disk(folder.path())), &top(None), "f32 beside bf16");
    assert_same(&load(disk(folder.path())), &load(None), "bf16 beside f32");
}

#[test]
fn batches_larger_than_the_cache_computes_at_once_keep_their_order() {
    let sequences: Vec<Vec<u32>> =
        (0..330u32).map(|i| (0..24 + i % 7).map(|j| (i * 13 + j * j) % 60).collect()).collect();
    let large = packed(&sequences);
    assert!(large.tokens() > 8192);
    let (cached, plain) = (top(Some(CacheOptions::default())), top(None));
    // Some are known already.
    cached.encode(&packed(&sequences[100..110]), None).unwrap();
    let expected = numbers(&plain.encode(&large, None).unwrap());
    assert_eq!(numbers(&cached.encode(&large, None).unwrap()), expected);
    assert_eq!(numbers(&cached.encode(&large, None).unwrap()), expected);
}

#[test]
fn embedding_goes_through_the_cache_too() {
    let texts = Tokenized::from_sequences([&[2, 17, 40, 9, 3][..], &[2, 3], &[2, 8, 8, 59, 3]]);
    let (cached, plain) = (top(Some(CacheOptions::default())), top(None));
    let expected = plain.embed(&texts, 6, None).unwrap();
    for _ in 0..2 {
        let found = cached.embed(&texts, 6, None).unwrap();
        assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
    }
}

#[test]
fn a_frozen_encoder_is_cached_whole_and_a_trained_one_not_at_all() {
    for trainable in [Trainable::Nothing, Trainable::All] {
        let folder = tempfile::tempdir().unwrap();
        let load =
            |cache| Encoder::load(&tiny_files(), &LoadOptions { trainable, cache, ..LoadOptions::default() }).unwrap();
        let (cached, plain) = (load(disk(folder.path())), load(None));
        for dropout in [None, Some(3), None] {
            let expected = numbers(&plain.encode(&batch(), dropout).unwrap());
            assert_eq!(numbers(&cached.encode(&batch(), dropout).unwrap()), expected);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), usize::from(trainable == Trainable::Nothing));
    }
}

#[test]
fn what_is_on_disk_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let plain = top(None);
    let encoder = top(disk(folder.path()));
    assert_eq!(length(&file(folder.path())), 0);
    assert_same(&encoder, &plain, "first");
    let size = length(&file(folder.path()));
    // Each of five texts once: its numbers and a head of 32 bytes.
    assert_eq!(size, 5 * 32 + 4 * 32 * (5 + 2 + 26 + 7 + 3));
    drop(encoder);
    let encoder = top(disk(folder.path()));
    assert_same(&encoder, &plain, "again");
    drop(encoder);
    assert_eq!(length(&file(folder.path())), size);

    // The file is really read: another number in it shows.
    let path = file(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[32..36].copy_from_slice(&100f32.to_le_bytes());
    let count = u64::from_le_bytes(*bytes[16..].first_chunk().unwrap()) as usize;
    let check = Sha256::digest(&bytes[32..32 + 4 * count]);
    bytes[24..32].copy_from_slice(&check[..8]);
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(step(&top(disk(folder.path())), &batch(), None), step(&plain, &batch(), None));
}

#[test]
fn a_file_that_was_cut_off_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let plain = top(None);
    step(&top(disk(folder.path())), &batch(), None);
    let path = file(folder.path());
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 1, 31, 32, 33, 100, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let encoder = top(disk(folder.path()));
        assert_same(&encoder, &plain, &format!("{cut} bytes"));
        drop(encoder);
        assert_eq!(file(folder.path()), path);
        // Mended for good.
        let size = length(&path);
        assert!(size as usize >= whole.len(), "{cut} bytes became {size}");
        assert_same(&top(disk(folder.path())), &plain, &format!("{cut} bytes, again"));
        assert_eq!(length(&path), size, "{cut} bytes");
    }
}

#[test]
fn what_follows_the_end_of_a_mended_file_is_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let plain = top(None);
    step(&top(disk(folder.path())), &batch(), None);
    let path = file(folder.path());
    // Cut within the last and longest text, with a short one after it.
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..40).map(|step| whole.len() - 4 - 16 * step).collect();
    for end in ends {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert_same(&top(disk(folder.path())), &plain, "first");
        std::fs::write(&path, &whole[..end]).unwrap();
        step(&top(disk(folder.path())), &packed(&[vec![7]]), None);
        assert_same(&top(disk(folder.path())), &plain, &format!("cut at {end}"));
    }
}

#[test]
fn a_file_that_another_encoder_fills_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = top(None);
    let first = top(disk(folder.path()));
    step(&first, &packed(&[vec![2, 3]]), None);
    let size = length(&file(folder.path()));
    let second = top(disk(folder.path()));
    assert_same(&second, &plain, "second");
    assert_eq!(length(&file(folder.path())), size);
    assert_same(&first, &plain, "first");
    drop(first);
    assert_same(&second, &plain, "second, alone");
    drop(second);
    assert_same(&top(disk(folder.path())), &plain, "third");
}

#[test]
fn training_the_top_leaves_the_cache_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (cached, plain) = (top(disk(folder.path())), top(None));
    for seed in 0..3 {
        for encoder in [&cached, &plain] {
            let gradients = loss(&encoder.encode(&batch(), Some(seed)).unwrap()).backward().unwrap();
            for (_, var) in encoder.parameters() {
                var.set(&(var.as_tensor() - (gradients.get(&var).unwrap() * 1e-2).unwrap()).unwrap()).unwrap();
            }
        }
        assert_same(&cached, &plain, "trained");
    }
    assert_ne!(step(&cached, &batch(), None), step(&top(None), &batch(), None));
    // A later run of the original model finds what this one left.
    let size = length(&file(folder.path()));
    drop(cached);
    assert_same(&top(disk(folder.path())), &top(None), "later");
    assert_eq!(length(&file(folder.path())), size);
}

#[test]
fn other_frozen_weights_have_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    step(&top(disk(folder.path())), &batch(), None);
    let other_weights = tempfile::tempdir().unwrap();
    let path = other_weights.path().join("model.safetensors");
    let mut tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(&tiny_files().weights[0], &candle_core::Device::Cpu).unwrap();
    let name = tensors.keys().find(|name| name.ends_with("layer.0.output.dense.bias")).unwrap().clone();
    tensors.insert(name.clone(), (&tensors[&name] + 0.25).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let files = paretune_features::ModelFiles { weights: vec![path], ..tiny_files() };
    let load = |cache| {
        let options = LoadOptions { trainable: Trainable::LastLayers(1), cache, ..LoadOptions::default() };
        Encoder::load(&files, &options).unwrap()
    };
    assert_same(&load(disk(folder.path())), &load(None), "other");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_same(&top(disk(folder.path())), &top(None), "first");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").unwrap();
    let options =
        LoadOptions { trainable: Trainable::LastLayers(1), cache: disk(&taken.join("in")), ..LoadOptions::default() };
    let error = Encoder::load(&tiny_files(), &options).unwrap_err();
    assert!(matches!(error, EncoderError::Cache { .. }));
    assert!(error.to_string().contains("taken"), "{error}");
}

#[test]
fn a_cache_may_be_used_from_parallel_tasks() {
    let encoder = top(Some(CacheOptions::default()));
    super::with_threads(4, || {
        (0..600u32).into_par_iter().for_each(|i| {
            let texts: Vec<Vec<u32>> = (0..60u32)
                .map(|j| (0..12 + (i + j) % 20).map(|k| (i * (k + 7) + j * 3 + k * k) % 60).collect())
                .collect();
            encoder.encode(&packed(&texts), Some(1)).unwrap();
        });
    });
}

#[test]
fn a_damaged_entry_is_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Some(CacheOptions { memory: 0, folder: Some(folder.path().to_owned()) });
    let texts = packed(&[vec![2, 9, 8, 3], vec![2, 7, 3]]);
    let expected = numbers(&top(options()).encode(&texts, None).unwrap());
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40..80].fill(0);
    std::fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        assert_eq!(numbers(&top(options()).encode(&texts, None).unwrap()), expected);
    }
}
