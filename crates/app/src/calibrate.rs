//! Calibration of a run's model: fitted when it is trained, kept beside it, used by whatever shows its probabilities.

use std::io::ErrorKind;

use anyhow::Context;
use paretune_data::Part;
use paretune_recommender::Recommender;
use paretune_train::evaluation::{Calibration, Rows, predict};

use crate::{failure::wrong_input, job::Job, run_dir::RunDir};

/// File of the run, beside the model.
const FILE: &str = "model/calibration.json";

/// Fits what is configured on the validation part, which the model must not have been trained on.
pub(crate) fn fit(job: &Job, model: &Recommender) -> anyhow::Result<Option<Calibration>> {
    let config = &job.config;
    if config.calibration.is_none() {
        return Ok(None);
    }
    let rows = Rows::among(
        config.candidates(Part::Valid),
        &job.corpus,
        &job.objectives,
        Part::Valid,
        job.evaluation_negatives(),
        config.evaluation.rows,
        config.seed,
    )?;
    let known = model.embed(&job.corpus.tokens, None)?;
    let predictions = predict(model, &job.corpus, &known, &rows)?;
    Ok(Calibration::fit(&config.calibration, &job.corpus, &job.objectives, &rows, &predictions)?)
}

/// Keeps it with the run.
pub(crate) fn save(calibration: &Calibration, run: &RunDir) -> anyhow::Result<()> {
    run.write(FILE, serde_json::to_string_pretty(calibration)?)
}

/// That of a finished run, if it has one.
pub(crate) fn read(run: &RunDir) -> anyhow::Result<Option<Calibration>> {
    let path = run.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let wrong = |error| wrong_input(format!("{}: {error}; delete it to do without calibration", path.display()));
    Ok(Some(serde_json::from_str(&text).map_err(wrong)?))
}
