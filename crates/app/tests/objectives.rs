//! What a configuration says about objectives, from its file to what is recommended.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};
use serde_json::Value;

/// A chain with two ways, towers of their own and a direction; the marketplace has no carts, so that quick purchases stand for them.
const CONFIG: &str = r#"
[[objectives]]
name = "click"
kind = "binary"
column = "click"

[[objectives]]
name = "cart"
kind = "conditional"
given = "click"
column = "conversion"
tower = { hidden = [], dropout = 0.0 }

[[objectives]]
name = "purchase"
kind = "conditional"
given = "click"
through = "cart"
column = "conversion"
tower = { hidden = [24, 12] }

[[objectives]]
name = "dwell"
kind = "log-regression"
column = "dwell_seconds"
direction = "less"
"#;

fn picks(scratch: &Scratch, arguments: &str) -> Vec<Value> {
    let out = scratch.run(&format!("recommend --json --user user-00003 --top 20 {arguments}")).ok();
    serde_json::from_str::<Vec<Value>>(&out).unwrap()
}

fn scores(picks: &[Value], objective: &str) -> Vec<f64> {
    picks.iter().map(|pick| pick["scores"][objective].as_f64().unwrap()).collect()
}

#[test]
fn chains_towers_and_directions_go_from_the_file_to_the_recommendations() {
    let scratch = Scratch::with_data();
    scratch.write("config.toml", CONFIG);
    let line = "finetune --dataset data --config config.toml --name first --baselines untrained";
    scratch.run(&format!("{line} --set evaluation.rank_by.dwell=1 {QUICK}")).ok();

    // Less is wanted of what ranks: from the shortest on, where the same scores would come from the longest on.
    let by = |weights: &str| picks(&scratch, &format!("--weights {weights}"));
    let dwell = scores(&by("dwell=1"), "dwell");
    assert!(dwell.is_sorted() && dwell[0] < dwell[19], "{dwell:?}");
    assert!(scores(&by("click=1"), "click").is_sorted_by(|a, b| a >= b));
    for pick in by("click=1,purchase=2") {
        let of = |objective: &str| pick["scores"][objective].as_f64().unwrap();
        assert!(of("cart") <= of("click") && of("purchase") <= of("click"), "{pick}");
    }
    let out = scratch.run("recommend --user user-00003 --weights click=1,dwell=0.5").ok();
    assert!(out.contains("Ranked by click 1, cart 0, purchase 0, less dwell 0.5"), "{out}");

    // The same model and the same log, ranked by what is wanted and by its opposite.
    let measured = |settings: &str| {
        let out = scratch.run(&format!("evaluate --json {settings}")).ok();
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let (own, turned) = (measured(""), measured("--set evaluation.rank_by.dwell=-1"));
    assert_eq!(own["ranking"], scratch.json("runs/first/metrics.json")["ranking"]);
    assert_ne!(own["list"]["popularity@10"]["model"], turned["list"]["popularity@10"]["model"], "{own:#}");
    assert_eq!(own["objectives"], turned["objectives"]);

    let saved = scratch.text("runs/first/config.toml");
    for said in ["through = \"cart\"", "direction = \"less\"", "hidden = ["] {
        assert!(saved.contains(said), "{saved}");
    }
    let wrong = |setting: &str, parts: &[&str]| {
        scratch.run(&format!("{line} --set objectives=[{setting}] {QUICK}").replace("first", "second")).wrong(parts)
    };
    let click = "{name='click',kind='ranking',column='click',direction='less'}";
    wrong(click, &["direction = \"less\"", "ranking"]);
    wrong("{name='a',kind='custom',column='click'}", &["\"a\" is of kind \"custom\"", "from Rust"]);
    wrong("{name='a',kind='binary',column='click',distill={column='teacher'}}", &["\"teacher\"", "dwell_seconds"]);
    wrong("{name='a',kind='conditional',column='click',given='a'}", &["in a circle (a -> a)"]);
}
