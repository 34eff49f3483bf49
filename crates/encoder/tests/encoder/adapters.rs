//! Adapters: against `peft`, merged and not, and as files.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use paretune_encoder::{
    AdapterConfig, Bias, Encoder, EncoderError, Ia3Config, LoadOptions, LoraConfig, Targets, Trainable, backward,
};
use paretune_features::{ModelFiles, Packed};

use super::{difference, fixtures, largest, loss, numbers, packed, sequences, stored, tiny_files};

/// Adapters that `fixtures/make_adapters.py` made, and the models they belong to.
const ADAPTERS: [(&str, &str); 10] = [
    ("lora-bert", "tiny"),
    ("rslora-bert", "tiny"),
    ("lora-bias-bert", "tiny"),
    ("lora-pattern-bert", "tiny"),
    ("lora-pooler-bert", "tiny"),
    ("ia3-bert", "tiny"),
    ("lora-qwen3", "backbones/qwen3"),
    ("lora-qwen3-headed", "backbones/qwen3-headed"),
    ("lora-gpt2", "backbones/gpt2"),
    ("lora-modernbert", "backbones/modernbert"),
];

fn folder(name: &str) -> PathBuf {
    fixtures().join("adapters").join(name)
}

fn base(dir: &str, options: &LoadOptions) -> Encoder {
    let dir = fixtures().join(dir);
    let files = ModelFiles { weights: vec![dir.join("model.safetensors")], ..ModelFiles::unweighted(dir) };
    Encoder::load(&files, options).unwrap()
}

fn loaded(name: &str, dir: &str, options: &LoadOptions) -> Encoder {
    let mut encoder = base(dir, options);
    encoder.load_adapter(name, &folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    encoder
}

fn expected(name: &str) -> HashMap<String, Tensor> {
    stored(&format!("adapters/{name}/expected.safetensors"))
}

fn tiny() -> Encoder {
    Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap()
}

/// Gives an adapter parameters that are far from where they start.
fn shake(encoder: &Encoder) {
    let moved = encoder.parameters().into_iter().enumerate().map(|(at, (name, var))| {
        let values = (0..var.elem_count()).map(|i| (((i * 37 + at * 11) % 19) as f32 - 9.0) / 25.0).collect::<Vec<_>>();
        let noise = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
        (name, (var.as_tensor() + noise).unwrap())
    });
    encoder.set_parameters(&moved.collect()).unwrap();
}

/// Sequences of words that every model here knows.
fn batch() -> Packed {
    packed(&[vec![2, 17, 39, 9, 3], vec![2, 3], (5..31).collect(), vec![2, 8, 8, 8, 29, 21, 3]])
}

fn vectors(encoder: &Encoder) -> Tensor {
    encoder.encode(&batch(), None).unwrap()
}

#[test]
fn values_and_gradients_are_those_of_peft() {
    for (name, dir) in ADAPTERS {
        let encoder = loaded(name, dir, &LoadOptions::default());
        let expected = expected(name);
        let packed = packed(&sequences(&expected));
        let hidden = encoder.hidden_states(&packed, None).unwrap();
        let (off, size) = (difference(&hidden, &expected["hidden"]), largest(&expected["hidden"]));
        assert!(off <= 1e-5 * size.max(1.0), "{name}: hidden states are off by {off} of {size}");

        let pooled = encoder.encode(&packed, None).unwrap();
        let loss = (pooled * &expected["cotangent"]).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let mut offenders = Vec::new();
        for (key, var) in encoder.parameters() {
            // Models with a head have its prefix before the names of their modules.
            let headed = key.replace("base_model.model.", "base_model.model.model.");
            let stored = [key.clone(), headed].iter().find_map(|key| expected.get(&format!("gradient.{key}")));
            let expected = stored.unwrap_or_else(|| panic!("{name}: peft has no `{key}`"));
            let found = gradients.get(&var).unwrap_or_else(|| panic!("{name}: no gradient for {key}"));
            let expected = expected.reshape(found.shape()).unwrap();
            let (off, size) = (difference(found, &expected), largest(&expected));
            if off > 3e-5 * size.max(1e-3) {
                offenders.push(format!("{key}: off by {off} of {size}"));
            }
        }
        assert!(offenders.is_empty(), "{name}: {offenders:#?}");
        let used = expected.iter().filter(|(key, _)| key.starts_with("gradient.") && !key.contains("pooler"));
        assert_eq!(encoder.parameters().len(), used.count(), "{name}");
    }
}

#[test]
fn merging_changes_no_vector_and_unmerging_no_bit() {
    for (name, dir) in ADAPTERS {
        let mut encoder = loaded(name, dir, &LoadOptions::default());
        let without = base(dir, &LoadOptions::default());
        let adapted = vectors(&encoder);
        assert!(difference(&adapted, &vectors(&without)) > 1e-2, "{name} changes nothing");
        encoder.merge_adapter().unwrap();
        assert_eq!(encoder.active_adapter(), None);
        let size = largest(&adapted).max(1.0);
        assert!(difference(&vectors(&encoder), &adapted) <= 1e-5 * size, "{name}: merged");
        assert!(matches!(encoder.use_adapter(None), Err(EncoderError::Merged { .. })));
        assert!(encoder.merge_adapter().is_err());
        encoder.unmerge_adapter().unwrap();
        assert_eq!(encoder.active_adapter(), Some(name));
        assert_eq!(numbers(&vectors(&encoder)), numbers(&adapted), "{name}: unmerged");
        encoder.use_adapter(None).unwrap();
        assert_eq!(numbers(&vectors(&encoder)), numbers(&vectors(&without)), "{name}: base");
        assert!(encoder.unmerge_adapter().is_err());
    }
}

#[test]
fn files_come_back_with_every_tensor() {
    for (name, dir) in ADAPTERS {
        let encoder = loaded(name, dir, &LoadOptions::default());
        let written = tempfile::tempdir().unwrap();
        encoder.save_adapter(name, written.path(), "org/base").unwrap();
        let read = |dir: PathBuf| candle_core::safetensors::load(dir.join("adapter_model.safetensors"), &Device::Cpu);
        let (original, again) = (read(folder(name)).unwrap(), read(written.path().to_owned()).unwrap());
        // Files of models with a head name modules with its prefix.
        if name != "lora-qwen3-headed" {
            for (key, tensor) in &original {
                assert_eq!(numbers(&again[key]), numbers(tensor), "{name}: {key}");
                assert_eq!(again[key].dims(), tensor.dims(), "{name}: {key}");
            }
        }
        assert_eq!(again.len(), original.len(), "{name}");
        let mut other = base(dir, &LoadOptions::default());
        other.load_adapter("again", written.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(numbers(&vectors(&other)), numbers(&vectors(&encoder)), "{name}");
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_learns_alone() {
    let configs: [AdapterConfig; 4] = [
        LoraConfig::rank(4).into(),
        LoraConfig { targets: Targets::All, rank_stabilized: true, bias: Bias::Adapted, ..LoraConfig::rank(2) }.into(),
        LoraConfig { dropout: 0.2, layers: vec![1], bias: Bias::All, ..LoraConfig::rank(4) }.into(),
        Ia3Config::default().into(),
    ];
    for config in configs {
        let mut encoder = tiny();
        let before = vectors(&encoder);
        let all = encoder.parameters().len();
        encoder.add_adapter("new", config.clone(), 7).unwrap();
        assert!(difference(&vectors(&encoder), &before) < 1e-6, "{config:?}");
        assert!(!encoder.parameters().is_empty() && encoder.parameters().len() != all, "{config:?}");
        shake(&encoder);
        let found = backward(&loss(&encoder.encode(&batch(), Some(5)).unwrap())).unwrap();
        for (name, var) in encoder.parameters() {
            let gradient = numbers(found.get(&var).unwrap_or_else(|| panic!("{config:?}: {name}")));
            assert!(gradient.iter().all(|value| value.is_finite()), "{config:?}: {name}");
            assert!(gradient.iter().any(|value| *value != 0.0), "{config:?}: {name}");
        }
        // Nothing of the base is known to the graph.
        encoder.use_adapter(None).unwrap();
        let base = encoder.parameters();
        encoder.use_adapter(Some("new")).unwrap();
        let found = backward(&loss(&encoder.encode(&batch(), None).unwrap())).unwrap();
        assert!(base.iter().all(|(_, var)| found.get(var).is_none() && found.rows(var).is_none()), "{config:?}");
    }
}

/// Central differences of the loss along the gradient's direction, with dropout, for adapters of every kind.
#[test]
fn gradients_are_slopes() {
    let configs: [AdapterConfig; 3] = [
        LoraConfig { targets: Targets::All, dropout: 0.3, ..LoraConfig::rank(3) }.into(),
        LoraConfig { targets: Targets::All, bias: Bias::All, ..LoraConfig::rank(3) }.into(),
        Ia3Config { targets: Some(Targets::All), feed_forward: None }.into(),
    ];
    for dir in ["tiny", "backbones/modernbert", "backbones/qwen3", "backbones/gpt2"] {
        for config in configs.clone() {
            let mut encoder = base(dir, &LoadOptions { dropout: Some(0.1), ..LoadOptions::default() });
            encoder.add_adapter("a", config.clone(), 3).unwrap();
            shake(&encoder);
            let value = || {
                let loss = loss(&encoder.encode(&batch(), Some(9)).unwrap());
                loss.to_dtype(candle_core::DType::F64).unwrap().to_scalar::<f64>().unwrap()
            };
            let gradients = loss(&encoder.encode(&batch(), Some(9)).unwrap()).backward().unwrap();
            let start: HashMap<String, Tensor> =
                encoder.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().copy().unwrap())).collect();
            let gradient: HashMap<String, Tensor> = encoder
                .parameters()
                .into_iter()
                .map(|(name, var)| (name, gradients.get(&var).unwrap().clone()))
                .collect();
            let square: f64 = gradient.values().flat_map(numbers).map(|g| f64::from(g) * f64::from(g)).sum();
            let step = 2e-3 / square.sqrt();
            let at = |sign: f64| {
                let moved = start.iter().map(|(name, tensor)| {
                    (name.clone(), (tensor + (&gradient[name] * (sign * step)).unwrap()).unwrap())
                });
                encoder.set_parameters(&moved.collect()).unwrap();
                value()
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
            assert!((slope / square - 1.0).abs() < 2e-2, "{dir} {config:?}: slope {slope}, expected {square}");
        }
    }
}

#[test]
fn several_adapters_are_switched_by_name() {
    let mut encoder = tiny();
    let plain = vectors(&encoder);
    encoder.add_adapter("movies", LoraConfig::rank(2), 1).unwrap();
    shake(&encoder);
    let movies = vectors(&encoder);
    encoder.add_adapter("books", Ia3Config::default(), 1).unwrap();
    shake(&encoder);
    let books = vectors(&encoder);
    assert_eq!(encoder.adapters().collect::<Vec<_>>(), ["books", "movies"]);
    for (name, expected) in [(Some("movies"), &movies), (None, &plain), (Some("books"), &books)] {
        encoder.use_adapter(name).unwrap();
        assert_eq!(encoder.active_adapter(), name);
        assert_eq!(numbers(&vectors(&encoder)), numbers(expected), "{name:?}");
    }
    encoder.remove_adapter("books").unwrap();
    assert_eq!(numbers(&vectors(&encoder)), numbers(&plain));
    let message = encoder.use_adapter(Some("books")).unwrap_err().to_string();
    assert!(message.contains("books") && message.contains("movies"), "{message}");
    assert!(encoder.add_adapter("movies", LoraConfig::rank(2), 1).is_err());
}

#[test]
fn the_same_seed_makes_the_same_adapter() {
    let fresh = |seed| {
        let mut encoder = tiny();
        encoder.add_adapter("a", LoraConfig::rank(4), seed).unwrap();
        encoder.parameters().iter().flat_map(|(_, var)| numbers(var)).collect::<Vec<f32>>()
    };
    assert_eq!(fresh(1), fresh(1));
    assert_ne!(fresh(1), fresh(2));
}

#[test]
fn a_saved_model_has_the_active_adapter_in_it() {
    for (name, dir) in [("lora-bert", "tiny"), ("ia3-bert", "tiny"), ("lora-gpt2", "backbones/gpt2")] {
        let encoder = loaded(name, dir, &LoadOptions::default());
        let saved = tempfile::tempdir().unwrap();
        encoder.save(saved.path(), &tiny_files()).unwrap();
        let again = Encoder::load(&ModelFiles::local(saved.path()).unwrap(), &LoadOptions::default()).unwrap();
        let (adapted, size) = (vectors(&encoder), largest(&vectors(&encoder)).max(1.0));
        assert!(difference(&vectors(&again), &adapted) <= 1e-5 * size, "{name}");
    }
}

#[test]
fn configurations_without_sense_are_refused() {
    for (config, part) in [
        (LoraConfig::rank(0), "rank"),
        (LoraConfig::rank(33), "rank 33"),
        (LoraConfig { dropout: 1.0, ..LoraConfig::rank(2) }, "dropout"),
        (LoraConfig { alpha: f64::NAN, ..LoraConfig::rank(2) }, "alpha"),
        (LoraConfig { targets: Targets::names(["q_proj"]), ..LoraConfig::rank(2) }, "attention.self.query"),
        (LoraConfig { targets: Targets::Pattern("(".to_owned()), ..LoraConfig::rank(2) }, "regular expression"),
    ] {
        let mut encoder = tiny();
        let message = encoder.add_adapter("a", config, 1).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(encoder.adapters().count(), 0);
        assert_eq!(encoder.parameters().len(), tiny().parameters().len());
    }
}

#[test]
fn files_that_do_not_fit_are_refused_with_the_tensor() {
    let cases: [(&str, &str, &str); 4] = [
        ("lora-qwen3", "tiny", "layers.0"),
        ("lora-bert", "backbones/roberta", "expected"),
        ("lora-bert", "backbones/qwen3", "query"),
        ("ia3-bert", "backbones/gpt2", "attention"),
    ];
    for (name, dir, part) in cases {
        let mut encoder = base(dir, &LoadOptions::default());
        let message = encoder.load_adapter("a", &folder(name)).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("adapter_model.safetensors"), "{name}: {message}");
        assert_eq!(encoder.adapters().count(), 0);
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(folder("lora-bert").join("adapter_config.json"), dir.path().join("adapter_config.json")).unwrap();
    std::fs::write(dir.path().join("adapter_model.bin"), "pickle").unwrap();
    let message = tiny().load_adapter("a", dir.path()).unwrap_err().to_string();
    assert!(message.contains("adapter_model.bin") && message.contains("safetensors"), "{message}");
}

#[test]
fn threads_change_no_bit_of_an_adapter() {
    let run = || {
        let mut encoder = base("tiny", &LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() });
        let config = LoraConfig { targets: Targets::All, dropout: 0.1, ..LoraConfig::rank(4) };
        encoder.add_adapter("a", config, 1).unwrap();
        shake(&encoder);
        let gradients = loss(&encoder.encode(&batch(), Some(2)).unwrap()).backward().unwrap();
        encoder.parameters().iter().flat_map(|(_, var)| numbers(gradients.get(var).unwrap())).collect::<Vec<f32>>()
    };
    assert_eq!(super::with_threads(1, run), super::with_threads(2, run));
}
