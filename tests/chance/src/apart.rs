//! Copies of this process: what is done in one starts from the same state each time, and leaves nothing behind.

use std::ffi::c_int;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// A copy of this process that does one thing.
pub struct Apart {
    process: c_int,
    /// What it writes.
    pub told: PipeReader,
}

/// Has a copy of this process do something, and end. What is written there must fit into a pipe. To be called only where
/// no other thread runs: what another one holds is held in the copy for ever.
///
/// # Errors
/// The system makes no copy.
pub fn apart(does: impl FnOnce(PipeWriter) -> bool) -> io::Result<Apart> {
    let (told, tell) = io::pipe()?;
    // SAFETY: no other thread runs, as the caller sees to, so that the copy is whole.
    let process = unsafe { fork() };
    match process {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            drop(told);
            let good = catch_unwind(AssertUnwindSafe(|| does(tell))).unwrap_or(false);
            let _ = io::stdout().flush();
            // SAFETY: it ends the copy; what it holds is the system's to free.
            unsafe { _exit(c_int::from(!good)) }
        }
        1.. => Ok(Apart { process, told }),
    }
}

/// Waits until one of some copies has ended. Gives its place among them, and whether what it did was good.
///
/// # Errors
/// None of them is there.
pub fn ended(copies: &[Apart]) -> io::Result<(usize, bool)> {
    loop {
        let mut status = 0;
        // SAFETY: the status is a place for an integer.
        let process = unsafe { waitpid(-1, &raw mut status, 0) };
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        if let Some(place) = copies.iter().position(|copy| copy.process == process) {
            return Ok((place, status == 0));
        }
    }
}
