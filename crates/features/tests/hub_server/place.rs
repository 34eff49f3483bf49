//! A server that holds the tiny model, and a cache of its own.

use std::path::Path;

use paretune_features::{FeatureError, FetchOptions, ModelFiles, ModelSource};

use super::{Files, Hub, HubServer};

pub(crate) const OLD: &str = "00112233445566778899aabbccddeeff00112233";
pub(crate) const NEW: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// The tiny model with weights of its own, and things that nobody should download.
pub(crate) fn model(weights: &str) -> Files {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny");
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "1_Pooling/config.json",
    ];
    let mut files: Files = names.iter().map(|name| ((*name).into(), std::fs::read(tiny.join(name)).unwrap())).collect();
    for (name, body) in [("model.safetensors", weights), ("pytorch_model.bin", "pickle"), ("onnx/model.onnx", "onnx")] {
        files.insert(name.into(), body.into());
    }
    files
}

pub(crate) fn hub() -> Hub {
    let commits = [(OLD.into(), model("old weights")), (NEW.into(), model("the new weights"))].into();
    let refs = [("main".into(), NEW.into()), ("v1".into(), OLD.into()), ("refs/pr/3".into(), OLD.into())].into();
    Hub { commits, refs, ..Hub::default() }
}

pub(crate) struct Place {
    pub(crate) server: HubServer,
    pub(crate) cache: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { server: HubServer::start(hub), cache: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self) -> FetchOptions {
        FetchOptions {
            cache: Some(self.cache.path().to_path_buf()),
            endpoint: Some(self.server.endpoint.clone()),
            token: None,
            offline: false,
            progress: false,
        }
    }

    pub(crate) fn fetch(&self, name: &str) -> Result<ModelFiles, FeatureError> {
        fetch(name, &self.options())
    }
}

pub(crate) fn fetch(name: &str, options: &FetchOptions) -> Result<ModelFiles, FeatureError> {
    name.parse::<ModelSource>().unwrap().fetch(options)
}
