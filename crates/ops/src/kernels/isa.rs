//! Which instructions a processor has.

use std::sync::OnceLock;

/// An instruction set. Results are the same bytes for the same set, and agree to rounding between sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the build's target has; the specification of the others.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ.
    Avx512,
    /// The same with AMX: matrix units for tiles of `bf16`. Differs where maps are stored as that.
    Amx,
}

impl Isa {
    /// The widest set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().into_iter().rev().find(|isa| isa.available()).unwrap_or(Self::Portable)
    }

    /// All sets, narrow to wide.
    #[must_use]
    pub fn all() -> [Self; 4] {
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx]
    }

    /// Whether this processor has the set. Every call of a kernel asks, so it is looked up once.
    #[must_use]
    pub fn available(self) -> bool {
        static AVAILABLE: OnceLock<[bool; 4]> = OnceLock::new();
        AVAILABLE.get_or_init(|| Self::all().map(Self::look_up))[self as usize]
    }

    fn look_up(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.look_up()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            Self::Amx => Self::Avx512.look_up() && has_tiles(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Asks the processor for AMX's tiles of `bf16`, and Linux for leave: it keeps larger states for processes that say so.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const TILES_AND_BF16: u32 = 1 << 24 | 1 << 22; // of leaf 7, EDX
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_AND_BF16 == TILES_AND_BF16;
    // SAFETY: asks for leave, and changes nothing where there is none.
    has && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn has_tiles() -> bool {
    false
}
