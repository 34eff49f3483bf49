use super::*;
use proptest::prelude::*;

/// Renders with every field named by its capital letter, except those in `missing`.
#[track_caller]
fn check(template: &str, missing: &str, expected: &str) {
    let rendered = Template::parse(template).unwrap().render(|field| {
        let missing = missing.split(' ').any(|name| name == field);
        if missing { None } else { Some(["A", "B", "C", "D"][usize::from(field.as_bytes()[0] - b'a')]) }
    });
    assert_eq!(rendered, expected, "template `{template}` without `{missing}`");
}

#[test]
fn complete_items_are_written_as_the_template_says() {
    check("{a}. {b}", "", "A. B");
    check("{a} ({b}), [by {c}] “{d}”", "", "A (B), by C “D”");
    check("100% {a}: {{b}} [[c]] {b}!", "", "100% A: {b} [c] B!");
    check("  {a}\n\t{b} ", "", "A B");
}

#[test]
fn a_missing_field_takes_its_separator_along() {
    check("{a}. {b}", "b", "A");
    check("{a}. {b}", "a", "B");
    check("{a}. {b}.", "b", "A.");
    check("{a}. {b}.", "a", "B.");
    check("{a}, {b}, {c}", "b", "A, C");
    check("{a}, {b}, {c}", "b c", "A");
    check("{a}, {b}, {c}.", "b c", "A.");
    check("{a}, {b}, {c}", "a b", "C");
    check("{a} {b} - {c}", "b", "A - C");
    check("{a} - {b} {c}", "b", "A - C");
    check("{a}{b}", "a", "B");
}

#[test]
fn empty_brackets_and_quotes_vanish_and_full_ones_stay() {
    check("{a} ({b}), {c}", "b", "A, C");
    check("{a} ({b})", "b", "A");
    check("({a}) {b}", "a", "B");
    check("{a} \"{b}\" {c}", "b", "A C");
    check("{a} [[({b})]] {c}", "b", "A C");
    check("({a}, {b})", "a", "(B)");
    check("({a}, {b})", "b", "(A)");
    check("{a} ({b}, {c}) {d}", "b", "A (C) D");
    check("{a} ({b}, {c}) {d}", "c", "A (B) D");
    check("{a} ({b}, {c}) {d}", "b c", "A D");
    check("({a}) {b} ({c})", "b", "(A) (C)");
    check("\"{a}\" {b}", "b", "\"A\"");
    check("\"{a}, {b}\"", "a", "\"B\"");
}

#[test]
fn groups_vanish_whole_and_words_outside_them_stay() {
    check("{a} [by {b}]. {c}", "b", "A. C");
    check("{a} [by {b}]. {c}", "", "A by B. C");
    check("{a} [by {b} and {c}].", "c", "A.");
    check("{a}. Genres: {b}", "b", "A. Genres");
    check("{a}[. Genres: {b}]", "b", "A");
    check("[{a}, ]{b}", "a", "B");
}

#[test]
fn without_any_field_there_is_no_text() {
    check("{a}. {b}", "a b", "");
    check("Title: {a} ({b})", "a b", "");
    let blank = Template::parse("{a}. {b}").unwrap().render(|field| Some(if field == "a" { " \t" } else { " x\n y " }));
    assert_eq!(blank, "x y");
}

#[test]
fn fields_are_named_once_in_order() {
    let template: Template = "{b} [{a} { c }] {b}".parse().unwrap();
    assert_eq!(template.fields(), ["b", "a", "c"]);
    assert_eq!(template.to_string(), "{b} [{a} { c }] {b}");
}

#[test]
fn mistakes_are_placed() {
    for (template, at, reason) in [
        ("{title", 1, "never closed"),
        ("{a} x}", 6, "closes nothing"),
        ("{a} [by {b}", 5, "never closed"),
        ("{a} ]", 5, "closes nothing"),
        ("{a} [x]", 5, "no field"),
        ("{a} [b {b} [{c}]]", 12, "nest"),
        ("é{} {a}", 2, "names no field"),
        ("{a{b}", 1, "names no field"),
        ("the same", 1, "every item"),
        ("", 1, "every item"),
    ] {
        match Template::parse(template).unwrap_err() {
            FeatureError::Template { at: found, reason: why, .. } => {
                assert_eq!(found, at, "{template}");
                assert!(why.contains(reason), "{template}: {why}");
            }
            other => panic!("{template}: {other}"),
        }
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_and_renders(source in "[{}\\[\\]a-c ,.()\"é]{0,24}", values in prop::collection::vec(prop::option::of(".{0,6}"), 3)) {
        if let Ok(template) = Template::parse(&source) {
            let text = template.render(|field| values.get(field.len() % 3)?.as_deref());
            prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), text);
        }
    }

    #[test]
    fn no_brace_is_left_and_every_value_is_kept(
        separators in prop::collection::vec("[ ,.()\"&\\-]{0,4}", 4),
        present in prop::collection::vec(any::<bool>(), 3),
    ) {
        let source = format!("{}{{a}}{}{{b}}{}{{c}}{}", separators[0], separators[1], separators[2], separators[3]);
        let value = |field: &str| {
            let index = usize::from(field.as_bytes()[0] - b'a');
            present[index].then_some(["XX", "YY", "ZZ"][index])
        };
        let text = Template::parse(&source).unwrap().render(value);
        prop_assert!(!text.contains(['{', '}']), "{}", text);
        let values: Vec<&str> = ["a", "b", "c"].into_iter().filter_map(value).collect();
        let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
        prop_assert_eq!(letters, values.concat());
    }
}
