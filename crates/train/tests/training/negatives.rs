//! What rankings tell positives from.

use paretune_data::SplitStrategy;
use paretune_encoder::{Encoder, LoadOptions, Trainable};
use paretune_features::ModelFiles;
use paretune_recommender::{Batch, Corpus, ItemVectors, Recommender, UserKind};
use paretune_train::{Plan, TrainingConfig};

use crate::clicks::{self, ITEMS};

fn batches(corpus: &Corpus, model: &Recommender, config: &TrainingConfig) -> Vec<Batch> {
    let plan = Plan::new(corpus, &clicks::objectives(), config, 4).unwrap().for_model(model, config);
    plan.epoch_from(0).collect()
}

fn small() -> TrainingConfig {
    TrainingConfig { batch: 100, shared_negatives: 30, ..TrainingConfig::default() }
}

fn corpus() -> Corpus {
    clicks::corpus(UserKind::Sasrec, clicks::groups(), &SplitStrategy::LeaveLast)
}

/// The encoder would learn to tell what is read now from what was read before.
#[test]
fn a_step_that_reads_texts_holds_nothing_against_what_it_looks_up() {
    let corpus = corpus();
    for name in ["softmax", "sampled-softmax", "bpr", "in-batch"] {
        let model = clicks::model(&corpus, clicks::text(), UserKind::Sasrec, clicks::loss(name));
        let config = TrainingConfig { encode_every: 3, ..small() };
        for (step, batch) in batches(&corpus, &model, &config).iter().enumerate() {
            let reads = step % 3 == 0;
            assert_eq!(batch.encoded > 0, reads, "{name}, step {step}");
            let read = |slot: &u32| (*slot as usize) < batch.encoded;
            assert!(!reads || batch.slots.iter().chain(&batch.pool.slots).all(read), "{name}, step {step}");
            let drawn = match name {
                "softmax" if !reads => ITEMS as usize,
                "sampled-softmax" | "bpr" => 30,
                _ => 0,
            };
            assert_eq!(batch.pool.slots.len(), drawn, "{name}, step {step}");
            // Other requests' positives are as likely as they are popular.
            assert_eq!(batch.pool.log_q.len(), if drawn == 0 { batch.items.len() } else { 0 }, "{name}, step {step}");
        }
    }
}

#[test]
fn an_encoder_that_is_not_trained_reads_nothing() {
    let corpus = corpus();
    let ItemVectors::Text(encoder) = clicks::text() else { unreachable!("text is text") };
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    encoder.save(folder.path(), &ModelFiles::unweighted(tokenizer)).unwrap();
    let options = LoadOptions { trainable: Trainable::Nothing, ..LoadOptions::default() };
    let frozen = Encoder::load(&ModelFiles::local(folder.path()).unwrap(), &options).unwrap();
    let frozen = ItemVectors::Text(Box::new(frozen));
    for (vectors, reads) in [(frozen, false), (clicks::text(), true), (clicks::ids(), false)] {
        let model = clicks::model(&corpus, vectors, UserKind::Sasrec, clicks::loss("softmax"));
        assert!(batches(&corpus, &model, &small()).iter().all(|batch| (batch.encoded > 0) == reads));
    }
}

#[test]
fn negatives_are_drawn_as_often_as_the_correction_says() {
    // Item 0 is in every history, the others in few.
    let log = clicks::dataset(|user| (0..6).map(|at| if at == 2 { 0 } else { 1 + (user * 5 + at * 3) % 39 }).collect());
    let corpus = clicks::corpus(UserKind::Sasrec, log, &SplitStrategy::LeaveLast);
    let model = clicks::model(&corpus, clicks::ids(), UserKind::Sasrec, clicks::loss("sampled-softmax"));
    for power in [0.5, 1.0] {
        let config = TrainingConfig { negative_power: power, shared_negatives: 2000, ..small() };
        let (mut drawn, mut all) = (vec![0.0; ITEMS as usize], 0.0);
        let mut expected = vec![0.0; ITEMS as usize];
        for batch in batches(&corpus, &model, &config) {
            for slot in &batch.pool.slots {
                drawn[batch.items[*slot as usize] as usize] += 1.0;
                all += 1.0;
            }
            for (item, log_q) in batch.items.iter().zip(&batch.pool.log_q) {
                expected[*item as usize] = f64::from(log_q.exp());
            }
        }
        assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-3, "{expected:?}");
        for (drawn, expected) in drawn.iter().zip(&expected) {
            // Five standard deviations of a binomial share.
            let bound = 5.0 * (expected * (1.0 - expected) / all).sqrt() + 1e-6;
            assert!((drawn / all - expected).abs() < bound, "{} instead of {expected}", drawn / all);
        }
        assert!(expected[0] > 5.0 * power * expected[1], "{expected:?}");
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let world = crate::world::World::new();
    let refused = |config: TrainingConfig| {
        let balancer = world.balancer_of("", &[1.0; 4]);
        world.train(&config, balancer, None, &mut paretune_train::Silent).1.unwrap_err().to_string()
    };
    let config = TrainingConfig::default;
    assert!(refused(TrainingConfig { validations: 0.0, ..config() }).contains("training.validations = 0"));
    assert!(refused(TrainingConfig { cloze: 1.5, ..config() }).contains("training.cloze = 1.5"));
    assert!(refused(TrainingConfig { negative_power: f64::NAN, ..config() }).contains("training.negative_power"));
    assert!(refused(TrainingConfig { encode_every: 0, ..config() }).contains("training.encode_every = 0"));
}
