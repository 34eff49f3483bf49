//! Every user model against PyTorch: values and gradients, by `fixtures/make_users.py`.

use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor, safetensors};
use paretune_features::Packed;
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    Batch, ItemVectors, Pool, RankingLoss, Recommender, RecommenderConfig, Searched, Sequences, UserConfig, UserKind,
};
use serde::Deserialize;

use crate::world::values;

#[derive(Deserialize)]
struct Cases {
    shape: Shape,
    histories: Vec<Vec<u32>>,
    who: Vec<Option<u32>>,
    cases: Vec<String>,
}

#[derive(Deserialize)]
struct Shape {
    width: usize,
    heads: usize,
    inner: usize,
    layers: usize,
    events: usize,
    features: usize,
    items: usize,
    users: usize,
    longest: usize,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/users")
}

impl Cases {
    fn config(&self, case: &str) -> RecommenderConfig {
        let shape = &self.shape;
        let kind = UserKind::ALL.into_iter().find(|kind| case.trim_end_matches("-pre-norm") == kind.name()).unwrap();
        RecommenderConfig {
            dim: shape.width,
            user: UserConfig {
                kind,
                layers: shape.layers,
                heads: shape.heads,
                inner: shape.inner,
                pre_norm: case.ends_with("-pre-norm"),
                ..UserConfig::default()
            },
            history: shape.longest,
            users: shape.users,
            items: shape.items,
            hide_ids: 0.0,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            tasks: Architecture::SharedBottom,
            tower: 1,
            dropout: 0.0,
            item_features: 0,
            user_features: shape.features,
            event_features: shape.events,
            conditioning: Conditioning::None,
            features: None,
        }
    }

    /// A sequence for each request, and every item of the catalogue, in its order.
    fn batch(&self, stored: &HashMap<String, Tensor>) -> Batch {
        let mut offsets = vec![0];
        for history in &self.histories {
            offsets.push(offsets.last().unwrap() + history.len() as u32);
        }
        let requests = self.histories.len();
        Batch {
            items: (0..self.shape.items as u32).collect(),
            encoded: 0,
            packed: Packed::default(),
            slots: Vec::new(),
            requests: Vec::new(),
            item_features: Vec::new(),
            pair_categories: Vec::new(),
            positions: Vec::new(),
            places: Vec::new(),
            users: self.who.clone(),
            user_features: values(&stored["features"]),
            user_categories: Vec::new(),
            histories: Sequences {
                items: self.histories.concat(),
                events: values(&stored["events"]),
                seen: offsets.windows(2).map(|bounds| bounds[0]..bounds[1]).collect(),
                offsets,
                asked: vec![None; requests],
                hidden: Vec::new(),
            },
            searched: Searched { of: vec![None; requests], ..Searched::default() },
            pool: Pool::default(),
            labels: Vec::new(),
            weights: Vec::new(),
            preference: None,
            epoch: None,
            only: None,
            views: Sequences::default(),
        }
    }
}

fn largest(tensor: &Tensor) -> f32 {
    values(tensor).iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[track_caller]
fn near(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let off = largest(&(found - expected).unwrap());
    assert!(off <= tolerance * largest(expected).max(1e-3), "{what} is off by {off} of {}", largest(expected));
}

#[test]
fn user_models_are_those_of_pytorch() {
    let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let cases: Cases = serde_json::from_str(&text).unwrap();
    for case in &cases.cases {
        let stored = safetensors::load(folder().join(format!("{case}.safetensors")), &Device::Cpu).unwrap();
        let shape = &cases.shape;
        let items = ItemVectors::ids(shape.items, shape.width, 1, &Device::Cpu).unwrap();
        let objectives = Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap();
        let model = Recommender::new(cases.config(case), items, &objectives, 1, &Device::Cpu).unwrap();
        let parameters = model.parameters().all();
        let file = |name: &str| if name == "items.table" { "table".to_owned() } else { format!("weight.{name}") };
        for (name, var) in &parameters {
            let value = stored.get(&file(name)).unwrap_or_else(|| panic!("{case}: PyTorch has no {name}"));
            var.set(value).unwrap_or_else(|error| panic!("{case}: {name}: {error}"));
        }
        let weights = stored.keys().filter(|name| name.starts_with("weight.")).count();
        assert_eq!(parameters.len(), weights + 1, "{case}: all of them, and the table");

        let known = stored["table"].clone();
        let shared = model.represent(&cases.batch(&stored), &known, None).unwrap();
        near(&format!("{case}: users"), &shared.users, &stored["users"], 3e-6);
        let loss = (&shared.users * &stored["direction"]).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        for (name, var) in &parameters {
            let expected = &stored[&match name.as_str() {
                "items.table" => "gradient.table".to_owned(),
                name => format!("gradient.{name}"),
            }];
            match gradients.get(var) {
                Some(found) => near(&format!("{case}: the gradient of {name}"), found, expected, 2e-5),
                None => assert_eq!(largest(expected), 0.0, "{case}: {name} has no gradient"),
            }
        }
    }
}
