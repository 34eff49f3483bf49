//! What holds between losses.

use candle_core::{DType, Tensor, Var};
use paretune_encoder::{backward, backward_in_chunks, cross_entropy};
use paretune_recommender::{Calibrated, Negatives, RankingBatch, RankingLoss, Scoring, info_nce};
use proptest::prelude::*;

use super::{World, assert_near, differentiated, numbers, random, scalar};

const PLAIN: Scoring = Scoring { temperature: 1.0, cosine: false };

/// All losses over vectors.
fn all(scoring: Scoring) -> [RankingLoss; 6] {
    [
        RankingLoss::Bpr(scoring),
        RankingLoss::Bce(scoring),
        RankingLoss::Gbce(Calibrated { temperature: scoring.temperature, cosine: scoring.cosine, t: 0.75 }),
        RankingLoss::Softmax(scoring),
        RankingLoss::SampledSoftmax(scoring),
        RankingLoss::InBatch(scoring),
    ]
}

/// The batch with the negatives that `loss` reads.
fn fitted<'a>(loss: &RankingLoss, batch: RankingBatch<'a>) -> RankingBatch<'a> {
    match loss {
        RankingLoss::InBatch(_) => RankingBatch { negatives: Negatives::Others, ..batch },
        _ => batch,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A pool of everything, each item as likely as any other, is the whole catalogue.
    #[test]
    fn sampled_softmax_of_everything_is_softmax(rows in 1usize..30, items in 2usize..40, seed in 0u64..1000, log_q in -5f32..0.0) {
        let world = World::new(rows, items, 5, seed);
        let everything: Vec<u32> = (0..items as u32).collect();
        let batch = RankingBatch { negatives: Negatives::Shared(&everything), ..world.batch() };
        let whole = differentiated(&RankingLoss::Softmax(PLAIN), &batch, DType::F32);
        let logits = world.users.matmul(&world.candidates.t().unwrap()).unwrap();
        let expected = scalar(&cross_entropy(&logits, &world.positives).unwrap());
        assert_near("cross-entropy", &[whole.0], &[expected], 2e-6);
        let equal = vec![log_q; items];
        for log_q in [None, Some(&equal[..])] {
            let sampled = RankingBatch { log_q, ..batch };
            let sampled = differentiated(&RankingLoss::SampledSoftmax(PLAIN), &sampled, DType::F32);
            assert_near("value", &[sampled.0], &[whole.0], 5e-6);
            for (found, expected) in sampled.1.iter().zip(&whole.1) {
                assert_near("gradient", found, expected, 5e-6);
            }
        }
    }

    /// Only differences of `ln q` matter to a softmax.
    #[test]
    fn a_shift_of_all_log_q_changes_nothing(seed in 0u64..1000, shift in -8f32..8.0, others in any::<bool>()) {
        let world = World::new(12, 15, 4, seed);
        let loss = if others { RankingLoss::InBatch(PLAIN) } else { RankingLoss::SampledSoftmax(PLAIN) };
        let batch = fitted(&loss, world.batch());
        let moved: Vec<f32> = world.log_q.iter().map(|log_q| log_q + shift).collect();
        let a = differentiated(&loss, &RankingBatch { log_q: Some(&world.log_q), ..batch }, DType::F32);
        let b = differentiated(&loss, &RankingBatch { log_q: Some(&moved), ..batch }, DType::F32);
        assert_near("value", &[a.0], &[b.0], 1e-5);
        assert_near("users", &a.1[0], &b.1[0], 1e-5);
        assert_near("candidates", &a.1[1], &b.1[1], 1e-5);
    }

    /// The mean has equal weights; weights are shares.
    #[test]
    fn weights_are_shares_of_the_mean(seed in 0u64..1000, factor in 0.1f32..10.0, row in 0usize..7) {
        let world = World::new(7, 12, 4, seed);
        for loss in all(PLAIN) {
            let batch = fitted(&loss, world.batch());
            let equal = [factor; 7];
            let plain = differentiated(&loss, &batch, DType::F32);
            let weighted = differentiated(&loss, &RankingBatch { weights: Some(&equal), ..batch }, DType::F32);
            assert_near("equal weights", &[weighted.0], &[plain.0], 2e-6);
            let mut one = [0.0; 7];
            one[row] = factor;
            let (_, [users, _]) = differentiated(&loss, &RankingBatch { weights: Some(&one), ..batch }, DType::F32);
            for (other, slopes) in users.chunks(4).enumerate() {
                prop_assert!(other == row || slopes.iter().all(|slope| *slope == 0.0));
            }
        }
    }
}

#[test]
fn gbce_lies_between_bce_and_nothing_of_the_positive() {
    let world = World::new(10, 30, 4, 1);
    let gbce = |t, catalogue| {
        let loss = RankingLoss::Gbce(Calibrated { t, ..Calibrated::default() });
        differentiated(&loss, &RankingBatch { catalogue: Some(catalogue), ..world.batch() }, DType::F64)
    };
    let bce = differentiated(&RankingLoss::Bce(PLAIN), &world.batch(), DType::F64);
    assert_eq!(gbce(0.0, 1000), bce, "not calibrated");
    assert_eq!(gbce(1.0, 5), bce, "everything is drawn");
    assert!(gbce(0.5, 1000).0 < bce.0 && gbce(1.0, 1000).0 < gbce(0.5, 1000).0);
}

#[test]
fn an_accidental_hit_gets_exactly_no_gradient() {
    // The candidates 0 and 3 are one item, which the only request chose.
    let world = World::new(1, 4, 6, 2);
    let (pool, positives, ids) = ([1, 2, 3], [0], [7, 8, 9, 7]);
    for loss in all(Scoring { temperature: 0.5, cosine: true }) {
        let batch =
            RankingBatch { positives: &positives, ids: &ids, negatives: Negatives::Shared(&pool), ..world.batch() };
        for dtype in [DType::F32, DType::F64] {
            let (value, [_, candidates]) = differentiated(&loss, &fitted(&loss, batch), dtype);
            assert!(candidates[18..].iter().all(|slope| *slope == 0.0), "{loss:?}");
            // In-batch, the request has no other one beside it.
            let learns = !matches!(loss, RankingLoss::InBatch(_));
            assert_eq!(candidates[..18].iter().all(|slope| *slope != 0.0), learns, "{loss:?}");
            assert_eq!(value > 0.0, learns);
        }
    }
}

#[test]
fn large_logits_have_finite_losses_and_gradients() {
    let mut world = World::new(20, 25, 4, 3);
    world.users = (&world.users * 100.0).unwrap();
    world.candidates = (&world.candidates * 100.0).unwrap();
    for loss in all(PLAIN) {
        for dtype in [DType::F32, DType::F64] {
            let batch = RankingBatch { log_q: Some(&world.log_q), ..fitted(&loss, world.batch()) };
            let (value, gradients) = differentiated(&loss, &batch, dtype);
            assert!(value.is_finite() && value > 1.0, "{loss:?}: {value}");
            assert!(gradients.iter().flatten().all(|slope| slope.is_finite()), "{loss:?}");
        }
    }
}

/// Along a direction `d`, `(L(x + εd) - L(x - εd)) / 2ε` is `⟨∇L, d⟩`.
#[test]
fn gradients_are_those_of_central_differences() {
    let world = World::new(9, 14, 5, 4);
    for loss in all(Scoring { temperature: 0.4, cosine: true }).into_iter().chain(all(PLAIN)) {
        let batch = RankingBatch { log_q: Some(&world.log_q), ..fitted(&loss, world.batch()) };
        let (_, gradients) = differentiated(&loss, &batch, DType::F32);
        let sides = [&world.users, &world.candidates].map(|side| side.to_dtype(DType::F64).unwrap());
        for (which, gradient) in gradients.iter().enumerate() {
            let (rows, width) = sides[which].dims2().unwrap();
            let direction = random(rows, width, 9).to_dtype(DType::F64).unwrap();
            let moved = |step: f64| {
                let mut sides = sides.clone();
                sides[which] = (&sides[which] + (&direction * step).unwrap()).unwrap();
                scalar(&loss.loss(&RankingBatch { users: &sides[0], candidates: &sides[1], ..batch }).unwrap())
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let found: f64 = gradient.iter().zip(numbers(&direction)).map(|(slope, step)| slope * step).sum();
            assert!((found - expected).abs() < 1e-5, "{loss:?}, side {which}: {found} and {expected}");
        }
    }
}

/// In-batch negatives over a batch in chunks: users and items are encoded by one matrix each.
#[test]
fn in_batch_losses_in_chunks_have_the_gradients_of_the_whole() {
    let (rows, width) = (24, 6);
    let inputs = [random(rows, 5, 5), random(rows, 5, 6)];
    let weights = [7, 8].map(|seed| Var::from_tensor(&random(5, width, seed)).unwrap());
    let places: Vec<u32> = (0..rows as u32).collect();
    let loss = |users: &Tensor, candidates: &Tensor| {
        let batch = RankingBatch {
            users,
            candidates,
            ids: &places,
            positives: &places,
            negatives: Negatives::Others,
            exempt: None,
            log_q: None,
            weights: None,
            catalogue: None,
        };
        let loss = RankingLoss::InBatch(Scoring { temperature: 0.1, cosine: true });
        loss.loss(&batch).map_err(|error| candle_core::Error::Msg(error.to_string()))
    };
    let encode = |side: usize| inputs[side].matmul(&weights[side]).unwrap().tanh().unwrap();
    let whole = loss(&encode(0), &encode(1)).unwrap();
    let expected = backward(&whole).unwrap();
    for size in [1, 5, 24] {
        let chunks = rows.div_ceil(size);
        // Users first, then items.
        let part = |chunk: usize, _tracked: bool| {
            let (side, first) = (chunk / chunks, chunk % chunks * size);
            let rows = inputs[side].narrow(0, first, size.min(rows - first))?;
            rows.matmul(&weights[side])?.tanh()
        };
        let (value, found) = backward_in_chunks(2 * chunks, part, |parts| {
            loss(&Tensor::cat(&parts[..chunks], 0)?, &Tensor::cat(&parts[chunks..], 0)?)
        })
        .unwrap();
        assert_near("value", &[f64::from(value)], &[scalar(&whole)], 1e-6);
        for weight in &weights {
            let (found, expected) = (found.get(weight).unwrap(), expected.get(weight).unwrap());
            assert_near("gradient", &numbers(found), &numbers(expected), 1e-6);
        }
    }
}

#[test]
fn views_may_change_places() {
    let (a, b) = (random(9, 5, 1), random(9, 5, 2));
    let forth = scalar(&info_nce(&a, &b, 0.2).unwrap());
    assert!((forth - scalar(&info_nce(&b, &a, 0.2).unwrap())).abs() < 1e-6);
    assert!(scalar(&info_nce(&a, &a, 0.2).unwrap()) < forth);
    assert_eq!(scalar(&info_nce(&random(1, 5, 1), &random(1, 5, 2), 0.2).unwrap()), 0.0, "nothing to tell apart");
}
