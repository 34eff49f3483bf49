//! Transformers over vectors with learned positions:
//!
//! ```text
//! y   = dropout(norm(x + position))
//! out = layers(y), or norm(layers(y)) where layers normalize before their blocks
//! ```

mod composed;
mod entry;

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

use super::blank::{Blank, Start};
use super::config::{SequenceConfig, SequenceKind};
use crate::kernels::norm::{NormKind, layer_norm};
use crate::network::composed::{layer as composed_layer, norm};
use crate::network::layer::{Linear, Masks, NormAt, PLACES, Parameters, Places, Sizes, layer};
use crate::parameter::{Parameter, Pass};
use entry::Entry;

/// Of all norms, as in PyTorch.
const EPSILON: f64 = 1e-5;
/// Deviation of matrices and positions at the start.
const DEVIATION: f64 = 0.02;
/// Parameters before the first layer, of a layer, and after the last one.
const ENTRY: usize = 3;
const LAYER: usize = 12;

/// The parameters in their order.
pub(super) fn blanks(config: &SequenceConfig) -> Vec<Blank> {
    let (width, inner) = (config.width, config.inner);
    let drawn = |name: String, shape: &[usize]| Blank::new(name, shape, Start::Normal(DEVIATION));
    let filled = |name: String, size: usize, value: f32| Blank::new(name, &[size], Start::Constant(value));
    let norm =
        |stem: String| [filled(format!("{stem}.weight"), width, 1.0), filled(format!("{stem}.bias"), width, 0.0)];
    let mut all = vec![drawn("position_embedding.weight".to_owned(), &[config.longest, width])];
    all.extend(norm("embedding_norm".to_owned()));
    for layer in 0..config.layers {
        let name = |stem: &str| format!("layers.{layer}.{stem}");
        all.extend([
            drawn(name("self_attn.in_proj_weight"), &[3 * width, width]),
            filled(name("self_attn.in_proj_bias"), 3 * width, 0.0),
            drawn(name("self_attn.out_proj.weight"), &[width, width]),
            filled(name("self_attn.out_proj.bias"), width, 0.0),
            drawn(name("linear1.weight"), &[inner, width]),
            filled(name("linear1.bias"), inner, 0.0),
            drawn(name("linear2.weight"), &[width, inner]),
            filled(name("linear2.bias"), width, 0.0),
        ]);
        all.extend(norm(name("norm1")));
        all.extend(norm(name("norm2")));
    }
    if config.pre_norm {
        all.extend(norm("norm".to_owned()));
    }
    all
}

/// The network of one configuration.
#[derive(Debug, Clone)]
pub(super) struct Transformer {
    entry: Entry,
    layers: Vec<Parameters>,
    sizes: Sizes,
    /// Scale and shift of the norm after the last layer.
    last: Option<[Var; 2]>,
    dropout: f64,
}

/// One layer of the parameters that [`blanks`] lists for it.
fn parameters(config: &SequenceConfig, vars: &[Var]) -> Parameters {
    let (width, inner) = (config.width, config.inner);
    let linear = |number: usize, inputs: usize, outputs: usize| Linear {
        number,
        weight: 2 * number,
        bias: Some(2 * number + 1),
        inputs,
        outputs,
    };
    let norm = |scale: usize| NormAt { scale, shift: Some(scale + 1) };
    // The first norm of a layer is that of its attention block.
    let (entry, middle, last) = match config.pre_norm {
        true => (Some(norm(8)), norm(10), None),
        false => (None, norm(8), Some(norm(10))),
    };
    let places = Places {
        qkv: vec![linear(0, width, 3 * width)],
        out: linear(1, width, width),
        wide: vec![linear(2, width, inner)],
        narrow: linear(3, inner, width),
        entry,
        middle,
        last,
        heads: None,
        relative: None,
    };
    Parameters {
        all: vars.iter().cloned().map(Parameter::Trained).collect(),
        adapters: vec![None; places.linears().count()],
        places: Arc::new(places),
        // Names are for adapters, of which there are none here.
        stems: Vec::new().into(),
    }
}

impl Transformer {
    /// The network of the parameters that [`blanks`] lists.
    pub(super) fn new(config: &SequenceConfig, vars: &[Var]) -> Self {
        let layers = vars[ENTRY..].chunks_exact(LAYER).take(config.layers);
        let sizes = Sizes {
            hidden: config.width,
            inner: config.inner,
            heads: config.heads,
            key_heads: config.heads,
            head_width: config.width / config.heads,
            activation: config.activation.kernel(),
            gated: false,
            norm: NormKind::Layer,
            scales_less_one: false,
            epsilon: EPSILON as f32,
            causal: config.kind == SequenceKind::Causal,
            window: None,
            rotary: None,
            distances: None,
        };
        let last = match (config.pre_norm, vars) {
            (true, [.., scale, shift]) => Some([scale.clone(), shift.clone()]),
            _ => None,
        };
        Self {
            entry: Entry::new([&vars[0], &vars[1], &vars[2]]),
            layers: layers.map(|vars| parameters(config, vars)).collect(),
            sizes,
            last,
            dropout: config.dropout,
        }
    }

    /// `[T, width]` to `[T, width]`, with at least one row; the offsets have been checked.
    pub(super) fn forward(&self, x: &Tensor, offsets: &[u32], pass: Pass) -> Result<Tensor> {
        let offsets: Arc<[u32]> = offsets.into();
        let fused = pass.kernels.fused_on(x.device());
        let mask = pass.mask(self.dropout, 0)?;
        let mut x = match fused {
            true => entry::forward(x, &self.entry, &offsets, mask)?,
            false => composed::entry(x, &self.entry, &offsets, mask)?,
        };
        for (number, parameters) in self.layers.iter().enumerate() {
            let place = 1 + PLACES * number as u64;
            let mask = |at: u64| pass.mask(self.dropout, place + at);
            let masks = Masks { blocks: [mask(0)?, mask(1)?, mask(2)?], ..Masks::default() };
            x = match fused {
                true => layer(&x, parameters, &self.sizes, &offsets, masks, pass)?,
                false => composed_layer(&x, parameters, &self.sizes, &offsets, masks, pass)?,
            };
        }
        match &self.last {
            Some([scale, shift]) if fused => layer_norm(&x, scale, Some(shift.as_tensor()), EPSILON),
            Some([scale, shift]) => norm(&x, scale, Some(shift.as_tensor()), EPSILON),
            None => Ok(x),
        }
    }
}
