//! Vectors without a graph, in every arithmetic.

use std::cell::RefCell;

use candle_core::Device;
use paretune_encoder::{Arithmetic, BertConfig, Encoder, EncoderError, LoadOptions, Pooling, scale_to_unit_length};
use paretune_features::{ModelFiles, Packed, TextTokenizer, Tokenized};

use super::{batch, numbers, packed, tiny_files, with_threads};

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The smallest cosine of two vectors of the same text.
fn smallest_cosine(found: &[f32], expected: &[f32], width: usize) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.chunks_exact(width).zip(expected.chunks_exact(width));
    let cosines = pairs.map(|(found, expected)| cosine(found, expected));
    cosines.fold(1.0, |smallest, cosine| if cosine.is_nan() { -1.0 } else { smallest.min(cosine) })
}

fn sequences() -> Vec<Vec<u32>> {
    (0..40u32).map(|i| (0..1 + i * 7 % 32).map(|j| (i * 13 + j * j * 5) % 60).collect()).collect()
}

#[test]
fn an_embedder_in_f32_gives_what_the_encoder_gives() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
        let encoder = Encoder::random(BertConfig::tiny(), pooling, 3, &Device::Cpu).unwrap();
        let embedder = encoder.embedder(Arithmetic::F32).unwrap();
        assert_eq!((embedder.arithmetic(), embedder.hidden_size()), (Arithmetic::F32, 32));
        let expected = numbers(&encoder.encode(&packed(&sequences()), None).unwrap());
        let packed = embedder.embed_packed(&packed(&sequences())).unwrap();
        let batches = embedder.embed(&Tokenized::from_sequences(sequences()), 50, None).unwrap();
        for found in [packed, batches] {
            assert_eq!(found.len(), expected.len());
            assert!(
                found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{pooling:?}"
            );
        }
    }
}

#[test]
fn narrow_arithmetic_stays_near() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    let texts = Tokenized::from_sequences(sequences());
    let embed = |arithmetic| encoder.embedder(arithmetic).unwrap().embed(&texts, 100, None).unwrap();
    let exact = embed(Arithmetic::F32);
    for (arithmetic, bound) in [(Arithmetic::Bf16, 0.9999), (Arithmetic::Int8, 0.999)] {
        let found = embed(arithmetic);
        let smallest = smallest_cosine(&found, &exact, 32);
        assert!(smallest >= bound, "{arithmetic}: {smallest}");
        assert_eq!(found == exact, !arithmetic.is_available(), "{arithmetic} is what it says");
        assert_eq!(encoder.embedder(arithmetic).unwrap().arithmetic(), arithmetic.available());
    }
}

#[test]
fn a_vector_does_not_depend_on_its_company() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    for arithmetic in Arithmetic::ALL {
        let embedder = encoder.embedder(arithmetic).unwrap();
        let together = embedder.embed_packed(&packed(&sequences())).unwrap();
        for (sequence, together) in sequences().into_iter().zip(together.chunks_exact(32)) {
            let alone = embedder.embed_packed(&packed(&[sequence])).unwrap();
            assert!(
                alone.iter().zip(together).all(|(alone, together)| (alone - together).abs() < 1e-5),
                "{arithmetic}"
            );
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Large enough that products are cut in several tasks.
    let config = BertConfig { hidden_size: 96, intermediate_size: 400, num_attention_heads: 3, ..BertConfig::tiny() };
    let encoder = Encoder::random(config, Pooling::Mean, 3, &Device::Cpu).unwrap();
    for arithmetic in Arithmetic::ALL {
        let embed = || encoder.embedder(arithmetic).unwrap().embed_packed(&packed(&sequences())).unwrap();
        let (one, two, three) = (with_threads(1, embed), with_threads(2, embed), with_threads(3, embed));
        assert!(one == two && one == three, "{arithmetic}");
    }
}

#[test]
fn an_embedder_keeps_the_layers_it_was_made_of() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    let before = encoder.embedder(Arithmetic::F32).unwrap();
    let first = before.embed_packed(&batch()).unwrap();
    for (name, var) in encoder.parameters() {
        if name.starts_with("encoder.") {
            var.set(&(var.as_tensor() * 1.1).unwrap()).unwrap();
        }
    }
    assert_eq!(before.embed_packed(&batch()).unwrap(), first);
    let after = encoder.embedder(Arithmetic::F32).unwrap().embed_packed(&batch()).unwrap();
    assert_ne!(after, first);
    let expected = numbers(&encoder.encode(&batch(), None).unwrap());
    assert!(after.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
}

#[test]
fn an_embedder_says_how_far_it_is_and_refuses_what_does_not_fit() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    for arithmetic in Arithmetic::ALL {
        let embedder = encoder.embedder(arithmetic).unwrap();
        let heard = RefCell::new(Vec::new());
        embedder
            .embed(&Tokenized::from_sequences(sequences()), 100, Some(&|done| heard.borrow_mut().push(done)))
            .unwrap();
        let heard = heard.into_inner();
        assert!(heard.len() > 1 && heard.is_sorted() && heard.last() == Some(&40), "{heard:?}");
        assert!(embedder.embed(&Tokenized::default(), 100, None).unwrap().is_empty());
        assert!(embedder.embed_packed(&Packed::default()).unwrap().is_empty());
        let refuse = |packed: Packed| embedder.embed_packed(&packed).unwrap_err();
        assert!(matches!(refuse(packed(&[vec![1, 60]])), EncoderError::UnknownToken { id: 60, vocabulary: 60 }));
        assert!(matches!(refuse(packed(&[vec![1; 33]])), EncoderError::TooLong { position: 32, limit: 32 }));
        assert!(matches!(refuse(packed(&[vec![1], vec![]])), EncoderError::InvalidTokens { .. }));
    }
}

#[test]
fn unit_length_keeps_the_direction() {
    let encoder = Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap();
    let vectors = encoder.embed(&Tokenized::from_sequences(sequences()), 100, None).unwrap();
    let mut scaled = vectors.clone();
    scale_to_unit_length(&mut scaled, 32);
    for (vector, scaled) in vectors.chunks_exact(32).zip(scaled.chunks_exact(32)) {
        let length = scaled.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-6 && cosine(vector, scaled) > 1.0 - 1e-12, "{length}");
    }
    let mut extremes = [f32::MAX, f32::MAX, 0.0, 0.0, 1e-30, 0.0, 7.0];
    scale_to_unit_length(&mut extremes, 2);
    let half = std::f32::consts::FRAC_1_SQRT_2;
    assert_eq!(extremes, [half, half, 0.0, 0.0, (1e-30f32 as f64 / 1e-12) as f32, 0.0, 7.0]);
}

const SUBJECTS: [&str; 8] = [
    "the cat",
    "a quarterly report on inflation",
    "Dr. O'Neill",
    "this 27-inch 4K monitor",
    "nobody in the village of Saint-Rémy",
    "an old, half-forgotten melody",
    "int main(void)",
    "the second law of thermodynamics",
];

const PREDICATES: [&str; 8] = [
    "sleeps.",
    "was published in 1998 and has been cited 3,412 times since; most of those citations, however, are critical of its method.",
    "costs $249.99 (was $399.00), free delivery!",
    "ne parle pas français",
    "is why I would never recommend this hotel to anybody, although the breakfast was good and the staff was friendly",
    "???",
    "returns 0 if the list is empty",
    "met the minister on Tuesday to talk about fishing quotas in the North Sea.",
];

#[test]
fn minilm_stays_near_in_narrow_arithmetic() {
    let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models/all-MiniLM-L6-v2");
    let dir = std::env::var_os("PARETUNE_MINILM").map_or(built, Into::into);
    let Ok(files) = ModelFiles::local(&dir) else {
        eprintln!("skipped: no all-MiniLM-L6-v2 at {}; set PARETUNE_MINILM to its folder", dir.display());
        return;
    };
    let texts: Vec<String> =
        SUBJECTS.iter().flat_map(|subject| PREDICATES.map(|predicate| format!("{subject} {predicate}"))).collect();
    let tokens = TextTokenizer::load(&files, files.max_length()).unwrap().encode(&texts).unwrap();
    assert_eq!(tokens.len(), 64);
    let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
    let embed = |arithmetic| encoder.embedder(arithmetic).unwrap().embed(&tokens, 512, None).unwrap();
    let exact = embed(Arithmetic::F32);
    for (arithmetic, bound) in [(Arithmetic::Bf16, 0.9999), (Arithmetic::Int8, 0.994)] {
        let smallest = smallest_cosine(&embed(arithmetic), &exact, encoder.hidden_size());
        assert!(smallest >= bound, "{arithmetic}: {smallest}");
    }
}
