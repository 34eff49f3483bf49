//! The trained parameters: for an optimizer to change, and for checkpoints to store and set.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::parameter::Parameter;

impl Encoder {
    /// The trained parameters by their Hub names (such as `encoder.layer.0.output.dense.weight`), sorted by name; while an adapter is
    /// active those of the adapter, by their keys in a file of `peft`.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        if let Some(state) = self.active.as_ref().and_then(|name| self.adapters.get(name)) {
            let trained = |(name, parameter): (String, Parameter)| Some((name, parameter.var()?.clone()));
            return state.named().into_iter().filter_map(trained).collect();
        }
        let trained = |(name, parameter): (&String, &Parameter)| Some((name.clone(), parameter.var()?.clone()));
        self.parameters.iter().filter_map(trained).collect()
    }

    /// Sets all trained parameters, as from a checkpoint that stored [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// If the names are not exactly those of the trained parameters, or a shape differs; then nothing is changed.
    pub fn set_parameters(&self, tensors: &HashMap<String, Tensor>) -> Result<(), EncoderError> {
        let parameters = self.parameters();
        let absent = |(name, _): &&(String, Var)| !tensors.contains_key(name);
        let missing: Vec<String> = parameters.iter().filter(absent).map(|(name, _)| name.clone()).collect();
        let known = |name: &str| parameters.binary_search_by(|(other, _)| other.as_str().cmp(name)).is_ok();
        let mut unknown: Vec<String> = tensors.keys().filter(|name| !known(name)).cloned().collect();
        unknown.sort();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(EncoderError::ParameterMismatch { missing, unknown });
        }
        for (name, var) in &parameters {
            let found = tensors[name].dims();
            if found != var.dims() {
                let (expected, found) = (var.dims().to_vec(), found.to_vec());
                return Err(EncoderError::WrongShape { name: name.clone(), expected, found });
            }
        }
        for (name, var) in &parameters {
            // A copy, so that the checkpoint's tensor and the variable never share memory.
            var.set(&tensors[name].to_dtype(DType::F32)?.to_device(var.device())?.contiguous()?.copy()?)?;
        }
        Ok(())
    }
}
