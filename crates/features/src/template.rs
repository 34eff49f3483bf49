//! Turning an item's fields into one text.

mod joints;
mod parse;

use std::fmt;
use std::str::FromStr;

use crate::FeatureError;
use parse::Part;

/// A text with places for an item's fields, such as `{title} ({year}). [By {author}.] {genres}`.
///
/// - `{field}` is replaced by the field's value. A missing (or blank) field vanishes together with the punctuation
///   and spaces that would be left dangling; words around it stay.
/// - `[…]` is an optional group: it vanishes as a whole when a field in it is missing. Groups do not nest.
/// - `{{`, `}}`, `[[` and `]]` stand for the single character.
/// - Runs of white space become one space; an item without any of the fields has an empty text.
///
/// ```
/// use paretune_features::Template;
///
/// let template = Template::parse("{title} ({year}). [By {author}.] {genres}")?;
/// let known = |field: &str| match field {
///     "title" => Some("Brazil"),
///     "genres" => Some("Fantasy, Sci-Fi"),
///     _ => None,
/// };
/// assert_eq!(template.fields(), ["title", "year", "author", "genres"]);
/// assert_eq!(template.render(known), "Brazil. Fantasy, Sci-Fi");
/// # Ok::<(), paretune_features::FeatureError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`FeatureError::Template`], with the position, for an unclosed, stray or nested bracket, an empty field name, a
    /// group without a field, and a template without any field (every item would have the same text).
    pub fn parse(source: &str) -> Result<Self, FeatureError> {
        let parts = parse::parse(source).map_err(|(at, reason)| FeatureError::Template {
            template: source.to_owned(),
            at,
            reason,
        })?;
        Ok(Self { source: source.to_owned(), parts })
    }

    /// The fields in the order in which they are first named, each once.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields = Vec::new();
        for part in &self.parts {
            part.fields(&mut fields);
        }
        fields
    }

    /// The text for the item whose fields `lookup` gives.
    pub fn render<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
        let value = |field: &str| lookup(field).map(str::trim).filter(|value| !value.is_empty());
        let mut text = joints::Text::default();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.literal(literal),
                Part::Field(field) => text.field(value(field)),
                Part::Group(group) => {
                    let complete =
                        group.iter().all(|part| !matches!(part, Part::Field(field) if value(field).is_none()));
                    if !complete {
                        text.field(None);
                        continue;
                    }
                    for part in group {
                        match part {
                            Part::Literal(literal) => text.literal(literal),
                            Part::Field(field) => text.field(value(field)),
                            Part::Group(_) => {}
                        }
                    }
                }
            }
        }
        text.finish()
    }
}

impl FromStr for Template {
    type Err = FeatureError;

    fn from_str(source: &str) -> Result<Self, FeatureError> {
        Self::parse(source)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests;
