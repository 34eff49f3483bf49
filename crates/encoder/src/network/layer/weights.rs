//! A layer's sizes, and its weights as slices and as panels.

use std::sync::Arc;

use super::LINEARS;
use super::adapted::LowRank;
use super::parameters::{Linear, NormAt, Parameters, Places};
use crate::family::Architecture;
use crate::kernels::activation::Activation;
use crate::kernels::attention::Relative;
use crate::kernels::gemm::{Arithmetic, Panels, Stack};
use crate::kernels::head_norm::HeadNorm;
use crate::kernels::norm::{Norm, NormKind};
use crate::kernels::rotary::Rotary;
use crate::network::distance::Distances;

/// What a layer computes, apart from its weights.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    /// Width between the two matrices of the feed-forward block.
    pub(crate) inner: usize,
    /// Heads of queries.
    pub(crate) heads: usize,
    /// Heads of keys and of values.
    pub(crate) key_heads: usize,
    /// Width of a head.
    pub(crate) head_width: usize,
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
    pub(crate) norm: NormKind,
    pub(crate) scales_less_one: bool,
    pub(crate) epsilon: f32,
    pub(crate) causal: bool,
    pub(crate) window: Option<usize>,
    pub(crate) rotary: Option<Arc<Rotary>>,
    pub(crate) distances: Option<Arc<Distances>>,
}

impl Sizes {
    /// Those of layer `layer`, with its rotation and its buckets of distances.
    pub(crate) fn new(
        architecture: &Architecture,
        layer: usize,
        rotary: Option<Arc<Rotary>>,
        distances: Option<Arc<Distances>>,
    ) -> Self {
        Self {
            hidden: architecture.hidden,
            inner: architecture.inner,
            heads: architecture.heads,
            key_heads: architecture.key_heads,
            head_width: architecture.head_width,
            activation: architecture.activation,
            gated: architecture.gated,
            norm: architecture.norm,
            scales_less_one: architecture.scales_less_one,
            epsilon: architecture.epsilon as f32,
            causal: architecture.causal,
            window: architecture.windows.get(layer).copied().flatten(),
            rotary,
            distances,
        }
    }

    /// Width of queries of all heads together, and of the attention's result.
    pub(crate) fn queries(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of queries, keys and values of a token together.
    pub(crate) fn qkv(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head_width
    }

    /// Width of what the first matrices of the feed-forward block give.
    pub(crate) fn wide(&self) -> usize {
        if self.gated { 2 * self.inner } else { self.inner }
    }

    /// Factor of attention scores.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }
}

/// The weights of a layer as slices, in the order of [`Parameters`].
pub(crate) struct Weights<'a> {
    plain: Vec<&'a [f32]>,
    /// Those which an adapter or the family's habits change.
    changed: Vec<Option<Vec<f32>>>,
    pub(super) parameters: &'a Parameters,
    /// Whether adapters that drop inputs stand beside the matrices rather than in them.
    pub(super) drops: bool,
}

impl<'a> Weights<'a> {
    pub(super) fn new(plain: Vec<&'a [f32]>, parameters: &'a Parameters, sizes: &Sizes, drops: bool) -> Self {
        let mut changed = vec![None; plain.len()];
        let places = &parameters.places;
        for linear in places.linears() {
            let Some(adapter) = &parameters.adapters[linear.number] else { continue };
            if drops && adapter.drops() {
                continue;
            }
            let (weight, bias) = adapter.merge(linear, &plain);
            changed[linear.weight] = Some(weight);
            if let (Some(place), Some(bias)) = (linear.bias, bias) {
                changed[place] = Some(bias);
            }
        }
        if sizes.scales_less_one {
            let norms = places.entry.iter().chain([&places.middle]).chain(&places.last).map(|norm| norm.scale);
            for scale in norms.chain(places.heads.into_iter().flatten()) {
                changed[scale] = Some(plain[scale].iter().map(|scale| 1.0 + scale).collect());
            }
        }
        Self { plain, changed, parameters, drops }
    }

    /// The weights as they are used.
    pub(crate) fn of(&self, place: usize) -> &[f32] {
        self.changed[place].as_deref().unwrap_or(self.plain[place])
    }

    /// The weights as they are stored.
    pub(crate) fn plain(&self, place: usize) -> &'a [f32] {
        self.plain[place]
    }

    /// The matrices of linear layers.
    pub(super) fn matrices(&self, linears: &[Linear]) -> Vec<&[f32]> {
        linears.iter().map(|linear| self.of(linear.weight)).collect()
    }

    pub(super) fn norm(&self, at: NormAt, sizes: &Sizes) -> Norm<'_> {
        Norm {
            scale: self.of(at.scale),
            shift: at.shift.map(|shift| self.of(shift)),
            kind: sizes.norm,
            epsilon: sizes.epsilon,
        }
    }

    pub(super) fn head_norm(&self, sizes: &Sizes) -> Option<HeadNorm<'_>> {
        let [query, key] = self.parameters.places.heads?;
        Some(head_norm(self.of(query), self.of(key), sizes))
    }

    pub(super) fn relative<'b>(&'b self, sizes: &'b Sizes) -> Option<Relative<'b>> {
        Some(sizes.distances.as_ref()?.relative(self.of(self.parameters.places.relative?)))
    }

    pub(super) fn adapter(&self, linear: &Linear) -> Option<&super::Adapter> {
        self.parameters.adapters[linear.number].as_ref()
    }

    /// The adapter of a linear layer, if it stands beside the matrix.
    pub(super) fn beside(&self, linear: &Linear) -> Option<&super::Adapter> {
        self.adapter(linear).filter(|adapter| self.drops && adapter.drops())
    }
}

fn head_norm<'a>(query: &'a [f32], key: &'a [f32], sizes: &Sizes) -> HeadNorm<'a> {
    let (heads, key_heads, width) = (sizes.heads, sizes.key_heads, sizes.head_width);
    HeadNorm { query, key, epsilon: sizes.epsilon, heads, key_heads, width }
}

/// Linear layers side by side, ready for the forward pass: `[tokens, in]` to `[tokens, Σ out]`.
pub(crate) struct Side {
    pub(super) panels: Panels,
    /// Of all of them, or empty.
    pub(super) bias: Vec<f32>,
    /// What is not merged, with the number of the layer.
    pub(super) beside: Vec<(usize, LowRank)>,
}

impl Side {
    fn new(linears: &[Linear], weights: &Weights<'_>, arithmetic: Arithmetic) -> Self {
        let inputs = linears[0].inputs;
        let panels = Panels::transposed(Stack::new(&weights.matrices(linears), inputs), arithmetic);
        let biases = linears.iter().filter_map(|linear| linear.bias);
        let bias = biases.flat_map(|bias| weights.of(bias).iter().copied()).collect();
        let mut column = 0;
        let mut beside = Vec::new();
        for linear in linears {
            let low = weights.beside(linear).and_then(|adapter| LowRank::new(linear, weights, adapter, column));
            beside.extend(low.map(|low| (linear.number, low)));
            column += linear.outputs;
        }
        Self { panels, bias, beside }
    }
}

/// The vectors of a norm.
pub(crate) struct NormVectors {
    scale: Vec<f32>,
    shift: Option<Vec<f32>>,
}

impl NormVectors {
    fn new(at: NormAt, weights: &Weights<'_>) -> Self {
        Self { scale: weights.of(at.scale).to_vec(), shift: at.shift.map(|shift| weights.of(shift).to_vec()) }
    }

    pub(super) fn norm(&self, sizes: &Sizes) -> Norm<'_> {
        Norm { scale: &self.scale, shift: self.shift.as_deref(), kind: sizes.norm, epsilon: sizes.epsilon }
    }
}

/// A layer's matrices ready for the forward pass, and its vectors.
pub(crate) struct Packed {
    pub(super) qkv: Side,
    pub(super) out: Side,
    pub(super) wide: Side,
    pub(super) narrow: Side,
    pub(super) entry: Option<NormVectors>,
    pub(super) middle: NormVectors,
    pub(super) last: Option<NormVectors>,
    heads: Option<[Vec<f32>; 2]>,
    relative: Option<Vec<f32>>,
}

impl Packed {
    pub(crate) fn new(weights: &Weights<'_>, arithmetic: Arithmetic) -> Self {
        let places: &Places = &weights.parameters.places;
        debug_assert!(places.linears().count() <= LINEARS, "numbers of linear layers name their dropout");
        let side = |linears: &[Linear]| Side::new(linears, weights, arithmetic);
        let norm = |at: NormAt| NormVectors::new(at, weights);
        Self {
            qkv: side(&places.qkv),
            out: side(&[places.out]),
            wide: side(&places.wide),
            narrow: side(&[places.narrow]),
            entry: places.entry.map(norm),
            middle: norm(places.middle),
            last: places.last.map(norm),
            heads: places.heads.map(|both| both.map(|scales| weights.of(scales).to_vec())),
            relative: places.relative.map(|table| weights.of(table).to_vec()),
        }
    }

    pub(super) fn head_norm(&self, sizes: &Sizes) -> Option<HeadNorm<'_>> {
        self.heads.as_ref().map(|[query, key]| head_norm(query, key, sizes))
    }

    pub(super) fn relative<'a>(&'a self, sizes: &'a Sizes) -> Option<Relative<'a>> {
        Some(sizes.distances.as_ref()?.relative(self.relative.as_deref()?))
    }
}
