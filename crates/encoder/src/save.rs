//! Writing a model as the Hub and sentence-transformers expect it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use paretune_features::ModelFiles;
use serde_json::{Value, json};

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::parameter::Pass;
use crate::weights::{Precision, to_bytes, write_whole};

/// The file which a model directory must have last of all: whoever sees it sees a whole model.
const WEIGHTS: &str = "model.safetensors";

impl Encoder {
    /// Saves the model to `dir` with weights in `f32`; see [`save_as`](Self::save_as).
    ///
    /// # Errors
    /// If a file cannot be written or the tokenizer's files cannot be copied.
    pub fn save(&self, dir: &Path, files: &ModelFiles) -> Result<(), EncoderError> {
        self.save_as(dir, files, Precision::F32)
    }

    /// Saves the model to `dir`, which is made if need be, as `sentence-transformers` loads it: `config.json`,
    /// `model.safetensors`, the tokenizer's files (copied from `files`), `modules.json`, `1_Pooling/config.json` and
    /// `sentence_bert_config.json`. A `Normalize` part of the original model is kept.
    ///
    /// Each file appears whole or not at all, the weights last.
    ///
    /// # Errors
    /// If a file cannot be written or the tokenizer's files cannot be copied.
    pub fn save_as(&self, dir: &Path, files: &ModelFiles, precision: Precision) -> Result<(), EncoderError> {
        let normalize = ("2_Normalize".to_owned(), "Normalize");
        self.write(dir, files, precision, files.normalizes().then_some(normalize).as_slice())
    }

    /// Writes the model, followed by parts whose own files are written already: their folders and kinds.
    pub(crate) fn write(
        &self,
        dir: &Path,
        files: &ModelFiles,
        precision: Precision,
        after: &[(String, &str)],
    ) -> Result<(), EncoderError> {
        files.copy_tokenizer_to(dir)?;
        write_json(&dir.join("config.json"), &self.config_json(precision))?;
        write_json(&dir.join("1_Pooling/config.json"), &self.pooling().to_json(self.hidden_size()))?;
        let sentence_config = dir.join("sentence_bert_config.json");
        if !sentence_config.is_file() {
            let length = files.max_length().unwrap_or(self.config.longest());
            write_json(&sentence_config, &json!({ "max_seq_length": length, "do_lower_case": false }))?;
        }
        write_json(&dir.join("modules.json"), &modules(after))?;
        let path = dir.join(WEIGHTS);
        write_whole(&path, &to_bytes(&path, &self.tensors()?, precision)?)
    }

    /// All tensors of the model, trained or not, by their Hub names and in the shapes of its family's files; the active adapter is
    /// merged into them.
    ///
    /// # Errors
    /// If a tensor cannot be turned into the shape of the files.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, EncoderError> {
        let state = self.active.as_ref().and_then(|name| self.adapters.get(name));
        let mut changed = state.map(|state| self.changed(state)).transpose()?.unwrap_or_default();
        let own = self.parameters.iter().map(|(name, parameter)| {
            let tensor = changed.remove(name).unwrap_or_else(|| parameter.get(Pass::INFERENCE));
            let swapped = self.config.architecture.is_transposed(name, tensor.dims());
            Ok((name.clone(), if swapped { tensor.t()?.contiguous()? } else { tensor }))
        });
        own.chain(self.unused.iter().map(|(name, tensor)| Ok((name.clone(), tensor.clone())))).collect()
    }

    fn config_json(&self, precision: Precision) -> Value {
        let mut fields = self.config.json().clone();
        fields.insert("model_type".to_owned(), json!(self.config.model_type()));
        // What is written has no head, whatever was read.
        fields.insert("architectures".to_owned(), json!([self.config.class()]));
        // Newer versions of transformers call it `dtype` and read both.
        let key = if fields.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        fields.insert(key.to_owned(), json!(precision.name()));
        Value::Object(fields)
    }
}

fn modules(after: &[(String, &str)]) -> Value {
    let first = [(String::new(), "Transformer"), ("1_Pooling".to_owned(), "Pooling")];
    let module = |(index, (path, kind)): (usize, &(String, &str))| {
        let class = format!("sentence_transformers.models.{kind}");
        json!({ "idx": index, "name": index.to_string(), "path": path, "type": class })
    };
    Value::Array(first.iter().chain(after).enumerate().map(module).collect())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), EncoderError> {
    write_whole(path, format!("{value:#}\n").as_bytes())
}
