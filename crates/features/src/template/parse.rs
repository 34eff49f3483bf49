//! The syntax of a template.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text that stands for itself.
    Literal(String),
    /// The place of a field.
    Field(String),
    /// Literals and fields that appear together or not at all.
    Group(Vec<Part>),
}

impl Part {
    /// Adds the fields named here to those that are known.
    pub(super) fn fields<'a>(&'a self, known: &mut Vec<&'a str>) {
        match self {
            Self::Literal(_) => {}
            Self::Field(field) => {
                if !known.contains(&field.as_str()) {
                    known.push(field);
                }
            }
            Self::Group(parts) => parts.iter().for_each(|part| part.fields(known)),
        }
    }
}

/// The position (in characters, from 1) and the nature of a mistake.
type Mistake = (usize, String);

pub(super) fn parse(source: &str) -> Result<Vec<Part>, Mistake> {
    let characters: Vec<char> = source.chars().collect();
    let mut parts = Vec::new();
    // The group being read and where it began.
    let mut group: Option<(usize, Vec<Part>)> = None;
    let mut literal = String::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let doubled = characters.get(at + 1) == Some(&character);
        if "{}[]".contains(character) && doubled {
            literal.push(character);
            at += 2;
            continue;
        }
        match character {
            '{' => {
                let open = group.as_mut().map_or(&mut parts, |(_, parts)| parts);
                end_literal(&mut literal, open);
                let length = characters[at..]
                    .iter()
                    .position(|&c| c == '}')
                    .ok_or((at + 1, "`{` is never closed; write `{{` for the character".into()))?;
                open.push(Part::Field(field(&characters[at + 1..at + length], at + 1)?));
                at += length;
            }
            '[' => {
                if group.is_some() {
                    return Err((at + 1, "groups do not nest; write `[[` for the character".into()));
                }
                end_literal(&mut literal, &mut parts);
                group = Some((at, Vec::new()));
            }
            ']' => {
                let Some((start, mut inside)) = group.take() else {
                    return Err((at + 1, "`]` closes nothing; write `]]` for the character".into()));
                };
                end_literal(&mut literal, &mut inside);
                if !inside.iter().any(|part| matches!(part, Part::Field(_))) {
                    return Err((
                        start + 1,
                        "the group has no field, so it is not optional; drop the brackets or double them".into(),
                    ));
                }
                parts.push(Part::Group(inside));
            }
            '}' => {
                return Err((at + 1, "`}` closes nothing; write `}}` for the character".into()));
            }
            _ => literal.push(character),
        }
        at += 1;
    }
    if let Some((start, _)) = group {
        return Err((start + 1, "`[` is never closed; write `[[` for the character".into()));
    }
    end_literal(&mut literal, &mut parts);
    if parts.iter().all(|part| matches!(part, Part::Literal(_))) {
        return Err((1, "it names no field, so every item would have the same text; name one as in `{title}`".into()));
    }
    Ok(parts)
}

fn field(name: &[char], at: usize) -> Result<String, Mistake> {
    let name: String = name.iter().collect();
    let name = name.trim();
    if name.is_empty() || name.contains(['{', '[', ']']) {
        return Err((at, format!("`{{{name}}}` names no field")));
    }
    Ok(name.to_owned())
}

fn end_literal(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}
