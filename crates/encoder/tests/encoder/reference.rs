//! Values and gradients against PyTorch's, stored by `fixtures/make_bert.py`.

use candle_core::Device;
use paretune_encoder::{BertConfig, Encoder, LoadOptions, ModelConfig, Pooling};
use paretune_features::{ModelFiles, Tokenized};

use super::{difference, fixtures, largest, packed, sequences, stored, tiny_files};

fn tiny() -> Encoder {
    Encoder::load(&tiny_files(), &LoadOptions::default()).unwrap()
}

#[test]
fn hidden_states_and_pooling_equal_those_of_pytorch() {
    let expected = stored("tiny.safetensors");
    let packed = packed(&sequences(&expected));
    let off = difference(&tiny().hidden_states(&packed, None).unwrap(), &expected["hidden"]);
    assert!(off < 1e-5, "hidden states are off by {off}");

    let dir = tempfile::tempdir().unwrap();
    for (mode, name) in [(Pooling::Mean, "mean"), (Pooling::Cls, "cls"), (Pooling::Max, "max")] {
        let config = dir.path().join("pooling.json");
        std::fs::write(&config, format!(r#"{{"pooling_mode": "{name}"}}"#)).unwrap();
        let files = ModelFiles { pooling: Some(config), ..tiny_files() };
        let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
        assert_eq!(encoder.pooling(), mode);
        let off = difference(&encoder.encode(&packed, None).unwrap(), &expected[name]);
        assert!(off < 1e-5, "{name} pooling is off by {off}");
    }
}

#[test]
fn gradients_of_every_weight_equal_those_of_pytorch() {
    let expected = stored("tiny.safetensors");
    let encoder = tiny();
    let pooled = encoder.encode(&packed(&sequences(&expected)), None).unwrap();
    let loss = (pooled * &expected["direction"]).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();

    let mut offenders = Vec::new();
    for (name, var) in encoder.parameters() {
        let expected = &expected[&format!("grad.{name}")];
        let off = difference(gradients.get(&var).unwrap(), expected);
        // Softmax does not change with a key's bias, so those gradients are zero but for rounding.
        let size = if name.ends_with("key.bias") { 1.0 } else { largest(expected) };
        if off > 1e-4 * size {
            offenders.push(format!("{name}: off by {off} of {size}"));
        }
    }
    assert!(offenders.is_empty(), "{offenders:#?}");
    assert_eq!(encoder.parameters().len(), 5 + 2 * 16);
}

#[test]
fn minilm_equals_pytorch() {
    let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models/all-MiniLM-L6-v2");
    let dir = std::env::var_os("PARETUNE_MINILM").map_or(built, Into::into);
    let Ok(files) = ModelFiles::local(&dir) else {
        eprintln!("skipped: no all-MiniLM-L6-v2 at {}; set PARETUNE_MINILM to its folder", dir.display());
        return;
    };
    let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
    let expected = stored("minilm.safetensors");
    let sequences = sequences(&expected);
    let hidden = encoder.hidden_states(&packed(&sequences), None).unwrap();
    let off = difference(&hidden, &expected["hidden"]);
    assert!(off < 1e-4, "hidden states are off by {off}");

    let vectors = encoder.embed(&Tokenized::from_sequences(&sequences), 64, None).unwrap();
    let mut start = 0;
    for (sequence, vector) in sequences.iter().zip(vectors.chunks_exact(encoder.hidden_size())) {
        let mean = expected["hidden"].narrow(0, start, sequence.len()).unwrap().mean(0).unwrap();
        let vector = candle_core::Tensor::from_slice(vector, vector.len(), &Device::Cpu).unwrap();
        assert!(difference(&vector, &mean) < 1e-4);
        start += sequence.len();
    }
}

#[test]
fn the_stored_model_is_what_its_configuration_says() {
    let config = ModelConfig::read(&fixtures().join("tiny/config.json")).unwrap().bert().unwrap();
    assert_eq!(config.other["pad_token_id"], 0);
    assert_eq!(BertConfig { other: Default::default(), ..config }, BertConfig::tiny());
}
