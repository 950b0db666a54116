//! Rows of data from every kind of file.

use rwkv_eval::data::{Row, read_split, split_files};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

/// A folder with one file of a task `t`.
fn with(name: &str, content: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t").join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
    folder
}

fn values(rows: &[Row]) -> Vec<(usize, Value)> {
    rows.iter().map(|row| (row.line, Value::Object(row.columns.clone()))).collect()
}

fn read(name: &str, content: &[u8]) -> Vec<(usize, Value)> {
    values(&read_split(with(name, content).path(), "t", "test").unwrap_or_else(|error| panic!("{error}")))
}

fn refused(name: &str, content: &[u8]) -> String {
    let said = read_split(with(name, content).path(), "t", "test").expect_err("refused").to_string();
    assert!(said.contains(name) && !said.contains('\n'), "{said}");
    said
}

#[test]
fn json_lines_may_have_blank_ones_and_the_marks_of_windows() {
    let rows = read("test.jsonl", b"\xef\xbb\xbf{\"a\": 1}\r\n\r\n  \n{\"a\": \"x\\ny\"}\r\n{\"a\": null}");
    assert_eq!(rows, [(1, json!({"a": 1})), (4, json!({"a": "x\ny"})), (5, json!({"a": null}))]);
    for (name, nothing) in [("test.jsonl", "\n \n"), ("test.jsonl", ""), ("test.json", "[]"), ("test.json", "{}")] {
        assert!(refused(name, nothing.as_bytes()).contains("holds no rows"), "{name} {nothing:?}");
    }
    // U+2028 ends a line for some programs, not for this format.
    assert_eq!(read("test.jsonl", "{\"a\": \"x\u{2028}y\"}".as_bytes()), [(1, json!({"a": "x\u{2028}y"}))]);
}

#[test]
fn broken_lines_are_named() {
    let said = refused("test.jsonl", b"{\"a\": 1}\n\n{\"a\": 1,}\n");
    assert!(said.contains("line 3: column 9") && !said.contains("line 1"), "{said}");
    let said = refused("test.jsonl", b"{\"a\": 1}\n{\"a\": \"caf\xe9\"}\n");
    assert!(said.contains("line 2: byte 11 is not UTF-8"), "{said}");
    assert!(refused("test.jsonl", b"[1]").contains("line 1: a row should be an object and is an array"));
    assert!(refused("test.jsonl", b"{\"a\": 1} {\"a\": 2}").contains("line 1: column 10"));
}

#[test]
fn json_has_rows_in_several_shapes() {
    let expected = [(1, json!({"a": 1, "b": "x"})), (2, json!({"a": 2, "b": "y"}))];
    for text in [
        r#"[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]"#,
        r#"{"version": 3, "data": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}"#,
        r#"{"features": [], "rows": [{"row_idx": 0, "row": {"a": 1, "b": "x"}}, {"row": {"a": 2, "b": "y"}}]}"#,
        r#"{"a": [1, 2], "b": ["x", "y"]}"#,
    ] {
        assert_eq!(read("test.json", text.as_bytes()), expected, "{text}");
    }
    assert_eq!(read("test.json", br#"{"data": ["x"], "b": [1]}"#), [(1, json!({"data": "x", "b": 1}))]);
    assert!(refused("test.json", b"{\n\"a\": }").contains("line 2 column"));
    assert!(refused("test.json", br#"{"a": [1], "b": []}"#).contains("1 rows in one column and 0 in \"b\""));
    assert!(refused("test.json", br#"{"a": 1}"#).contains("\"a\" is a number"));
    assert!(refused("test.json", br#"[{"a": 1}, 2]"#).contains("test.json, row 2: a row should be an object"));
    assert!(refused("test.json", b"3").contains("a number"));
    // The hub's viewer gives pages, and cuts long cells.
    let page = |total: usize, cut: &str| {
        let rows = format!(
            r#"{{"row": {{"a": 1}}, "truncated_cells": []}}, {{"row": {{"a": 2}}, "truncated_cells": [{cut}]}}"#
        );
        format!(r#"{{"rows": [{rows}], "num_rows_total": {total}, "partial": false}}"#)
    };
    assert_eq!(read("test.json", page(2, "").as_bytes()), [(1, json!({"a": 1})), (2, json!({"a": 2}))]);
    assert!(refused("test.json", page(1838, "").as_bytes()).contains("2 of 1838 rows"));
    assert!(refused("test.json", page(2, r#""a""#).as_bytes()).contains("in row 2: a;"));
}

#[test]
fn structures_and_lists_come_out_of_parquet() {
    let rows = read_split(&fixtures(), "arc_easy", "test").expect("rows");
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3]);
    let second = json!({"text": ["lichen", "dipper", "granite", "moss"], "label": ["1", "2", "3", "4"]});
    assert_eq!(rows[1].column("choices").expect("a column"), &second);
    assert_eq!(rows[2].text("question").expect("a text"), "Was bedeutet „Fluß“? 川");
    assert!(rows[0].error("is odd").to_string().contains("test.parquet, row 1: is odd"));
}

#[test]
fn shards_are_read_in_order() {
    let goals = |split: &str| {
        let rows = read_split(&fixtures(), "piqa", split).expect("rows");
        rows.iter().map(|row| row.text("goal").expect("a text").to_owned()).collect::<Vec<_>>()
    };
    let all = |count: usize| (0..count).map(|i| format!("Goal {i}")).collect::<Vec<_>>();
    assert_eq!((goals("validation"), goals("train")), (all(7), all(6)));
    let rows = read_split(&fixtures(), "piqa", "validation").expect("rows");
    assert_eq!(rows[0].columns["sol1"], " one 0 ", "spaces stay");
    assert_eq!(rows[1].columns["label"], 1);
    assert_eq!((rows[5].line, rows[5].file.ends_with("0001.parquet")), (1, true), "rows are counted in each file");
    assert_eq!(split_files(&fixtures(), "piqa", "train").expect("files").len(), 3);
}

#[test]
fn every_type_has_its_value() {
    let expected = [
        json!({"none": null, "small": -1, "large": 1_099_511_627_776_i64, "unsigned": 9_223_372_036_854_775_809_u64,
               "double": 0.5, "flag": true, "lists": [["a"], []], "words": "yes", "long": "l".repeat(300),
               "structures": [{"a": 1}]}),
        json!({"none": "x", "small": null, "large": 0, "unsigned": 0, "double": null, "flag": false, "lists": null,
               "words": "no", "long": "", "structures": []}),
        json!({"none": null, "small": 127, "large": -1, "unsigned": 1, "double": -2.0, "flag": null,
               "lists": [["b", null]], "words": "yes", "long": "\n\t\"", "structures": [{"a": 2}, {"a": null}]}),
    ];
    for compression in ["brotli", "lz4", "none"] {
        let rows = read_split(&fixtures(), "types", compression).unwrap_or_else(|error| panic!("{error}"));
        let rows: Vec<Value> = rows.into_iter().map(|row| Value::Object(row.columns)).collect();
        assert_eq!(rows, expected, "{compression}");
    }
    let rows = read_split(&fixtures(), "types", "binary").expect("bytes that are text");
    let expected = [(1, json!({"text": "Fluß", "inner": [{"a": "x"}]})), (2, json!({"text": "", "inner": []}))];
    assert_eq!(values(&rows), expected);
    let said = read_split(&fixtures(), "types", "raw").expect_err("bytes that are no text").to_string();
    assert!(said.contains("raw.parquet, row 2: column text holds bytes"), "{said}");
    let said = read_split(&fixtures(), "types", "zstd").expect_err("no C compiler").to_string();
    assert!(said.contains("zstd.parquet") && said.contains("snappy"), "{said}");
}

#[test]
fn damaged_parquet_is_an_error_and_never_a_panic() {
    let whole = std::fs::read(fixtures().join("arc_easy/test.parquet")).expect("the fixture");
    let folder = with("test.parquet", &whole);
    let file = folder.path().join("t/test.parquet");
    for length in (0..whole.len()).step_by(37) {
        std::fs::write(&file, &whole[..length]).expect("written");
        let said = read_split(folder.path(), "t", "test").expect_err("cut").to_string();
        assert!(said.contains("test.parquet"), "{said}");
    }
    let (mut fine, mut refused) = (0, 0);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0xff;
        std::fs::write(&file, damaged).expect("written");
        match read_split(folder.path(), "t", "test") {
            Ok(_) => fine += 1,
            Err(error) => {
                assert!(error.to_string().contains("test.parquet"), "{error}");
                refused += 1;
            }
        }
    }
    println!("of {} files with a byte changed {refused} were refused, {fine} read", whole.len());
    assert!(refused > 100);
}

#[test]
fn a_split_that_is_missing_is_told_from_those_that_are_there() {
    let said = |dir: &Path, task: &str| read_split(dir, task, "test").expect_err("missing").to_string();
    let text = said(&fixtures(), "piqa");
    for part in ["piqa/test.jsonl", "piqa/test/0000.parquet", "piqa has splits train, validation", "data: looked for"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(said(&fixtures(), "sciq").contains("there is no folder sciq, but folders arc_easy, piqa, types"));
    assert!(said(Path::new("/no/such"), "sciq").contains("there is no such folder"));
    let folder = with("test-00000-of-00002.parquet", b"");
    assert!(said(folder.path(), "t").contains("one of 2 shards"));
    let folder = with("test/0001.parquet", b"");
    assert!(said(folder.path(), "t").contains("0000.parquet is missing"));
}

#[test]
fn lines_come_before_parquet() {
    let folder = with("test.jsonl", b"{\"a\": 1}");
    std::fs::write(folder.path().join("t/test.parquet"), "rubbish").expect("written");
    assert_eq!(read_split(folder.path(), "t", "test").expect("the lines").len(), 1);
}
