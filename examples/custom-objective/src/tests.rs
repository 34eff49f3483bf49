use paretune_objectives::CustomObjective;
use paretune_recommender::{BatchBuilder, Encode, Viewer};

use super::*;

fn small() -> SimulationConfig {
    SimulationConfig { items: 200, users: 300, ..SimulationConfig::default() }
}

#[test]
fn a_model_learns_by_a_loss_of_ones_own() {
    let (table, deviances) = run(&small(), 3).unwrap();
    assert!(table.to_string().contains("Poisson"), "{table}");
    // Closer to what happened than the mean is.
    assert!(deviances[2] < 0.95 * deviances[0], "{deviances:?}\n{table}");
}

#[test]
fn the_deviance_is_that_of_its_definition() {
    assert!((deviance(&[2.0, 1.0, 9.0], &[2.0, 0.0, f32::NAN]) - 1.0).abs() < 1e-12);
    assert!((deviance(&[1.0], &[3.0]) - 2.0 * (3.0 * 3f64.ln() - 2.0)).abs() < 1e-12);
}

#[test]
fn the_loss_is_the_likelihood_of_a_count_and_stays_finite() {
    use candle_core::{Tensor, Var};
    for (logit, label) in
        [(-40.0f32, 0.0f32), (-1.0, 2.0), (0.0, 1.0), (2.5, 9.0), (14.9, 3.0), (30.0, 1.0), (1e4, 0.0)]
    {
        let z = Var::new(&[logit], &Device::Cpu).unwrap();
        let loss = Poisson.losses(&z, &Tensor::new(&[label], &Device::Cpu).unwrap()).unwrap();
        let slope = loss.backward().unwrap().get(&z).unwrap().to_vec1::<f32>().unwrap()[0];
        let expected = f64::from(logit).min(15.0).exp() - f64::from(label);
        assert!(
            (f64::from(slope) - expected).abs() < 2e-6 * expected.abs().max(1.0),
            "{logit}: {slope}, not {expected}"
        );
        assert!(loss.to_vec1::<f32>().unwrap()[0].is_finite() && Poisson.predict(logit).is_finite());
    }
    assert!(Poisson.refuses(1.5).is_some() && Poisson.refuses(-1.0).is_some() && Poisson.refuses(3.0).is_none());
    assert!((Poisson.predict(Poisson.logit(2.5)) - 2.5).abs() < 1e-6);
}

#[test]
fn a_saved_model_is_told_again_what_its_objective_means() {
    let corpus = corpus(&small()).unwrap();
    let set = Objectives::new(vec![Objective::new("screens", Kind::Custom, "screens")]).unwrap();
    let objectives = set.with_custom("screens", Arc::new(Poisson)).unwrap();
    let model = trained(&corpus, &objectives, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::local(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/builtin")).unwrap();
    model.save(folder.path(), &files).unwrap();

    let scores = |model: &Recommender| {
        let mut batch = BatchBuilder::new(&corpus, 0);
        batch.request(&Viewer::Known { user: 3, clock: i64::MAX, train_only: false });
        let known = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        model.score(&catalogue, &batch.build(Encode::Nothing), &known)
    };
    let loaded = Recommender::load(folder.path(), vectors(&corpus).unwrap(), &Device::Cpu).unwrap();
    assert!(scores(&loaded).unwrap_err().to_string().contains("Recommender::with_custom"));
    let loaded = loaded.with_custom("screens", Arc::new(Poisson)).unwrap();
    let (before, after) = (scores(&model).unwrap(), scores(&loaded).unwrap());
    assert_eq!(before, after);
    assert!(after[0][0].iter().all(|screens| *screens > 0.0));
}
