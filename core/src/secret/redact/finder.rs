//! Finds where any of many texts stands. The time is linear in what is searched, whatever the texts are, and most of
//! what has none of them is skipped.
//!
//! Every text that is masked anywhere has at least eight bytes. So each of its occurrences contains a whole block of
//! four bytes that begins at a multiple of five. Only these blocks are looked at. Where one of them is a block of some
//! text, each of the five positions at which that text may begin is compared with the sorted texts.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// The maximum length of what is compared with a text: a longer value is searched in pieces of this length. That is
/// the bound on the work for one position.
pub const PIECE_BYTES_MAX: usize = 256;

/// How many bytes of a text a filter looks at.
const BLOCK: usize = 4;

/// The distance of the blocks that are looked at. With its block it is no longer than the shortest text.
const STRIDE: usize = super::ANYWHERE_BYTES_MIN - BLOCK + 1;

/// How many strides are looked at before the result is asked for: a processor looks at them at the same time.
const STRIDES: usize = 8;

/// Finds texts of at least [`super::ANYWHERE_BYTES_MIN`] bytes, wherever they stand.
pub(super) struct AnywhereFinder {
    /// The blocks of all texts at their first [`STRIDE`] positions.
    blocks: HashFilter,
    /// The first eight bytes of all texts.
    beginnings: HashFilter,
    texts: SortedTexts,
}

/// Finds texts where neither neighbour is a letter or a digit.
pub(super) struct WordFinder {
    beginnings: HashFilter,
    texts: SortedTexts,
}

impl AnywhereFinder {
    /// `None` without texts.
    pub(super) fn new(values: &BTreeSet<String>) -> Option<Self> {
        let texts = SortedTexts::new(values.iter().flat_map(|value| pieces(value)));
        let count = texts.0.len();
        let mut blocks = HashFilter::new(count.saturating_mul(STRIDE));
        let mut beginnings = HashFilter::new(count);
        for SortedText { bytes, .. } in &texts.0 {
            for offset in 0..STRIDE {
                blocks.extend(block(&bytes[offset..]));
            }
            beginnings.extend(beginning(bytes));
        }
        (count > 0).then_some(Self { blocks, beginnings, texts })
    }

    /// The ranges of `text` that have one of the texts, in order.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut from = 0;
        while let Some(at) = self.next_block(text, from) {
            // A text whose block this is begins here, or up to four bytes before.
            for start in at.saturating_sub(STRIDE - 1)..=at {
                let rest = &text[start..];
                if !beginning(rest).is_some_and(|hash| self.beginnings.may_have(hash)) {
                    continue;
                }
                // What ends in a range that is masked already is not looked for.
                let masked = found.last().map_or(0, |last| last.end.saturating_sub(start));
                if let Some(length) = self.texts.lengths_at(rest, masked).next() {
                    push(&mut found, start..start + length);
                }
            }
            from = at + STRIDE;
        }
        found
    }

    /// The next position, by strides from `from`, at which a block of some text may stand.
    fn next_block(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let has_block = |stride: &[u8]| block(stride).is_some_and(|hash| self.blocks.may_have(hash));
        // Most have none, and that is found out for several at once.
        let skipped = rest
            .chunks_exact(STRIDE * STRIDES)
            .take_while(|strides| {
                !strides.chunks_exact(STRIDE).fold(false, |seen, stride| seen | has_block(stride))
            })
            .count();
        let skipped = skipped * STRIDE * STRIDES;
        rest[skipped..].chunks(STRIDE).position(has_block).map(|strides| from + skipped + strides * STRIDE)
    }
}

impl WordFinder {
    /// `None` without texts.
    pub(super) fn new(values: &BTreeSet<String>) -> Option<Self> {
        let texts = SortedTexts::new(values.iter().map(String::as_str));
        let count = texts.0.len();
        let mut beginnings = HashFilter::new(count);
        for SortedText { bytes, .. } in &texts.0 {
            beginnings.extend(block(bytes));
        }
        (count > 0).then_some(Self { beginnings, texts })
    }

    /// The ranges of `text` that have one of the texts as a word of its own, in order.
    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let bytes = text.as_bytes();
        let candidates = bytes
            .windows(BLOCK)
            .enumerate()
            .filter(|(_, window)| block(window).is_some_and(|hash| self.beginnings.may_have(hash)));
        for (start, _) in candidates {
            // What begins within a letter cannot be a text.
            let is_begin = text.get(..start).is_some_and(|before| !ends_in_word(before));
            if !is_begin {
                continue;
            }
            let is_end = |length: &usize| text.get(start + length..).is_some_and(|after| !begins_word(after));
            if let Some(length) = self.texts.lengths_at(&bytes[start..], 0).find(is_end) {
                push(&mut found, start..start + length);
            }
        }
        found
    }
}

fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(char::is_alphanumeric)
}

fn begins_word(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_alphanumeric)
}

/// Adds a range, or makes the last one longer if they touch.
fn push(found: &mut Vec<Range<usize>>, range: Range<usize>) {
    match found.last_mut() {
        Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
        Some(_) | None => found.push(range),
    }
}

/// The ranges of both in order, joined where they touch.
pub(super) fn joined(mut some: Vec<Range<usize>>, others: Vec<Range<usize>>) -> Vec<Range<usize>> {
    if others.is_empty() {
        return some;
    }
    some.extend(others);
    // Two sequences that are sorted already are merged.
    some.sort_by_key(|range| range.start);
    let mut joined = Vec::with_capacity(some.len());
    some.into_iter().for_each(|range| push(&mut joined, range));
    joined
}

/// `value`, or the pieces that cover it.
fn pieces(value: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while value.len() - from > PIECE_BYTES_MAX {
        let to = value.floor_char_boundary(from + PIECE_BYTES_MAX);
        pieces.push(&value[from..to]);
        from = to;
    }
    // The last is as long as the others: a short rest stands in many a text.
    let last = value.ceil_char_boundary(value.len().saturating_sub(PIECE_BYTES_MAX));
    pieces.push(&value[last..]);
    // A long value may have a whole piece of spaces or dashes, as any log.
    pieces.retain(|piece| piece.contains(char::is_alphanumeric) || piece.len() == value.len());
    pieces
}

fn block(bytes: &[u8]) -> Option<u32> {
    let block = bytes.first_chunk::<BLOCK>()?;
    Some(u32::from_le_bytes(*block).wrapping_mul(0x9E37_79B1))
}

fn beginning(bytes: &[u8]) -> Option<u32> {
    let beginning = bytes.first_chunk::<8>()?;
    let hash = u64::from_le_bytes(*beginning).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u32::try_from(hash >> 32).ok()
}

/// A set of hashes that may say yes by mistake, and never no.
struct HashFilter {
    words: Vec<u64>,
    /// The highest bits of a hash that remain after this shift are its place.
    shift: u32,
}

impl HashFilter {
    /// Of so many hashes about one in so many others is a mistake.
    const SPARSENESS: usize = 64;
    /// 1 KiB, and 128 KiB: a processor has them near.
    const BITS_MIN: usize = 1 << 13;
    const BITS_MAX: usize = 1 << 20;

    fn new(hashes: usize) -> Self {
        let bits = hashes.saturating_mul(Self::SPARSENESS).clamp(Self::BITS_MIN, Self::BITS_MAX);
        let bits = bits.next_power_of_two();
        Self { words: vec![0; bits / 64], shift: u32::BITS - bits.ilog2() }
    }

    fn extend(&mut self, hash: Option<u32>) {
        let Some(hash) = hash else { return };
        let (word, bit) = self.place(hash);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    fn may_have(&self, hash: u32) -> bool {
        let (word, bit) = self.place(hash);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(&self, hash: u32) -> (usize, u64) {
        let place = hash >> self.shift;
        // 32 bits are an index on every machine that this runs on.
        ((place / 64) as usize, 1 << (place % 64))
    }
}

/// Texts in the order of their bytes.
struct SortedTexts(Vec<SortedText>);

struct SortedText {
    bytes: Box<[u8]>,
    /// The longest other text with which this one begins.
    begins_with: Option<usize>,
}

impl SortedTexts {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let sorted: BTreeSet<&[u8]> = texts.map(str::as_bytes).collect();
        let mut texts: Vec<SortedText> = Vec::with_capacity(sorted.len());
        for bytes in sorted {
            // Whatever it begins with stands before it, and so does all that begins with the same.
            let mut begins_with = texts.len().checked_sub(1);
            while let Some(before) = begins_with
                && !bytes.starts_with(&texts[before].bytes)
            {
                begins_with = texts[before].begins_with;
            }
            texts.push(SortedText { bytes: bytes.into(), begins_with });
        }
        Self(texts)
    }

    /// The lengths of the texts with which `bytes` begins, the longest first. None where all are at most `too_short`.
    fn lengths_at(&self, bytes: &[u8], too_short: usize) -> impl Iterator<Item = usize> {
        // The last text that does not come after `bytes` begins with every text with which `bytes` begins.
        let after = self.0.partition_point(|text| *text.bytes <= *bytes);
        let last = after.checked_sub(1);
        let same = last.map_or(0, |last| same_bytes(&self.0[last].bytes, bytes));
        let last = last.filter(|_| same > too_short);
        core::iter::successors(last, |at| self.0[*at].begins_with)
            .map(|at| self.0[at].bytes.len())
            .filter(move |length| *length <= same)
    }
}

/// With how many equal bytes both begin.
fn same_bytes(one: &[u8], other: &[u8]) -> usize {
    if other.starts_with(one) {
        return one.len();
    }
    const STEP: usize = 16;
    let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP));
    let same = steps.take_while(|(one, other)| one == other).count() * STEP;
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}
