//! Wrong input is answered with one line that says what to mend, and exit code 2.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use program::{Done, QUICK, Scratch};

/// Runs `finetune` on the small tables with more arguments; they must be refused.
#[track_caller]
fn refused(scratch: &Scratch, arguments: &str, parts: &[&str]) {
    let quick = if arguments.contains("--model") { QUICK.replace("--model builtin", "") } else { QUICK.into() };
    scratch.run(&format!("finetune --baselines none {quick} {arguments}")).wrong(parts);
}

/// A small raw data set without times: `events.csv`, `items.csv`, and the descriptor `shop.toml`.
fn shop(descriptor: &str) -> Scratch {
    let scratch = Scratch::empty();
    let mut events = String::from("customer,sku,bought\n");
    let mut items = String::from("sku,name\n");
    for item in 0..20 {
        items.push_str(&format!("s{item},thing number {item}\n"));
        for user in 0..10 {
            events.push_str(&format!("c{user},s{item},{}\n", (item * 7 + user) % 3 / 2));
        }
    }
    scratch.write("raw/events.csv", events);
    scratch.write("raw/items.csv", items);
    scratch.write("shop.toml", descriptor);
    scratch
}

const SHOP: &str = "\
name = \"shop\"
[items]
file = \"items.csv\"
item_id = \"sku\"
text.title = \"name\"
[[events]]
file = \"events.csv\"
user_id = \"customer\"
item_id = \"sku\"
feedback.conversion = \"bought\"
[finetune]
template = \"{title}\"
split = { strategy = \"random\", valid = 0.1, test = 0.1 }
engaged = \"conversion\"
[[finetune.objectives]]
name = \"conversion\"
kind = \"binary\"
column = \"conversion\"
";

#[test]
fn data_sets_and_columns() {
    let scratch = Scratch::with_data();
    refused(&scratch, "--dataset nosuch", &["no data set `nosuch`", "movielens-small"]);
    refused(&scratch, "--dataset steam", &["steam", "--from"]);
    let objective = "objectives=[{name=\\\"x\\\",kind=\\\"binary\\\",column=\\\"nope\\\"}]".replace("\\\"", "'");
    refused(&scratch, &format!("--dataset data --set {objective}"), &["column \"nope\"", "click, conversion"]);
    refused(&scratch, "--dataset data --set data.engaged=nope", &["\"nope\"", "click, conversion"]);
    refused(&scratch, "--dataset data --set data.template={nope}", &["{nope}", "description, title"]);
    refused(&scratch, "--dataset data --set data.template={title", &["template"]);
    scratch.write("empty/note.txt", "");
    refused(&scratch, "--dataset empty", &["empty/items.parquet"]);
}

#[test]
fn descriptors_and_raw_files() {
    let scratch = shop(SHOP);
    let run = "--dataset shop.toml --from raw";
    scratch.run(&format!("finetune --baselines none {QUICK} {run}")).ok();

    scratch.write("shop.toml", SHOP.replace("\"bought\"", "\"purchased\""));
    refused(&scratch, run, &["events.csv", "no column `purchased`", "`bought`"]);
    scratch.write("shop.toml", SHOP.replace("item_id = \"sku\"\ntext", "item = 3\ntext"));
    refused(&scratch, run, &["shop.toml, line 4", "`item`"]);
    scratch.write("shop.toml", SHOP.replace("items.csv", "goods.csv"));
    refused(&scratch, run, &["goods.csv"]);
    scratch.write("shop.toml", SHOP.replace("\"bought\"", "{ column = \"customer\", min = 0 }"));
    refused(&scratch, run, &["rows are bad", "quarantine"]);
    scratch.write("shop.toml", SHOP);
    refused(&scratch, "--dataset shop.toml --from nowhere", &["nowhere"]);
}

#[test]
fn empty_splits() {
    let scratch = shop(SHOP);
    let run = "--dataset shop.toml --from raw";
    refused(&scratch, &format!("{run} --set data.split.test=0"), &["test = 0", "above 0"]);
    refused(&scratch, &format!("{run} --set data.split={{strategy='leave-last'}}"), &["leave-last", "event times"]);
    let time = "{strategy='time',valid=0.1,test=0.1}";
    refused(&scratch, &format!("{run} --set data.split={time}"), &["time", "strategy = \"random\""]);
    // However small a share is, a part gets a row where there is one.
    scratch.run(&format!("finetune --baselines none {QUICK} {run} --set data.split.test=0.0001")).ok();
    scratch.write("raw/events.csv", "customer,sku,bought\nc1,s1,1\nc2,s2,0\n");
    refused(&scratch, run, &["part of data set \"shop\" is empty", "2 events"]);
}

#[test]
fn damaged_tables() {
    let scratch = Scratch::with_data();
    scratch.copy("data", "cut");
    scratch.truncate("cut/events.parquet");
    refused(&scratch, "--dataset cut", &["cut/events.parquet", "not a whole Parquet file"]);

    let whole = scratch.bytes("data/events.parquet");
    for (step, from) in [(7, 200), (5, 900), (3, 4), (11, 60)] {
        let mut damaged = whole.clone();
        (from..whole.len() - 8).step_by(step).for_each(|at| damaged[at] ^= 0xff);
        scratch.copy("data", "damaged");
        scratch.write("damaged/events.parquet", &damaged);
        refused(&scratch, "--dataset damaged", &["damaged/events.parquet"]);
    }
    let mut removed = whole.clone();
    removed.drain(1000..3000);
    scratch.write("damaged/events.parquet", &removed);
    refused(&scratch, "--dataset damaged", &["damaged/events.parquet"]);
}

#[test]
fn a_decoder_that_panics_is_not_seen() {
    let scratch = Scratch::with_data();
    let [items, users, events] =
        ["items", "users", "events"].map(|table| scratch.bytes(&format!("data/{table}.parquet")));
    // The decoder panics on few of all damages: look for one among those of a single byte of the footer.
    std::panic::set_hook(Box::new(|_| {}));
    let panics = |damaged: &Vec<u8>| {
        let read = paretune_data::Dataset::from_parquet("data", &items, &users, damaged);
        read.is_err_and(|error| error.to_string().contains("contradict"))
    };
    let mut damages =
        (0..events.len() - 8).rev().take(1500).flat_map(|at| [0x00, 0x7f, 0xf4].map(|value| (at, value))).map(
            |(at, value)| {
                let mut damaged = events.clone();
                damaged[at] = value;
                damaged
            },
        );
    let found = damages.find(panics);
    let _ = std::panic::take_hook();
    let Some(damaged) = found else {
        eprintln!("skipped: the decoder panics on none of these damages");
        return;
    };
    scratch.write("data/events.parquet", damaged);
    let mut command = scratch.command(&format!("finetune --dataset data {QUICK}"));
    Done::of(command.env("RUST_BACKTRACE", "1")).wrong(&["data/events.parquet", "not a whole Parquet file"]);
}

#[test]
fn model_files() {
    let scratch = Scratch::with_run();
    scratch.copy("runs/first/pretrained", "good");
    for (name, file) in
        [("untokenized", "tokenizer.json"), ("unconfigured", "config.json"), ("weightless", "model.safetensors")]
    {
        scratch.copy("good", name);
        std::fs::remove_file(scratch.path(&format!("{name}/{file}"))).unwrap();
        refused(&scratch, &format!("--dataset data --model ./{name}"), &[name, file]);
    }
    scratch.copy("good", "cut");
    scratch.truncate("cut/model.safetensors");
    refused(&scratch, "--dataset data --model ./cut", &["cut/model.safetensors", "not a complete safetensors file"]);
    scratch.copy("good", "garbled");
    scratch.truncate("garbled/tokenizer.json");
    refused(&scratch, "--dataset data --model ./garbled", &["garbled/tokenizer.json"]);
    refused(&scratch, "--dataset data --model ./nowhere", &["no model directory at ./nowhere"]);
    refused(&scratch, "--dataset data --model nowhere", &["`nowhere` is not a model"]);
    refused(&scratch, "--dataset data --model ./good --train-layers 99", &["99", "a model that has 3"]);
    refused(&scratch, "--dataset data --model ./good --set model.max_length=0", &["0 tokens"]);

    // A run whose own model was damaged.
    scratch.truncate("runs/first/model/recommender.safetensors");
    scratch.run("recommend --run runs/first --user user-00001").wrong(&["recommender.safetensors"]);
    scratch.truncate("runs/first/model/model.safetensors");
    scratch.run("evaluate --run runs/first").wrong(&["model/model.safetensors"]);
}

#[test]
fn the_hub() {
    let scratch = Scratch::with_data();
    let quick = QUICK.replace("--model builtin", "--model org/name");
    let line = format!("finetune --dataset data {quick}");
    let mut unreachable = scratch.command(&line);
    unreachable.env("HF_ENDPOINT", "http://127.0.0.1:1");
    Done::of(&mut unreachable).wrong(&["cannot reach the Hub at http://127.0.0.1:1", "org/name", "HF_ENDPOINT"]);
    scratch.run(&format!("{line} --offline")).wrong(&["org/name", "cache", "offline"]);
    Done::of(scratch.command(&line).env("HF_HUB_OFFLINE", "1")).wrong(&["org/name", "cache", "offline"]);
}

#[test]
fn settings() {
    let scratch = Scratch::with_data();
    let refused = |arguments: &str, parts: &[&str]| refused(&scratch, &format!("--dataset data {arguments}"), parts);
    refused("--objectives click,joy", &["unknown objective `joy`", "satisfaction"]);
    refused("--weights joy=1", &["unknown objective `joy`", "satisfaction"]);
    refused("--weights click=0,conversion=0", &["weight"]);
    refused("--balance magic", &["magic", "weighted-sum", "uncertainty", "mgda"]);
    refused("--gradients magic", &["magic", "shared", "full"]);
    refused("--set training.batch", &["training.batch", "KEY=VALUE"]);
    refused("--set training.batches=3", &["batches", "batch"]);
    refused("--set training.batch=many", &["many", "training.batch"]);
    refused("--set training.batch=0", &["training.batch = 0"]);
    refused("--set training.learning_rate=-1", &["learning_rate"]);
    refused("--set training.monitor.joy=1", &["joy", "click.auc"]);
    refused("--set training.optimizer=adam", &["unknown variant `adam`", "`adamw`", "`adafactor`"]);
    refused(
        "--set training.optimizer.name=sgd --set training.optimizer.beta1=0.5",
        &["unknown field `beta1`", "`momentum`"],
    );
    refused("--set training.optimizer.momentum=0.5", &["missing field", "name"]);
    refused("--set training.optimizer.name=lamb --set training.optimizer.eps=0", &["training.optimizer.eps = 0"]);
    refused("--set training.schedule=step", &["unknown variant `step`", "`one-cycle`"]);
    refused("--set training.sam.rho=-1", &["training.sam.rho = -1"]);
    refused("--set training.ema=1.5", &["training.ema"]);
    refused("--set evaluation.top=[]", &["evaluation.top"]);
    refused("--set evaluation.rank_by.joy=1", &["joy"]);
    refused("--set model.dim=7", &["model.user.heads = 4", "7"]);
    scratch.write("config.toml", "[training]\nbatch = 8\nbogus = 1\n");
    refused("--config config.toml", &["bogus", "batch"]);
    scratch.write("config.toml", "[training]\nbatch = [\n");
    refused("--config config.toml", &["config.toml, line"]);
    refused("--config nowhere.toml", &["nowhere.toml"]);
    scratch.run(&format!("front --dataset data --objectives click {QUICK}")).wrong(&["at least two objectives"]);
    // The parser's own messages have a usage line too.
    for line in ["finetune --weights click", "finetune --weights click=-1", "finetune --bogus", "recommend", "bogus"] {
        let done = scratch.run(line);
        assert!(done.code == Some(2) && done.err.starts_with("error: "), "{done:?}");
    }
}

#[test]
fn run_directories() {
    let scratch = Scratch::with_run();
    scratch
        .run(&format!("finetune --dataset data --name first {QUICK}"))
        .wrong(&["runs/first exists already", "--resume"]);
    scratch.run(&format!("finetune --dataset data --name a/b {QUICK}")).wrong(&["--name", "a/b"]);
    scratch.run("finetune --resume --name nowhere").wrong(&["runs/nowhere does not exist"]);
    scratch.run("evaluate --run data").wrong(&["data is no run directory"]);
    scratch.run("recommend --run nowhere --user x").wrong(&["nowhere is no run directory"]);
    scratch.run("recommend --user nobody").wrong(&["no user `nobody`", "user-00001"]);
    scratch.run("recommend --history item-00001,nothing").wrong(&["no item `nothing`", "item-00001"]);
    scratch.run("recommend --user user-00001 --weights joy=1").wrong(&["unknown objective `joy`", "click"]);
    scratch.run("import --dataset data --from data --out tables").wrong(&["data is a folder"]);
}

#[test]
fn a_run_that_could_not_begin_leaves_nothing_behind() {
    let scratch = Scratch::with_run();
    let list = || {
        let mut names: Vec<_> =
            std::fs::read_dir(scratch.path("runs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let latest = || std::fs::read_link(scratch.path("runs/latest")).unwrap();
    let before = (list(), latest());
    for wrong in ["--model ./nowhere", "--set training.batch=0", "--train-layers 99", "--set data.split.test=2"] {
        let quick = if wrong.contains("--model") { "" } else { QUICK };
        let line =
            format!("finetune --dataset data --name second {quick} {wrong}").replace("--set training.batch=64 ", "");
        scratch.run(&line).wrong(&[]);
        assert_eq!((list(), latest()), before, "after {wrong}");
    }
    // Bad rows stay to be looked at, and the name is free all the same.
    let shop = shop(&SHOP.replace("\"bought\"", "{ column = \"customer\", min = 0 }"));
    let line = format!("finetune --dataset shop.toml --from raw --name mine --baselines none {QUICK}");
    shop.run(&line).wrong(&["runs/mine/quarantine.tsv"]);
    assert!(shop.exists("runs/mine/quarantine.tsv") && !shop.exists("runs/latest"));
    shop.write("shop.toml", SHOP);
    shop.run(&line).ok();
}

#[test]
#[cfg(unix)]
fn a_full_disk() {
    let scratch = Scratch::with_data();
    // Files may not grow beyond so many blocks of 512 bytes: tables, then the model, then checkpoints do not fit.
    for (blocks, file) in [(8, "data/"), (200, "pretrained/model.safetensors"), (20_000, "checkpoints/")] {
        let mut shell = std::process::Command::new("sh");
        let line = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" finetune --dataset data --name full --baselines none {QUICK}"
        );
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_paretune")]);
        scratch.settle(&mut shell);
        let done = Done::of(&mut shell);
        done.failed(1, &[file, "File too large"]);
        // There is room again: the run goes on where it stopped.
        scratch.run("finetune --name full --resume").ok();
        std::fs::remove_dir_all(scratch.path("runs/full")).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_who_leaves_and_a_full_output() {
    let scratch = Scratch::empty();
    let shell = |line: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_paretune")]);
        scratch.settle(&mut shell);
        Done::of(&mut shell)
    };
    let done = shell("\"$0\" completions bash | true");
    assert!(!done.err.contains("error") && !done.err.contains("panicked"), "{done:?}");
    shell("exec \"$0\" simulate --items 60 --users 20 --out data > /dev/full")
        .failed(1, &["standard output", "No space left"]);
}

#[test]
fn conditioning_that_cannot_be_trained() {
    let scratch = Scratch::with_data();
    refused(&scratch, "--dataset data --conditioning filmy", &["filmy", "film", "hypernetwork"]);
    refused(&scratch, "--dataset data --conditioning film --balance mgda", &["mgda", "weighted-sum"]);
    refused(&scratch, "--dataset data --conditioning film --objectives click", &["film", "at least two objectives"]);
    refused(&scratch, "--dataset data --conditioning film --set training.dirichlet=0", &["training.dirichlet = 0"]);
}

#[test]
fn a_balance_for_a_model_that_has_one_only() {
    let scratch = Scratch::with_run();
    scratch.run("evaluate --weights click=1").wrong(&["takes no preference", "model.conditioning"]);
    scratch.run("evaluate --weights clicks=1").wrong(&["unknown objective `clicks`", "conversion"]);
}

#[test]
fn ways_of_tuning_that_make_no_sense() {
    let scratch = Scratch::with_data();
    for (arguments, parts) in [
        ("--tune lora --train-layers 0", ["model.train_layers = 0", "lora"]),
        ("--tune ia3 --train-layers 1", ["model.train_layers = 1", "only lora"]),
        ("--tune lora --lora-rank 0", ["rank", "at least 1"]),
        ("--tune lora --set model.lora.targets=['q_proj']", ["no linear layer", "query"]),
        ("--adapter nowhere", ["model.adapter", "model.tune"]),
        ("--tune lora --adapter nowhere", ["nowhere", "adapter_config.json"]),
        ("--tune lora --adapter nowhere --train-layers 1", ["model.adapter", "model.train_layers"]),
        ("--set training.layer_decay=0", ["layer_decay", "above 0"]),
        ("--set training.unfreeze=1.5", ["unfreeze", "share"]),
    ] {
        refused(&scratch, &format!("--dataset data {arguments}"), &parts);
    }
}
