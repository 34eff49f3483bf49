//! A recurrent layer of Candle's own operations: for other devices than the CPU, and as the twin that tests compare with.

use candle_core::{Result, Tensor};

use super::order::Order;
use super::{Cell, Layer};
use crate::network::composed::linear;

/// `1 / (1 + e^(-x))`, written so that no exponential overflows.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? * 0.5)? + 0.5
}

/// The states of a layer for `x`, both `[T, width]`; the sequences of `order` are one group.
pub(super) fn layer(x: &Tensor, layer: &Layer, order: &Order) -> Result<Tensor> {
    let device = x.device();
    let width = layer.width;
    let [input, hidden, input_bias, hidden_bias] = layer.all.each_ref().map(|var| var.as_tensor());
    let x = x.index_select(&Tensor::new(&order.rows[..], device)?, 0)?;
    let given = linear(&x, input, input_bias)?;
    let mut states = Vec::new();
    for group in &order.groups {
        let alive = group.steps.first().map_or(0, |step| step.len());
        let mut state = Tensor::zeros((alive, width), x.dtype(), device)?;
        let mut cell = state.clone();
        for step in &group.steps {
            let before = state.narrow(0, 0, step.len())?;
            let given = given.narrow(0, step.start, step.len())?;
            let from_state = linear(&before, hidden, hidden_bias)?;
            let part = |of: &Tensor, gate: usize| of.narrow(1, gate * width, width);
            let sum = |gate: usize| part(&given, gate)? + part(&from_state, gate)?;
            match layer.cell {
                Cell::Gru => {
                    let (reset, update) = (sigmoid(&sum(0)?)?, sigmoid(&sum(1)?)?);
                    let new = (part(&given, 2)? + (reset * part(&from_state, 2)?)?)?.tanh()?;
                    state = (&new + (update * (before - &new)?)?)?;
                }
                Cell::Lstm => {
                    let (input, forget, output) = (sigmoid(&sum(0)?)?, sigmoid(&sum(1)?)?, sigmoid(&sum(3)?)?);
                    let new = sum(2)?.tanh()?;
                    cell = ((forget * cell.narrow(0, 0, step.len())?)? + (input * new)?)?;
                    state = (output * cell.tanh()?)?;
                }
            }
            states.push(state.clone());
        }
    }
    Tensor::cat(&states, 0)?.index_select(&Tensor::new(&order.places[..], device)?, 0)
}
