//! Requests whose user is hidden.

use paretune_data::SplitStrategy;
use paretune_recommender::{Batch, BatchBuilder, Encode, UserKind, Viewer};
use paretune_train::{Plan, TrainingConfig};

use crate::clicks;

const SPLIT: SplitStrategy = SplitStrategy::Time { valid: 0.1, test: 0.1 };

#[test]
fn a_share_of_the_requests_know_nothing_of_their_user() {
    for kind in [UserKind::Sasrec, UserKind::Mean] {
        let corpus = clicks::corpus(kind, clicks::groups(), &SPLIT);
        let batches = |hide_users: f64| -> Vec<Batch> {
            let config =
                TrainingConfig { hide_users, hide_past: 0.0, epochs: 1, batch: 64, ..TrainingConfig::default() };
            let plan = Plan::new(&corpus, &clicks::objectives(), &config, 3).unwrap();
            plan.epoch_from(0).collect()
        };
        let count = |batches: &[Batch]| -> (usize, usize) {
            let requests = batches.iter().map(Batch::viewers).sum();
            let hidden = batches.iter().flat_map(|batch| &batch.users).filter(|user| user.is_none()).count();
            (requests, hidden)
        };
        let (all, none) = count(&batches(0.0));
        assert_eq!(none, 0);
        let (requests, hidden) = count(&batches(0.3));
        assert_eq!(requests, all);
        let share = hidden as f64 / requests as f64;
        assert!((share - 0.3).abs() < 0.05, "{kind:?}: {share}");
        // They see nothing, and are described as somebody new is.
        let mut unknown = Vec::new();
        corpus.behaviour.new_user(&mut unknown);
        for batch in batches(0.3) {
            let width = corpus.user_width();
            for (request, user) in batch.users.iter().enumerate() {
                let features = &batch.user_features[request * width..][..unknown.len()];
                match user {
                    None => assert!(batch.histories.seen[request].is_empty() && *features == unknown[..]),
                    Some(_) => assert!(*features != unknown[..] || batch.histories.seen[request].is_empty()),
                }
            }
        }
        assert_eq!(count(&batches(1.0)).1, all);
    }
}

#[test]
fn a_model_answers_a_hidden_user_as_somebody_new() {
    for kind in UserKind::ALL {
        let corpus = clicks::corpus(kind, clicks::groups(), &SPLIT);
        let model = clicks::model(&corpus, clicks::ids(), kind, clicks::loss("softmax"));
        let known = model.embed(&corpus.tokens, None).unwrap();
        let catalogue = model.catalogue(&corpus, &known, i64::MAX).unwrap();
        let scores = |hidden: bool| -> Vec<Vec<f32>> {
            let mut builder = BatchBuilder::new(&corpus, 0);
            builder.requests_of(3, &[i64::MAX], false);
            if hidden {
                builder.forget_user(0);
                builder.forget_user(99);
            } else {
                builder.request(&Viewer::New { history: Vec::new() });
            }
            model.retrieve(&catalogue, &builder.build(Encode::Nothing), &known).unwrap().to_vec2().unwrap()
        };
        let (hidden, shown) = (scores(true), scores(false));
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&hidden[0], &shown[1]), "{kind:?}: somebody new");
        assert!(!near(&hidden[0], &shown[0]), "{kind:?}: and not who they are");
    }
}
