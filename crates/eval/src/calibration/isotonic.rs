//! Isotonic regression.

/// Pool-adjacent-violators: thresholds and values, of a map that is linear between them and constant beyond. Rows of one probability are pooled
/// first; of a block only its ends are kept.
pub(super) fn fit(mut pairs: Vec<(f32, bool)>) -> (Vec<f32>, Vec<f32>) {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    // First and last probability, sum of labels, number of rows.
    let mut blocks: Vec<(f32, f32, f64, f64)> = Vec::new();
    for (p, positive) in pairs {
        let label = f64::from(u8::from(positive));
        match blocks.last_mut() {
            Some(block) if block.1 == p => {
                block.2 += label;
                block.3 += 1.0;
            }
            _ => blocks.push((p, p, label, 1.0)),
        }
    }
    let mut pooled: Vec<(f32, f32, f64, f64)> = Vec::with_capacity(blocks.len());
    for mut block in blocks {
        while let Some(last) = pooled.last() {
            if last.2 / last.3 < block.2 / block.3 {
                break;
            }
            block = (last.0, block.1, last.2 + block.2, last.3 + block.3);
            pooled.pop();
        }
        pooled.push(block);
    }
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (first, last, sum, count) in pooled {
        let value = (sum / count) as f32;
        from.push(first);
        to.push(value);
        if last > first {
            from.push(last);
            to.push(value);
        }
    }
    (from, to)
}

pub(super) fn apply(from: &[f32], to: &[f32], probability: f32) -> f32 {
    let above = from.partition_point(|threshold| *threshold <= probability);
    match (above.checked_sub(1), from.get(above)) {
        // Below the first threshold, or above the last.
        (None, _) => to.first().copied().unwrap_or(probability),
        (Some(below), None) => to[below],
        (Some(below), Some(next)) => {
            let share = f64::from(probability - from[below]) / f64::from(next - from[below]);
            (f64::from(to[below]) + share * f64::from(to[above] - to[below])) as f32
        }
    }
}
