//! Damage to llama.cpp files that knows where their numbers stand: after the strings that name them.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::super::folder::Folder;

/// Counts, lengths, kinds and places that a reader may not have thought of.
const HOSTILE: [u64; 16] =
    [0, 1, 2, 7, 8, 9, 12, 13, 4096, 1 << 28, 1 << 31, u32::MAX as u64, 1 << 32, 1 << 62, 1 << 63, u64::MAX];

/// Where a string that could be a name begins (after its length), and its length.
fn names(bytes: &[u8]) -> Vec<(usize, usize)> {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || [b'.', b'_'].contains(byte);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|raw| u64::from_le_bytes(*raw)) {
        let start = at + 8;
        let is_name = (4..=64).contains(&length)
            && bytes.get(start..start + length as usize).is_some_and(|name| name.iter().all(letter));
        if is_name {
            found.push((start, length as usize));
        }
        at = if is_name { start + length as usize } else { at + 1 };
    }
    found
}

pub(super) fn mutate(folder: &mut Folder, random: &mut ChaCha8Rng) -> Option<String> {
    let path = folder.ending(".gguf").choose(random)?.clone();
    let mut bytes = folder.bytes(&path)?.to_vec();
    let names = names(&bytes);
    let (start, length) = *names.choose(random)?;
    let name = String::from_utf8_lossy(bytes.get(start..start + length)?).into_owned();
    let value = HOSTILE[random.random_range(0..HOSTILE.len())].to_le_bytes();
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    // What follows a name in the metadata: kind (4 bytes), value; in the list of tensors: dimensions (4 bytes), sides (8 bytes each), kind
    // (4 bytes), place (8 bytes).
    let end = start + length;
    let done = match random.random_range(0..9) {
        0 => {
            put(8, &value);
            "number of tensors".to_owned()
        }
        1 => {
            put(16, &value);
            "number of metadata".to_owned()
        }
        2 => {
            put(start - 8, &value);
            format!("length of {name}")
        }
        3 => {
            put(end, &value[..4]);
            format!("kind or dimensions of {name}")
        }
        4 => {
            put(end + 4, &value[..4]);
            format!("32 bits of the value of {name}")
        }
        5 => {
            let at = end + [4, 8, 12, 16, 20, 24, 28][random.random_range(0..7)];
            put(at, &value);
            format!("64 bits at {} after {name}", at - end)
        }
        6 => {
            let small = [random.random_range(0..40u8), 0, 0, 0];
            put(end + [0, 4, 12, 20][random.random_range(0..4)], &small);
            format!("{small:?} after {name}")
        }
        7 => {
            let (other, _) = *names.iter().filter(|(_, other)| *other == length).collect::<Vec<_>>().choose(random)?;
            let other = bytes.get(*other..other + length)?.to_vec();
            bytes.get_mut(start..end)?.copy_from_slice(&other);
            format!("{name} is called {}", String::from_utf8_lossy(&other))
        }
        _ => {
            put(start + random.random_range(0..length), b"x");
            format!("{name} misspelt")
        }
    };
    folder.put(&path, bytes);
    Some(format!("{path}: {done}, {value:?}"))
}
