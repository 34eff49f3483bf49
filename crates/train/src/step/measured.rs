//! Losses as numbers, checked.

use paretune_objectives::TaskLoss;
use paretune_optim::{Gramian, OptimError, Signals};

use super::row::Products;
use crate::TrainError;

/// What the losses of a batch are.
pub(super) struct Measured<'a> {
    names: &'a [&'a str],
    losses: Vec<f64>,
    observed: Vec<usize>,
}

impl<'a> Measured<'a> {
    /// Refuses a loss that is not finite before anything is differentiated.
    pub(super) fn new(names: &'a [&'a str], losses: &[TaskLoss]) -> Result<Self, TrainError> {
        let mut values = Vec::with_capacity(losses.len());
        for (name, loss) in names.iter().zip(losses) {
            let value = f64::from(loss.loss.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(OptimError::NotFinite { what: "the loss", objective: (*name).into(), value }.into());
            }
            values.push(value);
        }
        Ok(Self { names, losses: values, observed: losses.iter().map(|loss| loss.observed).collect() })
    }

    pub(super) fn observed(&self) -> &[usize] {
        &self.observed
    }

    pub(super) fn losses(&self) -> &[f64] {
        &self.losses
    }

    pub(super) fn without_gramian(&self) -> Signals<'_> {
        Signals { losses: &self.losses, observed: &self.observed, gramian: None }
    }

    pub(super) fn with<'b>(&'b self, gramian: &'b Gramian) -> Signals<'b> {
        Signals { gramian: Some(gramian), ..self.without_gramian() }
    }

    /// The losses, `NaN` where there was no label.
    pub(super) fn reported(&self) -> Vec<f64> {
        let pairs = self.losses.iter().zip(&self.observed);
        pairs.map(|(loss, observed)| if *observed == 0 { f64::NAN } else { *loss }).collect()
    }

    /// The Gramian of the products, which names the objective that is not finite.
    pub(super) fn gramian(&self, products: &Products) -> Result<Gramian, TrainError> {
        for k in 0..products.size() {
            for l in k..products.size() {
                let value = products.get(k, l);
                // The product of a gradient with itself comes first, so it is the other that is not finite.
                if !value.is_finite() {
                    let (what, objective) = ("the squared gradient norm", self.names[l].to_owned());
                    return Err(OptimError::NotFinite { what, objective, value }.into());
                }
            }
        }
        Ok(Gramian::from_dots(products.size(), |k, l| products.get(k, l))?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::step::row::Row;

    #[test]
    fn gramian_names_the_objective_that_is_not_finite() {
        let measured = Measured { names: &["a", "b"], losses: vec![1.0; 2], observed: vec![1; 2] };
        let row = |value: f32| -> Row { vec![Some(Tensor::new(&[value], &Device::Cpu).unwrap().into())] };
        for wrong in [f32::NAN, f32::INFINITY] {
            for (rows, name) in [([row(1.0), row(wrong)], "b"), ([row(wrong), row(1.0)], "a")] {
                let mut products = Products::new(2);
                products.add(&rows).unwrap();
                let refused = measured.gramian(&products).unwrap_err().to_string();
                assert!(refused.contains(&format!("objective {name}")), "{refused}");
            }
        }
    }
}
