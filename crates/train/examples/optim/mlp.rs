//! The usual recommender of categorical fields.

use candle_core::{Device, Var};
use paretune_encoder::{Embedding, Linear};
use paretune_objectives::{Kind, Labels, Objective, Objectives, Scaler, TaskTowers, TowerConfig};
use paretune_optim::{Groups, Sgd, SgdConfig};
use paretune_train::{Balancer, GradientCut, step::Cuts, step::Graph};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Fallible, Options, SIZES, forms, take_turns, tell};

const FIELDS: usize = 10;
const ROWS: u32 = 20_000;
const WIDTH: usize = 32;
const WIDTHS: [usize; 4] = [FIELDS * WIDTH, 256, 128, 64];

/// As the peer's: no memory, no decay.
const PLAIN: SgdConfig = SgdConfig { momentum: 0.0, nesterov: false };

struct Mlp {
    table: Embedding,
    layers: Vec<Linear>,
    towers: TaskTowers,
    below: Vec<(String, Var)>,
    heads: Vec<(String, Var)>,
}

impl Mlp {
    fn new(objectives: &Objectives) -> Fallible<Self> {
        let device = &Device::Cpu;
        let table = Embedding::normal(ROWS as usize, WIDTH, 1.0, 1, device)?;
        let layers = WIDTHS.windows(2).zip(2..).map(|(w, seed)| Linear::new(w[0], w[1], seed, device));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let config = TowerConfig { input: WIDTHS[3], hidden: 0, dropout: 0.0, seed: 9, ..TowerConfig::default() };
        let towers = TaskTowers::new(objectives, &config, device)?;
        let mut below = table.parameters("table");
        for (number, layer) in layers.iter().enumerate() {
            below.extend(layer.parameters(&format!("layer.{number}")));
        }
        Ok(Self { heads: towers.parameters(), table, layers, towers, below })
    }

    /// One step under a balancing method.
    fn step(&self, x: &[u32], labels: &Labels, balancer: &mut Balancer, sgd: &mut Sgd) -> Fallible<()> {
        let names: Vec<&str> = self.towers.objectives().names().collect();
        let mut cuts = Cuts::default();
        let mut z = self.table.forward(x)?.reshape((x.len() / FIELDS, WIDTHS[0]))?;
        for layer in &self.layers {
            if balancer.cut() == Some(GradientCut::Full) {
                [z] = cuts.at([z])?;
            }
            z = layer.forward(&z)?.relu()?;
        }
        if balancer.cut().is_some() {
            [z] = cuts.at([z])?;
        }
        let losses = self.towers.forward(&z, None)?.losses(labels)?;
        let graph = Graph {
            names: &names,
            losses: &losses,
            cuts: &cuts,
            towers: &self.heads,
            between: &[],
            below: &self.below,
            borrows: &[],
        };
        let step = graph.balance(balancer)?;
        sgd.step(&step.gradients, 1e-3)?;
        Ok(())
    }
}

pub(crate) fn run(options: &Options) -> Fallible<()> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let x: Vec<u32> = (0..options.batch * FIELDS).map(|_| random.random_range(0..ROWS)).collect();
    for k in SIZES {
        let objectives = (0..k).map(|i| Objective::new(format!("objective-{i}"), Kind::Binary, format!("label_{i}")));
        let objectives = Objectives::new(objectives.collect())?;
        let columns: Vec<Vec<f32>> =
            (0..k).map(|_| (0..options.batch).map(|_| f32::from(random.random_range(0..2u8))).collect()).collect();
        let labels = Labels::new(&objectives, &vec![Scaler::default(); k], &columns, &Device::Cpu)?;
        let forms = forms();
        let mut parts = Vec::new();
        for form in &forms {
            let mlp = Mlp::new(&objectives)?;
            let sgd = Sgd::new(
                PLAIN,
                &Groups { weight_decay: 0.0, ..Groups::default() },
                [mlp.below.clone(), mlp.heads.clone()].concat(),
            )?;
            parts.push((mlp, Balancer::new(&form.config, &objectives, &vec![1.0; k])?, sgd));
        }
        let times = take_turns(forms.len(), options.steps * 4, |form, _| {
            let (mlp, balancer, sgd) = &mut parts[form];
            mlp.step(&x, &labels, balancer, sgd)
        })?;
        tell(options, "mlp", k, &forms, &times);
    }
    Ok(())
}
