//! What people read of a card.

use std::collections::{BTreeMap, BTreeSet};

use paretune_eval::better_is_higher;
use paretune_objectives::Conditioning;
use paretune_train::GradientCut;
use paretune_train::evaluation::primary_metric;

use super::{Card, Measured, Rows, code, plain};
use crate::measure::METHODS;

const ABOUT: &str = "https://github.com/paretune/paretune";

/// What each method of the tables is.
const MEANINGS: [(&str, &str); 6] = [
    ("model", "the recommender with this encoder"),
    ("untrained", "the same before training: the encoder that it started from, fresh towers"),
    ("popularity", "the item's engagements in training alone"),
    ("item_mean", "the item's mean label in training"),
    ("single_objective", "for each objective a model trained for it alone"),
    ("ids", "the same recommender with a table of items in place of a text encoder"),
];

/// Everything after the front matter.
pub(super) fn of(card: &Card) -> anyhow::Result<String> {
    let parts =
        [opening(card), usage(card), data(card), measured(card), training(card)?, recommender(card), licence(card)];
    Ok(parts.join("\n"))
}

fn opening(card: &Card) -> String {
    let (repo, shape) = (card.repo, &card.shape);
    let base = match &card.base.hub {
        Some(hub) => format!("[{hub}](https://huggingface.co/{hub})"),
        None => plain(&card.base.name),
    };
    let names: Vec<String> = card.config.objectives.iter().map(|objective| plain(&objective.name)).collect();
    let rows = [
        ("Started from", base.clone()),
        (
            "Architecture",
            format!("{}, {} layers, {} parameters", code(&shape.family), shape.layers, thousands(shape.parameters)),
        ),
        ("Vectors", format!("{} numbers{}", shape.width, if shape.normalizes { ", scaled to length 1" } else { "" })),
        ("Pooling", code(&shape.pooling)),
        ("Longest text", shape.max_length.map_or("not limited".to_owned(), |length| format!("{length} tokens"))),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!(
        "# {}\n\nA sentence encoder: {base}, fine-tuned with [Paretune]({ABOUT}) as the text encoder of a recommender for {} \
         ({}) on the data set {}. It turns the text of an item into a vector.\n\n| | |\n| --- | --- |\n{rows}",
        plain(repo.name()),
        if names.len() == 1 { "one objective".to_owned() } else { format!("{} objectives at once", names.len()) },
        names.join(", "),
        code(&card.measured.dataset),
    )
}

fn usage(card: &Card) -> String {
    let repo = card.repo;
    let template = code(&card.config.data.template);
    format!(
        r#"## How to use it

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{repo}")
vectors = model.encode(["a blue mug", "a tea cup"])
print(model.similarity(vectors, vectors))
```

```rust
use paretune_encoder::SentenceEncoder;

let model = SentenceEncoder::from_hub("{repo}")?;
let vectors = model.encode(&["a blue mug", "a tea cup"])?;
println!("{{:.3}}", model.similarity(&vectors, &vectors)?[0][1]);
```

In training, the text of an item was made as {template} and cut to {} tokens. What was trained is what the recommender's
towers make of these vectors, not their similarity as such: measure on your own task before relying on it.
"#,
        card.config.model.max_length
    )
}

fn data(card: &Card) -> String {
    let counts = card.counts;
    let split = card.config.data.split.name();
    format!(
        "## Data\n\n{}: {} items, {} users, {} events, split by {split}; measured on {} rows of the test part{}. No row of it is part \
         of this repository.\n",
        code(&card.measured.dataset),
        thousands(counts.items),
        thousands(counts.users),
        thousands(counts.events),
        thousands(card.measured.test_rows),
        match card.measured.ranked_users {
            0 => String::new(),
            users => format!(" and on rankings for {} of its users", thousands(users)),
        }
    )
}

fn measured(card: &Card) -> String {
    let measured = card.measured;
    let mut text = String::from(
        "## What was measured\n\nThe whole recommender, of which this encoder is the part that reads texts, on the test part, beside its \
         baselines; the best of each row is bold. One run with one seed: small differences may be chance.\n",
    );
    let mut add = |title: &str, note: &str, table: String| {
        if !table.is_empty() {
            text += &format!("\n### {title}\n\n{note}{table}");
        }
    };
    let of_objectives = |metrics: &BTreeMap<String, Rows>| {
        let rows = card.config.objectives.iter().flat_map(|objective| {
            let rows = metrics.get(&objective.name).into_iter().flatten();
            rows.map(|(metric, values)| (Some(plain(&objective.name)), metric.as_str(), values))
        });
        table(&rows.collect::<Vec<_>>(), true)
    };
    let of_rows = |rows: &Rows, marked: bool| {
        table(&rows.iter().map(|(metric, values)| (None, metric.as_str(), values)).collect::<Vec<_>>(), marked)
    };
    add("Objectives", &verdicts(card), of_objectives(&measured.objectives));
    add("Ranking what was shown", "Each test request's own items, ranked again.\n\n", of_rows(&measured.shown, true));
    add("Ranking the whole catalogue", "", of_rows(&measured.ranking, true));
    add("The lists as lists", "", of_rows(&measured.list, false));
    add(
        "Items unseen in training",
        "Test rows whose item nobody engaged with in training.\n\n",
        of_objectives(&measured.cold),
    );
    text += &legend(measured);
    text
}

/// What the columns mean, those that are there.
fn legend(measured: &Measured) -> String {
    let tables = measured.objectives.values().chain([&measured.shown, &measured.ranking, &measured.list]);
    let known: BTreeSet<&str> =
        tables.flat_map(BTreeMap::values).flat_map(|row| row.keys().map(String::as_str)).collect();
    let lines: String = MEANINGS
        .iter()
        .filter(|(method, _)| known.contains(method))
        .map(|(method, meaning)| format!("- `{}`: {meaning}\n", method.replace('_', " ")))
        .collect();
    format!("\n{lines}")
}

/// One line for each trained objective: whether the model is ahead of the baselines.
fn verdicts(card: &Card) -> String {
    let mut lines = String::new();
    for objective in card.config.objectives.iter().filter(|objective| objective.weight > 0.0) {
        let metric = primary_metric(objective);
        let row = card.measured.objectives.get(&objective.name).and_then(|metrics| metrics.get(metric));
        let Some((row, model)) = row.and_then(|row| Some((row, *row.get("model")?))) else { continue };
        let parts = ["untrained", "popularity", "item_mean", "single_objective"].iter().filter_map(|method| {
            let value = *row.get(*method)?;
            let ahead = if better_is_higher(metric) { model > value } else { model < value };
            let verb = if ahead { "better than" } else { "not better than" };
            Some(format!("{verb} {} ({value:.4})", method.replace('_', " ")))
        });
        let parts: Vec<String> = parts.collect();
        lines += &format!("- {}: {metric} {model:.4}", plain(&objective.name));
        if !parts.is_empty() {
            lines += &format!(", {}", parts.join(", "));
        }
        lines.push('\n');
    }
    if lines.is_empty() { lines } else { lines + "\n" }
}

/// A table of metrics under methods, those that were measured; empty without rows.
fn table(rows: &[(Option<String>, &str, &BTreeMap<String, f64>)], marked: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let methods: Vec<&str> =
        METHODS.into_iter().filter(|method| rows.iter().any(|(_, _, values)| values.contains_key(*method))).collect();
    let named = rows.iter().any(|(name, _, _)| name.is_some());
    let labels = if named { "| objective | metric |" } else { "| metric |" };
    let names: String = methods.iter().map(|method| format!(" {} |", method.replace('_', " "))).collect();
    let rules = if named { "| --- | --- |" } else { "| --- |" };
    let mut text = format!("{labels}{names}\n{rules}{}\n", " ---: |".repeat(methods.len()));
    for (name, metric, values) in rows {
        let higher = better_is_higher(metric);
        let measured =
            methods.iter().filter_map(|method| values.get(*method)).copied().filter(|value| value.is_finite());
        let best =
            measured.reduce(|a, b| if higher { a.max(b) } else { a.min(b) }).filter(|_| marked && methods.len() > 1);
        let cells: String = methods
            .iter()
            .map(|method| match values.get(*method) {
                Some(value) if best == Some(*value) => format!(" **{value:.4}** |"),
                Some(value) => format!(" {value:.4} |"),
                None => " |".to_owned(),
            })
            .collect();
        let name = name.as_ref().map(|name| format!(" {name} |")).unwrap_or_default();
        let arrow = if !marked {
            ""
        } else if higher {
            " ↑"
        } else {
            " ↓"
        };
        text += &format!("|{name} {}{arrow} |{cells}\n", plain(metric));
    }
    text
}

fn training(card: &Card) -> anyhow::Result<String> {
    let config = card.config;
    let objectives: String = config
        .objectives
        .iter()
        .map(|objective| {
            let said = |what: &str, name: &Option<String>| {
                name.as_ref().map(|name| format!(", {what} {}", plain(name))).unwrap_or_default()
            };
            let less = if objective.direction.is_more() { "" } else { ", less is wanted" };
            let given = said("given", &objective.given) + &said("through", &objective.through) + less;
            let kind = serde_json::to_value(objective.kind).ok();
            let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
            format!(
                "| {} | {kind}{given} | {} | {} |\n",
                plain(&objective.name),
                code(&objective.column),
                objective.weight
            )
        })
        .collect();
    let balance = match config.balance.gradients {
        Some(GradientCut::Full) => format!("`{}`, on gradients of all parameters", config.balance.method),
        Some(GradientCut::Shared) | None => format!("`{}`", config.balance.method),
    };
    let conditioned = match config.model.conditioning {
        Conditioning::None => String::new(),
        form => format!(
            " The weights are an input of the recommender (`{}`), which answers for every balance.",
            form.name()
        ),
    };
    let trained = match config.model.train_layers {
        None => "all layers".to_owned(),
        Some(0) => "no layer of the encoder, only the towers behind it".to_owned(),
        Some(1) => "the last layer".to_owned(),
        Some(n) => format!("the last {n} layers"),
    };
    let training = &config.training;
    Ok(format!(
        "## How it was trained\n\n| objective | kind | column | weight |\n| --- | --- | --- | ---: |\n{objectives}\n\
         Objectives are balanced by {balance}.{conditioned} Trained: {trained}, {} steps of {} samples, learning rate {} for the encoder and {} for \
         the towers, arithmetic {}, seed {}, Paretune {}. With the configuration below in `config.toml` and the same data,\n\n```sh\n\
         cargo xtask finetune --config config.toml\n```\n\nmakes it again; folders stand there by their last part only.\n\n<details><summary>config.toml</summary>\n\n```toml\n{}\n```\n\n\
         </details>\n",
        thousands(card.measured.steps),
        training.batch,
        training.backbone_learning_rate,
        training.learning_rate,
        config.model.arithmetic,
        config.seed,
        env!("CARGO_PKG_VERSION"),
        toml::to_string(config)?.trim().replace("```", "'''"),
    ))
}

fn recommender(card: &Card) -> String {
    if !card.with_run {
        return format!(
            "## The recommender\n\nOnly the text encoder is here. The towers that turn its vectors into recommendations stay with the run; \
             `cargo xtask push --with-run` of [Paretune]({ABOUT}) uploads them too.\n"
        );
    }
    format!(
        "## The recommender\n\nThe folder `recommender` holds the towers that turn vectors into recommendations, without the data. To use them, \
         make a run directory of your own:\n\n```text\nmy-run/config.toml   from recommender/\nmy-run/model/        the encoder's files, and \
         recommender.json and recommender.safetensors from recommender/\nmy-run/data/         items.parquet, users.parquet, events.parquet \
         with the same columns\n```\n\nThen [Paretune]({ABOUT}) answers:\n\n```sh\ncargo xtask recommend --run my-run --user ID\n```\n"
    )
}

fn licence(card: &Card) -> String {
    let stated = match &card.license {
        Some(license) => format!("The weights are under {}.", code(license)),
        None => "No licence is stated: that of the model it started from applies to what was taken from it.".to_owned(),
    };
    format!(
        "## Licence\n\n{stated} The data has terms of its own, which may say what a model that was trained on it may be used for.\n"
    )
}

/// `1234567` as `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
