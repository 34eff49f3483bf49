//! Rotary position embeddings (Su et al. 2021, "RoFormer"): pairs of a head's numbers are turned by an angle that grows with the
//! position, so that products of queries and keys depend on their distance.

use std::sync::{Arc, PoisonError, RwLock};

use rayon::prelude::*;

use super::simd::vectorized;
use super::slices::ROWS;

/// How frequencies are changed for longer texts than a model was pretrained on, as `rope_scaling` of Hub configurations says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    None,
    /// All are divided by this (`linear`).
    Linear(f32),
    /// Llama 3.1: frequencies with waves longer than `original / low` tokens are divided by `factor`, those with waves shorter than
    /// `original / high` stay, those between are interpolated (`llama3`).
    Llama3 { factor: f32, low: f32, high: f32, original: f32 },
    /// That of each pair is divided by a factor of its own (`longrope` with one list of factors; `rope_freqs.weight` of llama.cpp):
    /// half as many as a head is wide.
    Factors(Arc<[f32]>),
}

impl Scaling {
    fn apply(&self, pair: usize, frequency: f32) -> f32 {
        match *self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor,
            Self::Factors(ref factors) => frequency / factors.get(pair).copied().unwrap_or(1.0),
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

/// Cosines and sines of positions, in the arithmetic of `transformers`: all in `f32`. They are computed as far as texts have asked
/// for them, because some models could read texts far longer than any there is.
#[derive(Debug)]
pub(crate) struct Rotary {
    /// `[half]` the angle from one position to the next of each pair.
    frequencies: Vec<f32>,
    tables: RwLock<Arc<Tables>>,
}

/// `[positions, half]` each.
#[derive(Debug, Default)]
struct Tables {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    /// The angle of the pair `i` at position `p` is `p / theta^(2i / width)`, the frequency changed by `scaling`, for heads of an even
    /// `width`.
    pub(crate) fn new(width: usize, theta: f32, scaling: &Scaling) -> Self {
        let frequency = |pair: usize| scaling.apply(pair, 1.0 / theta.powf((2 * pair) as f32 / width as f32));
        Self { frequencies: (0..width / 2).map(frequency).collect(), tables: RwLock::default() }
    }

    /// Tables for positions below `positions`, at least.
    fn up_to(&self, positions: usize) -> Arc<Tables> {
        let half = self.frequencies.len();
        let known = Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner));
        if known.cos.len() >= positions * half {
            return known;
        }
        // Whole blocks, so that texts that are a little longer do not compute everything again.
        let positions = positions.next_multiple_of(128);
        let frequencies = &self.frequencies;
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        let tables = Arc::new(Tables { cos, sin });
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&tables);
        tables
    }

    /// `[positions, half]` cosines and sines.
    pub(crate) fn tables(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let (tables, numbers) = (self.up_to(positions), positions * self.frequencies.len());
        (tables.cos[..numbers].to_vec(), tables.sin[..numbers].to_vec())
    }

    /// Turns the first `heads` heads of each row of `qkv: [T, columns]` by the angles of its place in its sequence; `back` turns the
    /// other way, which is both the inverse and the backward pass. The pair of a head's number `i` is the number `i + width / 2`.
    pub(crate) fn turn(&self, qkv: &mut [f32], offsets: &[u32], heads: usize, columns: usize, back: bool) {
        let _span = tracing::trace_span!("rotary").entered();
        let half = self.frequencies.len();
        if half == 0 || columns == 0 {
            return;
        }
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let tables = self.up_to(longest as usize);
        let places: Vec<u32> = offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
        let sign = if back { -1.0 } else { 1.0 };
        let chunks = qkv.par_chunks_mut(ROWS * columns).zip(places.par_chunks(ROWS));
        chunks.for_each(|(rows, places)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, &place) in rows.chunks_exact_mut(columns).zip(places) {
                        let angles = place as usize * half..(place as usize + 1) * half;
                        let (cos, sin) = (&tables.cos[angles.clone()], &tables.sin[angles]);
                        for head in row.chunks_exact_mut(2 * half).take(heads) {
                            let (first, second) = head.split_at_mut(half);
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
