//! The same network of Candle's own operations: for other devices than the CPU, and as the twin that tests compare the kernels with.
//!
//! Sequences are padded to the longest one inside of the attention only. Works in any float type.

use std::sync::Arc;

use candle_core::{D, DType, Device, Result, Tensor};
use paretune_features::Packed;

use super::Bert;
use super::layer::{Parameters, Sizes, place};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Mask;
use crate::parameter::{Parameter, Pass};
use crate::pooling::Pooling;

/// `x` times the factors of the mask; `numbers` are those of its rows.
fn drop(x: &Tensor, mask: Option<Mask>, numbers: impl Iterator<Item = u64>) -> Result<Tensor> {
    let Some(mask) = mask else { return Ok(x.clone()) };
    let width = x.dim(D::Minus1)?;
    let factors: Vec<f32> =
        numbers.flat_map(|number| (0..width).map(move |column| mask.row(number).factor(column))).collect();
    x * Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// The rows of a matrix that a batch covers.
fn rows(first: usize, count: usize) -> impl Iterator<Item = u64> {
    first as u64..(first + count) as u64
}

/// `(x - mean) / √(variance + ε) · scale + shift`.
pub(crate) fn norm(x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?.broadcast_mul(scale)?.broadcast_add(shift)
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

pub(super) fn embeddings(bert: &Bert, packed: &Packed, mask: Option<Mask>, pass: Pass) -> Result<Tensor> {
    let [words, positions, segments, scale, shift] = bert.embeddings.0.each_ref().map(|parameter| parameter.get(pass));
    let device = words.device();
    let ids = Tensor::new(&packed.ids[..], device)?;
    let places = Tensor::new(&packed.positions[..], device)?;
    let sum = (words.index_select(&ids, 0)? + positions.index_select(&places, 0)?)?.broadcast_add(&segments.get(0)?)?;
    let x = norm(&sum, &scale, &shift, f64::from(bert.sizes.epsilon))?;
    drop(&x, mask, rows(pass.first_token, packed.ids.len()))
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

fn attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    offsets: &[u32],
    mask: Option<Mask>,
    first_token: usize,
) -> Result<Tensor> {
    let hidden = q.dim(1)?;
    let width = hidden / heads;
    let padding = Padding::new(offsets, q.dtype(), q.device())?;
    let (sequences, longest) = (padding.sequences, padding.longest);
    let split = |x: &Tensor| {
        let padded = x.index_select(&padding.from_packed, 0)?.reshape((sequences, longest, heads, width))?;
        padded.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (width as f64).sqrt()))?.broadcast_add(&padding.bias)?;
    let numbers = (0..sequences).flat_map(|sequence| {
        let start = first_token + offsets[sequence] as usize;
        (0..heads).flat_map(move |head| (0..longest).map(move |query| ((start + query) * heads + head) as u64))
    });
    let kept = drop(&softmax(&scores)?, mask, numbers)?;
    let out = kept.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((sequences * longest, hidden))?;
    out.index_select(&padding.to_packed, 0)
}

pub(crate) fn layer(
    x: &Tensor,
    parameters: &Parameters,
    sizes: &Sizes,
    offsets: &Arc<[u32]>,
    masks: [Option<Mask>; 3],
    pass: Pass,
) -> Result<Tensor> {
    let weights = parameters.0.each_ref().map(|parameter: &Parameter| parameter.get(pass));
    let apply = |x: &Tensor, at: usize| linear(x, &weights[at], &weights[at + 1]);
    let epsilon = f64::from(sizes.epsilon);
    let numbers = || rows(pass.first_token, x.dims()[0]);
    let qkv = (apply(x, place::QUERY)?, apply(x, place::KEY)?, apply(x, place::VALUE)?);
    let attended = attention((&qkv.0, &qkv.1, &qkv.2), sizes.heads, offsets, masks[0], pass.first_token)?;
    let summand = drop(&apply(&attended, place::OUT)?, masks[1], numbers())?;
    let y = norm(&(summand + x)?, &weights[place::NORM], &weights[place::NORM + 1], epsilon)?;
    let wide = activate(&apply(&y, place::WIDE)?, sizes.activation)?;
    let summand = drop(&apply(&wide, place::NARROW)?, masks[2], numbers())?;
    norm(&(summand + y)?, &weights[place::LAST_NORM], &weights[place::LAST_NORM + 1], epsilon)
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
