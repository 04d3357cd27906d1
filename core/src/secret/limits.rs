//! How large secrets may be: a bundle of certificates fits, and what a container's environment cannot hold does not.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::Secret;

/// The name and the value of one variable. Linux takes at most 128 KiB (`MAX_ARG_STRLEN`).
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// All names and values of an environment.
const ALL_BYTES_MAX: usize = 256 * 1024;

/// Which of `values` are too large together or alone, and what the limit is. `None` if none is.
pub fn too_large(values: &BTreeMap<String, Secret>) -> Option<String> {
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let bytes = |(name, value): (&String, &Secret)| name.len() + value.expose().len();
    if let Some((name, value)) = values.iter().find(|one| bytes(*one) > VALUE_BYTES_MAX) {
        let shown: String = name.chars().take(64).collect();
        let has = kib(bytes((name, value)));
        return Some(format!("{shown} has {has} KiB, and a secret has at most {} KiB", kib(VALUE_BYTES_MAX)));
    }
    let all = values.iter().map(bytes).sum::<usize>();
    (all > ALL_BYTES_MAX).then(|| {
        let most = kib(ALL_BYTES_MAX);
        format!("all secrets together have {} KiB, and an environment has at most {most} KiB", kib(all))
    })
}

/// The first name whose value no variable of a process can have: it has a NUL character.
pub fn with_nul(values: &BTreeMap<String, Secret>) -> Option<&str> {
    let has_nul = |(_, value): &(&String, &Secret)| value.expose().contains('\0');
    values.iter().find(has_nul).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn values(count: usize, bytes: usize) -> BTreeMap<String, Secret> {
        (0..count).map(|number| (format!("S{number:03}"), Secret::new("x".repeat(bytes - 4)))).collect()
    }

    #[test]
    fn sizes_of_real_use_fit_and_more_is_said() {
        assert_eq!(too_large(&values(4, 64 * 1024)), None);
        let one = too_large(&values(1, 64 * 1024 + 1));
        assert_eq!(one, Some("S000 has 65 KiB, and a secret has at most 64 KiB".to_string()));
        let all = too_large(&values(5, 64 * 1024)).unwrap();
        assert!(all.contains("all secrets together have 320 KiB"), "{all}");
    }

    #[test]
    fn a_value_with_a_nul_character_is_found() {
        let mut values = values(2, 8);
        assert_eq!(with_nul(&values), None);
        values.insert("T".to_string(), Secret::new("a\0b".to_string()));
        assert_eq!(with_nul(&values), Some("T"));
    }
}
