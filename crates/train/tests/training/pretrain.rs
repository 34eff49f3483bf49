//! Pretraining without labels: values of PyTorch, gradients by finite differences, and small corpora that are learned.

use std::path::PathBuf;

use candle_core::{Device, Tensor, Var};
use paretune_encoder::{BertConfig, Encoder, LoadOptions, Pooling, backward, cross_entropy};
use paretune_features::{ModelFiles, Packed, Tokenized};
use paretune_train::{
    TrainError,
    pretrain::{MaskedWordHead, Masking, PretrainConfig, Pretrained, contrast, contrastive_loss, masked_words},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::world::values;

const MASK: u32 = 3;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("pretrain.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// PyTorch's model, its head, and the batch that it was measured on: tokens, places and words.
fn reference() -> (Encoder, MaskedWordHead, Packed, Vec<u32>, Vec<u32>) {
    let mut files = ModelFiles::unweighted(fixtures().join("masked"));
    files.weights = vec![fixtures().join("masked/model.safetensors")];
    let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
    let head = MaskedWordHead::load(&encoder, &files).unwrap().expect("the checkpoint has a head");
    let expected = &expected()["masked_words"];
    let rows = |name: &str| expected[name].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
    let texts: Vec<Vec<u32>> = rows("texts").iter().map(|ids| ids.iter().map(|id| *id as u32).collect()).collect();
    let labels = rows("labels").concat();
    let chosen = || labels.iter().enumerate().filter(|(_, label)| **label >= 0.0);
    let places = chosen().map(|(place, _)| place as u32).collect();
    let words = chosen().map(|(_, word)| *word as u32).collect();
    (encoder, head, Packed::from_sequences(texts), places, words)
}

fn loss(encoder: &Encoder, head: &MaskedWordHead, packed: &Packed, places: &[u32], words: &[u32]) -> Tensor {
    let states = encoder.hidden_states(packed, None).unwrap();
    let states = states.index_select(&Tensor::new(places, &Device::Cpu).unwrap(), 0).unwrap();
    cross_entropy(&head.logits(&states).unwrap(), words).unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    f64::from(x.to_scalar::<f32>().unwrap())
}

#[test]
fn logits_loss_and_gradients_of_masked_words_are_pytorchs() {
    let (encoder, head, packed, places, words) = reference();
    let expected = &expected()["masked_words"];
    let states = encoder.hidden_states(&packed, None).unwrap();
    let states = states.index_select(&Tensor::new(places.as_slice(), &Device::Cpu).unwrap(), 0).unwrap();
    let logits = head.logits(&states).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (found, expected) in logits.iter().zip(numbers(&expected["logits"])) {
        assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} instead of {expected}");
    }
    let loss = loss(&encoder, &head, &packed, &places, &words);
    assert!((scalar(&loss) - expected["loss"].as_f64().unwrap()).abs() < 1e-5);

    let gradients = backward(&loss).unwrap();
    let parameters: Vec<(String, Var)> = encoder
        .parameters()
        .into_iter()
        .map(|(name, var)| (format!("bert.{name}"), var))
        .chain(head.parameters())
        .collect();
    for (name, expected) in expected["gradients"].as_object().unwrap() {
        let (_, var) = parameters.iter().find(|(own, _)| own == name).unwrap();
        let mut found = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Of the table, what came through the encoder's input is kept row by row.
        if let Some(table) = gradients.rows(var) {
            let width = var.dim(1).unwrap();
            for (row, values) in table.rows.iter().zip(table.values.to_vec2::<f32>().unwrap()) {
                found[*row as usize * width..][..width].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        for (found, expected) in found.iter().zip(numbers(expected)) {
            assert!((f64::from(*found) - expected).abs() < 2e-5, "{name}: {found} instead of {expected}");
        }
    }
}

#[test]
fn the_tied_table_moves_the_loss_as_its_gradient_says() {
    let (encoder, head, packed, places, words) = reference();
    let table = encoder.parameters().into_iter().find(|(name, _)| name.contains("word_embeddings")).unwrap().1;
    let gradients = loss(&encoder, &head, &packed, &places, &words).backward().unwrap();
    let gradient = gradients.get(&table).unwrap().clone();
    let norm = scalar(&gradient.sqr().unwrap().sum_all().unwrap()).sqrt();
    let start = table.as_tensor().copy().unwrap();
    let at = |step: f64| {
        table.set(&(&start + (&gradient * (step / norm)).unwrap()).unwrap()).unwrap();
        scalar(&loss(&encoder, &head, &packed, &places, &words))
    };
    let slope = (at(5e-3) - at(-5e-3)) / 1e-2;
    assert!((slope - norm).abs() < 5e-3 * norm, "{slope} instead of {norm}");
}

#[test]
fn a_head_without_weights_knows_only_its_bias() {
    let (encoder, _, packed, places, words) = reference();
    let head = MaskedWordHead::new(&encoder, 1).unwrap();
    let bias: Vec<f32> = (0..40).map(|word| (word as f32 * 0.7).sin()).collect();
    for (name, var) in head.parameters() {
        let value = match name.as_str() {
            "cls.predictions.bias" => Tensor::new(bias.as_slice(), &Device::Cpu).unwrap(),
            _ => var.zeros_like().unwrap(),
        };
        var.set(&value).unwrap();
    }
    let log_sum = bias.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    let mean = words.iter().map(|word| f64::from(bias[*word as usize])).sum::<f64>() / words.len() as f64;
    let found = scalar(&loss(&encoder, &head, &packed, &places, &words));
    assert!((found - (log_sum - mean)).abs() < 1e-5, "{found} instead of {}", log_sum - mean);
}

#[test]
fn the_contrastive_loss_is_pytorchs() {
    let expected = &expected()["simcse"];
    let vectors: Vec<f32> = numbers(&expected["vectors"]).iter().map(|value| *value as f32).collect();
    let vectors = Tensor::from_vec(vectors, (10, 6), &Device::Cpu).unwrap();
    let found = scalar(&contrastive_loss(&vectors, expected["temperature"].as_f64().unwrap()).unwrap());
    let expected = expected["loss"].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-5 * expected, "{found} instead of {expected}");
    assert!(contrastive_loss(&vectors.narrow(0, 0, 3).unwrap(), 0.05).is_err());
}

/// Sentences of a grammar: each text repeats one of 6 phrases of 4 words, so that a hidden word follows from the others.
fn phrases(count: usize, seed: u64) -> Tokenized {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let text = |_| {
        let mut ids = vec![1];
        for _ in 0..2 {
            let phrase = rng.random_range(0..6u32);
            ids.extend((0..4).map(|word| 4 + phrase * 4 + word));
        }
        ids.push(2);
        ids
    };
    Tokenized::from_sequences((0..count).map(text).collect::<Vec<_>>())
}

fn encoder() -> Encoder {
    Encoder::random(BertConfig { vocab_size: 40, ..BertConfig::tiny() }, Pooling::Mean, 3, &Device::Cpu).unwrap()
}

fn config() -> PretrainConfig {
    PretrainConfig { steps: 600, batch: 32, learning_rate: 3e-3, seed: 4, ..PretrainConfig::default() }
}

#[test]
fn masked_words_are_learned_and_the_same_seed_gives_the_same_weights() {
    let run = || {
        let encoder = encoder();
        let head = MaskedWordHead::new(&encoder, 1).unwrap();
        let masking = Masking::new(0.15, MASK, &[1, 2], 40).unwrap();
        let mut steps = 0;
        let told = masked_words(&encoder, &head, &masking, &phrases(200, 1), &phrases(50, 2), &config(), &mut |step| {
            steps = step.step;
        });
        assert_eq!(steps, 600);
        (encoder, told.unwrap())
    };
    let (first, told) = run();
    // Guessing at random costs ln 40 = 3.7.
    assert!((told.before.loss - 40f64.ln()).abs() < 0.3, "{told:?}");
    assert!(told.after.loss < 0.5 * told.before.loss && told.after.accuracy > 0.5, "{:?}", told.after);
    assert!((told.after.perplexity - told.after.loss.exp()).abs() < 1e-9);
    let (second, again) = run();
    assert_eq!(told, again);
    for ((name, a), (_, b)) in first.parameters().iter().zip(&second.parameters()) {
        assert_eq!(values(a), values(b), "{name}");
    }
}

#[test]
fn encoder_and_head_come_back_from_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder, head, packed, places, words) = reference();
    let path = folder.path().join("model.safetensors");
    head.save(&encoder, &path).unwrap();
    let mut files = ModelFiles::unweighted(fixtures().join("masked"));
    files.weights = vec![path];
    let back = Encoder::load(&files, &LoadOptions::default()).unwrap();
    let head_back = MaskedWordHead::load(&back, &files).unwrap().unwrap();
    let before = scalar(&loss(&encoder, &head, &packed, &places, &words));
    assert_eq!(before, scalar(&loss(&back, &head_back, &packed, &places, &words)));
}

fn tuned(config: &PretrainConfig) -> Result<(Encoder, Pretrained<paretune_train::pretrain::Spread>), TrainError> {
    let encoder = encoder();
    let told = contrast(&encoder, 0.05, &phrases(200, 1), &phrases(50, 2), config, &mut |_| ())?;
    Ok((encoder, told))
}

#[test]
fn contrasts_spread_texts_and_parts_of_a_batch_change_nothing() {
    let config = PretrainConfig { learning_rate: 1e-3, steps: 40, ..config() };
    let (whole, told) = tuned(&config).unwrap();
    assert!(told.after.uniformity < told.before.uniformity - 0.5, "{told:?}");
    let mean = |part: &[paretune_train::pretrain::PretrainStep]| {
        part.iter().map(|step| step.loss).sum::<f64>() / part.len() as f64
    };
    assert!(mean(&told.curve[30..]) < 0.7 * mean(&told.curve[..5]), "{:?}", told.curve);
    // 64 texts of 10 tokens in parts of 100.
    let (parts, in_parts) = tuned(&PretrainConfig { token_budget: 100, ..config.clone() }).unwrap();
    assert!((told.after.uniformity - in_parts.after.uniformity).abs() < 1e-2, "{:?} {:?}", told.after, in_parts.after);
    let (again, _) = tuned(&config).unwrap();
    for (((name, a), (_, b)), (_, part)) in whole.parameters().iter().zip(&again.parameters()).zip(&parts.parameters())
    {
        assert_eq!(values(a), values(b), "{name}");
        assert_eq!(values(a).len(), values(part).len());
    }
}

#[test]
fn alignment_and_uniformity_are_their_definitions() {
    let encoder = encoder();
    let texts = phrases(7, 5);
    let spread = paretune_train::pretrain::spread(&encoder, &texts, 1).unwrap();
    let which: Vec<u32> = (0..7).collect();
    let vectors = encoder.encode(&texts.pack(&which), None).unwrap().to_vec2::<f32>().unwrap();
    let unit = |v: &Vec<f32>| {
        let norm = v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        v.iter().map(|x| f64::from(*x) / norm).collect::<Vec<_>>()
    };
    let unit: Vec<Vec<f64>> = vectors.iter().map(unit).collect();
    let mut near = Vec::new();
    for a in 0..7 {
        for b in 0..a {
            let apart: f64 = unit[a].iter().zip(&unit[b]).map(|(x, y)| (x - y).powi(2)).sum();
            near.push((-2.0 * apart).exp());
        }
    }
    let expected = (near.iter().sum::<f64>() / near.len() as f64).ln();
    assert!((spread.uniformity - expected).abs() < 1e-4, "{} instead of {expected}", spread.uniformity);
    assert!(spread.alignment > 0.0 && spread.alignment < 4.0 && spread.texts == 7);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let refused = |config: PretrainConfig| tuned(&config).err().unwrap().to_string();
    assert!(refused(PretrainConfig { batch: 1, ..config() }).contains("batch = 1"));
    assert!(refused(PretrainConfig { learning_rate: 0.0, ..config() }).contains("learning_rate = 0"));
    assert!(refused(PretrainConfig { steps: 0, epochs: 0, ..config() }).contains("epochs = 0"));
    let still = BertConfig { hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0, ..BertConfig::tiny() };
    let encoder = Encoder::random(still, Pooling::Mean, 3, &Device::Cpu).unwrap();
    let error = contrast(&encoder, 0.05, &phrases(9, 1), &phrases(5, 2), &config(), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("dropout"), "{error}");
}
