//! Columns that know the label.

use super::*;

/// What stands in the tables of the marketplace as an item's approval, and how each event is labelled with it.
fn approved(data: &mut Dataset) -> Vec<f64> {
    let of_item: Vec<f64> = (0..data.items.len()).map(|item| f64::from(u8::from(item % 3 == 0))).collect();
    let label = data.events.item.iter().map(|item| of_item[*item as usize] as f32).collect();
    data.events.feedback.insert("approved".to_owned(), label);
    of_item
}

fn of_approved(data: &Dataset, split: &Split) -> Vec<Leak> {
    check(data, split, &["approved"], &LeakThresholds::default()).unwrap()
}

#[test]
fn a_column_that_is_the_label_is_refused() {
    let (mut data, split) = marketplace();
    let of_item = approved(&mut data);
    data.items.text.insert("state".to_owned(), texts(of_item));
    let leaks = of_approved(&data, &split);
    let [leak] = &leaks[..] else { panic!("{leaks:?}") };
    assert_eq!((&leak.source, leak.severity), (&Source::Item("state".to_owned()), Severity::Refused));
    let Evidence::SameAsLabel { label, share, rows } = &leak.evidence else { panic!("{leak}") };
    assert_eq!((label.as_str(), *share, *rows), ("approved", 1.0, split.rows(Part::Train).len()));

    // A text that nothing reads does no harm; a template or a feature that reads it does.
    refuse(&leaks, &[], &["title"]).unwrap();
    let spec: FeatureSpec =
        toml::from_str("name = \"s\"\nkind = \"category\"\nof = \"item\"\ncolumn = \"state\"").unwrap();
    for error in [refuse(&leaks, &[], &["title", "state"]), refuse(&leaks, &[spec], &[])] {
        let error = error.unwrap_err();
        assert!(matches!(error, DataError::Leak { .. }));
        let text = error.to_string();
        assert!(text.contains("column `state` of the items is the label `approved` itself"), "{text}");
        assert!(text.contains("leaks.same"), "{text}");
    }
}

#[test]
fn a_user_column_is_always_an_input() {
    let (mut data, split) = marketplace();
    let of_user: Vec<f64> = (0..data.users.len()).map(|user| f64::from(user as u32 % 5) / 2.0).collect();
    let label = data.events.user.iter().map(|user| of_user[*user as usize] as f32).collect();
    data.events.feedback.insert("mood".to_owned(), label);
    data.users.columns.insert("mood".to_owned(), numbers(of_user.iter().copied()));
    // The same in disguise: upside down, and out of order.
    data.users.columns.insert("gloom".to_owned(), numbers(of_user.iter().map(|mood| (-mood).exp())));
    data.users.columns.insert("code".to_owned(), numbers(of_user.iter().map(|mood| (mood * 4.0 + 3.0) % 5.0)));
    let leaks = check(&data, &split, &["mood"], &LeakThresholds::default()).unwrap();
    assert!(refuse(&leaks, &[], &[]).is_err());
    let found: Vec<String> = leaks.iter().map(Leak::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(leaks.iter().all(|leak| leak.severity == Severity::Refused), "{found:?}");
    assert!(
        found[0].starts_with("column `code` of the users foretells `mood` (rank correlation 1.0000 on"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("column `gloom` of the users foretells `mood` (rank correlation 1.0000 on"),
        "{found:?}"
    );
    assert!(found[2].starts_with("column `mood` of the users is the label `mood` itself"), "{found:?}");
}

#[test]
fn names_and_gaps_give_a_label_away() {
    let (mut data, split) = marketplace();
    let of_item = approved(&mut data);
    let name = |approved: &f64| Some(if *approved > 0.0 { "ja" } else { "nein" }.to_owned());
    data.items.text.insert("verdict".to_owned(), of_item.iter().map(name).collect());
    // When it was approved: a date that says nothing, but is there only afterwards.
    let date = |(item, approved): (usize, &f64)| (*approved > 0.0).then(|| ((item * 7919) % 31).to_string());
    data.items.text.insert("date".to_owned(), of_item.iter().enumerate().map(date).collect());
    // One in five is wrong: that foretells, but not suspiciously well.
    let vague =
        of_item.iter().enumerate().map(|(item, approved)| if item % 5 == 0 { 1.0 - approved } else { *approved });
    data.items.text.insert("vague".to_owned(), texts(vague));
    let leaks = of_approved(&data, &split);
    let found: Vec<String> = leaks.iter().map(Leak::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("column `date` of the items foretells `approved` whether it is missing (AUC 1.0000"),
        "{found:?}"
    );
    assert!(found[1].starts_with("column `verdict` of the items foretells `approved` (AUC 1.0000"), "{found:?}");
}

#[test]
fn what_is_nearly_the_label_is_a_warning() {
    let (mut data, split) = marketplace();
    let of_item = approved(&mut data);
    let nearly =
        of_item.iter().enumerate().map(|(item, approved)| if item % 60 == 7 { 1.0 - approved } else { *approved });
    data.items.text.insert("nearly".to_owned(), texts(nearly));
    let leaks = of_approved(&data, &split);
    let [leak] = &leaks[..] else { panic!("{leaks:?}") };
    assert_eq!(leak.severity, Severity::Warning, "{leak}");
    refuse(&leaks, &[], &["nearly"]).unwrap();
    // Thresholds decide.
    let strict = LeakThresholds { auc: Bounds { warn: 0.9, refuse: 0.95 }, ..LeakThresholds::default() };
    let leaks = check(&data, &split, &["approved"], &strict).unwrap();
    assert!(refuse(&leaks, &[], &["nearly"]).unwrap_err().to_string().contains("leaks.auc.refuse"));
    let lenient = LeakThresholds { auc: Bounds { warn: 1.1, refuse: 1.1 }, ..LeakThresholds::default() };
    assert_eq!(check(&data, &split, &["approved"], &lenient).unwrap(), []);
}

#[test]
fn a_constant_is_not_a_rare_label() {
    let (mut data, split) = marketplace();
    // Three rows in a thousand are positive; a column of zeros agrees with all others.
    let rare = (0..data.events.len()).map(|row| f32::from(u8::from(row % 333 == 0))).collect();
    data.events.feedback.insert("approved".to_owned(), rare);
    data.items.text.insert("zero".to_owned(), texts(vec![0.0; data.items.len()]));
    assert_eq!(of_approved(&data, &split), []);
}

#[test]
fn an_event_column_never_becomes_a_feature() {
    let (mut data, split) = marketplace();
    let copy = data.events.feedback["click"].clone();
    data.events.feedback.insert("seen".to_owned(), copy);
    let histories = Histories::new(&data, &split, "click").unwrap();
    let spec: FeatureSpec =
        toml::from_str("name = \"s\"\nkind = \"category\"\nof = \"event-context\"\ncolumn = \"seen\"").unwrap();
    let error = Transforms::fit(&data, &split, &histories, &[spec]).unwrap_err();
    assert!(matches!(error, DataError::ForbiddenFeature { .. }), "{error}");
    // The copy is a label like any other, and no column of users or items knows it.
    assert_eq!(check(&data, &split, &["click", "seen"], &LeakThresholds::default()).unwrap(), []);
}

#[test]
fn leaks_of_features_come_to_light_in_crosses() {
    let (mut data, split) = marketplace();
    // Neither column knows the label, both together do.
    let (a, b) = (|item: u32| item % 2, |user: u32| (user / 2) % 2);
    let events = &data.events;
    let label =
        events.item.iter().zip(&events.user).map(|(item, user)| f32::from((a(*item) ^ b(*user)) as u8)).collect();
    data.events.feedback.insert("approved".to_owned(), label);
    data.items.text.insert("a".to_owned(), texts((0..data.items.len() as u32).map(|item| f64::from(a(item)))));
    data.users.columns.insert("b".to_owned(), numbers((0..data.users.len() as u32).map(|user| f64::from(b(user)))));
    assert_eq!(of_approved(&data, &split), []);

    #[derive(serde::Deserialize)]
    struct Config {
        features: Vec<FeatureSpec>,
    }
    let config: Config = toml::from_str(
        "[[features]]\nname = \"a\"\nkind = \"category\"\nof = \"item\"\ncolumn = \"a\"\n\
         [[features]]\nname = \"b\"\nkind = \"bucket\"\nof = \"user\"\ncolumn = \"b\"\nbuckets = 4\n\
         [[features]]\nname = \"price\"\nkind = \"numeric\"\nof = \"item\"\ncolumn = \"price\"\n\
         [[features]]\nname = \"tastes\"\nkind = \"recent\"\ncolumn = \"category\"\nlast = 3\n\
         [[features]]\nname = \"both\"\nkind = \"cross\"\nof = [\"a\", \"b\"]\nhash = 1000\n",
    )
    .unwrap();
    let histories = Histories::new(&data, &split, "click").unwrap();
    let transforms = Transforms::fit(&data, &split, &histories, &config.features).unwrap();
    let leaks = check_features(&transforms, &data, &split, &["approved", "click"], &LeakThresholds::default()).unwrap();
    let [leak] = &leaks[..] else { panic!("{leaks:?}") };
    assert_eq!((&leak.source, leak.severity), (&Source::Feature("both".to_owned()), Severity::Refused));
    assert!(refuse(&leaks, &[], &[]).unwrap_err().to_string().contains("feature `both` foretells `approved`"));
}

#[test]
fn a_leak_survives_being_saved() {
    let (mut data, split) = marketplace();
    let of_item = approved(&mut data);
    data.items.text.insert("state".to_owned(), texts(of_item));
    let clicks = sums(&data.events.user, data.users.len(), &data.events.feedback["click"], |_| true);
    data.users.columns.insert("clicks".to_owned(), numbers(clicks));
    let leaks = check(&data, &split, &["approved", "click"], &LeakThresholds::default()).unwrap();
    assert_eq!(leaks.len(), 2);
    let text = serde_json::to_string(&leaks).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Leak>>(&text).unwrap(), leaks, "{text}");
}
