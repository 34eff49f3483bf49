//! What is measured of each family: a `config.json` in the sizes of a model that people use, or smaller.

use serde_json::{Value, json};

/// A family and the sizes that stand for it.
pub(super) struct Shape {
    pub(super) family: &'static str,
    /// What has these sizes.
    pub(super) name: &'static str,
    pub(super) config: Value,
}

/// Every family, in the order of the table.
pub(super) fn all() -> Vec<Shape> {
    let bert =
        json!({ "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072 });
    let bert = |vocabulary: usize, positions: usize, more: Value| {
        merged(&[&bert, &json!({ "vocab_size": vocabulary, "max_position_embeddings": positions }), &more])
    };
    let roberta = json!({ "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1 });
    // As deep and wide as gpt2 and bert-base, with the parts of larger models.
    let decoder = |more: Value| {
        let sizes = json!({
            "vocab_size": 32_000, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 4,
            "head_dim": 64, "intermediate_size": 2048, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
            "rope_parameters": { "rope_type": "default", "rope_theta": 10_000.0 },
        });
        merged(&[&sizes, &more])
    };
    let wide = json!({ "rope_type": "default", "rope_theta": 1e6 });
    let shapes = [
        ("bert", "bert-base", bert(30_522, 512, json!({}))),
        ("roberta", "roberta-base", bert(50_265, 514, roberta.clone())),
        ("xlm-roberta", "xlm-roberta-base, 50,000 of its 250,002 tokens", bert(50_000, 514, roberta.clone())),
        ("camembert", "camembert-base", bert(32_005, 514, roberta)),
        (
            "distilbert",
            "distilbert-base",
            json!({ "vocab_size": 30_522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072 }),
        ),
        ("mpnet", "mpnet-base", bert(30_527, 514, json!({ "layer_norm_eps": 1e-5, "pad_token_id": 1 }))),
        (
            "modernbert",
            "ModernBERT-base",
            json!({ "vocab_size": 50_368, "hidden_size": 768, "num_hidden_layers": 22,
            "num_attention_heads": 12, "intermediate_size": 1152 }),
        ),
        (
            "gpt2",
            "gpt2",
            json!({ "vocab_size": 50_257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024 }),
        ),
        ("llama", "12 layers of width 768, 12 heads on 4", decoder(json!({}))),
        ("mistral", "the same with a window of 32", decoder(json!({ "sliding_window": 32 }))),
        (
            "qwen2",
            "Qwen2-0.5B, 8 of its 24 layers",
            decoder(json!({ "vocab_size": 151_936, "hidden_size": 896, "num_hidden_layers": 8,
            "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "rope_parameters": wide })),
        ),
        (
            "qwen3",
            "Qwen3-0.6B, 8 of its 28 layers",
            decoder(json!({ "vocab_size": 151_936, "hidden_size": 1024, "num_hidden_layers": 8,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "rope_parameters": wide })),
        ),
        (
            "gemma",
            "12 layers of width 768, 3 heads of 256 on 1",
            decoder(json!({ "num_attention_heads": 3, "num_key_value_heads": 1,
            "head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh" })),
        ),
    ];
    let shape = |(family, name, config): (&'static str, &'static str, Value)| {
        // No token pads or ends a text here: all are ordinary ones.
        let own = json!({ "model_type": family, "bos_token_id": null, "eos_token_id": null });
        let own =
            if config.get("pad_token_id").is_some() { own } else { merged(&[&own, &json!({ "pad_token_id": null })]) };
        Shape { family, name, config: merged(&[&config, &own]) }
    };
    shapes.into_iter().map(shape).collect()
}

impl Shape {
    /// Leaves at most so many layers.
    pub(super) fn cut(&mut self, layers: u64) {
        for field in ["num_hidden_layers", "n_layer", "n_layers"] {
            if let Some(value) = self.config.get_mut(field)
                && value.as_u64().is_some_and(|all| all > layers)
            {
                *value = json!(layers);
            }
        }
    }
}

/// Fields of all, the later ones before the earlier.
fn merged(objects: &[&Value]) -> Value {
    Value::Object(objects.iter().filter_map(|value| value.as_object().cloned()).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_cut_whatever_their_field_is_called() {
        for mut shape in all() {
            shape.cut(3);
            let depth =
                ["num_hidden_layers", "n_layer", "n_layers"].into_iter().find_map(|field| shape.config.get(field));
            assert_eq!(depth, Some(&json!(3)), "{}", shape.family);
            assert_eq!(shape.config["model_type"], shape.family);
        }
    }
}
