//! Every user model learns a small log by heart.

use std::collections::BTreeMap;

use paretune_data::{Dataset, Part, SplitStrategy};
use paretune_recommender::{RankingLoss, UserKind};
use paretune_train::evaluation::Ranking;
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};

use crate::clicks::{ITEMS, corpus, dataset, groups, ids, loss, model, objectives};

/// What a model of this kind reaches on the test part after training: metrics of its rankings.
fn trained(kind: UserKind, loss: RankingLoss, dataset: Dataset, epochs: usize) -> BTreeMap<String, f64> {
    let (corpus, objectives) = (corpus(kind, dataset, &SplitStrategy::LeaveLast), objectives());
    let model = model(&corpus, ids(), kind, loss);
    let training = TrainingConfig {
        epochs,
        batch: 100,
        learning_rate: 3e-3,
        weight_decay: 0.0,
        hide_past: 0.0,
        shared_negatives: 30,
        validations: 0.1,
        patience: 0,
        monitor: BTreeMap::from([("ndcg@10".into(), 1.0)]),
        ..TrainingConfig::default()
    };
    let balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0]).unwrap();
    let trainer = Trainer::new(&model, &corpus, &objectives, &training, balancer, None, 3).unwrap();
    trainer.run(&mut Silent).unwrap();
    let known = model.embed(&corpus.tokens, None).unwrap();
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[1, 10]);
    ranking.model(&model, &objectives, &known, &[1.0], &[]).unwrap().ranking
}

/// Which item comes next depends on the last one alone: whoever reads the order finds it, and nobody else can.
#[test]
fn those_who_read_the_order_learn_what_follows_what() {
    for kind in UserKind::ALL {
        // Of several lengths: the longest of them train the places that the others are asked at.
        let next =
            |user: u32| (0..5 + user % 5).map(|at| (user * 7 + user / 40 + at * 3) % ITEMS).collect::<Vec<u32>>();
        // Cloze asks for a fifth of what the others are asked for.
        let epochs = if kind == UserKind::Bert4rec { 150 } else { 40 };
        let found = trained(kind, RankingLoss::default(), dataset(next), epochs)["recall@1"];
        match kind {
            UserKind::Gru | UserKind::Lstm | UserKind::Sasrec | UserKind::Bert4rec => {
                assert!(found > 0.7, "{kind:?}: {found}");
            }
            UserKind::Factors | UserKind::Graph => assert!(found < 0.5, "{kind:?}: {found}"),
            // Three items apart are also a set: pooling may find it, and need not.
            UserKind::Attention | UserKind::Mean | UserKind::TwoTower => {}
        }
    }
}

#[test]
fn every_kind_learns_who_likes_what() {
    for kind in UserKind::ALL {
        let found = trained(kind, RankingLoss::default(), groups(), 30)["recall@10"];
        assert!(found > 0.85, "{kind:?}: {found}");
    }
    for name in ["bpr", "bce", "gbce", "softmax", "in-batch"] {
        let found = trained(UserKind::Sasrec, loss(name), groups(), 30)["recall@10"];
        assert!(found > 0.8, "{name}: {found}");
    }
}
