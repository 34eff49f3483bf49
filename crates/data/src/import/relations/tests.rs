use std::path::PathBuf;

use super::*;

/// A file of this name and content in a folder of its own, and the relation that reads it.
fn written(file: &str, content: &str, settings: &str) -> (tempfile::TempDir, RelationFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    std::fs::write(&path, content).unwrap();
    let path = path.display();
    let file = if settings.contains("file =") { String::new() } else { format!("file = {:?}\n", path.to_string()) };
    let settings = settings.replace("PATH", &path.to_string());
    (folder, toml::from_str(&format!("name = \"bought\"\n{file}{settings}")).unwrap())
}

fn read(file: &str, content: &str, settings: &str) -> Result<Relations, DataError> {
    let (_folder, relation) = written(file, content, settings);
    relation.read(&["a", "b", "c"].map(str::to_owned))
}

#[track_caller]
fn pairs(file: &str, content: &str, settings: &str) -> Vec<(u32, u32)> {
    match read(file, content, settings).unwrap().pairs {
        Related::Items(pairs) => pairs,
        Related::Attributes(names) => panic!("{names:?}"),
    }
}

#[track_caller]
fn refused(file: &str, content: &str, settings: &str, says: &[&str]) {
    let message = read(file, content, settings).unwrap_err().to_string();
    says.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not said: {message}"));
}

#[test]
fn pairs_are_read_from_every_format() {
    let expected = [(0, 2), (1, 0)];
    assert_eq!(pairs("p.tsv", "head\ttail\na\tc\nb\ta\n", ""), expected);
    assert_eq!(pairs("p.csv", "x,tail,head\n1,c,a\n\n2,\"a\",b\n", ""), expected);
    assert_eq!(pairs("p.jsonl", "{\"head\":\"a\",\"tail\":\"c\"}\n{\"tail\":\"a\",\"head\":\"b\"}\n", ""), expected);
    let settings = "file = { path = \"PATH\", format = \"csv\", delimiter = \"|\", columns = [\"p\", \"q\"] }\nhead = \"p\"\ntail = \"q\"";
    assert_eq!(pairs("p.dat", "a|c\nb|a\n", settings), expected);
}

#[test]
fn one_relation_of_several_is_picked() {
    let rows = "head\trelation\ttail\na\tbought\tc\na\tviewed\tb\nb\tbought\ta\n";
    assert_eq!(pairs("p.tsv", rows, ""), [(0, 2), (1, 0)]);
    assert_eq!(pairs("p.tsv", &rows.replace("relation", "kind"), "relation = \"kind\""), [(0, 2), (1, 0)]);
    let lines = "{\"head\":\"a\",\"tail\":\"c\",\"relation\":\"viewed\"}\n{\"head\":\"a\",\"tail\":\"b\",\"relation\":\"bought\"}\n";
    assert_eq!(pairs("p.jsonl", lines, ""), [(0, 1)]);
    refused("p.tsv", &rows.replace("bought", "sold"), "", &["no row has the relation `bought`", "sold, viewed"]);
    refused("p.tsv", "head\ttail\na\tc\n", "relation = \"kind\"", &["no column `kind`"]);
    refused("p.tsv", "head\trelation\ttail\na\t\tc\n", "", &["line 2, column `relation`", "empty"]);
}

#[test]
fn attributes_are_names() {
    let read = read("p.csv", "head,tail\na,Acme\nb,\nz,Acme\nc,Acme & Co\n", "to = \"attributes\"").unwrap();
    let named = |item, name: &str| (item, name.to_owned());
    assert_eq!(read.pairs, Related::Attributes(vec![named(0, "Acme"), named(2, "Acme & Co")]));
    assert_eq!((read.rows, read.unknown), (2, 1));
}

#[test]
fn unknown_items_are_counted() {
    let read = read("p.tsv", "head\ttail\na\tb\na\tz\nz\ta\ny\tz\n", "").unwrap();
    assert_eq!((read.rows, read.unknown, read.pairs), (1, 3, Related::Items(vec![(0, 1)])));
    refused("p.tsv", "head\ttail\nB1\ta\nB2\ta\n", "", &["none of its 2 rows", "`a`", "`B1`"]);
}

#[test]
fn malformed_lines_are_named() {
    refused("p.tsv", "head\ttail\na\tb\na\tb\tc\n", "", &["p.tsv, line 3", "3 fields instead of 2"]);
    refused("p.tsv", "head\ttail\n\n\tb\n", "", &["p.tsv, line 3, column `head`", "empty"]);
    refused("p.csv", "head,tail\na,\n", "", &["p.csv, line 2, column `tail`"]);
    refused("p.csv", "head,tail\na,\"b\n", "", &["line 2", "never closed"]);
    refused("p.jsonl", "{\"head\":\"a\",\"tail\":\"b\"}\n[1]\n", "", &["line 2", "no JSON object"]);
    refused("p.tsv", "item\ttail\na\tb\n", "", &["no column `head`", "`item`"]);
    let (_folder, relation) = written("p.tsv", "", "");
    let gone = RelationFile { file: relation.file.at(PathBuf::from("nowhere.tsv")), ..relation };
    assert!(gone.read(&["a".into()]).unwrap_err().to_string().contains("nowhere.tsv"));
}

#[test]
fn what_was_written_is_written_again() {
    let long = "name = \"brand\"\nweight = 0.5\nto = \"attributes\"\nhead = \"sku\"\ntail = \"maker\"\n\n[file]\ncolumns = [\"sku\", \"maker\"]\n\
        delimiter = \"|\"\nformat = \"csv\"\npath = \"makers.txt\"\n";
    let relation: RelationFile = toml::from_str(long).unwrap();
    let again: RelationFile = toml::from_str(&toml::to_string(&relation).unwrap()).unwrap();
    assert_eq!(again, relation);
    assert_eq!(again.file.path(), Path::new("makers.txt"));
    assert_eq!(relation.file.at("x/y.txt".into()).path(), Path::new("x/y.txt"));
    for (wrong, says) in [
        ("name = \"x\"\nfile = \"a.txt\"", "cannot be told from its name"),
        ("name = \"x\"\nfile = { path = \"a.tsv\", delimeter = \";\" }", "delimeter"),
        ("name = \"x\"\nfile = { path = \"a.tsv\", delimiter = \"\" }", "`delimiter` is empty"),
        ("name = \"x\"\nfile = \"a.tsv\"\nto = \"users\"", "users"),
    ] {
        let message = toml::from_str::<RelationFile>(wrong).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn the_checksum_follows_the_rows_and_not_the_format() {
    let checksum = |file, content| read(file, content, "").unwrap().checksum;
    let first = checksum("p.tsv", "head\ttail\na\tb\nz\tab\n");
    assert_eq!(first, checksum("p.csv", "tail,head\nb,a\nab,z\n"));
    assert_ne!(first, checksum("p.tsv", "head\ttail\na\tb\nza\tb\n"));
    assert_ne!(first, checksum("p.tsv", "head\ttail\na\tb\n"));
}
