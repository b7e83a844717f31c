//! Randomness as a function: the same key, the same numbers.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the numbers are for; a new use gets a new tag and disturbs no old one.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Split,
    Order,
    Augment,
}

/// The generator of one use at `(seed, at, within)`; asked twice, it draws the same numbers.
pub(crate) fn rng(seed: u64, what: Use, at: u64, within: u64) -> ChaCha8Rng {
    let tag = match what {
        Use::Split => b"split   ",
        Use::Order => b"order   ",
        Use::Augment => b"augment ",
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(tag);
    key[16..24].copy_from_slice(&at.to_le_bytes());
    key[24..].copy_from_slice(&within.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
