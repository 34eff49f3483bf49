//! A small encoder that imitates a large one.

use candle_core::Device;
use paretune_encoder::{BertConfig, Encoder, Pooling};
use paretune_features::Tokenized;
use paretune_train::{
    TrainError,
    distill::{DistillConfig, Lesson, agreement, distill, held_out, invented},
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
    DistillConfig {
        layers: 1,
        hidden: 32,
        intermediate: 64,
        epochs: 6,
        batch: 20,
        learning_rate: 2e-3,
        seed: 5,
        ..DistillConfig::default()
    }
}

/// The student and the loss of every step. The student knows every word of the teacher's but the first twenty.
fn run(config: &DistillConfig) -> Result<(Encoder, Vec<f64>), TrainError> {
    let (teacher, texts) = (teacher(), texts());
    let pieces = teacher.embed(&Tokenized::from_sequences((20..60u32).map(|word| [word])), 4096, None)?;
    let in_teacher = (0..texts.len()).map(|at| texts.sequence(at).iter().map(|id| id + 20).collect::<Vec<u32>>());
    let targets = teacher.embed(&Tokenized::from_sequences(in_teacher.collect::<Vec<_>>()), 4096, None)?;
    let mut losses = Vec::new();
    let lesson = Lesson { tokens: &texts, targets: &targets, pieces: &pieces };
    let student = distill(&teacher, &lesson, config, &mut |step| {
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
    assert!(refused(DistillConfig { batch: 300, ..config() }).contains("batch = 300"));
    assert!(refused(DistillConfig { hidden: 96, ..config() }).contains("hidden = 96"));
}

#[test]
fn before_the_first_step_the_student_is_near_the_mean_of_its_words() {
    let (teacher, texts) = (teacher(), texts());
    let pieces = teacher.embed(&Tokenized::from_sequences((20..60u32).map(|word| [word])), 4096, None).unwrap();
    // The teacher's answers are the means of its single words, so that the right start is as good as the end.
    let unit = |row: &[f32]| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    let words: Vec<Vec<f32>> = pieces.chunks(64).map(unit).collect();
    let mean = |text: &[u32]| {
        let sum = |at: usize| text.iter().map(|id| words[*id as usize][at]).sum::<f32>();
        (0..64).map(sum).collect::<Vec<f32>>()
    };
    let targets: Vec<f32> = (0..texts.len()).flat_map(|at| mean(texts.sequence(at))).collect();
    let lesson = Lesson { tokens: &texts, targets: &targets, pieces: &pieces };
    let still = DistillConfig { learning_rate: 0.0, epochs: 1, ..config() };
    let student = distill(&teacher, &lesson, &still, &mut |_| ()).unwrap();
    let similar = agreement(&student.embed(&texts, 4096, None).unwrap(), &targets, texts.len(), 2000, 1);
    assert!(similar > 0.8, "{similar}");
}

#[test]
fn a_tenth_is_held_out_by_its_letters_and_never_invented() {
    let texts: Vec<String> = (0..2000).map(|at| format!("title {at} of a {} thing", at * 7 % 100)).collect();
    let (held, learned): (Vec<String>, Vec<String>) = texts.into_iter().partition(|text| held_out(text));
    assert!((150..250).contains(&held.len()), "{}", held.len());
    assert!(held.iter().all(|text| held_out(&text.to_uppercase()) && held_out(&format!(" {text}!"))));
    let words = ["unheard".to_owned()];
    let made = invented(&learned, &words, 3000, 4);
    assert_eq!(made, invented(&learned, &words, 3000, 4));
    assert_ne!(made, invented(&learned, &words, 3000, 5));
    assert_eq!(made.len(), 3000);
    let distinct: std::collections::BTreeSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), 3000);
    assert!(made.iter().all(|text| !held_out(text) && !learned.contains(text)));
    assert!(made.iter().any(|text| text.contains("unheard")));
    // As many as there are, where there are few.
    assert!(invented(&["one two".to_owned()], &[], 3000, 4).len() < 100);
}
