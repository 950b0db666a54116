//! Errors that help with keys: the nearest valid name for one that is unknown.

/// The closest of `names` to `name`, if any is close.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let near = names.map(|other| (distance(other), other)).min()?;
    // More than half of the letters changed is another word.
    (near.0 * 2 <= name.chars().count().max(2)).then_some(near.1)
}

/// What is wrong with a file, as the end of a sentence that begins with its name: the parser's message, with the line, and
/// with the nearest valid name when a name is unknown. `text` is what was parsed.
///
/// # Example
/// ```
/// let text = "[train]\nstepz = 3";
/// let error = toml::from_str::<rwkv_train::config::RunConfig>(text).unwrap_err();
/// let said = rwkv_train::config::explain(text, &error);
/// assert!(said.starts_with("line 2, `stepz = 3`") && said.ends_with("did you mean `steps`?"));
/// ```
#[must_use]
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    // One sentence, with the line itself: the parser's own text draws a picture of it.
    let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    let message = error.message().trim().replace('\n', ", ");
    // The names between backquotes: the unknown one, then those that are known.
    let mut names = message.split('`').skip(1).step_by(2);
    let hint = match (message.starts_with("unknown "), names.next()) {
        (true, Some(unknown)) => nearest(unknown, names).map(|near| format!("; did you mean `{near}`?")),
        _ => None,
    };
    format!("line {}, `{line}`: {message}{}", number + 1, hint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_their_word() {
        let names = ["steps", "seed", "batch_size", "lr_init"];
        for (typed, meant) in
            [("stepz", "steps"), ("sede", "seed"), ("batchsize", "batch_size"), ("LR_init", "lr_init")]
        {
            assert_eq!(nearest(typed, names.into_iter()), Some(meant));
        }
        assert_eq!(nearest("zebra", names.into_iter()), None);
    }
}
