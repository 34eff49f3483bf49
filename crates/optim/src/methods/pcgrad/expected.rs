//! The exact mean of gradient surgery over all orders.
//!
//! A projection adds to one weight only, so that its share of the mean is known when it happens, and nothing but the products with the objectives
//! that are left has to be carried on. An objective that no projection to come can bring into conflict plays no part in the order of the rest.
//! For the last four there is nothing to decide: all their orders are written out.

use crate::Gramian;

/// Objectives of which the mean can be taken: it visits at most `(m - 1)! / 4!` beginnings of orders for each of them.
pub(super) const MOST: usize = 8;

/// One value for each objective.
type Values = [f64; MOST];

/// For each gradient, the mean of its weights over all orders in which it meets those of `met`; at most [`MOST`] gradients.
pub(super) fn turn_in_all_orders(gramian: &Gramian, met: &[usize]) -> Vec<Vec<f64>> {
    let m = gramian.size();
    let mut cosines = [[0.0; MOST]; MOST];
    (0..m).for_each(|j| (0..m).for_each(|k| cosines[j][k] = gramian.cosine(j, k)));
    let met = met.iter().fold(0, |set, j| set | 1 << j);
    let mut orders = Orders { cosines, mean: [0.0; MOST] };
    let mut all = Vec::with_capacity(m);
    for (i, along) in cosines.iter().enumerate().take(m) {
        orders.mean = [0.0; MOST];
        orders.visit(along, met & !(1 << i), 1.0);
        let weight = |j: usize| match orders.mean[j] {
            _ if j == i => 1.0,
            0.0 => 0.0,
            mean => (mean * (gramian.norm(i) / gramian.norm(j))).min(f64::MAX),
        };
        all.push((0..m).map(weight).collect());
    }
    all
}

/// Numbers of the members of `set`.
fn members(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let member = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        member
    })
}

/// Gradients have length 1 here.
struct Orders {
    cosines: [Values; MOST],
    /// The mean length of the projections onto each.
    mean: Values,
}

impl Orders {
    /// Adds to the mean what is still to come, times `share`, for a gradient with the products `along` that has yet to meet the objectives in
    /// `left`.
    fn visit(&mut self, along: &Values, left: u32, share: f64) {
        let left = self.relevant(along, left);
        if left.count_ones() <= 4 {
            return self.finish(along, left, share);
        }
        let each = share / f64::from(left.count_ones());
        for j in members(left) {
            let length = (-along[j]).max(0.0);
            self.mean[j] += each * length;
            let mut turned = *along;
            (0..MOST).for_each(|k| turned[k] += length * self.cosines[j][k]);
            self.visit(&turned, left & !(1 << j), each);
        }
    }

    /// Those of `left` that conflict or may come to.
    ///
    /// With the longest conflict `a`, and `ρ < 1` the most that projections of length 1 onto all of `left` can take from a product, no projection is
    /// longer than `a / (1 - ρ)`: it is one of those conflicts and what others before it took away. Nor is one longer than the gradient, which they
    /// only shorten.
    fn relevant(&self, along: &Values, left: u32) -> u32 {
        let mut drop = [0.0; MOST];
        for j in members(left) {
            (0..MOST).for_each(|k| drop[k] += (-self.cosines[j][k]).max(0.0));
        }
        let conflict = members(left).map(|j| -along[j]).fold(0.0, f64::max);
        let steepest = members(left).map(|j| drop[j]).fold(0.0, f64::max);
        let longest = if steepest < 1.0 { (conflict / (1.0 - steepest)).min(1.0) } else { 1.0 };
        // Without a conflict there is no projection, and never will be.
        let may = |j: &usize| conflict > 0.0 && along[*j] < longest * drop[*j];
        members(left).filter(|j| along[*j] < 0.0 || may(j)).fold(0, |set, j| set | 1 << j)
    }

    /// As [`visit`](Self::visit), for up to four objectives.
    fn finish(&mut self, along: &Values, left: u32, share: f64) {
        let mut at = [0; 4];
        members(left).zip(&mut at).for_each(|(j, at)| *at = j);
        let x = at.map(|j| along[j]);
        let cosine = |a: usize, b: usize| self.cosines[at[a]][at[b]];
        let lengths = match left.count_ones() {
            0 => return,
            1 => [(-x[0]).max(0.0), 0.0, 0.0, 0.0],
            2 => {
                let [a, b] = two([x[0], x[1]], cosine(0, 1));
                [a, b, 0.0, 0.0]
            }
            3 => {
                let [a, b, c] = three([x[0], x[1], x[2]], [cosine(0, 1), cosine(0, 2), cosine(1, 2)]);
                [a, b, c, 0.0]
            }
            _ => four(x, [cosine(0, 1), cosine(0, 2), cosine(0, 3), cosine(1, 2), cosine(1, 3), cosine(2, 3)]),
        };
        members(left).zip(lengths).for_each(|(j, x)| self.mean[j] += share * x);
    }
}

/// The mean lengths of the projections onto two objectives with products `x`, over both orders.
fn two(x: [f64; 2], cosine: f64) -> [f64; 2] {
    let [a, b] = x.map(|x| (-x).max(0.0));
    [0.5 * (a + (-x[0] - b * cosine).max(0.0)), 0.5 * (b + (-x[1] - a * cosine).max(0.0))]
}

/// As [`two`], for three with the cosines 01, 02 and 12.
fn three(x: [f64; 3], [ab, ac, bc]: [f64; 3]) -> [f64; 3] {
    let [a, b, c] = x.map(|x| (-x).max(0.0));
    let after_a = two([x[1] + a * ab, x[2] + a * ac], bc);
    let after_b = two([x[0] + b * ab, x[2] + b * bc], ac);
    let after_c = two([x[0] + c * ac, x[1] + c * bc], ab);
    [
        (a + after_b[0] + after_c[0]) * (1.0 / 3.0),
        (b + after_a[0] + after_c[1]) * (1.0 / 3.0),
        (c + after_a[1] + after_b[1]) * (1.0 / 3.0),
    ]
}

/// As [`two`], for four with the cosines 01, 02, 03, 12, 13 and 23.
fn four(x: [f64; 4], [ab, ac, ad, bc, bd, cd]: [f64; 6]) -> [f64; 4] {
    let [a, b, c, d] = x.map(|x| (-x).max(0.0));
    let after_a = three([x[1] + a * ab, x[2] + a * ac, x[3] + a * ad], [bc, bd, cd]);
    let after_b = three([x[0] + b * ab, x[2] + b * bc, x[3] + b * bd], [ac, ad, cd]);
    let after_c = three([x[0] + c * ac, x[1] + c * bc, x[3] + c * cd], [ab, ad, bd]);
    let after_d = three([x[0] + d * ad, x[1] + d * bd, x[2] + d * cd], [ab, ac, bc]);
    [
        (a + after_b[0] + after_c[0] + after_d[0]) * 0.25,
        (b + after_a[0] + after_c[1] + after_d[1]) * 0.25,
        (c + after_a[1] + after_b[1] + after_d[2]) * 0.25,
        (d + after_a[2] + after_b[2] + after_c[2]) * 0.25,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every order, one after the other.
    fn brute_force(gramian: &Gramian, i: usize, others: &[usize]) -> Vec<f64> {
        fn orders(gramian: &Gramian, weights: &[f64], left: &[usize], share: f64, mean: &mut [f64]) {
            if left.is_empty() {
                mean.iter_mut().zip(weights).for_each(|(m, w)| *m += share * w);
            }
            for &j in left {
                let mut weights = weights.to_vec();
                let along: f64 = weights.iter().enumerate().map(|(k, w)| w * gramian.get(k, j)).sum();
                if along < 0.0 && gramian.get(j, j) > 0.0 {
                    weights[j] -= along / gramian.get(j, j);
                }
                let rest: Vec<usize> = left.iter().copied().filter(|&k| k != j).collect();
                orders(gramian, &weights, &rest, share / left.len() as f64, mean);
            }
        }
        let mut own = vec![0.0; gramian.size()];
        own[i] = 1.0;
        let mut mean = vec![0.0; gramian.size()];
        orders(gramian, &own, others, 1.0, &mut mean);
        mean
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_mean_is_that_of_every_order(
            m in 1..=MOST,
            width in 1..=9_usize,
            apart in prop::sample::select(vec![0.0, 0.2, 1.0, 3.0]),
            values in prop::collection::vec(-1.0..1.0_f64, 72),
            zero in 0..20_usize,
        ) {
            // What is taken from every row is the mean of the rows: with all of it gone, they conflict all.
            let mut rows: Vec<Vec<f64>> = (0..m).map(|i| values[i * width..(i + 1) * width].to_vec()).collect();
            for k in 0..width {
                let mean = rows.iter().map(|row| row[k]).sum::<f64>() / m as f64;
                rows.iter_mut().for_each(|row| row[k] -= apart * mean);
            }
            if zero < m {
                rows[zero].fill(0.0);
            }
            let gramian = Gramian::from_rows(&rows).unwrap();
            let found = turn_in_all_orders(&gramian, &(0..m).collect::<Vec<_>>());
            for (i, found) in found.iter().enumerate() {
                let others: Vec<usize> = (0..m).filter(|&j| j != i).collect();
                for (found, mean) in found.iter().zip(brute_force(&gramian, i, &others)) {
                    prop_assert!((found - mean).abs() <= 1e-12 * mean.abs().max(1.0), "{found} {mean}");
                }
            }
        }
    }
}
