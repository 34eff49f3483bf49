//! What a finished run is used for: recommending, and measuring again.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeSet;

use program::{QUICK, Scratch};
use serde_json::Value;

fn picks(scratch: &Scratch, arguments: &str) -> Vec<Value> {
    let out = scratch.run(&format!("recommend --json {arguments}")).ok();
    serde_json::from_str::<Vec<Value>>(&out).unwrap()
}

fn score(pick: &Value, objective: &str) -> f64 {
    pick["scores"][objective].as_f64().unwrap_or_else(|| panic!("{pick} has no score for {objective}"))
}

fn items(picks: &[Value]) -> Vec<String> {
    picks.iter().map(|pick| pick["item"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_known_user_gets_titles_and_a_score_for_each_objective() {
    let scratch = Scratch::with_run();
    let picks = picks(&scratch, "--user user-00003 --top 7");
    assert_eq!(picks.len(), 7);
    for (place, pick) in picks.iter().enumerate() {
        assert_eq!(pick["rank"], place + 1);
        assert!(!pick["title"].as_str().unwrap().is_empty());
        for objective in ["click", "conversion"] {
            assert!((0.0..=1.0).contains(&score(pick, objective)), "{pick}");
        }
        assert!(score(pick, "satisfaction").is_finite() && score(pick, "dwell") >= 0.0);
    }
    assert_eq!(items(&picks).iter().collect::<BTreeSet<_>>().len(), 7);
    let out = scratch.run("recommend --run runs/latest --user user-00003 --top 3").ok();
    for said in ["Recommendations", "satisfaction", picks[0]["title"].as_str().unwrap(), "Ranked by click 1"] {
        assert!(out.contains(said), "`{said}` is not in {out}");
    }
}

#[test]
fn weights_choose_the_order() {
    let scratch = Scratch::with_run();
    for objective in ["click", "satisfaction", "dwell"] {
        let picks = picks(&scratch, &format!("--user user-00003 --top 20 --weights {objective}=1"));
        let scores: Vec<f64> = picks.iter().map(|pick| score(pick, objective)).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{objective}: {scores:?}");
    }
    let by = |weights: &str| items(&picks(&scratch, &format!("--user user-00003 --top 20 --weights {weights}")));
    assert_ne!(by("click=1"), by("dwell=1"));
    assert_eq!(by("click=0.5"), by("click=1"), "a common factor changes nothing");
}

#[test]
fn one_model_answers_for_every_balance() {
    for form in ["film", "hypernetwork"] {
        let scratch = Scratch::with_data();
        let line = format!("finetune --dataset data --name first --baselines untrained --conditioning {form} {QUICK}");
        scratch.run(&line).ok();
        let asked = |weights: &str| {
            let picks = picks(&scratch, &format!("--user user-00003 --keep-seen --top 120 {weights}"));
            let scores = picks.iter().map(|pick| (pick["item"].as_str().unwrap().to_owned(), score(pick, "click")));
            scores.collect::<std::collections::BTreeMap<String, f64>>()
        };
        // Not the order only: what is predicted for an item depends on what is asked for, and on nothing but its shares.
        let clicks = asked("--weights click=1");
        assert_ne!(clicks, asked("--weights click=1,conversion=3"), "{form}");
        assert_eq!(clicks, asked("--weights click=7"));
        assert_eq!(asked(""), asked("--weights click=2,conversion=2,satisfaction=2,dwell=2"));
        // Measuring asks for a balance, too; the run's own is the default.
        let evaluate = |weights: &str| {
            let out = scratch.run(&format!("evaluate --json {weights}")).ok();
            serde_json::from_str::<Value>(&out).unwrap()["objectives"].clone()
        };
        let own = evaluate("");
        assert_eq!(
            own["click"]["auc"]["model"],
            scratch.json("runs/first/metrics.json")["objectives"]["click"]["auc"]["model"]
        );
        assert_ne!(own, evaluate("--weights satisfaction=1"));
        let out = scratch.run("evaluate --weights click=1,conversion=3").ok();
        assert!(out.contains("asked for: click 0.25, conversion 0.75"), "{out}");
        scratch.run("recommend --user user-00003 --weights click=0").wrong(&["at least one objective"]);
    }
}

#[test]
fn what_was_seen_is_left_out_unless_it_is_asked_for() {
    let scratch = Scratch::with_run();
    let all = 120;
    let kept = picks(&scratch, &format!("--user user-00003 --top {all} --keep-seen"));
    let unseen = picks(&scratch, &format!("--user user-00003 --top {all}"));
    assert_eq!(kept.len(), all);
    assert!(!unseen.is_empty() && unseen.len() < all, "{}", unseen.len());
    let history = "item-00007,item-00021";
    let new = items(&picks(&scratch, &format!("--history {history} --top {all}")));
    assert_eq!(new.len(), all - 2);
    assert!(history.split(',').all(|id| !new.contains(&id.to_owned())));
    let kept = picks(&scratch, &format!("--history {history} --top {all} --keep-seen"));
    assert_eq!(kept.len(), all);
}

#[test]
fn a_new_item_stands_among_the_others_by_its_text() {
    let scratch = Scratch::with_run();
    let text = "Hand-thrown stoneware mug with a blue glaze";
    let picks = picks(&scratch, &format!("--history item-00007 --top 3 --item-text \"{text}\""));
    let new: Vec<&Value> = picks.iter().filter(|pick| pick["item"].is_null()).collect();
    assert_eq!(new.len(), 1, "{picks:?}");
    assert_eq!(new[0]["title"], text);
    assert!(score(new[0], "click").is_finite());
    assert!(new[0]["rank"].as_u64().unwrap() <= 120);
}

#[test]
fn evaluating_again_gives_the_same_numbers() {
    let scratch = Scratch::with_run();
    let again: Value = serde_json::from_str(&scratch.run("evaluate --json").ok()).unwrap();
    let first = scratch.json("runs/first/metrics.json");
    for section in ["objectives", "cold", "ranking", "list", "seed", "test_rows", "ranked_users"] {
        assert_eq!(first[section], again[section], "{section}");
    }
    let out = scratch.run("evaluate --run runs/first").ok();
    assert!(out.contains("ndcg@10") && out.contains("untrained"), "{out}");
}
