//! Quantiles of values that come with counts.

/// Values in ascending order, each with the number of times it counts.
pub(super) struct Sample {
    values: Vec<f64>,
    /// How many there are up to and with each value.
    until: Vec<u64>,
}

impl Sample {
    /// Finite values with their counts; values that count 0 times are left out.
    pub(super) fn new(values: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut pairs: Vec<(f64, u64)> = values.into_iter().filter(|(_, count)| *count > 0).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut total = 0;
        let until = pairs.iter().map(|(_, count)| {
            total += count;
            total
        });
        Self { until: until.collect(), values: pairs.into_iter().map(|(value, _)| value).collect() }
    }

    /// The quantiles 0, 1/n, …, 1 with `n` ≥ 1; none at all of an empty sample.
    ///
    /// Between two values it is interpolated linearly, as NumPy does by default (type 7 of Hyndman and Fan 1996, "Sample quantiles
    /// in statistical packages").
    pub(super) fn quantiles(&self, n: u32) -> Vec<f64> {
        let Some(&total) = self.until.last() else {
            return Vec::new();
        };
        let at =
            |place: u64| self.values[self.until.partition_point(|until| *until <= place).min(self.values.len() - 1)];
        let quantile = |k: u32| {
            let place = f64::from(k) / f64::from(n) * (total - 1) as f64;
            let below = (place.floor() as u64).min(total - 1);
            let (low, high) = (at(below), at((below + 1).min(total - 1)));
            let share = place - below as f64;
            // From the nearer end, so that the result lies between both whatever the rounding.
            let between = if share < 0.5 { low + (high - low) * share } else { high - (high - low) * (1.0 - share) };
            between.clamp(low, high)
        };
        (0..=n).map(quantile).collect()
    }
}

/// Borders of `buckets` equally full buckets, ascending and distinct: bucket `b` holds what is at least `b` borders.
pub(super) fn borders(sample: &Sample, buckets: u32) -> Vec<f64> {
    let quantiles = sample.quantiles(buckets);
    let Some(inner) = quantiles.get(1..quantiles.len().saturating_sub(1)) else {
        return Vec::new();
    };
    let mut borders = inner.to_vec();
    borders.dedup();
    borders
}

/// The share of a sample below `value`, given its quantiles at equal distances: linear between two of them, the middle where several
/// are equal. 0 below all of them, 1 above.
pub(super) fn share_below(quantiles: &[f64], value: f64) -> f64 {
    let last = quantiles.len().saturating_sub(1).max(1) as f64;
    let below = quantiles.partition_point(|quantile| *quantile < value);
    let until = quantiles.partition_point(|quantile| *quantile <= value);
    if until > below {
        return (below + until - 1) as f64 / 2.0 / last;
    }
    match (below.checked_sub(1).and_then(|place| quantiles.get(place)), quantiles.get(below)) {
        (None, _) => 0.0,
        (_, None) => 1.0,
        (Some(low), Some(high)) => ((below - 1) as f64 + (value - low) / (high - low)) / last,
    }
}
