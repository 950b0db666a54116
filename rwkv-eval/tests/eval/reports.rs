//! Reports and comparisons, as data and as files.

use crate::support::evaluation;
use rwkv_core::chart::{Chart, Look, Series};
use rwkv_eval::compare::Comparison;
use rwkv_eval::report::paper::select;
use rwkv_eval::report::{Cell, Column, Document, Evaluation, Part, Section, Table};
use std::path::Path;

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "br", "hr"];

/// Fails unless every element ends where it should, and nothing is fetched from elsewhere.
fn check_page(html: &str) {
    for elsewhere in
        ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe", "//"]
    {
        assert!(!html.to_lowercase().contains(elsewhere), "the page names {elsewhere}");
    }
    let mut open: Vec<&str> = Vec::new();
    for rest in html.split('<').skip(1) {
        let (tag, text) = rest.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "a bare > after {tag}: {text}");
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "an end without a beginning"),
            None => {
                let name = tag.split([' ', '\n']).next().expect("a name");
                assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag}");
                open.extend((!VOID.contains(&name)).then_some(name));
            }
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
}

fn two() -> Vec<(String, Evaluation)> {
    let (mut small, large) = (evaluation("small", 169_000_000, 0.0), evaluation("large", 430_000_000, 0.05));
    small.results.get_mut("sciq").expect("the task").insert("acc".to_owned(), 0.9);
    vec![("small".to_owned(), small), ("large".to_owned(), large)]
}

#[test]
fn an_evaluation_becomes_files_that_say_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let evaluation = evaluation("runs/<mine> & \"yours\"", 169_342_464, 0.0);
    let out = folder.path().join("new/folder");
    let written = evaluation.document().write(&out, "evaluation", &evaluation).expect("written");
    let names = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(written.charts.iter().map(|path| names(path)).collect::<Vec<_>>(), ["evaluation-accuracy.svg"]);
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 4, "and nothing beside them");
    assert_eq!(Evaluation::read(&written.json).expect("a report"), evaluation);

    let markdown = std::fs::read_to_string(&written.markdown).expect("Markdown");
    assert!(markdown.contains("| piqa | validation | 65.00 ± 1.11 | 66.00 ± 1.11 |  | 1,838 | 0 | 1 |"), "{markdown}");
    assert!(markdown.contains("](<evaluation-accuracy.svg>)"), "{markdown}");
    assert!(
        markdown.contains("| lambada_openai | test | 33.00 ± 0.66 |  | 29.00 ± 0.90 | 5,153 | 0 | 1 |"),
        "{markdown}"
    );

    let html = std::fs::read_to_string(&written.html).expect("HTML");
    check_page(&html);
    for text in [
        "runs/&lt;mine&gt; &amp; &quot;yours&quot;",
        "65.00<span class=\"error\"> ± 1.11</span>",
        "00112233445566778899",
        "evaluate --model &#39;my model.pth&#39; --tasks piqa,sciq",
        "2024-02-29 12:00:00 UTC",
        "n_embd 768, n_layer 12, vocab_size 50277",
        "463 requests and 23,140 tokens a second",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(html.contains(text), "{text} is not in {html}");
    }
    assert!(!html.contains("<mine>"));
}

#[test]
fn a_part_of_the_documents_is_said_to_be_one() {
    let mut evaluation = evaluation("m", 1000, 0.0);
    evaluation.n_samples.get_mut("piqa").expect("the task").effective = 20;
    let document = evaluation.document();
    assert!(document.warnings[0].contains("piqa (20 of 1,838)"), "{:?}", document.warnings);
}

#[test]
fn splits_that_stand_in_and_requests_that_were_cut_are_said() {
    let mut evaluation = evaluation("m", 1000, 0.0);
    assert!(evaluation.document().warnings.is_empty());
    evaluation.settings.splits.insert("sciq".into(), "validation".into());
    evaluation.n_samples.get_mut("piqa").expect("the task").truncated = 1200;
    let document = evaluation.document();
    let [split, cut] = document.warnings.as_slice() else { panic!("{:?}", document.warnings) };
    assert!(split.ends_with(": sciq (validation instead of test)."), "{split}");
    assert!(cut.contains("more than 1,024 tokens") && cut.ends_with(": piqa (1,200)."), "{cut}");
    let setting = |evaluation: &Evaluation, name: &str| {
        let settings = evaluation.document().settings;
        settings.into_iter().find(|(key, _)| key.contains(name)).expect("a setting").1
    };
    assert_eq!(setting(&evaluation, "resamples"), "1,000");
    assert_eq!(setting(&evaluation, "tokenizer's hash"), "99887766554433221100");
    evaluation.settings.resamples = 0;
    assert_eq!(setting(&evaluation, "resamples"), "none");
}

#[test]
fn texts_are_shown_as_they_are() {
    let evil = "</style><script>alert('x')</script> \" onload=\"x\u{1} & <b>";
    let mut document = Document::new(evil);
    document.summary.push(evil.to_owned());
    document.warnings.push(evil.to_owned());
    document.settings.push((evil.to_owned(), evil.to_owned()));
    let mut table = Table::new([Column::text(evil), Column::number(evil)]);
    table.caption = evil.to_owned();
    table.rows.push(vec![Cell::text(evil)]);
    let mut chart = Chart { title: evil.to_owned(), x_name: evil.to_owned(), ..Chart::default() };
    chart.add(evil, Series::new(vec![(0.0, 1.0)], Look::bold(0)));
    document.sections.push(Section::new(evil, [Part::text(evil), Part::Table(table), Part::figure("f", chart, evil)]));
    let html = document.html().expect("a page");
    check_page(&html);
    assert!(!html.contains('\u{1}'));
    assert!(!document.markdown("x").contains("<script"));
}

#[test]
fn a_chart_without_points_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut document = Document::new("empty");
    document.sections.push(Section::new("s", [Part::figure("nothing", Chart::default(), "")]));
    let said = document.write(folder.path(), "name", &1).expect_err("nothing to draw").to_string();
    assert!(said.contains("name-nothing.svg cannot be drawn: no value is a finite number"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn numbers_that_are_not_finite_survive_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut evaluation = evaluation("m", 1000, 0.0);
    evaluation.results.get_mut("lambada_openai").expect("the task").insert("perplexity".to_owned(), f64::INFINITY);
    let written = evaluation.document().write(folder.path(), "e", &evaluation).expect("written");
    let read = Evaluation::read(&written.json).expect("a report");
    assert!(read.results["lambada_openai"]["perplexity"].is_nan());
    assert!(read.document().markdown("e").contains("–"));
}

#[test]
fn what_is_no_report_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = |text: &str| {
        let path = folder.path().join("report.json");
        std::fs::write(&path, text).expect("written");
        Evaluation::read(&path).expect_err("refused").to_string()
    };
    assert!(said("{\"results\": 1}").contains("report.json is no report of an evaluation"));
    assert!(said("{\n\"results\":").contains("line 2 column"));
    assert!(said("[]").contains("no report"));
    assert!(said("{\"results\": {}}").contains("missing field"));
    assert!(Evaluation::read(Path::new("/no/such.json")).expect_err("none").to_string().contains("/no/such.json"));
}

#[test]
fn differences_have_combined_errors_and_the_best_is_marked() {
    let comparison = Comparison::new(&two(), Vec::new()).expect("a comparison");
    let row = |task: &str, metric: &str| {
        comparison.rows.iter().find(|row| row.task == task && row.metric == metric).expect("a row")
    };
    let piqa = row("piqa", "acc");
    let difference = piqa.differences[1].expect("a difference");
    let (one, two) = ((0.65f64 * 0.35 / 1837.0).sqrt(), (0.7f64 * 0.3 / 1837.0).sqrt());
    assert!((difference.value - 0.05).abs() < 1e-12);
    assert!((difference.stderr.expect("an error") - (one * one + two * two).sqrt()).abs() < 1e-15);
    assert_eq!(piqa.differences[0], None);
    let best = |task, metric| row(task, metric).scores.iter().map(|score| score.expect("one").best).collect::<Vec<_>>();
    assert_eq!(best("piqa", "acc"), [false, true]);
    assert_eq!(best("sciq", "acc"), [true, false]);
    assert_eq!(best("lambada_openai", "perplexity"), [false, true], "less is better, 24 against 29");
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
    let order: Vec<&str> = comparison.rows.iter().map(|row| row.task.as_str()).collect();
    assert_eq!((order[0], order[order.len() - 1]), ("lambada_openai", "sciq"), "the paper's order");
}

#[test]
fn settings_that_differ_are_said() {
    let mut models = two();
    models[1].1.settings.context_start = "harness".into();
    models[1].1.settings.limit = Some(20);
    models[1].1.versions.insert("piqa".into(), 2);
    models[1].1.n_shot.insert("sciq".into(), 5);
    models[1].1.n_samples.get_mut("arc_easy").expect("the task").effective = 20;
    models[1].1.settings.data.insert("winogrande".into(), vec![("other.jsonl".into(), "ffff".into())]);
    models[1].1.settings.splits.insert("arc_challenge".into(), "validation".into());
    models[1].1.model.tokenizer_hash = "ffff".into();
    // No examples are drawn for the first, so its seed is nothing that scores depend on.
    models[1].1.settings.seed = 7;
    let warnings = Comparison::new(&models, Vec::new()).expect("a comparison").warnings;
    let expected = [
        "The context's start differs: small reference, large harness.",
        "The limit of documents differs: small none, large 20.",
        "The tokenizer differs: small 998877665544, large ffff.",
        "The split of arc_challenge differs: small test, large validation.",
        "The number of documents of arc_easy differs: small 2376, large 20.",
        "The version of piqa differs: small 1, large 2.",
        "The number of examples before a question of sciq differs: small 0, large 5.",
        "The data of winogrande differs: small 001122334455, large ffff.",
    ];
    assert_eq!(warnings, expected);
    let beside = Comparison::new(&models, select("rwkv").collect()).expect("a comparison").warnings;
    assert_eq!(beside.len(), expected.len() + 4, "{beside:?}");
    let stand_in = "large was asked split validation of arc_challenge, the paper's models test.";
    assert!(beside.iter().any(|warning| warning == stand_in), "{beside:?}");

    models[0].1.n_shot.insert("sciq".into(), 5);
    models[0].1.model.tokenizer_hash.clear();
    let warnings = Comparison::new(&models, Vec::new()).expect("a comparison").warnings;
    let seed = "The seed of the examples before a question differs: small 1234, large 7.";
    assert!(warnings.iter().any(|warning| warning == seed), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.contains("tokenizer")), "an old file has no hash: {warnings:?}");
}

#[test]
fn the_paper_stands_beside_the_models() {
    let comparison = Comparison::new(&two()[..1], select("rwkv-4, pythia").collect()).expect("a comparison");
    let [from] = comparison.from_paper.as_slice() else { panic!("one model: {:?}", comparison.from_paper) };
    assert_eq!(from.paper, "RWKV-4 0.17B");
    let piqa = from.differences[2].expect("the paper has PIQA");
    assert!((piqa.value - (0.65 - 0.6507)).abs() < 1e-12);
    let folder = tempfile::tempdir().expect("a folder");
    let written = comparison.document().write(folder.path(), "comparison", &comparison).expect("written");
    assert_eq!(written.charts.len(), 8, "tasks side by side, and one for each column of the paper's");
    check_page(&std::fs::read_to_string(&written.html).expect("HTML"));
    let markdown = std::fs::read_to_string(&written.markdown).expect("Markdown");
    assert!(markdown.contains("| Pythia | 0.16 | 24.38 | 38.97 |"), "{markdown}");
    assert!(markdown.contains("| small (this report) | 0.17 | 29.00 ± 0.90 |"), "{markdown}");
    let svg = std::fs::read_to_string(folder.path().join("comparison-piqa-acc.svg")).expect("a chart");
    for name in ["RWKV-4", "Pythia", "small", "200M", "10G"] {
        assert!(svg.contains(&format!("\n{name}\n")), "{name}: {svg}");
    }
    let json = std::fs::read_to_string(&written.json).expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["paper"][0]["scores"][1]["value"], 0.3299);
}

#[test]
fn models_of_very_different_size_are_not_the_papers() {
    let own = [("tiny".to_owned(), evaluation("tiny", 1_000_000, 0.0))];
    assert!(Comparison::new(&own, select("").collect()).expect("a comparison").from_paper.is_empty());
    assert!(Comparison::new(&own, Vec::new()).is_err());
    assert!(Comparison::new(&[], select("").collect()).is_err());
}
