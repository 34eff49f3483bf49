//! `import`: raw files to clean tables.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use paretune_data::{ImportOptions, import};

use crate::{cli, embedded, failure::wrong_input};

pub(super) fn run(args: &cli::Import) -> anyhow::Result<()> {
    let Some(descriptor) = embedded::descriptor(&args.dataset)? else {
        return Err(wrong_input(format!("{} is a folder: --dataset takes a known data set or a descriptor file", args.dataset)));
    };
    let bar = if std::io::stderr().is_terminal() && !args.json { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("reading {bar:28} {bytes}/{total_bytes} {bytes_per_sec} {eta} left") {
        bar.set_style(style);
    }
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut options = ImportOptions {
        quarantine: Some(args.out.join("quarantine.tsv")),
        progress: Some(&progress),
        ..ImportOptions::default()
    };
    if let Some(share) = args.max_bad_share {
        options.max_bad_share = share;
    }
    let (dataset, report) = import(&descriptor, &args.from, options)?;
    bar.finish_and_clear();
    dataset.write(&args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
        println!("tables: {}", args.out.display());
    }
    Ok(())
}
