//! The operator's command.

fn main() -> std::process::ExitCode {
    transship::cli::main()
}
