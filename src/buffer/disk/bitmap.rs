//! The bitmap of a row's settled events, as the store keeps it: one bit for each sequence of the row,
//! the lowest bit of a byte first. What is behind its end is not settled.

/// Tells whether a bitmap has a bit.
pub(super) fn has_bit(bitmap: &[u8], i: usize) -> bool {
    bitmap.get(i / 8).is_some_and(|byte| byte & (1 << (i % 8)) != 0)
}
