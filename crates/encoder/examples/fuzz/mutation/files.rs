//! Files that are missing, swapped, of other models, links, or elsewhere than an index says.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::super::corpus::Corpus;
use super::super::folder::{Content, Folder, OUTSIDE};
use super::tensors;

/// What a link may lead to, itself and files without an end included.
const TARGETS: [&str; 8] =
    ["config.json", "tokenizer.json", "model.safetensors", "no-such-file", ".", "/dev/zero", "/dev/null", "/dev/tty"];

pub(super) fn mutate(folder: &mut Folder, corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<String> {
    let paths = folder.paths();
    let (path, other) = (paths.choose(random)?.clone(), paths.choose(random)?.clone());
    let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
    match random.random_range(0..8) {
        0 => {
            folder.files.remove(&path);
            Some(format!("{path}: missing"))
        }
        1 => {
            let (one, two) = (folder.files[&path].clone(), folder.files[&other].clone());
            folder.files.insert(path.clone(), two);
            folder.files.insert(other.clone(), one);
            Some(format!("{path}: swapped with {other}"))
        }
        2 | 3 => {
            let model = corpus.models.choose(random)?;
            let same = model.folder.ending(&name).choose(random)?.clone();
            let content = model.folder.files[&same].clone();
            folder.files.insert(path.clone(), content);
            Some(format!("{path}: of {}", model.name))
        }
        4 => {
            let model = corpus.models.choose(random)?;
            let foreign = model.folder.paths().choose(random)?.clone();
            // A file whose place is a folder's here would have nowhere to be.
            let taken =
                |known: &String| known.starts_with(&format!("{foreign}/")) || foreign.starts_with(&format!("{known}/"));
            if folder.files.keys().any(taken) {
                return None;
            }
            folder.files.insert(foreign.clone(), model.folder.files[&foreign].clone());
            Some(format!("{foreign}: of {}", model.name))
        }
        5 => {
            let target = TARGETS[random.random_range(0..TARGETS.len())];
            let content = if random.random_bool(0.3) { Content::Folder } else { Content::Link(target.to_owned()) };
            let done = format!("{path}: {content:?}");
            folder.files.insert(path, content);
            Some(done)
        }
        6 if name == "model.safetensors" => {
            let pickle = path.replace("model.safetensors", "pytorch_model.bin");
            let content = folder.files.remove(&path)?;
            folder.files.insert(pickle.clone(), content);
            Some(format!("{path}: renamed to {pickle}"))
        }
        _ => shard(folder, random),
    }
}

/// Cuts the weights into shards with an index that is right but for some entries.
fn shard(folder: &mut Folder, random: &mut ChaCha8Rng) -> Option<String> {
    let stored = tensors::read(folder.bytes("model.safetensors")?)?;
    folder.files.remove("model.safetensors");
    let names: Vec<String> = (1..=3).map(|number| format!("model-0000{number}-of-00003.safetensors")).collect();
    let absolute = format!("{OUTSIDE}/model.safetensors");
    let wrong = [
        "../outside/model.safetensors",
        &absolute,
        "./model-00001-of-00003.safetensors",
        "x/../model-00001-of-00003.safetensors",
        "config.json",
        "adapter/adapter_model.safetensors",
        "",
        ".",
        "model-00009-of-00003.safetensors",
        "a\u{0}b",
    ];
    let mistakes = [0.0, 0.02, 0.3][random.random_range(0..3)];
    let mut map = Map::new();
    let mut shards = vec![Vec::new(); names.len()];
    for tensor in stored {
        let at = random.random_range(0..names.len());
        let place = match random.random_bool(mistakes) {
            true => json!(wrong[random.random_range(0..wrong.len())]),
            false => json!(names[at]),
        };
        map.insert(tensor.name.clone(), place);
        if random.random_bool(mistakes) {
            shards[(at + 1) % names.len()].push(tensor.clone());
        }
        shards[at].push(tensor);
    }
    for (name, tensors) in names.iter().zip(&shards) {
        folder.put(name, tensors::write(tensors));
    }
    let index = json!({"metadata": {"total_size": u64::MAX}, "weight_map": Value::Object(map)});
    folder.put("model.safetensors.index.json", index.to_string().into_bytes());
    Some(format!("model.safetensors: cut into shards, {mistakes} of the index wrong"))
}
