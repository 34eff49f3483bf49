//! A hash that is the same on every machine and in every version: saved models depend on it.

/// Rows before the hashed ones: row 0 is that of a missing value.
const BEFORE: u32 = 1;

/// Row 1 … `rows` of a sequence of bytes: 64-bit FNV-1a from a start that the seed moves, finished as MurmurHash3 finishes, so that
/// the low bits depend on all others.
pub(super) fn row(seed: u64, rows: u32, bytes: impl IntoIterator<Item = u8>) -> u32 {
    let start = 0xcbf2_9ce4_8422_2325 ^ finish(seed);
    let hash = bytes.into_iter().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    BEFORE + (finish(hash) % u64::from(rows.max(1))) as u32
}

/// Number of rows of a table whose values are hashed into `rows`.
pub(super) fn table(rows: u32) -> u32 {
    rows.max(1).saturating_add(BEFORE)
}

fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
