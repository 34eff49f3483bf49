use super::*;

fn refused(all: Vec<Objective>) -> String {
    Objectives::new(all).unwrap_err().to_string()
}

fn click() -> Objective {
    Objective::new("click", Kind::Binary, "click")
}

#[test]
fn reads_from_configuration() {
    let text = r#"[{"name": "click", "kind": "binary", "column": "clicked"},
        {"name": "conversion", "kind": "conditional", "column": "bought", "given": "click", "weight": 2},
        {"name": "dwell", "kind": "log-regression", "column": "dwell_seconds"}]"#;
    let set: Objectives = serde_json::from_str(text).unwrap();
    assert_eq!(set.names().collect::<Vec<_>>(), ["click", "conversion", "dwell"]);
    assert_eq!((set.as_slice()[0].weight, set.as_slice()[1].weight), (1.0, 2.0));
    assert_eq!(set.as_slice()[2].kind, Kind::LogRegression);
    assert_eq!(serde_json::from_str::<Objectives>(&serde_json::to_string(&set).unwrap()).unwrap(), set);
    let unknown = r#"[{"name": "click", "kind": "binary", "column": "c", "wieght": 2}]"#;
    assert!(serde_json::from_str::<Objectives>(unknown).unwrap_err().to_string().contains("wieght"));
    let alone = r#"[{"name": "conversion", "kind": "conditional", "column": "c", "given": "click"}]"#;
    assert!(serde_json::from_str::<Objectives>(alone).unwrap_err().to_string().contains("click"));
}

#[test]
fn wrong_sets_are_refused_with_the_way_out() {
    assert!(refused(vec![]).contains("at least one"));
    assert!(refused(vec![click(), click()]).contains("two objectives are named \"click\""));
    assert!(refused(vec![Objective::new("a.b", Kind::Binary, "x")]).contains("letters, digits"));
    assert!(refused(vec![click().weight(-1.0)]).contains("weight -1"));
    assert!(refused(vec![click().weight(f64::NAN)]).contains("NaN"));
    let conversion = || Objective::new("conversion", Kind::Conditional, "conversion");
    assert!(refused(vec![click(), conversion()]).contains("needs `given`"));
    assert!(refused(vec![click(), conversion().given("clik")]).contains("there are click"));
    assert!(refused(vec![conversion().given("conversion")]).contains("in a circle (conversion -> conversion)"));
    let ranking = Objective::new("click", Kind::Ranking, "click");
    assert!(refused(vec![ranking, conversion().given("click")]).contains("conditional objective (there is none)"));
    assert!(refused(vec![click().given("click")]).contains("remove it"));
}

#[test]
fn a_missing_column_is_named_with_those_that_exist() {
    let set = Objectives::new(vec![click(), Objective::new("dwell", Kind::LogRegression, "dwell_seconds")]).unwrap();
    let error = set.check_columns(&["click", "rating"]).unwrap_err().to_string();
    assert!(error.contains("\"dwell_seconds\"") && error.contains("click, rating"), "{error}");
    set.check_columns(&["dwell_seconds", "click"]).unwrap();
}

#[test]
fn a_subset_keeps_the_order_and_needs_its_conditions() {
    let conversion = Objective::new("conversion", Kind::Conditional, "conversion").given("click");
    let set = Objectives::new(vec![click(), conversion, Objective::new("rating", Kind::Regression, "rating")]).unwrap();
    assert_eq!(set.select(&["rating", "click"]).unwrap().names().collect::<Vec<_>>(), ["click", "rating"]);
    assert!(set.select(&["ratings"]).unwrap_err().to_string().contains("click, conversion, rating"));
    assert!(set.select(&["conversion"]).is_err());
}

#[test]
fn goals_of_lists_name_what_they_are_about() {
    let text = r#"[{"name": "click", "kind": "binary", "column": "click"},
        {"name": "liked", "kind": "ranking", "column": "like"},
        {"name": "variety", "kind": "list", "weight": 0.3, "goal": {"name": "diversity"}},
        {"name": "fair", "kind": "list", "goal": {"name": "exposure", "groups": "category", "target": "equal", "of": "click"}}]"#;
    let set: Objectives = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_str::<Objectives>(&serde_json::to_string(&set).unwrap()).unwrap(), set);
    let about: Vec<Option<usize>> = (0..5).map(|k| set.shaped_by(k)).collect();
    assert_eq!(about, [None, None, Some(1), Some(0), None]);
    assert!(set.check_columns(&["click", "like"]).is_ok());
    assert!(set.select(&["click", "variety"]).is_ok(), "another ranking will do");
    assert!(set.select(&["liked", "fair"]).unwrap_err().to_string().contains("must be an objective that ranks: liked"));
    assert!(set.select(&["variety"]).unwrap_err().to_string().contains("add a ranking"));
}

#[test]
fn goals_of_lists_that_make_no_sense_are_refused() {
    let with = |objective| refused(vec![click(), objective]);
    let goal = ListGoal::new(crate::Goal::Diversity);
    let list = |goal: ListGoal| Objective::list("variety", goal);
    assert!(with(Objective { goal: None, ..list(goal.clone()) }).contains("needs a goal"));
    assert!(with(Objective { column: "click".into(), ..list(goal.clone()) }).contains("leave `column` out"));
    let flagged = Objective { goal: Some(goal.clone()), ..Objective::new("like", Kind::Binary, "like") };
    assert!(with(flagged).contains("kind = \"list\" only"));
    assert!(with(Objective::new("like", Kind::Binary, "")).contains("`column` is missing"));
    assert!(with(list(ListGoal { temperature: 0.0, ..goal.clone() })).contains("goal.temperature = 0"));
    assert!(with(list(ListGoal { candidates: 1, ..goal.clone() })).contains("goal.candidates = 1"));
    assert!(with(list(ListGoal { groups: crate::Groups::Category, ..goal.clone() })).contains("exposure"));
    assert!(with(Objective { column: "click".into(), ..Objective::cost("width") }).contains("leave `column` out"));
    assert!(refused(vec![Objective::cost("width")]).contains("add an objective with labels"));
    assert!(refused(vec![click(), Objective::cost("a"), Objective::cost("b")]).contains("one width"));
    assert!(with(list(goal.clone()).given("click")).contains("remove it"));
    // What belongs to a tower is not passed over.
    for plain in [list(goal.clone()), Objective::cost("width")] {
        assert!(with(plain.clone().tower(TowerShape::default())).contains("remove `tower`"));
        assert!(with(plain.clone().less()).contains("direction = \"less\""));
        assert!(with(plain.clone().distill(crate::Distill::new("teacher"))).contains("remove `distill`"));
        let semi = crate::Semi::Consistency { weight: 1.0, from_epoch: 0 };
        assert!(with(plain.clone().semi(semi)).contains("with a tower"));
        let debias = crate::Debias::new(crate::DebiasMethod::Snips, crate::Propensity::Model);
        assert!(with(plain.debias(debias)).contains("with a tower"));
    }
    assert!(with(Objective { smoothing: 0.1, ..list(goal) }).contains("for flags"));
}

#[test]
fn chains_end_and_ways_share_their_condition() {
    let conditional = |name: &str, given: &str| Objective::new(name, Kind::Conditional, name).given(given);
    let set = |more: Vec<Objective>| Objectives::new([vec![click()], more].concat());
    assert!(set(vec![conditional("buy", "cart"), conditional("cart", "click")]).is_ok());
    assert!(set(vec![conditional("buy", "click").through("cart"), conditional("cart", "click")]).is_ok());
    let refused = |more: Vec<Objective>| set(more).unwrap_err().to_string();
    let circle = refused(vec![conditional("a", "b"), conditional("b", "c"), conditional("c", "a")]);
    assert!(circle.contains("\"a\"") && circle.contains("in a circle (a -> b -> c -> a)"), "{circle}");
    let ways = refused(vec![conditional("a", "click").through("b"), conditional("b", "click").through("a")]);
    assert!(ways.contains("in a circle (a -> b -> a)"), "{ways}");
    let elsewhere = refused(vec![
        conditional("cart", "click"),
        conditional("buy", "cart").through("wish"),
        conditional("wish", "click"),
    ]);
    assert!(elsewhere.contains("another conditional objective given = \"cart\" (there is none)"), "{elsewhere}");
    assert!(refused(vec![conditional("buy", "click").through("buy")]).contains("there is none"));
    assert!(refused(vec![Objective::new("a", Kind::Binary, "a").through("click")]).contains("`through` belongs"));
}

#[test]
fn towers_and_directions_are_checked_and_written_only_where_they_are_said() {
    let text = r#"{"name": "returned", "kind": "binary", "column": "returned", "direction": "less",
        "tower": {"hidden": [128, 64], "dropout": 0.2}}"#;
    let objective: Objective = serde_json::from_str(text).unwrap();
    let shape = TowerShape { hidden: Some(vec![128, 64]), dropout: Some(0.2) };
    assert_eq!(objective, Objective::new("returned", Kind::Binary, "returned").less().tower(shape));
    assert_eq!(serde_json::from_str::<Objective>(&serde_json::to_string(&objective).unwrap()).unwrap(), objective);
    let plain = serde_json::to_string(&click()).unwrap();
    assert!(["through", "direction", "tower"].iter().all(|key| !plain.contains(key)), "{plain}");
    let sized = |hidden: Vec<usize>, dropout| click().tower(TowerShape { hidden: Some(hidden), dropout });
    assert!(refused(vec![sized(vec![64, 0], None)]).contains("tower.hidden = [64, 0]"));
    assert!(refused(vec![sized(vec![8; 9], None)]).contains("at most 8"));
    assert!(refused(vec![sized(vec![8], Some(1.0))]).contains("tower.dropout = 1"));
    let ranking = || Objective::new("click", Kind::Ranking, "click");
    assert!(refused(vec![ranking().tower(TowerShape::default())]).contains("have no tower"));
    assert!(refused(vec![ranking().less()]).contains("direction = \"less\""));
}
