//! The card of a made-up run, word for word, and YAML whatever names hold.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Base, Card, Counts, Measured, Shape};
use crate::config::RunConfig;

fn config() -> RunConfig {
    toml::from_str(
        r#"
        seed = 7
        [data]
        dataset = "shop"
        from = "logs"
        engaged = "click"
        template = "{title}. {description}"
        split = { strategy = "time", valid = 0.1, test = 0.2 }
        [model]
        source = "sentence-transformers/all-MiniLM-L6-v2"
        train_layers = 2
        [balance]
        method = "upgrad"
        gradients = "full"
        [[objectives]]
        name = "click"
        kind = "binary"
        column = "click"
        weight = 2.0
        [[objectives]]
        name = "conversion"
        kind = "conditional"
        column = "buy"
        given = "click"
        [[objectives]]
        name = "stars"
        kind = "regression"
        column = "rating"
        weight = 0.0
        "#,
    )
    .unwrap()
}

fn measured() -> Measured {
    serde_json::from_value(json!({
        "dataset": "shop", "model": "not shown", "steps": 1200, "test_rows": 8000, "ranked_users": 640, "seed": 7, "seconds": 9.5,
        "objectives": {
            "click": {
                "auc": {"model": 0.71, "untrained": 0.5, "popularity": 0.6, "item_mean": 0.72, "single_objective": 0.709},
                "log_loss": {"model": 0.3, "untrained": 0.4, "popularity": 0.35, "item_mean": 0.31},
            },
            "conversion": {"auc": {"model": 0.8, "untrained": 0.4}},
            "stars": {"rmse": {"model": 1.25, "item_mean": 1.1}},
        },
        "cold": {"click": {"auc": {"model": 0.6, "popularity": 0.5}}},
        "shown": {},
        "ranking": {"ndcg@10": {"model": 0.03125, "popularity": 0.03125, "untrained": 0.001}},
        "list": {"diversity@10": {"model": 0.5, "popularity": 0.25}},
    }))
    .unwrap()
}

fn shape() -> Shape {
    Shape {
        family: "bert".into(),
        layers: 6,
        parameters: 22_713_216,
        width: 384,
        pooling: "mean".into(),
        normalizes: true,
        max_length: Some(256),
    }
}

/// The YAML of a card.
fn front_matter(card: &str) -> Value {
    let (yaml, _) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    serde_yaml_ng::from_str(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"))
}

#[test]
fn a_card_word_for_word() {
    let (config, measured, repo) = (config(), measured(), "my-team/shop-encoder".parse().unwrap());
    let base = "sentence-transformers/all-MiniLM-L6-v2".to_owned();
    let mut card = Card {
        repo: &repo,
        config: &config,
        measured: &measured,
        base: Base { name: base.clone(), hub: Some(base.clone()) },
        shape: shape(),
        counts: Counts { items: 1500, users: 640, events: 1_234_567 },
        license: Some("apache-2.0".into()),
        languages: vec!["en".into(), "de".into()],
        datasets: vec!["my-team/shop".into()],
        with_run: true,
    };
    let found = card.render().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/card.md");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} (UPDATE_FIXTURES=1 writes it again)", at + 1);
    }
    assert_eq!(found, expected);

    let yaml = front_matter(&found);
    assert_eq!(
        (&yaml["license"], &yaml["library_name"], &yaml["pipeline_tag"], &yaml["base_model"]),
        (&json!("apache-2.0"), &json!("sentence-transformers"), &json!("sentence-similarity"), &json!(base))
    );
    assert_eq!((&yaml["language"], &yaml["datasets"]), (&json!(["en", "de"]), &json!(["my-team/shop"])));
    let results = &yaml["model-index"][0]["results"][0];
    assert_eq!((&results["dataset"]["type"], &results["metrics"][0]["value"]), (&json!("shop"), &json!(0.71)));
    assert_eq!(results["metrics"].as_array().unwrap().len(), 5, "{results}");

    // What is not known is not claimed.
    card.license = None;
    card.languages.clear();
    card.base.hub = None;
    card.datasets.clear();
    card.with_run = false;
    let text = card.render().unwrap();
    let yaml = front_matter(&text);
    for key in ["license", "language", "base_model", "datasets"] {
        assert!(yaml.get(key).is_none(), "{key}: {yaml}");
    }
    assert!(text.contains("No licence is stated") && text.contains("stay with the run"), "{text}");
}

proptest! {
    #[test]
    fn whatever_names_hold_it_is_yaml_and_tables_keep_their_columns(name in "\\PC{0,24}|[\\x00-\\x7f]{1,12}|[:#\\-{}'\"|\\\\ \\n]{1,8}") {
        let mut config = config();
        config.data.template = name.clone();
        config.objectives[0].column = name.clone();
        let measured = Measured { dataset: name.clone(), ..measured() };
        let repo = "a/b".parse().unwrap();
        let card = Card {
            repo: &repo,
            config: &config,
            measured: &measured,
            base: Base { name: name.clone(), hub: Some(name.clone()) },
            shape: shape(),
            counts: Counts { items: 1, users: 1, events: 1 },
            license: Some(name.clone()),
            languages: vec![name.clone()],
            datasets: Vec::new(),
            with_run: false,
        };
        let text = card.render().unwrap();
        let yaml = front_matter(&text);
        let cleaned: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        prop_assert_eq!(&yaml["license"], &json!(cleaned));
        prop_assert_eq!(&yaml["language"][0], &json!(cleaned));
        prop_assert_eq!(&yaml["model-index"][0]["results"][0]["dataset"]["type"], &json!(cleaned));
        let columns = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let row = text.lines().find(|line| line.starts_with("| click | binary")).unwrap();
        prop_assert_eq!(columns(row), 5, "{}", row);
    }
}
