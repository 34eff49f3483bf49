//! What training relies on: gradients where they belong, reproducible dropout, the same bits whatever the threads.

use candle_core::{Device, Tensor};
use paretune_encoder::{Arithmetic, BertConfig, Encoder, EncoderError, LoadOptions, Pooling, Trainable};
use paretune_features::{ModelFiles, Packed, Tokenized};
use proptest::prelude::*;

use super::{batch, difference, loss, numbers, packed, tiny_files, with_threads};

fn random(pooling: Pooling) -> Encoder {
    Encoder::random(BertConfig::tiny(), pooling, 3, &Device::Cpu).unwrap()
}

fn loaded(trainable: Trainable, dropout: Option<f64>) -> Result<Encoder, EncoderError> {
    Encoder::load(&tiny_files(), &LoadOptions { trainable, dropout, ..LoadOptions::default() })
}

#[test]
fn every_trained_parameter_gets_a_gradient_and_no_other() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
        for dropout in [None, Some(5)] {
            let encoder = random(pooling);
            let gradients = loss(&encoder.encode(&batch(), dropout).unwrap()).backward().unwrap();
            let mut offenders = Vec::new();
            for (name, var) in encoder.parameters() {
                let gradient = gradients.get(&var).map(numbers).unwrap_or_default();
                let is_finite = gradient.iter().all(|value| value.is_finite());
                let moves = gradient.iter().any(|&value| value != 0.0) || name.ends_with("key.bias");
                if gradient.len() != var.elem_count() || !is_finite || !moves {
                    offenders.push(name);
                }
            }
            assert!(offenders.is_empty(), "{pooling:?}, dropout {dropout:?}: {offenders:?}");
        }
    }
}

#[test]
fn only_the_last_layers_are_trained_if_so_asked() {
    let encoder = loaded(Trainable::LastLayers(1), None).unwrap();
    let names: Vec<String> = encoder.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 16);
    assert!(names.iter().all(|name| name.starts_with("encoder.layer.1.")), "{names:?}");
    assert!(names.is_sorted());

    // Their gradients are those of training everything, but for dropout, which leaves frozen layers alone.
    let all = loaded(Trainable::All, None).unwrap();
    let few_gradients = loss(&encoder.encode(&batch(), None).unwrap()).backward().unwrap();
    let all_gradients = loss(&all.encode(&batch(), None).unwrap()).backward().unwrap();
    let all_vars: std::collections::BTreeMap<_, _> = all.parameters().into_iter().collect();
    for (name, var) in encoder.parameters() {
        let (few, all) = (few_gradients.get(&var).unwrap(), all_gradients.get(&all_vars[&name]).unwrap());
        assert_eq!(numbers(few), numbers(all), "{name}");
    }

    let frozen = loaded(Trainable::Nothing, None).unwrap();
    assert!(frozen.parameters().is_empty());
    let vectors = frozen.encode(&batch(), Some(1)).unwrap();
    assert!(!vectors.track_op());
    assert_eq!(numbers(&vectors), numbers(&all.encode(&batch(), None).unwrap()));
    assert!(matches!(loaded(Trainable::LastLayers(3), None), Err(EncoderError::TooManyLayers { asked: 3, layers: 2 })));
}

#[test]
fn every_way_to_train_gives_every_parameter_a_gradient() {
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        for recompute in [false, true] {
            let options = LoadOptions { arithmetic, recompute, ..LoadOptions::default() };
            let encoder = Encoder::load(&tiny_files(), &options).unwrap();
            assert_eq!(encoder.arithmetic(), arithmetic.available());
            let gradients = loss(&encoder.encode(&batch(), Some(5)).unwrap()).backward().unwrap();
            for (name, var) in encoder.parameters() {
                let gradient = numbers(gradients.get(&var).unwrap());
                let moves = gradient.iter().any(|&value| value != 0.0) || name.ends_with("key.bias");
                assert!(moves && gradient.iter().all(|value| value.is_finite()), "{arithmetic}: {name}");
            }
        }
    }
}

#[test]
fn arithmetic_that_cannot_train_is_refused() {
    let options = LoadOptions { arithmetic: Arithmetic::Int8, ..LoadOptions::default() };
    let error = Encoder::load(&tiny_files(), &options).unwrap_err();
    assert!(matches!(error, EncoderError::InvalidConfig { .. }));
    assert!(error.to_string().contains("bf16"), "{error}");
}

#[test]
fn recomputing_changes_no_bit() {
    let step = |recompute| {
        let encoder = Encoder::load(&tiny_files(), &LoadOptions { recompute, ..LoadOptions::default() }).unwrap();
        let vectors = encoder.encode(&batch(), Some(5)).unwrap();
        let gradients = loss(&vectors).backward().unwrap();
        let gradients = encoder.parameters().into_iter().map(|(_, var)| numbers(gradients.get(&var).unwrap()));
        (numbers(&vectors), gradients.collect::<Vec<_>>())
    };
    assert_eq!(step(false), step(true));
}

#[test]
fn dropout_is_a_function_of_its_seed() {
    let encoder = random(Pooling::Mean);
    let run = |seed| numbers(&encoder.encode(&batch(), seed).unwrap());
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    assert_ne!(run(Some(1)), run(None));

    let off = loaded(Trainable::All, Some(0.0)).unwrap();
    let dropped = off.encode(&batch(), Some(1)).unwrap();
    assert_eq!(numbers(&dropped), numbers(&off.encode(&batch(), None).unwrap()));
    assert!(matches!(loaded(Trainable::All, Some(1.0)), Err(EncoderError::InvalidConfig { .. })));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Large enough that every kernel has several chunks of rows.
    let config = BertConfig { hidden_size: 64, intermediate_size: 256, ..BertConfig::tiny() };
    let long: Vec<Vec<u32>> = (0..24).map(|i| (0..8 + i).map(|j| (i * 7 + j * 11) % 60).collect()).collect();
    let folder = tempfile::tempdir().unwrap();
    Encoder::random(config, Pooling::Mean, 3, &Device::Cpu).unwrap().save(folder.path(), &tiny_files()).unwrap();
    let files = ModelFiles::local(folder.path()).unwrap();
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        let step = || {
            let options = LoadOptions { arithmetic, ..LoadOptions::default() };
            let encoder = Encoder::load(&files, &options).unwrap();
            let vectors = encoder.encode(&packed(&long), Some(9)).unwrap();
            let gradients = loss(&vectors).backward().unwrap();
            let gradients = encoder.parameters().into_iter().map(|(_, var)| numbers(gradients.get(&var).unwrap()));
            (numbers(&vectors), gradients.collect::<Vec<_>>())
        };
        let with = |threads| with_threads(threads, step);
        let (one, two, three) = (with(1), with(2), with(3));
        assert!(one == two && one == three, "{arithmetic}");
    }
}

#[test]
fn embedding_keeps_the_order_of_the_texts_and_no_graph() {
    let encoder = random(Pooling::Mean);
    let sequences: Vec<Vec<u32>> = (1..9).map(|n| (0..(n * 5) % 9 + 1).collect()).collect();
    let texts = Tokenized::from_sequences(&sequences);
    let heard = std::cell::RefCell::new(Vec::new());
    let vectors = encoder.embed(&texts, 12, Some(&|done| heard.borrow_mut().push(done))).unwrap();
    let expected = encoder.encode(&packed(&sequences), None).unwrap();
    let vectors = Tensor::from_vec(vectors, (8, 32), &Device::Cpu).unwrap();
    assert!(difference(&vectors, &expected) < 1e-6);
    let heard = heard.into_inner();
    assert!(heard.len() > 1 && heard.is_sorted() && heard.last() == Some(&8), "{heard:?}");
    assert!(encoder.embed(&Tokenized::default(), 12, None).unwrap().is_empty());
    assert_eq!(encoder.encode(&Packed::default(), None).unwrap().dims(), [0, 32]);
}

#[test]
fn setting_parameters_is_all_or_nothing() {
    let (encoder, other) = (random(Pooling::Mean), loaded(Trainable::All, None).unwrap());
    let all = |encoder: &Encoder| -> std::collections::HashMap<String, Tensor> {
        encoder.parameters().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect()
    };
    let before = numbers(&encoder.encode(&batch(), None).unwrap());
    let name = "encoder.layer.0.output.dense.bias".to_owned();

    let mut wrong = all(&other);
    wrong.insert(name.clone(), Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap());
    assert!(matches!(encoder.set_parameters(&wrong), Err(EncoderError::WrongShape { .. })));
    wrong.remove(&name);
    wrong.insert("head.weight".to_owned(), Tensor::new(0f32, &Device::Cpu).unwrap());
    let message = encoder.set_parameters(&wrong).unwrap_err().to_string();
    assert!(message.contains(&name) && message.contains("head.weight"), "{message}");
    assert_eq!(numbers(&encoder.encode(&batch(), None).unwrap()), before);

    encoder.set_parameters(&all(&other)).unwrap();
    let expected = other.encode(&batch(), None).unwrap();
    assert_eq!(numbers(&encoder.encode(&batch(), None).unwrap()), numbers(&expected));
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let encoder = random(Pooling::Mean);
    let refuse = |packed: Packed| encoder.encode(&packed, None).unwrap_err();
    assert!(matches!(refuse(packed(&[vec![1, 60]])), EncoderError::UnknownToken { id: 60, vocabulary: 60 }));
    assert!(matches!(refuse(packed(&[vec![1; 33]])), EncoderError::TooLong { position: 32, limit: 32 }));
    assert!(matches!(refuse(packed(&[vec![1], vec![]])), EncoderError::InvalidTokens { .. }));
    for offsets in [vec![], vec![0], vec![1, 2], vec![0, 3], vec![0, 2, 1, 2]] {
        let packed = Packed { ids: vec![1, 2], positions: vec![0, 1], offsets };
        assert!(matches!(refuse(packed), EncoderError::InvalidTokens { .. }));
    }
    let packed = Packed { ids: vec![2, 9, 3, 5], positions: vec![4, 5, 6, 9], offsets: vec![0, 3, 4] };
    let message = refuse(packed).to_string();
    assert!(message.contains("token 0 has position 4"), "{message}");
    let packed = Packed { ids: vec![1, 2], positions: vec![0], offsets: vec![0, 2] };
    assert!(matches!(refuse(packed), EncoderError::InvalidTokens { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_sequence_has_the_same_vector_in_any_company(
        sequences in prop::collection::vec(prop::collection::vec(0u32..60, 1..32), 1..6),
    ) {
        let encoder = loaded(Trainable::Nothing, None).unwrap();
        let together = encoder.encode(&packed(&sequences), None).unwrap();
        for (row, sequence) in sequences.iter().enumerate() {
            let alone = encoder.encode(&packed(std::slice::from_ref(sequence)), None).unwrap();
            prop_assert!(difference(&together.narrow(0, row, 1).unwrap(), &alone) < 1e-5);
        }
    }
}
