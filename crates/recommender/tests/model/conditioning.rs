//! One model for every balance: the preference of a batch reaches everything above the trunk.

use candle_core::Tensor;
use paretune_objectives::Conditioning;
use paretune_recommender::{Batch, BatchBuilder, Corpus, Encode, Recommender, Viewer};

use crate::world::{self, values};

const BOTH: [Conditioning; 2] = [Conditioning::Film, Conditioning::Hypernetwork];
const CORNERS: [[f64; 4]; 2] = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]];

fn asked(mut batch: Batch, preference: &[f64]) -> Batch {
    batch.preference = Some(preference.to_vec());
    batch
}

fn two_users(corpus: &Corpus) -> Batch {
    let mut builder = BatchBuilder::new(corpus, 0);
    for user in [3, 8] {
        builder.request(&Viewer::Known { user, clock: i64::MAX, train_only: false });
    }
    builder.build(Encode::Nothing)
}

#[test]
fn every_parameter_learns_whatever_the_preference() {
    let corpus = world::corpus();
    for conditioning in BOTH {
        let model = world::conditioned(&corpus, world::text(), conditioning);
        let known = model.embed(&corpus.tokens, None).unwrap();
        for preference in [[1.0; 4], CORNERS[0]] {
            let batch = world::batch(&corpus, &world::late_rows(&corpus, 80), Encode::ShownAndHistory);
            let store = world::loss(&model, &asked(batch, &preference), &known, Some(3)).backward().unwrap();
            for (name, var) in model.parameters().all() {
                let gradient = values(store.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")));
                let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
                // A bias of the keys adds the same to all scores of a query, and softmax does not see it.
                assert!(name.ends_with("attention.self.key.bias") || largest > 1e-9, "the gradient of {name} is zero");
            }
        }
    }
}

/// Along the gradient `g` itself, `(L(θ + εg) − L(θ − εg)) / 2ε` is `‖g‖²`.
#[test]
fn gradients_of_the_modulations_are_those_of_finite_differences() {
    let corpus = world::corpus();
    for conditioning in BOTH {
        let model = world::conditioned(&corpus, world::ids(&corpus), conditioning);
        let batch = asked(world::batch(&corpus, &world::late_rows(&corpus, 60), Encode::Shown), &[0.1, 0.2, 0.3, 0.4]);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let loss = || world::loss(&model, &batch, &known, None);
        let store = loss().backward().unwrap();
        let mut checked = 0;
        for (name, var) in model.parameters().shared {
            if !(name.contains(".film.") || name.contains(".hyper.")) {
                continue;
            }
            let gradient = store.get(&var).unwrap();
            let norm = values(gradient).iter().map(|g| g * g).sum::<f32>().sqrt();
            let direction = (gradient / f64::from(norm)).unwrap();
            let before = var.as_tensor().copy().unwrap();
            let at = |epsilon: f64| {
                var.set(&(&before + (&direction * epsilon).unwrap()).unwrap()).unwrap();
                let value = f64::from(loss().to_scalar::<f32>().unwrap());
                var.set(&before).unwrap();
                value
            };
            let step = 1e-2;
            let difference = (at(step) - at(-step)) / (2.0 * step);
            let norm = f64::from(norm);
            assert!((difference - norm).abs() < 0.02 * norm.max(0.02), "{name}: {difference} instead of {norm}");
            checked += 1;
        }
        assert_eq!(checked, if conditioning == Conditioning::Film { 8 } else { 12 });
    }
}

#[test]
fn a_preference_moves_representation_and_scores_and_one_trunk_serves_all() {
    let corpus = world::corpus();
    for conditioning in BOTH {
        let model = world::conditioned(&corpus, world::text(), conditioning);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let batch = world::batch(&corpus, &world::late_rows(&corpus, 30), Encode::Nothing);
        let trunk = model.trunk(&batch, &known, None).unwrap();
        let [first, second] = CORNERS.map(|corner| asked(batch.clone(), &corner));
        let whole = model.represent(&first, &known, None).unwrap();
        let stepwise = model.condition(trunk.clone(), &first).unwrap();
        let items = |shared: &paretune_recommender::Shared| values(shared.items.as_ref().unwrap());
        assert_eq!((items(&whole), values(&whole.users)), (items(&stepwise), values(&stepwise.users)));
        let other = model.condition(trunk, &second).unwrap();
        assert_ne!(items(&whole), items(&other));
        assert_ne!(values(&whole.users), values(&other.users));
        // Scoring a catalogue agrees with scoring samples, for any preference.
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        for corner in CORNERS {
            let mut builder = BatchBuilder::new(&corpus, 0);
            let request = builder.request(&Viewer::Known { user: 3, clock: i64::MAX, train_only: false });
            (0..20).for_each(|item| builder.sample(request, item, 0, []));
            let samples = asked(builder.build(Encode::Nothing), &corner);
            let shared = model.represent(&samples, &known, None).unwrap();
            let expected = model.outputs(&shared, &samples, None).unwrap().predictions().unwrap();
            let scores = model.score(&catalogue, &asked(two_users(&corpus), &corner), &known).unwrap();
            for (all, some) in scores[0].iter().zip(&expected) {
                world::assert_near(&all[..20], some, 1e-4);
            }
        }
    }
}

#[test]
fn who_does_not_ask_gets_the_models_own_preference() {
    let corpus = world::corpus();
    let mut model = world::conditioned(&corpus, world::ids(&corpus), Conditioning::Film);
    assert_eq!(model.preference(), Some([0.25; 4].as_slice()));
    let known = model.embed(&corpus.tokens, None).unwrap();
    let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
    let score = |model: &Recommender, batch: &Batch| model.score(&catalogue, batch, &known).unwrap();
    let plain = two_users(&corpus);
    let equal = score(&model, &plain);
    assert_eq!(score(&model, &asked(plain.clone(), &[2.0; 4])), equal);
    let corner = score(&model, &asked(plain.clone(), &CORNERS[1]));
    assert_ne!(corner, equal);
    model.prefer(&CORNERS[1]).unwrap();
    assert_eq!(score(&model, &plain), corner);
}

#[test]
fn wrong_preferences_are_refused() {
    let corpus = world::corpus();
    let check = |model: &Recommender, preference: &[f64], says: &str| {
        let known: Tensor = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        let refused = model.score(&catalogue, &asked(two_users(&corpus), preference), &known).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    };
    let model = world::conditioned(&corpus, world::ids(&corpus), Conditioning::Hypernetwork);
    check(&model, &[1.0; 3], "got 3 preferences for objectives click, conversion, satisfaction, dwell, expected 4");
    check(&model, &[1.0, -1.0, 1.0, 1.0], "objective \"conversion\": weight -1");
    check(&model, &[0.0; 4], "at least one objective");
    check(&world::model(&corpus, world::ids(&corpus)), &[1.0; 4], "takes no preference");
}
