//! What follows the pooling in a sentence-transformers model.

use std::path::Path;

use paretune_features::ModelFiles;
use serde::Deserialize;

use crate::error::EncoderError;
use crate::file;
use crate::sentence::Vectors;
use crate::sentence::dense::Dense;
use crate::weights::Precision;

const SUPPORTED: &str = "Transformer, then Pooling, then any of Dense and Normalize";

enum Part {
    Dense(Dense),
    Normalize,
}

/// The parts after the pooling, in their order.
pub(super) struct Head {
    parts: Vec<Part>,
    width: usize,
}

#[derive(Deserialize)]
struct NormalizeConfig {
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

impl Head {
    /// Reads the parts of a model whose pooling gives vectors of `hidden` numbers.
    pub(super) fn read(files: &ModelFiles, hidden: usize) -> Result<Self, EncoderError> {
        let all = files.parts()?;
        let refuse = |kind: &str| EncoderError::UnsupportedPart {
            path: files.dir.clone(),
            kind: kind.to_owned(),
            supported: SUPPORTED,
        };
        let mut head = Self { parts: Vec::new(), width: hidden };
        if files.modules.is_none() {
            return Ok(head);
        }
        for (place, expected) in ["Transformer", "Pooling"].into_iter().enumerate() {
            let kind = all.get(place).map_or("(none)", |part| part.kind.as_str());
            if kind != expected {
                return Err(refuse(kind));
            }
        }
        for part in &all[2..] {
            match part.kind.as_str() {
                "Dense" => {
                    let dense = Dense::read(part, head.width)?;
                    head.width = dense.width();
                    head.parts.push(Part::Dense(dense));
                }
                "Normalize" => {
                    check_normalize(&part.dir.join("config.json"))?;
                    head.parts.push(Part::Normalize);
                }
                other => return Err(refuse(other)),
            }
        }
        Ok(head)
    }

    /// Numbers in a vector that leaves the head.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Whether vectors are scaled to length 1.
    pub(super) fn normalizes(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Normalize))
    }

    pub(super) fn apply(&self, mut vectors: Vectors) -> Vectors {
        for part in &self.parts {
            vectors = match part {
                Part::Dense(dense) => {
                    let rows = vectors.len();
                    Vectors::shaped(rows, dense.width(), dense.apply(rows, vectors.as_slice()))
                }
                Part::Normalize => vectors.normalized(),
            };
        }
        vectors
    }

    /// Writes the parts' files below `dir`; the answer names their folders and kinds for `modules.json`.
    pub(super) fn save(&self, dir: &Path, precision: Precision) -> Result<Vec<(String, &'static str)>, EncoderError> {
        let mut written = Vec::with_capacity(self.parts.len());
        for (part, place) in self.parts.iter().zip(2..) {
            written.push(match part {
                Part::Dense(dense) => {
                    let name = format!("{place}_Dense");
                    dense.save(&dir.join(&name), precision)?;
                    (name, "Dense")
                }
                Part::Normalize => (format!("{place}_Normalize"), "Normalize"),
            });
        }
        Ok(written)
    }
}

/// That a `Normalize` part works on the vectors of texts; most have no configuration at all.
fn check_normalize(path: &Path) -> Result<(), EncoderError> {
    if !path.is_file() {
        return Ok(());
    }
    let text = file::text(path)?;
    let invalid = |reason: String| EncoderError::Config { path: path.to_owned(), reason };
    let config: NormalizeConfig = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    for (field, name) in
        [("module_input_name", config.module_input_name), ("module_output_name", config.module_output_name)]
    {
        if let Some(other) = name.filter(|name| name != "sentence_embedding") {
            return Err(invalid(format!("{field} is `{other}`; supported: sentence_embedding")));
        }
    }
    Ok(())
}
