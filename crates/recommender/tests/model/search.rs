//! What a user searches for is part of the request.

use candle_core::{Device, Tensor};
use paretune_data::{Part, Split};
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_recommender::{
    Batch, BatchBuilder, Corpus, Encode, ItemVectors, Recommender, RecommenderConfig, UserKind, Viewer,
};

use crate::world::{self, assert_near, values};

/// Every third list was found by searching for an item's first word.
fn corpus(kind: UserKind) -> Corpus {
    let mut dataset = world::dataset();
    let words = |row: usize| {
        let title = dataset.items.field(dataset.events.item[row], "title")?;
        let request = dataset.events.request.as_ref()?[row];
        request.is_multiple_of(3).then(|| title.split(' ').next().unwrap().to_owned())
    };
    let queries = (0..dataset.events.len()).map(words).collect();
    dataset.events.query = Some(queries);
    let split = Split::new(&dataset, &world::TIME).unwrap();
    world::searched(dataset, split, kind.reading())
}

fn model(corpus: &Corpus, kind: UserKind) -> Recommender {
    let config = RecommenderConfig { search: true, ..world::config(corpus, kind) };
    let inputs = world::inputs(corpus, world::text(), kind);
    let mut model = Recommender::new(config, inputs, &world::objectives(), 5, &Device::Cpu).unwrap();
    let train = corpus.split.rows(Part::Train);
    let columns: Vec<Vec<f32>> = world::objectives()
        .iter()
        .map(|objective| {
            train.iter().map(|&row| corpus.dataset.events.feedback[&objective.column][row as usize]).collect()
        })
        .collect();
    model.fit(&columns).unwrap();
    model
}

fn tokens(text: &str) -> Vec<u32> {
    TextTokenizer::load(&world::files(), Some(16)).unwrap().encode(&[text]).unwrap().sequence(0).to_vec()
}

/// Somebody who searches for these in turn; nothing for `None`.
fn asking(corpus: &Corpus, queries: &[Option<&str>]) -> Batch {
    let mut builder = BatchBuilder::new(corpus, 0);
    for query in queries {
        let request = builder.request(&Viewer::Known { user: 7, clock: i64::MAX, train_only: false });
        query.iter().for_each(|query| builder.search(request, &tokens(query)));
    }
    builder.build(Encode::Nothing)
}

#[test]
fn every_parameter_learns_whatever_else_is_read() {
    for kind in [UserKind::Attention, UserKind::Sasrec] {
        let corpus = corpus(kind);
        let model = model(&corpus, kind);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let rows = world::late_rows(&corpus, 200);
        for encode in [Encode::Nothing, Encode::Shown, Encode::ShownAndHistory] {
            let batch = world::batch(&corpus, &rows, encode);
            assert!(batch.searched.of.iter().any(Option::is_some) && batch.searched.of.iter().any(Option::is_none));
            let store = world::loss(&model, &batch, &known, Some(3)).backward().unwrap();
            for (name, var) in model.parameters().all() {
                let gradient = values(store.get(&var).unwrap_or_else(|| panic!("{kind:?}: {name} has no gradient")));
                let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                let invisible = name.contains("key.bias") || (name.contains("pooler"));
                assert!(invisible || (largest > 1e-9 && largest.is_finite()), "{encode:?}: {name}: {largest}");
            }
        }
    }
}

/// What a query adds to a user is its text through the encoder and one layer, the same for everyone, and nothing for no query.
#[test]
fn a_query_moves_the_user_by_its_own_vector() {
    let corpus = corpus(UserKind::Sasrec);
    let model = model(&corpus, UserKind::Sasrec);
    let known = model.embed(&corpus.tokens, None).unwrap();
    let users = |batch: &Batch| model.users(batch, &known).unwrap().to_vec2::<f32>().unwrap();
    let asked = asking(&corpus, &[None, Some("horror"), Some("love life"), Some("horror")]);
    assert_eq!((asked.searched.packed.len(), &asked.searched.of[..]), (2, &[None, Some(0), Some(1), Some(0)][..]));
    let found = users(&asked);
    assert_eq!(found[0], users(&asking(&corpus, &[None]))[0], "no query changes no bit");
    assert_eq!(found[1], found[3]);
    let parameter = |name: &str| {
        let all = model.parameters().all();
        values(all.iter().find(|(found, _)| found == name).unwrap().1.as_tensor())
    };
    let (weight, bias) = (parameter("search.weight"), parameter("search.bias"));
    for (row, text) in [(1, "horror"), (2, "love life")] {
        let packed = paretune_features::Packed::from_sequences([tokens(text)]);
        let vector = values(&model.encoder().unwrap().encode(&packed, None).unwrap());
        let product = |column: usize| -> f32 {
            weight[column * 16..][..16].iter().zip(&vector).map(|(weight, value)| weight * value).sum()
        };
        let expected: Vec<f32> = (0..12).map(|column| found[0][column] + product(column) + bias[column]).collect();
        assert_near(&found[row], &expected, 1e-5);
    }
}

#[test]
fn the_log_says_what_was_searched_for_at_which_moment() {
    let corpus = corpus(UserKind::Attention);
    let events = &corpus.dataset.events;
    let row = (0..events.len()).find(|&row| events.query.as_ref().unwrap()[row].is_some()).unwrap();
    let (user, clock) = (events.user[row], corpus.split.clock[row]);
    let mut builder = BatchBuilder::new(&corpus, 0);
    builder.request(&Viewer::Known { user, clock, train_only: true });
    let now = builder.request(&Viewer::Known { user, clock: i64::MAX, train_only: true });
    let batch = builder.build(Encode::Nothing);
    let text = events.query.as_ref().unwrap()[row].as_deref().unwrap();
    assert_eq!(batch.searched.packed.sequences().collect::<Vec<_>>(), [tokens(text)]);
    assert_eq!((batch.searched.of[0], batch.searched.of[now as usize]), (Some(0), None));
}

#[test]
fn a_model_that_searches_comes_back_from_its_files() {
    let corpus = corpus(UserKind::Attention);
    let model = model(&corpus, UserKind::Attention);
    let score = |model: &Recommender| {
        let known = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        model.score(&catalogue, &asking(&corpus, &[None, Some("war"), Some("toy")]), &known).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), &world::files()).unwrap();
    let encoder = Encoder::load(&ModelFiles::local(folder.path()).unwrap(), &LoadOptions::default()).unwrap();
    let again = Recommender::load(folder.path(), ItemVectors::Text(Box::new(encoder)), &Device::Cpu).unwrap();
    let (before, after) = (score(&model), score(&again));
    assert_eq!(before, after);
    assert_ne!(before[0], before[1]);
    assert_ne!(before[1], before[2]);
}

#[test]
fn ids_read_no_queries() {
    let corpus = corpus(UserKind::Attention);
    let config = RecommenderConfig { search: true, ..world::config(&corpus, UserKind::Attention) };
    let refused = Recommender::new(config, world::ids(&corpus), &world::objectives(), 5, &Device::Cpu);
    assert!(refused.err().unwrap().to_string().contains("model.search needs a text encoder"));
    // A model that does not search passes over queries.
    let model = world::model(&corpus, world::text());
    let known: Tensor = model.embed(&corpus.tokens, None).unwrap();
    let users = |batch: &Batch| model.users(batch, &known).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(users(&asking(&corpus, &[Some("war")])), users(&asking(&corpus, &[None])));
}
