//! Builds the components that this crate embeds, so that one `cargo build` does everything.
//!
//! The guests are built by a second cargo in a folder of its own, since the running one holds the
//! lock on the usual target folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip2";

fn main() {
    if !target_is_installed() {
        fail(&format!("the component needs the {TARGET} target: run `rustup target add {TARGET}`"));
    }

    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = manifest_dir.join("..");
    for source in [".cargo/config.toml", "Cargo.toml", "Cargo.lock", "guest", "wit"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }

    let target_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("guest");
    let mut guests = vec![("thread-budget", "THREAD_BUDGET_COMPONENT", "thread_budget.wasm")];
    if env::var_os("CARGO_FEATURE_ROUTER").is_some() {
        guests.push((
            "thread-budget-router-http",
            "THREAD_BUDGET_ROUTER_COMPONENT",
            "thread_budget_router_http.wasm",
        ));
    }
    for (package, variable, file) in guests {
        build_guest(package, &workspace, &target_dir);
        println!(
            "cargo::rustc-env={variable}={}",
            target_dir.join(TARGET).join("release").join(file).display()
        );
    }
}

fn target_is_installed() -> bool {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// One at a time, so that neither gets the features of what the other is made of.
fn build_guest(package: &str, workspace: &Path, target_dir: &Path) {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", package, "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        // In the workspace, so that its .cargo/config.toml applies; without what the outer cargo set
        // for the host, a compiler wrapper such as clippy's among it.
        .current_dir(workspace)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => fail("the component did not build; cargo's messages above say why"),
        Err(error) => fail(&format!("cargo could not be started to build the component: {error}")),
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
