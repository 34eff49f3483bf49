//! What a run with debiased objectives shows of its propensities, and of how positions are looked at.

use paretune_eval::PropensityReport;
use paretune_eval::report::{Cell, Table};
use paretune_objectives::{Objective, Propensity};
use paretune_recommender::Recommender;
use paretune_train::debias::PropensityModel;

use crate::job::Job;

/// Covariates shown of each objective: those that were furthest from balance.
const COVARIATES: usize = 6;

/// Tables of fitted propensities and learned examination; none for a run without either.
pub(crate) fn tables(job: &Job, model: &Recommender) -> anyhow::Result<Vec<Table>> {
    let mut tables = Vec::new();
    let fitted = job.objectives.iter().filter_map(|objective| {
        let debias = objective.debias.as_ref().filter(|debias| debias.propensity == Propensity::Model)?;
        Some((objective, debias.largest()))
    });
    let mut overview = Table::new(
        "Propensities",
        ["objective", "rows", "observed", "auc", "calibration error", "lowest", "highest", "weights cut", "effective labels"],
    )
    .note("A logistic model of which labels are missing, on the training rows. As many labels of equal weight would say about as much as the effective ones.");
    let mut balance = Table::new("Balance of what was observed", ["objective", "covariate", "before", "after"]).note(
        "Mean over observed rows less that over all, in deviations; after is by weights. Beyond 0.1 rows are unlike.",
    );
    for (objective, largest) in fitted {
        let report = report(job, objective, largest)?;
        let number = |value: Option<f64>| value.map_or(Cell::Empty, |value| Cell::number(value, 4));
        overview.rows.push(vec![
            text(&objective.name),
            Cell::count(report.rows),
            Cell::count(report.observed),
            number(report.auc),
            number(report.calibration_error),
            Cell::number(report.lowest, 4),
            Cell::number(report.highest, 4),
            Cell::number(report.clipped, 4),
            Cell::number(report.effective, 0),
        ]);
        let mut rows = report.balance;
        rows.sort_by(|a, b| b.before.abs().total_cmp(&a.before.abs()));
        for row in rows.into_iter().take(COVARIATES) {
            let numbers = [row.before, row.after].map(|value| Cell::number(value, 3));
            balance.rows.push([vec![text(&objective.name), text(&row.name)], numbers.to_vec()].concat());
        }
    }
    if !overview.rows.is_empty() {
        tables.extend([overview, balance]);
    }
    tables.extend(examination(model)?);
    Ok(tables)
}

fn report(job: &Job, objective: &Objective, largest: f64) -> anyhow::Result<PropensityReport> {
    let fitted = PropensityModel::fit(&job.corpus, objective)?;
    Ok(PropensityReport::new(fitted.probabilities(), fitted.observed(), largest, fitted.covariates())?)
}

/// How likely each position is looked at, by objective.
fn examination(model: &Recommender) -> anyhow::Result<Option<Table>> {
    let curves = model.examination()?;
    let longest = curves.iter().map(|(_, curve)| curve.len()).max().unwrap_or(0);
    if longest == 0 {
        return Ok(None);
    }
    let columns = std::iter::once("position").chain(curves.iter().map(|(name, _)| name.as_str()));
    let mut table = Table::new("Examination by position", columns)
        .note("How likely a position is looked at, relative to the first; the last stands for all beyond.");
    for at in 0..longest {
        let cells = curves.iter().map(|(_, curve)| curve.get(at).map_or(Cell::Empty, |share| Cell::number(*share, 3)));
        table.rows.push(std::iter::once(Cell::count(at + 1)).chain(cells).collect());
    }
    Ok(Some(table))
}

fn text(text: &str) -> Cell {
    Cell::Text { text: text.to_owned() }
}
