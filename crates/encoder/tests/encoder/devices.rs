//! The network that other devices run, tried on the CPU: made of Candle's operations, it must be the one of the kernels.

use candle_core::Device;
use paretune_encoder::{Arithmetic, CacheOptions, DeviceChoice, Encoder, Kernels, LoadOptions, Trainable, backward};
use paretune_features::{ModelFiles, Tokenized};
use paretune_optim::{AdamW, AdamWConfig, Gradient, Gradients, Groups};

use super::{batch, difference, fixtures, largest, loss, numbers, packed, sequences, stored, tiny_files};

fn encoder(kernels: Kernels, options: LoadOptions) -> Encoder {
    Encoder::load(&tiny_files(), &LoadOptions { kernels, ..options }).unwrap()
}

/// Gradients as the optimizer takes them, and how many are of rows.
fn gradients(encoder: &Encoder, dropout: Option<u64>) -> (Gradients, usize) {
    let found = backward(&loss(&encoder.encode(&batch(), dropout).unwrap())).unwrap();
    let mut named = Gradients::new();
    for (name, var) in encoder.parameters() {
        let gradient = match (found.rows(&var), found.get(&var)) {
            (Some(table), None) => {
                Gradient::Rows { rows: table.rows.clone(), values: table.values.clone(), height: var.dim(0).unwrap() }
            }
            (None, Some(dense)) => dense.clone().into(),
            _ => panic!("{name} has not one gradient"),
        };
        named.insert(name, gradient);
    }
    let rows = named.values().filter(|gradient| matches!(gradient, Gradient::Rows { .. })).count();
    (named, rows)
}

#[test]
fn both_networks_give_the_same_values_and_gradients() {
    for trainable in [Trainable::All, Trainable::LastLayers(1)] {
        for dropout in [None, Some(7)] {
            let options = LoadOptions { trainable, ..LoadOptions::default() };
            let [fused, composed] =
                [Kernels::Fused, Kernels::Composed].map(|kernels| encoder(kernels, options.clone()));
            assert_eq!((fused.kernels(), composed.kernels()), (Kernels::Fused, Kernels::Composed));
            let [a, b] = [&fused, &composed].map(|encoder| encoder.encode(&batch(), dropout).unwrap());
            assert!(difference(&a, &b) < 1e-5 * largest(&a), "{trainable:?} {dropout:?}");
            // It is not the same code that is compared with itself.
            assert_ne!(numbers(&a), numbers(&b));
            let ((expected, rows), (found, same)) = (gradients(&fused, dropout), gradients(&composed, dropout));
            assert_eq!((rows, same), (usize::from(trainable == Trainable::All), rows));
            let scale = expected.values().map(|gradient| largest(&gradient.dense().unwrap())).fold(0f32, f32::max);
            for (name, gradient) in &expected {
                if let (Gradient::Rows { rows: a, .. }, Gradient::Rows { rows: b, .. }) = (gradient, &found[name]) {
                    assert_eq!(a, b, "{name}");
                }
                let off = difference(&gradient.dense().unwrap(), &found[name].dense().unwrap());
                assert!(off < 2e-5 * scale, "{name}: {off} of {scale}");
            }
        }
    }
}

#[test]
fn every_family_is_the_same_network() {
    let mut families = 0;
    for folder in std::fs::read_dir(fixtures().join("backbones")).unwrap() {
        let folder = folder.unwrap().path();
        let files = ModelFiles { weights: vec![folder.join("model.safetensors")], ..ModelFiles::unweighted(&folder) };
        let name = folder.file_name().unwrap().to_str().unwrap();
        let batch = packed(&sequences(&stored(&format!("backbones/{name}/expected.safetensors"))));
        let load = |kernels| Encoder::load(&files, &LoadOptions { kernels, ..LoadOptions::default() });
        // Some are there to be refused.
        let (Ok(fused), Ok(composed)) = (load(Kernels::Fused), load(Kernels::Composed)) else { continue };
        families += 1;
        for dropout in [None, Some(5)] {
            let run = |encoder: &Encoder| {
                let vectors = encoder.encode(&batch, dropout).unwrap();
                let gradients = backward(&loss(&vectors)).unwrap();
                let dense = |var| match gradients.rows(var) {
                    Some(table) => {
                        let zeros = candle_core::Tensor::zeros_like(var).unwrap();
                        let rows = candle_core::Tensor::new(&table.rows[..], var.device()).unwrap();
                        Some(zeros.index_add(&rows, &table.values, 0).unwrap())
                    }
                    None => gradients.get(var).cloned(),
                };
                let gradients: Vec<_> = encoder.parameters().iter().map(|(_, var)| dense(var)).collect();
                (vectors, gradients)
            };
            let ((a, expected), (b, found)) = (run(&fused), run(&composed));
            assert!(difference(&a, &b) < 1e-4 * largest(&a), "{} {dropout:?}", folder.display());
            let scale = expected.iter().flatten().map(largest).fold(0f32, f32::max);
            for ((name, _), (a, b)) in fused.parameters().iter().zip(expected.iter().zip(&found)) {
                let near = match (a, b) {
                    (Some(a), Some(b)) => difference(a, b) < 1e-4 * scale,
                    (None, None) => true,
                    _ => false,
                };
                assert!(near, "{} {dropout:?}: {name}", folder.display());
            }
        }
    }
    assert!(families > 10, "{families} families");
}

#[test]
fn both_networks_train_to_the_same_weights() {
    let train = |kernels| {
        let encoder = encoder(kernels, LoadOptions::default());
        let config = AdamWConfig { eps: 1e-4, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, &Groups::default(), encoder.parameters()).unwrap();
        for step in 0..12 {
            optimizer.step_clipped(&gradients(&encoder, Some(step)).0, 1e-3, 1.0).unwrap();
        }
        encoder
    };
    let (fused, composed) = (train(Kernels::Fused), train(Kernels::Composed));
    let before = encoder(Kernels::Fused, LoadOptions::default());
    let all = fused.parameters().into_iter().zip(composed.parameters()).zip(before.parameters());
    for (((name, a), (_, b)), (_, start)) in all {
        let off = difference(&a, &b);
        assert!(off < 1e-4, "{name}: {off}");
        // Softmax does not see the keys' bias.
        assert!(difference(&a, &start) > 1e-3 || name.ends_with("key.bias"), "{name} was trained");
    }
}

#[test]
fn a_model_moves_between_the_networks() {
    let trained = encoder(Kernels::Composed, LoadOptions::default());
    let mut optimizer = AdamW::new(AdamWConfig::default(), &Groups::default(), trained.parameters()).unwrap();
    optimizer.step(&gradients(&trained, Some(1)).0, 1e-2).unwrap();
    let other = encoder(Kernels::Fused, LoadOptions::default());
    let stored = trained.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    other.set_parameters(&stored).unwrap();
    let texts = Tokenized::from_sequences(&[vec![2, 17, 3], vec![2, 9, 40, 8, 3]]);
    let vectors = |encoder: &Encoder| encoder.embed(&texts, 64, None).unwrap();
    for (a, b) in vectors(&trained).iter().zip(vectors(&other)) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
    // Its memory goes on in the other one's optimizer.
    let mut again = AdamW::new(AdamWConfig::default(), &Groups::default(), other.parameters()).unwrap();
    again.restore(optimizer.state().unwrap()).unwrap();
    optimizer.step(&gradients(&trained, Some(2)).0, 1e-3).unwrap();
    again.step(&gradients(&other, Some(2)).0, 1e-3).unwrap();
    for ((name, a), (_, b)) in trained.parameters().into_iter().zip(other.parameters()) {
        // AdamW divides by the root of the second moment: where it is near nothing, rounding shows.
        let off = difference(&a, &b);
        assert!(off < 2e-4 || name.ends_with("key.bias"), "{name}: {off}");
    }
}

#[test]
fn an_embedder_is_made_of_the_same_network() {
    let texts = Tokenized::from_sequences(&[vec![2, 17, 4, 3], vec![2, 3], vec![2, 9, 9, 9, 21, 3]]);
    let load = |kernels, cache| {
        encoder(kernels, LoadOptions { trainable: Trainable::Nothing, cache, ..LoadOptions::default() })
    };
    let fused = load(Kernels::Fused, None).embedder(Arithmetic::F32).unwrap().embed(&texts, 8, None).unwrap();
    // The cache is for the kernels; with Candle's operations it is left alone.
    for cache in [None, Some(CacheOptions::default())] {
        let composed = load(Kernels::Composed, cache);
        let own = composed.embed(&texts, 8, None).unwrap();
        let embedder = composed.embedder(Arithmetic::F32).unwrap();
        assert_eq!(embedder.embed(&texts, 8, None).unwrap(), own);
        assert!(own.iter().zip(&fused).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_ne!(own, fused);
        assert!(embedder.embed_packed(&packed(&[])).unwrap().is_empty());
        // What a device has no instructions for is done in f32, and said.
        assert_eq!(composed.embedder(Arithmetic::Int8).unwrap().arithmetic(), Arithmetic::F32);
        let rounded = composed.embedder(Arithmetic::Bf16).unwrap();
        assert_eq!(rounded.arithmetic(), Arithmetic::Bf16);
        let rounded = rounded.embed(&texts, 8, None).unwrap();
        let off = rounded.iter().zip(&own).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let scale = own.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(off > 0.0 && off < 0.05 * scale, "{off} of {scale}");
    }
}

#[test]
fn mixed_precision_keeps_weights_and_gradients_in_f32() {
    let options = LoadOptions { arithmetic: Arithmetic::Bf16, ..LoadOptions::default() };
    let (mixed, exact) = (encoder(Kernels::Composed, options), encoder(Kernels::Composed, LoadOptions::default()));
    assert_eq!((mixed.arithmetic(), exact.arithmetic()), (Arithmetic::Bf16, Arithmetic::F32));
    let (found, expected) = (gradients(&mixed, Some(3)).0, gradients(&exact, Some(3)).0);
    for (name, gradient) in &found {
        let (a, b) = (gradient.dense().unwrap(), expected[name].dense().unwrap());
        assert_eq!(a.dtype(), candle_core::DType::F32, "{name}");
        // Zero but for rounding.
        if name.ends_with("key.bias") {
            continue;
        }
        let (a, b) = (numbers(&a), numbers(&b));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(cosine > 0.997, "{name}: {cosine}");
        assert_ne!(a, b, "{name}");
    }
}

#[test]
fn a_choice_says_where_the_weights_lie() {
    let device = DeviceChoice::Cpu.open().unwrap();
    let encoder = encoder(Kernels::Fused, LoadOptions { device, ..LoadOptions::default() });
    assert!(matches!(encoder.device(), Device::Cpu));
    assert_eq!(paretune_encoder::device_name(&encoder.device()), "cpu");
}
