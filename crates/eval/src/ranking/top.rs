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
    let mut excluded = excluded.into_iter().peekable();

    // Candidates pile up to 2k and are then cut back to the best k; from there on, most scores fail one comparison.
    let mut best: Vec<(u32, u32)> = Vec::with_capacity(2 * k);
    let mut bar = None;
    for (index, &score) in (0_u32..).zip(scores) {
        while excluded.next_if(|&out| out < index).is_some() {}
        let rank = descending(score);
        // Indices ascend, so an equal score that comes later has lost the tie.
        if bar.is_some_and(|bar| rank >= bar) || excluded.peek() == Some(&index) {
            continue;
        }
        best.push((rank, index));
        if best.len() == 2 * k {
            let (_, worst, _) = best.select_nth_unstable(k - 1);
            bar = Some(worst.0);
            best.truncate(k);
        }
    }
    best.sort_unstable();
    best.truncate(k);
    best.into_iter().map(|(_, index)| index).collect()
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
