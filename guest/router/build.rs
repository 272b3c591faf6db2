//! The linker's options for the component.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The registry next door gets by with 64 KiB. Here JSON is read, up to 128 levels deep.
    if std::env::var_os("CARGO_CFG_TARGET_FAMILY").is_some_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=262144");
    }
}
