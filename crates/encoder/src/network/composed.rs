//! The same network of Candle's own operations: for other devices than the CPU, and as the twin that tests compare the kernels with.
//!
//! Sequences are padded to the longest one inside of the attention only. Works in any float type.

use std::sync::Arc;

use candle_core::{D, DType, Device, Result, Tensor};
use paretune_features::Packed;
use rayon::prelude::*;

use super::Network;
use super::layer::{Adapter, Linear, Masks, NormAt, Parameters, Sizes};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Mask;
use crate::kernels::norm::NormKind;
use crate::lookup;
use crate::parameter::{Parameter, Pass};
use crate::pooling::Pooling;
use crate::product::product;

/// `x` times the factors of the mask; `numbers` are those of its rows.
pub(crate) fn drop(x: &Tensor, mask: Option<Mask>, numbers: impl Iterator<Item = u64>) -> Result<Tensor> {
    let Some(mask) = mask else { return Ok(x.clone()) };
    let width = x.dim(D::Minus1)?;
    let numbers: Vec<u64> = numbers.collect();
    let mut factors = vec![1f32; numbers.len() * width];
    let rows = factors.par_chunks_mut(width.max(1)).zip(&numbers);
    rows.for_each(|(row, number)| mask.row(*number).apply(row));
    x * Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// The rows of a matrix that a batch covers.
fn rows(first: usize, count: usize) -> impl Iterator<Item = u64> {
    first as u64..(first + count) as u64
}

/// `(x - mean) / √(variance + ε) · scale + shift`.
pub(crate) fn norm(x: &Tensor, scale: &Tensor, shift: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let scaled = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?.broadcast_mul(scale)?;
    match shift {
        Some(shift) => scaled.broadcast_add(shift),
        None => Ok(scaled),
    }
}

/// `x / √(mean(x²) + ε) · scale`.
pub(crate) fn rms_norm(x: &Tensor, scale: &Tensor, epsilon: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + epsilon)?.sqrt()?)?.broadcast_mul(scale)
}

pub(crate) fn norm_of(
    x: &Tensor,
    scale: &Tensor,
    shift: Option<&Tensor>,
    kind: NormKind,
    epsilon: f64,
) -> Result<Tensor> {
    match kind {
        NormKind::Layer => norm(x, scale, shift, epsilon),
        NormKind::Rms => rms_norm(x, scale, epsilon),
    }
}

/// `x·Wᵀ + b`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => {
            let cube = (x.sqr()? * x)?;
            let inner = ((x + (cube * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * 0.5)? * (inner.tanh()? + 1.0)?
        }
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
    }
}

/// Softmax over the last dimension, with a backward pass.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

pub(super) fn embeddings(network: &Network, packed: &Packed, mask: Option<Mask>, pass: Pass) -> Result<Tensor> {
    let parameters = &network.embeddings;
    let words = parameters.words.get(pass);
    let device = words.device();
    let mut sum = lookup::rows(&words, &packed.ids)?;
    if parameters.scale != 1.0 {
        sum = (sum * f64::from(parameters.scale))?;
    }
    if let Some(positions) = &parameters.positions {
        let places: Vec<u32> = packed.positions.iter().map(|place| place + parameters.first_position as u32).collect();
        sum = (sum + positions.get(pass).index_select(&Tensor::new(places, device)?, 0)?)?;
    }
    if let Some(segments) = &parameters.segments {
        sum = sum.broadcast_add(&segments.get(pass).get(0)?)?;
    }
    if let Some((scale, shift)) = &parameters.norm {
        let shift = shift.as_ref().map(|shift| shift.get(pass));
        sum = norm(&sum, &scale.get(pass), shift.as_ref(), f64::from(parameters.epsilon))?;
    }
    drop(&sum, mask, rows(pass.first_token, packed.ids.len()))
}

/// Where padded places take their rows from, and which of them are real.
struct Padding {
    sequences: usize,
    longest: usize,
    /// `[sequences · longest]` rows of the packed matrix; padded places take the row 0.
    from_packed: Tensor,
    /// `[tokens]` places of the padded matrix.
    to_packed: Tensor,
    /// `[sequences, 1, 1, longest]`: 0 for a token, a large negative number for padding.
    bias: Tensor,
}

impl Padding {
    fn new(offsets: &[u32], dtype: DType, device: &Device) -> Result<Self> {
        let sequences = offsets.len().saturating_sub(1);
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
        let mut from_packed = vec![0u32; sequences * longest];
        let mut bias = vec![-1e30f32; sequences * longest];
        let mut to_packed = Vec::new();
        for (sequence, pair) in offsets.windows(2).enumerate() {
            for (at, token) in (pair[0]..pair[1]).enumerate() {
                let place = sequence * longest + at;
                from_packed[place] = token;
                bias[place] = 0.0;
                to_packed.push(place as u32);
            }
        }
        Ok(Self {
            sequences,
            longest,
            from_packed: Tensor::new(from_packed, device)?,
            to_packed: Tensor::new(to_packed, device)?,
            bias: Tensor::from_vec(bias, (sequences, 1, 1, longest), device)?.to_dtype(dtype)?,
        })
    }
}

/// Queries or keys `[sequences, heads, longest, width]`, rotated by their positions.
fn rotate(x: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let Some(rotary) = &sizes.rotary else { return Ok(x.clone()) };
    let (_, _, longest, width) = x.dims4()?;
    let (cos, sin) = rotary.tables(longest);
    let table = |values: Vec<f32>| {
        Tensor::from_vec(values, (longest, width / 2), x.device())?.to_dtype(x.dtype())?.reshape((
            1,
            1,
            longest,
            width / 2,
        ))
    };
    let (cos, sin) = (table(cos)?, table(sin)?);
    let (first, second) = (x.narrow(D::Minus1, 0, width / 2)?, x.narrow(D::Minus1, width / 2, width / 2)?);
    let left = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let right = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], D::Minus1)?.contiguous()
}

/// `[1, 1, longest, longest]`: 0 where a query sees a key, a large negative number elsewhere; none if all see all.
fn sight(sizes: &Sizes, longest: usize, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
    if !sizes.causal && sizes.window.is_none() {
        return Ok(None);
    }
    let sees = |query: usize, key: usize| {
        (!sizes.causal || key <= query) && sizes.window.is_none_or(|window| query.abs_diff(key) <= window)
    };
    let all = (0..longest).flat_map(|query| (0..longest).map(move |key| (query, key)));
    let values: Vec<f32> = all.map(|(query, key)| if sees(query, key) { 0.0 } else { -1e30 }).collect();
    Ok(Some(Tensor::from_vec(values, (1, 1, longest, longest), device)?.to_dtype(dtype)?))
}

/// `[1, heads, longest, longest]` the learned bias by distance.
fn relative(sizes: &Sizes, table: &Tensor, longest: usize) -> Result<Option<Tensor>> {
    let Some(distances) = &sizes.distances else { return Ok(None) };
    let all = (0..longest as i64).flat_map(|query| (0..longest as i64).map(move |key| distances.bucket(key - query)));
    let buckets = Tensor::new(all.collect::<Vec<u32>>(), table.device())?;
    let bias = table.index_select(&buckets, 0)?.reshape((longest, longest, sizes.heads))?;
    Ok(Some(bias.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?))
}

fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    table: Option<&Tensor>,
    sizes: &Sizes,
    offsets: &[u32],
    mask: Option<Mask>,
    pass: Pass,
) -> Result<Tensor> {
    let (heads, key_heads, width) = (sizes.heads, sizes.key_heads, sizes.head_width);
    let padding = Padding::new(offsets, q.dtype(), q.device())?;
    let (sequences, longest) = (padding.sequences, padding.longest);
    let split = |x: &Tensor, heads: usize| {
        let padded = x.index_select(&padding.from_packed, 0)?.reshape((sequences, longest, heads, width))?;
        padded.transpose(1, 2)?.contiguous()
    };
    // Each head of keys and values serves several heads of queries.
    let shared = |x: Tensor| {
        let groups = heads / key_heads;
        match groups {
            1 => Ok(x),
            _ => x
                .unsqueeze(2)?
                .broadcast_as((sequences, key_heads, groups, longest, width))?
                .contiguous()?
                .reshape((sequences, heads, longest, width)),
        }
    };
    let q = rotate(&split(q, heads)?, sizes)?;
    let k = shared(rotate(&split(k, key_heads)?, sizes)?)?;
    let v = shared(split(v, key_heads)?)?;
    let mut scores =
        (product(&q, &k.t()?, pass.arithmetic)? * f64::from(sizes.scale()))?.broadcast_add(&padding.bias)?;
    if let Some(sight) = sight(sizes, longest, q.dtype(), q.device())? {
        scores = scores.broadcast_add(&sight)?;
    }
    if let Some(bias) = table.map(|table| relative(sizes, table, longest)).transpose()?.flatten() {
        scores = scores.broadcast_add(&bias)?;
    }
    let numbers = (0..sequences).flat_map(|sequence| {
        let start = pass.first_token + offsets[sequence] as usize;
        (0..heads).flat_map(move |head| (0..longest).map(move |query| ((start + query) * heads + head) as u64))
    });
    let kept = drop(&softmax(&scores)?, mask, numbers)?;
    let out = product(&kept, &v, pass.arithmetic)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((sequences * longest, heads * width))?;
    out.index_select(&padding.to_packed, 0)
}

/// What one layer works with.
struct Layer<'a> {
    parameters: &'a Parameters,
    sizes: &'a Sizes,
    masks: Masks,
    pass: Pass,
}

impl Layer<'_> {
    fn get(&self, place: usize) -> Tensor {
        let parameter: &Parameter = &self.parameters.all[place];
        parameter.get(self.pass)
    }

    fn numbers(&self, x: &Tensor) -> impl Iterator<Item = u64> + use<> {
        rows(self.pass.first_token, x.dims()[0])
    }

    /// A linear layer with its adapter beside it.
    fn linear(&self, x: &Tensor, linear: &Linear) -> Result<Tensor> {
        let adapter = self.parameters.adapters[linear.number];
        let scaled = match adapter {
            Some(Adapter::ScaleInput(scales)) => x.broadcast_mul(&self.get(scales))?,
            _ => x.clone(),
        };
        let arithmetic = self.pass.arithmetic;
        let mut y = product(&scaled, &self.get(linear.weight).t()?, arithmetic)?;
        if let Some(bias) = linear.bias {
            y = y.broadcast_add(&self.get(bias))?;
        }
        match adapter {
            Some(Adapter::Lora { a, b, scale, .. }) => {
                let dropped = drop(x, self.masks.adapters[linear.number], self.numbers(x))?;
                let low = product(&dropped, &self.get(a).t()?, arithmetic)?;
                let low = product(&low, &self.get(b).t()?, arithmetic)?;
                y + (low * f64::from(scale))?
            }
            Some(Adapter::ScaleOutput(scales)) => y.broadcast_mul(&self.get(scales)),
            _ => Ok(y),
        }
    }

    /// Linear layers side by side.
    fn linears(&self, x: &Tensor, linears: &[Linear]) -> Result<Tensor> {
        let parts = linears.iter().map(|linear| self.linear(x, linear)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 1)
    }

    fn norm(&self, x: &Tensor, at: NormAt) -> Result<Tensor> {
        let shift = at.shift.map(|shift| self.get(shift));
        norm_of(x, &self.scale(at.scale)?, shift.as_ref(), self.sizes.norm, f64::from(self.sizes.epsilon))
    }

    fn scale(&self, place: usize) -> Result<Tensor> {
        let scale = self.get(place);
        if self.sizes.scales_less_one { scale + 1.0 } else { Ok(scale) }
    }

    /// Each head of queries or keys `[tokens, heads · width]`, normalized.
    fn head_norm(&self, x: Tensor, place: Option<usize>) -> Result<Tensor> {
        let Some(place) = place else { return Ok(x) };
        let (tokens, columns) = x.dims2()?;
        let width = self.sizes.head_width;
        let heads = x.reshape((tokens, columns / width, width))?;
        rms_norm(&heads, &self.scale(place)?, f64::from(self.sizes.epsilon))?.reshape((tokens, columns))
    }

    fn attention(&self, x: &Tensor, offsets: &[u32]) -> Result<Tensor> {
        let (places, sizes) = (&self.parameters.places, self.sizes);
        let qkv = self.linears(x, &places.qkv)?;
        let (queries, keys) = (sizes.queries(), sizes.key_heads * sizes.head_width);
        let part = |from: usize, width: usize| qkv.narrow(1, from, width)?.contiguous();
        let q = self.head_norm(part(0, queries)?, places.heads.map(|[query, _]| query))?;
        let k = self.head_norm(part(queries, keys)?, places.heads.map(|[_, key]| key))?;
        let v = part(queries + keys, keys)?;
        let table = places.relative.map(|table| self.get(table));
        let mask = self.masks.blocks[0];
        let attended = attention((&q, &k, &v), table.as_ref(), sizes, offsets, mask, self.pass)?;
        drop(&self.linear(&attended, &places.out)?, self.masks.blocks[1], self.numbers(x))
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let (places, sizes) = (&self.parameters.places, self.sizes);
        let wide = self.linears(x, &places.wide)?;
        let inner = match sizes.gated {
            true => {
                let (through, gate) = (wide.narrow(1, 0, sizes.inner)?, wide.narrow(1, sizes.inner, sizes.inner)?);
                (activate(&through.contiguous()?, sizes.activation)? * gate)?
            }
            false => activate(&wide, sizes.activation)?,
        };
        drop(&self.linear(&inner, &places.narrow)?, self.masks.blocks[2], self.numbers(x))
    }
}

pub(crate) fn layer(
    x: &Tensor,
    parameters: &Parameters,
    sizes: &Sizes,
    offsets: &Arc<[u32]>,
    masks: Masks,
    pass: Pass,
) -> Result<Tensor> {
    let layer = Layer { parameters, sizes, masks, pass };
    let places = &parameters.places;
    let entered = match places.entry {
        Some(at) => layer.norm(x, at)?,
        None => x.clone(),
    };
    let sum = (layer.attention(&entered, offsets)? + x)?;
    let fed = layer.norm(&sum, places.middle)?;
    match places.last {
        Some(at) => layer.norm(&(layer.feed_forward(&fed)? + fed)?, at),
        None => layer.feed_forward(&fed)? + sum,
    }
}

/// One vector for each sequence.
pub(crate) fn pool(hidden: &Tensor, offsets: &[u32], kind: Pooling) -> Result<Tensor> {
    let padding = Padding::new(offsets, hidden.dtype(), hidden.device())?;
    let (sequences, longest, width) = (padding.sequences, padding.longest, hidden.dim(1)?);
    let padded = hidden.index_select(&padding.from_packed, 0)?.reshape((sequences, longest, width))?;
    let bias = padding.bias.reshape((sequences, longest, 1))?;
    match kind {
        Pooling::Cls => padded.narrow(1, 0, 1)?.contiguous()?.reshape((sequences, width)),
        Pooling::Mean => {
            let real = bias.eq(0.0)?.to_dtype(hidden.dtype())?;
            padded.broadcast_mul(&real)?.sum(1)?.broadcast_div(&real.sum(1)?)
        }
        Pooling::MeanSqrtLength => {
            let real = bias.eq(0.0)?.to_dtype(hidden.dtype())?;
            padded.broadcast_mul(&real)?.sum(1)?.broadcast_div(&real.sum(1)?.sqrt()?)
        }
        Pooling::WeightedMean => {
            let places = Tensor::arange(1u32, longest as u32 + 1, hidden.device())?.to_dtype(hidden.dtype())?;
            let weights = bias.eq(0.0)?.to_dtype(hidden.dtype())?.broadcast_mul(&places.reshape((1, longest, 1))?)?;
            padded.broadcast_mul(&weights)?.sum(1)?.broadcast_div(&weights.sum(1)?)
        }
        Pooling::LastToken => {
            let last: Vec<u32> = offsets.windows(2).map(|pair| pair[1].saturating_sub(1)).collect();
            hidden.index_select(&Tensor::new(last, hidden.device())?, 0)
        }
        Pooling::Max => padded.broadcast_add(&bias)?.max(1),
    }
}
