//! nginx's site: what somebody changed in it by hand, and TLS that ends there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::files::write_private;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

fn site_file(scene: &Scene) -> PathBuf {
    scene.stage.nginx.sites_directory().join(format!("lockstep-{}.conf", scene.object_name()))
}

#[test]
fn what_was_changed_by_hand_is_shown_and_overwritten_only_when_asked() -> Result<()> {
    let mut scene = Scene::open("by-hand")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy(&first)?.expect_said(0, &[])?;
    let file = site_file(&scene);
    let text = fs::read_to_string(&file)?;
    let by_hand = text.replace("client_max_body_size 10m;", "client_max_body_size 20m;");
    fs::write(&file, &by_hand)?;

    let words = ["changed by hand (lines: 1 added, 1 removed)", "lockstep doctor"];
    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &words)?;
    let shown = ["-    client_max_body_size 10m;", "+    client_max_body_size 20m;", "--overwrite-site"];
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(1, &shown)?;

    // No other site is needed: it stays, and nothing is held up.
    scene.deploy(&second)?.expect_said(0, &["succeeded"])?;
    ensure!(fs::read_to_string(&file)? == by_hand, "it was overwritten");

    let _declared = scene.declare("deploy:", "traffic: { body_limit: 3m }\ndeploy:")?;
    scene.assert_refused("another site over changes by hand", |scene| {
        let words = ["changed by hand", "lines: 1 added, 1 removed", "lockstep doctor", "--overwrite-site"];
        scene.deploy(&first)?.expect_said(3, &words)?;
        Ok(())
    })?;
    ensure!(fs::read_to_string(&file)? == by_hand, "it was overwritten");

    let overwriting = [ENVIRONMENT, "--image", &first, "--overwrite-site"];
    scene
        .stage
        .lockstep(&[&["plan"], overwriting.as_slice()].concat())?
        .expect_said(0, &["overwrites the manual changes there"])?;
    scene.stage.lockstep(&[&["deploy"], overwriting.as_slice()].concat())?.expect_said(0, &["succeeded"])?;
    ensure!(fs::read_to_string(&file)?.contains("client_max_body_size 3m;"), "it was not overwritten");
    let reloads = scene.assert_verdict(Verdict::Succeeded)?.receipt.reloads;
    ensure!(reloads == 1, "the receipt has {reloads} reloads");
    scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(0, &["no problem found"])?;
    Ok(())
}

#[test]
fn tls_ends_at_nginx_and_a_deployment_that_brings_it_can_be_taken_back() -> Result<()> {
    let mut scene = Scene::open_with_bake("tls", "5s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    scene.deploy_without_bake(&first)?;
    let folder = scene.stage.directory.clone();
    let _url = scene.declare("url: http://", "url: https://")?;
    let traffic = format!(
        "traffic: {{ tls: existing, certificate: {0}/site.pem, key: {0}/site.key }}\ndeploy:",
        folder.display()
    );
    let _traffic = scene.declare("deploy:", &traffic)?;
    // Other programs see what the text shows, with the hash that accepts it.
    let planned = scene.stage.json(&["plan", ENVIRONMENT, "--image", &second])?;
    let widening = &planned["widening"];
    ensure!(widening["resources"].to_string().contains("site.pem"), "{widening}");
    let hash = widening["hash"].as_str().unwrap_or_default();
    let refused = scene.deploy(&second)?;
    refused.expect_said(3, &["needs more than it is granted", &format!("--grant {hash}")])?;
    for file in ["site.pem", "site.key"] {
        scene.stage.grant(&["--certificate-file", &folder.join(file).display().to_string()])?;
    }

    scene.assert_rolled_back("a certificate that is not there", |scene| {
        scene.deploy(&second)?.expect_said(1, &["preflight", "cannot read", "site.pem", "No such file"])?;
        Ok(())
    })?;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    write_private(&folder.join("site.pem"), &made.cert.pem())?;
    write_private(&folder.join("site.key"), &made.signing_key.serialize_pem())?;
    // Cancelled under the new site: the proof of the way back goes through what nginx serves then.
    scene.stage.lockstep(&["deploy", ENVIRONMENT, "--image", &second, "--detach"])?.expect_said(0, &[])?;
    scene.wait_for_step("bake")?;
    scene.stage.must(&["cancel", ENVIRONMENT])?;
    scene.wait_until_free()?;
    ensure!(scene.served_version()? == "1", "it is plain again");

    scene.deploy(&second)?.expect_said(0, &["succeeded"])?;
    let plain = scene.get("/")?;
    ensure!(plain.contains("The plain HTTP request was sent to HTTPS port"), "{plain}");
    let said = scene.stage.lockstep(&["doctor", ENVIRONMENT])?.expect_said(0, &["no problem found"])?;
    ensure!(!said.all().contains("BEGIN"), "{}", said.all());
    Ok(())
}
