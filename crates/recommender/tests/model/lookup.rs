//! Vectors that are encoded now and vectors that were embedded before are the same vectors.

use paretune_recommender::{BatchBuilder, Encode, ItemVectors, Viewer};

use crate::world::{self, assert_near};

fn check_that_encodings_agree(vectors: ItemVectors) {
    let corpus = world::corpus();
    let model = world::model(&corpus, vectors);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let rows = world::late_rows(&corpus, 50);
    let predictions = [Encode::Nothing, Encode::Shown, Encode::ShownAndHistory].map(|encode| {
        let batch = world::batch(&corpus, &rows, encode);
        let shared = model.represent(&batch, &known, None).unwrap();
        let items = shared.items.as_ref().unwrap();
        assert_eq!((items.dims(), shared.users.dims()), (&[50, 12][..], &[batch.viewers(), 12][..]));
        model.outputs(&shared, &batch, None).unwrap().predictions().unwrap().concat()
    });
    assert_near(&predictions[0], &predictions[1], 1e-5);
    assert_near(&predictions[0], &predictions[2], 1e-5);
}

#[test]
fn encoding_and_looking_up_agree() {
    check_that_encodings_agree(world::text());
    check_that_encodings_agree(world::ids(&world::corpus()));
    check_that_encodings_agree(world::hybrid());
}

#[test]
fn every_item_of_a_batch_is_encoded_once() {
    let corpus = world::corpus();
    let rows = world::late_rows(&corpus, 50);
    let (shown, all) =
        (world::batch(&corpus, &rows, Encode::Shown), world::batch(&corpus, &rows, Encode::ShownAndHistory));
    for batch in [&shown, &all] {
        let (encoded, looked_up) = batch.items.split_at(batch.encoded);
        assert!([encoded, looked_up].iter().all(|items| items.is_sorted_by(|a, b| a < b)), "distinct and ascending");
        assert!(looked_up.iter().all(|item| encoded.binary_search(item).is_err()));
        assert_eq!(batch.packed.len(), batch.encoded);
        for (slot, &row) in batch.slots.iter().zip(&rows) {
            assert_eq!(batch.items[*slot as usize], corpus.dataset.events.item[row as usize]);
        }
    }
    // The same histories, in places of their own.
    let past = |batch: &paretune_recommender::Batch| {
        batch.histories.items.iter().map(|slot| batch.items[*slot as usize]).collect::<Vec<u32>>()
    };
    assert_eq!(past(&shown), past(&all));
    assert!(all.encoded == all.items.len() && all.encoded > shown.encoded);
}

#[test]
fn scoring_the_catalogue_is_predicting_its_pairs() {
    let corpus = world::corpus();
    for vectors in [world::text(), world::ids(&corpus)] {
        let model = world::model(&corpus, vectors);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let clock = corpus.split.boundary();
        let mut builder = BatchBuilder::new(&corpus, 0);
        for user in [3, 8, 21] {
            let request = builder.request(&Viewer::Known { user, clock, train_only: false });
            (0..120).for_each(|item| builder.sample(request, item, 0, []));
        }
        let batch = builder.build(Encode::Nothing);
        let shared = model.represent(&batch, &known, None).unwrap();
        let pairs = model.outputs(&shared, &batch, None).unwrap().predictions().unwrap();
        let scores = model.score(&model.catalogue(&corpus, &known, clock).unwrap(), &batch, &known).unwrap();
        assert_eq!(scores.len(), 3);
        for (request, of_request) in scores.iter().enumerate() {
            for (objective, of_objective) in of_request.iter().enumerate() {
                assert_near(of_objective, &pairs[objective][request * 120..(request + 1) * 120], 1e-5);
            }
        }
    }
}

#[test]
fn predictions_have_the_units_of_their_objectives() {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = world::batch(&corpus, &world::late_rows(&corpus, 100), Encode::Nothing);
    let shared = model.represent(&batch, &known, None).unwrap();
    let found = model.outputs(&shared, &batch, None).unwrap().predictions().unwrap();
    for (click, conversion) in found[0].iter().zip(&found[1]) {
        assert!((0.0..=1.0).contains(click) && (0.0..=*click).contains(conversion), "{click}, {conversion}");
    }
    assert!(found[3].iter().all(|seconds| *seconds >= 0.0));
    // Fresh towers start near the mean of the training rows: ratings are from 1 to 5.
    let mean = found[2].iter().sum::<f32>() / 100.0;
    assert!((1.0..=5.0).contains(&mean), "{mean}");
}

#[test]
fn an_unknown_position_is_an_average_one() {
    let corpus = world::corpus();
    let positions = |position| {
        let mut builder = BatchBuilder::new(&corpus, 0);
        let request = builder.request(&Viewer::New { history: Vec::new() });
        builder.sample(request, 0, position, []);
        builder.build(Encode::Nothing).positions[0]
    };
    assert_eq!(positions(0), 0.0);
    // Requests show ten items, so the mean is that of ln 1 … ln 10.
    let mean = (1..=10).map(|place| f64::from(place).ln()).sum::<f64>() / 10.0;
    assert!((f64::from(positions(1)) + mean).abs() < 1e-5);
    assert!((f64::from(positions(10)) - (10f64.ln() - mean)).abs() < 1e-5);
}
