//! How many there are of something, in words.

use alloc::format;
use alloc::string::String;

/// `1 image`, `2 images`: of a word whose plural ends with an `s`.
pub fn counted(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// `once`, `2 times`: how often something happened.
pub fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_not_several() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "image")), ["0 images", "1 image", "2 images"]);
    }

    #[test]
    fn what_happened_one_time_happened_once() {
        assert_eq!([0, 1, 2].map(times), ["0 times", "once", "2 times"]);
    }
}
