//! How alike vectors are.

use std::str::FromStr;

use rayon::prelude::*;

use crate::error::EncoderError;
use crate::sentence::Vectors;

/// Parallel sums of one product: enough for the processor's vectors, and their number fixes the order of adding.
const LANES: usize = 16;

/// A measure of how alike two vectors are; more is more alike. The names are those of `similarity_fn_name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Similarity {
    /// `cosine`: the scalar product of the vectors scaled to length 1; 0 where one of them is 0.
    #[default]
    Cosine,
    /// `dot`: the scalar product.
    Dot,
    /// `euclidean`: the negative distance.
    Euclidean,
    /// `manhattan`: the negative sum of the absolute differences.
    Manhattan,
}

impl Similarity {
    /// The similarities of each row of `left` (rows) with each row of `right` (columns).
    ///
    /// ```
    /// use paretune_encoder::{Similarity, Vectors};
    ///
    /// let left = Vectors::from_rows(2, vec![3.0, 4.0]).expect("one row");
    /// let right = Vectors::from_rows(2, vec![1.0, 0.0, 0.0, 0.0]).expect("two rows");
    /// assert_eq!(Similarity::Dot.between(&left, &right)?.as_slice(), [3.0, 0.0]);
    /// assert_eq!(Similarity::Cosine.between(&left, &right)?.as_slice(), [0.6, 0.0]);
    /// assert_eq!(Similarity::Euclidean.between(&left, &right)?.as_slice(), [-20f32.sqrt(), -5.0]);
    /// assert_eq!(Similarity::Manhattan.between(&left, &right)?.as_slice(), [-6.0, -7.0]);
    /// # Ok::<(), paretune_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// [`EncoderError::DifferentWidths`].
    pub fn between(self, left: &Vectors, right: &Vectors) -> Result<Vectors, EncoderError> {
        if left.width() != right.width() && !left.is_empty() && !right.is_empty() {
            return Err(EncoderError::DifferentWidths { left: left.width(), right: right.width() });
        }
        let columns = right.len();
        let mut scores = vec![0f32; left.len() * columns];
        if columns > 0 {
            let lengths: Vec<f32> = right.iter().map(|row| dot(row, row).sqrt()).collect();
            scores.par_chunks_mut(columns).enumerate().for_each(|(row, scores)| {
                let a = &left[row];
                let length = dot(a, a).sqrt();
                for (place, (score, b)) in scores.iter_mut().zip(right.iter()).enumerate() {
                    *score = match self {
                        Self::Cosine => dot(a, b) / (length.max(1e-12) * lengths[place].max(1e-12)),
                        Self::Dot => dot(a, b),
                        Self::Euclidean => -sum(a, b, |a, b| (a - b) * (a - b)).sqrt(),
                        Self::Manhattan => -sum(a, b, |a, b| (a - b).abs()),
                    };
                }
            });
        }
        Ok(Vectors::shaped(left.len(), columns, scores))
    }
}

impl FromStr for Similarity {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "dot" => Ok(Self::Dot),
            "euclidean" => Ok(Self::Euclidean),
            "manhattan" => Ok(Self::Manhattan),
            other => Err(format!("no similarity `{other}`; there are cosine, dot, euclidean and manhattan")),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

fn sum(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += of(a[lane], b[lane]);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(rest_a).zip(rest_b) {
        *lane += of(a, b);
    }
    lanes.iter().sum()
}
