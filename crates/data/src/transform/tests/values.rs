//! Against NumPy, SciPy and scikit-learn, stored by `fixtures/make_transforms.py`.

use serde::Deserialize;

use super::category::Rows;
use super::cell::Cell;
use super::numeric::Scale;
use super::quantile::{Sample, borders, share_below};
use super::*;

#[derive(Deserialize)]
struct Fixture {
    values: Vec<f64>,
    counts: Vec<u64>,
    quantiles: Vec<f64>,
    borders: Vec<f64>,
    probes: Vec<f64>,
    buckets: Vec<u32>,
    standard: Vec<f64>,
    log: Vec<f64>,
    uniform: Vec<f64>,
    hashed: Vec<(u64, u32, String, u32)>,
    crossed: Vec<(u64, u32, Vec<u32>, u32)>,
}

fn fixture() -> (Fixture, Vec<(f64, u64)>) {
    let fixture: Fixture = serde_json::from_str(include_str!("../../../fixtures/transforms.json")).unwrap();
    let pairs = fixture.values.iter().copied().zip(fixture.counts.iter().copied()).collect();
    (fixture, pairs)
}

fn close(ours: impl IntoIterator<Item = f64>, theirs: &[f64], tolerance: f64) {
    let ours: Vec<f64> = ours.into_iter().collect();
    assert_eq!(ours.len(), theirs.len());
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= tolerance, "{at}: {ours} is not {theirs}");
    }
}

#[test]
fn quantiles_are_those_of_numpy() {
    let (fixture, pairs) = fixture();
    let sample = Sample::new(pairs.iter().copied());
    close(sample.quantiles(11), &fixture.quantiles, 1e-12);
    close(borders(&sample, 8), &fixture.borders, 1e-12);
}

#[test]
fn buckets_are_those_of_numpy() {
    let (fixture, pairs) = fixture();
    let rows = Rows::buckets(8, &pairs);
    let ours: Vec<u32> = fixture.probes.iter().map(|probe| rows.row(Cell::number(*probe).as_ref())).collect();
    assert_eq!(ours, fixture.buckets);
    assert_eq!(rows.count() as usize, fixture.borders.len() + 2);
    assert_eq!(rows.row(None), 0);
}

#[test]
fn scales_are_those_of_numpy_and_scikit_learn() {
    let (fixture, pairs) = fixture();
    let scaled = |normalise| {
        let scale = Scale::fit(normalise, &pairs);
        fixture.probes.iter().map(|probe| f64::from(scale.apply(Some(*probe)))).collect::<Vec<f64>>()
    };
    close(scaled(Normalise::Standard), &fixture.standard, 1e-6);
    close(scaled(Normalise::Log), &fixture.log, 1e-6);
    let uniform: Vec<f64> = fixture.uniform.iter().map(|share| (2.0 * share - 1.0) * 3f64.sqrt()).collect();
    close(scaled(Normalise::Quantile), &uniform, 1e-6);
    close(scaled(Normalise::None), &fixture.probes, 1e-4);
}

#[test]
fn hashes_stay_what_they_are() {
    let (fixture, _) = fixture();
    for (seed, rows, name, row) in fixture.hashed {
        assert_eq!(hash::row(seed, rows, name.bytes()), row, "{name:?}, seed {seed}");
    }
    for (seed, rows, parts, row) in fixture.crossed {
        let cross = category::Cross { name: String::new(), parts: (0..parts.len() as u32).collect(), hash: rows, seed };
        assert_eq!(cross.row(|place| parts[place as usize]), row, "{parts:?}, seed {seed}");
    }
    assert_ne!(hash::row(0, 10_000, "red".bytes()), hash::row(1, 10_000, "red".bytes()));
}

#[test]
fn hashes_fill_their_rows_evenly() {
    let mut filled = [0u32; 65];
    (0..64_000).for_each(|n| filled[hash::row(5, 64, format!("user-{n:05}").bytes()) as usize] += 1);
    // 1,000 each; six deviations are 190.
    assert!(filled[0] == 0 && filled[1..].iter().all(|count| (810..1190).contains(count)), "{filled:?}");
}

#[test]
fn numbers_are_names_too_and_texts_may_be_numbers() {
    let known = Rows::Vocabulary { known: [("3".to_owned(), 2), ("0".to_owned(), 3), ("2.5".to_owned(), 4)].into() };
    let row = |number| known.row(Cell::number(number).as_ref());
    assert_eq!([3.0, -0.0, 2.5, 7.0, f64::NAN, f64::INFINITY].map(row), [2, 3, 4, 1, 0, 0]);
    let number = |text| Cell::text(text).and_then(|cell| cell.as_number());
    assert_eq!(
        [" 2.5 ", "1e3", "", "two", "NaN", "inf"].map(number),
        [Some(2.5), Some(1000.0), None, None, None, None]
    );
    assert_eq!(Cell::number(1e300), Cell::number(1e100));
}

proptest! {
    #[test]
    fn shares_ascend_within_0_and_1(values in proptest::collection::vec((-99.0f64..99.0, 0u64..4), 0..40), mut probes in proptest::collection::vec(-120.0f64..120.0, 2..9)) {
        let quantiles = Sample::new(values.iter().copied()).quantiles(10);
        prop_assert!(quantiles.is_sorted());
        probes.sort_by(f64::total_cmp);
        let shares: Vec<f64> = probes.iter().map(|probe| share_below(&quantiles, *probe)).collect();
        prop_assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", shares);
    }
}
