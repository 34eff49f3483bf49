//! What a simulated log hides and debiased training finds: small, and the same at every run.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::Device;
use paretune_data::simulator::{Simulation, SimulationConfig, Truth};
use paretune_data::{Part, Split, SplitStrategy};
use paretune_eval::OffPolicy;
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Debias, DebiasMethod, Kind, Objective, Objectives, Propensity};
use paretune_recommender::{
    BatchBuilder, Corpus, CorpusConfig, Encode, ItemVectors, RankingLoss, Reading, Recommender, RecommenderConfig,
    UserConfig, Viewer,
};
use paretune_train::{BalanceConfig, Balancer, Silent, Trainer, TrainingConfig};

const USERS: u32 = 300;
const ITEMS: u32 = 120;

fn world() -> (Corpus, Truth) {
    let config = SimulationConfig {
        items: ITEMS as usize,
        users: USERS as usize,
        requests_per_user: 12.0,
        providers: 20,
        late_share: 0.0,
        position_bias: 1.0,
        ..SimulationConfig::default()
    };
    let (mut dataset, truth) = Simulation::new(config).run().unwrap();
    let events = &mut dataset.events;
    let positions = events.position.clone().unwrap();
    let rated = |row: usize| {
        let (user, item) = (events.user[row], events.item[row]);
        truth.examination(positions[row]) * truth.click(user, item) * truth.rated(user, item)
    };
    let column = (0..positions.len()).map(|row| rated(row) as f32).collect();
    events.feedback.insert("rated".into(), column);
    let tokens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let tokenizer = TextTokenizer::load(&ModelFiles::unweighted(tokens), None).unwrap();
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.05, test: 0.1 }).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into(), "rating".into()],
        history: 10,
        reading: Reading::Each,
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    (Corpus::new(dataset, split, &tokenizer, config).unwrap(), truth)
}

fn train(corpus: &Corpus, objectives: &Objectives) -> Recommender {
    let sizes = RecommenderConfig {
        dim: 16,
        user: UserConfig { heads: 2, ..UserConfig::default() },
        history: corpus.config.history,
        users: USERS as usize,
        items: ITEMS as usize,
        hide_ids: 0.0,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 16,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    let vectors = ItemVectors::ids(ITEMS as usize, 16, 1, &Device::Cpu).unwrap();
    let mut model = Recommender::new(sizes, vectors, objectives, 1, &Device::Cpu).unwrap();
    let rows = corpus.split.rows(Part::Train);
    let feedback = &corpus.dataset.events.feedback;
    let labels = |name: &str| rows.iter().map(|&row| feedback[name][row as usize]).collect::<Vec<f32>>();
    model.fit(&objectives.iter().map(|objective| labels(&objective.column)).collect::<Vec<_>>()).unwrap();
    let training = TrainingConfig {
        epochs: 4,
        batch: 256,
        learning_rate: 3e-3,
        backbone_learning_rate: 2e-3,
        validations: 1e-6,
        ..TrainingConfig::default()
    };
    let balancer = Balancer::new(&BalanceConfig::default(), objectives, &[1.0, 1.0]).unwrap();
    Trainer::new(&model, corpus, objectives, &training, balancer, None, 1).unwrap().run(&mut Silent).unwrap();
    model
}

/// Root mean squared errors over all pairs, of clicks and of stars, and the mean error of stars.
fn errors(model: &Recommender, corpus: &Corpus, truth: &Truth) -> [f64; 3] {
    let known = model.embed(&corpus.tokens, None).unwrap();
    let clock = corpus.split.boundary();
    let catalogue = model.catalogue(corpus, &known, clock).unwrap();
    let mut sums = [0.0; 3];
    for user in 0..USERS {
        let mut builder = BatchBuilder::new(corpus, 0);
        builder.request(&Viewer::Known { user, clock, train_only: false });
        let scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap().remove(0);
        for item in 0..ITEMS {
            let click = f64::from(scores[0][item as usize]) - truth.click(user, item);
            let stars = f64::from(scores[1][item as usize]) - truth.rating(user, item);
            [click * click, stars * stars, stars].iter().zip(&mut sums).for_each(|(value, sum)| *sum += value);
        }
    }
    let [click, stars, bias] = sums.map(|sum| sum / f64::from(USERS * ITEMS));
    [click.sqrt(), stars.sqrt(), bias]
}

#[test]
fn debiased_estimates_are_closer_to_the_truth() {
    let (corpus, truth) = world();
    let click = Objective::new("click", Kind::Binary, "click");
    let rating = Objective::new("satisfaction", Kind::Regression, "rating");
    let naive = train(&corpus, &Objectives::new(vec![click.clone(), rating.clone()]).unwrap());
    let told = Debias {
        clip: Some(50.0),
        column: Some("rated".into()),
        ..Debias::new(DebiasMethod::DoublyRobust, Propensity::Column)
    };
    let debiased = Objectives::new(vec![click.examined(10), rating.debias(told)]).unwrap();
    let debiased = train(&corpus, &debiased);
    let [before, after] = [&naive, &debiased].map(|model| errors(model, &corpus, &truth));
    println!("click, stars, bias of stars: {before:.3?} and {after:.3?}");
    assert!(after[0] < 0.85 * before[0], "clicks: {before:?} {after:?}");
    assert!(after[2].abs() < 0.9 * before[2].abs(), "stars: {before:?} {after:?}");

    // How positions are looked at is found from clicks alone.
    let (_, curve) = debiased.examination().unwrap().remove(0);
    println!("examination: {curve:.3?}");
    for (position, found) in (1u16..).zip(curve) {
        let expected = truth.examination(position);
        assert!((found - expected).abs() < 0.1, "position {position}: {found}, not {expected}");
    }
}

/// The log's clicks per place, weighed by its propensities, are those of showing every item alike.
#[test]
fn logged_propensities_say_what_another_policy_would_earn() {
    let (corpus, truth) = world();
    let events = &corpus.dataset.events;
    let positions = events.position.as_ref().unwrap();
    let logged = events.propensity.as_ref().unwrap();
    let rows = 0..events.len();
    let rewards: Vec<f64> = rows.clone().map(|row| f64::from(events.feedback["click"][row])).collect();
    let logging: Vec<f64> = rows.clone().map(|row| f64::from(logged[row]).min(1.0)).collect();
    // Of the items that the request does not show yet, one of which is put there.
    let left = |row: usize| f64::from(ITEMS) - f64::from(positions[row] - 1);
    let target: Vec<f64> = rows.clone().map(|row| 1.0 / left(row)).collect();
    let mut before: Vec<u32> = Vec::new();
    let mut worth = 0.0;
    for row in rows {
        if positions[row] == 1 {
            before.clear();
        }
        let user = events.user[row];
        let others = (0..ITEMS).filter(|item| !before.contains(item));
        worth +=
            truth.examination(positions[row]) * others.map(|item| truth.click(user, item)).sum::<f64>() / left(row);
        before.push(events.item[row]);
    }
    let worth = worth / rewards.len() as f64;
    let log = OffPolicy::new(&rewards, &logging, &target).unwrap();
    println!("truth {worth:.4}, naive {:.4}, ips {:?}, snips {:?}", log.naive().value, log.ips(), log.snips());
    for estimate in [log.ips(), log.snips()] {
        assert!((estimate.value - worth).abs() < 3.0 * estimate.error, "{estimate:?}, not {worth}");
        assert!((estimate.value - worth).abs() < 0.3 * (log.naive().value - worth).abs(), "{estimate:?}, not {worth}");
    }
}
