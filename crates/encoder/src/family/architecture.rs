//! What every supported transformer is made of, whatever its family calls the parts.

use crate::kernels::activation::Activation;
use crate::kernels::norm::NormKind;
use crate::kernels::rotary::Scaling;

use super::MOST_LAYERS;

/// Where a layer normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// What a block gives and its input, added up: BERT and its kin.
    After,
    /// The input of a block, whose result is added to a stream that is normalized after the last layer.
    Before,
}

/// Probabilities with which training drops elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    pub(crate) embeddings: f64,
    pub(crate) attention: f64,
    /// Results of attention and feed-forward blocks.
    pub(crate) hidden: f64,
}

/// A rotation of queries and keys by their position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotation {
    pub(crate) theta: f32,
    pub(crate) scaling: Scaling,
}

/// A learned bias of attention scores by bucketed distance, shared by all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RelativePositions {
    /// Rows of the table.
    pub(crate) rows: usize,
    pub(crate) buckets: usize,
    /// Distances from here on share the last bucket.
    pub(crate) farthest: usize,
}

/// The stems of a norm's tensors and whether it has a shift (`STEM.bias`).
pub(crate) type NormStems = (&'static str, bool);

/// What a family's `config.json` calls its numbers, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) hidden: &'static str,
    pub(crate) inner: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) epsilon: &'static str,
    /// Dropout of embeddings, of attention and of hidden vectors.
    pub(crate) dropout: [&'static str; 3],
}

impl Fields {
    /// Those of BERT, which many families took over.
    pub(crate) const BERT: Self = Self {
        hidden: "hidden_size",
        inner: "intermediate_size",
        layers: "num_hidden_layers",
        heads: "num_attention_heads",
        positions: "max_position_embeddings",
        epsilon: "layer_norm_eps",
        dropout: ["hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout_prob"],
    };
}

/// What a family calls its tensors: stems, after which come `.weight` and `.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) fields: Fields,
    /// What models with a head put before every name.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) words: &'static str,
    pub(crate) positions: Option<&'static str>,
    pub(crate) segments: Option<&'static str>,
    pub(crate) embedding_norm: Option<NormStems>,
    pub(crate) relative: Option<&'static str>,
    /// What stands before the number of a layer, `encoder.layer` or the like.
    pub(crate) layers: &'static str,
    /// One matrix for queries, keys and values, or one for each.
    pub(crate) qkv: &'static [&'static str],
    pub(crate) out: &'static str,
    /// One matrix, or the one that goes through the activation and the gate.
    pub(crate) wide: &'static [&'static str],
    pub(crate) narrow: &'static str,
    pub(crate) attention_norm: NormStems,
    pub(crate) feed_forward_norm: NormStems,
    /// Norms of each head of queries and of keys.
    pub(crate) head_norms: Option<[&'static str; 2]>,
    pub(crate) final_norm: Option<NormStems>,
    /// Tensors of other parts that are kept for other tools.
    pub(crate) kept: &'static [&'static str],
}

impl Names {
    /// The name in a model without a head: heads for other tasks put something before it, and conversions of the first checkpoints
    /// wrote `gamma` and `beta` in layer norms.
    pub(crate) fn hub_name(&self, name: &str) -> String {
        let name = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        match name.rsplit_once("LayerNorm.") {
            Some((path, "gamma")) => format!("{path}LayerNorm.weight"),
            Some((path, "beta")) => format!("{path}LayerNorm.bias"),
            _ => name.to_owned(),
        }
    }
}

/// A transformer on packed tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) names: Names,
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    /// Width between the two matrices of a feed-forward block.
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    /// Heads of queries.
    pub(crate) heads: usize,
    /// Heads of keys and of values.
    pub(crate) key_heads: usize,
    /// Width of one head.
    pub(crate) head_width: usize,
    pub(crate) order: Order,
    pub(crate) norm: NormKind,
    /// Whether scales of norms are stored less one.
    pub(crate) scales_less_one: bool,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    /// Whether the feed-forward block multiplies its activations with a gate.
    pub(crate) gated: bool,
    pub(crate) causal: bool,
    /// How far tokens see, by layer; all of the sequence where there is none.
    pub(crate) windows: Vec<Option<usize>>,
    /// The rotation of each layer.
    pub(crate) rotations: Vec<Option<Rotation>>,
    pub(crate) relative: Option<RelativePositions>,
    /// Rows of the position table and of the segment table.
    pub(crate) position_rows: usize,
    pub(crate) segment_rows: usize,
    /// Row of the first position.
    pub(crate) first_position: usize,
    /// The longest sequence.
    pub(crate) longest: usize,
    /// Factor of the word embeddings.
    pub(crate) embedding_scale: f32,
    /// Whether the first layer lacks its norm of the attention's input, because embeddings are normalized already.
    pub(crate) first_norm_missing: bool,
    /// Whether matrices are stored as `[in, out]`.
    pub(crate) transposed: bool,
    pub(crate) qkv_bias: bool,
    pub(crate) out_bias: bool,
    pub(crate) feed_forward_bias: bool,
    pub(crate) dropout: Dropout,
}

impl Architecture {
    /// What BERT and its kin have in common, with the number of heads and the width of one; sizes are to be filled in.
    pub(super) fn post_norm(names: Names, (heads, head_width): (usize, usize)) -> Self {
        Self {
            names,
            vocabulary: 0,
            hidden: heads.saturating_mul(head_width),
            inner: 0,
            layers: 0,
            heads,
            key_heads: heads,
            head_width,
            order: Order::After,
            norm: NormKind::Layer,
            scales_less_one: false,
            epsilon: 0.0,
            activation: Activation::Gelu,
            gated: false,
            causal: false,
            windows: Vec::new(),
            rotations: Vec::new(),
            relative: None,
            position_rows: 0,
            segment_rows: 0,
            first_position: 0,
            longest: 0,
            embedding_scale: 1.0,
            first_norm_missing: false,
            transposed: false,
            qkv_bias: true,
            out_bias: true,
            feed_forward_bias: true,
            dropout: Dropout { embeddings: 0.0, attention: 0.0, hidden: 0.0 },
        }
    }

    /// Width of queries, keys and values of a token together.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head_width
    }

    /// Whether a model of these sizes can be built; if not, why.
    pub(super) fn check(&self) -> Result<(), String> {
        let fields = self.names.fields;
        let sizes = [
            ("vocab_size", self.vocabulary),
            (fields.hidden, self.hidden),
            (fields.heads, self.heads),
            ("num_key_value_heads", self.key_heads),
            ("head_dim", self.head_width),
            (fields.inner, self.inner),
            (fields.positions, self.longest),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 28) {
            let reason = if *size == 0 { "is too small; it must be positive" } else { "is more than any model has" };
            return Err(format!("{name} {reason} (found {size})"));
        }
        if self.layers > MOST_LAYERS {
            return Err(format!("{} is {}; at most {MOST_LAYERS} are supported", fields.layers, self.layers));
        }
        if !self.heads.is_multiple_of(self.key_heads) {
            return Err(format!(
                "{} heads of queries cannot share {} heads of keys evenly",
                self.heads, self.key_heads
            ));
        }
        if self.rotations.iter().any(Option::is_some) && !self.head_width.is_multiple_of(2) {
            return Err(format!("heads of width {} cannot be rotated; it must be even", self.head_width));
        }
        let theta = |rotation: &Rotation| rotation.theta.is_finite() && rotation.theta > 0.0;
        if let Some(rotation) = self.rotations.iter().flatten().find(|rotation| !theta(rotation)) {
            return Err(format!("the base of the rotation is {}; it must be positive", rotation.theta));
        }
        let wrong = |rotation: &Rotation| match &rotation.scaling {
            Scaling::Factors(factors) => 2 * factors.len() != self.head_width,
            _ => false,
        };
        if self.rotations.iter().flatten().any(wrong) {
            let pairs = self.head_width / 2;
            return Err(format!(
                "the rotation needs {pairs} factors of frequencies, one for each pair of a head's numbers"
            ));
        }
        let rates =
            fields.dropout.into_iter().zip([self.dropout.embeddings, self.dropout.attention, self.dropout.hidden]);
        if let Some((name, rate)) = rates.into_iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            return Err(format!("{name} is {rate}; it must be at least 0 and below 1"));
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(format!("{} is {}; it must be positive", fields.epsilon, self.epsilon));
        }
        Ok(())
    }

    /// Hub names and shapes of all tensors as they lie in memory, matrices as `[out, in]`, in the order of the network.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (names, hidden) = (&self.names, self.hidden);
        let mut all = vec![(format!("{}.weight", names.words), vec![self.vocabulary, hidden])];
        let tables = [(names.positions, self.position_rows), (names.segments, self.segment_rows)];
        let tables = tables.into_iter().filter_map(|(stem, rows)| Some((stem?, rows)));
        all.extend(tables.map(|(stem, rows)| (format!("{stem}.weight"), vec![rows, hidden])));
        let norm = |all: &mut Vec<_>, prefix: &str, (stem, shift): NormStems| {
            all.push((format!("{prefix}{stem}.weight"), vec![hidden]));
            if shift {
                all.push((format!("{prefix}{stem}.bias"), vec![hidden]));
            }
        };
        if let Some(stems) = names.embedding_norm {
            norm(&mut all, "", stems);
        }
        if let (Some(stem), Some(relative)) = (names.relative, self.relative) {
            all.push((format!("{stem}.weight"), vec![relative.rows, self.heads]));
        }
        let queries = self.heads * self.head_width;
        let keys = self.key_heads * self.head_width;
        let wide = if self.gated { 2 * self.inner } else { self.inner };
        for layer in 0..self.layers {
            let prefix = format!("{}.{layer}.", names.layers);
            let linear = |all: &mut Vec<_>, stem: &str, outputs: usize, inputs: usize, bias: bool| {
                all.push((format!("{prefix}{stem}.weight"), vec![outputs, inputs]));
                if bias {
                    all.push((format!("{prefix}{stem}.bias"), vec![outputs]));
                }
            };
            match names.qkv {
                [one] => linear(&mut all, one, self.qkv_width(), hidden, self.qkv_bias),
                parts => {
                    for (stem, outputs) in parts.iter().zip([queries, keys, keys]) {
                        linear(&mut all, stem, outputs, hidden, self.qkv_bias);
                    }
                }
            }
            linear(&mut all, names.out, hidden, queries, self.out_bias);
            for stem in names.wide {
                linear(&mut all, stem, wide / names.wide.len(), hidden, self.feed_forward_bias);
            }
            linear(&mut all, names.narrow, hidden, self.inner, self.feed_forward_bias);
            if layer > 0 || !self.first_norm_missing {
                norm(&mut all, &prefix, names.attention_norm);
            }
            norm(&mut all, &prefix, names.feed_forward_norm);
            for stem in names.head_norms.iter().flatten() {
                all.push((format!("{prefix}{stem}.weight"), vec![self.head_width]));
            }
        }
        if let Some(stems) = names.final_norm {
            norm(&mut all, "", stems);
        }
        all
    }

    /// The number of the transformer layer that a tensor belongs to.
    pub(crate) fn layer_of(&self, name: &str) -> Option<usize> {
        name.strip_prefix(self.names.layers)?.strip_prefix('.')?.split('.').next()?.parse().ok()
    }

    /// Whether the file stores the tensor of this name and shape with its axes swapped.
    pub(crate) fn is_transposed(&self, name: &str, shape: &[usize]) -> bool {
        self.transposed && shape.len() == 2 && self.layer_of(name).is_some()
    }
}
