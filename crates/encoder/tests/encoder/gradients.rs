//! The ways to gradients: Candle's backward pass, this crate's, and the one in parts.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor, Var};
use paretune_encoder::{Arithmetic, CacheOptions, Encoder, Gradients, LoadOptions, Trainable, backward};
use paretune_features::Packed;

use super::{batch, loss, numbers, packed, tiny_files};

fn tiny(options: &LoadOptions) -> Encoder {
    Encoder::load(&tiny_files(), options).unwrap()
}

/// The gradient of a parameter with all its rows; zeros if it has none.
fn densified(gradients: &Gradients, var: &Var) -> Vec<f32> {
    let mut dense = gradients.get(var).map_or_else(|| vec![0.0; var.elem_count()], numbers);
    if let Some(table) = gradients.rows(var) {
        assert!(table.rows.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", table.rows);
        let width = var.dim(1).unwrap();
        assert_eq!(table.values.dims(), [table.rows.len(), width]);
        let values = numbers(&table.values);
        for (&row, values) in table.rows.iter().zip(values.chunks_exact(width)) {
            dense[row as usize * width..][..width].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
    dense
}

/// Differences are measured against the largest of the expected numbers.
fn assert_near(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    // Softmax does not change with a key's bias: its gradient is zero, but for rounding in what is added up.
    let least = if name.contains("key.bias") { 0.1 } else { 1e-6 };
    let size = expected.iter().fold(least, |size: f32, value| size.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * size,
            "{name}[{place}]: {found}, expected {expected} (of {size})"
        );
    }
}

#[test]
fn backward_gives_what_candle_gives() {
    for trainable in [Trainable::All, Trainable::LastLayers(1)] {
        for dropout in [None, Some(4)] {
            let encoder = tiny(&LoadOptions { trainable, ..LoadOptions::default() });
            let loss = loss(&encoder.encode(&batch(), dropout).unwrap());
            let (expected, found) = (loss.backward().unwrap(), backward(&loss).unwrap());
            for (name, var) in encoder.parameters() {
                let is_table = name == "embeddings.word_embeddings.weight";
                assert_eq!(found.rows(&var).is_some(), is_table, "{name}");
                assert_eq!(found.get(&var).is_none(), is_table, "{name}");
                assert_eq!(densified(&found, &var), numbers(expected.get(&var).unwrap()), "{name}");
            }
        }
    }
}

#[test]
fn rows_are_those_of_the_words_in_the_batch() {
    let encoder = tiny(&LoadOptions::default());
    let gradients = backward(&loss(&encoder.encode(&batch(), None).unwrap())).unwrap();
    let mut words = batch().ids;
    words.sort_unstable();
    words.dedup();
    let table = encoder.parameters().into_iter().find_map(|(_, var)| gradients.rows(&var).cloned()).unwrap();
    assert_eq!(table.rows, words);
    let values = numbers(&table.values);
    assert!(values.chunks_exact(32).all(|row| row.iter().any(|&value| value != 0.0)));
}

#[test]
fn one_encoder_may_be_used_twice_in_a_graph() {
    let encoder = tiny(&LoadOptions::default());
    let other = packed(&[vec![2, 40, 7, 3], vec![2, 11, 3]]);
    let first = encoder.encode(&batch(), Some(1)).unwrap();
    let second = encoder.encode(&other, Some(2)).unwrap();
    let loss = loss(&first.matmul(&second.t().unwrap()).unwrap());
    let (expected, found) = (loss.backward().unwrap(), backward(&loss).unwrap());
    for (name, var) in encoder.parameters() {
        assert_near(&name, &densified(&found, &var), &numbers(expected.get(&var).unwrap()), 1e-6);
    }
    // Of the sum of two losses it is the sum of their gradients.
    let alone = |vectors: &Tensor| super::loss(vectors);
    let both = backward(&(alone(&first) + alone(&second)).unwrap()).unwrap();
    let parts = [backward(&alone(&first)).unwrap(), backward(&alone(&second)).unwrap()];
    for (name, var) in encoder.parameters() {
        let [a, b] = parts.each_ref().map(|part| densified(part, &var));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_near(&name, &densified(&both, &var), &sum, 1e-5);
    }
}

#[test]
fn a_graph_may_be_differentiated_twice_in_any_way() {
    let encoder = tiny(&LoadOptions::default());
    let vectors = encoder.encode(&batch(), Some(4)).unwrap();
    let loss = loss(&vectors);
    let (first, by_candle, second) = (backward(&loss).unwrap(), loss.backward().unwrap(), backward(&loss).unwrap());
    // Another loss on the same vectors.
    let other = backward(&vectors.sum_all().unwrap()).unwrap();
    let again = backward(&loss).unwrap();
    for (name, var) in encoder.parameters() {
        let expected = densified(&first, &var);
        assert_eq!(densified(&second, &var), expected, "{name}");
        assert_eq!(densified(&again, &var), expected, "{name}");
        assert_eq!(numbers(by_candle.get(&var).unwrap()), expected, "{name}");
        assert!(name.ends_with("key.bias") || densified(&other, &var) != expected, "{name}");
    }
}

#[test]
fn parameters_may_be_used_outside_of_the_encoder_too() {
    let encoder = tiny(&LoadOptions::default());
    let vectors = encoder.encode(&batch(), None).unwrap();
    let parameters = encoder.parameters();
    let penalty = parameters.iter().map(|(_, var)| var.sqr().unwrap().sum_all().unwrap());
    let scale = Var::new(&[0.5f32], &Device::Cpu).unwrap();
    let loss = penalty.fold(loss(&vectors.broadcast_mul(&scale).unwrap()), |sum, term| (sum + term).unwrap());
    let (expected, found) = (loss.backward().unwrap(), backward(&loss).unwrap());
    for (name, var) in &parameters {
        assert_near(name, &densified(&found, var), &numbers(expected.get(var).unwrap()), 1e-6);
    }
    assert_eq!(numbers(found.get(&scale).unwrap()), numbers(expected.get(&scale).unwrap()));
}

/// An operation without a backward pass.
struct OneWay;

impl CustomOp1 for OneWay {
    fn name(&self) -> &'static str {
        "one-way"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((x.clone(), layout.shape().clone()))
    }
}

#[test]
fn a_backward_pass_that_fails_leaves_nothing_behind() {
    let encoder = tiny(&LoadOptions::default());
    let whole = loss(&encoder.encode(&batch(), None).unwrap());
    let broken = Var::new(1f32, &Device::Cpu).unwrap().apply_op1(OneWay).unwrap();
    let expected = backward(&whole).unwrap();
    // Before and after what the encoder has to say.
    for both in [(&whole + &broken).unwrap(), (&broken + &whole).unwrap()] {
        assert!(backward(&both).unwrap_err().to_string().contains("one-way"));
        let (found, by_candle) = (backward(&whole).unwrap(), whole.backward().unwrap());
        for (name, var) in encoder.parameters() {
            let expected = densified(&expected, &var);
            assert_eq!(densified(&found, &var), expected, "{name}");
            assert_eq!(numbers(by_candle.get(&var).unwrap()), expected, "{name}");
        }
    }
}

/// Every sequence against every other, as with in-batch negatives.
fn contrast(vectors: &Tensor, temperature: &Var) -> candle_core::Result<Tensor> {
    let scores = vectors.matmul(&vectors.t()?)?.broadcast_mul(temperature)?;
    let exp = scores.broadcast_sub(&scores.max_keepdim(1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(1)?)?.log()?.mean_all()? + vectors.sqr()?.sum_all()?
}

#[test]
fn a_batch_in_parts_has_the_gradients_of_the_whole() {
    let sequences: Vec<Vec<u32>> =
        (0..12u32).map(|i| (0..3 + i * 5 % 17).map(|j| (i * 7 + j * 11) % 60).collect()).collect();
    let whole = packed(&sequences);
    let temperature = Var::new(&[0.1f32], &Device::Cpu).unwrap();
    for (trainable, recompute) in [(Trainable::All, false), (Trainable::All, true), (Trainable::LastLayers(1), false)] {
        let encoder = tiny(&LoadOptions { trainable, recompute, ..LoadOptions::default() });
        for dropout in [None, Some(6)] {
            let loss = contrast(&encoder.encode(&whole, dropout).unwrap(), &temperature).unwrap();
            let expected = backward(&loss).unwrap();
            for budget in [0, 1, 20, 47, whole.tokens(), 10_000] {
                let (value, found) =
                    encoder.backward_in_parts(&whole, budget, dropout, |z| contrast(z, &temperature)).unwrap();
                assert!((value - loss.to_scalar::<f32>().unwrap()).abs() <= 1e-5 * value.abs(), "{budget}: {value}");
                for (name, var) in encoder.parameters() {
                    assert_eq!(found.rows(&var).is_some(), expected.rows(&var).is_some(), "{name}");
                    let what = format!("{name}, budget {budget}, dropout {dropout:?}");
                    assert_near(&what, &densified(&found, &var), &densified(&expected, &var), 1e-5);
                }
                let (found, expected) = (found.get(&temperature).unwrap(), expected.get(&temperature).unwrap());
                assert_near("temperature", &numbers(found), &numbers(expected), 1e-5);
            }
        }
    }
}

#[test]
fn chunks_have_the_vectors_and_the_gradients_of_the_whole() {
    let sequences: Vec<Vec<u32>> =
        (0..11u32).map(|i| (0..3 + i * 5 % 17).map(|j| (i * 7 + j * 11) % 60).collect()).collect();
    let whole = packed(&sequences);
    for (trainable, cache) in [
        (Trainable::All, None),
        (Trainable::LastLayers(1), None),
        (Trainable::LastLayers(1), Some(CacheOptions::default())),
    ] {
        let encoder = tiny(&LoadOptions { trainable, cache, ..LoadOptions::default() });
        let vectors = encoder.encode(&whole, Some(6)).unwrap();
        let weights = vectors.detach().affine(0.7, 0.1).unwrap();
        let expected = backward(&(&vectors * &weights).unwrap().sum_all().unwrap()).unwrap();
        for texts in [0, 1, 4, 11, 100] {
            let chunks = encoder.in_chunks(&whole, texts, Some(6)).unwrap();
            let found = chunks.vectors().unwrap();
            assert!(!found.track_op(), "vectors without a graph");
            assert_near("vectors", &numbers(&found), &numbers(&vectors), 1e-6);
            let found = chunks.backward(&weights).unwrap();
            for (name, var) in encoder.parameters() {
                assert_eq!(found.rows(&var).is_some(), expected.rows(&var).is_some(), "{name}");
                let what = format!("{name}, {texts} texts");
                assert_near(&what, &densified(&found, &var), &densified(&expected, &var), 1e-5);
            }
            let refused = chunks.backward(&weights.narrow(0, 0, 10).unwrap()).unwrap_err().to_string();
            assert!(refused.contains("[10, ") && refused.contains("[11, "), "{refused}");
        }
    }
    let encoder = tiny(&LoadOptions::default());
    let nothing = encoder.in_chunks(&Packed::default(), 4, None).unwrap();
    let vectors = nothing.vectors().unwrap();
    assert_eq!(vectors.dims(), [0, encoder.hidden_size()]);
    assert!(encoder.parameters().iter().all(|(_, var)| nothing.backward(&vectors).unwrap().get(var).is_none()));
    assert!(encoder.in_chunks(&packed(&[vec![60]]), 4, None).is_err(), "a token that the vocabulary does not have");
}

#[test]
fn a_batch_in_parts_is_reproducible() {
    let encoder = tiny(&LoadOptions { arithmetic: Arithmetic::Bf16, ..LoadOptions::default() });
    let run = |budget| {
        let (value, gradients) =
            encoder.backward_in_parts(&batch(), budget, Some(3), |z| z.matmul(&z.t()?)?.sqr()?.mean_all()).unwrap();
        let gradients = encoder.parameters().into_iter().map(|(_, var)| densified(&gradients, &var));
        (value, gradients.collect::<Vec<_>>())
    };
    assert_eq!(run(10), run(10));
    // Vectors do not depend on the parts.
    assert_eq!(run(10).0, run(1000).0);
}

#[test]
fn parts_of_nothing_and_losses_of_nothing_are_no_errors() {
    let encoder = tiny(&LoadOptions::default());
    let (value, gradients) =
        encoder.backward_in_parts(&Packed::default(), 10, Some(1), |z| z.sqr()?.sum_all()).unwrap();
    assert_eq!(value, 0.0);
    assert!(encoder.parameters().iter().all(|(_, var)| gradients.get(var).is_none() && gradients.rows(var).is_none()));

    let other = Var::new(&[2f32], &Device::Cpu).unwrap();
    let (value, gradients) = encoder.backward_in_parts(&batch(), 10, Some(1), |_| other.sqr()?.sum_all()).unwrap();
    assert_eq!((value, numbers(gradients.get(&other).unwrap())), (4.0, vec![4.0]));
    assert!(encoder.parameters().iter().all(|(_, var)| gradients.get(var).is_none()));

    let frozen = tiny(&LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() });
    let (value, _) = frozen.backward_in_parts(&batch(), 10, None, |z| z.sqr()?.sum_all()).unwrap();
    assert!(value > 0.0);
    assert!(encoder.backward_in_parts(&packed(&[vec![60]]), 10, None, |z| z.sum_all()).is_err());
    assert!(encoder.backward_in_parts(&batch(), 10, None, |z| z.to_dtype(DType::U8)?.matmul(z)).is_err());
}
