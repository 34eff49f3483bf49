//! What the template sees: text that is ready to show, and where to show it how.

use serde::Serialize;

use super::chart::{Chart, significant};
use super::front::FrontSection;
use super::reliability::Reliability;
use super::svg::class;
use super::table::{Cell, Table};
use super::{Example, Recommendation};

#[derive(Serialize)]
pub(super) struct TableView {
    title: String,
    note: String,
    columns: Vec<ColumnView>,
    rows: Vec<Vec<CellView>>,
}

#[derive(Serialize)]
struct ColumnView {
    name: String,
    numeric: bool,
}

#[derive(Serialize)]
struct CellView {
    text: String,
    numeric: bool,
    best: bool,
}

impl TableView {
    pub(super) fn new(table: &Table) -> Self {
        let numeric: Vec<bool> = (0..table.columns.len()).map(|at| table.is_numeric(at)).collect();
        let row = |cells: &Vec<Cell>| {
            let cell = |(at, &numeric): (usize, &bool)| {
                let cell = cells.get(at).unwrap_or(&Cell::Empty);
                CellView { text: cell.text(), numeric, best: cell.is_best() }
            };
            numeric.iter().enumerate().map(cell).collect()
        };
        Self {
            title: table.title.clone(),
            note: table.note.clone(),
            columns: (table.columns.iter().zip(&numeric))
                .map(|(name, &numeric)| ColumnView { name: keep_arrow(name), numeric })
                .collect(),
            rows: table.rows.iter().map(row).collect(),
        }
    }
}

/// The arrow of a metric stays on the line of its last word.
fn keep_arrow(heading: &str) -> String {
    heading.replace(" ↑", "\u{a0}↑").replace(" ↓", "\u{a0}↓")
}

#[derive(Serialize)]
pub(super) struct ChartView {
    title: String,
    svg: String,
    legend: Vec<LegendView>,
}

#[derive(Serialize)]
struct LegendView {
    name: String,
    class: String,
    last: String,
}

impl ChartView {
    /// `None` for a chart without a point.
    pub(super) fn new(chart: &Chart) -> Option<Self> {
        let legend = (chart.series.iter().enumerate()).map(|(index, series)| {
            let last = series.points.iter().rfind(|(_, y)| y.is_finite());
            LegendView {
                name: series.name.clone(),
                class: class(index),
                last: last.map_or_else(String::new, |(_, y)| significant(*y)),
            }
        });
        Some(Self { title: chart.title.clone(), svg: chart.svg()?, legend: legend.collect() })
    }
}

#[derive(Serialize)]
pub(super) struct ReliabilityView {
    title: String,
    svg: String,
    legend: Vec<LegendView>,
}

impl ReliabilityView {
    /// `None` for a diagram without a bin.
    pub(super) fn new(diagram: &Reliability) -> Option<Self> {
        let rows = |bins: &[crate::ReliabilityBin]| bins.iter().map(|bin| bin.count).sum();
        let legend = (diagram.lines.iter().enumerate()).map(|(index, (name, bins))| LegendView {
            name: name.clone(),
            class: class(index),
            last: format!("{} rows", Cell::count(rows(bins)).text()),
        });
        Some(Self { title: diagram.title.clone(), svg: diagram.svg()?, legend: legend.collect() })
    }
}

#[derive(Serialize)]
pub(super) struct FrontView {
    plots: Vec<String>,
    table: TableView,
    points: usize,
    on_front: usize,
    hypervolume: String,
    reference: Vec<(String, String)>,
}

impl FrontView {
    pub(super) fn new(front: &FrontSection) -> Self {
        let pairs = front.drawn_pairs();
        Self {
            plots: pairs.into_iter().filter_map(|pair| front.scatter(pair)).collect(),
            table: TableView::new(&front.table()),
            points: front.points.len(),
            on_front: front.points.iter().filter(|point| point.on_front).count(),
            hypervolume: significant(front.hypervolume),
            reference: (front.metrics.iter().zip(&front.reference))
                .map(|(name, value)| (name.clone(), significant(*value)))
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ExampleView {
    user: String,
    history: Vec<String>,
    objectives: Vec<String>,
    recommendations: Vec<RecommendationView>,
}

#[derive(Serialize)]
struct RecommendationView {
    title: String,
    hit: bool,
    /// One per objective of the example; the text is a dash where the item has no such score.
    scores: Vec<ScoreView>,
}

#[derive(Serialize)]
struct ScoreView {
    text: String,
    /// Length of the bar, in percent of the list's largest score.
    percent: String,
    class: String,
}

impl ExampleView {
    pub(super) fn new(example: &Example) -> Self {
        let mut objectives: Vec<String> = Vec::new();
        for (name, _) in example.recommendations.iter().flat_map(|item| &item.scores) {
            if !objectives.contains(name) {
                objectives.push(name.clone());
            }
        }
        let largest: Vec<f64> = (objectives.iter())
            .map(|name| {
                let scores = example.recommendations.iter().filter_map(|item| score(item, name));
                scores.filter(|score| score.is_finite()).fold(0.0, f64::max)
            })
            .collect();
        let row = |item: &Recommendation| {
            let bar = |(index, name): (usize, &String)| {
                let score = score(item, name).filter(|score| score.is_finite());
                let share = score.map_or(0.0, |score| score / largest[index]);
                let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
                ScoreView {
                    text: score.map_or_else(|| "–".into(), |score| format!("{score:.3}")),
                    percent: format!("{:.1}", 100.0 * share),
                    class: class(index),
                }
            };
            let scores = objectives.iter().enumerate().map(bar).collect();
            RecommendationView { title: item.title.clone(), hit: item.hit, scores }
        };
        let recommendations = example.recommendations.iter().map(row).collect();
        Self { user: example.user.clone(), history: example.history.clone(), objectives, recommendations }
    }
}

fn score(item: &Recommendation, objective: &str) -> Option<f64> {
    item.scores.iter().find(|(name, _)| name == objective).map(|(_, score)| *score)
}
