//! What the `main` of every service does around its library: settings, logs, runtime, exit code.

use std::future::Future;
use std::process::ExitCode;

use crate::serve::BoxError;
use crate::settings::SettingsError;

/// The exit code for settings that cannot be used.
pub const EXIT_SETTINGS: u8 = 2;

/// Runs a service's future on a new runtime with as many workers as the machine has cores, and turns its end into an
/// exit code: 0 when it ended well, 2 for settings (clap's own texts go where clap sends them), 1 otherwise.
#[must_use]
pub fn run(program: &str, future: impl Future<Output = Result<(), BoxError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(program, &error, 1),
    };
    let ended = runtime.block_on(future);
    // Nothing that lasts is left to do by now; a blocking thread must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<SettingsError>() {
            Some(SettingsError::Flags(flags)) => {
                let _ = flags.print();
                ExitCode::from(if flags.use_stderr() { EXIT_SETTINGS } else { 0 })
            }
            Some(settings) => fail(program, settings, EXIT_SETTINGS),
            None => fail(program, error.as_ref(), 1),
        },
    }
}

/// Says why a program ends, with the chain of sources, where a person looks: standard error.
#[allow(clippy::print_stderr, reason = "the last words of a program, logging may not have started")]
fn fail(program: &str, error: &dyn std::error::Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    eprintln!("{program}: {text}");
    ExitCode::from(code)
}
