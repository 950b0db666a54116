//! A report as one HTML page.

use super::document::{Document, Part, Pictures};
use super::table::{Cell, Table};

const STYLE: &str = include_str!("style.css");

/// The page, with the document's pictures in it.
pub(super) fn page(document: &Document, pictures: &Pictures) -> String {
    let mut pictures = pictures.iter();
    let title = escape(&document.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    for line in &document.summary {
        page += &format!("<p class=\"summary\">{}</p>\n", escape(line));
    }
    for line in &document.warnings {
        page += &format!("<p class=\"warning\">{}</p>\n", escape(line));
    }
    for section in &document.sections {
        page += &format!("<section>\n<h2>{}</h2>\n", escape(&section.title));
        for part in &section.parts {
            match part {
                Part::Text(text) => page += &format!("<p>{}</p>\n", escape(text)),
                Part::Table(shown) => page += &table(shown),
                Part::Figure(figure) => {
                    let picture = pictures.next().map(|svg| inline(svg, &figure.chart.title)).unwrap_or_default();
                    page += &format!("<figure>\n{picture}");
                    if !figure.caption.is_empty() {
                        page += &format!("<figcaption>{}</figcaption>\n", escape(&figure.caption));
                    }
                    page += "</figure>\n";
                }
            }
        }
        page += "</section>\n";
    }
    if !document.settings.is_empty() {
        page += "<section>\n<h2>Settings</h2>\n<table class=\"settings\">\n<tbody>\n";
        for (key, value) in &document.settings {
            page += &format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(key), escape(value));
        }
        page += "</tbody>\n</table>\n</section>\n";
    }
    page + "</main>\n</body>\n</html>\n"
}

fn table(table: &Table) -> String {
    let class = |right: bool| if right { " class=\"number\"" } else { "" };
    let mut text = String::from("<div class=\"wide\">\n<table>\n");
    if !table.caption.is_empty() {
        text += &format!("<caption>{}</caption>\n", escape(&table.caption));
    }
    text += "<thead>\n<tr>";
    for column in &table.columns {
        text += &format!("<th scope=\"col\"{}>{}</th>", class(column.right), escape(&column.name));
    }
    text += "</tr>\n</thead>\n<tbody>\n";
    for row in &table.rows {
        text += "<tr>";
        for (column, of_row) in table.cells(row) {
            text += &format!("<td{}>{}</td>", class(column.right), cell(of_row));
        }
        text += "</tr>\n";
    }
    text + "</tbody>\n</table>\n</div>\n"
}

fn cell(cell: &Cell) -> String {
    let Cell::Number(number) = cell else { return escape(&cell.to_string()) };
    let digits = if number.best { format!("<strong>{}</strong>", number.digits()) } else { number.digits() };
    match number.error_digits() {
        Some(error) => format!("{digits}<span class=\"error\"> ± {error}</span>"),
        None => digits,
    }
}

/// A picture as a part of the page: without the namespace, which HTML implies, as wide as there is room for.
fn inline(svg: &str, title: &str) -> String {
    let Some((head, rest)) = svg.split_once('>') else { return String::new() };
    let attribute = |name: &str| head.split_once(&format!(" {name}=\""))?.1.split_once('"').map(|found| found.0);
    let (width, height) = (attribute("width").unwrap_or("900"), attribute("height").unwrap_or("520"));
    let title = if title.is_empty() { "chart".to_owned() } else { escape(title) };
    // The style sheet gives the picture its size: it goes by the view box.
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" style=\"max-width: {width}px\" role=\"img\" aria-label=\"{title}\">{rest}"
    )
}

/// Text that is taken for nothing else, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No page may hold these, escaped or not.
            control if control.is_control() && !control.is_whitespace() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}
