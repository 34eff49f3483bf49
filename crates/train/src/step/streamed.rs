//! The full Jacobian's Gramian without the full Jacobian.
//!
//! All objectives go down the graph side by side, one piece at a time: the gradients of a piece's parameters are multiplied with each other
//! and dropped before the next piece begins. What must be held at once is `K` gradients of one piece, and it is held to one gradient of
//! the whole model: a piece too large for that is gone through several times, for some of its values each time.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Var;
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

/// Goes down from the last level for every objective.
pub(super) struct Stream<'a> {
    cuts: &'a Cuts,
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
    pub(super) fn new(cuts: &'a Cuts, parameters: &'a [(String, Var)]) -> Self {
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
        let mut kept: Vec<BTreeMap<usize, Gradient>> = Vec::new();
        let mut met = BTreeSet::new();
        let mut held = 0;
        let mut fits = true;
        for row in rows.iter_mut() {
            let found = match row.get(level) {
                Some(gradients) if gradients.iter().any(Option::is_some) => self.cuts.descend(level, gradients)?,
                _ => {
                    kept.push(BTreeMap::new());
                    continue;
                }
            };
            self.cuts.collect(&found, level, row)?;
            let mut own = BTreeMap::new();
            for (index, (_, var)) in self.parameters.iter().enumerate() {
                let Some(gradient) = gradient(&found, var)? else { continue };
                met.insert(index);
                held += size(&gradient);
                fits &= held <= self.budget;
                if fits {
                    own.insert(index, gradient);
                }
            }
            kept.push(own);
        }
        if let Some(index) = met.iter().find(|index| self.met.contains(*index)) {
            return Err(TrainError::SharedByPieces { name: self.parameters[*index].0.clone() });
        }
        if fits {
            self.held = self.held.max(held);
            let part = |own: &BTreeMap<usize, Gradient>| met.iter().map(|index| own.get(index).cloned()).collect();
            products.add(&kept.iter().map(part).collect::<Vec<Row>>())?;
        } else {
            drop(kept);
            for part in self.parts(&met, rows.len()) {
                self.part(level, rows, &part, products)?;
            }
        }
        self.met.extend(met);
        // The last level's are needed again for the combined pass.
        if level + 1 < self.cuts.levels() {
            rows.iter_mut().filter_map(|row| row.get_mut(level)).for_each(|leaves| leaves.fill(None));
        }
        Ok(())
    }

    /// The passes of one piece again, for some of its values.
    fn part(
        &mut self,
        level: usize,
        rows: &[AtLeaves],
        part: &[Slice],
        products: &mut Products,
    ) -> Result<(), TrainError> {
        let mut kept: Vec<Row> = Vec::new();
        let mut held = 0;
        for row in rows {
            let found = match row.get(level) {
                Some(gradients) if gradients.iter().any(Option::is_some) => self.cuts.descend(level, gradients)?,
                _ => {
                    kept.push(vec![None; part.len()]);
                    continue;
                }
            };
            let slice = |slice: &Slice| -> Result<Option<Gradient>, TrainError> {
                let found = gradient(&found, &self.parameters[slice.parameter].1)?;
                found.map(|gradient| Ok(gradient.narrow(slice.from, slice.rows)?)).transpose()
            };
            let own: Row = part.iter().map(slice).collect::<Result<_, TrainError>>()?;
            held += own.iter().flatten().map(size).sum::<usize>();
            kept.push(own);
        }
        self.held = self.held.max(held);
        products.add(&kept)
    }

    /// Divides the parameters so that `objectives` gradients of each division fit.
    fn parts(&self, met: &BTreeSet<usize>, objectives: usize) -> Vec<Vec<Slice>> {
        let room = (self.budget / objectives.max(1)).max(1);
        let mut parts: Vec<Vec<Slice>> = vec![Vec::new()];
        let mut used = 0;
        for &parameter in met {
            let dims = self.parameters[parameter].1.dims();
            let height = dims.first().copied().unwrap_or(1);
            let width = dims.iter().skip(1).product::<usize>().max(1);
            let mut from = 0;
            while from < height {
                // A row is never divided, and a part is never empty.
                let rows = ((room.saturating_sub(used)) / width).min(height - from);
                let last = parts.len() - 1;
                if rows == 0 && !parts[last].is_empty() {
                    parts.push(Vec::new());
                    used = 0;
                    continue;
                }
                let rows = rows.max(1);
                parts[last].push(Slice { parameter, from, rows });
                (from, used) = (from + rows, used + rows * width);
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
    fn graph(parameters: &[(String, Var)]) -> (Cuts, Vec<Tensor>) {
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

    fn leaves(cuts: &Cuts, losses: &[Tensor]) -> Vec<AtLeaves> {
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
            let parts = stream.parts(&BTreeSet::from([0, 1]), objectives);
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
