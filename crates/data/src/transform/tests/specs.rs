//! What the configuration may say, and what it is told otherwise.

use super::*;

/// The error of a single feature, as TOML of its fields.
fn error(fields: &str) -> String {
    toml::from_str::<FeatureSpec>(fields).unwrap_err().to_string()
}

#[test]
fn every_wrong_field_is_named_with_its_feature() {
    let nameless = error("kind = \"numeric\"\nof = \"user\"\ncolumn = \"age\"");
    assert!(nameless.contains("a feature (of column \"age\") has no field `name`"), "{nameless}");
    let blank = error("name = \" \"\nkind = \"numeric\"");
    assert!(blank.contains("a feature has the name \" \""), "{blank}");
    let column = "of = \"user\"\ncolumn = \"age\"";
    let cases = [
        ("of = \"user\"", "field `kind`: is needed"),
        ("kind = 3", "field `kind`: 3 is no text"),
        ("kind = \"number\"", "field `kind`: \"number\" is no kind; take \"numeric\""),
        ("kind = \"numeric\"\nof = \"users\"", "field `of`: \"users\" has no columns; take \"user\", \"item\""),
        ("kind = \"numeric\"\nof = \"user\"", "field `column`: is needed"),
        (
            "kind = \"numeric\"\nnormalise = \"max\"\n+",
            "field `normalise`: \"max\" is not known; take one of \"standard\", \"log\"",
        ),
        (
            "kind = \"bucket\"\nbuckets = 1\n+",
            "field `buckets`: 1 is out of range; give a whole number from 2 to 65536",
        ),
        (
            "kind = \"bucket\"\nhash = 10\n+",
            "field `hash`: is not known here; this kind of feature takes name, kind = \"bucket\"",
        ),
        ("kind = \"category\"\nhash = 10\nvocabulary = 10\n+", "field `vocabulary`: stands beside `hash`"),
        ("kind = \"category\"\nseed = 1\n+", "field `seed`: is that of a hash, and there is none"),
        ("kind = \"category\"\nhash = -1\n+", "field `hash`: -1 is out of range"),
        ("kind = \"cross\"\nof = \"user\"", "field `of`: \"user\" is no list of names"),
        ("kind = \"recent\"\ncolumn = \"category\"\nlast = 0", "field `last`: 0 is out of range"),
        ("kind = \"recent\"\ncolumn = \"category\"\nof = \"user\"", "field `of`: is not known here"),
    ];
    for (fields, expected) in cases {
        let error = error(&format!("name = \"age\"\n{}", fields.replace('+', column)));
        assert!(error.contains(&format!("feature \"age\", {expected}")), "{fields}\n{error}");
    }
}

#[test]
fn defaults() {
    let kinds: Vec<FeatureKind> = specs(
        "[[features]]\nname = \"a\"\nkind = \"category\"\nof = \"user\"\ncolumn = \"x\"\n\
         [[features]]\nname = \"b\"\nkind = \"bucket\"\nof = \"event-context\"\ncolumn = \"x\"\n\
         [[features]]\nname = \"c\"\nkind = \"cross\"\nof = [\"a\", \"b\"]\n\
         [[features]]\nname = \"d\"\nkind = \"recent\"\ncolumn = \"x\"\nhash = 8\n\
         [[features]]\nname = \"e\"\nkind = \"numeric\"\nof = \"item\"\ncolumn = \"x\"\n",
    )
    .into_iter()
    .map(|spec| spec.kind)
    .collect();
    let column = || "x".to_owned();
    let expected = [
        FeatureKind::Category { of: Side::User, column: column(), levels: Levels::Vocabulary { most: 10_000 } },
        FeatureKind::Bucket { of: Side::EventContext, column: column(), buckets: 16 },
        FeatureKind::Cross { of: vec!["a".to_owned(), "b".to_owned()], hash: 50_000, seed: 0 },
        FeatureKind::Recent { column: column(), last: 10, levels: Levels::Hash { rows: 8, seed: 0 } },
        FeatureKind::Numeric { of: Side::Item, column: column(), normalise: Normalise::Standard },
    ];
    assert_eq!(kinds, expected);
}

proptest! {
    #[test]
    fn written_and_read_it_is_the_same(
        name in "[a-z]([ a-z]{0,8}[a-z])?", column in "\\PC{1,9}", rows in 1u32..1_000, seed: u64, pick in 0usize..7, side in 0usize..3,
    ) {
        let of = [Side::User, Side::Item, Side::EventContext][side];
        let levels = [Levels::Hash { rows, seed }, Levels::Vocabulary { most: rows }][pick % 2];
        let normalise = [Normalise::Standard, Normalise::Log, Normalise::Quantile, Normalise::None][pick % 4];
        let kind = match pick {
            0 | 1 => FeatureKind::Category { of, column, levels },
            2 | 3 => FeatureKind::Recent { column, last: rows, levels },
            4 => FeatureKind::Bucket { of, column, buckets: rows + 1 },
            5 => FeatureKind::Cross { of: vec![column, name.clone()], hash: rows, seed },
            _ => FeatureKind::Numeric { of, column, normalise },
        };
        let spec = FeatureSpec { name, kind };
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FeatureSpec>(&text).unwrap(), &spec);
    }
}

#[test]
fn features_that_cannot_be_made_are_refused() {
    let rows: Vec<Row> = (0..6).map(|n| (n / 3, n % 3, i64::from(n), true, 0)).collect();
    let data = log(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    let feature = |of: &str, column: &str| {
        format!("[[features]]\nname = \"x\"\nkind = \"numeric\"\nof = \"{of}\"\ncolumn = \"{column}\"\n")
    };
    let cross = |of: &str| {
        let provider = "[[features]]\nname = \"p\"\nkind = \"category\"\nof = \"item\"\ncolumn = \"provider\"\n";
        format!("{provider}{}[[features]]\nname = \"c\"\nkind = \"cross\"\nof = {of}\n", feature("user", "age"))
    };
    let cases = [
        (feature("user", "price"), "there is no `price` of the users; there are `user_id`, `age`, `region`"),
        (
            feature("item", "title"),
            "there is no `title` of the items; there are `item_id`, `provider`, `price`, `created_at`",
        ),
        (feature("event-context", "second"), "there are `hour`, `weekday`, `month`, `query`"),
        (feature("item", "provider"), "`provider` holds \"p1\", which is no number"),
        (feature("user", "age").repeat(2), "feature \"x\", field `name`: is that of another feature too"),
        (cross("[\"p\"]"), "feature \"c\", field `of`: names 1 features; a cross takes 2 to 8"),
        (cross("[\"p\", \"p\"]"), "names \"p\" twice"),
        (cross("[\"p\", \"q\"]"), "there is no feature \"q\"; those that can be crossed are: p"),
        (cross("[\"p\", \"x\"]"), "\"x\" is no category and no bucket"),
        (cross("[\"p\", \"c\"]"), "\"c\" is no category and no bucket"),
    ];
    for (text, expected) in cases {
        let error = fit(&data, &split, &specs(&text)).unwrap_err();
        assert!(matches!(error, DataError::Feature { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut untimed = data.clone();
    untimed.events.timestamp = None;
    let split = Split::new(&untimed, &SplitStrategy::Random { valid: 0.2, test: 0.2, seed: 0 }).unwrap();
    let error = fit(&untimed, &split, &specs(&feature("event-context", "hour"))).unwrap_err().to_string();
    assert!(error.contains("`hour` needs times"), "{error}");
    // Without features there is nothing, and that is fine.
    let none = fit(&data, &Split::new(&data, &SplitStrategy::LeaveLast).unwrap(), &[]).unwrap();
    assert!(everything(&none, 0).iter().all(|row| row.0.is_empty() && row.1.is_empty()));
}

#[test]
fn feedback_of_the_event_is_no_feature() {
    let rows: Vec<Row> = (0..6).map(|n| (n / 3, n % 3, i64::from(n), true, 0)).collect();
    let data = log(&rows);
    let split = Split::new(&data, &SplitStrategy::LeaveLast).unwrap();
    for of in ["user", "item", "event-context"] {
        for (column, why) in [
            ("click", "nobody knows it before the event has happened"),
            ("rating", "behaviour features and histories, which count only events before"),
            ("position", "known only once it is shown"),
            ("propensity", "known only once it is shown"),
            ("timestamp", "Take `hour`"),
        ] {
            let text = format!("[[features]]\nname = \"x\"\nkind = \"category\"\nof = \"{of}\"\ncolumn = \"{column}\"");
            let error = fit(&data, &split, &specs(&text)).unwrap_err();
            assert!(
                matches!(&error, DataError::ForbiddenFeature { column: named, .. } if named == column),
                "{error:?}"
            );
            let text = error.to_string();
            assert!(text.contains(why) && text.contains(&format!("feature \"x\" reads `{column}`")), "{text}");
        }
    }
}
