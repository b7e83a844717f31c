//! The innermost loops of matrix products on x86-64, by hand: for tiles whose sums fill the registers LLVM finds none for what
//! else it would keep there.

use std::arch::{asm, x86_64::*};

use super::product::{Panels, Run};

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
    let x = from.wrapping_add(run.first);
    /// The rows that are addressed from one: it, and the next three.
    macro_rules! four {
        ($multiply:ident, $from:literal, $($sums:tt),+) => {
            four!(@ $multiply, [concat!("{", $from, "}"), concat!("{", $from, "} + {apart}"),
                concat!("{", $from, "} + 2*{apart}"), concat!("{", $from, "} + {thrice}")], [$($sums),+])
        };
        (@ $multiply:ident, [$a0:expr, $a1:expr, $a2:expr, $a3:expr], [$s0:tt, $s1:tt, $s2:tt, $s3:tt]) => {
            concat!($multiply!($a0, $s0), $multiply!($a1, $s1), $multiply!($a2, $s2), $multiply!($a3, $s3))
        };
    }
    /// `sum += b·x` of one vector.
    macro_rules! one {
        ($x:expr, $sum:literal) => {
            concat!("vfmadd231ps zmm", $sum, ", zmm16, dword ptr [", $x, "]{{1to16}}\n")
        };
    }
    /// The same of two.
    macro_rules! two {
        ($x:expr, ($first:literal, $second:literal)) => {
            concat!(
                "vbroadcastss zmm18, dword ptr [",
                $x,
                "]\n",
                "vfmadd231ps zmm",
                $first,
                ", zmm18, zmm16\n",
                "vfmadd231ps zmm",
                $second,
                ", zmm18, zmm17\n",
            )
        };
    }
    /// The loop, of a tile's sums by name.
    macro_rules! sums {
        ([$($load:literal),+], [$($body:expr),+], [$($base:ident $first:literal),+], [$($acc:ident $reg:tt),+] $(, $operand:ident = $value:expr)*) => {{
            let &mut [$($acc),+] = acc else { unreachable!("a tile has as many sums") };
            $(let mut $acc = $acc;)+
            // SAFETY: reads `len` offsets of every row and `len` rows of `b`, all readable by the caller's promise, and
            // nothing else; `len` is at least 1.
            unsafe {
                asm!(
                    "2:",
                    $($load,)+
                    $($body,)+
                    $(concat!("add {", stringify!($base), "}, {step}"),)+
                    "add {b}, {row}",
                    "dec {len}",
                    "jnz 2b",
                    b = inout(reg) at => _,
                    $($base = inout(reg) x.wrapping_add($first * apart) => _,)+
                    len = inout(reg) run.len => _,
                    apart = in(reg) 4 * apart,
                    thrice = in(reg) 12 * apart,
                    step = in(reg) 4 * run.step,
                    row = in(reg) 4 * b.row,
                    $($operand = in(reg) $value,)*
                    $(inout($reg) $acc,)+
                    out("zmm16") _,
                    out("zmm17") _,
                    out("zmm18") _,
                    options(nostack, readonly),
                );
            }
            acc.copy_from_slice(&[$($acc),+]);
            true
        }};
    }
    match (P, Q) {
        (16, 1) => sums!(
            ["vmovups zmm16, [{b}]"],
            [four!(one, "x0", 0, 1, 2, 3), four!(one, "x4", 4, 5, 6, 7), four!(one, "x8", 8, 9, 10, 11), four!(one, "x12", 12, 13, 14, 15)],
            [x0 0, x4 4, x8 8, x12 12],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7", a8 "zmm8", a9 "zmm9",
                a10 "zmm10", a11 "zmm11", a12 "zmm12", a13 "zmm13", a14 "zmm14", a15 "zmm15"]
        ),
        (8, 1) => sums!(
            ["vmovups zmm16, [{b}]"],
            [four!(one, "x0", 0, 1, 2, 3), four!(one, "x4", 4, 5, 6, 7)],
            [x0 0, x4 4],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7"]
        ),
        (8, 2) => sums!(
            ["vmovups zmm16, [{b}]", "vmovups zmm17, [{b} + {vector}]"],
            [four!(two, "x0", (0, 1), (2, 3), (4, 5), (6, 7)), four!(two, "x4", (8, 9), (10, 11), (12, 13), (14, 15))],
            [x0 0, x4 4],
            [a0 "zmm0", a1 "zmm1", a2 "zmm2", a3 "zmm3", a4 "zmm4", a5 "zmm5", a6 "zmm6", a7 "zmm7", a8 "zmm8", a9 "zmm9",
                a10 "zmm10", a11 "zmm11", a12 "zmm12", a13 "zmm13", a14 "zmm14", a15 "zmm15"],
            vector = 4 * b.vector
        ),
        _ => false,
    }
}
