//! The quickstart's corpus: little stories that a small grammar writes, all of them different.
//!
//! Every story names somebody, gives them an animal and a thing, and comes back to both at its end, so a model that
//! follows the corpus must remember what it read a hundred characters ago.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const NAMES: [(&str, &str, &str); 8] = [
    ("Anna", "she", "her"),
    ("Boris", "he", "his"),
    ("Clara", "she", "her"),
    ("David", "he", "his"),
    ("Elena", "she", "her"),
    ("Felix", "he", "his"),
    ("Greta", "she", "her"),
    ("Henry", "he", "his"),
];
const ANIMALS: [&str; 6] = ["dog", "cat", "goat", "horse", "raven", "hen"];
const COLOURS: [&str; 6] = ["black", "white", "brown", "grey", "red", "spotted"];
const PLACES: [&str; 6] = ["river", "forest", "market", "hill", "harbour", "mill"];
const THINGS: [&str; 6] = ["basket", "lantern", "letter", "key", "bell", "rope"];
const WEATHER: [&str; 6] = ["sunny", "windy", "rainy", "foggy", "frosty", "quiet"];
const FINDERS: [&str; 4] = ["under a stone", "behind a wall", "in the grass", "beside the road"];

/// `stories` stories from a seed, one a line.
#[must_use]
pub fn stories(stories: usize, seed: u64) -> String {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..stories).map(|_| story(&mut rng)).collect()
}

fn story(rng: &mut SmallRng) -> String {
    let (name, subject, possessive) = pick(&NAMES, rng);
    let (animal, colour, place) = (pick(&ANIMALS, rng), pick(&COLOURS, rng), pick(&PLACES, rng));
    let (thing, weather, finder) = (pick(&THINGS, rng), pick(&WEATHER, rng), pick(&FINDERS, rng));
    let subject_first = capital(subject);
    let middle = match rng.random_range(0..3) {
        0 => format!("On the way {subject} lost a {thing}, but the {animal} found it {finder}."),
        1 => format!("The {animal} saw a {thing} {finder}, and {subject} picked it up."),
        _ => format!("Near the {place} the {animal} stopped: there was a {thing} {finder}."),
    };
    let end = match rng.random_range(0..2) {
        0 => format!("In the evening {name} and the {colour} {animal} went home with the {thing}."),
        _ => format!("{subject_first} thanked the {animal}, and {name} kept the {thing} for many years."),
    };
    format!("One {weather} morning {name} took {possessive} {colour} {animal} to the {place}. {middle} {end}\n")
}

fn pick<T: Copy>(from: &[T], rng: &mut SmallRng) -> T {
    *from.choose(rng).expect("the lists above have entries")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
