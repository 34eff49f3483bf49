//! How cost grows with tokens and layers.

use std::error::Error;

use candle_core::Device;
use paretune_encoder::{Arithmetic, BertConfig, Encoder, ModelConfig, Pooling};
use paretune_features::ModelFiles;

use crate::figures::sequences;
use crate::options::{Options, median_seconds};
use crate::training::Training;

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let config = ModelConfig::read(&ModelFiles::local(&options.model)?.config)?;
    let config = config.bert().ok_or("the scaling of a BERT is measured; give the folder of one")?;
    if !options.json {
        println!(
            "{:>7}{:>8}{:>8}{:>9}{:>13}{:>13}{:>22}",
            "layers", "batch", "length", "tokens", "forward ms", "train ms", "train µs/token/layer"
        );
    }
    let depth = config.num_hidden_layers;
    let mut cases = Vec::new();
    for batch in [8, 16, 32, 64] {
        cases.push((depth, batch, 64));
    }
    for length in [16, 32, 128, 256] {
        cases.push((depth, 2048 / length, length));
    }
    for layers in [1, 2, depth.max(1) * 2] {
        cases.push((layers, 32, 64));
    }
    for (layers, batch, length) in cases {
        let config = BertConfig { num_hidden_layers: layers, ..config.clone() };
        if length > config.max_position_embeddings {
            continue;
        }
        let encoder = Encoder::random(config, Pooling::Mean, 1, &Device::Cpu)?;
        let packed = sequences(&encoder, batch, length);
        let embedder = encoder.embedder(Arithmetic::F32)?;
        let forward = median_seconds(5, || Ok(embedder.embed_packed(&packed).map(drop)?))? * 1e3;
        let mut training = Training::new(encoder)?;
        let train = median_seconds(5, || training.step(&packed).map(drop))? * 1e3;
        let tokens = packed.tokens();
        if options.json {
            let line = serde_json::json!({
                "figure": "scaling", "layers": layers, "batch": batch, "length": length, "tokens": tokens,
                "forward_ms": forward, "train_ms": train,
            });
            println!("{line}");
        } else {
            let each = train * 1e3 / (tokens * layers) as f64;
            println!("{layers:>7}{batch:>8}{length:>8}{tokens:>9}{forward:>13.1}{train:>13.1}{each:>22.2}");
        }
    }
    Ok(())
}
