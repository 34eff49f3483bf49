//! Every quantization, on a model wide enough for the blocks of 256 numbers.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use paretune_encoder::{Encoder, ModelConfig, Pooling};
use paretune_features::Packed;

use super::{BTreeMap, Contents, Value, numbers};

const KINDS: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn config() -> ModelConfig {
    let json = serde_json::json!({
        "model_type": "qwen3", "vocab_size": 48, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 64, "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
    });
    ModelConfig::from_json(json.as_object().unwrap().clone()).unwrap()
}

fn stored_name(name: &str) -> String {
    let parts = [
        ("embed_tokens", "token_embd"),
        ("layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    if name == "norm.weight" {
        return "output_norm.weight".to_owned();
    }
    parts.iter().fold(name.to_owned(), |name, (hub, own)| name.replace(hub, own))
}

fn metadata() -> BTreeMap<String, Value> {
    let number = |key: &str, value: u32| (format!("qwen3.{key}"), Value::U32(value));
    let mut metadata = BTreeMap::from([
        number("context_length", 64),
        number("embedding_length", 256),
        number("feed_forward_length", 256),
        number("block_count", 1),
        number("attention.head_count", 4),
        number("attention.head_count_kv", 2),
        number("attention.key_length", 64),
    ]);
    metadata.insert("general.architecture".to_owned(), Value::String("qwen3".to_owned()));
    metadata.insert("qwen3.rope.freq_base".to_owned(), Value::F32(1e6));
    metadata.insert("qwen3.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(1e-6));
    metadata
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn weights_are_the_dequantized_ones_to_the_bit() {
    let original = Encoder::random(config(), Pooling::LastToken, 7, &Device::Cpu).unwrap();
    let weights = original.tensors().unwrap();
    let packed = Packed::from_sequences([&[1, 17, 4, 2][..], &[3], &[9, 9, 40, 47, 5, 6]]);
    for kind in KINDS {
        let of = |tensor: &Tensor| if tensor.dims().len() == 1 { GgmlDType::F32 } else { kind };
        let quantized: BTreeMap<&String, QTensor> =
            weights.iter().map(|(name, tensor)| (name, QTensor::quantize(tensor, of(tensor)).unwrap())).collect();
        let dequantized: BTreeMap<&String, Vec<f32>> = quantized
            .iter()
            .map(|(name, tensor)| (*name, numbers(&tensor.dequantize(&Device::Cpu).unwrap())))
            .collect();
        let tensors = quantized.into_iter().map(|(name, tensor)| (stored_name(name), tensor)).collect();
        let encoder =
            Contents { metadata: metadata(), tensors }.load().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut furthest = 0.0_f64;
        for (name, tensor) in encoder.tensors().unwrap() {
            let found = numbers(&tensor);
            assert_eq!(found, dequantized[&name], "{kind:?}: {name}");
            let original = numbers(&weights[&name]);
            let off: Vec<f32> = found.iter().zip(&original).map(|(a, b)| a - b).collect();
            furthest = furthest.max(norm(&off) / norm(&original));
        }
        // The formats' own errors on normally distributed weights.
        let bound = match kind {
            GgmlDType::F32 => 0.0,
            GgmlDType::F16 | GgmlDType::BF16 => 0.003,
            GgmlDType::Q8_0 => 0.01,
            GgmlDType::Q6K => 0.03,
            GgmlDType::Q5_0 | GgmlDType::Q5_1 | GgmlDType::Q5K => 0.06,
            GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q4K => 0.12,
            GgmlDType::Q3K => 0.25,
            _ => 0.5,
        };
        assert!(furthest <= bound, "{kind:?}: weights are off by {furthest} of their size");
        let vectors = numbers(&encoder.encode(&packed, None).unwrap());
        assert!(vectors.iter().all(|value| value.is_finite()), "{kind:?}");
        if kind == GgmlDType::F32 {
            assert_eq!(vectors, numbers(&original.encode(&packed, None).unwrap()));
        }
    }
}
