//! Whether a label was observed, as a function of what was known when its row was written.

use paretune_data::Part;
use paretune_objectives::Objective;
use paretune_recommender::Corpus;

use super::Logistic;
use crate::TrainError;

/// Ridge of the fit, on standardised columns: enough to keep columns that say the same apart.
const RIDGE: f64 = 1.0;

/// A logistic model of `P(label observed | user, item, moment, position)` on the training rows: behaviour features as of each row's clock, the
/// logarithm of the position, and what share of the user's last engagements had the item's category, and its provider.
///
/// What it knows nothing of (how well this user and this item fit, beyond that) it cannot correct for.
#[derive(Debug, Clone)]
pub struct PropensityModel {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    rows: Vec<u32>,
    observed: Vec<bool>,
    probabilities: Vec<f64>,
    fitted: Logistic,
}

impl PropensityModel {
    /// Fits it for an objective.
    ///
    /// # Errors
    /// Labels of which none is missing, or all are.
    pub fn fit(corpus: &Corpus, objective: &Objective) -> Result<Self, TrainError> {
        let rows = corpus.split.rows(Part::Train);
        let labels = corpus.dataset.events.feedback.get(&objective.column);
        let seen = |row: &u32| labels.is_some_and(|labels| !labels[*row as usize].is_nan());
        let observed: Vec<bool> = rows.iter().map(seen).collect();
        if observed.iter().all(|seen| *seen) || !observed.iter().any(|seen| *seen) {
            let how = if observed.first() == Some(&true) { "no" } else { "every" };
            let problem = format!(
                "propensity = \"model\" fits which labels of column `{}` are missing in training, and {how} label is: take another propensity",
                objective.column
            );
            return Err(TrainError::Debias { objective: objective.name.clone(), problem });
        }
        let (names, columns) = describe(corpus, &rows);
        let fitted = Logistic::fit(&columns, &observed, RIDGE);
        let probability = |row: usize| {
            let values: Vec<f64> = columns.iter().map(|column| column[row]).collect();
            // Never so small that its inverse is no number.
            fitted.probability(&values).max(1e-6)
        };
        let probabilities = (0..rows.len()).map(probability).collect();
        Ok(Self { names, columns, rows, observed, probabilities, fitted })
    }

    /// The rows of the log it was fitted to.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Whether each of them has a label.
    pub fn observed(&self) -> &[bool] {
        &self.observed
    }

    /// How likely that was.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// What it was told of each row, by name.
    pub fn covariates(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.names.iter().map(String::as_str).zip(self.columns.iter().map(Vec::as_slice))
    }

    /// The regression itself, over those columns.
    pub fn logistic(&self) -> &Logistic {
        &self.fitted
    }
}

/// How many of a row's user's last engagements were with items named as the row's item is; 0 without any.
fn share_of(corpus: &Corpus, row: u32, names: &[Option<String>]) -> f64 {
    let events = &corpus.dataset.events;
    let name = |row: u32| names[events.item[row as usize] as usize].as_deref();
    let Some(own) = name(row) else { return 0.0 };
    let (user, clock) = (events.user[row as usize], corpus.split.clock[row as usize]);
    let before = corpus.histories.before(user, clock, corpus.config.history, true);
    let same = before.iter().filter(|row| name(**row) == Some(own)).count();
    same as f64 / before.len().max(1) as f64
}

/// Columns that change, with their names.
fn describe(corpus: &Corpus, rows: &[u32]) -> (Vec<String>, Vec<Vec<f64>>) {
    let (events, behaviour) = (&corpus.dataset.events, &corpus.behaviour);
    let mut names: Vec<String> = behaviour.user_names().iter().map(|name| format!("user.{name}")).collect();
    names.extend(behaviour.context_names().iter().map(|name| format!("moment.{name}")));
    names.extend(behaviour.item_names().iter().map(|name| format!("item.{name}")));
    let mut columns = vec![Vec::with_capacity(rows.len()); names.len()];
    let mut values = Vec::new();
    for &row in rows {
        let clock = corpus.split.clock[row as usize];
        values.clear();
        behaviour.user(events.user[row as usize], clock, &mut values);
        behaviour.context(clock, &mut values);
        behaviour.item(events.item[row as usize], clock, &mut values);
        columns.iter_mut().zip(&values).for_each(|(column, value)| column.push(f64::from(*value)));
    }
    let items = &corpus.dataset.items;
    for (name, of) in [("category", &items.category), ("provider", &items.provider)] {
        if let Some(of) = of {
            names.push(format!("user's share of {name}"));
            columns.push(rows.iter().map(|&row| share_of(corpus, row, of)).collect());
        }
    }
    if let Some(positions) = &events.position {
        let log = |row: &u32| match positions[*row as usize] {
            0 => 0.0,
            at => f64::from(at).ln(),
        };
        names.push("log position".to_owned());
        columns.push(rows.iter().map(log).collect());
    }
    let changes = |column: &Vec<f64>| column.iter().any(|value| Some(value) != column.first());
    names.into_iter().zip(columns).filter(|(_, column)| changes(column)).unzip()
}
