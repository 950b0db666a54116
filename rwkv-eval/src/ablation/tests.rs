//! Standings, verdicts and reports of studies whose numbers are known.

use super::*;

/// A baseline, a variant that is worse, one that scatters, one whose runs failed, and one with a single run.
fn study() -> Study {
    let mut study = Study::new("Does <it> matter?", Metric::ValLoss, Provenance::of_this_process("flex"));
    for name in ["rwkv-4", "worse", "noisy", "broken", "single"] {
        let changes = if name == "rwkv-4" { Vec::new() } else { vec![("model.key".to_owned(), name.to_owned())] };
        study.variants.push(Variant { name: name.into(), changes, ..Variant::default() });
    }
    let mut add = |variant: &str, seed: u64, loss: f64| {
        study.curves.push(Curve { variant: variant.into(), seed, points: vec![(1, loss + 1.0), (2, loss)] });
        let (val_loss, seconds) = (Some(loss), Some(60.0));
        study.rows.push(Row { val_loss, seconds, params: Some(1000), ..Row::new(variant, seed) });
    };
    for (seed, [base, worse, noisy]) in
        [[1.50, 1.62, 1.40], [1.60, 1.71, 1.75], [1.55, 1.68, 1.56]].into_iter().enumerate()
    {
        add("rwkv-4", seed as u64, base);
        add("worse", seed as u64, worse);
        add("noisy", seed as u64, noisy);
    }
    add("single", 0, 1.3);
    for seed in 0..3 {
        let error = Some("the loss is NaN at step 7".to_owned());
        study.rows.push(Row { status: Status::Failed, error, ..Row::new("broken", seed) });
    }
    study
}

#[test]
fn standings_are_ranked_tested_and_whole() {
    let study = study();
    let standings = study.standings();
    let names: Vec<&str> = standings.iter().map(|standing| standing.variant.as_str()).collect();
    assert_eq!(names, ["single", "rwkv-4", "noisy", "worse", "broken"], "nothing is left out");
    let outcomes: Vec<Option<Outcome>> = standings.iter().map(|standing| standing.outcome(&study)).collect();
    let expected = [Outcome::NotTested, Outcome::NotToldApart, Outcome::Worse, Outcome::Failed].map(Some);
    assert_eq!((outcomes[0], outcomes[1], &outcomes[2..]), (expected[0], None, &expected[1..]));
    // SciPy's ttest_rel of the losses above: differences 0.12, 0.11, 0.13.
    let worse = &standings[3];
    let test = worse.test.expect("three seeds");
    assert!((test.t - 20.784609690826528).abs() < 1e-6 && test.df == 2, "{test:?}");
    assert!((test.p - 0.0023068033).abs() < 1e-8, "{test:?}");
    assert!((worse.corrected_p.expect("tested") - 2.0 * test.p).abs() < 1e-12, "two tests");
    assert!((worse.difference.expect("paired") - 0.12).abs() < 1e-12);
    assert!((worse.difference_stderr.expect("three") - 0.01 / 3f64.sqrt()).abs() < 1e-12);
    assert_eq!((standings[4].done, standings[4].seeds, standings[4].mean), (0, 3, None));
}

#[test]
fn pairs_are_of_the_same_seed() {
    let mut study = study();
    study.rows.retain(|row| !(row.variant == "worse" && row.seed == 1));
    study.rows.iter_mut().filter(|row| row.variant == "rwkv-4" && row.seed == 2).for_each(|row| row.seed = 9);
    let standings = study.standings();
    let worse = standings.iter().find(|standing| standing.variant == "worse").expect("there");
    assert!((worse.difference.expect("seed 0") - 0.12).abs() < 1e-12);
    assert!(worse.test.is_none() && worse.difference_stderr.is_none());
    assert_eq!(worse.outcome(&study), Some(Outcome::NotTested));
}

#[test]
fn the_verdict_says_what_the_numbers_say() {
    let verdict = study().verdict();
    for words in [
        "Against rwkv-4 (val_loss 1.5500 ± 0.0289), at p < 0.05 in paired t tests with Holm's correction for 2.",
        "Worse: worse (+0.1200).",
        "Not told apart: noisy (+0.0200).",
        "Not tested, having fewer than two seeds in common with it: single (−0.2000).",
        "Without a run that ended well: broken.",
    ] {
        assert!(verdict.contains(words), "{words} is missing in {verdict}");
    }
    assert!(!verdict.contains("Better"), "{verdict}");
    let mut turned = study();
    turned.baseline = "worse".to_owned();
    assert!(turned.verdict().contains("Better: rwkv-4 (−0.1200)."), "{}", turned.verdict());
    turned.baseline = "broken".to_owned();
    assert!(turned.verdict().contains("No run of the baseline broken"), "{}", turned.verdict());
}

#[test]
fn higher_is_better_for_shares() {
    let mut study = study();
    study.metric = Metric::ValExact;
    study.rows.iter_mut().for_each(|row| row.val_exact = row.val_loss.map(|loss| loss - 1.0));
    let names: Vec<String> = study.standings().into_iter().map(|standing| standing.variant).collect();
    assert_eq!(names, ["worse", "noisy", "rwkv-4", "single", "broken"]);
    assert!(study.verdict().contains("Better: worse (+0.1200)."), "{}", study.verdict());
}

#[test]
fn the_report_keeps_everything() {
    let mut study = study();
    study.notes.push("worse has 3 % more parameters".to_owned());
    for (i, variant) in study.variants.iter_mut().enumerate() {
        (variant.x, variant.group) = (Some(2f64.powi(i as i32)), Some(["even", "odd"][i % 2].to_owned()));
    }
    let document = study.document();
    let markdown = document.markdown("ablate");
    for words in [
        "# Does &lt;it&gt; matter?",
        "rwkv-4 (baseline)",
        "| worse | 1,000 | 1.6700 ± 0.0265 | 0.12000 ± 0.00577 | 20.78 (2) | 0.0023 | 0.0046 | worse | 3 | 1.0 |",
        "| broken |  |  |  |  |  |  | failed | 0 of 3 |  |",
        "the loss is NaN at step 7",
        "3 of 13 runs failed",
        "> **Note:** worse has 3 % more parameters",
        "model.key = noisy",
        "ablate-ranking.svg",
        "ablate-curves.svg",
        "ablate-x.svg",
    ] {
        assert!(markdown.contains(words), "{words} is missing in\n{markdown}");
    }
    assert_eq!(document.html().expect("draws").matches("<svg").count(), 3);
    let json = serde_json::to_value(study.numbers()).expect("JSON");
    assert_eq!((&json["standings"][3]["outcome"], &json["standings"][1]["outcome"]), (&"worse".into(), &().into()));
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(13));
}

#[test]
fn a_study_of_which_nothing_ended_well_has_a_report() {
    let mut study = study();
    study.rows.iter_mut().for_each(|row| row.status = Status::Failed);
    study.curves.clear();
    assert_eq!(study.standings().len(), 5);
    assert!(study.document().html().is_ok());
}

#[test]
fn rows_are_read_back() {
    let row = Row { val_loss: Some(1.25), state_bytes: Some(640), ..Row::new("a", 3) };
    let line = serde_json::to_string(&row).expect("JSON");
    assert!(line.contains("\"variant\":\"a\",\"seed\":3,\"status\":\"done\""), "{line}");
    assert_eq!(serde_json::from_str::<Row>(&line).expect("itself"), row);
    assert!("val_los".parse::<Metric>().expect_err("no metric").contains("val_loss, val_accuracy, val_exact"));
}
