//! How large secrets may be: a bundle of certificates fits, and what a container's environment cannot hold does not.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::Secret;

/// Linux takes at most 128 KiB for one variable (`MAX_ARG_STRLEN`).
const VALUE_BYTES_MAX: usize = 64 * 1024;

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
}
