//! Whether the simulated log is like a real one, and whether there is something to learn from it.

use std::collections::BTreeMap;

use super::*;
use crate::{Part, Split, SplitStrategy};

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    sum / count
}

/// Probability that a positive scores above a negative; ties count half.
fn auc(scored: impl Iterator<Item = (f64, bool)>) -> f64 {
    let mut scored: Vec<(f64, bool)> = scored.collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
    for ties in scored.chunk_by(|a, b| a.0 == b.0) {
        let up = ties.iter().filter(|(_, label)| *label).count() as f64;
        let down = ties.len() as f64 - up;
        wins += up * (below + down / 2.0);
        below += down;
        positives += up;
    }
    wins / (positives * below)
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let centre = (mean(pairs.iter().map(|p| p.0)), mean(pairs.iter().map(|p| p.1)));
    let moment = |f: &dyn Fn(f64, f64) -> f64| mean(pairs.iter().map(|p| f(p.0 - centre.0, p.1 - centre.1)));
    moment(&|a, b| a * b) / (moment(&|a, _| a * a) * moment(&|_, b| b * b)).sqrt()
}

/// Click, conversion, rating and log dwell that an item gets from a hundred users, on average.
fn means_by_item(truth: &Truth) -> Vec<[f64; 4]> {
    let over = |f: &dyn Fn(u32) -> f64| mean((0..100).map(f));
    (0..truth.items.len() as u32)
        .map(|item| {
            [
                over(&|user| truth.click(user, item)),
                over(&|user| truth.conversion(user, item)),
                over(&|user| truth.rating(user, item)),
                over(&|user| truth.dwell(user, item).ln()),
            ]
        })
        .collect()
}

#[test]
fn rates_are_those_of_a_marketplace() {
    let (dataset, _) = marketplace();
    let events = &dataset.events;
    let column = |name: &str| &events.feedback[name];
    let positive = |name: &str| column(name).iter().filter(|x| **x > 0.0).count() as f64;
    let rows = events.len() as f64;
    assert!((75_000.0..85_000.0).contains(&rows), "{rows} rows");
    let (clicks, conversions, ratings) = (positive("click"), positive("conversion"), positive("rating"));
    assert!((0.12..0.20).contains(&(clicks / rows)), "CTR {}", clicks / rows);
    assert!((0.10..0.20).contains(&(conversions / clicks)), "CVR {}", conversions / clicks);
    assert!((0.25..0.35).contains(&(ratings / clicks)), "rated {}", ratings / clicks);
    for row in 0..events.len() {
        let [click, conversion, rating, dwell] =
            ["click", "conversion", "rating", "dwell_seconds"].map(|name| column(name)[row]);
        if click == 0.0 {
            assert!(conversion == 0.0 && rating.is_nan() && dwell.is_nan());
        } else {
            assert!(dwell > 0.0);
            assert!(conversion == 0.0 || !rating.is_nan());
        }
        assert!(rating.is_nan() || ((rating * 2.0).fract() == 0.0 && (1.0..=5.0).contains(&rating)));
    }
}

#[test]
fn trade_offs_are_real() {
    let (_, truth) = marketplace();
    let by_item = means_by_item(truth);
    let of = |bait: bool, outcome: usize| {
        let items = truth.items.iter().zip(&by_item);
        mean(items.filter(|(item, _)| (item.bait > 0.0) == bait).map(|(_, means)| means[outcome]))
    };
    let share = mean(truth.items.iter().map(|item| f64::from(u8::from(item.bait > 0.0))));
    assert!((0.12..0.18).contains(&share), "bait share {share}");
    assert!(of(true, 0) > 1.4 * of(false, 0), "bait collects clicks");
    assert!(of(true, 1) < 0.7 * of(false, 1), "and does not convert");
    assert!(of(true, 2) < of(false, 2) - 0.6, "and disappoints");
    assert!(of(true, 3) < of(false, 3) - 0.6, "and is left soon");

    let against_dearness = |outcome: usize| {
        let items = truth.items.iter().zip(&by_item);
        correlation(&items.map(|(item, means)| (item.dearness, means[outcome])).collect::<Vec<_>>())
    };
    assert!(against_dearness(1) < -0.3, "dear items convert less");
    assert!(against_dearness(2) > 0.3, "and satisfy more");
    let clicks_against_ratings: Vec<_> = by_item.iter().map(|means| (means[0], means[2])).collect();
    assert!(correlation(&clicks_against_ratings) < -0.1);
}

#[test]
fn the_oracle_is_far_above_popularity() {
    let (dataset, truth) = marketplace();
    let events = &dataset.events;
    let split = Split::new(dataset, &SplitStrategy::Time { valid: 0.1, test: 0.1 }).unwrap();
    let clicked = |row: u32| events.feedback["click"][row as usize] > 0.0;
    let item = |row: u32| events.item[row as usize];
    let user = |row: u32| events.user[row as usize];
    let mut popularity = vec![0.0; dataset.items.len()];
    for row in split.rows(Part::Train) {
        popularity[item(row) as usize] += f64::from(u8::from(clicked(row)));
    }
    let test = split.rows(Part::Test);
    let measure = |rows: &[u32], score: &dyn Fn(u32) -> f64, label: &dyn Fn(u32) -> bool| {
        auc(rows.iter().map(|&row| (score(row), label(row))))
    };
    let oracle = measure(&test, &|row| truth.click(user(row), item(row)), &clicked);
    let popular = measure(&test, &|row| popularity[item(row) as usize], &clicked);
    assert!((0.68..0.85).contains(&oracle), "oracle {oracle}");
    assert!((0.5..oracle - 0.1).contains(&popular), "popularity {popular}, oracle {oracle}");

    let clicks: Vec<u32> = (0..events.len() as u32).filter(|&row| clicked(row)).collect();
    let converted = |row: u32| events.feedback["conversion"][row as usize] > 0.0;
    let oracle = measure(&clicks, &|row| truth.conversion(user(row), item(row)), &converted);
    assert!((0.68..0.85).contains(&oracle), "conversion oracle {oracle}");

    let rated: Vec<(f64, f64)> = clicks
        .iter()
        .map(|&row| (truth.rating(user(row), item(row)), f64::from(events.feedback["rating"][row as usize])))
        .filter(|(_, stars)| !stars.is_nan())
        .collect();
    let centre = mean(rated.iter().map(|pair| pair.1));
    let spread = mean(rated.iter().map(|pair| (pair.1 - centre).powi(2))).sqrt();
    let error = mean(rated.iter().map(|pair| (pair.0 - pair.1).powi(2))).sqrt();
    assert!(error < 0.65 * spread, "rating error {error}, spread {spread}");
}

#[test]
fn places_further_down_are_clicked_less_as_the_truth_says() {
    let (dataset, truth) = marketplace();
    let events = &dataset.events;
    let positions = events.position.as_ref().unwrap();
    for position in 1..=10 {
        let rows: Vec<usize> = (0..events.len()).filter(|&row| positions[row] == position).collect();
        let clicks: f64 = rows.iter().map(|&row| f64::from(events.feedback["click"][row])).sum();
        let wanted: f64 = rows.iter().map(|&row| truth.click(events.user[row], events.item[row])).sum();
        let expected = f64::from(position).powf(-0.5);
        assert!((truth.examination(position) - expected).abs() < 1e-12);
        assert!((clicks / wanted / expected - 1.0).abs() < 0.08, "position {position}: {}", clicks / wanted);
    }
}

#[test]
fn the_log_is_in_order_and_shows_only_what_is_there() {
    let (dataset, _) = marketplace();
    let events = &dataset.events;
    let (times, requests) = (events.timestamp.as_ref().unwrap(), events.request.as_ref().unwrap());
    let order = |row: usize| (events.user[row], times[row], requests[row]);
    assert!((1..events.len()).all(|row| order(row - 1) <= order(row)));
    let created = dataset.items.created_at.as_ref().unwrap();
    let mut late = 0;
    for row in 0..events.len() {
        let created = created[events.item[row] as usize].unwrap();
        assert!(created <= times[row]);
        late += usize::from(created > START);
    }
    assert!(late > 5000, "only {late} impressions of late items");
    let late_items = created.iter().flatten().filter(|created| **created > START).count();
    assert_eq!(late_items, 450);
    for list in requests.chunk_by(|a, b| a == b) {
        assert_eq!(list.len(), 10);
    }
    let propensities = events.propensity.as_ref().unwrap();
    assert!(propensities.iter().all(|p| *p > 0.0 && *p <= 1.0));
    // Weighted back, the first place shows one item of the catalogue per item: E[1/p] is their number.
    let positions = events.position.as_ref().unwrap();
    let first = (0..events.len()).filter(|&row| positions[row] == 1);
    let weighted = mean(first.map(|row| 1.0 / f64::from(propensities[row])));
    assert!((2400.0..3100.0).contains(&weighted), "E[1/p] = {weighted}");
}

#[test]
fn texts_read_like_listings() {
    let (dataset, truth) = marketplace();
    let mut by_category: BTreeMap<&str, usize> = BTreeMap::new();
    for item in 0..dataset.items.len() as u32 {
        let field = |name| dataset.items.field(item, name).unwrap();
        let text = format!("{} {}", field("title"), field("description"));
        let words = text.split_whitespace().count();
        assert!((8..=32).contains(&words), "{words} words: {text}");
        assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
        *by_category.entry(field("category")).or_default() += 1;
    }
    assert_eq!(by_category.len(), 12);
    // The words of good sellers go with quality.
    let quality = |cue: &str| {
        let items = (0u32..).zip(&truth.items);
        mean(
            items
                .filter(|(item, _)| dataset.items.field(*item, "description").unwrap().contains(cue))
                .map(|(_, item)| item.quality),
        )
    };
    assert!(quality("lifetime guarantee") > quality("handy everyday") + 0.5);
    assert!(quality("sold as is") < quality("handy everyday") - 0.5);
}

#[test]
fn few_providers_get_most_of_the_exposure() {
    let (dataset, _) = marketplace();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for &item in &dataset.events.item {
        *shown.entry(dataset.items.field(item, "provider").unwrap()).or_default() += 1;
    }
    assert_eq!(shown.len(), 120);
    let mut counts: Vec<usize> = shown.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let top: usize = counts[..12].iter().sum();
    let share = top as f64 / dataset.events.len() as f64;
    assert!((0.3..0.8).contains(&share), "a tenth of the providers has {share} of the exposure");
}
