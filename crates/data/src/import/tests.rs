use std::cell::RefCell;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::UserColumn;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn lenient<'a>() -> ImportOptions<'a> {
    ImportOptions { max_bad_share: 1.0, ..ImportOptions::default() }
}

#[track_caller]
fn parse(descriptor: &str) -> Descriptor {
    Descriptor::parse("test.toml", &format!("name = 'test'\n{descriptor}")).unwrap()
}

/// Imports one CSV log; the catalogue is whatever it names.
#[track_caller]
fn import_log(columns: &str, log: &str) -> (Dataset, CleaningReport) {
    let folder = folder(&[("log.csv", log)]);
    let descriptor = parse(&format!("[[events]]\nfile = 'log.csv'\nuser_id = 'u'\nitem_id = 'i'\n{columns}"));
    import(&descriptor, folder.path(), lenient()).unwrap()
}

/// The only file's rows of one log that were dropped, by reason.
#[track_caller]
fn check_dropped(columns: &str, log: &str, expected: &[(DropReason, u64)]) {
    let (_, report) = import_log(columns, log);
    let file = &report.files[0];
    assert_eq!(file.dropped, expected.iter().copied().collect());
    assert_eq!(file.read, file.kept + file.repeated + file.merged + file.bad());
}

#[test]
fn rows_are_dropped_by_reason() {
    use DropReason::{BadNumber, BadTime, FieldCount, MissingField, OpenQuote, OutOfRange, Undecodable};
    let good = "u,i,r,t\n1,a,4,10\n";
    let columns = "timestamp = 't'\nfeedback.r = { column = 'r', max = 5 }";
    for (row, reason) in [
        ("1,b,four,10", BadNumber),
        ("1,b,4,noon", BadTime),
        ("1,b,4", FieldCount),
        ("1,b,4,10,x", FieldCount),
        ("1,,4,10", MissingField),
        (" ,b,4,10", MissingField),
        ("1,b,4,", MissingField),
        ("1,\"b,4,10", OpenQuote),
        ("1,b,6,10", OutOfRange),
    ] {
        check_dropped(columns, &format!("{good}{row}\n2,c,5,11\n"), &[(reason, 1)]);
    }
    let folder = folder(&[]);
    fs::write(folder.path().join("log.csv"), b"u,i\n1,caf\xE9\n1,tea\n").unwrap();
    let descriptor = |encoding: &str| {
        parse(&format!(
            "[[events]]\nfile = {{ path = 'log.csv', encoding = '{encoding}' }}\nuser_id = 'u'\nitem_id = 'i'"
        ))
    };
    let (_, report) = import(&descriptor("utf-8"), folder.path(), lenient()).unwrap();
    assert_eq!(report.files[0].dropped[&Undecodable], 1);
    let (dataset, _) = import(&descriptor("latin1"), folder.path(), lenient()).unwrap();
    assert_eq!(dataset.items.ids, ["café", "tea"]);
}

#[test]
fn repeated_rows_are_merged_and_the_later_value_wins() {
    let (dataset, report) = import_log(
        "timestamp = 't'\nfeedback = { r = 'r', s = 's' }",
        "u,i,t,r,s\n2,a,1,1,\n1,a,9,3,\n1,a,1,,5\n1,a,9,4,\n1,a,9,,7\n",
    );
    assert_eq!((report.files[0].kept, report.files[0].repeated), (3, 2));
    assert_eq!(dataset.users.ids, ["2", "1"]);
    assert_eq!(dataset.events.user, [0, 1, 1]);
    assert_eq!(dataset.events.timestamp, Some(vec![1, 1, 9]));
    let [r, s] = ["r", "s"].map(|name| dataset.events.feedback[name].clone());
    assert!(r[0] == 1.0 && r[1].is_nan() && r[2] == 4.0, "{r:?}");
    assert!(s[0].is_nan() && s[1] == 5.0 && s[2] == 7.0, "{s:?}");
}

#[test]
fn several_files_join_on_user_and_item() {
    let folder = folder(&[
        ("items.tsv", "id\tname\tcost\n1\tA  \"tea\" &amp; mug\tabc\n2\t\t5\n3\tpot\t7\n1\tA tea\t4\n"),
        ("buy.csv", "u;i\r\nann;1\r\nbob;3\r\nbob;2\r\n"),
        (
            "play.jsonl",
            "{\"who\":{\"id\":\"ann\"},\"what\":1,\"hours\":2.5}\n\n{\"who\":{\"id\":\"cid\"},\"what\":3,\"hours\":null}\n[1]\n",
        ),
        ("people.csv", "id,where,age\nbob,\"lake george, ny, usa\",33\nzoe,,old\n"),
    ]);
    let descriptor = parse(
        "[items]
         file = { path = 'items.tsv', entities = true }
         item_id = 'id'
         text.title = 'name'
         price = 'cost'
         [users]
         file = 'people.csv'
         user_id = 'id'
         categories.country = { column = 'where', after = ', ' }
         numbers.age = 'age'
         [[events]]
         file = { path = 'buy.csv', delimiter = ';' }
         user_id = 'u'
         item_id = 'i'
         feedback.conversion = 1
         [[events]]
         file = 'play.jsonl'
         user_id = 'who.id'
         item_id = 'what'
         feedback.dwell = { column = 'hours', scale = 3600 }",
    );
    let quarantine = folder.path().join("bad/rows.tsv");
    let told = RefCell::new(Vec::new());
    let tell = |done, total| told.borrow_mut().push((done, total));
    let options = ImportOptions { quarantine: Some(quarantine.clone()), max_bad_share: 0.5, progress: Some(&tell) };
    let (dataset, report) = import(&descriptor, folder.path(), options).unwrap();

    assert_eq!(dataset.items.ids, ["1", "3"]);
    assert_eq!(dataset.items.field(0, "title"), Some("A tea"));
    assert_eq!(dataset.items.price, Some(vec![Some(4.0), Some(7.0)]));
    assert_eq!(dataset.users.ids, ["bob", "zoe", "ann", "cid"]);
    assert_eq!(dataset.users.columns["age"], UserColumn::Numeric(vec![Some(33.0), None, None, None]));
    assert_eq!(dataset.users.columns["country"], UserColumn::Categorical(vec![Some("usa".into()), None, None, None]));
    assert_eq!(dataset.events.user, [0, 2, 3]);
    let [conversion, dwell] = ["conversion", "dwell"].map(|name| dataset.events.feedback[name].clone());
    assert!(conversion[0] == 1.0 && conversion[1] == 1.0 && conversion[2].is_nan());
    assert!(dwell[0].is_nan() && dwell[1] == 9000.0 && dwell[2].is_nan());

    let rows = fs::read_to_string(&quarantine).unwrap();
    assert_eq!(
        rows.lines().collect::<Vec<_>>(),
        [
            "file\tline\treason\trow",
            "items.tsv\t3\tempty text: every text field is empty\t2\\t\\t5",
            "buy.csv\t4\tunknown item: no item has the id \"2\"\tbob;2",
            "play.jsonl\t4\tbad JSON: not an object\t[1]",
        ]
    );
    let told = told.into_inner();
    assert!(told.is_sorted() && told.last().is_some_and(|(done, total)| done == total), "{told:?}");

    let merged: Vec<_> = report.files.iter().map(|file| (file.kept, file.repeated, file.merged)).collect();
    assert_eq!(merged, [(2, 1, 0), (2, 0, 0), (2, 0, 0), (1, 0, 1)]);
    let text = report.to_string();
    for expected in [
        "test: 2 items, 4 users, 3 events\n",
        "\n  file        table   read  kept  repeated  merged  dropped\n",
        "\n  play.jsonl  events     3     1         0       1        1\n",
        "\nbuy.csv: 1 dropped: unknown item\n",
        "\nitems.tsv: 1 values of `cost` could not be read and were left empty\n",
        "\npeople.csv: 1 values of `age`",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["files"][2]["dropped"]["unknown-item"], 1);
    assert_eq!(json["feedback"]["dwell"]["observed"], 1);
}

#[test]
fn an_import_with_too_many_bad_rows_stops_after_the_file_and_shows_them_all() {
    let log: String = (0..40).map(|n| format!("u,{n}\nonly one field\n")).collect();
    let folder = folder(&[("log.csv", &format!("u,i\n{log}"))]);
    let descriptor = parse("[[events]]\nfile = 'log.csv'\nuser_id = 'u'\nitem_id = 'i'");
    let quarantine = folder.path().join("bad.tsv");
    let options = ImportOptions { quarantine: Some(quarantine.clone()), ..ImportOptions::default() };
    let error = import(&descriptor, folder.path(), options).unwrap_err().to_string();
    assert!(
        error.contains("40 of 80 rows are bad (50.0 %, at most 5.0 % are allowed), most often: wrong number of fields"),
        "{error}"
    );
    assert!(error.contains("bad.tsv"), "{error}");
    assert_eq!(fs::read_to_string(&quarantine).unwrap().lines().count(), 41);
}

#[test]
fn wrong_input_is_answered_with_what_is_wrong() {
    let files = [
        ("log.csv", "user,item\n1,a\n"),
        ("empty.csv", ""),
        ("log.jsonl", "{\"user\":1,\"thing\":2}\n"),
        ("cut.parquet", "PAR1"),
    ];
    let folder = folder(&files);
    for (file, expected) in [
        ("'log.csv'", "log.csv has no column `thing`; its columns are `user`, `item`"),
        ("{ path = 'log.csv', header = false }", "no column `user`; its columns are `1`, `2`"),
        ("'empty.csv'", "no column `user`; its columns are none at all"),
        ("'none.csv'", "cannot find"),
        ("'cut.parquet'", "cut.parquet is not a whole Parquet file"),
        ("'log.jsonl'", "log.jsonl has no column `click`; its columns are `thing`, `user`"),
        ("{ path = 'log.jsonl', skip = 1 }", "no row is left for the table of items"),
    ] {
        let descriptor =
            parse(&format!("[[events]]\nfile = {file}\nuser_id = 'user'\nitem_id = 'thing'\nfeedback.click = 'click'"));
        let error = import(&descriptor, folder.path(), lenient()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_quoted_field_may_hold_line_ends_and_an_open_quote_costs_one_line() {
    let (dataset, report) = import_log("", "u,i\n1,\"tall\nmug\"\n2,\"open\n3,tea\n4,\"a \"\"b\"\"\"\n");
    // The line after the open quote closes nothing; the quote of the last line does, but leaves a field too few.
    assert_eq!(dataset.items.ids[0], "tall\nmug");
    assert_eq!(report.files[0].read, report.files[0].kept + report.files[0].bad());
    let (dataset, report) = import_log("", "u,i\n2,\"open\n3,tea\n4,mug\n");
    assert_eq!(dataset.items.ids, ["tea", "mug"]);
    assert_eq!(report.files[0].dropped[&DropReason::OpenQuote], 1);
}

#[test]
fn other_formats_and_encodings_are_read() {
    let folder = folder(&[("seq.txt", "ann b a\nbob\n\ncid a\n"), ("names", "a  Rose & tea\nb mug\n")]);
    let utf16: Vec<u8> = "\u{feff}u|i\n1|Tee für zwei\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.path().join("log.csv"), utf16).unwrap();
    let descriptor = parse(
        "[items]\nfile = { path = 'names', format = 'split-once', columns = ['id', 'text'] }\nitem_id = 'id'\ntext.title = 'text'
         [[events]]\nfile = { path = 'seq.txt', format = 'sequences' }\nuser_id = 'user'\nitem_id = 'item'\ntimestamp = 'position'\nfeedback.click = 1",
    );
    let (dataset, report) = import(&descriptor, folder.path(), lenient()).unwrap();
    assert_eq!(dataset.items.field(0, "title"), Some("Rose & tea"));
    assert_eq!(dataset.events.item, [1, 0, 0]);
    assert_eq!(dataset.events.timestamp, Some(vec![1, 2, 1]));
    assert_eq!(report.files[1].dropped[&DropReason::MissingField], 1);

    let descriptor = parse(
        "[[events]]\nfile = { path = 'log.csv', delimiter = '|', encoding = 'utf-16le' }\nuser_id = 'u'\nitem_id = 'i'",
    );
    let (dataset, _) = import(&descriptor, folder.path(), lenient()).unwrap();
    assert_eq!(dataset.items.ids, ["Tee für zwei"]);
}

#[test]
fn canonical_tables_can_be_raw_data_and_need_no_import() {
    let (dataset, _) = import_log(
        "timestamp = 't'\npropensity = 'p'\nrequest_id = 'r'\nposition = 'n'\nfeedback.click = 1",
        "u,i,t,p,r,n\n1,a,7,0.5,x,1\n1,b,7,0.25,x,2\n1,c,8,0,x,3\n",
    );
    assert_eq!(dataset.events.propensity, Some(vec![0.5, 0.25]));
    let folder = tempfile::tempdir().unwrap();
    dataset.write(folder.path()).unwrap();
    let (same, report) = import(&parse(""), folder.path(), lenient()).unwrap();
    assert_eq!(same, dataset);
    assert!(report.files.is_empty());

    let descriptor = parse(
        "[[events]]\nfile = 'events.parquet'\nuser_id = 'user_id'\nitem_id = 'item_id'\ntimestamp = 'timestamp'
         propensity = 'propensity'\nrequest_id = 'request_id'\nposition = 'position'\nfeedback.click = 'click'",
    );
    let (same, _) = import(&descriptor, folder.path(), lenient()).unwrap();
    assert_eq!(same, dataset);
}
