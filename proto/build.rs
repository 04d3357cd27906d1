//! Compiles the contract without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "lockstep/v1/model.proto",
        "lockstep/v1/session.proto",
        "lockstep/v1/enroll.proto",
        "lockstep/v1/relay.proto",
        "lockstep/v1/control.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let written = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("contract.bin");
    std::fs::write(written, prost::Message::encode_to_vec(&descriptors))?;
    // Generated code answers to the generator, not to the lints of this workspace.
    tonic_prost_build::configure()
        .server_mod_attribute(".", "#[allow(unreachable_pub, reason = \"generated\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
