//! Where the time of a train step goes: the encoder's `tracing` spans, added up.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use paretune_encoder::{Arithmetic, Encoder, LoadOptions};
use paretune_features::ModelFiles;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::figures::sequences;
use crate::options::Options;
use crate::training::Training;

/// Train steps that are added up.
const STEPS: usize = 10;

#[derive(Default, Clone, Copy)]
struct Total {
    calls: usize,
    /// Without the spans inside.
    seconds: f64,
    /// Multiplications and additions.
    operations: f64,
}

type Totals = Arc<Mutex<BTreeMap<String, Total>>>;

struct Recorder(Totals);

/// An open span.
struct Open {
    name: String,
    operations: f64,
    start: Instant,
    inner: f64,
}

#[derive(Default)]
struct Sizes(BTreeMap<&'static str, u64>, String);

impl Visit for Sizes {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "arithmetic" {
            self.1 = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut sizes = Sizes::default();
        attributes.record(&mut sizes);
        let Sizes(sizes, arithmetic) = sizes;
        let size = |name: &str| sizes.get(name).copied();
        let (mut name, mut operations) = (attributes.metadata().name().to_owned(), 0.0);
        if let (Some(rows), Some(inner), Some(columns)) = (size("rows"), size("inner"), size("columns")) {
            name = format!("{name} {arithmetic} {rows} x {inner} x {columns}");
            operations = 2.0 * (rows * inner * columns) as f64;
        }
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Open { name, operations, start: Instant::now(), inner: 0.0 });
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            open.start = Instant::now();
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let extensions = span.extensions();
        let Some(open) = extensions.get::<Open>() else { return };
        let seconds = open.start.elapsed().as_secs_f64();
        if let Some(parent) = span.parent()
            && let Some(outer) = parent.extensions_mut().get_mut::<Open>()
        {
            outer.inner += seconds;
        }
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry(open.name.clone()).or_default();
        total.calls += 1;
        total.seconds += seconds - open.inner;
        total.operations += open.operations;
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let files = ModelFiles::local(&options.model)?;
    let totals = Totals::default();
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        if !options.wants(arithmetic.name()) || !arithmetic.is_available() {
            continue;
        }
        let ceiling = paretune_encoder::product_ceiling(arithmetic);
        let load = LoadOptions { arithmetic, ..LoadOptions::default() };
        let mut training = Training::new(Encoder::load(&files, &load)?)?;
        let packed = sequences(training.encoder(), options.batch, options.length);
        for _ in 0..3 {
            training.step(&packed)?;
        }
        let recorder = tracing::Dispatch::new(tracing_subscriber::registry().with(Recorder(Arc::clone(&totals))));
        let seconds = tracing::dispatcher::with_default(&recorder, || -> Result<f64, Box<dyn Error>> {
            let start = Instant::now();
            for _ in 0..STEPS {
                let _step = tracing::trace_span!("all else, the optimizer included").entered();
                training.step(&packed)?;
            }
            Ok(start.elapsed().as_secs_f64() / STEPS as f64)
        })?;
        let table = std::mem::take(&mut *totals.lock().unwrap_or_else(PoisonError::into_inner));
        print(options, arithmetic, seconds, ceiling, table);
    }
    Ok(())
}

fn print(options: &Options, arithmetic: Arithmetic, seconds: f64, ceiling: f64, table: BTreeMap<String, Total>) {
    let mut rows: Vec<(String, Total)> = table.into_iter().collect();
    rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    if !options.json {
        let threads = rayon::current_num_threads();
        println!(
            "train step in {arithmetic}: {} x {} tokens, {threads} threads, {:.1} ms; ceiling of products {:.0} GFLOP/s",
            options.batch,
            options.length,
            seconds * 1e3,
            ceiling / 1e9,
        );
        println!("{:<36}{:>7}{:>10}{:>9}{:>12}{:>12}", "", "calls", "ms", "share", "GFLOP/s", "of ceiling");
    }
    for (name, total) in rows {
        let each = total.seconds / STEPS as f64;
        let speed = total.operations / total.seconds;
        if options.json {
            let line = serde_json::json!({
                "figure": "profile", "arithmetic": arithmetic.name(), "span": name, "calls": total.calls / STEPS,
                "ms": each * 1e3, "share": each / seconds, "gflops": (speed > 0.0).then_some(speed / 1e9),
                "ceiling_gflops": ceiling / 1e9,
            });
            println!("{line}");
            continue;
        }
        let rate = match speed > 0.0 {
            true => format!("{:>12.0}{:>11.0} %", speed / 1e9, 100.0 * speed / ceiling),
            false => String::new(),
        };
        let share = 100.0 * each / seconds;
        println!("{name:<36}{:>7}{:>10.2}{share:>7.1} %{rate}", total.calls / STEPS, each * 1e3);
    }
}
