//! A layer's sizes and weights, as parameters, as slices and as panels.

use candle_core::{Result, Var};

use crate::kernels::activation::Activation;
use crate::kernels::gemm::{Arithmetic, Panels, Stack};
use crate::kernels::norm::{Norm, NormKind};
use crate::kernels::slices::Floats;
use crate::parameter::{Parameter, Pass};

/// What a layer computes, apart from its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    /// Width between the two matrices of the feed-forward block.
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f32,
}

/// Number of a layer's parameters.
pub(crate) const COUNT: usize = 16;

/// The parameters of a layer in a fixed order: each weight before its bias, scales before shifts.
#[derive(Debug, Clone)]
pub(crate) struct Parameters(pub(crate) [Parameter; COUNT]);

/// Places in [`Parameters`].
pub(crate) mod place {
    pub(crate) const QUERY: usize = 0;
    pub(crate) const KEY: usize = 2;
    pub(crate) const VALUE: usize = 4;
    pub(crate) const OUT: usize = 6;
    pub(crate) const NORM: usize = 8;
    pub(crate) const WIDE: usize = 10;
    pub(crate) const NARROW: usize = 12;
    pub(crate) const LAST_NORM: usize = 14;
}

impl Parameters {
    /// Their names in a Hub file, after `encoder.layer.N.`.
    pub(crate) const NAMES: [&str; COUNT] = [
        "attention.self.query.weight",
        "attention.self.query.bias",
        "attention.self.key.weight",
        "attention.self.key.bias",
        "attention.self.value.weight",
        "attention.self.value.bias",
        "attention.output.dense.weight",
        "attention.output.dense.bias",
        "attention.output.LayerNorm.weight",
        "attention.output.LayerNorm.bias",
        "intermediate.dense.weight",
        "intermediate.dense.bias",
        "output.dense.weight",
        "output.dense.bias",
        "output.LayerNorm.weight",
        "output.LayerNorm.bias",
    ];

    /// The trained ones, as far as `pass` may be differentiated.
    pub(crate) fn trained(&self, pass: Pass) -> Vec<Var> {
        if pass.track { self.0.iter().filter_map(|parameter| parameter.var().cloned()).collect() } else { Vec::new() }
    }

    /// Whether a parameter is trained.
    pub(crate) fn is_trained(&self, place: usize) -> bool {
        self.0[place].var().is_some()
    }

    /// Calls `work` with the weights as slices.
    pub(crate) fn read<R>(&self, work: impl FnOnce(&Weights<'_>) -> R) -> Result<R> {
        let tensors = self.0.each_ref().map(|parameter| parameter.get(Pass::INFERENCE));
        let floats =
            tensors.iter().map(|tensor| Floats::of("transformer layer", tensor)).collect::<Result<Vec<_>>>()?;
        Ok(work(&Weights(std::array::from_fn(|place| &floats[place][..]))))
    }
}

/// The weights of a layer as slices, in the order of [`Parameters`].
pub(crate) struct Weights<'a>(pub(crate) [&'a [f32]; COUNT]);

impl<'a> Weights<'a> {
    /// The three matrices of queries, keys and values.
    pub(super) fn qkv(&self) -> [&'a [f32]; 3] {
        [self.0[place::QUERY], self.0[place::KEY], self.0[place::VALUE]]
    }

    pub(super) fn norm(&self, place: usize, sizes: &Sizes) -> Norm<'a> {
        Norm { scale: self.0[place], shift: Some(self.0[place + 1]), kind: NormKind::Layer, epsilon: sizes.epsilon }
    }
}

/// A layer's matrices ready for the forward pass, and its vectors.
pub(crate) struct Packed {
    pub(super) qkv: Panels,
    pub(super) out: Panels,
    pub(super) wide: Panels,
    pub(super) narrow: Panels,
    /// The biases of queries, keys and values.
    pub(super) qkv_bias: Vec<f32>,
    /// Everything else, in the order of [`Parameters`]; matrices are left empty.
    pub(super) vectors: [Vec<f32>; COUNT],
}

impl Packed {
    pub(crate) fn new(weights: &Weights<'_>, sizes: &Sizes, arithmetic: Arithmetic) -> Self {
        let panels =
            |place: usize, width: usize| Panels::transposed(Stack::new(&[weights.0[place]], width), arithmetic);
        let vector = |place: usize| match place {
            // Matrices are in the panels.
            place::QUERY | place::KEY | place::VALUE | place::OUT | place::WIDE | place::NARROW => Vec::new(),
            _ => weights.0[place].to_vec(),
        };
        Self {
            qkv: Panels::transposed(Stack::new(&weights.qkv(), sizes.hidden), arithmetic),
            out: panels(place::OUT, sizes.hidden),
            wide: panels(place::WIDE, sizes.hidden),
            narrow: panels(place::NARROW, sizes.inner),
            qkv_bias: [place::QUERY, place::KEY, place::VALUE].map(|at| weights.0[at + 1]).concat(),
            vectors: std::array::from_fn(vector),
        }
    }

    pub(super) fn norm(&self, place: usize, sizes: &Sizes) -> Norm<'_> {
        Norm {
            scale: &self.vectors[place],
            shift: Some(&self.vectors[place + 1]),
            kind: NormKind::Layer,
            epsilon: sizes.epsilon,
        }
    }
}
