//! Columns that were computed over the whole log.

use super::*;

/// The one leak there is.
fn only(data: &Dataset, split: &Split) -> Leak {
    let mut leaks = found(data, split);
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    leaks.remove(0)
}

fn tally(leak: &Leak) -> &Tally {
    let Evidence::Future { tally, whole, train, beyond, .. } = &leak.evidence else { panic!("{leak}") };
    assert!(whole > train && *beyond > 0.5, "{leak}");
    tally
}

#[test]
fn counts_over_the_whole_log_are_refused() {
    let (mut data, split) = marketplace();
    let count = vec![1.0; data.events.len()];
    let counts = sums(&data.events.item, data.items.len(), &count, |_| true);
    data.items.text.insert("views".to_owned(), texts(counts.iter().copied()));
    let leak = only(&data, &split);
    assert_eq!((tally(&leak), leak.severity), (&Tally::Events, Severity::Refused));
    let text = leak.to_string();
    assert!(
        text.starts_with(
            "column `views` of the items was computed with the future: it follows the number of events over"
        ),
        "{text}"
    );
    assert!(refuse(&[leak], &[], &["views"]).unwrap_err().to_string().contains("leaks.future.refuse"));

    // Its rank tells as much, upside down.
    data.items.text.insert("views".to_owned(), texts(counts.iter().map(|count| 1.0 / (1.0 + count))));
    assert_eq!(tally(&only(&data, &split)), &Tally::Events);
    // With some noise it still does, if less surely.
    let noisy = counts.iter().enumerate().map(|(item, count)| count * (1.0 + 0.01 * ((item * 7919 % 11) as f64 - 5.0)));
    data.items.text.insert("views".to_owned(), texts(noisy));
    assert_eq!(tally(&only(&data, &split)), &Tally::Events);
}

#[test]
fn means_sums_and_flags_over_the_whole_log_are_refused() {
    let (clean, split) = marketplace();
    let of_user = |column: &str, counts: &dyn Fn(usize) -> bool| {
        sums(&clean.events.user, clean.users.len(), &clean.events.feedback[column], counts)
    };
    let all = |_: usize| true;
    let mut data = clean.clone();
    data.users.columns.insert("spent".to_owned(), numbers(of_user("dwell_seconds", &all)));
    let leak = only(&data, &split);
    assert_eq!((tally(&leak), leak.severity), (&Tally::Sum("dwell_seconds".to_owned()), Severity::Refused));

    let mut data = clean.clone();
    let observed: Vec<f32> =
        clean.events.feedback["rating"].iter().map(|r| if r.is_nan() { 0.0 } else { 1.0 }).collect();
    let ratings = of_user("rating", &all);
    let observed = sums(&clean.events.user, clean.users.len(), &observed, all);
    let means = ratings.iter().zip(&observed).map(|(sum, count)| (*count > 0.0).then(|| sum / count));
    data.users.columns.insert("stars".to_owned(), UserColumn::Numeric(means.collect()));
    let leak = only(&data, &split);
    assert_eq!((tally(&leak), leak.severity), (&Tally::Mean("rating".to_owned()), Severity::Refused));

    // Whether somebody ever bought, as a name; and when, which is missing for all others.
    let bought = of_user("conversion", &all);
    let mut data = clean.clone();
    let flags = bought.iter().map(|sum| Some(if *sum > 0.0 { "customer" } else { "visitor" }.to_owned()));
    data.users.columns.insert("status".to_owned(), UserColumn::Categorical(flags.collect()));
    assert_eq!(tally(&only(&data, &split)), &Tally::Ever("conversion".to_owned()));
    let mut data = clean.clone();
    let days = bought.iter().enumerate().map(|(user, sum)| (*sum > 0.0).then_some((user * 7919 % 97) as f64));
    data.users.columns.insert("customer_since".to_owned(), UserColumn::Numeric(days.collect()));
    let leak = only(&data, &split);
    assert_eq!(tally(&leak), &Tally::Ever("conversion".to_owned()));
    assert!(matches!(leak.evidence, Evidence::Future { missing: true, .. }), "{leak}");
}

#[test]
fn what_was_known_at_the_end_of_the_training_rows_is_not_the_future() {
    let (mut data, split) = marketplace();
    let train = |row: usize| split.part[row] == Part::Train;
    let count = vec![1.0; data.events.len()];
    let views = sums(&data.events.item, data.items.len(), &count, train);
    data.items.text.insert("views".to_owned(), texts(views));
    let clicks = sums(&data.events.user, data.users.len(), &data.events.feedback["click"], train);
    data.users.columns.insert("clicks".to_owned(), numbers(clicks));
    assert_eq!(found(&data, &split), []);
}

#[test]
fn thresholds_decide_what_is_the_future() {
    let (mut data, split) = marketplace();
    let clicks = sums(&data.events.user, data.users.len(), &data.events.feedback["click"], |_| true);
    data.users.columns.insert("clicks".to_owned(), numbers(clicks));
    let mut thresholds = LeakThresholds::default();
    thresholds.future.refuse = 1.5;
    let leaks = check(&data, &split, &OBJECTIVES, &thresholds).unwrap();
    assert!(leaks.iter().all(|leak| leak.severity == Severity::Warning) && leaks.len() == 1, "{leaks:?}");
    refuse(&leaks, &[], &[]).unwrap();
    thresholds.future.warn = 1.5;
    assert_eq!(check(&data, &split, &OBJECTIVES, &thresholds).unwrap(), []);
}
