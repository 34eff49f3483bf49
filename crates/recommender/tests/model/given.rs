//! Vectors made elsewhere, beside text and ids or alone, added or gated.

use candle_core::{Device, Tensor};
use paretune_data::VectorTable;
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::ModelFiles;
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_recommender::{
    Batch, Combine, Corpus, Encode, GivenVectors, Inputs, ItemVectors, Recommender, RecommenderConfig, UserKind,
};

use crate::world::{self, values};

const ITEMS: usize = 120;
/// Items from here on are nobody's in training.
const MET: usize = 110;

fn has_image(item: usize) -> bool {
    !item.is_multiple_of(7)
}

/// `width` numbers for most items, moved a little by `by`.
fn vectors(name: &str, width: usize, by: f32) -> GivenVectors {
    let row = |item: usize| -> Vec<f32> { (0..width).map(|at| ((item * 5 + at * 3) as f32 + by).sin()).collect() };
    let rows: Vec<Option<Vec<f32>>> = (0..ITEMS).map(|item| has_image(item).then(|| row(item))).collect();
    let rows: Vec<Option<&[f32]>> = rows.iter().map(Option::as_deref).collect();
    GivenVectors::new(name, VectorTable::from_rows(&rows).unwrap(), &Device::Cpu).unwrap()
}

fn images() -> GivenVectors {
    vectors("image", 6, 0.0)
}

fn ids(width: usize) -> ItemVectors {
    ItemVectors::met_ids((0..ITEMS).map(|item| item < MET).collect(), width, 3, &Device::Cpu).unwrap()
}

type Source = fn() -> ItemVectors;

/// Everything that items can be known by, with its name.
fn combinations() -> Vec<(String, Inputs)> {
    let sources: [(&str, Source); 5] = [
        ("text", world::text),
        ("ids", || ids(16)),
        ("ids as wide as the result", || ids(12)),
        ("hybrid", world::hybrid),
        ("nothing", || ItemVectors::Given),
    ];
    let mut all = Vec::new();
    for (name, source) in sources {
        for combine in [Combine::Sum, Combine::Gate] {
            let several = vec![images(), vectors("sound", 4, 0.5)];
            let name = |with: &str| format!("{name}, {with}, {}", combine.name());
            all.push((name("two kinds of vectors"), Inputs::from(source()).with_vectors(several, combine)));
            if combine == Combine::Sum || !matches!(source(), ItemVectors::Given) {
                all.push((name("images"), Inputs::from(source()).with_vectors(vec![images()], combine)));
            }
        }
    }
    all.push(("hybrid, gate".into(), Inputs::from(world::hybrid()).with_vectors(Vec::new(), Combine::Gate)));
    all
}

fn model(corpus: &Corpus, inputs: Inputs, objectives: &Objectives, hide_ids: f64) -> Recommender {
    let config = RecommenderConfig { hide_ids, ..world::config(corpus, UserKind::Attention) };
    Recommender::new(config, inputs, objectives, 5, &Device::Cpu).unwrap()
}

fn ranking() -> Objectives {
    Objectives::new(vec![Objective::new("click", Kind::Ranking, "click")]).unwrap()
}

fn late_batch(corpus: &Corpus) -> Batch {
    world::batch(corpus, &world::late_rows(corpus, 80), Encode::ShownAndHistory)
}

#[test]
fn every_parameter_of_every_combination_learns() {
    let corpus = world::corpus();
    let batch = late_batch(&corpus);
    for (name, inputs) in combinations() {
        let model = model(&corpus, inputs, &world::objectives(), 0.1);
        let known = model.embed(&corpus.tokens, None).unwrap();
        assert_eq!(known.dims()[0], ITEMS, "{name}");
        for dropout in [None, Some(7)] {
            let store = world::loss(&model, &batch, &known, dropout).backward().unwrap();
            for (parameter, var) in model.parameters().all() {
                let gradient = store.get(&var).unwrap_or_else(|| panic!("{name}: {parameter} has no gradient"));
                let gradient = values(gradient);
                assert!(gradient.iter().all(|g| g.is_finite()), "{name}: {parameter}");
                let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                // A bias of the keys adds the same to all scores of a query, and softmax does not see it.
                let exempt = parameter.ends_with("attention.self.key.bias");
                assert!(exempt || largest > 1e-9, "{name}: the gradient of {parameter} is zero");
            }
        }
    }
}

/// The vectors that rankings compare users with, of the whole catalogue.
fn candidates(model: &Recommender, corpus: &Corpus, dropout: Option<u64>) -> Vec<Vec<f32>> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let mut builder = paretune_recommender::BatchBuilder::new(corpus, 0);
    let viewer = paretune_recommender::Viewer::New { history: Vec::new() };
    let request = builder.request(&viewer);
    (0..ITEMS as u32).for_each(|item| builder.sample(request, item, 0, []));
    let batch = builder.build(Encode::Nothing);
    assert_eq!(batch.items, (0..ITEMS as u32).collect::<Vec<_>>());
    let shared = model.represent(&batch, &known, dropout).unwrap();
    shared.candidates.unwrap().to_vec2().unwrap()
}

/// Sets a parameter to one number.
fn set(model: &Recommender, name: &str, value: f64) {
    let (_, var) = model.parameters().all().into_iter().find(|(own, _)| own == name).unwrap();
    var.set(&var.zeros_like().unwrap().affine(1.0, value).unwrap()).unwrap();
}

/// Every projection gives one number, and every gate is the same: an item's vector is the mean of what it has.
#[test]
fn gates_see_what_an_item_has() {
    let corpus = world::corpus();
    let check = |hide_ids, dropout, expected: fn(bool, bool) -> f32| {
        let inputs = Inputs::from(world::hybrid()).with_vectors(vec![images()], Combine::Gate);
        let model = model(&corpus, inputs, &ranking(), hide_ids);
        for (place, number) in [1.0, 10.0, 100.0].into_iter().enumerate() {
            for (part, value) in
                [("project.weight", 0.0), ("project.bias", number), ("gate.weight", 0.0), ("gate.bias", 0.0)]
            {
                set(&model, &format!("items.fusion.{place}.{part}"), value);
            }
        }
        for (item, row) in candidates(&model, &corpus, dropout).into_iter().enumerate() {
            let expected = expected(item < MET, has_image(item));
            assert!(row.iter().all(|value| (value - expected).abs() < 1e-4), "item {item}: {row:?}, not {expected}");
        }
    };
    let all = |id, image| match (id, image) {
        (true, true) => 37.0,
        (true, false) => 5.5,
        (false, true) => 50.5,
        (false, false) => 1.0,
    };
    check(0.1, None, all);
    check(0.0, Some(3), all);
    // Hidden in training from whatever has something else: here every item has a text.
    check(1.0, Some(3), |_, image| if image { 50.5 } else { 1.0 });
    check(1.0, None, all);
}

#[test]
fn sums_add_what_an_item_has() {
    let corpus = world::corpus();
    let sources: [(Source, f64); 3] = [(world::hybrid, 1.0), (|| ids(16), 0.0), (|| ItemVectors::Given, 0.0)];
    for (source, text) in sources {
        let inputs = Inputs::from(source()).with_vectors(vec![images()], Combine::Sum);
        let model = model(&corpus, inputs, &ranking(), 1.0);
        let table = source().table().is_some();
        let names = [("text", text), ("ids", f64::from(u8::from(table)) * 10.0), ("vectors.image", 100.0)];
        for (name, number) in names.into_iter().filter(|(_, number)| *number > 0.0) {
            set(&model, &format!("items.{name}.weight"), 0.0);
            set(&model, &format!("items.{name}.bias"), number);
        }
        for dropout in [None, Some(3)] {
            for (item, row) in candidates(&model, &corpus, dropout).into_iter().enumerate() {
                let image = if has_image(item) { 100.0 } else { 0.0 };
                // What has nothing else keeps its id.
                let hidden = dropout.is_some() && (text > 0.0 || has_image(item));
                let id = if table && item < MET && !hidden { 10.0 } else { 0.0 };
                let expected = text as f32 + id + image;
                assert!(row.iter().all(|value| (value - expected).abs() < 1e-4), "{item}: {row:?}, not {expected}");
            }
        }
    }
}

/// Item 119 has no image and no id's row.
#[test]
fn what_has_nothing_has_a_vector_all_the_same() {
    assert!(!has_image(119));
    let corpus = world::corpus();
    for (name, inputs) in combinations() {
        let model = model(&corpus, inputs, &world::objectives(), 0.1);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let mut builder = paretune_recommender::BatchBuilder::new(&corpus, 0);
        builder.request(&paretune_recommender::Viewer::New { history: vec![119, 3] });
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        let batch = builder.build(Encode::Nothing);
        let scores = model.score(&catalogue, &batch, &known).unwrap();
        assert!(scores.iter().flatten().flatten().all(|score| score.is_finite()), "{name}");
        // The rows of ids that training never meets change nothing.
        let Some(table) = model.vectors().table().map(|table| table.table().clone()) else { continue };
        let (unmet, width) = (ITEMS - MET, table.dims()[1]);
        let loud = Tensor::full(1e3f32, (unmet, width), &Device::Cpu).unwrap();
        table.set(&Tensor::cat(&[table.narrow(0, 0, MET).unwrap(), loud], 0).unwrap()).unwrap();
        let again = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        assert_eq!(model.score(&again, &batch, &known).unwrap(), scores, "{name}");
    }
}

#[test]
fn new_items_are_known_by_their_text() {
    let corpus = world::corpus();
    let tokens = paretune_features::Tokenized::from_sequences([&[2, 30, 31, 3][..], &[2, 3]]);
    for combine in [Combine::Sum, Combine::Gate] {
        let inputs = Inputs::from(world::hybrid()).with_vectors(vec![images()], combine);
        let model = model(&corpus, inputs, &world::objectives(), 0.1);
        let known = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.new_items(&corpus, &tokens).unwrap();
        let mut builder = paretune_recommender::BatchBuilder::new(&corpus, 0);
        builder.request(&paretune_recommender::Viewer::New { history: vec![3] });
        let scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap();
        assert_eq!(scores[0][0].len(), 2);
        assert!(scores[0][0].iter().all(|score| score.is_finite()) && scores[0][0][0] != scores[0][0][1]);
    }
    let alone = Inputs::from(ItemVectors::Given).with_vectors(vec![images()], Combine::Sum);
    let refused = model(&corpus, alone, &world::objectives(), 0.1).new_items(&corpus, &tokens).err().unwrap();
    assert!(refused.to_string().contains("items = \"text\""), "{refused}");
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let corpus = world::corpus();
    let batch = late_batch(&corpus);
    let run = |threads: usize| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut bits = Vec::new();
            for (_, inputs) in combinations() {
                let model = model(&corpus, inputs, &world::objectives(), 0.3);
                let known = model.embed(&corpus.tokens, None).unwrap();
                let loss = world::loss(&model, &batch, &known, Some(11));
                let store = loss.backward().unwrap();
                bits.extend(values(&loss).into_iter().map(f32::to_bits));
                for (_, var) in model.parameters().shared {
                    bits.extend(values(store.get(&var).unwrap()).into_iter().map(f32::to_bits));
                }
            }
            bits
        })
    };
    assert!(run(1) == run(3));
}

fn bits(model: &Recommender, corpus: &Corpus) -> Vec<u32> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = world::batch(corpus, &world::late_rows(corpus, 40), Encode::Nothing);
    let shared = model.represent(&batch, &known, None).unwrap();
    let predictions = model.outputs(&shared, &batch, None).unwrap().predictions().unwrap();
    predictions.concat().into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_combination_comes_back_from_its_files() {
    let corpus = world::corpus();
    for (before, (name, fresh)) in combinations().into_iter().zip(combinations()) {
        let folder = tempfile::tempdir().unwrap();
        let model = model(&corpus, before.1, &world::objectives(), 0.1);
        for (_, var) in model.parameters().all() {
            var.set(&var.as_tensor().affine(1.01, 0.003).unwrap()).unwrap();
        }
        model.save(folder.path(), &world::files()).unwrap();
        let fresh = match model.encoder() {
            None => fresh,
            Some(_) => {
                let files = ModelFiles::local(folder.path()).unwrap();
                let encoder = Box::new(Encoder::load(&files, &LoadOptions::default()).unwrap());
                let vectors = match model.vectors() {
                    ItemVectors::Text(_) => ItemVectors::Text(encoder),
                    _ => ItemVectors::hybrid(encoder, vec![true; ITEMS], 16, 77, &Device::Cpu).unwrap(),
                };
                let combine = if name.ends_with("gate") { Combine::Gate } else { Combine::Sum };
                Inputs::from(vectors).with_vectors(model.given().to_vec(), combine)
            }
        };
        let again = Recommender::load(folder.path(), fresh, &Device::Cpu).unwrap();
        assert_eq!(bits(&model, &corpus), bits(&again, &corpus), "{name}");
    }
}

#[test]
fn other_vectors_than_those_of_the_training_are_refused() {
    let corpus = world::corpus();
    let folder = tempfile::tempdir().unwrap();
    let inputs = |given, combine| Inputs::from(ids(16)).with_vectors(given, combine);
    let trained = model(&corpus, inputs(vec![images()], Combine::Gate), &ranking(), 0.1);
    trained.save(folder.path(), &world::files()).unwrap();
    let refused = |inputs: Inputs, says: &[&str]| {
        let message = Recommender::load(folder.path(), inputs, &Device::Cpu).err().unwrap().to_string();
        says.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not said: {message}"));
    };
    refused(
        inputs(vec![vectors("image", 6, 1e-3)], Combine::Gate),
        &["recommender.json", "`image` were others", "bring back"],
    );
    refused(inputs(vec![vectors("image", 5, 0.0)], Combine::Gate), &["6 wide", "5 wide"]);
    refused(inputs(vec![vectors("sound", 6, 0.0)], Combine::Gate), &["with `image`", "given `sound`"]);
    refused(inputs(Vec::new(), Combine::Sum), &["with `image`", "no vectors made elsewhere"]);
    refused(inputs(vec![images()], Combine::Sum), &["model.fusion = \"gate\"", "\"sum\" was asked for"]);
    assert!(Recommender::load(folder.path(), inputs(vec![images()], Combine::Gate), &Device::Cpu).is_ok());
    // A model without vectors takes none.
    let plain = model(&corpus, inputs(Vec::new(), Combine::Sum), &ranking(), 0.1);
    plain.save(folder.path(), &world::files()).unwrap();
    let description = std::fs::read_to_string(folder.path().join("recommender.json")).unwrap();
    assert!(!description.contains("vectors") && !description.contains("fusion"), "{description}");
    refused(inputs(vec![images()], Combine::Sum), &["no vectors made elsewhere", "given `image`"]);
}

#[test]
fn what_makes_no_model_is_refused() {
    let corpus = world::corpus();
    let refused = |inputs: Inputs, says: &[&str]| {
        let config = world::config(&corpus, UserKind::Attention);
        let message = Recommender::new(config, inputs, &ranking(), 5, &Device::Cpu).err().unwrap().to_string();
        says.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not said: {message}"));
    };
    let given = |vectors: Vec<GivenVectors>, combine| Inputs::from(ItemVectors::Given).with_vectors(vectors, combine);
    refused(given(Vec::new(), Combine::Sum), &["items = \"vectors\"", "[[model.vectors]]"]);
    refused(given(vec![images()], Combine::Gate), &["model.fusion = \"gate\"", "one thing only"]);
    refused(Inputs::from(world::text()).with_vectors(Vec::new(), Combine::Gate), &["one thing only"]);
    refused(given(vec![images(), images()], Combine::Sum), &["`image`", "name of its own"]);
    refused(given(vec![vectors("", 2, 0.0)], Combine::Sum), &["name is empty"]);
    let few = GivenVectors::new("image", VectorTable::from_rows(&[Some(&[1.0])]).unwrap(), &Device::Cpu).unwrap();
    refused(given(vec![few], Combine::Sum), &["`image`", "for 1 items", "has 120"]);
}
