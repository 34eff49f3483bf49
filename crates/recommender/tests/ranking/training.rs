//! Every loss learns to rank: vectors that are moved against its gradient put what was chosen first.

use candle_core::{Tensor, Var};
use paretune_recommender::{Calibrated, Listwise, Negatives, RankingBatch, RankingLoss, Scoring};

use super::{World, numbers};

/// Moves `vars` against the gradient of `loss`.
fn descend(vars: &[&Var], steps: usize, rate: f64, loss: impl Fn() -> Tensor) {
    for _ in 0..steps {
        let gradients = loss().backward().unwrap();
        for var in vars {
            let moved = (var.as_tensor() - (gradients.get(var).unwrap() * rate).unwrap()).unwrap();
            var.set(&moved.detach()).unwrap();
        }
    }
}

/// The share of rows whose largest logit is that of `positives`.
fn first(users: &Tensor, candidates: &Tensor, positives: &[u32]) -> f64 {
    let logits = users.matmul(&candidates.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
    let is_first = |(row, at): &(&Vec<f32>, &u32)| row.iter().all(|logit| *logit <= row[**at as usize]);
    logits.iter().zip(positives).filter(is_first).count() as f64 / positives.len() as f64
}

#[test]
fn losses_over_vectors_put_the_chosen_items_first() {
    let plain = Scoring::default();
    let world = World::new(30, 20, 8, 1);
    let everything: Vec<u32> = (0..20).collect();
    for loss in [
        RankingLoss::Bpr(plain),
        RankingLoss::Bce(plain),
        RankingLoss::Gbce(Calibrated::default()),
        RankingLoss::Softmax(plain),
        RankingLoss::SampledSoftmax(Scoring { temperature: 0.5, cosine: true }),
        RankingLoss::InBatch(plain),
    ] {
        let [users, candidates] = [&world.users, &world.candidates].map(|side| Var::from_tensor(side).unwrap());
        assert!(first(&users, &candidates, &world.positives) < 0.3);
        let negatives = match loss {
            RankingLoss::InBatch(_) => Negatives::Others,
            _ => Negatives::Shared(&everything),
        };
        descend(&[&users, &candidates], 400, 3.0, || {
            let batch = RankingBatch { users: &users, candidates: &candidates, negatives, ..world.batch() };
            loss.loss(&batch).unwrap()
        });
        // With cosines the lengths say nothing.
        let candidates = match loss.scoring().cosine {
            true => paretune_encoder::unit_rows(&candidates).unwrap(),
            false => candidates.as_tensor().clone(),
        };
        let share = first(&users, &candidates, &world.positives);
        // In-batch, items that nobody chose are never seen.
        let expected = if matches!(loss, RankingLoss::InBatch(_)) { 0.8 } else { 0.95 };
        assert!(share >= expected, "{loss:?}: {share}");
    }
}

#[test]
fn losses_over_lists_order_them_by_grade() {
    let labels = [0.0, 2.0, 1.0, 3.0, f32::NAN, 1.0, 0.0, 2.0];
    for loss in [RankingLoss::ListNet(Listwise::default()), RankingLoss::ApproxNdcg(Listwise { temperature: 0.5 })] {
        let logits = Var::new(&[0.3f32, 0.1, 0.5, -0.2, 9.0, 0.0, 0.2, -0.1], &candle_core::Device::Cpu).unwrap();
        descend(&[&logits], 500, 2.0, || loss.listwise(&logits, &labels, &[0, 4, 8]).unwrap());
        let found = numbers(&logits);
        assert!(found[3] > found[1] && found[1] > found[2] && found[2] > found[0], "{loss:?}: {found:?}");
        assert!(found[7] > found[5] && found[5] > found[6], "{loss:?}: {found:?}");
        assert_eq!(found[4], 9.0, "not observed");
    }
}
