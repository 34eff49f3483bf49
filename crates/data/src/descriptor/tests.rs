use super::*;

const GOOD: &str = r#"
name = "shop"
[items]
file = "goods.tsv"
item_id = "sku"
text.title = { column = "name", replace = [["|", ", "]] }
[[events]]
file = { path = "log", format = "csv", encoding = "latin1", columns = ["u", "i", "t", "stars"] }
user_id = "u"
item_id = "i"
timestamp = { column = "t", unit = "ms" }
feedback = { click = 1, rating = { column = "stars", min = 1, max = 5 } }
[finetune]
engaged = "click"
"#;

/// The error of the good descriptor with one text replaced.
#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from:?} is not in the descriptor");
    let error = Descriptor::parse("x.toml", &GOOD.replace(from, to)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("x.toml") && text.contains(expected), "{text}");
}

#[test]
fn both_forms_are_understood() {
    let descriptor = Descriptor::parse("x.toml", GOOD).unwrap();
    let items = descriptor.items.as_ref().unwrap();
    assert_eq!(items.file.format, Format::Tsv);
    assert!(!items.file.quote);
    assert_eq!(items.text["title"].replace, [("|".to_owned(), ", ".to_owned())]);
    let events = &descriptor.events[0];
    assert_eq!(events.file.encoding, encoding_rs::WINDOWS_1252);
    assert!(matches!(&events.file.header, Header::Named(names) if names.len() == 4));
    assert_eq!(events.timestamp.as_ref().unwrap().unit, TimeUnit::Ms);
    assert_eq!(events.feedback["click"], FeedbackSpec::Constant(1.0));
    assert!(matches!(&events.feedback["rating"], FeedbackSpec::Column(n) if n.max == Some(5.0)));
    assert_eq!(descriptor.finetune["engaged"].as_str(), Some("click"));
}

#[test]
fn errors_name_line_and_field() {
    check("sku\"\ntext", "sku\"\ntexts", "line 6: unknown field `texts`");
    check("item_id = \"sku\"", "", "line 3: missing field `item_id`");
    check("latin1", "klingon", "line 8: no encoding is called \"klingon\"");
    check("\"goods.tsv\"", "\"goods.xls\"", "line 4: the format of \"goods.xls\"");
    check("\"goods.tsv\"", "7", "line 4: 7 is a number; a file name");
    check("unit = \"ms\"", "unit = \"days\"", "line 11: unknown variant `days`");
    check("min = 1", "minimum = 1", "line 12: unknown field `minimum`");
    check("click = 1", "click = true", "line 12: invalid type: boolean");
    check("click = 1", "click = inf", "line 12: inf is no feedback");
    check("name = \"shop\"", "name = ", "line 2");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    check("\"shop\"", "\" \"", "`name` is empty");
    check(
        "[[events]]",
        "[[events]]\nfile='a.csv'\nuser_id='u'\nitem_id='i'\n[[events]]",
        "`events.timestamp` is given for 1 of 2",
    );
    check("text.title", "text.price", "`items.text.price`");
    check("click = 1", "position = 1", "`events.feedback.position`");
    check("\"csv\"", "\"split-once\"", "two names");
    check("\"csv\"", "\"jsonl\"", "`events[0].file`: the names of the columns");
    check("\"latin1\"", "\"latin1\", delimiter = \"\"", "`delimiter` is empty");
    check("\"latin1\"", "\"latin1\", header = true", "skip = 1");
}

#[test]
fn a_bare_name_means_canonical_tables() {
    let bare = Descriptor::parse("x.toml", "name = 'x'\nlicence = 'MIT'").unwrap();
    assert!(bare.is_canonical());
    let error = Descriptor::read(Path::new("/nowhere/x.toml")).unwrap_err();
    assert!(error.to_string().contains("cannot read /nowhere/x.toml"));
}
