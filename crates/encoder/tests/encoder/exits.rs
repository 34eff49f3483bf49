//! Models that texts leave early.

use paretune_encoder::{Encoder, LoadOptions, ModelConfig};
use paretune_features::{ModelFiles, Packed};

use crate::{fixtures, tiny_files};

fn load(files: &ModelFiles, exit_after: Option<usize>) -> Encoder {
    Encoder::load(files, &LoadOptions { exit_after, ..LoadOptions::default() }).unwrap()
}

#[test]
fn what_leaves_early_is_what_the_next_layer_would_have_read() {
    let whole = load(&tiny_files(), None);
    let layers = whole.config().layers();
    let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[1, 9, 2]]);
    let mut passed = Vec::new();
    whole
        .encode_with(&packed, None, &mut |x| {
            passed.push(x.clone());
            Ok(x)
        })
        .unwrap();
    assert_eq!(passed.len(), layers + 1, "before each layer, and before pooling");
    let values = |x: &candle_core::Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (exit, passed) in passed.iter().enumerate().skip(1) {
        let early = load(&tiny_files(), Some(exit));
        assert_eq!(early.config().layers(), exit);
        assert_eq!(values(&early.hidden_states(&packed, None).unwrap()), values(passed));
        let above = format!("encoder.layer.{exit}.");
        assert!(early.parameters().iter().all(|(name, _)| !name.starts_with(&above)));
    }
}

#[test]
fn a_saved_model_has_the_layers_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let early = load(&tiny_files(), Some(1));
    early.save(folder.path(), &tiny_files()).unwrap();
    let again = load(&ModelFiles::local(folder.path()).unwrap(), None);
    assert_eq!(again.config().layers(), 1);
    let packed = Packed::from_sequences([&[1, 5, 2][..]]);
    let vectors = [&early, &again].map(|encoder| encoder.encode(&packed, None).unwrap().to_vec2::<f32>().unwrap());
    assert_eq!(vectors[0], vectors[1]);
    assert!(
        Encoder::load(
            &ModelFiles::local(folder.path()).unwrap(),
            &LoadOptions { exit_after: Some(2), ..LoadOptions::default() }
        )
        .is_err()
    );
}

/// Every family that has a fixture can be left after its first layer.
#[test]
fn every_family_has_an_exit() {
    let mut left = 0;
    for entry in std::fs::read_dir(fixtures())
        .unwrap()
        .chain(std::fs::read_dir(fixtures().join("backbones")).into_iter().flatten())
    {
        let config = entry.unwrap().path().join("config.json");
        let Ok(config) = ModelConfig::read(&config) else { continue };
        assert_eq!(config.exit_after(1).unwrap().layers(), 1, "{}", config.model_type());
        assert!(config.exit_after(0).unwrap_err().to_string().contains("name 1 to"), "{}", config.model_type());
        left += 1;
    }
    assert!(left > 0);
}
