//! Every user model: learns, reads only the past, comes back from its files, and serves several requests off one sequence.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use paretune_data::Part;
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::ModelFiles;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    BatchBuilder, Combine, Corpus, Encode, ItemSource, ItemVectors, Reading, Recommender, RecommenderConfig, UserKind,
    Viewer,
};

use crate::world::{self, assert_near, values};

/// A ranking, and a rating beside it.
fn mixed() -> Objectives {
    Objectives::new(vec![
        Objective::new("click", Kind::Ranking, "click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
    ])
    .unwrap()
}

fn ranking_alone() -> Objectives {
    mixed().select(&["click"]).unwrap()
}

/// Requests of the training rows of some users, all of a user's together, with negatives for everyone.
fn batch(corpus: &Corpus, objectives: &Objectives, encode: Encode) -> paretune_recommender::Batch {
    let events = &corpus.dataset.events;
    let mut builder = BatchBuilder::new(corpus, objectives.len());
    for user in 0..12 {
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
    (0..120).step_by(3).for_each(|item| builder.negative(item));
    builder.build(encode)
}

#[test]
fn every_parameter_of_every_kind_learns() {
    for kind in UserKind::ALL {
        let corpus = world::corpus_for(kind);
        for (vectors, objectives) in
            [(world::text(), mixed()), (world::ids(&corpus), ranking_alone()), (world::hybrid(), mixed())]
        {
            let model = world::of_kind(&corpus, vectors, kind, &objectives);
            let known = model.embed(&corpus.tokens, None).unwrap();
            let batch = batch(&corpus, &objectives, Encode::ShownAndHistory);
            let store = world::loss(&model, &batch, &known, Some(3)).backward().unwrap();
            let parameters = model.parameters().all();
            let names: BTreeSet<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.len(), parameters.len(), "names are unique");
            for (name, var) in &parameters {
                let gradient = values(store.get(var).unwrap_or_else(|| panic!("{kind:?}: {name} has no gradient")));
                let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                assert!(gradient.iter().all(|g| g.is_finite()), "{kind:?}: {name}");
                // A bias of the keys adds the same to all scores of a query, and softmax does not see it.
                let exempt = name.contains("key.bias");
                assert!(exempt || largest > 1e-9, "{kind:?}: the gradient of {name} is zero");
            }
        }
    }
}

fn score(model: &Recommender, corpus: &Corpus) -> Vec<Vec<f32>> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let mut builder = BatchBuilder::new(corpus, 0);
    for user in [3, 8, 21] {
        builder.request(&Viewer::Known { user, clock: i64::MAX, train_only: false });
    }
    builder.request(&Viewer::New { history: vec![5, 6, 90] });
    builder.request(&Viewer::New { history: Vec::new() });
    let catalogue = model.catalogue(corpus, &known, i64::MAX).unwrap();
    let batch = builder.build(Encode::Nothing);
    let scores = model.score(&catalogue, &batch, &known).unwrap();
    let retrieved = model.retrieve(&catalogue, &batch, &known).unwrap().to_vec2::<f32>().unwrap();
    for (objectives, retrieved) in scores.iter().zip(&retrieved) {
        assert_eq!(&objectives[0], retrieved, "a ranking's scores are those of retrieval");
    }
    scores.into_iter().map(|objectives| objectives.concat()).collect()
}

#[test]
fn every_kind_comes_back_from_its_files_with_the_same_scores() {
    for kind in UserKind::ALL {
        let corpus = world::corpus_for(kind);
        let folder = tempfile::tempdir().unwrap();
        let model = world::of_kind(&corpus, world::hybrid(), kind, &mixed());
        for (_, var) in model.parameters().all() {
            var.set(&var.as_tensor().affine(1.01, 0.003).unwrap()).unwrap();
        }
        model.save(folder.path(), &world::files()).unwrap();
        let encoder = Encoder::load(&ModelFiles::local(folder.path()).unwrap(), &LoadOptions::default()).unwrap();
        // Which items have an id is in the file.
        let fresh = ItemVectors::hybrid(Box::new(encoder), vec![true; 120], 16, 77, &Device::Cpu).unwrap();
        let again = Recommender::load(folder.path(), world::inputs(&corpus, fresh, kind), &Device::Cpu).unwrap();
        let (before, after) = (score(&model, &corpus), score(&again, &corpus));
        assert_eq!(before, after, "{kind:?}");
        assert!(before.iter().flatten().all(|score| score.is_finite()), "{kind:?}");
    }
}

/// One sequence for all requests of a user says what a sequence for each of them says.
#[test]
fn requests_that_share_a_sequence_see_what_they_would_see_alone() {
    for kind in UserKind::ALL.into_iter().filter(|kind| kind.reading() == Reading::Prefixes) {
        let corpus = world::corpus_for(kind);
        let model = world::of_kind(&corpus, world::ids(&corpus), kind, &ranking_alone());
        let known = model.embed(&corpus.tokens, None).unwrap();
        let states = |clocks: &[&[i64]], user| -> Tensor {
            let mut builder = BatchBuilder::new(&corpus, 0);
            clocks.iter().for_each(|clocks| assert!(builder.requests_of(user, clocks, true).len() == clocks.len()));
            model.users(&builder.build(Encode::Nothing), &known).unwrap()
        };
        let mut compared = 0;
        for user in 0..60 {
            // No more events than a history holds: all of them begin with the same one.
            let rows = corpus.histories.before(user, i64::MAX, 8, true);
            let mut clocks: Vec<i64> = rows.iter().rev().map(|&row| corpus.split.clock[row as usize]).collect();
            clocks.dedup();
            if corpus.histories.before(user, i64::MAX, 99, true).len() > 8 || clocks.len() < 3 {
                continue;
            }
            let together = states(&[&clocks], user);
            let alone: Vec<&[i64]> = clocks.chunks(1).collect();
            assert_near(&values(&together), &values(&states(&alone, user)), 1e-5);
            compared += 1;
        }
        assert!(compared > 3, "{compared}");
    }
}

#[test]
fn items_without_an_id_are_known_by_their_text() {
    let corpus = world::corpus();
    let model = world::of_kind(&corpus, world::hybrid(), UserKind::Attention, &ranking_alone());
    let plain = score(&model, &corpus);
    let table = model.vectors().table().unwrap().table().clone();
    // Rows 110 and up are nobody's.
    let rows = Tensor::cat(
        &[table.narrow(0, 0, 110).unwrap(), Tensor::ones((10, 16), table.dtype(), &Device::Cpu).unwrap()],
        0,
    );
    table.set(&rows.unwrap()).unwrap();
    assert_eq!(plain, score(&model, &corpus));
    table.set(&(table.as_tensor() * 2.0).unwrap()).unwrap();
    assert_ne!(plain, score(&model, &corpus));
}

#[test]
fn the_order_of_events_matters_to_those_who_read_it() {
    for kind in UserKind::ALL {
        let corpus = world::corpus_for(kind);
        let mut config = world::config(&corpus, kind);
        // Without what came of events and when: the order alone.
        config.user.events = false;
        let inputs = world::inputs(&corpus, world::ids(&corpus), kind);
        let model = Recommender::new(config, inputs, &ranking_alone(), 5, &Device::Cpu).unwrap();
        let known = model.embed(&corpus.tokens, None).unwrap();
        let mut builder = BatchBuilder::new(&corpus, 0);
        for history in [vec![3, 17, 40], vec![40, 3, 17]] {
            builder.request(&Viewer::New { history });
        }
        let users = model.users(&builder.build(Encode::Nothing), &known).unwrap().to_vec2::<f32>().unwrap();
        let reads = matches!(kind, UserKind::Gru | UserKind::Lstm | UserKind::Sasrec | UserKind::Bert4rec);
        let far = users[0].iter().zip(&users[1]).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
        assert_eq!(far > 3e-6, reads, "{kind:?}: {far}");
    }
}

#[test]
fn names_are_those_of_the_configuration() {
    for kind in UserKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    for source in [ItemSource::Text, ItemSource::Ids, ItemSource::Hybrid, ItemSource::Vectors] {
        assert_eq!(serde_json::to_value(source).unwrap(), source.name());
    }
    for combine in [Combine::Sum, Combine::Gate] {
        assert_eq!(serde_json::to_value(combine).unwrap(), combine.name());
    }
}

#[test]
fn hidden_ids_leave_the_text_alone() {
    let corpus = world::corpus();
    let vectors = |hide_ids, met: bool, dropout| {
        let config = RecommenderConfig { hide_ids, ..world::config(&corpus, UserKind::Mean) };
        let met = vec![met; 120];
        let ItemVectors::Hybrid { text, .. } = world::hybrid() else { unreachable!("a hybrid is one") };
        let items = ItemVectors::hybrid(text, met, 16, 3, &Device::Cpu).unwrap();
        let model = Recommender::new(config, items, &ranking_alone(), 5, &Device::Cpu).unwrap();
        let known = model.embed(&corpus.tokens, None).unwrap();
        let batch = batch(&corpus, &ranking_alone(), Encode::Nothing);
        values(model.represent(&batch, &known, dropout).unwrap().candidates.as_ref().unwrap())
    };
    let (text, both) = (vectors(0.0, false, None), vectors(0.0, true, None));
    assert_ne!(text, both);
    assert_eq!(vectors(1.0, true, Some(3)), text, "all ids are hidden from training");
    assert_eq!(vectors(1.0, true, None), both, "and none when it is over");
    // Half of them, item by item, and others at another step.
    let rows = |a: &[f32], b: &[f32]| a.chunks(12).zip(b.chunks(12)).filter(|(a, b)| a == b).count();
    let half = vectors(0.5, true, Some(3));
    let (hidden, shown) = (rows(&half, &text), rows(&half, &both));
    assert_eq!(hidden + shown, half.len() / 12);
    assert!(hidden * 4 > shown && shown * 4 > hidden, "{hidden} of {}", hidden + shown);
    assert_ne!(half, vectors(0.5, true, Some(4)));
}

#[test]
fn a_soup_is_the_mean_of_its_models() {
    let corpus = world::corpus();
    let of = |shift: f64, kind| {
        let model = world::of_kind(&corpus, world::hybrid(), kind, &mixed());
        for (_, var) in model.parameters().all() {
            var.set(&var.as_tensor().affine(1.0, shift).unwrap()).unwrap();
        }
        model
    };
    let mut soup = of(0.3, UserKind::Mean);
    soup.soup(&[&of(-0.1, UserKind::Mean), &of(0.1, UserKind::Mean)]).unwrap();
    for ((name, found), (_, expected)) in soup.parameters().all().iter().zip(of(0.1, UserKind::Mean).parameters().all())
    {
        let (found, expected) = (values(found), values(&expected));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
    // Models of other kinds have no weights in common; nothing has changed then.
    let before: Vec<Vec<f32>> = soup.parameters().all().iter().map(|(_, var)| values(var)).collect();
    assert!(
        soup.soup(&[&of(0.0, UserKind::Factors)]).unwrap_err().to_string().contains("is not the same in all models")
    );
    assert_eq!(before, soup.parameters().all().iter().map(|(_, var)| values(var)).collect::<Vec<_>>());
}

#[test]
fn settings_of_user_models_are_checked() {
    let corpus = world::corpus();
    let refused = |change: &dyn Fn(&mut RecommenderConfig)| {
        let mut config = world::config(&corpus, UserKind::Sasrec);
        change(&mut config);
        let ids = world::ids(&corpus);
        Recommender::new(config, ids, &ranking_alone(), 5, &Device::Cpu).err().unwrap().to_string()
    };
    assert!(refused(&|config| config.user.layers = 0).contains("model.user.layers = 0"));
    assert!(refused(&|config| config.user.inner = 0).contains("model.user.inner = 0"));
    assert!(refused(&|config| config.user.dropout = 1.0).contains("model.user.dropout = 1"));
    assert!(refused(&|config| config.hide_ids = f64::NAN).contains("model.hide_ids = NaN"));
    assert!(refused(&|config| config.user.kind = UserKind::Graph).contains("model.graph"));
}
