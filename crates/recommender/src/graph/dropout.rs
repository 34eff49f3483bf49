//! Which edges a training step leaves out.

use super::GraphError;

/// Leaves out each edge with a probability, in both directions; which ones is a hash of the seed and the two ends. What is left weighs
/// more by `1 / (1 - probability)`, so that the expected matrix is the whole one. Use another seed for every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeDropout {
    /// At least 0 and below 1.
    pub probability: f64,
    /// Of this step.
    pub seed: u64,
}

impl EdgeDropout {
    pub(super) fn check(&self) -> Result<(), GraphError> {
        match (0.0..1.0).contains(&self.probability) {
            true => Ok(()),
            false => Err(GraphError::Setting {
                field: "edge_dropout",
                value: self.probability.to_string(),
                problem: "must be at least 0 and below 1",
            }),
        }
    }
}

/// The output function of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Whether the edge between two nodes is left out, the same from both ends.
pub(super) fn dropped(a: u32, b: u32, p: f64, seed: u64) -> bool {
    let pair = (u64::from(a.min(b)) << 32) | u64::from(a.max(b));
    // 53 bits make a number in [0, 1).
    ((mix(mix(seed) ^ pair) >> 11) as f64) * (1.0 / (1u64 << 53) as f64) < p
}
