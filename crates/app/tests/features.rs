//! Features of columns from the command line to recommendations.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{QUICK, Scratch};
use serde_json::Value;

/// Features of users, items and moments, and crosses of them.
const FEATURES: &str = r#"
[data]
engaged = "click"
template = "{title}"
split = { strategy = "time", valid = 0.15, test = 0.15 }

[[objectives]]
name = "click"
kind = "ranking"
column = "click"

[[objectives]]
name = "satisfaction"
kind = "regression"
column = "rating"

[[features]]
name = "region"
kind = "category"
of = "user"
column = "region"
vocabulary = 50

[[features]]
name = "price range"
kind = "bucket"
of = "item"
column = "price"
buckets = 4

[[features]]
name = "price"
kind = "numeric"
of = "item"
column = "price"
normalise = "log"

[[features]]
name = "hour"
kind = "bucket"
of = "event-context"
column = "hour"
buckets = 4

[[features]]
name = "who buys what"
kind = "cross"
of = ["region", "price range"]
hash = 40

[[features]]
name = "lately"
kind = "recent"
column = "category"
last = 3
vocabulary = 20
"#;

fn scores(scratch: &Scratch, line: &str) -> Value {
    let out = scratch.run(&format!("recommend --json --keep-seen --top 5 {line}")).ok();
    serde_json::from_str(&out).unwrap()
}

#[test]
fn every_network_over_features_is_trained_measured_and_asked() {
    let scratch = Scratch::with_data();
    scratch.write("features.toml", FEATURES);
    for (name, settings) in [
        ("linear", ""),
        ("mlp", "--set model.features.kind=mlp --set model.features.hidden=[8]"),
        ("dcn", "--set model.features.kind=dcn --set model.features.rank=4 --set model.features.arrangement=stacked"),
    ] {
        let line = format!(
            "finetune --dataset data --config features.toml --name {name} --items ids --baselines popularity {settings} {QUICK}"
        );
        scratch.run(&line).ok();
        assert!(scratch.exists(&format!("runs/{name}/model/features.json")));
        let metrics = scratch.json(&format!("runs/{name}/metrics.json"));
        let again = scratch.run(&format!("evaluate --run runs/{name} --json")).ok();
        let again: Value = serde_json::from_str(&again).unwrap();
        for table in ["ranking", "objectives"] {
            assert_eq!(again[table], metrics[table], "{name}, {table}");
        }
        let north = scores(&scratch, &format!("--run runs/{name} --about region=north"));
        assert_eq!(north, scores(&scratch, &format!("--run runs/{name} --about region=north")));
        assert_ne!(north, scores(&scratch, &format!("--run runs/{name} --about region=south")));
        assert_ne!(north, scores(&scratch, &format!("--run runs/{name} --history item-00007")));
    }
    scratch.run("recommend --run runs/dcn --about taste=sweet").wrong(&["taste", "no feature"]);
    scratch.run("recommend --run runs/dcn --about region=north --query tea").wrong(&["reads no queries"]);
    // What is known of users stays here.
    scratch
        .run("finetune --dataset data --config features.toml --name text --baselines none --max-steps 1 --set model.max_length=4")
        .ok();
    let push = "push --run runs/text --to team/model --dry-run --out upload --license mit";
    scratch.run(&format!("{push} --with-run")).wrong(&["features.json", "--with-run"]);
    scratch.run(push).ok();
}

/// A log in raw files, of which nothing but a feature reads the brands.
fn raw_log(scratch: &Scratch, folder: &str, brand: impl Fn(u32) -> String) {
    let rows = (0..1200u32).map(|row| {
        let (user, item, at) = (row % 60, row * 7 % 40, 1_600_000_000 + row * 3_600);
        format!("u{user},i{item},{at},{}\n", (user + row / 7) % 5 + 1)
    });
    scratch.write(&format!("{folder}/events.csv"), format!("user,item,at,rating\n{}", rows.collect::<String>()));
    let items = (0..40).map(|item| format!("i{item},toy {item},{}\n", brand(item)));
    scratch.write(&format!("{folder}/items.csv"), format!("item,title,brand\n{}", items.collect::<String>()));
    scratch.write(
        "log.toml",
        "name = \"log\"\n[items]\nfile = \"items.csv\"\nitem_id = \"item\"\ntext.title = \"title\"\ntext.brand = \"brand\"\n\
         [[events]]\nfile = \"events.csv\"\nuser_id = \"user\"\nitem_id = \"item\"\ntimestamp = \"at\"\n\
         feedback.click = 1\nfeedback.rating = \"rating\"\n\
         [finetune]\ntemplate = \"{title}\"\nengaged = \"click\"\nsplit = { strategy = \"time\", valid = 0.2, test = 0.2 }\n\
         [[finetune.objectives]]\nname = \"satisfaction\"\nkind = \"regression\"\ncolumn = \"rating\"\n\
         [[finetune.features]]\nname = \"brand\"\nkind = \"category\"\nof = \"item\"\ncolumn = \"brand\"\n",
    );
}

#[test]
fn features_are_fitted_once_whatever_becomes_of_the_tables() {
    let scratch = Scratch::empty();
    raw_log(&scratch, "raw", |item| format!("brand {}", item % 4));
    raw_log(&scratch, "other", |item| format!("label {}", item % 3));
    let line = "finetune --dataset log.toml --items ids --baselines none --set model.features.kind=dcn";
    scratch.run(&format!("{line} --from raw --name first {QUICK}")).ok();
    scratch.run(&format!("{line} --from other --name second {QUICK}")).ok();
    let asked = |run: &str| scores(&scratch, &format!("--run runs/{run} --history i7,i9"));
    let before = asked("first");
    assert_ne!(before, asked("second"), "brands matter");
    let items = scratch.bytes("runs/second/data/items.parquet");
    scratch.write("runs/first/data/items.parquet", items);
    assert_eq!(asked("first"), before, "brands are as they were");
    // A model without its features is refused.
    scratch.truncate("runs/first/model/features.json");
    scratch.run("recommend --run runs/first --history i7").wrong(&["features.json"]);
    std::fs::remove_file(scratch.path("runs/first/model/features.json")).unwrap();
    scratch.run("recommend --run runs/first --history i7").wrong(&["features.json"]);
    // What a data set suggests can be left out.
    scratch.write("none.toml", "features = []\n");
    scratch.run(&format!("{line} --from raw --config none.toml --name none {QUICK}")).ok();
    assert!(!scratch.exists("runs/none/model/features.json"));
    assert!(scratch.text("runs/none/report.html").contains("of which there are none"));
}

#[test]
fn features_that_cannot_be_are_refused() {
    let scratch = Scratch::with_data();
    let line = format!("finetune --dataset data --config features.toml --items ids --baselines none {QUICK}");
    let refused = |features: &str, parts: &[&str]| {
        scratch.write("features.toml", format!("{FEATURES}\n{features}"));
        scratch.run(&line).wrong(parts);
    };
    let feature = |of: &str, column: &str| {
        format!("[[features]]\nname = \"x\"\nkind = \"category\"\nof = \"{of}\"\ncolumn = \"{column}\"\n")
    };
    refused(&feature("item", "click"), &["click", "feedback"]);
    refused(&feature("user", "regoin"), &["regoin", "region"]);
    refused("[model.features]\nkind = \"cnn\"\n", &["unknown variant `cnn`", "`dcn`"]);
    refused("[model.features]\nkind = \"dcn\"\nlayers = 0\n", &["model.features.layers = 0"]);
}
