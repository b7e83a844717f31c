//! In place of matrix units that are not there.

pub(super) fn with<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// # Safety
/// Never to be called: the units are not there.
pub(super) unsafe fn multiply(_: usize, _: *const u8, _: usize, _: &[usize], _: *const u8, _: *mut u8) {
    unreachable!("no convolution fits units that are not there")
}

/// # Safety
/// As of [`multiply`].
pub(super) unsafe fn correlate(
    _: [*const u8; 3],
    _: usize,
    _: *const u8,
    _: usize,
    _: [*mut u8; 3],
    _: usize,
) {
    unreachable!("no weights' gradient fits units that are not there")
}

/// # Safety
/// As of [`multiply`].
pub(super) unsafe fn pair_up(_: *const u16, _: usize, _: *mut u16) {
    unreachable!("nothing is paired for units that are not there")
}

/// # Safety
/// As of [`multiply`].
pub(super) unsafe fn turn(_: *const u16, _: usize, _: *mut u16, _: usize) {
    unreachable!("nothing is turned for units that are not there")
}
