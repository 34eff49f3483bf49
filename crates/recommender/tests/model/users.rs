//! Users with long, short and no histories, known and new.

use candle_core::Tensor;
use paretune_features::Tokenized;
use paretune_recommender::{BatchBuilder, Corpus, Encode, Recommender, Viewer};

use crate::world::{self, assert_near, values};

fn represent(model: &Recommender, corpus: &Corpus, known: &Tensor, viewers: &[Viewer]) -> Vec<Vec<f32>> {
    let mut builder = BatchBuilder::new(corpus, 0);
    for viewer in viewers {
        builder.request(viewer);
    }
    model.users(&builder.build(Encode::Nothing), known).unwrap().to_vec2().unwrap()
}

/// Viewers with histories of 0, 0, 1, 2, 3 and 8 items.
fn viewers(corpus: &Corpus) -> Vec<Viewer> {
    let mut viewers = vec![Viewer::Known { user: 0, clock: 0, train_only: false }];
    viewers.extend([0, 1, 2, 3, 8].map(|n| Viewer::New { history: (5..5 + n).collect() }));
    let busy = (0..60).max_by_key(|user| corpus.histories.before(*user, i64::MAX, 99, false).len()).unwrap();
    viewers.push(Viewer::Known { user: busy, clock: i64::MAX, train_only: false });
    viewers
}

#[test]
fn padding_does_not_matter() {
    let corpus = world::corpus();
    for vectors in [world::text(), world::ids(&corpus)] {
        let model = world::model(&corpus, vectors);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let viewers = viewers(&corpus);
        let together = represent(&model, &corpus, &known, &viewers);
        for (viewer, row) in viewers.iter().zip(&together) {
            let alone = represent(&model, &corpus, &known, std::slice::from_ref(viewer));
            assert_near(&alone[0], row, 1e-6);
        }
        let mut distinct = together.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), viewers.len(), "histories matter");
    }
}

#[test]
fn the_order_of_a_history_and_what_became_of_it_matter() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let new = |history: &[u32]| Viewer::New { history: history.to_vec() };
    let rows = represent(&model, &corpus, &known, &[new(&[3, 17]), new(&[17, 3]), new(&[3])]);
    assert!(rows[0] != rows[1] && rows[0] != rows[2]);
}

#[test]
fn only_the_newest_items_of_a_long_history_count() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let new = |history: std::ops::Range<u32>| Viewer::New { history: history.collect() };
    let rows = represent(&model, &corpus, &known, &[new(0..8), new(0..40)]);
    assert_eq!(rows[0], rows[1]);
}

#[test]
fn new_users_and_new_items_are_scored() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let items = Tokenized::from_sequences([&[2, 30, 31, 3][..], &[2, 3]]);
    let catalogue = model.new_items(&corpus, &items).unwrap();
    assert_eq!(catalogue.len(), 2);
    let mut builder = BatchBuilder::new(&corpus, 0);
    for viewer in viewers(&corpus) {
        builder.request(&viewer);
    }
    // A user that the tables do not hold is a user nothing is known of.
    builder.request(&Viewer::Known { user: 9_999, clock: i64::MAX, train_only: false });
    let scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap();
    assert_eq!((scores.len(), scores[0].len(), scores[0][0].len()), (8, 4, 2));
    assert!(scores.iter().flatten().flatten().all(|score| score.is_finite()));
}

#[test]
fn a_model_of_ids_refuses_new_items() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::ids(&corpus));
    let refused = model.new_items(&corpus, &Tokenized::from_sequences([&[2, 3][..]])).err().unwrap().to_string();
    assert!(refused.contains("items = \"text\""), "{refused}");
}

#[test]
fn what_is_asked_past_the_end_of_the_log_is_asked_at_its_end() {
    let corpus = world::corpus();
    let at = |clock| {
        let mut builder = BatchBuilder::new(&corpus, 0);
        let request = builder.request(&Viewer::Known { user: 4, clock, train_only: false });
        builder.sample(request, 7, 0, []);
        format!("{:?}", builder.build(Encode::Nothing))
    };
    assert_eq!(at(i64::MAX), at(corpus.split.end()));
    assert_ne!(at(i64::MAX), at(corpus.split.boundary()));
}

#[test]
fn items_that_are_not_there_are_answered_not_panicked_about() {
    let corpus = world::corpus();
    for (vectors, encodes) in [
        (world::text(), [Encode::Nothing, Encode::Shown, Encode::ShownAndHistory]),
        (world::ids(&corpus), [Encode::Nothing, Encode::Shown, Encode::ShownAndHistory]),
    ] {
        let model = world::model(&corpus, vectors);
        let known = model.embed(&corpus.tokens, None).unwrap();
        for encode in encodes {
            let mut builder = BatchBuilder::new(&corpus, 0);
            let request = builder.request(&Viewer::New { history: vec![4_000, 3] });
            builder.sample(request, 4_000, 0, []);
            assert!(model.represent(&builder.build(encode), &known, None).is_err(), "{encode:?}");
        }
    }
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let rows = represent(
        &model,
        &corpus,
        &known,
        &[Viewer::New { history: vec![4_000, 3] }, Viewer::New { history: vec![3] }],
    );
    assert_eq!(rows[0], rows[1]);
    assert!(values(&known).iter().all(|value| value.is_finite()));
}
