//! Sizes that are changed in configuration and weights alike: models that belong together and make no sense.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::super::folder::Folder;
use super::tensors;

pub(super) fn mutate(folder: &mut Folder, random: &mut ChaCha8Rng) -> Option<String> {
    let path = folder.ending("config.json").choose(random)?.clone();
    let mut config: Value = serde_json::from_slice(folder.bytes(&path)?).ok()?;
    let sizes = config.as_object()?.iter().filter_map(|(key, value)| Some((key.clone(), value.as_u64()?)));
    let (field, old) = sizes.filter(|(_, size)| (1..=4096).contains(size)).collect::<Vec<_>>().choose(random)?.clone();
    let new = [0, 1, 2, 3, old - 1, old + 1, 2 * old, old / 2][random.random_range(0..8)];
    for value in config.as_object_mut()?.values_mut() {
        if value.as_u64() == Some(old) && random.random_bool(0.8) {
            *value = new.into();
        }
    }
    config[&field] = new.into();
    folder.put(&path, config.to_string().into_bytes());
    for path in folder.ending(".safetensors") {
        let Some(mut stored) = folder.bytes(&path).and_then(tensors::read) else { continue };
        for tensor in &mut stored {
            let width = tensor.data.len() / tensors::elements(&tensor.shape).max(1);
            // Matrices for queries, keys and values together, or for a gate and what it is multiplied with.
            for side in &mut tensor.shape {
                if let Some(factor) = (1..=3).find(|factor| *side == old as usize * factor) {
                    *side = new as usize * factor;
                }
            }
            let bytes = tensors::elements(&tensor.shape).saturating_mul(width).min(1 << 22);
            let data = tensor.data.iter().copied().cycle().take(bytes);
            tensor.data = data.collect();
        }
        folder.put(&path, tensors::write(&stored));
    }
    Some(format!("{path}: {field} is {new} instead of {old}, in the weights too"))
}
