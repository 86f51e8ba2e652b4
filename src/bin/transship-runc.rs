//! The interposer: what dockerd and containerd find as `runc`.

fn main() -> std::process::ExitCode {
    transship::interposer::main()
}
