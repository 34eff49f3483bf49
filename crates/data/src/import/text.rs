//! Mending text: entities, double encoding, stray control characters and white space.

use crate::descriptor::{FileSpec, TextSpec};

/// The named entities that real exports hold; numeric ones are decoded by rule.
const ENTITIES: [(&str, &str); 14] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("ndash", "–"),
    ("mdash", "—"),
    ("hellip", "…"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("eacute", "é"),
];

/// The text that a column's specification makes of a raw value; `None` where nothing is left.
pub(super) fn clean(raw: &str, spec: &TextSpec, file: &FileSpec) -> Option<String> {
    let mut text = raw.to_owned();
    if file.double_encoded {
        text = undo_double_encoding(text);
    }
    if file.entities {
        text = decode_entities(&text);
    }
    for (from, to) in &spec.replace {
        text = text.replace(from, to);
    }
    if let Some(mark) = &spec.before
        && let Some((head, _)) = text.split_once(mark)
    {
        text.truncate(head.len());
    }
    if let Some(mark) = &spec.after
        && let Some((_, tail)) = text.rsplit_once(mark)
    {
        text = tail.to_owned();
    }
    let text = tidy(&text);
    (!text.is_empty() && !spec.null.contains(&text)).then_some(text)
}

/// One blank for every run of white space and control characters, none at the ends.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    out
}

/// Decodes `&amp;`, `&#233;`, `&#xE9;`, and `&amp` whose semicolon got lost.
fn decode_entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        match entity(after) {
            Some((character, tail)) => {
                out.push_str(&character);
                rest = tail;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

/// The meaning of an entity whose `&` is gone, and what follows it.
fn entity(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(text.len());
    let (name, tail) = text.split_at(end);
    let closed = tail.strip_prefix(';');
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return Some((char::from_u32(code)?.to_string(), closed?));
    }
    let (_, character) = ENTITIES.iter().find(|(known, _)| *known == name)?;
    // "&lt" without its semicolon may be part of an address; only "&amp" is sure enough.
    let tail = if name == "amp" { closed.unwrap_or(tail) } else { closed? };
    Some(((*character).to_owned(), tail))
}

/// `Ã©` back to `é`: characters that, taken as Latin-1 bytes, are UTF-8.
fn undo_double_encoding(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_decoded() {
        for (raw, expected) in [
            ("Norton &amp; Company", "Norton & Company"),
            ("Norton &amp Company", "Norton & Company"),
            ("caf&#233; &#xE9;&eacute;", "café éé"),
            ("AT&T & a&lt=3 &#xZZ; &bogus; &", "AT&T & a&lt=3 &#xZZ; &bogus; &"),
            ("&quot;x&quot;&nbsp;y", "\"x\" y"),
        ] {
            assert_eq!(decode_entities(raw), expected);
        }
    }

    #[test]
    fn double_encoding_is_undone_only_where_it_is_one() {
        let undo = |text: &str| undo_double_encoding(text.to_owned());
        assert_eq!(undo("Saint-Exup\u{c3}\u{a9}ry"), "Saint-Exupéry");
        assert_eq!(undo("Saint-Exupéry"), "Saint-Exupéry");
        assert_eq!(undo("日本 é"), "日本 é");
    }

    #[test]
    fn white_space_is_tidied() {
        assert_eq!(tidy("  a\u{0}\t b\u{a0}\u{85}c \n"), "a b c");
    }
}
