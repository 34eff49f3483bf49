//! What becomes of the punctuation around a missing field.
//!
//! Between two words of the output lies a *joint*: separators, with the places of missing fields among them, such as
//! `" ("`, missing, `"), "`. An empty pair of brackets or quotes goes; of the separators to either side of the missing
//! field one stays, or none at the beginning of the text; brackets that enclose something else always stay.

/// A text under construction.
#[derive(Default)]
pub(super) struct Text {
    done: String,
    /// The separators since the last word; there is a missing field between each and the next.
    joint: Joint,
    has_value: bool,
}

struct Joint(Vec<String>);

impl Default for Joint {
    fn default() -> Self {
        Self(vec![String::new()])
    }
}

impl Text {
    /// Adds text from the template.
    pub(super) fn literal(&mut self, literal: &str) {
        let Some(first) = literal.find(|c| !is_separator(c)) else {
            self.joint.separate(literal);
            return;
        };
        let end = literal.trim_end_matches(is_separator).len();
        self.joint.separate(&literal[..first]);
        self.word(&literal[first..end]);
        self.joint.separate(&literal[end..]);
    }

    /// Adds a field's value, or marks that it is missing.
    pub(super) fn field(&mut self, value: Option<&str>) {
        match value {
            Some(value) => {
                self.has_value = true;
                self.word(value);
            }
            None => self.joint.0.push(String::new()),
        }
    }

    /// The text, with white space squeezed; empty if no field had a value.
    pub(super) fn finish(mut self) -> String {
        if !self.has_value {
            return String::new();
        }
        let joint = std::mem::take(&mut self.joint).close(Place::End);
        self.done.push_str(&joint);
        self.done.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn word(&mut self, word: &str) {
        let place = if self.done.is_empty() { Place::Beginning } else { Place::Middle };
        let joint = std::mem::take(&mut self.joint).close(place);
        self.done.push_str(&joint);
        self.done.push_str(word);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    Middle,
    End,
}

impl Joint {
    fn separate(&mut self, separator: &str) {
        if let Some(last) = self.0.last_mut() {
            last.push_str(separator);
        }
    }

    /// What is written for the joint.
    fn close(self, place: Place) -> String {
        let last = self.0.len() - 1;
        let mut separators = self.0.into_iter();
        let mut kept = separators.next().unwrap_or_default();
        for (index, next) in separators.enumerate() {
            // Only the last separator of the text ends it.
            let place = if place == Place::End && index + 1 < last { Place::Middle } else { place };
            kept = without(kept, next, place);
        }
        kept
    }
}

/// Joins the separators before and after a missing field.
fn without(mut before: String, mut after: String, place: Place) -> String {
    while let (Some(open), Some(close)) = (before.trim_end().chars().next_back(), after.trim_start().chars().next())
        && BRACKETS.contains(&(open, close))
    {
        before.truncate(before.trim_end().len() - open.len_utf8());
        after = after.trim_start()[close.len_utf8()..].to_owned();
    }
    let (outer_before, before) = before.split_at(before.rfind(is_bracket).map_or(0, |at| next_character(&before, at)));
    let (after, outer_after) = after.split_at(after.find(is_bracket).unwrap_or(after.len()));

    let just_opened =
        outer_before.chars().next_back().is_some_and(|c| is_opening(c) || (is_quote(c) && before.is_empty()));
    let just_closing = outer_after.chars().next().is_some_and(|c| is_closing(c) || (is_quote(c) && after.is_empty()));
    let middle = match place {
        _ if just_opened || just_closing => "",
        Place::Beginning => "",
        Place::End => after,
        Place::Middle if before.trim().is_empty() && !after.is_empty() => after,
        Place::Middle => before,
    };
    format!("{outer_before}{middle}{outer_after}")
}

const BRACKETS: &[(char, char)] =
    &[('(', ')'), ('[', ']'), ('{', '}'), ('<', '>'), ('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('«', '»')];

fn is_opening(c: char) -> bool {
    !is_quote(c) && BRACKETS.iter().any(|pair| pair.0 == c)
}

fn is_closing(c: char) -> bool {
    !is_quote(c) && BRACKETS.iter().any(|pair| pair.1 == c)
}

/// Marks that look the same on both sides.
fn is_quote(c: char) -> bool {
    c == '"' || c == '\''
}

fn is_bracket(c: char) -> bool {
    is_quote(c) || is_opening(c) || is_closing(c)
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || ".,;:-–—/|·•&".contains(c) || is_bracket(c)
}

fn next_character(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(0, char::len_utf8)
}
