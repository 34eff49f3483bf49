//! Training with contrast and alignment beside the losses, and with texts in chunks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::Device;
use paretune_data::Part;
use paretune_encoder::{BertConfig, Encoder, Pooling};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_optim::{Gradients, Method};
use paretune_recommender::{
    AlignConfig, Auxiliary, Batch, ContrastConfig, Corpus, ItemVectors, RankingLoss, Recommender, RecommenderConfig,
    UserConfig, UserKind,
};
use paretune_train::step::{StepOptions, balanced_gradients, gradients_with_weights};
use paretune_train::{
    BalanceConfig, Balancer, GradientCut, HistoryMode, Observer, Outcome, Plan, Silent, TrainEvent, Trainer,
    TrainingConfig,
};

use crate::world::{self, Diary, TIME, bits, digest, short, values};

const BOTH: Auxiliary =
    Auxiliary { contrast: Some(contrast()), align: Some(AlignConfig { weight: 0.2, temperature: 0.3 }) };

const fn contrast() -> ContrastConfig {
    let augmentations = paretune_recommender::Augmentations { crop: 0.6, mask: 0.3, reorder: 0.6 };
    ContrastConfig { weight: 0.5, temperature: 0.3, augmentations }
}

/// Items known by text and id, a ranking and a rating.
struct Shop {
    corpus: Corpus,
    objectives: Objectives,
    kind: UserKind,
    auxiliary: Auxiliary,
}

impl Shop {
    fn new(kind: UserKind, auxiliary: Auxiliary) -> Self {
        let mut corpus = world::corpus_of(world::dataset(), &TIME);
        corpus.config.reading = kind.reading();
        let objectives = vec![
            Objective::new("click", Kind::Ranking, "click"),
            Objective::new("satisfaction", Kind::Regression, "rating"),
        ];
        Self { corpus, objectives: Objectives::new(objectives).unwrap(), kind, auxiliary }
    }

    /// The same model at every call.
    fn model(&self) -> Recommender {
        let bert = BertConfig {
            vocab_size: 62,
            hidden_size: 16,
            num_attention_heads: 2,
            intermediate_size: 32,
            ..BertConfig::tiny()
        };
        let encoder = Encoder::random(bert, Pooling::Mean, 3, &Device::Cpu).unwrap();
        let config = RecommenderConfig {
            dim: 12,
            user: UserConfig { kind: self.kind, heads: 3, ..UserConfig::default() },
            history: self.corpus.config.history,
            users: self.corpus.dataset.users.len(),
            items: self.corpus.dataset.items.len(),
            hide_ids: 0.1,
            ranking: RankingLoss::default(),
            repeats: true,
            search: false,
            tasks: Architecture::SharedBottom,
            tower: 10,
            dropout: 0.1,
            item_features: self.corpus.item_width(),
            user_features: self.corpus.user_width(),
            event_features: self.corpus.event_width(),
            conditioning: Conditioning::None,
            features: None,
        };
        let met = self.corpus.met_in_training();
        let vectors = ItemVectors::hybrid(Box::new(encoder), met, 12, 3, &Device::Cpu).unwrap();
        let mut model = Recommender::new(config, vectors, &self.objectives, 5, &Device::Cpu).unwrap();
        let rows = self.corpus.split.rows(Part::Train);
        let column = |objective: &Objective| &self.corpus.dataset.events.feedback[&objective.column];
        let labels = |objective| rows.iter().map(|&row| column(objective)[row as usize]).collect();
        model.fit(&self.objectives.iter().map(labels).collect::<Vec<Vec<f32>>>()).unwrap();
        model.with_auxiliary(self.auxiliary).unwrap()
    }

    fn balancer(&self, method: Method, cut: GradientCut) -> Balancer {
        let config = BalanceConfig { method, gradients: Some(cut), ..BalanceConfig::default() };
        Balancer::new(&config, &self.objectives, &[1.0, 1.0]).unwrap()
    }

    fn train(
        &self,
        config: &TrainingConfig,
        method: Method,
        checkpoints: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> (Recommender, Outcome) {
        let model = self.model();
        let balancer = self.balancer(method, GradientCut::Shared);
        let trainer = Trainer::new(&model, &self.corpus, &self.objectives, config, balancer, checkpoints, 9).unwrap();
        let outcome = trainer.run(observer).unwrap();
        (model, outcome)
    }

    /// A batch with ratings.
    fn batch(&self, model: &Recommender, config: &TrainingConfig) -> Batch {
        let plan = Plan::new(&self.corpus, &self.objectives, config, 9).unwrap().for_model(model, config);
        let rated = |batch: &Batch| batch.labels[1].iter().filter(|label| label.is_finite()).count();
        plan.epoch_from(0).find(|batch| rated(batch) > 2).unwrap()
    }
}

/// Every gradient as numbers.
fn dense(gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    gradients.iter().map(|(name, gradient)| (name.clone(), values(&gradient.dense().unwrap()))).collect()
}

/// Differences are measured against the largest number of the gradient.
#[track_caller]
fn assert_same(found: &Gradients, expected: &Gradients, tolerance: f32, what: &str) {
    let (found, expected) = (dense(found), dense(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in &expected {
        // Softmax does not see a bias of the keys: its gradient is zero, but for rounding.
        let least = if name.contains("key.bias") { 1.0 } else { 1e-3 };
        let size = expected.iter().fold(least, |size: f32, value| size.max(value.abs()));
        for (found, expected) in found[name].iter().zip(expected) {
            assert!((found - expected).abs() <= tolerance * size, "{what}, {name}: {found} and {expected} (of {size})");
        }
    }
}

#[test]
fn texts_in_chunks_have_the_gradients_of_all_texts_at_once() {
    let shop = Shop::new(UserKind::Sasrec, BOTH);
    let (model, config) = (shop.model(), TrainingConfig { history: HistoryMode::Trained, ..short() });
    let parameters = model.parameters();
    let known = model.embed(&shop.corpus.tokens, None).unwrap();
    let batch = shop.batch(&model, &config);
    assert!(batch.encoded > 60, "{} texts", batch.encoded);
    for (method, cut) in [
        (Method::WeightedSum, GradientCut::Shared),
        (Method::Mgda, GradientCut::Shared),
        (Method::Mgda, GradientCut::Full),
        (Method::GradDrop, GradientCut::Shared),
        (Method::GradDrop, GradientCut::Full),
    ] {
        let step = |chunk: usize| {
            let mut balancer = shop.balancer(method, cut);
            let options = StepOptions { dropout: 77, chunk };
            let found = balanced_gradients(&model, &parameters, &batch, &known, &mut balancer, options).unwrap();
            let weights = |weights: &[f64]| {
                gradients_with_weights(&model, &parameters, &batch, &known, weights, &balancer, options).unwrap()
            };
            let again = weights(&[0.4, 1.1]);
            (found, again)
        };
        let (expected, expected_again) = step(0);
        assert_eq!(expected.gradients.len(), parameters.all().len(), "every parameter has a gradient");
        for chunk in if cut == GradientCut::Full { &[7][..] } else { &[1, 7, 64, 10_000] } {
            let chunk = *chunk;
            let what = format!("{method} {cut:?} in chunks of {chunk}");
            let (found, again) = step(chunk);
            // The balance of gradients is a function of them: its weights are equal as far as they are.
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
            assert!(near(&found.losses, &expected.losses), "{what}: {:?} {:?}", found.losses, expected.losses);
            assert!(near(&found.weights, &expected.weights), "{what}: {:?} {:?}", found.weights, expected.weights);
            let tolerance = if method == Method::WeightedSum { 1e-6 } else { 1e-5 };
            assert_same(&found.gradients, &expected.gradients, tolerance, &what);
            assert_same(&again, &expected_again, tolerance, &what);
        }
    }
}

/// What is added takes part in the balance as a part of the ranking's loss, whether or not the graph is cut.
#[test]
fn what_is_added_goes_through_the_cuts() {
    for kind in [UserKind::Sasrec, UserKind::Bert4rec, UserKind::Attention] {
        let shop = Shop::new(kind, BOTH);
        let (model, config) = (shop.model(), TrainingConfig { history: HistoryMode::Trained, ..short() });
        let parameters = model.parameters();
        let known = model.embed(&shop.corpus.tokens, None).unwrap();
        let batch = shop.batch(&model, &config);
        let step = |model: &Recommender, mut balancer: Balancer| {
            let found = balanced_gradients(model, &parameters, &batch, &known, &mut balancer, 77).unwrap();
            (found, balancer)
        };
        let (whole, _) = step(&model, shop.balancer(Method::WeightedSum, GradientCut::Shared));
        assert_eq!(whole.added.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["contrast", "align"]);
        let below = [parameters.backbone.as_slice(), &parameters.shared].concat();
        for cut in [GradientCut::Shared, GradientCut::Full] {
            let (balanced, balancer) = step(&model, shop.balancer(Method::Mgda, cut));
            assert_eq!((&balanced.losses, &balanced.added), (&whole.losses, &whole.added));
            let weights = |weights: &[f64]| -> Gradients {
                let found =
                    gradients_with_weights(&model, &parameters, &batch, &known, weights, &balancer, 77).unwrap();
                below.iter().filter_map(|(name, _)| Some((name.clone(), found.get(name)?.clone()))).collect()
            };
            let uncut: Gradients = whole.gradients.clone();
            let uncut = below.iter().filter_map(|(name, _)| Some((name.clone(), uncut.get(name)?.clone()))).collect();
            assert_same(&weights(&[1.0, 1.0]), &uncut, 2e-5, "one pass and two");
            let own = balanced.gradients;
            let own = below.iter().filter_map(|(name, _)| Some((name.clone(), own.get(name)?.clone()))).collect();
            assert_same(&own, &weights(&balanced.weights), 2e-5, "balanced");
        }
        // The sum of its parts: the ranking's own loss, and `weight · loss` of each.
        let plain = Shop::new(kind, Auxiliary::default()).model();
        let before = balanced_gradients(
            &plain,
            &plain.parameters(),
            &batch,
            &known,
            &mut shop.balancer(Method::WeightedSum, GradientCut::Shared),
            77,
        )
        .unwrap();
        let sum = 0.5 * whole.added[0].1 + 0.2 * whole.added[1].1;
        assert!((whole.losses[0] - before.losses[0] - sum).abs() < 1e-5 && before.added.is_empty());
    }
}

/// Dies at the `left`-th event from now.
struct Mortal {
    left: usize,
}

impl Observer for Mortal {
    fn observe(&mut self, _event: &TrainEvent) {
        assert!(self.left > 0, "killed");
        self.left -= 1;
    }
}

#[test]
fn a_run_that_was_cut_off_ends_with_the_same_bytes() {
    for (kind, method, chunk) in [(UserKind::Sasrec, Method::WeightedSum, 0), (UserKind::Bert4rec, Method::Mgda, 20)] {
        let shop = Shop::new(kind, BOTH);
        let config = TrainingConfig { checkpoint_every: 3, refresh_every: 4, encode_every: 2, chunk, ..short() };
        let mut diary = Diary::default();
        let (straight, outcome) = shop.train(&config, method, Some(tempfile::tempdir().unwrap().path()), &mut diary);
        for cut_at in [2, diary.0.len() / 2, diary.0.len() - 3] {
            let dir = tempfile::tempdir().unwrap();
            let died = catch_unwind(AssertUnwindSafe(|| {
                shop.train(&config, method, Some(dir.path()), &mut Mortal { left: cut_at })
            }));
            assert!(died.is_err());
            let (model, resumed) = shop.train(&config, method, Some(dir.path()), &mut Silent);
            assert_eq!((resumed, bits(&model)), (outcome.clone(), bits(&straight)), "cut at event {cut_at}");
        }
    }
}

#[test]
fn training_learns_what_is_added_and_the_same_seed_gives_the_same_bytes() {
    let config = TrainingConfig { epochs: 3, ..short() };
    let run = |auxiliary| {
        let mut diary = Diary::default();
        let (model, _) = Shop::new(UserKind::Sasrec, auxiliary).train(&config, Method::WeightedSum, None, &mut diary);
        (digest(&model), diary.0)
    };
    let (with, events) = run(BOTH);
    assert_eq!(run(BOTH), (with, events.clone()));
    let told = |event: &TrainEvent| match event {
        TrainEvent::Step { added, .. } => Some(added.clone()),
        _ => None,
    };
    let told: Vec<BTreeMap<String, f64>> = events.iter().filter_map(told).collect();
    for name in ["contrast", "align"] {
        let mean =
            |steps: &[BTreeMap<String, f64>]| steps.iter().map(|step| step[name]).sum::<f64>() / steps.len() as f64;
        let (first, last) = (mean(&told[..6]), mean(&told[told.len() - 6..]));
        assert!(last < 0.95 * first, "{name}: {first} at first, {last} at last");
    }
    // Off is off, to the last bit, and says nothing.
    let zero = Auxiliary {
        contrast: Some(ContrastConfig { weight: 0.0, ..contrast() }),
        align: Some(AlignConfig { weight: 0.0, ..AlignConfig::default() }),
    };
    let (without, events) = run(Auxiliary::default());
    assert_eq!(run(zero), (without, events.clone()));
    assert_ne!(with, without);
    assert!(events.iter().all(|event| !matches!(event, TrainEvent::Step { added, .. } if !added.is_empty())));
    let line = serde_json::to_string(&events[1]).unwrap();
    assert!(line.contains("losses") && !line.contains("added"), "{line}");
}

/// All but the views of a batch is what it is without them.
#[test]
fn contrast_leaves_the_batches_alone() {
    for kind in [UserKind::Gru, UserKind::Bert4rec, UserKind::Mean] {
        let batches = |auxiliary| -> Vec<Batch> {
            let shop = Shop::new(kind, auxiliary);
            let (model, config) = (shop.model(), short());
            Plan::new(&shop.corpus, &shop.objectives, &config, 9)
                .unwrap()
                .for_model(&model, &config)
                .epoch_from(0)
                .collect()
        };
        let (with, without) = (batches(BOTH), batches(Auxiliary { contrast: None, ..BOTH }));
        let mut seen = Vec::new();
        for (a, b) in with.iter().zip(&without) {
            assert_eq!((&a.items, &a.slots, &a.histories, &a.pool), (&b.items, &b.slots, &b.histories, &b.pool));
            assert!(b.views.is_empty() && !a.views.is_empty());
            seen.push(a.views.clone());
        }
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "each step has its own");
        assert_eq!(seen, batches(BOTH).into_iter().map(|batch| batch.views).collect::<Vec<_>>());
    }
}

/// Chunks change nothing in a run but its memory: the first steps are the same, as far as sums in another order are.
#[test]
fn a_run_in_chunks_is_the_run_without() {
    let run = |chunk| {
        let config = TrainingConfig { max_steps: 4, chunk, ..short() };
        let mut diary = Diary::default();
        Shop::new(UserKind::Gru, BOTH).train(&config, Method::UpGrad, None, &mut diary);
        let losses = |event: &TrainEvent| match event {
            TrainEvent::Step { losses, gradient_norm, .. } => Some((losses.clone(), *gradient_norm)),
            _ => None,
        };
        diary.0.iter().filter_map(losses).collect::<Vec<_>>()
    };
    let (whole, chunks) = (run(0), run(16));
    assert_eq!((whole.len(), chunks.len()), (4, 4));
    for ((a, norm), (b, other)) in whole.iter().zip(&chunks) {
        assert!((norm - other).abs() < 1e-3 * norm.max(1.0), "{norm} {other}");
        assert!(a.iter().all(|(name, value)| (value - b[name]).abs() < 1e-3 * value.max(1.0)), "{a:?} {b:?}");
    }
}
