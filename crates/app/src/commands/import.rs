//! `import`: raw files to clean tables.

use paretune_data::{ImportOptions, import};

use crate::{cli, embedded, failure::wrong_input, meter::Meter};

pub(super) fn run(args: &cli::Import) -> anyhow::Result<()> {
    let Some(descriptor) = embedded::descriptor(&args.dataset)? else {
        return Err(wrong_input(format!(
            "{} is a folder: --dataset takes a known data set or a descriptor file",
            args.dataset
        )));
    };
    let meter = (!args.json).then(|| Meter::new("bytes read", 0));
    let progress = |done: u64, total: u64| {
        if let Some(meter) = &meter {
            meter.set_of(done, total);
        }
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
    if let Some(meter) = meter {
        meter.finish();
    }
    dataset.write(&args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
        println!("tables: {}", args.out.display());
    }
    Ok(())
}
