//! Damage that knows nothing of formats.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::super::{corpus::Corpus, folder::Folder};

/// Most of a weights file are numbers, which mean nothing wrong whatever they are: damage goes to its head more often.
fn place(bytes: &[u8], random: &mut ChaCha8Rng) -> usize {
    let near = if random.random_bool(0.8) { bytes.len().min(3000) } else { bytes.len() };
    random.random_range(0..=near)
}

pub(super) fn mutate(folder: &mut Folder, corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<String> {
    let path = folder.paths().choose(random)?.clone();
    let mut bytes = folder.bytes(&path)?.to_vec();
    let done = match random.random_range(0..5) {
        0 if !bytes.is_empty() => {
            let count = random.random_range(1..=16);
            for _ in 0..count {
                let at = place(&bytes, random).min(bytes.len() - 1);
                bytes[at] = if random.random_bool(0.5) {
                    random.random()
                } else {
                    bytes[at] ^ (1 << random.random_range(0..8))
                };
            }
            format!("{count} bytes changed")
        }
        1 => {
            let at = place(&bytes, random);
            bytes.truncate(at);
            format!("cut off after {at} bytes")
        }
        2 => {
            let more = [1, 7, 8, 4096, 100_000][random.random_range(0..5)];
            let filler: u8 = [0, b' ', b'[', 0xff, b'9'][random.random_range(0..5)];
            bytes.resize(bytes.len() + more, filler);
            format!("{more} more bytes of {filler}")
        }
        3 => {
            let other = corpus.models.choose(random)?;
            let from = other.folder.paths().choose(random)?.clone();
            let source = other.folder.bytes(&from)?;
            let start = place(source, random);
            let end = (start + random.random_range(1..2000)).min(source.len());
            let at = place(&bytes, random);
            let until = if random.random_bool(0.5) { at } else { (at + end - start).min(bytes.len()) };
            bytes.splice(at..until, source[start..end].iter().copied());
            format!("bytes {at}..{until} replaced by bytes {start}..{end} of {from} of {}", other.name)
        }
        _ => {
            let start = place(&bytes, random);
            let end = (start + random.random_range(0..200)).min(bytes.len());
            if random.random_bool(0.5) {
                bytes.drain(start..end);
                format!("bytes {start}..{end} taken out")
            } else {
                let again = bytes[start..end].to_vec();
                bytes.splice(start..start, again);
                format!("bytes {start}..{end} doubled")
            }
        }
    };
    folder.put(&path, bytes);
    Some(format!("{path}: {done}"))
}
