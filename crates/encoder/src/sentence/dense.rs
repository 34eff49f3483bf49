//! A dense layer after the pooling, as sentence-transformers' `Dense` has it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use paretune_features::ModelPart;
use serde::Deserialize;
use serde_json::json;

use crate::error::EncoderError;
use crate::file;
use crate::kernels::activation;
use crate::kernels::gemm::{Arithmetic, Panels, Stack, View, product};
use crate::save::write_json;
use crate::weights::{self, Precision, to_bytes, write_whole};

/// `y = f(x·Wᵀ + b)`.
pub(super) struct Dense {
    inputs: usize,
    outputs: usize,
    panels: Panels,
    bias: Option<Vec<f32>>,
    nonlinearity: Nonlinearity,
    /// As in the file, to be written again.
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Config {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    use_residual: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nonlinearity {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
    Silu,
}

/// Classes of `torch.nn`, without the module in which each version of PyTorch keeps them, and where they are to be found.
const NONLINEARITIES: [(&str, &str, Nonlinearity); 6] = [
    ("Identity", "torch.nn.modules.linear.Identity", Nonlinearity::Identity),
    ("Tanh", "torch.nn.modules.activation.Tanh", Nonlinearity::Tanh),
    ("ReLU", "torch.nn.modules.activation.ReLU", Nonlinearity::Relu),
    ("GELU", "torch.nn.modules.activation.GELU", Nonlinearity::Gelu),
    ("Sigmoid", "torch.nn.modules.activation.Sigmoid", Nonlinearity::Sigmoid),
    ("SiLU", "torch.nn.modules.activation.SiLU", Nonlinearity::Silu),
];

impl Nonlinearity {
    fn named(class: &str) -> Result<Self, String> {
        let name = class.strip_prefix("torch.nn.").and_then(|path| path.rsplit('.').next());
        let known = NONLINEARITIES.iter().find(|(known, _, _)| Some(*known) == name);
        known.map(|(_, _, nonlinearity)| *nonlinearity).ok_or_else(|| {
            let known: Vec<&str> = NONLINEARITIES.iter().map(|(name, _, _)| *name).collect();
            format!("activation_function is `{class}`; supported: {} of torch.nn", known.join(", "))
        })
    }

    fn class(self) -> &'static str {
        let found = NONLINEARITIES.iter().find(|(_, _, other)| *other == self);
        found.expect("every nonlinearity is in the table").1
    }

    fn apply(self, values: &mut [f32]) {
        let each = |values: &mut [f32], f: fn(f32) -> f32| values.iter_mut().for_each(|value| *value = f(*value));
        match self {
            Self::Identity => {}
            Self::Tanh => each(values, f32::tanh),
            Self::Relu => each(values, |x| x.max(0.0)),
            Self::Gelu => activation::Activation::Gelu.apply(values),
            Self::Sigmoid => each(values, |x| 1.0 / (1.0 + (-x).exp())),
            Self::Silu => each(values, |x| x / (1.0 + (-x).exp())),
        }
    }
}

impl Dense {
    /// Reads the layer, which is to take vectors of `width`.
    pub(super) fn read(part: &ModelPart, width: usize) -> Result<Self, EncoderError> {
        let path = part.dir.join("config.json");
        let text = file::text(&path)?;
        let invalid = |reason: String| EncoderError::Config { path: path.clone(), reason };
        let config: Config = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let nonlinearity = match &config.activation_function {
            Some(class) => Nonlinearity::named(class).map_err(invalid)?,
            None => Nonlinearity::Tanh,
        };
        for (field, name) in
            [("module_input_name", &config.module_input_name), ("module_output_name", &config.module_output_name)]
        {
            if let Some(other) = name.as_deref().filter(|name| *name != "sentence_embedding") {
                return Err(invalid(format!("{field} is `{other}`; supported: sentence_embedding")));
            }
        }
        if config.use_residual == Some(true) {
            return Err(invalid("use_residual is not supported; give a model without it".to_owned()));
        }
        let (inputs, outputs) = (config.in_features, config.out_features);
        if inputs != width {
            return Err(invalid(format!("in_features is {inputs}, but the part before gives {width} numbers")));
        }
        if outputs == 0 {
            return Err(invalid("out_features is 0; it must be positive".to_owned()));
        }

        let mut shapes = BTreeMap::from([("linear.weight".to_owned(), vec![outputs, inputs])]);
        if config.bias != Some(false) {
            shapes.insert("linear.bias".to_owned(), vec![outputs]);
        }
        let files = part.weights()?;
        let tensors = weights::read(&files, &Device::Cpu, str::to_owned, weights::shaped(&shapes, |_| false))?;
        weights::complete(files.first(), shapes.keys(), &tensors)?;
        let numbers = |name: &str| match tensors.get(name) {
            Some(tensor) => Ok::<_, EncoderError>(Some(tensor.flatten_all()?.to_vec1::<f32>()?)),
            None => Ok(None),
        };
        let weight = numbers("linear.weight")?.unwrap_or_default();
        let panels = Panels::transposed(Stack::new(&[&weight], inputs), Arithmetic::F32);
        Ok(Self { inputs, outputs, panels, bias: numbers("linear.bias")?, nonlinearity, tensors })
    }

    /// Numbers in a vector that the layer makes.
    pub(super) fn width(&self) -> usize {
        self.outputs
    }

    /// The layer's vectors for `rows` vectors that lie end to end.
    pub(super) fn apply(&self, rows: usize, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; rows * self.outputs];
        product(View::new(values, rows, self.inputs), &self.panels, &mut out, &mut [], |_, column, out, _| {
            if let Some(bias) = &self.bias {
                out.iter_mut().zip(&bias[column..]).for_each(|(out, bias)| *out += bias);
            }
        });
        self.nonlinearity.apply(&mut out);
        out
    }

    /// Writes the layer to its folder.
    pub(super) fn save(&self, dir: &Path, precision: Precision) -> Result<(), EncoderError> {
        let config = json!({
            "in_features": self.inputs,
            "out_features": self.outputs,
            "bias": self.bias.is_some(),
            "activation_function": self.nonlinearity.class(),
        });
        write_json(&dir.join("config.json"), &config)?;
        let path = dir.join("model.safetensors");
        write_whole(&path, &to_bytes(&path, &self.tensors, precision)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonlinearities_are_those_of_torch() {
        // torch.nn.Tanh()(torch.tensor([-1.5, 0, 0.75])) and so on, torch 2.15.0.
        for (class, expected) in [
            ("torch.nn.Identity", [-1.5, 0.0, 0.75]),
            ("torch.nn.modules.activation.Tanh", [-0.905_148_25, 0.0, 0.635_149]),
            ("torch.nn.modules.activation.ReLU", [0.0, 0.0, 0.75]),
            ("torch.nn.modules.activation.GELU", [-0.100_210_8, 0.0, 0.580_029_55]),
            ("torch.nn.modules.activation.Sigmoid", [0.182_425_52, 0.5, 0.679_178_7]),
            ("torch.nn.modules.activation.SiLU", [-0.273_638_3, 0.0, 0.509_384]),
        ] {
            let nonlinearity = Nonlinearity::named(class).unwrap();
            let mut values = [-1.5, 0.0, 0.75];
            nonlinearity.apply(&mut values);
            let near =
                values.iter().zip(&expected).all(|(value, expected): (&f32, &f32)| (value - expected).abs() < 1e-6);
            assert!(near, "{class}: {values:?}");
            assert_eq!(Nonlinearity::named(nonlinearity.class()), Ok(nonlinearity));
        }
        for class in ["my.code.Tanh", "torch.nn.Softplus", "Tanh", "torch.nn.", ""] {
            let message = Nonlinearity::named(class).unwrap_err();
            assert!(message.contains(class) && message.contains("Identity, Tanh"), "{message}");
        }
    }
}
