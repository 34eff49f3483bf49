//! Random damage to a model's folder, with an eye for what its files mean. The same seed and number make the same damage.

mod bytes;
mod files;
mod gguf;
mod json;
mod resize;
mod tensors;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::corpus::Corpus;
use super::folder::Folder;

/// A damaged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// The model it was made of.
    pub(crate) model: String,
    /// What was done, in order.
    pub(crate) mutations: Vec<String>,
    pub(crate) folder: Folder,
}

/// Case `number` of a seed: a model of the corpus after one to eight mutations.
pub(crate) fn case(corpus: &Corpus, seed: u64, number: u64) -> Case {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    let model = &corpus.models[random.random_range(0..corpus.models.len())];
    let mut case = Case { model: model.name.clone(), mutations: Vec::new(), folder: model.folder.clone() };
    // Few as often as many: a first mutation that makes a file unreadable hides the others.
    let count = [1, 1, 1, 2, 2, 3, 4, 8][random.random_range(0..8)];
    for _ in 0..count {
        if let Some(done) = mutate(&mut case.folder, corpus, &mut random) {
            case.mutations.push(done);
        }
    }
    case
}

/// Damages the folder in one way, and says how; `None` where the way has nothing to change.
fn mutate(folder: &mut Folder, corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<String> {
    match random.random_range(0..100) {
        0..18 => bytes::mutate(folder, corpus, random),
        18..58 => {
            let path = folder.ending(".json").choose(random)?.clone();
            let (changed, done) = json::mutate(folder.bytes(&path)?, corpus, random)?;
            folder.put(&path, changed);
            Some(format!("{path}: {done}"))
        }
        58..78 => match folder.ending(".gguf").is_empty() {
            true => tensors::mutate(folder, corpus, random),
            false => gguf::mutate(folder, random),
        },
        78..90 => files::mutate(folder, corpus, random),
        _ => resize::mutate(folder, random),
    }
}
