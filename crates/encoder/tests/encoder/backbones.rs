//! Values and gradients of every family against those of `transformers`, stored by `fixtures/make_backbones.py`.

use candle_core::Tensor;
use paretune_encoder::{Encoder, LoadOptions, ModelConfig, Pooling, Trainable, backward};
use paretune_features::{ModelFiles, Tokenized};

use super::{difference, fixtures, largest, numbers, packed, sequences, stored};

const FAMILIES: [&str; 14] = [
    "roberta",
    "xlm-roberta",
    "distilbert",
    "mpnet",
    "modernbert",
    "gpt2",
    "qwen3",
    "qwen2",
    "llama",
    "llama3-rope",
    "mistral",
    "gemma",
    "qwen2-bidirectional",
    "gpt2-bidirectional",
];

/// Folders that hold a model with a head, or with names of older versions.
const OTHER_SPELLINGS: [&str; 8] = [
    "bert-headed",
    "bert-old",
    "roberta-headed",
    "distilbert-headed",
    "modernbert-headed",
    "gpt2-headed",
    "gpt2-old",
    "qwen3-headed",
];

fn files(name: &str) -> ModelFiles {
    let dir = fixtures().join("backbones").join(name);
    ModelFiles { weights: vec![dir.join("model.safetensors")], ..ModelFiles::unweighted(dir) }
}

fn expected(name: &str) -> std::collections::HashMap<String, Tensor> {
    stored(&format!("backbones/{name}/expected.safetensors"))
}

fn load(name: &str, options: &LoadOptions) -> Encoder {
    Encoder::load(&files(name), options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn assert_hidden_states(name: &str, encoder: &Encoder) {
    let expected = expected(name);
    let packed = packed(&sequences(&expected));
    let hidden = encoder.hidden_states(&packed, None).unwrap();
    let (off, size) = (difference(&hidden, &expected["hidden"]), largest(&expected["hidden"]));
    assert!(off <= 1e-5 * size.max(1.0), "{name}: hidden states are off by {off} of {size}");
    let pooled = encoder.encode(&packed, None).unwrap();
    let (off, size) = (difference(&pooled, &expected["pooled"]), largest(&expected["pooled"]));
    assert!(off <= 1e-5 * size.max(1.0), "{name}: vectors are off by {off} of {size}");
    // The way without a graph.
    let embedded = encoder.embed(&Tokenized::from_sequences(sequences(&expected)), 64, None).unwrap();
    let embedded = Tensor::from_vec(embedded, pooled.dims(), &candle_core::Device::Cpu).unwrap();
    let off = difference(&embedded, &expected["pooled"]);
    assert!(off <= 1e-5 * size.max(1.0), "{name}: embedded vectors are off by {off} of {size}");
}

#[test]
fn values_are_those_of_transformers() {
    for name in FAMILIES.into_iter().chain(OTHER_SPELLINGS) {
        let encoder = load(name, &LoadOptions::default());
        let pooling = if encoder.config().is_causal() { Pooling::LastToken } else { Pooling::Mean };
        assert_eq!(encoder.pooling(), pooling, "{name}");
        assert_hidden_states(name, &encoder);
    }
}

#[test]
fn configurations_of_older_versions_mean_the_same() {
    for name in ["modernbert", "qwen3", "qwen2", "llama", "llama3-rope", "mistral", "gemma"] {
        let files = files(name);
        let config = files.dir.join("config-4.json");
        assert!(config.is_file(), "{}", config.display());
        let encoder = Encoder::load(&ModelFiles { config, ..files }, &LoadOptions::default()).unwrap();
        assert_hidden_states(name, &encoder);
    }
}

/// Softmax does not change with the bias of a key that is not rotated: its gradient is zero, but for rounding.
fn is_rounding(name: &str) -> bool {
    ["attention.self.key.bias", "attention.k_lin.bias", "attention.attn.k.bias"].iter().any(|end| name.ends_with(end))
}

#[test]
fn gradients_of_every_parameter_are_those_of_transformers() {
    for name in FAMILIES {
        for recompute in [false, true] {
            let encoder = load(name, &LoadOptions { recompute, ..LoadOptions::default() });
            let expected = expected(name);
            let pooled = encoder.encode(&packed(&sequences(&expected)), None).unwrap();
            let loss = (pooled * &expected["cotangent"]).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let mut offenders = Vec::new();
            let mut compared = 0;
            for (parameter, var) in encoder.parameters() {
                let expected = &expected[&format!("gradient.{parameter}")];
                let found = gradients.get(&var).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
                // Files of GPT-2 hold matrices the other way round.
                let found = if found.dims() == expected.dims() { found.clone() } else { found.t().unwrap() };
                let is_swapped = name.starts_with("gpt2") && parameter.starts_with("h.") && found.dims().len() == 2;
                let found = if is_swapped && found.dims()[0] == found.dims()[1] { found.t().unwrap() } else { found };
                let size = if is_rounding(&parameter) { 1.0 } else { largest(expected) };
                let off = difference(&found.contiguous().unwrap(), expected);
                if off > 3e-5 * size {
                    offenders.push(format!("{parameter}: off by {off} of {size}"));
                }
                compared += 1;
            }
            assert!(offenders.is_empty(), "{name}: {offenders:#?}");
            let stored = expected.keys().filter(|key| key.starts_with("gradient.")).count();
            assert_eq!(compared, stored, "{name}: parameters with a gradient");
        }
    }
}

#[test]
fn every_parameter_learns_with_dropout_and_by_the_faster_backward_pass() {
    for name in FAMILIES {
        let encoder = load(name, &LoadOptions { dropout: Some(0.1), ..LoadOptions::default() });
        let expected = expected(name);
        let loss = super::loss(&encoder.encode(&packed(&sequences(&expected)), Some(3)).unwrap());
        let gradients = backward(&loss).unwrap();
        for (parameter, var) in encoder.parameters() {
            let values = match gradients.rows(&var) {
                Some(table) => numbers(&table.values),
                None => numbers(gradients.get(&var).unwrap_or_else(|| panic!("{name}: {parameter}"))),
            };
            assert!(values.iter().all(|value| value.is_finite()), "{name}: {parameter}");
            assert!(values.iter().any(|value| *value != 0.0), "{name}: {parameter}");
        }
    }
}

#[test]
fn parts_can_be_trained_alone() {
    for name in FAMILIES {
        let all = load(name, &LoadOptions::default()).parameters().len();
        let layers = load(name, &LoadOptions::default()).config().layers();
        let count = |trainable| load(name, &LoadOptions { trainable, ..LoadOptions::default() }).parameters().len();
        assert_eq!(count(Trainable::Nothing), 0, "{name}");
        assert_eq!(count(Trainable::LastLayers(0)), 0, "{name}");
        let top = count(Trainable::LastLayers(1));
        assert!(top > 0 && top < all, "{name}: {top} of {all}");
        assert!(count(Trainable::LastLayers(layers)) < all, "{name}");
        let biases = load(name, &LoadOptions { trainable: Trainable::Biases, ..LoadOptions::default() }).parameters();
        assert!(biases.iter().all(|(parameter, _)| parameter.ends_with(".bias")), "{name}");
        let has_biases = !["modernbert", "qwen3", "llama", "llama3-rope", "mistral", "gemma"].contains(&name);
        assert_eq!(!biases.is_empty(), has_biases, "{name}");
    }
}

#[test]
fn what_rests_gets_no_gradient_and_changes_no_other() {
    for name in FAMILIES {
        let encoder = load(name, &LoadOptions::default());
        let packed = packed(&sequences(&expected(name)));
        let gradients = || super::loss(&encoder.encode(&packed, None).unwrap()).backward().unwrap();
        let all = gradients();
        let layers = encoder.config().layers();
        for depth in 0..=layers + 1 {
            encoder.rest_below(depth);
            let found = gradients();
            for (parameter, var) in encoder.parameters() {
                // A table of distances is shared by all layers: the resting ones add nothing to its gradient.
                if parameter.contains("relative_attention_bias") {
                    continue;
                }
                let awake = encoder.depth_of(&parameter) >= depth;
                assert_eq!(found.get(&var).is_some(), awake, "{name}: {parameter} at {depth}");
                if awake {
                    assert_eq!(
                        numbers(found.get(&var).unwrap()),
                        numbers(all.get(&var).unwrap()),
                        "{name}: {parameter}"
                    );
                }
            }
        }
        encoder.rest_below(0);
    }
}

#[test]
fn threads_change_no_bit() {
    for name in FAMILIES {
        let expected = expected(name);
        let run = || {
            let encoder = load(name, &LoadOptions::default());
            let loss = super::loss(&encoder.encode(&packed(&sequences(&expected)), Some(3)).unwrap());
            let gradients = loss.backward().unwrap();
            let parameters = encoder.parameters();
            parameters.iter().flat_map(|(_, var)| numbers(gradients.get(var).unwrap())).collect::<Vec<f32>>()
        };
        assert_eq!(super::with_threads(1, run), super::with_threads(2, run), "{name}");
    }
}

#[test]
fn saved_models_load_again_with_the_same_vectors() {
    for name in FAMILIES.into_iter().chain(OTHER_SPELLINGS) {
        let encoder = load(name, &LoadOptions::default());
        let dir = tempfile::tempdir().unwrap();
        // Tiny models have no tokenizer of their own.
        let tokenizer = ModelFiles::unweighted(fixtures().join("tiny"));
        encoder.save(dir.path(), &tokenizer).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Encoder::load(&ModelFiles::local(dir.path()).unwrap(), &LoadOptions::default()).unwrap();
        let packed = packed(&sequences(&expected(name)));
        let vectors = |encoder: &Encoder| numbers(&encoder.encode(&packed, None).unwrap());
        assert_eq!(vectors(&again), vectors(&encoder), "{name}");
        assert_eq!(again.config().model_type(), encoder.config().model_type());
    }
}

#[test]
fn families_are_listed_where_one_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, r#"{"model_type": "mamba"}"#).unwrap();
    let message = ModelConfig::read(&path).unwrap_err().to_string();
    for family in ["mamba", "bert", "roberta", "distilbert", "mpnet", "modernbert", "gpt2", "qwen3", "llama", "gemma"] {
        assert!(message.contains(family), "{message}");
    }
}
