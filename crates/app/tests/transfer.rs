//! New items, new users, and other data sets, from the command line to the report.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};
use serde_json::Value;

/// Clicks as a ranking.
const CLICKS: &str = "[[objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n\n\
    [data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n\n\
    [model]\nuser = { kind = \"sasrec\", layers = 1 }\n";

/// A second shop: other items, another price column, purchases in place of clicks.
fn with_other_shop(scratch: &Scratch) {
    let titles = ["toy world", "war night", "love life", "great comedy", "horror night", "fantasy world"];
    let mut items = String::from("id,name\n");
    (0..60).for_each(|item| items.push_str(&format!("p{item},{} {}\n", titles[item % 6], titles[item / 10])));
    let mut events = String::from("who,what,when,bought,stars\n");
    for user in 0..50u32 {
        for at in 0..12u32 {
            let item = (user * 7 + at * at * 3 + at) % 60;
            events.push_str(&format!(
                "v{user},p{item},{},1,{}\n",
                1_600_000_000 + at * 90_000 + user,
                1 + (user + at) % 5
            ));
        }
    }
    scratch.write("raw/items.csv", items);
    scratch.write("raw/events.csv", events);
    scratch.write(
        "shop.toml",
        "name = \"shop\"\n[items]\nfile = { path = \"items.csv\", format = \"csv\" }\nitem_id = \"id\"\ntext.title = \"name\"\n\
         [[events]]\nfile = { path = \"events.csv\", format = \"csv\" }\nuser_id = \"who\"\nitem_id = \"what\"\ntimestamp = \"when\"\n\
         feedback.bought = \"bought\"\nfeedback.rating = \"stars\"\n\
         [finetune]\ntemplate = \"{title}\"\nengaged = \"bought\"\nsplit = { strategy = \"time\", valid = 0.2, test = 0.2 }\n\
         [[finetune.objectives]]\nname = \"purchase\"\nkind = \"binary\"\ncolumn = \"bought\"\n\
         [[finetune.objectives]]\nname = \"satisfaction\"\nkind = \"regression\"\ncolumn = \"rating\"\n",
    );
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn cold_items_are_ranked_among_themselves_or_as_is_asked() {
    let scratch = Scratch::with_data();
    scratch.write("clicks.toml", CLICKS);
    let split = "--set \"data.split={strategy='cold-items', valid=0.1, test=0.3}\"";
    let line = format!(
        "finetune --dataset data --config clicks.toml --name cold {split} --baselines popularity,random,ids {QUICK}"
    );
    let out = scratch.run(&line).ok();
    assert!(out.contains("Ranking the items unseen in training"), "{out}");
    let metrics = scratch.json("runs/cold/metrics.json");
    let ndcg = &metrics["ranking"]["ndcg@10"];
    assert!(ndcg["model"].is_number() && ndcg["ids"].is_number() && ndcg["random"].is_number(), "{ndcg}");
    assert!(ndcg["popularity"].is_null(), "nobody has met these items: {ndcg}");
    let again = json(&scratch.run("evaluate --run runs/cold --json").ok());
    assert_eq!(again["ranking"]["ndcg@10"]["model"], ndcg["model"]);
    let among_all = json(&scratch.run("evaluate --run runs/cold --json --set evaluation.candidates=all").ok());
    let all = &among_all["ranking"]["ndcg@10"];
    assert!(all["popularity"].is_number() && all["model"].as_f64() < ndcg["model"].as_f64(), "{all} and {ndcg}");
    let refused = |setting: &str, parts: &[&str]| {
        scratch.run(&format!("evaluate --run runs/cold --set {setting}")).wrong(parts);
    };
    refused("evaluation.candidates=cold", &["unknown variant `cold`", "`unseen`"]);
    refused("training.epochs=3", &["only evaluation.* and data.split.given", "training.epochs"]);
    refused("evaluation.candidates", &["KEY=VALUE"]);
}

#[test]
fn new_users_are_ranked_for_by_what_is_given() {
    let scratch = Scratch::with_data();
    scratch.write("clicks.toml", CLICKS);
    let split = "--set \"data.split={strategy='cold-users', valid=0.1, test=0.3}\"";
    let line =
        format!("finetune --dataset data --config clicks.toml --name new {split} --baselines popularity {QUICK}");
    scratch.run(&format!("{line} --set model.popularity=true")).ok();
    let given =
        |n: usize| json(&scratch.run(&format!("evaluate --run runs/new --json --set data.split.given={n}")).ok());
    let values: Vec<Value> = [0, 3].map(|n| given(n)["ranking"]["ndcg@10"]["model"].clone()).to_vec();
    assert!(values.iter().all(Value::is_number) && values[0] != values[1], "{values:?}");
    // With towers alone there is no ranking that a prior could be added to.
    let towers = format!("finetune --dataset data --baselines none --set model.popularity=true {QUICK}");
    scratch.run(&towers).wrong(&["model.popularity", "ranking"]);
}

#[test]
fn a_share_of_the_log_is_all_that_training_knows() {
    let scratch = Scratch::with_data();
    scratch.write("clicks.toml", CLICKS);
    let line = format!("finetune --dataset data --config clicks.toml --baselines popularity {QUICK}");
    let rows = |out: &str| -> Vec<usize> {
        let part = |name: &str| {
            let head = out.split(&format!(" {name}")).next().unwrap();
            head.rsplit(['(', ' ']).next().unwrap().parse().unwrap()
        };
        ["train", "valid", "test"].map(part).to_vec()
    };
    let all = rows(&scratch.run(&format!("{line} --name all")).ok());
    let tenth = rows(&scratch.run(&format!("{line} --name tenth --set data.train_share=0.1")).ok());
    assert_eq!(all[2], tenth[2]);
    assert!(tenth[0] * 5 < all[0] && tenth[1] * 5 < all[1], "{all:?} and {tenth:?}");
    let again = json(&scratch.run("evaluate --run runs/tenth --json").ok());
    assert_eq!(again["ranking"], scratch.json("runs/tenth/metrics.json")["ranking"]);
    scratch.run(&format!("{line} --set data.train_share=0")).wrong(&["above 0 and at most 1"]);
}

#[test]
fn a_model_answers_for_a_shop_that_it_has_never_seen() {
    let scratch = Scratch::with_data();
    with_other_shop(&scratch);
    scratch.write("clicks.toml", CLICKS);
    let line = format!("finetune --dataset data --config clicks.toml --baselines none {QUICK}");
    scratch.run(&format!("{line} --name first")).ok();
    let out = scratch.run("evaluate --run runs/first --dataset shop.toml --from raw").ok();
    assert!(out.contains("shop: 60 items, 50 users") && out.contains("starts from"), "{out}");
    let zero = json(&scratch.run("evaluate --run runs/first --dataset shop.toml --from raw --json").ok());
    assert!(zero["ranking"]["ndcg@10"]["model"].is_number() && zero["objectives"]["click"]["auc"]["model"].is_number());
    assert_eq!(zero, {
        let mut again = json(&scratch.run("evaluate --run runs/first --dataset shop.toml --from raw --json").ok());
        again["seconds"] = zero["seconds"].clone();
        again
    });
    // Nothing was left in the run.
    assert!(!scratch.exists("runs/first/shop") && scratch.json("runs/first/metrics.json")["dataset"] != "shop");

    // What starts from a run begins as that run's model answers.
    let ranking = "--set \"objectives=[{name='click', kind='ranking', column='bought'}]\"";
    let start = format!(
        "finetune --dataset shop.toml --from raw --start runs/first {ranking} {}",
        QUICK.replace("--model builtin", "").replace("--set evaluation.users=10", "")
    );
    scratch.run(&format!("{start} --name second --baselines untrained,popularity")).ok();
    let second = scratch.json("runs/second/metrics.json");
    assert_eq!(second["ranking"]["ndcg@10"]["untrained"], zero["ranking"]["ndcg@10"]["model"]);
    let started = scratch.json("runs/second/start.json");
    assert!(started["whole"].as_array().unwrap().iter().any(|name| name == "items.text.weight"), "{started}");
    assert!(started["fresh"].as_array().unwrap().is_empty(), "{started}");
    assert!(scratch.text("runs/second/report.html").contains("start"), "the report says what was taken");
    assert!(
        scratch.text("runs/second/config.toml").contains("kind = \"sasrec\""),
        "the model is built as the first one was"
    );

    // A run that is resumed ends with the same bytes.
    scratch.run(&format!("{start} --name third --baselines untrained,popularity")).ok();
    for file in ["metrics.json", "report.html"] {
        std::fs::remove_file(scratch.path(&format!("runs/third/{file}"))).unwrap();
    }
    std::fs::remove_dir_all(scratch.path("runs/third/model")).unwrap();
    scratch.run("finetune --name third --resume").ok();
    let model = "model/recommender.safetensors";
    assert!(scratch.bytes(&format!("runs/second/{model}")) == scratch.bytes(&format!("runs/third/{model}")));
    assert_eq!(scratch.json("runs/third/metrics.json")["ranking"], second["ranking"]);
}

#[test]
fn what_lists_are_to_be_like_and_shut_columns_go_along() {
    let scratch = Scratch::with_data();
    with_other_shop(&scratch);
    let more = "[[objectives]]\nname = \"variety\"\nkind = \"list\"\ngoal = { name = \"diversity\", of = \"click\" }\nweight = 0.5\n\n\
        [[objectives]]\nname = \"fairness\"\nkind = \"list\"\ngoal = { name = \"exposure\", groups = \"category\" }\nweight = 0.1\n\n\
        [[objectives]]\nname = \"cost\"\nkind = \"cost\"\nweight = 1.0\n\n";
    scratch.write("goals.toml", CLICKS.replace("[data]", &format!("{more}[data]")));
    let quick = QUICK.replace("--max-steps 6", "--max-steps 100");
    let settings = format!("--baselines none --set training.learning_rate=0.01 {quick}");
    scratch.run(&format!("finetune --dataset data --config goals.toml --name goals {settings}")).ok();
    let own = &scratch.json("runs/goals/metrics.json")["objectives"];
    let there = json(&scratch.run("evaluate --run runs/goals --dataset shop.toml --from raw --json").ok());
    let there = &there["objectives"];
    let told = scratch.run("evaluate --run runs/goals --dataset shop.toml --from raw").ok();
    assert!(told.contains("Left out") && told.contains("fairness"), "{told}");
    let width = own["cost"]["width"]["model"].as_f64().unwrap();
    assert!(width > 0.0 && width < 1.0, "some columns are shut: {width}");
    assert_eq!(there["cost"], own["cost"], "the model is as wide there");
    assert!(there["variety"]["diversity"]["model"].is_f64() && there.get("fairness").is_none(), "{there}");
}

#[test]
fn what_cannot_be_carried_over_is_refused() {
    let scratch = Scratch::with_data();
    with_other_shop(&scratch);
    scratch.write("clicks.toml", CLICKS);
    let line = format!("finetune --dataset data --config clicks.toml --baselines none {QUICK}");
    scratch.run(&format!("{line} --name ids --items ids")).ok();
    scratch.run(&format!("{line} --name rows --user factors")).ok();
    let shop = "--dataset shop.toml --from raw";
    scratch.run(&format!("evaluate --run runs/ids {shop}")).wrong(&["runs/ids", "ids", "items = \"text\""]);
    scratch.run(&format!("evaluate --run runs/rows {shop}")).wrong(&["users.table", "without training", "--start"]);
    scratch.run("evaluate --run runs/rows --dataset nowhere").failed(2, &["nowhere"]);
    let start = |run: &str, more: &str| scratch.run(&format!("finetune {shop} --start {run} {more}"));
    start("runs/ids", "").wrong(&["ids", "mean nothing elsewhere"]);
    start("runs/none", "").wrong(&["runs/none", "no such run"]);
    start("raw", "").wrong(&["no run directory"]);
    start("runs/rows", "--set model.source=builtin").wrong(&["two models to begin with"]);
    start("runs/rows", "--items ids --max-steps 2").wrong(&["only a model that reads texts"]);
}
