//! The README on a fresh Debian: its commands, as they stand there, from `apt install` to a served application.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::server::docker::Docker;
use lockstep_tests::fleet::{Fleet, Host, Kind, Packages, Passing, Version, tell};

/// From the first command to an answer of the application, Debian's packages and their download included.
const LIMIT: Duration = Duration::from_secs(120);

/// What the README deploys.
const IMAGE: &str = "notes:1.0.0";

/// The code blocks between a heading and the next one.
fn blocks(document: &str, heading: &str) -> Result<Vec<String>> {
    let section = document.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.with_context(|| format!("the README has no section {heading:?}"))?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let inside = section.split("```").skip(1).step_by(2);
    Ok(inside.filter_map(|block| Some(block.split_once('\n')?.1.to_owned())).collect())
}

/// An image that answers on port 8080: the program is of Debian's package `busybox-static`.
fn give_image(host: &Host, passing: &Passing) -> Result<()> {
    let docker = Docker::check()?;
    let folder = tempfile::tempdir()?;
    let tag = format!("{}-{IMAGE}", passing.0);
    let script =
        "cd \"$0\" && apt-get download --quiet busybox-static && dpkg-deb --extract busybox-static_*.deb root
        mkdir root/www && echo ok > root/www/health && echo 'Hello from notes' > root/www/index.html
        tar -C root -c . | docker import --change \"CMD $2\" - \"$1\"";
    let command = r#"["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]"#;
    run(Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .arg(folder.path())
        .args([&tag, command]))?;
    let given = host.load_images(std::slice::from_ref(&tag)).and_then(|()| {
        host.run(&format!("docker tag {tag} {IMAGE} && docker rmi {tag}"))?;
        Ok(())
    });
    docker.remove_image(&tag)?;
    given
}

fn answer(host: &Host) -> Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::new(host.address.into(), 80))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: notes.example\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn the_readme_serves_an_application_on_a_fresh_debian_in_two_minutes() -> Result<()> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("README.md");
    let readme = fs::read_to_string(readme)?;
    let install = blocks(&readme, "Install")?.concat();
    let deploy = blocks(&readme, "The first deployment")?;
    let [declaration, commands, ..] = deploy.as_slice() else {
        anyhow::bail!("the README does not show a declaration and the commands after it");
    };

    let passing = Passing::named("quick");
    let fleet = Fleet::start(&passing.0, &[("fresh", Kind::Fresh, 11)], &mut tell)?;
    let host = fleet.host("fresh")?;
    Packages::made(Version::First)?.bring(host)?;
    host.run("mkdir -p /root/notes")?;

    let installing = Instant::now();
    host.run(&format!("cd /root/packages && apt-get update --quiet --quiet && {install}"))?;
    let installed = installing.elapsed();
    give_image(host, &passing)?;
    let deploying = Instant::now();
    host.write("/root/notes/deployment.yml", declaration)?;
    tell(&host.run(&format!("cd /root/notes\n{commands}"))?);
    let answer = answer(host)?;
    let took = installed + deploying.elapsed();
    ensure!(answer.contains("Hello from notes"), "{answer}");
    let debian = host.run("cat /etc/debian_version")?;
    tell(&format!(
        "Debian {debian}: served after {:.1} s, of them {:.1} s until everything was installed",
        took.as_secs_f64(),
        installed.as_secs_f64()
    ));
    ensure!(took <= LIMIT, "it took {took:?}");
    Ok(())
}
