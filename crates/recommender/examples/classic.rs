//! Fits the models without gradients on a file of sequences and ranks what was left out:
//! `cargo run --release -p paretune-recommender --example classic -- sequences.txt [name=value …]`.
//!
//! A line of the file is a user and the items in order of time, as numbers from 1. The last item of a user is looked for, the last
//! but one is left out too, and every item is ranked (ties go to the lower index; nothing is masked). Names are `lambda`, `neighbours`, `shrinkage`,
//! `factors`, `als_lambda`, `alpha`, `sweeps`, and `only`, the first letter of one model's name.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use paretune_recommender::{
    ClassicError, Ease, EaseConfig, Interactions, ItemKnn, ItemKnnConfig, Mf, MfConfig, Scorer,
};
use rayon::prelude::*;

/// A user's history, newest first, and the item that was left out.
type Case = (Vec<u32>, u32);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a file of sequences")?;
    let settings: BTreeMap<String, String> =
        arguments.filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.into(), value.into()))).collect();
    let number = |name: &str, usual: f64| settings.get(name).map_or(Ok(usual), |value| value.parse::<f64>());
    let (log, cases) = read(&path)?;
    println!("{} users, {} items", log.users().len(), log.items());

    let knn = ItemKnnConfig {
        neighbours: number("neighbours", 100.0)? as usize,
        shrinkage: number("shrinkage", ItemKnnConfig::default().shrinkage)?,
    };
    let ease = EaseConfig { lambda: number("lambda", EaseConfig::default().lambda)? };
    let usual = MfConfig::default();
    let mf = MfConfig {
        factors: number("factors", usual.factors as f64)? as usize,
        lambda: number("als_lambda", usual.lambda)?,
        alpha: number("alpha", usual.alpha)?,
        sweeps: number("sweeps", usual.sweeps as f64)? as usize,
        seed: 0,
    };
    let only = settings.get("only").map(String::as_str);
    let wanted = |letter: &str| only.is_none_or(|only| only == letter);
    if wanted("i") {
        measure(|| ItemKnn::fit(&log, &knn), &cases)?;
    }
    if wanted("e") {
        measure(|| Ease::fit(&log, &ease), &cases)?;
    }
    if wanted("m") {
        measure(|| Mf::fit(&log, &mf), &cases)?;
    }
    Ok(())
}

fn read(path: &str) -> Result<(Interactions, Vec<Case>), Box<dyn Error>> {
    let (mut users, mut cases, mut items) = (Vec::new(), Vec::new(), 0);
    for line in std::fs::read_to_string(path)?.lines() {
        let numbers = line.split_whitespace().skip(1).map(|number| Ok(number.parse::<u32>()?.saturating_sub(1)));
        let mut sequence = numbers.collect::<Result<Vec<u32>, Box<dyn Error>>>()?;
        items = sequence.iter().fold(items, |most, item| most.max(*item as usize + 1));
        if sequence.len() >= 3 {
            let target = sequence.pop().ok_or("a sequence of three has a last item")?;
            let mut history = sequence.clone();
            history.reverse();
            cases.push((history, target));
            sequence.pop();
        }
        users.push(sequence);
    }
    Ok((Interactions::new(users, items)?, cases))
}

fn measure<S: Scorer>(fit: impl FnOnce() -> Result<S, ClassicError>, cases: &[Case]) -> Result<(), ClassicError> {
    let start = Instant::now();
    let model = fit()?;
    let fitted = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let ranks: Vec<usize> = cases
        .par_iter()
        .map(|(history, target)| {
            let scores = model.score(history);
            let own = scores[*target as usize];
            let (before, after) = scores.split_at(*target as usize);
            before.iter().filter(|score| **score >= own).count() + after.iter().filter(|score| **score > own).count()
        })
        .collect();
    let scored = start.elapsed().as_secs_f64();
    let mean = |value: &dyn Fn(usize) -> f64| ranks.iter().map(|rank| value(*rank)).sum::<f64>() / ranks.len() as f64;
    println!(
        "{}: recall@10 {:.4}, NDCG@10 {:.4}; fitted in {fitted:.1} s, {} users scored in {scored:.1} s",
        model.name(),
        mean(&|rank| f64::from(u8::from(rank < 10))),
        mean(&|rank| if rank < 10 { 1.0 / ((rank + 2) as f64).log2() } else { 0.0 }),
        ranks.len(),
    );
    Ok(())
}
