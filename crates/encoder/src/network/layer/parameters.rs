//! The parameters of a layer, and which of them do what.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Result, Var, bail};

use super::adapted::Adapter;
use super::weights::{Sizes, Weights};
use crate::family::{Architecture, NormStems, Order};
use crate::kernels::slices::Floats;
use crate::parameter::{Parameter, Pass};

/// Where a linear layer's parameters stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    /// Its number within the layer, which names its dropout.
    pub(crate) number: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// Where a norm's parameters stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormAt {
    pub(crate) scale: usize,
    pub(crate) shift: Option<usize>,
}

/// Where each part of the layer has its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// One matrix for queries, keys and values, or one for each.
    pub(crate) qkv: Vec<Linear>,
    pub(crate) out: Linear,
    /// One matrix, or one for the activation and one for the gate.
    pub(crate) wide: Vec<Linear>,
    pub(crate) narrow: Linear,
    /// Of the attention's input, in layers that normalize before.
    pub(crate) entry: Option<NormAt>,
    /// Of the feed-forward block's input.
    pub(crate) middle: NormAt,
    /// Of the result, in layers that normalize after.
    pub(crate) last: Option<NormAt>,
    /// Scales of the norms of each head of queries and of keys.
    pub(crate) heads: Option<[usize; 2]>,
    /// `[buckets, heads]` bias of attention by distance.
    pub(crate) relative: Option<usize>,
}

impl Places {
    /// All linear layers in the order of their numbers.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.qkv.iter().chain([&self.out]).chain(&self.wide).chain([&self.narrow])
    }
}

/// The parameters of a layer, those of its adapters included.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) all: Vec<Parameter>,
    pub(crate) places: Arc<Places>,
    /// What changes each linear layer, by its number.
    pub(crate) adapters: Vec<Option<Adapter>>,
    /// Stems of the linear layers' Hub names, by number.
    pub(crate) stems: Arc<[String]>,
}

impl Parameters {
    /// Layer `layer` of a network from the network's parameters by name.
    pub(crate) fn new(architecture: &Architecture, layer: usize, named: &BTreeMap<String, Parameter>) -> Result<Self> {
        let names = &architecture.names;
        let prefix = format!("{}.{layer}.", names.layers);
        let mut all = Vec::new();
        let mut take = |name: String| match named.get(&name) {
            Some(parameter) => {
                all.push(parameter.clone());
                Ok(all.len() - 1)
            }
            None => bail!("no tensor `{name}`"),
        };
        let mut stems: Vec<String> = Vec::new();
        let mut linear = |take: &mut dyn FnMut(String) -> Result<usize>, stem: &str, outputs, inputs, bias: bool| {
            let number = stems.len();
            stems.push(format!("{prefix}{stem}"));
            let weight = take(format!("{prefix}{stem}.weight"))?;
            let bias = if bias { Some(take(format!("{prefix}{stem}.bias"))?) } else { None };
            Ok::<_, candle_core::Error>(Linear { number, weight, bias, inputs, outputs })
        };
        let (hidden, inner) = (architecture.hidden, architecture.inner);
        let queries = architecture.heads * architecture.head_width;
        let keys = architecture.key_heads * architecture.head_width;
        let widths = match names.qkv {
            [_] => vec![architecture.qkv_width()],
            _ => vec![queries, keys, keys],
        };
        let qkv = names.qkv.iter().zip(widths);
        let qkv = qkv.map(|(stem, outputs)| linear(&mut take, stem, outputs, hidden, architecture.qkv_bias));
        let qkv = qkv.collect::<Result<Vec<_>>>()?;
        let out = linear(&mut take, names.out, hidden, queries, architecture.out_bias)?;
        let total = if architecture.gated { 2 * inner } else { inner };
        let feed_bias = architecture.feed_forward_bias;
        let wide = names.wide.iter();
        let wide = wide.map(|stem| linear(&mut take, stem, total / names.wide.len(), hidden, feed_bias));
        let wide = wide.collect::<Result<Vec<_>>>()?;
        let narrow = linear(&mut take, names.narrow, hidden, inner, feed_bias)?;
        let mut norm = |(stem, shift): NormStems| {
            let scale = take(format!("{prefix}{stem}.weight"))?;
            let shift = if shift { Some(take(format!("{prefix}{stem}.bias"))?) } else { None };
            Ok::<_, candle_core::Error>(NormAt { scale, shift })
        };
        let attention = match layer == 0 && architecture.first_norm_missing {
            true => None,
            false => Some(norm(names.attention_norm)?),
        };
        let feed = norm(names.feed_forward_norm)?;
        let (entry, middle, last) = match (architecture.order, attention) {
            (Order::Before, entry) => (entry, feed, None),
            (Order::After, Some(middle)) => (None, middle, Some(feed)),
            (Order::After, None) => bail!("a layer that normalizes after its blocks needs both norms"),
        };
        let heads = match names.head_norms {
            Some([query, key]) => {
                Some([take(format!("{prefix}{query}.weight"))?, take(format!("{prefix}{key}.weight"))?])
            }
            None => None,
        };
        let relative = match (names.relative, architecture.relative) {
            (Some(stem), Some(_)) => Some(take(format!("{stem}.weight"))?),
            _ => None,
        };
        let places = Places { qkv, out, wide, narrow, entry, middle, last, heads, relative };
        let adapters = vec![None; stems.len()];
        Ok(Self { all, places: Arc::new(places), adapters, stems: stems.into() })
    }

    /// The trained ones, as far as `pass` may be differentiated.
    pub(crate) fn trained(&self, pass: Pass) -> Vec<Var> {
        if pass.track { self.all.iter().filter_map(|parameter| parameter.var().cloned()).collect() } else { Vec::new() }
    }

    /// Whether a parameter is trained.
    pub(crate) fn is_trained(&self, place: usize) -> bool {
        self.all[place].var().is_some()
    }

    /// Calls `work` with all numbers.
    pub(crate) fn each(&self, mut work: impl FnMut(&[f32])) -> Result<()> {
        self.all.iter().try_for_each(|parameter| {
            work(&Floats::of("transformer layer", &parameter.get(Pass::INFERENCE))?);
            Ok(())
        })
    }

    /// Calls `work` with the weights as slices, those of adapters merged into the matrices they change, as far as they do not drop.
    pub(crate) fn read<R>(&self, sizes: &Sizes, drops: bool, work: impl FnOnce(&Weights<'_>) -> R) -> Result<R> {
        let tensors: Vec<_> = self.all.iter().map(|parameter| parameter.get(Pass::INFERENCE)).collect();
        let floats =
            tensors.iter().map(|tensor| Floats::of("transformer layer", tensor)).collect::<Result<Vec<_>>>()?;
        let plain: Vec<&[f32]> = floats.iter().map(|floats| &floats[..]).collect();
        Ok(work(&Weights::new(plain, self, sizes, drops)))
    }
}
