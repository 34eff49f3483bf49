//! Rotary position embeddings (Su et al. 2021, "RoFormer"): pairs of a head's numbers are turned by an angle that grows with the
//! position, so that products of queries and keys depend on their distance.

use rayon::prelude::*;

use super::simd::vectorized;
use super::slices::ROWS;

/// How frequencies are changed for longer texts than a model was pretrained on, as `rope_scaling` of Hub configurations says.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "used by the network that follows")]
pub(crate) enum Scaling {
    /// Not at all.
    None,
    /// All are divided by this (`linear`).
    Linear(f32),
    /// Llama 3.1: frequencies with waves longer than `original / low` tokens are divided by `factor`, those with waves shorter than
    /// `original / high` stay, those between are interpolated (`llama3`).
    Llama3 { factor: f32, low: f32, high: f32, original: f32 },
}

impl Scaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor,
            Self::Llama3 { factor, low, high, original } => {
                let wave = std::f32::consts::TAU / frequency;
                if wave > original / low {
                    frequency / factor
                } else if wave < original / high {
                    frequency
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

/// Cosines and sines of every position, in the arithmetic of `transformers`: all in `f32`.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "used by the network that follows")]
pub(crate) struct Rotary {
    /// Half the width of a head.
    half: usize,
    /// `[positions, half]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

#[allow(dead_code, reason = "used by the network that follows")]
impl Rotary {
    /// The angle of the pair `i` at position `p` is `p / theta^(2i / width)`, the frequency changed by `scaling`, for heads of an even
    /// `width` and positions below `positions`.
    pub(crate) fn new(width: usize, theta: f32, positions: usize, scaling: Scaling) -> Self {
        let half = width / 2;
        let frequency = |pair: usize| scaling.apply(1.0 / theta.powf((2 * pair) as f32 / width as f32));
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Self { half, cos, sin }
    }

    /// Number of positions that there are angles for.
    pub(crate) fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Turns the first `heads` heads of each row of `qkv: [T, columns]` by the angles of its place in its sequence; `back` turns the
    /// other way, which is both the inverse and the backward pass. The pair of a head's number `i` is the number `i + width / 2`.
    ///
    /// # Panics
    /// If a sequence is longer than [`positions`](Self::positions): the network checks what it is given.
    pub(crate) fn turn(&self, qkv: &mut [f32], offsets: &[u32], heads: usize, columns: usize, back: bool) {
        let _span = tracing::trace_span!("rotary").entered();
        if self.half == 0 || columns == 0 {
            return;
        }
        let places: Vec<u32> = offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
        let sign = if back { -1.0 } else { 1.0 };
        let chunks = qkv.par_chunks_mut(ROWS * columns).zip(places.par_chunks(ROWS));
        chunks.for_each(|(rows, places)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, &place) in rows.chunks_exact_mut(columns).zip(places) {
                        let angles = place as usize * self.half..(place as usize + 1) * self.half;
                        let (cos, sin) = (&self.cos[angles.clone()], &self.sin[angles]);
                        for head in row.chunks_exact_mut(2 * self.half).take(heads) {
                            let (first, second) = head.split_at_mut(self.half);
                            let pairs = first.iter_mut().zip(second).zip(cos.iter().zip(sin));
                            for ((first, second), (cos, sin)) in pairs {
                                let (a, b, sin) = (*first, *second, sin * sign);
                                *first = a * cos - b * sin;
                                *second = b * cos + a * sin;
                            }
                        }
                    }
                },
            );
        });
    }
}
