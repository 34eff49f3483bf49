//! `embed`: texts to vectors, part by part.

use std::{cell::Cell, fs, num::NonZeroUsize, str::FromStr, time::Instant};

use paretune_data::{TextChunk, TextTable, VectorFormat, VectorParts};
use paretune_encoder::{Prompt, SentenceEncoder, SentenceOptions, device_name};
use paretune_features::{FetchOptions, ModelSource, Template};
use serde_json::json;

use crate::{cli, embedded, failure::wrong_input, meter::Meter, progress::seconds};

/// Column that holds the text where nobody says.
const COLUMN: &str = "title";
/// Folder within that of the parts, for the embedded model.
const UNPACKED: &str = "model";

pub(super) fn run(args: &cli::Embed) -> anyhow::Result<()> {
    VectorFormat::of(&args.output)?;
    if args.output.is_dir() {
        return Err(wrong_input(format!("{} is a folder: --output takes a file", args.output.display())));
    }
    if let (Ok(input), Ok(output)) = (fs::canonicalize(&args.input), fs::canonicalize(&args.output))
        && input == output
    {
        return Err(wrong_input(format!("{} is the input: give another --output", output.display())));
    }
    let wording = Wording::new(args)?;
    let table = TextTable::open(&args.input, &wording.fields(), args.id_column.as_deref())?;
    // Wrong rows are found before hours are spent on right ones.
    let texts = count(&table, args)?;
    if texts == 0 {
        return Err(wrong_input(format!("{} holds no text at all", args.input.display())));
    }
    let folder = VectorParts::folder(&args.output);
    embed(args, &table, &wording, texts).inspect_err(|_| {
        // Parts stay to go on with; without any, nothing does.
        let _ = fs::remove_dir_all(folder.join(UNPACKED));
        let _ = fs::remove_dir(&folder);
    })
}

fn count(table: &TextTable, args: &cli::Embed) -> anyhow::Result<u64> {
    let bytes = table.bytes();
    let meter = (!args.json).then(|| Meter::new("bytes checked", bytes));
    let texts = table.count(&mut |done| {
        if let Some(meter) = &meter {
            meter.set_of(done, bytes.max(done));
        }
    })?;
    if let Some(meter) = meter {
        meter.finish();
    }
    Ok(texts)
}

fn embed(args: &cli::Embed, table: &TextTable, wording: &Wording, texts: u64) -> anyhow::Result<()> {
    let model = Model::load(args)?;
    let mut parts = VectorParts::open(&args.output, &model.settings(args))?;
    let show = Show::new(args, texts);
    let (mut empty, mut kept, mut began) = (0, 0, false);
    table.chunks(args.part_texts, &|fields| wording.text(fields), &mut |chunk: TextChunk| {
        empty += chunk.texts.iter().filter(|text| text.is_empty()).count();
        if parts.keep(&chunk)? {
            kept += chunk.texts.len() as u64;
            return anyhow::Ok(());
        }
        if !began {
            began = true;
            show.start(parts.rows(), model.encoder.arithmetic().name());
        }
        let before = parts.rows();
        let tokens = model.encoder.tokenize(&chunk.texts, Prompt::Text(&model.prompt))?;
        let hears = |done: usize| show.set(before + done as u64);
        let vectors = model.encoder.embed(&tokens, args.batch_tokens.get(), Some(&hears))?;
        parts.push(&chunk, vectors.as_slice(), tokens.truncated() as u64)?;
        show.part(parts.rows());
        Ok(())
    })?;
    if parts.rows() != texts {
        return Err(wrong_input(format!(
            "{} changed while it was read: it had {texts} texts, then {}; run again",
            args.input.display(),
            parts.rows()
        )));
    }
    let (cut, width) = (parts.truncated(), parts.width());
    parts.finish(&model.metadata())?;
    show.end(&End { texts, width, empty, cut, kept }, args, &model);
    Ok(())
}

/// How a row becomes a text.
enum Wording {
    Column(String),
    Template(Template),
}

impl Wording {
    fn new(args: &cli::Embed) -> anyhow::Result<Self> {
        let asked = args.template.as_ref().map(|_| "--template").or(args.column.as_ref().map(|_| "--column"));
        if let Some(flag) = asked
            && TextTable::is_lines(&args.input)
        {
            return Err(wrong_input(format!(
                "{} has lines and no columns: {flag} needs a table (.csv, .tsv, .jsonl, .parquet)",
                args.input.display()
            )));
        }
        Ok(match &args.template {
            Some(template) => Self::Template(Template::parse(template)?),
            None => Self::Column(args.column.as_deref().unwrap_or(COLUMN).to_owned()),
        })
    }

    fn fields(&self) -> Vec<&str> {
        match self {
            Self::Column(column) => vec![column],
            Self::Template(template) => template.fields(),
        }
    }

    fn text(&self, values: &[Option<&str>]) -> String {
        match self {
            Self::Column(_) => values.first().copied().flatten().unwrap_or_default().to_owned(),
            Self::Template(template) => {
                let fields = template.fields();
                template.render(|field| {
                    let place = fields.iter().position(|known| *known == field)?;
                    *values.get(place)?
                })
            }
        }
    }
}

/// What turns texts into vectors.
struct Model {
    hash: String,
    encoder: SentenceEncoder,
    /// Put before every text.
    prompt: String,
}

impl Model {
    fn load(args: &cli::Embed) -> anyhow::Result<Self> {
        let files = if args.model == embedded::MODEL {
            embedded::model(&VectorParts::folder(&args.output).join(UNPACKED))?
        } else {
            let mut options = FetchOptions::default();
            options.offline |= args.offline;
            options.progress = !args.json;
            ModelSource::from_str(&args.model)?.fetch(&options)?
        };
        let options = SentenceOptions {
            arithmetic: args.arithmetic,
            device: args.device,
            max_length: args.max_length,
            truncate_dim: args.dim.map(NonZeroUsize::get),
            normalize: args.normalize,
        };
        let encoder = SentenceEncoder::load(&files, &options)?;
        let prompt = match (&args.prompt, &args.prompt_name) {
            (Some(text), _) => Prompt::Text(text),
            (None, Some(name)) => Prompt::Named(name),
            (None, None) => Prompt::Default,
        };
        Ok(Self { hash: files.hash()?, prompt: encoder.prompt_text(prompt)?, encoder })
    }

    /// Everything beside the texts that decides the vectors, down to their last bits.
    fn settings(&self, args: &cli::Embed) -> String {
        let Self { hash, encoder, prompt } = self;
        let version = env!("CARGO_PKG_VERSION");
        let (arithmetic, length) = (encoder.arithmetic(), encoder.tokenizer().max_length());
        // Another one may round otherwise.
        let device = device_name(&encoder.encoder().device());
        let (width, normalizes, batch) = (encoder.width(), encoder.normalizes(), args.batch_tokens);
        format!("{version} {hash} {device} {arithmetic} {length:?} {width} {normalizes} {batch} {prompt:?}")
    }

    /// What a reader of the vectors may want to know.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        let encoder = &self.encoder;
        let mut all = vec![
            ("model_hash", self.hash.clone()),
            ("arithmetic", encoder.arithmetic().to_string()),
            ("normalized", encoder.normalizes().to_string()),
        ];
        all.extend(encoder.tokenizer().max_length().map(|length| ("max_length", length.to_string())));
        all.extend((!self.prompt.is_empty()).then(|| ("prompt", self.prompt.clone())));
        all
    }
}

/// What became of the texts.
struct End {
    texts: u64,
    width: u64,
    empty: usize,
    cut: u64,
    kept: u64,
}

/// A bar or lines for people, objects for programs.
struct Show {
    json: bool,
    meter: Meter,
    texts: u64,
    started: Cell<Instant>,
}

impl Show {
    fn new(args: &cli::Embed, texts: u64) -> Self {
        let meter = if args.json { Meter::hidden(texts) } else { Meter::new("texts embedded", texts) };
        Self { json: args.json, meter, texts, started: Cell::new(Instant::now()) }
    }

    /// The first text that is not done yet comes now.
    fn start(&self, done: u64, arithmetic: &str) {
        self.started.set(Instant::now());
        self.meter.start_at(done);
        if self.json {
            println!("{}", json!({"event": "start", "done": done, "texts": self.texts, "arithmetic": arithmetic}));
        } else if done > 0 {
            eprintln!("going on after {done} of {} texts", self.texts);
        }
    }

    fn set(&self, done: u64) {
        self.meter.set(done);
    }

    /// A part is on disk.
    fn part(&self, done: u64) {
        if self.json {
            let (rate, left) = self.meter.pace(done);
            let texts = self.texts;
            println!(
                "{}",
                json!({"event": "part", "done": done, "texts": texts, "texts_per_second": rate, "seconds_left": left})
            );
        }
    }

    fn end(self, end: &End, args: &cli::Embed, model: &Model) {
        let End { texts, width, empty, cut, kept } = *end;
        let took = self.started.get().elapsed().as_secs_f64();
        self.meter.finish();
        if self.json {
            let output = args.output.display().to_string();
            println!(
                "{}",
                json!({"event": "end", "texts": texts, "width": width, "output": output, "empty": empty, "cut": cut, "kept": kept,
                       "seconds": took})
            );
            return;
        }
        let made = texts - kept;
        let rate = made as f64 / took.max(1e-9);
        println!("{texts} texts, {width} numbers each, in {}", args.output.display());
        if made > 0 {
            println!("{made} embedded in {} ({rate:.0} texts/s)", seconds(took));
        }
        if args.id_column.is_some()
            && VectorFormat::of(&args.output).is_ok_and(|format| format != VectorFormat::Parquet)
        {
            println!("ids, one JSON string a line, in {}", VectorParts::ids_path(&args.output).display());
        }
        let note = |count: u64, what: String| {
            if count > 0 {
                println!("note: {count} {what}");
            }
        };
        note(empty as u64, "texts are empty; each has the vector of an empty text".into());
        let length = model.encoder.tokenizer().max_length().unwrap_or_default();
        note(cut, format!("texts were cut to {length} tokens"));
        if model.encoder.arithmetic() != args.arithmetic {
            println!(
                "note: this processor has no instructions for {}; the vectors are {}",
                args.arithmetic,
                model.encoder.arithmetic()
            );
        }
    }
}
