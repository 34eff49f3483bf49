//! Networks over sequences against PyTorch's, stored by `fixtures/make_sequence.py`.

use std::collections::BTreeMap;

use candle_core::{Device, Var};
use paretune_encoder::{SequenceConfig, SequenceEncoder, SequenceKind};

use super::{difference, fixtures, largest, stored};

#[derive(serde::Deserialize)]
struct Cases {
    lengths: Vec<u32>,
    cases: BTreeMap<String, SequenceConfig>,
}

fn cases() -> (Vec<u32>, BTreeMap<String, SequenceConfig>) {
    let text = std::fs::read_to_string(fixtures().join("sequence/cases.json")).unwrap();
    let Cases { lengths, cases } = serde_json::from_str(&text).unwrap();
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    (std::iter::once(0).chain(ends).collect(), cases)
}

#[test]
fn values_and_gradients_equal_those_of_pytorch() {
    let (offsets, cases) = cases();
    let kinds: Vec<SequenceKind> = cases.values().map(|config| config.kind).collect();
    for kind in [SequenceKind::Causal, SequenceKind::Bidirectional, SequenceKind::Gru, SequenceKind::Lstm] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    for (name, config) in cases {
        let expected = stored(&format!("sequence/{name}.safetensors"));
        let encoder = SequenceEncoder::new(&config, 1, &Device::Cpu).unwrap();
        let parameters = encoder.parameters("weight");
        for (key, var) in &parameters {
            var.set(&expected[key]).unwrap();
        }
        assert_eq!(parameters.len(), expected.keys().filter(|key| key.starts_with("weight.")).count(), "{name}");

        let x = Var::from_tensor(&expected["x"]).unwrap();
        let hidden = encoder.forward(&x, &offsets, None).unwrap();
        let (off, size) = (difference(&hidden, &expected["hidden"]), largest(&expected["hidden"]));
        assert!(off < 2e-6 * size, "{name}: values are off by {off} of {size}");

        let loss = (hidden * &expected["direction"]).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        for (key, var) in parameters.into_iter().chain([("weight.x".to_owned(), x)]) {
            let expected = &expected[&format!("gradient.{}", key.strip_prefix("weight.").unwrap())];
            let (off, size) = (difference(gradients.get(&var).unwrap(), expected), largest(expected));
            assert!(off < 1e-5 * size, "{name}: {key} is off by {off} of {size}");
        }
    }
}
