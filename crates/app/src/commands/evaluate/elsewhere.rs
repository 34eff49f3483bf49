//! A run's model on data that it was not trained on.

use std::path::Path;

use paretune_objectives::{Goal, Objective};
use paretune_recommender::{FeatureConfig, ItemSource, Recommender, Start};

use crate::{
    cli,
    commands::finetune::stored_config,
    config::{Baseline, RunConfig},
    failure::wrong_input,
    job::Job,
    run_dir::RunDir,
};

/// The other data as the model of `run` reads it, and that model, of which nothing is trained there.
pub(super) fn prepare(
    args: &cli::Evaluate,
    dataset: &str,
    run: &RunDir,
    scratch: &Path,
) -> anyhow::Result<(Job, Recommender)> {
    let theirs = stored_config(run)?;
    let asked = cli::Job {
        dataset: Some(dataset.to_owned()),
        from: args.from.clone(),
        start: Some(run.path().to_owned()),
        device: args.run.device,
        seed: Some(theirs.seed),
        settings: args.settings.clone(),
        ..cli::Job::default()
    };
    let mut config = RunConfig::resolve(&asked)?;
    config.refit = false;
    // Nothing is known of ids there.
    if config.model.items == ItemSource::Hybrid {
        config.model.items = ItemSource::Text;
    }
    // Nor of the categories that the other data's descriptor may suggest as features.
    config.features.clear();
    config.model.features = FeatureConfig::default();
    let own = args.settings.iter().any(|setting| setting.starts_with("objectives"));
    if !own {
        config.objectives = objectives(&theirs, &config)?;
    }
    // Nothing here was trained, and there is nothing to train.
    let measured = [Baseline::Untrained, Baseline::SingleObjective, Baseline::Ids];
    config.evaluation.baselines.retain(|baseline| !measured.contains(baseline));
    let mut job = Job::prepare(config, &RunDir::scratch(scratch))?;
    let (mut model, taken) = job.begin(job.variant())?;
    if let Some(taken) = taken {
        if let Some(fresh) = taken.fresh.first() {
            return Err(wrong_input(format!(
                "the model of {} cannot answer for {dataset} without training: `{}` would be fresh ({}); train it there with \
                 `finetune --start {}`",
                run.path().display(),
                fresh.name,
                fresh.why,
                run.path().display()
            )));
        }
        job.notes.extend(taken.describe());
    }
    Start::read(&run.join("model"))?.take_scales(&mut model)?;
    let missing = |objective: &&Objective| job.objectives.names().all(|name| name != objective.name);
    let left: Vec<&str> = theirs.objectives.iter().filter(missing).map(|objective| objective.name.as_str()).collect();
    // Who says which objectives are meant knows which are not.
    if !own && !left.is_empty() {
        job.notes.push(format!("Left out, for want of a column or of groups there: {}.", left.join(", ")));
    }
    Ok((job, model))
}

/// The run's objectives on the other data's columns: that of the objective of the same name there, that of engagement for engagement,
/// or the one of the same name. What is of the model rather than of samples stays, but for exposure: there may be no such groups.
///
/// What only training reads goes, such as a teacher's column or positions.
fn objectives(theirs: &RunConfig, ours: &RunConfig) -> anyhow::Result<Vec<Objective>> {
    let column = |objective: &Objective| {
        let same = ours.objectives.iter().find(|other| other.name == objective.name);
        let engaged = (objective.column == theirs.data.engaged).then_some(&ours.data.engaged);
        let column = || ours.objectives.iter().find(|other| other.column == objective.column);
        same.map(|other| &other.column).or(engaged).or_else(|| column().map(|other| &other.column)).cloned()
    };
    let found = theirs.objectives.iter().filter_map(|objective| {
        let column = match &objective.goal {
            Some(goal) if goal.name == Goal::Exposure => return None,
            _ if objective.kind.has_labels() => column(objective)?,
            _ => String::new(),
        };
        Some(Objective { column, debias: None, distill: None, semi: None, examination: 0, ..objective.clone() })
    });
    let mut found: Vec<Objective> = found.collect();
    // What is given something that is not there goes with it, and what was given that.
    loop {
        let names: Vec<String> = found.iter().map(|objective| objective.name.clone()).collect();
        let needs = |objective: &Objective| -> Vec<String> {
            let of = objective.goal.as_ref().and_then(|goal| goal.of.as_ref());
            objective.given.iter().chain(&objective.through).chain(of).cloned().collect()
        };
        found.retain(|objective| needs(objective).iter().all(|name| names.contains(name)));
        if found.len() == names.len() {
            break;
        }
    }
    if !found.iter().any(|objective| objective.kind.has_labels()) {
        let list = |objectives: &[Objective]| {
            objectives.iter().map(|objective| objective.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        return Err(wrong_input(format!(
            "none of the run's objectives ({}) is one of {} ({}): say which column stands for which, as in \
             --set 'objectives=[{{name=\"{}\", kind=\"ranking\", column=\"{}\"}}]'",
            list(&theirs.objectives),
            ours.data.dataset,
            list(&ours.objectives),
            theirs.objectives.first().map_or("click", |objective| &objective.name),
            ours.data.engaged
        )));
    }
    Ok(found)
}
