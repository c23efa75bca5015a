//! The command `keel`: reads the command line, runs it, returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    reconciler::cli::main()
}
