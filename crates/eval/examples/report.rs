//! Writes a report of made-up numbers, to look at: `cargo run -p paretune-eval --example report -- /tmp/report.html`.

use std::error::Error;

use paretune_eval::ReliabilityBin;
use paretune_eval::report::{
    Cell, Chart, Example, FrontPoint, FrontSection, Recommendation, Reliability, Report, Series, Table,
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "report.html".into());
    let front = front()?;
    let results = results();
    println!("{results}\n{}", front.table());
    Report::new("A marketplace, four objectives and one small BERT")
        .summary("Better than the untrained model and than popularity on all four objectives.")
        .summary("NDCG@10 0.0613 against 0.0388 for popularity: +0.0225 (95 % interval 0.0181 to 0.0268, 2,000 users).")
        .summary("Five of eight balances are worth choosing from; MGDA is one of them.")
        .fact("Data set", "embedded (simulated)")
        .fact("Model", "builtin, 3 layers, 4.2 M parameters")
        .fact("Objectives", "click, conversion, satisfaction, dwell")
        .fact("Balancing", "MGDA, gradients cut at Z")
        .fact("Steps", "1,200 of 64 samples")
        .fact("Seconds", 148)
        .fact("Seed", 7)
        .fact("Split", "by time, 80 / 10 / 10")
        .table(results)
        .table(ranking())
        .front(front)
        .reliability(reliability())
        .curve(losses())
        .curve(validation())
        .example(example("u-1042", true))
        .example(example("<script>alert('u-7')</script>", false))
        .cleaning(cleaning())
        .note("Negatives of the ranking part were sampled: 4 for each positive, by popularity to the power 0.75.")
        .note("Satisfaction is measured only where a rating was given.")
        .config("[data]\nname = \"embedded\"\n\n[train]\nseed = 7\nsteps = 1200\nbatch = 64\n\n[balance]\nmethod = \"mgda\"\ngradients = \"shared\"\n")
        .save(&path)?;
    println!("Wrote {path}");
    Ok(())
}

fn results() -> Table {
    let columns = ["objective", "metric", "model", "untrained", "popularity", "item mean", "alone"];
    Table::new("Objectives, on the test part", columns)
        .compare(&["click"], "auc", &[Some(0.7312), Some(0.5034), Some(0.6127), None, Some(0.7288)])
        .compare(&["click"], "gauc", &[Some(0.6871), Some(0.4989), Some(0.5911), None, Some(0.6902)])
        .compare(&["click"], "log_loss", &[Some(0.4211), Some(0.6946), Some(0.5102), None, Some(0.4230)])
        .compare(&["conversion"], "auc", &[Some(0.7654), Some(0.4871), Some(0.6420), None, Some(0.7401)])
        .compare(&["satisfaction"], "rmse", &[Some(0.9013), Some(1.4420), None, Some(0.9340), Some(0.8977)])
        .compare(&["dwell"], "rmse", &[Some(0.7740), Some(1.9021), None, Some(0.8115), Some(0.7752)])
        .note("“Alone” was trained on that objective only. Dwell is the logarithm of seconds.")
}

fn ranking() -> Table {
    Table::new("Ranking and lists, all items ranked", ["metric", "model", "untrained", "popularity"])
        .compare(&[], "ndcg@10", &[Some(0.0613), Some(0.0019), Some(0.0388)])
        .compare(&[], "recall@10", &[Some(0.1084), Some(0.0036), Some(0.0702)])
        .compare(&[], "coverage@10", &[Some(0.4120), Some(0.3870), Some(0.0041)])
        .compare(&[], "diversity@10", &[Some(0.5531), Some(0.3120), Some(0.6010)])
        .compare(&[], "provider_gini@10", &[Some(0.6233), Some(0.5874), Some(0.9821)])
}

fn front() -> Result<FrontSection, Box<dyn Error>> {
    let point = |label: &str, click: Option<f64>, metrics: [f64; 3]| {
        let weights = click
            .map_or_else(Vec::new, |click| vec![("click".to_owned(), click), ("satisfaction".to_owned(), 1.0 - click)]);
        FrontPoint::new(label, weights, metrics.to_vec())
    };
    let points = vec![
        point("click only", Some(1.0), [0.7321, 1.1210, 0.402]),
        point("click 0.8", Some(0.8), [0.7318, 0.9420, 0.431]),
        point("even", Some(0.5), [0.7280, 0.9120, 0.472]),
        point("click 0.2", Some(0.2), [0.7105, 0.8990, 0.511]),
        point("satisfaction only", Some(0.0), [0.5820, 0.8977, 0.498]),
        point("mgda", None, [0.7295, 0.9013, 0.490]),
        point("uncertainty", None, [0.7240, 0.9180, 0.455]),
        point("even, no warm-up", Some(0.5), [0.7150, 0.9340, 0.470]),
    ];
    Ok(FrontSection::measure(["click auc", "satisfaction rmse", "coverage@10"], points)?)
}

fn reliability() -> Reliability {
    let bins = |factor: f64| {
        let bin = |at: usize| {
            let predicted = (at as f64 + 0.5) / 15.0;
            ReliabilityBin { predicted, observed: predicted * factor, count: 4000 >> at }
        };
        (0..8).map(bin).collect()
    };
    Reliability::new("click").line("model", bins(0.7)).line("calibrated", bins(0.98))
}

fn losses() -> Chart {
    let curve = |start: f64, end: f64, wobble: f64| -> Vec<(f64, f64)> {
        (0..1200)
            .map(|step| {
                let x = f64::from(step);
                let noise = ((x * 12.9898).sin() * 43758.5453).fract() * wobble;
                (x, end + (start - end) * (-x / 220.0).exp() + noise)
            })
            .collect()
    };
    Chart::new("Loss of each objective", "step", "loss")
        .series(Series::new("click", curve(0.69, 0.42, 0.05)))
        .series(Series::new("conversion", curve(0.61, 0.19, 0.04)))
        .series(Series::new("satisfaction", curve(1.42, 0.81, 0.09)))
        .series(Series::new("dwell", curve(1.1, 0.6, 0.06)))
}

fn validation() -> Chart {
    let curve = |start: f64, end: f64| -> Vec<(f64, f64)> {
        (0..=12)
            .map(|eval| {
                let x = f64::from(eval) * 100.0;
                (x, end + (start - end) * (-x / 300.0).exp() + 0.004 * (x / 70.0).sin())
            })
            .collect()
    };
    Chart::new("Validation", "step", "AUC")
        .series(Series::new("click", curve(0.50, 0.731)))
        .series(Series::new("conversion", curve(0.49, 0.765)))
}

fn cleaning() -> Table {
    Table::new("Cleaning", ["step", "rows", "share"])
        .row(["read".into(), Cell::count(120_431), Cell::number(100.0, 2)])
        .row(["kept".into(), Cell::count(118_974), Cell::number(98.79, 2)])
        .row(["duplicate".into(), Cell::count(1_311), Cell::number(1.09, 2)])
        .row(["unknown item".into(), Cell::count(140), Cell::number(0.12, 2)])
        .row(["bad timestamp".into(), Cell::count(6), Cell::number(0.0, 2)])
        .note("Rows that were not kept are in quarantine.csv with file, line and reason.")
}

fn example(user: &str, known: bool) -> Example {
    let titles = [
        "Hand-thrown stoneware mug, speckled oat glaze, 350 ml",
        "Walnut cutting board with juice groove",
        "Linen apron & tea towel set, indigo",
        "Cast-iron skillet, pre-seasoned, 26 cm, with a very long name that no column of any reasonable width could ever hold",
        "Japanese whetstone 1000/6000 <new>",
        "Bamboo steamer, two tiers",
        "Copper measuring cups",
        "茶葉の保存缶 — tea caddy",
        "Glass pour-over coffee maker",
        "Beeswax food wraps, pack of five",
    ];
    let recommendation = |(rank, title): (usize, &&str)| {
        let x = rank as f64;
        Recommendation {
            title: (*title).to_owned(),
            scores: vec![
                ("click".into(), 0.41 - 0.023 * x),
                ("conversion".into(), 0.08 - 0.004 * x + 0.01 * (x * 2.0).sin()),
                ("satisfaction".into(), 4.4 - 0.07 * x + 0.2 * (x * 3.0).cos()),
                ("dwell".into(), 3.1 + 0.3 * x.sin()),
            ],
            hit: known && rank == 2,
        }
    };
    Example {
        user: user.to_owned(),
        history: if known { titles.iter().rev().take(6).map(|&t| t.to_owned()).collect() } else { Vec::new() },
        recommendations: titles.iter().enumerate().map(recommendation).collect(),
    }
}
