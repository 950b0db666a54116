//! From the official columns of a data set to a prompt.

use super::Document;
use crate::data::Row;
use crate::encode::is_python_space;
use crate::error::Result;
use serde_json::Value;

/// Everything up to the last space, and the last word. Only U+0020 separates words, so that the last may hold a newline.
pub(super) fn lambada(row: &Row) -> Result<Document> {
    let text = row.text("text")?;
    let (context, word) = text.rsplit_once(' ').unwrap_or(("", text));
    Ok(Document::Continuation { context: context.to_owned(), continuation: format!(" {word}") })
}

pub(super) fn piqa(row: &Row) -> Result<Document> {
    let choices = vec![row.text("sol1")?.to_owned(), row.text("sol2")?.to_owned()];
    choice(row, question(row.text("goal")?), choices, number(row, "label")?, "label")
}

/// The option stands in the context; what follows the blank is scored.
pub(super) fn winogrande(row: &Row) -> Result<Document> {
    let sentence = row.text("sentence")?;
    let (before, after) = sentence.split_once('_').ok_or_else(|| row.error("column sentence has no blank `_`"))?;
    let continuation = after.trim_matches(is_python_space);
    if continuation.is_empty() {
        return Err(row.error("column sentence has nothing after its blank"));
    }
    let options = [row.text("option1")?, row.text("option2")?];
    if let Some(empty) = options.iter().position(|option| option.is_empty()) {
        return Err(row.error(format!("column option{} is empty", empty + 1)));
    }
    let gold = match row.text("answer")? {
        "1" => 0,
        "2" => 1,
        other => return Err(row.error(format!("column answer should be \"1\" or \"2\" and is {other:?}"))),
    };
    let contexts = options.map(|option| format!("{before}{option}")).into();
    Ok(Document::Contexts { contexts, continuation: continuation.to_owned(), gold })
}

pub(super) fn arc(row: &Row) -> Result<Document> {
    labelled(row, question(row.text("question")?), row.text("answerKey")?)
}

pub(super) fn openbookqa(row: &Row) -> Result<Document> {
    labelled(row, row.text("question_stem")?.to_owned(), row.text("answerKey")?.trim_start_matches(is_python_space))
}

/// An empty support leaves a prompt that begins with a newline.
pub(super) fn sciq(row: &Row) -> Result<Document> {
    let support = row.text("support")?.trim_start_matches(is_python_space);
    let context = format!("{support}\n{}", question(row.text("question")?));
    let columns = ["distractor1", "distractor2", "distractor3", "correct_answer"];
    let choices = columns.iter().map(|column| Ok(row.text(column)?.to_owned())).collect::<Result<_>>()?;
    choice(row, context, choices, 3, "correct_answer")
}

pub(super) fn hellaswag(row: &Row) -> Result<Document> {
    let activity = row.text("activity_label")?;
    let context = format!("{activity}: {} {}", row.text("ctx_a")?, capitalised(row.text("ctx_b")?));
    let endings = strings(row, "endings", row.column("endings")?)?;
    let choices = endings.iter().map(|ending| without_brackets(ending)).collect();
    choice(row, without_brackets(&context), choices, number(row, "label")?, "label")
}

/// The premise without its full stop, the connector, and the alternatives with a small first letter and a space of their
/// own, which comes after the delimiter's.
pub(super) fn copa(row: &Row) -> Result<Document> {
    let connector = match row.text("question")? {
        "cause" => "because",
        "effect" => "therefore",
        other => return Err(row.error(format!("column question should be cause or effect and is {other:?}"))),
    };
    let mut premise = row.text("premise")?.trim_matches(is_python_space).chars();
    premise.next_back();
    let context = format!("{} {connector}", premise.as_str());
    let mut choices = Vec::new();
    for column in ["choice1", "choice2"] {
        let mut text = row.text(column)?.chars();
        let first = text.next().ok_or_else(|| row.error(format!("column {column} is empty")))?;
        choices.push(format!(" {}{}", first.to_lowercase(), text.as_str()));
    }
    choice(row, context, choices, number(row, "label")?, "label")
}

pub(super) fn headqa(row: &Row) -> Result<Document> {
    let context = question(row.text("qtext")?);
    let answers = row.column("answers")?;
    // A list of answers, or, where a reader turned it around, a table of their columns.
    let choices = match answers.get("atext") {
        Some(texts) => strings(row, "answers.atext", texts)?,
        None => {
            let answers = answers.as_array().ok_or_else(|| row.error("column answers should be a list"))?;
            let text = |(place, answer): (usize, &Value)| {
                let missing = || row.error(format!("answer {} of column answers has no part atext", place + 1));
                answer.get("atext").cloned().ok_or_else(missing)
            };
            let texts = answers.iter().enumerate().map(text).collect::<Result<_>>()?;
            strings(row, "answers.atext", &Value::Array(texts))?
        }
    };
    let gold = number(row, "ra")?.checked_sub(1).ok_or_else(|| row.error("column ra counts from 1 and is 0"))?;
    choice(row, context, choices, gold, "ra")
}

pub(super) fn storycloze(row: &Row) -> Result<Document> {
    let columns = ["input_sentence_1", "input_sentence_2", "input_sentence_3", "input_sentence_4"];
    let sentences = columns.iter().map(|column| row.text(column)).collect::<Result<Vec<_>>>()?;
    let choices = vec![row.text("sentence_quiz1")?.to_owned(), row.text("sentence_quiz2")?.to_owned()];
    let column = "answer_right_ending";
    let gold = number(row, column)?.checked_sub(1).ok_or_else(|| row.error(format!("column {column} is 0")))?;
    choice(row, sentences.join(" "), choices, gold, column)
}

fn question(text: &str) -> String {
    format!("Question: {text}\nAnswer:")
}

/// A document with choices, checked.
fn choice(row: &Row, context: String, choices: Vec<String>, gold: usize, column: &str) -> Result<Document> {
    if choices.is_empty() {
        return Err(row.error("there are no choices"));
    }
    if let Some(empty) = choices.iter().position(String::is_empty) {
        return Err(row.error(format!("choice {} of {} is empty", empty + 1, choices.len())));
    }
    if gold >= choices.len() {
        let there = choices.len();
        return Err(row.error(format!("column {column} names choice {} of {there}, counted from 1", gold + 1)));
    }
    Ok(Document::Choices { context, choices, gold })
}

/// A document whose choices have labels, one of which is the key.
fn labelled(row: &Row, context: String, key: &str) -> Result<Document> {
    let column = row.column("choices")?;
    let part = |name: &str| {
        let part = column.get(name).ok_or_else(|| row.error(format!("column choices has no part {name}")))?;
        strings(row, &format!("choices.{name}"), part)
    };
    let (texts, labels) = (part("text")?, part("label")?);
    if texts.len() != labels.len() {
        return Err(row.error(format!("column choices has {} texts and {} labels", texts.len(), labels.len())));
    }
    let gold = labels.iter().position(|label| label == key).ok_or_else(|| {
        row.error(format!("column answerKey is {key:?}, which is none of the labels {}", labels.join(", ")))
    })?;
    choice(row, context, texts, gold, "answerKey")
}

/// A number from 0, which may be written as text.
fn number(row: &Row, name: &str) -> Result<usize> {
    let value = row.column(name)?;
    let number = match value {
        Value::String(text) => text.parse().ok(),
        _ => value.as_u64().and_then(|number| usize::try_from(number).ok()),
    };
    number.ok_or_else(|| row.error(format!("column {name} should be a number from 0 and is {value}")))
}

fn strings(row: &Row, name: &str, value: &Value) -> Result<Vec<String>> {
    let texts = value.as_array().map(|values| values.iter().map(|value| value.as_str().map(str::to_owned)));
    texts
        .and_then(|mut texts| texts.by_ref().collect())
        .ok_or_else(|| row.error(format!("column {name} should be a list of texts")))
}

/// As Python's `str.capitalize`: the first letter large, all others small.
fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    // A letter that is large as two is so in its first half only.
    let mut large = first.to_uppercase();
    let mut out: String = large.next().into_iter().collect();
    large.for_each(|c| out.extend(c.to_lowercase()));
    out + &rest.as_str().to_lowercase()
}

/// The traces of `WikiHow`'s markup taken out: ` [title]` ends a sentence, other brackets go with what is in them.
fn without_brackets(text: &str) -> String {
    let text = text.trim_matches(is_python_space).replace(" [title]", ". ");
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(open) = rest.find('[') {
        let inside = &rest[open..];
        // Brackets do not reach over lines.
        let line = inside.find('\n').unwrap_or(inside.len());
        match inside[..line].find(']') {
            Some(close) => {
                out.push_str(&rest[..open]);
                rest = &inside[close + 1..];
            }
            None => {
                out.push_str(&rest[..=open]);
                rest = &inside[1..];
            }
        }
    }
    out.push_str(rest);
    out.replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn row(columns: Value) -> Row {
        let columns = columns.as_object().expect("an object").clone();
        Row { file: Path::new("made-up.jsonl").into(), line: 7, columns }
    }

    fn pairs(document: &Document) -> Vec<(String, String)> {
        document.pairs("")
    }

    #[test]
    fn the_last_word_is_what_follows_the_last_space() {
        let split = |text: &str| pairs(&lambada(&row(json!({ "text": text }))).expect("a document"))[0].clone();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split("one two of\n\nPower"), pair("one two", " of\n\nPower"));
        assert_eq!(split("a  b\u{a0}c"), pair("a ", " b\u{a0}c"));
        assert_eq!(split("end "), pair("end", " "));
        assert_eq!(split("alone"), pair("", " alone"));
    }

    #[test]
    fn prompts_are_those_of_the_harness() {
        let document = piqa(&row(json!({"goal": " melt it", "sol1": "heat ", "sol2": " cool", "label": 1})));
        let document = document.expect("a document");
        assert_eq!(pairs(&document)[0], ("Question:  melt it\nAnswer:".into(), " heat ".into()));
        assert_eq!(pairs(&document)[1].1, "  cool");
        assert_eq!((document.gold(), document.lengths()), (Some(1), vec![5, 5]));
        assert_eq!(document.example(), "Question:  melt it\nAnswer:  cool\n\n");

        let columns = json!({"sentence": "The cup fit the box as the _ was small.", "option1": "cup", "option2": "box",
            "answer": "1"});
        let document = winogrande(&row(columns)).expect("a document");
        assert_eq!(pairs(&document)[1], ("The cup fit the box as the box".into(), " was small.".into()));
        assert_eq!(document.example(), "The cup fit the box as the cup was small.\n\n");

        let columns = json!({"question": "Why?", "answerKey": "3", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}});
        let document = arc(&row(columns)).expect("a document");
        assert_eq!((pairs(&document)[2].1.as_str(), document.gold()), (" c", Some(2)));

        let columns = json!({"support": "", "question": "Who?", "distractor1": "x", "distractor2": "y", "distractor3": "z",
            "correct_answer": "w"});
        let document = sciq(&row(columns)).expect("a document");
        assert_eq!(pairs(&document)[3], ("\nQuestion: Who?\nAnswer:".into(), " w".into()));
        assert_eq!(document.gold(), Some(3));

        let document = lambada(&row(json!({"text": "so it goes"}))).expect("a document");
        assert_eq!(document.example(), "so it  goes\n\n", "the delimiter and the word's own space");
    }

    #[test]
    fn the_other_tasks_prompts_are_those_of_the_harness() {
        let columns = json!({"activity_label": "Baking", "ctx_a": "A cook [header] mixes.", "ctx_b": "the ßaker",
            "endings": ["stirs [title] Rest [x] it", "waits\n[a\nb]"], "label": "1"});
        let document = hellaswag(&row(columns)).expect("a document");
        assert_eq!(pairs(&document)[0], ("Baking: A cook mixes. The ßaker".into(), " stirs. Rest it".into()));
        assert_eq!((pairs(&document)[1].1.as_str(), document.gold()), (" waits\n[a\nb]", Some(1)));
        assert_eq!(capitalised("ßX Y"), "Ssx y");
        assert_eq!(capitalised(""), "");

        let columns = json!({"premise": " It rained. ", "question": "effect", "choice1": "The Road got wet.",
            "choice2": "It froze.", "label": 0});
        let document = copa(&row(columns)).expect("a document");
        assert_eq!(pairs(&document)[0], ("It rained therefore".into(), "  the Road got wet.".into()));

        let columns = json!({"question_stem": "Ice is", "choices": {"text": ["hot", "cold"], "label": ["A", "B"]}, "answerKey": " B"});
        let document = openbookqa(&row(columns)).expect("a document");
        assert_eq!((pairs(&document)[1].clone(), document.gold()), (("Ice is".into(), " cold".into()), Some(1)));

        for answers in
            [json!([{"aid": 1, "atext": "a"}, {"aid": 2, "atext": "b"}]), json!({"aid": [1, 2], "atext": ["a", "b"]})]
        {
            let document = headqa(&row(json!({"qtext": "Which?", "ra": 2, "answers": answers}))).expect("a document");
            assert_eq!((pairs(&document)[1].1.as_str(), document.gold()), (" b", Some(1)));
        }

        let columns = json!({"input_sentence_1": "A.", "input_sentence_2": "B.", "input_sentence_3": "C.",
            "input_sentence_4": "D.", "sentence_quiz1": "E.", "sentence_quiz2": "F.", "answer_right_ending": 2});
        let document = storycloze(&row(columns)).expect("a document");
        assert_eq!((pairs(&document)[1].clone(), document.gold()), (("A. B. C. D.".into(), " F.".into()), Some(1)));
    }

    #[test]
    fn bad_rows_name_their_line() {
        type Prompt = fn(&Row) -> Result<Document>;
        let cases: [(Prompt, Value, &str); 11] = [
            (lambada, json!({"test": "x"}), "no column text; the row has test"),
            (lambada, json!({"text": 3}), "column text should be text and is 3"),
            (piqa, json!({"goal": "g", "sol1": "", "sol2": "b", "label": 0}), "choice 1 of 2 is empty"),
            (piqa, json!({"goal": "g", "sol1": "a", "sol2": "b", "label": 2}), "column label names choice 3 of 2"),
            (
                piqa,
                json!({"goal": "g", "sol1": "a", "sol2": "b", "label": -1}),
                "column label should be a number from 0 and is -1",
            ),
            (winogrande, json!({"sentence": "none", "option1": "a", "option2": "b", "answer": "1"}), "no blank"),
            (
                winogrande,
                json!({"sentence": "a _ b", "option1": "a", "option2": "b", "answer": ""}),
                "column answer should be",
            ),
            (
                arc,
                json!({"question": "q", "answerKey": "E", "choices": {"text": ["a"], "label": ["A"]}}),
                "none of the labels A",
            ),
            (
                arc,
                json!({"question": "q", "answerKey": "A", "choices": {"text": ["a", "b"], "label": ["A"]}}),
                "2 texts and 1 labels",
            ),
            (
                headqa,
                json!({"qtext": "q", "ra": 1, "answers": [{"atext": "a"}, {"aid": 2}, {"atext": "c"}]}),
                "answer 2 of column answers has no part atext",
            ),
            (headqa, json!({"qtext": "q", "ra": 1, "answers": {"aid": [1, 2]}}), "column answers should be a list"),
        ];
        for (prompt, columns, expected) in cases {
            let said = prompt(&row(columns)).expect_err("refused").to_string();
            assert!(said.starts_with("made-up.jsonl, line 7: ") && said.contains(expected), "{said}");
        }
    }
}
