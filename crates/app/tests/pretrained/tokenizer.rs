//! Tokenizers of the kinds that published models have, as `tokenizer.json` holds them, for the words of some texts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A kind of tokenizer.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Words and what they go on with (`##`), in lower case: BERT, DistilBERT, MPNet. The special tokens in the order of their numbers.
    WordPiece { special: [&'static str; 4] },
    /// Merged bytes: GPT-2, RoBERTa, ModernBERT, Qwen. Without `begin` and `adds_end`, a text has no special token.
    ByteLevel { begin: Option<&'static str>, end: &'static str, adds_end: bool },
    /// Likeliest pieces of text in which blanks are `▁`: XLM-RoBERTa, CamemBERT.
    Unigram,
    /// Merged pieces of such text, rare characters as bytes, and a token before it: Llama, Mistral, Gemma.
    Pieces,
}

/// A tokenizer and what a model's configuration has to know of it.
pub(super) struct Made {
    pub(super) json: Value,
    /// Number of tokens.
    pub(super) tokens: usize,
    /// Number of the token that begins texts, and of the one that ends them.
    pub(super) begin: Option<usize>,
    pub(super) end: usize,
}

/// The words that get tokens of their own.
const WORDS: usize = 250;
/// What GPT-4 and Qwen split texts by, which looks ahead.
const SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) fn make(kind: Kind, texts: &[String]) -> Made {
    match kind {
        Kind::WordPiece { special } => word_piece(special, texts),
        Kind::ByteLevel { begin, end, adds_end } => byte_level(begin, end, adds_end, texts),
        Kind::Unigram => unigram(texts),
        Kind::Pieces => pieces(texts),
    }
}

/// The most frequent words, of letters only, and how often each occurs.
fn words(texts: &[String]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut words: Vec<(String, usize)> = counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    words.truncate(WORDS);
    words
}

fn characters(texts: &[String]) -> BTreeSet<char> {
    texts.iter().flat_map(|text| text.chars()).chain(' '..='~').filter(|c| !c.is_whitespace()).collect()
}

/// Tokens in the order of their numbers.
#[derive(Default)]
struct Vocabulary {
    tokens: Vec<String>,
    known: BTreeMap<String, usize>,
}

impl Vocabulary {
    fn new(special: &[&str]) -> Self {
        let mut vocabulary = Self::default();
        special.iter().for_each(|token| _ = vocabulary.add((*token).to_owned()));
        vocabulary
    }

    /// Adds a token; whether it is new.
    fn add(&mut self, token: String) -> bool {
        let is_new = !self.known.contains_key(&token);
        if is_new {
            self.known.insert(token.clone(), self.tokens.len());
            self.tokens.push(token);
        }
        is_new
    }

    fn number(&self, token: &str) -> usize {
        self.known[token]
    }

    /// Merges by which each word grows letter by letter behind what stands before it.
    fn merges(
        &mut self,
        before: &str,
        words: &[(String, usize)],
        spell: impl Fn(&str) -> Vec<String>,
    ) -> Vec<[String; 2]> {
        let mut merges = Vec::new();
        for (word, _) in words {
            let mut piece = before.to_owned();
            for letter in spell(word) {
                let longer = format!("{piece}{letter}");
                if self.add(longer.clone()) {
                    merges.push([piece, letter]);
                }
                piece = longer;
            }
        }
        merges
    }

    fn made(self, model: Value, parts: Value, special: &[&str], begin: Option<&str>, end: &str) -> Made {
        let added: Vec<Value> = special
            .iter()
            .map(|token| {
                json!({ "id": self.number(token), "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true })
            })
            .collect();
        let mut json =
            json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "decoder": null });
        json["model"] = model;
        for (name, part) in parts.as_object().unwrap() {
            json[name] = part.clone();
        }
        let (begin, end) = (begin.map(|token| self.number(token)), self.number(end));
        Made { json, tokens: self.tokens.len(), begin, end }
    }

    /// A post-processor that puts special tokens around a text.
    fn template(&self, before: Option<&str>, after: Option<&str>) -> Value {
        let special = |token: Option<&str>| token.map(|token| json!({"SpecialToken": {"id": token, "type_id": 0}}));
        let text = |id: &str| Some(json!({"Sequence": {"id": id, "type_id": 0}}));
        let listed = [before, after]
            .into_iter()
            .flatten()
            .map(|token| (token.to_owned(), json!({"id": token, "ids": [self.number(token)], "tokens": [token]})));
        let single = [special(before), text("A"), special(after)];
        let pair = [special(before), text("A"), text("B"), special(after)];
        json!({
            "type": "TemplateProcessing",
            "single": single.into_iter().flatten().collect::<Vec<_>>(),
            "pair": pair.into_iter().flatten().collect::<Vec<_>>(),
            "special_tokens": listed.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn word_piece(special: [&'static str; 4], texts: &[String]) -> Made {
    let lower: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let mut vocabulary = Vocabulary::new(&special);
    for c in characters(&lower) {
        vocabulary.add(c.to_string());
        vocabulary.add(format!("##{c}"));
    }
    for (word, _) in words(&lower) {
        vocabulary.add(word);
    }
    let (begin, end) = if special.contains(&"[CLS]") { ("[CLS]", "[SEP]") } else { ("<s>", "</s>") };
    let model = json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                        "max_input_chars_per_word": 100, "vocab": vocabulary.known });
    let parts = json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                       "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": vocabulary.template(Some(begin), Some(end)),
    });
    vocabulary.made(model, parts, &special, Some(begin), end)
}

/// How GPT-2 writes a byte: printable ones as they are, others as characters from 256 on.
fn letter(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    match is_printable(byte) {
        true => char::from(byte),
        false => {
            let place = (0..byte).filter(|&byte| !is_printable(byte)).count() as u32;
            char::from_u32(256 + place).unwrap()
        }
    }
}

fn byte_level(begin: Option<&'static str>, end: &'static str, adds_end: bool, texts: &[String]) -> Made {
    let special: Vec<&str> = match begin {
        Some(begin) if begin == "<s>" => vec![begin, "<pad>", end],
        Some(begin) => vec!["[PAD]", begin, end],
        None => vec![end],
    };
    let mut vocabulary = Vocabulary::new(&special);
    (0..=255).for_each(|byte| _ = vocabulary.add(letter(byte).to_string()));
    let spell = |word: &str| word.bytes().map(|byte| letter(byte).to_string()).collect();
    let merges = vocabulary.merges("Ġ", &words(texts), spell);
    let model = json!({ "type": "BPE", "vocab": vocabulary.known, "merges": merges });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let own_split = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
    ]});
    let parts = match begin {
        Some("<s>") => json!({
            "pre_tokenizer": byte_level,
            "post_processor": {"type": "RobertaProcessing", "sep": [end, vocabulary.number(end)], "cls": ["<s>", 0],
                               "trim_offsets": true, "add_prefix_space": false},
        }),
        Some(begin) => json!({
            "pre_tokenizer": byte_level,
            "post_processor": vocabulary.template(Some(begin), Some(end)),
        }),
        None if adds_end => json!({
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": own_split,
            "post_processor": {"type": "Sequence", "processors": [
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
                vocabulary.template(None, Some(end)),
            ]},
        }),
        None => json!({ "pre_tokenizer": byte_level, "post_processor": byte_level }),
    };
    vocabulary.made(model, parts, &special, begin, end)
}

const BOUNDED: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];

fn unigram(texts: &[String]) -> Made {
    let words = words(texts);
    let total: usize = words.iter().map(|(_, count)| count).sum();
    let mut vocabulary = Vocabulary::new(&BOUNDED);
    let mut scores = vec![0.0; BOUNDED.len()];
    for (word, count) in words {
        if vocabulary.add(format!("▁{word}")) {
            scores.push((count as f64 / total as f64).ln());
        }
    }
    for c in characters(texts).into_iter().chain(['▁']) {
        if vocabulary.add(c.to_string()) {
            scores.push(-14.0);
        }
    }
    let listed: Vec<Value> = vocabulary.tokens.iter().zip(scores).map(|pair| json!([pair.0, pair.1])).collect();
    let model = json!({ "type": "Unigram", "unk_id": 3, "vocab": listed, "byte_fallback": false });
    let parts = json!({
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": vocabulary.template(Some("<s>"), Some("</s>")),
    });
    vocabulary.made(model, parts, &BOUNDED, Some("<s>"), "</s>")
}

fn pieces(texts: &[String]) -> Made {
    let special = ["<unk>", "<s>", "</s>"];
    let mut vocabulary = Vocabulary::new(&special);
    (0..=255).for_each(|byte| _ = vocabulary.add(format!("<0x{byte:02X}>")));
    for c in characters(texts).into_iter().filter(char::is_ascii).chain(['▁']) {
        vocabulary.add(c.to_string());
    }
    let ascii: Vec<(String, usize)> = words(texts).into_iter().filter(|(word, _)| word.is_ascii()).collect();
    let merges = vocabulary.merges("▁", &ascii, |word| word.chars().map(String::from).collect());
    let model = json!({ "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                        "vocab": vocabulary.known, "merges": merges });
    let parts = json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": vocabulary.template(Some("<s>"), None),
    });
    vocabulary.made(model, parts, &special, Some("<s>"), "</s>")
}
