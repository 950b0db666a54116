//! A report as Markdown, with the tables that GitHub shows.

use super::document::{Document, Part};
use super::table::{Cell, Table};

/// The page; charts are files beside it.
pub(super) fn page(document: &Document, name: &str) -> String {
    let mut page = format!("# {}\n", escape(&document.title));
    for line in &document.summary {
        page += &format!("\n{}\n", escape(line));
    }
    for line in &document.warnings {
        page += &format!("\n> **Note:** {}\n", escape(line));
    }
    for section in &document.sections {
        page += &format!("\n## {}\n", escape(&section.title));
        for part in &section.parts {
            match part {
                Part::Text(text) => page += &format!("\n{}\n", escape(text)),
                Part::Table(shown) => page += &table(shown),
                Part::Figure(figure) => {
                    let file = format!("{name}-{}.svg", figure.name);
                    page += &format!("\n![{}](<{file}>)\n", escape(&figure.chart.title));
                    if !figure.caption.is_empty() {
                        page += &format!("\n*{}*\n", escape(&figure.caption));
                    }
                }
            }
        }
    }
    if !document.settings.is_empty() {
        page += "\n## Settings\n\n| setting | value |\n|:---|:---|\n";
        for (key, value) in &document.settings {
            page += &format!("| {} | {} |\n", escape(key), escape(value));
        }
    }
    page
}

fn table(table: &Table) -> String {
    let mut text = String::from("\n");
    if !table.caption.is_empty() {
        text += &format!("*{}*\n\n", escape(&table.caption));
    }
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text += &row(table.columns.iter().map(|column| escape(&column.name)).collect());
    let rule = |right: bool| if right { "---:" } else { ":---" };
    text += &row(table.columns.iter().map(|column| rule(column.right).to_owned()).collect());
    for cells in &table.rows {
        text += &row(table.cells(cells).map(|(_, of_row)| cell(of_row)).collect());
    }
    text
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Number(number) if number.best => match number.error_digits() {
            Some(error) => format!("**{}** ± {error}", number.digits()),
            None => format!("**{}**", number.digits()),
        },
        other => escape(&other.to_string()),
    }
}

/// Plain text, on one line, so that nothing in it is taken for Markdown or HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let inside_word = before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '$' => true,
            '_' => !inside_word,
            // These mean something at the beginning of a line only.
            '#' | '+' | '-' => escaped.is_empty(),
            _ => false,
        };
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' | '\r' => escaped.push(' '),
            _ if special => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Column, Number, Section};
    use rwkv_core::chart::Chart;

    #[test]
    fn texts_are_plain() {
        assert_eq!(escape("lambada_openai"), "lambada_openai");
        assert_eq!(escape("_a_ *b* <i> | `c`"), "\\_a\\_ \\*b\\* &lt;i&gt; \\| \\`c\\`");
        assert_eq!(escape("# a\nb"), "\\# a b");
        assert_eq!(escape("a - b"), "a - b");
    }

    #[test]
    fn a_page_has_everything_in_order() {
        let mut table = Table::new([Column::text("task"), Column::number("acc")]);
        table.rows.push(vec![Cell::text("a|b"), Number { best: true, ..Number::new(50.0, 1).with_error(2.0) }.into()]);
        table.rows.push(vec![Cell::text("short")]);
        let mut document = Document::new("T");
        document.summary.push("S".into());
        document.warnings.push("W".into());
        document.settings.push(("k".into(), "v".into()));
        let parts = [Part::Table(table), Part::figure("f", Chart::default(), "C"), Part::text("P")];
        document.sections.push(Section::new("H", parts));
        let expected = "# T\n\nS\n\n> **Note:** W\n\n## H\n\n| task | acc |\n| :--- | ---: |\n| a\\|b | **50.0** ± 2.0 |\n\
                        | short |  |\n\n![](<name-f.svg>)\n\n*C*\n\nP\n\n## Settings\n\n| setting | value |\n|:---|:---|\n\
                        | k | v |\n";
        assert_eq!(page(&document, "name"), expected);
    }
}
