//! A log that is read shard by shard is trained on as one in memory.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::Device;
use paretune_data::{Dataset, Part, Shards, SplitStrategy};
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Goal, Kind, ListGoal, Objective, Objectives};
use paretune_recommender::{Corpus, ItemVectors, ListFacts, Recommender, RecommenderConfig, UserKind};
use paretune_train::evaluation::Ranking;
use paretune_train::{
    BalanceConfig, Balancer, Observer, Outcome, Silent, Stream, TrainError, TrainEvent, Trainer, TrainingConfig,
};

use crate::clicks::{USERS, corpus, dataset, groups, ids, loss, model, objectives, text};
use crate::resume::{Mortal, newest};
use crate::world::{Diary, bits};

/// Deals a log out to shards in `folder` and opens it.
fn stream(
    folder: &Path,
    dataset: &Dataset,
    shards: usize,
    kind: UserKind,
    strategy: &SplitStrategy,
    users: usize,
) -> Stream {
    let config = corpus(kind, dataset.clone(), strategy).config;
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokenizer), Some(16)).unwrap();
    let shards = Shards::from_dataset(dataset, &folder.join(format!("shards-{shards}")), shards).unwrap();
    Stream::new(shards, strategy, config, Some(&tokenizer), users).unwrap()
}

fn training() -> TrainingConfig {
    TrainingConfig {
        epochs: 3,
        batch: 100,
        learning_rate: 3e-3,
        shared_negatives: 20,
        negative_power: 0.5,
        validations: 2.0,
        patience: 0,
        ema: 0.9,
        checkpoint_every: 7,
        monitor: BTreeMap::from([("ndcg@10".into(), 1.0)]),
        ..TrainingConfig::default()
    }
}

fn balancer() -> Balancer {
    Balancer::new(&BalanceConfig::default(), &objectives(), &[1.0]).unwrap()
}

fn run(
    model: &Recommender,
    stream: &Stream,
    config: &TrainingConfig,
    checkpoints: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    Trainer::streamed(model, stream, &objectives(), config, balancer(), checkpoints, 3)?.run(observer)
}

fn bytes(model: &Recommender) -> BTreeMap<String, Vec<u32>> {
    bits(model)
}

/// Clicks with something in them that was not engaged with, and with places.
fn mixed() -> Dataset {
    let mut dataset = groups();
    let events = &mut dataset.events;
    let clicks = (0..events.user.len()).map(|row| if row % 9 == 4 { 0.0 } else { 1.0 }).collect();
    events.feedback.insert("click".into(), clicks);
    events.position = Some((0..events.user.len()).map(|row| (row % 5) as u16).collect());
    dataset
}

fn check_one_shard_is_memory(kind: UserKind, name: &str, vectors: fn() -> ItemVectors, strategy: &SplitStrategy) {
    let folder = tempfile::tempdir().unwrap();
    let (config, objectives) = (training(), objectives());
    let memory = corpus(kind, mixed(), strategy);
    let straight = model(&memory, vectors(), kind, loss(name));
    let trainer = Trainer::new(&straight, &memory, &objectives, &config, balancer(), None, 3).unwrap();
    let mut expected = Diary::default();
    let outcome = trainer.run(&mut expected).unwrap();

    let stream = stream(folder.path(), &mixed(), 1, kind, strategy, usize::MAX);
    assert_eq!(stream.sample().summary(), memory.summary());
    let streamed = model(stream.sample(), vectors(), kind, loss(name));
    let mut diary = Diary::default();
    assert_eq!(run(&streamed, &stream, &config, None, &mut diary).unwrap(), outcome);
    assert_eq!(diary.0, expected.0, "{kind:?} with {name}");
    assert_eq!(bytes(&streamed), bytes(&straight), "{kind:?} with {name}");
}

/// Goals of lists and of cost need no label and no tower, and so no past of items.
#[test]
fn goals_without_labels_train_on_shards_as_in_memory() {
    let click = Objective::new("click", Kind::Ranking, "click");
    let goals = [Objective::list("breadth", ListGoal::new(Goal::Coverage)), Objective::cost("cost").weight(0.3)];
    let set = Objectives::new([vec![click], goals.to_vec()].concat()).unwrap();
    let (kind, strategy, config) = (UserKind::Sasrec, SplitStrategy::LeaveLast, training());
    let folder = tempfile::tempdir().unwrap();
    let memory = corpus(kind, mixed(), &strategy);
    let stream = stream(folder.path(), &mixed(), 1, kind, &strategy, usize::MAX);
    let fresh = |corpus: &Corpus| {
        let sizes = model(corpus, ids(), kind, loss("sampled-softmax")).config().clone();
        let model = Recommender::new(sizes, ids(), &set, 5, &Device::Cpu).unwrap();
        model.with_list_facts(ListFacts::new(corpus, &set, None, &Device::Cpu).unwrap())
    };
    let balancer = || Balancer::new(&BalanceConfig::default(), &set, &[1.0, 1.0, 0.3]).unwrap();
    let straight = fresh(&memory);
    Trainer::new(&straight, &memory, &set, &config, balancer(), None, 3).unwrap().run(&mut Silent).unwrap();
    let streamed = fresh(stream.sample());
    Trainer::streamed(&streamed, &stream, &set, &config, balancer(), None, 3).unwrap().run(&mut Silent).unwrap();
    assert_eq!(bytes(&streamed), bytes(&straight));
    assert_ne!(bytes(&straight)["gates.width"], bytes(&fresh(&memory))["gates.width"], "gates have learned");
}

#[test]
fn one_shard_trains_bit_for_bit_as_memory_does() {
    let time = SplitStrategy::Time { valid: 0.2, test: 0.2 };
    check_one_shard_is_memory(UserKind::Sasrec, "sampled-softmax", ids, &SplitStrategy::LeaveLast);
    check_one_shard_is_memory(UserKind::Gru, "in-batch", ids, &time);
    check_one_shard_is_memory(UserKind::Bert4rec, "sampled-softmax", ids, &SplitStrategy::LeaveLast);
    check_one_shard_is_memory(UserKind::Attention, "listnet", ids, &time);
    check_one_shard_is_memory(UserKind::Mean, "sampled-softmax", text, &SplitStrategy::LeaveLast);
}

#[test]
fn a_streamed_run_that_is_cut_off_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let kind = UserKind::Sasrec;
    let stream = stream(folder.path(), &mixed(), 5, kind, &SplitStrategy::LeaveLast, 60);
    let new = || model(stream.sample(), ids(), kind, loss("sampled-softmax"));
    let whole = tempfile::tempdir().unwrap();
    let (straight, mut diary) = (new(), Diary::default());
    let outcome = run(&straight, &stream, &training(), Some(whole.path()), &mut diary).unwrap();
    let events = diary.0;
    for cut_at in [2, events.len() / 3, events.len() / 2, 3 * events.len() / 4, events.len() - 2] {
        let dir = tempfile::tempdir().unwrap();
        let died = catch_unwind(AssertUnwindSafe(|| {
            run(&new(), &stream, &training(), Some(dir.path()), &mut Mortal { left: cut_at })
        }));
        assert!(died.is_err());
        let resumed = new();
        assert_eq!(run(&resumed, &stream, &training(), Some(dir.path()), &mut Silent).unwrap(), outcome);
        assert_eq!(bytes(&resumed), bytes(&straight), "cut at event {cut_at}");
        assert!(newest(dir.path()) == newest(whole.path()), "the last checkpoint differs");
    }
}

#[test]
fn an_epoch_meets_every_training_row_once_whatever_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let kind = UserKind::Sasrec;
    for shards in [1, 3, 16, 400] {
        let stream = stream(folder.path(), &mixed(), shards, kind, &SplitStrategy::LeaveLast, 60);
        let rows = corpus(kind, mixed(), &SplitStrategy::LeaveLast).split.rows(Part::Train).len();
        assert_eq!(stream.rows(Part::Train), rows as u64);
        let model = model(stream.sample(), ids(), kind, loss("in-batch"));
        let mut diary = Diary::default();
        let config = TrainingConfig { epochs: 2, monitor: BTreeMap::new(), ..training() };
        let outcome = run(&model, &stream, &config, None, &mut diary).unwrap();
        let samples: Vec<usize> = diary
            .0
            .iter()
            .filter_map(|event| match event {
                TrainEvent::Step { samples, .. } => Some(*samples),
                _ => None,
            })
            .collect();
        assert_eq!((samples.len(), samples.len() % 2), (outcome.steps, 0));
        for epoch in samples.chunks(samples.len() / 2) {
            assert_eq!(epoch.iter().sum::<usize>(), rows, "{shards} shards");
        }
        // A shard has one batch at least, and batches are as large everywhere.
        assert!(samples.iter().all(|samples| *samples <= 2 * config.batch), "{samples:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let folder = tempfile::tempdir().unwrap();
    let stream = stream(folder.path(), &mixed(), 4, UserKind::Sasrec, &SplitStrategy::LeaveLast, 60);
    let trained = |seed: u64| {
        let model = model(stream.sample(), ids(), UserKind::Sasrec, loss("sampled-softmax"));
        let (objectives, config) = (objectives(), TrainingConfig { max_steps: 12, ..training() });
        let trainer = Trainer::streamed(&model, &stream, &objectives, &config, balancer(), None, seed).unwrap();
        assert_eq!(trainer.run(&mut Silent).unwrap().steps, 12);
        bytes(&model)
    };
    assert_eq!(trained(3), trained(3));
    assert_ne!(trained(3), trained(4));
}

#[test]
fn a_log_in_shards_teaches_who_likes_what() {
    let folder = tempfile::tempdir().unwrap();
    let stream = stream(folder.path(), &groups(), 6, UserKind::Sasrec, &SplitStrategy::LeaveLast, usize::MAX);
    assert_eq!(stream.sample().dataset.users.len() as u32, USERS);
    let model = model(stream.sample(), ids(), UserKind::Sasrec, loss("sampled-softmax"));
    let ranks = || {
        let known = model.embed(&stream.sample().tokens, None).unwrap();
        let ranking = Ranking::new(stream.sample(), Part::Test, usize::MAX, &[10]);
        ranking.model(&model, &objectives(), &known, &[1.0], &[]).unwrap().ranking["recall@10"]
    };
    let before = ranks();
    run(&model, &stream, &TrainingConfig { epochs: 20, ..training() }, None, &mut Silent).unwrap();
    // Ten of forty items are the user's: by chance a quarter is found.
    assert!(before < 0.5 && ranks() > 0.85, "{before} {}", ranks());
}

#[test]
fn a_user_is_found_in_the_shard_that_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let stream = stream(folder.path(), &mixed(), 7, UserKind::Sasrec, &SplitStrategy::LeaveLast, 10);
    let memory = corpus(UserKind::Sasrec, mixed(), &SplitStrategy::LeaveLast);
    for user in 0..USERS {
        let id = format!("u{user}");
        let found = stream.corpus_of(&id).unwrap();
        let items = |corpus: &Corpus| corpus.histories.engaged_items(corpus.user(&id).unwrap(), true);
        assert_eq!(items(&found), items(&memory));
        assert_eq!((found.title(3), found.summary()), ("toy", memory.summary()));
    }
    assert!(stream.corpus_of("nobody").unwrap().user("nobody").is_err());
}

#[track_caller]
fn refused<T>(result: Result<T, TrainError>, parts: &[&str]) {
    let message = result.err().expect("refused").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn what_needs_the_whole_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stream = stream(folder.path(), &mixed(), 3, UserKind::Sasrec, &SplitStrategy::LeaveLast, 60);
    let model = |kind| model(stream.sample(), ids(), kind, loss("in-batch"));
    let sasrec = model(UserKind::Sasrec);
    let with = |model: &Recommender, objectives: &Objectives, config: &TrainingConfig| {
        let balancer = Balancer::new(&BalanceConfig::default(), objectives, &[1.0]).unwrap();
        Trainer::streamed(model, &stream, objectives, config, balancer, None, 3).map(drop)
    };
    let clicks = Objectives::new(vec![Objective::new("click", Kind::Binary, "click")]).unwrap();
    refused(with(&sasrec, &clicks, &training()), &["objective `click`", "kind = \"ranking\""]);
    refused(with(&model(UserKind::Factors), &objectives(), &training()), &["\"factors\"", "such as sasrec"]);
    let mut user = sasrec.config().user.clone();
    user.features = true;
    let features = RecommenderConfig { user, ..sasrec.config().clone() };
    let features = Recommender::new(features, ids(), &objectives(), 1, &Device::Cpu).unwrap();
    refused(with(&features, &objectives(), &training()), &["model.user.features = false"]);
    let config = TrainingConfig { batch: 0, ..training() };
    refused(with(&sasrec, &objectives(), &config), &["training.batch = 0"]);
}

#[test]
fn a_shard_that_vanishes_or_changes_ends_training_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let stream = stream(folder.path(), &mixed(), 3, UserKind::Sasrec, &SplitStrategy::LeaveLast, 60);
    let model = model(stream.sample(), ids(), UserKind::Sasrec, loss("in-batch"));
    let shard = folder.path().join("shards-3/shard-00002.parquet");
    let content = fs::read(&shard).unwrap();
    fs::write(&shard, &content[1..]).unwrap();
    refused(run(&model, &stream, &training(), None, &mut Silent), &["shard-00002.parquet does not hold"]);
    fs::remove_file(&shard).unwrap();
    refused(run(&model, &stream, &training(), None, &mut Silent), &["cannot read", "shard-00002.parquet"]);
    fs::write(&shard, &content).unwrap();
    run(&model, &stream, &training(), None, &mut Silent).unwrap();
}

#[test]
fn a_part_without_events_and_a_split_that_shuffles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody has three events.
    let short = dataset(|user| vec![user % 40, (user + 1) % 40]);
    let config = corpus(UserKind::Sasrec, groups(), &SplitStrategy::LeaveLast).config;
    let open = |dataset: &Dataset, strategy: &SplitStrategy| {
        let shards = Shards::from_dataset(dataset, &folder.path().join("shards"), 2).unwrap();
        Stream::new(shards, strategy, config.clone(), None, 60)
    };
    refused(open(&short, &SplitStrategy::LeaveLast), &["the valid part", "\"leave-last\""]);
    let random = SplitStrategy::Random { valid: 0.1, test: 0.1, seed: 0 };
    refused(open(&groups(), &random), &["\"random\" shuffles"]);
    assert!(open(&groups(), &SplitStrategy::LeaveLast).is_ok());
}
