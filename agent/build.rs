//! How the program is linked: an agent is on every host, and most of what it has in memory is pages of its file.

fn main() {
    // The addresses that a program corrects when it starts are listed in pages that stay in memory: packed they are
    // a hundredth of that. A dynamic loader that cannot read them (glibc before 2.36) says so and does not start it.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo:rerun-if-changed=build.rs");
}
