//! `modules.json`: the parts of which a sentence-transformers model is made.

use std::path::{Component, Path};

use serde::Deserialize;

/// One entry of `modules.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    /// The class name without its Python package: `Transformer`, `Pooling`, `Normalize`, `Dense`, …
    pub(crate) fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    /// The module's folder below the model's, empty for the model's own folder.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Parses `modules.json`; folders that would lead out of the model's own are refused.
pub(crate) fn parse(text: &str) -> Result<Vec<Module>, String> {
    let modules: Vec<Module> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match modules.iter().find(|module| !stays_inside(&module.path)) {
        Some(module) => Err(format!("the module path `{}` leads out of the model's folder", module.path)),
        None => Ok(modules),
    }
}

/// Whether a relative path from a model's file stays below the model's folder.
pub(crate) fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_class_are_known() {
        let modules = parse(
            r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
                {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.sentence_transformer.modules.Pooling"}]"#,
        )
        .unwrap();
        let kinds: Vec<_> = modules.iter().map(|module| (module.kind(), module.path())).collect();
        assert_eq!(kinds, [("Transformer", ""), ("Pooling", "1_Pooling")]);
    }

    #[test]
    fn a_path_out_of_the_model_is_refused() {
        for path in ["../other", "/etc", "a/../../b"] {
            let error = parse(&format!(r#"[{{"path":"{path}","type":"x.Pooling"}}]"#)).unwrap_err();
            assert!(error.contains(path), "{error}");
        }
    }
}
