//! The innermost loops of matrix products on x86-64, by hand: for tiles whose sums fill the registers LLVM finds none for what
//! else it would keep there.

use std::arch::{asm, x86_64::*};

use crate::kernels::panels::{Panels, Run};

/// The loop of `Vector::paired` for 16 registers: 12 sums, 2 vectors of `b`, 2 values. LLVM loads all six values
/// before it multiplies, finds no room for them, and reaches two thirds of the speed.
///
/// # Safety
/// That of `Vector::paired`; there are 12 sums and 6 rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn six_rows(
    acc: &mut [__m256],
    from: &[*const f32],
    run: Run,
    at: *const f32,
    b: Panels<'_, f32>,
) {
    let (&mut [a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11], &[r0, r1, r2, r3, r4, r5]) =
        (&mut *acc, from)
    else {
        unreachable!("a tile has six rows of two vectors")
    };
    let [mut a0, mut a1, mut a2, mut a3, mut a4, mut a5] = [a0, a1, a2, a3, a4, a5];
    let [mut a6, mut a7, mut a8, mut a9, mut a10, mut a11] = [a6, a7, a8, a9, a10, a11];
    macro_rules! row {
        ($from:literal, $value:literal, $first:literal, $second:literal) => {
            concat!(
                "vbroadcastss ymm",
                $value,
                ", dword ptr [{r",
                $from,
                "} + {x}]\n",
                "vfmadd231ps ymm",
                $first,
                ", ymm",
                $value,
                ", ymm12\n",
                "vfmadd231ps ymm",
                $second,
                ", ymm",
                $value,
                ", ymm13",
            )
        };
    }
    // SAFETY: reads `len` offsets of every row and `len` rows of `b`, all readable by the caller's promise, and
    // nothing else; `len` is at least 1.
    unsafe {
        asm!(
            "2:",
            "vmovups ymm12, [{b}]",
            "vmovups ymm13, [{b} + {vector}]",
            row!("0", "14", "0", "1"),
            row!("1", "15", "2", "3"),
            row!("2", "14", "4", "5"),
            row!("3", "15", "6", "7"),
            row!("4", "14", "8", "9"),
            row!("5", "15", "10", "11"),
            "add {b}, {row}",
            "add {x}, {step}",
            "dec {len}",
            "jnz 2b",
            b = inout(reg) at => _,
            x = inout(reg) 4 * run.first => _,
            len = inout(reg) run.len => _,
            step = in(reg) 4 * run.step,
            row = in(reg) 4 * b.row,
            vector = in(reg) 4 * b.vector,
            r0 = in(reg) r0,
            r1 = in(reg) r1,
            r2 = in(reg) r2,
            r3 = in(reg) r3,
            r4 = in(reg) r4,
            r5 = in(reg) r5,
            inout("ymm0") a0,
            inout("ymm1") a1,
            inout("ymm2") a2,
            inout("ymm3") a3,
            inout("ymm4") a4,
            inout("ymm5") a5,
            inout("ymm6") a6,
            inout("ymm7") a7,
            inout("ymm8") a8,
            inout("ymm9") a9,
            inout("ymm10") a10,
            inout("ymm11") a11,
            out("ymm12") _,
            out("ymm13") _,
            out("ymm14") _,
            out("ymm15") _,
            options(nostack, readonly),
        );
    }
    acc.copy_from_slice(&[a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11]);
}

/// What multiplies the rows that are addressed from one: it, and the next ones, three at most.
macro_rules! from_one {
    ($multiply:ident, $from:literal, $s0:tt, $s1:tt $(, $s2:tt $(, $s3:tt)?)?) => {
        concat!(
            $multiply!(concat!("{", $from, "}"), $s0),
            $multiply!(concat!("{", $from, "} + {apart}"), $s1),
            $($multiply!(concat!("{", $from, "} + 2*{apart}"), $s2),
            $($multiply!(concat!("{", $from, "} + {thrice}"), $s3),)?)?
        )
    };
}

/// `sum += b·x` of two vectors, by the registers of `b` and `x`.
macro_rules! add_two {
    ([$b0:literal, $b1:literal, $value:literal], $x:expr, ($first:literal, $second:literal)) => {
        concat!(
            concat!("vbroadcastss ", $value, ", dword ptr [", $x, "]\n"),
            concat!("vfmadd231ps ", $first, ", ", $value, ", ", $b0, "\n"),
            concat!("vfmadd231ps ", $second, ", ", $value, ", ", $b1, "\n"),
        )
    };
}

/// A loop over a run, of a tile's sums by name: what it loads, what it does, from where rows are addressed, and its registers.
/// Four turns at a time: with the tiles that fit, runs of 16 gain a tenth with AVX2 (`BENCHMARKS.md`, Sixteen registers).
macro_rules! sums {
    ($acc:ident, $of:tt, [$($load:literal),+], [$($body:expr),+], [$($base:ident $first:literal),+], $($rest:tt)+) => {
        sums!(
            @ $acc, $of,
            concat!(
                $(concat!($load, "\n"),)+
                $($body,)+
                $(concat!("add {", stringify!($base), "}, {step}\n"),)+
                "add {b}, {row}"
            ),
            [$($base $first),+], $($rest)+
        )
    };
    (@ $acc:ident, ($from:ident, $apart:ident, $run:ident, $at:ident, $b:ident), $turn:expr,
        [$($base:ident $first:literal),+], [$($sum:ident $reg:tt),+], [$($used:tt),+] $(, $operand:ident = $value:expr)*) => {{
        let &mut [$($sum),+] = $acc else { unreachable!("a tile has as many sums") };
        $(let mut $sum = $sum;)+
        // SAFETY: reads `len` offsets of every row and `len` rows of `b`, all readable by the caller's promise, and
        // nothing else.
        unsafe {
            asm!(
                "sub {len}, 4",
                "jb 3f",
                "2:",
                $turn,
                $turn,
                $turn,
                $turn,
                "sub {len}, 4",
                "jae 2b",
                "3:",
                "add {len}, 4",
                "jz 5f",
                "4:",
                $turn,
                "dec {len}",
                "jnz 4b",
                "5:",
                b = inout(reg) $at => _,
                $($base = inout(reg) $from.wrapping_add($run.first + $first * $apart) => _,)+
                len = inout(reg) $run.len => _,
                apart = in(reg) 4 * $apart,
                step = in(reg) 4 * $run.step,
                row = in(reg) 4 * $b.row,
                $($operand = in(reg) $value,)*
                $(inout($reg) $sum,)+
                $(out($used) _,)+
                options(nostack, readonly),
            );
        }
        $acc.copy_from_slice(&[$($sum),+]);
        true
    }};
}

/// The loops of `Vector::evenly` for tiles of two vectors and 6 rows or 4, in 16 registers.
///
/// # Safety
/// That of `Vector::evenly`; there are `P·Q` sums.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn few_even_rows<const P: usize, const Q: usize>(
    acc: &mut [__m256],
    from: *const f32,
    apart: usize,
    run: Run,
    at: *const f32,
    b: Panels<'_, f32>,
) -> bool {
    macro_rules! two {
        ($x:expr, $sums:tt) => {
            add_two!(["ymm12", "ymm13", "ymm14"], $x, $sums)
        };
    }
    match (P, Q) {
        (6, 2) => sums!(
            acc, (from, apart, run, at, b),
            ["vmovups ymm12, [{b}]", "vmovups ymm13, [{b} + {vector}]"],
            [from_one!(two, "x0", ("ymm0", "ymm1"), ("ymm2", "ymm3"), ("ymm4", "ymm5")),
                from_one!(two, "x3", ("ymm6", "ymm7"), ("ymm8", "ymm9"), ("ymm10", "ymm11"))],
            [x0 0, x3 3],
            [a0 "ymm0", a1 "ymm1", a2 "ymm2", a3 "ymm3", a4 "ymm4", a5 "ymm5", a6 "ymm6", a7 "ymm7", a8 "ymm8", a9 "ymm9",
                a10 "ymm10", a11 "ymm11"],
            ["ymm12", "ymm13", "ymm14"],
            vector = 4 * b.vector
        ),
        (4, 2) => sums!(
            acc, (from, apart, run, at, b),
            ["vmovups ymm12, [{b}]", "vmovups ymm13, [{b} + {vector}]"],
            [from_one!(two, "x0", ("ymm0", "ymm1"), ("ymm2", "ymm3"), ("ymm4", "ymm5"), ("ymm6", "ymm7"))],
            [x0 0],
            [a0 "ymm0", a1 "ymm1", a2 "ymm2", a3 "ymm3", a4 "ymm4", a5 "ymm5", a6 "ymm6", a7 "ymm7"],
            ["ymm12", "ymm13", "ymm14"],
            thrice = 12 * apart,
            vector = 4 * b.vector
        ),
        _ => false,
    }
}

/// The loops of `Vector::evenly` for tiles of 16 rows or 8 of one vector, and 8 of two. What LLVM makes of them keeps an
/// offset for every row, more than there are registers: of 14 rows six are brought back in every turn, and all multiplied out
/// before every tile. Here rows are addressed from every fourth one.
///
/// # Safety
/// That of `Vector::evenly`; there are `P·Q` sums.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn even_rows<const P: usize, const Q: usize>(
    acc: &mut [__m512],
    from: *const f32,
    apart: usize,
    run: Run,
    at: *const f32,
    b: Panels<'_, f32>,
) -> bool {
    /// `sum += b·x` of one vector.
    macro_rules! one {
        ($x:expr, $sum:literal) => {
            concat!("vfmadd231ps ", $sum, ", zmm16, dword ptr [", $x, "]{{1to16}}\n")
        };
    }
    macro_rules! two {
        ($x:expr, $sums:tt) => {
            add_two!(["zmm16", "zmm17", "zmm18"], $x, $sums)
        };
    }
    match (P, Q) {
        (16, 1) => sums!(
            acc, (from, apart, run, at, b),
            ["vmovups zmm16, [{b}]"],
            [from_one!(one, "x0", "zmm0", "zmm1", "zmm2", "zmm3"), from_one!(one, "x4", "zmm4", "zmm5", "zmm6", "zmm7"),
                from_one!(one, "x8", "zmm8", "zmm9", "zmm10", "zmm11"), from_one!(one, "x12", "zmm12", "zmm13", "zmm14", "zmm15")],
            [x0 0, x4 4, x8 8, x12 12],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7", a8 "zmm8", a9 "zmm9",
                a10 "zmm10", a11 "zmm11", a12 "zmm12", a13 "zmm13", a14 "zmm14", a15 "zmm15"],
            ["zmm16"],
            thrice = 12 * apart
        ),
        (8, 1) => sums!(
            acc, (from, apart, run, at, b),
            ["vmovups zmm16, [{b}]"],
            [from_one!(one, "x0", "zmm0", "zmm1", "zmm2", "zmm3"), from_one!(one, "x4", "zmm4", "zmm5", "zmm6", "zmm7")],
            [x0 0, x4 4],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7"],
            ["zmm16"],
            thrice = 12 * apart
        ),
        (8, 2) => sums!(
            acc, (from, apart, run, at, b),
            ["vmovups zmm16, [{b}]", "vmovups zmm17, [{b} + {vector}]"],
            [from_one!(two, "x0", ("zmm0", "zmm1"), ("zmm2", "zmm3"), ("zmm4", "zmm5"), ("zmm6", "zmm7")),
                from_one!(two, "x4", ("zmm8", "zmm9"), ("zmm10", "zmm11"), ("zmm12", "zmm13"), ("zmm14", "zmm15"))],
            [x0 0, x4 4],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7", a8 "zmm8", a9 "zmm9",
                a10 "zmm10", a11 "zmm11", a12 "zmm12", a13 "zmm13", a14 "zmm14", a15 "zmm15"],
            ["zmm16", "zmm17", "zmm18"],
            thrice = 12 * apart,
            vector = 4 * b.vector
        ),
        _ => false,
    }
}
