/// Scores that are compared with the bar at once.
const CHUNK: usize = 64;

/// The indices of the `k` largest scores, best first.
///
/// Equal scores go by index, `NaN` comes after everything else, and the indices in `excluded` (any order, repeats and
/// unknown ones allowed) are left out. One pass; memory of `O(k)`.
///
/// ```
/// use paretune_eval::top_k;
///
/// assert_eq!(top_k(&[0.1, 0.9, f32::NAN, 0.9, 0.5], 3, &[4]), [1, 3, 0]);
/// ```
#[must_use]
pub fn top_k(scores: &[f32], k: usize, excluded: &[u32]) -> Vec<u32> {
    let k = k.min(scores.len());
    if k == 0 {
        return Vec::new();
    }
    let mut excluded = excluded.to_vec();
    excluded.sort_unstable();

    // Candidates pile up to 2k and are then cut back to the best k; from there on, most scores fail one comparison.
    let mut best: Vec<(u32, u32)> = Vec::with_capacity(2 * k);
    let mut bar = None;
    for (chunk, first) in scores.chunks(CHUNK).zip((0_u32..).step_by(CHUNK)) {
        if bar.is_some_and(|(_, score)| none_above(chunk, score)) {
            continue;
        }
        for (index, &score) in (first..).zip(chunk) {
            let rank = descending(score);
            // Indices ascend, so an equal score that comes later has lost the tie.
            if bar.is_some_and(|(bar, _)| rank >= bar) || excluded.binary_search(&index).is_ok() {
                continue;
            }
            best.push((rank, index));
            if best.len() == 2 * k {
                let (_, &mut (rank, index), _) = best.select_nth_unstable(k - 1);
                bar = Some((rank, scores[index as usize]));
                best.truncate(k);
            }
        }
    }
    best.sort_unstable();
    best.truncate(k);
    best.into_iter().map(|(_, index)| index).collect()
}

/// Whether no score is above `bar`: without a branch, so that many are compared at once. `NaN` is above nothing; where the bar
/// itself is `NaN`, the answer is no.
fn none_above(scores: &[f32], bar: f32) -> bool {
    const LANES: usize = 16;
    if bar.is_nan() {
        return false;
    }
    let mut above = [0_u32; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (above, score) in above.iter_mut().zip(chunk) {
            *above |= u32::from(*score > bar);
        }
    }
    for (above, score) in above.iter_mut().zip(rest) {
        *above |= u32::from(*score > bar);
    }
    above.iter().all(|above| *above == 0)
}

/// Maps a score to an integer that grows as the score falls; `NaN` maps to the largest, both zeros to the same.
fn descending(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX;
    }
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}
