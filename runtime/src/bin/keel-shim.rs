//! keel-shim: starts one instance and stays as its parent. Run by keel only.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(u8::try_from(runtime::shim::main()).unwrap_or(1))
}
