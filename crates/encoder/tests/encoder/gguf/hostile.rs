//! Files that lie or are damaged: each is refused with the file and the reason, none makes a panic.

use candle_core::quantized::GgmlDType;
use proptest::prelude::*;

use super::{Contents, Device, EncoderError, QTensor, Tensor, Value, load, path, plain};

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn zeros(shape: &[usize]) -> QTensor {
    plain(&Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap())
}

/// What is said of a fixture where it is changed.
fn refusal(name: &str, change: impl FnOnce(&mut Contents)) -> String {
    let mut contents = Contents::of(name);
    change(&mut contents);
    contents.refusal()
}

fn check(name: &str, parts: &[&str], change: impl FnOnce(&mut Contents)) {
    let message = refusal(name, change);
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn other_architectures_are_refused_with_those_that_are_read() {
    for other in ["nomic-bert", "qwen3moe", "gemma3", "t5", ""] {
        let mut contents = Contents::of("llama-f16");
        let error = contents.set("general.architecture", text(other)).load().unwrap_err();
        assert!(matches!(&error, EncoderError::UnsupportedArchitecture { architecture, .. } if architecture == other));
        let message = error.to_string();
        assert!(
            ["llama", "Mistral", "qwen3", "gemma", "gpt2", "bert"].iter().all(|name| message.contains(name)),
            "{message}"
        );
    }
}

#[test]
fn metadata_that_is_missing_or_makes_no_sense_is_named() {
    check("llama-f16", &["general.architecture"], |file| drop(file.metadata.remove("general.architecture")));
    for key in ["embedding_length", "block_count", "attention.head_count", "feed_forward_length", "context_length"] {
        for (name, family) in [("llama-f16", "llama"), ("qwen3-q4_0", "qwen3"), ("gemma-f16", "gemma")] {
            let key = format!("{family}.{key}");
            check(name, &[&key], |file| drop(file.metadata.remove(&key)));
            check(name, &[key.rsplit('.').next().unwrap()], |file| {
                file.set(&key, text("many"));
            });
            for value in [Value::U32(0), Value::U64(u64::MAX), Value::I32(-3)] {
                if key.ends_with("block_count") && matches!(value, Value::U32(0)) {
                    continue;
                }
                refusal(name, |file| {
                    file.set(&key, value);
                });
            }
        }
    }
    for (key, value, part) in [
        ("llama.rope.scaling.type", text("yarn"), "yarn"),
        ("llama.rope.dimension_count", Value::U32(4), "rope.dimension_count"),
        ("llama.attention.value_length", Value::U32(4), "value_length"),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), "layer_norm_rms_epsilon"),
        ("llama.rope.freq_base", Value::F32(f32::INFINITY), "freq_base"),
        ("llama.rope.freq_base", Value::F32(-1.0), "base of the rotation"),
        ("llama.expert_count", Value::U32(8), "mixture of experts"),
        ("llama.attention.causal", Value::Bool(false), "attention.causal"),
        ("llama.pooling_type", Value::U32(4), "ranks"),
        ("llama.pooling_type", Value::U32(9), "pooling_type is 9"),
        ("split.count", Value::U16(3), "llama-gguf-split"),
        ("llama.attention.head_count_kv", Value::Array(vec![Value::U32(2), Value::U32(1)]), "the same for all layers"),
    ] {
        check("llama-f16", &[part], |file| {
            file.set(key, value);
        });
    }
    // One number for each layer is the same as one for all.
    let heads = Value::Array(vec![Value::U32(2); 2]);
    assert!(Contents::of("llama-f16").set("llama.attention.head_count_kv", heads).load().is_ok());
    check("bert-q5_1", &["attention.causal"], |file| {
        file.set("bert.attention.causal", Value::Bool(true));
    });
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    check("llama-f16", &["missing", "blk.1.ffn_up.weight"], |file| drop(file.tensors.remove("blk.1.ffn_up.weight")));
    check("llama-f16", &["token_embd.weight"], |file| drop(file.tensors.remove("token_embd.weight")));
    for (name, shape) in
        [("blk.0.attn_q.weight", &[32, 16][..]), ("blk.1.attn_norm.weight", &[32, 1]), ("output_norm.weight", &[64])]
    {
        check("llama-f16", &[name, "shape"], |file| drop(file.tensors.insert(name.to_owned(), zeros(shape))));
    }
    for name in [
        "blk.0.ffn_gate_inp.weight",
        "blk.2.attn_q.weight",
        "blk.0.attn_q_norm.weight",
        "dense_2.weight",
        "token_embd_norm.weight",
    ] {
        check("llama-f16", &[name, "belongs to a part"], |file| {
            drop(file.tensors.insert(name.to_owned(), zeros(&[4, 4])))
        });
    }
    for (factors, part) in
        [(vec![1.0_f32; 3], "4 factors"), (vec![0.0; 4], "positive"), (vec![f32::NAN; 4], "no numbers")]
    {
        let factors = plain(&Tensor::new(factors, &Device::Cpu).unwrap());
        check("llama-f16", &[part], |file| drop(file.tensors.insert("rope_freqs.weight".to_owned(), factors)));
    }
    // What vectors do not depend on may be there.
    let mut contents = Contents::of("llama-f16");
    contents.tensors.insert("output.weight".to_owned(), zeros(&[40, 32]));
    contents.tensors.insert("blk.0.attn_rot_embd.weight".to_owned(), zeros(&[4]));
    assert!(contents.load().is_ok());
}

/// Where the type of the tensor `name`, and after it its place, stand in the bytes of a file whose tensors have two sides.
fn place_of_kind(bytes: &[u8], name: &str) -> usize {
    let start = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    start + name.len() + 4 + 2 * 8
}

fn refusal_of(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("model.gguf"), "{message}");
    message
}

#[test]
fn quantizations_that_are_not_read_are_named() {
    let bytes = std::fs::read(path("llama-f16")).unwrap();
    let place = place_of_kind(&bytes, "blk.0.attn_q.weight");
    for (kind, part) in [(23_u32, "IQ4_XS"), (9, "Q8_1"), (15, "Q8_K"), (39, "MXFP4"), (u32::MAX, "4294967295")] {
        let mut bytes = bytes.clone();
        bytes[place..place + 4].copy_from_slice(&kind.to_le_bytes());
        let message = refusal_of(&bytes);
        assert!([part, "blk.0.attn_q.weight", "Q4_K"].iter().all(|part| message.contains(part)), "{message}");
    }
    // Rows of 32 numbers are no blocks of 256.
    let mut bytes = bytes;
    bytes[place..place + 4].copy_from_slice(&12_u32.to_le_bytes());
    assert!(refusal_of(&bytes).contains("whole blocks of 256"));
}

#[test]
fn places_and_sizes_beyond_the_end_are_refused() {
    let whole = std::fs::read(path("llama-f16")).unwrap();
    let place = place_of_kind(&whole, "blk.0.attn_q.weight");
    for offset in [whole.len() as u64, whole.len() as u64 - 4096, u64::MAX, u64::MAX - 31] {
        let mut bytes = whole.clone();
        bytes[place + 4..place + 12].copy_from_slice(&offset.to_le_bytes());
        assert!(refusal_of(&bytes).contains("blk.0.attn_q.weight"), "{offset}");
    }
    for side in [u64::MAX, 1 << 40, 0] {
        let mut bytes = whole.clone();
        bytes[place - 8..place].copy_from_slice(&side.to_le_bytes());
        assert!(refusal_of(&bytes).contains("blk.0.attn_q.weight"), "{side}");
    }
    // A table of words as long as the metadata may claim: its numbers are not there.
    let mut bytes = whole.clone();
    let place = place_of_kind(&bytes, "token_embd.weight");
    bytes[place - 8..place].copy_from_slice(&(1_u64 << 28).to_le_bytes());
    assert!(refusal_of(&bytes).contains("token_embd.weight"));
}

#[test]
fn files_that_are_cut_off_are_refused() {
    for name in ["llama-q8_0", "bert-q5_1"] {
        let whole = std::fs::read(path(name)).unwrap();
        for end in (0..whole.len() - 32).step_by(97) {
            refusal_of(&whole[..end]);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.gguf");
    assert!(load(&absent).unwrap_err().to_string().contains("absent.gguf"));
}

#[test]
fn norms_may_be_quantized_too() {
    let mut contents = Contents::of("llama-f16");
    let norm = contents.tensors["output_norm.weight"].dequantize(&Device::Cpu).unwrap();
    contents.tensors.insert("output_norm.weight".to_owned(), QTensor::quantize(&norm, GgmlDType::Q8_0).unwrap());
    assert!(contents.load().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever bytes are changed or cut off: an error or a model, never a panic, and never memory that the file does not account for.
    #[test]
    fn damage_anywhere_is_no_panic(
        name in prop::sample::select(vec!["llama-q8_0", "llama3-f16", "qwen3-q4_0", "gemma-f16", "gpt2-f16", "bert-q5_1"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(path(name)).unwrap();
        // Most of a file are numbers, which mean nothing wrong whatever they are: the changes go to its head.
        let head = bytes.len().min(4500);
        for (place, byte) in changes {
            bytes[place.index(head)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(head));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        match load(&path) {
            Ok(encoder) => {
                let packed = paretune_features::Packed::from_sequences([&[1, 3][..], &[2]]);
                let _ = encoder.encode(&packed, None);
            }
            Err(error) => prop_assert!(error.to_string().contains("model.gguf"), "{error}"),
        }
    }
}
