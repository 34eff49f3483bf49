//! `embed`: the encoder's own vectors, in files that other tools read, the same bytes whatever happens on the way.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

mod program;

use std::{
    fs,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use paretune_encoder::{Encoder, LoadOptions};
use paretune_features::{ModelFiles, TextTokenizer};
use program::{Done, Scratch, root};
use serde_json::{Value, json};

/// Texts of many lengths, no two alike; every 31st is empty.
fn texts(count: usize) -> Vec<String> {
    let words = ["a mug", "hand-thrown", "blue", "of stoneware", "1998", "with an unreasonably long handle", "größer"];
    let text = |n: usize| {
        if n % 31 == 30 {
            return String::new();
        }
        let chosen = (0..1 + n % 9).map(|at| words[(n * 5 + at * at * 3) % words.len()]);
        format!("{n} {}", chosen.collect::<Vec<_>>().join(" "))
    };
    (0..count).map(text).collect()
}

fn with_texts(count: usize) -> Scratch {
    let scratch = Scratch::empty();
    scratch.write("titles.txt", texts(count).join("\n") + "\n");
    scratch
}

/// What the encoder itself gives, in little-endian bytes, and the width.
fn expected(model: &ModelFiles, texts: &[String]) -> (Vec<u8>, usize) {
    let encoder = Encoder::load(model, &LoadOptions::default()).unwrap();
    let tokens = TextTokenizer::load(model, None).unwrap().encode(texts).unwrap();
    let vectors = encoder.embed(&tokens, 8192, None).unwrap();
    (vectors.iter().flat_map(|number| number.to_le_bytes()).collect(), encoder.hidden_size())
}

fn builtin() -> ModelFiles {
    ModelFiles::local(root().join("models/builtin")).unwrap()
}

/// The header of a safetensors file, and its numbers.
fn safetensors(bytes: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).unwrap(), numbers)
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn vectors_are_the_encoders_own() {
    let scratch = with_texts(100);
    let (expected, width) = expected(&builtin(), &texts(100));
    let out = scratch.run("embed --input titles.txt --output deep/e.npy").ok();
    assert!(out.contains(&format!("100 texts, {width} numbers each")) && out.contains("3 texts are empty"), "{out}");
    let npy = scratch.bytes("deep/e.npy");
    assert!(npy.starts_with(b"\x93NUMPY\x01\x00"));
    assert!(String::from_utf8_lossy(&npy[..128]).contains(&format!("'shape': (100, {width})")));
    assert_eq!(npy[128..], expected);

    let model = root().join("models/builtin");
    scratch.run(&format!("embed --model {} --input titles.txt --output e.safetensors", model.display())).ok();
    let bytes = scratch.bytes("e.safetensors");
    let (header, found) = safetensors(&bytes);
    assert_eq!(found, expected);
    assert_eq!(header["embeddings"]["shape"], json!([100, width]));
    assert_eq!(header["__metadata__"]["arithmetic"], "f32");
    assert_eq!(header["__metadata__"]["model_hash"], builtin().hash().unwrap());

    // Nothing is left of the work.
    let names = |folder| fs::read_dir(scratch.path(folder)).unwrap().count();
    assert_eq!((names("deep"), names("")), (1, 3));
}

#[test]
fn settings_decide_the_vectors() {
    let scratch = with_texts(60);
    let (plain, width) = expected(&builtin(), &texts(60));
    let embed = |options: &str| {
        scratch.run(&format!("embed --input titles.txt --output e.npy {options}")).ok();
        scratch.bytes("e.npy")[128..].to_vec()
    };
    assert_eq!(embed("--part-texts 60"), plain);
    assert_ne!(embed("--max-length 4"), plain);
    let (plain, normalized, narrow) =
        (numbers(&plain), numbers(&embed("--normalize")), numbers(&embed("--arithmetic int8")));
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    for (row, vector) in plain.chunks_exact(width).enumerate() {
        let (normalized, narrow) = (&normalized[row * width..][..width], &narrow[row * width..][..width]);
        let length = normalized.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        assert!((length - 1.0).abs() < 1e-5 && cosine(vector, normalized) > 0.999_999, "row {row}");
        assert!(cosine(vector, narrow) > 0.99, "row {row}");
    }
    // Whatever is cut into batches or parts in another way moves by rounding only.
    for options in ["--batch-tokens 64", "--part-texts 7"] {
        let other = numbers(&embed(options));
        assert!(plain.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4), "{options}");
    }
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let fixtures = root().join("crates/encoder/fixtures/sentence");
    let stored: Value = serde_json::from_slice(&fs::read(fixtures.join("expected.json")).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(stored["texts"].clone()).unwrap();
    let scratch = Scratch::empty();
    scratch.write("texts.txt", texts.join("\n") + "\n");
    for model in ["dense", "sharded", "old"] {
        for (what, options) in [
            ("encode", "--part-texts 4"),
            ("query", "--prompt-name query"),
            ("document", "--prompt-name document --batch-tokens 16"),
            ("cut", "--dim 5 --normalize"),
        ] {
            let source = fixtures.join(model);
            let line = format!("embed --model {} --input texts.txt --output e.npy {options}", source.display());
            let expected: Vec<Vec<f32>> = serde_json::from_value(stored[model][what].clone()).unwrap();
            let said = scratch.run(&line).ok();
            assert!(said.contains(&format!("{} texts, {} numbers each", texts.len(), expected[0].len())), "{said}");
            let found = numbers(&scratch.bytes("e.npy")[128..]);
            let expected: Vec<f32> = expected.concat();
            assert_eq!(found.len(), expected.len(), "{model} {what}");
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{model} {what}: {off}");
        }
    }

    // A prompt of one's own replaces the model's default one, and is told in the file.
    let embed = |options: &str| {
        let model = fixtures.join("dense");
        scratch
            .run(&format!("embed --model {} --input texts.txt --output e.safetensors {options}", model.display()))
            .ok();
        let bytes = scratch.bytes("e.safetensors");
        (safetensors(&bytes).0["__metadata__"].clone(), bytes)
    };
    let (default, same) = (embed(""), embed("--prompt \"w23 w24 \""));
    assert_eq!(default, same);
    assert_eq!((&default.0["prompt"], &default.0["normalized"]), (&json!("w23 w24 "), &json!("true")));
    let none = embed("--prompt \"\"");
    assert!(none.0.get("prompt").is_none() && none.1 != default.1);

    let dense = fixtures.join("dense").display().to_string();
    for (options, parts) in [
        ("--prompt-name s2p", &["`s2p`", "cluster, document, passage, query"][..]),
        ("--dim 13", &["13", "12 numbers"]),
    ] {
        let line = format!("embed --model {dense} --input texts.txt --output f.npy {options}");
        scratch.run(&line).wrong(parts);
        assert!(!scratch.exists("f.npy") && !scratch.exists(".f.npy.parts"));
    }
    for options in ["--dim 0", "--prompt a --prompt-name query"] {
        let line = format!("embed --model {dense} --input texts.txt --output f.npy {options}");
        assert_eq!(scratch.run(&line).code, Some(2), "{options}");
    }
}

#[test]
fn another_prompt_does_not_go_on() {
    let scratch = with_texts(3000);
    let model = root().join("crates/encoder/fixtures/sentence/dense");
    let line = format!("embed --model {} --input titles.txt --part-texts 8 --output e.npy", model.display());
    assert!(killed(&scratch, &line, ".e.npy.parts/00000005"));
    scratch.run(&format!("{line} --prompt-name query")).ok();
    scratch.run(&format!("{line} --prompt-name query").replace("e.npy", "fresh.npy")).ok();
    assert!(scratch.bytes("e.npy") == scratch.bytes("fresh.npy"));
}

#[test]
fn a_runs_model_reads_tables_with_ids() {
    let scratch = Scratch::with_run();
    let line = "embed --model runs/first/model --input data/items.parquet --template \"{title}. {description}\" \
                --id-column item_id --part-texts 50";
    scratch.run(&format!("{line} --output e.safetensors")).ok();
    let data = paretune_data::Dataset::read(&scratch.path("data")).unwrap().items;
    let text = |item: u32| {
        let fields = ["title", "description"].map(|name| data.field(item, name));
        fields.into_iter().flatten().map(str::trim).collect::<Vec<_>>().join(". ")
    };
    let texts: Vec<String> = (0..data.len() as u32).map(text).collect();
    assert_eq!(texts.len(), 120);
    let files = ModelFiles::local(scratch.path("runs/first/model")).unwrap();
    let expected: Vec<u8> = texts.chunks(50).flat_map(|texts| expected(&files, texts).0).collect();
    let bytes = scratch.bytes("e.safetensors");
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    let (found, expected) = (numbers(safetensors(&bytes).1), numbers(&expected));
    assert!(found.len() == expected.len() && found.iter().zip(&expected).all(close));
    let ids = scratch.text("e.safetensors.ids.jsonl");
    let ids: Vec<String> = ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids, data.ids);

    // The same table as text gives the same vectors, and Parquet keeps the ids itself.
    let rows = (0..data.len()).map(|at| {
        let field = |name| data.field(at as u32, name);
        json!({"item_id": data.ids[at], "title": field("title"), "description": field("description")}).to_string()
            + "\n"
    });
    scratch.write("items.jsonl", rows.collect::<String>());
    scratch.run(&format!("{} --output f.npy", line.replace("data/items.parquet", "items.jsonl"))).ok();
    assert_eq!(scratch.bytes("f.npy")[128..], *safetensors(&bytes).1);
    scratch.run(&format!("{line} --output g.parquet")).ok();
    assert!(!scratch.exists("g.parquet.ids.jsonl"));
    // The vectors' table is itself a table with ids.
    let table = paretune_data::TextTable::open(&scratch.path("g.parquet"), &["id"], Some("id")).unwrap();
    let mut found = Vec::new();
    let all = std::num::NonZeroUsize::new(1000).unwrap();
    table
        .chunks(all, &|_| String::new(), &mut |chunk| {
            found.extend(chunk.ids);
            Ok::<_, paretune_data::DataError>(())
        })
        .unwrap();
    assert_eq!(found, data.ids);
}

/// Starts the program and kills it when a part is there; `false` if it was done before.
fn killed(scratch: &Scratch, arguments: &str, part: &str) -> bool {
    let mut command = scratch.command(arguments);
    let mut child = command.env("RAYON_NUM_THREADS", "2").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !scratch.exists(part) {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments}: {status}");
            return false;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{part} never came");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

#[test]
fn neither_kills_nor_threads_change_a_byte() {
    const TEXTS: usize = 3000;
    let scratch = with_texts(TEXTS);
    for (arithmetic, kind) in [("f32", "npy"), ("int8", "parquet")] {
        let line = |output: &str| {
            format!("embed --input titles.txt --part-texts 8 --arithmetic {arithmetic} --output {output}.{kind}")
        };
        let with_threads = |output: &str, threads: &str| {
            let done = Done::of(scratch.command(&line(output)).env("RAYON_NUM_THREADS", threads));
            let said = done.err.clone();
            done.ok();
            said
        };
        with_threads("one", "1");
        with_threads("two", "2");
        let whole = scratch.bytes(&format!("one.{kind}"));
        assert!(whole == scratch.bytes(&format!("two.{kind}")), "threads change bytes");

        let parts = format!(".cut.{kind}.parts");
        for part in ["00000003", "00000090"] {
            assert!(killed(&scratch, &line("cut"), &format!("{parts}/{part}")), "it was done too early");
            assert!(!scratch.exists(&format!("cut.{kind}")));
        }
        // As a kill in the middle of writing leaves it.
        scratch.write(&format!("{parts}/.00000200.1.partial"), "half of a p");
        scratch.write(&format!("{parts}/assembled"), "half of a file");
        let said = with_threads("cut", "1");
        assert!(said.contains("going on after ") && said.contains(&format!(" of {TEXTS} texts")), "{said}");
        assert!(whole == scratch.bytes(&format!("cut.{kind}")), "a kill changes bytes");
        assert!(!scratch.exists(&parts));
    }
}

#[test]
fn other_settings_and_other_texts_do_not_go_on() {
    let scratch = with_texts(3000);
    let line = "embed --input titles.txt --part-texts 8 --output e.npy";
    assert!(killed(&scratch, line, ".e.npy.parts/00000005"));
    let mut texts = texts(3000);
    texts[9] = "another text".into();
    scratch.write("titles.txt", texts.join("\n"));
    scratch.run(line).ok();
    scratch.run(&line.replace("e.npy", "fresh.npy")).ok();
    assert!(scratch.bytes("e.npy") == scratch.bytes("fresh.npy"));
}

#[test]
fn events_are_json_lines() {
    let scratch = with_texts(100);
    let done = scratch.run("embed --input titles.txt --output e.npy --part-texts 40 --max-length 6 --json");
    assert!(done.err.is_empty(), "{done:?}");
    let events: Vec<Value> = done.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["start", "part", "part", "part", "end"]);
    assert_eq!(
        (&events[0]["done"], &events[0]["texts"], &events[0]["arithmetic"]),
        (&json!(0), &json!(100), &json!("f32"))
    );
    let done: Vec<&Value> = events[1..4].iter().map(|event| &event["done"]).collect();
    assert_eq!(done, [&json!(40), &json!(80), &json!(100)]);
    assert!(events[1]["texts_per_second"].as_f64().unwrap() > 0.0 && events[1]["seconds_left"].as_f64().unwrap() > 0.0);
    let end = &events[4];
    assert_eq!(
        (&end["texts"], &end["empty"], &end["kept"], &end["output"]),
        (&json!(100), &json!(3), &json!(0), &json!("e.npy"))
    );
    assert!(end["cut"].as_u64().unwrap() > 0, "{end}");
}

#[test]
fn wrong_input_is_told_in_one_line_and_leaves_nothing() {
    let scratch = with_texts(5);
    scratch.write("items.csv", "sku,title\n1,A mug\n,A cup\n3,A pot,large\n");
    scratch.write("good.csv", "sku,title\n1,A mug\n");
    scratch.write("items.jsonl", "{\"title\":\"A mug\"}\n{\"title\":\n");
    scratch.write("latin.txt", b"caf\xe9\n");
    scratch.write("empty.txt", "");
    scratch.write("broken.parquet", "PAR1");
    let before = fs::read_dir(scratch.path("")).unwrap().count();
    let refuse = |arguments: &str, parts: &[&str]| {
        scratch.run(&format!("embed {arguments}")).wrong(parts);
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), before, "{arguments} leaves something");
    };
    refuse("--input titles.txt --output e.csv", &["e.csv", ".safetensors, .parquet or .npy"]);
    refuse("--input titles.docx --output e.npy", &["titles.docx", ".txt", ".parquet"]);
    refuse("--input absent.txt --output e.npy", &["absent.txt", "No such file"]);
    refuse("--input items.csv --output e.npy", &["items.csv", "line 4", "3 fields instead of 2"]);
    refuse("--input items.csv --output e.npy --id-column sku", &["items.csv", "line 3", "column `sku`"]);
    refuse("--input good.csv --output e.npy --column name", &["good.csv", "no column `name`", "`sku`, `title`"]);
    refuse("--input good.csv --output e.npy --template {title", &["never closed"]);
    refuse("--input good.csv --output e.npy --template {name}", &["no column `name`"]);
    refuse("--input items.jsonl --output e.npy", &["items.jsonl", "line 2", "JSON"]);
    refuse("--input latin.txt --output e.npy", &["latin.txt", "line 1", "UTF-8"]);
    refuse("--input empty.txt --output e.npy", &["empty.txt", "no text"]);
    refuse("--input broken.parquet --output e.npy", &["broken.parquet", "Parquet"]);
    refuse("--input titles.txt --output e.npy --id-column sku", &["titles.txt", "`sku`"]);
    refuse("--input titles.txt --output e.npy --template {title}", &["titles.txt", "--template"]);
    refuse("--input titles.txt --output e.npy --column title", &["titles.txt", "--column"]);
    refuse("--input titles.txt --output e.npy --model ./nowhere", &["nowhere"]);
    refuse("--input titles.txt --output e.npy --model no-such-model", &["no-such-model"]);
    refuse("--input titles.txt --output e.npy --max-length 100000", &["100000"]);
    scratch.run("embed --input good.csv --output ./good.parquet").ok();
    scratch
        .run("embed --input good.parquet --output ./good.parquet --column row")
        .wrong(&["good.parquet", "is the input"]);
    fs::create_dir(scratch.path("folder.npy")).unwrap();
    scratch.run("embed --input titles.txt --output folder.npy").wrong(&["folder.npy", "folder"]);
    for wrong in ["--batch-tokens 0", "--part-texts 0", "--arithmetic f16", "--column a --template {b}"] {
        let done = scratch.run(&format!("embed --input good.csv --output e.npy {wrong}"));
        assert_eq!(done.code, Some(2), "{done:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_full_disk_keeps_what_is_done() {
    let scratch = with_texts(400);
    let line = "embed --input titles.txt --part-texts 100 --output e.npy";
    scratch.run(&line.replace("e.npy", "whole.npy")).ok();
    // Parts fit, the whole file does not.
    let size = scratch.bytes("whole.npy").len();
    let mut shell = std::process::Command::new("sh");
    let blocks = size / 2 / 512;
    let model_dir = root().join("models/builtin");
    let line_with_model = format!("{line} --model {}", model_dir.display());
    shell.args([
        "-c",
        &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {line_with_model}"),
        env!("CARGO_BIN_EXE_paretune"),
    ]);
    scratch.settle(&mut shell);
    Done::of(&mut shell).failed(1, &["e.npy", "File too large"]);
    assert!(!scratch.exists("e.npy"));
    // There is room again: nothing is embedded twice.
    let out = scratch.run(&format!("{line_with_model} --json")).ok();
    let end: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&end["kept"], out.lines().count()), (&json!(400), 1));
    assert!(scratch.bytes("e.npy") == scratch.bytes("whole.npy"));
}
