use super::scale::Scale;
use super::*;

/// Everything that a report can hold, with hostile text in every place that takes text.
fn hostile(text: &str) -> Report {
    let point = |metrics: Vec<f64>| FrontPoint::new(text, vec![(text.into(), 0.5)], metrics);
    let front = FrontSection::measure([text, "rmse"], vec![point(vec![1.0, 2.0]), point(vec![0.5, 2.5])]).unwrap();
    let recommendation = Recommendation { title: text.into(), scores: vec![(text.into(), 0.25)], hit: true };
    Report::new(text)
        .summary(text)
        .fact(text, text)
        .note(text)
        .table(Table::new(text, [text, "model"]).compare(&[], text, &[Some(0.5)]).note(text))
        .front(front)
        .reliability(Reliability::new(text).line(text, crate::reliability(&[0.2, 0.7], &[0.0, 1.0], 4).unwrap()))
        .curve(Chart::new(text, text, text).series(Series::new(text, vec![(0.0, 1.0), (1.0, 2.0)])))
        .example(Example { user: text.into(), history: vec![text.into()], recommendations: vec![recommendation] })
        .cleaning(Table::new(text, [text]))
        .config(text)
}

#[test]
fn hostile_text_stays_text() {
    let page = hostile("<script>alert('x')</script>\" onload=\"y & {{ z }}").render().unwrap();
    for bad in ["<script", "alert('x')", "\" onload=\"", "y & "] {
        assert!(!page.contains(bad), "{bad} got through");
    }
    assert!(page.contains("&lt;script&gt;"));
    assert!(page.contains("{{ z }}"), "text is not a template");
}

#[test]
fn the_page_needs_nothing_else() {
    let page = hostile("plain").render().unwrap();
    for outside in ["http://", "https://", "src=", "<link", "@import", "url(", "<script"] {
        assert!(!page.contains(outside), "the page mentions {outside}");
    }
    for inside in ["<!doctype html>", "prefers-color-scheme: dark", "@media print", "<svg", "<title>"] {
        assert!(page.contains(inside), "the page lacks {inside}");
    }
}

/// Every element of the page is closed in the right order: what the parts put together is well-formed.
#[test]
fn the_page_is_well_formed() {
    let page = hostile("a < b").render().unwrap();
    let body = &page[page.find("<body>").unwrap()..page.find("</html>").unwrap()];
    let mut open = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_alphanumeric()).collect();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "</{tag}>");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn empty_parts_are_left_out() {
    let page = Report::new("Nothing yet").render().unwrap();
    assert!(!page.contains("<section"));
    assert!(!page.contains("<a href"));
    // A chart without one finite point has nothing to show.
    let chart = Chart::new("Empty chart", "x", "y").series(Series::new("s", vec![(0.0, f64::NAN)]));
    assert!(!Report::new("t").curve(chart).render().unwrap().contains("<path class=\"axis\""));
}

#[test]
fn a_reliability_diagram_is_square_and_sized_by_rows() {
    let bin = |predicted, observed, count| crate::ReliabilityBin { predicted, observed, count };
    let bins = vec![bin(0.1, 0.05, 90), bin(0.4, 0.2, 10)];
    let svg = Reliability::new("click").line("model", bins).svg().unwrap();
    let numbers = |name: &str| -> Vec<f64> {
        let dots = svg.split("<circle class=\"dot c0\"").skip(1);
        let value = |dot: &str| dot.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
        dots.map(|dot| value(dot).unwrap()).collect()
    };
    let (x, y, radius) = (numbers("cx"), numbers("cy"), numbers("r"));
    // From 0 to .42: a predicted .4 stands nearly at the right edge, an observed .2 about half way up.
    let place = |value: f64| value / 0.42;
    assert!((x[0] - (62.0 + place(0.1) * 322.0)).abs() < 0.06 && (x[1] - (62.0 + place(0.4) * 322.0)).abs() < 0.06);
    assert!((y[0] - (294.0 - place(0.05) * 280.0)).abs() < 0.06 && (y[1] - (294.0 - place(0.2) * 280.0)).abs() < 0.06);
    assert!((radius[0] - (2.5 + 6.5 * 0.9f64.sqrt())).abs() < 0.06 && radius[1] < radius[0]);
    assert!(svg.contains("rows: 90") && svg.contains("class=\"diagonal\""));
    assert!(Reliability::new("click").line("model", Vec::new()).svg().is_none(), "nothing to draw");
    assert!(Reliability::new("click").line("model", vec![bin(f64::NAN, 0.1, 3)]).svg().is_none());
    assert!(Reliability::new("sure").line("model", vec![bin(1.0, 1.0, 3), bin(0.0, 0.0, 3)]).svg().is_some());
}

#[test]
fn numbers_out_of_range_do_not_break_the_drawing() {
    let huge = [f64::MAX, f64::MIN, 1e-320, 0.0, f64::INFINITY, f64::NAN, -3.0];
    for (index, &a) in huge.iter().enumerate() {
        for &b in &huge[index..] {
            let chart = Chart::new("c", "x", "y").series(Series::new("s", vec![(a, b), (b, a)]));
            let points = vec![FrontPoint::new("p", vec![], vec![a, b]), FrontPoint::new("q", vec![], vec![b, a])];
            let front = FrontSection::measure(["auc", "rmse"], points).unwrap();
            let page = Report::new("t").curve(chart).front(front).render().unwrap();
            for piece in page.split(" d=\"").skip(1) {
                let path = piece.split('"').next().unwrap();
                assert!(!path.contains("NaN") && !path.contains("inf"), "{a:e} {b:e}: {path}");
            }
        }
    }
}

#[test]
fn the_front_section_finds_the_front() {
    let point = |label: &str, a: f64, b: f64| FrontPoint::new(label, vec![("click".into(), a)], vec![a, b]);
    let points = vec![point("good", 0.8, 1.0), point("cheap", 0.6, 0.5), point("bad", 0.5, 1.5)];
    let front = FrontSection::measure(["click auc", "rmse"], points).unwrap();
    assert_eq!(front.maximise, [true, false]);
    assert_eq!(front.points.iter().map(|p| p.on_front).collect::<Vec<_>>(), [true, true, false]);
    // Reference: 0.5 − 0.03 and 1.5 + 0.1; two boxes that overlap.
    let expected = (0.8 - 0.47) * 0.6 + (0.6 - 0.47) * 0.5;
    assert!((front.hypervolume - expected).abs() < 1e-12);

    let text = front.table().to_string();
    assert!(text.contains("rmse ↓") && text.contains("0.8000*") && text.contains("weight click"), "{text}");
    let page = Report::new("t").front(front).render().unwrap();
    assert!(page.contains("<strong>2 of 3</strong>"));
    assert_eq!(page.matches("<g class=\"front\">").count(), 2);
    assert_eq!(page.matches("<g class=\"behind\">").count(), 1);
    assert!(page.contains("1. good (on the front)\nweight click: 0.8000\nclick auc: 0.8000"), "tooltip");
}

#[test]
fn a_front_with_the_wrong_shape_is_an_error() {
    let points = vec![FrontPoint::new("p", vec![], vec![1.0])];
    assert!(FrontSection::measure(["a", "b"], points.clone()).is_err());
    assert!(FrontSection::measure_from(vec!["a".into()], vec![], points, vec![0.0]).is_err());
    // Fields are public: a section filled by hand is drawn as far as it goes.
    let short = FrontSection {
        metrics: vec!["a".into(), "b".into()],
        points: vec![FrontPoint::new("p", vec![], vec![1.0])],
        pairs: vec![(0, 1), (0, 7)],
        ..FrontSection::default()
    };
    assert!(Report::new("t").front(short).render().is_ok());
}

#[test]
fn the_best_is_marked_in_the_direction_of_the_metric() {
    let best = |metric: &str, values: &[Option<f64>]| -> Vec<bool> {
        let table = Table::new("", ["m"; 4]).compare(&[], metric, values);
        table.rows[0][1..].iter().map(Cell::is_best).collect()
    };
    assert_eq!(best("auc", &[Some(0.7), Some(0.6), None]), [true, false, false]);
    assert_eq!(best("dwell/rmse", &[Some(0.7), Some(0.6), None]), [false, true, false]);
    assert_eq!(best("auc", &[Some(0.7), None, Some(f64::NAN)]), [false; 3], "nothing to compare with");
    assert_eq!(best("auc", &[Some(0.700_01), Some(0.700_02)]), [true, true], "they print alike");
}

#[test]
fn terminal_tables_line_up_and_cannot_steer_the_terminal() {
    let table = Table::new("Titles\u{1b}[2J", ["title", "n"])
        .row(["茶葉".into(), Cell::count(1_234_567)])
        .row(["a\u{1b}[31m\n".into(), Cell::number(-0.5, 2)])
        .row(["short".into()])
        .row(["x".into(), Cell::number(-0.000_01, 2), "beyond".into()]);
    let text = table.to_string();
    assert!(!text.contains('\u{1b}'));
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "title           n",
            "──────  ─────────",
            "茶葉    1,234,567",
            "a [31m      −0.50",
            "short           –",
            "x            0.00",
        ]
    );
}

#[test]
fn ticks_are_round_and_inside() {
    for (low, high) in [(0.0, 1.0), (0.49, 0.77), (-3.0, 12_000.0), (1e-9, 2e-9), (5.0, 5.0), (0.0, 0.0)] {
        let scale = Scale::around([low, high].into_iter(), 0.04).unwrap();
        let ticks = scale.ticks();
        assert!((3..=8).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
        assert!(ticks.iter().all(|&tick| (-1e-9..=1.0 + 1e-9).contains(&scale.place(tick))), "{ticks:?}");
        let labels: std::collections::BTreeSet<String> = ticks.iter().map(|&tick| scale.label(tick)).collect();
        assert_eq!(labels.len(), ticks.len(), "labels repeat: {labels:?}");
    }
}

#[test]
fn long_curves_are_averaged_and_short_ones_have_dots() {
    let curve =
        |n: i32| Chart::new("c", "x", "y").series(Series::new("s", (0..n).map(|i| (f64::from(i), 1.0)).collect()));
    let long = curve(10_000).svg().unwrap();
    assert!(long.len() < 40_000, "{} bytes", long.len());
    assert!(!long.contains("class=\"dot"));
    assert_eq!(curve(9).svg().unwrap().matches("class=\"dot").count(), 9);
}

#[test]
fn reports_survive_json() {
    let report = hostile("é <b>");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let minimal: Report = serde_json::from_str(r#"{"title": "t"}"#).unwrap();
    assert_eq!(minimal, Report::new("t"));
}

#[test]
fn saving_replaces_the_file_and_says_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, "old").unwrap();
    let report = Report::new("new");
    report.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), report.render().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    let missing = folder.path().join("no-such-folder/report.html");
    let error = report.save(&missing).unwrap_err();
    assert!(matches!(error, EvalError::Write { action: "write", .. }), "{error}");
    assert!(error.to_string().contains("no-such-folder"), "{error}");
    // A folder in the way: the rename fails, and the half-made file goes.
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(report.save(folder.path().join("taken")).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
