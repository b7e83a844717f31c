//! What only these processors do: products of tiles, and the orders in which tiles want pixels.

use std::arch::{
    asm,
    x86_64::{
        __m512i, _mm256_loadu_si256, _mm512_cvtepu16_epi32, _mm512_or_si512, _mm512_setzero_si512,
        _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_storeu_si512, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    },
};

use super::{DEPTH, Isa, TILE};

/// Bytes of a tile of factors.
const BYTES: usize = TILE * DEPTH * 2;

/// All eight tiles have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Runs `work` with this thread's tiles configured; nothing else in this program uses them.
pub(super) fn with<R>(work: impl FnOnce() -> R) -> R {
    /// Leaves the tiles empty, so that nobody has to keep what they hold.
    struct Configured;

    impl Drop for Configured {
        fn drop(&mut self) {
            // SAFETY: the units are there, or `with` would not have come so far.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    assert!(Isa::Amx.available());
    // SAFETY: just checked; the configuration is one of palette 1.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly)) };
    let _configured = Configured;
    work()
}

/// The sums of 64 pixels, `stride` bytes apart, and of so many tiles of outputs, one or two: to rows of all of these.
///
/// # Safety
/// The tiles are configured. From every pixel on, 64 bytes are readable at every offset, of which there are some; as many
/// times so many tiles of weights; and all sums are writable.
pub(super) unsafe fn multiply(
    tiles: usize,
    pixels: *const u8,
    stride: usize,
    offsets: &[usize],
    weights: *const u8,
    sums: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match tiles {
            1 => column(pixels, stride, offsets, weights, sums),
            _ => {
                square(pixels, stride, offsets, weights, sums);
                square(pixels.add(2 * TILE * stride), stride, offsets, weights, sums.add(2 * TILE * 128));
            }
        }
    }
}

/// Two tiles of pixels by two of weights: four products for four tiles that are loaded.
///
/// # Safety
/// As of [`multiply`], of 32 pixels.
unsafe fn square(pixels: *const u8, stride: usize, offsets: &[usize], weights: *const u8, sums: *mut u8) {
    // SAFETY: the caller's promise; no register but these and tiles, which nobody else uses, is changed.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {at}, [{offset}]",
            "add {at}, {pixels}",
            "tileloadd tmm4, [{at} + {stride}*1]",
            "tileloadd tmm6, [{weights} + {line}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {at}, {tile}",
            "tileloadd tmm5, [{at} + {stride}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {offset}, 8",
            "add {weights}, {both}",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {wide}*1], tmm0",
            "tilestored [{sums} + {wide}*1 + 64], tmm1",
            "add {sums}, 2048",
            "tilestored [{sums} + {wide}*1], tmm2",
            "tilestored [{sums} + {wide}*1 + 64], tmm3",
            at = out(reg) _,
            pixels = in(reg) pixels,
            stride = in(reg) stride,
            tile = in(reg) TILE * stride,
            offset = inout(reg) offsets.as_ptr() => _,
            weights = inout(reg) weights => _,
            line = in(reg) 64_usize,
            wide = in(reg) 128_usize,
            both = const 2 * BYTES,
            blocks = inout(reg) offsets.len() => _,
            sums = inout(reg) sums => _,
            options(nostack),
        );
    }
}

/// Four tiles of pixels by one of weights.
///
/// # Safety
/// As of [`multiply`].
unsafe fn column(pixels: *const u8, stride: usize, offsets: &[usize], weights: *const u8, sums: *mut u8) {
    // SAFETY: as in `square`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {at}, [{offset}]",
            "add {at}, {pixels}",
            "tileloadd tmm6, [{weights} + {line}*1]",
            "tileloadd tmm4, [{at} + {stride}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {at}, {tile}",
            "tileloadd tmm5, [{at} + {stride}*1]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "add {at}, {tile}",
            "tileloadd tmm7, [{at} + {stride}*1]",
            "tdpbf16ps tmm2, tmm7, tmm6",
            "add {at}, {tile}",
            "tileloadd tmm4, [{at} + {stride}*1]",
            "tdpbf16ps tmm3, tmm4, tmm6",
            "add {offset}, 8",
            "add {weights}, {one}",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + 1024], tmm1",
            "tilestored [{sums} + {line}*1 + 2048], tmm2",
            "tilestored [{sums} + {line}*1 + 3072], tmm3",
            at = out(reg) _,
            pixels = in(reg) pixels,
            stride = in(reg) stride,
            tile = in(reg) TILE * stride,
            offset = inout(reg) offsets.as_ptr() => _,
            weights = inout(reg) weights => _,
            line = in(reg) 64_usize,
            one = const BYTES,
            blocks = inout(reg) offsets.len() => _,
            sums = in(reg) sums,
            options(nostack),
        );
    }
}

/// Adds to the sums of 16 by 16 channels at three taps, whose rows lie `wide` bytes apart, what so many tiles of pixels say:
/// `inputs` begin where each tap reads the first channel's first pixel, a channel's pixels side by side, the next channel's
/// `row` bytes on; `gradients` are pairs of pixels, of all channels side by side, tile by tile.
///
/// # Safety
/// The tiles are configured. 16 rows of every tap are readable, of so many times 64 bytes, as many times [`BYTES`] of
/// `gradients`, and the sums are readable and writable.
pub(super) unsafe fn correlate(
    inputs: [*const u8; 3],
    row: usize,
    gradients: *const u8,
    tiles: usize,
    sums: [*mut u8; 3],
    wide: usize,
) {
    if tiles == 0 {
        return;
    }
    // SAFETY: as in `square`.
    unsafe {
        asm!(
            "tileloadd tmm0, [{first} + {wide}*1]",
            "tileloadd tmm1, [{second} + {wide}*1]",
            "tileloadd tmm2, [{third} + {wide}*1]",
            "2:",
            "tileloadd tmm3, [{gradients} + {line}*1]",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm3",
            "tileloadd tmm5, [{b} + {row}*1]",
            "tdpbf16ps tmm1, tmm5, tmm3",
            "tileloadd tmm6, [{c} + {row}*1]",
            "tdpbf16ps tmm2, tmm6, tmm3",
            "add {a}, 64",
            "add {b}, 64",
            "add {c}, 64",
            "add {gradients}, {bytes}",
            "dec {tiles}",
            "jnz 2b",
            "tilestored [{first} + {wide}*1], tmm0",
            "tilestored [{second} + {wide}*1], tmm1",
            "tilestored [{third} + {wide}*1], tmm2",
            first = in(reg) sums[0],
            second = in(reg) sums[1],
            third = in(reg) sums[2],
            wide = in(reg) wide,
            a = inout(reg) inputs[0] => _,
            b = inout(reg) inputs[1] => _,
            c = inout(reg) inputs[2] => _,
            row = in(reg) row,
            gradients = inout(reg) gradients => _,
            bytes = const BYTES,
            line = in(reg) 64_usize,
            tiles = inout(reg) tiles => _,
            options(nostack),
        );
    }
}

/// 16 channels of 32 pixels, which are `channels` elements apart: a tile of pairs of pixels, of all channels side by side.
///
/// # Safety
/// The processor has AVX-512; 16 elements of every pixel are readable, and a tile is writable.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pair_up(pixels: *const u16, channels: usize, to: *mut u16) {
    // SAFETY: the caller's promise.
    unsafe {
        let pairs = pairs(pixels, channels);
        for (k, pair) in pairs.into_iter().enumerate() {
            _mm512_storeu_si512(to.add(k * DEPTH).cast(), pair);
        }
    }
}

/// The same pixels, each channel's side by side, to rows that are `row` elements apart.
///
/// # Safety
/// As of [`pair_up`], with 32 elements of 16 rows writable.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn turn(pixels: *const u16, channels: usize, to: *mut u16, row: usize) {
    // SAFETY: the caller's promise.
    let pairs = unsafe { pairs(pixels, channels) };
    let (mut twos, mut fours) = ([_mm512_setzero_si512(); TILE], [_mm512_setzero_si512(); TILE]);
    for k in (0..TILE).step_by(2) {
        twos[k] = _mm512_unpacklo_epi32(pairs[k], pairs[k + 1]);
        twos[k + 1] = _mm512_unpackhi_epi32(pairs[k], pairs[k + 1]);
    }
    // Each quarter of these holds a channel of four pairs.
    for k in (0..TILE).step_by(4) {
        fours[k] = _mm512_unpacklo_epi64(twos[k], twos[k + 2]);
        fours[k + 1] = _mm512_unpackhi_epi64(twos[k], twos[k + 2]);
        fours[k + 2] = _mm512_unpacklo_epi64(twos[k + 1], twos[k + 3]);
        fours[k + 3] = _mm512_unpackhi_epi64(twos[k + 1], twos[k + 3]);
    }
    for k in 0..4 {
        let [a, b, c, d] = [fours[k], fours[k + 4], fours[k + 8], fours[k + 12]];
        let even = (_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(c, d, 0x88));
        let odd = (_mm512_shuffle_i32x4(a, b, 0xdd), _mm512_shuffle_i32x4(c, d, 0xdd));
        let rows = [
            _mm512_shuffle_i32x4(even.0, even.1, 0x88),
            _mm512_shuffle_i32x4(odd.0, odd.1, 0x88),
            _mm512_shuffle_i32x4(even.0, even.1, 0xdd),
            _mm512_shuffle_i32x4(odd.0, odd.1, 0xdd),
        ];
        for (quarter, channel) in rows.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_si512(to.add((4 * quarter + k) * row).cast(), channel) };
        }
    }
}

/// Pairs of 32 pixels, of 16 channels side by side.
///
/// # Safety
/// As of [`pair_up`].
#[target_feature(enable = "avx512f")]
unsafe fn pairs(pixels: *const u16, channels: usize) -> [__m512i; TILE] {
    let mut pairs = [_mm512_setzero_si512(); TILE];
    for (k, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let even = _mm256_loadu_si256(pixels.add(2 * k * channels).cast());
            let odd = _mm256_loadu_si256(pixels.add((2 * k + 1) * channels).cast());
            let odd = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);
            *pair = _mm512_or_si512(_mm512_cvtepu16_epi32(even), odd);
        }
    }
    pairs
}
