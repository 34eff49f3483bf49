//! Goals of lists: their losses against plain arithmetic, and what they move.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use paretune_data::Part;
use paretune_encoder::Encoder;
use paretune_objectives::{Goal, Groups, Kind, ListGoal, Objective, Objectives, Target};
use paretune_recommender::{
    Batch, BatchBuilder, Corpus, Encode, ItemGroups, ListFacts, Recommender, RecommenderConfig, RecommenderError,
    Shared, UserKind, Viewer,
};

use crate::world::{self, values};

const GOALS: [Goal; 4] = [Goal::Diversity, Goal::Coverage, Goal::Exposure, Goal::Novelty];

/// What shows lists, and every goal.
fn objectives(kind: Kind) -> Objectives {
    let goals = GOALS.map(|goal| {
        let groups = if goal == Goal::Exposure { Groups::Category } else { Groups::default() };
        Objective::list(goal.name(), ListGoal { groups, ..ListGoal::new(goal) })
    });
    let first = [Objective::new("click", kind, "click"), Objective::new("rating", Kind::Regression, "rating")];
    Objectives::new([first.as_slice(), &goals].concat()).unwrap()
}

fn model(corpus: &Corpus, kind: Kind, repeats: bool) -> Recommender {
    let objectives = objectives(kind);
    let config = RecommenderConfig { repeats, ..world::config(corpus, UserKind::Attention) };
    let mut model = Recommender::new(config, world::hybrid(), &objectives, 5, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let columns: Vec<Vec<f32>> = objectives.iter().map(|objective| column(corpus, objective, &rows)).collect();
    model.fit(&columns).unwrap();
    let vectors = model.embed(&corpus.tokens, None).unwrap();
    let facts = ListFacts::new(corpus, &objectives, Some(&vectors), &Device::Cpu).unwrap();
    model.with_list_facts(facts)
}

fn column(corpus: &Corpus, objective: &Objective, rows: &[u32]) -> Vec<f32> {
    let feedback = corpus.dataset.events.feedback.get(&objective.column);
    rows.iter().map(|&row| feedback.map_or(f32::NAN, |column| column[row as usize])).collect()
}

fn batch(corpus: &Corpus, objectives: &Objectives, count: usize) -> Batch {
    let rows = world::late_rows(corpus, count);
    let columns: Vec<Vec<f32>> = objectives.iter().map(|objective| column(corpus, objective, &rows)).collect();
    let events = &corpus.dataset.events;
    let mut builder = BatchBuilder::new(corpus, columns.len());
    for (at, &row) in rows.iter().enumerate() {
        let (user, clock) = (events.user[row as usize], corpus.split.clock[row as usize]);
        let request = builder.request(&Viewer::Known { user, clock, train_only: false });
        builder.sample(request, events.item[row as usize], 0, columns.iter().map(|column| column[at]));
    }
    (0..40).for_each(|item| builder.negative(item * 3));
    builder.build(Encode::Shown)
}

/// `[R, N]` policies of scores, in double precision; what a request has met is hidden where `met` says so.
fn policies(scores: &[Vec<f64>], met: impl Fn(usize, usize) -> bool) -> Vec<Vec<f64>> {
    let policy = |(row, scores): (usize, &Vec<f64>)| {
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
        let raised: Vec<f64> = scores
            .iter()
            .enumerate()
            .map(|(at, s)| if met(row, at) { 0.0 } else { ((s - mean) / deviation / 0.5).exp() })
            .collect();
        let total: f64 = raised.iter().sum();
        raised.into_iter().map(|own| own / total).collect()
    };
    scores.iter().enumerate().map(policy).collect()
}

/// The four goals in plain arithmetic.
fn expected(corpus: &Corpus, model: &Recommender, policies: &[Vec<f64>], items: &[u32]) -> [f64; 4] {
    let requests = policies.len() as f64;
    let vectors = model.embed(&corpus.tokens, None).unwrap().to_vec2::<f32>().unwrap();
    let cosine = |a: u32, b: u32| {
        let (a, b) = (&vectors[a as usize], &vectors[b as usize]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let mut similarity = 0.0;
    for policy in policies {
        for (a, own) in items.iter().zip(policy) {
            for (b, other) in items.iter().zip(policy) {
                similarity += own * other * cosine(*a, *b) / requests;
            }
        }
    }
    let exposure: Vec<f64> =
        (0..items.len()).map(|at| policies.iter().map(|policy| policy[at]).sum::<f64>() / requests).collect();
    let n = items.len() as f64;
    let concentration = exposure.iter().map(|e| if *e > 0.0 { e * (e * n).ln() } else { 0.0 }).sum::<f64>() / n.ln();
    let categories = corpus.dataset.items.category.as_ref().unwrap();
    let names: BTreeSet<&String> = items.iter().filter_map(|&item| categories[item as usize].as_ref()).collect();
    let share = |of: &dyn Fn(usize) -> bool| (0..categories.len()).filter(|item| of(*item)).count() as f64;
    let due: Vec<f64> = names.iter().map(|name| share(&|item| categories[item].as_ref() == Some(*name))).collect();
    let shown: Vec<f64> = names
        .iter()
        .map(|name| {
            let own =
                items.iter().zip(&exposure).filter(|(item, _)| categories[**item as usize].as_ref() == Some(*name));
            own.map(|(_, exposure)| exposure).sum()
        })
        .collect();
    let (total_due, total) = (due.iter().sum::<f64>(), shown.iter().sum::<f64>());
    let disparity =
        due.iter().zip(&shown).map(|(due, shown)| due / total_due * ((due / total_due) / (shown / total)).ln()).sum();
    let counts = corpus.summary().engagement();
    let most = f64::from(*counts.iter().max().unwrap()).ln_1p();
    let popularity =
        items.iter().zip(&exposure).map(|(&item, e)| e * f64::from(counts[item as usize]).ln_1p() / most).sum();
    [similarity, concentration, disparity, popularity]
}

fn check_losses(model: &Recommender, batch: &Batch, shared: &Shared, expected: [f64; 4], requests: usize) {
    let losses = model.losses(shared, batch, None).unwrap();
    for ((goal, loss), expected) in GOALS.iter().zip(&losses[2..]).zip(expected) {
        let found = f64::from(loss.loss.to_scalar::<f32>().unwrap());
        assert!((found - expected).abs() < 2e-5 * expected.abs().max(0.1), "{goal:?}: {found}, expected {expected}");
        assert_eq!(loss.observed, requests, "{goal:?}");
    }
}

#[test]
fn lists_of_a_ranking_have_their_losses() {
    let corpus = world::corpus();
    for repeats in [true, false] {
        let model = model(&corpus, Kind::Ranking, repeats);
        let batch = batch(&corpus, model.objectives(), 50);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let shared = model.represent(&batch, &known, None).unwrap();
        let slots: BTreeSet<u32> = batch.slots.iter().chain(&batch.pool.slots).copied().collect();
        let items: Vec<u32> = slots.iter().map(|&slot| batch.items[slot as usize]).collect();
        assert!(items.len() < 128, "all of them are candidates");
        let users = shared.users.to_vec2::<f32>().unwrap();
        let candidates = shared.candidates.as_ref().unwrap().to_vec2::<f32>().unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let score = |user: &Vec<f32>| slots.iter().map(|&slot| dot(user, &candidates[slot as usize])).collect();
        let scores: Vec<Vec<f64>> = users.iter().map(score).collect();
        let met: Vec<BTreeSet<u32>> = (0..batch.viewers())
            .map(|request| {
                let seen = batch.histories.seen[request].clone();
                seen.map(|row| batch.items[batch.histories.items[row as usize] as usize]).collect()
            })
            .collect();
        let policies = policies(&scores, |request, at| !repeats && met[request].contains(&items[at]));
        assert!(repeats || policies.iter().flatten().any(|share| *share == 0.0), "somebody has met a candidate");
        check_losses(&model, &batch, &shared, expected(&corpus, &model, &policies, &items), batch.viewers());
    }
}

#[test]
fn lists_of_a_tower_have_their_losses() {
    let corpus = world::corpus();
    let model = model(&corpus, Kind::Binary, true);
    let batch = batch(&corpus, model.objectives(), 50);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let shared = model.represent(&batch, &known, None).unwrap();
    let slots: BTreeSet<u32> = batch.slots.iter().copied().collect();
    let items: Vec<u32> = slots.iter().map(|&slot| batch.items[slot as usize]).collect();
    // Every request with every candidate, as samples.
    let first: Vec<u32> =
        slots.iter().map(|slot| batch.slots.iter().position(|own| own == slot).unwrap() as u32).collect();
    let count = batch.viewers() * first.len();
    let rows: Vec<u32> = (0..count).map(|at| first[at % first.len()]).collect();
    let all = shared.items.as_ref().unwrap().index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    let pairs = Batch {
        requests: (0..count).map(|at| (at / first.len()) as u32).collect(),
        slots: vec![0; count],
        positions: vec![0.0; count],
        ..batch.clone()
    };
    let of_pairs = Shared { items: Some(all), ..shared.clone() };
    let logits = values(&model.outputs(&of_pairs, &pairs, None).unwrap().logits()[0]);
    let scores: Vec<Vec<f64>> =
        logits.chunks(first.len()).map(|row| row.iter().map(|z| f64::from(*z)).collect()).collect();
    let policies = policies(&scores, |_, _| false);
    check_losses(&model, &batch, &shared, expected(&corpus, &model, &policies, &items), batch.viewers());
}

#[test]
fn goals_move_what_is_shared_and_the_tower_that_ranks_and_no_other() {
    let corpus = world::corpus();
    for kind in [Kind::Ranking, Kind::Binary] {
        let model = model(&corpus, kind, true);
        let batch = batch(&corpus, model.objectives(), 50);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let shared = model.represent(&batch, &known, None).unwrap();
        let losses = model.losses(&shared, &batch, None).unwrap();
        for (goal, loss) in GOALS.iter().zip(&losses[2..]) {
            let found = loss.loss.backward().unwrap();
            let parameters = model.parameters();
            let moves = |var: &candle_core::Var| {
                let gradient = found.get(var).map(values)?;
                assert!(gradient.iter().all(|slope| slope.is_finite()), "{goal:?}");
                gradient.iter().any(|slope| slope.abs() > 1e-6).then_some(())
            };
            let moved: Vec<&str> = parameters
                .towers
                .iter()
                .filter(|(_, var)| moves(var).is_some())
                .map(|(name, _)| name.as_str())
                .collect();
            // A bias of the scores moves all of them, and no list.
            let expected: &[&str] = match kind {
                Kind::Ranking => &[],
                _ => &["towers.click.0.weight", "towers.click.0.bias", "towers.click.1.weight"],
            };
            assert_eq!(moved, expected, "{goal:?}");
            let below: Vec<_> = parameters.backbone.iter().chain(&parameters.shared).collect();
            let still: Vec<&str> =
                below.iter().filter(|(_, var)| moves(var).is_none()).map(|(name, _)| name.as_str()).collect();
            // The item tower is for other objectives than rankings; of the keys' biases softmax sees nothing.
            let known =
                |name: &str| name.ends_with("key.bias") || (kind == Kind::Ranking && name.starts_with("items."));
            assert!(still.iter().all(|name| known(name)), "{kind:?} {goal:?}: {still:?}");
        }
    }
}

#[test]
fn a_batch_that_shows_one_item_has_no_list() {
    let corpus = world::corpus();
    let model = model(&corpus, Kind::Binary, true);
    let mut builder = BatchBuilder::new(&corpus, 6);
    let request = builder.request(&Viewer::New { history: vec![3] });
    builder.sample(request, 7, 0, [1.0, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN]);
    let batch = builder.build(Encode::Shown);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let losses = model.losses(&model.represent(&batch, &known, None).unwrap(), &batch, None).unwrap();
    assert_eq!(losses.iter().map(|loss| loss.observed).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_goals_need_and_do_not_have_is_named() {
    let corpus = world::corpus();
    let objectives = objectives(Kind::Ranking);
    let config = world::config(&corpus, UserKind::Attention);
    let bare = Recommender::new(config, world::ids(&corpus), &objectives, 5, &Device::Cpu).unwrap();
    let batch = batch(&corpus, &objectives, 20);
    let known = bare.embed(&corpus.tokens, None).unwrap();
    let shared = bare.represent(&batch, &known, None).unwrap();
    let refused = bare.losses(&shared, &batch, None).unwrap_err();
    assert!(matches!(refused, RecommenderError::NeedsListFacts), "{refused}");

    let mut dataset = world::dataset();
    dataset.items.category = None;
    let split = paretune_data::Split::new(&dataset, &world::TIME).unwrap();
    let poor = world::corpus_of(dataset, split);
    let refused =
        |set: &Objectives, vectors| ListFacts::new(&poor, set, vectors, &Device::Cpu).unwrap_err().to_string();
    assert!(refused(&objectives, None).contains("column `category`"));
    let variety = objectives.select(&["click", "diversity"]).unwrap();
    assert!(refused(&variety, None).contains("how unlike items are"));
    let few = Tensor::ones((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(refused(&variety, Some(&few)).contains("but 3 have a vector"));
    // Where there are categories they will do.
    let facts = ListFacts::new(&corpus, &variety, None, &Device::Cpu).unwrap();
    let rows = facts.vectors().unwrap().to_vec2::<f32>().unwrap();
    assert!(rows.iter().all(|row| row.iter().sum::<f32>() == 1.0));
}

#[test]
fn groups_have_what_is_due_to_them() {
    let corpus = world::corpus();
    let groups = |target| {
        let goal = ListGoal { groups: Groups::Provider, target, ..ListGoal::new(Goal::Exposure) };
        ItemGroups::new(&corpus, &goal).unwrap()
    };
    let (equal, items, engaged) = (groups(Target::Equal), groups(Target::Items), groups(Target::Engagements));
    let count = equal.names.len() as f64;
    assert!(equal.due.iter().all(|share| (share - 1.0 / count).abs() < 1e-12));
    for (group, share) in items.due.iter().enumerate() {
        let own = |item: &u32| items.of[*item as usize] == Some(group as u32);
        let members: Vec<u32> = (0..120).filter(own).collect();
        assert!((share - members.len() as f64 / 120.0).abs() < 1e-12);
        let engagements: u32 = members.iter().map(|&item| corpus.summary().engagement()[item as usize]).sum();
        let all: u32 = corpus.summary().engagement().iter().sum();
        assert!((engaged.due[group] - f64::from(engagements) / f64::from(all)).abs() < 1e-12);
    }
}

#[test]
fn a_saved_model_predicts_the_same_and_needs_no_facts() {
    let corpus = world::corpus();
    let model = model(&corpus, Kind::Binary, true);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), &world::files()).unwrap();
    let encoder = Encoder::load(
        &paretune_features::ModelFiles::local(folder.path()).unwrap(),
        &paretune_encoder::LoadOptions::default(),
    );
    let met = (0..120).map(|item| item < 110).collect();
    let vectors =
        paretune_recommender::ItemVectors::hybrid(Box::new(encoder.unwrap()), met, 16, 3, &Device::Cpu).unwrap();
    let again = Recommender::load(folder.path(), vectors, &Device::Cpu).unwrap();
    assert_eq!(again.objectives(), model.objectives());
    assert!(again.list_facts().is_none());
    let batch = batch(&corpus, model.objectives(), 20);
    let predictions = [&model, &again].map(|model| {
        let known = model.embed(&corpus.tokens, None).unwrap();
        let shared = model.represent(&batch, &known, None).unwrap();
        model.outputs(&shared, &batch, None).unwrap().predictions().unwrap()
    });
    assert_eq!(predictions[0], predictions[1]);
    assert!(predictions[0][2].iter().all(|nothing| *nothing == 0.0));
}
