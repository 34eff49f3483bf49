//! Tokenizers of the kinds that no fixture has: each kind has readers of its own, and panics of its own.

use serde_json::{Map, Value, json};

/// Kinds with their `tokenizer.json`, for a model of at least 40 word vectors; `simple` is one with words and special tokens.
pub(crate) fn kinds(simple: &Value) -> [(&'static str, Value); 4] {
    let with = |fields: Value| {
        let mut json = simple.clone();
        if let (Some(json), Value::Object(fields)) = (json.as_object_mut(), fields) {
            json.extend(fields);
        }
        json
    };
    let words = simple["model"]["vocab"].clone();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let digits = || (0..10).map(|digit: u32| digit.to_string());

    let pieces = special.iter().cloned().chain(["w".to_owned(), "##7".to_owned()]).chain(digits());
    let pieces: Map<String, Value> = pieces.zip(0..).map(|(piece, id): (String, u32)| (piece, id.into())).collect();
    let word_pieces = with(json!({
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": pieces
        }
    }));

    let pairs = ["Ġ", "w", "Ġw", "w7", "Ġw8"].map(str::to_owned);
    let pairs = special.iter().cloned().chain(digits()).chain(pairs);
    let pairs: Map<String, Value> = pairs.zip(0..).map(|(piece, id): (String, u32)| (piece, id.into())).collect();
    let byte_pairs = with(json!({
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "post_processor": {
            "type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": true,
            "add_prefix_space": true
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": pairs,
            "merges": [["Ġ", "w"], ["w", "7"], ["Ġw", "8"]]
        }
    }));

    let scored = special.iter().cloned().chain(["▁", "▁w", "w", "▁w7", "7"].map(str::to_owned));
    let scored: Vec<Value> =
        scored.zip(0..).map(|(piece, place): (String, i32)| json!([piece, -0.5 * f64::from(place)])).collect();
    let unigrams = with(json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            {"type": "Lowercase"},
            {"type": "Strip", "strip_left": true, "strip_right": true}
        ]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 1, "vocab": scored, "byte_fallback": false}
    }));

    let split_words = with(json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": " "},
            {"type": "Replace", "pattern": {"String": "nobody"}, "content": "w9"},
            {"type": "StripAccents"}
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Removed", "invert": false},
            {"type": "Punctuation", "behavior": "Isolated"},
            {"type": "CharDelimiterSplit", "delimiter": "|"},
            {"type": "FixedLength", "length": 5}
        ]},
        "truncation": {"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 2},
        "padding": {
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]"
        },
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": words}
    }));
    [("word pieces", word_pieces), ("byte pairs", byte_pairs), ("unigrams", unigrams), ("split words", split_words)]
}
