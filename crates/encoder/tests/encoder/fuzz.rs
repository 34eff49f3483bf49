//! The first cases of `cargo xtask fuzz`, and whether it would notice what it looks for.

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/fuzz/main.rs"]
mod program;

use std::fs;

use program::check::{Reached, check};
use program::corpus::Corpus;
use program::{Bench, mutation};

const SEED: u64 = 1;
const CASES: u64 = 150;

fn bench(work: &std::path::Path) -> Bench {
    Bench::new(Corpus::fixtures().unwrap(), work).unwrap()
}

#[test]
fn models_without_damage_are_loaded() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("model");
    for model in Corpus::fixtures().unwrap().models {
        model.folder.write(&dir).unwrap();
        let adapter = model.name.contains(" with ");
        // Where the transformer has a folder of its own, the tokenizer is there.
        let tokenizer = model.name != "sentence/old";
        assert_eq!(check(&dir), Ok(Reached { tokenizer, model: true, adapter }), "{}", model.name);
    }
}

#[test]
fn damaged_models_are_refused_or_give_vectors() {
    let work = tempfile::tempdir().unwrap();
    let bench = bench(work.path());
    let (mut loaded, mut refused) = (0, 0);
    for number in 0..CASES {
        let case = bench.prepare(SEED, number).unwrap();
        match bench.check() {
            Ok(Reached { model: true, .. }) => loaded += 1,
            Ok(_) => refused += 1,
            Err(finding) => panic!("case {number}, {}: {:#?}: {finding}", case.model, case.mutations),
        }
    }
    // Neither may be rare: otherwise damage would be too mild, or hide what lies behind the first reader.
    assert!(loaded >= CASES / 10 && refused >= CASES / 4, "{loaded} loaded, {refused} refused");
}

#[test]
fn the_same_seed_makes_the_same_damage() {
    let corpus = Corpus::fixtures().unwrap();
    let cases = |seed| (0..20).map(|number| mutation::case(&corpus, seed, number)).collect::<Vec<_>>();
    assert_eq!(cases(5), cases(5));
    assert_ne!(cases(5), cases(6));
    assert!(cases(5).iter().any(|case| case.mutations.len() > 1));
}

#[test]
fn what_must_not_happen_is_noticed() {
    let work = tempfile::tempdir().unwrap();
    let bench = bench(work.path());
    bench.prepare(SEED, 0).unwrap();
    assert!(bench.check_with(|_| Ok(Reached::default())).is_ok());
    let outside = work.path().join("outside/config.json");
    if bench.watches() {
        let finding = bench.check_with(|_| fs::read(&outside).map(|_| Reached::default()).map_err(|e| e.to_string()));
        assert!(finding.unwrap_err().contains("outside/config.json"));
        assert!(bench.check_with(|_| Ok(Reached::default())).is_ok());
    }
    // An error that leaves the reader to guess which file it means.
    let finding = program::check::told("reading", work.path(), &std::io::Error::other("out of luck"));
    assert!(finding.unwrap_err().contains("out of luck"));
    let finding = program::check::step("reading", work.path(), || -> Result<(), std::io::Error> { panic!("stumbled") });
    assert!(finding.unwrap_err().contains("stumbled"));
}
