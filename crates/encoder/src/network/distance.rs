//! Buckets of distances between tokens, for biases of attention by distance (Raffel et al. 2020, as MPNet has them).

use crate::family::RelativePositions;
use crate::kernels::attention::Relative;

/// The bucket of every distance in sequences up to some length.
#[derive(Debug)]
pub(crate) struct Distances {
    /// Of `key - query`, from `-farthest` on.
    buckets: Vec<u32>,
}

impl Distances {
    /// Half of the buckets are for keys after the query; near distances have a bucket each, far ones share them by logarithm.
    pub(crate) fn new(relative: RelativePositions, longest: usize) -> Self {
        let half = relative.buckets / 2;
        let exact = half / 2;
        let bucket = |distance: i64| {
            let after = if distance > 0 { half } else { 0 };
            let away = distance.unsigned_abs() as usize;
            if away < exact {
                return (after + away) as u32;
            }
            // In `f32` as the library that trained these models computes it: buckets end where its rounding says.
            let ratio = (away as f32 / exact as f32).ln() / (relative.farthest as f64 / exact as f64).ln() as f32;
            let far = exact + (ratio * (half - exact) as f32) as usize;
            (after + far.min(half - 1)) as u32
        };
        let farthest = longest.max(1) as i64 - 1;
        Self { buckets: (-farthest..=farthest).map(bucket).collect() }
    }

    pub(crate) fn relative<'a>(&'a self, table: &'a [f32]) -> Relative<'a> {
        Relative { table, buckets: &self.buckets }
    }

    /// The bucket of `key - query`.
    pub(crate) fn bucket(&self, distance: i64) -> u32 {
        let farthest = (self.buckets.len() / 2) as i64;
        self.buckets[(distance + farthest).clamp(0, 2 * farthest) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `MPNetEncoder.relative_position_bucket` in transformers 5.23.
    #[test]
    fn buckets_are_those_of_the_library() {
        let distances = Distances::new(RelativePositions { rows: 32, buckets: 32, farthest: 128 }, 512);
        let expected = [
            (0, 0),
            (-1, 1),
            (-7, 7),
            (-8, 8),
            (-11, 8),
            (-12, 9),
            (-16, 10),
            (-23, 11),
            (-32, 12),
            (-64, 14),
            (-128, 15),
            (-511, 15),
            (1, 17),
            (7, 23),
            (8, 24),
            (16, 26),
            (100, 31),
            (511, 31),
        ];
        for (distance, bucket) in expected {
            assert_eq!(distances.bucket(distance), bucket, "{distance}");
        }
    }
}
