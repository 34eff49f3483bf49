//! Which files of a repository make up the model.

use crate::FeatureError;
use crate::files::PICKLES;
use crate::gguf;
use crate::hub::RemoteFile;

/// Small files that are fetched when they are there.
const SMALL: &[&str] = &[
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// Picks the model's files: not the other formats of its weights, nor anything that can run code.
pub(super) fn wanted(model: &str, files: &[RemoteFile]) -> Result<Vec<RemoteFile>, FeatureError> {
    let has = |name: &str| files.iter().any(|file| file.path == name);
    let missing = |file: &str, advice: &str| FeatureError::MissingFile {
        model: model.to_owned(),
        file: file.to_owned(),
        advice: advice.to_owned(),
    };
    // Older sentence-transformers models keep the transformer in a folder of its own.
    let base = if has("config.json") || !has("0_Transformer/config.json") { "" } else { "0_Transformer/" };
    let of_base = |name: &str| has(&format!("{base}{name}"));

    let llama = files.iter().find(|file| gguf::is_named(file.path.as_ref()));
    if let (Some(file), false) = (llama, files.iter().any(|file| file.path.ends_with(".safetensors"))) {
        let advice = format!(
            "it holds files of llama.cpp, which are not fetched; download `{}` and the `tokenizer.json` of the model it was made of \
             into one folder, and give the path of the file",
            file.path
        );
        return Err(missing("model.safetensors", &advice));
    }
    if !of_base("config.json") {
        return Err(missing("config.json", "it is not a transformer model; give another"));
    }
    if !of_base("tokenizer.json") {
        return Err(missing(
            "tokenizer.json",
            "the tokenizer is read from this file alone; save the model in Python with `AutoTokenizer.from_pretrained(…, \
             use_fast=True).save_pretrained(…)` and give that directory",
        ));
    }
    let single = of_base("model.safetensors");
    if !single && !of_base("model.safetensors.index.json") {
        return Err(match PICKLES.iter().find(|name| of_base(name)) {
            Some(file) => FeatureError::UnsafeWeights { model: model.to_owned(), file: (*file).to_owned() },
            None => missing("model.safetensors", "it has no weights that can be read; give another model or revision"),
        });
    }
    let is_weights = |name: &str| match single {
        true => name == "model.safetensors",
        false => {
            name == "model.safetensors.index.json" || (name.starts_with("model-") && name.ends_with(".safetensors"))
        }
    };
    let is_wanted = |path: &str| {
        let inside = path.strip_prefix(base).is_some_and(|name| SMALL.contains(&name) || is_weights(name));
        inside || SMALL.contains(&path) || is_module_file(path, "config.json") || is_dense_weights(path)
    };
    let pickled = files.iter().find_map(|file| {
        let folder = file.path.strip_suffix("/pytorch_model.bin")?;
        let weights = format!("{folder}/model.safetensors");
        (is_dense_weights(&weights) && !has(&weights)).then(|| file.path.clone())
    });
    if let Some(file) = pickled {
        return Err(FeatureError::UnsafeWeights { model: model.to_owned(), file });
    }
    Ok(files.iter().filter(|file| is_wanted(&file.path)).cloned().collect())
}

/// Whether the path is like `1_Pooling/config.json`, for this name of a file.
fn is_module_file(path: &str, file: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else {
        return false;
    };
    let numbered = folder.split_once('_').is_some_and(|(number, kind)| {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    name == file && numbered && !folder.contains('/')
}

/// Whether the path is like `2_Dense/model.safetensors`.
fn is_dense_weights(path: &str) -> bool {
    is_module_file(path, "model.safetensors") && path.contains("_Dense")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str]) -> Result<Vec<String>, FeatureError> {
        let files: Vec<_> = files.iter().map(|path| RemoteFile { path: (*path).into(), bytes: 1 }).collect();
        wanted("org/name", &files).map(|files| files.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn one_format_of_the_weights_is_taken() {
        let taken = check(&[
            ".gitattributes",
            "1_Pooling/config.json",
            "README.md",
            "config.json",
            "model.safetensors",
            "modules.json",
            "onnx/config.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
            "train_script.py",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
        ]);
        let expected = ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"];
        assert_eq!(taken.unwrap(), expected);
    }

    #[test]
    fn shards_come_with_their_index() {
        let all = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(check(&all).unwrap(), all);
    }

    #[test]
    fn dense_layers_come_with_their_weights() {
        let all = [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "config.json",
            "model.safetensors",
            "modules.json",
            "tokenizer.json",
        ];
        let mut offered = all.to_vec();
        offered.extend(["2_Dense/pytorch_model.bin", "deep/2_Dense/model.safetensors", "onnx_Dense/model.safetensors"]);
        assert_eq!(check(&offered).unwrap(), all);

        offered.retain(|path| *path != "2_Dense/model.safetensors");
        let error = check(&offered).unwrap_err();
        assert!(
            matches!(&error, FeatureError::UnsafeWeights { file, .. } if file == "2_Dense/pytorch_model.bin"),
            "{error}"
        );
    }

    #[test]
    fn a_transformer_in_its_own_folder_is_found() {
        let all = [
            "0_Transformer/config.json",
            "0_Transformer/model.safetensors",
            "0_Transformer/tokenizer.json",
            "1_Pooling/config.json",
            "modules.json",
        ];
        assert_eq!(check(&all).unwrap(), all);
    }

    #[test]
    fn what_cannot_be_used_is_said_before_anything_is_fetched() {
        let error = |files: &[&str]| check(files).unwrap_err().to_string();
        assert!(error(&["config.json", "model.safetensors"]).contains("`tokenizer.json`"));
        assert!(error(&["tokenizer.json", "model.safetensors"]).contains("`config.json`"));
        assert!(error(&["tokenizer.json", "config.json"]).contains("`model.safetensors`"));
        let llama = error(&["README.md", "config.json", "model-Q4_K_M.gguf", "model-Q8_0.gguf"]);
        assert!(llama.contains("model-Q4_K_M.gguf") && llama.contains("`tokenizer.json`"), "{llama}");
        assert!(check(&["config.json", "tokenizer.json", "model.safetensors", "model-Q8_0.gguf"]).unwrap().len() == 3);
        let pickle = error(&["tokenizer.json", "config.json", "pytorch_model.bin"]);
        assert!(pickle.contains("pytorch_model.bin") && pickle.contains("run any code"), "{pickle}");
    }
}
