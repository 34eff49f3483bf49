//! The simulator knows what it drew the log from: a model that learned something is closer to that than popularity is.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::Device;
use paretune_data::{
    Split, SplitStrategy,
    simulator::{Simulation, SimulationConfig},
};
use paretune_eval::top_k;
use paretune_features::{ModelFiles, TextTokenizer};
use paretune_objectives::{Architecture, Conditioning, Kind, Objective, Objectives};
use paretune_recommender::{
    BatchBuilder, Corpus, CorpusConfig, Encode, ItemVectors, RankingLoss, Reading, Recommender, RecommenderConfig,
    UserConfig, Viewer,
};
use paretune_train::{
    BalanceConfig, Balancer, Silent, Trainer, TrainingConfig, distill::spearman, evaluation::baselines,
};

fn tokenizer() -> TextTokenizer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/fixtures/tiny");
    let files = ModelFiles::unweighted(dir);
    TextTokenizer::load(&files, None).unwrap()
}

#[test]
fn predictions_are_closer_to_the_truth_than_popularity() {
    let simulation = SimulationConfig { items: 300, users: 400, requests_per_user: 6.0, ..SimulationConfig::default() };
    let (dataset, truth) = Simulation::new(simulation).run().unwrap();
    let objectives = Objectives::new(vec![
        Objective::new("click", Kind::Binary, "click"),
        Objective::new("satisfaction", Kind::Regression, "rating"),
    ])
    .unwrap();
    let split = Split::new(&dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 }).unwrap();
    let config = CorpusConfig {
        engaged: "click".into(),
        feedback: vec!["click".into(), "rating".into()],
        history: 10,
        reading: Reading::Each,
        template: "{title}".into(),
        search: false,
        features: Vec::new(),
    };
    let corpus = Corpus::new(dataset, split, &tokenizer(), config).unwrap();
    let sizes = RecommenderConfig {
        dim: 32,
        user: UserConfig { heads: 2, ..UserConfig::default() },
        history: corpus.config.history,
        users: corpus.dataset.users.len(),
        items: corpus.dataset.items.len(),
        hide_ids: 0.0,
        ranking: RankingLoss::default(),
        repeats: true,
        search: false,
        tasks: Architecture::SharedBottom,
        tower: 32,
        dropout: 0.1,
        item_features: corpus.item_width(),
        user_features: corpus.user_width(),
        event_features: corpus.event_width(),
        conditioning: Conditioning::None,
        features: None,
    };
    // Ids learn fast on a small catalogue; what is tested here is the whole of towers, losses and loop.
    let vectors = ItemVectors::ids(corpus.dataset.items.len(), 32, 1, &Device::Cpu).unwrap();
    let mut model = Recommender::new(sizes, vectors, &objectives, 1, &Device::Cpu).unwrap();
    let feedback = &corpus.dataset.events.feedback;
    let train = corpus.split.rows(paretune_data::Part::Train);
    let columns: Vec<Vec<f32>> =
        ["click", "rating"].map(|name| train.iter().map(|&row| feedback[name][row as usize]).collect()).to_vec();
    model.fit(&columns).unwrap();
    let training = TrainingConfig { epochs: 3, backbone_learning_rate: 2e-3, ..TrainingConfig::default() };
    let balancer = Balancer::new(&BalanceConfig::default(), &objectives, &[1.0, 1.0]).unwrap();
    Trainer::new(&model, &corpus, &objectives, &training, balancer, None, 1).unwrap().run(&mut Silent).unwrap();

    let known = model.embed(&corpus.tokens, None).unwrap();
    let clock = corpus.split.boundary();
    let catalogue = model.catalogue(&corpus, &known, clock).unwrap();
    let popularity = baselines::popularity_scores(&corpus);
    let items = corpus.dataset.items.len() as u32;
    let (mut predicted, mut clicks, mut ratings, mut stars, mut popular) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut value, mut popular_value) = (0.0, 0.0);
    let popular_top = top_k(&popularity, 10, &[]);
    for user in (0..400).step_by(8) {
        let mut builder = BatchBuilder::new(&corpus, 0);
        builder.request(&Viewer::Known { user, clock, train_only: false });
        let scores = model.score(&catalogue, &builder.build(Encode::Nothing), &known).unwrap().remove(0);
        for item in (0..items).step_by(3) {
            predicted.push(f64::from(scores[0][item as usize]));
            stars.push(f64::from(scores[1][item as usize]));
            popular.push(f64::from(popularity[item as usize]));
            clicks.push(truth.click(user, item));
            ratings.push(truth.rating(user, item));
        }
        let true_click = |items: &[u32]| items.iter().map(|&item| truth.click(user, item)).sum::<f64>();
        value += true_click(&top_k(&scores[0], 10, &[]));
        popular_value += true_click(&popular_top);
    }
    let click = spearman(&predicted, &clicks);
    let rating = spearman(&stars, &ratings);
    let by_popularity = spearman(&popular, &clicks);
    println!(
        "click {click:.3}, rating {rating:.3}, popularity {by_popularity:.3}; top 10 {value:.1} against {popular_value:.1}"
    );
    assert!(click > 0.28 && click > by_popularity + 0.02, "{click} against {by_popularity}");
    assert!(rating > 0.5, "{rating}");
    assert!(value > 1.1 * popular_value, "{value} against {popular_value}");
}
