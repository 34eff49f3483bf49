//! Items that a user has met already, where nobody meets an item twice.

use std::collections::BTreeSet;

use candle_core::Device;
use paretune_data::Part;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    Batch, BatchBuilder, Corpus, Encode, RankingLoss, Recommender, RecommenderConfig, Scoring, UserKind, Viewer,
};

use crate::world;

fn click() -> Objectives {
    Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap()
}

fn model(corpus: &Corpus, kind: UserKind, repeats: bool) -> Recommender {
    let ranking = RankingLoss::Softmax(Scoring { temperature: 0.3, cosine: false });
    let config = RecommenderConfig { repeats, ranking, ..world::config(corpus, kind) };
    Recommender::new(config, world::inputs(corpus, world::ids(corpus), kind), &click(), 5, &Device::Cpu).unwrap()
}

fn scores(model: &Recommender, corpus: &Corpus, batch: &Batch) -> Vec<Vec<f32>> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let catalogue = model.catalogue(corpus, &known, i64::MAX).unwrap();
    let retrieved = model.retrieve(&catalogue, batch, &known).unwrap().to_vec2().unwrap();
    let scored = model.score(&catalogue, batch, &known).unwrap();
    assert!(scored.iter().zip(&retrieved).all(|(scored, retrieved)| scored[0] == *retrieved));
    retrieved
}

#[test]
fn what_was_met_comes_last_and_nothing_else_moves() {
    for kind in UserKind::ALL {
        let corpus = world::corpus_for(kind);
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&Viewer::Known { user: 8, clock: i64::MAX, train_only: false });
        builder.request(&Viewer::New { history: vec![5, 6, 90, 5] });
        builder.request(&Viewer::New { history: Vec::new() });
        let batch = builder.build(Encode::Nothing);
        let rows = corpus.histories.before(8, i64::MAX, corpus.config.history, false);
        let met = [rows.iter().map(|&row| corpus.dataset.events.item[row as usize]).collect(), vec![5, 6, 90], vec![]];
        let [with, without] = [true, false].map(|repeats| scores(&model(&corpus, kind, repeats), &corpus, &batch));
        for ((with, without), met) in with.iter().zip(&without).zip(met) {
            let met: BTreeSet<u32> = met.into_iter().collect();
            let lowest = with.iter().fold(f32::INFINITY, |low, score| low.min(*score));
            for (item, (with, without)) in (0u32..).zip(with.iter().zip(without)) {
                match met.contains(&item) {
                    true => assert!(*without < lowest && without.is_finite(), "{kind:?}: item {item}"),
                    false => assert_eq!(with, without, "{kind:?}: item {item}"),
                }
            }
        }
    }
}

/// The loss is the softmax, in double precision, of the scores over whatever the request has not met, and its own item.
#[test]
fn what_was_met_is_no_negative() {
    for kind in [UserKind::Sasrec, UserKind::Attention, UserKind::Gru] {
        let corpus = world::corpus_for(kind);
        let events = &corpus.dataset.events;
        let mut builder = BatchBuilder::new(&corpus, 1);
        let mut expected = Vec::new();
        for user in 0..20u32 {
            let rows = corpus.split.rows(Part::Train);
            let rows = rows.into_iter().filter(|&row| events.user[row as usize] == user);
            let rows: Vec<u32> = rows.filter(|&row| events.feedback["click"][row as usize] > 0.0).collect();
            for row in rows {
                let (clock, item) = (corpus.split.clock[row as usize], events.item[row as usize]);
                let request = builder.requests_of(user, &[clock], true).start;
                builder.sample(request, item, 0, [1.0]);
                let past = corpus.histories.before(user, clock, corpus.config.history, true);
                let past: BTreeSet<u32> = past.into_iter().map(|row| events.item[row as usize]).collect();
                expected.push((item, past));
            }
        }
        (0..corpus.dataset.items.len() as u32).for_each(|item| builder.negative(item));
        let batch = builder.build(Encode::Nothing);
        assert!(expected.iter().any(|(_, past)| past.len() > 3), "somebody has a past");
        let all = scores(&model(&corpus, kind, true), &corpus, &batch);
        let mean = |repeats: bool| {
            let paid = expected.iter().zip(&all).map(|((item, past), scores)| {
                let counts = |other: &u32| other == item || repeats || !past.contains(other);
                let logits = (0u32..).zip(scores).filter(|(other, _)| counts(other));
                let sum: f64 = logits.map(|(_, score)| f64::from(*score).exp()).sum();
                sum.ln() - f64::from(scores[*item as usize])
            });
            paid.sum::<f64>() / expected.len() as f64
        };
        for repeats in [true, false] {
            let model = model(&corpus, kind, repeats);
            let known = model.embed(&corpus.tokens, None).unwrap();
            let found = f64::from(world::loss(&model, &batch, &known, None).to_scalar::<f32>().unwrap());
            assert!((found - mean(repeats)).abs() < 1e-4, "{kind:?}, {repeats}: {found}, not {}", mean(repeats));
        }
        assert!(mean(true) - mean(false) > 1e-3, "{kind:?}: the past matters");
    }
}
