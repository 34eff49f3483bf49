//! A small encoder that imitates a large one.

use candle_core::Device;
use paretune_encoder::{BertConfig, Encoder, Pooling};
use paretune_features::Tokenized;
use paretune_train::{
    TrainError,
    distill::{DistillConfig, agreement, distill},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::values;

fn teacher() -> Encoder {
    let config = BertConfig { hidden_size: 64, vocab_size: 60, ..BertConfig::tiny() };
    Encoder::random(config, Pooling::Mean, 8, &Device::Cpu).unwrap()
}

/// Texts of 3 to 9 of the 40 words that are kept.
fn texts() -> Tokenized {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let text = |_| (0..rng.random_range(3..10)).map(|_| rng.random_range(0..40)).collect::<Vec<u32>>();
    Tokenized::from_sequences((0..200).map(text).collect::<Vec<_>>())
}

fn config() -> DistillConfig {
    DistillConfig { layers: 1, hidden: 32, epochs: 6, batch: 20, learning_rate: 2e-3, seed: 5 }
}

/// The student and the loss of every step. The student knows every word of the teacher's but the first twenty.
fn run(config: &DistillConfig) -> Result<(Encoder, Vec<f64>), TrainError> {
    let (teacher, texts) = (teacher(), texts());
    let kept: Vec<u32> = (20..60).collect();
    let in_teacher = (0..texts.len()).map(|at| texts.sequence(at).iter().map(|id| id + 20).collect::<Vec<u32>>());
    let targets = teacher.embed(&Tokenized::from_sequences(in_teacher.collect::<Vec<_>>()), 4096, None)?;
    let mut losses = Vec::new();
    let student = distill(&teacher, &kept, &texts, &targets, config, &mut |step| {
        assert_eq!((step.step, step.steps), (losses.len() + 1, 60));
        losses.push(step.loss);
    })?;
    let similar = agreement(&student.embed(&texts, 4096, None)?, &targets, texts.len(), 2000, 1);
    assert!(similar > 0.7, "the student's similarities follow the teacher's: {similar}");
    Ok((student, losses))
}

#[test]
fn the_loss_falls_and_the_same_seed_gives_the_same_student() {
    let (student, losses) = run(&config()).unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[50..]) < 0.5 * mean(&losses[..10]), "{losses:?}");
    let (again, _) = run(&config()).unwrap();
    for ((name, a), (_, b)) in student.parameters().iter().zip(&again.parameters()) {
        assert_eq!(values(a), values(b), "{name}");
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let refused = |config: DistillConfig| run(&config).err().unwrap().to_string();
    assert!(refused(DistillConfig { batch: 0, ..config() }).contains("batch = 0"));
    assert!(refused(DistillConfig { hidden: 96, ..config() }).contains("hidden = 96"));
}
