//! What is saved is what is loaded; what is broken is refused with its path.

use std::{fs, path::Path};

use candle_core::Device;
use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::ModelFiles;
use paretune_objectives::{Conditioning, Debias, DebiasMethod, Kind, Objective, Objectives, Propensity};
use paretune_recommender::{Corpus, Encode, ItemVectors, Recommender, RecommenderError, UserConfig, UserKind};

use crate::world;

/// Predictions as bits.
fn bits(model: &Recommender, corpus: &Corpus) -> Vec<u32> {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let batch = world::batch(corpus, &world::late_rows(corpus, 40), Encode::Nothing);
    let shared = model.represent(&batch, &known, None).unwrap();
    let predictions = model.outputs(&shared, &batch, None).unwrap().predictions().unwrap();
    predictions.concat().into_iter().map(f32::to_bits).collect()
}

/// Moves every parameter a little, so that nothing is as it was initialized.
fn disturb(model: &Recommender) {
    for (_, var) in model.parameters().all() {
        let moved = (var.as_tensor().affine(1.01, 0.003)).unwrap();
        var.set(&moved).unwrap();
    }
}

fn saved_text(dir: &Path) -> (Corpus, Recommender) {
    let corpus = world::corpus();
    let model = world::model(&corpus, world::text());
    disturb(&model);
    model.save(dir, &world::files()).unwrap();
    (corpus, model)
}

fn load_text(dir: &Path) -> Result<Recommender, RecommenderError> {
    let files = ModelFiles::local(dir).unwrap();
    let encoder = Encoder::load(&files, &LoadOptions::default()).unwrap();
    Recommender::load(dir, ItemVectors::Text(Box::new(encoder)), &Device::Cpu)
}

#[test]
fn a_text_model_comes_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, model) = saved_text(dir.path());
    let again = load_text(dir.path()).unwrap();
    assert_eq!(bits(&model, &corpus), bits(&again, &corpus));
    assert_eq!(again.config(), model.config());
    assert_eq!(again.objectives(), model.objectives());
    // Saving over it leaves no debris, and the same bytes.
    let bytes = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let before = [bytes("recommender.safetensors"), bytes("recommender.json"), bytes("model.safetensors")];
    again.save(dir.path(), &ModelFiles::local(dir.path()).unwrap()).unwrap();
    assert_eq!(before, [bytes("recommender.safetensors"), bytes("recommender.json"), bytes("model.safetensors")]);
    assert!(
        fs::read_dir(dir.path()).unwrap().all(|file| file.unwrap().path().extension().is_none_or(|e| e != "writing"))
    );
}

#[test]
fn a_model_of_ids_comes_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = world::corpus();
    let model = world::model(&corpus, world::ids(&corpus));
    disturb(&model);
    model.save(dir.path(), &world::files()).unwrap();
    let fresh = ItemVectors::ids(120, 16, 999, &Device::Cpu).unwrap();
    let again = Recommender::load(dir.path(), fresh, &Device::Cpu).unwrap();
    assert_eq!(bits(&model, &corpus), bits(&again, &corpus));
    let smaller = ItemVectors::ids(119, 16, 0, &Device::Cpu).unwrap();
    let refused = Recommender::load(dir.path(), smaller, &Device::Cpu).err().unwrap().to_string();
    assert!(refused.contains("`items.table`") && refused.contains("[119, 16]"), "{refused}");
}

#[test]
fn examination_and_imputation_come_back_bit_for_bit() {
    let debias = Debias::new(DebiasMethod::DoublyRobust, Propensity::Model);
    let objectives = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click").examined(10),
        Objective::new("conversion", Kind::Conditional, "conversion").given("click"),
        Objective::new("satisfaction", Kind::Regression, "rating").debias(debias),
    ])
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let corpus = world::corpus();
    let ids = || world::ids(&corpus);
    let model =
        Recommender::new(world::config(&corpus, UserKind::Attention), ids(), &objectives, 5, &Device::Cpu).unwrap();
    disturb(&model);
    model.save(dir.path(), &world::files()).unwrap();
    let again = Recommender::load(dir.path(), ids(), &Device::Cpu).unwrap();
    let curve = again.examination().unwrap();
    assert_eq!(curve, model.examination().unwrap());
    assert!(curve.len() == 1 && curve[0].1.len() == 10 && curve[0].1[9] != 0.5, "{curve:?}");
    assert_eq!(again.objectives(), &objectives);
    let all = |model: &Recommender| -> Vec<(String, Vec<f32>)> {
        model.parameters().towers.iter().map(|(name, var)| (name.clone(), world::values(var))).collect()
    };
    assert!(all(&again).iter().any(|(name, _)| name.starts_with("towers.satisfaction.imputation.")));
    assert_eq!(all(&again), all(&model));
}

#[test]
fn a_model_with_conditioning_comes_back_with_its_preference() {
    for conditioning in [Conditioning::Film, Conditioning::Hypernetwork] {
        let dir = tempfile::tempdir().unwrap();
        let corpus = world::corpus();
        let mut model = world::conditioned(&corpus, world::text(), conditioning);
        disturb(&model);
        model.prefer(&[1.0, 3.0, 2.0, 1.0]).unwrap();
        model.save(dir.path(), &world::files()).unwrap();
        let again = load_text(dir.path()).unwrap();
        assert_eq!(again.preference(), model.preference());
        assert_eq!(again.config().conditioning, conditioning);
        assert_eq!(bits(&model, &corpus), bits(&again, &corpus));
        let description = || fs::read(dir.path().join("recommender.json")).unwrap();
        let before = description();
        again.save(dir.path(), &ModelFiles::local(dir.path()).unwrap()).unwrap();
        assert_eq!(before, description());
        // A file that says another form than its tensors have is refused.
        let text = String::from_utf8(before).unwrap();
        let other = if conditioning == Conditioning::Film { "hypernetwork" } else { "film" };
        fs::write(dir.path().join("recommender.json"), text.replace(conditioning.name(), other)).unwrap();
        check_refused(dir.path(), &["has no tensor"]);
        // And so is a preference that makes no sense.
        fs::write(dir.path().join("recommender.json"), text.replacen("\"preference\": [", "\"preference\": [-1,", 1))
            .unwrap();
        assert!(load_text(dir.path()).err().unwrap().to_string().contains("preferences"));
    }
}

#[track_caller]
fn check_refused(dir: &Path, says: &[&str]) {
    let refused = load_text(dir).err().expect("refused");
    assert!(matches!(refused, RecommenderError::BadFile { .. } | RecommenderError::Io { .. }), "{refused:?}");
    let message = refused.to_string();
    says.iter().for_each(|part| assert!(message.contains(part), "{message}"));
}

#[test]
fn broken_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    saved_text(dir.path());
    let (tensors, description) = (dir.path().join("recommender.safetensors"), dir.path().join("recommender.json"));
    let (bytes, text) = (fs::read(&tensors).unwrap(), fs::read_to_string(&description).unwrap());

    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&tensors, &bytes[..length]).unwrap();
        check_refused(dir.path(), &["recommender.safetensors"]);
    }
    fs::remove_file(&tensors).unwrap();
    check_refused(dir.path(), &["recommender.safetensors"]);
    fs::write(&tensors, &bytes).unwrap();

    fs::write(&description, &text[..text.len() / 2]).unwrap();
    check_refused(dir.path(), &["recommender.json", "EOF"]);
    fs::write(&description, text.replace("\"format\": 2", "\"format\": 3")).unwrap();
    check_refused(dir.path(), &["has format 3"]);
    fs::write(&description, text.replace("\"dim\": 12", "\"dim\": 24")).unwrap();
    check_refused(dir.path(), &["recommender.safetensors", "expected F32"]);
    fs::remove_file(&description).unwrap();
    check_refused(dir.path(), &["recommender.json"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = world::corpus();
    let model = world::model(&corpus, world::ids(&corpus));
    // A folder stands where the file should go.
    fs::create_dir_all(dir.path().join("recommender.safetensors/in the way")).unwrap();
    let refused = model.save(dir.path(), &world::files()).unwrap_err().to_string();
    assert!(refused.contains("recommender.safetensors"), "{refused}");
    assert!(!dir.path().join("recommender.safetensors.writing").exists());
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let corpus = world::corpus();
    let config = |dim, heads| paretune_recommender::RecommenderConfig {
        dim,
        user: UserConfig { heads, ..UserConfig::default() },
        ..world::model(&corpus, world::ids(&corpus)).config().clone()
    };
    for (dim, heads) in [(12, 5), (12, 0), (0, 1)] {
        let refused = Recommender::new(config(dim, heads), world::ids(&corpus), &world::objectives(), 0, &Device::Cpu);
        assert!(refused.err().unwrap().to_string().contains("must divide dim"));
    }
    // Any seed will do.
    assert!(Recommender::new(config(12, 3), world::ids(&corpus), &world::objectives(), u64::MAX, &Device::Cpu).is_ok());
}

#[test]
fn unknown_ids_are_named_with_examples() {
    let corpus = world::corpus();
    let id = corpus.dataset.items.ids[17].clone();
    assert_eq!(corpus.item(&id).unwrap(), 17);
    let refused = corpus.item("no such thing").unwrap_err().to_string();
    assert!(refused.contains("no item `no such thing`") && refused.contains(&corpus.dataset.items.ids[0]), "{refused}");
    assert!(corpus.user("nobody").unwrap_err().to_string().contains("60 of them"));
}
