//! Calibration after training: what is fitted, what it changes, and what it must not.

use paretune_data::Part;
use paretune_eval::{Calibrator, auc, expected_calibration_error};
use paretune_objectives::{Kind, Objective, Objectives};
use paretune_optim::Method;
use paretune_train::evaluation::{Calibration, CalibrationConfig, CalibrationMethod, Rows, predict};
use paretune_train::{GradientCut, Silent, TrainingConfig};

use crate::world::{World, objectives, short};

/// A world whose model promises too many clicks: every click counts for six.
fn world() -> World {
    let mut all: Vec<Objective> = objectives().into();
    all[0].positive_weight = 6.0;
    all[1].positive_weight = 6.0;
    World { objectives: Objectives::new(all).unwrap(), ..World::new() }
}

struct Measured {
    world: World,
    valid: (Rows, Vec<Vec<f32>>),
    test: (Rows, Vec<Vec<f32>>),
}

fn measured() -> Measured {
    let world = world();
    let training = TrainingConfig { epochs: 6, ..short() };
    let balancer = world.balancer(Method::WeightedSum, GradientCut::Shared, &[1.0; 4]);
    let (model, outcome) = world.train(&training, balancer, None, &mut Silent);
    outcome.unwrap();
    let known = model.embed(&world.corpus.tokens, None).unwrap();
    let part = |part| {
        let rows = Rows::new(&world.corpus, &world.objectives, part, 0, 100_000, 1).unwrap();
        let predictions = predict(&model, &world.corpus, &known, &rows).unwrap();
        (rows, predictions)
    };
    let (valid, test) = (part(Part::Valid), part(Part::Test));
    Measured { world, valid, test }
}

fn config(method: CalibrationMethod) -> CalibrationConfig {
    CalibrationConfig { method, ..CalibrationConfig::default() }
}

impl Measured {
    fn fit(&self, config: &CalibrationConfig) -> Calibration {
        let (rows, predictions) = &self.valid;
        Calibration::fit(config, &self.world.corpus, &self.world.objectives, rows, predictions).unwrap().unwrap()
    }

    fn applied(&self, calibration: &Calibration) -> Vec<Vec<f32>> {
        let (rows, predictions) = &self.test;
        let mut own = predictions.clone();
        let of = |row: usize| (Some(rows.users[row]), Some(rows.items[row]));
        calibration.apply(&self.world.corpus, &self.world.objectives, &mut own, of).unwrap();
        own
    }
}

#[test]
fn probabilities_become_frequencies_and_keep_their_order() {
    let measured = measured();
    let (rows, before) = &measured.test;
    for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
        let calibration = measured.fit(&config(method));
        let after = measured.applied(&calibration);
        for k in 0..2 {
            let error = |columns: &[Vec<f32>]| expected_calibration_error(&columns[k], &rows.labels[k], 15).unwrap();
            assert!(error(&after) < 0.5 * error(before), "{method:?} {k}: {} and {}", error(before), error(&after));
        }
        for (click, conversion) in after[0].iter().zip(&after[1]) {
            assert!(conversion <= click, "{method:?}: {conversion} of {click}");
        }
        assert_eq!(before[2..], after[2..], "ratings and times are no probabilities");
        if method == CalibrationMethod::Platt {
            assert_eq!(auc(&before[0], &rows.labels[0]), auc(&after[0], &rows.labels[0]));
        }
        // Through the file.
        let text = serde_json::to_string(&calibration).unwrap();
        let again: Calibration = serde_json::from_str(&text).unwrap();
        assert_eq!(again, calibration);
        assert_eq!(measured.applied(&again), after);
    }
}

#[test]
fn a_conversion_is_never_more_likely_than_its_click_whatever_was_fitted() {
    let measured = measured();
    // A calibrator of conversions that promises far too much.
    let text = r#"{"objectives": {
        "click": {"all": {"name": "platt", "slope": 0.1, "offset": -2.0}, "slices": {}},
        "conversion": {"all": {"name": "platt", "slope": 0.1, "offset": 3.0}, "slices": {}}}}"#;
    let after = measured.applied(&serde_json::from_str(text).unwrap());
    assert_eq!(after[0], after[1], "bounded everywhere");
    assert_ne!(after[0], measured.test.1[0]);
}

#[test]
fn slices_have_calibrators_of_their_own() {
    let measured = measured();
    let sliced = CalibrationConfig { by: Some("category".into()), least: 20, ..config(CalibrationMethod::Platt) };
    let calibration = measured.fit(&sliced);
    let (rows, predictions) = &measured.valid;
    let items = &measured.world.corpus.dataset.items;
    let category = |item: u32| items.field(item, "category").unwrap_or_default().to_owned();
    let mut own_slices = 0;
    let (test, before) = &measured.test;
    let after = measured.applied(&calibration);
    for row in (0..test.len()).step_by(7) {
        let name = category(test.items[row]);
        let pick = |values: &[f32]| -> Vec<f32> {
            (0..rows.len()).filter(|at| category(rows.items[*at]) == name).map(|at| values[at]).collect()
        };
        let labels = pick(&rows.labels[0]);
        let positives = labels.iter().filter(|label| **label > 0.5).count();
        let observed = labels.iter().filter(|label| !label.is_nan()).count();
        if observed < 20 || positives == 0 || positives == observed {
            continue;
        }
        let own = Calibrator::platt(&pick(&predictions[0]), &labels).unwrap();
        if matches!(own, Calibrator::Platt { slope, .. } if slope > 0.0) {
            assert_eq!(after[0][row], own.apply(before[0][row]), "{name}");
            own_slices += 1;
        }
    }
    assert!(own_slices > 0, "no slice was tested");

    let unknown = CalibrationConfig { by: Some("colour".into()), ..sliced };
    let (corpus, objectives) = (&measured.world.corpus, &measured.world.objectives);
    let refused = Calibration::fit(&unknown, corpus, objectives, rows, predictions).unwrap_err().to_string();
    assert!(refused.contains("\"colour\"") && refused.contains("category"), "{refused}");
}

#[test]
fn what_the_rows_do_not_tell_stays_as_it_is() {
    let measured = measured();
    let (rows, predictions) = &measured.valid;
    let (corpus, objectives) = (&measured.world.corpus, &measured.world.objectives);
    let platt = config(CalibrationMethod::Platt);
    assert!(Calibration::fit(&CalibrationConfig::default(), corpus, objectives, rows, predictions).unwrap().is_none());
    // The wrong way round, and labels of one class.
    let mut turned = predictions.clone();
    turned[0].iter_mut().for_each(|p| *p = 1.0 - *p);
    let mut one = rows.clone();
    one.labels[1].iter_mut().for_each(|label| *label = 0.0);
    let fitted = Calibration::fit(&platt, corpus, objectives, &one, &turned).unwrap().unwrap();
    assert!(!fitted.covers("click") && !fitted.covers("conversion"));
    assert_eq!(objectives.as_slice()[0].kind, Kind::Binary);
}

#[test]
fn configurations_are_read_and_written() {
    #[derive(serde::Deserialize, serde::Serialize)]
    struct Run {
        calibration: CalibrationConfig,
    }
    let read = |text: &str| toml::from_str::<Run>(text);
    let isotonic = read("calibration = 'isotonic'").unwrap();
    assert_eq!(isotonic.calibration, config(CalibrationMethod::Isotonic));
    let text = toml::to_string(&isotonic).unwrap();
    assert_eq!(read(&text).unwrap().calibration, isotonic.calibration);
    let sliced = read("[calibration]\nmethod = 'platt'\nby = 'category'\nleast = 50").unwrap().calibration;
    assert_eq!((sliced.by.as_deref(), sliced.least), (Some("category"), 50));
    for (wrong, said) in [
        ("calibration = 'temperature'", "unknown variant `temperature`"),
        ("calibration = { bins = 3 }", "unknown field `bins`"),
    ] {
        let refused = read(wrong).err().unwrap().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}
