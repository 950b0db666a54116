//! The worked example is the code.

/// The file and the line that the text shows are those of the source.
#[test]
fn the_text_shows_the_code() {
    let text = include_str!("../../docs/adding-a-mixer.md");
    assert!(text.contains(include_str!("../../src/model/mixers/running_mean.rs")), "the file is shown whole");
    let line =
        text.split("```rust,ignore\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a line is shown");
    assert!(include_str!("../../src/model/mixers/mod.rs").contains(line), "the list has the line");
}
