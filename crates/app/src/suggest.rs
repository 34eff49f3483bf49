//! What to train on tables that come without a descriptor, judged by the names of their columns.

use paretune_data::Dataset;
use toml::{Table, Value};

use crate::failure::wrong_input;

/// Feedback columns that are recognised by name: objective, kind, names of the column.
const KNOWN: [(&str, &str, &[&str]); 4] = [
    ("click", "binary", &["click", "clicked", "view", "watch", "interaction"]),
    ("conversion", "binary", &["conversion", "purchase", "purchased", "order", "buy"]),
    ("satisfaction", "regression", &["rating", "stars", "satisfaction"]),
    ("dwell", "log-regression", &["dwell_seconds", "dwell", "watch_seconds", "play_seconds"]),
];

/// Objectives, history, text and split for a folder of canonical tables; each can be overruled in the configuration.
pub(crate) fn for_tables(dataset: &Dataset) -> anyhow::Result<Table> {
    let columns = &dataset.events.feedback;
    let mut objectives: Vec<Value> = Vec::new();
    let mut engaged = None;
    let has_click = KNOWN[0].2.iter().any(|name| columns.contains_key(*name));
    for (name, kind, names) in KNOWN {
        let Some(column) = names.iter().find(|name| columns.contains_key(**name)) else { continue };
        let mut objective = Table::new();
        objective.insert("name".into(), name.into());
        objective.insert("column".into(), (*column).into());
        if name == "conversion" && has_click {
            objective.insert("kind".into(), "conditional".into());
            objective.insert("given".into(), "click".into());
        } else {
            objective.insert("kind".into(), kind.into());
        }
        objectives.push(Value::Table(objective));
        engaged.get_or_insert((*column).to_owned());
    }
    let Some(engaged) = engaged else {
        let found = columns.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(wrong_input(format!(
            "none of the feedback columns ({found}) is known by name: describe them with [[objectives]] in a --config file"
        )));
    };
    let fields: Vec<String> = dataset.items.text.keys().map(|field| format!("{{{field}}}")).collect();
    let split = if dataset.events.timestamp.is_some() { "time" } else { "random" };
    let mut table = Table::new();
    let mut shares = Table::new();
    shares.insert("strategy".into(), split.into());
    shares.insert("valid".into(), 0.1.into());
    shares.insert("test".into(), 0.1.into());
    table.insert("split".into(), Value::Table(shares));
    table.insert("engaged".into(), engaged.into());
    table.insert("template".into(), fields.join(". ").into());
    table.insert("objectives".into(), Value::Array(objectives));
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(columns: &[&str]) -> Dataset {
        let mut dataset = Dataset::default();
        dataset.items.text.insert("title".into(), Vec::new());
        dataset.items.text.insert("about".into(), Vec::new());
        for column in columns {
            dataset.events.feedback.insert((*column).into(), Vec::new());
        }
        dataset
    }

    #[test]
    fn columns_are_known_by_name() {
        let table = for_tables(&tables(&["click", "purchase", "rating"])).unwrap();
        assert_eq!(table["engaged"].as_str(), Some("click"));
        assert_eq!(table["template"].as_str(), Some("{about}. {title}"));
        assert_eq!(table["split"]["strategy"].as_str(), Some("random"));
        let kinds: Vec<&str> = table["objectives"]
            .as_array()
            .unwrap()
            .iter()
            .map(|objective| objective["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["binary", "conditional", "regression"]);
    }

    #[test]
    fn a_conversion_without_clicks_stands_alone() {
        let table = for_tables(&tables(&["purchase"])).unwrap();
        assert_eq!(table["objectives"][0]["kind"].as_str(), Some("binary"));
        assert_eq!(table["engaged"].as_str(), Some("purchase"));
    }

    #[test]
    fn unknown_columns_are_listed() {
        let error = for_tables(&tables(&["foo", "bar"])).unwrap_err().to_string();
        assert!(error.contains("bar, foo"), "{error}");
    }
}
