//! The full Jacobian's Gramian without the full Jacobian.
//!
//! All objectives go down the graph side by side, one piece at a time: the gradients of a piece's parameters are multiplied with each other
//! and dropped before the next piece begins. The parameters' gradients that are kept for the products never hold more values than one
//! gradient of the whole model, whatever `K`: a piece too large for that is gone through several times, for some of its values each time.
//! With the gradient of the pass that is under way it is two gradients at most. (Of a table's gradient, which holds touched rows only, it is the
//! first objective's rows that are counted. What grows with `K` are the gradients at the leaves: `K` times what passes from piece to piece.)

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Var;
use paretune_encoder::Gradients;
use paretune_optim::Gradient;

use super::cuts::{AtLeaves, Cuts};
use super::row::{Products, Row};
use crate::TrainError;
use crate::differentiate::gradient;

/// Some rows of a parameter.
#[derive(Debug, Clone, PartialEq)]
struct Slice {
    parameter: usize,
    from: usize,
    rows: usize,
}

/// A share of a piece's parameters, of which the gradients of all objectives fit at once.
type Part = Vec<Slice>;

/// Goes down from the last level for every objective.
pub(super) struct Stream<'a> {
    cuts: &'a Cuts<'a>,
    parameters: &'a [(String, Var)],
    /// Values that may be held at once, over all objectives.
    budget: usize,
    /// Parameters that a piece above had.
    met: BTreeSet<usize>,
    /// Most values that were held at once.
    pub(super) held: usize,
}

impl<'a> Stream<'a> {
    /// With room for one gradient of all `parameters`.
    pub(super) fn new(cuts: &'a Cuts<'a>, parameters: &'a [(String, Var)]) -> Self {
        let budget = parameters.iter().map(|(_, var)| var.elem_count()).sum();
        Self { cuts, parameters, budget, met: BTreeSet::new(), held: 0 }
    }

    /// The products of the objectives' gradients over all parameters. `rows` are what the losses' backward passes left at the leaves;
    /// those below the last level are used up.
    pub(super) fn products(&mut self, rows: &mut [AtLeaves]) -> Result<Products, TrainError> {
        let mut products = Products::new(rows.len());
        for level in (0..self.cuts.levels()).rev() {
            self.piece(level, rows, &mut products)?;
        }
        Ok(products)
    }

    fn piece(&mut self, level: usize, rows: &mut [AtLeaves], products: &mut Products) -> Result<(), TrainError> {
        // What the first objective's pass finds tells how much of the piece fits for all of them.
        let mut parts: Option<Vec<Part>> = None;
        let mut planned = BTreeSet::new();
        let mut late = BTreeMap::new();
        let mut kept: Vec<Row> = Vec::new();
        let objectives = rows.len();
        for row in rows.iter_mut() {
            let Some(found) = self.pass(level, row)? else {
                kept.push(Row::new());
                continue;
            };
            self.cuts.collect(&found, level, row)?;
            let sizes = self.sizes(&found)?;
            let parts = parts.get_or_insert_with(|| {
                planned.extend(sizes.keys().copied());
                self.parts(&sizes, objectives)
            });
            late.extend(sizes.into_iter().filter(|(parameter, _)| !planned.contains(parameter)));
            kept.push(self.slices(&found, parts.first().map_or(&[], Vec::as_slice))?);
        }
        if let Some(index) = planned.iter().chain(late.keys()).find(|index| self.met.contains(*index)) {
            return Err(TrainError::SharedByPieces { name: self.parameters[*index].0.clone() });
        }
        self.add(kept, products)?;
        // The passes again, for what did not fit and for what the first objective does not depend on.
        let rest = parts.into_iter().flatten().skip(1);
        let unplanned = if late.is_empty() { Vec::new() } else { self.parts(&late, objectives) };
        for part in rest.chain(unplanned) {
            let mut kept: Vec<Row> = Vec::new();
            for row in rows.iter() {
                kept.push(match self.pass(level, row)? {
                    Some(found) => self.slices(&found, &part)?,
                    None => Row::new(),
                });
            }
            self.add(kept, products)?;
        }
        self.met.extend(planned.into_iter().chain(late.into_keys()));
        // The last level's are needed again for the combined pass.
        if level + 1 < self.cuts.levels() {
            rows.iter_mut().filter_map(|row| row.get_mut(level)).for_each(|leaves| leaves.fill(None));
        }
        Ok(())
    }

    /// One objective's pass through the piece below `level`, if its loss depends on it.
    fn pass(&self, level: usize, row: &AtLeaves) -> Result<Option<Gradients>, TrainError> {
        match row.get(level) {
            Some(gradients) if gradients.iter().any(Option::is_some) => self.cuts.descend(level, gradients).map(Some),
            _ => Ok(None),
        }
    }

    /// How many values the gradient of each parameter holds.
    fn sizes(&self, found: &Gradients) -> Result<BTreeMap<usize, usize>, TrainError> {
        let mut sizes = BTreeMap::new();
        for (index, (_, var)) in self.parameters.iter().enumerate() {
            if let Some(gradient) = gradient(found, var)? {
                sizes.insert(index, size(&gradient));
            }
        }
        Ok(sizes)
    }

    fn slices(&self, found: &Gradients, part: &[Slice]) -> Result<Row, TrainError> {
        let slice = |slice: &Slice| -> Result<Option<Gradient>, TrainError> {
            let var = &self.parameters[slice.parameter].1;
            let Some(gradient) = gradient(found, var)? else { return Ok(None) };
            let whole = var.dims().first().is_none_or(|height| slice.rows == *height);
            Ok(Some(if whole { gradient } else { gradient.narrow(slice.from, slice.rows)? }))
        };
        part.iter().map(slice).collect()
    }

    fn add(&mut self, kept: Vec<Row>, products: &mut Products) -> Result<(), TrainError> {
        self.held = self.held.max(kept.iter().flatten().flatten().map(size).sum());
        products.add(&kept)
    }

    /// Divides parameters, whose gradients hold so many values, into parts of which `objectives` gradients fit.
    fn parts(&self, sizes: &BTreeMap<usize, usize>, objectives: usize) -> Vec<Part> {
        let room = (self.budget / objectives.max(1)).max(1);
        let mut parts: Vec<Part> = vec![Part::new()];
        let mut used = 0.0;
        for (&parameter, &size) in sizes {
            let height = self.parameters[parameter].1.dims().first().copied().unwrap_or(1);
            // Of a table, a row holds as much as an average one.
            let width = size as f64 / height.max(1) as f64;
            let mut from = 0;
            while from < height {
                let last = parts.len() - 1;
                let fit = ((room as f64 - used) / width).min((height - from) as f64).max(0.0) as usize;
                if fit == 0 && !parts[last].is_empty() {
                    parts.push(Part::new());
                    used = 0.0;
                    continue;
                }
                // A row is never divided.
                let rows = fit.max(1);
                parts[last].push(Slice { parameter, from, rows });
                (from, used) = (from + rows, used + rows as f64 * width);
            }
        }
        parts
    }
}

fn size(gradient: &Gradient) -> usize {
    match gradient {
        Gradient::Dense(values) | Gradient::Rows { values, .. } => values.elem_count(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Two pieces, three losses; the second piece is larger than its share of the budget.
    fn graph(parameters: &[(String, Var)]) -> (Cuts<'static>, Vec<Tensor>) {
        let [a, b] = [0, 1].map(|k| parameters[k].1.as_tensor());
        let mut cuts = Cuts::default();
        let x = Tensor::new(&[[1f32, -2.0, 0.5], [0.3, 0.7, -1.0]], &Device::Cpu).unwrap();
        let [hidden] = cuts.at([x.matmul(a).unwrap().tanh().unwrap()]).unwrap();
        let [top] = cuts.at([hidden.matmul(b).unwrap().tanh().unwrap()]).unwrap();
        let losses = vec![
            top.sqr().unwrap().sum_all().unwrap(),
            top.exp().unwrap().mean_all().unwrap(),
            top.sum(0).unwrap().sqr().unwrap().sum_all().unwrap(),
        ];
        (cuts, losses)
    }

    fn parameters() -> Vec<(String, Var)> {
        let var = |rows: usize, columns: usize, phase: f32| {
            let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 1.7 + phase).sin()).collect();
            Var::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        vec![("a".into(), var(3, 4, 0.1)), ("b".into(), var(4, 2, 0.9))]
    }

    fn leaves(cuts: &Cuts<'_>, losses: &[Tensor]) -> Vec<AtLeaves> {
        let one = |loss: &Tensor| {
            let mut row = AtLeaves::new();
            cuts.collect(&paretune_encoder::backward(loss).unwrap(), cuts.levels(), &mut row).unwrap();
            row
        };
        losses.iter().map(one).collect()
    }

    #[test]
    fn products_are_those_of_whole_gradients_in_the_memory_of_one() {
        let parameters = parameters();
        let (cuts, losses) = graph(&parameters);
        let mut rows = leaves(&cuts, &losses);
        let mut stream = Stream::new(&cuts, &parameters);
        let found = stream.products(&mut rows).unwrap();
        assert!(stream.held <= 20, "{} values of 20", stream.held);

        // In one piece: finite differences of each loss.
        let whole: Vec<Vec<f64>> = (0..3)
            .map(|k| {
                let mut gradient = Vec::new();
                for (_, var) in &parameters {
                    let before: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
                    for i in 0..before.len() {
                        let at = |delta: f32| {
                            let mut moved = before.clone();
                            moved[i] += delta;
                            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                            f64::from(graph(&parameters).1[k].to_scalar::<f32>().unwrap())
                        };
                        gradient.push((at(1e-2) - at(-1e-2)) / 2e-2);
                    }
                    var.set(&Tensor::from_vec(before, var.shape(), &Device::Cpu).unwrap()).unwrap();
                }
                gradient
            })
            .collect();
        for k in 0..3 {
            for l in k..3 {
                let expected: f64 = whole[k].iter().zip(&whole[l]).map(|(a, b)| a * b).sum();
                let scale = whole[k].iter().map(|a| a * a).sum::<f64>().max(1.0);
                assert!((found.get(k, l) - expected).abs() < 3e-3 * scale, "{} and {expected}", found.get(k, l));
            }
        }

        // With room for everything nothing is gone through twice, and the products are the same.
        let mut rows = leaves(&cuts, &losses);
        let mut roomy = Stream { budget: 1000, ..Stream::new(&cuts, &parameters) };
        let again = roomy.products(&mut rows).unwrap();
        assert!(roomy.held > 20);
        for k in 0..3 {
            for l in k..3 {
                assert!((found.get(k, l) - again.get(k, l)).abs() < 1e-6 * again.get(k, k).max(1.0));
            }
        }
    }

    #[test]
    fn parts_cover_every_row_once() {
        let parameters = parameters();
        let cuts = Cuts::default();
        for (budget, objectives) in [(20, 3), (20, 8), (7, 2), (1, 5), (1000, 1)] {
            let stream = Stream { budget, ..Stream::new(&cuts, &parameters) };
            let parts = stream.parts(&BTreeMap::from([(0, 12), (1, 8)]), objectives);
            let mut rows = [0, 0];
            for slice in parts.iter().flatten() {
                assert_eq!(slice.from, rows[slice.parameter]);
                rows[slice.parameter] += slice.rows;
            }
            assert_eq!(rows, [3, 4], "{budget} {objectives}");
            let width = |slice: &Slice| slice.rows * [4, 2][slice.parameter];
            for part in &parts {
                let size: usize = part.iter().map(width).sum();
                assert!(size <= (budget / objectives).max(4), "{size} of {budget}/{objectives}");
            }
        }
    }

    #[test]
    fn a_parameter_of_two_pieces_is_refused() {
        let parameters = parameters();
        let mut cuts = Cuts::default();
        let a = parameters[0].1.as_tensor();
        let x = Tensor::new(&[[1f32, -2.0, 0.5]], &Device::Cpu).unwrap();
        let [hidden] = cuts.at([x.matmul(a).unwrap()]).unwrap();
        let [top] = cuts.at([hidden.matmul(&a.t().unwrap()).unwrap()]).unwrap();
        let mut rows = leaves(&cuts, &[top.sum_all().unwrap()]);
        let refused = Stream::new(&cuts, &parameters).products(&mut rows).err().unwrap().to_string();
        assert!(refused.contains("`a`"), "{refused}");
    }
}
