//! What the Hub reads of a card: YAML between two lines of dashes.

use std::fmt::Write;

use super::Card;

/// The front matter, its dashes included.
pub(super) fn of(card: &Card) -> String {
    let mut yaml = String::from("---\n");
    let mut line = |text: String| {
        yaml += &text;
        yaml.push('\n');
    };
    let list = |name: &str, values: &[String]| {
        let values: String = values.iter().map(|value| format!("\n- {}", scalar(value))).collect();
        format!("{name}:{values}")
    };
    if let Some(license) = &card.license {
        line(format!("license: {}", scalar(license)));
    }
    if !card.languages.is_empty() {
        line(list("language", &card.languages));
    }
    line("library_name: sentence-transformers".to_owned());
    line("pipeline_tag: sentence-similarity".to_owned());
    if let Some(base) = &card.base.hub {
        line(format!("base_model: {}", scalar(base)));
    }
    if !card.datasets.is_empty() {
        line(list("datasets", &card.datasets));
    }
    let tags = ["sentence-transformers", "feature-extraction", "sentence-similarity", "recommendation", "paretune"];
    line(list("tags", &tags.map(str::to_owned)));
    yaml += &model_index(card);
    yaml + "---\n"
}

/// What was measured of the model itself on the test part, under the names of `metrics.json`.
fn model_index(card: &Card) -> String {
    let mut metrics = String::new();
    let mut add = |name: String, kind: &str, row: &std::collections::BTreeMap<String, f64>| {
        if let Some(value) = row.get("model").filter(|value| value.is_finite()) {
            // A formatting of an `f64` cannot fail.
            let _ = write!(
                metrics,
                "    - type: {}\n      name: {}\n      value: {value:?}\n",
                scalar(kind),
                scalar(&name)
            );
        }
    };
    for objective in &card.config.objectives {
        for (metric, row) in card.measured.objectives.get(&objective.name).into_iter().flatten() {
            add(format!("{} {metric}", objective.name), metric, row);
        }
    }
    for (part, rows) in [("ranking of what was shown", &card.measured.shown), ("ranking", &card.measured.ranking)] {
        for (metric, row) in rows {
            add(format!("{part} {metric}"), metric, row);
        }
    }
    if metrics.is_empty() {
        return String::new();
    }
    let dataset = &card.measured.dataset;
    format!(
        "model-index:\n- name: {}\n  results:\n  - task:\n      type: recommendation\n      name: Recommendation\n    dataset:\n      \
         type: {}\n      name: {}\n      split: test\n    metrics:\n{metrics}",
        scalar(card.repo.name()),
        scalar(dataset),
        scalar(&format!("{dataset}, test part")),
    )
}

/// A string in double quotes: those of JSON are YAML too, once nothing is left that YAML does not print.
fn scalar(text: &str) -> String {
    let printable = |c: char| if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) { ' ' } else { c };
    let text: String = text.chars().map(printable).collect();
    serde_json::Value::String(text).to_string()
}
