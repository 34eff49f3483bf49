//! Sizes and sequences that do not fit, and those that are as small as can be.

use candle_core::{DType, Device, Tensor};

use super::{KINDS, SequenceActivation, SequenceConfig, SequenceEncoder, SequenceKind, bits, odd, rows, weighted};

fn refused(config: SequenceConfig) -> String {
    SequenceEncoder::new(&config, 1, &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn a_message_names_field_and_value() {
    for kind in KINDS {
        let good = odd(kind);
        for (config, field, value) in [
            (SequenceConfig { width: 0, ..good }, "`width`", "0"),
            (SequenceConfig { layers: 0, ..good }, "`layers`", "0"),
            (SequenceConfig { layers: 5000, ..good }, "`layers`", "5000"),
            (SequenceConfig { width: 1 << 40, ..good }, "`width`", "1099511627776"),
            (SequenceConfig { dropout: 1.0, ..good }, "`dropout`", "1"),
            (SequenceConfig { dropout: -0.5, ..good }, "`dropout`", "-0.5"),
            (SequenceConfig { dropout: f64::NAN, ..good }, "`dropout`", "NaN"),
            (SequenceConfig { width: 3 << 14, layers: 1000, ..good }, "`width`", "49152"),
        ] {
            let message = refused(config);
            assert!(message.contains(field) && message.contains(value), "{message}");
        }
        for (config, field, value) in [
            (SequenceConfig { heads: 0, ..good }, "`heads`", "0"),
            (SequenceConfig { heads: 4, ..good }, "`heads`", "4"),
            (SequenceConfig { inner: 0, ..good }, "`inner`", "0"),
            (SequenceConfig { longest: 0, ..good }, "`longest`", "0"),
            (SequenceConfig { longest: usize::MAX, ..good }, "`longest`", "18446744073709551615"),
        ] {
            // Recurrent networks have none of these.
            match SequenceEncoder::new(&config, 1, &Device::Cpu) {
                Ok(_) => assert!(!kind.is_transformer(), "{config:?}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(kind.is_transformer() && message.contains(field) && message.contains(value), "{message}");
                }
            }
        }
    }
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let x = rows(&[4, 3], 18, 5);
        let refused = |x: &Tensor, offsets: &[u32]| encoder.forward(x, offsets, None).unwrap_err().to_string();
        assert!(encoder.forward(&x, &[0, 4, 7], None).is_ok());
        for offsets in [&[][..], &[0], &[0, 4], &[0, 4, 8], &[1, 7]] {
            assert!(refused(&x, offsets).contains("from 0 to the number of rows, 7"), "{offsets:?}");
        }
        assert!(refused(&x, &[0, 5, 4, 7]).contains("sequence 1 goes from row 5 to row 4"));
        assert!(refused(&rows(&[7], 17, 1), &[0, 7]).contains("[7, 17]; expected [T, 18]"));
        assert!(refused(&x.flatten_all().unwrap(), &[0, 126]).contains("[126]; expected [T, 18]"));
        let wide = x.to_dtype(DType::F64).unwrap();
        assert!(refused(&wide, &[0, 7]).contains("x is of type F64, parameters of F32"));
        // One more than there are positions.
        let long = rows(&[2, 21], 18, 1);
        match encoder.forward(&long, &[0, 2, 23], None) {
            Ok(_) => assert!(!kind.is_transformer()),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("sequence 1 has 21 vectors"), "{message}");
                assert!(message.contains("20 positions") && kind.is_transformer(), "{message}");
            }
        }
        assert!(encoder.forward(&rows(&[20], 18, 1), &[0, 20], None).is_ok());
    }
}

#[test]
fn nothing_becomes_nothing() {
    for kind in KINDS {
        let encoder = weighted(&odd(kind));
        let none = Tensor::zeros((0, 18), DType::F32, &Device::Cpu).unwrap();
        for offsets in [&[0][..], &[0, 0], &[0, 0, 0]] {
            assert_eq!(encoder.forward(&none, offsets, Some(1)).unwrap().dims(), [0, 18]);
        }
        // Nor do empty sequences change a bit of the others.
        let x = rows(&[4, 3], 18, 5);
        let expected = bits(&encoder.forward(&x, &[0, 4, 7], Some(1)).unwrap());
        for offsets in [&[0, 0, 4, 7][..], &[0, 4, 4, 4, 7], &[0, 4, 7, 7]] {
            assert_eq!(bits(&encoder.forward(&x, offsets, Some(1)).unwrap()), expected, "{kind:?} {offsets:?}");
        }
    }
}

#[test]
fn a_network_is_a_function_of_its_seed() {
    for kind in KINDS {
        let make = |seed| SequenceEncoder::new(&odd(kind), seed, &Device::Cpu).unwrap();
        let (one, same, other) = (make(1), make(1), make(2));
        assert_eq!(one.config(), &odd(kind));
        let named = one.parameters("history").into_iter().zip(same.parameters("history")).zip(other.parameters("h"));
        let mut drawn: Vec<Vec<u32>> = Vec::new();
        for (((name, a), (same_name, b)), (_, c)) in named {
            assert_eq!(name, same_name);
            assert!(name.starts_with("history."), "{name}");
            assert_eq!(bits(&a), bits(&b), "{name}");
            let is_constant = bits(&a).iter().all(|value| *value == bits(&a)[0]);
            assert_eq!(bits(&a) == bits(&c), is_constant, "{name}");
            // Each parameter draws for itself.
            if !is_constant {
                let start = bits(&a)[..18].to_vec();
                assert!(!drawn.contains(&start), "{name}");
                drawn.push(start);
            }
        }
        let shared = one.clone();
        let (_, var) = &shared.parameters("a")[0];
        var.set(&var.zeros_like().unwrap()).unwrap();
        assert!(bits(&one.parameters("a")[0].1).iter().all(|value| *value == 0));
    }
}

#[test]
fn configurations_are_read_as_they_are_written() {
    for kind in KINDS {
        let config = SequenceConfig { activation: SequenceActivation::Relu, ..odd(kind) };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SequenceConfig>(&json).unwrap(), config);
    }
    let text =
        r#"{"kind": "bidirectional", "width": 8, "layers": 1, "heads": 2, "inner": 16, "dropout": 0.1, "longest": 5}"#;
    let config: SequenceConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.kind, config.activation), (SequenceKind::Bidirectional, SequenceActivation::Gelu));
    assert!(!config.pre_norm);
    let message = serde_json::from_str::<SequenceConfig>(&text.replace("inner", "iner")).unwrap_err().to_string();
    assert!(message.contains("`iner`"), "{message}");
    let message =
        serde_json::from_str::<SequenceConfig>(&text.replace("bidirectional", "rnn")).unwrap_err().to_string();
    assert!(message.contains("causal") && message.contains("lstm"), "{message}");
    for kind in KINDS {
        for width in [1, 7, 64] {
            assert!(SequenceConfig::new(kind, width).check().is_ok());
        }
    }
}
