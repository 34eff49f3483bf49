//! Every user model, every source of items and rankings among the objectives, from the command line to recommendations.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};

/// Objectives of which the first is a ranking.
const MIXED: &str = "[[objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n\n\
    [[objectives]]\nname = \"satisfaction\"\nkind = \"regression\"\ncolumn = \"rating\"\n\n\
    [data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n";

#[test]
fn every_user_model_is_trained_measured_and_asked() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for kind in ["mean", "two-tower", "gru", "lstm", "sasrec", "bert4rec", "graph", "factors"] {
        let graph = if kind == "graph" { "--set model.graph.attributes=0.5" } else { "" };
        let line = format!(
            "finetune --dataset data --config mixed.toml --name {kind} --user {kind} --items hybrid --baselines popularity {graph} {QUICK}"
        );
        scratch.run(&line).ok();
        let metrics = scratch.json(&format!("runs/{kind}/metrics.json"));
        assert!(metrics["ranking"]["ndcg@10"]["model"].is_number(), "{kind}: {metrics}");
        let again = scratch.run(&format!("evaluate --run runs/{kind} --json")).ok();
        let again: serde_json::Value = serde_json::from_str(&again).unwrap();
        assert_eq!(again["ranking"]["ndcg@10"]["model"], metrics["ranking"]["ndcg@10"]["model"], "{kind}");
        assert_eq!(
            again["objectives"]["satisfaction"]["rmse"]["model"],
            metrics["objectives"]["satisfaction"]["rmse"]["model"]
        );
        scratch.run(&format!("recommend --run runs/{kind} --history item-00007,item-00021 --top 3")).ok();
    }
}

#[test]
fn ranking_losses_and_baselines_without_gradients_are_chosen_by_name() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for loss in ["bpr", "gbce", "softmax", "in-batch", "listnet"] {
        let line = format!(
            "finetune --dataset data --config mixed.toml --name {loss} --items ids --user sasrec --objectives click \
             --set model.ranking.name={loss} --set training.encode_every=2 --baselines none {QUICK}"
        );
        scratch.run(&line).ok();
    }
    let line = "finetune --dataset data --config mixed.toml --name classic --items ids --baselines item-knn,ease,mf";
    let out = scratch.run(&format!("{line} {QUICK}")).ok();
    assert!(
        out.contains("item knn") && out.contains("ease") && out.contains("how often training met the item"),
        "{out}"
    );
    let refused = |settings: &str, parts: &[&str]| {
        scratch
            .run(&format!("finetune --dataset data --config mixed.toml --baselines none {settings} {QUICK}"))
            .wrong(parts);
    };
    refused("--user transformer", &["unknown variant `transformer`", "`sasrec`"]);
    refused("--user graph", &["model.graph"]);
    refused("--items images", &["unknown variant `images`", "`hybrid`"]);
    refused("--set model.ranking.name=warp", &["unknown variant `warp`"]);
    refused("--set model.ranking.name=bpr --set model.ranking.temperature=0", &["model.ranking.temperature = 0"]);
}

#[test]
fn contrast_alignment_and_chunks_are_settings_of_a_run() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    let finetune = |settings: &str| {
        scratch.run(&format!("finetune --dataset data --config mixed.toml --baselines none {settings} {QUICK}"))
    };
    finetune(
        "--name both --user sasrec --items hybrid --set model.contrast.augmentations.mask=0.5 --set model.align.weight=0.2 \
         --set training.chunk=8",
    )
    .ok();
    let log = scratch.text("runs/both/metrics.jsonl");
    let steps: Vec<&str> = log.lines().filter(|line| line.contains("\"event\":\"step\"")).collect();
    // A batch in which nobody has a past has nothing to contrast.
    assert!(
        ["\"contrast\":", "\"align\":"].iter().all(|name| steps.iter().any(|step| step.contains(name))),
        "{steps:?}"
    );
    scratch.run("recommend --run runs/both --history item-00007,item-00021 --top 3").ok();
    let contrast = "--set model.contrast.weight=0.1";
    finetune(&format!("--user factors {contrast}")).wrong(&["model.contrast needs", "model.user.kind = \"factors\""]);
    finetune(&format!("--objectives satisfaction {contrast}")).wrong(&["model.contrast needs", "kind \"ranking\""]);
    finetune("--items ids --set model.align.weight=0.1").wrong(&["model.align needs", "model.items = \"ids\""]);
    finetune("--set model.contrast.augmentations.crop=0").wrong(&["model.contrast.augmentations.crop = 0"]);
}

/// A column that is the label, and one that counts what is still to come, among those that models read.
#[test]
fn columns_that_know_the_answer_are_refused() {
    let scratch = Scratch::empty();
    let mut events = String::from("user,item,time,liked\n");
    let mut items = String::from("item,title,price\n");
    let mut met = [0u32; 60];
    for user in 0..60u32 {
        for at in 0..20u32 {
            // All items alike at first, some far more often later.
            let item = if at < 10 { (user * 13 + at * 7) % 60 } else { (user * 7 + at * 11).pow(2) % 3600 / 60 };
            met[item as usize] += 1;
            events.push_str(&format!("u{user},i{item},{},{}\n", 1_600_000_000 + at * 86_400, user % 2));
        }
    }
    for (item, met) in met.iter().enumerate() {
        items.push_str(&format!("i{item},toy {item},{met}\n"));
    }
    let users: String = (0..60).map(|user| format!("u{user},{}\n", user % 2)).collect();
    scratch.write("raw/users.csv", format!("user,happy\n{users}"));
    scratch.write("raw/events.csv", &events);
    scratch.write("raw/items.csv", &items);
    let descriptor = |users: &str| {
        format!(
            "name = \"log\"\n[items]\nfile = {{ path = \"items.csv\", format = \"csv\" }}\nitem_id = \"item\"\ntext.title = \"title\"\n\
             price = \"price\"\n{users}[[events]]\nfile = {{ path = \"events.csv\", format = \"csv\" }}\nuser_id = \"user\"\nitem_id = \"item\"\n\
             timestamp = \"time\"\nfeedback.click = 1\nfeedback.liked = \"liked\"\n[finetune]\ntemplate = \"{{title}}\"\nengaged = \"click\"\n\
             split = {{ strategy = \"time\", valid = 0.2, test = 0.3 }}\n\
             [[finetune.objectives]]\nname = \"liked\"\nkind = \"binary\"\ncolumn = \"liked\"\n"
        )
    };
    let users =
        "[users]\nfile = { path = \"users.csv\", format = \"csv\" }\nuser_id = \"user\"\nnumbers.happy = \"happy\"\n";
    scratch.write("future.toml", descriptor(""));
    scratch.write("label.toml", descriptor(users));
    let line = |name: &str| format!("finetune --dataset {name}.toml --from raw --baselines none {QUICK}");
    scratch.run(&line("future")).wrong(&["price", "leaks.future.refuse"]);
    scratch.run(&format!("{} --set leaks.future.refuse=2.0", line("future"))).ok();
    scratch.run(&format!("{} --set leaks.future.refuse=2.0", line("label"))).wrong(&["happy", "liked", "leaks.same"]);
}

#[test]
fn a_model_is_trained_once_more_with_the_newest_rows() {
    let scratch = Scratch::with_data();
    let line = format!(
        "finetune --dataset data --refit --baselines untrained,popularity {QUICK} --set training.validations=8"
    );
    scratch.run(&format!("{line} --name once")).ok();
    let again: serde_json::Value = serde_json::from_str(&scratch.run("evaluate --run runs/once --json").ok()).unwrap();
    let metrics = scratch.json("runs/once/metrics.json");
    for table in ["objectives", "ranking"] {
        assert_eq!(again[table], metrics[table], "{table}");
    }
    // As long as the first training was best, on more rows, without a validation of its own.
    let log = |name: &str| -> Vec<serde_json::Value> {
        scratch.text(&format!("runs/once/{name}")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let validated: Vec<_> = log("metrics.jsonl").into_iter().filter(|event| event["event"] == "validation").collect();
    let best = validated.iter().rfind(|event| event["best"] == true).unwrap()["step"].clone();
    let second = log("refit.jsonl");
    assert!(second.iter().all(|event| event["event"] != "validation"));
    let steps = second.iter().filter(|event| event["event"] == "step").count() as i64;
    assert!((steps - best.as_i64().unwrap()).abs() <= 2, "{steps} and {best}");
    // Going on with it changes nothing.
    scratch.run(&format!("{line} --name twice")).ok();
    for file in ["metrics.json", "report.html"] {
        std::fs::remove_file(scratch.path(&format!("runs/twice/{file}"))).unwrap();
    }
    std::fs::remove_dir_all(scratch.path("runs/twice/checkpoints/refit")).unwrap();
    scratch.run("finetune --name twice --resume").ok();
    let file = "model/recommender.safetensors";
    assert!(scratch.bytes(&format!("runs/once/{file}")) == scratch.bytes(&format!("runs/twice/{file}")));
}

#[test]
fn several_runs_rank_together() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    for (name, settings) in [("a", "--seed 1"), ("b", "--seed 2"), ("c", "--seed 1 --user gru")] {
        let line =
            format!("finetune --dataset data --config mixed.toml --name {name} --baselines none {settings} {QUICK}");
        scratch.run(&line).ok();
    }
    let json = |runs: &str| -> serde_json::Value {
        serde_json::from_str(&scratch.run(&format!("ensemble --json --runs {runs}")).ok()).unwrap()
    };
    let two = json("runs/a,runs/b");
    let alone = scratch.json("runs/a/metrics.json");
    assert_eq!(two["ranking"]["a"]["ndcg@10"], alone["ranking"]["ndcg@10"]["model"]);
    for how in ["scores", "ranks", "weights"] {
        assert!(two["ranking"][how]["ndcg@10"].is_number(), "{two}");
    }
    // A model with itself is itself, however its opinions are put together.
    let same = json("runs/a,runs/a");
    for how in ["scores", "ranks", "weights"] {
        assert_eq!(same["ranking"][how], same["ranking"]["a"], "{how}");
    }
    // Other user models rank with it, but have no weights in common.
    let out = scratch.run("ensemble --runs runs/a,runs/c").ok();
    assert!(out.contains("Weights were not averaged") && !out.contains(" weights "), "{out}");
    scratch.run("ensemble --runs runs/a,runs/b --soup soup").ok();
    assert!(scratch.exists("soup/recommender.safetensors"));
    scratch.run("ensemble --runs runs/a").wrong(&["at least two runs"]);
    scratch.run("ensemble --runs runs/a,runs/nowhere").wrong(&["no run directory"]);
    scratch
        .run(&format!("finetune --dataset data --name other --baselines none --set data.split.test=0.3 {QUICK}"))
        .ok();
    scratch.run("ensemble --runs runs/a,runs/other").wrong(&["do not fit together"]);
}

/// Shoppers click what they search for: a column of queries, from a raw file to an answer.
#[test]
fn a_query_is_part_of_the_request() {
    let scratch = Scratch::empty();
    let words = ["tea", "lamp", "chair", "soap", "rope", "glass"];
    let mut events = String::from("shopper,item,time,typed\n");
    for shopper in 0..60usize {
        for at in 0..20 {
            let item = (shopper * 31 + at * at * 17 + at * 7) % 60;
            let typed = if at % 4 == 3 { "" } else { words[item % 6] };
            events.push_str(&format!("s{shopper},i{item},{},{typed}\n", 1_600_000_000 + at * 86_400));
        }
    }
    let items: String = (0..60).map(|item| format!("i{item},{} {item}\n", words[item % 6])).collect();
    scratch.write("raw/events.csv", &events);
    scratch.write("raw/items.csv", format!("item,title\n{items}"));
    scratch.write(
        "shop.toml",
        "name = \"shop\"\n[items]\nfile = { path = \"items.csv\", format = \"csv\" }\nitem_id = \"item\"\ntext.title = \"title\"\n\
         [[events]]\nfile = { path = \"events.csv\", format = \"csv\" }\nuser_id = \"shopper\"\nitem_id = \"item\"\ntimestamp = \"time\"\n\
         query = \"typed\"\nfeedback.click = 1\n[finetune]\ntemplate = \"{title}\"\nengaged = \"click\"\n\
         split = { strategy = \"time\", valid = 0.1, test = 0.1 }\n\
         [[finetune.objectives]]\nname = \"click\"\nkind = \"ranking\"\ncolumn = \"click\"\n",
    );
    let train = "--user sasrec --baselines none --model builtin --set training.batch=128 --set evaluation.users=60";
    let line = format!("finetune --dataset shop.toml --from raw {train} --epochs 12 --set training.patience=0");
    scratch.run(&format!("{line} --name search --set model.search=true")).ok();
    scratch.run(&format!("{line} --name plain --max-steps 2")).ok();
    let picks = |query: &str| -> Vec<String> {
        let out =
            scratch.run(&format!("recommend --run runs/search --json --user s3 --keep-seen --top 5 {query}")).ok();
        let picks: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
        picks.iter().map(|pick| pick["title"].as_str().unwrap().to_owned()).collect()
    };
    // A word of ten items fills a list of five.
    for word in ["lamp", "soap"] {
        let found = picks(&format!("--query {word}"));
        assert!(found.iter().filter(|title| title.starts_with(word)).count() >= 4, "{word}: {found:?}");
    }
    assert_ne!(picks(""), picks("--query rope"));
    scratch.run("recommend --run runs/plain --user s3 --query lamp").wrong(&["reads no queries", "model.search=true"]);
    scratch
        .run(&format!("{line} --name ids --items ids --set model.search=true"))
        .wrong(&["model.search", "text encoder"]);
    scratch.run("simulate --items 60 --users 30 --out data").ok();
    let line = format!("finetune --dataset data --name none --set model.search=true {QUICK}");
    scratch.run(&line).wrong(&["`query`", "model.search"]);
}

#[test]
fn what_towers_pay_and_share_is_chosen_by_name() {
    let scratch = Scratch::with_data();
    let objective = |name: &str, kind: &str, column: &str, rest: &str| {
        format!("[[objectives]]\nname = \"{name}\"\nkind = \"{kind}\"\ncolumn = \"{column}\"\n{rest}\n")
    };
    let data = "[data]\nengaged = \"click\"\ntemplate = \"{title}\"\nsplit = { strategy = \"time\", valid = 0.15, test = 0.15 }\n";
    let all = |rating: &str| {
        [
            objective("click", "binary", "click", "loss = { name = \"focal\" }\nsmoothing = 0.05"),
            objective("conversion", "conditional", "conversion", "given = \"click\"\npositive_weight = 2.0"),
            objective("satisfaction", "regression", "rating", rating),
            objective("dwell", "log-regression", "dwell_seconds", "loss = { name = \"censored\", at = 120.0 }"),
            data.to_owned(),
        ]
        .concat()
    };
    scratch.write(
        "tasks.toml",
        all("loss = { name = \"ordinal\", levels = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0] }"),
    );
    for tasks in ["omoe", "mmoe", "ple", "cross-stitch", "aitm"] {
        let line = format!(
            "finetune --dataset data --config tasks.toml --name {tasks} --tasks {tasks} --baselines none {QUICK}"
        );
        scratch.run(&line).ok();
        let metrics = scratch.json(&format!("runs/{tasks}/metrics.json"));
        let again = scratch.run(&format!("evaluate --run runs/{tasks} --json")).ok();
        let again: serde_json::Value = serde_json::from_str(&again).unwrap();
        for (objective, metric) in
            [("click", "auc"), ("conversion", "auc"), ("satisfaction", "rmse"), ("dwell", "log_rmse")]
        {
            let value = &metrics["objectives"][objective][metric]["model"];
            assert!(value.is_number(), "{tasks}: {objective}: {metrics}");
            assert_eq!(*value, again["objectives"][objective][metric]["model"], "{tasks}: {objective}");
        }
    }
    let refused = |settings: &str, parts: &[&str]| {
        let line = format!("finetune --dataset data --config tasks.toml --baselines none {settings} {QUICK}");
        scratch.run(&line).wrong(parts);
    };
    refused("--tasks moe", &["unknown variant `moe`", "`mmoe`"]);
    refused("--tasks mmoe --set model.tasks.experts=0", &["experts = 0", "at least 1"]);
    scratch.write("tasks.toml", all("loss = { name = \"ordinal\", levels = [1.0, 5.0] }"));
    refused("", &["satisfaction", "none of the levels"]);
    scratch.write("tasks.toml", all("loss = { name = \"focal\" }"));
    refused("", &["satisfaction", "kind = \"binary\""]);
}

#[test]
fn rankings_can_leave_out_the_popularity_that_they_were_trained_with() {
    let scratch = Scratch::with_data();
    scratch.write("mixed.toml", MIXED);
    let line = "finetune --dataset data --config mixed.toml --name popular --items ids --baselines none --set model.popularity=true";
    scratch.run(&format!("{line} {QUICK}")).ok();
    let measured = |settings: &str| -> serde_json::Value {
        let text = scratch.run(&format!("evaluate --run runs/popular --json {settings}")).ok();
        serde_json::from_str(&text).unwrap()
    };
    let (with, without) = (measured(""), measured("--set evaluation.popularity=false"));
    let novelty = |file: &serde_json::Value| file["list"]["novelty@10"]["model"].as_f64().unwrap();
    assert!(novelty(&without) > novelty(&with), "{} {}", novelty(&without), novelty(&with));
    assert_eq!(with["objectives"], without["objectives"]);
}
