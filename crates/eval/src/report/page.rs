//! Fills the page's template and writes the page.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use serde::Serialize;

use super::Report;
use super::view::{ChartView, ExampleView, FrontView, ReliabilityView, TableView};
use crate::EvalError;

pub(super) fn render(report: &Report) -> Result<String, EvalError> {
    let mut engine = Environment::new();
    engine.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    // The name's ending turns escaping on.
    engine.add_template("report.html", include_str!("report.html"))?;
    let page = engine.get_template("report.html")?;
    let view = Page {
        style: include_str!("style.css"),
        title: &report.title,
        summary: &report.summary,
        facts: &report.facts,
        notes: &report.notes,
        tables: report.tables.iter().map(TableView::new).collect(),
        front: report.front.as_ref().map(FrontView::new),
        reliability: report.reliability.iter().filter_map(ReliabilityView::new).collect(),
        curves: report.curves.iter().filter_map(ChartView::new).collect(),
        examples: report.examples.iter().map(ExampleView::new).collect(),
        cleaning: report.cleaning.iter().map(TableView::new).collect(),
        config: report.config.as_deref(),
    };
    Ok(page.render(Serde(view))?)
}

#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    title: &'a str,
    summary: &'a [String],
    facts: &'a [(String, String)],
    notes: &'a [String],
    tables: Vec<TableView>,
    front: Option<FrontView>,
    reliability: Vec<ReliabilityView>,
    curves: Vec<ChartView>,
    examples: Vec<ExampleView>,
    cleaning: Vec<TableView>,
    config: Option<&'a str>,
}

/// Writes beside the target and renames, so that a reader never sees half a page.
pub(super) fn save(path: &Path, page: &str) -> Result<(), EvalError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| EvalError::Write { action, path, source }
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.sync_all()
    });
    let done = written.map_err(failed("write")).and_then(|()| fs::rename(&beside, path).map_err(failed("replace")));
    if done.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&beside);
    }
    done
}
