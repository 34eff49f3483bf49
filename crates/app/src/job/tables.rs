//! The tables of a job: where they come from, and what in them is refused.

use std::path::Path;

use paretune_data::{CleaningReport, Dataset, ImportOptions, Split, import, leaks};
use paretune_eval::report::{Cell, Table};
use paretune_features::Template;
use paretune_objectives::Objectives;
use paretune_recommender::Corpus;

use crate::{config::RunConfig, embedded, failure::wrong_input};

/// A field that the items do not have would silently leave their texts shorter, or empty.
pub(super) fn check_template(template: &str, dataset: &Dataset) -> anyhow::Result<()> {
    let items = &dataset.items;
    let category = items.category.as_ref().map(|_| "category");
    let provider = items.provider.as_ref().map(|_| "provider");
    let known: Vec<&str> = items.text.keys().map(String::as_str).chain(category).chain(provider).collect();
    match Template::parse(template)?.fields().into_iter().find(|field| !known.contains(field)) {
        Some(field) => Err(wrong_input(format!(
            "data.template names `{{{field}}}`, which the items of data set \"{}\" do not have; their text fields are: {}",
            dataset.name,
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// A column that holds the label, or the future, would be learned instead of what it stands for.
pub(super) fn refuse_leaks(
    config: &RunConfig,
    dataset: &Dataset,
    split: &Split,
    objectives: &Objectives,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let columns: Vec<&str> = super::labelled(objectives).map(|objective| objective.column.as_str()).collect();
    let found = leaks::check(dataset, split, &columns, &config.leaks)?;
    let template = Template::parse(&config.data.template)?;
    leaks::refuse(&found, &config.features, &template.fields())?;
    notes.extend(found.iter().map(|leak| format!("Columns that may know too much: {leak}.")));
    Ok(())
}

/// What comes to light only in a feature: a cross, or what was met lately. Features that are fitted once more, for the last training, were
/// looked at before.
pub(super) fn refuse_leaking_features(
    config: &RunConfig,
    corpus: &Corpus,
    objectives: &Objectives,
    refit: bool,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let Some(transforms) = corpus.transforms().filter(|_| !refit) else { return Ok(()) };
    let columns: Vec<&str> = super::labelled(objectives).map(|objective| objective.column.as_str()).collect();
    let found = leaks::check_features(transforms, &corpus.dataset, &corpus.split, &columns, &config.leaks)?;
    leaks::refuse(&found, &config.features, &[])?;
    notes.extend(found.iter().map(|leak| format!("Features that may know too much: {leak}.")));
    Ok(())
}

/// Clean tables from wherever the configuration says.
pub(super) fn tables(config: &RunConfig, quarantine: &Path) -> anyhow::Result<(Dataset, Option<CleaningReport>)> {
    let name = &config.data.dataset;
    if name == embedded::DATASET && config.data.from.is_none() {
        return Ok((embedded::marketplace()?, None));
    }
    let Some(descriptor) = embedded::descriptor(name)? else {
        return Ok((Dataset::read(Path::new(name))?, None));
    };
    let Some(from) = &config.data.from else {
        return Err(wrong_input(format!(
            "data set `{name}` is read from raw files: say where they are with --from DIR"
        )));
    };
    let mut options = ImportOptions { quarantine: Some(quarantine.to_owned()), ..ImportOptions::default() };
    if let Some(share) = config.data.max_bad_share {
        options.max_bad_share = share;
    }
    let (dataset, report) = import(&descriptor, from, options)?;
    Ok((dataset, Some(report)))
}

/// The cleaning report as a table of terminal and page.
pub(crate) fn cleaning_table(report: &CleaningReport) -> Table {
    let dropped = report.files.iter().any(|file| !file.dropped.is_empty());
    let quarantine = report.quarantine.as_ref().filter(|_| dropped);
    let mut table =
        Table::new("Cleaning", ["file", "table", "read", "kept", "repeated", "merged", "dropped", "reasons"])
            .note(quarantine.map_or_else(String::new, |path| format!("Dropped rows are in {}.", path.display())));
    for file in &report.files {
        let count = |value: u64| Cell::count(value as usize);
        let reasons: Vec<String> = file.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        table = table.row([
            Cell::from(file.file.as_str()),
            Cell::from(file.table),
            count(file.read),
            count(file.kept),
            count(file.repeated),
            count(file.merged),
            count(file.dropped.values().sum()),
            Cell::from(reasons.join(", ")),
        ]);
    }
    table
}
