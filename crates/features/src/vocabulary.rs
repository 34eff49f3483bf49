//! Cutting a WordPiece tokenizer down to the pieces that texts use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Map, Value};

use crate::FeatureError;

/// A smaller tokenizer and where its pieces come from.
#[derive(Debug, Clone)]
pub struct PrunedTokenizer {
    /// `tokenizer.json` of the smaller tokenizer.
    pub json: String,
    /// For each new id, ascending, the id it had before.
    pub kept: Vec<u32>,
    /// How each new id is spelled; a piece inside of a word begins with `##`.
    pub pieces: Vec<String>,
}

/// Keeps the special tokens, the single characters (so that any word can still be spelled), the pieces that `counts` (by old id)
/// has most of, and then the lowest ids, which BERT's vocabulary orders by frequency; `size` pieces in all, in their old order.
/// The special tokens and single characters are kept even where `size` is smaller.
///
/// # Errors
/// A file that cannot be read, or that is no WordPiece tokenizer.
pub fn prune_vocabulary(tokenizer: &Path, counts: &[u64], size: usize) -> Result<PrunedTokenizer, FeatureError> {
    let bad = |problem: &str| FeatureError::Malformed { path: tokenizer.to_owned(), reason: problem.to_owned() };
    let text = fs::read_to_string(tokenizer).map_err(|source| FeatureError::Io {
        action: "read",
        path: tokenizer.to_owned(),
        source,
    })?;
    let mut json: Value = serde_json::from_str(&text).map_err(|error| bad(&error.to_string()))?;
    let vocabulary = json
        .pointer("/model/vocab")
        .and_then(Value::as_object)
        .ok_or_else(|| bad("has no model.vocab that maps pieces to ids"))?;
    let mut pieces: BTreeMap<u32, String> = BTreeMap::new();
    for (piece, id) in vocabulary {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad("has an id that is no number"))?;
        pieces.insert(id, piece.clone());
    }
    let special: BTreeSet<String> = json
        .get("added_tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|token| Some(token.get("content")?.as_str()?.to_owned()))
        .collect();
    let mut order: Vec<(u8, std::cmp::Reverse<u64>, u32)> = pieces
        .iter()
        .map(|(&id, piece)| {
            let bare = piece.strip_prefix("##").unwrap_or(piece);
            let rank = if special.contains(piece) {
                0
            } else if bare.chars().count() == 1 {
                1
            } else {
                2
            };
            (rank, std::cmp::Reverse(counts.get(id as usize).copied().unwrap_or(0)), id)
        })
        .collect();
    order.sort_unstable();
    let indispensable = order.iter().filter(|(rank, _, _)| *rank < 2).count();
    let mut kept: Vec<u32> = order.into_iter().take(size.max(indispensable)).map(|(_, _, id)| id).collect();
    kept.sort_unstable();

    let new_ids: BTreeMap<u32, u32> = kept.iter().copied().zip(0..).collect();
    let smaller: Map<String, Value> =
        kept.iter().zip(0u32..).filter_map(|(old, new)| Some((pieces.get(old)?.clone(), new.into()))).collect();
    if let Some(model) = json.get_mut("model").and_then(Value::as_object_mut) {
        model.insert("vocab".into(), Value::Object(smaller));
    }
    if let Some(tokens) = json.get_mut("added_tokens").and_then(Value::as_array_mut) {
        tokens.iter_mut().for_each(|token| renumber(token.get_mut("id"), &new_ids));
    }
    if let Some(tokens) = json.pointer_mut("/post_processor/special_tokens").and_then(Value::as_object_mut) {
        for token in tokens.values_mut() {
            let ids = token.get_mut("ids").and_then(Value::as_array_mut);
            ids.into_iter().flatten().for_each(|id| renumber(Some(id), &new_ids));
        }
    }
    for pair in ["/post_processor/sep", "/post_processor/cls"] {
        renumber(json.pointer_mut(&format!("{pair}/1")), &new_ids);
    }
    renumber(json.pointer_mut("/padding/pad_id"), &new_ids);
    let pieces = kept.iter().filter_map(|old| pieces.remove(old)).collect();
    Ok(PrunedTokenizer { json: json.to_string(), kept, pieces })
}

fn renumber(id: Option<&mut Value>, new_ids: &BTreeMap<u32, u32>) {
    if let Some(value) = id {
        let new = value.as_u64().and_then(|old| new_ids.get(&u32::try_from(old).ok()?));
        if let Some(new) = new {
            *value = (*new).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{ModelFiles, TextTokenizer};

    fn tiny() -> ModelFiles {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny");
        ModelFiles::unweighted(dir)
    }

    /// The tokenizer that pruning to `size` pieces gives, and the old ids of its pieces.
    fn pruned(size: usize, counts: &[u64]) -> (TextTokenizer, Vec<u32>) {
        let files = tiny();
        let pruned = prune_vocabulary(&files.tokenizer, counts, size).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer.json");
        fs::write(&tokenizer, &pruned.json).unwrap();
        (TextTokenizer::load(&ModelFiles { tokenizer, ..files }, None).unwrap(), pruned.kept)
    }

    #[test]
    fn texts_of_kept_pieces_read_the_same() {
        let full = TextTokenizer::load(&tiny(), None).unwrap();
        let texts = ["the", "a movie"];
        let before = full.encode(&texts).unwrap();
        let mut counts = vec![0; full.vocab_size()];
        (0..texts.len()).flat_map(|text| before.sequence(text)).for_each(|&id| counts[id as usize] += 1);
        let (small, kept) = pruned(0, &counts);
        let (larger, kept_more) = pruned(kept.len() + 10, &counts);
        assert!(small.vocab_size() < full.vocab_size() && kept_more.len() == kept.len() + 10);
        let after = larger.encode(&texts).unwrap();
        for text in 0..texts.len() {
            let old: Vec<u32> = after.sequence(text).iter().map(|&id| kept_more[id as usize]).collect();
            assert_eq!(old, before.sequence(text));
        }
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, "{}").unwrap();
        assert!(prune_vocabulary(&path, &[], 10).unwrap_err().to_string().contains("model.vocab"));
    }
}
