//! Damage to JSON that leaves it JSON, mostly.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::super::{corpus::Corpus, folder::OUTSIDE};

/// Values that a reader may not have thought of, as they stand in the file.
const HOSTILE: [&str; 44] = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "65537",
    "268435456",
    "268435455",
    "2147483648",
    "4294967296",
    "1152921504606846976",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e30",
    "1e999",
    "1e-400",
    "1e-30",
    "-0.0",
    "0.5",
    "3.0",
    "NaN",
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[[]]",
    "\"\"",
    "\"NaN\"",
    "\"Infinity\"",
    "\"../../x\"",
    "\"../outside\"",
    "\"../outside/model.safetensors\"",
    "\"1_Pooling/../../outside\"",
    "\".\"",
    "\"a\\u0000b\"",
    "\"\\ud800\"",
    "\"(\"",
    "\"(?=(a+)+$)(.*)*\"",
    "\"all\"",
];

/// Before a string that is to stand in the file without its quotation marks, and before a key that is to be there twice.
const RAW: &str = "@raw:";
const AGAIN: &str = "@again:";

/// A hostile value, as a marked string.
fn hostile(random: &mut ChaCha8Rng) -> Value {
    let raw = match random.random_range(0..HOSTILE.len() + 6) {
        0 => format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        1 => format!("{}1{}", "[".repeat(120), "]".repeat(120)),
        2 => format!("\"{OUTSIDE}\""),
        3 => format!("\"{OUTSIDE}/model.safetensors\""),
        4 => format!("\"{}\"", "x".repeat(70_000)),
        5 => random.random_range(0..300u32).to_string(),
        other => HOSTILE[other - 6].to_owned(),
    };
    Value::String(format!("{RAW}{raw}"))
}

/// The text of a value with what is marked in it.
fn text(value: &Value) -> String {
    let mut text = value.to_string();
    while let Some(start) = text.find(&format!("\"{RAW}")) {
        let inner = start + 1 + RAW.len();
        let length = text[inner..]
            .char_indices()
            .scan(false, |escaped, (at, letter)| {
                let ends = letter == '"' && !*escaped;
                *escaped = letter == '\\' && !*escaped;
                Some((at, ends))
            })
            .find_map(|(at, ends)| ends.then_some(at));
        let Some(length) = length else { break };
        let quoted = format!("\"{}\"", &text[inner..inner + length]);
        let raw = serde_json::from_str::<String>(&quoted).unwrap_or_default();
        text.replace_range(start..inner + length + 1, &raw);
    }
    text.replace(&format!("\"{AGAIN}"), "\"")
}

/// The way to a random value: at each level it may end.
fn somewhere<'a>(value: &'a mut Value, way: &mut String, random: &mut ChaCha8Rng) -> &'a mut Value {
    let count = match value {
        Value::Object(object) => object.len(),
        Value::Array(array) => array.len(),
        _ => 0,
    };
    if count == 0 || random.random_bool(if way.is_empty() { 0.15 } else { 0.25 }) {
        return value;
    }
    let at = random.random_range(0..count);
    match value {
        Value::Object(object) => {
            let key = object.keys().nth(at).cloned().unwrap_or_default();
            way.push_str(&format!("/{key}"));
            somewhere(&mut object[&key], way, random)
        }
        Value::Array(array) => {
            way.push_str(&format!("/{at}"));
            somewhere(&mut array[at], way, random)
        }
        other => other,
    }
}

/// Damages a JSON file; `None` if it is none.
pub(super) fn mutate(bytes: &[u8], corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<(Vec<u8>, String)> {
    let mut json: Value = serde_json::from_slice(bytes).ok()?;
    let done = change(&mut json, corpus, random)?;
    Some((text(&json).into_bytes(), done))
}

/// Changes something in a value, and says what.
pub(super) fn change(json: &mut Value, corpus: &Corpus, random: &mut ChaCha8Rng) -> Option<String> {
    let mut way = String::new();
    let place = somewhere(json, &mut way, random);
    let foreign = corpus.fields.choose(random)?;
    let done = match place {
        Value::Object(object) if random.random_bool(0.8) => {
            let key = object.keys().nth(random.random_range(0..object.len().max(1))).cloned();
            match (random.random_range(0..6), key) {
                (0, Some(key)) => {
                    object.remove(&key);
                    format!("without `{key}`")
                }
                (1, Some(key)) => {
                    object.insert(format!("{AGAIN}{key}"), hostile(random));
                    format!("`{key}` twice")
                }
                (2, Some(key)) => {
                    let value = object.remove(&key)?;
                    object.insert(foreign.0.clone(), value);
                    format!("`{key}` renamed to `{}`", foreign.0)
                }
                (3, Some(key)) => {
                    let other = object.keys().nth(random.random_range(0..object.len())).cloned()?;
                    let (one, two) = (object[&key].clone(), object[&other].clone());
                    object.insert(key.clone(), two);
                    object.insert(other.clone(), one);
                    format!("values of `{key}` and `{other}` swapped")
                }
                (4, _) => {
                    object.insert(foreign.0.clone(), hostile(random));
                    format!("hostile `{}` added", foreign.0)
                }
                _ => {
                    object.insert(foreign.0.clone(), foreign.1.clone());
                    format!("`{}` of another model added", foreign.0)
                }
            }
        }
        Value::Array(array) if random.random_bool(0.7) => {
            match (random.random_range(0..4), array.first().cloned()) {
                (0, Some(first)) => array.push(first),
                (1, Some(_)) => drop(array.pop()),
                (2, _) => array.push(hostile(random)),
                _ => array.reverse(),
            }
            "entries changed".to_owned()
        }
        Value::Number(number) if random.random_bool(0.4) => {
            let old = number.as_i64().unwrap_or(1);
            let new = [
                old.wrapping_sub(1),
                old.wrapping_add(1),
                old.wrapping_mul(2),
                old / 2,
                old.wrapping_neg(),
                old.wrapping_add(2),
            ][random.random_range(0..6)];
            *place = Value::from(new);
            format!("{old} is {new}")
        }
        Value::String(string) if random.random_bool(0.4) => {
            let piece =
                ["", "/", "..", "\u{0}", "é", "\u{1F600}", "(", "\\", " ", "{", "w7"][random.random_range(0..11)];
            let at =
                string.char_indices().map(|(at, _)| at).nth(random.random_range(0..string.len().max(1))).unwrap_or(0);
            match random.random_bool(0.5) {
                true => string.insert_str(at, piece),
                false => string.truncate(at),
            }
            format!("string changed to {string:?}")
        }
        other => match random.random_range(0..5) {
            0 => {
                *other = foreign.1.clone();
                format!("the value of `{}`", foreign.0)
            }
            1 => {
                *other = Value::Array(vec![other.take()]);
                "in brackets".to_owned()
            }
            _ => {
                *other = hostile(random);
                let shown: String = other.to_string().chars().take(60).collect();
                format!("hostile value {shown}")
            }
        },
    };
    Some(format!("{}: {done}", if way.is_empty() { "/" } else { &way }))
}

/// The text of a changed value.
pub(super) fn written(json: &Value) -> Vec<u8> {
    text(json).into_bytes()
}
