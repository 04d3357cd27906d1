//! What is generated from the help texts: completion scripts, manual pages, the schema and the reference of
//! deployment.yml.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::deployment_yml::{self, reference};
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;

/// The shells for which a package contains scripts.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// # Errors
/// When nobody reads it.
pub fn schema(output: Output) -> Result<()> {
    let schema = deployment_yml::schema();
    output.json(&schema)?;
    output.pretty_json(&schema)
}

/// # Errors
/// When nobody reads it.
pub fn completions(shell: Shell, output: Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lockstep", &mut script);
    output.document(String::from_utf8_lossy(&script).trim_end())
}

/// Writes `man/`, `completions/` and `deployment.yml.md` into `directory`.
///
/// # Errors
/// When they cannot be written.
pub fn package_files(directory: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        let (man, completions) = (directory.join("man"), directory.join("completions"));
        std::fs::create_dir_all(&man)?;
        std::fs::create_dir_all(&completions)?;
        clap_mangen::generate_to(Arguments::command(), &man)?;
        std::fs::write(man.join("deployment.yml.5"), reference::manual())?;
        std::fs::write(directory.join("deployment.yml.md"), reference::markdown())?;
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut Arguments::command(), "lockstep", &completions)?;
        }
        Ok(())
    };
    write().map_err(|error| {
        Failure::new(Kind::Refused, format!("{} cannot be written", directory.display()))
            .why(error.to_string())
    })
}
