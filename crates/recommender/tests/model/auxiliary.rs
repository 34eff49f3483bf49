//! What training adds to the loss of a ranking: contrast of changed histories, alignment of texts and ids.

use candle_core::{Device, Tensor};
use paretune_data::Part;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    AlignConfig, Augmentations, Auxiliary, Batch, BatchBuilder, ContrastConfig, Corpus, Encode, ItemVectors,
    Recommender, UserKind,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{self, values};

/// Those that read histories.
const READERS: [UserKind; 7] = [
    UserKind::Attention,
    UserKind::Mean,
    UserKind::TwoTower,
    UserKind::Gru,
    UserKind::Lstm,
    UserKind::Sasrec,
    UserKind::Bert4rec,
];

const BOTH: Auxiliary = Auxiliary {
    contrast: Some(ContrastConfig {
        weight: 0.3,
        temperature: 0.5,
        augmentations: Augmentations { crop: 0.6, mask: 0.3, reorder: 0.6 },
    }),
    align: Some(AlignConfig { weight: 0.7, temperature: 0.4 }),
};

/// A rating, and two rankings behind it.
fn objectives() -> Objectives {
    Objectives::new(vec![
        Objective::new("satisfaction", Kind::Regression, "rating"),
        Objective::new("click", Kind::Ranking, "click"),
        Objective::new("conversion", Kind::Ranking, "conversion"),
    ])
    .unwrap()
}

fn model(corpus: &Corpus, kind: UserKind) -> Recommender {
    world::of_kind(corpus, world::hybrid(), kind, &objectives())
}

/// Requests of the training rows of some users, with views drawn by `seed`, if there is one.
fn batch(corpus: &Corpus, seed: Option<u64>) -> Batch {
    let (events, objectives) = (&corpus.dataset.events, objectives());
    let mut builder = BatchBuilder::new(corpus, objectives.len());
    for user in 0..14 {
        let rows = corpus.split.rows(Part::Train);
        let rows: Vec<u32> = rows.into_iter().filter(|&row| events.user[row as usize] == user).collect();
        let mut clocks: Vec<i64> = rows.iter().map(|&row| corpus.split.clock[row as usize]).collect();
        clocks.dedup();
        for (request, now) in builder.requests_of(user, &clocks, true).zip(clocks) {
            for &row in rows.iter().filter(|row| corpus.split.clock[**row as usize] == now) {
                let label = |objective: &Objective| events.feedback[&objective.column][row as usize];
                builder.sample(request, events.item[row as usize], 0, objectives.iter().map(label));
            }
        }
    }
    (0..120).step_by(7).for_each(|item| builder.negative(item));
    if let Some(seed) = seed {
        builder.views(Augmentations::default(), seed);
    }
    builder.build(Encode::ShownAndHistory)
}

#[test]
fn views_are_changed_histories_of_the_batchs_users() {
    for kind in [UserKind::Attention, UserKind::Sasrec, UserKind::Bert4rec] {
        let corpus = world::corpus_for(kind);
        let batch = batch(&corpus, Some(5));
        let views = &batch.views;
        let users: Vec<u32> = (0..14)
            .filter(|&user| {
                let asks = |&row: &u32| corpus.dataset.events.user[row as usize] == user;
                let last = corpus.split.rows(Part::Train).into_iter().filter(asks);
                let last = last.map(|row| corpus.split.clock[row as usize]).max();
                last.is_some_and(|clock| !corpus.histories.before(user, clock, 8, true).is_empty())
            })
            .collect();
        assert!(users.len() > 8);
        assert_eq!((views.seen.len(), views.offsets.len()), (2 * users.len(), 2 * users.len() + 1));
        assert_eq!(views.events.len(), views.len() * corpus.event_width());
        let (mut masked, mut cropped, mut changed) = (0, 0, 0);
        for (view, rows) in views.seen.iter().enumerate() {
            let user = users[view % users.len()];
            assert_eq!(rows.start, views.offsets[view]);
            let shown = rows.clone().filter(|row| views.hidden.binary_search(row).is_err());
            let shown: Vec<u32> = shown.map(|row| batch.items[views.items[row as usize] as usize]).collect();
            let own = corpus.histories.engaged_items(user, true);
            assert!(!shown.is_empty() && rows.len() <= 8 && shown.iter().all(|item| own.contains(item)));
            masked += usize::from(shown.len() < rows.len());
            let other = &views.seen[(view + users.len()) % views.seen.len()];
            cropped += usize::from(rows.len() < other.len());
            let items = |rows: &std::ops::Range<u32>| views.items[rows.start as usize..rows.end as usize].to_vec();
            changed += usize::from(items(rows) != items(other));
        }
        assert!(masked > 3 && cropped > 3 && changed > users.len(), "{masked} {cropped} {changed}");
        assert_eq!(*views, self::batch(&corpus, Some(5)).views);
        assert_ne!(*views, self::batch(&corpus, Some(6)).views);
        let without = self::batch(&corpus, None);
        assert!(without.views.is_empty() && without.views.seen.is_empty());
        assert_eq!((&without.items, &without.histories), (&batch.items, &batch.histories), "all else is the same");
    }
}

/// The place, the last feature of an event, is that in the view: what stands first in a view looks first.
#[test]
fn events_of_a_view_stand_where_they_stand_in_it() {
    for (kind, forward) in [(UserKind::Sasrec, true), (UserKind::Attention, false)] {
        let corpus = world::corpus_for(kind);
        let (batch, width) = (batch(&corpus, Some(5)), corpus.event_width());
        let mut checked = 0;
        for rows in &batch.views.seen {
            for (at, row) in rows.clone().enumerate() {
                let place = if forward { at } else { rows.len() - 1 - at };
                let features = &batch.views.events[row as usize * width..][..width];
                assert_eq!(features[width - 1], (place as f32).ln_1p() / 3.0);
                let masked = batch.views.hidden.contains(&row);
                let blank = features[..width - 1].iter().all(|value| *value == 0.0);
                assert_eq!(masked, blank, "of a masked event nothing else is left: {features:?}");
                checked += usize::from(masked);
            }
        }
        assert!(checked > 3);
    }
}

#[test]
fn a_masked_event_does_not_say_what_it_was() {
    for kind in READERS {
        let corpus = world::corpus_for(kind);
        let model = model(&corpus, kind).with_auxiliary(BOTH).unwrap();
        let known = model.embed(&corpus.tokens, None).unwrap();
        let mut batch = batch(&corpus, Some(5));
        let views = |batch: &Batch| values(&model.represent(batch, &known, None).unwrap().views.unwrap());
        let before = views(&batch);
        let (hidden, items) = (batch.views.hidden.clone(), batch.items.len() as u32);
        hidden.iter().for_each(|&row| batch.views.items[row as usize] = items - 1);
        assert_eq!(views(&batch), before, "{kind:?}");
        // But that there was one is seen.
        batch.views.hidden.clear();
        assert_ne!(views(&batch), before, "{kind:?}");
    }
}

#[test]
fn what_is_off_changes_nothing() {
    let corpus = world::corpus_for(UserKind::Sasrec);
    let (plain, with_views) = (batch(&corpus, None), batch(&corpus, Some(5)));
    let losses = |auxiliary: Option<Auxiliary>, batch: &Batch| {
        let mut model = model(&corpus, UserKind::Sasrec);
        if let Some(auxiliary) = auxiliary {
            model = model.with_auxiliary(auxiliary).unwrap();
        }
        let known = model.embed(&corpus.tokens, None).unwrap();
        let shared = model.represent(batch, &known, Some(3)).unwrap();
        let (losses, added) = model.losses_with_auxiliary(&shared, batch, Some(3)).unwrap();
        let losses: Vec<f32> = losses.iter().map(|loss| loss.loss.to_scalar().unwrap()).collect();
        let added: Vec<(&str, f64, f32)> =
            added.iter().map(|added| (added.name, added.weight, added.loss.to_scalar().unwrap())).collect();
        (losses, added)
    };
    let (before, none) = losses(None, &plain);
    assert!(none.is_empty());
    let zero = Auxiliary {
        contrast: Some(ContrastConfig { weight: 0.0, ..ContrastConfig::default() }),
        align: Some(AlignConfig { weight: 0.0, ..AlignConfig::default() }),
    };
    for off in [Auxiliary::default(), zero] {
        assert_eq!(losses(Some(off), &with_views), (before.clone(), vec![]));
    }
    let (after, added) = losses(Some(BOTH), &with_views);
    assert_eq!(
        added.iter().map(|(name, weight, _)| (*name, *weight)).collect::<Vec<_>>(),
        [("contrast", 0.3), ("align", 0.7)]
    );
    // The first ranking alone gets them.
    let sum: f32 = added.iter().map(|(_, weight, loss)| *weight as f32 * loss).sum();
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert!((after[1] - before[1] - sum).abs() < 1e-5 && sum > 0.1, "{after:?} {before:?} {sum}");
    assert_eq!(losses(Some(BOTH), &plain).1.len(), 1, "without views there is nothing to contrast");
}

/// The loss that is added under this name.
fn added(model: &Recommender, batch: &Batch, known: &Tensor, name: &str) -> Tensor {
    let shared = model.represent(batch, known, None).unwrap();
    let (_, added) = model.losses_with_auxiliary(&shared, batch, None).unwrap();
    added.into_iter().find(|added| added.name == name).unwrap().loss
}

/// Along a direction `d`, `(L(θ + εd) − L(θ − εd)) / 2ε` is `⟨∇L, d⟩`.
fn check_finite_differences(kind: UserKind, name: &str) -> Vec<String> {
    let corpus = world::corpus_for(kind);
    let model = model(&corpus, kind).with_auxiliary(BOTH).unwrap();
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = batch(&corpus, Some(5));
    let store = added(&model, &batch, &known, name).backward().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut checked = Vec::new();
    for (parameter, var) in model.parameters().shared {
        let Some(gradient) = store.get(&var).map(values) else { continue };
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        if norm == 0.0 {
            continue;
        }
        let spread = 0.3 / (gradient.len() as f32).sqrt();
        let direction: Vec<f32> = gradient.iter().map(|g| g / norm + spread * (rng.random::<f32>() - 0.5)).collect();
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let before = var.as_tensor().copy().unwrap();
        let step = Tensor::from_vec(direction, var.shape(), var.device()).unwrap();
        let at = |epsilon: f64| {
            var.set(&(&before + (&step * epsilon).unwrap()).unwrap()).unwrap();
            let value = f64::from(added(&model, &batch, &known, name).to_scalar::<f32>().unwrap());
            var.set(&before).unwrap();
            value
        };
        let epsilon = 5e-3;
        let found = (at(epsilon) - at(-epsilon)) / (2.0 * epsilon);
        assert!(
            (found - expected).abs() < 0.03 * expected.abs() + 5e-4,
            "{kind:?} {parameter}: {found} and {expected}"
        );
        checked.push(parameter);
    }
    checked
}

#[test]
fn the_gradient_of_contrast_is_that_of_finite_differences() {
    for kind in READERS {
        let checked = check_finite_differences(kind, "contrast");
        for part in ["items.table", "items.text.weight", "users."] {
            assert!(checked.iter().any(|name| name.starts_with(part)), "{kind:?}: {part} of {checked:?}");
        }
        // Features of users stay out of it, but for a bias.
        assert!(!checked.iter().any(|name| name == "users.features.weight"), "{kind:?}: {checked:?}");
    }
}

#[test]
fn the_gradient_of_alignment_is_that_of_finite_differences() {
    let checked = check_finite_differences(UserKind::Mean, "align");
    let expected = ["items.table", "items.text.weight", "items.text.bias", "items.ids.weight", "items.ids.bias"];
    assert!(expected.iter().all(|name| checked.iter().any(|other| other == name)), "{checked:?}");
    assert_eq!(checked.len(), expected.len());
}

#[test]
fn everything_learns_with_what_is_added_and_the_encoder_through_it() {
    for kind in READERS {
        let corpus = world::corpus_for(kind);
        let model = model(&corpus, kind).with_auxiliary(BOTH).unwrap();
        let known = model.embed(&corpus.tokens, None).unwrap();
        let batch = batch(&corpus, Some(5));
        let store = world::loss(&model, &batch, &known, Some(3)).backward().unwrap();
        let check = |store: &candle_core::backprop::GradStore, name: &str, var: &candle_core::Var, least: f32| {
            let gradient = values(store.get(var).unwrap_or_else(|| panic!("{kind:?}: {name} has no gradient")));
            let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
            assert!(gradient.iter().all(|g| g.is_finite()), "{kind:?}: {name}");
            assert!(name.contains("key.bias") || largest > least, "{kind:?}: the gradient of {name} is zero");
        };
        model.parameters().all().iter().for_each(|(name, var)| check(&store, name, var, 1e-9));
        for term in ["contrast", "align"] {
            let store = added(&model, &batch, &known, term).backward().unwrap();
            // A fresh bidirectional network barely looks at what is around its mask.
            model.parameters().backbone.iter().for_each(|(name, var)| check(&store, name, var, 1e-13));
        }
    }
}

#[test]
fn only_items_that_are_shown_and_were_met_are_aligned() {
    let corpus = world::corpus_for(UserKind::Mean);
    let model = model(&corpus, UserKind::Mean).with_auxiliary(BOTH).unwrap();
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = batch(&corpus, None);
    let mut shown: Vec<u32> = batch.slots.iter().map(|&slot| batch.items[slot as usize]).collect();
    shown.sort_unstable();
    shown.dedup();
    let met = shown.iter().filter(|item| **item < 110).count();
    assert!(met < shown.len() && met > 20);
    let aligned = model.represent(&batch, &known, Some(3)).unwrap().aligned.unwrap();
    assert_eq!(aligned.dims(), [2 * met, 12]);
    // Texts, then ids: together they are what the item is, where nothing is hidden and nothing dropped.
    let aligned = model.represent(&batch, &known, None).unwrap().aligned.unwrap();
    let whole = model.represent(&batch, &known, None).unwrap().candidates.unwrap();
    let sum = (aligned.narrow(0, 0, met).unwrap() + aligned.narrow(0, met, met).unwrap()).unwrap();
    let places: Vec<u32> = shown
        .iter()
        .filter(|item| **item < 110)
        .map(|item| batch.items.iter().position(|other| other == item).unwrap() as u32)
        .collect();
    let expected = whole.index_select(&Tensor::new(places, &Device::Cpu).unwrap(), 0).unwrap();
    world::assert_near(&values(&sum), &values(&expected), 1e-5);
}

#[test]
fn what_cannot_be_added_is_refused_before_training() {
    let corpus = world::corpus();
    let contrast = Auxiliary { align: None, ..BOTH };
    let align = Auxiliary { contrast: None, ..BOTH };
    let refused = |vectors: ItemVectors, kind, objectives: &Objectives, auxiliary| {
        let model = world::of_kind(&corpus, vectors, kind, objectives);
        model.with_auxiliary(auxiliary).err().unwrap().to_string()
    };
    let all = objectives();
    for kind in [UserKind::Graph, UserKind::Factors] {
        let said = refused(world::hybrid(), kind, &all, contrast);
        assert!(
            said.contains("model.contrast needs") && said.contains(kind.name()) && said.contains("sasrec"),
            "{said}"
        );
    }
    for (vectors, name) in [(world::text(), "text"), (world::ids(&corpus), "ids")] {
        let said = refused(vectors, UserKind::Mean, &all, align);
        assert!(said.contains("model.align needs") && said.contains(&format!("model.items = \"{name}\"")), "{said}");
    }
    let rating = all.select(&["satisfaction"]).unwrap();
    for auxiliary in [contrast, align] {
        assert!(refused(world::hybrid(), UserKind::Mean, &rating, auxiliary).contains("kind \"ranking\""));
    }
    let mean = |auxiliary| refused(world::hybrid(), UserKind::Mean, &all, auxiliary);
    let with = |change: &dyn Fn(&mut ContrastConfig)| {
        let mut config = ContrastConfig::default();
        change(&mut config);
        mean(Auxiliary { contrast: Some(config), align: None })
    };
    assert!(with(&|config| config.weight = -0.1).contains("model.contrast.weight = -0.1 must be"));
    assert!(with(&|config| config.temperature = 0.0).contains("model.contrast.temperature = 0 is not allowed"));
    assert!(with(&|config| config.augmentations.crop = 2.0).contains("model.contrast.augmentations.crop = 2"));
    let config = AlignConfig { weight: f64::NAN, ..AlignConfig::default() };
    assert!(mean(Auxiliary { contrast: None, align: Some(config) }).contains("model.align.weight = NaN"));
    let config = AlignConfig { temperature: f64::INFINITY, ..AlignConfig::default() };
    assert!(mean(Auxiliary { contrast: None, align: Some(config) }).contains("model.align.temperature = inf"));
}
