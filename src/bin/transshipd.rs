//! The helper.

fn main() -> std::process::ExitCode {
    transship::helper::main()
}
